//! The files of a login: `auth.json` itself, the marks of spent refresh tokens, the locks.
//!
//! | beside `auth.json` | what it is |
//! |---|---|
//! | `auth.json.codex-mcp.lock` | ours: held by the one process that refreshes, for the whole exchange |
//! | `auth.json.codex-mcp.spent` | ours: SHA-256 of each refresh token that was sent, one a line |
//! | `auth.lock`, `auth.json.lock` | Codex's: held while a new `auth.json` is put in place (seen with Codex 0.169) |
//!
//! Every file is replaced whole: written beside under another name, synchronised, renamed. This module must never leave a token
//! anywhere but in `auth.json`, and never open a link in its place. It blocks: not for runtime threads.

use crate::auth::chatgpt::auth_file::{AuthFile, Fingerprint, Flaw, MAX_FILE, Token};
use crate::durable::lock::{self, Lock};
use crate::durable::regular;
use crate::durable::replace;
use std::collections::VecDeque;
use std::ffi::OsString;
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;
use zeroize::Zeroizing;

/// Marks that are kept. Older tokens than that many refreshes ago are in no backup that somebody puts back.
const MAX_MARKS: usize = 256;
/// How long a lock of Codex's is waited for: it is held for some milliseconds.
const COMMIT_LIMIT: Duration = Duration::from_secs(5);

/// Why a file of the login can't be used.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    #[error(
        "there is no Codex login in {}; log in on this host with `codex login` (where Codex keeps logins in a keyring, set \
         cli_auth_credentials_store = \"file\" in its configuration first), or name another file with auth.file",
        .0.display()
    )]
    Missing(PathBuf),
    #[error("{} is a symbolic link, which a refresh would replace; set auth.file to the file itself", .0.display())]
    Link(PathBuf),
    #[error("{} is not a regular file; auth.file names the auth.json of a Codex login", .0.display())]
    NotRegular(PathBuf),
    #[error("{} belongs to another user; log in as the user that runs codex-mcp: codex login", .0.display())]
    NotOurs(PathBuf),
    #[error("{} can be read by other users (mode {mode:04o}); run: chmod 600 {}", path.display(), path.display())]
    Exposed { path: PathBuf, mode: u32 },
    #[error("{} {flaw}; log in anew: codex login", path.display())]
    Flawed { path: PathBuf, flaw: Flaw },
    #[error(
        "{} has been locked by another process for {} s, so that nothing can be refreshed; see which with: fuser -v {}",
        path.display(),
        waited.as_secs(),
        path.display()
    )]
    Locked { path: PathBuf, waited: Duration },
    #[error("can't {what} {}: {error}", path.display())]
    Io {
        what: &'static str,
        path: PathBuf,
        #[source]
        error: io::Error,
    },
}

/// What became of a file that was to be written back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WriteBack {
    Written,
    /// Somebody else logged in, refreshed or logged out meanwhile: theirs stands.
    NotOurs,
}

/// Where a login is.
#[derive(Debug, Clone)]
pub struct Store {
    file: PathBuf,
}

impl Store {
    pub fn new(file: PathBuf) -> Self {
        Self { file }
    }

    pub fn file(&self) -> &Path {
        &self.file
    }

    pub fn read(&self) -> Result<AuthFile, FileError> {
        let path = || self.file.clone();
        let failed = |error: io::Error| match (error.kind(), error.raw_os_error()) {
            (ErrorKind::NotFound, _) => FileError::Missing(path()),
            (_, Some(nix::libc::ELOOP)) => FileError::Link(path()),
            _ if regular::was_none(&error) => FileError::NotRegular(path()),
            _ => io_error("read", &self.file)(error),
        };
        let file = regular::read(&self.file).map_err(failed)?;
        let metadata = file.metadata().map_err(failed)?;
        if metadata.uid() != nix::unistd::geteuid().as_raw() {
            return Err(FileError::NotOurs(path()));
        }
        let mode = metadata.mode() & 0o7777;
        if mode & 0o077 != 0 {
            return Err(FileError::Exposed { path: path(), mode });
        }
        // With the whole capacity from the start no growth leaves a copy behind.
        let mut text = Zeroizing::new(Vec::with_capacity(MAX_FILE + 1));
        file.take(MAX_FILE as u64 + 1).read_to_end(&mut text).map_err(failed)?;
        AuthFile::parse(&text).map_err(|flaw| FileError::Flawed { path: path(), flaw })
    }

    /// Waits for the right to refresh, over all processes that use this file.
    pub fn lock_refresh(&self, limit: Duration) -> Result<Lock, FileError> {
        lock(self.beside(".codex-mcp.lock"), limit)
    }

    /// Whether a refresh token was sent before.
    pub fn is_spent(&self, token: &Token) -> Result<bool, FileError> {
        Ok(self.marks()?.contains(&token.fingerprint))
    }

