//! The command lines; pure.
//!
//! Every option that matters is said, also where today's default is the same: a host's containers.conf(5) or
//! daemon.json may have changed it.

use super::capabilities::{Capabilities, Listing, PROXY_VARIABLES, Proxies, Shm};
use crate::config::quantity::{ByteSize, CpuShare};
use crate::host::facts::EngineFacts;
use crate::plan::LaunchPlan;
use crate::plan::identity::labels;
use crate::plan::launch::{Mount, MountAccess, MountSharing, PlannedLimits, SelinuxRelabel, Tmpfs, UserMapping};
use crate::plan::paths;
use crate::supervise::command::CommandLine;
use crate::supervise::owner::Owner;
use std::ffi::OsString;
use std::time::Duration;

/// The guest's host name. The same for all sessions: Codex tells it to the model, and a name of the session's own
/// would only spoil the provider's prompt cache.
const HOSTNAME: &str = "codex-mcp";

/// The long-lived client: a container whose PID 1 is the guest, with the pipe as its only way out.
pub fn run(plan: &LaunchPlan) -> CommandLine {
    let engine = Capabilities::of(&plan.engine);
    let mut command = program(&plan.engine).args(["run", "--rm", "--interactive", "--pull", "never"]);
    command = command
        .args(["--name", plan.name.as_str()])
        .args(["--hostname", HOSTNAME]);
    command = ownership(command, plan);
    command = isolation(command, engine);
    command = user(command, plan, engine);
    command = limits(command, &plan.limits, engine);
    command = command.args([
        "--ulimit".to_owned(),
        format!("nofile={}:{}", plan.nofile.soft, plan.nofile.hard),
    ]);
    if let Some(nproc) = plan.nproc {
        command = command.args(["--ulimit".to_owned(), format!("nproc={nproc}:{nproc}")]);
    }
    command = environment(command, engine);
    command = shared_memory(command, plan.shm, engine);
    for tmpfs in &plan.tmpfs {
        command = command.args(["--tmpfs".to_owned(), tmpfs_option(tmpfs)]);
    }
    for mount in &plan.mounts {
        command = command.arg("--volume").arg(volume_option(mount, plan.selinux));
    }
    command
        .args(["--workdir", "/", "--entrypoint", &plan.guest_program])
        .args([plan.image.id.as_str(), "guest"])
}

/// SIGKILL to everything inside. Fails where the container does not run.
pub fn kill(engine: &EngineFacts, name: &str) -> CommandLine {
    short(engine).args(["kill", "--signal", "KILL", name])
}

/// Removes containers in any state, with their anonymous volumes.
pub fn remove<'n>(engine: &EngineFacts, names: impl IntoIterator<Item = &'n str>) -> CommandLine {
    let mut command = short(engine).args(["rm", "--force", "--volumes"]);
    if Capabilities::of(engine).rm_can_ignore_missing() {
        command = command.arg("--ignore");
    }
    command.args(names)
}

/// All containers that carry our session label, in every state, and half-made ones of whatever name.
pub fn list_ours(engine: &EngineFacts) -> CommandLine {
    let format = match Capabilities::of(engine).listing() {
        Listing::JsonArray => "json".to_owned(),
        Listing::TemplatedLines => listing_template(),
    };
    let mut command = short(engine).args(["ps", "--all", "--no-trunc"]);
    if Capabilities::of(engine).leaves_half_made_containers() {
        command = command.arg("--external");
    }
    command
        .arg("--filter")
        .arg(format!("label={}", labels::SESSION))
        .args(["--format", &format])
}

/// Everything about an image, as JSON.
pub fn inspect_image(engine: &EngineFacts, reference: &str) -> CommandLine {
    short(engine).args(["image", "inspect", reference])
}

/// With the OCI runtime that works here.
fn program(engine: &EngineFacts) -> CommandLine {
    let command = CommandLine::new(&engine.program);
    match Capabilities::of(engine).oci_runtime() {
        Some(runtime) => command.args(["--runtime", runtime]),
        None => command,
    }
}

/// Without: a container remembers the runtime that made it.
fn short(engine: &EngineFacts) -> CommandLine {
    CommandLine::new(&engine.program)
}

fn ownership(command: CommandLine, plan: &LaunchPlan) -> CommandLine {
    let Owner {
        pid,
        start_ticks,
        boot_id,
    } = &plan.owner;
    command
        .args(["--label".to_owned(), format!("{}={}", labels::SESSION, plan.session)])
        .args(["--label".to_owned(), format!("{}={pid}", labels::OWNER_PID)])
        .args(["--label".to_owned(), format!("{}={start_ticks}", labels::OWNER_START)])
        .args(["--label".to_owned(), format!("{}={boot_id}", labels::OWNER_BOOT)])
}

fn isolation(command: CommandLine, engine: Capabilities<'_>) -> CommandLine {
    let mut command = command
        .args(["--network", "none"])
        .args(["--read-only", "--cap-drop", "all", "--security-opt", "no-new-privileges"])
        // PID 1 is the guest, the log is ours, and nobody but us checks its health or waits for it to end.
        .args(["--init=false", "--log-driver", "none", "--no-healthcheck", "--stop-timeout", "0"]);
    if engine.namespaces_have_configured_defaults() {
        command = command.args(["--pid", "private", "--uts", "private"]);
    }
    if engine.read_only_adds_tmpfs() {
        command = command.arg("--read-only-tmpfs=false");
    }
    if engine.can_ignore_image_volumes() {
        command = command.args(["--image-volume", "ignore"]);
    }
    if engine.guesses_systemd() {
        command = command.arg("--systemd=false");
    }
    if engine.looks_for_detach_keys_in_a_pipe() {
        command = command.args(["--detach-keys", ""]);
    }
    command
}

