//! Reader and writer over the app-server's stream; calls.

use serde_json::{Map, Value};

/// How a thread behaves, beyond what the locked configuration says. All of it comes from a tool call or a flag and was
/// checked against what a call may set.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ThreadSettings {
    pub approvals: Approvals,
    pub base_instructions: Option<String>,
    pub developer_instructions: Option<String>,
    /// Replaces the prompt that Codex compacts a long thread with.
    pub compact_prompt: Option<String>,
    /// Allowlisted overrides of Codex's configuration (see [`crate::codex::settings`]).
    pub overrides: Map<String, Value>,
}

/// When Codex asks before it acts. Inside the container this is review, not a boundary.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Approvals {
    #[default]
    Never,
    /// With an external sandbox `on-request` never asks, so every asking policy becomes this one.
    Untrusted,
}
