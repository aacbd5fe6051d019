//! Plan → container → `Ready` proven → Codex initialised → thread started.
//!
//! [`decide`] is what `codex-mcp plan` prints and makes nothing; [`launch`] does it. A launch that fails or is given up
//! leaves no container, directory or half-copied workspace behind.

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
use crate::session::container::Container;
use crate::session::directory::{Sealed, SessionDirectory};
use crate::session::error::SessionError;
use crate::session::ground::Ground;
use crate::session::journal::{RecordedApprover, SessionJournal};
use crate::session::registry::StartSession;
use crate::session::secrets;
use crate::wire::link::{Ending, LinkError};
use crate::workspace::copy::{self, CopyLimits, CopyOwner, Skipped};
use crate::workspace::manifest::Manifest;
use crate::workspace::root;
use std::collections::BTreeSet;
use std::ops::ControlFlow;
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

/// Everything that lives as long as the session's container.
pub struct Launched {
    pub plan: LaunchPlan,
    pub proof: Proof,
    pub folder: PathBuf,
    pub manifest: Arc<Manifest>,
    pub container: Container,
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
    start: &StartSession,
    decided: Decided,
    journal: SessionJournal,
    give_up: &CancellationToken,
    hurry: impl Future<Output = ()> + Send,
) -> Result<Launched, SessionError> {
    journal.launching(&decided.plan, &decided.folder).await?;
    let launched = launch_recorded(ground, start, decided, &journal, give_up, hurry).await;
    if let Err(error) = &launched {
        journal.not_started(error).await;
    }
    launched
}

async fn launch_recorded(
    ground: Arc<Ground>,
    start: &StartSession,
    decided: Decided,
    journal: &SessionJournal,
    give_up: &CancellationToken,
    hurry: impl Future<Output = ()> + Send,
) -> Result<Launched, SessionError> {
    let Decided { plan, folder, .. } = decided;
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
    let (directory, manifest) = make_directory(&ground, start, &plan, &folder, secrets, give_up.clone()).await?;
    let mut container = Container::start(Arc::clone(&ground), plan.clone(), directory).await?;
    let came_up = tokio::select! {
        biased;
        () = give_up.cancelled() => Err(SessionError::ShuttingDown),
        came_up = come_up(&mut container, &broker, &egress, &ground.config, start, journal) => came_up,
    };
    match came_up {
        Ok(up) => Ok(Launched {
            plan,
            proof: up.proof,
            folder,
            manifest,
            container,
            egress,
            broker,
            thread: up.thread,
            client: up.client,
            events: up.events,
            codex: up.codex,
            journal: journal.clone(),
        }),
        Err(error) => {
            ground.forget_image();
            container.stop(hurry).await;
            container.remove_files().await;
            Err(error)
        }
    }
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

async fn make_directory(
    ground: &Arc<Ground>,
    start: &StartSession,
    plan: &LaunchPlan,
    folder: &Path,
    secrets: Vec<secrets::Content>,
    give_up: CancellationToken,
) -> Result<(SessionDirectory, Arc<Manifest>), SessionError> {
    let config = settings::render(&SessionConfig {
        model_port: plan.guest.model_port,
        model: named_model(&ground.config, start),
        effort: ground.config.codex.effort.as_ref().map(|effort| effort.value),
        web_search: ground.config.codex.web_search.value,
        overrides: &parse_operators(&ground.config.codex.config)?,
        command_environment: &plan.network.command_environment,
    })?;
    let (ground, plan, folder) = (Arc::clone(ground), plan.clone(), folder.to_owned());
    let making = tokio::task::spawn_blocking(move || {
        let state_dir = &ground.config.state_dir.value;
        let failed = |source| SessionError::Files {
            what: "can't make the session's directory below",
            path: state_dir.clone(),
            source,
        };
        let ca_bundle = plan.network.ca_bundle.as_deref().map(trust::pem).transpose()?;
        let directory = SessionDirectory::create(state_dir, &plan.session, &plan.owner).map_err(failed)?;
        let limits = CopyLimits {
            bytes: ground.config.limits.workspace.clone(),
            files: ground.config.workspace.max_files.clone(),
        };
        let owner = CopyOwner::User {
            uid: plan.user.host_uid,
            gid: plan.user.host_gid,
        };
        let mut progress = |_| match give_up.is_cancelled() {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        };
        let contents = Sealed {
            config: &config,
            ca_bundle: ca_bundle.as_deref(),
            cargo_config: plan.network.cargo_config.as_deref(),
        };
        let filled = directory.seal(&contents, &plan.user).map_err(failed).and_then(|()| {
            secrets::stage(directory.root(), &secrets, &plan.user)?;
            Ok(copy::copy(
                &folder,
                &directory.files.workspace,
                &limits,
                owner,
                &mut progress,
            )?)
        });
        match filled {
            Ok(copied) => {
                if copied.skipped != Skipped::default() {
                    tracing::info!(skipped = ?copied.skipped, "parts of the folder were not copied");
                }
                Ok((directory, Arc::new(copied.manifest)))
            }
            Err(error) => {
                directory.remove_or_warn();
                Err(error)
            }
        }
    });
    making
        .await
        .unwrap_or_else(|stopped| std::panic::resume_unwind(stopped.into_panic()))
}

/// What came up inside.
struct Up {
    proof: Proof,
    thread: StartedThread,
    client: Client,
    events: Events,
    codex: Ending,
}

/// Everything between the start of the client and the first turn.
async fn come_up(
    container: &mut Container,
    broker: &SessionBroker,
    egress: &SessionEgress,
    config: &Config,
    start: &StartSession,
    journal: &SessionJournal,
) -> Result<Up, SessionError> {
    let (link, proof) = container.prove(broker, egress).await?;
    journal.limits_proven(&proof)?;
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
        Arc::new(RecordedApprover::new(DeclineAll, journal.clone())),
    );
    client.initialize().await?;
    let model = start.model.as_ref().map(|model| &model.value);
    let thread = client
        .start_thread(&plan.workspace_inside, &start.thread, model)
        .await?;
    container.record_thread(&thread.thread)?;
    journal.thread_started(&thread)?;
    // Where nobody named one, nothing has run inside yet but Codex, which says what its default is.
    let model = named_model(config, start).map_or(thread.model.as_str(), ModelId::as_str);
    broker.begin(BTreeSet::from([model.to_owned()]));
    Ok(Up {
        proof,
        thread,
        client,
        events,
        codex: spawned.end,
    })
}
