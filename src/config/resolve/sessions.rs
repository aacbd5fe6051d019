//! `[sessions]`: layers → settings.

use super::{Stack, needed};
use crate::config::error::ConfigError;
use crate::config::key;
use crate::config::sessions::SessionsSettings;

/// A container that can't be started does not get better by the hundredth time.
const MOST_RESTARTS: u32 = 100;

impl Stack<'_> {
    pub(super) fn sessions(&self) -> Result<SessionsSettings, ConfigError> {
        Ok(SessionsSettings {
            keep: self.period(key::SESSIONS_KEEP, |v| v.sessions.keep.as_ref(), None)?,
            keep_size: needed(
                key::SESSIONS_KEEP_SIZE,
                self.value(key::SESSIONS_KEEP_SIZE, |v| v.sessions.keep_size.as_ref(), None)?,
            )?,
            restarts: self.number(
                key::SESSIONS_RESTARTS,
                |v| v.sessions.restarts.as_ref(),
                0..=MOST_RESTARTS,
            )?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{refusal, resolve_user};

    #[test]
    fn retention_is_written_in_days_and_sizes() {
        let config = resolve_user("[sessions]\nkeep = \"14d12h\"\nkeep_size = \"1t\"\nrestarts = 0").unwrap();
        let sessions = config.sessions;
        assert_eq!(sessions.keep.value.as_secs(), 14 * 86_400 + 12 * 3600);
        assert_eq!(sessions.keep_size.value.bytes(), 1 << 40);
        assert_eq!(sessions.restarts.value, 0);
        assert_eq!(
            refusal("[sessions]\nrestarts = 101"),
            "/u.toml:2: `sessions.restarts` = 101: expected a whole number from 0 to 100"
        );
        assert!(
            refusal("[sessions]\nkeep = 14").contains("`sessions.keep` = 14: a duration is whole numbers with units")
        );
    }
}
