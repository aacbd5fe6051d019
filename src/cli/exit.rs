//! The one table of exit codes. docs/api-reference.md has it for people; a test compares the two.

use crate::codex::error::TurnErrorKind as Kind;
use crate::codex::event::TurnOutcome;
use crate::codex::overrides::OperatorsOverrideError;
use crate::config::ConfigError;
use crate::session::error::{SessionError, SessionErrorKind};

/// How the program ended, for scripts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    Success,
    /// Codex ran, and the turn failed.
    TurnFailed,
    /// A flag, argument or prompt that can't be taken. clap uses the same code.
    Usage,
    Configuration,
    /// No engine, or it does not run.
    Engine,
    /// The image is missing or unfit.
    Image,
    /// This machine, a rule or the proof of a launch said no.
    Refused,
    /// The provider could not be reached, or did not take the credential.
    Provider,
    /// The container ended before its session did.
    SessionLost,
    Internal,
    /// The audit is not as it was written.
    AuditBroken,
    /// SIGINT.
    Interrupted,
    /// SIGTERM.
    Terminated,
}

impl Exit {
    pub const ALL: [Self; 13] = [
        Self::Success,
        Self::TurnFailed,
        Self::Usage,
        Self::Configuration,
        Self::Engine,
        Self::Image,
        Self::Refused,
        Self::Provider,
        Self::SessionLost,
        Self::Internal,
        Self::AuditBroken,
        Self::Interrupted,
        Self::Terminated,
    ];

    pub const fn code(self) -> u8 {
        match self {
            Self::Success => 0,
            Self::TurnFailed => 1,
            Self::Usage => 2,
            Self::Configuration => 3,
            Self::Engine => 4,
            Self::Image => 5,
            Self::Refused => 6,
            Self::Provider => 7,
            Self::Internal => 8,
            Self::SessionLost => 9,
            Self::AuditBroken => 10,
            // 128 + the signal's number, as shells have it.
            Self::Interrupted => 130,
            Self::Terminated => 143,
        }
    }
}

impl From<Exit> for std::process::ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

/// Why a command ends without its result: what to tell, and the code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    pub message: String,
    pub exit: Exit,
}

impl Failure {
    pub fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            exit,
        }
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Self::new(Exit::Configuration, error.to_string())
    }
}

impl From<OperatorsOverrideError> for Failure {
    fn from(error: OperatorsOverrideError) -> Self {
        Self::new(Exit::Configuration, error.to_string())
    }
}

impl From<SessionError> for Failure {
    fn from(error: SessionError) -> Self {
        Self::new(Exit::from(&error), error.to_string())
    }
}

impl From<&SessionError> for Exit {
    fn from(error: &SessionError) -> Self {
        match error.kind() {
            SessionErrorKind::Input => Self::Usage,
            SessionErrorKind::Configuration => Self::Configuration,
            SessionErrorKind::Engine => Self::Engine,
            SessionErrorKind::Image => Self::Image,
            SessionErrorKind::Refused => Self::Refused,
            SessionErrorKind::Provider => Self::Provider,
            SessionErrorKind::Lost => Self::SessionLost,
            SessionErrorKind::Internal => Self::Internal,
        }
    }
}

impl From<&TurnOutcome> for Exit {
    fn from(outcome: &TurnOutcome) -> Self {
        match outcome {
            TurnOutcome::Completed => Self::Success,
            TurnOutcome::Interrupted => Self::Interrupted,
            TurnOutcome::Failed(error) => match error.kind {
                Kind::Unauthorized
                | Kind::RefusedByHost
                | Kind::HttpConnectionFailed(_)
                | Kind::ResponseStreamConnectionFailed(_) => Self::Provider,
                Kind::ConnectionLost => Self::SessionLost,
                _ => Self::TurnFailed,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn each_code_is_its_own_and_in_the_document() {
        let document = include_str!("../../docs/api-reference.md");
        let codes: BTreeSet<u8> = Exit::ALL.iter().map(|exit| exit.code()).collect();
        assert_eq!(codes.len(), Exit::ALL.len());
        for code in codes {
            assert!(document.contains(&format!("\n| {code} |")), "{code}");
        }
    }
}
