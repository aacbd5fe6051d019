//! The MCP server: `codex` and `codex-reply`, the drop-in for the removed `codex mcp-server`, and what a client needs beside them.
//!
//! The only room that knows MCP. stdout belongs to the protocol: nothing here prints. It must never touch an engine or
//! a file: it asks [`crate::session`], through the narrow [`agent::Agent`]. `initialize` and `tools/list` answer
//! before any engine is looked for.
//!
//! - [`tools`]: one file a tool: what `tools/list` says of it, its arguments, what a call does.
//! - [`turns`]: turns at work, whoever waits for them.
//! - [`resources`]: what a client reads of threads; [`prompts`] and [`completion`]: what it offers its user.
//! - [`asking`]: asks the user, in either era.
//! - [`schema`]: pieces of the tools' schemas, pure.
//! - [`arguments`]: takes a call's arguments one by one, or says which is wrong; pure.
//! - [`network_argument`]: a call's `network` → rules that narrow; pure.
//! - [`agent`]: what a call needs of sessions.
//! - [`progress`]: events → progress notifications, paced; the pacing is pure.
//! - [`result`]: how a call's end looks to the client; pure.
//! - [`server`]: rmcp's handler, which only dispatches.
//! - [`streams`]: this process's stdin and stdout without a blocked runtime.
//! - [`ending`]: how a server is asked to end, and ends its sessions.
//! - [`http`]: Streamable HTTP, for several clients at once.
//! - [`stdio`]: serves one client until end of input or a signal, then ends every session.

pub mod agent;
pub mod arguments;
pub mod asking;
pub mod completion;
pub mod ending;
pub mod http;
pub mod network_argument;
pub mod progress;
pub mod prompts;
pub mod resources;
pub mod result;
pub mod schema;
pub mod server;
pub mod stdio;
pub mod streams;
pub mod tools;
pub mod turns;

#[cfg(test)]
mod tests;

pub use http::{HttpError, serve_http};
pub use stdio::{ServeError, serve_stdio};
