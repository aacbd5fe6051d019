//! Waits for a turn on behalf of a call, and tells its client what happens meanwhile.

use crate::codex::event::{Decision, ThreadId, TurnEvent};
use crate::mcp::asking::{Asker, elicited};
use crate::mcp::progress::{Notifier, Pacer};
use crate::mcp::turns::questions::Current;
use crate::mcp::turns::work::{Begun, Stage};
use rmcp::model::CallToolResult;
use std::sync::Arc;
use std::time::Instant;
use tokio_util::sync::CancellationToken;

/// How long a call waits.
#[derive(Debug, Clone, Copy)]
pub enum Patience {
    /// Until the turn has a thread.
    Begun,
    /// Until the turn has ended, or it is that late.
    Until(Instant),
}

/// What becomes of the turn when the call is cancelled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cancelling {
    /// It is interrupted, and its end waited for.
    Interrupts,
    /// It goes on: only the wait ends.
    Leaves,
}

/// How a call follows a turn.
pub struct Following<'a> {
    pub patience: Patience,
    pub cancelling: Cancelling,
    pub cancelled: &'a CancellationToken,
    pub asker: &'a Asker,
    /// The answer where the client can't ask; `None`: it is not this call's to answer.
    pub unasked: Option<Decision>,
    pub ending: &'a CancellationToken,
    pub notifier: &'a Notifier,
}

/// What the call came to.
#[derive(Debug)]
pub enum Followed {
    Ended(Arc<CallToolResult>),
    /// It goes on; `None`: it has no thread yet.
    GoesOn(Option<ThreadId>),
    /// The client is to ask its user, and to call again with the answer.
    Asks(ThreadId, Current),
    ServerEnding(Option<ThreadId>),
}

pub async fn follow(begun: Begun, following: Following<'_>) -> Followed {
    let Following {
        patience,
        cancelling,
        cancelled,
        asker,
        unasked,
        ending,
        notifier,
    } = following;
    let Begun { work, mut events } = begun;
    let (mut stage, mut copied, mut questions) = (work.stage(), work.copied(), work.questions().changes());
    let mut pacer = Pacer::new(Instant::now());
    if matches!(*stage.borrow(), Stage::Starting) {
        notifier.send(pacer.starting(Instant::now()));
    }
    let (mut thread, mut is_cancelled, mut is_copied) = (None, false, false);
    let mut asking = None;
    loop {
        let now = stage.borrow_and_update().clone();
        if let (None, Stage::Running(id) | Stage::Ended { thread: Some(id), .. }) = (&thread, &now) {
            notifier.send(pacer.thread_ready(id, Instant::now()));
            thread = Some(id.clone());
        }
        if let Stage::Ended { result, .. } = now {
            // The end overtakes events that came before it.
            while let Ok(event) = events.try_recv() {
                tell(notifier, &mut pacer, &event);
            }
            return Followed::Ended(result);
        }
        let deadline = match patience {
            Patience::Begun if thread.is_some() => return Followed::GoesOn(thread),
            Patience::Begun => None,
            Patience::Until(deadline) => Some(deadline),
        };
        questions.mark_unchanged();
        match (work.questions().current(), asker, &thread) {
            (Some(question), Asker::Nobody, _) => {
                if let Some(unasked) = unasked {
                    work.questions().answer(question.number, unasked);
                }
            }
            (Some(question), Asker::Retries, Some(thread)) => return Followed::Asks(thread.clone(), question),
            (Some(question), Asker::Elicits(peer), _) if asking.is_none() => {
                asking = Some(Box::pin(async move {
                    let decision = elicited(peer, &question).await;
                    (question.number, decision)
                }));
            }
            _ => {}
        }
        tokio::select! {
            biased;
            () = ending.cancelled() => return Followed::ServerEnding(thread),
            () = cancelled.cancelled(), if !is_cancelled => {
                if cancelling == Cancelling::Leaves {
                    return Followed::GoesOn(thread);
                }
                is_cancelled = true;
                work.cancel();
            }
            // Before what happens in it: the first that a client hears of a turn is its thread. Its sender is the work, held here.
            _ = stage.changed() => {}
            _ = questions.changed() => {}
            (number, decision) = maybe(asking.as_mut()) => {
                asking = None;
                work.questions().answer(number, decision);
            }
            // Slower than they come: what was missed is in the log.
            event = events.recv() => if let Ok(event) = event {
                tell(notifier, &mut pacer, &event);
            },
            changed = copied.changed(), if !is_copied => match changed {
                Ok(()) => {
                    let done = *copied.borrow_and_update();
                    if let Some(step) = pacer.copying(done, Instant::now()) {
                        notifier.send(step);
                    }
                }
                Err(_) => is_copied = true,
            },
            () = maybe(deadline.map(|deadline| Box::pin(tokio::time::sleep_until(deadline.into())))) => {
                return Followed::GoesOn(thread);
            }
            () = tokio::time::sleep_until(pacer.heartbeat_due().into()) => {
                notifier.send(pacer.heartbeat(Instant::now()));
            }
        }
    }
}

/// Never, where there is nothing to wait for.
async fn maybe<F: Future>(future: Option<F>) -> F::Output {
    match future {
        Some(future) => future.await,
        None => std::future::pending().await,
    }
}

fn tell(notifier: &Notifier, pacer: &mut Pacer, event: &TurnEvent) {
    if let Some(step) = pacer.event(event, Instant::now()) {
        notifier.send(step);
    }
}
