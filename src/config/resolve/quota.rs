//! `[quota]`: layers → settings.

use super::Stack;
use crate::config::error::ConfigError;
use crate::config::key::{self, Key};
use crate::config::layer::{Scalar, Values};
use crate::config::origin::Sourced;
use crate::config::quantity::{ByteSize, Period};
use crate::config::quota::{DayQuota, QuotaSettings, Spendable};
use std::num::NonZeroU64;
use std::time::Duration;
use toml::Spanned;

/// Each is a container with a process tree of its own; no machine runs as many.
const MOST_SESSIONS: u32 = 10_000;

type InFile = fn(&Values) -> Option<&Spanned<Scalar>>;

impl Stack<'_> {
    pub(super) fn quota(&self) -> Result<QuotaSettings, ConfigError> {
        Ok(QuotaSettings {
            sessions: self.number(key::QUOTA_SESSIONS, |v| v.quota.sessions.as_ref(), 1..=MOST_SESSIONS)?,
            session: Spendable {
                turns: self.bound(key::QUOTA_SESSION_TURNS, |v| v.quota.session.turns.as_ref())?,
                tokens: self.bound(key::QUOTA_SESSION_TOKENS, |v| v.quota.session.tokens.as_ref())?,
                requests: self.bound(key::QUOTA_SESSION_REQUESTS, |v| v.quota.session.requests.as_ref())?,
                wall: self.time_bound(key::QUOTA_SESSION_WALL, |v| v.quota.session.wall.as_ref())?,
                egress: self.size_bound(key::QUOTA_SESSION_EGRESS, |v| v.quota.session.egress.as_ref())?,
            },
            day: DayQuota {
                sessions: self.bound(key::QUOTA_DAY_SESSIONS, |v| v.quota.day.sessions.as_ref())?,
                spendable: Spendable {
                    turns: self.bound(key::QUOTA_DAY_TURNS, |v| v.quota.day.turns.as_ref())?,
                    tokens: self.bound(key::QUOTA_DAY_TOKENS, |v| v.quota.day.tokens.as_ref())?,
                    requests: self.bound(key::QUOTA_DAY_REQUESTS, |v| v.quota.day.requests.as_ref())?,
                    wall: self.time_bound(key::QUOTA_DAY_WALL, |v| v.quota.day.wall.as_ref())?,
                    egress: self.size_bound(key::QUOTA_DAY_EGRESS, |v| v.quota.day.egress.as_ref())?,
                },
            },
        })
    }

    fn bound(&self, key: Key, in_file: InFile) -> Result<Option<Sourced<u64>>, ConfigError> {
        let count: Option<Sourced<NonZeroU64>> = self.value(key, in_file, None)?;
        Ok(count.map(|count| Sourced::new(count.value.get(), count.origin)))
    }

    fn time_bound(&self, key: Key, in_file: InFile) -> Result<Option<Sourced<Duration>>, ConfigError> {
        let period: Option<Sourced<Period>> = self.value(key, in_file, None)?;
        Ok(period.map(|period| Sourced::new(period.value.duration(), period.origin)))
    }

    fn size_bound(&self, key: Key, in_file: InFile) -> Result<Option<Sourced<ByteSize>>, ConfigError> {
        self.value(key, in_file, None)
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{refusal, resolve_user};

    #[test]
    fn bounds_of_a_session_and_of_a_day_are_two_tables() {
        let text = "[quota]\nsessions = 4\n[quota.session]\nturns = 10\nwall = \"2h\"\n[quota.day]\nturns = 50\negress = \"1g\"\n";
        let quota = resolve_user(text).unwrap().quota;
        assert_eq!(quota.sessions.value, 4);
        let shown = |bound: Option<crate::config::Sourced<u64>>| bound.map(|b| format!("{} {}", b.value, b.origin));
        assert_eq!(shown(quota.session.turns).as_deref(), Some("10 /u.toml:4"));
        assert_eq!(shown(quota.day.spendable.turns).as_deref(), Some("50 /u.toml:7"));
        assert_eq!(quota.session.wall.map(|wall| wall.value.as_secs()), Some(7200));
        assert_eq!(
            quota.day.spendable.egress.map(|egress| egress.value.bytes()),
            Some(1 << 30)
        );
        assert_eq!((quota.day.sessions, quota.session.egress), (None, None));
    }

    #[test]
    fn nothing_at_all_is_no_bound_to_set() {
        for key in ["turns", "tokens", "requests"] {
            for table in ["session", "day"] {
                assert!(refusal(&format!("[quota.{table}]\n{key} = 0")).contains("at least 1"));
            }
        }
        assert_eq!(
            refusal("[quota]\nsessions = 0"),
            "/u.toml:2: `quota.sessions` = 0: expected a whole number from 1 to 10000"
        );
    }
}
