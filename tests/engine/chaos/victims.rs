//! Finds the processes that have a part in a session, by what the kernel says of them.

use crate::support::lane::Lane;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs;

/// A process, as it was looked at.
#[derive(Debug, Clone)]
pub struct Process {
    pub pid: u32,
    pub parent: u32,
    pub name: String,
    pub words: Vec<String>,
}

/// One of them, while it lives.
pub fn one(pid: u32) -> Option<Process> {
    read(pid)
}

/// All processes of this machine.
pub fn processes() -> Vec<Process> {
    let listed = fs::read_dir("/proc").unwrap().filter_map(Result::ok);
    listed
        .filter_map(|entry| read(entry.file_name().to_str()?.parse().ok()?))
        .collect()
}

/// `None`: it has just ended.
fn read(pid: u32) -> Option<Process> {
    let status = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (name, rest) = status.split_once('(')?.1.rsplit_once(')')?;
    let mut rest = rest.split_ascii_whitespace();
    let (state, parent) = (rest.next()?, rest.next()?.parse().ok()?);
    if state == "Z" {
        return None;
    }
    let words = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    Some(Process {
        pid,
        parent,
        name: name.to_owned(),
        words: words
            .split(|byte| *byte == 0)
            .map(|word| String::from_utf8_lossy(word).into_owned())
            .collect(),
    })
}

impl Process {
    pub fn signal(&self, signal: Signal) -> bool {
        kill(Pid::from_raw(self.pid.cast_signed()), signal).is_ok()
    }

    fn has(&self, word: &str) -> bool {
        self.words.iter().any(|found| found == word)
    }
}

/// Those that the server started to run a session's container; rootless podman is two.
pub fn engine_clients(lane: Lane, server: u32) -> Vec<Process> {
    let all = processes();
    let mut family = vec![server];
    // Parents are not always older by their number.
    for _ in 0..4 {
        family.extend(
            all.iter()
                .filter(|one| family.contains(&one.parent))
                .map(|one| one.pid)
                .collect::<Vec<_>>(),
        );
        family.sort_unstable();
        family.dedup();
    }
    all.into_iter()
        .filter(|one| {
            family.contains(&one.parent) && one.name == lane.runtime() && one.has("run") && one.has("--interactive")
        })
        .collect()
}

/// Whether a process' mounts are those of a container of this world, which is known by a word that its paths alone have.
fn is_inside(pid: u32, marker: &str) -> bool {
    // The source of a bind mount is told from the root of its file system, which may be mounted anywhere.
    let mounts = fs::read_to_string(format!("/proc/{pid}/mountinfo")).unwrap_or_default();
    mounts
        .lines()
        .any(|line| line.split(' ').nth(3).is_some_and(|root| root.contains(marker)))
}

/// PID 1 of each container of this world.
pub fn guests(marker: &str) -> Vec<Process> {
    let all = processes().into_iter();
    all.filter(|one| one.has("guest") && is_inside(one.pid, marker))
        .collect()
}

/// What holds each of these containers: conmon, or docker's shim.
pub fn keepers(lane: Lane, marker: &str, names: &[String]) -> Vec<Process> {
    let keeper = match lane {
        Lane::Docker => "containerd-shim",
        Lane::RootfulPodman | Lane::RootlessPodman => "conmon",
    };
    let all = processes();
    // A shim is known by its child alone; conmon is there before it has one.
    let held: Vec<u32> = guests(marker).iter().map(|guest| guest.parent).collect();
    let named = |one: &Process| one.words.iter().any(|word| names.contains(word));
    all.into_iter()
        .filter(|one| one.name.starts_with(keeper) && (held.contains(&one.pid) || named(one)))
        .collect()
}

/// All that still has to do with this world: with a container of one of these names, or with its files.
pub fn left(marker: &str, names: &[String]) -> Vec<Process> {
    let me = std::process::id();
    let says = |one: &Process| {
        let mut words = one.words.iter();
        words.any(|word| word.contains(marker) || names.iter().any(|name| word.contains(name.as_str())))
    };
    let all = processes().into_iter();
    all.filter(|one| one.pid != me && (says(one) || (one.has("guest") && is_inside(one.pid, marker))))
        .collect()
}
