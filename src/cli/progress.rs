//! Progress of work that a person waits for, on stderr: a spinner or a bar on a terminal, one plain line a step
//! otherwise.

use crate::image::progress::Progress;
use crate::wire::untrusted::Untrusted;
use crate::workspace::copy;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::{IsTerminal, Write};
use std::sync::Arc;
use std::time::{Duration, Instant};

const WORTH_A_LOOK: Duration = Duration::from_secs(1);

/// What fits this process's stderr.
pub fn for_stderr() -> Arc<dyn Progress> {
    if std::io::stderr().is_terminal() {
        Arc::new(Bar::new())
    } else {
        Arc::new(PlainSteps)
    }
}

/// How far the copy of a folder is, from its second second on: most are over before they are worth a look.
#[derive(Default)]
pub struct CopyBar {
    began: Option<Instant>,
    shown: Option<Arc<dyn Progress>>,
}

impl CopyBar {
    pub fn at(&mut self, done: copy::Progress) {
        let began = *self.began.get_or_insert_with(Instant::now);
        if self.shown.is_none() && began.elapsed() >= WORTH_A_LOOK {
            let shown = for_stderr();
            shown.step("copying the folder");
            self.shown = Some(shown);
        }
        if let Some(shown) = &self.shown {
            shown.bytes(done.bytes, done.total_bytes);
        }
    }

    /// Clears the line.
    pub fn end(&mut self) {
        self.shown = None;
    }
}

/// One moving line at the bottom of the terminal; finished steps stay above it.
struct Bar {
    bar: ProgressBar,
}

impl Bar {
    fn new() -> Self {
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr()).with_style(spinner());
        bar.enable_steady_tick(Duration::from_millis(120));
        Self { bar }
    }
}

// The templates are constants; should indicatif ever refuse one, its default style serves as well.

fn spinner() -> ProgressStyle {
    ProgressStyle::with_template("{spinner} {prefix} {elapsed} {wide_msg:.dim}")
        .unwrap_or_else(|_| ProgressStyle::default_spinner())
}

fn byte_bar() -> ProgressStyle {
    ProgressStyle::with_template("{spinner} {prefix} {bar:24} {bytes}/{total_bytes} {bytes_per_sec}")
        .unwrap_or_else(|_| ProgressStyle::default_bar())
}

impl Progress for Bar {
    fn step(&self, name: &str) {
        let before = self.bar.prefix();
        if !before.is_empty() {
            self.bar.println(format!("✓ {before}"));
        }
        self.bar.set_style(spinner());
        self.bar.unset_length();
        self.bar.reset();
        self.bar.set_message("");
        self.bar.set_prefix(name.to_owned());
    }

    fn bytes(&self, done: u64, total: u64) {
        if self.bar.length() != Some(total) {
            self.bar.set_style(byte_bar());
            self.bar.set_length(total);
        }
        self.bar.set_position(done);
    }

    fn line(&self, text: &str) {
        // Tools repeat what a network told them.
        self.bar.set_message(Untrusted::new(text).one_line(200));
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// For logs of CI: steps only, no rewriting.
struct PlainSteps;

impl Progress for PlainSteps {
    fn step(&self, name: &str) {
        // A stderr that is closed is no reason to stop working.
        let _ = writeln!(std::io::stderr(), "{name} …");
    }

    fn bytes(&self, _: u64, _: u64) {}

    fn line(&self, _: &str) {}
}
