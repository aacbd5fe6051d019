//! Which sessions without a container are removed to make room. Pure.

use crate::plan::identity::SessionId;
use crate::session::store::record::{Moment, Record};
use std::time::Duration;

/// A session that nobody has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    pub session: SessionId,
    /// When anything last happened in it.
    pub changed: Moment,
    /// Turns that began by then: a moment is a whole second, in which more can happen.
    pub turns: u64,
    /// What its directory takes, in bytes.
    pub bytes: u64,
}

impl Ended {
    /// Whether the session is as it was when this was said of it.
    pub fn is_still(&self, record: &Record) -> bool {
        record.end().is_some() && (record.changed, record.turns) == (self.changed, self.turns)
    }
}

/// How much is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keep {
    /// `sessions.keep`.
    pub age: Duration,
    /// `sessions.keep_size`, in bytes.
    pub bytes: u64,
}

/// Why one goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Pruned {
    TooOld,
    /// Younger ones take all the room there is.
    TooMuch,
    /// Its server died before it came to a thread.
    Unfinished,
}

impl Pruned {
    /// The setting by which it goes, or the reason.
    pub fn because(self) -> &'static str {
        match self {
            Self::TooOld => "sessions.keep",
            Self::TooMuch => "sessions.keep_size",
            Self::Unfinished => "it never came to a thread",
        }
    }
}

/// The sessions to remove, oldest first. The youngest that fit are kept, so that one huge session does not take all older ones
/// along that would fit beside the younger.
pub fn to_prune(ended: &[Ended], keep: Keep, now: Moment) -> Vec<(&Ended, Pruned)> {
    let mut youngest_first: Vec<&Ended> = ended.iter().collect();
    youngest_first.sort_by(|one, other| (other.changed, &other.session).cmp(&(one.changed, &one.session)));
    let mut kept = 0u64;
    let mut pruned = Vec::new();
    for session in youngest_first {
        let with_it = kept.saturating_add(session.bytes);
        if session.changed.age(now) > keep.age {
            pruned.push((session, Pruned::TooOld));
        } else if with_it > keep.bytes {
            pruned.push((session, Pruned::TooMuch));
        } else {
            kept = with_it;
        }
    }
    pruned.reverse();
    pruned
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ended(byte: u8, changed: u64, bytes: u64) -> Ended {
        Ended {
            session: SessionId::from_random([byte; 10]),
            changed: Moment(changed),
            turns: 1,
            bytes,
        }
    }

    fn pruned(sessions: &[Ended], age: u64, bytes: u64) -> Vec<(u8, Pruned)> {
        let keep = Keep {
            age: Duration::from_secs(age),
            bytes,
        };
        to_prune(sessions, keep, Moment(1000))
            .into_iter()
            .map(|(session, why)| (u8::from_str_radix(&session.session.as_str()[..2], 16).unwrap(), why))
            .collect()
    }

    #[test]
    fn the_old_go_and_then_what_does_not_fit_beside_the_younger() {
        let sessions = [
            ended(1, 100, 1),
            ended(2, 900, 50),
            ended(3, 950, 80),
            ended(4, 990, 40),
        ];
        assert_eq!(pruned(&sessions, 500, 1000), [(1, Pruned::TooOld)]);
        assert_eq!(pruned(&sessions, 2000, 100), [(3, Pruned::TooMuch)]);
        assert_eq!(pruned(&sessions, 2000, 1000), []);
        // A clock that was set back makes nothing old.
        assert_eq!(pruned(&[ended(1, 5000, 1)], 500, 1000), []);
    }

    proptest! {
        #[test]
        fn what_is_kept_fits_and_is_young(sizes in proptest::collection::vec((0..2000u64, 0..100u64), 0..40), age in 0..2000u64, room in 0..1000u64) {
            let sessions: Vec<_> = sizes.iter().zip(0u8..).map(|((changed, bytes), byte)| ended(byte, *changed, *bytes)).collect();
            let gone = pruned(&sessions, age, room);
            let kept: Vec<_> = sessions.iter().zip(0u8..).filter(|(_, byte)| gone.iter().all(|(gone, _)| gone != byte)).map(|(session, _)| session).collect();
            prop_assert!(kept.iter().map(|session| session.bytes).sum::<u64>() <= room);
            prop_assert!(kept.iter().all(|session| session.changed.age(Moment(1000)).as_secs() <= age));
        }
    }
}
