//! The bounded copy of the user's folder, or of what is selected of it.
//!
//! The user may go on working in the folder: what vanishes meanwhile is skipped, and the recorder is told what the copy
//! holds, not what the folder held. Nothing is followed and nothing but regular files, directories and links is copied.
//! Directories keep mode 0700 until all is written, so that a half-made copy can always be removed, which it is on any
//! error.

pub use crate::workspace::bounds::{CopyError, CopyLimits};
use crate::workspace::removal::HalfMade;
use crate::workspace::selection::{self, Remark, Selecting, Selection};
use crate::workspace::tree::{Directory, HardLinks, Next, Node, Tree, TreeError, Visit, Visitor, errno_of};
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat};
use nix::sys::stat::{FileStat, Mode, UtimensatFlags, fchmod, fstat, futimens, mkdirat, utimensat};
use nix::sys::time::TimeSpec;
use nix::unistd::{Gid, Uid, fchown, fchownat, symlinkat};
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{Read, Seek, Write};
use std::ops::ControlFlow;
use std::os::fd::{AsFd, AsRawFd};
use std::path::{Path, PathBuf};

/// How much is read at once, in bytes.
const PIECE: usize = 128 << 10;

/// Whom the copy belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CopyOwner {
    /// Us.
    Caller,
    /// This user of the host; needs the right to give files away.
    User { uid: u32, gid: u32 },
}

/// How far a copy is. The totals were counted before; a folder that changes may end elsewhere.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Progress {
    pub files: u64,
    pub bytes: u64,
    pub total_files: u64,
    pub total_bytes: u64,
}

/// What was not copied.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Skipped {
    /// Sockets, FIFOs and devices.
    pub special: u64,
    /// Gone, or something else, when it was their turn.
    pub vanished: u64,
    /// Files and directories that we may not read.
    pub unreadable: u64,
    /// The first few unreadable ones.
    pub unreadable_paths: Vec<PathBuf>,
    /// By why it was not taken.
    pub remarks: BTreeMap<Remark, Several>,
}

/// So many, of which one is named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Several {
    pub count: u64,
    pub first: PathBuf,
}

/// How many unreadable paths are named.
const MAX_NAMED: usize = 16;

/// Told of every file and link of the copy as it arrived there.
pub trait Recorder {
    fn symlink(&mut self, path: PathBuf, target: PathBuf);

    /// A file's content follows; it had this size when it was opened, and may have another by now.
    fn begin_file(&mut self, size: u64);

    fn piece(&mut self, piece: &[u8]);

    /// It is all there, `size` bytes.
    fn end_file(&mut self, path: PathBuf, mode: u32, size: u64);
}

/// What is copied, where to and how.
#[derive(Debug, Clone)]
pub struct CopyJob {
    pub source: PathBuf,
    /// Must not exist; its parent must, and be ours alone.
    pub destination: PathBuf,
    pub selection: Selection,
    pub limits: CopyLimits,
    pub owner: CopyOwner,
}

