//! Whole plans: one a lane, and what each circumstance changes in them.

use super::*;
use crate::config::Sourced;
use crate::config::network::PackageClient;
use crate::config::secret::SecretPath;
use crate::plan::fixtures::{
    self, best_effort, bind_request, config, docker, image, request, rootful_podman, rootless_podman,
    rootless_podman_v1, scratch_request,
};
use insta::{assert_json_snapshot, assert_snapshot};
use similar::{ChangeTag, TextDiff};
use std::collections::BTreeMap;

#[track_caller]
fn planned(config: &Config, request: &Request, facts: &HostFacts) -> LaunchPlan {
    plan(config, request, facts, &image(), &[]).unwrap()
}

#[test]
fn on_rootful_podman() {
    assert_json_snapshot!(planned(&config(), &request(), &rootful_podman()));
}

#[test]
fn on_rootless_podman() {
    assert_json_snapshot!(planned(&config(), &request(), &rootless_podman()));
}

#[test]
fn on_rootless_podman_that_can_limit_nothing() {
    assert_json_snapshot!(planned(&best_effort(), &request(), &rootless_podman_v1()));
}

#[test]
fn on_docker_as_root() {
    assert_json_snapshot!(planned(&config(), &request(), &docker(0)));
}

#[test]
fn on_docker_as_an_ordinary_user() {
    assert_json_snapshot!(planned(&config(), &request(), &docker(1000)));
}

/// The lines of the plan that a circumstance takes away or adds, on rootless podman; everything else is the same.
#[track_caller]
fn difference(edit: impl FnOnce(&mut Request, &mut HostFacts)) -> String {
    let (mut request, mut facts) = (request(), rootless_podman());
    let text = |request: &Request, facts: &HostFacts| {
        serde_json::to_string_pretty(&planned(&config(), request, facts)).unwrap()
    };
    let before = text(&request, &facts);
    edit(&mut request, &mut facts);
    let after = text(&request, &facts);
    TextDiff::from_lines(&before, &after)
        .iter_all_changes()
        .filter_map(|change| match change.tag() {
            ChangeTag::Equal => None,
            ChangeTag::Delete => Some(format!("- {}", change.value().trim())),
            ChangeTag::Insert => Some(format!("+ {}", change.value().trim())),
        })
        .collect::<Vec<_>>()
        .join("\n")
}

