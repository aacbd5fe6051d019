//! Compares what the guest read back with the plan: a [`Proof`], or every promise that failed.
//!
//! `Ready` is sent before anything untrusted ran, by a guest whose binary the host mounted read-only, so it states
//! what the kernel says. It is still parsed as hostile: a reading that can't be understood proves nothing.
//!
//! The comparison is closed: a mount, an interface or a capability that the plan doesn't name is a failure, so an
//! engine configured to add volumes or to drop nothing is found out. Only resource limits know `best-effort`.

use crate::config::Enforcement;
use crate::plan::launch::{LaunchPlan, LimitName, Mount, MountAccess, UserMapping};
pub use crate::plan::proven::{Enforcer, Proof, ProvenLimit};
use crate::wire::contract::{CONTRACT, LimitReading, MountReading, Ready};
use serde::Serialize;
use std::fmt;

/// A promise of docs/SECURITY.md.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub enum Promise {
    /// P1: only declared mounts are visible.
    Mounts,
    /// P2: the root file system is read-only, writable places are sized.
    ReadOnlyRoot,
    /// P3: not root, no capabilities, no new privileges, seccomp on.
    Privileges,
    /// P4, P5, P6: memory, process and CPU limits hold.
    Limits,
    /// P7: no network interface but `lo`.
    Network,
    /// P12: the container ends with its pipe.
    Lifeline,
    /// P19: the guest speaks our contract.
    Contract,
}

impl fmt::Display for Promise {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Mounts => "P1 (only declared mounts are visible)",
            Self::ReadOnlyRoot => "P2 (root file system read-only, writable places sized)",
            Self::Privileges => "P3 (not root, no capabilities, no new privileges, seccomp on)",
            Self::Limits => "P4-P6 (memory, process and CPU limits)",
            Self::Network => "P7 (no network interface but lo)",
            Self::Lifeline => "P12 (the container ends with its pipe)",
            Self::Contract => "P19 (the guest speaks our contract)",
        })
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    pub promise: Promise,
    /// What was planned and what was found, in one line.
    pub finding: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.promise, self.finding)
    }
}

/// Every promise that the read-back contradicts; never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal(pub Vec<Violation>);

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the container is not what was planned, so it was ended before anything ran in it:")?;
        self.0.iter().try_for_each(|violation| write!(f, "\n  {violation}"))?;
        f.write_str("\nLook for a wrapper or a configuration of the engine that changes its flags; `codex-mcp plan` prints them.")
    }
}

impl std::error::Error for Refusal {}

/// Proves `ready` against `plan`.
pub fn prove(plan: &LaunchPlan, ready: &Ready) -> Result<Proof, Refusal> {
    let mut check = Check { violations: Vec::new() };
    check.contract(ready);
    check.lifeline(ready);
    check.privileges(plan, ready);
    check.network(ready);
    check.mounts(plan, &ready.mounts);
    let limits = check.limits(plan, ready);
    if check.violations.is_empty() {
        Ok(Proof {
            limits,
            cgroup_version: ready.cgroup.version,
        })
    } else {
        Err(Refusal(check.violations))
    }
}

struct Check {
    violations: Vec<Violation>,
}

impl Check {
    fn fail(&mut self, promise: Promise, finding: String) {
        self.violations.push(Violation { promise, finding });
    }

    fn require(&mut self, holds: bool, promise: Promise, finding: impl FnOnce() -> String) {
        if !holds {
            self.fail(promise, finding());
        }
    }

    fn contract(&mut self, ready: &Ready) {
        self.require(ready.contract == CONTRACT, Promise::Contract, || {
            format!("contract {CONTRACT} planned, the guest speaks {}", ready.contract)
        });
    }

    /// The kernel kills a container's processes when its PID 1 ends, and nobody else's. As another number, the guest
    /// is below an init that stays, or in the host's process namespace.
    fn lifeline(&mut self, ready: &Ready) {
        self.require(ready.pid == 1, Promise::Lifeline, || {
            format!("the guest planned as PID 1, found as PID {}", ready.pid)
        });
    }

