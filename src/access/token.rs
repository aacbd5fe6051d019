//! A token: 256 random bits, spelled so that a person, a header and the redactor can tell it from anything else. Pure.
//!
//! Nothing that a person chose is in it, so a plain SHA-256 is as good as a slow one: there is nothing to guess.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest, Sha256};
use std::fmt;
use subtle::{Choice, ConstantTimeEq};
use zeroize::Zeroizing;

/// How each begins; `redact::shape` knows it.
pub const PREFIX: &str = "codexmcp_";

/// The random part, in bytes.
pub const RANDOM: usize = 32;

/// Not printable, not comparable and not serialisable by design: [`Token::reveal`] is for showing it once.
pub struct Token(Zeroizing<String>);

impl Token {
    pub fn from_random(bytes: &[u8; RANDOM]) -> Self {
        Self(Zeroizing::new(format!("{PREFIX}{}", hex(bytes))))
    }

    pub fn digest(&self) -> TokenDigest {
        TokenDigest::of(self.0.as_bytes())
    }

    /// For the one line that shows it to whoever asked for it.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

/// What the disk has of a token.
#[derive(Debug, Clone, Copy)]
pub struct TokenDigest([u8; 32]);

impl TokenDigest {
    /// Of whatever was presented as a token.
    pub fn of(presented: &[u8]) -> Self {
        Self(Sha256::digest(presented).into())
    }

    /// In a time that does not depend on where the two differ.
    pub fn is(&self, other: &Self) -> Choice {
        self.0.ct_eq(&other.0)
    }
}

impl Serialize for TokenDigest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&hex(&self.0))
    }
}

impl<'de> Deserialize<'de> for TokenDigest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        unhex(&text)
            .map(Self)
            .ok_or_else(|| serde::de::Error::custom("a SHA-256 is 64 of `0-9 a-f`"))
    }
}

/// Its first digits tell tokens apart for a person, and nothing to anybody else.
impl fmt::Display for TokenDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(&self.0[..6]))
    }
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a string does not fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn unhex(text: &str) -> Option<[u8; 32]> {
    let lower_hex = |c: u8| c.is_ascii_digit() || (b'a'..=b'f').contains(&c);
    if text.len() != 64 || !text.bytes().all(lower_hex) {
        return None;
    }
    let mut bytes = [0; 32];
    for (byte, at) in bytes.iter_mut().zip((0..64).step_by(2)) {
        *byte = u8::from_str_radix(text.get(at..at + 2)?, 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::redact::{REDACTED, Redactor};

    #[test]
    fn a_token_is_known_by_its_digest_alone() {
        let token = Token::from_random(&[7; RANDOM]);
        assert_eq!(token.reveal().len(), PREFIX.len() + 64);
        let presented = TokenDigest::of(token.reveal().as_bytes());
        assert!(bool::from(presented.is(&token.digest())));
        assert!(!bool::from(TokenDigest::of(b"other").is(&token.digest())));
        let written = serde_json::to_string(&token.digest()).unwrap();
        let read: TokenDigest = serde_json::from_str(&written).unwrap();
        assert!(bool::from(read.is(&token.digest())));
        for text in ["\"\"", "\"ABCD\"", &written.to_uppercase(), "5"] {
            assert!(serde_json::from_str::<TokenDigest>(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_token_in_a_text_is_redacted_though_nobody_taught_it() {
        let token = Token::from_random(&[0x9a; RANDOM]);
        let text = format!("got {} there", token.reveal());
        assert_eq!(Redactor::default().text(&text), format!("got {REDACTED} there"));
    }
}
