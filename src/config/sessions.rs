//! `[sessions]`: how long ended sessions are kept, and how often a container is started again.

use crate::config::origin::Sourced;
use crate::config::quantity::ByteSize;
use serde::Serialize;
use std::time::Duration;

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SessionsSettings {
    /// An ended session is removed when nothing has happened in it for longer.
    pub keep: Sourced<Duration>,
    /// The most that ended sessions take together; the oldest go first.
    pub keep_size: Sourced<ByteSize>,
    /// How often in a row a container that ended by itself is started again; 0: never.
    pub restarts: Sourced<u32>,
}
