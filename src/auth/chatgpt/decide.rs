//! What becomes of a request for an access token: use it, refresh it, or tell a person. Pure.

use crate::auth::chatgpt::auth_file::{AuthFile, Fingerprint};
use crate::auth::chatgpt::token::Moment;

/// A token with less left than this is refreshed before it is used, in seconds. Codex on the same host waits until five minutes
/// are left, and takes no lock: at the same margin both would send the same refresh token at the same moment. This way ours is in
/// the file by then, where Codex looks first.
pub const MARGIN: u64 = 10 * 60;

/// What is known when it is decided.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'f> {
    pub file: &'f AuthFile,
    pub now: Moment,
    /// The access token that the provider did not take.
    pub refused: Option<Fingerprint>,
    /// Whether the file's refresh token was sent before, by whomever of us.
    pub spent: bool,
    /// The access token that a refresh of this process gave, if that was a moment ago.
    pub just_given: Option<Fingerprint>,
    /// Whether a refresh failed a moment ago.
    pub quiet: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// The file's access token.
    Use,
    Refresh(Reason),
    /// Only a person can mend it.
    LogIn(Why),
}

/// What Codex, too, tells the provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    ProactiveExpiry,
    UnauthorizedRecovery,
}

impl Reason {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ProactiveExpiry => "proactive_expiry",
            Self::UnauthorizedRecovery => "unauthorized_recovery",
        }
    }
}

/// Why a person is needed.
#[derive(Debug, Clone, PartialEq, Eq, Copy, thiserror::Error)]
pub enum Why {
    #[error("it holds no refresh token, and its access token is no longer good")]
    NoRefreshToken,
    #[error(
        "its access token is no longer good, and its refresh token was sent once already without a newer one being saved (it was \
         refused, no answer came, or codex-mcp was ended meanwhile). It is good for one use, and is not sent again"
    )]
    Spent,
    #[error("an access token that was refreshed a moment ago is not taken either")]
    RefusedAtOnce,
    #[error("its refresh token has expired")]
    Expired,
    #[error("its refresh token was used already, by another program or a copy of this file")]
    Reused,
    #[error("its refresh token was revoked")]
    Revoked,
}

/// Whether the file's access token can be sent at all.
pub fn is_usable(facts: &Facts<'_>) -> bool {
    let access = facts.file.access.fingerprint;
    let expired = facts.file.claims.expires.is_some_and(|expires| expires <= facts.now);
    // One that came a moment ago is as good as its giver says, whatever the clock here does.
    facts.refused != Some(access) && (!expired || facts.just_given == Some(access))
}

pub fn decide(facts: &Facts<'_>) -> Action {
    let access = facts.file.access.fingerprint;
    let usable = is_usable(facts);
    let just_given = facts.just_given == Some(access);
    let ends_soon = (facts.file.claims.expires).is_some_and(|expires| expires <= facts.now.plus(MARGIN));
    if usable && (!ends_soon || just_given || facts.quiet) {
        return Action::Use;
    }
    if !usable && just_given {
        return Action::LogIn(Why::RefusedAtOnce);
    }
    match (&facts.file.refresh, facts.spent) {
        (Some(_), false) if facts.refused == Some(access) => Action::Refresh(Reason::UnauthorizedRecovery),
        (Some(_), false) => Action::Refresh(Reason::ProactiveExpiry),
        // Good for some minutes more, and somebody may log in meanwhile.
        _ if usable => Action::Use,
        (Some(_), true) => Action::LogIn(Why::Spent),
        (None, _) => Action::LogIn(Why::NoRefreshToken),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use proptest::prelude::*;
    use serde_json::json;

    const NOW: Moment = Moment(1_000_000);

    fn file(expires: Option<u64>, refresh: Option<&str>) -> AuthFile {
        let payload = URL_SAFE_NO_PAD.encode(json!({ "exp": expires }).to_string());
        let text =
            json!({"tokens": {"access_token": format!("h.{payload}.s"), "refresh_token": refresh, "account_id": "a"}});
        AuthFile::parse(text.to_string().as_bytes()).unwrap()
    }

    fn facts(file: &AuthFile) -> Facts<'_> {
        Facts {
            file,
            now: NOW,
            refused: None,
            spent: false,
            just_given: None,
            quiet: false,
        }
    }

    fn left(seconds: i64) -> AuthFile {
        file(Some(NOW.0.saturating_add_signed(seconds)), Some("rt"))
    }

    #[test]
    fn a_token_is_used_until_ten_minutes_before_its_end() {
        for (seconds, action) in [
            (3600, Action::Use),
            (601, Action::Use),
            (600, Action::Refresh(Reason::ProactiveExpiry)),
            (1, Action::Refresh(Reason::ProactiveExpiry)),
            (-3600, Action::Refresh(Reason::ProactiveExpiry)),
        ] {
            assert_eq!(decide(&facts(&left(seconds))), action, "{seconds}");
        }
        assert_eq!(
            decide(&facts(&file(None, None))),
            Action::Use,
            "nothing says that it ends"
        );
    }

    #[test]
    fn a_refused_token_is_refreshed_and_another_one_in_the_file_used() {
        let file = left(3600);
        let mut facts = facts(&file);
        facts.refused = Some(file.access.fingerprint);
        assert_eq!(decide(&facts), Action::Refresh(Reason::UnauthorizedRecovery));
        let older = left(3601);
        facts.refused = Some(older.access.fingerprint);
        assert_eq!(decide(&facts), Action::Use);
    }

    #[test]
    fn a_spent_token_is_never_sent_and_the_access_token_used_to_its_end() {
        for (seconds, action) in [(200, Action::Use), (0, Action::LogIn(Why::Spent))] {
            let file = left(seconds);
            let spent = Facts {
                spent: true,
                ..facts(&file)
            };
            assert_eq!(decide(&spent), action);
        }
        let none = file(Some(NOW.0), None);
        assert_eq!(decide(&facts(&none)), Action::LogIn(Why::NoRefreshToken));
    }

    #[test]
    fn one_refresh_is_not_followed_by_another_at_once() {
        for seconds in [200, -200] {
            let file = left(seconds);
            let mut given = facts(&file);
            given.just_given = Some(file.access.fingerprint);
            assert_eq!(decide(&given), Action::Use, "short-lived, or the clock here is wrong");
            given.refused = Some(file.access.fingerprint);
            assert_eq!(decide(&given), Action::LogIn(Why::RefusedAtOnce));
        }
        let file = left(200);
        let quiet = Facts {
            quiet: true,
            ..facts(&file)
        };
        assert_eq!(decide(&quiet), Action::Use);
    }

    proptest! {
        #[test]
        fn what_is_spent_or_missing_is_not_sent_and_what_is_refused_not_used(
            seconds in -1000i64..1000, has_refresh: bool, spent: bool, refused: bool, given: bool, quiet: bool,
        ) {
            let expires = NOW.0.saturating_add_signed(seconds);
            let file = file(Some(expires), has_refresh.then_some("rt"));
            let access = file.access.fingerprint;
            let facts = Facts {
                file: &file, now: NOW, refused: refused.then_some(access), spent,
                just_given: given.then_some(access), quiet,
            };
            match decide(&facts) {
                Action::Use => prop_assert!(!refused && (seconds > 0 || given)),
                Action::Refresh(_) => prop_assert!(has_refresh && !spent),
                Action::LogIn(_) => prop_assert!(refused || seconds <= 0),
            }
        }
    }
}
