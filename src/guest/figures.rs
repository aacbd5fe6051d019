//! What this container has used so far, as the kernel counts it for the container's cgroup, and when that is news.
//!
//! A count that can't be read is absent. It must never be taken from a cgroup that others are in as well:
//! [`crate::guest::cgroup::Limits::counts`] leaves those out.
#![expect(clippy::disallowed_methods, reason = "reads the cgroup's counters")]

use crate::guest::cgroup::{Count, Counts, PidsCount};
use crate::wire::contract::Figures;

/// Processor time below this is no news by itself: looking costs some, so else each look would make the next one's.
const CPU_STEP: u64 = 10_000;

/// Reads the counts of one cgroup.
#[derive(Debug)]
pub struct Meter {
    counts: Counts,
    /// The most tasks of those moments at which they were counted.
    seen_pids: Option<u64>,
    told: Figures,
}

impl Meter {
    pub fn new(counts: Counts) -> Self {
        Self {
            counts,
            seen_pids: None,
            told: Figures::default(),
        }
    }

    /// What they say now. The host is told of it.
    pub fn read(&mut self) -> Figures {
        let figures = self.look();
        self.told = figures;
        figures
    }

    /// What they say now, where that is worth telling.
    pub fn news(&mut self) -> Option<Figures> {
        let figures = self.look();
        is_news(&self.told, &figures).then(|| {
            self.told = figures;
            figures
        })
    }

    fn look(&mut self) -> Figures {
        let pids_peak = match &self.counts.pids {
            Some(PidsCount::Peak(count)) => value(count),
            // Before the kernel kept one, the peak is what was seen.
            Some(PidsCount::Current(count)) => {
                self.seen_pids = self.seen_pids.max(value(count));
                self.seen_pids
            }
            None => None,
        };
        Figures {
            memory_peak: self.counts.memory_peak.as_ref().and_then(value),
            cpu_micros: self.counts.cpu.as_ref().and_then(value),
            pids_peak,
        }
    }
}

fn value(count: &Count) -> Option<u64> {
    let text = std::fs::read_to_string(&count.file).ok()?;
    (count.parse)(&text)
}

fn is_news(told: &Figures, figures: &Figures) -> bool {
    figures.memory_peak > told.memory_peak
        || figures.pids_peak > told.pids_peak
        || match (told.cpu_micros, figures.cpu_micros) {
            (Some(told), Some(now)) => now >= told.saturating_add(CPU_STEP),
            (told, now) => now > told,
        }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guest::cgroup::{Limits, counts_of_own};
    use std::fs;

    /// A v2 cgroup of files.
    fn cgroup(files: &[(&str, &str)]) -> (tempfile::TempDir, Meter) {
        let directory = tempfile::tempdir().unwrap();
        for (name, text) in files {
            fs::write(directory.path().join(name), text).unwrap();
        }
        let counts = counts_of_own(&Limits::V2(directory.path().to_owned()));
        (directory, Meter::new(counts))
    }

    #[test]
    fn figures_are_what_the_files_say() {
        let (_directory, mut meter) = cgroup(&[
            ("memory.peak", "2147483648\n"),
            ("cpu.stat", "usage_usec 1500000\nuser_usec 1000000\n"),
            ("pids.peak", "40\n"),
            ("pids.current", "3\n"),
        ]);
        assert_eq!(
            meter.read(),
            Figures {
                memory_peak: Some(2_147_483_648),
                cpu_micros: Some(1_500_000),
                pids_peak: Some(40),
            }
        );
    }

    #[test]
    fn what_cannot_be_read_is_absent() {
        let (_directory, mut meter) = cgroup(&[("memory.peak", "many\n"), ("cpu.stat", "user_usec 1\n")]);
        assert_eq!(meter.read(), Figures::default());
    }

    #[test]
    fn without_a_peak_of_the_kernels_the_most_that_was_seen_counts() {
        let (directory, mut meter) = cgroup(&[("pids.current", "3\n")]);
        for (current, peak) in [("7\n", 7), ("2\n", 7), ("9\n", 9)] {
            fs::write(directory.path().join("pids.current"), current).unwrap();
            assert_eq!(meter.read().pids_peak, Some(peak));
        }
        fs::remove_file(directory.path().join("pids.current")).unwrap();
        assert_eq!(meter.read().pids_peak, Some(9), "what was seen stays seen");
    }

    #[test]
    fn news_is_told_once_and_looking_makes_none() {
        let (directory, mut meter) = cgroup(&[("memory.peak", "100\n"), ("cpu.stat", "usage_usec 5\n")]);
        assert!(meter.news().is_some());
        assert_eq!(meter.news(), None);
        for (file, text, is_news) in [
            ("cpu.stat", "usage_usec 10004\n", false),
            ("cpu.stat", "usage_usec 10005\n", true),
            ("memory.peak", "101\n", true),
        ] {
            fs::write(directory.path().join(file), text).unwrap();
            assert_eq!(meter.news().is_some(), is_news, "{file}: {text}");
        }
    }
}
