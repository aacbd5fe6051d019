//! Brings a session to where it takes turns: launched anew, or taken up where its container is gone; counted, adopted, listed.

use crate::codex::client::NetworkAccess;
use crate::codex::event::ThreadId;
use crate::obs::metrics::{Launch, Metrics};
use crate::redact::Redactor;
use crate::session::actor::{Actor, Bounds, QUEUE};
use crate::session::asked::Asked;
use crate::session::blocking::blocking;
use crate::session::copying::Copying;
use crate::session::decide;
use crate::session::error::{SessionError, SessionErrorKind};
use crate::session::ground::Ground;
use crate::session::handle::{LaunchReport, SessionHandle, Shared};
use crate::session::journal::SessionJournal;
use crate::session::launch::{self, Begun, Launched, Launching, UpInside};
use crate::session::ownership::may_see;
use crate::session::parking::{self, Resumption};
use crate::session::perils::Perils;
use crate::session::quota::Quota;
use crate::session::recover::recover;
use crate::session::registry::{Inner, Losses, Sessions, StartSession, Urgency};
use crate::session::stop_order::{StopOrder, StoppedBy};
use crate::session::stop_request;
use crate::session::store::now;
use crate::session::store::path_text::PathText;
use crate::session::store::record::RecordedWorkspace;
use crate::session::transcript::{Line, Transcript};
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

impl Sessions {
    /// Launches a container, proves it, starts Codex and a thread in it. Dropping the future gives the launch up.
    /// `copying` hears how far the copy of its folder is.
    pub async fn start(
        &self,
        start: StartSession,
        asked: Asked,
        copying: Copying,
    ) -> Result<SessionHandle, SessionError> {
        self.launched(|this, give_up| async move { this.begin(start, asked, copying, give_up).await })
            .await
    }

    /// The thread's session, with a container: the one it has, or a new one on the same home and workspace. Dropping the future
    /// gives the launch up.
    ///
    /// # Errors
    /// Besides those of a launch: nobody here has such a thread, another process has it, or it was lost too often.
    pub async fn take_up(
        &self,
        thread: &ThreadId,
        losses: Losses,
        asked: Asked,
    ) -> Result<SessionHandle, SessionError> {
        // One at a time: a second caller finds what the first one launched.
        let place = self.0.resuming.of(thread);
        let _mine = place.lock().await;
        // Somebody else's is looked for as one that is not there, which takes as long.
        let mine = |handle: &SessionHandle| may_see(asked.identity.as_ref(), handle.owner());
        if let Some(handle) = self.find(thread).filter(mine) {
            return Ok(handle);
        }
        let thread = thread.clone();
        self.launched(|this, give_up| async move { this.resume(&thread, losses, asked, give_up).await })
            .await
    }

    /// Runs a launch as a task of its own, so that one which is given up half-way still cleans up, and a shutdown waits for
    /// that.
    async fn launched<L>(
        &self,
        launch: impl FnOnce(Self, CancellationToken) -> L,
    ) -> Result<SessionHandle, SessionError>
    where
        L: Future<Output = Result<SessionHandle, SessionError>> + Send + 'static,
    {
        let give_up = self.0.closing.child_token();
        let _gives_up_when_dropped = give_up.clone().drop_guard();
        // Held from before the look, so that a shutdown can't finish between it and the task.
        let _counted = self.0.tasks.token();
        if self.0.stop.borrow().is_some() {
            return Err(SessionError::ShuttingDown);
        }
        let begun = Instant::now();
        let launching = self.0.tasks.spawn(launch(self.clone(), give_up));
        let launched = launching
            .await
            .unwrap_or_else(|stopped| std::panic::resume_unwind(stopped.into_panic()));
        count_launch(&launched, begun.elapsed());
        launched
    }

    async fn begin(
        &self,
        start: StartSession,
        asked: Asked,
        copying: Copying,
        give_up: CancellationToken,
    ) -> Result<SessionHandle, SessionError> {
        let audit = self.audit().await?;
        let deciding = async {
            tokio::select! {
                decided = self.decide(&start) => decided,
                () = give_up.cancelled() => Err(SessionError::ShuttingDown),
            }
        };
        let (ground, decided) = deciding.await?;
        ground.quota.admit_session().await?;
        let counted = Counted(Some(ground.quota.clone()));
        let (asked_by, owner) = (asked.by.to_string(), asked.identity.clone());
        let launching = Launching {
            journal: SessionJournal::new(audit, decided.plan.session.clone(), asked, 0),
            store: ground.store(),
            session: Begun::New { asked_by, owner },
            copying,
            start,
            decided,
        };
        let handle = self.launch(ground, launching, give_up).await?;
        counted.for_good();
        Ok(handle)
    }

