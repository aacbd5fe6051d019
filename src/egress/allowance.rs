//! How many bytes may be moved: by one session over its life, and by all of them together in a day.

use crate::config::network::EgressLimits;
use crate::config::quantity::ByteSize;
use crate::config::{Sourced, Spendable};
use std::fmt;
use std::sync::Arc;

/// What all sessions may move together; asked and told with every buffer. Neither may wait for anything but memory.
pub trait Allowance: fmt::Debug + Send + Sync {
    /// Counts bytes that were moved, in either direction.
    ///
    /// # Errors
    ///
    /// Where they are more than was left.
    fn moved(&self, bytes: u64) -> Result<(), UsedUp>;

    /// # Errors
    ///
    /// Where nothing is left.
    fn check(&self) -> Result<(), UsedUp>;
}

/// Nothing is left of the day.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UsedUp {
    pub limit: Sourced<ByteSize>,
    /// RFC 3339.
    pub renews: String,
}

/// Everything that bounds one session's connections.
#[derive(Debug, Clone)]
pub struct SessionBounds {
    pub limits: EgressLimits,
    /// `quota.session.egress`.
    pub quota: Option<Sourced<ByteSize>>,
    /// What the session moved in containers before this one.
    pub before: u64,
    /// `None`: nobody counts over sessions.
    pub day: Option<Arc<dyn Allowance>>,
}

impl SessionBounds {
    pub fn new(limits: EgressLimits, quota: &Spendable, before: u64, day: Arc<dyn Allowance>) -> Self {
        Self {
            limits,
            quota: quota.egress.clone(),
            before,
            day: Some(day),
        }
    }
}

/// Of a session that is bounded by `[network]` alone and has moved nothing.
impl From<EgressLimits> for SessionBounds {
    fn from(limits: EgressLimits) -> Self {
        Self {
            limits,
            quota: None,
            before: 0,
            day: None,
        }
    }
}
