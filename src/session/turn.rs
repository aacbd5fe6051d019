//! What a turn came to, seen from outside its container.

pub use crate::auth::broker::budget::Spending;
use crate::codex::event::TurnEnd;
use crate::egress::DeniedEgress;
use crate::plan::launch::LimitName;
use crate::session::disk::decide::Usage as DiskUsage;
use crate::session::quota::QuotaLeft;
use crate::session::store::record::Interrupted;
use crate::wire::contract::Figures;
use crate::workspace::apply::Applied;
use crate::workspace::changes::Changes;
use serde::Serialize;

/// A turn that ended, and what the host refused while it ran.
#[derive(Debug, Clone, PartialEq)]
pub struct TurnReport {
    /// As Codex says it.
    pub end: TurnEnd,
    /// Turns of the thread that never came to an end, and that no answer has told of yet; oldest first.
    pub interrupted_before: Vec<Interrupted>,
    /// Connections that were refused since the turn before, equal ones counted.
    pub egress_denied: Vec<DeniedEgress>,
    /// What the session has asked of its model so far, as this host counts it: Codex's own count is the container's word.
    pub spending: Spending,
    /// Of this session's bounds and of the day's.
    pub quota_left: QuotaLeft,
    pub used: Used,
    /// What the kernel killed for memory while the turn ran, for people.
    pub memory_ended: Option<String>,
    /// What was to be brought to the user's folder; told here because it is the session's past once it was.
    pub brought: Option<Changes>,
    /// What came of bringing the changes to the user's folder, where the operator set that for each turn. `Err`: why nothing was
    /// written.
    pub applied: Option<Result<Applied, String>>,
}

impl Used {
    /// The most of a limit that was used, in the limit's own unit; `None` where nobody counts it.
    pub fn peak(&self, limit: LimitName) -> Option<u64> {
        match limit {
            LimitName::Memory => self.figures.memory_peak,
            LimitName::Pids => self.figures.pids_peak,
            LimitName::Workspace => self.disk.map(|disk| disk.bytes),
            _ => None,
        }
    }

    /// For results. What nobody counted is left out.
    pub fn told(&self) -> Told {
        Told {
            cpu_seconds: self.figures.cpu_micros.map(|micros| micros as f64 / 1e6),
            disk_bytes: self.disk.map(|disk| disk.bytes),
            disk_files: self.disk.map(|disk| disk.entries),
            memory_kills: self.memory_kills,
            egress_bytes: self.egress_bytes,
        }
    }
}

/// [`Used`] beside the peaks of limits.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Told {
    /// Processor time of the container.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_seconds: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disk_bytes: Option<u64>,
    /// Files, directories and links.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disk_files: Option<u64>,
    pub memory_kills: u64,
    pub egress_bytes: u64,
}

/// What the session's container has used so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Used {
    /// The guest's word.
    pub figures: Figures,
    /// What its folders held when they were last counted.
    pub disk: Option<DiskUsage>,
    /// How often the kernel killed something inside for memory.
    pub memory_kills: u64,
    /// Of its commands' connections, over its life.
    pub egress_bytes: u64,
}
