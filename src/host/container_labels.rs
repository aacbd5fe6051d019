//! The labels that say whose a container is: one of ours without a living owner is removed by the next server.
//!
//! They stand here because both who plans a session and the probe's trial start containers, and the probe knows no
//! plans.

use crate::supervise::owner::Owner;

/// Which session it belongs to, or [`TRIAL`]; containers of ours are looked for by this label's name.
pub const SESSION: &str = "io.github.codex-mcp.session";
pub const OWNER_PID: &str = "io.github.codex-mcp.owner-pid";
pub const OWNER_START: &str = "io.github.codex-mcp.owner-start";
pub const OWNER_BOOT: &str = "io.github.codex-mcp.owner-boot";

/// The value of [`SESSION`] for the probe's trial container; no session has this id.
pub const TRIAL: &str = "trial";

/// All labels of a container of this session and owner, as `NAME=VALUE`.
pub fn of(session: &str, owner: &Owner) -> [String; 4] {
    [
        format!("{SESSION}={session}"),
        format!("{OWNER_PID}={}", owner.pid),
        format!("{OWNER_START}={}", owner.start_ticks),
        format!("{OWNER_BOOT}={}", owner.boot_id),
    ]
}
