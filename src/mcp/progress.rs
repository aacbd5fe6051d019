//! What a client that gave a progress token hears while a call runs.
//!
//! The pacing ([`Pacer`]) is pure and gets the time as an argument; [`Notifier`] sends. A client that does not read
//! its pipe must hold up neither the turn nor its cancellation, so sending is a task of its own behind a bounded
//! queue, and what does not fit is dropped: the numbers still only grow.

use crate::codex::event::{Decision, ItemStatus, ThreadId, TurnEvent};
use crate::config::quantity::Rounded;
use crate::wire::untrusted::Untrusted;
use crate::workspace::copy::Progress;
use rmcp::model::{ProgressNotificationParam, ProgressToken};
use rmcp::{Peer, RoleServer};
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// Steps of one item (text as it is written) come no more often than this.
const SMALL_STEP_EVERY: Duration = Duration::from_millis(100);
/// Steps of a copy come no more often than this.
const COPY_STEP_EVERY: Duration = Duration::from_secs(1);
/// After so much silence the client hears that the call still lives: some reset their timer on any progress.
const HEARTBEAT_EVERY: Duration = Duration::from_secs(8);
/// The longest message, in characters.
const MAX_MESSAGE_CHARS: usize = 200;
/// Steps waiting to be sent.
const QUEUE: usize = 64;

/// One notification: `progress` is greater than that of every step before it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    pub progress: u32,
    pub message: String,
}

/// Decides which events become steps, and when silence needs one.
#[derive(Debug)]
pub struct Pacer {
    began: Instant,
    last: Instant,
    sent: u32,
    answer_chars: usize,
}

impl Pacer {
    pub fn new(now: Instant) -> Self {
        Self {
            began: now,
            last: now,
            sent: 0,
            answer_chars: 0,
        }
    }

    pub fn starting(&mut self, now: Instant) -> Step {
        self.step("starting a container for this thread".to_owned(), now)
    }

    /// `None` where it is too soon after the last step: most copies are over before they are worth a word.
    pub fn copying(&mut self, done: Progress, now: Instant) -> Option<Step> {
        let due = now.duration_since(self.last) >= COPY_STEP_EVERY;
        due.then(|| {
            let message = format!(
                "copying the folder: {} of {} files, {} of {}",
                done.files,
                done.total_files,
                Rounded(done.bytes),
                Rounded(done.total_bytes)
            );
            self.step(message, now)
        })
    }

    /// The first step of a turn: from here on a client that loses the call can still name the thread.
    pub fn thread_ready(&mut self, thread: &ThreadId, now: Instant) -> Step {
        self.step(format!("thread {thread}: Codex is working"), now)
    }

    /// `None` where the event is none of the client's business, or too soon after the last step.
    pub fn event(&mut self, event: &TurnEvent, now: Instant) -> Option<Step> {
        if let TurnEvent::AnswerDelta { text } = event {
            self.answer_chars = self.answer_chars.saturating_add(text.as_str().chars().count());
            let due = now.duration_since(self.last) >= SMALL_STEP_EVERY;
            return due.then(|| self.step(format!("writing ({} characters)", self.answer_chars), now));
        }
        if let TurnEvent::Answer { .. } = event {
            self.answer_chars = 0;
        }
        describe(event).map(|message| self.step(message, now))
    }

    /// When [`Self::heartbeat`] is due, should nothing happen before.
    pub fn heartbeat_due(&self) -> Instant {
        self.last + HEARTBEAT_EVERY
    }

    pub fn heartbeat(&mut self, now: Instant) -> Step {
        let seconds = now.duration_since(self.began).as_secs();
        self.step(format!("still working ({seconds} s)"), now)
    }

    fn step(&mut self, message: String, now: Instant) -> Step {
        self.last = now;
        self.sent = self.sent.saturating_add(1);
        Step {
            progress: self.sent,
            message,
        }
    }
}

