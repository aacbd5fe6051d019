//! Removes a tree that the container wrote, whatever it put there: directories without permissions, links to anywhere,
//! nesting without end.
//!
//! Never recurses and never builds a path: a directory's non-empty subdirectories are moved up to the top of the tree
//! and emptied there in their turn, so that two descriptors and one directory buffer do for any depth and any width.
//! Each is opened by one name beneath an open descriptor, through no link and into no other mount: what an engine left
//! mounted in there is an error and stays whole.
//!
//! For trees that nobody writes any more. A writer that is still there can make a removal fail or last as long as it
//! writes, and can't make it leave the tree.

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, OpenHow, ResolveFlag, open, openat, openat2, renameat};
use nix::sys::stat::{FchmodatFlags, Mode, fchmodat, fstat};
use nix::unistd::{UnlinkatFlags, unlinkat};
use std::ffi::{CStr, CString, OsStr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// What could not be done; the tree may be half removed.
#[derive(Debug, thiserror::Error)]
pub enum RemovalError {
    #[error("{} names no directory to remove", .0.display())]
    Nameless(PathBuf),
    #[error("can't open {}, where the tree is: {errno}", path.display())]
    Parent { path: PathBuf, errno: Errno },
    /// Somewhere in the tree, at a depth that a path may not be able to tell.
    #[error("can't {step} {name:?}: {errno}{}", hint(*.errno))]
    Entry {
        step: &'static str,
        name: CString,
        errno: Errno,
    },
}

fn hint(errno: Errno) -> &'static str {
    match errno {
        Errno::EXDEV | Errno::EBUSY => " (something is mounted there: unmount it)",
        _ => "",
    }
}

/// Removes what lies in the directory at `path`, but for these names. The directory itself is ours alone; what lies below it need
/// not be. One that is not there is empty.
pub fn empty_but(path: &Path, kept: &[&str]) -> Result<(), RemovalError> {
    let opened = open(
        path,
        OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC,
        Mode::empty(),
    );
    let top = match opened {
        Err(Errno::ENOENT) => return Ok(()),
        opened => opened.map_err(|errno| RemovalError::Parent {
            path: path.to_owned(),
            errno,
        })?,
    };
    let name = path.file_name().and_then(terminated);
    let name = name.ok_or_else(|| RemovalError::Nameless(path.to_owned()))?;
    let mut entries =
        Dir::openat(&top, ".", OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty()).map_err(failed("list", &name))?;
    let mut others = Vec::new();
    for entry in entries.iter() {
        let entry = entry.map_err(failed("list", &name))?.file_name().to_owned();
        let is_kept = kept.iter().any(|kept| kept.as_bytes() == entry.to_bytes());
        if !is_kept && !matches!(entry.to_bytes(), b"." | b"..") {
            others.push(entry);
        }
    }
    for other in others {
        match remove_entry(top.as_fd(), &other) {
            Ok(()) => {}
            Err(errno) if is_occupied(errno) => remove_tree(&path.join(OsStr::from_bytes(other.to_bytes())))?,
            Err(errno) => return Err(failed("remove", &other)(errno)),
        }
    }
    Ok(())
}

/// Removes the directory at `path` with everything in it. What leads to it must be the caller's own; a link in its
/// place is an error. A tree that is not there is removed.
pub fn remove_tree(path: &Path) -> Result<(), RemovalError> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(RemovalError::Nameless(path.to_owned()));
    };
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let parent = open(parent, flags, Mode::empty()).map_err(|errno| RemovalError::Parent {
        path: parent.to_owned(),
        errno,
    })?;
    let name = terminated(name).ok_or_else(|| RemovalError::Nameless(path.to_owned()))?;
    match remove_empty(parent.as_fd(), &name) {
        Err(errno) if is_occupied(errno) => {}
        removed => return removed.map_err(failed("remove", &name)),
    }
    let mut top = open_directory(parent.as_fd(), &name)?;
    let mut numbers = 0..;
    empty(&mut top, &name, |top, name| empty_at_top(top, name, &mut numbers))?;
    remove_empty(parent.as_fd(), &name).map_err(failed("remove", &name))
}

/// Removes trees that are being made, unless they are kept: what fails on the way leaves nothing. A finished part may have
/// directories that may not be written to, which is why it takes [`remove_tree`].
#[derive(Debug)]
pub struct HalfMade(Vec<PathBuf>);

impl HalfMade {
    pub fn new(paths: Vec<PathBuf>) -> Self {
        Self(paths)
    }

    pub fn keep(mut self) {
        self.0.clear();
    }
}

