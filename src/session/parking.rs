//! What becomes of a session when its container is gone, and when it may have another one. Pure.
//!
//! Nothing here is lost for good: every session keeps its thread and its workspace, and but for one that was lost too often, the
//! next reply starts a container for it.

use crate::session::error::EndReason;
use crate::session::store::record::{End, EndCause, Interrupted, Moment, Record, State};
use std::time::Duration;

/// The wait after a second loss in a row (the first restart is at once); each further one is twice as long.
const BACK_OFF: Duration = Duration::from_secs(1);
const LONGEST_BACK_OFF: Duration = Duration::from_secs(60);
/// The most interrupted turns that are still to be told of; the oldest are forgotten first.
const MAX_INTERRUPTED: usize = 8;

/// Writes down how a session's container ended, `turn` being the one that ran.
pub fn ended(record: &mut Record, reason: &EndReason, turn: Option<u64>, restarts: u32, now: Moment) {
    let end = End {
        at: now,
        cause: cause(reason),
        why: reason.to_string(),
        turn,
    };
    if let Some(turn) = turn {
        let why = end.why.clone();
        interrupted(record, Interrupted { turn, why });
    }
    match end.cause {
        EndCause::Lost => {
            record.losses = record.losses.saturating_add(1);
            record.state = match record.losses > restarts {
                true => State::Failed { end },
                false => State::Parked { end },
            };
        }
        _ => record.state = State::Parked { end },
    }
}

/// A turn came to an end that Codex reported: whatever was wrong before is over.
pub fn turn_ended(record: &mut Record) {
    record.losses = 0;
}

fn cause(reason: &EndReason) -> EndCause {
    match reason {
        EndReason::ServerEnded | EndReason::GivenUp => EndCause::ServerEnded,
        EndReason::Stopped => EndCause::Stopped,
        EndReason::Idle { .. } => EndCause::Idle,
        EndReason::WallClock { .. } => EndCause::WallClock,
        EndReason::DiskLimit { .. } => EndCause::DiskLimit,
        EndReason::Lost { .. } => EndCause::Lost,
        EndReason::Unaudited(_) => EndCause::Unaudited,
    }
}

/// Writes down what a session came to whose server died: one that says that it lives, and that nobody has.
pub fn settle(record: &mut Record, restarts: u32, now: Moment) {
    if let State::Live { turn } = record.state {
        let reason = EndReason::lost("its server died".to_owned());
        ended(record, &reason, turn, restarts, now);
    }
}

/// A turn is to be told of with the next answer.
pub fn interrupted(record: &mut Record, one: Interrupted) {
    record.interrupted.push(one);
    let too_many = record.interrupted.len().saturating_sub(MAX_INTERRUPTED);
    record.interrupted.drain(..too_many);
}

/// An answer told of these, and somebody has it.
pub fn told(record: &mut Record, of: &[Interrupted]) {
    record.interrupted.retain(|one| !of.contains(one));
}

/// Whether a session without a container may have one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Resumption {
    /// After this wait.
    After(Duration),
    Refused {
        losses: u32,
        why: String,
    },
}

/// Of a settled record.
pub fn resumption(record: &Record, restarts: u32, now: Moment) -> Resumption {
    let Some(end) = record.end() else {
        return Resumption::After(Duration::ZERO);
    };
    if matches!(record.state, State::Failed { .. }) && record.losses > restarts {
        return Resumption::Refused {
            losses: record.losses,
            why: end.why.clone(),
        };
    }
    Resumption::After(back_off(record.losses).saturating_sub(end.at.age(now)))
}