/// One line for an event at an item's boundary; `None` for what a client need not hear of.
pub fn describe(event: &TurnEvent) -> Option<String> {
    let line = match event {
        TurnEvent::Started | TurnEvent::AnswerDelta { .. } | TurnEvent::Usage(_) => return None,
        TurnEvent::Answer { text } => quoted("", text, ""),
        TurnEvent::Reasoning { text } => quoted("thinking: ", text, ""),
        TurnEvent::CommandStarted { command } => quoted("running: ", command, ""),
        TurnEvent::CommandCompleted {
            command,
            status,
            exit_code,
            ..
        } => {
            let how = match (status, exit_code) {
                (ItemStatus::Declined, _) => " (declined)".to_owned(),
                (_, Some(0)) => " (ok)".to_owned(),
                (_, Some(code)) => format!(" (exit {code})"),
                (ItemStatus::Completed, None) => " (ok)".to_owned(),
                (ItemStatus::Failed, None) => " (failed)".to_owned(),
            };
            quoted("ran: ", command, &how)
        }
        TurnEvent::PatchCompleted { paths, status } => {
            let what = match status {
                ItemStatus::Completed => "changed ",
                ItemStatus::Failed => "could not change ",
                ItemStatus::Declined => "was not allowed to change ",
            };
            match paths.as_slice() {
                [] => format!("{what}nothing"),
                [one] => quoted(what, one, ""),
                [first, rest @ ..] => quoted(what, first, &format!(" and {} more", rest.len())),
            }
        }
        TurnEvent::Other { kind } => quoted("", kind, ""),
        TurnEvent::Retrying { message } => quoted("trying again after: ", message, ""),
        TurnEvent::ApprovalAnswered { subject, decision } => match decision {
            Decision::Accepted => quoted("allowed: ", subject, ""),
            Decision::Declined => quoted("declined: ", subject, ""),
        },
        TurnEvent::Warning { message } => quoted("warning: ", message, ""),
    };
    Some(line)
}

/// Our words around the guest's, the whole within [`MAX_MESSAGE_CHARS`]; only the guest's are cut.
fn quoted(before: &str, text: &Untrusted, after: &str) -> String {
    let ours = before.chars().count() + after.chars().count();
    format!(
        "{before}{}{after}",
        text.one_line(MAX_MESSAGE_CHARS.saturating_sub(ours))
    )
}

/// Sends steps to the client, in order. Says nothing where the client gave no token.
pub struct Notifier {
    steps: Option<mpsc::Sender<Step>>,
    sending: Option<JoinHandle<()>>,
}

impl Notifier {
    pub fn new(peer: Peer<RoleServer>, token: Option<ProgressToken>) -> Self {
        let Some(token) = token else {
            return Self {
                steps: None,
                sending: None,
            };
        };
        let (steps, mut queued) = mpsc::channel::<Step>(QUEUE);
        let sending = tokio::spawn(async move {
            while let Some(step) = queued.recv().await {
                let notification =
                    ProgressNotificationParam::new(token.clone(), f64::from(step.progress)).with_message(step.message);
                if peer.notify_progress(notification).await.is_err() {
                    // The client is gone; the call learns of it by itself.
                    return;
                }
            }
        });
        Self {
            steps: Some(steps),
            sending: Some(sending),
        }
    }

    /// Drops the step where the client is too slow to take it.
    pub fn send(&self, step: Step) {
        if let Some(steps) = &self.steps {
            let _ = steps.try_send(step);
        }
    }

