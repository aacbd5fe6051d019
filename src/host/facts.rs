//! The facts: pure data, serialisable, so that snapshots of plans can be made from any machine's facts.

use crate::supervise::owner::Owner;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::path::PathBuf;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HostFacts {
    pub engine: EngineFacts,
    pub cgroup: CgroupFacts,
    /// Effective uid and gid of this process.
    pub uid: u32,
    pub gid: u32,
    /// Hard limits of this process: nothing above can be given to a container without CAP_SYS_RESOURCE.
    pub nofile_hard: u64,
    /// The lower of the hard `RLIMIT_NPROC` and `kernel.pid_max`: podman lowers its own limit to the latter.
    pub nproc_hard: u64,
    pub selinux_enforcing: bool,
    /// This process.
    pub owner: Owner,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EngineKind {
    Podman,
    Docker,
}

impl EngineKind {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Podman => "podman",
            Self::Docker => "docker",
        }
    }
}

impl fmt::Display for EngineKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EngineFacts {
    pub kind: EngineKind,
    /// Absolute path of the client.
    pub program: PathBuf,
    /// Of the engine that runs containers: podman itself, or docker's daemon.
    pub version: String,
    pub rootless: bool,
    pub graph_driver: String,
    /// The OCI runtime to name with `--runtime`: set only where the engine's default can't start a container and
    /// this one was seen to (crun 1.8 on hybrid cgroups). Always `None` for docker.
    pub oci_runtime: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CgroupFacts {
    pub version: CgroupVersion,
    /// Controllers that the engine can use for a container: for rootless podman those delegated to the user.
    pub controllers: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CgroupVersion {
    V1,
    /// v1 controllers with a v2 hierarchy mounted beside them.
    Hybrid,
    V2,
}

/// An image as the engine has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImageFacts {
    /// What was asked for, such as `localhost/codex-mcp:0.169.0`.
    pub reference: String,
    /// The whole id, `sha256:` and 64 hex digits.
    pub id: String,
    /// Label [`crate::host::image_labels::CODEX_VERSION`], where there is one.
    pub codex_version: Option<String>,
    /// Label [`crate::host::image_labels::CONTRACT`], where there is one.
    pub contract: Option<u32>,
}
