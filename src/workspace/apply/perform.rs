//! Carries steps out in the user's folder, so that they can be taken up again after any end of this process.
//!
//! New content is staged beside its place under a name of ours and synchronised before the journal is committed; after
//! that every step is a single rename, unlink, mkdir or chmod, done only while the path still is what was decided on, and
//! done again without harm. What the user changed in between is left as it is and reported: a rename can not ask
//! what it replaces, so a write within the microseconds between look and rename is lost, as with any editor.
//!
//! Never follows a link, never leaves the folder, and touches no name that is neither in the journal's steps nor ours.

use crate::workspace::apply::content::Contents;
use crate::workspace::apply::decide::{Found, State, Step};
use crate::workspace::apply::host::{HostError, HostFolder, attributes};
use crate::workspace::apply::journal::{Journal, OURS, Staged, Task};
use crate::workspace::apply::new_file::New;
use crate::workspace::apply::path::RelativePath;
use crate::workspace::tree::{Directory, HardLinks, errno_of};
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, RenameFlags, openat, renameat, renameat2};
use nix::sys::stat::{Mode, fchmod, fstat, fstatat, mkdirat};
use nix::unistd::{AccessFlags, Gid, Uid, UnlinkatFlags, faccessat, fchown, fsync, geteuid, syncfs, unlinkat};
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::time::Instant;

/// Up to so many files or directories each is synchronised by itself; beyond that their whole file systems are, which is
/// faster for many and may be slow on a busy machine for few.
const FEW: usize = 64;

#[derive(Debug, thiserror::Error)]
pub enum EffectError {
    #[error(transparent)]
    Host(#[from] HostError),
    #[error("can't {what} {path}: {errno}")]
    Write {
        what: &'static str,
        path: String,
        errno: Errno,
    },
    #[error("the content of {path} is not what the session's git directory names; its record is damaged")]
    Content { path: String },
    #[error("there was not enough time to write all files")]
    Late,
}

/// Why a step was left undone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Left {
    #[error("it changed on the host while the changes were being written, and stays as it is there")]
    Changed,
    #[error("the new content was removed from beside its place before it was used")]
    Lost,
}

/// Gives each step that needs one a name to prepare its content under.
pub fn tasks(steps: Vec<Step>, apply: &str, nearest: impl Fn(&RelativePath) -> Option<RelativePath>) -> Vec<Task> {
    let numbered = steps.into_iter().enumerate().map(|(number, step)| {
        let name = format!("{OURS}{apply}-{number}");
        let directory = match &step {
            Step::Put { path, .. } => Some(nearest(path)),
            // Its parent may only be there once the step before it is done.
            Step::MakeDirectory { path } => Some(path.parent()),
            Step::Remove { .. } | Step::RemoveDirectory { .. } | Step::SetExecutable { .. } => None,
        };
        let staged = directory.map(|directory| Staged { directory, name });
        Task { step, staged }
    });
    numbered.collect()
}

/// Writes all new content beside its place and synchronises it; makes sure that what goes away may be removed.
pub fn stage(
    folder: &HostFolder,
    journal: &Journal,
    contents: &Contents,
    deadline: Instant,
) -> Result<(), EffectError> {
    let owner = fstat(open(folder, None)?).map_err(|errno| write_error("look at", ".", errno))?;
    let owner = attributes(&owner);
    let puts = journal
        .tasks
        .iter()
        .filter(|task| matches!(task.step, Step::Put { .. }))
        .count();
    let mut directories = BTreeSet::new();
    for task in &journal.tasks {
        if Instant::now() >= deadline {
            return Err(EffectError::Late);
        }
        match (&task.step, &task.staged) {
            (
                Step::Put {
                    path, after, replaces, ..
                },
                Some(staged),
            ) => {
                let directory = open(folder, staged.directory.as_ref())?;
                let new = New {
                    path,
                    name: staged.as_ref(),
                    replaces: *replaces,
                    owner,
                };
                let written = new.write(&directory, folder, after, contents)?;
                if puts <= FEW
                    && let Some(file) = written
                {
                    file.sync_all()
                        .map_err(|error| write_error("synchronise", path, errno_of(&error)))?;
                }
                directories.insert(staged.directory.clone());
            }
            (Step::Remove { path, .. } | Step::RemoveDirectory { path }, _) => {
                let directory = open(folder, path.parent().as_ref())?;
                may_write(&directory).map_err(|errno| write_error("remove", path, errno))?;
            }
            (Step::SetExecutable { path, .. }, _) => {
                let directory = open(folder, path.parent().as_ref())?;
                may_change_mode(&directory, path.name())
                    .map_err(|errno| write_error("change the mode of", path, errno))?;
            }
            (Step::MakeDirectory { .. } | Step::Put { .. }, _) => {}
        }
    }
    let extent = if puts <= FEW { Extent::Entries } else { Extent::Contents };
    synchronise(folder, &directories, extent)
}

