//! Waits for a turn on behalf of a call, and tells its client what happens meanwhile.

use crate::codex::event::{ThreadId, TurnEvent};
use crate::mcp::progress::{Notifier, Pacer};
use crate::mcp::turns::work::{Begun, Stage};
use rmcp::model::CallToolResult;
use std::sync::Arc;
use std::time::Instant;
use tokio::sync::broadcast;
use tokio_util::sync::CancellationToken;

/// How long a call waits.
#[derive(Debug, Clone, Copy)]
pub enum Patience {
    /// Until the turn has a thread.
    Begun,
    /// Until the turn has ended, or it is that late.
    Until(Instant),
}

/// What the call came to.
#[derive(Debug)]
pub enum Followed {
    Ended(Arc<CallToolResult>),
    /// It goes on; `None`: it has no thread yet.
    GoesOn(Option<ThreadId>),
    ServerEnding(Option<ThreadId>),
}

/// `cancelled` interrupts the turn, and its end is waited for.
pub async fn follow(
    begun: Begun,
    patience: Patience,
    notifier: &Notifier,
    cancelled: &CancellationToken,
    ending: &CancellationToken,
) -> Followed {
    let mut pacer = Pacer::new(Instant::now());
    notifier.send(pacer.starting(Instant::now()));
    let Begun { work, mut events } = begun;
    let (mut stage, mut copied) = (work.stage(), work.copied());
    let mut thread = None;
    let mut is_cancelled = false;
    let mut is_copied = false;
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
        let too_late = async {
            match deadline {
                Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = ending.cancelled() => return Followed::ServerEnding(thread),
            () = cancelled.cancelled(), if !is_cancelled => {
                is_cancelled = true;
                work.cancel();
            }
            // Before what happens in it: the first that a client hears of a turn is its thread.
            changed = stage.changed() => {
                if changed.is_err() {
                    return Followed::GoesOn(thread);
                }
            }
            event = events.recv() => match event {
                Ok(event) => tell(notifier, &mut pacer, &event),
                // Slower than they come: what was missed is in the log.
                Err(broadcast::error::RecvError::Lagged(_)) => {}
                // Never: the work that is held here has the other end.
                Err(broadcast::error::RecvError::Closed) => return Followed::GoesOn(thread),
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
            () = too_late => return Followed::GoesOn(thread),
            () = tokio::time::sleep_until(pacer.heartbeat_due().into()) => {
                notifier.send(pacer.heartbeat(Instant::now()));
            }
        }
    }
}

fn tell(notifier: &Notifier, pacer: &mut Pacer, event: &TurnEvent) {
    if let Some(step) = pacer.event(event, Instant::now()) {
        notifier.send(step);
    }
}
