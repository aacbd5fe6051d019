//! Plan → container → `Ready` proven → Codex initialised → thread started, or taken up where the session has one.
//!
//! [`decide`] is what `codex-mcp plan` prints and makes nothing; [`launch`] does it. A launch that fails or is given up leaves
//! no container; of a new session it leaves nothing, and one that was there before stays as it was.

use crate::auth::broker::{SessionBroker, SessionTerms};
use crate::codex::approver::DeclineAll;
use crate::codex::client::{Client, Events, StartedThread};
use crate::codex::overrides::parse_operators;
use crate::codex::settings::{self, SessionConfig};
use crate::config::quantity::ModelId;
use crate::config::{CodexSettings, Config};
use crate::dial::trust;
use crate::egress::SessionEgress;
use crate::plan::identity::SessionId;
use crate::plan::launch::LaunchPlan;
use crate::plan::proof::Proof;
use crate::plan::request::{Request, WorkspaceRequest};
use crate::plan::secrets::planned;
use crate::session::blocking::blocking;
use crate::session::container::Container;
use crate::session::directory::Sealed;
use crate::session::disk::{Counted, DiskLimits, DiskWatch, Uncountable, Watched};
use crate::session::error::SessionError;
use crate::session::ground::Ground;
use crate::session::journal::{RecordedApprover, SessionJournal};
use crate::session::registry::StartSession;
use crate::session::secrets;
use crate::session::stop_request;
use crate::session::store::record::{Record, RecordedStart, RecordedThread, State};
use crate::session::store::stored::{Kept, StoredSession};
use crate::session::store::{Store, now};
use crate::session::workspace::SessionWorkspace;
use crate::wire::link::{Ending, LinkError};
use crate::wire::untrusted::Untrusted;
use crate::workspace::root;
use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// A plan, and the folder that it is for.
#[derive(Debug, Clone)]
pub struct Decided {
    pub plan: LaunchPlan,
    /// Canonical, on the host.
    pub folder: PathBuf,
    pub session_dir: PathBuf,
}

/// What is to be launched.
pub struct Launching {
    pub start: StartSession,
    pub decided: Decided,
    pub session: Begun,
    pub journal: SessionJournal,
}

/// The session that a container is for.
pub enum Begun {
    /// None of it is there yet.
    New { store: Store, asked_by: String },
    /// It is this process's already.
    Resumed(StoredSession),
}

/// Everything that lives as long as the session's container.
pub struct Launched {
    pub plan: LaunchPlan,
    pub proof: Proof,
    pub folder: PathBuf,
    pub kept: Kept,
    /// What it was when it was taken up; `None` for a new one.
    pub before: Option<Record>,
    pub workspace: SessionWorkspace,
    pub container: Container,
    pub disk: DiskWatch,
    pub egress: SessionEgress,
    pub broker: SessionBroker,
    pub thread: StartedThread,
    pub client: Client,
    pub events: Events,
    pub codex: Ending,
    pub journal: SessionJournal,
}