#[test]
fn a_read_only_workspace_is_mounted_so() {
    let change = difference(|request, _| request.access = WorkspaceAccess::ReadOnly);
    assert_snapshot!(change, @r#"
    - "access": "read-write",
    + "access": "read-only",
    "#);
}

/// The session's own files are the same in each mode: what is mounted where they differ, and how.
#[test]
fn each_mode_mounts_what_it_says() {
    let shown = |request: &Request| {
        let plan = planned(&config(), request, &rootless_podman());
        let usual = planned(&config(), &scratch_request(), &rootless_podman());
        let mounts = plan.mounts.iter().filter(|mount| {
            mount.target == paths::WORKSPACE || !usual.mounts.iter().any(|other| other.target == mount.target)
        });
        let mounts: Vec<_> = mounts
            .map(
                |Mount {
                     source,
                     target,
                     access,
                     sharing,
                 }| format!("{} {target} {access:?} {sharing:?}", source.display()),
            )
            .collect();
        format!("{:?} in {}\n{}", plan.workspace_mode, plan.codex.cwd, mounts.join("\n"))
    };
    assert_snapshot!(shown(&request()), @r"
    Snapshot in /tmp/project
    /state/sessions/S/workspace /tmp/project ReadWrite Private
    ");
    assert_snapshot!(shown(&bind_request()), @r"
    Bind in /tmp/project
    /home/me/main/.git /home/me/main/.git ReadOnly Shared
    /tmp/project /tmp/project ReadWrite Shared
    /tmp/project/.git /tmp/project/.git ReadOnly Shared
    ");
    assert_snapshot!(shown(&scratch_request()), @r"
    Scratch in /workspace
    /state/sessions/S/workspace /workspace ReadWrite Private
    ");
    let named = WorkspaceRequest::Scratch {
        named: Some("/tmp/project".into()),
    };
    assert_snapshot!(shown(&Request { workspace: named, ..request() }), @r"
    Scratch in /tmp/project
    /state/sessions/S/workspace /tmp/project ReadWrite Private
    ");
}

#[test]
fn read_only_is_so_in_each_mode() {
    for request in [request(), bind_request(), scratch_request()] {
        let reading = Request {
            access: WorkspaceAccess::ReadOnly,
            ..request
        };
        let plan = planned(&config(), &reading, &rootless_podman());
        let inside = |mount: &&Mount| Path::new(&mount.target).starts_with(&plan.workspace_inside);
        let accesses: Vec<_> = plan.mounts.iter().filter(inside).map(|mount| mount.access).collect();
        assert!(!accesses.is_empty() && accesses.iter().all(|access| *access == MountAccess::ReadOnly));
    }
}

/// The folder is at `/workspace` and the git directory where the folder's `.git` says, or there is no git inside.
#[test]
fn a_git_directory_is_at_its_own_path_or_bind_is_refused() {
    let at = |folder: &str, git: &str| {
        let mut request = bind_request();
        let WorkspaceRequest::Bind(bind) = &mut request.workspace else {
            panic!("it is one")
        };
        (bind.folder, bind.git_elsewhere) = (folder.into(), Some(git.into()));
        plan(&config(), &request, &rootless_podman(), &image(), &[]).map(|plan| plan.workspace_inside)
    };
    assert_eq!(at("/usr/src/app", "/srv/p/.git").as_deref(), Ok("/workspace"));
    for (folder, git) in [
        ("/srv/p", "/usr/src/p/.git"),
        ("/srv/p", "/var/lib/codex/.git"),
        ("/srv/p", "/srv/p/.real"),
        ("/srv/p", "/srv"),
        ("/srv/p", "/srv/p"),
        ("/srv/p", "/srv/a:b"),
    ] {
        assert_eq!(
            at(folder, git),
            Err(PlanError::GitDirectoryPlace { path: git.into() }),
            "{folder} {git}"
        );
    }
    assert_snapshot!(at("/srv/p", "/usr/src/p/.git").unwrap_err(), @r#"
    bind is refused: the folder's git directory is /usr/src/p/.git, which can't be mounted at that same path inside the container, where git looks for it.
    Move the repository, or use `workspace.mode = "snapshot"`.
    "#);
}

#[test]
fn a_protected_name_that_the_mount_syntax_cannot_carry_is_refused() {
    let mut request = bind_request();
    let WorkspaceRequest::Bind(bind) = &mut request.workspace else {
        panic!("it is one")
    };
    bind.protected.push("a:b".into());
    assert!(plan(&config(), &request, &rootless_podman(), &image(), &[]).is_err());
}

#[test]
fn selinux_has_mounts_relabelled() {
    assert_snapshot!(difference(|_, facts| facts.selinux_enforcing = true), @r#"
    - "selinux": "not_needed",
    + "selinux": "relabel",
    "#);
}

#[test]
fn a_workspace_at_a_path_of_the_image_is_at_slash_workspace() {
    let change = difference(|request, _| {
        request.workspace = WorkspaceRequest::Snapshot {
            folder: "/usr/src/app".into(),
        };
    });
    assert_snapshot!(change, @r#"
    - "target": "/tmp/project",
    + "target": "/workspace",
    - "cwd": "/tmp/project",
    + "cwd": "/workspace",
    - "workspace_inside": "/tmp/project",
    + "workspace_inside": "/workspace",
    "#);
}

#[test]
fn a_machine_with_lower_limits_of_its_own_keeps_to_them() {
    let change = difference(|_, facts| (facts.nofile_hard, facts.nproc_hard) = (4096, 1000));
    assert_snapshot!(change, @r#"
    - "soft": 8192,
    - "hard": 20000
    + "soft": 4096,
    + "hard": 4096
    - "nproc": 32768,
    + "nproc": 1000,
    "#);
}

/// The operator's authorities and cargo's mirrors are the only mounts that the network brings.
#[test]
fn what_is_offered_to_clients_is_mounted_read_only() {
    let mut config = config();
    config.network.ca_bundle = Some(Sourced::new("/etc/company.pem".into(), Origin::Default));
    let cargo = PackageSource {
        client: PackageClient::Cargo,
        program: "/usr/bin/cargo".into(),
        rules: Vec::new(),
        environment: BTreeMap::new(),
        cargo_config: Some("[source]".into()),
    };
    let offered = plan(&config, &request(), &rootless_podman(), &image(), &[cargo]).unwrap();
    let usual = planned(&fixtures::config(), &request(), &rootless_podman());
    let mut added = offered.mounts;
    added.retain(|mount| !usual.mounts.contains(mount));
    assert_json_snapshot!(added, @r#"
    [
      {
        "source": "/state/sessions/S/ca-bundle.pem",
        "target": "/run/codex-mcp/ca-bundle.pem",
        "access": "read-only",
        "sharing": "private"
      },
      {
        "source": "/state/sessions/S/cargo-config.toml",
        "target": "/.cargo/config.toml",
        "access": "read-only",
        "sharing": "private"
      }
    ]
    "#);
}

#[test]
fn a_secret_is_a_read_only_mount_of_one_file() {
    let text = "[secrets.npm]\nfrom = { env = \"NPM_TOKEN\" }\npath = \"~/.npmrc\"\n";
    let config = fixtures::config_of(text);
    let with = Request {
        secrets: crate::plan::secrets::planned(&config.secrets, Path::new("/run/user/1000/codex-mcp/secrets/S")),
        ..request()
    };
    let plan = planned(&config, &with, &rootless_podman());
    let usual = planned(&fixtures::config(), &request(), &rootless_podman());
    let mut added = plan.mounts;
    added.retain(|mount| !usual.mounts.contains(mount));
    assert_json_snapshot!((added, plan.secrets), @r#"
    [
      [
        {
          "source": "/run/user/1000/codex-mcp/secrets/S/npm",
          "target": "/home/codex/.npmrc",
          "access": "read-only",
          "sharing": "private"
        }
      ],
      [
        {
          "name": "npm",
          "from": {
            "value": {
              "env": "NPM_TOKEN"
            },
            "origin": {
              "file": {
                "path": "/u.toml",
                "line": 2
              }
            }
          },
          "staged": "/run/user/1000/codex-mcp/secrets/S/npm",
          "target": "/home/codex/.npmrc"
        }
      ]
    ]
    "#);
}

/// The two places of secrets are the only ones where nothing of the image or of ours is.
#[test]
fn a_secret_is_never_at_a_place_of_the_image_or_of_ours() {
    let plan = planned(&config(), &request(), &rootful_podman());
    let ours = plan.mounts.iter().map(|mount| mount.target.as_str());
    let scratch = plan.tmpfs.iter().map(|tmpfs| tmpfs.target.as_str());
    for place in ours
        .chain(scratch)
        .chain([paths::WORKSPACE, paths::CA_BUNDLE, paths::CARGO_CONFIG])
    {
        assert!(place.parse::<SecretPath>().is_err(), "{place}");
    }
    for inside in ["/home/codex/work", "/run/secrets/work"] {
        assert_eq!(
            paths::workspace_inside(Path::new(inside)),
            paths::WORKSPACE,
            "a workspace is never among them"
        );
    }
}

#[test]
fn a_calls_rules_narrow_and_leave_the_operators_as_they_are() {
    let change = difference(|request, _| request.network = Some(vec!["a.example".parse().unwrap()]));
    assert_snapshot!(change, @r#"
    - "narrowed_to": null
    + "narrowed_to": [
    + {
    + "value": "a.example:443",
    + "origin": {
    + "call": {
    + "parameter": "network"
    + }
    + }
    + }
    + ]
    "#);
}

#[test]
fn a_mount_below_another_comes_after_it() {
    for request in [request(), bind_request(), scratch_request()] {
        let plan = planned(&config(), &request, &rootful_podman());
        for (index, mount) in plan.mounts.iter().enumerate() {
            for earlier in &plan.mounts[..index] {
                let above = Path::new(&earlier.target).starts_with(&mount.target);
                assert!(!above, "{} is mounted over {}", mount.target, earlier.target);
            }
        }
    }
}

#[track_caller]
fn refused(config: &Config, request: &Request, facts: &HostFacts, image: &ImageFacts) -> String {
    plan(config, request, facts, image, &[]).unwrap_err().to_string()
}

#[test]
fn rootless_docker_is_refused() {
    let mut facts = docker(1000);
    facts.engine.rootless = true;
    assert_snapshot!(refused(&config(), &request(), &facts, &image()), @r"
    rootless docker is not supported: in it our user would have to be root inside the container.
    Use podman (`--runtime podman`), which maps you to yourself.
    ");
    assert_eq!(
        plan(&best_effort(), &request(), &facts, &image(), &[]),
        Err(PlanError::RootlessDocker),
        "best effort concerns limits only"
    );
}

#[test]
fn what_cannot_be_enforced_is_refused() {
    assert_snapshot!(refused(&config(), &request(), &rootless_podman_v1(), &image()), @r#"
    this machine can't enforce what was asked for:
      memory: rootless podman can't set limits on cgroup v1, and this machine runs v1 with an empty v2 beside it
      cpus: rootless podman can't set limits on cgroup v1, and this machine runs v1 with an empty v2 beside it
      pids: rootless podman can't set limits on cgroup v1, and this machine runs v1 with an empty v2 beside it
    To enforce it: boot with the kernel parameter systemd.unified_cgroup_hierarchy=1, or use a rootful engine.
    To run without these limits, each result then saying `unenforced`: --enforcement best-effort, or
    `limits.enforcement = "best-effort"` (now "required", from default).
    "#);
}

#[test]
fn an_image_that_is_not_ours_is_refused() {
    let unlabelled = ImageFacts {
        codex_version: None,
        contract: None,
        ..image()
    };
    assert_snapshot!(refused(&config(), &request(), &rootful_podman(), &unlabelled), @r"
    the image localhost/codex-mcp:0.169.0 was not built by codex-mcp: it has no Codex version label.
    Build one with `codex-mcp image build`, or point `image` at one.
    ");
    for half in [
        ImageFacts {
            codex_version: None,
            ..image()
        },
        ImageFacts {
            contract: None,
            ..image()
        },
    ] {
        let error = plan(&config(), &request(), &rootful_podman(), &half, &[]).unwrap_err();
        assert!(matches!(error, PlanError::NotOurImage { .. }), "{error}");
    }
}

#[test]
fn an_image_of_another_contract_is_refused() {
    let other = ImageFacts {
        contract: Some(CONTRACT + 1),
        ..image()
    };
    assert_snapshot!(refused(&config(), &request(), &rootful_podman(), &other), @r"
    the image localhost/codex-mcp:0.169.0 speaks guest contract 6 and this codex-mcp speaks 5.
    Rebuild it with `codex-mcp image build --rebuild`.
    ");
}

#[test]
fn a_state_directory_that_the_mount_syntax_cannot_carry_is_refused() {
    let mut request = request();
    request.session_dir = "/state:1/sessions/S".into();
    assert_snapshot!(refused(&config(), &request, &rootful_podman(), &image()), @r#"
    "/state:1/sessions/S/home" can't be mounted: it is not UTF-8, or has a colon, a comma or a control character in it, which the engines' mount syntax can't carry.
    Set `state_dir` (or CODEX_MCP_STATE_DIR), for a secret `secrets_dir`, to a plain path.
    "#);
    request.session_dir = "/state/sessions/S".into();
    request.guest_binary = "/a,b/codex-mcp".into();
    assert!(plan(&config(), &request, &rootful_podman(), &image(), &[]).is_err());
}
