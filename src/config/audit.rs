//! `[audit]`: how large the files of the audit grow, and how much of what is over is kept.

use crate::config::Sourced;
use crate::config::quantity::ByteSize;
use serde::Serialize;

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct AuditSettings {
    /// The size at which a chain goes on in a new file.
    pub file_size: Sourced<ByteSize>,
    /// The most that files take which nobody writes any more.
    pub keep: Sourced<ByteSize>,
}