fn user(command: CommandLine, plan: &LaunchPlan, engine: Capabilities<'_>) -> CommandLine {
    let user = &plan.user;
    let mut command = command.args(["--user".to_owned(), format!("{}:{}", user.uid, user.gid)]);
    if engine.writes_passwd_entry() {
        let (uid, gid) = (user.uid, user.gid);
        command = command.args([
            "--passwd-entry".to_owned(),
            format!("codex:*:{uid}:{gid}:codex:{}:/bin/bash", paths::HOME),
        ]);
    }
    match user.mapping {
        // Said, because both may be configured to map users: with that, files would belong to others than the plan says.
        // Docker's daemon by `userns-remap` (<https://docs.docker.com/engine/security/userns-remap/>), podman by `userns` in
        // containers.conf(5).
        UserMapping::None => command.args(["--userns", "host"]),
        UserMapping::KeepId => command.args(["--userns", "keep-id"]),
        UserMapping::Range { first, count } => {
            let range = format!("0:{first}:{count}");
            command.args(["--uidmap", &range, "--gidmap", &range])
        }
    }
}

/// The guest ends the session at its wall clock and says so. Podman counts from a moment earlier and says nothing (exit 255), so
/// it is given this much longer, for a guest that is stuck.
const WALL_BACKSTOP: Duration = Duration::from_secs(10);

/// All limits are always asked for, also those that the plan calls unenforced: rootless podman on cgroup v1 ignores
/// them with a warning on stderr, and should it ever not, they hold.
fn limits(command: CommandLine, limits: &PlannedLimits, engine: Capabilities<'_>) -> CommandLine {
    let memory = limits.memory.bytes().to_string();
    let command = command
        .args(["--memory", &memory, "--memory-swap", &memory])
        .args(["--cpus".to_owned(), cpus_option(limits.cpus)])
        .args(["--pids-limit".to_owned(), limits.pids.get().to_string()]);
    if engine.has_timeout() {
        let seconds = (limits.wall + WALL_BACKSTOP).as_secs();
        command.args(["--timeout".to_owned(), seconds.to_string()])
    } else {
        command
    }
}

fn environment(command: CommandLine, engine: Capabilities<'_>) -> CommandLine {
    let mut command = command;
    if engine.can_unset_environment() {
        command = command.args(["--env-host=false", "--unsetenv-all"]);
    }
    match engine.proxies() {
        Proxies::SwitchedOff => command.arg("--http-proxy=false"),
        Proxies::UnsetByName => PROXY_VARIABLES
            .into_iter()
            .fold(command, |command, name| command.args(["--env", name])),
    }
}

fn shared_memory(command: CommandLine, size: ByteSize, engine: Capabilities<'_>) -> CommandLine {
    let size = size.bytes();
    match engine.shm() {
        Shm::ByEngine => command.args(["--ipc", "private", "--shm-size", &size.to_string()]),
        Shm::InsideOnly => command
            .args(["--ipc", "none", "--tmpfs"])
            .arg(format!("/dev/shm:rw,noexec,nosuid,nodev,size={size},mode=1777")),
    }
}

/// A decimal number of CPUs, from thousandths, without the rounding of a float.
fn cpus_option(share: CpuShare) -> String {
    let millis = share.millis();
    let (whole, part) = (millis / 1000, millis % 1000);
    if part == 0 {
        whole.to_string()
    } else {
        format!("{whole}.{part:03}").trim_end_matches('0').to_owned()
    }
}

/// Docker's default is `noexec`, podman's `exec`: said for both.
fn tmpfs_option(tmpfs: &Tmpfs) -> String {
    format!(
        "{}:rw,exec,nosuid,nodev,size={},mode=1777",
        tmpfs.target,
        tmpfs.size.bytes()
    )
}

/// `SOURCE:TARGET:OPTIONS`; the plan has no path with a colon. Relabelling needs this form: docker's `--mount` knows
/// no `z`.
fn volume_option(mount: &Mount, selinux: SelinuxRelabel) -> OsString {
    let access = match mount.access {
        MountAccess::ReadOnly => "ro",
        MountAccess::ReadWrite => "rw",
    };
    let relabel = match (selinux, mount.sharing) {
        (SelinuxRelabel::NotNeeded, _) => "",
        (SelinuxRelabel::Relabel, MountSharing::Shared) => ",z",
        (SelinuxRelabel::Relabel, MountSharing::Private) => ",Z",
    };
    let mut option = mount.source.clone().into_os_string();
    option.push(format!(":{}:{access}{relabel}", mount.target));
    option
}

/// One JSON object a line, of the shape that [`super::listing`] reads.
fn listing_template() -> String {
    let label = |name: &str| format!(r#"{{{{json (.Label "{name}")}}}}"#);
    format!(
        r#"{{"name":{{{{json .Names}}}},"state":{{{{json .State}}}},"pid":{},"start":{},"boot":{}}}"#,
        label(labels::OWNER_PID),
        label(labels::OWNER_START),
        label(labels::OWNER_BOOT),
    )
}

#[cfg(test)]
mod tests;
