//! Puts the plan together.

use crate::codex::launch::{CodexPaths, app_server_command};
use crate::config::{Config, Enforcement, Origin};
use crate::host::facts::{EngineKind, HostFacts, ImageFacts};
use crate::host::packages::PackageSource;
use crate::plan::launch::{
    FileLimit, LaunchPlan, Mount, MountAccess, MountSharing, PinnedImage, PlannedLimits, SelinuxRelabel, Tmpfs,
    Unenforced,
};
use crate::plan::network::NetworkPlan;
use crate::plan::request::{BindRequest, Request, WorkspaceAccess, WorkspaceRequest};
use crate::plan::secrets::PlannedSecret;
use crate::plan::{enforcement, network, paths, user};
use crate::wire::contract::{CONTRACT, GuestSpec, ProcessNumber, SpawnRequest, StderrTo};
use std::path::{Path, PathBuf};

/// Open files per process inside. Codex with a few language servers needs some thousands.
const NOFILE_SOFT: u64 = 8_192;
const NOFILE_HARD: u64 = 65_536;
const SHM_MIB: u64 = 64;

/// The number of the app-server among the processes that the host starts inside.
pub const CODEX_PROCESS: ProcessNumber = ProcessNumber(1);

/// Why no plan could be made: what was refused, by which rule from where, and what mends it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    #[error(
        "rootless docker is not supported: in it our user would have to be root inside the container.\n\
         Use podman (`--runtime podman`), which maps you to yourself."
    )]
    RootlessDocker,
    #[error(
        "bind is refused for {}: as root, a session on a folder of the host runs as the folder's owner ({uid}:{gid}), and \
         nothing runs as root inside.\nGive the folder to an ordinary user (`chown -R USER:GROUP`), start codex-mcp as that \
         user, or use `workspace.mode = \"snapshot\"`.", path.display()
    )]
    RootsFolder { path: PathBuf, uid: u32, gid: u32 },
    #[error(
        "bind is refused: the folder's git directory is {}, which can't be mounted at that same path inside the container, \
         where git looks for it.\nMove the repository, or use `workspace.mode = \"snapshot\"`.", path.display()
    )]
    GitDirectoryPlace { path: PathBuf },
    #[error("{}", unenforceable_text(.limits, .origin))]
    Unenforceable { limits: Vec<Unenforced>, origin: Origin },
    #[error(
        "the image {reference} was not built by codex-mcp: it has no Codex version label.\n\
         Build one with `codex-mcp image build`, or point `image` at one."
    )]
    NotOurImage { reference: String },
    #[error(
        "the image {reference} speaks guest contract {found} and this codex-mcp speaks {CONTRACT}.\n\
         Rebuild it with `codex-mcp image build --rebuild`."
    )]
    ContractMismatch { reference: String, found: u32 },
    #[error(
        "{path:?} can't be mounted: it is not UTF-8, or has a colon, a comma or a control character in it, which the \
         engines' mount syntax can't carry.\nSet `state_dir` (or CODEX_MCP_STATE_DIR), for a secret `secrets_dir`, to a plain path."
    )]
    UnmountablePath { path: PathBuf },
}

fn unenforceable_text(limits: &[Unenforced], origin: &Origin) -> String {
    let mut text = String::from("this machine can't enforce what was asked for:\n");
    for Unenforced { limit, reason, .. } in limits {
        text.push_str(&format!("  {limit}: {reason}\n"));
    }
    let mut remedies: Vec<&str> = limits.iter().map(|limit| limit.remedy.as_str()).collect();
    remedies.dedup();
    for remedy in remedies {
        text.push_str(&format!("To enforce it: {remedy}.\n"));
    }
    text.push_str(&format!(
        "To run without these limits, each result then saying `unenforced`: --enforcement best-effort, or\n\
         `limits.enforcement = \"best-effort\"` (now \"required\", from {origin})."
    ));
    text
}

