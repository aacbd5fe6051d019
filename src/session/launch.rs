//! Plan → container → `Ready` proven → Codex initialised → thread started, or taken up where the session has one.
//!
//! What is launched is decided in [`crate::session::decide`]; here it is done. A launch that fails or is given up leaves
//! no container; of a new session it leaves nothing, and one that was there before stays as it was.

use crate::auth::broker::{SessionBroker, SessionTerms};
use crate::codex::client::{Client, Events, StartedThread};
use crate::codex::overrides::parse_operators;
use crate::codex::settings::{self, SessionConfig};
use crate::config::identity::IdentityName;
use crate::config::quantity::ModelId;
use crate::config::{Config, WorkspaceMode};
use crate::dial::trust;
use crate::egress::SessionEgress;
use crate::egress::allowance::SessionBounds;
use crate::plan::launch::LaunchPlan;
use crate::plan::proof::Proof;
use crate::session::blocking::blocking;
use crate::session::container::Container;
use crate::session::copying::Copying;
use crate::session::decide::Decided;
use crate::session::directory::{Sealed, SessionDirectory};
use crate::session::disk::{Counted, DiskLimits, DiskWatch, Uncountable, Watched};
use crate::session::error::SessionError;
use crate::session::ground::Ground;
use crate::session::journal::{RecordedApprover, SessionJournal};
use crate::session::questions::Questions;
use crate::session::quota::SessionSpent;
use crate::session::registry::StartSession;
use crate::session::room;
use crate::session::secrets;
use crate::session::stop_order::KnownTo;
use crate::session::stop_request;
use crate::session::store::record::{Record, RecordedStart, State};
use crate::session::store::stored::{Kept, StoredSession};
use crate::session::store::{Store, now};
use crate::session::thread::ThreadOf;
use crate::session::workspace::{Filling, SessionWorkspace};
use crate::wire::link::{Ending, LinkError};
use crate::workspace::bind::placeholder;
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// What is to be launched.
pub struct Launching {
    pub start: StartSession,
    pub decided: Decided,
    pub store: Store,
    pub session: Begun,
    pub copying: Copying,
    pub journal: SessionJournal,
}

/// The session that a container is for.
pub enum Begun {
    /// None of it is there yet.
    New {
        asked_by: String,
        owner: Option<IdentityName>,
    },
    /// It is this process's already.
    Resumed(Box<StoredSession>),
}

/// Everything that lives as long as the session's container.
pub struct Launched {
    pub plan: LaunchPlan,
    pub folder: PathBuf,
    pub kept: Kept,
    pub mode: WorkspaceMode,
    pub known_to: KnownTo,
    pub journal: SessionJournal,
    pub up: Up,
}

/// What came up.
pub struct Up {
    pub workspace: SessionWorkspace,
    pub container: Container,
    pub disk: DiskWatch,
    pub egress: SessionEgress,
    pub broker: SessionBroker,
    pub inside: UpInside,
}

/// What came up in the container.
pub struct UpInside {
    pub proof: Proof,
    pub thread: StartedThread,
    pub client: Client,
    pub events: Events,
    pub questions: Questions,
    /// The app-server's process.
    pub codex: Ending,
}

/// Carries a decision out. `give_up` ends it at once, and `hurry` skips the graces of that end. The future
/// itself must be driven to its end: dropped half-way it would leave a container to the next sweep.
pub async fn launch(
    ground: Arc<Ground>,
    launching: Launching,
    give_up: &CancellationToken,
    hurry: impl Future<Output = ()> + Send,
) -> Result<Launched, SessionError> {
    let journal = launching.journal.clone();
    journal
        .launching(&launching.decided.plan, &launching.decided.folder)
        .await?;
    let launched = launch_recorded(ground, launching, give_up, hurry).await;
    if let Err(error) = &launched {
        journal.not_started(error).await;
    }
    launched
}