    /// Writes down that a refresh token is about to be sent. Only under the lock.
    pub fn mark(&self, token: &Token) -> Result<(), FileError> {
        let mut marks = self.marks()?;
        marks.push_back(token.fingerprint);
        while marks.len() > MAX_MARKS {
            marks.pop_front();
        }
        self.write_marks(&marks)
    }

    /// Takes a mark back: the token never left. Only under the lock.
    pub fn unmark(&self, token: &Token) -> Result<(), FileError> {
        let mut marks = self.marks()?;
        marks.retain(|mark| *mark != token.fingerprint);
        self.write_marks(&marks)
    }

    /// Puts `new` in the place of a file that holds `spent` as its refresh token, and of no other. Only under the lock.
    pub fn write_back(&self, new: &AuthFile, spent: Fingerprint) -> Result<WriteBack, FileError> {
        let text = new.text().map_err(|flaw| FileError::Flawed {
            path: self.file.clone(),
            flaw,
        })?;
        // Codex looks and renames under these, in this order: between our look and our rename it must not.
        let _codex = [
            lock(self.file.with_extension("lock"), COMMIT_LIMIT)?,
            lock(self.beside(".lock"), COMMIT_LIMIT)?,
        ];
        match self.read() {
            Ok(there) if there.refresh.as_ref().is_some_and(|token| token.fingerprint == spent) => {}
            Ok(_) | Err(FileError::Missing(_)) => return Ok(WriteBack::NotOurs),
            Err(FileError::Flawed {
                flaw: Flaw::OtherKind, ..
            }) => return Ok(WriteBack::NotOurs),
            // Nobody said that this login is over: what replaces it is not to be lost.
            Err(unclear) => return Err(unclear),
        }
        self.replace(&self.file, &text)?;
        Ok(WriteBack::Written)
    }

    fn marks(&self) -> Result<VecDeque<Fingerprint>, FileError> {
        let path = self.beside(".codex-mcp.spent");
        let file = match regular::read(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(VecDeque::new()),
            Err(error) => return Err(io_error("read", &path)(error)),
        };
        let mut text = String::new();
        file.take(MAX_FILE as u64)
            .read_to_string(&mut text)
            .map_err(io_error("read", &path))?;
        Ok(text.lines().filter_map(Fingerprint::parse).collect())
    }

    fn write_marks(&self, marks: &VecDeque<Fingerprint>) -> Result<(), FileError> {
        let text: String = marks.iter().map(|mark| format!("{mark}\n")).collect();
        self.replace(&self.beside(".codex-mcp.spent"), text.as_bytes())
    }

    /// Only under the lock: two writers would share the name beside it.
    fn replace(&self, path: &Path, text: &[u8]) -> Result<(), FileError> {
        replace::for_good(path, &with_suffix(path, ".codex-mcp.new"), text).map_err(io_error("write", path))
    }

    /// `auth.json` → `auth.json` and the suffix.
    fn beside(&self, suffix: &str) -> PathBuf {
        with_suffix(&self.file, suffix)
    }
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    PathBuf::from(name)
}

fn io_error(what: &'static str, path: &Path) -> impl Fn(io::Error) -> FileError {
    let path = path.to_owned();
    move |error| FileError::Io {
        what,
        path: path.clone(),
        error,
    }
}

