//! Empty directories where a protected name is absent: a mount needs something to lie on.
//!
//! Without one the engine would make it, as root, and leave it. The kernel detaches a mount whose directory is removed, in
//! every container that has it, and whoever is inside can then make what the mount kept out. Two sessions on one folder
//! share a placeholder, so each holds a shared lock on it for as long as its container lives, and it is removed only by one
//! who gets the exclusive lock. The locks are the kernel's and end with the process; what a killed one leaves is found by
//! its [`PlaceholderRecord`].

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, Flock, FlockArg, OFlag, OpenHow, ResolveFlag, openat, openat2};
use nix::sys::stat::{FileStat, Mode, fstat, fstatat, mkdirat};
use nix::unistd::{Gid, Uid, UnlinkatFlags, fchown, unlinkat};
use serde::{Deserialize, Serialize};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How often the making is tried again while another session removes the same one, and how long apart.
const TRIES: u32 = 100;
const PAUSE: Duration = Duration::from_millis(10);

/// The only names that are made in a folder for a bind, and removed after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PlaceholderName {
    Git,
    Head,
}

impl PlaceholderName {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Git => super::GIT,
            Self::Head => super::HEAD,
        }
    }
}

/// What a session is about to make. Written to its directory before [`make`], and removed after [`Placeholders::remove`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlaceholderRecord {
    /// Canonical.
    pub folder: PathBuf,
    pub names: Vec<PlaceholderName>,
}

#[derive(Debug, thiserror::Error)]
pub enum PlaceholderError {
    #[error("can't make the placeholder {} in the folder: {errno}", path.display())]
    Make { path: PathBuf, errno: Errno },
    #[error("can't remove the placeholder {} from the folder: {errno}; it is an empty directory, which you may remove", path.display())]
    Remove { path: PathBuf, errno: Errno },
    #[error("{} came into being while the session was started: try again", path.display())]
    Changed { path: PathBuf },
}

/// Placeholders in use: dropped, they stay on the disk and others may remove them.
#[derive(Debug)]
pub struct Placeholders {
    record: PlaceholderRecord,
    locks: Vec<Flock<OwnedFd>>,
}

/// Makes what is missing, and shares what another session made. As root, what was made is given to `owner` (uid, gid), whom
/// the folder belongs to. Fails where one of the names is anything but an empty directory by now.
pub fn make(record: PlaceholderRecord, owner: (u32, u32)) -> Result<Placeholders, PlaceholderError> {
    let mut made = Placeholders {
        record,
        locks: Vec::new(),
    };
    let PlaceholderRecord { folder, names } = made.record.clone();
    let failed = |errno| PlaceholderError::Make {
        path: folder.clone(),
        errno,
    };
    let directory = open_folder(&folder).map_err(failed)?;
    for name in names {
        match make_one(&directory, name, owner) {
            Ok(lock) => made.locks.push(lock),
            Err(errno) => {
                let path = folder.join(name.as_str());
                // What was made of it so far.
                if let Err(error) = made.remove() {
                    tracing::warn!(%error, "a placeholder stays");
                }
                return Err(match errno {
                    Errno::ENOTEMPTY | Errno::ENOTDIR | Errno::ELOOP => PlaceholderError::Changed { path },
                    errno => PlaceholderError::Make { path, errno },
                });
            }
        }
    }
    Ok(made)
}

impl Placeholders {
    /// Removes those that nobody uses any more. Only once the container is gone.
    pub fn remove(self) -> Result<(), PlaceholderError> {
        let Self { record, locks } = self;
        drop(locks);
        remove_left(&record)
    }
}

/// Removes what a session left, by its record: empty directories that no other session holds. What is something else by
/// now, or in use, is left alone.
pub fn remove_left(record: &PlaceholderRecord) -> Result<(), PlaceholderError> {
    let failed = |path: &Path, errno| PlaceholderError::Remove {
        path: path.to_owned(),
        errno,
    };
    let directory = match open_folder(&record.folder) {
        Ok(directory) => directory,
        // Moved or removed, and the placeholders with it.
        Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP) => return Ok(()),
        Err(errno) => return Err(failed(&record.folder, errno)),
    };
    for name in &record.names {
        match remove_one(&directory, *name) {
            Ok(()) | Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP | Errno::ENOTEMPTY | Errno::EWOULDBLOCK) => {}
            Err(errno) => return Err(failed(&record.folder.join(name.as_str()), errno)),
        }
    }
    Ok(())
}

