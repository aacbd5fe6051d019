//! Which limits this machine can't enforce, why, and what would mend it.

use crate::host::facts::{CgroupVersion, EngineKind, HostFacts};
use crate::plan::launch::{LimitName, Unenforced};

/// The limits that the engine would accept and the kernel would never hear of. Podman only prints a warning for them.
pub fn unenforceable(facts: &HostFacts) -> Vec<Unenforced> {
    CONTROLLERS
        .into_iter()
        .filter_map(|(limit, controller)| why_not(limit, controller, facts))
        .collect()
}

/// What enforces each; the other limits need no cgroup.
const CONTROLLERS: [(LimitName, &str); 3] = [
    (LimitName::Memory, "memory"),
    (LimitName::Cpus, "cpu"),
    (LimitName::Pids, "pids"),
];

fn why_not(limit: LimitName, controller: &str, facts: &HostFacts) -> Option<Unenforced> {
    let rootless = facts.engine.rootless;
    if rootless && facts.cgroup.version != CgroupVersion::V2 {
        return Some(Unenforced {
            limit,
            reason: format!(
                "rootless {} can't set limits on cgroup v1, and this machine runs {}",
                facts.engine.kind,
                match facts.cgroup.version {
                    CgroupVersion::Hybrid => "v1 with an empty v2 beside it",
                    _ => "v1",
                }
            ),
            remedy: "boot with the kernel parameter systemd.unified_cgroup_hierarchy=1, or use a rootful engine".into(),
        });
    }
    if facts.cgroup.controllers.iter().any(|have| have == controller) {
        return None;
    }
    let remedy = match (facts.engine.kind, rootless) {
        (EngineKind::Podman, true) => format!(
            "delegate it: put `[Service]` and `Delegate=cpu memory pids` into \
             /etc/systemd/system/user@.service.d/delegate.conf, then `systemctl daemon-reload` and log in again \
             (controllers now: {})",
            if facts.cgroup.controllers.is_empty() {
                "none".into()
            } else {
                facts.cgroup.controllers.join(" ")
            }
        ),
        _ => format!("enable the {controller} controller in the kernel (see /proc/cgroups)"),
    };
    Some(Unenforced {
        limit,
        reason: format!(
            "the cgroup controller `{controller}` is not available to {}",
            facts.engine.kind
        ),
        remedy,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::fixtures::{docker, rootful_podman, rootless_podman, rootless_podman_v1};
    use insta::assert_snapshot;

    fn text(facts: &HostFacts) -> String {
        unenforceable(facts)
            .into_iter()
            .map(|Unenforced { limit, reason, remedy }| format!("{limit}: {reason}; {remedy}"))
            .collect::<Vec<_>>()
            .join("\n")
    }

    #[test]
    fn with_every_controller_all_is_enforced() {
        for facts in [rootful_podman(), rootless_podman(), docker(0), docker(1000)] {
            assert_eq!(unenforceable(&facts), []);
        }
    }

    #[test]
    fn rootful_engines_enforce_on_v1_as_well() {
        for version in [CgroupVersion::V1, CgroupVersion::Hybrid] {
            for mut facts in [rootful_podman(), docker(0)] {
                facts.cgroup.version = version;
                assert_eq!(unenforceable(&facts), []);
            }
        }
    }

    #[test]
    fn rootless_podman_enforces_nothing_on_v1_whatever_controllers_there_are() {
        let mut facts = rootless_podman_v1();
        assert_snapshot!(text(&facts), @r"
        memory: rootless podman can't set limits on cgroup v1, and this machine runs v1 with an empty v2 beside it; boot with the kernel parameter systemd.unified_cgroup_hierarchy=1, or use a rootful engine
        cpus: rootless podman can't set limits on cgroup v1, and this machine runs v1 with an empty v2 beside it; boot with the kernel parameter systemd.unified_cgroup_hierarchy=1, or use a rootful engine
        pids: rootless podman can't set limits on cgroup v1, and this machine runs v1 with an empty v2 beside it; boot with the kernel parameter systemd.unified_cgroup_hierarchy=1, or use a rootful engine
        ");
        facts.cgroup.version = CgroupVersion::V1;
        let limits: Vec<_> = unenforceable(&facts).into_iter().map(|u| (u.limit, u.reason)).collect();
        assert_eq!(limits.len(), 3);
        assert!(
            limits
                .iter()
                .all(|(_, reason)| reason.ends_with("this machine runs v1")),
            "{limits:?}"
        );
    }

    #[test]
    fn a_controller_that_is_not_delegated_is_named_with_what_delegates_it() {
        let mut facts = rootless_podman();
        facts.cgroup.controllers = vec!["memory".into(), "pids".into()];
        assert_snapshot!(text(&facts), @"cpus: the cgroup controller `cpu` is not available to podman; delegate it: put `[Service]` and `Delegate=cpu memory pids` into /etc/systemd/system/user@.service.d/delegate.conf, then `systemctl daemon-reload` and log in again (controllers now: memory pids)");
        facts.cgroup.controllers.clear();
        assert_eq!(unenforceable(&facts).len(), 3);
        assert!(text(&facts).contains("(controllers now: none)"));
    }

    #[test]
    fn a_controller_that_the_kernel_lacks_is_named() {
        let mut facts = docker(0);
        facts.cgroup.controllers = vec!["cpu".into(), "memory".into()];
        assert_snapshot!(text(&facts), @"pids: the cgroup controller `pids` is not available to docker; enable the pids controller in the kernel (see /proc/cgroups)");
    }
}
