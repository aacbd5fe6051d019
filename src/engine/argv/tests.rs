//! Whole command lines.

use super::*;
use crate::engine::fixtures;
use crate::plan::launch::{ContainerUser, MountSharing, Unenforced};
use crate::plan::paths;

/// One option a line, so that a difference is one line.
fn shown(command: &CommandLine) -> String {
    command
        .to_string()
        .replace(" --", "\n  --")
        .replace(" sha256:", "\n  sha256:")
}

fn shown_run(plan: &LaunchPlan) -> String {
    shown(&run(plan))
}

fn podman_rootful() -> LaunchPlan {
    let engine = EngineFacts {
        oci_runtime: Some("runc".to_owned()),
        ..fixtures::podman()
    };
    LaunchPlan {
        user: ContainerUser {
            uid: 1000,
            gid: 1000,
            mapping: UserMapping::Range {
                first: 2_000_000_000,
                count: 65536,
            },
            host_uid: 2_000_001_000,
            host_gid: 2_000_001_000,
        },
        ..fixtures::plan(engine)
    }
}

fn podman_rootless() -> LaunchPlan {
    fixtures::plan(EngineFacts {
        rootless: true,
        ..fixtures::podman()
    })
}

fn docker(uid: u32) -> LaunchPlan {
    LaunchPlan {
        user: ContainerUser {
            uid,
            gid: uid,
            mapping: UserMapping::None,
            host_uid: uid,
            host_gid: uid,
        },
        nproc: None,
        ..fixtures::plan(fixtures::docker())
    }
}

#[test]
fn podman_as_root() {
    insta::assert_snapshot!(shown_run(&podman_rootful()));
}

#[test]
fn podman_rootless_on_cgroup_v2() {
    insta::assert_snapshot!(shown_run(&podman_rootless()));
}

/// Where limits are not enforced they are asked for all the same; only the runtime differs.
#[test]
fn podman_rootless_on_cgroup_v1() {
    let mut plan = podman_rootless();
    plan.engine.oci_runtime = Some("runc".to_owned());
    use crate::plan::launch::LimitName;
    plan.unenforced = [LimitName::Memory, LimitName::Cpus, LimitName::Pids]
        .map(|limit| Unenforced {
            limit,
            reason: String::new(),
            remedy: String::new(),
        })
        .to_vec();
    insta::assert_snapshot!(shown_run(&plan));
}

#[test]
fn docker_as_root() {
    insta::assert_snapshot!(shown_run(&docker(2_000_001_000)));
}

#[test]
fn docker_as_an_ordinary_user() {
    insta::assert_snapshot!(shown_run(&docker(1000)));
}

/// The lines of `run` that `change` makes different.
fn changed(plan: &LaunchPlan, change: impl FnOnce(&mut LaunchPlan)) -> String {
    let mut other = plan.clone();
    change(&mut other);
    let (before, after) = (shown_run(plan), shown_run(&other));
    let after: Vec<&str> = after
        .lines()
        .filter(|line| !before.lines().any(|old| old == *line))
        .collect();
    after.join("\n")
}

