//! Which processes the host had started, and what is left of them. Pure: it kills and waits for nothing itself.

use crate::wire::contract::{ProcessEnd, ProcessNumber};
use nix::unistd::Pid;
use std::collections::HashMap;
use tokio::sync::oneshot;

/// Each started process leads a group of its own, so its pid names both.
#[derive(Debug, Default)]
pub struct Processes {
    running: HashMap<Pid, oneshot::Sender<ProcessEnd>>,
    /// Outlives the leader while the group has members (a daemon), so that the host can still signal them.
    groups: HashMap<ProcessNumber, Pid>,
}

impl Processes {
    /// Registers a process that has just started. The receiver gets its end.
    pub fn started(&mut self, number: ProcessNumber, pid: Pid) -> oneshot::Receiver<ProcessEnd> {
        let (sender, receiver) = oneshot::channel();
        self.running.insert(pid, sender);
        self.groups.insert(number, pid);
        receiver
    }

    /// Takes note of an end. Those of orphans, which nobody asked for, are ignored.
    pub fn ended(&mut self, pid: Pid, end: ProcessEnd) {
        if let Some(waiting) = self.running.remove(&pid) {
            let _ = waiting.send(end);
        }
    }

    /// Forgets the groups that have no member any more: the kernel may give their number to another one.
    pub fn forget_groups(&mut self, lives: impl Fn(Pid) -> bool) {
        let running = &self.running;
        self.groups
            .retain(|_, group| running.contains_key(group) || lives(*group));
    }

    /// The process group of a started process, while there is one.
    pub fn group(&self, number: ProcessNumber) -> Option<Pid> {
        self.groups.get(&number).copied()
    }

    /// The started processes that have not ended.
    pub fn running(&self) -> Vec<Pid> {
        self.running.keys().copied().collect()
    }

    pub fn groups(&self) -> impl Iterator<Item = Pid> {
        self.groups.values().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NUMBER: ProcessNumber = ProcessNumber(7);
    const PID: Pid = Pid::from_raw(4242);

    #[test]
    fn an_end_reaches_the_one_who_waits_and_orphans_reach_nobody() {
        let mut processes = Processes::default();
        let mut end = processes.started(NUMBER, PID);
        processes.ended(Pid::from_raw(1), ProcessEnd::Code(9));
        assert!(end.try_recv().is_err());
        processes.ended(PID, ProcessEnd::Signal(15));
        assert_eq!(end.try_recv(), Ok(ProcessEnd::Signal(15)));
        assert!(processes.running().is_empty());
    }

    #[test]
    fn a_group_is_remembered_until_its_last_member_is_gone() {
        let mut processes = Processes::default();
        let _end = processes.started(NUMBER, PID);
        processes.forget_groups(|_| false);
        assert_eq!(processes.group(NUMBER), Some(PID), "the leader runs");
        processes.ended(PID, ProcessEnd::Code(0));
        processes.forget_groups(|_| true);
        assert_eq!(processes.group(NUMBER), Some(PID), "a daemon of it runs");
        processes.forget_groups(|_| false);
        assert_eq!(processes.group(NUMBER), None);
    }
}
