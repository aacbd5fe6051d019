//! The plan: everything that a launch will do, as data.

use crate::config::Enforcement;
use crate::config::quantity::{ByteSize, CpuShare, PidsLimit};
use crate::host::facts::EngineFacts;
use crate::plan::identity::{ContainerName, SessionId};
use crate::plan::network::NetworkPlan;
use crate::plan::request::WorkspaceMode;
use crate::plan::secrets::PlannedSecret;
use crate::supervise::owner::Owner;
use crate::wire::contract::{GuestSpec, SpawnRequest};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::time::Duration;

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LaunchPlan {
    pub session: SessionId,
    pub name: ContainerName,
    pub owner: Owner,
    pub engine: EngineFacts,
    pub image: PinnedImage,
    pub user: ContainerUser,
    pub limits: PlannedLimits,
    pub nofile: FileLimit,
    /// `--ulimit nproc`, hard and soft alike; `None` where the engine needs none. Never the limit itself: it counts
    /// over all containers of a uid. `--pids-limit` is the limit.
    pub nproc: Option<u64>,
    pub network: NetworkPlan,
    /// In the order in which they are mounted: a mount below another comes after it.
    pub mounts: Vec<Mount>,
    /// Their mounts are among those above; these say what they are of.
    pub secrets: Vec<PlannedSecret>,
    pub tmpfs: Vec<Tmpfs>,
    pub shm: ByteSize,
    pub selinux: SelinuxRelabel,
    /// The guest binary's path inside; it is the entrypoint, with the one argument `guest`.
    pub guest_program: String,
    pub guest: GuestSpec,
    pub codex: SpawnRequest,
    pub workspace_mode: WorkspaceMode,
    /// The workspace's path inside.
    pub workspace_inside: String,
    pub enforcement: Enforcement,
    /// What this machine can't enforce and the operator accepted (`enforcement = "best-effort"`).
    pub unenforced: Vec<Unenforced>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PinnedImage {
    pub reference: String,
    /// `sha256:…`; what the engine is told to run.
    pub id: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ContainerUser {
    /// As seen inside.
    pub uid: u32,
    pub gid: u32,
    pub mapping: UserMapping,
    /// The host ids that files in the mounted directories must belong to.
    pub host_uid: u32,
    pub host_gid: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum UserMapping {
    /// Inside and outside are the same ids, no user namespace (docker, and rootful podman on a folder of the host).
    None,
    /// Rootless podman: `--userns=keep-id`.
    KeepId,
    /// Rootful podman: ids 0… inside are `first`… outside.
    Range { first: u32, count: u32 },
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PlannedLimits {
    /// Also the limit of memory and swap together.
    pub memory: ByteSize,
    pub cpus: CpuShare,
    pub pids: PidsLimit,
    /// Of each scratch file system.
    pub scratch: ByteSize,
    /// Of the workspace and the Codex home together.
    pub workspace: ByteSize,
    pub turn: Duration,
    /// Without a turn.
    pub idle: Duration,
    pub wall: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct FileLimit {
    pub soft: u64,
    pub hard: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Mount {
    pub source: PathBuf,
    pub target: String,
    pub access: MountAccess,
    /// Shared by several containers (the guest binary): relabelled as such where SELinux is on.
    pub sharing: MountSharing,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum MountAccess {
    ReadOnly,
    ReadWrite,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum MountSharing {
    Private,
    Shared,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Tmpfs {
    pub target: String,
    pub size: ByteSize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SelinuxRelabel {
    NotNeeded,
    /// Mounts carry `z` (shared) or `Z` (private).
    Relabel,
}

/// A limit that this machine can't enforce.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unenforced {
    pub limit: LimitName,
    pub reason: String,
    pub remedy: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LimitName {
    /// Bytes, swap included.
    Memory,
    /// Thousandths of a CPU.
    Cpus,
    /// Processes and threads.
    Pids,
    /// Open files of one process.
    OpenFiles,
    /// Bytes of each scratch file system.
    Scratch,
    /// Bytes that the session may keep on the host's disk: its workspace and its Codex home.
    Workspace,
    /// Seconds of one turn.
    Turn,
    /// Seconds without a turn.
    Idle,
    /// Seconds of one container.
    Wall,
}

impl std::fmt::Display for LimitName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

impl LimitName {
    /// Those that a cgroup holds.
    pub const OF_CGROUP: [Self; 3] = [Self::Memory, Self::Cpus, Self::Pids];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Cpus => "cpus",
            Self::Pids => "pids",
            Self::OpenFiles => "open_files",
            Self::Scratch => "scratch",
            Self::Workspace => "workspace",
            Self::Turn => "turn",
            Self::Idle => "idle",
            Self::Wall => "wall",
        }
    }
}
