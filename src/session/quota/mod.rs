//! What sessions may spend: each over its life, and all of one state directory together in a day.
//!
//! A session's own counts are in its record ([`SessionSpent`]). A day's are in a file that every server of the state directory
//! adds to, so that they are kept over restarts and counted once. What is counted is what this host sees; nothing here takes the
//! container's word. Where a bound is set and the count can't be kept, what it bounds is refused.
//!
//! - [`count`]: what is counted (pure). [`day`]: a day of UTC (pure).
//! - [`bound`]: what may be spent, and what is left (pure).
//! - [`book`]: the files. [`keeper`]: the one thread that reads and writes them.

pub mod book;
pub mod bound;
pub mod count;
pub mod day;
pub mod keeper;

pub use bound::{LiveSession, QuotaLeft, Spent, check_sessions};
pub use count::SessionSpent;

use crate::auth::broker::purse::{Purse, Refused};
use crate::auth::broker::usage::Tokens;
use crate::config::QuotaSettings;
use crate::egress::allowance::{Allowance, UsedUp};
use crate::obs::metrics::{LimitHit, Metrics, TokenKind};
use book::{Book, Uncounted};
use bound::{Ask, Bounds, FOR_A_TURN};
use count::{Counts, millis};
use keeper::Keeper;
use std::future::Future;
use std::io;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Why something is not done for what it would cost.
#[derive(Debug, Clone, thiserror::Error)]
pub enum QuotaError {
    #[error("{0}")]
    Spent(Box<Spent>),
    #[error("what is spent has to be counted where `[quota.day]` bounds it: {0}")]
    Uncounted(Arc<Uncounted>),
}

/// The thread that counts could not be started.
#[derive(Debug, thiserror::Error)]
#[error("can't start the thread that counts what is spent: {0}")]
pub struct Unstarted(#[source] pub io::Error);

/// What all sessions of this server may spend. Clones share everything.
#[derive(Debug, Clone)]
pub struct Quota {
    session: Arc<Bounds>,
    keeper: Keeper,
}

impl Quota {
    /// Blocks for as long as it takes to read a small file.
    ///
    /// # Errors
    ///
    /// Where no thread can be had. A count that can't be read refuses what is bounded, and not the start.
    #[expect(clippy::disallowed_methods, reason = "days are told by the clock")]
    pub fn open(state_dir: &Path, settings: &QuotaSettings) -> Result<Self, Unstarted> {
        // A clock before 1970 is behind every day that was counted.
        let clock = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self::with_clock(state_dir, settings, clock)
    }

    fn with_clock(
        state_dir: &Path,
        settings: &QuotaSettings,
        clock: impl Fn() -> Duration + Send + 'static,
    ) -> Result<Self, Unstarted> {
        Ok(Self {
            session: Arc::new((&settings.session).into()),
            keeper: Keeper::start(Book::new(state_dir), &settings.day, clock)?,
        })
    }

    /// Counts a session that begins, where its first turn may.
    pub async fn admit_session(&self) -> Result<(), QuotaError> {
        counted(self.keeper.admit(Ask::Session).await)
    }

    /// Whether a session that comes back may have a turn: no container is started for one that may not. Nothing is counted, because
    /// the session began once.
    pub async fn admit_resumption(&self, spent: &SessionSpent) -> Result<(), QuotaError> {
        self.may_turn(spent)?;
        counted(self.keeper.admit(Ask::Resumption).await)
    }

    fn may_turn(&self, spent: &SessionSpent) -> Result<(), QuotaError> {
        match self.session.spent(&spent.counts(), FOR_A_TURN) {
            Some(met) => counted(Err(QuotaError::Spent(Box::new(Spent::of_session(met))))),
            None => Ok(()),
        }
    }

    /// A session that was counted did not begin after all.
    pub fn withdraw_session(&self) {
        self.keeper.take_back(Ask::Session);
    }

    /// Counts a turn that begins; its time runs from here. `spent` is the session's, without this turn.
    pub async fn admit_turn(&self, spent: &SessionSpent) -> Result<TurnTicket, QuotaError> {
        self.may_turn(spent)?;
        counted(self.keeper.admit(Ask::Turn).await)?;
        Ok(TurnTicket {
            keeper: self.keeper.clone(),
            since: Instant::now(),
        })
    }

    /// What is left, of all servers together.
    pub async fn left(&self, spent: &SessionSpent) -> QuotaLeft {
        QuotaLeft::new(self.session.left(&spent.counts()), self.keeper.left().await)
    }

    /// For the broker of every session.
    pub fn purse(&self) -> Arc<dyn Purse> {
        Arc::new(OfTheDay(self.keeper.clone()))
    }

    /// For the egress of every session.
    pub fn allowance(&self) -> Arc<dyn Allowance> {
        Arc::new(OfTheDay(self.keeper.clone()))
    }

    /// Returns when all that was counted before is on the disk.
    pub async fn flush(&self) {
        self.keeper.flush().await;
    }
}

/// A bound that was met is one of the numbers of this process.
pub fn counted<T>(asked: Result<T, QuotaError>) -> Result<T, QuotaError> {
    if let Err(QuotaError::Spent(spent)) = &asked {
        Metrics::of_process().limits.count(match spent.what {
            bound::Bound::AtOnce => LimitHit::SessionsAtOnce,
            bound::Bound::Session(_) => LimitHit::SessionQuota,
            bound::Bound::DaySessions | bound::Bound::Day(_) => LimitHit::DayQuota,
        });
    }
    asked
}

/// A turn that is counted. Its time is as well, at the latest when this is dropped.
#[derive(Debug)]
pub struct TurnTicket {
    keeper: Keeper,
    since: Instant,
}

impl TurnTicket {
    /// Counts the time since the turn began or this was last asked, and says how long that was, for the session's record. A long turn
    /// of a server that is killed has spent what was counted.
    pub fn so_far(&mut self) -> Duration {
        let now = Instant::now();
        let ran = now.saturating_duration_since(self.since);
        self.since = now;
        self.keeper.add(Counts {
            wall_millis: millis(ran),
            ..Counts::default()
        });
        ran
    }

    /// The turn has ended: the rest of its time, as [`Self::so_far`].
    pub fn settle(mut self) -> Duration {
        self.so_far()
    }

    /// The turn did not begin after all.
    pub fn withdraw(self) {
        self.keeper.take_back(Ask::Turn);
    }
}

impl Drop for TurnTicket {
    fn drop(&mut self) {
        self.so_far();
    }
}

/// The day, as broker and egress see it.
#[derive(Debug)]
struct OfTheDay(Keeper);

impl Purse for OfTheDay {
    fn admit(&self) -> Pin<Box<dyn Future<Output = Result<(), Refused>> + Send + '_>> {
        Box::pin(async {
            let admitted = counted(self.0.admit(Ask::Request).await);
            admitted.map_err(|error| Refused(error.to_string()))
        })
    }

    fn withdraw(&self) {
        self.0.take_back(Ask::Request);
    }

    fn settle(&self, tokens: Tokens) {
        let metrics = Metrics::of_process();
        metrics.tokens.add(TokenKind::Input, tokens.input);
        metrics.tokens.add(TokenKind::Output, tokens.output);
        self.0.add(Counts {
            tokens: tokens.total(),
            ..Counts::default()
        });
    }
}

impl Allowance for OfTheDay {
    fn moved(&self, bytes: u64) -> Result<(), UsedUp> {
        self.0.moved(bytes)
    }

    fn check(&self) -> Result<(), UsedUp> {
        self.0.may_move()
    }
}

#[cfg(test)]
mod tests;
