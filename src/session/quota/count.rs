//! What is counted of a session and of a day. Pure.

use crate::auth::broker::budget::ModelUsage;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// What bounds are about, each in the unit that it is counted in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dimension {
    Turns,
    Tokens,
    Requests,
    /// The time for which turns ran, in milliseconds: many short ones must not round to nothing.
    Wall,
    /// In bytes.
    Egress,
}

/// Counts of all dimensions. They never wrap.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Counts {
    pub turns: u64,
    pub tokens: u64,
    pub requests: u64,
    pub wall_millis: u64,
    pub egress_bytes: u64,
}

impl Counts {
    pub fn of(&self, dimension: Dimension) -> u64 {
        match dimension {
            Dimension::Turns => self.turns,
            Dimension::Tokens => self.tokens,
            Dimension::Requests => self.requests,
            Dimension::Wall => self.wall_millis,
            Dimension::Egress => self.egress_bytes,
        }
    }

    pub fn plus(self, other: Self) -> Self {
        self.each(other, u64::saturating_add)
    }

    pub fn minus(self, other: Self) -> Self {
        self.each(other, u64::saturating_sub)
    }

    fn each(self, other: Self, of_two: fn(u64, u64) -> u64) -> Self {
        Self {
            turns: of_two(self.turns, other.turns),
            tokens: of_two(self.tokens, other.tokens),
            requests: of_two(self.requests, other.requests),
            wall_millis: of_two(self.wall_millis, other.wall_millis),
            egress_bytes: of_two(self.egress_bytes, other.egress_bytes),
        }
    }
}

/// What all sessions of one state directory came to in one day.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DayCounts {
    /// Begun.
    pub sessions: u64,
    #[serde(flatten)]
    pub counts: Counts,
}

impl DayCounts {
    pub fn plus(self, other: Self) -> Self {
        Self {
            sessions: self.sessions.saturating_add(other.sessions),
            counts: self.counts.plus(other.counts),
        }
    }

    pub fn minus(self, other: Self) -> Self {
        Self {
            sessions: self.sessions.saturating_sub(other.sessions),
            counts: self.counts.minus(other.counts),
        }
    }
}

/// What one session came to over its life, all its containers together. Its record carries it: written before a turn begins and
/// after it has ended, it is what a session that is resumed goes on from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SessionSpent {
    pub turns: u64,
    pub wall_millis: u64,
    pub egress_bytes: u64,
    /// As the broker counts it.
    pub model: ModelUsage,
}

impl SessionSpent {
    /// One more turn, before it begins: a server that is killed in the middle of it has counted it.
    pub fn add_turn(&mut self) {
        self.turns = self.turns.saturating_add(1);
    }

    /// More time that a turn ran, as its ticket measured it.
    pub fn add_wall(&mut self, ran: Duration) {
        self.wall_millis = self.wall_millis.saturating_add(millis(ran));
    }

    /// What broker and egress have counted by now. Both go on from what was spent before, so that this replaces and is counted
    /// once, however often it is called.
    pub fn observe(&mut self, model: ModelUsage, egress_bytes: u64) {
        self.model = model;
        self.egress_bytes = egress_bytes;
    }

    pub fn counts(&self) -> Counts {
        Counts {
            turns: self.turns,
            tokens: self.model.tokens.total(),
            requests: self.model.requests,
            wall_millis: self.wall_millis,
            egress_bytes: self.egress_bytes,
        }
    }
}

pub fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::broker::usage::Tokens;
    use serde_json::json;

    #[test]
    fn a_session_that_is_resumed_goes_on_counting_where_it_was() {
        let mut spent = SessionSpent::default();
        spent.add_turn();
        spent.add_wall(Duration::from_millis(1500));
        let model = ModelUsage {
            requests: 2,
            tokens: Tokens { input: 10, output: 5 },
            ..ModelUsage::default()
        };
        spent.observe(model, 70);
        spent.observe(model, 70);
        let stored = serde_json::to_value(spent).unwrap();
        assert_eq!(stored["model"]["tokens"], json!({"input": 10, "output": 5}));
        let mut resumed: SessionSpent = serde_json::from_value(stored).unwrap();
        resumed.add_turn();
        resumed.add_wall(Duration::from_millis(700));
        let counts = Counts {
            turns: 2,
            tokens: 15,
            requests: 2,
            wall_millis: 2200,
            egress_bytes: 70,
        };
        assert_eq!(resumed.counts(), counts);
    }

    #[test]
    fn no_count_wraps() {
        let all = Counts {
            turns: u64::MAX,
            ..Counts::default()
        };
        assert_eq!(all.plus(all).turns, u64::MAX);
        assert_eq!(Counts::default().minus(all), Counts::default());
        let mut spent = SessionSpent::default();
        spent.add_wall(Duration::MAX);
        spent.add_wall(Duration::MAX);
        assert_eq!(spent.wall_millis, u64::MAX);
    }
}
