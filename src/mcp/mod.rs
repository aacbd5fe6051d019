//! The MCP server: `codex` and `codex-reply`, the drop-in for the removed `codex mcp-server`.
//!
//! The only room that knows MCP. stdout belongs to the protocol: nothing here prints. It must never touch an engine or
//! a file: it asks [`crate::session`]. `initialize` answers before any engine is touched.
