//! Readings of real containers (podman 4.3 and docker 20.10 with runc, on cgroup v1) against the plans they were
//! started from, then each promise broken by itself.

mod limits;

use super::*;
use crate::config::{Config, Origin, Sourced};
use crate::guest::mountinfo;
use crate::host::facts::HostFacts;
use crate::plan::{decide, fixtures, paths};
use crate::wire::contract::Figures;
use crate::wire::contract::{Capabilities, CgroupReading, Identity};
use insta::assert_snapshot;
use proptest::prelude::*;

const ROOTFUL: &str = include_str!("captured/rootful-podman.mountinfo");
const ROOTLESS: &str = include_str!("captured/rootless-podman.mountinfo");
const DOCKER: &str = include_str!("captured/docker.mountinfo");

fn plan(config: &Config, facts: &HostFacts) -> LaunchPlan {
    decide::plan(config, &fixtures::request(), facts, &fixtures::image(), &[]).unwrap()
}

/// What the guest of a faithful engine reports: the captured mounts, and everything else as planned.
fn ready(plan: &LaunchPlan, mountinfo: &str, uid_map: Vec<(u32, u32, u32)>) -> Ready {
    let mut mounts: Vec<MountReading> = mountinfo::parse(mountinfo)
        .unwrap()
        .into_iter()
        .map(|line| line.reading)
        .collect();
    // Captured where it was mounted, as it is where the folder itself is the workspace.
    let planned = |target: &str| plan.mounts.iter().any(|mount| mount.target == target);
    mounts.retain(|mount| mount.target != "/tmp/project/.git" || planned(&mount.target));
    for mount in &mut mounts {
        mount.size = match mount.target.as_str() {
            "/tmp" | "/home/codex" => Some(1 << 30),
            "/dev/shm" => Some(64 << 20),
            _ => None,
        };
    }
    let (uid, gid) = (plan.user.uid, plan.user.gid);
    Ready {
        contract: CONTRACT,
        version: "0.1.0".into(),
        pid: 1,
        identity: Identity {
            uids: [uid; 4],
            gids: [gid; 4],
            groups: vec![gid],
            uid_map,
        },
        capabilities: Capabilities {
            inheritable: 0,
            permitted: 0,
            effective: 0,
            bounding: 0,
            ambient: 0,
        },
        seccomp: 2,
        no_new_privs: true,
        dumpable: false,
        cgroup: CgroupReading {
            version: 1,
            memory: LimitReading::Limited(plan.limits.memory.bytes()),
            memory_and_swap: LimitReading::Limited(plan.limits.memory.bytes()),
            cpu_millis: LimitReading::Limited(2000),
            pids: LimitReading::Limited(512),
        },
        nofile: (plan.nofile.soft, plan.nofile.hard),
        mounts,
        interfaces: vec!["lo".into()],
    }
}

fn rootful() -> (LaunchPlan, Ready) {
    let plan = plan(&fixtures::config(), &fixtures::rootful_podman());
    let ready = ready(&plan, ROOTFUL, vec![(0, 2_000_000_000, 65_536)]);
    (plan, ready)
}

fn rootless(config: &Config, facts: &HostFacts) -> (LaunchPlan, Ready) {
    let plan = plan(config, facts);
    let ready = ready(&plan, ROOTLESS, vec![(0, 1, 1000), (1000, 0, 1), (1001, 1001, 64_535)]);
    (plan, ready)
}

fn docker(uid: u32) -> (LaunchPlan, Ready) {
    let plan = plan(&fixtures::config(), &fixtures::docker(uid));
    let ready = ready(&plan, DOCKER, vec![(0, 0, u32::MAX)]);
    (plan, ready)
}

fn at<'a>(ready: &'a mut Ready, target: &str) -> &'a mut MountReading {
    ready.mounts.iter_mut().find(|mount| mount.target == target).unwrap()
}

fn mount(target: &str, fstype: &str, read_only: bool) -> MountReading {
    MountReading {
        target: target.into(),
        fstype: fstype.into(),
        read_only,
        nosuid: true,
        nodev: true,
        noexec: true,
        reachable: true,
        size: None,
    }
}

/// Breaks one thing of a rootful podman's reading and returns what is then said, one promise a line.
#[track_caller]
fn broken(edit: impl FnOnce(&mut Ready)) -> String {
    let (plan, mut ready) = rootful();
    edit(&mut ready);
    refusal(&plan, &ready)
}

