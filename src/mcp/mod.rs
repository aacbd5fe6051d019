//! The MCP server: `codex` and `codex-reply`, the drop-in for the removed `codex mcp-server`.
//!
//! The only room that knows MCP. stdout belongs to the protocol: nothing here prints. It must never touch an engine or
//! a file: it asks [`crate::session`], through the narrow [`agent::Agent`]. `initialize` and `tools/list` answer
//! before any engine is looked for.
//!
//! - [`schema`]: what `tools/list` says, pure; tested against the removed server's contract.
//! - [`arguments`]: a call's arguments → typed calls, or an error that names the argument; pure.
//! - [`network_argument`]: a call's `network` → rules that narrow; pure.
//! - [`agent`]: what a call needs of sessions.
//! - [`calls`]: performs a call: start or find the thread, run one turn, follow it.
//! - [`progress`]: events → progress notifications, paced; the pacing is pure.
//! - [`result`]: how a call's end looks to the client; pure.
//! - [`server`]: rmcp's handler, which only dispatches.
//! - [`streams`]: this process's stdin and stdout without a blocked runtime.
//! - [`ending`]: how a server is asked to end, and ends its sessions.
//! - [`http`]: Streamable HTTP, for several clients at once.
//! - [`stdio`]: serves one client until end of input or a signal, then ends every session.

pub mod agent;
pub mod arguments;
pub mod calls;
pub mod ending;
pub mod http;
pub mod network_argument;
pub mod progress;
pub mod result;
pub mod schema;
pub mod server;
pub mod stdio;
pub mod streams;

#[cfg(test)]
mod tests;

pub use http::{HttpError, serve_http};
pub use stdio::{ServeError, serve_stdio};