/// Makes the plan. Refuses rather than weakens: see [`PlanError`].
pub fn plan(
    config: &Config,
    request: &Request,
    facts: &HostFacts,
    image: &ImageFacts,
    packages: &[PackageSource],
) -> Result<LaunchPlan, PlanError> {
    let user = user::container_user(facts, &request.workspace)?;
    check_image(image)?;
    let unenforced = accept_unenforced(config, facts)?;
    let workspace_inside = match request.workspace.folder() {
        Some(folder) => paths::workspace_inside(folder),
        None => paths::WORKSPACE.to_owned(),
    };
    let tmpfs = [paths::TMP, paths::HOME]
        .map(|target| Tmpfs {
            target: target.to_owned(),
            size: config.limits.tmp.value,
        })
        .to_vec();
    let mut sized_mounts: Vec<String> = tmpfs.iter().map(|tmpfs| tmpfs.target.clone()).collect();
    sized_mounts.push("/dev/shm".to_owned());
    let network = network::network(&config.network, packages, request.network.as_deref());
    let command = app_server_command(&CodexPaths {
        codex_home: paths::CODEX_HOME,
        home: paths::HOME,
        temporary: paths::TMP,
    });

    Ok(LaunchPlan {
        session: request.session.clone(),
        name: request.session.container_name(),
        owner: facts.owner.clone(),
        engine: facts.engine.clone(),
        image: PinnedImage {
            reference: image.reference.clone(),
            id: image.id.clone(),
        },
        user,
        limits: PlannedLimits {
            memory: config.limits.memory.value,
            cpus: config.limits.cpus.value,
            pids: config.limits.pids.value,
            scratch: config.limits.tmp.value,
            workspace: config.limits.workspace.value,
            turn: config.limits.turn.value,
            idle: config.limits.idle.value,
            wall: config.limits.wall.value,
        },
        nofile: FileLimit {
            soft: NOFILE_SOFT.min(facts.nofile_hard),
            hard: NOFILE_HARD.min(facts.nofile_hard),
        },
        nproc: (facts.engine.kind == EngineKind::Podman).then_some(facts.nproc_hard),
        mounts: mounts(request, &network, &workspace_inside)?,
        network,
        secrets: request.secrets.clone(),
        tmpfs,
        shm: crate::config::quantity::ByteSize::from_mib(SHM_MIB),
        selinux: if facts.selinux_enforcing {
            SelinuxRelabel::Relabel
        } else {
            SelinuxRelabel::NotNeeded
        },
        guest_program: paths::GUEST_PROGRAM.to_owned(),
        guest: GuestSpec {
            contract: CONTRACT,
            session: request.session.as_str().to_owned(),
            model_port: paths::MODEL_PORT,
            proxy_port: paths::PROXY_PORT,
            wall_seconds: config.limits.wall.value.as_secs(),
            sized_mounts,
        },
        codex: SpawnRequest {
            process: CODEX_PROCESS,
            argv: command.argv,
            env: command.env,
            cwd: workspace_inside.clone(),
            stderr: StderrTo::Log,
        },
        workspace_mode: request.workspace.mode(),
        workspace_inside,
        enforcement: config.limits.enforcement.value,
        unenforced,
    })
}

fn check_image(image: &ImageFacts) -> Result<(), PlanError> {
    let reference = image.reference.clone();
    match (&image.codex_version, image.contract) {
        (Some(_), Some(CONTRACT)) => Ok(()),
        (Some(_), Some(found)) => Err(PlanError::ContractMismatch { reference, found }),
        _ => Err(PlanError::NotOurImage { reference }),
    }
}

fn accept_unenforced(config: &Config, facts: &HostFacts) -> Result<Vec<Unenforced>, PlanError> {
    let limits = enforcement::unenforceable(facts);
    match config.limits.enforcement.value {
        Enforcement::Required if !limits.is_empty() => Err(PlanError::Unenforceable {
            limits,
            origin: config.limits.enforcement.origin.clone(),
        }),
        _ => Ok(limits),
    }
}

