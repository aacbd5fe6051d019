//! What one session used of its bounds and what it was refused, counted where many connections meet.
//!
//! Nothing here grows with what the guest does: equal refusals are one entry, and of different ones so many are kept.

use crate::config::Sourced;
use crate::config::network::EgressLimits;
use crate::config::quantity::ByteSize;
use crate::config::target::Target;
use crate::egress::allowance::{Allowance, SessionBounds, UsedUp};
use crate::egress::bucket::Bucket;
use crate::egress::decision::{ByteBound, Denial, DeniedEgress, Reason};
use std::collections::BTreeMap;
use std::num::NonZeroU64;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

/// Different refusals that are kept between two times that they are asked for.
const MAX_DENIED: usize = 256;

/// Refusals that are answered, sustained and at once. More than any client that goes on after a refusal asks for, and little
/// for this host.
const REFUSALS_PER_SECOND: NonZeroU64 = nonzero(50);
const REFUSALS_AT_ONCE: NonZeroU64 = nonzero(100);

/// The bounds of one session, and how much of them is used.
#[derive(Debug)]
pub struct Ledger {
    limits: EgressLimits,
    connections: Arc<Semaphore>,
    openings: Mutex<Bucket>,
    /// A bucket of their own: those who are refused take nothing from the others.
    refusals: Mutex<Bucket>,
    /// Over the session's life.
    moved: AtomicU64,
    /// The lower one of what the session may move.
    most: (ByteBound, Sourced<ByteSize>),
    used_up: CancellationToken,
    day: Option<Arc<dyn Allowance>>,
    today: Mutex<Today>,
    speed: Option<Mutex<Bucket>>,
    denied: Mutex<Denied>,
}

#[derive(Debug, Default)]
struct Today {
    /// Cancelled when the day's bytes are used up, and replaced then: the day renews, and what comes after that is not cut.
    cut: CancellationToken,
    /// What was used up when that last was.
    used_up: Option<UsedUp>,
}

/// One connection's share of the bounds; given back when dropped.
#[derive(Debug)]
pub struct Slot {
    _connection: OwnedSemaphorePermit,
}

/// Whether a refusal was counted before, since refusals were last asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Novelty {
    First,
    Again,
}

impl Ledger {
    pub fn new(bounds: impl Into<SessionBounds>, now: Instant) -> Self {
        let SessionBounds {
            limits,
            quota,
            before,
            day,
        } = bounds.into();
        let most = match quota {
            Some(quota) if quota.value < limits.bytes.value => (ByteBound::Session, quota),
            Some(_) | None => (ByteBound::Network, limits.bytes.clone()),
        };
        let per_second = nonzero(limits.connections_per_second.value.into());
        let speed = limits.bytes_per_second.as_ref().map(|speed| {
            let speed = nonzero(speed.value.bytes());
            Mutex::new(Bucket::new(speed, speed, now))
        });
        Self {
            refusals: Mutex::new(Bucket::new(REFUSALS_PER_SECOND, REFUSALS_AT_ONCE, now)),
            connections: Arc::new(Semaphore::new(limits.connections.value as usize)),
            openings: Mutex::new(Bucket::new(per_second, per_second.saturating_mul(TWO), now)),
            moved: AtomicU64::new(before),
            most,
            used_up: CancellationToken::new(),
            day,
            today: Mutex::default(),
            speed,
            denied: Mutex::default(),
            limits,
        }
    }

    pub fn limits(&self) -> &EgressLimits {
        &self.limits
    }

    /// Lets one more connection be opened, or says which bound is reached.
    pub fn admit(&self, target: &Target, now: Instant) -> Result<Slot, Denial> {
        if let Some(denial) = self.bytes_left(target) {
            return Err(denial);
        }
        let Ok(connection) = Arc::clone(&self.connections).try_acquire_owned() else {
            let limit = self.limits.connections.clone();
            return Err(Denial::of(target, Reason::TooManyConnections { limit }));
        };
        if locked(&self.openings).take(1, now).is_err() {
            let limit = self.limits.connections_per_second.clone();
            return Err(Denial::of(target, Reason::TooFast { limit }));
        }
        Ok(Slot {
            _connection: connection,
        })
    }

    /// How long the next refusal has to wait before it is answered; `None` where it need not. To be asked again then.
    pub fn refusal_waits(&self, now: Instant) -> Option<Duration> {
        locked(&self.refusals).take(1, now).err()
    }