#[track_caller]
fn refusal(plan: &LaunchPlan, ready: &Ready) -> String {
    let Refusal(violations) = prove(plan, ready).unwrap_err();
    violations
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join("\n")
}

/// Adds one mount to a rootful podman's reading.
fn with(extra: MountReading) -> Result<Proof, Refusal> {
    let (plan, mut ready) = rootful();
    ready.mounts.push(extra);
    prove(&plan, &ready)
}

#[test]
fn what_faithful_engines_start_is_proven() {
    let rootless = rootless(&fixtures::config(), &fixtures::rootless_podman());
    for (plan, ready) in [rootful(), rootless, docker(0), docker(1000)] {
        let proof = prove(&plan, &ready).unwrap();
        let enforced: Vec<_> = proof.limits.iter().map(|l| (l.name, l.limit, l.enforced)).collect();
        assert_eq!(
            enforced[..3],
            [
                (LimitName::Memory, 4 << 30, true),
                (LimitName::Cpus, 2000, true),
                (LimitName::Pids, 512, true)
            ]
        );
    }
}

#[test]
fn a_secret_is_proven_to_be_read_only_and_in_memory() {
    let config = fixtures::config_of("[secrets.npm]\nfrom = { env = \"NPM_TOKEN\" }\n");
    let request = crate::plan::request::Request {
        secrets: crate::plan::secrets::planned(&config.secrets, std::path::Path::new("/run/codex-mcp/secrets/S")),
        ..fixtures::request()
    };
    let plan = decide::plan(&config, &request, &fixtures::rootful_podman(), &fixtures::image(), &[]).unwrap();
    let with = |reading: &[MountReading]| {
        let mut ready = ready(&plan, ROOTFUL, vec![(0, 2_000_000_000, 65_536)]);
        ready.mounts.extend(reading.iter().cloned());
        ready
    };
    let target = "/run/secrets/npm";
    prove(&plan, &with(&[mount(target, "tmpfs", true)])).unwrap();
    prove(&plan, &with(&[mount(target, "ramfs", true)])).unwrap();
    assert_snapshot!(refusal(&plan, &with(&[mount(target, "ext4", true)])), @"P1 (only declared mounts are visible): a secret in memory planned at /run/secrets/npm, ext4 found");
    assert_snapshot!(refusal(&plan, &with(&[mount(target, "tmpfs", false)])), @"P1 (only declared mounts are visible): /run/secrets/npm planned read-only, found writable");
    assert_snapshot!(refusal(&plan, &with(&[])), @"P1 (only declared mounts are visible): /run/secrets/npm planned, nothing is mounted there or it is hidden");
    let (unplanned, mut ready) = rootful();
    ready.mounts.push(mount(target, "tmpfs", true));
    assert!(prove(&unplanned, &ready).is_err(), "one that nobody configured");
}

#[test]
fn stock_cgroup_v2_hosts_are_proven() {
    // One cgroup2 mount in place of v1's many; what crun and newer engines mask besides.
    let (plan, mut ready) = rootless(&fixtures::config(), &fixtures::rootless_podman());
    ready.mounts.retain(|mount| !mount.target.starts_with("/sys/fs/cgroup"));
    ready.cgroup.version = 2;
    for (target, fstype) in [
        ("/sys/fs/cgroup", "cgroup2"),
        ("/proc/asound", "tmpfs"),
        ("/proc/scsi", "tmpfs"),
        ("/proc/sysrq-trigger", "proc"),
        ("/sys/fs/selinux", "tmpfs"),
        ("/sys/devices/virtual/powercap", "tmpfs"),
        ("/sys/devices/system/cpu/cpu0/thermal_throttle", "tmpfs"),
        ("/etc/localtime", "xfs"),
    ] {
        ready.mounts.push(mount(target, fstype, true));
    }
    for target in ["/proc/kcore", "/proc/interrupts"] {
        ready.mounts.push(mount(target, "devtmpfs", false));
    }
    // An empty directory of the runtime's state, which root keeps on a file system of its own.
    *at(&mut ready, "/proc/acpi") = mount("/proc/acpi", "ext4", true);
    prove(&plan, &ready).unwrap();
}

