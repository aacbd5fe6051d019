//! Who owns a container: a process, named so that a reused pid fools nothing.
//!
//! A pid alone comes round again; with the process's start time (field 22 of proc_pid_stat(5), clock ticks since
//! boot) and the boot id it names one process for ever.

use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Owner {
    pub pid: u32,
    /// Clock ticks since boot.
    pub start_ticks: u64,
    /// `/proc/sys/kernel/random/boot_id`.
    pub boot_id: String,
}