fn may_write(directory: &Directory) -> Result<(), Errno> {
    faccessat(
        directory,
        ".",
        AccessFlags::W_OK | AccessFlags::X_OK,
        AtFlags::AT_EACCESS,
    )
}

/// A mode is its owner's to change, whoever may write.
fn may_change_mode(directory: &Directory, name: &OsStr) -> Result<(), Errno> {
    if may_write(directory) == Err(Errno::EROFS) {
        return Err(Errno::EROFS);
    }
    let owner = fstatat(directory, name, AtFlags::AT_SYMLINK_NOFOLLOW)?.st_uid;
    if geteuid().is_root() || owner == geteuid().as_raw() {
        Ok(())
    } else {
        Err(Errno::EPERM)
    }
}

/// Removes what was staged. What is not there is not missed.
pub fn unstage(folder: &HostFolder, journal: &Journal) -> Result<(), EffectError> {
    journal
        .tasks
        .iter()
        .filter_map(|task| task.staged.as_ref())
        .try_for_each(|staged| discard(folder, staged))
}

fn discard(folder: &HostFolder, staged: &Staged) -> Result<(), EffectError> {
    let directory = match folder.directory(staged.directory.as_ref()) {
        Ok(directory) => directory,
        // With its directory the file is gone.
        Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP) => return Ok(()),
        Err(errno) => return Err(write_error("remove", &staged.name, errno)),
    };
    let removed = match unlinkat(&directory, staged.name.as_str(), UnlinkatFlags::NoRemoveDir) {
        Err(Errno::EISDIR) => unlinkat(&directory, staged.name.as_str(), UnlinkatFlags::RemoveDir),
        removed => removed,
    };
    match removed {
        Ok(()) | Err(Errno::ENOENT) => Ok(()),
        Err(errno) => Err(write_error("remove", &staged.name, errno)),
    }
}

/// Does what a committed journal says, as far as it is not done. What is reported is left as the user has it; after an
/// error the journal has to stay, and all can be done again.
pub fn carry_out(folder: &HostFolder, journal: &Journal) -> Result<Vec<(RelativePath, Left)>, EffectError> {
    let becomes_directory: BTreeSet<&RelativePath> = journal
        .tasks
        .iter()
        .filter(|task| matches!(task.step, Step::MakeDirectory { .. }))
        .map(|task| task.step.path())
        .collect();
    let mut left = Vec::new();
    let mut touched = BTreeSet::new();
    for task in &journal.tasks {
        let path = task.step.path();
        let done = match &task.step {
            Step::Remove { before, .. } => remove(folder, path, before, becomes_directory.contains(path))?,
            Step::RemoveDirectory { .. } => remove_directory(folder, path)?,
            Step::MakeDirectory { .. } => make_directory(folder, path, task.staged.as_ref())?,
            Step::Put { before, after, .. } => put(folder, path, before, after, task.staged.as_ref())?,
            Step::SetExecutable {
                before, after, mode, ..
            } => set_mode(folder, path, before, after, *mode)?,
        };
        touched.insert(path.parent());
        if let Err(reason) = done {
            left.push((path.clone(), reason));
        }
    }
    let removed = journal
        .tasks
        .iter()
        .filter(|task| matches!(task.step, Step::Remove { .. }));
    for task in removed {
        prune(folder, task.step.path(), &mut touched)?;
    }
    synchronise(folder, &touched, Extent::Entries)?;
    Ok(left)
}

type Done = Result<(), Left>;

