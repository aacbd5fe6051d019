//! The copy of this binary that becomes PID 1.
//!
//! Never the installed file itself: it may be 0700, SELinux would have to relabel it, and an upgrade would change it
//! under a running server. The copy is named by its SHA-256, so versions live side by side and a copy is never changed.
//! It stays for as long as a process uses it; the next process of another version removes it then.
#![expect(
    clippy::disallowed_methods,
    reason = "copies the running executable into the state directory"
)]

use crate::durable::lock::{self, Lock};
use sha2::{Digest, Sha256};
use std::ffi::OsStr;
use std::fs::{self, File, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What the name of a half-made copy begins with.
const STAGING: &str = ".staging-";

/// How long another process may take to stage: it copies some tens of megabytes.
const PATIENCE: Duration = Duration::from_secs(60);

/// A staged copy. As long as one process has it, no other removes it.
#[derive(Debug)]
pub struct StagedGuest {
    path: PathBuf,
    _in_use: Lock,
}

impl StagedGuest {
    /// The program. The container sees the directory that it lies in, and nothing else may lie there.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// Stages a copy, or takes the one that is there, and removes those of other versions that no process has. Blocks.
///
/// # Errors
/// Name the path concerned.
pub fn stage(executable: &Path, state_dir: &Path) -> io::Result<StagedGuest> {
    let parent = state_dir.join("guest");
    fs::create_dir_all(&parent)?;
    let open = || {
        File::open(executable)
            .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", executable.display())))
    };
    let digest = hash_into(&mut open()?, &mut io::sink())?;
    let _alone = locked(lock::exclusive(&parent.join(".lock"), PATIENCE)?, &parent)?;
    let digest = if program(&parent, &digest).exists() {
        digest
    } else {
        copy(&mut open()?, &parent)?
    };
    let in_use = locked(lock::shared(&lock_of(&parent, &digest), PATIENCE)?, &parent)?;
    if let Err(error) = remove_unused(&parent) {
        tracing::warn!(path = %parent.display(), %error, "could not remove what other versions staged");
    }
    Ok(StagedGuest {
        path: program(&parent, &digest),
        _in_use: in_use,
    })
}

fn locked(lock: Option<Lock>, parent: &Path) -> io::Result<Lock> {
    let held = || format!("{}: another process has its lock", parent.display());
    lock.ok_or_else(|| io::Error::new(io::ErrorKind::TimedOut, held()))
}

fn program(parent: &Path, digest: &str) -> PathBuf {
    parent.join(digest).join("codex-mcp")
}

/// Beside the directory: a container could hold a lock on what lies in it.
fn lock_of(parent: &Path, digest: &str) -> PathBuf {
    parent.join(format!("{digest}.lock"))
}

/// Returns the digest of what was copied: the executable may have been replaced since it was read first.
fn copy(source: &mut File, parent: &Path) -> io::Result<String> {
    // The digest is known only after the last byte, so the copy is made under another name and renamed: what is killed
    // meanwhile leaves no half of one.
    let mut copy = tempfile::Builder::new().prefix(STAGING).tempfile_in(parent)?;
    let digest = hash_into(source, copy.as_file_mut())?;
    fs::create_dir_all(parent.join(&digest))?;
    copy.as_file().set_permissions(Permissions::from_mode(0o755))?;
    // An unwritten page after a power failure would be a guest that differs from its name.
    copy.as_file().sync_all()?;
    copy.persist(program(parent, &digest)).map_err(|failed| failed.error)?;
    Ok(digest)
}

/// Whoever calls it is the only one that stages.
fn remove_unused(parent: &Path) -> io::Result<()> {
    for entry in fs::read_dir(parent)? {
        let path = entry?.path();
        let name = path.file_name().and_then(OsStr::to_str).unwrap_or_default();
        if name.starts_with(STAGING) {
            fs::remove_file(&path)?;
        } else if path.is_dir() {
            let lock_file = lock_of(parent, name);
            if let Some(_unused) = lock::exclusive(&lock_file, Duration::ZERO)? {
                fs::remove_dir_all(&path)?;
                fs::remove_file(&lock_file)?;
            }
        }
    }
    Ok(())
}

fn hash_into(source: &mut impl Read, copy: &mut impl Write) -> io::Result<String> {
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        let count = source.read(&mut buffer)?;
        if count == 0 {
            break;
        }
        let Some(chunk) = buffer.get(..count) else { break };
        hasher.update(chunk);
        copy.write_all(chunk)?;
    }
    Ok(hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;

    #[test]
    fn the_copy_is_executable_for_all_and_made_once() {
        let dir = tempfile::tempdir().unwrap();
        let program = dir.path().join("program");
        fs::write(&program, b"one").unwrap();
        fs::set_permissions(&program, Permissions::from_mode(0o700)).unwrap();

        let staged = stage(&program, dir.path()).unwrap();
        assert_eq!(fs::read(staged.path()).unwrap(), b"one");
        let metadata = fs::metadata(staged.path()).unwrap();
        assert_eq!(metadata.permissions().mode() & 0o777, 0o755);
        let again = stage(&program, dir.path()).unwrap();
        assert_eq!(fs::metadata(again.path()).unwrap().ino(), metadata.ino());

        fs::write(&program, b"two").unwrap();
        let upgraded = stage(&program, dir.path()).unwrap();
        assert_ne!(upgraded.path(), staged.path());
        assert_eq!(
            fs::read(staged.path()).unwrap(),
            b"one",
            "an upgrade leaves the old copy alone"
        );
        assert_eq!(staged_now(dir.path()), 2);
    }

    #[test]
    fn what_no_process_uses_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        let program = dir.path().join("program");
        let stage_as = |version: &str| {
            fs::write(&program, version).unwrap();
            stage(&program, dir.path()).unwrap()
        };
        let (old, older) = (stage_as("one"), stage_as("zero"));
        fs::write(dir.path().join("guest/.staging-abc"), b"half").unwrap();
        drop(older);
        let new = stage_as("two");
        assert!(old.path().exists());
        assert!(new.path().exists());
        assert_eq!(staged_now(dir.path()), 2);
        drop(old);
        drop(new);
        let back = stage_as("one");
        assert_eq!(fs::read(back.path()).unwrap(), b"one");
        assert_eq!(staged_now(dir.path()), 1);
    }

    /// How many copies there are; nothing else lies there but locks.
    fn staged_now(state_dir: &Path) -> usize {
        let names = fs::read_dir(state_dir.join("guest")).unwrap();
        let names: Vec<String> = names
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        let (locks, copies): (Vec<_>, Vec<_>) = names.iter().partition(|name| name.ends_with(".lock"));
        assert_eq!(locks.len(), copies.len() + 1, "{names:?}");
        assert!(!names.iter().any(|name| name.starts_with(STAGING)), "{names:?}");
        copies.len()
    }
}
