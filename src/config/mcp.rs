//! `[mcp]`: how the MCP server answers.

use crate::config::origin::Sourced;
use serde::Serialize;
use std::time::Duration;

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct McpSettings {
    /// The longest that a call waits for its turn: then it answers that the turn goes on.
    pub block: Sourced<Duration>,
    /// The answer to what Codex asks where no user can be asked, or none has answered.
    pub approvals: Sourced<Unasked>,
    /// How long an answer is waited for.
    pub ask: Sourced<Duration>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Unasked {
    Decline,
    Accept,
}
