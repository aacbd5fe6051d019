//! What may be spent, whether it is, and what is left of it. Pure.

use crate::config::key::{self, Key};
use crate::config::quantity::{ByteSize, Period};
use crate::config::{DayQuota, Origin, Sourced, Spendable};
use crate::session::quota::count::{Counts, DayCounts, Dimension, millis};
use crate::session::quota::day::Day;
use serde::Serialize;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

/// How many holders a refusal names.
const MAX_NAMED: usize = 8;

/// One bound of the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limit {
    /// In the unit of its dimension.
    pub most: u64,
    /// As a person writes it.
    shown: String,
    origin: Origin,
}

impl Limit {
    fn count(bound: &Option<Sourced<u64>>) -> Option<Self> {
        let bound = bound.as_ref()?;
        Some(Self::new(bound.value, bound.value, &bound.origin))
    }

    fn time(bound: &Option<Sourced<Duration>>) -> Option<Self> {
        let bound = bound.as_ref()?;
        Some(Self::new(millis(bound.value), Period::from(bound.value), &bound.origin))
    }

    fn size(bound: &Option<Sourced<ByteSize>>) -> Option<Self> {
        let bound = bound.as_ref()?;
        Some(Self::new(bound.value.bytes(), bound.value, &bound.origin))
    }

    fn new(most: u64, shown: impl fmt::Display, origin: &Origin) -> Self {
        Self {
            most,
            shown: shown.to_string(),
            origin: origin.clone(),
        }
    }
}

/// The bounds of a session, or those of a day.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bounds {
    turns: Option<Limit>,
    tokens: Option<Limit>,
    requests: Option<Limit>,
    wall: Option<Limit>,
    egress: Option<Limit>,
}

impl From<&Spendable> for Bounds {
    fn from(quota: &Spendable) -> Self {
        Self {
            turns: Limit::count(&quota.turns),
            tokens: Limit::count(&quota.tokens),
            requests: Limit::count(&quota.requests),
            wall: Limit::time(&quota.wall),
            egress: Limit::size(&quota.egress),
        }
    }
}

impl Bounds {
    pub fn of(&self, dimension: Dimension) -> Option<&Limit> {
        match dimension {
            Dimension::Turns => self.turns.as_ref(),
            Dimension::Tokens => self.tokens.as_ref(),
            Dimension::Requests => self.requests.as_ref(),
            Dimension::Wall => self.wall.as_ref(),
            Dimension::Egress => self.egress.as_ref(),
        }
    }

    /// The first of `asked` of which nothing is left.
    pub fn spent(&self, used: &Counts, asked: &[Dimension]) -> Option<(Dimension, &Limit)> {
        asked.iter().find_map(|&dimension| {
            let limit = self.of(dimension)?;
            (used.of(dimension) >= limit.most).then_some((dimension, limit))
        })
    }

    pub fn left(&self, used: &Counts) -> Left {
        let left = |dimension| {
            let limit = self.of(dimension)?;
            Some(limit.most.saturating_sub(used.of(dimension)))
        };
        Left {
            turns: left(Dimension::Turns),
            tokens: left(Dimension::Tokens),
            requests: left(Dimension::Requests),
            wall_seconds: left(Dimension::Wall).map(|millis| millis / 1000),
            egress_bytes: left(Dimension::Egress),
        }
    }
}

/// All that is bounded in a day.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DayBounds {
    pub sessions: Option<Limit>,
    pub bounds: Bounds,
}

impl From<&DayQuota> for DayBounds {
    fn from(quota: &DayQuota) -> Self {
        Self {
            sessions: Limit::count(&quota.sessions),
            bounds: (&quota.spendable).into(),
        }
    }
}

/// What is asked of a day.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ask {
    /// With a first turn, which is asked for and counted by itself when it begins.
    Session,
    /// As [`Self::Session`], of one that was counted when it began.
    Resumption,
    Turn,
    Request,
}

/// What a turn is not begun without. Not bytes: without them its connections are refused, and the model says so.
pub const FOR_A_TURN: &[Dimension] = &[
    Dimension::Turns,
    Dimension::Wall,
    Dimension::Tokens,
    Dimension::Requests,
];

impl Ask {
    fn dimensions(self) -> &'static [Dimension] {
        match self {
            Self::Session | Self::Resumption | Self::Turn => FOR_A_TURN,
            Self::Request => &[Dimension::Tokens, Dimension::Requests],
        }
    }

    /// What is counted of it when it is admitted.
    pub fn cost(self) -> DayCounts {
        let mut cost = DayCounts::default();
        match self {
            Self::Session => cost.sessions = 1,
            Self::Resumption => {}
            Self::Turn => cost.counts.turns = 1,
            Self::Request => cost.counts.requests = 1,
        }
        cost
    }

    /// Whether any bound is about it: without one it is counted, and admitted whatever the count is.
    pub fn is_bounded(self, bounds: &DayBounds) -> bool {
        let sessions = self == Self::Session && bounds.sessions.is_some();
        sessions
            || self
                .dimensions()
                .iter()
                .any(|&dimension| bounds.bounds.of(dimension).is_some())
    }

    /// The bound that it meets, if it meets one.
    pub fn meets<'b>(self, bounds: &'b DayBounds, used: &DayCounts) -> Option<(Bound, &'b Limit)> {
        if self == Self::Session
            && let Some(limit) = bounds.sessions.as_ref().filter(|limit| used.sessions >= limit.most)
        {
            return Some((Bound::DaySessions, limit));
        }
        let spent = bounds.bounds.spent(&used.counts, self.dimensions());
        spent.map(|(dimension, limit)| (Bound::Day(dimension), limit))
    }
}

/// Which bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bound {
    /// Sessions at once.
    AtOnce,
    Session(Dimension),
    DaySessions,
    Day(Dimension),
}

