//! What the kernel says: cgroups, limits, SELinux, who we are.

#![expect(
    clippy::disallowed_methods,
    reason = "reads /proc and /sys: the probe is where facts are looked up"
)]

use super::error::ProbeError;
use crate::host::facts::CgroupVersion;
use nix::sys::resource::{Resource, getrlimit};
use std::fs;
use std::io;
use std::path::Path;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kernel {
    pub uid: u32,
    pub gid: u32,
    pub cgroup_version: CgroupVersion,
    /// What root can use.
    pub controllers: Vec<String>,
    pub nofile_hard: u64,
    /// The lower of the hard limit and `kernel.pid_max`.
    pub nproc_hard: u64,
    pub selinux_enforcing: bool,
}

const CGROUP_ROOT: &str = "/sys/fs/cgroup";

impl Kernel {
    pub fn read() -> Result<Self, ProbeError> {
        let hard = |what, resource| {
            let (_soft, hard) = getrlimit(resource).map_err(|errno| ProbeError::Kernel {
                what,
                source: errno.into(),
            })?;
            Ok::<u64, ProbeError>(hard)
        };
        let path = "/proc/sys/kernel/pid_max";
        let pid_max = read_text(path)?;
        let pid_max: u64 = pid_max.trim().parse().map_err(|_| ProbeError::Kernel {
            what: path,
            source: io::Error::from(io::ErrorKind::InvalidData),
        })?;
        let cgroup_version = cgroup_version();
        let controllers = match cgroup_version {
            CgroupVersion::V2 => read_text("/sys/fs/cgroup/cgroup.controllers")?
                .split_ascii_whitespace()
                .map(str::to_owned)
                .collect(),
            CgroupVersion::V1 | CgroupVersion::Hybrid => v1_controllers(&read_text("/proc/cgroups")?),
        };
        Ok(Self {
            uid: nix::unistd::geteuid().as_raw(),
            gid: nix::unistd::getegid().as_raw(),
            cgroup_version,
            controllers,
            nofile_hard: hard("the limit of open files", Resource::RLIMIT_NOFILE)?,
            nproc_hard: hard("the limit of processes", Resource::RLIMIT_NPROC)?.min(pid_max),
            // Without SELinux there is no such file.
            selinux_enforcing: fs::read_to_string("/sys/fs/selinux/enforce").is_ok_and(|text| text.trim() == "1"),
        })
    }
}

fn read_text(what: &'static str) -> Result<String, ProbeError> {
    fs::read_to_string(what).map_err(|source| ProbeError::Kernel { what, source })
}

/// As systemd mounts them: the unified hierarchy at the root, or beside v1's in `unified`.
fn cgroup_version() -> CgroupVersion {
    let root = Path::new(CGROUP_ROOT);
    if root.join("cgroup.controllers").exists() {
        CgroupVersion::V2
    } else if root.join("unified/cgroup.controllers").exists() {
        CgroupVersion::Hybrid
    } else {
        CgroupVersion::V1
    }
}

/// `/proc/cgroups` (cgroups(7)): name, hierarchy, number of cgroups, enabled. Hierarchy 0 is not mounted as v1.
fn v1_controllers(text: &str) -> Vec<String> {
    text.lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| {
            let fields: Vec<&str> = line.split_ascii_whitespace().collect();
            match fields[..] {
                [name, hierarchy, _, "1"] if hierarchy != "0" => Some(name.to_owned()),
                _ => None,
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn v1_controllers_are_enabled_and_mounted() {
        let text = "#subsys_name\thierarchy\tnum_cgroups\tenabled\ncpuset\t3\t4\t1\nmemory\t4\t18\t0\n\
                    net_cls\t0\t3\t1\npids\t8\t4\t1\nbad line\n";
        assert_eq!(v1_controllers(text), ["cpuset", "pids"]);
    }

    #[test]
    fn this_machine_can_be_read() {
        let kernel = Kernel::read().unwrap();
        assert!(kernel.nofile_hard > 0);
        let pid_max: u64 = fs::read_to_string("/proc/sys/kernel/pid_max")
            .unwrap()
            .trim()
            .parse()
            .unwrap();
        assert!((1..=pid_max).contains(&kernel.nproc_hard));
    }
}
