//! The copy of this binary that becomes PID 1.
//!
//! Never the installed file itself: it may be 0700, SELinux would have to relabel it, and an upgrade would change it
//! under a running server. The copy is named by its SHA-256, so versions live side by side and a copy is never changed.
#![expect(
    clippy::disallowed_methods,
    reason = "copies the running executable into the state directory"
)]

use sha2::{Digest, Sha256};
use std::fs::{self, File, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Returns the staged copy's path, making it if it isn't there. Errors name the path concerned.
pub fn stage(executable: &Path, state_dir: &Path) -> io::Result<PathBuf> {
    let parent = state_dir.join("guest");
    fs::create_dir_all(&parent)?;
    // The digest is known only after the last byte, so the copy is made under another name and renamed: a reader
    // sees a whole file or none, and two servers that stage at once end with the same one.
    let mut copy = tempfile::Builder::new().prefix(".staging-").tempfile_in(&parent)?;
    let digest = {
        let mut source = File::open(executable)
            .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", executable.display())))?;
        hash_into(&mut source, copy.as_file_mut())?
    };
    let directory = parent.join(digest);
    let staged = directory.join("codex-mcp");
    if staged.exists() {
        return Ok(staged);
    }
    fs::create_dir_all(&directory)?;
    copy.as_file().set_permissions(Permissions::from_mode(0o755))?;
    // An unwritten page after a power failure would be a guest that differs from its name.
    copy.as_file().sync_all()?;
    copy.persist(&staged).map_err(|failed| failed.error)?;
    Ok(staged)
}

fn hash_into(source: &mut File, copy: &mut File) -> io::Result<String> {
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

    #[test]
    fn the_copy_is_executable_for_all_and_made_once() {
        let dir = tempfile::tempdir().unwrap();
        let program = dir.path().join("program");
        fs::write(&program, b"one").unwrap();
        fs::set_permissions(&program, Permissions::from_mode(0o700)).unwrap();

        let staged = stage(&program, dir.path()).unwrap();
        assert_eq!(fs::read(&staged).unwrap(), b"one");
        assert_eq!(fs::metadata(&staged).unwrap().permissions().mode() & 0o777, 0o755);
        assert_eq!(stage(&program, dir.path()).unwrap(), staged);

        fs::write(&program, b"two").unwrap();
        let upgraded = stage(&program, dir.path()).unwrap();
        assert_ne!(upgraded, staged);
        assert_eq!(
            fs::read(&staged).unwrap(),
            b"one",
            "an upgrade leaves the old copy alone"
        );
        let left: Vec<_> = fs::read_dir(dir.path().join("guest")).unwrap().collect();
        assert_eq!(left.len(), 2, "no half-made copy stays");
    }
}