    /// Counts bytes that were moved, in either direction. With more than may be moved, every connection of the session is cut:
    /// each of them has moved one buffer too many at most. What is the day's cuts other sessions with their next buffer.
    pub fn moved(&self, bytes: u64) {
        let before = self.moved.fetch_add(bytes, Ordering::Relaxed);
        if before.saturating_add(bytes) > self.most.1.value.bytes() {
            self.used_up.cancel();
        }
        if let Some(day) = &self.day
            && let Err(used_up) = day.moved(bytes)
        {
            let mut today = locked(&self.today);
            today.used_up = Some(used_up);
            std::mem::take(&mut today.cut).cancel();
        }
    }

    /// What a connection that is opened now is cut by, when the day's bytes are used up.
    pub fn today(&self) -> CancellationToken {
        locked(&self.today).cut.clone()
    }

    /// Over the session's life.
    pub fn bytes_moved(&self) -> u64 {
        self.moved.load(Ordering::Relaxed)
    }

    /// Ends when the session has moved more than it may.
    pub async fn used_up(&self) {
        self.used_up.cancelled().await;
    }

    pub fn is_used_up(&self) -> bool {
        self.used_up.is_cancelled()
    }

    /// Why a connection was cut for its bytes.
    pub fn bytes_used_up(&self, target: &Target) -> Denial {
        let of_the_day = locked(&self.today).used_up.clone();
        match of_the_day.filter(|_| !self.is_used_up()) {
            Some(used_up) => day_used_up(target, used_up),
            None => self.session_used_up(target),
        }
    }

    fn session_used_up(&self, target: &Target) -> Denial {
        let (bound, limit) = self.most.clone();
        Denial::of(target, Reason::BytesUsedUp { bound, limit })
    }

    /// `None`: there are bytes left.
    fn bytes_left(&self, target: &Target) -> Option<Denial> {
        if self.bytes_moved() >= self.most.1.value.bytes() {
            return Some(self.session_used_up(target));
        }
        let used_up = self.day.as_ref()?.check().err()?;
        Some(day_used_up(target, used_up))
    }

    /// Pays for bytes that were moved: what is left to pay, and how long to wait before paying it. `None`: nothing.
    pub fn pay(&self, bytes: u64, now: Instant) -> Option<(u64, Duration)> {
        let Some(speed) = &self.speed else { return None };
        let mut bucket = locked(speed);
        let mut left = bytes;
        while let Some(most) = NonZeroU64::new(left) {
            match bucket.take_up_to(most, now) {
                Ok(paid) => left -= paid.get(),
                Err(wait) => return Some((left, wait)),
            }
        }
        None
    }

    /// Counts a refusal.
    pub fn denied(&self, denial: &Denial) -> Novelty {
        locked(&self.denied).add(denial.into())
    }

    /// The refusals since this was last asked, equal ones counted, in the order of their hosts.
    pub fn take_denied(&self) -> Vec<DeniedEgress> {
        std::mem::take(&mut *locked(&self.denied)).into_list()
    }
}

fn day_used_up(target: &Target, UsedUp { limit, renews }: UsedUp) -> Denial {
    let bound = ByteBound::Day { renews };
    Denial::of(target, Reason::BytesUsedUp { bound, limit })
}

const TWO: NonZeroU64 = NonZeroU64::MIN.saturating_add(1);

/// The configuration has no zero here; if it had one, as little as there is.
const fn nonzero(number: u64) -> NonZeroU64 {
    match NonZeroU64::new(number) {
        Some(number) => number,
        None => NonZeroU64::MIN,
    }
}

/// Whoever panicked left nothing half-done: every change under these locks is one step.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[derive(Debug, Default)]
struct Denied {
    entries: BTreeMap<(String, u16, String), DeniedEgress>,
    /// Of which no entry could be made.
    others: u64,
}

impl Denied {
    fn add(&mut self, denied: DeniedEgress) -> Novelty {
        let key = (denied.host.clone(), denied.port, denied.rule.clone());
        if let Some(entry) = self.entries.get_mut(&key) {
            entry.count = entry.count.saturating_add(1);
            return Novelty::Again;
        }
        if self.entries.len() >= MAX_DENIED {
            self.others = self.others.saturating_add(1);
            return if self.others == 1 {
                Novelty::First
            } else {
                Novelty::Again
            };
        }
        self.entries.insert(key, denied);
        Novelty::First
    }

    fn into_list(self) -> Vec<DeniedEgress> {
        let others = (self.others > 0).then(|| DeniedEgress {
            host: String::new(),
            port: 0,
            count: self.others,
            rule: format!("further refusals: only {MAX_DENIED} different ones are listed"),
            how_to_allow: "the operator sees each of them in the log, at level debug".to_owned(),
        });
        self.entries.into_values().chain(others).collect()
    }
}

#[cfg(test)]
mod tests;
