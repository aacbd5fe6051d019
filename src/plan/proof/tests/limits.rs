//! Limits and sizes: what is listed of them, what is named as wrong, and what best effort forgives.

use super::*;

/// What a session may use, and who sees to it.
#[test]
fn a_proof_lists_every_limit() {
    let (plan, ready) = rootful();
    let limits = prove(&plan, &ready).unwrap().limits;
    let shown: Vec<_> = limits
        .iter()
        .map(|l| format!("{} {} {:?}", l.name, l.limit, l.by))
        .collect();
    assert_snapshot!(shown.join("\n"), @r"
    memory 4294967296 Kernel
    cpus 2000 Kernel
    pids 512 Kernel
    open_files 20000 Kernel
    scratch 1073741824 Kernel
    workspace 10737418240 Watchdog
    turn 1800 Watchdog
    idle 1800 Watchdog
    wall 28800 Watchdog
    ");
    let names: Vec<_> = limits.iter().map(|l| serde_json::to_value(l.name).unwrap()).collect();
    assert!(names.iter().zip(&limits).all(|(json, l)| json == l.name.as_str()));
}

#[test]
fn a_wrong_scratch_file_system_is_named() {
    assert_snapshot!(broken(|r| at(r, "/tmp").size = None), @"P2 (root file system read-only, writable places sized): /tmp of 1073741824 bytes planned, no size found");
    assert_snapshot!(broken(|r| at(r, "/tmp").size = Some(0)), @"P2 (root file system read-only, writable places sized): /tmp of 1073741824 bytes planned, 0 found");
    assert_snapshot!(broken(|r| at(r, "/home/codex").size = Some((1 << 30) + 65_536)), @"P2 (root file system read-only, writable places sized): /home/codex of 1073741824 bytes planned, 1073807360 found");
    assert_snapshot!(broken(|r| at(r, "/dev/shm").size = Some(8 << 30)), @"P2 (root file system read-only, writable places sized): /dev/shm of 67108864 bytes planned, 8589934592 found");
    assert_snapshot!(broken(|r| at(r, "/tmp").nosuid = false), @"P2 (root file system read-only, writable places sized): /tmp lacks nosuid or nodev");
    assert_snapshot!(broken(|r| at(r, "/dev/shm").nodev = false), @"P2 (root file system read-only, writable places sized): /dev/shm lacks nosuid or nodev");
    assert_snapshot!(broken(|r| at(r, "/home/codex").fstype = "ext4".into()), @"P2 (root file system read-only, writable places sized): tmpfs planned at /home/codex, ext4 found");
    assert_snapshot!(broken(|r| r.mounts.retain(|m| m.target != "/dev/shm")), @"P2 (root file system read-only, writable places sized): a scratch file system planned at /dev/shm, none found");
    // Pages are rounded up.
    let (plan, mut ready) = rootful();
    at(&mut ready, "/tmp").size = Some((1 << 30) + 65_535);
    prove(&plan, &ready).unwrap();
}

#[test]
fn a_wrong_limit_is_named() {
    use LimitReading::{Limited, Unknown, Unlimited};
    assert_snapshot!(broken(|r| r.cgroup.memory = Limited(8 << 30)), @"P4-P6 (memory, process and CPU limits): memory limit 4294967296 planned, Limited(8589934592) (with swap Limited(4294967296)) found");
    assert_snapshot!(broken(|r| r.cgroup.memory = Limited((4 << 30) - 65_536)), @"P4-P6 (memory, process and CPU limits): memory limit 4294967296 planned, Limited(4294901760) (with swap Limited(4294967296)) found");
    assert_snapshot!(broken(|r| r.cgroup.memory = Unlimited), @"P4-P6 (memory, process and CPU limits): memory limit 4294967296 planned, Unlimited (with swap Limited(4294967296)) found");
    assert_snapshot!(broken(|r| r.cgroup.memory_and_swap = Unlimited), @"P4-P6 (memory, process and CPU limits): memory limit 4294967296 planned, Limited(4294967296) (with swap Unlimited) found");
    assert_snapshot!(broken(|r| r.cgroup.memory_and_swap = Limited(8 << 30)), @"P4-P6 (memory, process and CPU limits): memory limit 4294967296 planned, Limited(4294967296) (with swap Limited(8589934592)) found");
    assert_snapshot!(broken(|r| r.cgroup.cpu_millis = Limited(2001)), @"P4-P6 (memory, process and CPU limits): cpus limit 2000 planned, Limited(2001) found");
    assert_snapshot!(broken(|r| r.cgroup.pids = Unknown("no such file".into())), @r#"P4-P6 (memory, process and CPU limits): pids limit 512 planned, Unknown("no such file") found"#);
    // The kernel rounds down to whole pages.
    let (plan, mut ready) = rootful();
    ready.cgroup.memory = Limited((4 << 30) - 4096);
    prove(&plan, &ready).unwrap();
}

#[test]
fn best_effort_forgives_limits_only_and_says_so() {
    let (plan, faithful) = rootless(&fixtures::best_effort(), &fixtures::rootless_podman_v1());
    let mut ready = faithful;
    ready.cgroup.memory = LimitReading::Unlimited;
    ready.cgroup.pids = LimitReading::Unknown("no such file".into());
    let enforced: Vec<_> = prove(&plan, &ready)
        .unwrap()
        .limits
        .iter()
        .map(|l| (l.name, l.enforced))
        .collect();
    assert_eq!(
        enforced,
        [
            (LimitName::Memory, false),
            (LimitName::Cpus, true),
            (LimitName::Pids, false),
            (LimitName::OpenFiles, true),
            (LimitName::Scratch, true),
            (LimitName::Workspace, true),
            (LimitName::Turn, true),
            (LimitName::Idle, true),
            (LimitName::Wall, true),
        ]
    );
    let edits: [fn(&mut Ready); 6] = [
        |r| r.contract = 0,
        |r| r.pid = 7,
        |r| r.seccomp = 0,
        |r| at(r, "/tmp").size = None,
        |r| at(r, "/var/lib/codex/rules").read_only = false,
        |r| r.interfaces.push("eth0".into()),
    ];
    for (index, edit) in edits.into_iter().enumerate() {
        let mut ready = ready.clone();
        edit(&mut ready);
        assert_eq!(prove(&plan, &ready).unwrap_err().0.len(), 1, "edit {index}");
    }
}

#[test]
fn figures_count_where_the_planned_limit_is() {
    let said = Figures {
        memory_peak: Some(1),
        cpu_micros: Some(2),
        pids_peak: Some(3),
    };
    let proof = |cgroup_version, enforced: [bool; 3]| Proof {
        limits: LimitName::OF_CGROUP
            .into_iter()
            .zip(enforced)
            .map(|(name, enforced)| ProvenLimit {
                name,
                limit: 1,
                enforced,
                by: Enforcer::Kernel,
            })
            .collect(),
        cgroup_version,
    };
    for (cgroup_version, enforced, own) in [
        (1, [true; 3], said),
        (1, [false; 3], Figures::default()),
        (
            1,
            [true, false, false],
            Figures {
                memory_peak: Some(1),
                ..Figures::default()
            },
        ),
        (
            1,
            [false, true, true],
            Figures {
                memory_peak: None,
                ..said
            },
        ),
        (2, [true, false, true], said),
        (2, [false; 3], Figures::default()),
    ] {
        assert_eq!(proof(cgroup_version, enforced).own_figures(said), own, "{enforced:?}");
    }
}
