//! Who is told of every use of a credential before it.

use crate::auth::broker::passage::Endpoint;
use crate::config::quantity::ProviderName;
use std::fmt;

/// Told before a request of a session goes to its provider with a credential. May wait for nothing but memory and a local file.
pub trait Witness: fmt::Debug + Send + Sync {
    /// # Errors
    ///
    /// Where it can't be put on record: nothing is sent then.
    fn credential_used(&self, provider: &ProviderName, endpoint: Endpoint) -> Result<(), Unwitnessed>;
}

/// It is on no record. Why is for the operator, and was told there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it can't be put on record on the host, and no credential is used unrecorded")]
pub struct Unwitnessed;
