//! Numbers of what this process does, and how they are written for Prometheus (text format 0.0.4).
//!
//! It must never have a label whose values anybody but this program chooses: each is an enum, so that no client, model or
//! host name can make the set of series grow. Counting is one atomic addition, and knows nothing of who reads.
//!
//! Written by hand, because a dozen counters in a format of three kinds of line need no dependency.

use std::fmt::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

/// One label's values.
pub trait Label: Copy + 'static {
    const ALL: &'static [Self];
    /// What the label is called.
    const NAME: &'static str;

    fn word(self) -> &'static str;

    fn index(self) -> usize;
}

macro_rules! label {
    ($(#[$doc:meta])* $type:ident, $name:literal, { $($(#[$of:meta])* $variant:ident = $word:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum $type {
            $($(#[$of])* $variant),+
        }

        impl Label for $type {
            const ALL: &'static [Self] = &[$(Self::$variant),+];
            const NAME: &'static str = $name;

            fn word(self) -> &'static str {
                match self {
                    $(Self::$variant => $word),+
                }
            }

            fn index(self) -> usize {
                self as usize
            }
        }
    };
}

label!(
    /// What a launch came to: a container with a thread in it, or why there is none.
    Launch, "outcome", {
        Up = "up",
        /// What was asked for can't be, or is bounded.
        Input = "input",
        Configuration = "configuration",
        Engine = "engine",
        Image = "image",
        Refused = "refused",
        Provider = "provider",
        Lost = "lost",
        Internal = "internal",
    }
);
label!(Turn, "outcome", {
    Completed = "completed",
    Interrupted = "interrupted",
    Failed = "failed",
    /// It did not begin.
    Refused = "refused",
    /// Its session ended under it.
    SessionOver = "session_over",
});
label!(TokenKind, "kind", { Input = "input", Output = "output" });
label!(
    /// Of a connection that a container asked for.
    Verdict, "verdict", { Allowed = "allowed", Denied = "denied" }
);
label!(
    /// Why a session's container ended.
    End, "cause", {
        NotStarted = "not_started",
        Stopped = "stopped",
        Abandoned = "abandoned",
        Idle = "idle",
        WallClock = "wall_clock",
        DiskLimit = "disk_limit",
        Lost = "lost",
        Unaudited = "unaudited",
    }
);
label!(
    /// What was reached.
    LimitHit, "limit", {
        SessionsAtOnce = "sessions_at_once",
        SessionQuota = "session_quota",
        DayQuota = "day_quota",
        Memory = "memory",
        Disk = "disk",
        WallClock = "wall_clock",
        HttpRate = "http_rate",
        HttpBody = "http_body",
        HttpSessions = "http_sessions",
    }
);
label!(
    /// Of an answer over HTTP.
    Status, "status", {
        Success = "2xx",
        Redirect = "3xx",
        Client = "4xx",
        Server = "5xx",
    }
);

/// One number for each value of a label.
#[derive(Debug)]
pub struct Counters<L> {
    counts: Vec<AtomicU64>,
    label: std::marker::PhantomData<L>,
}

impl<L: Label> Default for Counters<L> {
    fn default() -> Self {
        Self {
            counts: L::ALL.iter().map(|_| AtomicU64::new(0)).collect(),
            label: std::marker::PhantomData,
        }
    }
}

impl<L: Label> Counters<L> {
    pub fn count(&self, label: L) {
        self.add(label, 1);
    }

    pub fn add(&self, label: L, more: u64) {
        if let Some(count) = self.counts.get(label.index()) {
            count.fetch_add(more, Ordering::Relaxed);
        }
    }

    pub fn get(&self, label: L) -> u64 {
        self.counts
            .get(label.index())
            .map_or(0, |count| count.load(Ordering::Relaxed))
    }
}

/// Upper bounds in seconds; a launch takes from half a second to the minute that an overloaded engine is given.
const BOUNDS: [f64; 10] = [0.25, 0.5, 1.0, 2.0, 3.0, 5.0, 10.0, 20.0, 30.0, 60.0];

#[derive(Debug, Default)]
pub struct Histogram {
    /// Of those in each bound and in none before it; the last are beyond all.
    buckets: [AtomicU64; BOUNDS.len() + 1],
    micros: AtomicU64,
}

impl Histogram {
    pub fn observe(&self, took: Duration) {
        let seconds = took.as_secs_f64();
        let at = BOUNDS
            .iter()
            .position(|bound| seconds <= *bound)
            .unwrap_or(BOUNDS.len());
        if let Some(bucket) = self.buckets.get(at) {
            bucket.fetch_add(1, Ordering::Relaxed);
        }
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.micros.fetch_add(micros, Ordering::Relaxed);
    }
}

/// What is read when somebody asks, and not counted.
#[derive(Debug, Clone)]
pub struct Gauge {
    pub name: &'static str,
    pub help: &'static str,
    /// The label and its values; none for a number by itself.
    pub values: Vec<(Option<(&'static str, &'static str)>, u64)>,
}

/// Clones count together.
#[derive(Debug, Clone, Default)]
pub struct Metrics(Arc<Inner>);

#[derive(Debug, Default)]
pub struct Inner {
    pub launches: Counters<Launch>,
    pub launch_seconds: Histogram,
    pub turns: Counters<Turn>,
    pub tokens: Counters<TokenKind>,
    pub egress: Counters<Verdict>,
    pub ends: Counters<End>,
    pub limits: Counters<LimitHit>,
    pub http: Counters<Status>,
}

impl std::ops::Deref for Metrics {
    type Target = Inner;

    fn deref(&self) -> &Inner {
        &self.0
    }
}

impl Metrics {
    /// The one of this process.
    pub fn of_process() -> &'static Self {
        static OF_PROCESS: LazyLock<Metrics> = LazyLock::new(Metrics::default);
        &OF_PROCESS
    }

    /// All of it as text, with what `gauges` say now.
    pub fn text(&self, gauges: &[Gauge]) -> String {
        let mut text = String::new();
        // Writing to a string does not fail.
        let _ = self.write(gauges, &mut text);
        text
    }

    fn write(&self, gauges: &[Gauge], text: &mut String) -> fmt::Result {
        for gauge in gauges {
            head(text, gauge.name, gauge.help, "gauge")?;
            for (label, value) in &gauge.values {
                match label {
                    Some((name, word)) => writeln!(text, "{}{{{name}=\"{word}\"}} {value}", gauge.name)?,
                    None => writeln!(text, "{} {value}", gauge.name)?,
                }
            }
        }
        counters(
            text,
            "codex_mcp_launches_total",
            "Launches of containers.",
            &self.launches,
        )?;
        histogram(
            text,
            "codex_mcp_launch_seconds",
            "How long launches took that came up.",
            &self.launch_seconds,
        )?;
        counters(text, "codex_mcp_turns_total", "Turns that ended.", &self.turns)?;
        counters(
            text,
            "codex_mcp_tokens_total",
            "Tokens, as the provider counts them.",
            &self.tokens,
        )?;
        counters(
            text,
            "codex_mcp_egress_total",
            "Connections that containers asked for.",
            &self.egress,
        )?;
        counters(
            text,
            "codex_mcp_session_ends_total",
            "Containers that ended.",
            &self.ends,
        )?;
        counters(
            text,
            "codex_mcp_limits_hit_total",
            "Limits that were reached.",
            &self.limits,
        )?;
        counters(text, "codex_mcp_http_requests_total", "Requests over HTTP.", &self.http)
    }
}

