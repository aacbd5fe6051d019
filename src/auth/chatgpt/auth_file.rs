//! Codex's `auth.json`: text → a login, and back with newer tokens. Pure.
//!
//! It is another program's file: what of it we don't know is kept as it was written, byte for byte, and what we do know is
//! parsed strictly. No error and no Debug of this module shows a value of the file.

use crate::auth::chatgpt::token::{AccountId, Claims, MAX_TOKEN};
use crate::auth::secret::Secret;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde::{Deserialize, Serialize};
use serde_json::value::{RawValue, to_raw_value};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use zeroize::Zeroizing;

/// The largest file that is read, in bytes. Real ones have some 5 KiB.
pub const MAX_FILE: usize = 256 << 10;

/// A token, known by its SHA-256: what is compared and written down in a token's place.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fingerprint([u8; 32]);

impl Fingerprint {
    pub fn of(token: &Secret) -> Self {
        Self(Sha256::digest(token.expose()).into())
    }

    /// 64 hexadecimal digits.
    pub fn parse(text: &str) -> Option<Self> {
        let mut bytes = [0; 32];
        let digits = text.as_bytes();
        if digits.len() != 64 || !digits.iter().all(u8::is_ascii_hexdigit) {
            return None;
        }
        for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks(2)) {
            *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
        }
        Some(Self(bytes))
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Fingerprint(…)")
    }
}

/// One token and what is known of it.
#[derive(Debug, Clone)]
pub struct Token {
    pub secret: Arc<Secret>,
    pub fingerprint: Fingerprint,
}

impl Token {
    /// `None` where it is none: empty, too long, or with a control character in it.
    pub fn parse(text: &str) -> Option<Self> {
        if text.len() > MAX_TOKEN {
            return None;
        }
        let secret = Secret::parse(Zeroizing::new(text.as_bytes().to_vec())).ok()?;
        Some(Self {
            fingerprint: Fingerprint::of(&secret),
            secret: Arc::new(secret),
        })
    }
}

/// What a refresh gave.
#[derive(Debug)]
pub struct NewTokens {
    pub access: Token,
    /// `None`: the one that was sent stays good.
    pub refresh: Option<Token>,
    pub id: Option<Token>,
}

/// A ChatGPT login, and all else that stood in its file.
#[derive(Clone)]
pub struct AuthFile {
    /// The members of the file but `tokens`, as written.
    members: Members,
    /// The members of `tokens`, as written.
    tokens: Members,
    pub access: Token,
    pub refresh: Option<Token>,
    id: Option<Token>,
    pub account: AccountId,
    /// Of the access token.
    pub claims: Claims,
    /// Of the id token: plan and address of the account.
    pub id_claims: Claims,
}

/// Tokens are in its members.
impl fmt::Debug for AuthFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AuthFile(…)")
    }
}

/// What is wrong with the file's text. Says nothing of what stands in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Flaw {
    #[error("is larger than 256 KiB")]
    TooLarge,
    #[error("is not the JSON object that Codex writes")]
    NotAnObject,
    #[error("holds a login of another kind than ChatGPT's")]
    OtherKind,
    #[error("holds no ChatGPT tokens")]
    NoTokens,
    #[error("has a token that can't be one")]
    Token,
    #[error("names no account, and neither do its tokens")]
    NoAccount,
}

impl AuthFile {
    pub fn parse(text: &[u8]) -> Result<Self, Flaw> {
        if text.len() > MAX_FILE {
            return Err(Flaw::TooLarge);
        }
        let mut members: Members = serde_json::from_slice(text).map_err(|_| Flaw::NotAnObject)?;
        // Files of older versions of Codex don't say it.
        match text_member(&members, "auth_mode")? {
            None => {}
            Some(mode) if *mode == "chatgpt" => {}
            Some(_) => return Err(Flaw::OtherKind),
        }
        let tokens: Option<Members> = members
            .0
            .remove("tokens")
            .map(|tokens| serde_json::from_str(tokens.get()).map_err(|_| Flaw::NoTokens))
            .transpose()?;
        Self::of(members, tokens.ok_or(Flaw::NoTokens)?)
    }

