//! One turn as a state machine: what happened and what time it is → what to do. Pure.
//!
//! It exists because Codex does not always say how a turn ended: `turn/completed` was reported missing after errors and
//! lost streams. So every way leads to exactly one [`Action::Finish`]: the report; the thread falling silent and the turn
//! read back from Codex's record; the turn's limit; an interrupt, acknowledged or not; the end of the stream.

use crate::codex::client::TurnReading;
use crate::codex::error::{TurnError, TurnErrorKind};
use crate::codex::event::{
    EndedTurn, Happening, Retry, ThreadEvent, ThreadId, TurnEnd, TurnEvent, TurnId, TurnOutcome, Usage,
};
use crate::wire::untrusted::Untrusted;
use std::time::Duration;

/// How long the end of a turn may take once it is due, and how long an interrupt may go unacknowledged.
pub const GRACE: Duration = Duration::from_secs(5);
/// Codex refuses an interrupt for some milliseconds around the start of a turn; it is then sent again after this.
const INTERRUPT_AGAIN: Duration = Duration::from_millis(100);
/// After so many readings that told nothing the turn is given up.
const READINGS: u8 = 3;

/// Something that happened to the turn.
#[derive(Debug, Clone, PartialEq)]
pub enum Input {
    Event(ThreadEvent),
    /// Nothing but time went by.
    Tick,
    InterruptRequested,
    /// Codex did not take our interrupt.
    InterruptRefused,
    /// What [`Action::ReadThread`] found; `None` where it failed.
    Read(Option<TurnReading>),
    /// The stream ended; says why.
    Lost(Untrusted),
}

/// What to do, in order.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    Emit(TurnEvent),
    Interrupt,
    /// Kill what the turn left running, and wait for it.
    CleanBackground,
    ReadThread,
    /// The last action of all.
    Finish(TurnEnd),
}

