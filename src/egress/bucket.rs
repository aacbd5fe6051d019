//! A token bucket: so much at once, so much a second. Pure; the clock is the caller's.
//!
//! Exact: it counts in billionths of a token, so that many short waits give as much as one long one, and never more than
//! `burst + per_second · t`.

use std::num::NonZeroU64;
use std::time::{Duration, Instant};

/// Parts of a token: with as many parts as a second has nanoseconds, a nanosecond refills `per_second` of them.
const PARTS: u128 = 1_000_000_000;

/// Starts full.
#[derive(Debug, Clone)]
pub struct Bucket {
    per_second: NonZeroU64,
    burst: NonZeroU64,
    parts: u128,
    refilled: Instant,
}

impl Bucket {
    pub fn new(per_second: NonZeroU64, burst: NonZeroU64, now: Instant) -> Self {
        Self {
            per_second,
            burst,
            parts: u128::from(burst.get()) * PARTS,
            refilled: now,
        }
    }

    /// Takes `wanted` tokens or none.
    ///
    /// # Errors
    /// How long until there are as many, if nobody else takes any; `Duration::MAX` where the bucket never holds as many.
    pub fn take(&mut self, wanted: u64, now: Instant) -> Result<(), Duration> {
        self.refill(now);
        let parts = u128::from(wanted) * PARTS;
        if parts <= self.parts {
            self.parts -= parts;
            return Ok(());
        }
        match wanted <= self.burst.get() {
            true => Err(self.until(parts)),
            false => Err(Duration::MAX),
        }
    }

    /// Takes as many tokens as there are, at most `most` and at least one: for paying a large sum in parts.
    ///
    /// # Errors
    /// With none there: how long until there are `most`, or as many as the bucket holds.
    pub fn take_up_to(&mut self, most: NonZeroU64, now: Instant) -> Result<NonZeroU64, Duration> {
        self.refill(now);
        let held = u64::try_from(self.parts / PARTS).unwrap_or(u64::MAX);
        match NonZeroU64::new(held.min(most.get())) {
            Some(taken) => {
                self.parts -= u128::from(taken.get()) * PARTS;
                Ok(taken)
            }
            None => Err(self.until(u128::from(most.min(self.burst).get()) * PARTS)),
        }
    }

    fn refill(&mut self, now: Instant) {
        // Callers read the clock before they get hold of the bucket, so `now` may lie before the last one.
        let Some(passed) = now.checked_duration_since(self.refilled) else {
            return;
        };
        self.refilled = now;
        let more = passed.as_nanos().saturating_mul(u128::from(self.per_second.get()));
        let full = u128::from(self.burst.get()) * PARTS;
        self.parts = self.parts.saturating_add(more).min(full);
    }

