//! Where the guest runs, as the kernel says it: everything of [`Ready`].
//!
//! [`read`] is the one place that reads; all else here is pure functions over the kernel's texts. A text that can't be
//! understood is an error, and the guest then refuses to start: half a reading must never pass for a proof. Only a
//! limit may be [`LimitReading::Unknown`], because engines without a cgroup of their own are a known case and the
//! host decides about them.
#![expect(
    clippy::disallowed_methods,
    reason = "reads /proc and /sys: the guest's own surroundings are its subject"
)]

use crate::guest::cgroup;
use crate::guest::mountinfo::{self, MountLine};
use crate::wire::contract::{CONTRACT, Capabilities, Identity, MountReading, Ready};
use nix::sys::resource::{Resource, getrlimit};
use nix::sys::statvfs::statvfs;
use std::io;

/// Why nothing can be said about this place.
#[derive(Debug, thiserror::Error)]
pub enum ReadbackError {
    #[error("can't read {path}: {error}")]
    Read { path: &'static str, error: io::Error },
    #[error("{path} has no proper `{field}`")]
    Status { path: &'static str, field: &'static str },
    #[error(transparent)]
    Mounts(#[from] mountinfo::MalformedLine),
    #[error("{call}: {errno}")]
    Kernel { call: &'static str, errno: nix::Error },
}

/// Reads everything back. `sized` are the mount points whose size is measured.
pub fn read(sized: &[String]) -> Result<Ready, ReadbackError> {
    let status = text(STATUS)?;
    let mounts = mountinfo::parse(&text(MOUNTS)?)?;
    let nofile = getrlimit(Resource::RLIMIT_NOFILE).map_err(|errno| ReadbackError::Kernel {
        call: "getrlimit",
        errno,
    })?;
    let dumpable = nix::sys::prctl::get_dumpable().map_err(|errno| ReadbackError::Kernel {
        call: "PR_GET_DUMPABLE",
        errno,
    })?;
    Ok(Ready {
        contract: CONTRACT,
        version: env!("CARGO_PKG_VERSION").into(),
        pid: std::process::id(),
        identity: identity(&status, &text(UID_MAP)?)?,
        capabilities: capabilities(&status)?,
        seccomp: number(&status, "Seccomp", 10)?,
        no_new_privs: number::<u8>(&status, "NoNewPrivs", 10)? == 1,
        dumpable,
        cgroup: cgroup::locate(&mounts, &text(CGROUP)?).read(|file| std::fs::read_to_string(file)),
        nofile,
        interfaces: interfaces(&text("/proc/self/net/dev")?),
        mounts: measured(mounts, sized, |target| {
            let stat = statvfs(target).ok()?;
            Some(stat.blocks().saturating_mul(stat.fragment_size()))
        }),
    })
}

/// Where this process's cgroup has its limits and counts.
pub fn own_cgroup() -> Result<cgroup::Limits, ReadbackError> {
    let mounts = mountinfo::parse(&text(MOUNTS)?)?;
    Ok(cgroup::locate(&mounts, &text(CGROUP)?))
}

const MOUNTS: &str = "/proc/self/mountinfo";
const CGROUP: &str = "/proc/self/cgroup";
const STATUS: &str = "/proc/self/status";
const UID_MAP: &str = "/proc/self/uid_map";

fn text(path: &'static str) -> Result<String, ReadbackError> {
    // Lossy: a mount point need not be UTF-8, and one with a replacement character equals no planned one.
    match std::fs::read(path) {
        Ok(bytes) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
        Err(error) => Err(ReadbackError::Read { path, error }),
    }
}

/// The mounts with the sizes that were asked for. A path leads to the reachable mount there and to no other.
fn measured(lines: Vec<MountLine>, sized: &[String], size: impl Fn(&str) -> Option<u64>) -> Vec<MountReading> {
    let mut readings: Vec<_> = lines.into_iter().map(|line| line.reading).collect();
    for target in sized {
        if let Some(top) = readings
            .iter_mut()
            .find(|reading| reading.reachable && reading.target == *target)
        {
            top.size = size(target);
        }
    }
    readings
}

fn identity(status: &str, uid_map: &str) -> Result<Identity, ReadbackError> {
    let bad_map = ReadbackError::Status {
        path: UID_MAP,
        field: "first first count",
    };
    Ok(Identity {
        uids: four(status, "Uid")?,
        gids: four(status, "Gid")?,
        groups: numbers(status, "Groups")?,
        uid_map: parse_uid_map(uid_map).ok_or(bad_map)?,
    })
}

fn capabilities(status: &str) -> Result<Capabilities, ReadbackError> {
    Ok(Capabilities {
        inheritable: number(status, "CapInh", 16)?,
        permitted: number(status, "CapPrm", 16)?,
        effective: number(status, "CapEff", 16)?,
        bounding: number(status, "CapBnd", 16)?,
        ambient: number(status, "CapAmb", 16)?,
    })
}

/// The value of `field:` in /proc/self/status.
fn field<'a>(status: &'a str, field: &'static str) -> Result<&'a str, ReadbackError> {
    status
        .lines()
        .find_map(|line| line.strip_prefix(field)?.strip_prefix(':'))
        .map(str::trim)
        .ok_or(ReadbackError::Status { path: STATUS, field })
}

fn number<N: TryFrom<u64>>(status: &str, name: &'static str, radix: u32) -> Result<N, ReadbackError> {
    u64::from_str_radix(field(status, name)?, radix)
        .ok()
        .and_then(|value| N::try_from(value).ok())
        .ok_or(ReadbackError::Status {
            path: STATUS,
            field: name,
        })
}

fn numbers(status: &str, name: &'static str) -> Result<Vec<u32>, ReadbackError> {
    field(status, name)?
        .split_whitespace()
        .map(|word| word.parse().ok())
        .collect::<Option<_>>()
        .ok_or(ReadbackError::Status {
            path: STATUS,
            field: name,
        })
}

fn four(status: &str, name: &'static str) -> Result<[u32; 4], ReadbackError> {
    numbers(status, name)?.try_into().map_err(|_| ReadbackError::Status {
        path: STATUS,
        field: name,
    })
}

fn parse_uid_map(text: &str) -> Option<Vec<(u32, u32, u32)>> {
    text.lines()
        .map(|line| {
            let mut words = line.split_whitespace().map(str::parse);
            match (words.next(), words.next(), words.next(), words.next()) {
                (Some(Ok(inside)), Some(Ok(outside)), Some(Ok(count)), None) => Some((inside, outside, count)),
                _ => None,
            }
        })
        .collect()
}

/// The names in /proc/net/dev, which begins with two lines of headings.
fn interfaces(dev: &str) -> Vec<String> {
    dev.lines()
        .skip(2)
        .filter_map(|line| Some(line.split_once(':')?.0.trim().to_owned()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use insta::assert_debug_snapshot;

    /// Rootless podman, shortened to the lines that count and their neighbours.
    const ROOTLESS: &str = "Name:\tcodex-mcp\nUmask:\t0022\nPPid:\t0\nUid:\t1001\t1001\t1001\t1001\n\
        Gid:\t1001\t1001\t1001\t1001\nFDSize:\t64\nGroups:\t1001 \nCapInh:\t0000000000000000\n\
        CapPrm:\t0000000000000000\nCapEff:\t0000000000000000\nCapBnd:\t0000000000000000\nCapAmb:\t0000000000000000\n\
        NoNewPrivs:\t1\nSeccomp:\t2\nSeccomp_filters:\t1\n";

    #[test]
    fn identity_of_a_rootless_container() {
        let map =
            "         0          1       1001\n      1001          0          1\n      1002       1002      64535\n";
        let read = identity(ROOTLESS, map).unwrap();
        assert_eq!((read.uids, read.gids, read.groups), ([1001; 4], [1001; 4], vec![1001]));
        assert_eq!(read.uid_map, [(0, 1, 1001), (1001, 0, 1), (1002, 1002, 64535)]);
    }

    #[test]
    fn the_map_of_no_user_namespace_and_no_groups() {
        let read = identity("Uid:\t1 2 3 4\nGid:\t5\t6\t7\t8\nGroups:\t \n", "0 0 4294967295\n").unwrap();
        assert_eq!((read.uids, read.gids), ([1, 2, 3, 4], [5, 6, 7, 8]));
        assert!(read.groups.is_empty());
        assert_eq!(read.uid_map, [(0, 0, 4_294_967_295)]);
    }

    #[test]
    fn capabilities_are_hexadecimal_masks() {
        let status = ROOTLESS
            .replace("CapBnd:\t0000000000000000", "CapBnd:\t00000000a80425fb")
            .replace("CapAmb:\t0000000000000000", "CapAmb:\tffffffffffffffff");
        let read = capabilities(&status).unwrap();
        assert_eq!(
            (read.effective, read.bounding, read.ambient),
            (0, 0xa804_25fb, u64::MAX)
        );
    }

    #[test]
    fn a_name_that_begins_alike_is_another_field() {
        assert_eq!(number::<u8>(ROOTLESS, "Seccomp", 10).unwrap(), 2);
        assert_eq!(
            number::<u8>("Seccomp_filters:\t7\nSeccomp:\t0\n", "Seccomp", 10).unwrap(),
            0
        );
    }

    #[test]
    fn a_field_that_is_missing_or_strange_is_an_error() {
        assert_debug_snapshot!(number::<u8>("Name: x\n", "Seccomp", 10).unwrap_err().to_string(), @r#""/proc/self/status has no proper `Seccomp`""#);
        assert!(number::<u8>("Seccomp:\t256\n", "Seccomp", 10).is_err());
        assert!(number::<u8>("Seccomp:\tyes\n", "Seccomp", 10).is_err());
        assert!(identity("Uid:\t1 2 3\nGid:\t1 2 3 4\nGroups:\n", "0 0 1\n").is_err());
        assert!(identity(ROOTLESS, "0 0\n").is_err());
        assert!(identity(ROOTLESS, "0 0 1 2\n").is_err());
    }

    #[test]
    fn every_interface_is_named() {
        let dev = "Inter-|   Receive                            |  Transmit\n face |bytes    packets errs |bytes\n\
                       lo:       0       0    0\n  eth0: 1 2 3\n";
        assert_eq!(interfaces(dev), ["lo", "eth0"]);
    }

    #[test]
    fn only_the_asked_for_and_reachable_mount_is_measured() {
        let lines = mountinfo::parse(
            "9 8 0:9 / / ro - overlay o ro\n1 9 0:1 / /tmp rw - tmpfs a rw\n2 1 0:2 / /tmp rw - tmpfs b rw\n\
             3 9 0:3 / /home rw - tmpfs c rw\n",
        )
        .unwrap();
        let sizes: Vec<_> = measured(lines, &["/tmp".into(), "/absent".into()], |_| Some(64))
            .into_iter()
            .map(|reading| reading.size)
            .collect();
        assert_eq!(sizes, [None, None, Some(64), None]);
    }

    #[test]
    fn this_very_process_can_be_read_back() {
        let ready = read(&[]).unwrap();
        assert_eq!(ready.identity.uids[1], nix::unistd::geteuid().as_raw());
        assert!(ready.interfaces.contains(&"lo".into()));
        assert!(ready.mounts.iter().any(|mount| mount.target == "/"));
    }
}
