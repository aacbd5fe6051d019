//! Looks: which engine works here, what it can enforce, which OCI runtime really starts a container.
//!
//! The order of a probe: find the client on PATH, ask it about itself, look at the kernel, and for podman start one
//! trivial container (remembered in the state directory). What a client says is parsed by pure functions.
//!
//! - [`podman`], [`docker`]: what `info` says, and what its failures mean.
//! - [`kernel`]: cgroups, limits, SELinux.
//! - [`trial`]: starts a container to see which OCI runtime can.
//! - [`trial_cache`]: so that it is done once.
//! - [`error`]: why there is no usable engine, and what mends it.

pub mod docker;
pub mod error;
pub mod kernel;
pub mod podman;
pub mod trial;
mod trial_cache;

pub use error::ProbeError;

use super::facts::{CgroupFacts, EngineFacts, EngineKind, HostFacts};
use crate::config::RuntimeChoice;
use crate::supervise::command::CommandLine;
use crate::supervise::environment::Environment;
use crate::supervise::output::{self, Bounds, Output};
use crate::supervise::owner::Owner;
use crate::supervise::spawner::Spawner;
use kernel::Kernel;
use std::path::{Path, PathBuf};
use trial::Trial;

/// What a probe works with.
#[derive(Debug, Clone, Copy)]
pub struct Probe<'a> {
    pub spawner: &'a Spawner,
    /// Of the engine's client; its `PATH` is where clients are looked for.
    pub env: &'a Environment,
    /// Where the outcome of the trial is remembered, and where the trial's directory is made.
    pub state_dir: &'a Path,
    /// A static binary that ends by itself when started with `--version`: this program.
    pub static_binary: &'a Path,
}

/// Finds the engine to use and all facts about it and this machine.
pub async fn probe(choice: RuntimeChoice, with: Probe<'_>) -> Result<HostFacts, ProbeError> {
    match choice {
        RuntimeChoice::Podman => with.podman().await,
        RuntimeChoice::Docker => with.docker().await,
        RuntimeChoice::Auto => match with.podman().await {
            Ok(facts) => Ok(facts),
            Err(podman) => match with.docker().await {
                Ok(facts) => {
                    tracing::info!(reason = %podman, "podman is not usable here; using docker");
                    Ok(facts)
                }
                Err(docker) => Err(ProbeError::neither(podman, docker)),
            },
        },
    }
}

impl Probe<'_> {
    async fn podman(&self) -> Result<HostFacts, ProbeError> {
        let program = self.find(EngineKind::Podman)?;
        let command = CommandLine::new(&program).args(["info", "--format", "json"]);
        let info = podman::read_info(&command, &self.run(&command).await?)?;
        let kernel = Kernel::read()?;
        let owner = Owner::of_this_process()?;
        let version = kernel.cgroup_version;
        let controllers = match info.controllers {
            // Podman below 4 lists none for root on cgroup v1, where it can use all of the kernel's.
            controllers if controllers.is_empty() && !info.rootless => kernel.controllers.clone(),
            controllers => controllers,
        };
        let oci_runtime = trial::runtime_that_starts(
            *self,
            Trial {
                program: &program,
                version: &info.version,
                default: &info.oci_runtime,
                nofile_hard: kernel.nofile_hard,
                nproc_hard: kernel.nproc_hard,
                owner: &owner,
                uid: kernel.uid,
            },
        )
        .await?;
        let engine = EngineFacts {
            kind: EngineKind::Podman,
            program,
            version: info.version,
            rootless: info.rootless,
            graph_driver: info.graph_driver,
            oci_runtime,
        };
        Ok(facts(engine, CgroupFacts { version, controllers }, &kernel, owner))
    }

    async fn docker(&self) -> Result<HostFacts, ProbeError> {
        let program = self.find(EngineKind::Docker)?;
        let command = CommandLine::new(&program).args(["info", "--format", "{{json .}}"]);
        let info = docker::read_info(&command, &self.run(&command).await?)?;
        let kernel = Kernel::read()?;
        let engine = EngineFacts {
            kind: EngineKind::Docker,
            program,
            version: info.version,
            rootless: info.rootless,
            graph_driver: info.graph_driver,
            oci_runtime: None,
        };
        let cgroup = CgroupFacts {
            version: info.cgroup.version(kernel.cgroup_version),
            controllers: info.controllers,
        };
        Ok(facts(engine, cgroup, &kernel, Owner::of_this_process()?))
    }

    fn find(&self, kind: EngineKind) -> Result<PathBuf, ProbeError> {
        self.which(kind.as_str()).ok_or(ProbeError::NotInstalled { kind })
    }

    fn which(&self, name: &str) -> Option<PathBuf> {
        self.which_or_in(name, "")
    }

    /// The first program of this name on PATH, else in `directories` (colon-separated).
    fn which_or_in(&self, name: &str, directories: &str) -> Option<PathBuf> {
        let path = self.env.get("PATH").unwrap_or_default();
        let entries = std::env::split_paths(path).chain(std::env::split_paths(directories));
        // Relative entries are not followed: the client would be whatever lies in the current folder.
        let absolute = entries.filter(|entry| entry.is_absolute());
        let path = std::env::join_paths(absolute).ok()?;
        which::which_in(name, Some(path), "/").ok()
    }

    async fn run(&self, command: &CommandLine) -> Result<Output, ProbeError> {
        Ok(output::run(self.spawner, command, self.env, Bounds::SHORT).await?)
    }
}

fn facts(engine: EngineFacts, cgroup: CgroupFacts, kernel: &Kernel, owner: Owner) -> HostFacts {
    HostFacts {
        engine,
        cgroup,
        uid: kernel.uid,
        gid: kernel.gid,
        nofile_hard: kernel.nofile_hard,
        nproc_hard: kernel.nproc_hard,
        selinux_enforcing: kernel.selinux_enforcing,
        owner,
    }
}
