//! The one way in which this program runs git.
//!
//! Two kinds of repository, as types: the user's own, which is asked a closed list of questions that run neither hooks nor
//! filters, and ours, which the container never saw. There is no third: git must never run with a work tree or a git
//! directory that the container could write, because a nested repository's configuration runs programs in ways that no
//! switch turns off.
//!
//! - [`command`]: how git is spelled (pure).
//! - [`directory`]: directories that git takes for a repository.
//! - [`own`]: whether a folder's `.git` is its own.
//! - [`run`]: finds git and runs it.
//! - [`skeleton`]: the files of a git directory of ours, without a template and without git.
//! - [`source`]: what git knows of a folder of the user's.

pub mod command;
pub mod directory;
pub mod own;
pub mod run;
pub mod skeleton;
pub mod source;

use serde::{Deserialize, Serialize};
use std::fmt;

/// How a repository names its objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ObjectFormat {
    Sha1,
    Sha256,
}

impl ObjectFormat {
    /// As git's configuration and `rev-parse --show-object-format` spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Sha1 => "sha1",
            Self::Sha256 => "sha256",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        [Self::Sha1, Self::Sha256]
            .into_iter()
            .find(|format| format.as_str() == text)
    }

    /// An object's name in bytes.
    fn id_length(self) -> usize {
        match self {
            Self::Sha1 => 20,
            Self::Sha256 => 32,
        }
    }
}

/// The name of an object: lower-case hexadecimal digits of either format.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ObjectId(Box<[u8]>);

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no object's name")]
pub struct NoObjectId(String);

impl ObjectId {
    pub fn parse(hex: &[u8]) -> Result<Self, NoObjectId> {
        let refused = || NoObjectId(String::from_utf8_lossy(hex).chars().take(80).collect());
        let known = [ObjectFormat::Sha1, ObjectFormat::Sha256]
            .iter()
            .any(|format| hex.len() == format.id_length() * 2);
        if !known {
            return Err(refused());
        }
        let digit = |c: u8| match c {
            b'0'..=b'9' => Ok(c - b'0'),
            b'a'..=b'f' => Ok(c - b'a' + 10),
            _ => Err(refused()),
        };
        let pairs = hex.chunks_exact(2).map(|pair| match pair {
            [high, low] => Ok(digit(*high)? << 4 | digit(*low)?),
            _ => Err(refused()),
        });
        pairs.collect::<Result<_, _>>().map(Self)
    }

    /// What git writes where there is no object.
    pub(in crate::workspace) fn none(format: ObjectFormat) -> Self {
        Self(vec![0; format.id_length()].into())
    }

    /// From a digest's bytes.
    pub(in crate::workspace) fn from_digest(digest: &[u8]) -> Self {
        Self(digest.into())
    }
}

impl fmt::Display for ObjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for ObjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl TryFrom<String> for ObjectId {
    type Error = NoObjectId;

    fn try_from(text: String) -> Result<Self, NoObjectId> {
        Self::parse(text.as_bytes())
    }
}

impl From<ObjectId> for String {
    fn from(id: ObjectId) -> Self {
        id.to_string()
    }
}

/// Whether one of a path's parts is `.git`, in any case: to some file systems and to git they are all the same.
pub fn names_git(path: &std::path::Path) -> bool {
    path.components().any(|part| is_git(part.as_os_str()))
}

/// Whether a name is `.git`, in any case.
pub fn is_git(name: &std::ffi::OsStr) -> bool {
    name.eq_ignore_ascii_case(".git")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_name_is_read_as_it_is_written(digest in prop_oneof![prop::collection::vec(any::<u8>(), 20), prop::collection::vec(any::<u8>(), 32)]) {
            let id = ObjectId::from_digest(&digest);
            prop_assert_eq!(ObjectId::parse(id.to_string().as_bytes()), Ok(id));
        }

        #[test]
        fn anything_else_is_refused(text in "[0-9a-f]{0,39}|[0-9A-F]{39}[A-F]|.{40}") {
            let fine = text.len() == 40 && text.bytes().all(|c| c.is_ascii_digit() || (b'a'..=b'f').contains(&c));
            prop_assert_eq!(ObjectId::parse(text.as_bytes()).is_ok(), fine);
        }
    }

    #[test]
    fn git_directories_are_known_in_any_case() {
        for (path, git) in [
            ("a/.GIT/config", true),
            (".git", true),
            ("a/.gitignore", false),
            ("x.git/y", false),
        ] {
            assert_eq!(names_git(std::path::Path::new(path)), git, "{path}");
        }
    }
}
