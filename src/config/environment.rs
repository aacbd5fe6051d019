//! The process environment as data, and the one registry of `CODEX_MCP_*` variables.
//!
//! An unknown `CODEX_MCP_*` variable is an error: a misspelt limit must not be silently no limit. A variable that is
//! set to nothing counts as unset, because that is how shells and compose files unset one.

use crate::config::error::{ConfigError, Nearest};
use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::path::{Path, PathBuf};

/// Every variable of ours begins with this.
pub const PREFIX: &str = "CODEX_MCP_";

/// The user's configuration file, in place of `~/.config/codex-mcp/config.toml`; it must exist.
pub const CONFIG: &str = "CODEX_MCP_CONFIG";
/// `runtime`.
pub const RUNTIME: &str = "CODEX_MCP_RUNTIME";
/// `image`.
pub const IMAGE: &str = "CODEX_MCP_IMAGE";
/// `state_dir`.
pub const STATE_DIR: &str = "CODEX_MCP_STATE_DIR";
/// `cache_dir`.
pub const CACHE_DIR: &str = "CODEX_MCP_CACHE_DIR";
/// `secrets_dir`.
pub const SECRETS_DIR: &str = "CODEX_MCP_SECRETS_DIR";
/// `limits.memory`.
pub const MEMORY: &str = "CODEX_MCP_MEMORY";
/// `limits.cpus`.
pub const CPUS: &str = "CODEX_MCP_CPUS";
/// `limits.pids`.
pub const PIDS: &str = "CODEX_MCP_PIDS";
/// `limits.tmp`.
pub const TMP: &str = "CODEX_MCP_TMP";
/// `limits.turn`.
pub const TURN: &str = "CODEX_MCP_TURN";
/// `limits.idle`.
pub const IDLE: &str = "CODEX_MCP_IDLE";
pub const MCP_BLOCK: &str = "CODEX_MCP_BLOCK";
/// `limits.wall`.
pub const WALL: &str = "CODEX_MCP_WALL";
/// `limits.enforcement`.
pub const ENFORCEMENT: &str = "CODEX_MCP_ENFORCEMENT";
/// `codex.provider`.
pub const PROVIDER: &str = "CODEX_MCP_PROVIDER";
/// `codex.model`.
pub const MODEL: &str = "CODEX_MCP_MODEL";
/// `codex.effort`.
pub const EFFORT: &str = "CODEX_MCP_EFFORT";
/// `workspace.mode`.
pub const WORKSPACE_MODE: &str = "CODEX_MCP_WORKSPACE_MODE";
/// `network.allow`, comma-separated.
pub const NETWORK: &str = "CODEX_MCP_NETWORK";
/// `http.listen`.
pub const HTTP_LISTEN: &str = "CODEX_MCP_HTTP_LISTEN";
/// `log.filter`.
pub const LOG: &str = "CODEX_MCP_LOG";
/// `log.format`.
pub const LOG_FORMAT: &str = "CODEX_MCP_LOG_FORMAT";

/// All of them, in the order of the documentation.
pub const REGISTRY: [&str; 23] = [
    CONFIG,
    RUNTIME,
    IMAGE,
    STATE_DIR,
    CACHE_DIR,
    SECRETS_DIR,
    MEMORY,
    CPUS,
    PIDS,
    TMP,
    TURN,
    IDLE,
    MCP_BLOCK,
    WALL,
    ENFORCEMENT,
    PROVIDER,
    MODEL,
    EFFORT,
    WORKSPACE_MODE,
    NETWORK,
    HTTP_LISTEN,
    LOG,
    LOG_FORMAT,
];

/// A snapshot of the environment. It holds whatever secrets the environment holds, so it never prints a value.
#[derive(Clone, Default)]
pub struct Environment {
    variables: BTreeMap<OsString, OsString>,
}

impl Environment {
    pub fn from_pairs<K: Into<OsString>, V: Into<OsString>>(pairs: impl IntoIterator<Item = (K, V)>) -> Self {
        let variables = pairs.into_iter().map(|(name, value)| (name.into(), value.into()));
        Self {
            variables: variables.filter(|(_, value)| !value.is_empty()).collect(),
        }
    }

    /// The value of a variable; `None` where it is unset or empty.
    ///
    /// # Errors
    ///
    /// [`ConfigError::NotUnicode`] where it is not UTF-8.
    pub fn text(&self, name: &str) -> Result<Option<&str>, ConfigError> {
        match self.variables.get(OsStr::new(name)) {
            None => Ok(None),
            Some(value) => value
                .to_str()
                .map(Some)
                .ok_or_else(|| ConfigError::NotUnicode { name: name.to_owned() }),
        }
    }

    /// A variable that names a directory. Relative ones are ignored, as the XDG base directory specification wants.
    pub fn directory(&self, name: &str) -> Option<&Path> {
        self.variables
            .get(OsStr::new(name))
            .map(Path::new)
            .filter(|path| path.is_absolute())
    }

    /// A variable that names a file, relative or absolute.
    pub fn file(&self, name: &str) -> Option<PathBuf> {
        self.variables.get(OsStr::new(name)).map(PathBuf::from)
    }

    pub fn home(&self) -> Option<&Path> {
        self.directory("HOME")
    }

    /// Refuses a `CODEX_MCP_*` variable that is not in [`REGISTRY`].
    ///
    /// # Errors
    ///
    /// [`ConfigError::UnknownEnvironment`] for the first such name.
    pub fn check_names(&self) -> Result<(), ConfigError> {
        let ours = self
            .variables
            .keys()
            .map(|name| name.to_string_lossy())
            .filter(|name| name.starts_with(PREFIX));
        for name in ours {
            if !REGISTRY.contains(&&*name) {
                return Err(ConfigError::UnknownEnvironment {
                    nearest: Nearest::among(&name, REGISTRY),
                    name: name.into_owned(),
                });
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Environment({} variables)", self.variables.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelt_variable_is_refused_with_the_right_one() {
        let environment = Environment::from_pairs([("CODEX_MCP_MEMROY", "4g"), ("PATH", "/bin")]);
        assert_eq!(
            environment.check_names().unwrap_err().to_string(),
            "the environment variable CODEX_MCP_MEMROY is not one of codex-mcp's; did you mean `CODEX_MCP_MEMORY`?"
        );
        assert!(
            Environment::from_pairs(REGISTRY.map(|name| (name, "x")))
                .check_names()
                .is_ok()
        );
    }

    #[test]
    fn an_empty_variable_is_unset_and_no_value_is_printed() {
        let environment = Environment::from_pairs([(MEMORY, ""), ("OPENAI_API_KEY", "sk-secret")]);
        assert_eq!(environment.text(MEMORY).unwrap(), None);
        assert_eq!(format!("{environment:?}"), "Environment(1 variables)");
    }

    #[test]
    fn a_relative_base_directory_is_ignored() {
        let environment = Environment::from_pairs([("XDG_STATE_HOME", "state"), ("HOME", "/home/u")]);
        assert_eq!(environment.directory("XDG_STATE_HOME"), None);
        assert_eq!(environment.home(), Some(Path::new("/home/u")));
    }
}
