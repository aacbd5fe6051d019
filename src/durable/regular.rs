//! Opens a file by its name, and nothing else that may lie in its place.
//!
//! A FIFO would wait for its other end, for ever; a link would have another file written over. Whoever can put one there can do as
//! much harm otherwise, but a server that hangs in it does not even say so.
//!
//! It must never open anything before it says that it does not want to wait.

use nix::libc;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

#[derive(Debug, thiserror::Error)]
#[error("it is not a regular file")]
struct NotRegular;

/// Whether an error of [`open`] says that something else than a file or a link is there.
pub fn was_none(error: &io::Error) -> bool {
    error
        .get_ref()
        .is_some_and(<dyn std::error::Error + Send + Sync>::is::<NotRegular>)
}

/// As `options` say. What is made is its owner's alone.
pub fn open(path: &Path, options: &mut OpenOptions) -> io::Result<File> {
    let file = options
        .mode(0o600)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
        .open(path)?;
    match file.metadata()?.is_file() {
        true => Ok(file),
        false => Err(io::Error::new(io::ErrorKind::InvalidInput, NotRegular)),
    }
}

pub fn read(path: &Path) -> io::Result<File> {
    open(path, OpenOptions::new().read(true))
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::stat::Mode;
    use nix::unistd::mkfifo;
    use std::os::unix::fs::{PermissionsExt, symlink};

    #[test]
    fn only_a_file_is_opened_and_nobody_waits_for_anything_else() {
        let dir = tempfile::tempdir().unwrap();
        let [fifo, link, file] = ["fifo", "link", "file"].map(|name| dir.path().join(name));
        mkfifo(&fifo, Mode::S_IRWXU).unwrap();
        symlink(&file, &link).unwrap();
        let mut changes = OpenOptions::new();
        changes.read(true).append(true).create(true);
        for error in [read(&fifo), open(&fifo, &mut changes), read(dir.path())].map(Result::unwrap_err) {
            assert!(was_none(&error), "{error}");
        }
        for error in [read(&link), open(&link, &mut changes)].map(Result::unwrap_err) {
            assert_eq!(error.raw_os_error(), Some(libc::ELOOP));
        }
        assert!(!file.exists());
        let made = open(&file, &mut changes).unwrap();
        assert_eq!(made.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        read(&file).unwrap();
    }
}
