//! The scripted model: a Responses API server on loopback that plays scenarios, so that real Codex can be driven without
//! a key or a network. Used by `demo`, by the tests, and later by `doctor --deep`.
//!
//! What it answers depends on the request alone: no clock, no randomness. It must never listen beyond loopback, and never
//! act on a prompt itself: it only asks Codex to run tools, as a model does.
//!
//! - [`scenario`]: request body → what to answer (pure).
//! - [`sse`]: an answer → server-sent events (pure).
//! - [`server`]: the HTTP server that plays them.

pub mod scenario;
pub mod server;
pub mod sse;

pub use server::{Access, RecordedRequest, ScriptedModel};
