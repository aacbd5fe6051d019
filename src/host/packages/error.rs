//! Why a package client's hosts are not known, and what mends it.

use crate::config::network::PackageClient;
use crate::config::target::Target;
use crate::supervise::lines::plain;
use crate::supervise::tool::ToolError;
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

#[derive(Debug, thiserror::Error)]
pub enum PackagesError {
    #[error("network.from names {name}, and there is no {name} on PATH. {remedy}", name = .client.as_str(), remedy = Remedy(*.client))]
    Missing { client: PackageClient },
    #[error("network.from: `{name} {task}` failed{unreached}{said}\n{remedy}", name = .client.as_str(), remedy = Remedy(*.client))]
    Failed {
        client: PackageClient,
        /// What it was told to do, without its arguments.
        task: &'static str,
        unreached: Unreached,
        said: LastWords,
    },
    #[error("network.from: `{name} {task}` took longer than {} s{unreached}{said}\n{remedy}", .limit.as_secs(), name = .client.as_str(), remedy = Remedy(*.client))]
    TimedOut {
        client: PackageClient,
        task: &'static str,
        limit: Duration,
        unreached: Unreached,
        said: LastWords,
    },
    #[error("network.from: {name} asked for more than {limit} hosts for one small package: that is no list to allow. {remedy}", name = .client.as_str(), remedy = Remedy(*.client))]
    TooManyHosts { client: PackageClient, limit: usize },
    #[error(
        "network.from: {name} has no host that packages come from: it is configured for local places only, or goes around \
         the proxy that it was watched with. {remedy}", name = .client.as_str(), remedy = Remedy(*.client)
    )]
    NoHosts { client: PackageClient },
    #[error("network.from: what {name} says of its configuration can't be used: {setting}: {reason}. {remedy}", name = .client.as_str(), remedy = Remedy(*.client))]
    Unreadable {
        client: PackageClient,
        setting: String,
        reason: String,
    },
    #[error("network.from: {name} can't be asked: {source}. {remedy}", name = .client.as_str(), remedy = Remedy(*.client))]
    NotAsked {
        client: PackageClient,
        #[source]
        source: ToolError,
    },
    #[error("network.from: {what} {}: {source}", path.display())]
    Files {
        what: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("network.from: can't listen on this host's loopback to see what a package client asks for: {0}")]
    Recorder(#[source] io::Error),
}

impl PackagesError {
    pub(super) fn file(what: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Files { what, path, source }
    }
}

struct Remedy(PackageClient);

impl fmt::Display for Remedy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.0.as_str();
        write!(
            f,
            "Take \"{name}\" out of network.from, or write the hosts that it needs into network.allow instead"
        )
    }
}

/// What the recorder could not connect to. The client's own words about it are seldom clear.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Unreached(pub(super) Vec<(Target, String)>);

impl fmt::Display for Unreached {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut begin = ": this host has no connection to ";
        for (place, reason) in &self.0 {
            write!(f, "{begin}{place} ({reason})")?;
            begin = ", ";
        }
        Ok(())
    }
}

/// What a client said at its end: a few lines, made plain, without what stands before an `@` in a URL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LastWords(Vec<String>);

impl LastWords {
    const LINES: usize = 12;
    /// Characters of one line.
    const WIDTH: usize = 300;

    pub(super) fn new(tail: &[String]) -> Self {
        let first = tail.len().saturating_sub(Self::LINES);
        let lines = tail.iter().skip(first).map(|line| {
            let line = without_credentials(&plain(line));
            line.chars().take(Self::WIDTH).collect()
        });
        Self(lines.collect())
    }
}

impl fmt::Display for LastWords {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("; it did not say why");
        }
        f.write_str("; it last said:")?;
        self.0.iter().try_for_each(|line| write!(f, "\n  {line}"))
    }
}

/// Leaves out what stands between `://` and the last `@` of an authority.
fn without_credentials(line: &str) -> String {
    let mut pieces = line.split("://");
    let mut kept = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        kept.push_str("://");
        let end = piece
            .find(|c: char| c.is_whitespace() || "/?#\"'<>`".contains(c))
            .unwrap_or(piece.len());
        let (authority, rest) = piece.split_at(end);
        kept.push_str(authority.rsplit('@').next().unwrap_or_default());
        kept.push_str(rest);
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::super::mirror;
    use super::*;
    use crate::config::authority::Port;
    use crate::dial::LookupError;

    #[test]
    fn last_words_have_no_password_and_no_colour() {
        let said = LastWords::new(&[
            "\u{1b}[31merror\u{1b}[0m: https://u:p@mirror.example/simple and 'http://t@h.example:80'".to_owned(),
            "mail me@mirror.example".to_owned(),
        ]);
        insta::assert_snapshot!(said, @r"
        ; it last said:
          error: https://mirror.example/simple and 'http://h.example:80'
          mail me@mirror.example
        ");
    }

    #[test]
    fn last_words_are_few() {
        let said = LastWords::new(&vec!["x".repeat(1000); 40]);
        assert_eq!(said.0.len(), LastWords::LINES);
        assert!(said.0.iter().all(|line| line.len() == LastWords::WIDTH));
    }

    #[test]
    fn an_error_names_client_host_and_remedy() {
        let error = PackagesError::Failed {
            client: PackageClient::Pip,
            task: "download",
            unreached: Unreached(vec![(
                mirror::target("mirror.example", Port::HTTPS).unwrap(),
                LookupError::NoAddress.to_string(),
            )]),
            said: LastWords::new(&["ERROR: no".to_owned()]),
        };
        insta::assert_snapshot!(error, @r#"
        network.from: `pip download` failed: this host has no connection to mirror.example:443 (the name servers know no address for it); it last said:
          ERROR: no
        Take "pip" out of network.from, or write the hosts that it needs into network.allow instead
        "#);
        let missing = PackagesError::Missing {
            client: PackageClient::Go,
        };
        insta::assert_snapshot!(missing, @r#"network.from names go, and there is no go on PATH. Take "go" out of network.from, or write the hosts that it needs into network.allow instead"#);
    }
}
