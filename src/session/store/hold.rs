//! Who has a session: one process at a time, by a lock that the kernel lets go of when that process ends, however it ends.
//!
//! An open-file-description lock (fcntl_locking(2)) and not flock(2): whether it is held can be asked without taking it, so
//! that listing sessions never keeps a server from one.

use crate::durable::regular;
use crate::supervise::owner::Owner;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Beside the record.
pub const LOCK_FILE: &str = "lock";
/// An owner is three short fields.
const MAX_OWNER: u64 = 4096;

/// A session is ours as long as this lives.
#[derive(Debug)]
pub struct Hold {
    _file: File,
}

#[derive(Debug, thiserror::Error)]
pub enum HoldError {
    /// `None`: it has just been taken, and who did has not said so yet.
    #[error("another process has it")]
    Held { by: Option<Owner> },
    /// Removed between the look and the lock.
    #[error("it has just been removed")]
    Gone,
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl Hold {
    /// Takes a session's directory, and says who did.
    pub fn take(session_dir: &Path, owner: &Owner) -> Result<Self, HoldError> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        let mut file = match regular::open(&session_dir.join(LOCK_FILE), &mut options) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(HoldError::Gone),
            opened => opened?,
        };
        match fcntl(&file, FcntlArg::F_OFD_SETLK(&whole_file(libc::F_WRLCK))) {
            Ok(_) => {}
            Err(Errno::EAGAIN | Errno::EACCES) => {
                return Err(HoldError::Held { by: read(&mut file) });
            }
            Err(errno) => return Err(HoldError::Io(errno.into())),
        }
        // Whoever removes a session has this lock while it does, and the name is gone afterwards.
        if file.metadata()?.nlink() == 0 {
            return Err(HoldError::Gone);
        }
        file.set_len(0)?;
        file.write_all(&serde_json::to_vec(owner).map_err(io::Error::from)?)?;
        Ok(Self { _file: file })
    }
}

/// What is known of who has a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Holder {
    Nobody,
    /// `None` where it has not said who it is.
    Process(Option<Owner>),
}

/// Looks, and takes nothing.
pub fn holder(session_dir: &Path) -> io::Result<Holder> {
    let mut file = match regular::read(&session_dir.join(LOCK_FILE)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Holder::Nobody),
        opened => opened?,
    };
    let mut asked = whole_file(libc::F_RDLCK);
    fcntl(&file, FcntlArg::F_OFD_GETLK(&mut asked))?;
    if i32::from(asked.l_type) == libc::F_UNLCK {
        return Ok(Holder::Nobody);
    }
    Ok(Holder::Process(read(&mut file)))
}

fn read(file: &mut File) -> Option<Owner> {
    let mut text = Vec::new();
    file.take(MAX_OWNER).read_to_end(&mut text).ok()?;
    serde_json::from_slice(&text).ok()
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "the kernel's constants fit the fields it has for them"
)]
fn whole_file(kind: i32) -> libc::flock {
    libc::flock {
        l_type: kind as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: 0,
        l_len: 0,
        // The kernel wants it zero for these locks.
        l_pid: 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owner(pid: u32) -> Owner {
        Owner {
            pid,
            start_ticks: 1,
            boot_id: "b".into(),
        }
    }

    #[test]
    fn one_has_it_and_others_learn_who() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(holder(dir.path()).unwrap(), Holder::Nobody);
        let hold = Hold::take(dir.path(), &owner(7)).unwrap();
        let Err(HoldError::Held { by }) = Hold::take(dir.path(), &owner(8)) else {
            panic!("taken twice")
        };
        assert_eq!(by, Some(owner(7)));
        assert_eq!(holder(dir.path()).unwrap(), Holder::Process(Some(owner(7))));
        drop(hold);
        assert_eq!(holder(dir.path()).unwrap(), Holder::Nobody);
        drop(Hold::take(dir.path(), &owner(8)).unwrap());
    }

    #[test]
    fn looking_keeps_nobody_from_it() {
        let dir = tempfile::tempdir().unwrap();
        drop(Hold::take(dir.path(), &owner(7)).unwrap());
        std::thread::scope(|scope| {
            scope.spawn(|| {
                (0..2000).for_each(|_| assert_ne!(holder(dir.path()).unwrap(), Holder::Process(Some(owner(9)))));
            });
            (0..2000).for_each(|_| drop(Hold::take(dir.path(), &owner(8)).unwrap()));
        });
    }

    #[test]
    fn what_is_removed_can_not_be_taken() {
        let dir = tempfile::tempdir().unwrap();
        let hold = Hold::take(dir.path(), &owner(7)).unwrap();
        let opened = File::open(dir.path().join(LOCK_FILE)).unwrap();
        std::fs::remove_file(dir.path().join(LOCK_FILE)).unwrap();
        drop(hold);
        assert_eq!(opened.metadata().unwrap().nlink(), 0);
        std::fs::remove_dir(dir.path()).unwrap();
        assert!(matches!(Hold::take(dir.path(), &owner(8)), Err(HoldError::Gone)));
        std::fs::create_dir(dir.path()).unwrap();
    }
}
