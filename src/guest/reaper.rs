//! Waiting and killing, as far as this process's authority goes. PID 1 must wait for everybody's orphans; anywhere
//! else (a test, an engine's `--init`) only its own children are its business.

use crate::wire::contract::ProcessEnd;
use nix::libc;
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

/// Whom this process waits for and kills.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// PID 1: everything in the container.
    Container,
    /// The processes it started, and their groups.
    Own,
}

impl Reach {
    pub fn of_this_process() -> Self {
        match nix::unistd::getpid().as_raw() {
            1 => Self::Container,
            _ => Self::Own,
        }
    }

    /// Takes the ends of all that have died by now. `own` are the started processes not yet waited for.
    pub fn reap(self, own: &[Pid]) -> Vec<(Pid, ProcessEnd)> {
        match self {
            Self::Container => std::iter::from_fn(|| wait(Pid::from_raw(-1))).collect(),
            Self::Own => own.iter().filter_map(|pid| wait(*pid)).collect(),
        }
    }

    /// Kills everything, without grace. `groups` are those of the started processes.
    pub fn kill(self, groups: impl Iterator<Item = Pid>) {
        match self {
            // Everything but the caller (kill(2)); what is born meanwhile dies with PID 1 an instant later.
            Self::Container => {
                let _ = kill(Pid::from_raw(-1), Signal::SIGKILL);
            }
            Self::Own => groups.for_each(|group| {
                let _ = killpg(group, Signal::SIGKILL);
            }),
        }
    }
}

/// Whether a process group still has members.
pub fn group_lives(group: Pid) -> bool {
    // EPERM would mean members of another user, so members.
    killpg(group, None) != Err(nix::errno::Errno::ESRCH)
}

#[expect(
    unsafe_code,
    reason = "nix's waitpid reaps a child that a real-time signal killed, then fails with EINVAL: its end would be lost"
)]
fn wait(pid: Pid) -> Option<(Pid, ProcessEnd)> {
    let mut status = 0;
    // SAFETY: waitpid writes one int to `status`, which lives across the call; it touches no other memory.
    let pid = unsafe { libc::waitpid(pid.as_raw(), &raw mut status, libc::WNOHANG) };
    // 0: none has died; -1: there is none.
    if pid <= 0 {
        return None;
    }
    let status = ExitStatus::from_raw(status);
    let end = match (status.code(), status.signal()) {
        (Some(code), _) => ProcessEnd::Code(code),
        (None, Some(signal)) => ProcessEnd::Signal(signal),
        // Stopped or continued, which is not asked for and so never reported.
        (None, None) => return None,
    };
    Some((Pid::from_raw(pid), end))
}
