//! Why a session could not start, or ended.
//!
//! Each text is shown to a person or a calling model as it is: it says what happened and what mends it. The kinds
//! below are what the exit code and the tool result are made from, so nobody has to read the text.

use crate::audit::{Failure, NotRecorded};
use crate::auth::broker::BrokerError;
use crate::codex::error::ClientError;
use crate::codex::event::ThreadId;
use crate::codex::overrides::OperatorsOverrideError;
use crate::codex::settings::TemplateError;
use crate::config::quantity::{ModelId, Period};
use crate::config::{Sourced, WorkspaceMode};
use crate::dial::trust::TrustError;
use crate::engine::client::EngineError;
use crate::host::packages::PackagesError;
use crate::host::probe::ProbeError;
use crate::plan::PlanError;
use crate::plan::identity::SessionId;
use crate::plan::proof::Refusal;
use crate::session::disk::DiskVerdict;
use crate::session::quota::{QuotaError, Unstarted};
use crate::session::secrets::SecretsError;
use crate::session::store::StoreError;
use crate::session::store::record::RecordFlaw;
use crate::session::upkeep::UpkeepError;
use crate::supervise::spawner::SpawnError;
use crate::wire::link::LinkError;
use crate::workspace::apply::ApplyError;
use crate::workspace::bind::BindError;
use crate::workspace::bind::placeholder::PlaceholderError;
use crate::workspace::bounds::CopyError;
use crate::workspace::git::run::GitError;
use crate::workspace::removal::RemovalError;
use crate::workspace::root::RootError;
use crate::workspace::shadow::ShadowError;
use crate::workspace::snapshot::SnapshotError;
use crate::workspace::tree::TreeError;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    #[error("this server is shutting down and starts nothing more")]
    ShuttingDown,
    #[error(
        "session {0} was stopped while it was being started (`codex-mcp sessions stop`); where it was there before, the next reply \
         starts it again"
    )]
    Stopped(SessionId),
    #[error(transparent)]
    Probe(Arc<ProbeError>),
    #[error(transparent)]
    Engine(#[from] EngineError),
    #[error(transparent)]
    Plan(#[from] PlanError),
    #[error(transparent)]
    Root(#[from] RootError),
    #[error(
        "the model `{model}` may not be chosen here; codex.models has {}", listed(.allowed)
    )]
    ModelNotAllowed {
        model: ModelId,
        allowed: Vec<Sourced<ModelId>>,
    },
    #[error(
        "a call can't have the folder itself (`bind`): workspace.mode = \"{}\" ({})", word(.configured.value), .configured.origin
    )]
    ModeNotAllowed { configured: Sourced<WorkspaceMode> },
    #[error(transparent)]
    Bind(#[from] BindError),
    #[error(transparent)]
    Placeholder(#[from] PlaceholderError),
    #[error(transparent)]
    Snapshot(SnapshotError),
    #[error(transparent)]
    Shadow(#[from] ShadowError),
    #[error(transparent)]
    Git(#[from] GitError),
    #[error(transparent)]
    Apply(#[from] ApplyError),
    #[error("session {0} has no workspace: its start never got that far; `codex-mcp sessions rm {0}` removes it")]
    NotFilled(SessionId),
    #[error("there is no folder to bring the changes to: the session works on an empty one of its own (`scratch`)")]
    NothingToApplyTo,
    #[error(
        "what changed could not be described within {} s: there is too much of it; it stays with the session", .0.as_secs()
    )]
    ComparedTooLong(Duration),
    #[error("there is nothing to compare or to bring back: the session works on the folder itself (`bind`)")]
    NothingCompared,
    #[error(transparent)]
    Tree(#[from] TreeError),
    #[error(transparent)]
    Broker(#[from] BrokerError),
    #[error(transparent)]
    Trust(#[from] TrustError),
    #[error(transparent)]
    Packages(#[from] PackagesError),
    #[error(transparent)]
    Secrets(#[from] SecretsError),
    #[error("{what} {}: {source}", path.display())]
    Files {
        what: &'static str,
        path: PathBuf,
        source: io::Error,
    },
    #[error(transparent)]
    Spawn(#[from] SpawnError),
    /// The engine's client ended before the guest spoke.
    #[error("{engine} did not start the container{}", last_words(.stderr))]
    NotStarted { engine: String, stderr: String },
    #[error(
        "the container did not report ready within {} s; {engine} may be overloaded: try again, or look at \
         `{engine} ps -a`",
        .limit.as_secs()
    )]
    ReadyTimeout { engine: String, limit: Duration },
    #[error(transparent)]
    Link(LinkError),
    #[error(transparent)]
    Unproven(#[from] Refusal),
    /// The image has the right labels and not the program.
    #[error(
        "the image {image} has no working Codex: {reason}.\n\
         Look at it with `codex-mcp image verify {image}`, or build it anew with `codex-mcp image build --rebuild`."
    )]
    CodexMissing { image: String, reason: String },
    #[error(transparent)]
    Template(#[from] TemplateError),
    #[error(transparent)]
    CodexConfig(#[from] OperatorsOverrideError),
    #[error(transparent)]
    Codex(#[from] ClientError),
    #[error(transparent)]
    Unrecorded(#[from] NotRecorded),
    /// Its container is gone in the middle of a turn; says why, as far as it is known.
    #[error("the turn was interrupted: {0}")]
    Ended(EndReason),
    /// Its container was gone before the turn began, which may be asked for again.
    #[error("the session's container is gone: {0}")]
    NotBegun(EndReason),
    /// The session is gone with it: there is nothing in it to come back to.
    #[error("{0}\nNo turn of it having begun, the session that was started for this was removed.")]
    FirstTurnRefused(Box<SessionError>),
    #[error(transparent)]
    Quota(#[from] QuotaError),
    #[error(transparent)]
    Uncounted(#[from] Unstarted),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Upkeep(Box<UpkeepError>),
    #[error("session {session}: {flaw}")]
    Unreadable { session: SessionId, flaw: RecordFlaw },
    #[error(transparent)]
    Removal(#[from] RemovalError),
    /// There is no room for it to go on.
    #[error("the session can't go on: {0}")]
    Disk(DiskVerdict),
    #[error("no session of this state directory has the thread {0}")]
    UnknownThread(ThreadId),
    #[error(
        "the session was lost {losses} times in a row and is not started again by itself: {why}.\n\
         Its workspace is kept: `codex-mcp sessions diff {session}`. The operator can start it with `codex-mcp sessions resume \
         {session}`, or raise sessions.restarts."
    )]
    Failed {
        session: SessionId,
        losses: u32,
        why: String,
    },
    /// Cancelled while it waited for the turn before it.
    #[error("the turn was cancelled before it began")]
    TurnCancelled,
    /// The container's Codex claims a thread that another session has.
    #[error(
        "the container's Codex named a thread that is another session's already, {0}; the image may have been tampered with: `codex-mcp image verify`"
    )]
    ThreadTaken(ThreadId),
}

/// The kinds that a caller tells apart; each has an exit code (`cli::exit`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SessionErrorKind {
    /// What was asked for can't be: the folder, its size.
    Input,
    /// A setting that can't be had: a file or a program that it names.
    Configuration,
    /// No engine, or none that works.
    Engine,
    /// The image is missing or unfit.
    Image,
    /// Refused because it can't be enforced, or was not what was planned.
    Refused,
    /// The provider or its key.
    Provider,
    /// The container or the app-server ended before its session did.
    Lost,
    Internal,
}

impl SessionError {
    pub fn kind(&self) -> SessionErrorKind {
        use SessionErrorKind as Kind;
        match self {
            Self::FirstTurnRefused(error) => error.kind(),
            Self::Upkeep(error) => match &**error {
                UpkeepError::NotEnded { source, .. } => source.kind(),
                UpkeepError::Occupied { .. } => Kind::Refused,
                _ => Kind::Internal,
            },
            Self::Root(_)
            | Self::ModelNotAllowed { .. }
            | Self::Snapshot(_)
            | Self::NothingToApplyTo
            | Self::ComparedTooLong(_)
            | Self::NothingCompared => Kind::Input,
            Self::Probe(_) | Self::Spawn(_) | Self::NotStarted { .. } | Self::ReadyTimeout { .. } => Kind::Engine,
            Self::Engine(EngineError::ImageMissing { .. }) | Self::CodexMissing { .. } => Kind::Image,
            Self::Engine(_) => Kind::Engine,
            Self::Plan(PlanError::RootsFolder { .. } | PlanError::GitDirectoryPlace { .. }) => Kind::Input,
            Self::Plan(PlanError::NotOurImage { .. } | PlanError::ContractMismatch { .. }) => Kind::Image,
            Self::Plan(PlanError::UnmountablePath { .. }) => Kind::Input,
            Self::Plan(PlanError::Unenforceable { .. } | PlanError::RootlessDocker) | Self::Unproven(_) => {
                Kind::Refused
            }
            Self::Broker(_) => Kind::Provider,
            Self::Trust(_) | Self::Packages(_) | Self::Secrets(_) | Self::CodexConfig(_) => Kind::Configuration,
            Self::Codex(ClientError::UnsupportedVersion { .. }) => Kind::Image,
            // The template and what a call may override are ours, and were checked.
            Self::Codex(ClientError::ConfigRefused { .. }) => Kind::Internal,
            Self::Unrecorded(_)
            | Self::Codex(ClientError::NotAsAsked { .. })
            | Self::Link(LinkError::Contract { .. } | LinkError::Refused(_))
            | Self::ThreadTaken(_) => Kind::Refused,
            Self::Quota(_) => Kind::Refused,
            Self::Uncounted(_) => Kind::Internal,
            Self::Disk(_) | Self::ModeNotAllowed { .. } | Self::Bind(_) | Self::Apply(_) => Kind::Refused,
            Self::Git(GitError::Missing) => Kind::Configuration,
            Self::Git(_) | Self::Shadow(_) | Self::Placeholder(_) | Self::NotFilled(_) => Kind::Internal,
            Self::UnknownThread(_) | Self::Store(StoreError::Unknown(_) | StoreError::Ambiguous { .. }) => Kind::Input,
            Self::Store(StoreError::Held { .. }) => Kind::Refused,
            Self::Store(_) | Self::Removal(_) => Kind::Internal,
            Self::Codex(_)
            | Self::Ended(_)
            | Self::NotBegun(_)
            | Self::Failed { .. }
            | Self::Link(_)
            | Self::ShuttingDown
            | Self::Stopped(_)
            | Self::TurnCancelled => Kind::Lost,
            Self::Files { .. } | Self::Template(_) | Self::Tree(_) | Self::Unreadable { .. } => Kind::Internal,
        }
    }
}

/// Why a session has no container any more. All but its thread and its workspace ended with it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EndReason {
    #[error("its server ended")]
    ServerEnded,
    #[error("it was stopped")]
    Stopped,
    /// Before anybody could know its thread.
    #[error("its start was given up")]
    GivenUp,
    #[error("it had no turn for {} (limits.idle)", Period::from(*.limit))]
    Idle { limit: Duration },
    #[error("its container had lived for {} (limits.wall)", Period::from(*.limit))]
    WallClock { limit: Duration },
    /// It wrote more than it may; which limit, what was found, and what mends it.
    #[error("{why}")]
    DiskLimit { why: String },
    /// What it does can't be recorded any more.
    #[error("it was ended, because {0}")]
    Unaudited(Failure),
    /// Its container or the app-server in it ended by itself.
    #[error("{why}")]
    Lost { why: String },
}

impl EndReason {
    pub fn lost(why: String) -> Self {
        Self::Lost { why }
    }
}

impl From<UpkeepError> for SessionError {
    fn from(error: UpkeepError) -> Self {
        match error {
            UpkeepError::Store(error) => error.into(),
            other => Self::Upkeep(Box::new(other)),
        }
    }
}

impl From<SnapshotError> for SessionError {
    fn from(error: SnapshotError) -> Self {
        match error {
            // Only a launch that is given up cancels its copy.
            SnapshotError::Copy(CopyError::Cancelled) => Self::ShuttingDown,
            other => Self::Snapshot(other),
        }
    }
}

fn word(mode: WorkspaceMode) -> &'static str {
    match mode {
        WorkspaceMode::Snapshot => "snapshot",
        WorkspaceMode::Bind => "bind",
        WorkspaceMode::Scratch => "scratch",
    }
}

fn listed(models: &[Sourced<ModelId>]) -> String {
    let one = |model: &Sourced<ModelId>| format!("{} (from {})", model.value, model.origin);
    models.iter().map(one).collect::<Vec<_>>().join(", ")
}

fn last_words(stderr: &str) -> String {
    let text = stderr.trim();
    if text.is_empty() {
        ", and did not say why".to_owned()
    } else {
        format!(". It said:\n{text}")
    }
}
