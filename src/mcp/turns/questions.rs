//! What Codex asks during a turn, until somebody answers: one after another, each for so long and no longer.

use crate::codex::approver::{ApprovalRequest, Question};
use crate::codex::event::Decision;
use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// The most that wait; Codex asks one after another, so more are a flood and declined.
const MOST: usize = 8;

#[derive(Debug)]
pub struct Questions {
    turn: u64,
    open: Mutex<Open>,
    changed: watch::Sender<()>,
}

#[derive(Debug, Default)]
struct Open {
    queue: VecDeque<Pending>,
    asked: u64,
}

#[derive(Debug)]
struct Pending {
    number: u64,
    question: Question,
    until: Instant,
}

/// The question that is to be answered now.
#[derive(Debug, Clone)]
pub struct Current {
    /// Another for each turn of this process: an answer to one is none to the next.
    pub turn: u64,
    /// Counts the questions of its turn.
    pub number: u64,
    pub request: ApprovalRequest,
    pub until: Instant,
}

impl Questions {
    /// Of one turn, which no other of this process has the number of.
    pub fn of(turn: u64) -> Self {
        Self {
            turn,
            open: Mutex::default(),
            changed: watch::Sender::new(()),
        }
    }

    pub fn turn(&self) -> u64 {
        self.turn
    }

    pub fn ask(&self, question: Question, within: Duration) {
        {
            let mut open = self.lock();
            if open.queue.len() < MOST {
                open.asked += 1;
                let number = open.asked;
                open.queue.push_back(Pending {
                    number,
                    question,
                    until: Instant::now() + within,
                });
            }
        }
        self.changed.send_replace(());
    }

    pub fn current(&self) -> Option<Current> {
        let open = self.lock();
        let pending = open.queue.front()?;
        Some(Current {
            turn: self.turn,
            number: pending.number,
            request: pending.question.request.clone(),
            until: pending.until,
        })
    }

    /// `false`: it was answered already, or never asked.
    pub fn answer(&self, number: u64, decision: Decision) -> bool {
        let pending = {
            let mut open = self.lock();
            let at = open.queue.iter().position(|pending| pending.number == number);
            at.and_then(|at| open.queue.remove(at))
        };
        let was_open = pending.is_some();
        if let Some(pending) = pending {
            pending.question.approval.answer(decision);
            self.changed.send_replace(());
        }
        was_open
    }

    pub fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    /// Waits for the moment at which the current question has waited long enough.
    pub async fn overdue(&self) -> u64 {
        let mut changed = self.changes();
        loop {
            changed.mark_unchanged();
            let current = self.current();
            tokio::select! {
                // The sender lives as long as this does.
                _ = changed.changed() => {}
                number = late(current) => return number,
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        // The queue is whole at every point where a holder could panic.
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn late(current: Option<Current>) -> u64 {
    match current {
        Some(current) => {
            tokio::time::sleep_until(current.until).await;
            current.number
        }
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codex::approver::{Approval, ApprovalSubject};
    use crate::codex::event::{ThreadId, TurnId};
    use crate::wire::untrusted::Untrusted;
    use std::sync::mpsc;

    fn question(command: &str) -> (Question, mpsc::Receiver<Decision>) {
        let (tell, told) = mpsc::channel();
        let question = Question {
            request: ApprovalRequest {
                thread: ThreadId::parse("t").expect("an id"),
                turn: TurnId::parse("u").expect("an id"),
                subject: ApprovalSubject::Command(Untrusted::new(command)),
                reason: None,
            },
            approval: Approval::new(move |decision| _ = tell.send(decision)),
        };
        (question, told)
    }

    #[tokio::test(start_paused = true)]
    async fn each_is_answered_once_and_none_waits_for_ever() {
        let questions = Questions::of(1);
        let (first, first_told) = question("one");
        let (second, second_told) = question("two");
        questions.ask(first, Duration::from_secs(60));
        questions.ask(second, Duration::from_secs(90));
        let current = questions.current().expect("one is open");
        assert!(questions.answer(current.number, Decision::Accepted));
        assert!(!questions.answer(current.number, Decision::Accepted));
        assert_eq!(first_told.recv(), Ok(Decision::Accepted));
        let began = Instant::now();
        let overdue = questions.overdue().await;
        assert_eq!(began.elapsed().as_secs(), 90);
        questions.answer(overdue, Decision::Declined);
        assert_eq!(second_told.recv(), Ok(Decision::Declined));
        assert!(questions.current().is_none());
    }

    #[tokio::test]
    async fn a_flood_is_declined() {
        let questions = Questions::of(1);
        let told: Vec<_> = (0..=MOST)
            .map(|_| {
                let (question, told) = question("x");
                questions.ask(question, Duration::from_secs(60));
                told
            })
            .collect();
        assert_eq!(told[MOST].recv(), Ok(Decision::Declined));
        assert!(told[0].try_recv().is_err());
    }
}
