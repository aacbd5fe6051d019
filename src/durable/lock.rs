//! A lock on a file, held by one process alone or by several together, and that goes with the process.
//!
//! It must never wait without an end: flock(2) itself waits for as long as it takes.

use super::regular;
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use std::fs::{File, OpenOptions};
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

/// Of locks that are held for milliseconds, or for a whole exchange: neither notices so much.
const BETWEEN_TRIES: Duration = Duration::from_millis(5);

/// Held until it is dropped, or this process ends.
#[derive(Debug)]
pub struct Lock {
    _file: Flock<File>,
}

/// A lock that one process has, over all that name the same file.
///
/// Makes the file where there is none, for its owner alone, and opens no link in its place. `None`: another has had it for as long
/// as `patience`; zero tries once.
pub fn exclusive(path: &Path, patience: Duration) -> io::Result<Option<Lock>> {
    take(path, FlockArg::LockExclusiveNonblock, patience)
}

/// A lock that any number of processes have together, and nobody alone meanwhile. Otherwise as [`exclusive`].
pub fn shared(path: &Path, patience: Duration) -> io::Result<Option<Lock>> {
    take(path, FlockArg::LockSharedNonblock, patience)
}

fn take(path: &Path, kind: FlockArg, patience: Duration) -> io::Result<Option<Lock>> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    let mut file = regular::open(path, &mut options)?;
    let begun = Instant::now();
    loop {
        file = match Flock::lock(file, kind) {
            Ok(file) => return Ok(Some(Lock { _file: file })),
            Err((file, Errno::EWOULDBLOCK | Errno::EINTR)) => file,
            Err((_, errno)) => return Err(errno.into()),
        };
        if begun.elapsed() >= patience {
            return Ok(None);
        }
        std::thread::sleep(BETWEEN_TRIES);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::libc;
    use std::os::unix::fs::{PermissionsExt, symlink};

    #[test]
    fn one_has_it_until_it_lets_go() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let first = exclusive(&path, Duration::ZERO).unwrap().unwrap();
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        assert!(exclusive(&path, Duration::ZERO).unwrap().is_none());
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| exclusive(&path, Duration::from_secs(60)).unwrap());
            drop(first);
            assert!(waiting.join().unwrap().is_some());
        });
    }

    #[test]
    fn several_have_it_together() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let both = [(); 2].map(|()| shared(&path, Duration::ZERO).unwrap().unwrap());
        assert!(exclusive(&path, Duration::ZERO).unwrap().is_none());
        drop(both);
        let alone = exclusive(&path, Duration::ZERO).unwrap();
        assert!(alone.is_some());
        assert!(shared(&path, Duration::ZERO).unwrap().is_none());
    }

    #[test]
    fn a_link_in_its_place_is_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let (path, elsewhere) = (dir.path().join("lock"), dir.path().join("elsewhere"));
        symlink(&elsewhere, &path).unwrap();
        let error = exclusive(&path, Duration::ZERO).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ELOOP));
        assert!(!elsewhere.exists());
    }
}
