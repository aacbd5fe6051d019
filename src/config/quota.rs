//! `[quota]`: what may be spent. `None` is no bound.

use crate::config::origin::Sourced;
use crate::config::quantity::ByteSize;
use serde::Serialize;
use std::time::Duration;

/// What may be spent.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct QuotaSettings {
    /// Containers at once, over all servers of one state directory.
    pub sessions: Sourced<u32>,
    /// One session over its life, all its containers together.
    pub session: Spendable,
    pub day: DayQuota,
}

/// What all sessions of one state directory may spend together in one day, which is one of UTC.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct DayQuota {
    /// Sessions begun.
    pub sessions: Option<Sourced<u64>>,
    #[serde(flatten)]
    pub spendable: Spendable,
}

/// What a session spends, and a day with it.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Spendable {
    pub turns: Option<Sourced<u64>>,
    /// Tokens in and out together, as the provider counts them.
    pub tokens: Option<Sourced<u64>>,
    /// Requests to the model.
    pub requests: Option<Sourced<u64>>,
    /// For which turns ran.
    pub wall: Option<Sourced<Duration>>,
    /// Bytes of commands' connections, both directions together.
    pub egress: Option<Sourced<ByteSize>>,
}