    /// Waits until everything queued is written: progress after its call's result would belong to no call.
    pub async fn finish(self) {
        drop(self.steps);
        if let Some(sending) = self.sending {
            let _ = sending.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn untrusted(text: &str) -> Untrusted {
        Untrusted::new(text)
    }

    fn delta(text: &str) -> TurnEvent {
        TurnEvent::AnswerDelta { text: untrusted(text) }
    }

    #[test]
    fn a_copy_is_told_once_a_second() {
        let began = Instant::now();
        let at = |millis| began + Duration::from_millis(millis);
        let mut pacer = Pacer::new(began);
        let done = |files| Progress {
            files,
            bytes: files << 10,
            total_files: 3000,
            total_bytes: 3000 << 10,
        };
        assert_eq!(pacer.copying(done(1), at(999)), None);
        let step = pacer.copying(done(1500), at(1000)).expect("it is due");
        assert_eq!(
            step.message,
            "copying the folder: 1500 of 3000 files, 1.5 MiB of 2.9 MiB"
        );
        assert_eq!(pacer.copying(done(1501), at(1001)), None);
        assert_eq!(pacer.copying(done(3000), at(2500)).expect("it is due").progress, 2);
    }

    #[test]
    fn each_kind_of_item_has_its_line() {
        let command = || untrusted("cargo test");
        let completed = |status, exit_code| TurnEvent::CommandCompleted {
            command: command(),
            status,
            exit_code,
            output: untrusted("never shown"),
        };
        let patch = |paths: &[&str], status| TurnEvent::PatchCompleted {
            paths: paths.iter().map(|path| untrusted(path)).collect(),
            status,
        };
        let lines: Vec<_> = [
            TurnEvent::Started,
            TurnEvent::CommandStarted { command: command() },
            completed(ItemStatus::Completed, Some(0)),
            completed(ItemStatus::Failed, Some(101)),
            completed(ItemStatus::Declined, None),
            patch(&["a.rs"], ItemStatus::Completed),
            patch(&["a.rs", "b.rs", "c.rs"], ItemStatus::Failed),
            TurnEvent::Retrying {
                message: untrusted("stream\ncut"),
            },
            TurnEvent::ApprovalAnswered {
                subject: command(),
                decision: Decision::Declined,
            },
            TurnEvent::Answer {
                text: untrusted("It\x1b[2J works.\nAll of it."),
            },
        ]
        .iter()
        .map(|event| describe(event).unwrap_or_else(|| "-".into()))
        .collect();
        insta::assert_snapshot!(lines.join("\n"), @r"
        -
        running: cargo test
        ran: cargo test (ok)
        ran: cargo test (exit 101)
        ran: cargo test (declined)
        changed a.rs
        could not change a.rs and 2 more
        trying again after: stream cut
        declined: cargo test
        It[2J works. All of it.
        ");
    }

    #[test]
    fn text_as_it_is_written_is_paced_and_items_are_not() {
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        let mut pacer = Pacer::new(start);
        assert_eq!(pacer.event(&delta("abc"), at(50)), None);
        assert_eq!(
            pacer.event(&delta("de"), at(120)).expect("due").message,
            "writing (5 characters)"
        );
        assert_eq!(pacer.event(&delta("f"), at(130)), None);
        let item = TurnEvent::CommandStarted {
            command: untrusted("ls"),
        };
        assert_eq!(pacer.event(&item, at(131)).expect("an item").message, "running: ls");
        assert_eq!(pacer.event(&item, at(131)).expect("an item").progress, 3);
        // A second message counts from its own beginning.
        assert!(
            pacer
                .event(
                    &TurnEvent::Answer {
                        text: untrusted("abcdef")
                    },
                    at(132)
                )
                .is_some()
        );
        assert_eq!(
            pacer.event(&delta("xy"), at(300)).expect("due").message,
            "writing (2 characters)"
        );
    }

    #[test]
    fn silence_is_broken_every_eight_seconds() {
        let start = Instant::now();
        let mut pacer = Pacer::new(start);
        assert_eq!(pacer.heartbeat_due(), start + Duration::from_secs(8));
        let beat = start + Duration::from_secs(42);
        assert_eq!(pacer.heartbeat(beat).message, "still working (42 s)");
        assert_eq!(pacer.heartbeat_due(), beat + Duration::from_secs(8));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn messages_are_short_and_numbers_grow(
            events in prop::collection::vec((0u8..6, ".{0,400}", 0u64..300), 1..40),
        ) {
            let mut now = Instant::now();
            let mut pacer = Pacer::new(now);
            let mut last = 0;
            for (kind, text, later) in events {
                now += Duration::from_millis(later);
                let text = untrusted(&text);
                let event = match kind {
                    0 => TurnEvent::AnswerDelta { text },
                    1 => TurnEvent::Answer { text },
                    2 => TurnEvent::CommandStarted { command: text },
                    3 => TurnEvent::PatchCompleted { paths: vec![text; 3], status: ItemStatus::Declined },
                    4 => TurnEvent::Retrying { message: text },
                    _ => TurnEvent::Other { kind: text },
                };
                if let Some(step) = pacer.event(&event, now) {
                    prop_assert!(step.progress > last);
                    prop_assert!(step.message.chars().count() <= MAX_MESSAGE_CHARS, "{}", step.message);
                    prop_assert!(!step.message.contains('\n'));
                    last = step.progress;
                }
            }
        }
    }
}
