//! What one session asks for, beyond the configuration. Already parsed; a tool call can't put anything else here.

use crate::config::rule::Rule;
pub use crate::config::workspace::WorkspaceMode;
use crate::plan::identity::SessionId;
use crate::plan::secrets::PlannedSecret;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Request {
    pub session: SessionId,
    pub workspace: WorkspaceRequest,
    pub access: WorkspaceAccess,
    /// What the tool call narrows the network to; never wider than the operator's.
    pub network: Option<Vec<Rule>>,
    pub secrets: Vec<PlannedSecret>,
    /// Where this session's files are on the host (below the state directory).
    pub session_dir: PathBuf,
    /// The staged copy of this binary that becomes PID 1.
    pub guest_binary: PathBuf,
}

/// What the session works on. Folders are canonical, and checked by [`crate::workspace::root`] against the operator's
/// roots.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum WorkspaceRequest {
    /// The session's own copy of the folder. Its `.git` is one that we made for it, so it is the container's to write.
    Snapshot { folder: PathBuf },
    /// The folder itself.
    Bind(BindRequest),
    /// An empty directory of the session, at the path of the folder where one was named.
    Scratch { named: Option<PathBuf> },
}

impl WorkspaceRequest {
    pub fn mode(&self) -> WorkspaceMode {
        match self {
            Self::Snapshot { .. } => WorkspaceMode::Snapshot,
            Self::Bind(_) => WorkspaceMode::Bind,
            Self::Scratch { .. } => WorkspaceMode::Scratch,
        }
    }

    /// The folder whose path the workspace has inside, where one was named.
    pub fn folder(&self) -> Option<&Path> {
        match self {
            Self::Snapshot { folder } => Some(folder),
            Self::Bind(bind) => Some(&bind.folder),
            Self::Scratch { named } => named.as_deref(),
        }
    }
}

/// What [`crate::workspace::bind`] found out about a folder that is to be mounted itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BindRequest {
    pub folder: PathBuf,
    /// Whom the folder belongs to on the host: as root, the container runs as that user.
    pub owner: FolderOwner,
    /// Names in the folder that are mounted read-only in their place. They must be there when the engine is started, or it
    /// makes them.
    pub protected: Vec<String>,
    /// A git directory outside of the folder, mounted read-only at its own path: git finds it by that.
    pub git_elsewhere: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct FolderOwner {
    pub uid: u32,
    pub gid: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WorkspaceAccess {
    ReadOnly,
    ReadWrite,
}
