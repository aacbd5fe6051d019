//! MCP over Streamable HTTP, both eras, for several clients at once.
//!
//! What a request passes, in this order: [`connections`] bounds sockets and heads, [`names`] checks `Host` and `Origin`,
//! [`traffic`] turns it away once the server ends, [`door`] finds out who asks and how often, [`seats`] whose MCP session it
//! names, [`body`] how long it is. Only then does rmcp see it. What goes back passes [`reply`], which redacts.
//!
//! It must never let a request in because a check failed, never hand a token on (the header ends at the door), and never
//! tell one identity of another: what belongs to somebody else does not exist. Nothing here prints: stdout stays silent.
//!
//! - [`exposure`]: whether this server may listen there at all; pure.
//! - [`connections`]: sockets, their number, and how long a head may take.
//! - [`names`]: `Host` and `Origin`; the decision is pure.
//! - [`door`]: tokens → [`caller::Caller`]; [`rate`]: how often each may ask; pure.
//! - [`seats`]: legacy MCP sessions: their owners, their number, their end.
//! - [`body`]: request bodies, bounded each and together. [`reply`]: response bodies.
//! - [`health`]: `/readyz` and `/metrics`.
//! - [`traffic`]: requests under way, and the end of taking more.
//! - [`refusal`]: what a request that is turned away reads.
//! - [`serving`]: puts it together; the order in which it ends.

pub mod body;
pub mod caller;
pub mod connections;
pub mod door;
pub mod exposure;
pub mod health;
pub mod names;
pub mod rate;
pub mod refusal;
pub mod reply;
pub mod seats;
pub mod serving;
pub mod traffic;

#[cfg(test)]
mod tests;

pub use serving::{HttpError, serve_http};
