//! The file of tokens on the disk: read, and changed by one process at a time. Blocks.
//!
//! It must never take a file that somebody else could have written: whoever writes there lets in whom he likes.

use crate::access::file::{Listed, MAX_BYTES, TokenList, TokensError};
use crate::access::token::{RANDOM, Token};
use crate::config::identity::IdentityName;
use crate::durable::{lock, regular, replace};
use nix::unistd::geteuid;
use std::ffi::OsString;
use std::fs::{DirBuilder, File, Metadata};
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long another process may take to add or revoke one.
const PATIENCE: Duration = Duration::from_secs(5);

/// Group and others may write.
const WRITABLE: u32 = 0o022;

/// One file of tokens, which may not be there.
#[derive(Debug, Clone)]
pub struct TokenStore {
    path: PathBuf,
}

/// What tells that the file is another one than it was, or was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Version {
    device: u64,
    inode: u64,
    /// Of its content or its mode.
    changed: (i64, i64),
    size: u64,
}

impl Version {
    fn of(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
            size: metadata.size(),
        }
    }
}

impl TokenStore {
    pub fn new(path: PathBuf) -> Self {
        Self { path }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Makes a token of that name. `now` is in seconds since 1970.
    pub fn add(&self, name: IdentityName, now: u64) -> Result<Token, TokensError> {
        let mut random = [0; RANDOM];
        getrandom::fill(&mut random).map_err(TokensError::Random)?;
        let token = Token::from_random(&random);
        let listed = Listed {
            name,
            sha256: token.digest(),
            created: now,
        };
        self.change(|list| list.add(listed))?;
        Ok(token)
    }

    /// The file stays where the last one goes: that nobody may come in is not that everybody may.
    pub fn revoke(&self, name: &IdentityName) -> Result<(), TokensError> {
        self.change(|list| list.revoke(name))
    }

    /// `None`: there is no file.
    pub fn read(&self) -> Result<Option<(Version, TokenList)>, TokensError> {
        let file = match regular::read(&self.path) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(self.failed("opened", source)),
        };
        self.list_in(file).map(Some)
    }

    /// `None`: there is no file. Of a file that can't be looked at, reading it says why.
    pub fn version(&self) -> Option<Version> {
        self.path.symlink_metadata().ok().map(|metadata| Version::of(&metadata))
    }

    fn list_in(&self, file: File) -> Result<(Version, TokenList), TokensError> {
        let path = || self.path.clone();
        let metadata = file.metadata().map_err(|source| self.failed("looked at", source))?;
        let (owner, mode) = (metadata.uid(), metadata.mode() & 0o7777);
        if owner != 0 && owner != geteuid().as_raw() {
            return Err(TokensError::NotOurs { path: path(), owner });
        }
        if mode & WRITABLE != 0 {
            return Err(TokensError::Writable { path: path(), mode });
        }
        let mut text = Vec::new();
        file.take(MAX_BYTES + 1)
            .read_to_end(&mut text)
            .map_err(|source| self.failed("read", source))?;
        if text.len() as u64 > MAX_BYTES {
            return Err(TokensError::TooLong { path: path() });
        }
        let list = TokenList::parse(&text).map_err(|reason| TokensError::Damaged { path: path(), reason })?;
        Ok((Version::of(&metadata), list))
    }

    fn change(&self, change: impl FnOnce(&mut TokenList) -> Result<(), TokensError>) -> Result<(), TokensError> {
        let directory = self.path.parent().unwrap_or(Path::new("/"));
        DirBuilder::new()
            .mode(0o700)
            .recursive(true)
            .create(directory)
            .map_err(|source| self.failed("given its directory", source))?;
        let locked = lock::exclusive(&self.beside(".lock"), PATIENCE);
        let _alone = locked
            .map_err(|source| self.failed("locked", source))?
            .ok_or_else(|| TokensError::Busy {
                path: self.path.clone(),
            })?;
        let mut list = self.read()?.map(|(_, list)| list).unwrap_or_default();
        change(&mut list)?;
        replace::for_good(&self.path, &self.beside(".new"), &list.text())
            .map_err(|source| self.failed("written", source))
    }

    fn beside(&self, suffix: &str) -> PathBuf {
        let mut name = OsString::from(self.path.as_os_str());
        name.push(suffix);
        PathBuf::from(name)
    }

    fn failed(&self, what: &'static str, source: io::Error) -> TokensError {
        TokensError::Io {
            what,
            path: self.path.clone(),
            source,
        }
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "tests write files")]
mod tests {
    use super::*;
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn tokens_are_added_and_revoked_and_the_disk_has_none_of_them() {
        let dir = tempfile::tempdir().unwrap();
        let store = TokenStore::new(dir.path().join("below/tokens.json"));
        assert!(store.read().unwrap().is_none());
        let token = store.add("ci".parse().unwrap(), 5).unwrap();
        let path = store.path();
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        let text = fs::read_to_string(path).unwrap();
        assert!(text.contains("\"ci\"") && !text.contains(token.reveal()));
        let before = store.version();
        let other = store.add("laptop".parse().unwrap(), 6).unwrap();
        assert_ne!(store.version(), before);
        store.revoke(&"ci".parse().unwrap()).unwrap();
        let (_, list) = store.read().unwrap().unwrap();
        assert!(list.whose(&token.digest()).is_none());
        assert!(list.whose(&other.digest()).is_some());
        store.revoke(&"laptop".parse().unwrap()).unwrap();
        assert_eq!(store.read().unwrap().unwrap().1.tokens().len(), 0);
    }

    #[test]
    fn a_file_that_others_may_write_or_that_is_none_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let store = TokenStore::new(dir.path().join("tokens.json"));
        store.add("ci".parse().unwrap(), 5).unwrap();
        for mode in [0o620, 0o602, 0o666] {
            fs::set_permissions(store.path(), Permissions::from_mode(mode)).unwrap();
            let refused = store.read().unwrap_err().to_string();
            assert!(refused.contains(&format!("mode {mode:04o}")), "{refused}");
            assert!(store.add("x".parse().unwrap(), 1).is_err());
        }
        fs::set_permissions(store.path(), Permissions::from_mode(0o600)).unwrap();
        fs::write(store.path(), "nonsense").unwrap();
        assert!(matches!(store.read(), Err(TokensError::Damaged { .. })));
        fs::remove_file(store.path()).unwrap();
        std::os::unix::fs::symlink("/etc/hostname", store.path()).unwrap();
        assert!(matches!(store.read(), Err(TokensError::Io { .. })));
    }

    #[test]
    fn two_that_add_at_once_lose_none() {
        let dir = tempfile::tempdir().unwrap();
        let store = TokenStore::new(dir.path().join("tokens.json"));
        std::thread::scope(|scope| {
            for n in 0..8 {
                let store = &store;
                scope.spawn(move || store.add(format!("t{n}").parse().unwrap(), n).unwrap());
            }
        });
        assert_eq!(store.read().unwrap().unwrap().1.tokens().len(), 8);
    }
}