impl Drop for HalfMade {
    fn drop(&mut self) {
        for path in &self.0 {
            if let Err(error) = remove_tree(path) {
                tracing::warn!(path = %path.display(), %error, "what was half made could not be removed");
            }
        }
    }
}

/// Empties and removes the directory `name` of the top, having moved its own subdirectories to the top.
fn empty_at_top(top: BorrowedFd<'_>, name: &CStr, numbers: &mut impl Iterator<Item = u64>) -> Result<(), RemovalError> {
    let mut directory = open_directory(top, name)?;
    empty(&mut directory, name, |from, name| move_to_top(top, from, name, numbers))?;
    remove_empty(top, name).map_err(failed("remove", name))
}

/// Unlinks all that `directory` holds, but hands each directory that is not empty to `occupied`, which must take it away.
fn empty(
    directory: &mut Directory,
    name: &CStr,
    mut occupied: impl FnMut(BorrowedFd<'_>, &CStr) -> Result<(), RemovalError>,
) -> Result<(), RemovalError> {
    loop {
        let mut found_any = false;
        // Read again until nothing is found: a file system may skip entries while others are taken away, and what is
        // moved here meanwhile may or may not be seen.
        for entry in directory.entries.iter() {
            let entry = entry.map_err(failed("list", name))?;
            let entry_name = entry.file_name();
            if matches!(entry_name.to_bytes(), b"." | b"..") {
                continue;
            }
            found_any = true;
            match remove_entry(directory.place.as_fd(), entry_name) {
                Ok(()) => {}
                Err(errno) if is_occupied(errno) => occupied(directory.place.as_fd(), entry_name)?,
                Err(errno) => return Err(failed("remove", entry_name)(errno)),
            }
        }
        if !found_any {
            return Ok(());
        }
    }
}

/// Unlinks a name of any kind; a directory only if it is empty.
fn remove_entry(directory: BorrowedFd<'_>, name: &CStr) -> Result<(), Errno> {
    match unlinkat(directory, name, UnlinkatFlags::NoRemoveDir) {
        Ok(()) | Err(Errno::ENOENT) => Ok(()),
        // Linux says EISDIR, POSIX EPERM.
        Err(errno @ (Errno::EISDIR | Errno::EPERM)) => match remove_empty(directory, name) {
            Err(Errno::ENOTDIR) => Err(errno),
            removed => removed,
        },
        Err(errno) => Err(errno),
    }
}

fn remove_empty(directory: BorrowedFd<'_>, name: &CStr) -> Result<(), Errno> {
    match unlinkat(directory, name, UnlinkatFlags::RemoveDir) {
        Err(Errno::ENOENT) => Ok(()),
        removed => removed,
    }
}

fn is_occupied(errno: Errno) -> bool {
    matches!(errno, Errno::ENOTEMPTY | Errno::EEXIST)
}

/// Moves a directory to the top under a name that is free there.
fn move_to_top(
    top: BorrowedFd<'_>,
    from: BorrowedFd<'_>,
    name: &CStr,
    numbers: &mut impl Iterator<Item = u64>,
) -> Result<(), RemovalError> {
    // It is a non-empty directory, so nothing but an empty directory can be replaced by it, and that is no loss.
    let taken = |errno| matches!(errno, Errno::ENOTEMPTY | Errno::EEXIST | Errno::ENOTDIR);
    let mut made_ours = false;
    for number in numbers {
        let free = format!(".removing-{number}");
        match renameat(from, name, top, free.as_str()) {
            Ok(()) => return Ok(()),
            Err(errno) if taken(errno) => {}
            // Its `..` changes, so its own permissions count as well.
            Err(Errno::EACCES) if !made_ours => {
                made_ours = true;
                let _opened = open_directory(from, name)?;
                match renameat(from, name, top, free.as_str()) {
                    Ok(()) => return Ok(()),
                    Err(errno) if taken(errno) => {}
                    Err(errno) => return Err(failed("move", name)(errno)),
                }
            }
            Err(errno) => return Err(failed("move", name)(errno)),
        }
    }
    Err(failed("move", name)(Errno::EEXIST))
}

/// An open directory, twice: reading its entries has to own its descriptor.
struct Directory {
    place: OwnedFd,
    entries: Dir,
}

/// Opens a directory of ours so that its entries can be removed, giving us the permissions that it lacks.
fn open_directory(parent: BorrowedFd<'_>, name: &CStr) -> Result<Directory, RemovalError> {
    let how = OpenHow::new()
        // By O_PATH: that needs no permission on the directory itself.
        .flags(OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC)
        .resolve(
            ResolveFlag::RESOLVE_BENEATH
                | ResolveFlag::RESOLVE_NO_SYMLINKS
                | ResolveFlag::RESOLVE_NO_MAGICLINKS
                | ResolveFlag::RESOLVE_NO_XDEV,
        );
    let place = retried(|| openat2(parent, name, how)).map_err(failed("open", name))?;
    let mode = Mode::from_bits_truncate(fstat(&place).map_err(failed("look at", name))?.st_mode);
    if !mode.contains(Mode::S_IRWXU) {
        // fchmod(2) refuses an O_PATH descriptor; its link in /proc leads to that very directory, whatever its name
        // is by now.
        let link = format!("/proc/self/fd/{}", place.as_raw_fd());
        fchmodat(AT_FDCWD, link.as_str(), Mode::S_IRWXU, FchmodatFlags::FollowSymlink)
            .map_err(failed("get permissions on", name))?;
    }
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let entries = openat(&place, ".", flags, Mode::empty())
        .and_then(Dir::from_fd)
        .map_err(failed("open", name))?;
    Ok(Directory { place, entries })
}

/// EAGAIN: a rename elsewhere raced with the resolution, which the kernel could then not vouch for.
fn retried<T>(mut call: impl FnMut() -> Result<T, Errno>) -> Result<T, Errno> {
    loop {
        match call() {
            Err(Errno::EAGAIN | Errno::EINTR) => {}
            result => return result,
        }
    }
}

fn failed(step: &'static str, name: &CStr) -> impl FnOnce(Errno) -> RemovalError {
    let name = name.to_owned();
    move |errno| RemovalError::Entry { step, name, errno }
}

fn terminated(name: &OsStr) -> Option<CString> {
    CString::new(name.as_bytes()).ok().filter(|name| !name.is_empty())
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "makes the trees that are removed")]
mod tests {
    use super::*;
    use nix::sys::stat::mkdirat;
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{PermissionsExt, symlink};

