//! What the kernel killed for memory in this container.
#![expect(clippy::disallowed_methods, reason = "reads the cgroup's counter")]

use crate::guest::cgroup::memory_kills;
use std::path::PathBuf;
use std::time::Duration;

/// How often the counter is looked at. It is also read whenever something died of SIGKILL, so this delays only the
/// news of processes that nobody waits for.
pub const INTERVAL: Duration = Duration::from_secs(1);

/// Watches one cgroup's counter.
#[derive(Debug)]
pub struct MemoryWatch {
    file: PathBuf,
    reported: u64,
}

impl MemoryWatch {
    /// `file` as [`crate::guest::cgroup::Limits::memory_events`] names it.
    pub fn new(file: PathBuf) -> Self {
        let mut watch = Self { file, reported: 0 };
        watch.reported = watch.count();
        watch
    }

    /// Kills since those that were last [`Self::report`]ed.
    pub fn fresh(&self) -> u64 {
        self.count().saturating_sub(self.reported)
    }

    pub fn report(&mut self, kills: u64) {
        self.reported = self.reported.saturating_add(kills);
    }

    fn count(&self) -> u64 {
        // A counter that can't be read has no news.
        std::fs::read_to_string(&self.file)
            .ok()
            .and_then(|events| memory_kills(&events))
            .unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_not_reported_is_fresh() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("memory.events");
        std::fs::write(&file, "oom 3\noom_kill 2\n").unwrap();
        let mut watch = MemoryWatch::new(file.clone());
        assert_eq!(watch.fresh(), 0, "what was before this container is not its own");
        std::fs::write(&file, "oom 5\noom_kill 5\n").unwrap();
        assert_eq!(watch.fresh(), 3);
        assert_eq!(watch.fresh(), 3, "until it is reported");
        watch.report(3);
        assert_eq!(watch.fresh(), 0);
        std::fs::remove_file(&file).unwrap();
        assert_eq!(watch.fresh(), 0);
    }
}