    fn of(members: Members, tokens: Members) -> Result<Self, Flaw> {
        let token = |name: &str| -> Result<Option<Token>, Flaw> {
            // Codex writes an empty one where there is none.
            let written = text_member(&tokens, name)?.filter(|text| !text.is_empty());
            written.map(|text| Token::parse(&text).ok_or(Flaw::Token)).transpose()
        };
        let access = token("access_token")?.ok_or(Flaw::NoTokens)?;
        let claims = Claims::of(access.secret.expose()).unwrap_or_default();
        let id = token("id_token")?;
        let id_claims = id
            .as_ref()
            .and_then(|id| Claims::of(id.secret.expose()))
            .unwrap_or_default();
        let written = text_member(&tokens, "account_id")?;
        let account = written
            .and_then(|text| AccountId::parse(&text))
            .or_else(|| claims.account.clone())
            .or_else(|| id_claims.account.clone())
            .ok_or(Flaw::NoAccount)?;
        Ok(Self {
            refresh: token("refresh_token")?,
            access,
            id,
            account,
            claims,
            id_claims,
            members,
            tokens,
        })
    }

    /// The same file with newer tokens, refreshed at `at` (RFC 3339).
    pub fn renewed(&self, new: &NewTokens, at: &str) -> Result<Self, Flaw> {
        let (mut members, mut tokens) = (self.members.clone(), self.tokens.clone());
        let mut set = |name: &str, token: &Token| {
            let text = std::str::from_utf8(token.secret.expose()).map_err(|_| Flaw::Token)?;
            tokens.0.insert(name.to_owned(), raw(text)?);
            Ok(())
        };
        set("access_token", &new.access)?;
        if let Some(refresh) = &new.refresh {
            set("refresh_token", refresh)?;
        }
        if let Some(id) = &new.id {
            set("id_token", id)?;
        }
        members.0.insert("last_refresh".to_owned(), raw(at)?);
        Self::of(members, tokens)
    }

    /// The text of the file.
    pub fn text(&self) -> Result<Zeroizing<Vec<u8>>, Flaw> {
        let mut members = self.members.clone();
        let tokens = to_raw_value(&self.tokens.0).map_err(|_| Flaw::Token)?;
        members.0.insert("tokens".to_owned(), tokens);
        let text = serde_json::to_vec_pretty(&members.0).map_err(|_| Flaw::Token)?;
        Ok(Zeroizing::new(text))
    }

    /// All that must never be printed.
    pub fn secrets(&self) -> impl Iterator<Item = &Secret> {
        let tokens = [Some(&self.access), self.refresh.as_ref(), self.id.as_ref()];
        tokens.into_iter().flatten().map(|token| &*token.secret)
    }
}

fn raw<T: Serialize + ?Sized>(value: &T) -> Result<Box<RawValue>, Flaw> {
    to_raw_value(value).map_err(|_| Flaw::Token)
}

/// A member that is text; `None` where it is missing or null.
fn text_member(members: &Members, name: &str) -> Result<Option<Zeroizing<String>>, Flaw> {
    let Some(written) = members.0.get(name) else {
        return Ok(None);
    };
    let text: Option<String> = serde_json::from_str(written.get()).map_err(|_| Flaw::NotAnObject)?;
    Ok(text.map(Zeroizing::new))
}