    async fn resume(
        &self,
        thread: &ThreadId,
        losses: Losses,
        asked: Asked,
        give_up: CancellationToken,
    ) -> Result<SessionHandle, SessionError> {
        let audit = self.audit().await?;
        let ground = self.ground().await?;
        let store = ground.store();
        let wanted = thread.clone();
        let asker = asked.identity.clone();
        let restarts = self.0.config.sessions.restarts.value;
        let stored = blocking(move || {
            let session = store.of_thread_for(&wanted, asker.as_ref())?;
            let session = session.ok_or(SessionError::UnknownThread(wanted))?;
            let mut stored = store.open_soon(&session)?;
            let root = stored.directory.root();
            stop_request::withdraw(root).map_err(|source| SessionError::Files {
                what: "can't forget an earlier wish for its end in",
                path: root.to_owned(),
                source,
            })?;
            stored.settle(restarts)?;
            Ok::<_, SessionError>(stored)
        })
        .await?;
        let record = stored.record();
        ground.quota.admit_resumption(&record.spent).await?;
        match parking::resumption(record, restarts, now()) {
            Resumption::After(wait) => {
                tokio::select! {
                    () = tokio::time::sleep(wait) => {}
                    () = give_up.cancelled() => return Err(SessionError::ShuttingDown),
                    () = stop_request::made(stored.directory.root()) => {
                        return Err(SessionError::Stopped(record.session.clone()));
                    }
                }
            }
            Resumption::Refused { .. } if losses == Losses::Forgiven => {}
            Resumption::Refused { losses, why } => {
                return Err(SessionError::Failed {
                    session: record.session.clone(),
                    losses,
                    why,
                });
            }
        }
        // It was read when the record was.
        let start = record.start.read().ok_or(SessionError::UnknownThread(thread.clone()))?;
        let decided = decide::decide(&ground, &start, record.session.clone()).await?;
        let launching = Launching {
            journal: SessionJournal::new(audit, record.session.clone(), asked, record.turns),
            store: ground.store(),
            session: Begun::Resumed(Box::new(stored)),
            // It has its workspace.
            copying: Copying::unwatched(),
            start,
            decided,
        };
        self.launch(ground, launching, give_up).await
    }

    async fn launch(
        &self,
        ground: Arc<Ground>,
        launching: Launching,
        give_up: CancellationToken,
    ) -> Result<SessionHandle, SessionError> {
        // Before a copy of the folder is made.
        let recover = || recover(&self.0.config.state_dir.value, self.audit());
        self.0.recovered.get_or_init(recover).await;
        let sweeping = async {
            let sweep = self.0.swept.get_or_init(|| self.sweep(&ground));
            tokio::select! {
                _ = sweep => {}
                () = give_up.cancelled() => {}
            }
        };
        let mut stop = self.0.stop.subscribe();
        let hurry = async { _ = stop.wait_for(|asked| *asked == Some(Urgency::Immediate)).await };
        let launching = launch::launch(Arc::clone(&ground), launching, &give_up, hurry);
        let (launched, ()) = tokio::join!(launching, sweeping);
        let launched = launched?;
        let by = launched.known_to.refuser();
        let handle = self.adopt(&ground, launched, by).await?;
        let stopping = *self.0.stop.borrow();
        if give_up.is_cancelled() {
            // Whoever asked is gone, or the shutdown looked at the list before it was on it.
            let urgency = stopping.unwrap_or(Urgency::Graceful);
            handle.end(StopOrder { urgency, by }).await;
            return Err(SessionError::ShuttingDown);
        }
        Ok(handle)
    }

