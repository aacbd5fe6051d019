//! What a call needs of sessions, and no more: the seam between this room and [`crate::session`], so that the whole
//! server can be driven by tests without an engine.

use crate::codex::event::ThreadId;
use crate::codex::prompt::Prompt;
use crate::config::identity::IdentityName;
use crate::session::asked::Asked;
use crate::session::bring_back::BroughtBack;
use crate::session::by_thread::{Keeping, Summary};
use crate::session::copying::Copying;
use crate::session::error::SessionError;
use crate::session::handle::{LaunchReport, SessionHandle};
use crate::session::order::Watcher;
use crate::session::registry::{Losses, Sessions, StartSession, Urgency};
use crate::session::turn::TurnReport;
use crate::session::upkeep::Doing;
use crate::workspace::changes::Changes;
use serde_json::Value;
use std::future::Future;
use tokio_util::sync::CancellationToken;

/// Starts threads, takes them up, looks after those that there are, ends their containers all at once.
pub trait Agent: Clone + Send + Sync + 'static {
    type Thread: AgentThread;

    /// Dropping the future gives the start up, and ends what it made so far. `copying` hears how far the copy of the folder is.
    fn start(
        &self,
        start: StartSession,
        asked: Asked,
        copying: Copying,
    ) -> impl Future<Output = Result<Self::Thread, SessionError>> + Send;

    /// A thread that was started before, by this server or by one before it; where its container is gone, with a new one.
    /// Dropping the future gives that launch up.
    fn take_up(
        &self,
        thread: &ThreadId,
        asked: Asked,
    ) -> impl Future<Output = Result<Self::Thread, SessionError>> + Send;

    /// Every session that has a thread and that `asker` may know of, the one in which something happened last first.
    fn list(&self, asker: Option<&IdentityName>) -> impl Future<Output = Result<Vec<Summary>, SessionError>> + Send;

    /// One of them.
    fn look(
        &self,
        thread: &ThreadId,
        asker: Option<&IdentityName>,
    ) -> impl Future<Output = Result<Summary, SessionError>> + Send;

    /// What the operator set, as data.
    fn policy(&self) -> Value;

    /// The models that a call may name.
    fn models(&self) -> Vec<String>;

    /// What happened in it, oldest first: the lines of its log.
    fn log(
        &self,
        thread: &ThreadId,
        asker: Option<&IdentityName>,
    ) -> impl Future<Output = Result<Vec<Value>, SessionError>> + Send;

    /// Ends its container and waits for that. `false`: it had none.
    fn close(
        &self,
        thread: &ThreadId,
        keeping: Keeping,
        asker: Option<&IdentityName>,
    ) -> impl Future<Output = Result<bool, SessionError>> + Send;

    /// What it changed so far. `None`: it works on the folder itself.
    fn changes(
        &self,
        thread: &ThreadId,
        asked: Asked,
    ) -> impl Future<Output = Result<Option<Changes>, SessionError>> + Send;

    /// Brings that to the user's folder, or says what it would do. Once begun it is finished, whatever becomes of the future.
    fn apply(
        &self,
        thread: &ThreadId,
        doing: Doing,
        expect_hash: Option<String>,
        asked: Asked,
    ) -> impl Future<Output = Result<BroughtBack, SessionError>> + Send;

    /// Ends every session, those that are still launching included, and waits for it. May be called again with
    /// [`Urgency::Immediate`] while the first call waits.
    fn shut_down(&self, urgency: Urgency) -> impl Future<Output = ()> + Send;
}

/// One Codex thread in its container.
pub trait AgentThread: Clone + Send + Sync + 'static {
    fn id(&self) -> &ThreadId;

    fn report(&self) -> &LaunchReport;

    /// One turn to its end. Turns of a thread queue. `cancelled` interrupts this turn and no other; one that has not begun
    /// then never does.
    fn run_turn(
        &self,
        prompt: Prompt,
        asked: Asked,
        watcher: Watcher,
        cancelled: CancellationToken,
    ) -> impl Future<Output = Result<TurnReport, SessionError>> + Send;

    /// `None`: the session works on the folder itself. `cancelled` gives it up.
    fn changes(
        &self,
        cancelled: &CancellationToken,
    ) -> impl Future<Output = Result<Option<Changes>, SessionError>> + Send;
}

impl Agent for Sessions {
    type Thread = SessionHandle;

    async fn start(&self, start: StartSession, asked: Asked, copying: Copying) -> Result<SessionHandle, SessionError> {
        Sessions::start(self, start, asked, copying).await
    }

    async fn take_up(&self, thread: &ThreadId, asked: Asked) -> Result<SessionHandle, SessionError> {
        Sessions::take_up(self, thread, Losses::Count, asked).await
    }

    async fn list(&self, asker: Option<&IdentityName>) -> Result<Vec<Summary>, SessionError> {
        Sessions::summaries(self, asker).await
    }

    async fn look(&self, thread: &ThreadId, asker: Option<&IdentityName>) -> Result<Summary, SessionError> {
        Sessions::summary(self, thread, asker).await
    }

    fn policy(&self) -> Value {
        Sessions::policy(self)
    }

    fn models(&self) -> Vec<String> {
        Sessions::models(self)
    }

    async fn log(&self, thread: &ThreadId, asker: Option<&IdentityName>) -> Result<Vec<Value>, SessionError> {
        Sessions::log(self, thread, asker).await
    }

    async fn close(
        &self,
        thread: &ThreadId,
        keeping: Keeping,
        asker: Option<&IdentityName>,
    ) -> Result<bool, SessionError> {
        Sessions::close(self, thread, keeping, asker).await
    }

    async fn changes(&self, thread: &ThreadId, asked: Asked) -> Result<Option<Changes>, SessionError> {
        Sessions::changes_of(self, thread, asked).await
    }

    async fn apply(
        &self,
        thread: &ThreadId,
        doing: Doing,
        expect_hash: Option<String>,
        asked: Asked,
    ) -> Result<BroughtBack, SessionError> {
        Sessions::apply(self, thread, doing, expect_hash, asked).await
    }

    async fn shut_down(&self, urgency: Urgency) {
        Sessions::shut_down(self, urgency).await;
    }
}

impl AgentThread for SessionHandle {
    fn id(&self) -> &ThreadId {
        self.thread()
    }

    fn report(&self) -> &LaunchReport {
        SessionHandle::report(self)
    }

    async fn run_turn(
        &self,
        prompt: Prompt,
        asked: Asked,
        watcher: Watcher,
        cancelled: CancellationToken,
    ) -> Result<TurnReport, SessionError> {
        SessionHandle::run_turn(self, prompt, asked, watcher, cancelled).await
    }

    async fn changes(&self, cancelled: &CancellationToken) -> Result<Option<Changes>, SessionError> {
        SessionHandle::changes(self, cancelled).await
    }
}