async fn launch_recorded(
    ground: Arc<Ground>,
    launching: Launching,
    give_up: &CancellationToken,
    hurry: impl Future<Output = ()> + Send,
) -> Result<Launched, SessionError> {
    let Launching {
        start,
        decided,
        store,
        session,
        copying,
        journal,
    } = launching;
    let before = match &session {
        Begun::New { .. } => None,
        Begun::Resumed(stored) => Some(stored.record().clone()),
    };
    if before.is_some() {
        // Whatever is left of its last container: two must never have the same files.
        ground.engine.remove([decided.plan.name.as_str()]).await?;
    }
    // Before any secret is read: there may be no room for it.
    let kept = take(&ground.config, &start, &decided, store.clone(), session).await?;
    let stopped = give_up.child_token();
    let up = ComingUp {
        kept: &kept,
        store: &store,
        ground: &ground,
        start: &start,
        decided: &decided,
        copying: &copying,
        journal: &journal,
        give_up: &stopped,
    };
    let spent = before.as_ref().map(|record| record.spent).unwrap_or_default();
    let coming_up = stop_request::obeyed(kept.root(), &stopped, up.come_up(&spent, hurry)).await;
    match coming_up {
        Ok(up) => Ok(Launched {
            plan: decided.plan,
            folder: decided.folder,
            kept,
            mode: decided.mode,
            known_to: match before {
                None => KnownTo::Starter,
                Some(_) => KnownTo::Callers,
            },
            journal,
            up,
        }),
        Err(error) => {
            undo(kept, before).await;
            // Where this server does not end, nothing else cancelled it.
            Err(match error {
                SessionError::ShuttingDown if !give_up.is_cancelled() => SessionError::Stopped(decided.plan.session),
                other => other,
            })
        }
    }
}

/// Makes the session's directory, or puts the one that there is in order for another container, where there is room for one more
/// that is live.
async fn take(
    config: &Arc<Config>,
    start: &StartSession,
    decided: &Decided,
    store: Store,
    session: Begun,
) -> Result<Kept, SessionError> {
    let config = Arc::clone(config);
    let start = RecordedStart::of(start, &decided.folder, decided.mode);
    let id = decided.plan.session.clone();
    blocking(move || {
        let failed = |source| SessionError::Files {
            what: "can't write the session's files below",
            path: config.state_dir.value.clone(),
            source,
        };
        room::take(&store, &id.clone(), &config.quota.sessions, || match session {
            Begun::New { asked_by, owner } => {
                let record = Record {
                    owner,
                    ..Record::begin(id, asked_by, start, now())
                };
                Ok(Kept::new(store.create(record)?))
            }
            Begun::Resumed(mut stored) => {
                stored.container_ended()?;
                stored
                    .update(|record| record.state = State::Live { turn: None })
                    .map_err(failed)?;
                Ok(Kept::new(*stored))
            }
        })
    })
    .await
}

/// A session that never came up holds nobody's work; one that had before does.
async fn undo(kept: Kept, before: Option<Record>) {
    blocking(move || {
        let Some(stored) = kept.take() else { return };
        match before {
            None => stored.remove_or_warn(),
            Some(before) => stored.let_go_or_warn(|record| record.state = before.state),
        }
    })
    .await;
}

/// `None`: the choice is Codex's.
fn named_model<'a>(config: &'a Config, start: &'a StartSession) -> Option<&'a ModelId> {
    let named = start.model.as_ref().or(config.codex.model.as_ref());
    named.map(|model| &model.value)
}

fn codex_config(config: &Config, start: &StartSession, plan: &LaunchPlan) -> Result<String, SessionError> {
    let rendered = settings::render(&SessionConfig {
        model_port: plan.guest.model_port,
        model: named_model(config, start),
        effort: config.codex.effort.as_ref().map(|effort| effort.value),
        web_search: config.codex.web_search.value,
        overrides: &parse_operators(&config.codex.config)?,
        command_environment: &plan.network.command_environment,
    })?;
    Ok(rendered)
}