fn remove(
    folder: &HostFolder,
    path: &RelativePath,
    before: &State,
    becomes_directory: bool,
) -> Result<Done, EffectError> {
    match folder.look(path)? {
        Found::Nothing => Ok(Ok(())),
        Found::Directory if becomes_directory => Ok(Ok(())),
        found if is(&found, before) => {
            let directory = open(folder, path.parent().as_ref())?;
            match unlinkat(&directory, path.name(), UnlinkatFlags::NoRemoveDir) {
                Ok(()) | Err(Errno::ENOENT) => Ok(Ok(())),
                Err(errno) => Err(write_error("remove", path, errno)),
            }
        }
        _ => Ok(Err(Left::Changed)),
    }
}

/// One that is not empty stays; what was to be put in its place then says so.
fn remove_directory(folder: &HostFolder, path: &RelativePath) -> Result<Done, EffectError> {
    let removed = folder
        .directory(path.parent().as_ref())
        .and_then(|directory| unlinkat(&directory, path.name(), UnlinkatFlags::RemoveDir));
    match removed {
        Ok(()) => Ok(Ok(())),
        Err(errno) if stays(errno) => Ok(Ok(())),
        Err(errno) => Err(write_error("remove", path, errno)),
    }
}

/// Why a directory is not removed, where that is no failure: gone, something else, or in use.
fn stays(errno: Errno) -> bool {
    matches!(
        errno,
        Errno::ENOENT
            | Errno::ENOTDIR
            | Errno::ELOOP
            | Errno::ENOTEMPTY
            | Errno::EEXIST
            | Errno::EBUSY
            // A name that this file system can't hold: finishing later would not either.
            | Errno::EINVAL
            | Errno::EILSEQ
            | Errno::ENAMETOOLONG
    )
}

/// A directory appears with its owner and mode, or not at all: made under a name of ours and renamed.
fn make_directory(folder: &HostFolder, path: &RelativePath, staged: Option<&Staged>) -> Result<Done, EffectError> {
    match folder.look(path)? {
        Found::Nothing => {}
        // It was made before, or by the user; whatever else is there, what was to be put below says so.
        _ => return Ok(Ok(())),
    }
    let Some(staged) = staged else {
        return Ok(Err(Left::Lost));
    };
    let parent = match folder.directory(path.parent().as_ref()) {
        Ok(parent) => parent,
        Err(errno) if stays(errno) => return Ok(Ok(())),
        Err(errno) => return Err(write_error("make", path, errno)),
    };
    // What an earlier process left.
    discard(folder, staged)?;
    let made = (|| {
        let like = fstat(&parent)?;
        let owner = fstat(folder.directory(None)?)?;
        mkdirat(&parent, staged.name.as_str(), Mode::S_IRWXU)?;
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let new = openat(&parent, staged.name.as_str(), flags, Mode::empty())?;
        if geteuid().is_root() {
            fchown(
                &new,
                Some(Uid::from_raw(owner.st_uid)),
                Some(Gid::from_raw(owner.st_gid)),
            )?;
        }
        // Without the sticky bit of a shared directory above, what everybody may write everybody could replace.
        fchmod(&new, Mode::from_bits_truncate(like.st_mode & 0o2775))?;
        rename_new(&parent, staged.as_ref(), &parent, path.name())
    })();
    match made {
        Ok(()) => Ok(Ok(())),
        Err(errno) => {
            discard(folder, staged)?;
            if stays(errno) {
                Ok(Ok(()))
            } else {
                Err(write_error("make", path, errno))
            }
        }
    }
}

fn put(
    folder: &HostFolder,
    path: &RelativePath,
    before: &State,
    after: &State,
    staged: Option<&Staged>,
) -> Result<Done, EffectError> {
    let Some(staged) = staged else {
        return Ok(Err(Left::Lost));
    };
    let found = folder.look(path)?;
    if is(&found, after) {
        discard(folder, staged)?;
        return Ok(Ok(()));
    }
    if !is(&found, before) {
        discard(folder, staged)?;
        return Ok(Err(Left::Changed));
    }
    let from = match folder.directory(staged.directory.as_ref()) {
        Ok(from) => from,
        Err(errno) if stays(errno) => return Ok(Err(Left::Lost)),
        Err(errno) => return Err(write_error("write", path, errno)),
    };
    let ready = folder.look_at(&from, staged.as_ref(), path)?;
    if !is(&ready, after) {
        discard(folder, staged)?;
        return Ok(Err(Left::Lost));
    }
    let renamed = folder.directory(path.parent().as_ref()).and_then(|to| match before {
        State::Absent => rename_new(&from, staged.as_ref(), &to, path.name()),
        _ => renameat(&from, staged.name.as_str(), &to, path.name()),
    });
    match renamed {
        Ok(()) => Ok(Ok(())),
        Err(errno) if stays(errno) || errno == Errno::EISDIR => {
            discard(folder, staged)?;
            Ok(Err(Left::Changed))
        }
        Err(errno) => Err(write_error("write", path, errno)),
    }
}