#[derive(Debug)]
pub struct Turn {
    thread: ThreadId,
    turn: TurnId,
    /// When the turn has had all its time, by the clock that `now` is read from.
    limit: Duration,
    started: Started,
    phase: Phase,
    answer: Untrusted,
    usage: Usage,
    /// The last error that Codex does not try again after.
    fatal: Option<TurnError>,
    readings: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Started {
    NotYet,
    Reported,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Running,
    /// The end is due and was not reported.
    Quiet {
        since: Duration,
    },
    /// Codex was asked how the turn ended.
    Reading {
        since: Duration,
    },
    Stopping {
        why: Stop,
        since: Duration,
        interrupt: Interrupt,
    },
    Finished,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stop {
    Asked,
    OutOfTime,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Interrupt {
    /// Codex takes no interrupt before it has reported the start of the turn.
    WaitsForStart,
    Sent,
    AgainAt(Duration),
}

impl Turn {
    /// A turn that Codex has taken. Times are readings of one monotonic clock, from any origin; at `limit` it is stopped.
    /// `usage` is that of the thread before the turn: one that is stopped early reports none of its own.
    pub fn new(thread: ThreadId, turn: TurnId, limit: Duration, usage: Usage) -> Self {
        Self {
            thread,
            turn,
            limit,
            started: Started::NotYet,
            phase: Phase::Running,
            answer: Untrusted::default(),
            usage,
            fatal: None,
            readings: 0,
        }
    }

    /// When [`Input::Tick`] is due at the latest; `None` once the turn is finished.
    pub fn wake_at(&self) -> Option<Duration> {
        match self.phase {
            Phase::Running => Some(self.limit),
            Phase::Quiet { since } | Phase::Reading { since } => Some(self.limit.min(since + GRACE)),
            Phase::Stopping { since, interrupt, .. } => Some(match interrupt {
                Interrupt::AgainAt(again) => again.min(since + GRACE),
                Interrupt::WaitsForStart | Interrupt::Sent => since + GRACE,
            }),
            Phase::Finished => None,
        }
    }

    /// Takes one input in. The input counts first (an end that arrives at the limit is an end), then the time: a flood
    /// of events can't keep a deadline from being noticed.
    #[must_use]
    pub fn step(&mut self, now: Duration, input: Input) -> Vec<Action> {
        let mut actions = Vec::new();
        self.take(now, input, &mut actions);
        self.pass_time(now, &mut actions);
        actions
    }

    fn take(&mut self, now: Duration, input: Input, actions: &mut Vec<Action>) {
        if self.phase == Phase::Finished {
            return;
        }
        match input {
            Input::Tick => {}
            Input::Event(event) => {
                if self.concerns(&event) {
                    self.happened(now, event.happening, actions);
                }
            }
            Input::InterruptRequested => self.stop(now, Stop::Asked, actions),
            Input::InterruptRefused => {
                if let Phase::Stopping { interrupt, .. } = &mut self.phase
                    && *interrupt == Interrupt::Sent
                {
                    *interrupt = Interrupt::AgainAt(now + INTERRUPT_AGAIN);
                }
            }
            Input::Read(reading) => self.read(now, reading, actions),
            Input::Lost(why) => {
                let outcome = match self.phase {
                    Phase::Stopping { why: Stop::Asked, .. } => TurnOutcome::Interrupted,
                    Phase::Stopping {
                        why: Stop::OutOfTime, ..
                    } => TurnOutcome::Failed(out_of_time()),
                    _ => TurnOutcome::Failed(TurnError {
                        kind: TurnErrorKind::ConnectionLost,
                        message: why,
                    }),
                };
                self.finish(outcome, actions);
            }
        }
    }

    fn concerns(&self, event: &ThreadEvent) -> bool {
        event.thread.as_ref().is_none_or(|thread| *thread == self.thread)
            && event.turn.as_ref().is_none_or(|turn| *turn == self.turn)
    }

    fn happened(&mut self, now: Duration, happening: Happening, actions: &mut Vec<Action>) {
        match happening {
            Happening::TurnStarted => {
                self.started = Started::Reported;
                actions.push(Action::Emit(TurnEvent::Started));
                if let Phase::Stopping { interrupt, .. } = &mut self.phase
                    && *interrupt == Interrupt::WaitsForStart
                {
                    *interrupt = Interrupt::Sent;
                    actions.push(Action::Interrupt);
                }
            }
            Happening::Shown(shown) => {
                match &shown {
                    TurnEvent::Answer { text } => self.answer = text.clone(),
                    TurnEvent::Usage(usage) => self.usage = *usage,
                    _ => {}
                }
                actions.push(Action::Emit(shown));
            }
            Happening::Failing {
                error,
                retry: Retry::ByItself,
            } => {
                actions.push(Action::Emit(TurnEvent::Retrying { message: error.message }));
            }
            Happening::Failing {
                error,
                retry: Retry::None,
            } => {
                self.fatal = Some(error);
                self.fall_quiet(now);
            }
            // Before its start this is news of the turn before.
            Happening::ThreadQuiet if self.started == Started::Reported => self.fall_quiet(now),
            Happening::ThreadBusy if self.fatal.is_none() => {
                if matches!(self.phase, Phase::Quiet { .. }) {
                    self.phase = Phase::Running;
                }
            }
            Happening::ThreadQuiet | Happening::ThreadBusy => {}
            Happening::TurnEnded(end) => self.ended(end, actions),
            Happening::LeftOut(count) => {
                let message = format!("{count} events came faster than they were taken and were left out");
                actions.push(Action::Emit(TurnEvent::Warning {
                    message: message.into(),
                }));
            }
        }
    }

    fn fall_quiet(&mut self, now: Duration) {
        if self.phase == Phase::Running {
            self.phase = Phase::Quiet { since: now };
        }
    }

    fn read(&mut self, now: Duration, reading: Option<TurnReading>, actions: &mut Vec<Action>) {
        match reading {
            // True in whatever phase it comes.
            Some(TurnReading::Ended(end)) => self.ended(end, actions),
            Some(TurnReading::StillRunning) if matches!(self.phase, Phase::Reading { .. }) => {
                self.phase = Phase::Quiet { since: now };
            }
            Some(TurnReading::Unknown) | None if matches!(self.phase, Phase::Reading { .. }) => {
                self.readings += 1;
                if self.readings < READINGS {
                    self.phase = Phase::Quiet { since: now };
                } else {
                    let error = self.fatal.take().unwrap_or_else(never_reported);
                    self.finish(TurnOutcome::Failed(error), actions);
                }
            }
            Some(_) | None => {}
        }
    }

    /// Codex says that the turn is over.
    fn ended(&mut self, end: EndedTurn, actions: &mut Vec<Action>) {
        if let Some(answer) = end.answer {
            self.answer = answer;
        }
        let outcome = match (self.phase, end.outcome) {
            (
                Phase::Stopping {
                    why: Stop::OutOfTime, ..
                },
                TurnOutcome::Interrupted,
            ) => TurnOutcome::Failed(out_of_time()),
            (_, outcome) => outcome,
        };
        // An interrupt leaves commands running, and whoever asked for it wants them ended even where the turn was faster.
        if matches!(self.phase, Phase::Stopping { .. }) {
            actions.push(Action::CleanBackground);
        }
        self.finish(outcome, actions);
    }

    fn pass_time(&mut self, now: Duration, actions: &mut Vec<Action>) {
        match self.phase {
            Phase::Finished => {}
            Phase::Stopping { since, why, .. } if now >= since + GRACE => self.give_up(why, actions),
            Phase::Stopping {
                since,
                why,
                interrupt: Interrupt::AgainAt(again),
            } if now >= again => {
                let interrupt = Interrupt::Sent;
                self.phase = Phase::Stopping { why, since, interrupt };
                actions.push(Action::Interrupt);
            }
            Phase::Stopping { .. } => {}
            _ if now >= self.limit => self.stop(now, Stop::OutOfTime, actions),
            Phase::Quiet { since } if now >= since + GRACE => {
                self.phase = Phase::Reading { since: now };
                actions.push(Action::ReadThread);
            }
            Phase::Reading { since } if now >= since + GRACE => self.read(now, None, actions),
            Phase::Running | Phase::Quiet { .. } | Phase::Reading { .. } => {}
        }
    }

    fn stop(&mut self, now: Duration, why: Stop, actions: &mut Vec<Action>) {
        if let Phase::Stopping { why: reason, .. } = &mut self.phase {
            // Somebody asks while the turn is being stopped for its time already: what they get is an interrupt.
            *reason = why;
            return;
        }
        let interrupt = match self.started {
            Started::NotYet => Interrupt::WaitsForStart,
            Started::Reported => {
                actions.push(Action::Interrupt);
                Interrupt::Sent
            }
        };
        self.phase = Phase::Stopping {
            why,
            since: now,
            interrupt,
        };
    }

    /// Codex did not acknowledge the interrupt.
    fn give_up(&mut self, why: Stop, actions: &mut Vec<Action>) {
        let message = format!(
            "Codex did not acknowledge the interrupt within {} s: the turn may still run inside the container",
            GRACE.as_secs()
        );
        actions.push(Action::CleanBackground);
        actions.push(Action::Emit(TurnEvent::Warning {
            message: message.into(),
        }));
        let outcome = match why {
            Stop::Asked => TurnOutcome::Interrupted,
            Stop::OutOfTime => TurnOutcome::Failed(out_of_time()),
        };
        self.finish(outcome, actions);
    }

    fn finish(&mut self, outcome: TurnOutcome, actions: &mut Vec<Action>) {
        self.phase = Phase::Finished;
        actions.push(Action::Finish(TurnEnd {
            turn: self.turn.to_string(),
            answer: std::mem::take(&mut self.answer),
            usage: self.usage,
            outcome,
        }));
    }
}

fn out_of_time() -> TurnError {
    TurnError {
        kind: TurnErrorKind::TimedOut,
        message: Untrusted::new("the turn took longer than it may and was stopped"),
    }
}

fn never_reported() -> TurnError {
    TurnError {
        kind: TurnErrorKind::EndNeverReported,
        message: Untrusted::new("the thread fell silent, and Codex could not say how the turn ended"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LIMIT: Duration = Duration::from_secs(100);

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn turn() -> Turn {
        let usage = Usage {
            total_tokens: 7,
            ..Usage::default()
        };
        Turn::new(ThreadId::parse("T").unwrap(), TurnId::parse("U").unwrap(), LIMIT, usage)
    }

    fn event(happening: Happening) -> Input {
        Input::Event(ThreadEvent {
            thread: ThreadId::parse("T"),
            turn: TurnId::parse("U"),
            happening,
        })
    }

    fn ended(outcome: TurnOutcome) -> Input {
        event(Happening::TurnEnded(EndedTurn { outcome, answer: None }))
    }

    fn started() -> Turn {
        let mut turn = turn();
        assert_eq!(
            turn.step(at(0), event(Happening::TurnStarted)),
            [Action::Emit(TurnEvent::Started)]
        );
        turn
    }

    fn error(kind: TurnErrorKind) -> TurnError {
        TurnError {
            kind,
            message: Untrusted::new("no"),
        }
    }

    fn outcome(actions: &[Action]) -> &TurnOutcome {
        match actions.last() {
            Some(Action::Finish(end)) => &end.outcome,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_reports_answer_counts_and_else_the_last_message_seen() {
        for (reported, answer) in [(Some("whole"), "whole"), (None, "seen")] {
            let mut turn = started();
            let seen = TurnEvent::Answer {
                text: Untrusted::new("seen"),
            };
            let _ = turn.step(at(1), event(Happening::Shown(seen)));
            let end = EndedTurn {
                outcome: TurnOutcome::Completed,
                answer: reported.map(Untrusted::new),
            };
            let actions = turn.step(at(2), event(Happening::TurnEnded(end)));
            let Some(Action::Finish(end)) = actions.last() else {
                panic!()
            };
            assert_eq!(
                (end.answer.as_str(), end.usage.total_tokens, end.turn.as_str()),
                (answer, 7, "U")
            );
        }
    }

    #[test]
    fn an_interrupt_waits_for_the_start_of_the_turn_and_cleans_up_after_its_end() {
        let mut turn = turn();
        assert_eq!(turn.step(at(0), Input::InterruptRequested), []);
        let begun = turn.step(at(1), event(Happening::TurnStarted));
        assert_eq!(begun, [Action::Emit(TurnEvent::Started), Action::Interrupt]);
        assert_eq!(turn.step(at(1), Input::InterruptRequested), []);
        let actions = turn.step(at(2), ended(TurnOutcome::Interrupted));
        assert_eq!(actions[0], Action::CleanBackground);
        assert_eq!(outcome(&actions), &TurnOutcome::Interrupted);
    }

    #[test]
    fn a_refused_interrupt_is_sent_again() {
        let mut turn = started();
        assert_eq!(turn.step(at(1), Input::InterruptRequested), [Action::Interrupt]);
        assert_eq!(turn.step(at(1), Input::InterruptRefused), []);
        assert_eq!(turn.wake_at(), Some(at(1) + INTERRUPT_AGAIN));
        assert_eq!(turn.step(at(1) + INTERRUPT_AGAIN, Input::Tick), [Action::Interrupt]);
    }

    #[test]
    fn an_interrupt_that_is_not_acknowledged_is_given_up_saying_so() {
        let mut turn = started();
        let _ = turn.step(at(1), Input::InterruptRequested);
        assert_eq!(turn.wake_at(), Some(at(1) + GRACE));
        let actions = turn.step(at(1) + GRACE, Input::Tick);
        assert_eq!(actions[0], Action::CleanBackground);
        assert!(
            matches!(&actions[1], Action::Emit(TurnEvent::Warning { message }) if message.as_str().contains("may still run"))
        );
        assert_eq!(outcome(&actions), &TurnOutcome::Interrupted);
    }

    #[test]
    fn the_limit_interrupts_and_the_turn_has_failed() {
        let mut turn = started();
        assert_eq!(turn.wake_at(), Some(LIMIT));
        assert_eq!(turn.step(LIMIT, Input::Tick), [Action::Interrupt]);
        let actions = turn.step(LIMIT, ended(TurnOutcome::Interrupted));
        assert_eq!(actions[0], Action::CleanBackground);
        assert_eq!(outcome(&actions), &TurnOutcome::Failed(out_of_time()));
    }

    #[test]
    fn an_end_that_arrives_at_the_limit_is_an_end() {
        let mut turn = started();
        assert_eq!(
            outcome(&turn.step(LIMIT, ended(TurnOutcome::Completed))),
            &TurnOutcome::Completed
        );
    }

    #[test]
    fn a_thread_that_falls_silent_is_read_back() {
        let mut turn = started();
        assert_eq!(turn.step(at(10), event(Happening::ThreadQuiet)), []);
        assert_eq!(turn.wake_at(), Some(at(10) + GRACE));
        assert_eq!(turn.step(at(10) + GRACE, Input::Tick), [Action::ReadThread]);
        let end = EndedTurn {
            outcome: TurnOutcome::Completed,
            answer: Some(Untrusted::new("found")),
        };
        let actions = turn.step(at(16), Input::Read(Some(TurnReading::Ended(end))));
        assert!(matches!(&actions[..], [Action::Finish(end)] if end.answer.as_str() == "found"));
    }

    #[test]
    fn a_thread_that_is_busy_again_is_left_alone() {
        let mut turn = started();
        let _ = turn.step(at(1), event(Happening::ThreadQuiet));
        let _ = turn.step(at(2), event(Happening::ThreadBusy));
        assert_eq!(turn.step(at(50), Input::Tick), []);
    }

    #[test]
    fn quiet_before_the_start_is_news_of_the_turn_before() {
        let mut turn = turn();
        assert_eq!(turn.step(at(0), event(Happening::ThreadQuiet)), []);
        assert_eq!(turn.step(at(50), Input::Tick), []);
    }

    #[test]
    fn a_fatal_error_whose_end_nobody_can_tell_is_the_end() {
        let mut turn = started();
        let fatal = error(TurnErrorKind::Unauthorized);
        let failing = Happening::Failing {
            error: fatal.clone(),
            retry: Retry::None,
        };
        let mut actions = turn.step(at(1), event(failing));
        let mut readings = 0;
        while let Some(wake) = turn.wake_at() {
            actions = turn.step(wake, Input::Tick);
            if actions == [Action::ReadThread] {
                readings += 1;
                actions = turn.step(wake, Input::Read(None));
            }
        }
        assert_eq!(readings, READINGS);
        assert_eq!(outcome(&actions), &TurnOutcome::Failed(fatal));
    }

    #[test]
    fn a_lost_stream_is_a_failure_unless_the_turn_was_being_stopped() {
        let lost = || Input::Lost(Untrusted::new("gone"));
        assert!(matches!(
            outcome(&started().step(at(1), lost())),
            TurnOutcome::Failed(TurnError {
                kind: TurnErrorKind::ConnectionLost,
                ..
            })
        ));
        let mut stopping = started();
        let _ = stopping.step(at(1), Input::InterruptRequested);
        assert_eq!(outcome(&stopping.step(at(2), lost())), &TurnOutcome::Interrupted);
    }

    fn any_outcome() -> impl Strategy<Value = TurnOutcome> {
        prop_oneof![
            Just(TurnOutcome::Completed),
            Just(TurnOutcome::Interrupted),
            Just(TurnOutcome::Failed(error(TurnErrorKind::Other))),
        ]
    }

    /// Anything but the two inputs that end a turn by themselves, which are rare so that long turns happen too.
    fn any_input() -> impl Strategy<Value = Input> {
        let failing = |retry| Happening::Failing {
            error: error(TurnErrorKind::Other),
            retry,
        };
        let happening = prop_oneof![
            Just(Happening::TurnStarted),
            Just(Happening::Shown(TurnEvent::Usage(Usage::default()))),
            Just(failing(Retry::ByItself)),
            Just(failing(Retry::None)),
            Just(Happening::ThreadQuiet),
            Just(Happening::ThreadBusy),
            Just(Happening::LeftOut(3)),
        ];
        prop_oneof![
            20 => happening.prop_map(event),
            10 => Just(Input::Tick),
            2 => Just(Input::InterruptRequested),
            2 => Just(Input::InterruptRefused),
            5 => prop::option::of(prop_oneof![Just(TurnReading::StillRunning), Just(TurnReading::Unknown)]).prop_map(Input::Read),
            1 => any_outcome().prop_map(ended),
            1 => Just(Input::Lost(Untrusted::default())),
        ]
    }

    proptest! {
        #[test]
        fn a_turn_finishes_once_soon_after_its_limit_and_then_does_nothing(
            inputs in prop::collection::vec((0u64..4000, any_input()), 0..80),
        ) {
            let mut turn = turn();
            let mut now = Duration::ZERO;
            let mut finished = 0;
            let mut check = |turn: &Turn, actions: Vec<Action>| {
                prop_assert!(finished == 0 || actions.is_empty(), "after the end: {actions:?}");
                let ends = actions.iter().filter(|action| matches!(action, Action::Finish(_))).count();
                if ends > 0 {
                    prop_assert!(matches!(actions.last(), Some(Action::Finish(_))));
                }
                finished += ends;
                prop_assert_eq!(finished == 1, turn.wake_at().is_none());
                Ok(())
            };
            for (millis, input) in inputs {
                now += Duration::from_millis(millis);
                let actions = turn.step(now, input);
                check(&turn, actions)?;
            }
            // From here on only the clock speaks, and only when the machine asks for it.
            let mut ticks = 0;
            while let Some(wake) = turn.wake_at() {
                now = now.max(wake);
                let actions = turn.step(now, Input::Tick);
                check(&turn, actions)?;
                ticks += 1;
                prop_assert!(ticks < 100, "woken without end");
            }
            prop_assert!(turn.step(now, Input::InterruptRequested).is_empty());
        }

        #[test]
        fn by_its_limit_and_the_grace_a_turn_is_over_whatever_floods_in(
            inputs in prop::collection::vec(any_input(), 300..400),
        ) {
            let mut turn = turn();
            for (step, input) in (0u32..).zip(inputs) {
                // Interrupts end it sooner anyway; here only the limit may.
                if !matches!(input, Input::InterruptRequested) {
                    let _ = turn.step(LIMIT.mul_f64(f64::from(step) / 250.0), input);
                }
            }
            let _ = turn.step(LIMIT + LIMIT, Input::Tick);
            prop_assert_eq!(turn.wake_at(), None);
        }
    }
}
