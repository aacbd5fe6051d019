//! Codex's app-server: its protocol, its events, its errors, its configuration.
//!
//! The only room that knows the app-server's JSON. It gets a byte stream and gives typed calls and events; it must
//! never start a process, touch a file, or let an app-server type out: `wire_types` is private to the room, and
//! everything Codex says is [`crate::wire::untrusted::Untrusted`]. Codex is pinned; its protocol is marked experimental.
//!
//! - [`prompt`]: a prompt that Codex will take.
//! - [`overrides`]: what a tool call may set of Codex's configuration.
//! - [`settings`]: renders the locked `config.toml`.
//! - [`launch`]: Codex's command line and environment.
//! - [`client`]: the app-server's calls, typed.
//! - [`approver`]: who answers when Codex asks whether it may.
//! - [`event`]: what happens in a thread, in our words.
//! - [`turn`]: one turn as a pure state machine, with the watchdog for a completion that never comes.
//! - [`turn_runner`]: performs it.
//! - [`error`]: codexErrorInfo → typed errors with remedies.
//!
//! Below these, private: `connection` (reader, writer), `line` (bounded lines), `pending` (which answer belongs to which
//! call), `queue` (bounded events), `interpret` (notifications → events), `wire_types` (the app-server's JSON).

pub mod approver;
pub mod client;
mod connection;
pub mod error;
pub mod event;
mod interpret;
pub mod launch;
mod line;
pub mod overrides;
mod pending;
pub mod prompt;
mod queue;
pub mod settings;
pub mod turn;
pub mod turn_runner;
mod wire_types;

#[cfg(test)]
mod replay_tests;
