//! What a launch would be: the folder, how it is worked on, and the plan. Changes nothing, but may ask engine, git and package
//! clients.

use crate::config::{CodexSettings, Config, WorkspaceMode};
use crate::plan::identity::SessionId;
use crate::plan::launch::LaunchPlan;
use crate::plan::request::{BindRequest, FolderOwner, Request, WorkspaceAccess, WorkspaceRequest};
use crate::plan::secrets::planned;
use crate::session::blocking::blocking;
use crate::session::error::SessionError;
use crate::session::ground::Ground;
use crate::session::registry::StartSession;
use crate::session::secrets;
use crate::session::store;
use crate::workspace::apply::hooks;
use crate::workspace::bind::placeholder::PlaceholderRecord;
use crate::workspace::bind::{self, facts};
use crate::workspace::root::{self, FolderUse, OwnPlace, WorkspaceFolder};
use std::path::{Path, PathBuf};
use tokio_util::sync::CancellationToken;

/// A plan, and the folder that it is for.
#[derive(Debug, Clone)]
pub struct Decided {
    pub plan: LaunchPlan,
    /// Canonical, on the host.
    pub folder: PathBuf,
    pub mode: WorkspaceMode,
    /// What has to be made in the folder before the launch, and whom it belongs to.
    pub placeholders: Option<(PlaceholderRecord, FolderOwner)>,
}

pub async fn decide(ground: &Ground, start: &StartSession, session: SessionId) -> Result<Decided, SessionError> {
    let config = &ground.config;
    check_model(&config.codex, start)?;
    let mode = mode(config, start)?;
    let folder = folder(ground, start)?;
    let (workspace, placeholders) = match mode {
        WorkspaceMode::Snapshot => {
            root::permit_use(&folder, FolderUse::Copied, &own_places(config))?;
            let folder = folder.path().to_owned();
            (WorkspaceRequest::Snapshot { folder }, None)
        }
        WorkspaceMode::Scratch => (
            WorkspaceRequest::Scratch {
                named: Some(folder.path().to_owned()),
            },
            None,
        ),
        WorkspaceMode::Bind => bound(ground, &folder, start.access).await?,
    };
    let image = ground.image().await?;
    let packages = ground.packages().await?;
    // Only then is the place looked at: a machine without one starts all sessions that need none.
    let secrets = match config.secrets.is_empty() {
        true => Vec::new(),
        false => {
            let runtime_dir = ground.surroundings.variable("XDG_RUNTIME_DIR").map(Path::new);
            let place = secrets::place(config.secrets_dir.as_ref(), runtime_dir)?;
            planned(&config.secrets, &place.join(session.as_str()))
        }
    };
    let request = Request {
        session_dir: store::session_dir(&config.state_dir.value, &session),
        session,
        secrets,
        workspace,
        access: start.access,
        network: start.network.clone(),
        guest_binary: ground.guest.path().to_owned(),
    };
    let plan =
        crate::plan::plan(config, &request, &ground.facts, &image, packages).inspect_err(|_| ground.forget_image())?;
    Ok(Decided {
        plan,
        folder: folder.into_path(),
        mode,
        placeholders,
    })
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

/// The operator's mode, or the one that was asked for where it reaches no further.
fn mode(config: &Config, start: &StartSession) -> Result<WorkspaceMode, SessionError> {
    let configured = &config.workspace.mode;
    match start.mode {
        None => Ok(configured.value),
        Some(WorkspaceMode::Bind) if configured.value != WorkspaceMode::Bind => Err(SessionError::ModeNotAllowed {
            configured: configured.clone(),
        }),
        Some(asked) => Ok(asked),
    }
}

fn folder(ground: &Ground, start: &StartSession) -> Result<WorkspaceFolder, SessionError> {
    let roots = &ground.config.workspace.roots;
    // One configured root is where a call without a folder works; with several it has to say which.
    let default = match roots.value.as_slice() {
        [root] => Some(root.as_path()),
        _ => None,
    };
    Ok(root::choose(
        start.workspace.as_deref().or(default),
        &ground.surroundings.started_in,
        ground.surroundings.home.as_deref(),
        roots,
    )?)
}

fn own_places(config: &Config) -> [OwnPlace<'_>; 2] {
    [
        ("the state directory", config.state_dir.value.as_path()),
        ("the cache directory", &config.cache_dir.value),
    ]
    .map(|(what, path)| OwnPlace { what, path })
}

/// The folder itself, with what of it is protected.
async fn bound(
    ground: &Ground,
    folder: &WorkspaceFolder,
    access: WorkspaceAccess,
) -> Result<(WorkspaceRequest, Option<(PlaceholderRecord, FolderOwner)>), SessionError> {
    root::permit_use(folder, FolderUse::Mounted, &own_places(&ground.config))?;
    // Git's configuration has includes and several files, so git itself is asked.
    let hooks = hooks::configured(ground.git()?, folder.path(), &CancellationToken::new()).await?;
    let path = folder.path().to_owned();
    let facts = blocking(move || facts::read(&path, hooks.as_deref())).await?;
    let mut protection = bind::protect(&facts)?;
    if access == WorkspaceAccess::ReadOnly {
        protection = protection.of_reading();
    }
    let owner = FolderOwner {
        uid: facts.uid,
        gid: facts.gid,
    };
    let placeholders = (!protection.placeholders.is_empty()).then(|| {
        let record = PlaceholderRecord {
            folder: facts.folder.clone(),
            names: protection.placeholders,
        };
        (record, owner)
    });
    let request = WorkspaceRequest::Bind(BindRequest {
        folder: facts.folder,
        owner,
        protected: protection.names.into_iter().collect(),
        git_elsewhere: protection.git_elsewhere,
    });
    Ok((request, placeholders))
}
