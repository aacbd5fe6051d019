//! All sessions of this process: start one, find one by its thread, end them all.

use crate::audit::Journal;
use crate::audit::journal::Sizes;
use crate::codex::client::{NetworkAccess, ThreadSettings};
use crate::codex::event::{ThreadId, Usage};
use crate::config::quantity::ModelId;
use crate::config::rule::Rule;
use crate::config::{Config, Sourced};
use crate::plan::decide::SessionFiles;
use crate::plan::identity::SessionId;
use crate::plan::request::WorkspaceAccess;
use crate::redact::Redactor;
use crate::session::actor::{Actor, QUEUE};
use crate::session::asked::Asked;
use crate::session::error::SessionError;
use crate::session::ground::Ground;
use crate::session::handle::{LaunchReport, SessionHandle, Shared};
use crate::session::journal::SessionJournal;
use crate::session::launch::{self, Decided, Launched};
use crate::session::surroundings::Surroundings;
use crate::session::sweep;
use crate::session::workspace_copy::WorkspaceCopy;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{OnceCell, mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// What a new session is started with. Everything here was parsed and checked for shape by the caller.
#[derive(Debug, Clone)]
pub struct StartSession {
    /// The folder to work on, as asked for; relative to the folder this process was started in. `None`: that folder.
    pub workspace: Option<PathBuf>,
    pub access: WorkspaceAccess,
    pub model: Option<Sourced<ModelId>>,
    /// What the call narrows the network to; `None`: what the operator allowed.
    pub network: Option<Vec<Rule>>,
    pub thread: ThreadSettings,
}

/// How long the end of this process waits for the answer to a refresh of the ChatGPT login.
const LOGIN_SETTLES: Duration = Duration::from_secs(5);

/// How hurried an end is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Urgency {
    Graceful,
    /// A second signal: skip every grace period.
    Immediate,
}

#[derive(Clone)]
pub struct Sessions(Arc<Inner>);

struct Inner {
    config: Arc<Config>,
    surroundings: Arc<Surroundings>,
    ground: OnceCell<Arc<Ground>>,
    swept: OnceCell<()>,
    /// Begun when the first session is asked for.
    audit: OnceCell<Journal>,
    live: Mutex<HashMap<ThreadId, SessionHandle>>,
    /// Launches and actors; closed when nothing more may start.
    tasks: TaskTracker,
    stop: watch::Sender<Option<Urgency>>,
    /// Cancelled with the first word of `stop`: launches under way are given up.
    closing: CancellationToken,
}

impl Sessions {
    /// Touches nothing yet: the engine is looked for when the first session starts.
    pub fn new(config: Arc<Config>, surroundings: Arc<Surroundings>) -> Self {
        Self(Arc::new(Inner {
            config,
            surroundings,
            ground: OnceCell::new(),
            swept: OnceCell::new(),
            audit: OnceCell::new(),
            live: Mutex::default(),
            tasks: TaskTracker::new(),
            stop: watch::Sender::new(None),
            closing: CancellationToken::new(),
        }))
    }

    /// What [`Self::start`] would launch, without doing it.
    pub async fn decide(&self, start: &StartSession) -> Result<(Arc<Ground>, Decided), SessionError> {
        let ground = self.ground().await?;
        let decided = launch::decide(&ground, start, new_session_id()?).await?;
        Ok((ground, decided))
    }

    /// Launches a container, proves it, starts Codex and a thread in it. Dropping the future gives the launch up.
    pub async fn start(&self, start: StartSession, asked: Asked) -> Result<SessionHandle, SessionError> {
        let give_up = self.0.closing.child_token();
        let _gives_up_when_dropped = give_up.clone().drop_guard();
        // Held from before the look, so that a shutdown can't finish between it and the task.
        let _counted = self.0.tasks.token();
        if self.0.stop.borrow().is_some() {
            return Err(SessionError::ShuttingDown);
        }
        // A task of its own, so that a launch which is given up half-way still cleans up, and a shutdown waits for that.
        let this = self.clone();
        let launching = self
            .0
            .tasks
            .spawn(async move { this.launch(&start, asked, give_up).await });
        launching
            .await
            .unwrap_or_else(|stopped| std::panic::resume_unwind(stopped.into_panic()))
    }

    async fn launch(
        &self,
        start: &StartSession,
        asked: Asked,
        give_up: CancellationToken,
    ) -> Result<SessionHandle, SessionError> {
        let audit = self.audit().await?;
        let deciding = async {
            tokio::select! {
                decided = self.decide(start) => decided,
                () = give_up.cancelled() => Err(SessionError::ShuttingDown),
            }
        };
        let (ground, decided) = deciding.await?;
        let session_dir = decided.session_dir.clone();
        let journal = SessionJournal::new(audit, decided.plan.session.clone(), asked);
        let sweeping = async {
            let sweep = self.0.swept.get_or_init(|| self.sweep(&ground));
            tokio::select! {
                _ = sweep => {}
                () = give_up.cancelled() => {}
            }
        };
        let mut stop = self.0.stop.subscribe();
        let hurry = async { _ = stop.wait_for(|asked| *asked == Some(Urgency::Immediate)).await };
        let launching = launch::launch(Arc::clone(&ground), start, decided, journal, &give_up, hurry);
        let (launched, ()) = tokio::join!(launching, sweeping);
        let handle = self.adopt(launched?, &session_dir).await?;
        let stopping = *self.0.stop.borrow();
        if give_up.is_cancelled() {
            // Nobody will ever know its thread, or the shutdown looked at the list before it was on it.
            handle.stop(stopping.unwrap_or(Urgency::Graceful)).await;
            return Err(SessionError::ShuttingDown);
        }
        Ok(handle)
    }