/// In mounting order: what lies below another mount comes after it.
fn mounts(request: &Request, network: &NetworkPlan, workspace_inside: &str) -> Result<Vec<Mount>, PlanError> {
    let files = SessionFiles::below(&request.session_dir);
    let mut mounts = vec![
        Mount {
            source: request.guest_binary.clone(),
            target: paths::GUEST_PROGRAM.to_owned(),
            access: MountAccess::ReadOnly,
            sharing: MountSharing::Shared,
        },
        private(files.codex_home, paths::CODEX_HOME, MountAccess::ReadWrite),
    ];
    for name in paths::SEALED_FILES.iter().chain(&paths::SEALED_DIRS) {
        mounts.push(private(
            files.sealed.join(name),
            &format!("{}/{name}", paths::CODEX_HOME),
            MountAccess::ReadOnly,
        ));
    }
    // Only where there is something to say: the image has an empty file there otherwise.
    if network.ca_bundle.is_some() {
        mounts.push(private(files.ca_bundle, paths::CA_BUNDLE, MountAccess::ReadOnly));
    }
    if network.cargo_config.is_some() {
        mounts.push(private(files.cargo_config, paths::CARGO_CONFIG, MountAccess::ReadOnly));
    }
    let access = match request.access {
        WorkspaceAccess::ReadOnly => MountAccess::ReadOnly,
        WorkspaceAccess::ReadWrite => MountAccess::ReadWrite,
    };
    match &request.workspace {
        WorkspaceRequest::Snapshot { .. } | WorkspaceRequest::Scratch { .. } => {
            mounts.push(private(files.workspace, workspace_inside, access));
        }
        WorkspaceRequest::Bind(bind) => mounts.extend(bind_mounts(bind, access, workspace_inside)?),
    }
    mounts.extend(request.secrets.iter().map(PlannedSecret::mount));
    for mount in &mounts {
        if !mount.source.to_str().is_some_and(paths::mountable) || !paths::mountable(&mount.target) {
            return Err(PlanError::UnmountablePath {
                path: mount.source.clone(),
            });
        }
    }
    Ok(mounts)
}

/// The host's folder and what of it is read-only.
fn bind_mounts(bind: &BindRequest, access: MountAccess, inside: &str) -> Result<Vec<Mount>, PlanError> {
    let mut mounts = Vec::new();
    if let Some(git) = &bind.git_elsewhere {
        // Over or under the workspace it would be a second way to the same files.
        let apart = !git.starts_with(inside) && !Path::new(inside).starts_with(git);
        let place = git.to_str().filter(|_| apart && paths::keeps_its_path(git));
        let place = place.ok_or_else(|| PlanError::GitDirectoryPlace { path: git.clone() })?;
        mounts.push(shared(git.clone(), place, MountAccess::ReadOnly));
    }
    mounts.push(shared(bind.folder.clone(), inside, access));
    mounts.extend(bind.protected.iter().map(|name| {
        let target = format!("{inside}/{name}");
        shared(bind.folder.join(name), &target, MountAccess::ReadOnly)
    }));
    Ok(mounts)
}

fn private(source: PathBuf, target: &str, access: MountAccess) -> Mount {
    Mount {
        source,
        target: target.to_owned(),
        access,
        sharing: MountSharing::Private,
    }
}

/// Of the host's own folders: another session may have the same one, and a label private to this container would take it
/// away from that one.
fn shared(source: PathBuf, target: &str, access: MountAccess) -> Mount {
    Mount {
        sharing: MountSharing::Shared,
        ..private(source, target, access)
    }
}

/// Where a session's files are below its directory. The one place that names them: `session::directory` makes them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionFiles {
    /// Codex's home: its rollouts and databases, written by the container.
    pub codex_home: PathBuf,
    /// What the container sees read-only in the Codex home.
    pub sealed: PathBuf,
    /// The certificate authorities that commands believe, where the operator configured any.
    pub ca_bundle: PathBuf,
    /// Cargo's mirrors, where the host's cargo has some.
    pub cargo_config: PathBuf,
    /// The session's copy of the folder, or its empty directory.
    pub workspace: PathBuf,
    /// The private git directory that the workspace is compared with; no container ever sees it.
    pub shadow: PathBuf,
}

impl SessionFiles {
    pub fn below(session_dir: &Path) -> Self {
        Self {
            codex_home: session_dir.join("home"),
            sealed: session_dir.join("sealed"),
            ca_bundle: session_dir.join("ca-bundle.pem"),
            cargo_config: session_dir.join("cargo-config.toml"),
            workspace: session_dir.join("workspace"),
            shadow: session_dir.join("shadow.git"),
        }
    }
}

#[cfg(test)]
mod tests;
