//! The directory that keeps what is fetched between builds, and the place for what must not outlive one.
//!
//! ```text
//! CACHE/image/lock        held by the one build that runs
//!             codex/      verified npm tarballs, named by integrity
//!             bases/      bootstrapped bases, named by suite and packages
//!             staging/    half-made things; renamed into place when whole, swept by the next build
//! ```

#![expect(clippy::disallowed_methods, reason = "this module owns the cache directory")]

use super::error::ImageError;
use super::lock::Release;
use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use tempfile::{NamedTempFile, TempDir};

/// The cache, locked: what lies in `staging/` belongs to this build or to a dead one.
pub struct Cache {
    root: PathBuf,
    /// Unlocked by the kernel when it is closed, after SIGKILL too.
    _lock: File,
}

impl Cache {
    /// Makes the directories (mode 0700) and takes the lock; never waits for it.
    pub fn open(cache_dir: &Path) -> Result<Self, ImageError> {
        let root = cache_dir.join("image");
        for directory in ["codex", "bases", "staging"] {
            let path = root.join(directory);
            DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(&path)
                .map_err(ImageError::file("create the directory", &path))?;
        }
        let path = root.join("lock");
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(&path)
            .map_err(ImageError::file("open", &path))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(ImageError::Busy { cache: root }),
            Err(TryLockError::Error(source)) => return Err(ImageError::file("lock", &path)(source)),
        }
        let cache = Self { root, _lock: lock };
        cache.sweep()?;
        Ok(cache)
    }

    /// Removes what a build left that was killed. Only under the lock.
    fn sweep(&self) -> Result<(), ImageError> {
        let staging = self.root.join("staging");
        let failed = ImageError::file("clear", &staging);
        for entry in std::fs::read_dir(&staging).map_err(&failed)? {
            let entry = entry.map_err(&failed)?;
            if entry.file_type().map_err(&failed)?.is_dir() {
                std::fs::remove_dir_all(entry.path()).map_err(&failed)?;
            } else {
                std::fs::remove_file(entry.path()).map_err(&failed)?;
            }
        }
        Ok(())
    }

    /// An empty directory that is removed when dropped.
    pub fn staging_directory(&self) -> Result<TempDir, ImageError> {
        let staging = self.root.join("staging");
        tempfile::tempdir_in(&staging).map_err(ImageError::file("create a directory in", &staging))
    }

    /// An empty file that is removed when dropped, unless published.
    pub fn staging_file(&self) -> Result<NamedTempFile, ImageError> {
        let staging = self.root.join("staging");
        NamedTempFile::new_in(&staging).map_err(ImageError::file("create a file in", &staging))
    }

    /// Where the tarball of a release is kept.
    pub fn codex_path(&self, release: &Release) -> PathBuf {
        let name = format!("codex-{}-{}.tgz", release.version, release.integrity.short_hex());
        self.root.join("codex").join(name)
    }

    /// Where the base with this key (a hexadecimal digest) is kept.
    pub fn base_path(&self, key: &str) -> PathBuf {
        self.root.join("bases").join(format!("{key}.tar"))
    }

    /// Gives a whole file its final name, atomically.
    pub fn publish(&self, whole: &Path, to: &Path) -> Result<(), ImageError> {
        std::fs::rename(whole, to).map_err(ImageError::file("move into the cache", to))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_build_at_a_time_and_the_next_sweeps() {
        let directory = tempfile::tempdir().unwrap();
        let first = Cache::open(directory.path()).unwrap();
        assert!(matches!(Cache::open(directory.path()), Err(ImageError::Busy { .. })));
        // What a killed build leaves: the handles forgotten, the files there.
        std::mem::forget(first.staging_file().unwrap());
        let left = first.staging_directory().unwrap().keep();
        std::fs::write(left.join("half"), "x").unwrap();
        drop(first);
        let second = Cache::open(directory.path()).unwrap();
        assert_eq!(std::fs::read_dir(second.root.join("staging")).unwrap().count(), 0);
    }

    #[test]
    fn nobody_else_may_look() {
        use std::os::unix::fs::PermissionsExt;
        let directory = tempfile::tempdir().unwrap();
        let cache = Cache::open(directory.path()).unwrap();
        let mode = std::fs::metadata(cache.root.join("codex"))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o700);
    }
}