/// Decides what a launch would be. Changes nothing, but may ask engine and package clients.
pub async fn decide(ground: &Ground, start: &StartSession, session: SessionId) -> Result<Decided, SessionError> {
    let config = &ground.config;
    let surroundings = &ground.surroundings;
    check_model(&config.codex, start)?;
    // One configured root is where a call without a folder works; with several it has to say which.
    let default = match config.workspace.roots.value.as_slice() {
        [root] => Some(root.as_path()),
        _ => None,
    };
    let folder = root::choose(
        start.workspace.as_deref().or(default),
        &surroundings.started_in,
        surroundings.home.as_deref(),
        &config.workspace.roots,
    )?
    .into_path();
    let image = ground.image().await?;
    let packages = ground.packages().await?;
    let session_dir = config.state_dir.value.join("sessions").join(session.as_str());
    // Only then is the place looked at: a machine without one starts all sessions that need none.
    let secrets = match config.secrets.is_empty() {
        true => Vec::new(),
        false => {
            let runtime_dir = surroundings.variable("XDG_RUNTIME_DIR").map(Path::new);
            let place = secrets::place(config.secrets_dir.as_ref(), runtime_dir)?;
            planned(&config.secrets, &place.join(session.as_str()))
        }
    };
    let request = Request {
        session,
        secrets,
        workspace: WorkspaceRequest::Snapshot { folder: folder.clone() },
        access: start.access,
        network: start.network.clone(),
        session_dir: session_dir.clone(),
        guest_binary: ground.guest_binary.clone(),
    };
    let plan =
        crate::plan::plan(config, &request, &ground.facts, &image, packages).inspect_err(|_| ground.forget_image())?;
    Ok(Decided {
        plan,
        folder,
        session_dir,
    })
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
        decided: Decided { plan, folder, .. },
        session,
        journal,
    } = launching;
    let broker = tokio::select! {
        // A key may come from a command that takes its time.
        () = give_up.cancelled() => return Err(SessionError::ShuttingDown),
        broker = ground.broker.for_session(SessionTerms::of(&ground.config, Arc::new(journal.clone()))) => broker?,
    };
    let secrets = tokio::select! {
        () = give_up.cancelled() => return Err(SessionError::ShuttingDown),
        contents = secrets::read(&plan.secrets, &ground.secrets) => contents?,
    };
    let egress = ground.egress.for_session(
        plan.network.policy.clone(),
        plan.network.limits.clone(),
        Arc::new(journal.clone()),
    );
    let before = match &session {
        Begun::New { .. } => None,
        Begun::Resumed(stored) => Some(stored.record().clone()),
    };
    let prepare = Prepare {
        ground: Arc::clone(&ground),
        config: codex_config(&ground.config, &start, &plan)?,
        start: start.clone(),
        plan: plan.clone(),
        folder: folder.clone(),
        secrets,
        give_up: give_up.clone(),
    };
    if before.is_some() {
        // Whatever is left of its last container: two must never have the same files.
        ground.engine.remove([plan.name.as_str()]).await?;
    }
    let (stored, workspace) = blocking(move || prepare.all(session)).await?;
    let root = stored.directory.root().to_owned();
    let disk = disk_watch(&stored, &ground.config);
    let kept = Kept::new(stored);
    let mut disk = match disk {
        Ok(disk) => disk,
        Err(error) => {
            undo(kept, before).await;
            return Err(SessionError::Disk(error.into()));
        }
    };
    let mut container = match Container::start(Arc::clone(&ground), plan.clone(), &root).await {
        Ok(container) => container,
        Err(error) => {
            undo(kept, before).await;
            return Err(error);
        }
    };
    let up = ComingUp {
        kept: &kept,
        broker: &broker,
        egress: &egress,
        config: &ground.config,
        start: &start,
        journal: &journal,
    };
    let came_up = tokio::select! {
        biased;
        () = give_up.cancelled() => Err(SessionError::ShuttingDown),
        came_up = up.come_up(&mut container, &mut disk) => came_up,
    };
    match came_up {
        Ok(up) => Ok(Launched {
            plan,
            proof: up.proof,
            folder,
            kept,
            before,
            workspace,
            container,
            disk,
            egress,
            broker,
            thread: up.thread,
            client: up.client,
            events: up.events,
            codex: up.codex,
            journal,
        }),
        Err(error) => {
            ground.forget_image();
            container.stop(hurry).await;
            undo(kept, before).await;
            Err(error)
        }
    }
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

