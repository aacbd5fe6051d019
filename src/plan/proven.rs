//! What a launch has proven about its limits, and whose figures are the container's own. Pure.

use crate::plan::launch::LimitName;
use crate::wire::contract::Figures;
use serde::{Deserialize, Serialize};

/// What was proven about the resource limits. Everything else that is promised holds, or there is no `Proof`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Proof {
    pub limits: Vec<ProvenLimit>,
    /// As in [`crate::wire::contract::CgroupReading`].
    #[serde(skip)]
    pub cgroup_version: u8,
}

impl Proof {
    /// Of what the guest says was used, that which was counted in a cgroup of the container's own: where a limit is the
    /// planned one, the engine has made it there. Without, the count may be of everything on this host; the guest can't
    /// always tell.
    pub fn own_figures(&self, said: Figures) -> Figures {
        // v2 has one cgroup for all controllers, so one limit shows whose it is.
        let all = self.cgroup_version == 2 && LimitName::OF_CGROUP.into_iter().any(|name| self.enforces(name));
        let own = |name| all || self.enforces(name);
        Figures {
            memory_peak: said.memory_peak.filter(|_| own(LimitName::Memory)),
            cpu_micros: said.cpu_micros.filter(|_| own(LimitName::Cpus)),
            pids_peak: said.pids_peak.filter(|_| own(LimitName::Pids)),
        }
    }

    pub fn enforces(&self, name: LimitName) -> bool {
        self.limits.iter().any(|limit| limit.enforced && limit.name == name)
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProvenLimit {
    pub name: LimitName,
    /// In the unit that [`LimitName`] says.
    pub limit: u64,
    pub enforced: bool,
    pub by: Enforcer,
}

/// Who holds a session to a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Enforcer {
    /// It can't be passed at all, and was read back inside.
    Kernel,
    /// We look at the clock, or at what is used, and end the turn or the session: it can be passed by what happens between
    /// two looks.
    Watchdog,
}