/// Without any link on the way: the path is canonical, or it is another's by now.
fn open_folder(folder: &Path) -> Result<OwnedFd, Errno> {
    let how = OpenHow::new()
        .flags(OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC)
        .resolve(ResolveFlag::RESOLVE_NO_SYMLINKS | ResolveFlag::RESOLVE_NO_MAGICLINKS);
    openat2(AT_FDCWD, folder, how)
}

fn open_placeholder(folder: &OwnedFd, name: PlaceholderName) -> Result<OwnedFd, Errno> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    openat(folder, name.as_str(), flags, Mode::empty())
}

fn make_one(folder: &OwnedFd, name: PlaceholderName, owner: (u32, u32)) -> Result<Flock<OwnedFd>, Errno> {
    for _ in 0..TRIES {
        let made = match mkdirat(folder, name.as_str(), Mode::from_bits_truncate(0o755)) {
            Ok(()) => true,
            Err(Errno::EEXIST) => false,
            Err(errno) => return Err(errno),
        };
        let locked = match open_placeholder(folder, name) {
            Ok(opened) => Flock::lock(opened, FlockArg::LockSharedNonblock).map_err(|(_, errno)| errno),
            Err(errno) => Err(errno),
        };
        match locked {
            Ok(lock) if is_still(folder, name, &lock)? => {
                // Anybody else can't give files away, and runs containers as itself.
                if made && nix::unistd::geteuid().is_root() {
                    fchown(&*lock, Some(Uid::from_raw(owner.0)), Some(Gid::from_raw(owner.1)))?;
                }
                return empty(&lock).map(|()| lock);
            }
            // Another session removed it, or is about to.
            Ok(_) | Err(Errno::EWOULDBLOCK | Errno::ENOENT) => std::thread::sleep(PAUSE),
            Err(errno) => return Err(errno),
        }
    }
    Err(Errno::EWOULDBLOCK)
}

fn remove_one(folder: &OwnedFd, name: PlaceholderName) -> Result<(), Errno> {
    let opened = open_placeholder(folder, name)?;
    let lock = Flock::lock(opened, FlockArg::LockExclusiveNonblock).map_err(|(_, errno)| errno)?;
    if !is_still(folder, name, &lock)? {
        return Ok(());
    }
    // The kernel refuses one that is not empty.
    unlinkat(folder, name.as_str(), UnlinkatFlags::RemoveDir)
}

/// Whether the name still leads to what was opened and locked.
fn is_still(folder: &OwnedFd, name: PlaceholderName, opened: &OwnedFd) -> Result<bool, Errno> {
    let identity = |stat: FileStat| (stat.st_dev, stat.st_ino);
    match fstatat(folder, name.as_str(), AtFlags::AT_SYMLINK_NOFOLLOW) {
        Ok(named) => Ok(identity(named) == identity(fstat(opened)?)),
        Err(Errno::ENOENT) => Ok(false),
        Err(errno) => Err(errno),
    }
}

fn empty(directory: &OwnedFd) -> Result<(), Errno> {
    let again = openat(
        directory,
        ".",
        OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC,
        Mode::empty(),
    )?;
    for entry in nix::dir::Dir::from_fd(again)?.iter() {
        if !matches!(entry?.file_name().to_bytes(), b"." | b"..") {
            return Err(Errno::ENOTEMPTY);
        }
    }
    Ok(())
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "tests make and remove files")]
mod tests {
    use super::*;
    use std::fs;

    fn me() -> (u32, u32) {
        (nix::unistd::getuid().as_raw(), nix::unistd::getgid().as_raw())
    }

