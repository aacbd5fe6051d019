//! `[mcp]`: layers → settings.

use super::{Stack, needed};
use crate::config::error::ConfigError;
use crate::config::key;
use crate::config::mcp::McpSettings;

impl Stack<'_> {
    pub(super) fn mcp(&self) -> Result<McpSettings, ConfigError> {
        Ok(McpSettings {
            block: self.period(key::MCP_BLOCK, |v| v.mcp.block.as_ref(), None)?,
            approvals: needed(
                key::MCP_APPROVALS,
                self.value(key::MCP_APPROVALS, |v| v.mcp.approvals.as_ref(), None)?,
            )?,
            ask: self.period(key::MCP_ASK, |v| v.mcp.ask.as_ref(), None)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{refusal, resolve_user};
    use crate::config::mcp::Unasked;

    #[test]
    fn a_call_waits_as_long_as_is_written() {
        let config = resolve_user("[mcp]\nblock = \"2h\"").unwrap();
        assert_eq!(config.mcp.block.value.as_secs(), 7200);
        assert_eq!(resolve_user("").unwrap().mcp.block.value.as_secs(), 240);
    }

    #[test]
    fn nobody_asked_is_a_no_unless_the_operator_says_otherwise() {
        assert_eq!(resolve_user("").unwrap().mcp.approvals.value, Unasked::Decline);
        let config = resolve_user("[mcp]\napprovals = \"accept\"\nask = \"30s\"").unwrap();
        assert_eq!(config.mcp.approvals.value, Unasked::Accept);
        assert_eq!(config.mcp.ask.value.as_secs(), 30);
        assert!(refusal("[mcp]\napprovals = \"maybe\"").contains("`decline`"));
    }
}