fn check_model(codex: &CodexSettings, start: &StartSession) -> Result<(), SessionError> {
    let Some(asked) = &start.model else { return Ok(()) };
    let mut allowed = codex.models.iter().chain(&codex.model);
    if codex.models.is_empty() || allowed.any(|model| model.value == asked.value) {
        return Ok(());
    }
    Err(SessionError::ModelNotAllowed {
        model: asked.value.clone(),
        allowed: codex.models.iter().chain(&codex.model).cloned().collect(),
    })
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

/// Makes the files that a container is started with.
struct Prepare {
    ground: Arc<Ground>,
    /// Codex's.
    config: String,
    start: StartSession,
    plan: LaunchPlan,
    folder: PathBuf,
    secrets: Vec<secrets::Content>,
    give_up: CancellationToken,
}

impl Prepare {
    /// Blocks. Leaves nothing of a new session where it fails.
    fn all(&self, session: Begun) -> Result<(StoredSession, SessionWorkspace), SessionError> {
        match session {
            Begun::New { store, asked_by } => {
                let start = RecordedStart::of(&self.start, &self.folder);
                let record = Record::begin(self.plan.session.clone(), asked_by, start, now());
                let stored = store.create(record)?;
                let filled = self.fill(&stored).and_then(|()| {
                    let (plan, config) = (&self.plan, &self.ground.config);
                    SessionWorkspace::fill(&stored.directory, plan, &self.folder, config, &self.give_up)
                });
                match filled {
                    Ok(workspace) => Ok((stored, workspace)),
                    Err(error) => {
                        stored.remove_or_warn();
                        Err(error)
                    }
                }
            }
            Begun::Resumed(mut stored) => {
                stored.directory.container_ended()?;
                stop_request::withdraw(stored.directory.root()).map_err(|source| self.failed(source))?;
                let filled = self
                    .fill(&stored)
                    .and_then(|()| SessionWorkspace::reopen(&stored.directory, stored.record()));
                match filled {
                    Ok(workspace) => {
                        stored
                            .update(|record| record.state = State::Live { turn: None })
                            .map_err(|source| self.failed(source))?;
                        Ok((stored, workspace))
                    }
                    Err(error) => {
                        stored.let_go_or_warn(|_| {});
                        Err(error)
                    }
                }
            }
        }
    }

    fn fill(&self, stored: &StoredSession) -> Result<(), SessionError> {
        let ca_bundle = self.plan.network.ca_bundle.as_deref().map(trust::pem).transpose()?;
        let contents = Sealed {
            config: &self.config,
            ca_bundle: ca_bundle.as_deref(),
            cargo_config: self.plan.network.cargo_config.as_deref(),
        };
        let sealed = stored.directory.seal(&contents, &self.plan.user);
        sealed.map_err(|source| self.failed(source))?;
        Ok(secrets::stage(stored.directory.root(), &self.secrets, &self.plan.user)?)
    }

    fn failed(&self, source: io::Error) -> SessionError {
        SessionError::Files {
            what: "can't make the session's files below",
            path: self.ground.config.state_dir.value.clone(),
            source,
        }
    }
}

/// What came up inside.
struct Up {
    proof: Proof,
    thread: StartedThread,
    client: Client,
    events: Events,
    codex: Ending,
}

/// What is there when a container's client has started.
struct ComingUp<'a> {
    kept: &'a Kept,
    broker: &'a SessionBroker,
    egress: &'a SessionEgress,
    config: &'a Config,
    start: &'a StartSession,
    journal: &'a SessionJournal,
}

impl ComingUp<'_> {
    /// Everything between the start of the client and the first turn.
    async fn come_up(&self, container: &mut Container, disk: &mut DiskWatch) -> Result<Up, SessionError> {
        // Counted while the engine works, and before anything untrusted can write.
        let (proven, counted) = tokio::join!(container.prove(self.broker, self.egress), disk.ready());
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
        let (client, events) = Client::connect(
            spawned.stream,
            Arc::new(RecordedApprover::new(DeclineAll, self.journal.clone())),
        );
        client.initialize().await?;
        let thread = thread(&client, self.kept, &plan.workspace_inside, self.start).await?;
        self.journal.thread_started(&thread)?;
        // Where nobody named one, nothing has run inside yet but Codex, which says what its default is.
        let model = named_model(self.config, self.start).map_or(thread.model.as_str(), ModelId::as_str);
        self.broker.begin(BTreeSet::from([model.to_owned()]));
        Ok(Up {
            proof,
            thread,
            client,
            events,
            codex: spawned.end,
        })
    }
}

fn disk_watch(stored: &StoredSession, config: &Config) -> Result<DiskWatch, Uncountable> {
    let files = &stored.directory.files;
    let everything = |path: &PathBuf| Watched {
        path: path.clone(),
        counted: Counted::Everything,
    };
    let limits = DiskLimits {
        bytes: config.limits.workspace.clone(),
        entries: config.workspace.max_files.clone(),
        free: config.workspace.free.clone(),
    };
    DiskWatch::new(&[everything(&files.workspace), everything(&files.codex_home)], limits)
}

/// Takes the session's thread up where Codex has kept it, and starts one where not. The thread goes by the id that clients
/// know.
async fn thread(client: &Client, kept: &Kept, cwd: &str, start: &StartSession) -> Result<StartedThread, SessionError> {
    let model = start.model.as_ref().map(|model| &model.value);
    let recorded = kept.record().and_then(|record| record.thread);
    let resumed = match &recorded {
        Some(recorded) => {
            client
                .resume_thread(&recorded.in_codex, cwd, &start.thread, model)
                .await?
        }
        None => None,
    };
    if let Some(thread) = resumed {
        return Ok(thread);
    }
    let mut thread = client.start_thread(cwd, &start.thread, model).await?;
    let in_codex = thread.thread.clone();
    let id = match recorded {
        Some(recorded) => {
            thread.warnings.push(Untrusted::new(NOT_KEPT));
            recorded.id
        }
        None => in_codex.clone(),
    };
    kept.update(move |record| record.thread = Some(RecordedThread { id, in_codex }))
        .await?;
    Ok(thread)
}

/// Said to whoever continues a thread that Codex has nothing of.
const NOT_KEPT: &str =
    "Codex had kept nothing of this thread's earlier turns: it goes on in the same workspace, without them";