#[test]
fn a_read_only_dev_is_proven() {
    // Newer podman makes /dev read-only with --read-only-tmpfs=false.
    let (plan, mut ready) = rootful();
    at(&mut ready, "/dev").read_only = true;
    prove(&plan, &ready).unwrap();
}

#[test]
fn a_wrong_user_is_named() {
    assert_snapshot!(broken(|r| r.identity.uids = [0; 4]), @"P3 (not root, no capabilities, no new privileges, seccomp on): uid 1000 planned, uids [0, 0, 0, 0] found");
    assert_snapshot!(broken(|r| r.identity.uids[2] = 0), @"P3 (not root, no capabilities, no new privileges, seccomp on): uid 1000 planned, uids [1000, 1000, 0, 1000] found");
    assert_snapshot!(broken(|r| r.identity.gids[3] = 0), @"P3 (not root, no capabilities, no new privileges, seccomp on): gid 1000 planned, gids [1000, 1000, 1000, 0] and groups [1000] found");
    assert_snapshot!(broken(|r| r.identity.groups.push(27)), @"P3 (not root, no capabilities, no new privileges, seccomp on): gid 1000 planned, gids [1000, 1000, 1000, 1000] and groups [1000, 27] found");
    assert_snapshot!(broken(|r| r.identity.uid_map = vec![(0, 0, u32::MAX)]), @"P3 (not root, no capabilities, no new privileges, seccomp on): user mapping Range { first: 2000000000, count: 65536 } planned, [(0, 0, 4294967295)] found");
    let (mut plan, mut ready) = docker(0);
    (plan.user.uid, plan.user.gid) = (0, 0);
    (ready.identity.uids, ready.identity.gids, ready.identity.groups) = ([0; 4], [0; 4], vec![]);
    assert_eq!(
        prove(&plan, &ready).unwrap_err().0.len(),
        2,
        "root is refused even where it is planned"
    );
    let (plan, mut ready) = rootless(&fixtures::config(), &fixtures::rootless_podman());
    ready.identity.uid_map = vec![(0, 0, u32::MAX)];
    assert_snapshot!(refusal(&plan, &ready), @"P3 (not root, no capabilities, no new privileges, seccomp on): user mapping KeepId planned, [(0, 0, 4294967295)] found");
}

#[test]
fn every_privilege_is_named() {
    assert_snapshot!(broken(|r| r.capabilities.inheritable = 1), @"P3 (not root, no capabilities, no new privileges, seccomp on): no capabilities planned, inheritable set is 0x1");
    assert_snapshot!(broken(|r| r.capabilities.permitted = 1 << 21), @"P3 (not root, no capabilities, no new privileges, seccomp on): no capabilities planned, permitted set is 0x200000");
    assert_snapshot!(broken(|r| r.capabilities.effective = 1 << 40), @"P3 (not root, no capabilities, no new privileges, seccomp on): no capabilities planned, effective set is 0x10000000000");
    assert_snapshot!(broken(|r| r.capabilities.bounding = 0xa804_25fb), @"P3 (not root, no capabilities, no new privileges, seccomp on): no capabilities planned, bounding set is 0xa80425fb");
    assert_snapshot!(broken(|r| r.capabilities.ambient = 2), @"P3 (not root, no capabilities, no new privileges, seccomp on): no capabilities planned, ambient set is 0x2");
    assert_snapshot!(broken(|r| r.seccomp = 0), @"P3 (not root, no capabilities, no new privileges, seccomp on): a seccomp filter planned (mode 2), mode 0 found");
    assert_snapshot!(broken(|r| r.seccomp = 1), @"P3 (not root, no capabilities, no new privileges, seccomp on): a seccomp filter planned (mode 2), mode 1 found");
    assert_snapshot!(broken(|r| r.no_new_privs = false), @"P3 (not root, no capabilities, no new privileges, seccomp on): no-new-privileges planned, not set");
    assert_snapshot!(broken(|r| r.dumpable = true), @"P3 (not root, no capabilities, no new privileges, seccomp on): PID 1 is dumpable: its pipe could be opened");
    assert_snapshot!(broken(|r| r.nofile.1 = 1 << 20), @"P3 (not root, no capabilities, no new privileges, seccomp on): at most 20000 open files planned, 1048576 found");
}

