//! What is asked of a session that has a container: one thing after another, each with its answer.

use crate::codex::approver::Question;
use crate::codex::event::TurnEvent;
use crate::codex::prompt::Prompt;
use crate::session::asked::Asked;
use crate::session::bring_back::BroughtBack;
use crate::session::error::SessionError;
use crate::session::turn::TurnReport;
use crate::session::upkeep::Doing;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

/// What a session does one after another.
pub(super) enum Order {
    Turn(TurnOrder),
    BringBack(BringBackOrder),
}

/// Bringing what has changed so far to the user's folder, or saying what that would do.
pub(super) struct BringBackOrder {
    pub doing: Doing,
    /// The hash of the patch that somebody looked at.
    pub expect_hash: Option<String>,
    /// Dropped without an answer where the container ended before.
    pub reply: oneshot::Sender<Result<BroughtBack, SessionError>>,
}

/// Where a turn goes while it runs. Nothing waits for whoever is slow to take it.
#[derive(Debug, Clone)]
pub struct Watcher {
    pub events: mpsc::Sender<TurnEvent>,
    pub questions: mpsc::Sender<Question>,
}

impl Watcher {
    /// Nobody answers what Codex asks: it is declined.
    pub fn of_events(events: mpsc::Sender<TurnEvent>) -> Self {
        Self {
            events,
            questions: mpsc::channel(1).0,
        }
    }
}

/// A turn that is asked for.
pub(super) struct TurnOrder {
    pub prompt: Prompt,
    pub asked: Asked,
    pub watcher: Watcher,
    /// Interrupts this turn and no other, or keeps it from beginning.
    pub cancelled: CancellationToken,
    /// Dropped without an answer where the turn never began.
    pub reply: Reply,
}

pub(super) type Reply = oneshot::Sender<Result<TurnReport, SessionError>>;
