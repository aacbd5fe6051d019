//! The word that a session is to end, and what it says of the session. Pure.

use crate::session::registry::Urgency;

/// A session is to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct StopOrder {
    pub urgency: Urgency,
    pub by: StoppedBy,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum StoppedBy {
    Server,
    Caller,
    /// Its start was refused or given up when it had a thread already: nobody will ever ask for that.
    Starter,
}

/// Who may come back to a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KnownTo {
    /// None of its turns has begun.
    Starter,
    Callers,
}

impl KnownTo {
    /// As whom a start ends the session that it can't hand over.
    pub(super) fn refuser(self) -> StoppedBy {
        match self {
            Self::Starter => StoppedBy::Starter,
            Self::Callers => StoppedBy::Server,
        }
    }
}

impl StopOrder {
    /// What it is ended for is whatever came first; a second word only hurries, or says that nobody knows it.
    pub fn and(self, more: Self) -> Self {
        let urgency = match more.urgency {
            Urgency::Immediate => Urgency::Immediate,
            Urgency::Graceful => self.urgency,
        };
        let by = match more.by {
            StoppedBy::Starter => StoppedBy::Starter,
            StoppedBy::Server | StoppedBy::Caller => self.by,
        };
        Self { urgency, by }
    }

    /// Whether anybody may come back to the session. Where not, all that it has is a thread whose name its container chose.
    pub fn keeps_session(self) -> bool {
        self.by != StoppedBy::Starter
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(urgency: Urgency, by: StoppedBy) -> StopOrder {
        StopOrder { urgency, by }
    }

    #[test]
    fn a_second_word_hurries_and_changes_nothing_else_but_that_nobody_knows_it() {
        use StoppedBy::{Caller, Server, Starter};
        use Urgency::{Graceful, Immediate};
        let stopped = order(Graceful, Caller);
        assert_eq!(stopped.and(order(Graceful, Server)), stopped);
        assert_eq!(stopped.and(order(Immediate, Server)), order(Immediate, Caller));
        assert_eq!(
            order(Immediate, Server).and(order(Graceful, Caller)),
            order(Immediate, Server)
        );
        // A shutdown may speak before the start that it gave up.
        let unknown = order(Graceful, Server).and(order(Graceful, Starter));
        assert!(!unknown.keeps_session() && stopped.keeps_session());
        assert!(!unknown.and(order(Immediate, Server)).keeps_session());
    }
}