fn head(text: &mut String, name: &str, help: &str, kind: &str) -> fmt::Result {
    writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}")
}

fn counters<L: Label>(text: &mut String, name: &str, help: &str, counters: &Counters<L>) -> fmt::Result {
    head(text, name, help, "counter")?;
    for label in L::ALL {
        let (word, count) = (label.word(), counters.get(*label));
        writeln!(text, "{name}{{{}=\"{word}\"}} {count}", L::NAME)?;
    }
    Ok(())
}

fn histogram(text: &mut String, name: &str, help: &str, histogram: &Histogram) -> fmt::Result {
    head(text, name, help, "histogram")?;
    let mut so_far = 0;
    for (at, bucket) in histogram.buckets.iter().enumerate() {
        so_far += bucket.load(Ordering::Relaxed);
        match BOUNDS.get(at) {
            Some(bound) => writeln!(text, "{name}_bucket{{le=\"{bound}\"}} {so_far}")?,
            None => writeln!(text, "{name}_bucket{{le=\"+Inf\"}} {so_far}")?,
        }
    }
    let seconds = Duration::from_micros(histogram.micros.load(Ordering::Relaxed)).as_secs_f64();
    writeln!(text, "{name}_sum {seconds}\n{name}_count {so_far}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_counted_is_written_and_every_series_is_there_from_the_start() {
        let metrics = Metrics::default();
        let lines = |metrics: &Metrics| metrics.text(&[]).lines().count();
        let before = lines(&metrics);
        metrics.turns.count(Turn::Completed);
        metrics.tokens.add(TokenKind::Output, 12);
        for millis in [100, 1500, 90_000] {
            metrics.launch_seconds.observe(Duration::from_millis(millis));
        }
        let gauge = Gauge {
            name: "codex_mcp_sessions",
            help: "Sessions.",
            values: vec![(Some(("state", "live")), 3)],
        };
        let text = metrics.text(&[gauge]);
        for line in [
            "# TYPE codex_mcp_sessions gauge",
            "codex_mcp_sessions{state=\"live\"} 3",
            "codex_mcp_turns_total{outcome=\"completed\"} 1",
            "codex_mcp_turns_total{outcome=\"failed\"} 0",
            "codex_mcp_tokens_total{kind=\"output\"} 12",
            "codex_mcp_launch_seconds_bucket{le=\"0.25\"} 1",
            "codex_mcp_launch_seconds_bucket{le=\"2\"} 2",
            "codex_mcp_launch_seconds_bucket{le=\"60\"} 2",
            "codex_mcp_launch_seconds_bucket{le=\"+Inf\"} 3",
            "codex_mcp_launch_seconds_sum 91.6",
            "codex_mcp_launch_seconds_count 3",
        ] {
            assert!(text.lines().any(|written| written == line), "{line} is not in:\n{text}");
        }
        // Counting makes no series.
        assert_eq!(lines(&metrics), before);
    }
}
