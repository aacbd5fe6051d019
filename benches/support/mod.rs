//! What the benchmarks share: times, and the middle of them.
#![allow(dead_code, reason = "each benchmark uses its part")]

pub mod session;

use std::time::Duration;

/// Measured times of one thing, in the order in which they were taken.
#[derive(Debug, Default)]
pub struct Times(Vec<Duration>);

impl Times {
    pub fn add(&mut self, time: Duration) {
        self.0.push(time);
    }

    /// What another process measured: a line of microseconds each.
    pub fn add_micros(&mut self, lines: &str) {
        self.0
            .extend(lines.lines().map(|line| Duration::from_micros(line.parse().unwrap())));
    }

    /// In milliseconds.
    pub fn median(&self) -> f64 {
        self.percentile(50)
    }

    /// In milliseconds.
    pub fn p90(&self) -> f64 {
        self.percentile(90)
    }

    /// In milliseconds.
    pub fn p99(&self) -> f64 {
        self.percentile(99)
    }

    /// How many times as long as `other`, run by run: the median of the quotients. Two times of one run saw the same
    /// machine, which two medians of the whole need not have.
    pub fn ratio_to(&self, other: &Self) -> f64 {
        let mut quotients: Vec<f64> = std::iter::zip(&self.0, &other.0)
            .map(|(own, other)| own.as_secs_f64() / other.as_secs_f64())
            .collect();
        quotients.sort_unstable_by(f64::total_cmp);
        quotients[rank(50, quotients.len())]
    }

    fn percentile(&self, percent: usize) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        sorted[rank(percent, sorted.len())].as_secs_f64() * 1000.0
    }
}

/// The index of the nearest rank.
fn rank(percent: usize, count: usize) -> usize {
    (percent * count).div_ceil(100).max(1) - 1
}

/// `NAME=NUMBER` of the environment, for a longer or a shorter run.
pub fn number_from_env(name: &str, default: usize) -> usize {
    std::env::var(name).map_or(default, |text| {
        text.parse()
            .unwrap_or_else(|_| panic!("{name} must be a number and is {text:?}"))
    })
}

/// The program under test: the copy that every lane's user can read, where `scripts/engines.sh` made one.
pub fn program() -> std::path::PathBuf {
    std::env::var_os("ENGINE_TEST_PROGRAM").map_or_else(|| env!("CARGO_BIN_EXE_codex-mcp").into(), Into::into)
}