#[test]
fn selinux_relabels_every_mount_on_both_engines() {
    for plan in [podman_rootless(), docker(1000)] {
        insta::allow_duplicates! {
            insta::assert_snapshot!(changed(&plan, |plan| plan.selinux = SelinuxRelabel::Relabel), @r"
              --volume /home/me/.local/state/codex-mcp/guest/0a1b2c:/.codex-mcp:ro,z
              --volume /home/me/.local/state/codex-mcp/sessions/00112233445566778899/workspace:/home/me/project:rw,Z
              --volume /home/me/.local/state/codex-mcp/sessions/00112233445566778899/git:/home/me/project/.git:ro,Z
            ");
        }
    }
}

#[test]
fn a_read_only_workspace_is_a_read_only_mount() {
    let read_only = |plan: &mut LaunchPlan| plan.mounts[1].access = MountAccess::ReadOnly;
    insta::assert_snapshot!(changed(&podman_rootless(), read_only), @"  --volume /home/me/.local/state/codex-mcp/sessions/00112233445566778899/workspace:/home/me/project:ro");
}

#[test]
fn what_is_offered_to_clients_is_one_read_only_volume_each() {
    let offered = |plan: &mut LaunchPlan| {
        plan.mounts.push(fixtures::mount(
            "/s/ca-bundle.pem",
            paths::CA_BUNDLE,
            MountAccess::ReadOnly,
            MountSharing::Private,
        ));
    };
    insta::assert_snapshot!(changed(&podman_rootless(), offered), @"  --volume /s/ca-bundle.pem:/run/codex-mcp/ca-bundle.pem:ro");
    insta::assert_snapshot!(changed(&docker(1000), offered), @"  --volume /s/ca-bundle.pem:/run/codex-mcp/ca-bundle.pem:ro");
}

/// What commands are told of the network is Codex's business: none of it stands in the engine's command line or in Codex's
/// environment, which would send Codex's own requests through the proxy.
#[test]
fn what_commands_are_told_of_the_network_is_on_no_command_line() {
    for plan in [podman_rootful(), docker(1000)] {
        let (shown, variables) = (shown_run(&plan), &plan.network.command_environment);
        assert!(!shown.contains(&variables["https_proxy"]), "{shown}");
        assert!(variables.keys().all(|name| !plan.codex.env.contains_key(name)));
    }
}

#[test]
fn a_path_that_is_no_utf8_stays_what_it_is() {
    use std::os::unix::ffi::{OsStrExt, OsStringExt};
    let mut plan = podman_rootless();
    plan.mounts[1].source = OsString::from_vec(b"/home/\xff".to_vec()).into();
    let command = run(&plan);
    let whole = b"/home/\xff:/home/me/project:rw";
    assert!(command.args.iter().any(|arg| arg.as_bytes() == whole), "{command}");
}

#[test]
fn the_engines_take_a_decimal_number_of_cpus() {
    for (millis, text) in [
        (10, "0.01"),
        (500, "0.5"),
        (1000, "1"),
        (1250, "1.25"),
        (10_000, "10"),
        (10_001, "10.001"),
    ] {
        assert_eq!(cpus_option(CpuShare::from_millis(millis)), text);
    }
}

#[test]
fn the_engine_gives_the_guest_time_to_end_at_its_wall_clock() {
    let short = |plan: &mut LaunchPlan| plan.limits.wall = std::time::Duration::from_millis(10);
    assert_eq!(changed(&podman_rootless(), short), "  --timeout 10");
}

#[test]
fn short_commands() {
    let name = "codex-mcp-00112233445566778899";
    let podman = EngineFacts {
        oci_runtime: Some("runc".to_owned()),
        ..fixtures::podman()
    };
    let all = |engine: &EngineFacts| {
        [
            kill(engine, name),
            remove(engine, [name, "codex-mcp-ffffffffffffffffffff"]),
            list_ours(engine),
            inspect_image(engine, "localhost/codex-mcp:0.169.0"),
        ]
        .map(|command| command.to_string())
        .join("\n")
    };
    insta::assert_snapshot!("short_commands_podman", all(&podman));
    insta::assert_snapshot!("short_commands_docker", all(&fixtures::docker()));
}

/// What the rooms before this one decide, spelled: each mode on each kind of engine. With labels where SELinux is on: the
/// host's own folder must not get one that is private to a container.
#[test]
fn each_workspace_mode_on_each_engine() {
    use crate::plan::fixtures as planned;
    let machines = [
        ("podman_as_root", planned::rootful_podman()),
        ("podman_rootless", planned::rootless_podman()),
        ("docker_as_root", planned::docker(0)),
        ("docker_as_an_ordinary_user", planned::docker(1000)),
    ];
    let requests = [
        ("snapshot", planned::request()),
        ("bind", planned::bind_request()),
        ("scratch", planned::scratch_request()),
    ];
    for (machine, mut facts) in machines {
        facts.selinux_enforcing = true;
        for (mode, request) in &requests {
            let plan = crate::plan::plan(&planned::config(), request, &facts, &planned::image(), &[]).unwrap();
            insta::assert_snapshot!(format!("{mode}_on_{machine}"), shown_run(&plan));
        }
    }
}