    async fn sweep(&self, ground: &Arc<Ground>) {
        let look = |ground: Arc<Ground>| async move {
            sweep::sweep(&ground.engine, &ground.config.state_dir.value, &ground.facts.owner).await;
        };
        look(Arc::clone(ground)).await;
        if sweep::needs_second_look(&ground.engine) {
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
                        () = look(ground) => {}
                    }
                }
            });
        }
    }

    async fn adopt(&self, launched: Launched, session_dir: &Path) -> Result<SessionHandle, SessionError> {
        let Launched {
            plan,
            proof,
            folder,
            manifest,
            container,
            egress,
            broker,
            thread,
            client,
            events,
            codex,
            journal,
        } = launched;
        let copy = SessionFiles::below(session_dir).workspace;
        let copy = Arc::new(WorkspaceCopy::new(manifest, folder.clone(), copy));
        let (order, orders) = mpsc::channel(QUEUE);
        let (ended, has_ended) = watch::channel(None);
        let stop = watch::Sender::new(None);
        let report = LaunchReport {
            session: plan.session.clone(),
            engine: format!("{} {}", plan.engine.kind, plan.engine.version),
            rootless: plan.engine.rootless,
            image: plan.image.id.clone(),
            workspace: folder,
            model: thread.model.one_line(128),
            limits: proof.limits,
            unenforced: plan.unenforced,
            warnings: thread.warnings.iter().map(|warning| warning.one_line(500)).collect(),
        };
        let actor = Actor {
            thread: thread.thread.clone(),
            container,
            egress,
            broker,
            client,
            events,
            codex,
            network: match plan.network.policy.allows_nothing() {
                true => NetworkAccess::None,
                false => NetworkAccess::Some,
            },
            turn_limit: self.0.config.limits.turn.value,
            usage: Usage::default(),
            orders,
            stop: stop.subscribe(),
            ended,
            copy: Arc::clone(&copy),
            journal: journal.clone(),
            state_dir: self.0.config.state_dir.value.clone(),
        };
        let handle = SessionHandle::new(Shared {
            thread: thread.thread.clone(),
            report,
            orders: order,
            stop,
            ended: has_ended,
            copy,
            journal,
        });
        // The id was chosen inside the container: a hostile one must not take another's place.
        let taken = match self.lock().entry(thread.thread.clone()) {
            Entry::Occupied(_) => true,
            Entry::Vacant(place) => {
                place.insert(handle.clone());
                false
            }
        };
        if taken {
            handle.ask_to_stop(Urgency::Graceful);
            actor.run().await;
            return Err(SessionError::ThreadTaken(thread.thread));
        }
        let listed = Listed {
            inner: Arc::clone(&self.0),
            handle: handle.clone(),
        };
        self.0.tasks.spawn(async move {
            let _listed = listed;
            actor.run().await;
        });
        Ok(handle)
    }

    pub fn find(&self, thread: &ThreadId) -> Option<SessionHandle> {
        self.lock().get(thread).cloned()
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
            ending.spawn(async move { handle.stop(urgency).await });
        }
        ending.join_all().await;
        self.0.tasks.close();
        self.0.tasks.wait().await;
        if let Some(ground) = self.0.ground.get()
            && tokio::time::timeout(LOGIN_SETTLES, ground.settle()).await.is_err()
        {
            tracing::warn!("an exchange of the ChatGPT login is given up; it may have to be made anew: codex login");
        }
        if let Some(audit) = self.0.audit.get().cloned() {
            // Where the blocking pool is gone, so is the process.
            let _ = tokio::task::spawn_blocking(move || audit.end()).await;
        }
    }

    async fn audit(&self) -> Result<Journal, SessionError> {
        let begin = || async {
            let config = Arc::clone(&self.0.config);
            let beginning = tokio::task::spawn_blocking(move || {
                let sizes = Sizes {
                    file: config.audit.file_size.value.bytes(),
                    keep: config.audit.keep.value.bytes(),
                };
                Journal::begin(&config.state_dir.value, sizes, Redactor::of_process())
            });
            beginning
                .await
                .unwrap_or_else(|stopped| std::panic::resume_unwind(stopped.into_panic()))
        };
        // A failure to begin is not remembered: the operator may make room and try again.
        Ok(self.0.audit.get_or_try_init(begin).await?.clone())
    }

    async fn ground(&self) -> Result<Arc<Ground>, SessionError> {
        let find = || async {
            Ground::find(Arc::clone(&self.0.config), Arc::clone(&self.0.surroundings))
                .await
                .map(Arc::new)
        };
        // A failure is not remembered: the operator may start the engine and try again.
        self.0.ground.get_or_try_init(find).await.cloned()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<ThreadId, SessionHandle>> {
        // The map is whole at every point where a holder could panic.
        self.0.live.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes a session off the list when its actor is done, or panicked.
struct Listed {
    inner: Arc<Inner>,
    handle: SessionHandle,
}

impl Drop for Listed {
    fn drop(&mut self) {
        let mut live = self.inner.live.lock().unwrap_or_else(PoisonError::into_inner);
        if live
            .get(self.handle.thread())
            .is_some_and(|listed| listed.is_same(&self.handle))
        {
            live.remove(self.handle.thread());
        }
    }
}

fn new_session_id() -> Result<SessionId, SessionError> {
    let mut bytes = [0; 10];
    getrandom::fill(&mut bytes).map_err(|error| SessionError::Files {
        what: "can't get random bytes from",
        path: PathBuf::from("getrandom(2)"),
        source: error.into(),
    })?;
    Ok(SessionId::from_random(bytes))
}
