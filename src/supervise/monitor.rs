//! Podman's monitors (conmon) of containers that podman itself knows nothing of.
//!
//! A podman client that is killed after it has started its monitor and before it has written the container down leaves the
//! monitor, and under it the OCI runtime's init, created and never started, with all of the container's mounts. `ps` and `rm` know
//! nothing of either, and both wait for ever. Tried with podman 4.3.1: 5 of 16 kills in that moment, without us in between.
//!
//! Only ever called for a name that is the caller's own and that the engine was just made to forget.
#![expect(clippy::disallowed_methods, reason = "reads /proc")]

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs;
use std::path::Path;

/// Ends what a monitor of the container of this name holds; it ends by itself then. Returns how many there were. Blocks.
pub fn end_left(name: &str) -> usize {
    let Ok(listed) = fs::read_dir("/proc") else { return 0 };
    let pids: Vec<i32> = listed
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .collect();
    let is_one = |pid: &&i32| fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|words| is_monitor_of(&words, name));
    let monitors: Vec<i32> = pids.iter().filter(is_one).copied().collect();
    for monitor in &monitors {
        let held = pids.iter().filter(|pid| parent(**pid) == Some(*monitor));
        let ended = held
            .filter(|pid| kill(Pid::from_raw(**pid), Signal::SIGKILL).is_ok())
            .count();
        if ended == 0 {
            // It may be between two steps, with nothing to hold yet.
            let _ = kill(Pid::from_raw(*monitor), Signal::SIGKILL);
        }
    }
    monitors.len()
}

/// `words` as /proc/PID/cmdline has them, each followed by a NUL.
fn is_monitor_of(words: &[u8], name: &str) -> bool {
    let mut words = words.split(|byte| *byte == 0);
    let program = words.next().and_then(|word| std::str::from_utf8(word).ok());
    let is_conmon = program.is_some_and(|program| Path::new(program).file_name().is_some_and(|file| file == "conmon"));
    is_conmon && words.by_ref().any(|word| word == b"-n") && words.next() == Some(name.as_bytes())
}

fn parent(pid: i32) -> Option<i32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name before it may hold anything.
    stat.rsplit_once(") ")?.1.split(' ').nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_monitor_is_known_by_its_program_and_its_containers_name() {
        let of = |words: &[&str]| is_monitor_of(words.join("\0").as_bytes(), "codex-mcp-a");
        assert!(of(&["/usr/bin/conmon", "-c", "1", "-n", "codex-mcp-a", "-i", ""]));
        for other in [
            &["/usr/bin/conmon", "-n", "codex-mcp-ab"][..],
            &["/usr/bin/conmon", "-x", "codex-mcp-a"],
            &["/usr/bin/grep", "-n", "codex-mcp-a"],
            &["/usr/bin/conmon", "-n"],
            &[""],
        ] {
            assert!(!of(other), "{other:?}");
        }
    }

    #[test]
    fn what_a_monitor_holds_is_ended_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let conmon = dir.path().join("conmon");
        std::os::unix::fs::symlink("/bin/bash", &conmon).unwrap();
        let started = |name: &str| {
            let script = "sleep 600; exit 7";
            let mut command = std::process::Command::new(&conmon);
            command.args(["-c", script, "x", "-n", name]).spawn().unwrap()
        };
        let me = std::process::id();
        let (left, other) = (format!("codex-mcp-left-{me}"), format!("codex-mcp-other-{me}"));
        let (mut ours, mut theirs) = (started(&left), started(&other));
        // Until it is what it will be.
        while ours.try_wait().unwrap().is_none() {
            end_left(&left);
        }
        assert!(theirs.try_wait().unwrap().is_none());
        assert_eq!(end_left(&other), 1);
        theirs.wait().unwrap();
        assert_eq!(end_left(&left), 0);
    }
}
