//! Who owns a container: a process, named so that a reused pid fools nothing.
//!
//! A pid alone comes round again; with the process's start time (field 22 of proc_pid_stat(5), clock ticks since
//! boot), the boot id and the PID namespace it names one process for ever.

#![expect(
    clippy::disallowed_methods,
    reason = "reads /proc: only that knows which processes live"
)]

use serde::{Deserialize, Serialize};
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;

#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Owner {
    pub pid: u32,
    /// Clock ticks since boot.
    pub start_ticks: u64,
    /// Where the pid counts: `/proc/sys/kernel/random/boot_id`, a colon, and the inode of the PID namespace. Two
    /// servers can share an engine from two machines (docker's remote contexts) or two containers; neither sees the
    /// other's processes, and a pid that it does not see proves nothing.
    pub boot_id: String,
}

#[derive(Debug, thiserror::Error)]
pub enum OwnerError {
    #[error("cannot read {path} (is /proc mounted?): {source}")]
    Read { path: &'static str, source: io::Error },
    #[error("/proc/self/stat has no start time: {0:?}")]
    NoStartTime(String),
}

impl Owner {
    pub fn of_this_process() -> Result<Self, OwnerError> {
        let read = |path: &'static str| fs::read_to_string(path).map_err(|source| OwnerError::Read { path, source });
        let stat = read("/proc/self/stat")?;
        let process = parse_stat(&stat).ok_or_else(|| OwnerError::NoStartTime(stat.clone()))?;
        let boot = read("/proc/sys/kernel/random/boot_id")?;
        let path = "/proc/self/ns/pid";
        let namespace = fs::metadata(path)
            .map_err(|source| OwnerError::Read { path, source })?
            .ino();
        Ok(Self {
            pid: std::process::id(),
            start_ticks: process.start_ticks,
            boot_id: format!("{}:{namespace}", boot.trim_end()),
        })
    }

    /// Whether the process still runs. Only asked of owners of this boot and PID namespace. Where `/proc` does not
    /// answer, it counts as alive: what may live is not touched.
    pub fn is_alive(&self) -> bool {
        match fs::read_to_string(format!("/proc/{}/stat", self.pid)) {
            Ok(stat) => parse_stat(&stat).is_none_or(|process| process.is(self)),
            // ESRCH: it ended between open and read.
            Err(error) => error.kind() != io::ErrorKind::NotFound && error.raw_os_error() != Some(nix::libc::ESRCH),
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
struct Stat {
    state: char,
    start_ticks: u64,
}

impl Stat {
    fn is(&self, owner: &Owner) -> bool {
        // A zombie runs no more: it only waits for its parent to ask.
        self.start_ticks == owner.start_ticks && !matches!(self.state, 'Z' | 'X')
    }
}

/// `/proc/PID/stat`: the second field is the program's name in parentheses, which may itself hold spaces and
/// parentheses, so that fields are counted from the last `)`.
fn parse_stat(stat: &str) -> Option<Stat> {
    let (_, after_name) = stat.rsplit_once(')')?;
    let mut fields = after_name.split_ascii_whitespace();
    let state = fields.next()?.chars().next()?; // field 3
    let start_ticks = fields.nth(18)?.parse().ok()?; // field 22
    Some(Stat { state, start_ticks })
}

#[cfg(test)]
mod tests {
    use super::*;

    const REST: &str = "1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 98765 20 21";

    #[test]
    fn fields_are_counted_from_the_last_parenthesis() {
        for name in ["sleep", "a b", "x) S 1", "((", ""] {
            let stat = parse_stat(&format!("123 ({name}) S {REST}\n"));
            let expected = Stat {
                state: 'S',
                start_ticks: 98765,
            };
            assert_eq!(stat, Some(expected), "{name}");
        }
    }

    #[test]
    fn a_short_line_has_no_start_time() {
        for line in ["", "123 (sleep", "123 (sleep)", "123 (sleep) S 1 2 3"] {
            assert_eq!(parse_stat(line), None, "{line}");
        }
    }

    #[test]
    fn this_process_is_alive_and_no_other_of_its_pid() {
        let me = Owner::of_this_process().unwrap();
        assert!(me.is_alive());
        assert_eq!(me, Owner::of_this_process().unwrap());
        let reused = Owner {
            start_ticks: me.start_ticks + 1,
            ..me.clone()
        };
        assert!(!reused.is_alive());
        let never = Owner { pid: u32::MAX, ..me };
        assert!(!never.is_alive());
    }

    #[test]
    fn a_zombie_is_dead() {
        let me = Owner::of_this_process().unwrap();
        let stat = |state| Stat {
            state,
            start_ticks: me.start_ticks,
        };
        assert!(stat('S').is(&me));
        assert!(!stat('Z').is(&me));
    }

    #[test]
    fn the_cause_is_told() {
        let error = OwnerError::Read {
            path: "/proc/self/stat",
            source: io::Error::other("denied"),
        };
        assert_eq!(
            error.to_string(),
            "cannot read /proc/self/stat (is /proc mounted?): denied"
        );
    }
}
