//! Who may speak to the HTTP transport: the name of a token, and of what it owns. Never the token itself.

use serde::{Deserialize, Deserializer, Serialize};
use std::fmt;
use std::str::FromStr;

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a token's name is 1 to 64 of `a-z 0-9 - _ .` and begins with a letter")]
pub struct IdentityNameError;

/// The name that an operator gave a token. What it began belongs to it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct IdentityName(String);

impl IdentityName {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for IdentityName {
    type Err = IdentityNameError;

    fn from_str(text: &str) -> Result<Self, IdentityNameError> {
        let fits = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || b"-_.".contains(&c);
        let begins_well = text.starts_with(|c: char| c.is_ascii_lowercase());
        match begins_well && text.len() <= 64 && text.bytes().all(fits) {
            true => Ok(Self(text.to_owned())),
            false => Err(IdentityNameError),
        }
    }
}

/// A record that was edited by hand must not make an owner that no token can have.
impl<'de> Deserialize<'de> for IdentityName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

impl fmt::Display for IdentityName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_one_plain_word() {
        for text in ["ci", "laptop-2", "team.web_1"] {
            assert_eq!(text.parse::<IdentityName>().unwrap().as_str(), text);
        }
        for text in ["", "-a", "1a", "A", "a b", "a\n", "ä", &"a".repeat(65)] {
            assert_eq!(text.parse::<IdentityName>(), Err(IdentityNameError), "{text:?}");
        }
        assert!(serde_json::from_str::<IdentityName>("\"No\"").is_err());
    }
}
