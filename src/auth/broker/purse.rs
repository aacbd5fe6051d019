//! What all sessions may spend together, for whoever asks on behalf of one.

use crate::auth::broker::usage::Tokens;
use std::fmt;
use std::future::Future;
use std::pin::Pin;

/// Asked before a request of any session goes to a provider, and told what became of it.
pub trait Purse: fmt::Debug + Send + Sync {
    /// Counts one more request, where it may be sent. What is dropped before it answers is not counted.
    fn admit(&self) -> Pin<Box<dyn Future<Output = Result<(), Refused>> + Send + '_>>;

    /// One that was admitted is not sent after all. May not wait.
    fn withdraw(&self);

    /// What an admitted request cost. May not wait: it is called where an answer is dropped.
    fn settle(&self, tokens: Tokens);
}

/// Nothing is left in it, or nobody knows; says why, where that stands and what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Refused(pub String);
