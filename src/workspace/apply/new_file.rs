//! A file or link that is made beside its place, with its owner and mode, before anything is committed.

use crate::workspace::apply::content::{Content, Contents};
use crate::workspace::apply::decide::{Attributes, State, with_executable};
use crate::workspace::apply::host::HostFolder;
use crate::workspace::apply::path::RelativePath;
use crate::workspace::apply::perform::{EffectError, write_error};
use crate::workspace::blob::BlobHasher;
use crate::workspace::git::ObjectId;
use crate::workspace::tree::{Directory, errno_of};
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat};
use nix::sys::stat::{Mode, fchmod, fstat};
use nix::unistd::{Gid, Uid, fchown, fchownat, geteuid, symlinkat};
use std::ffi::OsStr;
use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::ffi::OsStrExt;

/// How much is copied at once, in bytes.
const PIECE: usize = 128 << 10;

/// A file or link that is about to be made.
pub struct New<'n> {
    pub path: &'n RelativePath,
    pub name: &'n OsStr,
    pub replaces: Option<Attributes>,
    /// The folder's own.
    pub owner: Attributes,
}

impl New<'_> {
    /// Makes it; the file is returned for whoever synchronises it.
    pub fn write(
        &self,
        directory: &Directory,
        folder: &HostFolder,
        after: &State,
        contents: &Contents,
    ) -> Result<Option<File>, EffectError> {
        match after {
            State::Absent => Ok(None),
            State::Symlink { id } => {
                let target = self.content(contents, id)?.whole();
                let target = target.map_err(|error| self.failed(errno_of(&error)))?;
                symlinkat(OsStr::from_bytes(&target), directory, self.name).map_err(|errno| self.failed(errno))?;
                if geteuid().is_root() {
                    let (uid, gid) = self.owner();
                    fchownat(directory, self.name, Some(uid), Some(gid), AtFlags::AT_SYMLINK_NOFOLLOW)
                        .map_err(|errno| self.failed(errno))?;
                }
                Ok(None)
            }
            State::File { id, executable } => {
                let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
                let file = openat(directory, self.name, flags, Mode::S_IRUSR | Mode::S_IWUSR)
                    .map_err(|errno| self.failed(errno))?;
                let mut file = File::from(file);
                self.copy(&mut file, id, contents, folder)?;
                self.give(&file)?;
                let mode = match self.replaces {
                    Some(replaced) => with_executable(replaced.mode, *executable),
                    None => {
                        let like = fstat(directory).map_err(|errno| self.failed(errno))?;
                        new_mode(like.st_mode, *executable)
                    }
                };
                fchmod(&file, Mode::from_bits_truncate(mode)).map_err(|errno| self.failed(errno))?;
                Ok(Some(file))
            }
        }
    }

    fn copy(
        &self,
        file: &mut File,
        id: &ObjectId,
        contents: &Contents,
        folder: &HostFolder,
    ) -> Result<(), EffectError> {
        let mut content = self.content(contents, id)?;
        let mut hasher = BlobHasher::new(folder.format(), content.size());
        let mut piece = vec![0; PIECE];
        loop {
            let read = content
                .read(&mut piece)
                .map_err(|error| self.failed(errno_of(&error)))?;
            let piece = piece.get(..read).unwrap_or_default();
            if piece.is_empty() {
                break;
            }
            hasher.update(piece);
            file.write_all(piece).map_err(|error| self.failed(errno_of(&error)))?;
        }
        if hasher.finish() == *id {
            Ok(())
        } else {
            Err(self.damaged())
        }
    }

    fn content(&self, contents: &Contents, id: &ObjectId) -> Result<Content, EffectError> {
        contents.get(id).ok_or_else(|| self.damaged())
    }

    fn owner(&self) -> (Uid, Gid) {
        let owner = self.replaces.unwrap_or(self.owner);
        (Uid::from_raw(owner.uid), Gid::from_raw(owner.gid))
    }

    /// Root gives a file to whoever had the one that it replaces, or has the folder. Anybody else can at most keep its group.
    fn give(&self, file: &File) -> Result<(), EffectError> {
        let (uid, gid) = self.owner();
        if geteuid().is_root() {
            return fchown(file, Some(uid), Some(gid)).map_err(|errno| self.failed(errno));
        }
        match fchown(file, None, Some(gid)) {
            // Not a member of that group.
            Ok(()) | Err(Errno::EPERM) => Ok(()),
            Err(errno) => Err(self.failed(errno)),
        }
    }

    fn failed(&self, errno: Errno) -> EffectError {
        write_error("write", self.path, errno)
    }

    fn damaged(&self) -> EffectError {
        EffectError::Content {
            path: self.path.to_string(),
        }
    }
}

/// A new file is as open as the directory that it is in, and never writable for everybody.
fn new_mode(directory: u32, executable: bool) -> u32 {
    let most = if executable { 0o777 } else { 0o666 };
    most & directory & !0o002
}