impl Bound {
    /// Its name in the configuration.
    pub fn key(self) -> &'static str {
        let key: Key = match self {
            Self::AtOnce => key::QUOTA_SESSIONS,
            Self::Session(Dimension::Turns) => key::QUOTA_SESSION_TURNS,
            Self::Session(Dimension::Tokens) => key::QUOTA_SESSION_TOKENS,
            Self::Session(Dimension::Requests) => key::QUOTA_SESSION_REQUESTS,
            Self::Session(Dimension::Wall) => key::QUOTA_SESSION_WALL,
            Self::Session(Dimension::Egress) => key::QUOTA_SESSION_EGRESS,
            Self::DaySessions => key::QUOTA_DAY_SESSIONS,
            Self::Day(Dimension::Turns) => key::QUOTA_DAY_TURNS,
            Self::Day(Dimension::Tokens) => key::QUOTA_DAY_TOKENS,
            Self::Day(Dimension::Requests) => key::QUOTA_DAY_REQUESTS,
            Self::Day(Dimension::Wall) => key::QUOTA_DAY_WALL,
            Self::Day(Dimension::Egress) => key::QUOTA_DAY_EGRESS,
        };
        key.name
    }
}

/// A session that is live now, and the server that has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LiveSession {
    pub session: String,
    /// Its process, where that is known.
    pub server: Option<u32>,
}

impl fmt::Display for LiveSession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.server {
            Some(server) => write!(f, "{} (process {server})", self.session),
            None => write!(f, "{} (another process)", self.session),
        }
    }
}

/// When a bound is whole again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Renewal {
    /// At its first second.
    pub day: Day,
    /// Where the clock says an earlier day than the one that is counted: what counts the later one.
    pub ahead: Option<PathBuf>,
}

/// A bound that is reached.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct Spent {
    pub what: Bound,
    /// As a person writes it.
    pub limit: String,
    pub origin: Origin,
    /// `None`: not by itself.
    pub renews: Option<Renewal>,
    /// Of [`Bound::AtOnce`].
    pub holders: Vec<LiveSession>,
}

impl Spent {
    pub fn of_session((dimension, limit): (Dimension, &Limit)) -> Self {
        Self::new(Bound::Session(dimension), limit, None)
    }

    pub fn of_day((what, limit): (Bound, &Limit), renews: Renewal) -> Self {
        Self::new(what, limit, Some(renews))
    }

    fn new(what: Bound, limit: &Limit, renews: Option<Renewal>) -> Self {
        Self {
            what,
            limit: limit.shown.clone(),
            origin: limit.origin.clone(),
            renews,
            holders: Vec::new(),
        }
    }
}

impl fmt::Display for Spent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = self.what.key();
        write!(f, "{key} = {} (from {}) is used up: ", self.limit, self.origin)?;
        match self.what {
            Bound::AtOnce => {
                write!(
                    f,
                    "so many sessions are live, of all servers that share the state directory: "
                )?;
                let named = self.holders.iter().take(MAX_NAMED).map(LiveSession::to_string);
                f.write_str(&named.collect::<Vec<_>>().join(", "))?;
                if let Some(more) = self.holders.len().checked_sub(MAX_NAMED).filter(|more| *more > 0) {
                    write!(f, " and {more} more")?;
                }
                write!(f, "; end one of them with `codex-mcp sessions stop`, or raise {key}")
            }
            Bound::Session(_) => write!(
                f,
                "this session has spent all of it, and it does not renew; go on in a new session, or raise {key}"
            ),
            Bound::DaySessions | Bound::Day(_) => {
                write!(f, "all sessions that share the state directory have spent it together")?;
                if let Some(renews) = &self.renews {
                    write!(f, "; it renews at {}", renews.day.begins())?;
                    if let Some(path) = &renews.ahead {
                        write!(
                            f,
                            " (this machine's clock says an earlier day than {}: where the clock was wrong then, move that \
                             file away)",
                            path.display()
                        )?;
                    }
                }
                write!(f, "; raise {key}")
            }
        }
    }
}

/// Whether one more session may be live.
///
/// # Errors
///
/// The bound, and what holds it.
pub fn check_sessions(live: &[LiveSession], limit: &Sourced<u32>) -> Result<(), Spent> {
    if live.len() < limit.value as usize {
        return Ok(());
    }
    let limit = Limit::new(limit.value.into(), limit.value, &limit.origin);
    Err(Spent {
        holders: live.to_vec(),
        ..Spent::new(Bound::AtOnce, &limit, None)
    })
}

/// What is left of some bounds; `None` where there is none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Left {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub turns: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokens: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requests: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wall_seconds: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub egress_bytes: Option<u64>,
}

/// What is left of a day's bounds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DayLeft {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sessions: Option<u64>,
    #[serde(flatten)]
    pub left: Left,
    /// RFC 3339.
    pub renews: String,
}

/// For results: what is left of what is bounded.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct QuotaLeft {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session: Option<Left>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub day: Option<DayLeft>,
}

impl QuotaLeft {
    pub fn new(session: Left, day: Option<DayLeft>) -> Self {
        Self {
            session: Some(session).filter(|left| *left != Left::default()),
            day,
        }
    }
}

impl DayBounds {
    /// `None` where nothing is bounded.
    pub fn left(&self, used: &DayCounts, renews: Day) -> Option<DayLeft> {
        let left = self.bounds.left(&used.counts);
        let sessions = self.sessions.as_ref();
        let sessions = sessions.map(|limit| limit.most.saturating_sub(used.sessions));
        (sessions.is_some() || left != Left::default()).then(|| DayLeft {
            sessions,
            left,
            renews: renews.begins(),
        })
    }
}

#[cfg(test)]
mod tests;
