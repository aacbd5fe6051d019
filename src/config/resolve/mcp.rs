//! `[mcp]`: layers → settings.

use super::Stack;
use crate::config::error::ConfigError;
use crate::config::key;
use crate::config::mcp::McpSettings;

impl Stack<'_> {
    pub(super) fn mcp(&self) -> Result<McpSettings, ConfigError> {
        Ok(McpSettings {
            block: self.period(key::MCP_BLOCK, |v| v.mcp.block.as_ref(), None)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::resolve_user;

    #[test]
    fn a_call_waits_as_long_as_is_written() {
        let config = resolve_user("[mcp]\nblock = \"2h\"").unwrap();
        assert_eq!(config.mcp.block.value.as_secs(), 7200);
        assert_eq!(resolve_user("").unwrap().mcp.block.value.as_secs(), 240);
    }
}
