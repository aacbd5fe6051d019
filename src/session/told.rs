//! What was put on record since a turn began, so that a guest can't fill the disk by doing one thing again and again. Pure.
//!
//! Equal happenings are one record and a count. Of different ones so many are told apart; what comes beyond is one record
//! that says so, and a count.

use crate::audit::NotRecorded;
use crate::audit::record::Repeats;
use std::collections::BTreeMap;

/// Different allowed connections that are told apart in a turn.
const ALLOWED: usize = 1024;
/// Different refusals, of which a guest can make up as many as it likes. With their own bound they crowd out no allowed one.
const DENIED: usize = 256;
/// Different uses of a credential: providers times endpoints.
const CREDENTIALS: usize = 64;
/// Approvals that are declined with a record each.
const DECLINED: u64 = 64;

#[derive(Debug)]
pub struct Told {
    pub allowed: Distinct,
    pub denied: Distinct,
    pub credentials: Distinct,
    /// Declined so far.
    declined: u64,
}

impl Default for Told {
    fn default() -> Self {
        Self {
            allowed: Distinct::new(ALLOWED),
            denied: Distinct::new(DENIED),
            credentials: Distinct::new(CREDENTIALS),
            declined: 0,
        }
    }
}

/// Whether something gets a record of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Telling {
    Record,
    Count,
}

impl Told {
    /// Counts one more approval that is declined.
    pub fn decline(&mut self) -> Telling {
        self.declined = self.declined.saturating_add(1);
        match self.declined > DECLINED {
            true => Telling::Count,
            false => Telling::Record,
        }
    }

    /// What was only counted. Forgets everything.
    pub fn take(&mut self) -> Repeats {
        let told = std::mem::take(self);
        let groups = [told.allowed, told.denied, told.credentials];
        Repeats {
            not_told_apart: groups.iter().map(|group| group.others).sum(),
            times: groups
                .into_iter()
                .flat_map(|group| group.seen.into_values())
                .filter(|(_, times)| *times > 1)
                .collect(),
            approvals_declined: told.declined.saturating_sub(DECLINED),
        }
    }
}

/// Happenings of one kind.
#[derive(Debug)]
pub struct Distinct {
    most: usize,
    /// The one record's number, and how often it happened.
    seen: BTreeMap<String, (u64, u64)>,
    /// Happenings beyond the bound.
    others: u64,
}

/// What a record is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum About {
    This,
    /// Too many different ones came before.
    AnyFurther,
}

impl Distinct {
    fn new(most: usize) -> Self {
        Self {
            most,
            seen: BTreeMap::new(),
            others: 0,
        }
    }

    /// Counts one, after it was recorded where it is the first of its kind.
    ///
    /// # Errors
    ///
    /// Where it had to be recorded and was not.
    pub fn count(
        &mut self,
        key: String,
        record: impl FnOnce(About) -> Result<u64, NotRecorded>,
    ) -> Result<(), NotRecorded> {
        if let Some((_, times)) = self.seen.get_mut(&key) {
            *times = times.saturating_add(1);
        } else if self.seen.len() < self.most {
            let sequence = record(About::This)?;
            self.seen.insert(key, (sequence, 1));
        } else {
            if self.others == 0 {
                record(About::AnyFurther)?;
            }
            self.others = self.others.saturating_add(1);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::cell::Cell;

    #[test]
    fn what_is_not_recorded_is_not_counted_either() {
        let mut told = Told::default();
        for _ in 0..2 {
            let refused = told.allowed.count("a".into(), |_| Err(NotRecorded::Ended));
            assert_eq!(refused, Err(NotRecorded::Ended));
        }
        assert!(told.take().is_empty());
    }

    #[test]
    fn declined_approvals_are_recorded_up_to_a_bound() {
        let mut told = Told::default();
        let recorded = (0..100).filter(|_| told.decline() == Telling::Record).count() as u64;
        assert_eq!(recorded, DECLINED);
        assert_eq!(told.take().approvals_declined, 100 - DECLINED);
        assert_eq!(told.decline(), Telling::Record, "a new turn");
    }

    proptest! {
        /// However many there are and in whatever order: so many records, and everything is counted.
        #[test]
        fn all_are_counted_and_few_are_recorded(keys in proptest::collection::vec(0..700u32, 0..2000)) {
            let mut told = Told::default();
            let records = Cell::new(0u64);
            let record = |_| {
                records.set(records.get() + 1);
                Ok(records.get())
            };
            for key in &keys {
                told.denied.count(key.to_string(), record).unwrap();
            }
            let different: std::collections::BTreeSet<_> = keys.iter().collect();
            let expected = different.len().min(DENIED) + usize::from(different.len() > DENIED);
            prop_assert_eq!(records.get(), expected as u64);
            let repeats = told.take();
            let once = different.len().min(DENIED) - repeats.times.len();
            let counted = repeats.times.values().sum::<u64>() + repeats.not_told_apart + once as u64;
            prop_assert_eq!(counted, keys.len() as u64);
            prop_assert!(told.take().is_empty());
        }
    }
}