    /// Rounded up, so that whoever waits this long is not sent back for a nanosecond.
    fn until(&self, parts: u128) -> Duration {
        let missing = parts.saturating_sub(self.parts);
        let nanoseconds = missing.div_ceil(u128::from(self.per_second.get()));
        let seconds = u64::try_from(nanoseconds / PARTS).unwrap_or(u64::MAX);
        // The remainder of a division by 10^9 always fits.
        Duration::new(seconds, u32::try_from(nanoseconds % PARTS).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NANOSECOND: Duration = Duration::from_nanos(1);

    fn number(number: u64) -> NonZeroU64 {
        NonZeroU64::new(number).unwrap()
    }

    #[test]
    fn a_burst_passes_at_once_and_the_rest_at_the_rate() {
        let start = Instant::now();
        let mut bucket = Bucket::new(number(50), number(100), start);
        for _ in 0..100 {
            assert_eq!(bucket.take(1, start), Ok(()));
        }
        assert_eq!(bucket.take(1, start), Err(Duration::from_millis(20)));
        assert_eq!(bucket.take(1, start + Duration::from_millis(20)), Ok(()));
        let later = start + Duration::from_secs(3600);
        assert_eq!(
            bucket.take(101, later),
            Err(Duration::MAX),
            "never holds more than the burst"
        );
        assert_eq!(bucket.take(100, later), Ok(()));
    }

    #[test]
    fn a_sum_larger_than_the_bucket_is_paid_in_parts() {
        let start = Instant::now();
        let mut bucket = Bucket::new(number(1000), number(10), start);
        assert_eq!(bucket.take_up_to(number(25), start), Ok(number(10)));
        assert_eq!(bucket.take_up_to(number(15), start), Err(Duration::from_millis(10)));
        let later = start + Duration::from_millis(10);
        assert_eq!(bucket.take_up_to(number(15), later), Ok(number(10)));
        assert_eq!(bucket.take_up_to(number(5), later), Err(Duration::from_millis(5)));
    }

    #[test]
    fn a_clock_that_was_read_too_early_takes_nothing_back() {
        let start = Instant::now() + Duration::from_secs(1);
        let mut bucket = Bucket::new(number(1), number(1), start);
        assert_eq!(bucket.take(1, start), Ok(()));
        assert!(bucket.take(1, start - Duration::from_secs(1)).is_err());
        assert_eq!(bucket.take(1, start + Duration::from_secs(1)), Ok(()));
    }

    #[test]
    fn extreme_rates_and_times_do_not_overflow() {
        let start = Instant::now();
        let mut bucket = Bucket::new(NonZeroU64::MAX, NonZeroU64::MAX, start);
        assert_eq!(bucket.take(u64::MAX, start), Ok(()));
        assert_eq!(bucket.take(u64::MAX, start + Duration::from_secs(1 << 32)), Ok(()));
        let mut slow = Bucket::new(number(1), NonZeroU64::MAX, start);
        assert_eq!(slow.take(u64::MAX, start), Ok(()));
        assert_eq!(slow.take(u64::MAX, start), Err(Duration::from_secs(u64::MAX)));
    }

    #[derive(Debug, Clone, Copy)]
    enum Asked {
        Exactly(u64),
        UpTo(u64),
    }

    fn asked() -> impl Strategy<Value = Asked> {
        prop_oneof![(0u64..400).prop_map(Asked::Exactly), (1u64..4000).prop_map(Asked::UpTo)]
    }

    proptest! {
        #[test]
        fn never_more_than_the_burst_and_the_rate(per_second in 1u64..100_000, burst in 1u64..1000,
                                                  steps in prop::collection::vec((0u64..50_000_000, asked()), 1..200)) {
            let start = Instant::now();
            let mut bucket = Bucket::new(number(per_second), number(burst), start);
            let mut now = start;
            let mut taken = 0u128;
            for (pause, asked) in steps {
                now += Duration::from_nanos(pause);
                taken += u128::from(match asked {
                    Asked::Exactly(wanted) => bucket.take(wanted, now).map_or(0, |()| wanted),
                    Asked::UpTo(most) => bucket.take_up_to(number(most), now).map_or(0, NonZeroU64::get),
                });
                let bound = u128::from(burst) * PARTS + u128::from(per_second) * (now - start).as_nanos();
                prop_assert!(taken * PARTS <= bound, "{taken} after {:?}", now - start);
            }
        }

        #[test]
        fn whoever_waits_as_told_is_served_and_no_earlier(per_second in 1u64..100_000, burst in 1u64..1000,
                                                          first in 0u64..1000, second in 1u64..1000) {
            let start = Instant::now();
            let mut bucket = Bucket::new(number(per_second), number(burst), start);
            let _ = bucket.take(first.min(burst), start);
            let second = second.min(burst);
            if let Err(wait) = bucket.clone().take(second, start) {
                prop_assert!(bucket.clone().take(second, start + wait - NANOSECOND).is_err());
                prop_assert_eq!(bucket.take(second, start + wait), Ok(()));
            }
        }

        #[test]
        fn whoever_pays_in_parts_gets_the_whole_rate(per_second in 1u64..1_000_000, burst in 1u64..10_000, owed in 1u64..100_000) {
            let start = Instant::now();
            let mut bucket = Bucket::new(number(per_second), number(burst), start);
            let (mut now, mut left) = (start, owed);
            while let Some(most) = NonZeroU64::new(left) {
                match bucket.take_up_to(most, now) {
                    Ok(taken) => left -= taken.get(),
                    Err(wait) => now += wait,
                }
            }
            // A wait is rounded up to a nanosecond, and there are at most as many waits as bursts.
            let least = u128::from(owed.saturating_sub(burst)) * PARTS / u128::from(per_second);
            let waits = u128::from(owed.div_ceil(burst));
            prop_assert!((now - start).as_nanos() <= least + waits, "{:?} for {owed}", now - start);
        }
    }
}
