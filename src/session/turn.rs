//! What a turn came to, seen from outside its container.

pub use crate::auth::broker::budget::Spending;
use crate::codex::event::TurnEnd;
use crate::egress::DeniedEgress;

/// A turn that ended, and what the host refused while it ran.
#[derive(Debug, Clone, PartialEq)]
pub struct TurnReport {
    /// As Codex says it.
    pub end: TurnEnd,
    /// The thread's turn before this one, where it never came to its end: which, and why.
    pub interrupted_before: Option<String>,
    /// Connections that were refused since the turn before, equal ones counted.
    pub egress_denied: Vec<DeniedEgress>,
    /// What the session has asked of its model so far, as this host counts it: Codex's own count is the container's word.
    pub spending: Spending,
}
