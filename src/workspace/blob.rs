//! Files as git stores them: mode and name, computed here so that git need not see what is unchanged.

use crate::workspace::git::{ObjectFormat, ObjectId};
use sha1::Sha1;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// What a tree can hold of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    File,
    Executable,
    Symlink,
}

impl Mode {
    /// Of a regular file, by its permission bits: git keeps no more than whether the owner may run it.
    pub fn of_file(permissions: u32) -> Self {
        if permissions & 0o100 == 0 {
            Self::File
        } else {
            Self::Executable
        }
    }

    /// As git writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::File => "100644",
            Self::Executable => "100755",
            Self::Symlink => "120000",
        }
    }

    /// `None` for what is no file (a submodule) or is not written in the one form.
    pub fn parse(text: &[u8]) -> Option<Self> {
        [Self::File, Self::Executable, Self::Symlink]
            .into_iter()
            .find(|mode| mode.as_str().as_bytes() == text)
    }
}

/// A file or link in a tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub mode: Mode,
    pub id: ObjectId,
}

/// Every file and link of a tree, by its path relative to the root.
pub type Inventory = BTreeMap<PathBuf, Entry>;

/// Computes a blob's name while its content passes by.
#[derive(Clone)]
pub enum BlobHasher {
    Sha1(Sha1),
    Sha256(Sha256),
}

impl BlobHasher {
    /// The size comes first in what is hashed: if another number of bytes follows, the name is wrong.
    pub fn new(format: ObjectFormat, size: u64) -> Self {
        let mut hasher = match format {
            ObjectFormat::Sha1 => Self::Sha1(Sha1::new()),
            ObjectFormat::Sha256 => Self::Sha256(Sha256::new()),
        };
        hasher.update(format!("blob {size}\0").as_bytes());
        hasher
    }

    pub fn update(&mut self, piece: &[u8]) {
        match self {
            Self::Sha1(hasher) => hasher.update(piece),
            Self::Sha256(hasher) => hasher.update(piece),
        }
    }

    pub fn finish(self) -> ObjectId {
        match self {
            Self::Sha1(hasher) => ObjectId::from_digest(&hasher.finalize()),
            Self::Sha256(hasher) => ObjectId::from_digest(&hasher.finalize()),
        }
    }
}

/// The name of a blob that is in memory.
pub fn blob_id(format: ObjectFormat, content: &[u8]) -> ObjectId {
    let mut hasher = BlobHasher::new(format, content.len() as u64);
    hasher.update(content);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_git() {
        assert_eq!(
            blob_id(ObjectFormat::Sha1, b"").to_string(),
            "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391"
        );
        assert_eq!(
            blob_id(ObjectFormat::Sha256, b"").to_string(),
            "473a0f4c3be8a93681a267e3b1e9a7dcda1185436fe141f7749120a303721813"
        );
    }

    #[test]
    fn only_the_owners_right_to_run_is_kept() {
        assert_eq!(Mode::of_file(0o744), Mode::Executable);
        assert_eq!(Mode::of_file(0o677), Mode::File);
        assert_eq!(Mode::parse(b"100664"), None);
        assert_eq!(Mode::parse(b"160000"), None);
    }
}
