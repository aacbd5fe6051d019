//! All sessions of this process that have a container: find one by its thread, end them all. How one gets there is
//! [`crate::session::starting`].

use crate::audit::Journal;
use crate::codex::client::ThreadSettings;
use crate::codex::event::ThreadId;
use crate::config::quantity::ModelId;
use crate::config::rule::Rule;
use crate::config::{Config, Sourced, WorkspaceMode};
use crate::plan::identity::SessionId;
use crate::plan::request::WorkspaceAccess;
use crate::session::blocking::blocking;
use crate::session::decide::{self, Decided};
use crate::session::error::SessionError;
use crate::session::ground::Ground;
use crate::session::handle::SessionHandle;
use crate::session::journal;
use crate::session::starting::Places;
use crate::session::stop_order::{StopOrder, StoppedBy};
use crate::session::surroundings::Surroundings;
use crate::session::sweep;
use crate::session::upkeep::Upkeep;
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{OnceCell, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// What a new session is started with. Everything here was parsed and checked for shape by the caller.
#[derive(Debug, Clone)]
pub struct StartSession {
    /// The folder to work on, as asked for; relative to the folder this process was started in. `None`: that folder.
    pub workspace: Option<PathBuf>,
    /// `None`: the operator's.
    pub mode: Option<WorkspaceMode>,
    pub access: WorkspaceAccess,
    pub model: Option<Sourced<ModelId>>,
    /// What the call narrows the network to; `None`: what the operator allowed.
    pub network: Option<Vec<Rule>>,
    pub thread: ThreadSettings,
}

/// How long the end of this process waits for the answer to a refresh of the ChatGPT login.
const LOGIN_SETTLES: Duration = Duration::from_secs(5);

/// What earlier losses of a session mean for taking it up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Losses {
    /// One that was lost too often is refused.
    Count,
    /// A person has decided.
    Forgiven,
}

/// How hurried an end is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Urgency {
    Graceful,
    /// A second signal: skip every grace period.
    Immediate,
}

#[derive(Clone)]
pub struct Sessions(pub(super) Arc<Inner>);

pub(super) struct Inner {
    pub(super) config: Arc<Config>,
    pub(super) surroundings: Arc<Surroundings>,
    ground: OnceCell<Arc<Ground>>,
    pub(super) recovered: OnceCell<()>,
    pub(super) swept: OnceCell<()>,
    /// Begun when the first session is asked for.
    audit: OnceCell<Journal>,
    pub(super) live: Mutex<HashMap<ThreadId, SessionHandle>>,
    pub(super) resuming: Places,
    /// Launches and actors; closed when nothing more may start.
    pub(super) tasks: TaskTracker,
    pub(super) stop: watch::Sender<Option<Urgency>>,
    /// Cancelled with the first word of `stop`: launches under way are given up.
    pub(super) closing: CancellationToken,
}

impl Sessions {
    /// Touches nothing yet: the engine is looked for when the first session starts.
    pub fn new(config: Arc<Config>, surroundings: Arc<Surroundings>) -> Self {
        Self(Arc::new(Inner {
            config,
            surroundings,
            ground: OnceCell::new(),
            recovered: OnceCell::new(),
            swept: OnceCell::new(),
            audit: OnceCell::new(),
            live: Mutex::default(),
            resuming: Places::default(),
            tasks: TaskTracker::new(),
            stop: watch::Sender::new(None),
            closing: CancellationToken::new(),
        }))
    }

    /// What [`Self::start`] would launch, without doing it.
    pub async fn decide(&self, start: &StartSession) -> Result<(Arc<Ground>, Decided), SessionError> {
        let ground = self.ground().await?;
        let decided = decide::decide(&ground, start, new_session_id()?).await?;
        Ok((ground, decided))
    }

    pub(super) async fn sweep(&self, ground: &Arc<Ground>) {
        sweep::sweep(ground).await;
        Upkeep::of(ground.store(), &self.0.config).prune_beside(&self.0.tasks, self.0.closing.clone());
        if sweep::needs_second_look(ground) {
            let (ground, closing) = (Arc::clone(ground), self.0.closing.clone());
            self.0.tasks.spawn(async move {
                // Where it ends before that, the next start looks.
                if tokio::time::timeout(sweep::SECOND_LOOK, closing.cancelled())
                    .await
                    .is_err()
                {
                    // A hung engine must not keep a shutdown waiting for this look.
                    tokio::select! {
                        () = closing.cancelled() => {}
                        () = sweep::sweep(&ground) => {}
                    }
                }
            });
        }
    }

    /// The session of a thread, where it has a container.
    pub fn find(&self, thread: &ThreadId) -> Option<SessionHandle> {
        self.lock().get(thread).filter(|handle| !handle.has_ended()).cloned()
    }

    /// Ends every session and waits for it. May be called again with `Immediate` while the first call waits.
    pub async fn shut_down(&self, urgency: Urgency) {
        self.0.stop.send_modify(|asked| {
            if *asked != Some(Urgency::Immediate) {
                *asked = Some(urgency);
            }
        });
        self.0.closing.cancel();
        // A launch that is under way sees the same word and ends what it made; only live sessions need to be told.
        let handles: Vec<SessionHandle> = self.lock().values().cloned().collect();
        let mut ending = tokio::task::JoinSet::new();
        for handle in handles {
            let by = StoppedBy::Server;
            ending.spawn(async move { handle.end(StopOrder { urgency, by }).await });
        }
        ending.join_all().await;
        self.0.tasks.close();
        self.0.tasks.wait().await;
        if let Some(ground) = self.0.ground.get()
            && tokio::time::timeout(LOGIN_SETTLES, ground.settle()).await.is_err()
        {
            tracing::warn!("an exchange of the ChatGPT login is given up; it may have to be made anew: codex login");
        }
        if let Some(ground) = self.0.ground.get() {
            ground.quota.flush().await;
        }
        if let Some(audit) = self.0.audit.get().cloned() {
            // Where the blocking pool is gone, so is the process.
            let _ = tokio::task::spawn_blocking(move || audit.end()).await;
        }
    }

    pub(super) async fn audit(&self) -> Result<Journal, SessionError> {
        let begin = || {
            let config = Arc::clone(&self.0.config);
            blocking(move || journal::begin(&config))
        };
        // A failure to begin is not remembered: the operator may make room and try again.
        Ok(self.0.audit.get_or_try_init(begin).await?.clone())
    }

    pub(super) async fn ground(&self) -> Result<Arc<Ground>, SessionError> {
        let find = || async {
            Ground::find(Arc::clone(&self.0.config), Arc::clone(&self.0.surroundings))
                .await
                .map(Arc::new)
        };
        // A failure is not remembered: the operator may start the engine and try again.
        self.0.ground.get_or_try_init(find).await.cloned()
    }

    /// Where the machine was looked at already.
    pub(super) fn found_ground(&self) -> Option<Arc<Ground>> {
        self.0.ground.get().cloned()
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, HashMap<ThreadId, SessionHandle>> {
        // The map is whole at every point where a holder could panic.
        self.0.live.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub(super) fn new_session_id() -> Result<SessionId, SessionError> {
    let mut bytes = [0; 10];
    getrandom::fill(&mut bytes).map_err(|error| SessionError::Files {
        what: "can't get random bytes from",
        path: PathBuf::from("getrandom(2)"),
        source: error.into(),
    })?;
    Ok(SessionId::from_random(bytes))
}
