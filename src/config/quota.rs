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
    pub session: SessionQuota,
    pub day: DayQuota,
}

/// What one session may spend over its life, all its containers together.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct SessionQuota {
    pub turns: Option<Sourced<u64>>,
    /// Tokens in and out together, as the provider counts them.
    pub tokens: Option<Sourced<u64>>,
    /// Requests to the model.
    pub requests: Option<Sourced<u64>>,
    /// For which its turns ran.
    pub wall: Option<Sourced<Duration>>,
    /// Bytes of its commands' connections, both directions together.
    pub egress: Option<Sourced<ByteSize>>,
}

/// What all sessions of one state directory may spend together in one day, which is one of UTC.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct DayQuota {
    /// Sessions begun.
    pub sessions: Option<Sourced<u64>>,
    pub turns: Option<Sourced<u64>>,
    pub tokens: Option<Sourced<u64>>,
    pub requests: Option<Sourced<u64>>,
    pub wall: Option<Sourced<Duration>>,
    pub egress: Option<Sourced<ByteSize>>,
}
