//! Which user the container runs as, and whom its files belong to on the host.
//!
//! Never root inside. An ordinary user runs containers as itself; root runs them as ids that no host user has, because
//! a rootful container's `--user 1000` *is* host user 1000. Where a folder of the host is the workspace itself, that is
//! what is wanted: files made in it have to belong to whom the folder belongs to, who therefore can't be root.

use crate::plan::PlanError;
use crate::host::facts::{EngineKind, HostFacts};
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
    use crate::plan::fixtures::{docker, rootful_podman, rootless_podman};
    use proptest::prelude::*;

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
        assert_eq!(container_user(&facts), None);
    }

    proptest! {
        #[test]
        fn nobody_is_root_inside_or_outside(uid in prop_oneof![Just(0), 1..u32::MAX], podman: bool, rootless: bool) {
            let mut facts = if podman { rootful_podman() } else { docker(0) };
            (facts.uid, facts.gid, facts.engine.rootless) = (uid, uid, rootless && uid != 0);
            if let Some(user) = container_user(&facts) {
                prop_assert!(![user.uid, user.gid, user.host_uid, user.host_gid].contains(&0));
            }
        }
    }
}
