//! A file that is whole under its name at any moment, whatever ends this process or this machine.
//!
//! Only for one writer at a time: two would share the name beside it.

use std::fs::{self, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Puts `text` in place of `path`, by way of `beside` in the same directory, which is its owner's alone. A reader sees the file
/// before or this one; after a power failure it may be the one before.
pub fn whole(path: &Path, beside: &Path, text: &[u8]) -> io::Result<()> {
    let put = put(path, beside, text);
    if put.is_err() {
        // It may hold a secret. Where it can't be removed either, the next replacement tries again.
        let _ = fs::remove_file(beside);
    }
    put
}

/// [`whole`], and when it returns the file outlives a power failure.
pub fn for_good(path: &Path, beside: &Path, text: &[u8]) -> io::Result<()> {
    whole(path, beside, text)?;
    synchronise(path.parent().unwrap_or(Path::new("/")))
}

/// What was made, renamed and removed in a directory outlives a power failure when this returns.
pub fn synchronise(directory: &Path) -> io::Result<()> {
    OpenOptions::new().read(true).open(directory)?.sync_all()
}

fn put(path: &Path, beside: &Path, text: &[u8]) -> io::Result<()> {
    // What a process left half-written.
    match fs::remove_file(beside) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(beside)?;
    file.write_all(text)?;
    // A rename that is on the disk before what it names would be an empty file after a power failure.
    file.sync_all()?;
    fs::rename(beside, path)
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "tests write and read files")]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    #[test]
    fn what_a_dead_process_left_beside_is_replaced_and_a_link_there_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let [path, beside, elsewhere] = ["file", "file.new", "elsewhere"].map(|name| dir.path().join(name));
        fs::write(&elsewhere, "theirs").unwrap();
        symlink(&elsewhere, &beside).unwrap();
        for_good(&path, &beside, b"one").unwrap();
        fs::write(&beside, "a longer half-written one").unwrap();
        for_good(&path, &beside, b"two").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(fs::read(&elsewhere).unwrap(), b"theirs");
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        assert!(!beside.exists());
    }

    #[test]
    fn a_failure_leaves_the_file_as_it_was_and_nothing_beside() {
        let dir = tempfile::tempdir().unwrap();
        let [path, beside] = ["directory", "file.new"].map(|name| dir.path().join(name));
        fs::create_dir(&path).unwrap();
        whole(&path, &beside, b"token").unwrap_err();
        assert!(path.is_dir() && !beside.exists());
    }
}