    fn world() -> (tempfile::TempDir, PathBuf) {
        let world = tempfile::tempdir().unwrap();
        let tree = world.path().join("tree");
        fs::create_dir(&tree).unwrap();
        (world, tree)
    }

    /// Nests `names` below `tree`, by descriptors: such paths are longer than PATH_MAX.
    fn nest(tree: &Path, names: impl Iterator<Item = String>) -> OwnedFd {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY;
        let mut at = open(tree, flags, Mode::empty()).unwrap();
        for name in names {
            mkdirat(&at, name.as_str(), Mode::S_IRWXU).unwrap();
            at = openat(&at, name.as_str(), flags, Mode::empty()).unwrap();
        }
        at
    }

    fn write_at(directory: &OwnedFd, name: &str) {
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT;
        openat(directory, name, flags, Mode::S_IRUSR).unwrap();
    }

    #[test]
    fn nesting_deeper_than_any_path() {
        let (world, tree) = world();
        let deepest = nest(&tree, (0..3_000).map(|level| format!("level-{level}")));
        write_at(&deepest, "file");
        write_at(&nest(&tree, ["beside".to_owned()].into_iter()), "file");
        remove_tree(&tree).unwrap();
        assert_eq!(fs::read_dir(world.path()).unwrap().count(), 0);
    }

    #[test]
    fn nesting_under_our_own_working_names() {
        // Moved directories meet what already has their name: a file, an empty and a full directory.
        let (_world, tree) = world();
        fs::write(tree.join(".removing-0"), "").unwrap();
        fs::create_dir(tree.join(".removing-1")).unwrap();
        fs::create_dir_all(tree.join(".removing-2/full")).unwrap();
        for branch in ["x", "y", "z", ".removing-3"] {
            let names = [branch, ".removing-0", ".removing-1", ".removing-2", ".removing-3"];
            write_at(&nest(&tree, names.map(String::from).into_iter()), "file");
        }
        remove_tree(&tree).unwrap();
        assert!(!tree.exists());
    }

    #[test]
    fn many_files() {
        let (_world, tree) = world();
        let wide = nest(&tree, ["a".to_owned(), "b".to_owned()].into_iter());
        for number in 0..20_000 {
            write_at(&wide, &number.to_string());
        }
        remove_tree(&tree).unwrap();
        assert!(!tree.exists());
    }

