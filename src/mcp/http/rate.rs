//! How often each may ask: a bucket for each identity, and one for each address where nobody is known. Pure; the clock is
//! the caller's.

use crate::config::identity::IdentityName;
use crate::egress::bucket::Bucket;
use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroU64;
use std::time::{Duration, Instant};

/// Buckets that are remembered. One that is full again is as good as a new one, and forgotten first.
const MOST: usize = 4096;

/// Whom a request is counted for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Payer {
    Identity(IdentityName),
    Address(IpAddr),
    /// All whose addresses are too many to be told apart.
    Crowd,
}

impl Payer {
    /// A network of IPv6 is one customer, who has all its addresses.
    pub fn at(address: IpAddr) -> Self {
        Self::Address(match address.to_canonical() {
            IpAddr::V6(address) => {
                let [a, b, c, d, ..] = address.segments();
                Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
            }
            v4 => v4,
        })
    }
}

#[derive(Debug)]
pub struct Rates {
    per_second: NonZeroU64,
    buckets: HashMap<Payer, (Bucket, Instant)>,
}

impl Rates {
    pub fn new(per_second: u32) -> Self {
        Self {
            per_second: NonZeroU64::new(per_second.into()).unwrap_or(NonZeroU64::MIN),
            buckets: HashMap::new(),
        }
    }

    /// # Errors
    /// How long until one more is taken.
    pub fn take(&mut self, payer: Payer, now: Instant) -> Result<(), Duration> {
        let payer = match self.buckets.contains_key(&payer) || self.make_room(now) {
            true => payer,
            // Identities are few, and never pay for strangers.
            false if matches!(payer, Payer::Identity(_)) => payer,
            false => Payer::Crowd,
        };
        let per_second = self.per_second;
        let burst = per_second.saturating_mul(NonZeroU64::MIN.saturating_add(1));
        let fresh = || (Bucket::new(per_second, burst, now), now);
        let (bucket, last) = self.buckets.entry(payer).or_insert_with(fresh);
        *last = now;
        bucket.take(1, now)
    }

    /// Whether there is room for one more.
    fn make_room(&mut self, now: Instant) -> bool {
        if self.buckets.len() >= MOST {
            // From empty to full takes two seconds.
            self.buckets
                .retain(|_, (_, last)| now.saturating_duration_since(*last) < Duration::from_secs(2));
        }
        self.buckets.len() < MOST
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(n: u32) -> Payer {
        Payer::at(IpAddr::V4(n.into()))
    }

    #[test]
    fn each_has_its_own_rate() {
        let now = Instant::now();
        let mut rates = Rates::new(5);
        for _ in 0..10 {
            rates.take(address(1), now).unwrap();
        }
        let wait = rates.take(address(1), now).unwrap_err();
        assert_eq!(wait, Duration::from_millis(200));
        rates.take(address(2), now).unwrap();
        rates.take(address(1), now + wait).unwrap();
    }

    #[test]
    fn a_network_of_ipv6_is_one_and_an_address_in_ipv6_is_its_own() {
        let at = |text: &str| Payer::at(text.parse().unwrap());
        assert_eq!(at("2001:db8:1:2::1"), at("2001:db8:1:2:ffff::9"));
        assert_ne!(at("2001:db8:1:2::1"), at("2001:db8:1:3::1"));
        assert_eq!(at("::ffff:192.0.2.1"), at("192.0.2.1"));
    }

    #[test]
    fn a_crowd_takes_no_more_room_and_nobodys_name() {
        let now = Instant::now();
        let mut rates = Rates::new(5);
        for n in 0..100_000 {
            let _ = rates.take(address(n), now);
        }
        assert!(rates.buckets.len() <= MOST + 1);
        assert!(
            rates.take(address(200_000), now).is_err(),
            "the crowd has used up its own"
        );
        rates.take(Payer::Identity("ci".parse().unwrap()), now).unwrap();
        rates.take(address(300_000), now + Duration::from_secs(3)).unwrap();
        assert!(rates.buckets.len() < 10);
    }
}
