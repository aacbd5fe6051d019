//! Hands what Codex asks during a turn to whoever asked for that turn. Where nobody is there, the answer is no.

use crate::codex::approver::{Approval, ApprovalRequest, Approver, Question};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::mpsc;

/// Clones share who is asked.
#[derive(Debug, Clone, Default)]
pub struct Questions(Arc<Mutex<Option<mpsc::Sender<Question>>>>);

/// While it lives, what Codex asks goes to one caller.
#[derive(Debug)]
pub struct Asked(Questions);

impl Questions {
    pub fn go_to(&self, caller: mpsc::Sender<Question>) -> Asked {
        *self.lock() = Some(caller);
        Asked(self.clone())
    }

    fn lock(&self) -> MutexGuard<'_, Option<mpsc::Sender<Question>>> {
        // One value, whole at every point where a holder could panic.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Asked {
    fn drop(&mut self) {
        *self.0.lock() = None;
    }
}

impl Approver for Questions {
    fn consider(&self, request: &ApprovalRequest, approval: Approval) {
        let caller = self.lock().clone();
        let question = Question {
            request: request.clone(),
            approval,
        };
        if let Some(caller) = caller {
            // Dropped where it is gone or has too many open already, which declines.
            let _ = caller.try_send(question);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codex::approver::ApprovalSubject;
    use crate::codex::event::{Decision, ThreadId, TurnId};
    use crate::wire::untrusted::Untrusted;

    fn ask(questions: &Questions) -> std::sync::mpsc::Receiver<Decision> {
        let (tell, told) = std::sync::mpsc::channel();
        let request = ApprovalRequest {
            thread: ThreadId::parse("t").unwrap(),
            turn: TurnId::parse("u").unwrap(),
            subject: ApprovalSubject::Command(Untrusted::new("ls")),
            reason: None,
        };
        questions.consider(&request, Approval::new(move |decision| tell.send(decision).unwrap()));
        told
    }

    #[test]
    fn who_asked_for_the_turn_is_asked_and_nobody_else_ever() {
        let questions = Questions::default();
        assert_eq!(ask(&questions).recv(), Ok(Decision::Declined));
        let (caller, mut asked) = mpsc::channel(1);
        let during = questions.go_to(caller);
        let told = ask(&questions);
        let too_many = ask(&questions);
        asked.try_recv().unwrap().approval.answer(Decision::Accepted);
        assert_eq!(told.recv(), Ok(Decision::Accepted));
        assert_eq!(too_many.recv(), Ok(Decision::Declined));
        drop(during);
        assert_eq!(ask(&questions).recv(), Ok(Decision::Declined));
    }
}