    /// Root may do everything anyway: as root this test gives itself away and goes on as nobody.
    #[test]
    fn directories_without_permissions() {
        let (world, tree) = world();
        for mode in [0o000, 0o100, 0o400, 0o500, 0o555, 0o077] {
            let directory = tree.join(format!("{mode:o}"));
            fs::create_dir_all(directory.join("in/ner")).unwrap();
            fs::write(directory.join("in/file"), "").unwrap();
            fs::set_permissions(directory.join("in/ner"), Permissions::from_mode(mode)).unwrap();
            fs::set_permissions(directory.join("in"), Permissions::from_mode(mode)).unwrap();
            fs::set_permissions(&directory, Permissions::from_mode(mode)).unwrap();
        }
        fs::set_permissions(&tree, Permissions::from_mode(0o000)).unwrap();
        as_nobody(world.path(), || remove_tree(&tree).unwrap());
        assert!(!tree.exists());
    }

    #[test]
    fn what_was_half_made_goes_unless_it_is_kept() {
        let (world, tree) = world();
        let absent = world.path().join("absent");
        let finished = tree.join("finished");
        fs::create_dir(&finished).unwrap();
        fs::write(finished.join("file"), "").unwrap();
        fs::set_permissions(&finished, Permissions::from_mode(0o555)).unwrap();
        HalfMade::new(vec![tree.clone()]).keep();
        assert!(tree.exists());
        as_nobody(world.path(), || drop(HalfMade::new(vec![absent, tree.clone()])));
        assert!(!tree.exists());
    }

    /// Runs `act` without root's rights, in a thread of its own: the system call (unlike glibc's) is the thread's.
    fn as_nobody(owned: &Path, act: impl FnOnce() + Send) {
        const NOBODY: u32 = 65_534;
        let is_root = nix::unistd::geteuid().is_root();
        if is_root {
            give(owned, NOBODY);
        }
        std::thread::scope(|scope| {
            let acted = scope.spawn(|| {
                if is_root {
                    nix::unistd::setfsuid(NOBODY.into());
                }
                act();
            });
            acted.join().unwrap();
        });
    }

    fn give(path: &Path, user: u32) {
        std::os::unix::fs::lchown(path, Some(user), Some(user)).unwrap();
        if path.is_dir() && !path.is_symlink() {
            for entry in fs::read_dir(path).unwrap() {
                give(&entry.unwrap().path(), user);
            }
        }
    }

    #[test]
    fn links_are_removed_and_never_followed() {
        let (world, tree) = world();
        let outside = world.path().join("outside");
        fs::create_dir(&outside).unwrap();
        fs::write(outside.join("kept"), "kept").unwrap();
        fs::set_permissions(&outside, Permissions::from_mode(0o500)).unwrap();
        let inner = tree.join("a/b");
        fs::create_dir_all(&inner).unwrap();
        for (target, name) in [
            (outside.as_path(), "directory"),
            (&outside.join("kept"), "file"),
            (Path::new("../../../outside"), "relative"),
            (Path::new("nowhere"), "dangling"),
            (Path::new("."), "loop"),
        ] {
            symlink(target, inner.join(name)).unwrap();
            symlink(target, tree.join(name)).unwrap();
        }
        fs::hard_link(outside.join("kept"), inner.join("hard")).unwrap();
        remove_tree(&tree).unwrap();
        assert!(!tree.exists());
        assert_eq!(fs::read_to_string(outside.join("kept")).unwrap(), "kept");
        assert_eq!(fs::metadata(&outside).unwrap().permissions().mode() & 0o777, 0o500);
    }

    #[test]
    fn special_files_are_removed_unopened() {
        let (_world, tree) = world();
        fs::create_dir(tree.join("in")).unwrap();
        nix::unistd::mkfifo(&tree.join("in/fifo"), Mode::S_IRUSR).unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(tree.join("in/socket")).unwrap();
        remove_tree(&tree).unwrap();
        assert!(!tree.exists());
    }

    #[test]
    fn a_link_in_the_trees_place_is_refused() {
        let (world, tree) = world();
        fs::write(tree.join("kept"), "").unwrap();
        let link = world.path().join("link");
        symlink(&tree, &link).unwrap();
        let error = remove_tree(&link).unwrap_err();
        assert_eq!(error.to_string(), r#"can't remove "link": ENOTDIR: Not a directory"#);
        assert!(tree.join("kept").exists());
    }

    #[test]
    fn what_is_not_there_is_removed_and_what_has_no_name_is_not() {
        let (_world, tree) = world();
        remove_tree(&tree).unwrap();
        remove_tree(&tree).unwrap();
        assert!(matches!(remove_tree(Path::new("/")), Err(RemovalError::Nameless(_))));
        let error = remove_tree(&tree.join("a/b")).unwrap_err();
        assert!(
            matches!(
                error,
                RemovalError::Parent {
                    errno: Errno::ENOENT,
                    ..
                }
            ),
            "{error}"
        );
    }
}
