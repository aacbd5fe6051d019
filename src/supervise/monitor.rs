//! Podman's monitors (conmon) of containers that podman itself knows nothing of.
//!
//! A podman client that is killed after it has started its monitor and before it has written the container down leaves the
//! monitor, and under it the OCI runtime's init, created and never started, with all of the container's mounts. `ps` and `rm` know
//! nothing of either, and both wait for ever. Tried with podman 4.3.1: 5 of 16 kills in that moment, without us in between.
//! Rootless, a client that is merely told to end leaves one as well.
//!
//! Only ever called for names that are the caller's own and that the engine was just made to forget.
#![expect(clippy::disallowed_methods, reason = "reads /proc")]

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs;
use std::path::Path;

/// Ends what monitors of the containers of these names hold; they end by themselves then. Returns how many there were. Blocks.
pub fn end_left(names: &[String]) -> usize {
    let Ok(listed) = fs::read_dir("/proc") else { return 0 };
    let pids: Vec<i32> = listed
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .collect();
    let is_one = |pid: &i32| {
        let words = command_line(*pid);
        container_of(&words).is_some_and(|name| names.iter().any(|ours| ours.as_bytes() == name))
    };
    let monitors = pids.iter().filter(|pid| is_one(pid));
    monitors.filter(|monitor| end(**monitor, &pids)).count()
}

/// `false`: it is about to end by itself.
fn end(monitor: i32, pids: &[i32]) -> bool {
    let held = pids.iter().filter(|pid| parent(**pid) == Some(monitor));
    let mut ended = 0;
    for pid in held {
        if is_clean_up(&command_line(*pid)) {
            return false;
        }
        ended += usize::from(kill(Pid::from_raw(*pid), Signal::SIGKILL).is_ok());
    }
    // Without anything to hold it is between two steps.
    ended > 0 || kill(Pid::from_raw(monitor), Signal::SIGKILL).is_ok()
}

/// As /proc has it, each word followed by a NUL; empty where the process is gone.
fn command_line(pid: i32) -> Vec<u8> {
    fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default()
}

/// The name of the container that a process is the monitor of.
fn container_of(words: &[u8]) -> Option<&[u8]> {
    let mut words = words.split(|byte| *byte == 0);
    let program = std::str::from_utf8(words.next()?).ok()?;
    let is_conmon = Path::new(program).file_name().is_some_and(|file| file == "conmon");
    words.by_ref().find(|word| is_conmon && *word == b"-n")?;
    words.next()
}

/// What a monitor runs when its container has ended: podman, which may hold podman's locks.
fn is_clean_up(words: &[u8]) -> bool {
    let words: Vec<&[u8]> = words.split(|byte| *byte == 0).collect();
    words.windows(2).any(|two| two == [&b"container"[..], b"cleanup"])
}

fn parent(pid: i32) -> Option<i32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name before it may hold anything.
    stat.rsplit_once(") ")?.1.split(' ').nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::process::{Command, Stdio};

    #[test]
    fn a_monitor_is_known_by_its_program_and_its_containers_name() {
        let of = |words: &[&str]| container_of(words.join("\0").as_bytes()) == Some(b"codex-mcp-a");
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
        // Returns when there is something to hold.
        let started = |name: &str, held: &str| {
            let script = format!("exec 3<&0; bash -c 'echo begun; read -t 600 -u 3' {held} & wait; exit 7");
            let mut command = Command::new(&conmon);
            command.args(["-c", &script, "x", "-n", name]);
            let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
            let mut begun = [0; 6];
            child.stdout.as_mut().unwrap().read_exact(&mut begun).unwrap();
            child
        };
        let me = std::process::id();
        let names = ["left", "other", "cleaning"].map(|what| format!("codex-mcp-{what}-{me}"));
        let [left, other, cleaning] = &names;
        let mut ours = started(left, "init");
        let mut theirs = started(other, "init");
        // Its last step, which is podman's, is let finish.
        let mut ending = started(cleaning, "container cleanup");
        let end_left = |names: &[&String]| end_left(&names.iter().map(ToString::to_string).collect::<Vec<_>>());
        assert_eq!(end_left(&[left, cleaning]), 1);
        ours.wait().unwrap();
        assert!(theirs.try_wait().unwrap().is_none());
        assert_eq!(end_left(&[left, other]), 1);
        theirs.wait().unwrap();
        assert_eq!(end_left(&[left, other, cleaning]), 0);
        drop(ending.stdin.take());
        assert_eq!(ending.wait().unwrap().code(), Some(7));
    }
}