    fn privileges(&mut self, plan: &LaunchPlan, ready: &Ready) {
        let (uid, gid) = (plan.user.uid, plan.user.gid);
        let identity = &ready.identity;
        self.require(uid != 0 && identity.uids == [uid; 4], Promise::Privileges, || {
            format!("uid {uid} planned, uids {:?} found", identity.uids)
        });
        let groups_match = identity.gids == [gid; 4] && identity.groups.iter().all(|group| *group == gid);
        self.require(gid != 0 && groups_match, Promise::Privileges, || {
            format!(
                "gid {gid} planned, gids {:?} and groups {:?} found",
                identity.gids, identity.groups
            )
        });
        let identity_map = |&(inside, outside, count): &(u32, u32, u32)| inside == 0 && outside == 0 && count > uid;
        let mapped = match plan.user.mapping {
            UserMapping::None => true,
            // From inside, a rootless map shows ids of the namespace in between, so only "some map" can be seen.
            UserMapping::KeepId => !identity.uid_map.iter().any(identity_map),
            UserMapping::Range { first, count } => identity.uid_map == [(0, first, count)],
        };
        self.require(mapped, Promise::Privileges, || {
            format!(
                "user mapping {:?} planned, {:?} found",
                plan.user.mapping, identity.uid_map
            )
        });

        let sets = &ready.capabilities;
        for (name, mask) in [
            ("inheritable", sets.inheritable),
            ("permitted", sets.permitted),
            ("effective", sets.effective),
            ("bounding", sets.bounding),
            ("ambient", sets.ambient),
        ] {
            self.require(mask == 0, Promise::Privileges, || {
                format!("no capabilities planned, {name} set is {mask:#x}")
            });
        }
        self.require(ready.no_new_privs, Promise::Privileges, || {
            "no-new-privileges planned, not set".into()
        });
        self.require(ready.seccomp == 2, Promise::Privileges, || {
            format!("a seccomp filter planned (mode 2), mode {} found", ready.seccomp)
        });
        self.require(!ready.dumpable, Promise::Privileges, || {
            "PID 1 is dumpable: its pipe could be opened".into()
        });
        self.require(ready.nofile.1 <= plan.nofile.hard, Promise::Privileges, || {
            format!(
                "at most {} open files planned, {} found",
                plan.nofile.hard, ready.nofile.1
            )
        });
    }

    fn network(&mut self, ready: &Ready) {
        self.require(ready.interfaces == ["lo"], Promise::Network, || {
            let hint = if ready
                .interfaces
                .iter()
                .any(|name| FALLBACK_TUNNELS.contains(&name.as_str()))
            {
                "; the kernel puts its tunnels' fallback interfaces into every new network namespace: \
                 `sysctl net.core.fb_tunnels_only_for_init_net=2` keeps them out"
            } else {
                ""
            };
            format!("only lo planned, {:?} found{hint}", ready.interfaces)
        });
    }

    fn mounts(&mut self, plan: &LaunchPlan, found: &[MountReading]) {
        // Each one, whichever is seen: there is one root, and none that may be written.
        let mut roots = found.iter().filter(|mount| mount.target == "/").peekable();
        let root_read_only = roots.peek().is_some() && roots.all(|root| root.read_only);
        self.require(root_read_only, Promise::ReadOnlyRoot, || {
            "the root file system is writable".into()
        });
        for mount in &plan.mounts {
            self.declared_mount(mount, reachable(found, &mount.target));
        }
        for secret in &plan.secrets {
            self.in_memory(&secret.target, reachable(found, &secret.target));
        }
        let scratch: Vec<(&str, u64)> = plan
            .tmpfs
            .iter()
            .map(|tmpfs| (tmpfs.target.as_str(), tmpfs.size.bytes()))
            .chain([(SHARED_MEMORY, plan.shm.bytes())])
            .collect();
        for (target, size) in &scratch {
            self.scratch(target, *size, reachable(found, target));
        }
        let planned: Vec<&str> = plan
            .mounts
            .iter()
            .map(|mount| mount.target.as_str())
            .chain(scratch.iter().map(|(target, _)| *target))
            .collect();
        for target in &planned {
            // A second mount at a planned path is one that nobody planned, be it above or below the planned one.
            let times = found.iter().filter(|mount| mount.target == *target).count();
            self.require(times <= 1, Promise::Mounts, || {
                format!("one mount planned at {target}, {times} found")
            });
        }
        for mount in found {
            let declared = mount.target == "/" || planned.contains(&mount.target.as_str());
            self.require(declared || is_engines_own(mount), Promise::Mounts, || {
                let hint = if mount.target == SUBSCRIPTIONS {
                    "; podman puts a copy of the host's subscription secrets there: an empty /etc/containers/mounts.conf \
                     (rootless: ~/.config/containers/mounts.conf) keeps it out, see containers-mounts.conf(5)"
                } else {
                    ""
                };
                format!(
                    "an undeclared mount at {:?} ({}, {}){hint}",
                    mount.target,
                    mount.fstype,
                    if mount.read_only { "read-only" } else { "writable" }
                )
            });
        }
    }

