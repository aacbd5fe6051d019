//! Who answers when Codex asks whether it may do something.
//!
//! Inside the container approvals are review, not a boundary. An [`Approver`] is told of a request and handed the means
//! to answer it; it must not block, but it may keep the [`Approval`] and answer later, from anywhere. Codex waits without
//! limit, and interrupting the turn frees it.

use crate::codex::event::{Decision, ThreadId, TurnId};
use crate::wire::untrusted::Untrusted;
use std::fmt;

/// What Codex wants to do.
#[derive(Debug, Clone, PartialEq)]
pub struct ApprovalRequest {
    pub thread: ThreadId,
    pub turn: TurnId,
    pub subject: ApprovalSubject,
    /// Why, in the model's words.
    pub reason: Option<Untrusted>,
}

#[derive(Debug, Clone, PartialEq)]
pub enum ApprovalSubject {
    Command(Untrusted),
    /// The files that a patch touches; empty where Codex did not announce the patch before.
    Patch(Vec<Untrusted>),
}

impl ApprovalSubject {
    /// The command, or the files.
    pub fn describe(&self) -> Untrusted {
        match self {
            Self::Command(command) => command.clone(),
            Self::Patch(paths) => {
                let paths: Vec<&str> = paths.iter().map(Untrusted::as_str).collect();
                Untrusted::new(format!("patch {}", paths.join(", ")))
            }
        }
    }
}

/// A request with the means to answer it.
#[derive(Debug)]
pub struct Question {
    pub request: ApprovalRequest,
    pub approval: Approval,
}

pub trait Approver: Send + Sync + 'static {
    /// Must return at once: the connection's reader waits meanwhile.
    fn consider(&self, request: &ApprovalRequest, approval: Approval);
}

/// Declines everything: for whoever has nobody to ask.
#[derive(Debug, Clone, Copy, Default)]
pub struct DeclineAll;

impl Approver for DeclineAll {
    fn consider(&self, _request: &ApprovalRequest, approval: Approval) {
        approval.answer(Decision::Declined);
    }
}

/// The one answer to one request. Dropped without an answer, it declines.
pub struct Approval {
    answer: Option<Box<dyn FnOnce(Decision) + Send>>,
}

impl fmt::Debug for Approval {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_open = self.answer.is_some();
        f.debug_struct("Approval").field("is_open", &is_open).finish()
    }
}

impl Approval {
    pub fn new(answer: impl FnOnce(Decision) + Send + 'static) -> Self {
        Self {
            answer: Some(Box::new(answer)),
        }
    }

    pub fn answer(mut self, decision: Decision) {
        self.give(decision);
    }

    fn give(&mut self, decision: Decision) {
        if let Some(answer) = self.answer.take() {
            answer(decision);
        }
    }
}

impl Drop for Approval {
    fn drop(&mut self) {
        self.give(Decision::Declined);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    fn approval() -> (Approval, mpsc::Receiver<Decision>) {
        let (tell, told) = mpsc::channel();
        (Approval::new(move |decision| tell.send(decision).unwrap()), told)
    }

    #[test]
    fn one_answer_is_given_and_silence_declines() {
        let (accepted, told) = approval();
        accepted.answer(Decision::Accepted);
        assert_eq!(told.iter().collect::<Vec<_>>(), [Decision::Accepted]);
        let (forgotten, told) = approval();
        drop(forgotten);
        assert_eq!(told.iter().collect::<Vec<_>>(), [Decision::Declined]);
    }
}
