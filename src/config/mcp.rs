//! `[mcp]`: how the MCP server answers.

use crate::config::origin::Sourced;
use serde::Serialize;
use std::time::Duration;

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct McpSettings {
    /// The longest that a call waits for its turn: then it answers that the turn goes on.
    pub block: Sourced<Duration>,
}
