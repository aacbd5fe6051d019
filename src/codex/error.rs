//! codexErrorInfo → typed errors, each with what a person can do about it.

use crate::wire::untrusted::Untrusted;

/// Why a turn failed.
#[derive(Debug, Clone, PartialEq)]
pub struct TurnError {
    pub kind: TurnErrorKind,
    /// Codex's own words.
    pub message: Untrusted,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TurnErrorKind {
    Other,
}