fn lock(path: PathBuf, limit: Duration) -> Result<Lock, FileError> {
    let locked = lock::exclusive(&path, limit).map_err(io_error("lock", &path))?;
    locked.ok_or(FileError::Locked { path, waited: limit })
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "tests write and read files")]
mod tests {
    use super::*;
    use crate::auth::chatgpt::auth_file::NewTokens;
    use serde_json::json;
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};
    use tempfile::TempDir;

    fn store(refresh: &str) -> (TempDir, Store) {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("auth.json");
        let store = Store::new(file);
        write(&store, refresh);
        (dir, store)
    }

    fn write(store: &Store, refresh: &str) {
        let text = json!({"tokens": {"access_token": "at-0", "refresh_token": refresh, "account_id": "a"}});
        fs::write(store.file(), text.to_string()).unwrap();
        chmod(store.file(), 0o600);
    }

    fn chmod(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    fn token(text: &str) -> Token {
        Token::parse(text).unwrap()
    }

    fn renewed(store: &Store) -> AuthFile {
        let new = NewTokens {
            access: token("at-1"),
            refresh: Some(token("rt-1")),
            id: None,
        };
        store.read().unwrap().renewed(&new, "now").unwrap()
    }

    fn names(dir: &TempDir) -> Vec<String> {
        let entries = fs::read_dir(dir.path()).unwrap();
        let mut names: Vec<String> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn a_file_that_is_not_ours_alone_is_refused_with_what_mends_it() {
        let (dir, store) = store("rt-0");
        for mode in [0o640, 0o604, 0o620] {
            chmod(store.file(), mode);
            let error = store.read().unwrap_err().to_string();
            assert!(
                error.contains(&format!("chmod 600 {}", store.file().display())),
                "{error}"
            );
        }
        chmod(store.file(), 0o600);
        let link = dir.path().join("link.json");
        symlink(store.file(), &link).unwrap();
        assert!(matches!(Store::new(link).read(), Err(FileError::Link(_))));
        assert!(matches!(
            Store::new(dir.path().to_owned()).read(),
            Err(FileError::NotRegular(_))
        ));
        let missing = Store::new(dir.path().join("none.json")).read().unwrap_err().to_string();
        assert!(missing.contains("codex login"), "{missing}");
        fs::write(store.file(), "{\"OPENAI_API_KEY\": \"sk-very-secret\"}").unwrap();
        let flawed = store.read().unwrap_err();
        assert!(flawed.to_string().contains("codex login"), "{flawed}");
        assert!(!format!("{flawed} {flawed:?}").contains("sk-very"), "{flawed:?}");
    }

    #[test]
    fn what_is_written_back_is_private_and_nothing_stays_beside_it() {
        let (dir, store) = store("rt-0");
        fs::write(dir.path().join("auth.json.codex-mcp.new"), "left by a dead process").unwrap();
        let spent = token("rt-0").fingerprint;
        assert_eq!(store.write_back(&renewed(&store), spent).unwrap(), WriteBack::Written);
        assert_eq!(store.read().unwrap().refresh.unwrap().secret.expose(), b"rt-1");
        assert_eq!(fs::metadata(store.file()).unwrap().mode() & 0o7777, 0o600);
        assert_eq!(names(&dir), ["auth.json", "auth.json.lock", "auth.lock"]);
    }

    #[test]
    fn what_somebody_else_wrote_stands() {
        let (_dir, store) = store("rt-0");
        let (new, spent) = (renewed(&store), token("rt-0").fingerprint);
        write(&store, "rt-theirs");
        assert_eq!(store.write_back(&new, spent).unwrap(), WriteBack::NotOurs);
        assert_eq!(store.read().unwrap().refresh.unwrap().secret.expose(), b"rt-theirs");
        fs::remove_file(store.file()).unwrap();
        assert_eq!(store.write_back(&new, spent).unwrap(), WriteBack::NotOurs);
        assert!(
            matches!(store.read(), Err(FileError::Missing(_))),
            "whoever logged out meant it"
        );
    }

    #[test]
    fn a_file_that_says_nothing_clear_costs_no_login() {
        let (_dir, store) = store("rt-0");
        let (new, spent) = (renewed(&store), token("rt-0").fingerprint);
        chmod(store.file(), 0o644);
        assert!(matches!(store.write_back(&new, spent), Err(FileError::Exposed { .. })));
        chmod(store.file(), 0o600);
        fs::write(store.file(), "{\"tokens\": {\"acc").unwrap();
        assert!(matches!(store.write_back(&new, spent), Err(FileError::Flawed { .. })));
        write(&store, "rt-0");
        assert_eq!(store.write_back(&new, spent).unwrap(), WriteBack::Written);
        fs::write(store.file(), "{\"auth_mode\": \"apikey\"}").unwrap();
        assert_eq!(store.write_back(&new, spent).unwrap(), WriteBack::NotOurs);
    }

    #[test]
    fn marks_outlive_the_process_and_hold_no_token() {
        let (dir, store) = store("rt-0");
        let spent = token("rt-0");
        assert!(!store.is_spent(&spent).unwrap());
        store.mark(&spent).unwrap();
        let another = Store::new(store.file().to_owned());
        assert!(another.is_spent(&spent).unwrap() && !another.is_spent(&token("rt-1")).unwrap());
        let path = dir.path().join("auth.json.codex-mcp.spent");
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.len() == 65 && !text.contains("rt-0"), "{text}");
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o600);
        store.unmark(&spent).unwrap();
        assert!(!store.is_spent(&spent).unwrap());
        for number in 0..=MAX_MARKS {
            store.mark(&token(&format!("rt-{number}"))).unwrap();
        }
        assert!(!store.is_spent(&spent).unwrap(), "the oldest");
        assert!(store.is_spent(&token("rt-1")).unwrap());
    }

    #[test]
    fn a_lock_that_is_held_is_waited_for_so_long_and_then_named() {
        let (_dir, store) = store("rt-0");
        let held = store.lock_refresh(Duration::ZERO).unwrap();
        let another = Store::new(store.file().to_owned());
        let error = another.lock_refresh(Duration::ZERO).unwrap_err().to_string();
        assert!(
            error.contains("auth.json.codex-mcp.lock") && error.contains("fuser"),
            "{error}"
        );
        drop(held);
        another.lock_refresh(Duration::ZERO).unwrap();
    }
}
