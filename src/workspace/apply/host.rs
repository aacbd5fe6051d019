//! What the user's folder holds now, looked at by descriptor.
//!
//! The folder is the user's and changes at any moment; what a hostile repository planted in it (`dir` → `/etc`) is not
//! followed: every directory is opened beneath the root without links ([`Tree`]), and everything in it by its name in
//! that directory. This module only reads.

use crate::workspace::apply::decide::{Attributes, Change, Found, HostFacts, HostFile, Occupants, State};
use crate::workspace::apply::path::RelativePath;
use crate::workspace::blob::{BlobHasher, blob_id};
use crate::workspace::git::directory::Parts;
use crate::workspace::git::{ObjectFormat, ObjectId};
use crate::workspace::tree::{Directory, HardLinks, Next, Node, Tree, TreeError, Visit, Visitor, errno_of};
use nix::errno::Errno;
use nix::fcntl::AtFlags;
use nix::sys::stat::{FileStat, SFlag, fstat, fstatat};
use serde::{Deserialize, Serialize};
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// How many entries are looked at to see what lies in a directory that is to make way.
const MAX_OCCUPANTS: u64 = 100_000;
/// How much is read at once, in bytes.
const PIECE: usize = 128 << 10;

#[derive(Debug, thiserror::Error)]
pub enum HostError {
    #[error("can't open {}: {errno}; the changes stay with the session and can be applied when it is back", path.display())]
    Gone { path: PathBuf, errno: Errno },
    #[error("can't read {path} in {}: {errno}", folder.display())]
    Read {
        folder: PathBuf,
        path: String,
        errno: Errno,
    },
}

/// The user's folder.
#[derive(Debug)]
pub struct HostFolder {
    tree: Tree,
    format: ObjectFormat,
}

/// What tells a folder from another one that has its name now, or its inode: file systems use those again at once. Not the device: that
/// may have another number after a reboot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct FolderIdentity {
    inode: u64,
    /// Seconds and nanoseconds since 1970; `None` where the file system does not say.
    born: Option<(u64, u32)>,
}

impl HostFolder {
    /// `path` is canonical.
    pub fn open(path: &Path, format: ObjectFormat) -> Result<Self, HostError> {
        let gone = |errno| HostError::Gone {
            path: path.to_owned(),
            errno,
        };
        let tree = Tree::open(path).map_err(|error| match error {
            TreeError::Unreadable { errno, .. } => gone(errno),
            _ => gone(Errno::ENOTDIR),
        })?;
        Ok(Self { tree, format })
    }

    pub fn format(&self) -> ObjectFormat {
        self.format
    }

    /// Which directory it is, whatever its name is by now.
    pub fn identity(&self) -> Result<FolderIdentity, HostError> {
        let gone = |errno| HostError::Gone {
            path: self.tree.path().to_owned(),
            errno,
        };
        let directory = self.directory(None).map_err(gone)?;
        let opened = directory.as_fd().try_clone_to_owned();
        let metadata = opened.and_then(|opened| std::fs::File::from(opened).metadata());
        let metadata = metadata.map_err(|error| gone(errno_of(&error)))?;
        let born = metadata.created().ok();
        let born = born.and_then(|born| born.duration_since(std::time::UNIX_EPOCH).ok());
        Ok(FolderIdentity {
            inode: metadata.ino(),
            born: born.map(|born| (born.as_secs(), born.subsec_nanos())),
        })
    }

    pub fn tree(&self) -> &Tree {
        &self.tree
    }

    /// A directory in it; `None` is the folder itself.
    pub fn directory(&self, path: Option<&RelativePath>) -> Result<Directory, Errno> {
        self.tree.directory(path.map_or(Path::new(""), RelativePath::as_path))
    }

    /// What is at a path. Nothing is where its directory is no directory, or no longer there.
    pub fn look(&self, path: &RelativePath) -> Result<Found, HostError> {
        match self.directory(path.parent().as_ref()) {
            Ok(directory) => self.look_in(&directory, path),
            Err(errno) => self.unseen(path, errno),
        }
    }

    /// [`Self::look`] in its directory, under whatever name `path` ends with.
    fn look_in(&self, directory: &Directory, path: &RelativePath) -> Result<Found, HostError> {
        self.look_at(directory, path.name(), path)
    }

    /// What has this name in a directory; `path` is for errors.
    pub fn look_at(
        &self,
        directory: &Directory,
        name: &std::ffi::OsStr,
        path: &RelativePath,
    ) -> Result<Found, HostError> {
        let stat = match fstatat(directory, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(errno) => return self.unseen(path, errno),
        };
        match kind(&stat) {
            SFlag::S_IFDIR => Ok(Found::Directory),
            SFlag::S_IFLNK => match directory.link_target(name) {
                Ok(target) => Ok(Found::Symlink {
                    id: blob_id(self.format, target.as_os_str().as_bytes()),
                }),
                Err(errno) => self.unseen(path, errno),
            },
            SFlag::S_IFREG => match directory.file(name, path.as_path(), HardLinks::Allowed) {
                Ok(mut file) => {
                    // What was opened counts, not what was seen by name before.
                    let failed = |errno| self.failed(path, errno);
                    let stat = fstat(&file).map_err(failed)?;
                    let size = u64::try_from(stat.st_size).unwrap_or(0);
                    let id = id_of_reader(self.format, size, &mut file).map_err(|error| failed(errno_of(&error)))?;
                    Ok(Found::File(HostFile {
                        id,
                        attributes: attributes(&stat),
                    }))
                }
                Err(TreeError::Unreadable { errno, .. }) => self.unseen(path, errno),
                Err(_) => Ok(Found::Special),
            },
            _ => Ok(Found::Special),
        }
    }

