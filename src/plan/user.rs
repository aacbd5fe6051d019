//! Which user the container runs as, and whom its files belong to on the host.
//!
//! Never root inside. An ordinary user runs containers as itself; root runs them as ids that no host user has, because
//! a rootful container's `--user 1000` *is* host user 1000. Where a folder of the host is the workspace itself, that is
//! what is wanted: files made in it have to belong to whom the folder belongs to, who therefore can't be root.

use crate::host::facts::{EngineKind, HostFacts};
use crate::plan::PlanError;
use crate::plan::launch::{ContainerUser, UserMapping};
use crate::plan::request::{BindRequest, FolderOwner, WorkspaceRequest};

/// First of the 65,536 host ids that root's containers use. Above what login.defs(5) gives to users (60,000) and to
/// subordinate ids (600,100,000), and above systemd's range for containers (1,879,048,191); below 2³¹, which some file
/// systems and tools take for negative.
pub const RESERVED_FIRST: u32 = 2_000_000_000;
const RESERVED_COUNT: u32 = 65_536;
/// The id inside a mapped range, and its offset in it.
const INSIDE: u32 = 1000;

/// Refuses rootless docker: there the invoking user is root inside and every other id is a subordinate one, so no id is
/// both non-root inside and the owner of our files outside. Refuses root a folder of root's.
pub fn container_user(facts: &HostFacts, workspace: &WorkspaceRequest) -> Result<ContainerUser, PlanError> {
    let reserved = RESERVED_FIRST + INSIDE;
    let as_root = facts.engine.kind == EngineKind::Podman || facts.uid == 0;
    if let WorkspaceRequest::Bind(bind) = workspace
        && as_root
        && !facts.engine.rootless
    {
        return folders_owner(bind);
    }
    let user = match (facts.engine.kind, facts.engine.rootless, facts.uid) {
        (EngineKind::Docker, true, _) => return Err(PlanError::RootlessDocker),
        (EngineKind::Podman, false, _) => ContainerUser {
            uid: INSIDE,
            gid: INSIDE,
            mapping: UserMapping::Range {
                first: RESERVED_FIRST,
                count: RESERVED_COUNT,
            },
            host_uid: reserved,
            host_gid: reserved,
        },
        (EngineKind::Docker, false, 0) => ContainerUser {
            uid: reserved,
            gid: reserved,
            mapping: UserMapping::None,
            host_uid: reserved,
            host_gid: reserved,
        },
        (kind, _, uid) => ContainerUser {
            uid,
            gid: facts.gid,
            mapping: if kind == EngineKind::Podman {
                UserMapping::KeepId
            } else {
                UserMapping::None
            },
            host_uid: uid,
            host_gid: facts.gid,
        },
    };
    Ok(user)
}

fn folders_owner(bind: &BindRequest) -> Result<ContainerUser, PlanError> {
    let FolderOwner { uid, gid } = bind.owner;
    if uid == 0 || gid == 0 {
        return Err(PlanError::RootsFolder {
            path: bind.folder.clone(),
            uid,
            gid,
        });
    }
    Ok(ContainerUser {
        uid,
        gid,
        mapping: UserMapping::None,
        host_uid: uid,
        host_gid: gid,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::fixtures::{bind_request, docker, request, rootful_podman, rootless_podman};
    use insta::assert_snapshot;
    use proptest::prelude::*;

    fn container_user(facts: &HostFacts) -> Result<ContainerUser, PlanError> {
        super::container_user(facts, &request().workspace)
    }

    fn on_the_folder_of(uid: u32, gid: u32, facts: &HostFacts) -> Result<ContainerUser, PlanError> {
        let WorkspaceRequest::Bind(mut bind) = bind_request().workspace else {
            panic!("it is one")
        };
        bind.owner = FolderOwner { uid, gid };
        super::container_user(facts, &WorkspaceRequest::Bind(bind))
    }

    #[test]
    fn root_runs_containers_as_ids_that_no_host_user_has() {
        let podman = container_user(&rootful_podman()).unwrap();
        assert_eq!((podman.uid, podman.host_uid), (1000, 2_000_001_000));
        assert_eq!(
            podman.mapping,
            UserMapping::Range {
                first: 2_000_000_000,
                count: 65_536
            }
        );
        let docker = container_user(&docker(0)).unwrap();
        assert_eq!((docker.uid, docker.host_uid), (2_000_001_000, 2_000_001_000));
        assert_eq!(docker.mapping, UserMapping::None);
    }

    #[test]
    fn an_ordinary_user_runs_containers_as_itself() {
        for (facts, mapping) in [
            (rootless_podman(), UserMapping::KeepId),
            (docker(1000), UserMapping::None),
        ] {
            let mut facts = facts;
            facts.gid = 100;
            let user = container_user(&facts).unwrap();
            assert_eq!(
                (user.uid, user.gid, user.host_uid, user.host_gid),
                (1000, 100, 1000, 100)
            );
            assert_eq!(user.mapping, mapping);
        }
    }

    #[test]
    fn rootless_docker_has_no_user_to_offer() {
        let mut facts = docker(1000);
        facts.engine.rootless = true;
        assert_eq!(container_user(&facts), Err(PlanError::RootlessDocker));
        assert_eq!(on_the_folder_of(1000, 1000, &facts), Err(PlanError::RootlessDocker));
    }

    #[test]
    fn root_runs_as_the_owner_of_a_folder_that_is_mounted_itself() {
        for facts in [rootful_podman(), docker(0)] {
            let user = on_the_folder_of(1001, 100, &facts).unwrap();
            let expected = ContainerUser {
                uid: 1001,
                gid: 100,
                mapping: UserMapping::None,
                host_uid: 1001,
                host_gid: 100,
            };
            assert_eq!(user, expected);
            for (uid, gid) in [(0, 0), (0, 100), (1001, 0)] {
                assert!(on_the_folder_of(uid, gid, &facts).is_err(), "{uid}:{gid}");
            }
        }
        assert_snapshot!(on_the_folder_of(0, 0, &docker(0)).unwrap_err(), @r#"
        bind is refused for /tmp/project: as root, a session on a folder of the host runs as the folder's owner (0:0), and nothing runs as root inside.
        Give the folder to an ordinary user (`chown -R USER:GROUP`), start codex-mcp as that user, or use `workspace.mode = "snapshot"`.
        "#);
    }

    #[test]
    fn an_ordinary_user_stays_itself_on_any_folder() {
        for facts in [rootless_podman(), docker(1000)] {
            for owner in [0, 1000, 1001] {
                assert_eq!(on_the_folder_of(owner, owner, &facts), container_user(&facts));
            }
        }
    }

    proptest! {
        #[test]
        fn nobody_is_root_inside_or_outside(
            uid in prop_oneof![Just(0), 1..u32::MAX],
            owner in prop_oneof![Just(0), 1..u32::MAX],
            podman: bool,
            rootless: bool,
        ) {
            let mut facts = if podman { rootful_podman() } else { docker(0) };
            (facts.uid, facts.gid, facts.engine.rootless) = (uid, uid, rootless && uid != 0);
            for user in [container_user(&facts), on_the_folder_of(owner, owner, &facts)].into_iter().flatten() {
                prop_assert!(![user.uid, user.gid, user.host_uid, user.host_gid].contains(&0));
            }
        }
    }
}