/// A rename to a name that nothing has. File systems that can't promise that (NFS) get a plain one: it was looked before.
fn rename_new(from: &Directory, old: &OsStr, to: &Directory, new: &OsStr) -> Result<(), Errno> {
    match renameat2(from, old, to, new, RenameFlags::RENAME_NOREPLACE) {
        Err(Errno::EINVAL | Errno::ENOSYS) => renameat(from, old, to, new),
        renamed => renamed,
    }
}

fn set_mode(
    folder: &HostFolder,
    path: &RelativePath,
    before: &State,
    after: &State,
    mode: u32,
) -> Result<Done, EffectError> {
    let found = folder.look(path)?;
    if is(&found, after) {
        return Ok(Ok(()));
    }
    if !is(&found, before) {
        return Ok(Err(Left::Changed));
    }
    let Ok(file) = folder.tree().file(path.as_path(), HardLinks::Allowed) else {
        return Ok(Err(Left::Changed));
    };
    fchmod(&file, Mode::from_bits_truncate(mode))
        .and_then(|()| fsync(&file))
        .map_err(|errno| write_error("change the mode of", path, errno))?;
    Ok(Ok(()))
}

/// Removes the directories that a removal left empty, innermost first, as git does.
fn prune(
    folder: &HostFolder,
    removed: &RelativePath,
    touched: &mut BTreeSet<Option<RelativePath>>,
) -> Result<(), EffectError> {
    let mut directory = removed.parent();
    while let Some(path) = directory {
        let gone = folder
            .directory(path.parent().as_ref())
            .and_then(|parent| unlinkat(&parent, path.name(), UnlinkatFlags::RemoveDir));
        match gone {
            // ENOENT: an earlier removal, or an earlier process, got here; what is above may be empty still.
            Ok(()) | Err(Errno::ENOENT) => touched.insert(path.parent()),
            Err(errno) if stays(errno) => break,
            Err(errno) => return Err(write_error("remove", &path, errno)),
        };
        directory = path.parent();
    }
    Ok(())
}

/// Whether what was found is this state.
fn is(found: &Found, state: &State) -> bool {
    match (found, state) {
        (Found::Nothing, State::Absent) => true,
        (Found::File(file), State::File { id, executable }) => {
            file.id == *id && file.attributes.is_executable() == *executable
        }
        (Found::Symlink { id: there }, State::Symlink { id }) => there == id,
        _ => false,
    }
}

/// What has to outlive the machine's end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Extent {
    /// The directories' entries.
    Entries,
    /// Those, and the content of the files in them.
    Contents,
}

fn synchronise(
    folder: &HostFolder,
    directories: &BTreeSet<Option<RelativePath>>,
    extent: Extent,
) -> Result<(), EffectError> {
    let by_itself = extent == Extent::Entries && directories.len() <= FEW;
    let mut devices = BTreeSet::new();
    for path in directories {
        // Gone: so is what was to be kept in it.
        let Ok(directory) = folder.directory(path.as_ref()) else {
            continue;
        };
        let synchronised = if by_itself {
            fsync(&directory)
        } else {
            fstat(&directory).and_then(|stat| {
                if devices.insert(stat.st_dev) {
                    syncfs(&directory)
                } else {
                    Ok(())
                }
            })
        };
        synchronised.map_err(|errno| {
            let shown = path.as_ref().map_or_else(|| ".".to_owned(), RelativePath::to_string);
            write_error("synchronise", &shown, errno)
        })?;
    }
    Ok(())
}

fn open(folder: &HostFolder, path: Option<&RelativePath>) -> Result<Directory, EffectError> {
    let shown = || path.map_or_else(|| ".".to_owned(), RelativePath::to_string);
    folder
        .directory(path)
        .map_err(|errno| write_error("open", &shown(), errno))
}

pub fn write_error(what: &'static str, path: &(impl ToString + ?Sized), errno: Errno) -> EffectError {
    EffectError::Write {
        what,
        path: path.to_string(),
        errno,
    }
}