/// A bundle of authorities that nobody planned is somebody's who would read what commands send.
#[test]
fn offered_files_are_accepted_where_they_are_planned_and_read_only() {
    let mut config = fixtures::config();
    config.network.ca_bundle = Some(Sourced::new("/etc/company.pem".into(), Origin::Default));
    let planned = plan(&config, &fixtures::rootful_podman());
    let (usual, mut ready) = rootful();
    assert_snapshot!(refusal(&planned, &ready), @"P1 (only declared mounts are visible): /run/codex-mcp/ca-bundle.pem planned, nothing is mounted there or it is hidden");
    ready.mounts.push(mount(paths::CA_BUNDLE, "ext4", true));
    assert!(prove(&planned, &ready).is_ok());
    assert_snapshot!(refusal(&usual, &ready), @r#"P1 (only declared mounts are visible): an undeclared mount at "/run/codex-mcp/ca-bundle.pem" (ext4, read-only)"#);
    at(&mut ready, paths::CA_BUNDLE).read_only = false;
    assert_snapshot!(refusal(&planned, &ready), @"P1 (only declared mounts are visible): /run/codex-mcp/ca-bundle.pem planned read-only, found writable");
}

#[test]
fn contract_and_lifeline_are_named() {
    assert_snapshot!(broken(|r| r.contract = 1), @"P19 (the guest speaks our contract): contract 5 planned, the guest speaks 1");
    assert_snapshot!(broken(|r| r.pid = 2), @"P12 (the container ends with its pipe): the guest planned as PID 1, found as PID 2");
}

#[test]
fn an_interface_is_named() {
    assert_snapshot!(broken(|r| r.interfaces.push("eth0".into())), @r#"P7 (no network interface but lo): only lo planned, ["lo", "eth0"] found"#);
    assert_snapshot!(broken(|r| r.interfaces.clear()), @"P7 (no network interface but lo): only lo planned, [] found");
    assert_snapshot!(broken(|r| r.interfaces.push("tunl0".into())), @r#"P7 (no network interface but lo): only lo planned, ["lo", "tunl0"] found; the kernel puts its tunnels' fallback interfaces into every new network namespace: `sysctl net.core.fb_tunnels_only_for_init_net=2` keeps them out"#);
}

#[test]
fn a_wrong_root_or_declared_mount_is_named() {
    assert_snapshot!(broken(|r| at(r, "/").read_only = false), @"P2 (root file system read-only, writable places sized): the root file system is writable");
    assert_snapshot!(broken(|r| r.mounts.retain(|m| m.target != "/")), @"P2 (root file system read-only, writable places sized): the root file system is writable");
    assert_snapshot!(broken(|r| r.mounts.push(mount("/", "overlay", false))), @"P2 (root file system read-only, writable places sized): the root file system is writable");
    assert_snapshot!(broken(|r| at(r, "/var/lib/codex/rules").read_only = false), @"P1 (only declared mounts are visible): /var/lib/codex/rules planned read-only, found writable");
    assert_snapshot!(broken(|r| at(r, "/run/codex-mcp/guest").read_only = false), @"P1 (only declared mounts are visible): /run/codex-mcp/guest planned read-only, found writable");
    assert_snapshot!(broken(|r| at(r, "/tmp/project").read_only = true), @"P1 (only declared mounts are visible): /tmp/project planned writable, found read-only");
    assert_snapshot!(broken(|r| r.mounts.retain(|m| m.target != "/var/lib/codex/hooks.json")), @"P1 (only declared mounts are visible): /var/lib/codex/hooks.json planned, nothing is mounted there or it is hidden");
}

#[test]
fn a_planned_mount_that_is_hidden_or_doubled_is_named() {
    assert_snapshot!(broken(|r| at(r, "/var/lib/codex/config.toml").reachable = false), @"P1 (only declared mounts are visible): /var/lib/codex/config.toml planned, nothing is mounted there or it is hidden");
    // Under the planned one, or over it: either way one that nobody planned.
    assert_snapshot!(broken(|r| {
        let hidden = MountReading { reachable: false, ..mount("/tmp/project", "ext4", false) };
        r.mounts.insert(0, hidden);
    }), @"P1 (only declared mounts are visible): one mount planned at /tmp/project, 2 found");
    assert_snapshot!(broken(|r| r.mounts.push(mount("/dev/shm", "tmpfs", false))), @"P1 (only declared mounts are visible): one mount planned at /dev/shm, 2 found");
}

/// What the mounts of a folder of the host are for: each that lacks, hides or may be written lets a container plant what
/// git runs on the host.
#[test]
fn a_protected_name_of_a_folder_of_the_host_is_missed() {
    for facts in [
        fixtures::rootful_podman(),
        fixtures::docker(0),
        fixtures::rootless_podman(),
    ] {
        let plan = decide::plan(
            &fixtures::config(),
            &fixtures::bind_request(),
            &facts,
            &fixtures::image(),
            &[],
        )
        .unwrap();
        let uid_map = match facts.engine.rootless {
            true => vec![(0, 1, 1000), (1000, 0, 1), (1001, 1001, 64_535)],
            false => vec![(0, 0, u32::MAX)],
        };
        let mut faithful = ready(&plan, ROOTFUL, uid_map);
        faithful.mounts.push(mount("/home/me/main/.git", "ext4", true));
        prove(&plan, &faithful).unwrap();
        let breaking: [fn(&mut Ready); 6] = [
            |r| at(r, "/tmp/project/.git").read_only = false,
            |r| at(r, "/tmp/project/.git").reachable = false,
            |r| r.mounts.retain(|m| m.target != "/tmp/project/.git"),
            |r| at(r, "/home/me/main/.git").read_only = false,
            |r| r.mounts.push(mount("/tmp/project/vendor", "ext4", false)),
            |r| r.mounts.push(mount("/tmp/project/.git/hooks", "ext4", false)),
        ];
        for (index, edit) in breaking.into_iter().enumerate() {
            let mut broken = faithful.clone();
            edit(&mut broken);
            let Refusal(violations) = prove(&plan, &broken).unwrap_err();
            assert_eq!(violations[0].promise, Promise::Mounts, "edit {index}");
        }
        let mut as_root = faithful;
        as_root.identity.uids = [0; 4];
        assert_eq!(prove(&plan, &as_root).unwrap_err().0[0].promise, Promise::Privileges);
    }
}

#[test]
fn the_sealed_files_hidden_by_a_home_that_was_mounted_after_them_are_missed() {
    // What the kernel would list if an engine mounted in the wrong order.
    let (plan, mut ready) = rootful();
    let id_of = |target: &str| {
        let line = ROOTFUL.lines().find(|line| line.contains(&format!(" {target} ")));
        line.unwrap().split(' ').next().unwrap().to_owned()
    };
    let (root, home) = (id_of("/"), id_of("/var/lib/codex"));
    let wrong = ROOTFUL.replace(&format!(" {home} "), &format!(" {root} "));
    assert_ne!(wrong, ROOTFUL);
    for line in mountinfo::parse(&wrong).unwrap() {
        let mut mounts = ready.mounts.iter_mut();
        if let Some(mount) = mounts.find(|mount| mount.target == line.reading.target) {
            mount.reachable = line.reading.reachable;
        }
    }
    let text = refusal(&plan, &ready);
    assert!(
        text.contains("/var/lib/codex/config.toml planned, nothing is mounted there or it is hidden"),
        "{text}"
    );
    assert_eq!(text.lines().count(), 7, "{text}");
}

#[test]
fn an_undeclared_mount_is_named_whatever_it_is() {
    assert_snapshot!(broken(|r| r.mounts.push(mount("/mnt/host", "ext4", false))), @r#"P1 (only declared mounts are visible): an undeclared mount at "/mnt/host" (ext4, writable)"#);
    assert_snapshot!(broken(|r| r.mounts.push(mount("/mnt/host", "ext4", true))), @r#"P1 (only declared mounts are visible): an undeclared mount at "/mnt/host" (ext4, read-only)"#);
    assert_snapshot!(broken(|r| r.mounts.push(mount("/run/docker.sock", "tmpfs", false))), @r#"P1 (only declared mounts are visible): an undeclared mount at "/run/docker.sock" (tmpfs, writable)"#);
    // A host's own secrets, which a stock podman of such a distribution brings along.
    assert_snapshot!(broken(|r| r.mounts.push(mount("/run/secrets", "tmpfs", true))), @r#"P1 (only declared mounts are visible): an undeclared mount at "/run/secrets" (tmpfs, read-only); podman puts a copy of the host's subscription secrets there: an empty /etc/containers/mounts.conf (rootless: ~/.config/containers/mounts.conf) keeps it out, see containers-mounts.conf(5)"#);
    for undeclared in [
        mount("/data", "overlay", false),
        mount("/tmp/project/node_modules", "ext4", true),
        mount("/var/lib/codex/sessions", "tmpfs", true),
        mount("/run", "tmpfs", false),
        mount("/var/tmp", "tmpfs", false),
        mount("/dev/console", "devpts", false),
        mount("/dev/kvm", "devtmpfs", false),
        mount("/dev/fuse", "devtmpfs", true),
        mount("/dev/nvme0n1", "tmpfs", false),
        mount("/dev/shm/x", "tmpfs", true),
        mount("/sys/fs/cgroup", "cgroup2", false),
        mount("/sys/fs/bpf", "bpf", true),
        mount("/sys", "sysfs", false),
        mount("/sys/kernel/security", "securityfs", true),
        mount("/proc/sys", "proc", false),
        mount("/host/proc", "proc", true),
        mount("/proc/acpi", "ext4", false),
        mount("/proc/acpi", "tmpfs", false),
        mount("/procfs", "tmpfs", true),
        mount("/etc/passwd", "ext4", false),
        mount("/etc/shadow", "ext4", true),
        mount("/run/secrets", "tmpfs", false),
        mount("/run/secrets", "xfs", true),
        mount("/run/secrets/key", "tmpfs", true),
        MountReading {
            nosuid: false,
            ..mount("/dev", "tmpfs", false)
        },
        MountReading {
            reachable: false,
            ..mount("/mnt/host", "ext4", true)
        },
    ] {
        let Refusal(violations) = with(undeclared.clone()).unwrap_err();
        assert_eq!(violations.len(), 1, "{undeclared:?}");
        assert_eq!(violations[0].promise, Promise::Mounts, "{undeclared:?}");
    }
}

#[test]
fn every_violation_is_told_at_once() {
    let (plan, mut ready) = rootful();
    ready.seccomp = 0;
    ready.interfaces.push("eth0".into());
    assert_snapshot!(prove(&plan, &ready).unwrap_err(), @r#"
    the container is not what was planned, so it was ended before anything ran in it:
      P3 (not root, no capabilities, no new privileges, seccomp on): a seccomp filter planned (mode 2), mode 0 found
      P7 (no network interface but lo): only lo planned, ["lo", "eth0"] found
    Look for a wrapper or a configuration of the engine that changes its flags; `codex-mcp plan` prints them.
    "#);
}

proptest! {
    #[test]
    fn a_mount_that_is_neither_planned_nor_an_engines_own_is_refused(
        target in prop_oneof![
            "/[a-z.]{1,8}(/[a-z.]{1,8}){0,3}",
            "(/dev|/proc|/sys|/etc|/run|/tmp|/home/codex|/var/lib/codex|/tmp/project)/[a-z.]{1,8}",
            "(/dev|/proc|/sys|/etc/hosts|/etc/passwd|/run/secrets|/sys/fs/cgroup)[a-z]{1,3}",
        ],
        fstype in prop_oneof![
            Just("ext4"), Just("tmpfs"), Just("overlay"), Just("proc"), Just("sysfs"), Just("cgroup2"), Just("devpts"),
            Just("mqueue"), Just("devtmpfs"), Just("fuse.sshfs")
        ],
        read_only: bool,
        reachable: bool,
    ) {
        let (plan, ready) = rootful();
        // Said again, and more coarsely than the product does: below /proc and /sys what is read-only may be a mask.
        let mask = read_only && (target.starts_with("/proc/") || target.starts_with("/sys/"));
        let known = ready.mounts.iter().any(|mount| mount.target == target) || plan.mounts.iter().any(|m| m.target == target);
        let engine_file = ENGINE_FILES.contains(&target.as_str()) || DEVICE_NODES.contains(&target.as_str())
            || MASKED_FILES.contains(&target.as_str());
        prop_assume!(!mask && !known && !engine_file);
        let extra = MountReading { reachable, ..mount(&target, fstype, read_only) };
        let Refusal(violations) = with(extra).unwrap_err();
        prop_assert_eq!(violations.len(), 1);
        prop_assert_eq!(violations[0].promise, Promise::Mounts);
    }
}
