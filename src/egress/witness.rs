//! Who is told of every decision before it has an effect.

use crate::config::Sourced;
use crate::config::rule::Rule;
use crate::config::target::Target;
use crate::egress::decision::Denial;
use std::fmt;

/// Told of every decision, once each; a guest can cause thousands a second. Neither may wait for anything but memory and a
/// local file.
pub trait Witness: fmt::Debug + Send + Sync {
    /// `rule` allows a connection to `target`; it is made only where this returns well.
    ///
    /// # Errors
    ///
    /// Where the decision can't be put on record.
    fn allowed(&self, target: &Target, rule: &Sourced<Rule>) -> Result<(), Unwitnessed>;

    /// A connection was refused, whatever becomes of the record.
    fn denied(&self, denial: &Denial);
}

/// The decision is on no record. Why is for the operator, and was told there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it can't be put on record on the host, and nothing is reached unrecorded")]
pub struct Unwitnessed;
