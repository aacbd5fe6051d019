//! What is wrong with a configuration, and how to mend it. All of it ends the program with one exit code.

use crate::config::breadth::TooBroad;
use crate::config::name::NameError;
use crate::config::origin::{Origin, Sourced};
use crate::config::provider::HeaderError;
use crate::config::proxy::ProxyError;
use crate::config::quantity::{ProviderName, QuantityError};
use crate::config::rule::{Rule, RuleError};
use crate::config::secret::{SecretName, SecretSettingError};
use crate::config::url::UrlError;
use std::fmt;
use std::path::PathBuf;

/// `at` is a file and line, a variable or a flag.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("{at}: not TOML: {message}")]
    Syntax { at: Origin, message: String },
    #[error("{at}: {message}")]
    WrongType { at: Origin, message: String },
    #[error("{at}: there is no key `{key}`{nearest}")]
    UnknownKey { at: Origin, key: String, nearest: Nearest },
    #[error("{at}: `{key}`{}: {reason}", Written(.written.as_deref()))]
    BadValue {
        at: Origin,
        key: String,
        /// As it stands in the file, before `${NAME}` was replaced; `None` where it may hold a secret.
        written: Option<String>,
        reason: BadValue,
    },
    #[error("{at}: `{key}`: {reason}")]
    Placeholder { at: Origin, key: String, reason: String },
    #[error("{at}: there is no provider `{provider}`; add a [providers.{provider}] table, or name one of: {}", Names(.known))]
    UnknownProvider {
        at: Origin,
        provider: ProviderName,
        known: Vec<ProviderName>,
    },
    #[error(
        "{at}: `auth.mode` = \"chatgpt\" is for the provider `openai`, but codex.provider is `{}` (from {}); use `auth.mode = \
         \"key\"` with that provider, or `codex.provider = \"openai\"` with the login",
        provider.value, provider.origin
    )]
    LoginForOther {
        at: Origin,
        provider: Sourced<ProviderName>,
    },
    #[error(
        "{at}: `network.allow`: `{rule}` is too broad: {reason}; name the hosts that are needed, or mean it with \
         `network.unrestricted = true` in a configuration file"
    )]
    TooBroad { at: Origin, rule: Rule, reason: TooBroad },
    #[error(
        "the environment variable {variable} names the proxy, as no layer sets `network.proxy`: {reason}; set \
         `network.proxy` to the one to use, or `network.proxy = \"none\"` to use none"
    )]
    ProxyVariable { variable: &'static str, reason: ProxyError },
    #[error(
        "{at}: `secrets.{name}` has no source; add `from = {{ env = \"NAME\" }}`, `{{ file = \"/path\" }}` or `{{ command = [\"program\", …] }}`"
    )]
    SecretWithoutSource { at: Origin, name: SecretName },
    #[error("no layer sets `{key}`; add it to your configuration file")]
    Missing { key: String },
    #[error("`{key}` has no default because HOME is not set; set HOME, {variable}, or `{key}` in a configuration file")]
    NoHome { key: &'static str, variable: &'static str },
    #[error("the environment variable {name} is not one of codex-mcp's{nearest}")]
    UnknownEnvironment { name: String, nearest: Nearest },
    #[error("the environment variable {name} is not UTF-8")]
    NotUnicode { name: String },
    #[error("{named_by} names the configuration file {}, which does not exist", .path.display())]
    MissingFile { path: PathBuf, named_by: Origin },
    #[error("can't read the configuration file {}: {error}", .path.display())]
    Unreadable { path: PathBuf, error: std::io::Error },
    #[error("the configuration file {} is not UTF-8", .path.display())]
    NotUtf8 { path: PathBuf },
    #[error("the configuration file {} is larger than {limit} bytes", .path.display())]
    TooLarge { path: PathBuf, limit: u64 },
}

