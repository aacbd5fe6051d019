//! One actor a session: launches the container, runs turns one at a time, ends. The only room that calls every effect.
//!
//! `mcp` and `cli` see [`Sessions`] and [`SessionHandle`]; everything below is data to them.
//!
//! - [`launch`]: plan → container → `Ready` proven → Codex initialised → thread started.
//! - [`actor`]: the loop of one session.
//! - [`directory`]: the session's files on the host.
//! - [`staging`]: the copy of this binary that becomes PID 1.
//! - [`registry`]: all sessions of this process; start, find, shut down.
//! - [`sweep`]: removes what dead owners left.
//! - [`error`]: why a session could not start or ended.

pub mod actor;
pub mod directory;
pub mod error;
pub mod launch;
pub mod registry;
pub mod staging;
pub mod sweep;
