//! What one session asks for, beyond the configuration. Already parsed; a tool call can't put anything else here.

use crate::config::rule::Rule;
use crate::plan::identity::SessionId;
use crate::plan::secrets::PlannedSecret;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

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

/// The folder that the session works on: canonical, and checked by [`crate::workspace`] against the operator's roots.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct WorkspaceRequest {
    pub host_path: PathBuf,
    /// The copy holds a `.git` directory, which is then mounted read-only.
    pub has_git_dir: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WorkspaceAccess {
    ReadOnly,
    ReadWrite,
}
