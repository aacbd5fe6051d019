//! A day of UTC. Pure.

use crate::config::moment::{date, rfc3339};
use std::fmt;
use std::time::Duration;

const SECONDS: u64 = 86_400;

/// Days since 1970-01-01. Prints as `2026-11-28`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Day(u64);

impl Day {
    /// The one in which a clock says this.
    pub fn at(since_1970: Duration) -> Self {
        Self(since_1970.as_secs() / SECONDS)
    }

    /// `2026-11-28`, spelled exactly so.
    pub fn parse(text: &str) -> Option<Self> {
        let day = Self(date(text)?);
        (day.to_string() == text).then_some(day)
    }

    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }

    /// Its first second, as RFC 3339.
    pub fn begins(self) -> String {
        rfc3339(self.0.saturating_mul(SECONDS))
    }
}

impl fmt::Display for Day {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let begins = self.begins();
        f.write_str(begins.split('T').next().unwrap_or(&begins))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_day_ends_at_midnight_utc() {
        let day = Day::at(Duration::from_millis(1_795_910_399_999));
        assert_eq!(day.to_string(), "2026-11-28");
        assert_eq!(day.next().begins(), "2026-11-29T00:00:00Z");
        assert_eq!(Day::at(Duration::from_secs(1_795_910_400)), day.next());
    }

    proptest! {
        #[test]
        fn what_is_printed_is_read_again(days in 0_u64..2_900_000) {
            let day = Day(days);
            prop_assert_eq!(Day::parse(&day.to_string()), Some(day));
        }

        #[test]
        fn no_text_is_two_days(text in "[0-9]{1,5}-[0-9]{1,3}-[0-9]{1,3}") {
            prop_assert!(Day::parse(&text).is_none_or(|day| day.to_string() == text));
        }
    }

    #[test]
    fn what_is_no_date_is_none() {
        for text in [
            "",
            "2026-11",
            "2026-02-30",
            "2026-13-01",
            "2026-1-01",
            "x-11-28",
            "99999999999999999999-01-01",
        ] {
            assert_eq!(Day::parse(text), None, "{text}");
        }
    }
}