/// Makes a copy. Blocks: not for a runtime thread. `progress` is called after every entry and piece; breaking cancels.
pub fn take(
    job: &CopyJob,
    recorder: &mut dyn Recorder,
    progress: &mut dyn FnMut(Progress) -> ControlFlow<()>,
) -> Result<Skipped, CopyError> {
    let CopyJob {
        source,
        destination,
        limits,
        owner,
        ..
    } = job;
    let tree = Tree::open(source)?;
    let written = |errno| CopyError::Write {
        path: destination.clone(),
        errno,
    };
    nix::unistd::mkdir(destination, Mode::S_IRWXU).map_err(written)?;
    let half_made = HalfMade::new(vec![destination.clone()]);
    let target = Tree::open(destination)?;
    let root = target.directory(Path::new("")).map_err(written)?;
    let root_stat = fstat(&root).map_err(written)?;

    let max_files = limits.files.value;
    let mut census = Census {
        avoid: (root_stat.st_dev, root_stat.st_ino),
        source,
        files: 0,
        bytes: 0,
    };
    walk(&tree, job, &mut census)?;
    if census.bytes > limits.bytes.value.bytes() {
        return Err(limits.too_many_bytes(source, census.bytes));
    }

    let source_stat = fstat(tree.directory(Path::new("")).map_err(|errno| TreeError::Unreadable {
        path: source.to_owned(),
        errno,
    })?);
    let source_stat = source_stat.map_err(|errno| TreeError::Unreadable {
        path: source.to_owned(),
        errno,
    })?;
    let mut copier = Copier {
        source,
        target: &target,
        limits,
        owner: *owner,
        recorder,
        progress,
        done: Progress {
            total_files: census.files.min(max_files),
            total_bytes: census.bytes,
            ..Progress::default()
        },
        cloning: Cloning::Untried,
        parent: (PathBuf::new(), root),
        directories: vec![(PathBuf::new(), source_stat)],
        skipped: Skipped::default(),
        piece: vec![0; PIECE],
    };
    walk(&tree, job, &mut copier)?;
    copier.finish_directories()?;
    let skipped = copier.skipped;
    half_made.keep();
    Ok(skipped)
}

fn walk<V: Selecting<Error = CopyError>>(tree: &Tree, job: &CopyJob, visitor: &mut V) -> Result<(), CopyError> {
    let limit = job.limits.files.value;
    selection::walk(tree, &job.selection, limit, visitor).map_err(|error| match error {
        CopyError::Source(TreeError::TooManyEntries { .. }) => CopyError::TooManyFiles {
            source_path: job.source.clone(),
            limit,
            origin: job.limits.files.origin.to_string(),
        },
        other => other,
    })
}

/// Counts first: an error can then say how much there is, and a progress bar how much is left.
struct Census<'s> {
    /// The destination's device and inode.
    avoid: (u64, u64),
    source: &'s Path,
    files: u64,
    bytes: u64,
}

impl Visitor for Census<'_> {
    type Error = CopyError;

    fn visit(&mut self, visit: Visit<'_>) -> Result<Next, CopyError> {
        if (visit.stat.st_dev, visit.stat.st_ino) == self.avoid {
            return Err(CopyError::Nested {
                source_path: self.source.to_owned(),
            });
        }
        self.files += 1;
        if let Node::File { size, .. } = visit.node {
            self.bytes = self.bytes.saturating_add(size);
        }
        Ok(Next::Enter)
    }

    fn blocked(&mut self, _: &Path, _: Errno) -> Result<(), CopyError> {
        Ok(())
    }
}

impl Selecting for Census<'_> {
    // The copier is told as well.
    fn remark(&mut self, _: &Path, _: Remark) {}
}

/// Whether the file system shares blocks between files (FICLONE).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cloning {
    Untried,
    Impossible,
}

struct Copier<'c> {
    source: &'c Path,
    target: &'c Tree,
    limits: &'c CopyLimits,
    owner: CopyOwner,
    recorder: &'c mut dyn Recorder,
    progress: &'c mut dyn FnMut(Progress) -> ControlFlow<()>,
    done: Progress,
    cloning: Cloning,
    /// The directory of the copy that was last written to.
    parent: (PathBuf, Directory),
    /// What each directory of the copy gets at the end, parents first.
    directories: Vec<(PathBuf, FileStat)>,
    skipped: Skipped,
    piece: Vec<u8>,
}

impl Visitor for Copier<'_> {
    type Error = CopyError;

    fn visit(&mut self, visit: Visit<'_>) -> Result<Next, CopyError> {
        self.open_parent(&visit.path)?;
        match visit.node {
            Node::Directory { .. } => {
                mkdirat(&self.parent.1, visit.name, Mode::S_IRWXU)
                    .map_err(|errno| self.write_error(&visit.path, errno))?;
                self.directories.push((visit.path, visit.stat));
            }
            Node::File { .. } => self.file(&visit)?,
            Node::Symlink => self.symlink(&visit)?,
            Node::Special => self.skipped.special += 1,
        }
        self.done.files += 1;
        self.report()?;
        Ok(Next::Enter)
    }

    fn blocked(&mut self, directory: &Path, errno: Errno) -> Result<(), CopyError> {
        self.skip(directory, errno)
    }

    fn vanished(&mut self) {
        self.skipped.vanished += 1;
    }
}