fn back_off(losses: u32) -> Duration {
    // The first restart is at once: most losses have nothing to do with the session.
    match losses.checked_sub(2) {
        None => Duration::ZERO,
        Some(times) => BACK_OFF
            .saturating_mul(2u32.saturating_pow(times))
            .min(LONGEST_BACK_OFF),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::store::fixtures::record;

    const RESTARTS: u32 = 3;

    fn lose(record: &mut Record, at: u64) {
        ended(record, &EndReason::lost("x".to_owned()), Some(1), RESTARTS, Moment(at));
    }

    #[test]
    fn a_session_that_is_lost_again_and_again_waits_longer_and_then_is_failed() {
        let mut record = record(7);
        let mut waits = Vec::new();
        for at in 0..=u64::from(RESTARTS) {
            lose(&mut record, at);
            waits.push(resumption(&record, RESTARTS, Moment(at)));
        }
        let after = |seconds| Resumption::After(Duration::from_secs(seconds));
        assert_eq!(waits[..3], [after(0), after(1), after(2)]);
        assert!(matches!(waits[3], Resumption::Refused { losses: 4, .. }));
        assert!(matches!(record.state, State::Failed { .. }));
        // The operator allowed more meanwhile.
        assert!(matches!(resumption(&record, 9, Moment(99)), Resumption::After(_)));
    }

    #[test]
    fn a_turn_that_ends_well_forgives_what_was_before() {
        let mut record = record(7);
        lose(&mut record, 0);
        lose(&mut record, 0);
        turn_ended(&mut record);
        lose(&mut record, 10);
        assert_eq!(
            resumption(&record, RESTARTS, Moment(10)),
            Resumption::After(Duration::ZERO)
        );
    }

    #[test]
    fn time_that_has_passed_is_not_waited_for_again() {
        let mut record = record(7);
        lose(&mut record, 0);
        lose(&mut record, 0);
        lose(&mut record, 100);
        assert_eq!(
            resumption(&record, RESTARTS, Moment(101)),
            Resumption::After(Duration::from_secs(1))
        );
        assert_eq!(
            resumption(&record, RESTARTS, Moment(500)),
            Resumption::After(Duration::ZERO)
        );
        // A clock that was set back.
        assert_eq!(
            resumption(&record, RESTARTS, Moment(0)),
            Resumption::After(Duration::from_secs(2))
        );
    }

    #[test]
    fn only_losses_count_as_losses() {
        let mut record = record(7);
        for reason in [EndReason::Stopped, EndReason::ServerEnded] {
            for _ in 0..10 {
                ended(&mut record, &reason, None, RESTARTS, Moment(0));
                assert_eq!(
                    resumption(&record, RESTARTS, Moment(0)),
                    Resumption::After(Duration::ZERO)
                );
            }
        }
        assert_eq!(record.interrupted, []);
    }

    /// Nobody hears of them where the next answer does not come either.
    #[test]
    fn interrupted_turns_are_kept_until_they_are_told() {
        let mut record = record(7);
        let lose = |record: &mut Record, turn| {
            let reason = EndReason::lost(format!("reason {turn}"));
            ended(record, &reason, Some(turn), RESTARTS, Moment(0));
        };
        lose(&mut record, 1);
        record.state = State::Live { turn: None };
        lose(&mut record, 2);
        ended(&mut record, &EndReason::Stopped, None, RESTARTS, Moment(0));
        let known = record.interrupted.clone();
        let turns = |record: &Record| record.interrupted.iter().map(|one| one.turn).collect::<Vec<_>>();
        assert_eq!(turns(&record), [1, 2]);
        lose(&mut record, 3);
        told(&mut record, &known);
        assert_eq!(turns(&record), [3]);
        (10..30).for_each(|turn| lose(&mut record, turn));
        assert_eq!(turns(&record), (22..30).collect::<Vec<_>>());
    }

    #[test]
    fn a_server_that_died_is_one_loss_and_its_turn_was_interrupted() {
        let mut record = record(7);
        record.state = State::Live { turn: Some(4) };
        record.losses = 1;
        for _ in 0..2 {
            settle(&mut record, RESTARTS, Moment(0));
        }
        assert_eq!(record.losses, 2);
        assert_eq!(record.interrupted.len(), 1);
        let told = record.interrupted[0].to_string();
        assert!(
            told.starts_with("turn 4 of this thread was interrupted: its server died."),
            "{told}"
        );
        assert_eq!(resumption(&record, RESTARTS, Moment(0)), Resumption::After(BACK_OFF));
        record.state = State::Live { turn: None };
        settle(&mut record, RESTARTS, Moment(0));
        assert_eq!(record.interrupted.len(), 1);
    }
}
