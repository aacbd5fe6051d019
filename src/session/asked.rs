//! Who asked for a session or a turn, and in which shape: what the audit has of a call. It never holds a value.

use crate::config::identity::IdentityName;
use crate::wire::untrusted::Untrusted;
use std::collections::BTreeMap;
use std::fmt;

/// The longest name, version or request id that is kept, in characters.
const MAX_NAME: usize = 128;

/// One call, without what it says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    pub by: Asker,
    /// Whose token it came with; `None` where there are none, over stdio, and by the command line.
    pub identity: Option<IdentityName>,
    /// The MCP request's id: one line, bounded.
    pub request: Option<String>,
    pub tool: &'static str,
    /// Each parameter's size in bytes.
    pub parameters: BTreeMap<String, u64>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Asker {
    /// Whoever runs this process's command line.
    CommandLine,
    /// By its own word: one line each, bounded.
    McpClient { name: String, version: String },
}

impl fmt::Display for Asker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CommandLine => f.write_str("command line"),
            Self::McpClient { name, version } => write!(f, "{name} {version}"),
        }
    }
}

impl Asked {
    pub fn by_command_line(tool: &'static str, parameters: BTreeMap<String, u64>) -> Self {
        Self {
            by: Asker::CommandLine,
            identity: None,
            request: None,
            tool,
            parameters,
        }
    }

    /// `client` is what it calls itself, and its version; `None` where it did not say.
    pub fn by_mcp_client(
        client: Option<(&str, &str)>,
        request: &str,
        tool: &'static str,
        parameters: BTreeMap<String, u64>,
    ) -> Self {
        let one_line = |text: &str| Untrusted::new(text).one_line(MAX_NAME);
        let (name, version) = client.unwrap_or_default();
        Self {
            by: Asker::McpClient {
                name: one_line(name),
                version: one_line(version),
            },
            identity: None,
            request: Some(one_line(request)),
            tool,
            parameters,
        }
    }

    /// As asked for by whoever has that token.
    #[must_use]
    pub fn with_identity(self, identity: Option<IdentityName>) -> Self {
        Self { identity, ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_client_says_of_itself_is_one_short_line() {
        let long = "x".repeat(1000);
        let asked = Asked::by_mcp_client(Some(("a\x1b[2J\nb", &long)), &long, "codex", BTreeMap::new());
        let Asker::McpClient { name, version } = &asked.by else {
            panic!("{asked:?}")
        };
        assert_eq!(name, "a[2J b");
        assert_eq!(version.chars().count(), MAX_NAME);
        assert_eq!(asked.request.unwrap().chars().count(), MAX_NAME);
    }
}
