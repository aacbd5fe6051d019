//! Secret mounts: what each is called, where its value is found, and where a container sees it. Never the value.

use super::{SecretSource, Sourced};
use serde::Serialize;
use std::fmt;
use std::str::FromStr;

/// Where secrets are by default, and the one directory of the image that holds nothing else.
const SECRETS: &str = "/run/secrets";
/// `HOME` of everything inside, for programs that look for a file of theirs there.
pub const CONTAINER_HOME: &str = "/home/codex";
const MAX_NAME: usize = 64;
const MAX_PATH: usize = 255;

/// One `[secrets.NAME]` table.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SecretMount {
    pub from: Sourced<SecretSource>,
    pub path: Sourced<SecretPath>,
}

/// Why a text is none of the below.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SecretSettingError {
    #[error("a secret's name is a plain file name: 1 to {MAX_NAME} of `A-Z a-z 0-9 . _ -`, first a letter or digit")]
    NotAName,
    #[error(
        "a secret is mounted below {SECRETS}/ or below the container's home, {CONTAINER_HOME}/ (also written `~/`); every \
         other place is the image's or codex-mcp's own"
    )]
    NotAPlace,
    #[error(
        "a path inside has no empty part, no `.` or `..`, no colon, comma or control character, and at most {MAX_PATH} bytes"
    )]
    NotAPath,
}

/// Names the table, the staged file and, where nothing else is said, the file inside.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct SecretName(String);

impl SecretName {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for SecretName {
    type Err = SecretSettingError;

    fn from_str(text: &str) -> Result<Self, SecretSettingError> {
        let fits = |c: u8| c.is_ascii_alphanumeric() || b"._-".contains(&c);
        let begins_well = text.starts_with(|c: char| c.is_ascii_alphanumeric());
        if begins_well && text.len() <= MAX_NAME && text.bytes().all(fits) {
            Ok(Self(text.to_owned()))
        } else {
            Err(SecretSettingError::NotAName)
        }
    }
}

impl fmt::Display for SecretName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// An absolute path inside, in one canonical spelling, below one of the two places where secrets may be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct SecretPath(String);

impl SecretPath {
    /// Where a secret is that says nothing about it.
    pub fn of(name: &SecretName) -> Self {
        Self(format!("{SECRETS}/{name}"))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether both can't be mounted: they are one path, or one lies below the other.
    pub fn clashes_with(&self, other: &Self) -> bool {
        let below = |below: &Self, above: &Self| {
            let rest = below.0.strip_prefix(&above.0);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        below(self, other) || below(other, self)
    }
}

impl FromStr for SecretPath {
    type Err = SecretSettingError;

    fn from_str(text: &str) -> Result<Self, SecretSettingError> {
        let path = match text.strip_prefix("~/") {
            Some(below_home) => format!("{CONTAINER_HOME}/{below_home}"),
            None => text.to_owned(),
        };
        let below = |place: &str| path.strip_prefix(place)?.strip_prefix('/');
        let rest = below(SECRETS)
            .or_else(|| below(CONTAINER_HOME))
            .ok_or(SecretSettingError::NotAPlace)?;
        let plain = |part: &str| !matches!(part, "" | "." | "..");
        let mountable = !rest.contains([':', ',']) && !rest.chars().any(char::is_control);
        if rest.split('/').all(plain) && mountable && path.len() <= MAX_PATH {
            Ok(Self(path))
        } else {
            Err(SecretSettingError::NotAPath)
        }
    }
}

impl fmt::Display for SecretPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn path(text: &str) -> Result<String, SecretSettingError> {
        text.parse().map(|path: SecretPath| path.to_string())
    }

    #[test]
    fn a_name_is_a_plain_file_name() {
        for name in ["npm-token", "a", "A.b_c-1", "9"] {
            assert!(name.parse::<SecretName>().is_ok(), "{name}");
        }
        for name in ["", ".", "..", ".hidden", "-rf", "a/b", "a b", "é", &"a".repeat(65)] {
            assert_eq!(name.parse::<SecretName>(), Err(SecretSettingError::NotAName), "{name}");
        }
    }

    #[test]
    fn a_path_is_below_one_of_two_places() {
        assert_eq!(path("/run/secrets/a/b.pem").as_deref(), Ok("/run/secrets/a/b.pem"));
        assert_eq!(path("~/.npmrc").as_deref(), Ok("/home/codex/.npmrc"));
        assert_eq!(
            path("/home/codex/.config/gh/x").as_deref(),
            Ok("/home/codex/.config/gh/x")
        );
        for text in [
            "/run/secrets",
            "/run/secretsx/a",
            "/run/codex-mcp/guest",
            "/home/codex",
            "/home/other/x",
            "/etc/passwd",
            "/var/lib/codex/config.toml",
            "relative",
            "~",
            "",
        ] {
            assert_eq!(path(text), Err(SecretSettingError::NotAPlace), "{text}");
        }
        for text in [
            "/run/secrets/",
            "/run/secrets//a",
            "/run/secrets/../codex-mcp/guest",
            "~/a/./b",
            "~/a/",
            "/run/secrets/a:rw",
            "/run/secrets/a,b",
            "/run/secrets/a\nb",
        ] {
            assert_eq!(path(text), Err(SecretSettingError::NotAPath), "{text:?}");
        }
        assert_eq!(
            path(&format!("~/{}", "a".repeat(300))),
            Err(SecretSettingError::NotAPath)
        );
    }

    #[test]
    fn one_path_below_another_clashes_and_one_beside_it_does_not() {
        let clash = |a: &str, b: &str| SecretPath::clashes_with(&a.parse().unwrap(), &b.parse().unwrap());
        assert!(clash("~/a", "/home/codex/a") && clash("~/a", "~/a/b") && clash("~/a/b", "~/a"));
        assert!(!clash("~/a", "~/ab") && !clash("~/a", "/run/secrets/a"));
    }

    proptest! {
        #[test]
        fn what_is_parsed_stays_in_its_place(text in "(/run/secrets|/home/codex|~)?(/([a-z.]{0,3}|\\.\\.)){0,4}") {
            if let Ok(parsed) = text.parse::<SecretPath>() {
                let below = |place: &str| parsed.as_str().starts_with(place);
                prop_assert!(below("/run/secrets/") || below("/home/codex/"));
                prop_assert!(!parsed.as_str().split('/').any(|part| part == ".."));
                prop_assert_eq!(parsed.as_str().parse::<SecretPath>(), Ok(parsed.clone()));
            }
        }
    }
}