/// Why a value is none that its key takes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadValue {
    #[error(transparent)]
    Quantity(#[from] QuantityError),
    #[error(transparent)]
    Name(#[from] NameError),
    #[error(transparent)]
    Url(#[from] UrlError),
    #[error(transparent)]
    Header(#[from] HeaderError),
    #[error(transparent)]
    Rule(#[from] RuleError),
    #[error(transparent)]
    Proxy(#[from] ProxyError),
    #[error(transparent)]
    Secret(#[from] SecretSettingError),
    #[error("`secrets.{0}` has that path, or one above or below it: give one of the two another `path`")]
    SecretPathTaken(SecretName),
    #[error("a name server is an address, perhaps with a port: `192.0.2.53`, `192.0.2.53:5353`, `[2001:db8::53]:53`")]
    NameServer,
    #[error("tokens of a login are sent there: `https://`, or `http://` with a loopback address")]
    PlainCredential,
    #[error("belongs to a proxy: set `network.proxy` to its address in the same file")]
    CredentialsWithoutProxy,
    #[error("expected `true` or `false`")]
    Switch(#[from] std::str::ParseBoolError),
    #[error("expected a whole number from {least} to {most}")]
    OutOfRange { least: u32, most: u32 },
    #[error("expected a whole number, at least 1")]
    Count(#[from] std::num::ParseIntError),
    #[error("expected `head` (all that HEAD reaches), `none`, or a number of commits, at least 1")]
    History,
    #[error("is less than {least}, which is too little for Codex to run at all")]
    TooSmall { least: &'static str },
    #[error(
        "a path is absolute or begins with `~/`: what a relative one is relative to would depend on where codex-mcp is started"
    )]
    RelativePath,
    #[error("is less than 64KiB: an ordinary call would not fit")]
    BodyTooSmall,
    #[error("expected an address of this host and a port, such as `127.0.0.1:8931` or `[::1]:8931`")]
    ListenAddress,
    #[error(
        "expected a host as clients name it, perhaps with a port: `mcp.example.com`, `mcp.example.com:8443`, `[::1]`"
    )]
    AllowedHost,
    #[error(
        "expected scheme, host and perhaps a port (`*`: any), such as `https://app.example.com` or `http://localhost:*`"
    )]
    AllowedOrigin,
    #[error("`~/` needs HOME, which is not set")]
    NoHome,
    #[error("expected exactly one of `env = \"NAME\"`, `file = \"/path\"` or `command = [\"program\", \"argument\"]`")]
    KeySource,
    #[error("names no environment variable: `A-Z a-z 0-9 _`, first no digit. The credential itself never belongs here")]
    NotAVariable,
    #[error("a command is a program and its arguments, none of them with a NUL in it; no shell is involved")]
    NotACommand,
}

impl From<std::convert::Infallible> for BadValue {
    fn from(never: std::convert::Infallible) -> Self {
        match never {}
    }
}

/// The known name that a misspelt one is most like, if any is like it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Nearest(Option<String>);

impl Nearest {
    /// Compares dotted names as a whole and by their last part: `memory` at the top of a file means `limits.memory`.
    pub fn among<'n>(name: &str, known: impl IntoIterator<Item = &'n str>) -> Self {
        let last = |name: &str| name.rsplit('.').next().unwrap_or_default().to_owned();
        let distance = |known: &str| {
            let whole = strsim::damerau_levenshtein(name, known);
            let part = strsim::damerau_levenshtein(&last(name), &last(known));
            // Between equally good ones the one in the same table wins.
            (whole.min(part), whole)
        };
        let nearest = known.into_iter().map(|known| (distance(known), known)).min();
        let close_enough = |(distance, _): &(usize, usize)| *distance <= (last(name).chars().count() / 3).max(1);
        Self(
            nearest
                .filter(|(distance, _)| close_enough(distance))
                .map(|(_, known)| known.to_owned()),
        )
    }
}

impl fmt::Display for Nearest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Some(name) => write!(f, "; did you mean `{name}`?"),
            None => f.write_str("; docs/configuration.md lists what there is"),
        }
    }
}

struct Written<'a>(Option<&'a str>);

impl fmt::Display for Written<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(text) => write!(f, " = {text}"),
            None => Ok(()),
        }
    }
}

struct Names<'a>(&'a [ProviderName]);

impl fmt::Display for Names<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.0.iter().map(ProviderName::as_str).collect();
        f.write_str(&names.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::key;

    #[test]
    fn a_key_in_the_wrong_table_is_found() {
        let nearest = |name: &str| Nearest::among(name, key::REGISTRY.iter().map(|key| key.name)).to_string();
        assert_eq!(nearest("memory"), "; did you mean `limits.memory`?");
        assert_eq!(nearest("limits.memroy"), "; did you mean `limits.memory`?");
        assert_eq!(nearest("limits.image"), "; did you mean `image`?");
        assert_eq!(nearest("codex.modle"), "; did you mean `codex.model`?");
        assert_eq!(nearest("telemetry"), "; docs/configuration.md lists what there is");
    }
}