    fn declared_mount(&mut self, planned: &Mount, found: Option<&MountReading>) {
        let Some(found) = found else {
            return self.fail(
                Promise::Mounts,
                format!("{} planned, nothing is mounted there or it is hidden", planned.target),
            );
        };
        // Both ways: a workspace that can't be written is not what was asked for either.
        let found_access = if found.read_only {
            MountAccess::ReadOnly
        } else {
            MountAccess::ReadWrite
        };
        self.require(found_access == planned.access, Promise::Mounts, || {
            let words = |access| match access {
                MountAccess::ReadOnly => "read-only",
                MountAccess::ReadWrite => "writable",
            };
            format!(
                "{} planned {}, found {}",
                planned.target,
                words(planned.access),
                words(found_access)
            )
        });
    }

    /// A secret on a disk outlives its session there.
    fn in_memory(&mut self, target: &str, found: Option<&MountReading>) {
        // That nothing is there at all was said already.
        let Some(found) = found else { return };
        self.require(IN_MEMORY.contains(&found.fstype.as_str()), Promise::Mounts, || {
            format!("a secret in memory planned at {target}, {} found", found.fstype)
        });
    }

    fn scratch(&mut self, target: &str, size: u64, found: Option<&MountReading>) {
        let Some(found) = found else {
            return self.fail(
                Promise::ReadOnlyRoot,
                format!("a scratch file system planned at {target}, none found"),
            );
        };
        self.require(found.fstype == "tmpfs", Promise::ReadOnlyRoot, || {
            format!("tmpfs planned at {target}, {} found", found.fstype)
        });
        self.require(found.nosuid && found.nodev, Promise::ReadOnlyRoot, || {
            format!("{target} lacks nosuid or nodev")
        });
        // The kernel rounds up to whole pages.
        let fits = found
            .size
            .is_some_and(|bytes| bytes > 0 && bytes < size.saturating_add(65_536));
        self.require(fits, Promise::ReadOnlyRoot, || {
            format!(
                "{target} of {size} bytes planned, {} found",
                found.size.map_or("no size".into(), |b| b.to_string())
            )
        });
    }

    fn limits(&mut self, plan: &LaunchPlan, ready: &Ready) -> Vec<ProvenLimit> {
        let cgroup = &ready.cgroup;
        let memory = plan.limits.memory.bytes();
        // The kernel rounds memory limits down to whole pages.
        let memory_holds = [&cgroup.memory, &cgroup.memory_and_swap].iter().all(
            |reading| matches!(reading, LimitReading::Limited(bytes) if *bytes <= memory && memory - bytes < 65_536),
        );
        let cpus = u64::from(plan.limits.cpus.millis());
        let pids = u64::from(plan.limits.pids.get());
        let readings = [
            (
                LimitName::Memory,
                memory,
                memory_holds,
                format!("{:?} (with swap {:?})", cgroup.memory, cgroup.memory_and_swap),
            ),
            (
                LimitName::Cpus,
                cpus,
                cgroup.cpu_millis == LimitReading::Limited(cpus),
                format!("{:?}", cgroup.cpu_millis),
            ),
            (
                LimitName::Pids,
                pids,
                cgroup.pids == LimitReading::Limited(pids),
                format!("{:?}", cgroup.pids),
            ),
        ];
        let mut limits: Vec<ProvenLimit> = readings
            .into_iter()
            .map(|(name, limit, enforced, found)| {
                self.require(
                    enforced || plan.enforcement == Enforcement::BestEffort,
                    Promise::Limits,
                    || format!("{name} limit {limit} planned, {found} found"),
                );
                ProvenLimit {
                    name,
                    limit,
                    enforced,
                    by: Enforcer::Kernel,
                }
            })
            .collect();
        // No controller is needed for these, so no best effort forgives them: files are proven with the privileges, the
        // scratch file systems with the mounts, and a watchdog needs nothing of the machine.
        let certain = [
            (LimitName::OpenFiles, plan.nofile.hard, Enforcer::Kernel),
            (LimitName::Scratch, plan.limits.scratch.bytes(), Enforcer::Kernel),
            (LimitName::Workspace, plan.limits.workspace.bytes(), Enforcer::Watchdog),
            (LimitName::Turn, plan.limits.turn.as_secs(), Enforcer::Watchdog),
            (LimitName::Idle, plan.limits.idle.as_secs(), Enforcer::Watchdog),
            (LimitName::Wall, plan.limits.wall.as_secs(), Enforcer::Watchdog),
        ];
        limits.extend(certain.map(|(name, limit, by)| ProvenLimit {
            name,
            limit,
            enforced: true,
            by,
        }));
        limits
    }
}

