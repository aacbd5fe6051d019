//! What a token says of itself: the claims of a JSON Web Token. Pure.
//!
//! Its signature is not ours to check: who gave it away over TLS made it, and who takes it will. Claims decide when to refresh
//! and what `auth status` shows, and nothing else. No error of this module holds any of a token.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde_json::Value;
use std::fmt;
use zeroize::Zeroizing;

/// The longest token that is read, in bytes. Real ones have some 2 KiB.
pub const MAX_TOKEN: usize = 16 << 10;
/// The longest account id, plan or address that is taken, in bytes.
const MAX_WORD: usize = 128;

/// Seconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(pub u64);

impl Moment {
    pub const fn plus(self, seconds: u64) -> Self {
        Self(self.0.saturating_add(seconds))
    }
}

/// Whose requests these are: 1 to 128 of `A-Z a-z 0-9 - _`. It goes into a header, and is no secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccountId(String);

impl AccountId {
    pub fn parse(text: &str) -> Option<Self> {
        let fits = |c: u8| c.is_ascii_alphanumeric() || c == b'-' || c == b'_';
        let good = !text.is_empty() && text.len() <= MAX_WORD && text.bytes().all(fits);
        good.then(|| Self(text.to_owned()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for AccountId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What is read of a token's claims. Each may be missing: another's format may change.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Claims {
    pub expires: Option<Moment>,
    pub account: Option<AccountId>,
    pub plan: Option<String>,
    pub email: Option<String>,
}

#[derive(Deserialize)]
struct Written {
    exp: Option<Value>,
    email: Option<Value>,
    #[serde(rename = "https://api.openai.com/auth")]
    auth: Option<WrittenAuth>,
    #[serde(rename = "https://api.openai.com/profile")]
    profile: Option<WrittenProfile>,
}

#[derive(Deserialize)]
struct WrittenAuth {
    chatgpt_account_id: Option<Value>,
    chatgpt_plan_type: Option<Value>,
}

#[derive(Deserialize)]
struct WrittenProfile {
    email: Option<Value>,
}

impl Claims {
    /// `None` where it is no JSON Web Token: then nothing is known of it.
    pub fn of(token: &[u8]) -> Option<Self> {
        if token.len() > MAX_TOKEN {
            return None;
        }
        let mut parts = token.split(|byte| *byte == b'.');
        let (_header, payload, _signature) = (parts.next()?, parts.next()?, parts.next()?);
        if parts.next().is_some() {
            return None;
        }
        let payload = Zeroizing::new(URL_SAFE_NO_PAD.decode(payload).ok()?);
        let written: Written = serde_json::from_slice(&payload).ok()?;
        let auth = written.auth.as_ref();
        let email = written.email.as_ref();
        Some(Self {
            expires: written.exp.as_ref().and_then(moment),
            account: auth
                .and_then(|auth| auth.chatgpt_account_id.as_ref()?.as_str())
                .and_then(AccountId::parse),
            plan: auth.and_then(|auth| word(auth.chatgpt_plan_type.as_ref()?)),
            email: email
                .or(written.profile.as_ref().and_then(|profile| profile.email.as_ref()))
                .and_then(word),
        })
    }
}

/// A number of seconds; some issuers write fractions.
fn moment(value: &Value) -> Option<Moment> {
    if let Some(whole) = value.as_u64() {
        return Some(Moment(whole));
    }
    // What does not fit saturates, and a negative one has long passed.
    value.as_f64().map(|seconds| Moment(seconds as u64))
}

/// One line of text that can be shown.
fn word(value: &Value) -> Option<String> {
    let text = value.as_str()?;
    let good = !text.is_empty() && text.len() <= MAX_WORD && text.chars().all(|c| c.is_ascii_graphic());
    good.then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn token(payload: &Value) -> Vec<u8> {
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        format!("{}.{}.c2ln", part(&json!({"alg": "RS256"})), part(payload)).into_bytes()
    }

    #[test]
    fn claims_are_read_where_they_stand() {
        let payload = json!({
            "exp": 1_795_355_405,
            "https://api.openai.com/auth": {"chatgpt_account_id": "acc-1", "chatgpt_plan_type": "plus", "x": 1},
            "https://api.openai.com/profile": {"email": "me@example.com"},
        });
        let claims = Claims::of(&token(&payload)).unwrap();
        assert_eq!(
            claims,
            Claims {
                expires: Some(Moment(1_795_355_405)),
                account: AccountId::parse("acc-1"),
                plan: Some("plus".into()),
                email: Some("me@example.com".into()),
            }
        );
    }

    #[test]
    fn what_is_not_as_expected_is_not_known() {
        let odd = json!({
            "exp": "soon", "email": "two\nlines",
            "https://api.openai.com/auth": {"chatgpt_account_id": "a\r\nx: y", "chatgpt_plan_type": 7},
        });
        assert_eq!(Claims::of(&token(&odd)), Some(Claims::default()));
        for text in ["", "a.b", "a.b.c.d", "a.!!.c", "opaque"] {
            assert_eq!(Claims::of(text.as_bytes()), None, "{text}");
        }
        assert_eq!(moment(&json!(12.9)), Some(Moment(12)));
        assert_eq!(moment(&json!(-1)), Some(Moment(0)));
        assert_eq!(moment(&json!(1e300)), Some(Moment(u64::MAX)));
    }

    proptest! {
        #[test]
        fn no_token_makes_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Claims::of(&bytes);
        }

        #[test]
        fn no_payload_makes_it_panic_or_gives_what_no_header_takes(payload in "\\PC{0,60}", account in "\\PC{0,20}") {
            let _ = Claims::of(format!("e.{}.s", URL_SAFE_NO_PAD.encode(&payload)).as_bytes());
            let payload = json!({"https://api.openai.com/auth": {"chatgpt_account_id": account}});
            if let Some(account) = Claims::of(&token(&payload)).unwrap().account {
                prop_assert!(hyper::header::HeaderValue::from_str(account.as_str()).is_ok());
            }
        }
    }
}
