//! Makes the kernel prefer the guest's children when memory ends: it should take them before the one that reports it.
#![expect(
    clippy::disallowed_methods,
    reason = "reads and writes the guest's own oom_score_adj"
)]

use std::fs::{File, OpenOptions};
use std::io::{self, Write};

/// What children get; the guest itself stays at what the engine gave it, normally 0.
const CHILDRENS: &str = "500";

/// The guest's own score, for the moment of a start.
///
/// A child inherits the score at its fork, so the guest raises its own, forks, and goes back, which needs no privilege
/// as long as it is not below where it began. Writing the child's instead came too late: while its exec is under
/// way the child is as undumpable as the guest, and its /proc files belong to root.
#[derive(Debug)]
pub struct OomScore {
    /// Opened while this process was still dumpable: afterwards it may not open its own file any more.
    file: File,
    own: String,
}

impl OomScore {
    /// Must come before the process makes itself undumpable.
    pub fn open() -> io::Result<Self> {
        const PATH: &str = "/proc/self/oom_score_adj";
        let own = std::fs::read_to_string(PATH)?;
        let file = OpenOptions::new().write(true).open(PATH)?;
        Ok(Self { file, own })
    }

    /// Runs `start` with the children's score in force.
    pub fn for_child<T>(&self, start: impl FnOnce() -> T) -> T {
        // Each write is a whole new value, wherever the file's position is. A score that can't be set (one that the
        // engine put above ours) stays as it is: nothing is promised by it.
        let _ = (&self.file).write_all(CHILDRENS.as_bytes());
        let started = start();
        let _ = (&self.file).write_all(self.own.as_bytes());
        started
    }
}
