//! What a caller holds of one session while it has a container. Cheap to clone; dropping it ends nothing.

use crate::audit::record::HandedTo;
use crate::codex::event::ThreadId;
use crate::codex::prompt::Prompt;
use crate::config::WorkspaceMode;
use crate::config::identity::IdentityName;
use crate::plan::identity::SessionId;
use crate::plan::launch::Unenforced;
use crate::plan::proof::ProvenLimit;
use crate::session::asked::Asked;
use crate::session::bring_back::BroughtBack;
use crate::session::error::{EndReason, SessionError};
use crate::session::journal::SessionJournal;
use crate::session::order::{BringBackOrder, Order, TurnOrder, Watcher};
use crate::session::registry::Urgency;
use crate::session::stop_order::{StopOrder, StoppedBy};
use crate::session::store::path_text::PathText;
use crate::session::turn::TurnReport;
use crate::session::upkeep::Doing;
use crate::session::workspace::SessionWorkspace;
use crate::workspace::changes::Changes;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

/// What a launch came to, for results and for people.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LaunchReport {
    pub session: SessionId,
    pub engine: String,
    pub rootless: bool,
    /// `sha256:…`.
    pub image: String,
    /// Where the workspace came from on the host.
    pub workspace: PathText,
    /// What of that folder the session works on.
    pub mode: WorkspaceMode,
    /// The model that Codex took.
    pub model: String,
    pub limits: Vec<ProvenLimit>,
    pub unenforced: Vec<Unenforced>,
    /// What Codex had to say about its configuration.
    pub warnings: Vec<String>,
    /// What a person should know of the workspace.
    #[serde(default)]
    pub notes: Vec<String>,
}

#[derive(Clone)]
pub struct SessionHandle(Arc<Shared>);

pub(super) struct Shared {
    pub thread: ThreadId,
    /// Whose it is, where it was begun with a token.
    pub owner: Option<IdentityName>,
    pub report: LaunchReport,
    pub orders: mpsc::Sender<Order>,
    /// `None` while the container is to live.
    pub stop: watch::Sender<Option<StopOrder>>,
    /// Why it has ended; `None` while it lives. Told when the session is nobody's any more.
    pub ended: watch::Receiver<Option<EndReason>>,
    pub workspace: SessionWorkspace,
    pub journal: SessionJournal,
}

impl SessionHandle {
    pub(super) fn new(shared: Shared) -> Self {
        Self(Arc::new(shared))
    }

    pub fn thread(&self) -> &ThreadId {
        &self.0.thread
    }

    pub fn owner(&self) -> Option<&IdentityName> {
        self.0.owner.as_ref()
    }

    pub fn report(&self) -> &LaunchReport {
        &self.0.report
    }

    /// Runs one turn to its end. Turns of one session queue. Events are dropped, never waited for, where the receiver
    /// is slow; the end never is. `cancelled` interrupts this turn, kills what it left running, and touches no other;
    /// one that has not begun then never does. Dropping the future does the same.
    ///
    /// # Errors
    /// [`SessionError::NotBegun`] where the container was gone before: the thread can be taken up and asked again.
    pub async fn run_turn(
        &self,
        prompt: Prompt,
        asked: Asked,
        watcher: Watcher,
        cancelled: CancellationToken,
    ) -> Result<TurnReport, SessionError> {
        let (reply, end) = oneshot::channel();
        let order = Order::Turn(TurnOrder {
            prompt,
            asked,
            watcher,
            cancelled: cancelled.clone(),
            reply,
        });
        let queued = tokio::select! {
            queued = self.0.orders.send(order) => queued,
            () = cancelled.cancelled() => return Err(SessionError::TurnCancelled),
        };
        if queued.is_err() {
            return Err(self.end_reason().await);
        }
        match end.await {
            Ok(end) => end,
            Err(_) => Err(self.end_reason().await),
        }
    }

    /// What the session changed in its workspace so far. `None`: it works on the folder itself. `cancelled` gives it up.
    pub async fn changes(&self, cancelled: &CancellationToken) -> Result<Option<Changes>, SessionError> {
        let Some(compared) = self.0.workspace.compare(cancelled).await? else {
            return Ok(None);
        };
        self.0.journal.handing_out(&compared.changes, HandedTo::Caller).await?;
        Ok(Some(compared.changes))
    }

    /// Brings what has changed to the user's folder, or says what that would do: after the turns that were asked for before.
    /// Once it has begun it is finished, whatever becomes of the caller.
    pub async fn bring_back(&self, doing: Doing, expect_hash: Option<String>) -> Result<BroughtBack, SessionError> {
        let (reply, done) = oneshot::channel();
        let order = Order::BringBack(BringBackOrder {
            doing,
            expect_hash,
            reply,
        });
        if self.0.orders.send(order).await.is_err() {
            return Err(self.end_reason().await);
        }
        match done.await {
            Ok(done) => done,
            Err(_) => Err(self.end_reason().await),
        }
    }

    pub(super) fn ask_to_stop(&self, order: StopOrder) {
        self.0
            .stop
            .send_modify(|asked| *asked = Some(asked.map_or(order, |first| first.and(order))));
    }

    pub(super) fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// Ends the container and waits for it; the session can be resumed. Asked again with [`Urgency::Immediate`], the first
    /// call is hurried.
    pub async fn stop(&self, urgency: Urgency) {
        self.end(StopOrder {
            urgency,
            by: StoppedBy::Caller,
        })
        .await;
    }

    pub(super) async fn end(&self, order: StopOrder) {
        self.ask_to_stop(order);
        let _ = self.0.ended.clone().wait_for(Option::is_some).await;
    }

    pub(super) fn has_ended(&self) -> bool {
        self.0.ended.borrow().is_some()
    }

    /// Why it has ended; waits where it is just ending.
    async fn end_reason(&self) -> SessionError {
        let mut ended = self.0.ended.clone();
        match ended.wait_for(Option::is_some).await.as_deref() {
            Ok(Some(reason)) => SessionError::NotBegun(reason.clone()),
            // The actor's task was dropped with its runtime.
            Ok(None) | Err(_) => SessionError::ShuttingDown,
        }
    }
}