    fn unseen(&self, path: &RelativePath, errno: Errno) -> Result<Found, HostError> {
        match errno {
            // ELOOP: a link took its place, or its directory's, since it was looked at.
            // The last three: a name that its file system can't hold.
            Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP | Errno::EINVAL | Errno::EILSEQ | Errno::ENAMETOOLONG => {
                Ok(Found::Nothing)
            }
            Errno::EACCES | Errno::EPERM => Ok(Found::Unreadable),
            errno => Err(self.failed(path, errno)),
        }
    }

    pub fn failed(&self, path: &RelativePath, errno: Errno) -> HostError {
        HostError::Read {
            folder: self.tree.path().to_owned(),
            path: path.to_string(),
            errno,
        }
    }

    /// Looks at all that a decision about these changes needs. The changes are in the order of their paths.
    pub fn facts<'c>(&self, changes: impl IntoIterator<Item = &'c Change>) -> Result<HostFacts, HostError> {
        let mut facts = HostFacts::default();
        // Neighbours share a directory.
        let mut open: Option<(Option<RelativePath>, Result<Directory, Errno>)> = None;
        for change in changes {
            let paths = change.path.ancestors().chain([change.path.clone()]);
            for path in paths {
                if let Some(found) = facts.found.get(&path) {
                    if *found != Found::Directory {
                        break;
                    }
                    continue;
                }
                let parent = path.parent();
                if open.as_ref().is_none_or(|(path, _)| *path != parent) {
                    let directory = self.directory(parent.as_ref());
                    if let Ok(directory) = &directory {
                        note_git(&mut facts, parent.as_ref(), directory);
                    }
                    open = Some((parent.clone(), directory));
                }
                let found = match &open {
                    Some((_, Ok(directory))) => self.look_in(directory, &path)?,
                    Some((_, Err(errno))) => self.unseen(&path, *errno)?,
                    None => Found::Nothing,
                };
                let leads_on = found == Found::Directory;
                facts.found.insert(path, found);
                if !leads_on {
                    break;
                }
            }
            if change.session != State::Absent && facts.found.get(&change.path) == Some(&Found::Directory) {
                facts
                    .occupants
                    .insert(change.path.clone(), self.occupants(&change.path));
            }
        }
        Ok(facts)
    }

    /// What lies below a directory; `None` where that is too much, or can't be seen.
    fn occupants(&self, directory: &RelativePath) -> Option<Occupants> {
        let mut listing = Listing {
            of: directory,
            occupants: Occupants::default(),
        };
        self.tree.walk(MAX_OCCUPANTS, &mut listing).ok()?;
        Some(listing.occupants)
    }
}

/// Notes what a directory has of git's.
fn note_git(facts: &mut HostFacts, path: Option<&RelativePath>, directory: &Directory) {
    let has = |name: &str| fstatat(directory, name, AtFlags::AT_SYMLINK_NOFOLLOW).is_ok();
    let parts = Parts::of(has);
    if parts != Parts::default() {
        facts.git_parts.insert(path.cloned(), parts);
    }
    if let Some(path) = path.filter(|_| has(".git")) {
        facts.repositories.insert(path.clone());
    }
}

/// The name of what a reader yields, `size` bytes as far as is known. Never reads much more than that: what grows while it is
/// read is not what was asked about, and gets a name that nothing has.
fn id_of_reader(format: ObjectFormat, size: u64, reader: &mut impl Read) -> io::Result<ObjectId> {
    let mut hasher = BlobHasher::new(format, size);
    let mut piece = vec![0; PIECE];
    let mut reader = reader.take(size.saturating_add(1));
    loop {
        match reader.read(&mut piece) {
            Ok(0) => return Ok(hasher.finish()),
            Ok(read) => hasher.update(piece.get(..read).unwrap_or_default()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

pub fn kind(stat: &FileStat) -> SFlag {
    SFlag::from_bits_truncate(stat.st_mode & SFlag::S_IFMT.bits())
}

pub fn attributes(stat: &FileStat) -> Attributes {
    Attributes {
        mode: stat.st_mode & 0o777,
        uid: stat.st_uid,
        gid: stat.st_gid,
    }
}

/// Collects what lies below one directory, and enters nothing else but the way to it.
struct Listing<'l> {
    of: &'l RelativePath,
    occupants: Occupants,
}

impl Visitor for Listing<'_> {
    type Error = TreeError;

    fn visit(&mut self, visit: Visit<'_>) -> Result<Next, TreeError> {
        let target = self.of.as_path();
        if target.starts_with(&visit.path) {
            return Ok(Next::Enter);
        }
        if !visit.path.starts_with(target) {
            return Ok(Next::Skip);
        }
        let path = RelativePath::parse(visit.path.as_os_str().as_bytes()).map_err(|_| TreeError::NotRegular {
            // A repository of its own, for one: not what the session saw or could have deleted.
            path: visit.path.clone(),
        })?;
        match visit.node {
            Node::Directory { .. } => self.occupants.directories.push(path),
            _ => self.occupants.files.push(path),
        }
        Ok(Next::Enter)
    }

    fn blocked(&mut self, directory: &Path, errno: Errno) -> Result<(), TreeError> {
        Err(TreeError::Unreadable {
            path: directory.to_owned(),
            errno,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_of_the_size_that_was_seen_is_nothing_that_was_meant() {
        let read = |size| id_of_reader(ObjectFormat::Sha1, size, &mut b"hello".as_slice()).unwrap();
        assert_eq!(read(5), blob_id(ObjectFormat::Sha1, b"hello"));
        assert_ne!(read(4), blob_id(ObjectFormat::Sha1, b"hell"));
        assert_ne!(read(6), blob_id(ObjectFormat::Sha1, b"hello"));
    }
}