    /// `refuser` ends it where it can't be listed.
    async fn adopt(
        &self,
        ground: &Arc<Ground>,
        launched: Launched,
        refuser: StoppedBy,
    ) -> Result<SessionHandle, SessionError> {
        let Launched {
            plan,
            folder,
            kept,
            mode,
            known_to,
            journal,
            up,
        } = launched;
        let UpInside {
            proof,
            thread,
            client,
            events,
            questions,
            codex,
        } = up.inside;
        let notes = match kept.record().and_then(|record| record.workspace) {
            Some(RecordedWorkspace::Snapshot { notes, .. }) => notes,
            _ => Vec::new(),
        };
        let report = LaunchReport {
            session: plan.session.clone(),
            engine: format!("{} {}", plan.engine.kind, plan.engine.version),
            rootless: plan.engine.rootless,
            image: plan.image.id.clone(),
            workspace: PathText::of(&folder),
            mode,
            model: thread.model.one_line(128),
            limits: proof.limits,
            unenforced: plan.unenforced,
            notes,
            warnings: thread.warnings.iter().map(|warning| warning.one_line(500)).collect(),
        };
        let launch = report.clone();
        let noting = kept.update(move |record| record.launch = Some(launch)).await;
        let record = kept.record();
        let known_as = record
            .as_ref()
            .and_then(|record| record.thread.clone())
            .map_or(thread.thread.clone(), |thread| thread.id);
        let owner = record.as_ref().and_then(|record| record.owner.clone());
        let mut transcript = Transcript::append_to(kept.root(), Redactor::of_process());
        transcript.note(
            None,
            &Line::Launched {
                engine: report.engine.clone(),
                image: report.image.clone(),
            },
        );
        let (order, orders) = mpsc::channel(QUEUE);
        let (ended, has_ended) = watch::channel(None);
        let stop = watch::Sender::new(None);
        let limits = &self.0.config.limits;
        let actor = Actor {
            thread: thread.thread,
            perils: Perils {
                container: up.container,
                codex,
                disk: up.disk,
                stop: stop.subscribe(),
                kills_told: 0,
            },
            egress: up.egress,
            broker: up.broker,
            client,
            events,
            questions,
            network: match plan.network.policy.allows_nothing() {
                true => NetworkAccess::None,
                false => NetworkAccess::Some,
            },
            bounds: Bounds {
                turn: limits.turn.value,
                idle: limits.idle.value,
                restarts: self.0.config.sessions.restarts.value,
            },
            usage: record.as_ref().map(|record| record.usage).unwrap_or_default(),
            turns: record.as_ref().map_or(0, |record| record.turns),
            quota: ground.quota.clone(),
            spent: record.as_ref().map(|record| record.spent).unwrap_or_default(),
            workspace: up.workspace.clone(),
            apply: self.0.config.workspace.apply.value,
            interrupted: record.map(|record| record.interrupted).unwrap_or_default(),
            known_to,
            orders,
            ended,
            kept,
            transcript,
            journal: journal.clone(),
        };
        let handle = SessionHandle::new(Shared {
            thread: known_as.clone(),
            owner,
            report,
            orders: order,
            stop,
            ended: has_ended,
            workspace: up.workspace,
            journal,
        });
        let refused = match noting {
            Err(error) => Some(SessionError::from(error)),
            Ok(()) => self.list(&handle).err(),
        };
        if let Some(refused) = refused {
            handle.ask_to_stop(StopOrder {
                urgency: Urgency::Graceful,
                by: refuser,
            });
            actor.run().await;
            return Err(refused);
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

    /// Puts a session on the list.
    fn list(&self, handle: &SessionHandle) -> Result<(), SessionError> {
        let thread = handle.thread().clone();
        match self.lock().entry(thread.clone()) {
            // Its actor is just about to take it off.
            Entry::Occupied(mut place) if place.get().has_ended() => _ = place.insert(handle.clone()),
            Entry::Occupied(_) => return Err(SessionError::ThreadTaken(thread)),
            Entry::Vacant(place) => _ = place.insert(handle.clone()),
        }
        Ok(())
    }
}

fn count_launch(launched: &Result<SessionHandle, SessionError>, took: Duration) {
    let metrics = Metrics::of_process();
    metrics.launches.count(match launched {
        Ok(_) => {
            metrics.launch_seconds.observe(took);
            Launch::Up
        }
        Err(error) => match error.kind() {
            SessionErrorKind::Input => Launch::Input,
            SessionErrorKind::Configuration => Launch::Configuration,
            SessionErrorKind::Engine => Launch::Engine,
            SessionErrorKind::Image => Launch::Image,
            SessionErrorKind::Refused => Launch::Refused,
            SessionErrorKind::Provider => Launch::Provider,
            SessionErrorKind::Lost => Launch::Lost,
            SessionErrorKind::Internal => Launch::Internal,
        },
    });
}

/// A session that was counted, and is taken off the day's count again unless it comes up.
struct Counted(Option<Quota>);

impl Counted {
    fn for_good(mut self) {
        self.0 = None;
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        if let Some(quota) = &self.0 {
            quota.withdraw_session();
        }
    }
}

/// A lock a thread, for as long as anybody wants it.
#[derive(Default)]
pub(super) struct Places(Mutex<HashMap<ThreadId, Weak<tokio::sync::Mutex<()>>>>);

impl Places {
    fn of(&self, thread: &ThreadId) -> Arc<tokio::sync::Mutex<()>> {
        // The map is whole at every point where a holder could panic.
        let mut places = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        places.retain(|_, place| place.strong_count() > 0);
        if let Some(place) = places.get(thread).and_then(Weak::upgrade) {
            return place;
        }
        let place = Arc::default();
        places.insert(thread.clone(), Arc::downgrade(&place));
        place
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