/// The mount that a path leads to. The guest works it out from the mounts' parents: their order would not tell.
fn reachable<'a>(found: &'a [MountReading], target: &str) -> Option<&'a MountReading> {
    found.iter().find(|mount| mount.reachable && mount.target == target)
}

/// What engines and OCI runtimes mount into every container by themselves. Seen on podman 4.3 (rootful, rootless) and
/// docker 20.10 with runc; read in crun's sources; `docs/SECURITY.md` lists them.
///
/// What a mount is of can't be seen from inside, so each exception is as narrow as its place allows: either nothing can
/// be written there, or its writable kind holds no files (`/dev/mqueue`, `/dev/pts`), or it belongs to root with
/// mode 755 (`/dev`, `/sys/fs/cgroup`), which P3 has our user not be. A planned path is never one of these.
fn is_engines_own(mount: &MountReading) -> bool {
    let MountReading {
        target,
        fstype,
        read_only,
        nosuid,
        ..
    } = mount;
    let target = target.as_str();
    let below = |parent: &str| {
        target
            .strip_prefix(parent)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    let device_or_mask = DEVICE_NODES.contains(&target) || MASKED_FILES.contains(&target);
    match fstype.as_str() {
        "proc" => below("/proc") && (target == "/proc" || *read_only),
        "sysfs" => below("/sys") && *read_only,
        // Read-only on v2 as well, unless podman takes the entrypoint for systemd, which the plan switches off.
        "cgroup" | "cgroup2" => below("/sys/fs/cgroup") && *read_only,
        "mqueue" => target == "/dev/mqueue",
        // No /dev/console: that is a terminal, which nobody asked for and which would spoil the pipe.
        "devpts" => target == "/dev/pts",
        // The device nodes themselves (in a user namespace they are bound, not made), and /dev/null over files of /proc.
        "devtmpfs" => device_or_mask,
        "tmpfs" => {
            // Where the engine itself runs in a container, the nodes come from that one's /dev, a tmpfs.
            device_or_mask
                || (matches!(target, "/dev" | "/sys/fs/cgroup") && *nosuid)
                || ((below("/proc") || below("/sys")) && *read_only)
                || (ENGINE_FILES.contains(&target) && *read_only)
        }
        // Files that the engine generates, and runtimes that mask with an empty directory of their own in place of a
        // tmpfs: on whatever file system they keep their state.
        _ => (ENGINE_FILES.contains(&target) || MASKED_DIRECTORIES.contains(&target)) && *read_only,
    }
}

const IN_MEMORY: [&str; 2] = ["tmpfs", "ramfs"];
const SHARED_MEMORY: &str = "/dev/shm";
/// Named by the kernel's modules ipip, sit, ip6_tunnel, ip_gre, ip6_gre and ip_vti. Down and without an address, but
/// neither can be seen by name, so they are refused like any other.
const FALLBACK_TUNNELS: [&str; 9] = [
    "tunl0", "sit0", "ip6tnl0", "gre0", "gretap0", "erspan0", "ip6gre0", "ip_vti0", "ip6_vti0",
];
const DEVICE_NODES: [&str; 6] = [
    "/dev/null",
    "/dev/zero",
    "/dev/full",
    "/dev/random",
    "/dev/urandom",
    "/dev/tty",
];
const MASKED_FILES: [&str; 7] = [
    "/proc/keys",
    "/proc/timer_list",
    "/proc/kcore",
    "/proc/latency_stats",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/interrupts",
];
const MASKED_DIRECTORIES: [&str; 7] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/scsi",
    "/sys/dev/block",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
    "/sys/fs/selinux",
];
/// With `--read-only` both engines mount these read-only too, `/etc/localtime` (`tz` in containers.conf(5)) among them.
const ENGINE_FILES: [&str; 7] = [
    "/etc/hosts",
    "/etc/hostname",
    "/etc/localtime",
    "/etc/resolv.conf",
    "/etc/passwd",
    "/etc/group",
    "/run/.containerenv",
];
/// Where the mounts.conf that a distribution ships has podman mount the host's subscription: entitlement keys are
/// secrets of the host, so this is refused like anything else that nobody planned, though every container gets it.
const SUBSCRIPTIONS: &str = "/run/secrets";

#[cfg(test)]
mod tests;