/// What the container sees read-only, and its secrets.
struct Files {
    /// Codex's configuration.
    config: String,
    secrets: Vec<secrets::Content>,
}

/// What is there when a session's directory is.
struct ComingUp<'a> {
    kept: &'a Kept,
    store: &'a Store,
    ground: &'a Arc<Ground>,
    start: &'a StartSession,
    decided: &'a Decided,
    copying: &'a Copying,
    journal: &'a SessionJournal,
    give_up: &'a CancellationToken,
}

impl ComingUp<'_> {
    /// Everything from the session's directory to its thread. Leaves no container where it fails.
    async fn come_up(&self, spent: &SessionSpent, hurry: impl Future<Output = ()> + Send) -> Result<Up, SessionError> {
        let plan = &self.decided.plan;
        let broker = self.broker(spent).await?;
        let secrets = tokio::select! {
            () = self.give_up.cancelled() => return Err(SessionError::ShuttingDown),
            contents = secrets::read(&plan.secrets, &self.ground.secrets) => contents?,
        };
        let egress = self.egress(spent);
        let files = Files {
            config: codex_config(&self.ground.config, self.start, plan)?,
            secrets,
        };
        self.seal(files).await?;
        let directory = SessionDirectory::at(self.kept.root());
        let workspace = self.workspace(&directory).await?;
        let mut disk = disk_watch(&directory, self.decided, &self.ground.config)
            .map_err(|error| SessionError::Disk(error.into()))?;
        let mut container = Container::start(Arc::clone(self.ground), plan.clone(), directory.root()).await?;
        let came_up = tokio::select! {
            biased;
            () = self.give_up.cancelled() => Err(SessionError::ShuttingDown),
            came_up = self.inside(&mut container, &mut disk, &broker, &egress) => came_up,
        };
        match came_up {
            Ok(inside) => Ok(Up {
                workspace,
                container,
                disk,
                egress,
                broker,
                inside,
            }),
            Err(error) => {
                self.ground.forget_image();
                container.stop(hurry).await;
                Err(error)
            }
        }
    }

    async fn broker(&self, spent: &SessionSpent) -> Result<SessionBroker, SessionError> {
        let terms = SessionTerms {
            before: spent.model,
            purse: Some(self.ground.quota.purse()),
            ..SessionTerms::of(&self.ground.config, Arc::new(self.journal.clone()))
        };
        tokio::select! {
            // A key may come from a command that takes its time.
            () = self.give_up.cancelled() => Err(SessionError::ShuttingDown),
            broker = self.ground.broker.for_session(terms) => Ok(broker?),
        }
    }

    fn egress(&self, spent: &SessionSpent) -> SessionEgress {
        let network = &self.decided.plan.network;
        self.ground.egress.for_session(
            network.policy.clone(),
            SessionBounds::new(
                network.limits.clone(),
                &self.ground.config.quota.session,
                spent.egress_bytes,
                self.ground.quota.allowance(),
            ),
            Arc::new(self.journal.clone()),
        )
    }

    /// What the container sees read-only, its secrets, and what has to lie in the user's folder.
    async fn seal(&self, files: Files) -> Result<(), SessionError> {
        let plan = &self.decided.plan;
        if let Some((record, owner)) = self.decided.placeholders.clone() {
            let planned = Some(record.clone());
            // On record first: whatever ends this process from here on, they are found.
            self.kept.update(move |record| record.placeholders = planned).await?;
            let made = blocking(move || placeholder::make(record, (owner.uid, owner.gid))).await?;
            self.kept.lay(made);
        }
        let directory = SessionDirectory::at(self.kept.root());
        let ca_bundle = plan.network.ca_bundle.as_deref().map(trust::pem).transpose()?;
        let (cargo_config, user) = (plan.network.cargo_config.clone(), plan.user.clone());
        blocking(move || {
            let contents = Sealed {
                config: &files.config,
                ca_bundle: ca_bundle.as_deref(),
                cargo_config: cargo_config.as_deref(),
            };
            directory.seal(&contents, &user).map_err(|source| SessionError::Files {
                what: "can't write what a container sees read-only in",
                path: directory.root().to_owned(),
                source,
            })?;
            Ok(secrets::stage(directory.root(), &files.secrets, &user)?)
        })
        .await
    }

    /// The session's workspace, filled where it is not yet.
    async fn workspace(&self, directory: &SessionDirectory) -> Result<SessionWorkspace, SessionError> {
        let (git, config, decided) = (self.ground.git()?, &self.ground.config, self.decided);
        let is_filled = |record: &Record| record.workspace.is_some();
        if !self.kept.record().as_ref().is_some_and(is_filled) {
            let filling = Filling {
                git,
                config,
                files: &directory.files,
                folder: &decided.folder,
                user: &decided.plan.user,
                copying: self.copying,
                cancel: self.give_up,
            };
            let filled = filling.fill(decided.mode).await?;
            self.kept.update(move |record| record.workspace = Some(filled)).await?;
        }
        let record = self.kept.record().ok_or(SessionError::ShuttingDown)?;
        SessionWorkspace::open(git, config, &directory.files, &record)
    }

    /// Everything between the start of the client and the first turn.
    async fn inside(
        &self,
        container: &mut Container,
        disk: &mut DiskWatch,
        broker: &SessionBroker,
        egress: &SessionEgress,
    ) -> Result<UpInside, SessionError> {
        // Counted while the engine works, and before anything untrusted can write.
        let (proven, counted) = tokio::join!(container.prove(broker, egress), disk.ready());
        let (link, proof) = proven?;
        counted.map_err(SessionError::Disk)?;
        self.journal.limits_proven(&proof)?;
        let plan = container.plan();
        let spawned = link.spawn(&plan.codex).await.map_err(|error| match error {
            LinkError::Spawn(reason) => SessionError::CodexMissing {
                image: plan.image.reference.clone(),
                reason: reason.one_line(300),
            },
            other => SessionError::Link(other),
        })?;
        let questions = Questions::default();
        let (client, events) = Client::connect(
            spawned.stream,
            Arc::new(RecordedApprover::new(questions.clone(), self.journal.clone())),
        );
        client.initialize().await?;
        let session = ThreadOf {
            kept: self.kept,
            store: self.store,
            session: &plan.session,
        };
        let thread = session.begin(&client, &plan.workspace_inside, self.start).await?;
        self.journal.thread_started(&thread)?;
        // Where nobody named one, nothing has run inside yet but Codex, which says what its default is.
        let model = named_model(&self.ground.config, self.start).map_or(thread.model.as_str(), ModelId::as_str);
        broker.begin(BTreeSet::from([model.to_owned()]));
        Ok(UpInside {
            proof,
            thread,
            client,
            events,
            questions,
            codex: spawned.end,
        })
    }
}

fn disk_watch(directory: &SessionDirectory, decided: &Decided, config: &Config) -> Result<DiskWatch, Uncountable> {
    let limits = DiskLimits {
        bytes: config.limits.workspace.clone(),
        entries: config.workspace.max_files.clone(),
        free: config.workspace.free.clone(),
    };
    let home = Watched {
        path: directory.files.codex_home.clone(),
        counted: Counted::Everything,
    };
    let workspace = match decided.mode {
        WorkspaceMode::Bind => Watched {
            path: decided.folder.clone(),
            counted: Counted::Growth,
        },
        WorkspaceMode::Snapshot | WorkspaceMode::Scratch => Watched {
            path: directory.files.workspace.clone(),
            counted: Counted::Everything,
        },
    };
    DiskWatch::new(&[workspace, home], limits)
}
