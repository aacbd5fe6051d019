//! What a copy held when it was made: what a later state is compared with.

use crate::workspace::copy::Recorder;
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

/// Every entry of a copy by its path relative to the root. Kept on the host, out of the container's reach.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Manifest {
    pub entries: BTreeMap<PathBuf, Entry>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry {
    File {
        /// Permission bits only.
        mode: u32,
        /// Bytes.
        size: u64,
        sha256: Digest,
    },
    Directory {
        mode: u32,
    },
    Symlink {
        target: PathBuf,
    },
}

/// What `.git` is in a copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GitEntry {
    Absent,
    /// A repository of its own.
    Directory,
    /// A file or link that points at a repository elsewhere (a worktree, a submodule): dangling inside the container.
    Pointer,
}

impl Manifest {
    pub fn git(&self) -> GitEntry {
        match self.entries.get(Path::new(".git")) {
            None => GitEntry::Absent,
            Some(Entry::Directory { .. }) => GitEntry::Directory,
            Some(Entry::File { .. } | Entry::Symlink { .. }) => GitEntry::Pointer,
        }
    }
}

/// The SHA-256 of a file's content.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Digest([u8; 32]);

impl Digest {
    pub fn of(content: &[u8]) -> Self {
        let mut hasher = Hasher::default();
        hasher.update(content);
        hasher.finish()
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Computes a [`Digest`] while content passes by.
#[derive(Default)]
pub struct Hasher(Sha256);

impl Hasher {
    pub fn update(&mut self, piece: &[u8]) {
        self.0.update(piece);
    }

    pub fn finish(self) -> Digest {
        Digest(self.0.finalize().into())
    }
}

/// Makes a manifest while a copy is made.
#[derive(Default)]
pub struct ManifestRecorder {
    pub manifest: Manifest,
    hasher: Hasher,
}

impl Recorder for ManifestRecorder {
    fn directory(&mut self, path: PathBuf, mode: u32) {
        self.manifest.entries.insert(path, Entry::Directory { mode });
    }

    fn symlink(&mut self, path: PathBuf, target: PathBuf) {
        self.manifest.entries.insert(path, Entry::Symlink { target });
    }

    fn begin_file(&mut self, _: u64) {
        self.hasher = Hasher::default();
    }

    fn piece(&mut self, piece: &[u8]) {
        self.hasher.update(piece);
    }

    fn end_file(&mut self, path: PathBuf, mode: u32, size: u64) {
        let sha256 = std::mem::take(&mut self.hasher).finish();
        self.manifest.entries.insert(path, Entry::File { mode, size, sha256 });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digest_is_sha256() {
        let hex = format!("{:?}", Digest::of(b"abc"));
        assert_eq!(hex, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    }

    #[test]
    fn a_worktree_has_a_pointer() {
        let with = |entry| Manifest {
            entries: BTreeMap::from([(PathBuf::from(".git"), entry)]),
        };
        let file = Entry::File {
            mode: 0o644,
            size: 0,
            sha256: Digest::of(b""),
        };
        assert_eq!(with(file).git(), GitEntry::Pointer);
        assert_eq!(with(Entry::Directory { mode: 0o755 }).git(), GitEntry::Directory);
        assert_eq!(Manifest::default().git(), GitEntry::Absent);
    }
}
