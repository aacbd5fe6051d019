//! Events between the reader and whoever runs the turn: bounded in number and in bytes, no IO.
//!
//! The reader must never wait for the consumer, because the answers to the consumer's own calls come through the same
//! reader. So a full queue lets go of what matters least, and counts it; what decides the end of a turn is never let
//! go. A container that floods even that is cut off ([`Flooded`]).

use crate::codex::event::{Happening, ThreadEvent, TurnEvent};
use std::collections::VecDeque;

/// What the queue may hold.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    pub events: usize,
    /// Measured by the length of the lines that the events came from.
    pub bytes: usize,
}

/// Room for a slow consumer; a single event is at most one line ([`crate::codex::line::MAX_LINE`]).
pub(super) const BOUNDS: Bounds = Bounds {
    events: 1024,
    bytes: 16 << 20,
};

/// The queue is full of what may not be let go.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Flooded;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Worth {
    /// Comes again, whole, in a later event.
    Delta,
    /// Somebody would have liked to see it.
    Detail,
    /// The turn's answer, state or end.
    Essential,
}

#[derive(Debug)]
pub(super) struct EventQueue {
    bounds: Bounds,
    held: VecDeque<(ThreadEvent, usize)>,
    bytes: usize,
    left_out: u64,
}

impl EventQueue {
    pub fn new(bounds: Bounds) -> Self {
        Self {
            bounds,
            held: VecDeque::new(),
            bytes: 0,
            left_out: 0,
        }
    }

    /// Takes in an event that came in a line of `size` bytes, or counts it as left out.
    pub fn push(&mut self, event: ThreadEvent, size: usize) -> Result<(), Flooded> {
        let worth = worth(&event.happening);
        for sacrifice in [Worth::Delta, Worth::Detail] {
            if self.has_room(size) || sacrifice >= worth {
                break;
            }
            self.let_go(sacrifice);
        }
        if self.has_room(size) {
            self.bytes += size;
            self.held.push_back((event, size));
            Ok(())
        } else if worth == Worth::Essential {
            Err(Flooded)
        } else {
            self.left_out += 1;
            Ok(())
        }
    }

    /// The oldest event; before it, how many are missing.
    pub fn pop(&mut self) -> Option<ThreadEvent> {
        let left_out = std::mem::take(&mut self.left_out);
        if left_out > 0 {
            return Some(ThreadEvent {
                thread: None,
                turn: None,
                happening: Happening::LeftOut(left_out),
            });
        }
        let (event, size) = self.held.pop_front()?;
        self.bytes -= size;
        Some(event)
    }

    fn has_room(&self, size: usize) -> bool {
        self.held.len() < self.bounds.events && self.bytes + size <= self.bounds.bytes
    }

    fn let_go(&mut self, sacrifice: Worth) {
        let before = self.held.len();
        self.held.retain(|(event, _)| worth(&event.happening) != sacrifice);
        self.bytes = self.held.iter().map(|(_, size)| size).sum();
        self.left_out += (before - self.held.len()) as u64;
    }
}

fn worth(happening: &Happening) -> Worth {
    match happening {
        Happening::Shown(TurnEvent::AnswerDelta { .. }) => Worth::Delta,
        Happening::Shown(TurnEvent::Answer { .. } | TurnEvent::Usage(_) | TurnEvent::ApprovalAnswered { .. }) => {
            Worth::Essential
        }
        Happening::Shown(_)
        | Happening::Failing {
            retry: crate::codex::event::Retry::ByItself,
            ..
        } => Worth::Detail,
        Happening::TurnStarted
        | Happening::Failing { .. }
        | Happening::ThreadQuiet
        | Happening::ThreadBusy
        | Happening::TurnEnded(_)
        | Happening::LeftOut(_) => Worth::Essential,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codex::event::{EndedTurn, TurnOutcome, Usage};
    use proptest::prelude::*;

    fn event(happening: Happening) -> ThreadEvent {
        ThreadEvent {
            thread: None,
            turn: None,
            happening,
        }
    }

    fn delta() -> ThreadEvent {
        event(Happening::Shown(TurnEvent::AnswerDelta {
            text: "x".to_owned().into(),
        }))
    }

    fn detail() -> ThreadEvent {
        event(Happening::Shown(TurnEvent::CommandStarted {
            command: "x".to_owned().into(),
        }))
    }

    fn end() -> ThreadEvent {
        event(Happening::TurnEnded(EndedTurn {
            outcome: TurnOutcome::Completed,
            answer: None,
        }))
    }

    fn drain(queue: &mut EventQueue) -> Vec<Happening> {
        std::iter::from_fn(|| queue.pop())
            .map(|event| event.happening)
            .collect()
    }

    #[test]
    fn deltas_make_way_for_details_and_both_for_the_end() {
        let mut queue = EventQueue::new(Bounds { events: 2, bytes: 100 });
        for event in [delta(), delta(), delta(), detail(), detail(), detail(), end()] {
            queue.push(event, 10).unwrap();
        }
        let left = drain(&mut queue);
        assert_eq!(left, [Happening::LeftOut(6), end().happening]);
    }

    #[test]
    fn bytes_are_bounded_too_and_come_back() {
        let mut queue = EventQueue::new(Bounds {
            events: 100,
            bytes: 100,
        });
        queue.push(detail(), 90).unwrap();
        queue.push(detail(), 20).unwrap();
        assert_eq!(drain(&mut queue), [Happening::LeftOut(1), detail().happening]);
        queue.push(detail(), 100).unwrap();
        assert_eq!(drain(&mut queue), [detail().happening]);
    }

    #[test]
    fn a_flood_of_what_may_not_be_lost_is_refused() {
        let mut queue = EventQueue::new(Bounds { events: 2, bytes: 100 });
        queue.push(end(), 1).unwrap();
        queue.push(end(), 1).unwrap();
        queue.push(delta(), 1).unwrap();
        assert_eq!(queue.push(end(), 1), Err(Flooded));
    }

    proptest! {
        #[test]
        fn nothing_essential_is_lost_and_the_bounds_hold(steps in prop::collection::vec((0u8..5, 0usize..60), 0..300)) {
            let bounds = Bounds { events: 16, bytes: 400 };
            let mut queue = EventQueue::new(bounds);
            let (mut pushed, mut taken, mut essential_in, mut essential_out) = (0u64, 0u64, 0, 0);
            let mut take = |popped: Option<ThreadEvent>| match popped.map(|event| event.happening) {
                Some(Happening::LeftOut(count)) => taken += count,
                Some(happening) => {
                    taken += 1;
                    essential_out += usize::from(worth(&happening) == Worth::Essential);
                }
                None => {}
            };
            for (kind, size) in steps {
                let next = match kind {
                    0 => { take(queue.pop()); continue; }
                    1 => end(),
                    2 => event(Happening::Shown(TurnEvent::Usage(Usage::default()))),
                    3 => detail(),
                    _ => delta(),
                };
                let essential = worth(&next.happening) == Worth::Essential;
                if queue.push(next, size).is_ok() {
                    pushed += 1;
                    essential_in += usize::from(essential);
                }
                prop_assert!(queue.held.len() <= bounds.events && queue.bytes <= bounds.bytes);
            }
            while let Some(event) = queue.pop() {
                take(Some(event));
            }
            prop_assert_eq!(pushed, taken);
            prop_assert_eq!(essential_in, essential_out);
        }
    }
}
