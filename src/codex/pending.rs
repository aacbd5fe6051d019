//! Which answer belongs to which call: ids and waiters, no IO.
//!
//! An id is never used twice, so an answer that comes after its call was given up can't reach another call.

use std::collections::HashMap;

/// The most calls that wait at once. A session makes two or three; more would be a leak.
pub(super) const MAX_PENDING: usize = 64;

#[derive(Debug)]
pub(super) struct Pending<W> {
    next: u64,
    waiting: HashMap<u64, W>,
}

/// More than [`MAX_PENDING`] calls would wait.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TooManyCalls;

/// To whom an answer goes.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Answered<W> {
    Waiter(W),
    /// The call was made and is no longer waited for.
    GivenUp,
    /// No such call was ever made.
    NeverAsked,
}

impl<W> Pending<W> {
    pub fn new() -> Self {
        Self {
            next: 1,
            waiting: HashMap::new(),
        }
    }

    /// Takes in a waiter and names its call.
    pub fn add(&mut self, waiter: W) -> Result<u64, TooManyCalls> {
        if self.waiting.len() >= MAX_PENDING {
            return Err(TooManyCalls);
        }
        let id = self.next;
        self.next += 1;
        self.waiting.insert(id, waiter);
        Ok(id)
    }

    pub fn answered(&mut self, id: u64) -> Answered<W> {
        match self.waiting.remove(&id) {
            Some(waiter) => Answered::Waiter(waiter),
            None if id > 0 && id < self.next => Answered::GivenUp,
            None => Answered::NeverAsked,
        }
    }

    pub fn give_up(&mut self, id: u64) {
        self.waiting.remove(&id);
    }

    /// Forgets every waiter; dropping them tells each that no answer will come.
    pub fn give_up_all(&mut self) {
        self.waiting.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    #[test]
    fn calls_are_bounded_and_room_comes_back() {
        let mut pending = Pending::new();
        let ids: Vec<u64> = (0..MAX_PENDING).map(|n| pending.add(n).unwrap()).collect();
        assert_eq!(pending.add(0), Err(TooManyCalls));
        assert_eq!(pending.answered(ids[3]), Answered::Waiter(3));
        assert!(pending.add(0).is_ok());
    }

    #[test]
    fn a_late_answer_and_one_never_asked_for_are_told_apart() {
        let mut pending = Pending::new();
        let id = pending.add("a").unwrap();
        pending.give_up(id);
        assert_eq!(pending.answered(id), Answered::GivenUp);
        assert_eq!(pending.answered(id + 1), Answered::NeverAsked);
        assert_eq!(pending.answered(0), Answered::NeverAsked);
    }

    proptest! {
        #[test]
        fn ids_are_never_used_again_and_answers_reach_their_own_call(steps in prop::collection::vec((any::<bool>(), 0u64..40), 1..200)) {
            let mut pending = Pending::new();
            let mut seen = BTreeSet::new();
            for (add, other) in steps {
                if add {
                    if let Ok(id) = pending.add(0u64) {
                        prop_assert!(seen.insert(id));
                        *pending.waiting.get_mut(&id).unwrap() = id;
                    }
                } else if let Answered::Waiter(waiter) = pending.answered(other) {
                    prop_assert_eq!(waiter, other);
                }
            }
        }
    }
}
