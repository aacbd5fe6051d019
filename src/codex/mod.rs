//! Codex's app-server: its protocol, its events, its errors, its configuration.
//!
//! The only room that knows the app-server's JSON. It gets a byte stream and gives typed calls and events; it must
//! never start a process, touch a file, or let an app-server type out: [`wire_types`] are private to the room, and
//! everything Codex says is [`crate::wire::untrusted::Untrusted`]. Codex is pinned; its protocol is marked experimental.
//!
//! - [`wire_types`]: JSON as the app-server writes it, only what we read.
//! - [`pending`]: which answer belongs to which call (no IO).
//! - [`client`]: reader and writer over a stream; calls.
//! - [`event`]: what happens in a thread, in our words.
//! - [`turn`]: one turn as a pure state machine, with the watchdog for a completion that never comes.
//! - [`error`]: codexErrorInfo → typed errors with remedies.
//! - [`settings`]: renders the locked `config.toml`.

pub mod client;
pub mod error;
pub mod event;
pub mod pending;
pub mod prompt;
pub mod settings;
pub mod turn;
mod wire_types;