    fn folder() -> (tempfile::TempDir, PlaceholderRecord) {
        let folder = tempfile::tempdir().unwrap();
        let record = PlaceholderRecord {
            folder: folder.path().canonicalize().unwrap(),
            names: vec![PlaceholderName::Git, PlaceholderName::Head],
        };
        (folder, record)
    }

    fn names(record: &PlaceholderRecord) -> Vec<String> {
        let entries = fs::read_dir(&record.folder).unwrap();
        let mut names: Vec<_> = entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn they_are_made_and_removed() {
        let (_folder, record) = folder();
        let made = make(record.clone(), me()).unwrap();
        assert_eq!(names(&record), [".git", "HEAD"]);
        made.remove().unwrap();
        assert_eq!(names(&record), [""; 0]);
    }

    /// Removed under the second session's container, its mount would be gone.
    #[test]
    fn one_that_another_session_uses_stays_until_the_last_is_done() {
        let (_folder, record) = folder();
        let first = make(record.clone(), me()).unwrap();
        let second = make(record.clone(), me()).unwrap();
        first.remove().unwrap();
        assert_eq!(names(&record), [".git", "HEAD"]);
        remove_left(&record).unwrap();
        assert_eq!(names(&record), [".git", "HEAD"], "a reconcile is no other");
        second.remove().unwrap();
        assert_eq!(names(&record), [""; 0]);
    }

    #[test]
    fn what_a_killed_session_left_is_removed_by_its_record() {
        let (_folder, record) = folder();
        // Its locks end with it.
        drop(make(record.clone(), me()).unwrap());
        assert_eq!(names(&record), [".git", "HEAD"]);
        let record = serde_json::from_str(&serde_json::to_string(&record).unwrap()).unwrap();
        remove_left(&record).unwrap();
        assert_eq!(names(&record), [""; 0]);
        remove_left(&record).unwrap();
    }

    #[test]
    fn what_somebody_made_of_one_is_left_alone() {
        let (_folder, record) = folder();
        let made = make(record.clone(), me()).unwrap();
        fs::write(record.folder.join(".git/config"), "").unwrap();
        fs::remove_dir(record.folder.join("HEAD")).unwrap();
        std::os::unix::fs::symlink("/etc", record.folder.join("HEAD")).unwrap();
        made.remove().unwrap();
        assert_eq!(names(&record), [".git", "HEAD"]);
        assert!(record.folder.join(".git/config").exists());
    }

    #[test]
    fn a_name_that_came_meanwhile_is_refused_and_nothing_stays() {
        for plant in [
            |head: &Path| fs::write(head, "ref: refs/heads/x").unwrap(),
            |head: &Path| std::os::unix::fs::symlink("/etc", head).unwrap(),
            |head: &Path| fs::create_dir_all(head.join("x")).unwrap(),
        ] {
            let (_folder, record) = folder();
            plant(&record.folder.join("HEAD"));
            let error = make(record.clone(), me()).unwrap_err();
            assert!(matches!(error, PlaceholderError::Changed { .. }), "{error}");
            assert_eq!(names(&record), ["HEAD"]);
        }
    }

    #[test]
    fn a_folder_that_became_a_link_is_not_touched() {
        let (folder, mut record) = folder();
        let real = folder.path().join("real");
        fs::create_dir_all(real.join(".git")).unwrap();
        record.folder = record.folder.join("link");
        std::os::unix::fs::symlink(&real, &record.folder).unwrap();
        assert!(make(record.clone(), me()).is_err());
        remove_left(&record).unwrap();
        assert!(real.join(".git").exists());
    }

    /// Many at once: whoever holds one finds it in its place, and the last removes it.
    #[test]
    fn sessions_that_come_and_go_at_once_never_lose_one_in_use() {
        let (_folder, record) = folder();
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..30 {
                        let made = make(record.clone(), me()).unwrap();
                        assert_eq!(names(&record), [".git", "HEAD"]);
                        made.remove().unwrap();
                    }
                });
            }
        });
        assert_eq!(names(&record), [""; 0]);
    }
}