/// The members of an object, each as it was written. A name that comes twice is refused: two readers could take two values.
#[derive(Clone)]
struct Members(BTreeMap<String, Box<RawValue>>);

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;

        impl<'de> Visitor<'de> for Object {
            type Value = Members;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members, A::Error> {
                let mut members = BTreeMap::new();
                while let Some((name, value)) = map.next_entry::<String, Box<RawValue>>()? {
                    if members.insert(name, value).is_some() {
                        return Err(serde::de::Error::custom("a name comes twice"));
                    }
                }
                Ok(Members(members))
            }
        }

        deserializer.deserialize_map(Object)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    fn written() -> Value {
        json!({
            "auth_mode": "chatgpt", "OPENAI_API_KEY": null, "agent_identity": {"big": 12345678901234567890u64},
            "tokens": {"id_token": "a.e30.b", "access_token": "at-0", "refresh_token": "rt-0", "account_id": "acc-1", "x": [1.50]},
            "last_refresh": "2026-11-01T00:00:00Z",
        })
    }

    fn parse(value: &Value) -> Result<AuthFile, Flaw> {
        AuthFile::parse(value.to_string().as_bytes())
    }

    fn new_tokens(refresh: Option<&str>) -> NewTokens {
        NewTokens {
            access: Token::parse("at-1").unwrap(),
            refresh: refresh.map(|text| Token::parse(text).unwrap()),
            id: None,
        }
    }

    #[test]
    fn what_is_unknown_is_written_back_as_it_was() {
        let text = "{\"tokens\":{\"access_token\":\"at-0\",\"refresh_token\":\"rt-0\",\"account_id\":\"acc-1\",\
                    \"x\":[1.50,12345678901234567890123]},\"y\":{\"b\":1,  \"a\":2}}";
        let file = AuthFile::parse(text.as_bytes()).unwrap();
        let renewed = file.renewed(&new_tokens(Some("rt-1")), "2026-11-22T13:50:05Z").unwrap();
        let written = String::from_utf8(renewed.text().unwrap().to_vec()).unwrap();
        assert!(written.contains("[1.50,12345678901234567890123]"), "{written}");
        assert!(written.contains("{\"b\":1,  \"a\":2}"), "{written}");
        let again = AuthFile::parse(written.as_bytes()).unwrap();
        assert_eq!(again.access.secret.expose(), b"at-1");
        assert_eq!(again.refresh.unwrap().secret.expose(), b"rt-1");
        let value: Value = serde_json::from_str(&written).unwrap();
        assert_eq!(value["last_refresh"], "2026-11-22T13:50:05Z");
    }

    #[test]
    fn a_refresh_token_that_was_not_rotated_stays() {
        let renewed = parse(&written()).unwrap().renewed(&new_tokens(None), "x").unwrap();
        assert_eq!(renewed.refresh.unwrap().secret.expose(), b"rt-0");
    }

    #[test]
    fn what_is_no_chatgpt_login_is_named() {
        let with = |pointer: &str, value: Value| {
            let mut written = written();
            *written.pointer_mut(pointer).unwrap() = value;
            parse(&written).err()
        };
        assert_eq!(with("/auth_mode", json!("apikey")), Some(Flaw::OtherKind));
        assert_eq!(with("/tokens", json!(null)), Some(Flaw::NoTokens));
        assert_eq!(with("/tokens/access_token", json!("")), Some(Flaw::NoTokens));
        assert_eq!(with("/tokens/access_token", json!("a\nb")), Some(Flaw::Token));
        assert_eq!(
            with("/tokens/refresh_token", json!("x".repeat(MAX_TOKEN + 1))),
            Some(Flaw::Token)
        );
        assert_eq!(with("/tokens/account_id", json!("a b")), Some(Flaw::NoAccount));
        assert_eq!(with("/tokens/refresh_token", json!(null)), None);
        assert_eq!(with("/auth_mode", json!(null)), None);
        for text in ["", "[]", "{", "null", "{\"tokens\":{},\"tokens\":{}}"] {
            assert_eq!(
                AuthFile::parse(text.as_bytes()).err(),
                Some(Flaw::NotAnObject),
                "{text}"
            );
        }
        assert_eq!(AuthFile::parse(&vec![b' '; MAX_FILE + 1]).err(), Some(Flaw::TooLarge));
    }

    #[test]
    fn a_fingerprint_is_read_back() {
        let fingerprint = Token::parse("rt-0").unwrap().fingerprint;
        assert_eq!(Fingerprint::parse(&fingerprint.to_string()), Some(fingerprint));
        assert_eq!(Fingerprint::parse("+1"), None);
        assert_eq!(Fingerprint::parse(&"é".repeat(32)), None);
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = AuthFile::parse(&text);
        }

        #[test]
        fn no_error_and_no_debug_shows_a_token(
            token in "[a-zA-Z0-9_-]{12,40}",
            tail in "\\PC{0,3}",
            field in prop::sample::select(vec!["/tokens/access_token", "/tokens/refresh_token", "/tokens/id_token", "/auth_mode"]),
            cut in 0..400usize,
        ) {
            let mut value = written();
            *value.pointer_mut(field).unwrap() = json!(format!("{token}{tail}"));
            let text = value.to_string();
            for text in [&text[..], &text[..text.floor_char_boundary(cut.min(text.len()))]] {
                let shown = match AuthFile::parse(text.as_bytes()) {
                    Ok(file) => format!("{file:?} {:?} {:?}", file.access, file.refresh),
                    Err(flaw) => format!("{flaw} {flaw:?}"),
                };
                prop_assert!(!shown.contains(&token), "{shown}");
            }
        }

        #[test]
        fn what_is_written_is_read_again(access in "[!-~]{1,40}", refresh in "[!-~]{1,40}", other in "\\PC{0,20}") {
            let mut value = written();
            value["other"] = json!(other.clone());
            let new = NewTokens {
                access: Token::parse(&access).unwrap(),
                refresh: Token::parse(&refresh),
                id: None,
            };
            let text = parse(&value).unwrap().renewed(&new, "now").unwrap().text().unwrap();
            let again = AuthFile::parse(&text).unwrap();
            prop_assert_eq!(again.access.secret.expose(), access.as_bytes());
            let again = again.refresh.unwrap();
            prop_assert_eq!(again.secret.expose(), refresh.as_bytes());
            let read: Value = serde_json::from_slice(&text).unwrap();
            prop_assert_eq!(&read["other"], &json!(other));
        }
    }
}
