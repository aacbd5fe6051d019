//! The URL of an index or mirror, without anything secret in it. Pure.

use crate::config::authority::Port;
use crate::config::target::Target;
use hyper::Uri;
use hyper::http::uri;
use std::fmt;

/// The longest URL that is taken from a client's configuration.
const MAX_URL: usize = 2048;

/// Reads `host[:port]`. User and password before an `@` are no part of it.
pub fn target(authority: &str, usual: Port) -> Option<Target> {
    let (_secret, authority) = authority.rsplit_once('@').unwrap_or(("", authority));
    Target::from_authority(authority, Some(usual)).ok()
}

/// An `http` or `https` URL of a client's configuration, its user, password, query and fragment left out: those are where
/// tokens stand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MirrorUrl {
    /// `sparse+` is cargo's way to say how an index is read.
    sparse: bool,
    scheme: &'static str,
    usual: Port,
    pub target: Target,
    path: String,
}

/// Something like `https://…` that is no URL of a host. Never repeats it: there may be a password in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a URL there can't be understood")]
pub struct NotAMirror;

impl MirrorUrl {
    /// `None` where it is not reached by HTTP: a local directory, `git@…`, `ssh://…`.
    pub fn parse(text: &str) -> Result<Option<Self>, NotAMirror> {
        let (sparse, url) = match text.strip_prefix("sparse+") {
            Some(url) => (true, url),
            None => (false, text),
        };
        let scheme_end = url.find("://").unwrap_or(0);
        let scheme = url.get(..scheme_end).unwrap_or_default().to_ascii_lowercase();
        let (scheme, usual) = match scheme.as_str() {
            "https" => ("https", Port::HTTPS),
            "http" => ("http", Port::HTTP),
            _ => return Ok(None),
        };
        if url.len() > MAX_URL || !url.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(NotAMirror);
        }
        let uri: Uri = url.parse().map_err(|_| NotAMirror)?;
        let target = uri
            .authority()
            .map(uri::Authority::as_str)
            .and_then(|authority| self::target(authority, usual))
            .ok_or(NotAMirror)?;
        Ok(Some(Self {
            sparse,
            scheme,
            usual,
            target,
            path: uri.path().to_owned(),
        }))
    }
}

impl fmt::Display for MirrorUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sparse = if self.sparse { "sparse+" } else { "" };
        write!(f, "{sparse}{}://{}", self.scheme, self.target.host.in_authority())?;
        if self.target.port != self.usual {
            write!(f, ":{}", self.target.port)?;
        }
        f.write_str(&self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::rule::Rule;
    use proptest::prelude::*;

    fn shown(text: &str) -> String {
        MirrorUrl::parse(text).unwrap().unwrap().to_string()
    }

    #[test]
    fn only_what_is_no_secret_is_kept() {
        for (text, kept) in [
            ("https://mirror.example/simple/", "https://mirror.example/simple/"),
            (
                "HTTPS://u:p@Mirror.Example:8443/a?token=x",
                "https://mirror.example:8443/a",
            ),
            ("http://u@[2001:db8::1]:80/x#y", "http://[2001:db8::1]/x"),
            (
                "sparse+https://t@crates.mirror.example/index/",
                "sparse+https://crates.mirror.example/index/",
            ),
        ] {
            assert_eq!(shown(text), kept);
        }
    }

    #[test]
    fn what_needs_no_http_is_none_and_what_is_broken_an_error() {
        for text in [
            "/opt/wheels",
            "file:///srv",
            "git@host.example:a",
            "ssh://host.example/x",
            "direct",
            "",
        ] {
            assert_eq!(MirrorUrl::parse(text), Ok(None), "{text}");
        }
        for text in [
            "https://",
            "https://a b/",
            "https://mirror..example/",
            "http://127.1/",
            "https://h.example:0/",
        ] {
            assert_eq!(MirrorUrl::parse(text), Err(NotAMirror), "{text}");
        }
    }

    #[test]
    fn a_target_is_one_rule() {
        for (authority, rule) in [
            ("mirror.example", "mirror.example:443"),
            ("u:p@MIRROR.example:8443", "mirror.example:8443"),
            ("192.0.2.7:80", "192.0.2.7:80"),
            ("[2001:db8::1]", "[2001:db8::1]:443"),
        ] {
            assert_eq!(Rule::from(&target(authority, Port::HTTPS).unwrap()).to_string(), rule);
        }
        for authority in ["", "a:b", "[::1]x", "2001:db8::1", "a:443:1", "*.example:1"] {
            assert_eq!(target(authority, Port::HTTPS), None, "{authority}");
        }
    }

    proptest! {
        #[test]
        fn no_user_or_password_passes(url in "https?://[a-z:@]{0,12}@[a-z]{1,8}\\.example(:[0-9]{1,5})?/[a-z/]{0,8}(\\?[a-z@]{0,4})?") {
            if let Ok(Some(mirror)) = MirrorUrl::parse(&url) {
                let shown = mirror.to_string();
                prop_assert!(!shown.contains(['@', '?']), "{shown}");
                prop_assert_eq!(MirrorUrl::parse(&shown), Ok(Some(mirror)));
            }
        }
    }
}