impl Selecting for Copier<'_> {
    fn remark(&mut self, path: &Path, remark: Remark) {
        let several = self.skipped.remarks.entry(remark).or_insert_with(|| Several {
            count: 0,
            first: path.to_owned(),
        });
        several.count += 1;
    }
}

impl Copier<'_> {
    fn open_parent(&mut self, path: &Path) -> Result<(), CopyError> {
        let parent = path.parent().unwrap_or(Path::new(""));
        if self.parent.0 != parent {
            let opened = self
                .target
                .directory(parent)
                .map_err(|errno| self.write_error(parent, errno))?;
            self.parent = (parent.to_owned(), opened);
        }
        Ok(())
    }

    fn file(&mut self, visit: &Visit<'_>) -> Result<(), CopyError> {
        let mut from = match visit.directory.file(visit.name, &visit.path, HardLinks::Allowed) {
            Ok(file) => file,
            Err(TreeError::Unreadable { errno, .. }) => return self.skip(&visit.path, errno),
            // Something else took its name.
            Err(_) => return self.skip(&visit.path, Errno::ENOENT),
        };
        let failed = |errno| self.write_error(&visit.path, errno);
        // What was opened counts, not what was seen by name before.
        let stat = fstat(&from).map_err(failed)?;
        let flags = OFlag::O_RDWR | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let to = openat(&self.parent.1, visit.name, flags, Mode::S_IRUSR | Mode::S_IWUSR).map_err(failed)?;
        let mut to = File::from(to);
        self.recorder.begin_file(u64::try_from(stat.st_size).unwrap_or(0));
        let size = self.content(&mut from, &mut to, &visit.path)?;
        let mode = self.finish(&to, &stat, &visit.path)?;
        self.recorder.end_file(visit.path.clone(), mode, size);
        Ok(())
    }

    /// Moves the content over and says how much arrived.
    fn content(&mut self, from: &mut File, to: &mut File, path: &Path) -> Result<u64, CopyError> {
        if self.cloning == Cloning::Untried {
            match clone_blocks(from, to) {
                Ok(()) => {
                    // The clone is recorded, not the source: that may have changed since.
                    to.rewind().map_err(|error| self.write_error(path, errno_of(&error)))?;
                    return self.pass(to, None, path);
                }
                // Not on this file system, or not between these two: the same for all other files.
                Err(_) => self.cloning = Cloning::Impossible,
            }
        }
        self.pass(from, Some(to), path)
    }

    /// Shows all there is to the recorder, and writes it into `to` where there is one.
    fn pass(&mut self, from: &mut File, mut to: Option<&mut File>, path: &Path) -> Result<u64, CopyError> {
        let mut size = 0;
        loop {
            let read = match from.read(&mut self.piece) {
                Ok(read) => read,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(error) => {
                    let (path, errno) = (path.to_owned(), errno_of(&error));
                    return Err(TreeError::Unreadable { path, errno }.into());
                }
            };
            let piece = self.piece.get(..read).unwrap_or_default();
            if piece.is_empty() {
                return Ok(size);
            }
            self.recorder.piece(piece);
            if let Some(to) = &mut to {
                to.write_all(piece)
                    .map_err(|error| self.write_error(path, errno_of(&error)))?;
            }
            size += read as u64;
            self.done.bytes += read as u64;
            // Counted again while it arrives: the folder may have grown since the census.
            if self.done.bytes > self.limits.bytes.value.bytes() {
                return Err(self.limits.too_many_bytes(self.source, self.done.bytes));
            }
            self.report()?;
        }
    }

    fn symlink(&mut self, visit: &Visit<'_>) -> Result<(), CopyError> {
        let target = match visit.directory.link_target(visit.name) {
            Ok(target) => target,
            Err(errno) => return self.skip(&visit.path, errno),
        };
        let failed = |errno| self.write_error(&visit.path, errno);
        symlinkat(&target, &self.parent.1, visit.name).map_err(failed)?;
        self.own_link(visit.name).map_err(failed)?;
        let (accessed, modified) = times(&visit.stat);
        utimensat(
            &self.parent.1,
            visit.name,
            &accessed,
            &modified,
            UtimensatFlags::NoFollowSymlink,
        )
        .map_err(failed)?;
        self.recorder.symlink(visit.path.clone(), target);
        Ok(())
    }

    fn own_link(&self, name: &OsStr) -> Result<(), Errno> {
        match self.owner {
            CopyOwner::Caller => Ok(()),
            CopyOwner::User { uid, gid } => {
                let (uid, gid) = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
                fchownat(&self.parent.1, name, uid, gid, AtFlags::AT_SYMLINK_NOFOLLOW)
            }
        }
    }

    /// Gives a written file or directory its owner, mode and times; says which mode.
    fn finish(&self, made: impl AsFd, stat: &FileStat, path: &Path) -> Result<u32, CopyError> {
        let failed = |errno| self.write_error(path, errno);
        if let CopyOwner::User { uid, gid } = self.owner {
            fchown(&made, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid))).map_err(failed)?;
        }
        // Without setuid, setgid and sticky, which have no meaning for a copy that another user owns.
        let mode = stat.st_mode & 0o777;
        fchmod(&made, Mode::from_bits_truncate(mode)).map_err(failed)?;
        // Builds compare times; git's index does too.
        let (accessed, modified) = times(stat);
        futimens(&made, &accessed, &modified).map_err(failed)?;
        Ok(mode)
    }

    fn finish_directories(&mut self) -> Result<(), CopyError> {
        // Children first: writing into a directory changes its time, and its final mode may forbid entering it.
        for (path, stat) in std::mem::take(&mut self.directories).into_iter().rev() {
            let made = self
                .target
                .directory(&path)
                .map_err(|errno| self.write_error(&path, errno))?;
            self.finish(&made, &stat, &path)?;
        }
        Ok(())
    }

    fn skip(&mut self, path: &Path, errno: Errno) -> Result<(), CopyError> {
        let skipped = &mut self.skipped;
        match errno {
            Errno::EACCES | Errno::EPERM => {
                skipped.unreadable += 1;
                if skipped.unreadable_paths.len() < MAX_NAMED {
                    skipped.unreadable_paths.push(path.to_owned());
                }
                Ok(())
            }
            // Removed, or replaced by another kind of thing: ELOOP is a link under O_NOFOLLOW, EINVAL no link under
            // readlink, ENXIO a socket.
            Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP | Errno::EINVAL | Errno::ENXIO => {
                skipped.vanished += 1;
                Ok(())
            }
            errno => Err(CopyError::Source(TreeError::Unreadable {
                path: path.to_owned(),
                errno,
            })),
        }
    }

    fn report(&mut self) -> Result<(), CopyError> {
        match (self.progress)(self.done) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => Err(CopyError::Cancelled),
        }
    }

    fn write_error(&self, path: &Path, errno: Errno) -> CopyError {
        CopyError::Write {
            path: self.target.path().join(path),
            errno,
        }
    }
}

fn times(stat: &FileStat) -> (TimeSpec, TimeSpec) {
    (
        TimeSpec::new(stat.st_atime, stat.st_atime_nsec),
        TimeSpec::new(stat.st_mtime, stat.st_mtime_nsec),
    )
}

/// Makes `to` share all of `from`'s blocks, copy-on-write (ioctl_ficlonerange(2)).
#[expect(unsafe_code, reason = "nix has no wrapper for FICLONE")]
fn clone_blocks(from: &File, to: &File) -> Result<(), Errno> {
    // SAFETY: FICLONE takes a descriptor number and no pointer; both descriptors are open for the whole call.
    let result = unsafe { nix::libc::ioctl(to.as_raw_fd(), nix::libc::FICLONE, from.as_raw_fd()) };
    Errno::result(result).map(drop)
}

#[cfg(test)]
mod tests;
