//! Reading a tree that someone else may write at the same time.
//!
//! The container owns its copy of the workspace and may change it between any two system calls of ours: swap a
//! directory for a link to `/etc`, put a FIFO where a file was, nest directories without end. So every path is resolved
//! by the kernel beneath the root (openat2(2): no links, no magic links, no way up), what was opened is checked by its
//! descriptor and not by its name, nothing recurses, and all sizes are bounded by the caller.

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, OpenHow, ResolveFlag, openat, openat2, readlinkat};
use nix::sys::stat::{FileStat, Mode, SFlag, fstat, fstatat};
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// The deepest directory that a walk enters, counted from the root.
pub const MAX_DEPTH: usize = 256;

/// A directory, and only what lies beneath it.
#[derive(Debug)]
pub struct Tree {
    root: OwnedFd,
    path: PathBuf,
}

#[derive(Debug, thiserror::Error)]
pub enum TreeError {
    #[error("can't read {}: {errno}", path.display())]
    Unreadable { path: PathBuf, errno: Errno },
    #[error("{} holds more than {limit} files and directories", root.display())]
    TooManyEntries { root: PathBuf, limit: u64 },
    #[error("{} nests directories more than {MAX_DEPTH} deep", root.display())]
    TooDeep { root: PathBuf },
    #[error("{} is not a regular file", path.display())]
    NotRegular { path: PathBuf },
    #[error("{} has several hard links", path.display())]
    HardLinked { path: PathBuf },
    #[error("{} is larger than {limit} bytes", path.display())]
    TooLarge { path: PathBuf, limit: u64 },
}

/// Whether a file with several names may be read. In a tree that the container wrote it may not: the other name could be
/// a file that it could not read by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HardLinks {
    Refused,
    Allowed,
}

/// What an entry was when it was looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Node {
    File {
        /// Permission bits only.
        mode: u32,
        size: u64,
        hard_links: u64,
    },
    Directory {
        mode: u32,
    },
    Symlink,
    /// A socket, FIFO or device.
    Special,
}

impl Node {
    #[allow(
        clippy::useless_conversion,
        reason = "the kernel's link count is narrower on other targets"
    )]
    /// What a descriptor or a name was found to be.
    pub fn of(stat: &FileStat) -> Self {
        let mode = stat.st_mode & 0o777;
        match SFlag::from_bits_truncate(stat.st_mode & SFlag::S_IFMT.bits()) {
            SFlag::S_IFREG => Self::File {
                mode,
                size: u64::try_from(stat.st_size).unwrap_or(0),
                hard_links: stat.st_nlink.into(),
            },
            SFlag::S_IFDIR => Self::Directory { mode },
            SFlag::S_IFLNK => Self::Symlink,
            _ => Self::Special,
        }
    }
}

/// One entry of a walk.
#[derive(Debug)]
pub struct Visit<'w> {
    /// Where it is; for reading it without resolving its path again.
    pub directory: &'w Directory,
    pub name: &'w OsStr,
    /// Relative to the root.
    pub path: PathBuf,
    pub node: Node,
    pub stat: FileStat,
}

/// What a walk does with a directory it was just shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    Enter,
    Skip,
}

/// Told of a walk's events; the names are relative to the root.
pub trait Visitor {
    type Error: From<TreeError>;

    fn visit(&mut self, visit: Visit<'_>) -> Result<Next, Self::Error>;

    /// A directory that was shown could not be entered: no permission, or it is something else by now.
    fn blocked(&mut self, directory: &Path, errno: Errno) -> Result<(), Self::Error>;

    /// An entry was gone when it was looked at.
    fn vanished(&mut self) {}
}

impl AsFd for Tree {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }
}

impl Tree {
    /// Opens a directory; a link in its place is refused.
    pub fn open(path: &Path) -> Result<Self, TreeError> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let root = nix::fcntl::open(path, flags, Mode::empty()).map_err(|errno| unreadable(path, errno))?;
        Ok(Self {
            root,
            path: path.to_owned(),
        })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A directory beneath the root; the empty path is the root.
    pub fn directory(&self, path: &Path) -> Result<Directory, Errno> {
        let opened = self.open_beneath(path, OFlag::O_DIRECTORY)?;
        Dir::from_fd(opened).map(|dir| Directory { dir })
    }

    /// A regular file, open for reading. Errors carry the relative path.
    pub fn file(&self, path: &Path, hard_links: HardLinks) -> Result<File, TreeError> {
        let opened = self
            .open_beneath(path, OFlag::O_NONBLOCK)
            .map_err(|errno| unreadable(path, errno))?;
        check_regular(opened, path, hard_links)
    }

    /// A whole regular file of at most `limit` bytes.
    pub fn read(&self, path: &Path, hard_links: HardLinks, limit: u64) -> Result<Vec<u8>, TreeError> {
        let file = self.file(path, hard_links)?;
        let mut content = Vec::new();
        // Not its size but the read is bounded: it may grow meanwhile.
        let read = file.take(limit.saturating_add(1)).read_to_end(&mut content);
        read.map_err(|error| unreadable(path, errno_of(&error)))?;
        if content.len() as u64 > limit {
            return Err(TreeError::TooLarge {
                path: path.to_owned(),
                limit,
            });
        }
        Ok(content)
    }

    /// What is at a path beneath the root; a link there is one, and is not followed.
    pub fn node(&self, path: &Path) -> Result<Node, Errno> {
        let directory = self.directory(path.parent().unwrap_or(Path::new("")))?;
        let name = path.file_name().ok_or(Errno::EINVAL)?;
        fstatat(&directory, name, AtFlags::AT_SYMLINK_NOFOLLOW).map(|stat| Node::of(&stat))
    }

    /// The names in a directory beneath the root, sorted; an error where there are more than `limit`.
    pub fn names(&self, path: &Path, limit: u64) -> Result<Vec<OsString>, TreeError> {
        let names = self.directory(path).and_then(|mut directory| directory.names(limit));
        let names = names.map_err(|errno| unreadable(path, errno))?;
        names.ok_or_else(|| TreeError::TooManyEntries {
            root: self.path.join(path),
            limit,
        })
    }

    /// Shows every entry, parents before children, each directory's entries in the order of their names' bytes.
    pub fn walk<V: Visitor>(&self, max_entries: u64, visitor: &mut V) -> Result<(), V::Error> {
        self.walk_below(Path::new(""), max_entries, visitor).map(drop)
    }

    /// [`Self::walk`] below a directory of the tree; says how many entries there were.
    pub fn walk_below<V: Visitor>(&self, start: &Path, max_entries: u64, visitor: &mut V) -> Result<u64, V::Error> {
        let mut seen = 0;
        let mut pending = vec![start.to_owned()];
        while let Some(path) = pending.pop() {
            let mut directory = match self.directory(&path) {
                Ok(directory) => directory,
                // PATH_MAX is reached before MAX_DEPTH where names are long.
                Err(Errno::ENAMETOOLONG) => return Err(self.too_deep().into()),
                Err(errno) => {
                    visitor.blocked(&path, errno)?;
                    continue;
                }
            };
            let names = directory
                .names(max_entries - seen)
                .map_err(|errno| unreadable(&path, errno))?;
            let names = names.ok_or_else(|| self.too_many(max_entries))?;
            seen += names.len() as u64;
            let mut below = Vec::new();
            for name in &names {
                let stat = match fstatat(&directory, name.as_os_str(), AtFlags::AT_SYMLINK_NOFOLLOW) {
                    Ok(stat) => stat,
                    Err(Errno::ENOENT) => {
                        visitor.vanished();
                        continue;
                    }
                    // A directory that may be listed but not searched.
                    Err(errno) => {
                        visitor.blocked(&path, errno)?;
                        break;
                    }
                };
                let node = Node::of(&stat);
                let visit = Visit {
                    directory: &directory,
                    name,
                    path: path.join(name),
                    node,
                    stat,
                };
                let child = visit.path.clone();
                if visitor.visit(visit)? == Next::Enter && matches!(node, Node::Directory { .. }) {
                    if child.components().count() > MAX_DEPTH {
                        return Err(self.too_deep().into());
                    }
                    below.push(child);
                }
            }
            pending.extend(below.into_iter().rev());
        }
        Ok(seen)
    }

    pub(in crate::workspace) fn too_many(&self, limit: u64) -> TreeError {
        TreeError::TooManyEntries {
            root: self.path.clone(),
            limit,
        }
    }

    fn too_deep(&self) -> TreeError {
        TreeError::TooDeep {
            root: self.path.clone(),
        }
    }

    fn open_beneath(&self, path: &Path, extra: OFlag) -> Result<OwnedFd, Errno> {
        let path = if path.as_os_str().is_empty() {
            Path::new(".")
        } else {
            path
        };
        let how = OpenHow::new()
            .flags(OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC | extra)
            .resolve(
                ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_SYMLINKS | ResolveFlag::RESOLVE_NO_MAGICLINKS,
            );
        loop {
            match openat2(&self.root, path, how) {
                // EAGAIN: a rename somewhere raced with the resolution, which the kernel could then not vouch for.
                Err(Errno::EAGAIN | Errno::EINTR) => {}
                opened => return opened,
            }
        }
    }
}

/// An open directory of a tree.
#[derive(Debug)]
pub struct Directory {
    dir: Dir,
}

impl AsFd for Directory {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.dir.as_fd()
    }
}

impl Directory {
    /// The names in it, sorted; `None` where there are more than `limit`.
    fn names(&mut self, limit: u64) -> Result<Option<Vec<OsString>>, Errno> {
        let mut names = Vec::new();
        for entry in self.dir.iter() {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            if name == b"." || name == b".." {
                continue;
            }
            if names.len() as u64 == limit {
                return Ok(None);
            }
            names.push(OsStr::from_bytes(name).to_owned());
        }
        names.sort_unstable();
        Ok(Some(names))
    }

    /// A regular file in it, open for reading. `path` is for the error.
    pub fn file(&self, name: &OsStr, path: &Path, hard_links: HardLinks) -> Result<File, TreeError> {
        // O_NONBLOCK: a FIFO that took the file's place must not block us; it is refused below.
        let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
        let opened = openat(self, name, flags, Mode::empty()).map_err(|errno| unreadable(path, errno))?;
        check_regular(opened, path, hard_links)
    }

    /// What an entry of it is.
    pub fn entry(&self, name: &OsStr) -> Result<(Node, FileStat), Errno> {
        let stat = fstatat(self, name, AtFlags::AT_SYMLINK_NOFOLLOW)?;
        Ok((Node::of(&stat), stat))
    }

    /// A directory in it; a link in its place is refused.
    pub fn child(&self, name: &OsStr) -> Result<Self, Errno> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let opened = openat(self, name, flags, Mode::empty())?;
        Dir::from_fd(opened).map(|dir| Self { dir })
    }

    /// Where a link in it points; never followed.
    pub fn link_target(&self, name: &OsStr) -> Result<PathBuf, Errno> {
        readlinkat(self, name).map(PathBuf::from)
    }
}

fn check_regular(opened: OwnedFd, path: &Path, hard_links: HardLinks) -> Result<File, TreeError> {
    let stat = fstat(&opened).map_err(|errno| unreadable(path, errno))?;
    match Node::of(&stat) {
        Node::File { hard_links: 2.., .. } if hard_links == HardLinks::Refused => {
            Err(TreeError::HardLinked { path: path.to_owned() })
        }
        Node::File { .. } => Ok(File::from(opened)),
        _ => Err(TreeError::NotRegular { path: path.to_owned() }),
    }
}

fn unreadable(path: &Path, errno: Errno) -> TreeError {
    TreeError::Unreadable {
        path: path.to_owned(),
        errno,
    }
}

/// The errno of an I/O error; EIO where it has none.
pub fn errno_of(error: &io::Error) -> Errno {
    error.raw_os_error().map_or(Errno::EIO, Errno::from_raw)
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "tests make and remove files")]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    #[derive(Default)]
    struct Listing {
        seen: Vec<String>,
        blocked: Vec<PathBuf>,
    }

    impl Visitor for Listing {
        type Error = TreeError;

        fn visit(&mut self, visit: Visit<'_>) -> Result<Next, TreeError> {
            self.seen.push(visit.path.to_string_lossy().into_owned());
            Ok(Next::Enter)
        }

        fn blocked(&mut self, directory: &Path, _: Errno) -> Result<(), TreeError> {
            self.blocked.push(directory.to_owned());
            Ok(())
        }
    }

    fn read(tree: &Tree, path: &str) -> Result<Vec<u8>, TreeError> {
        tree.read(Path::new(path), HardLinks::Refused, 8)
    }

    #[test]
    fn nothing_leads_out() {
        let outer = tempfile::tempdir().unwrap();
        let root = outer.path().join("root");
        fs::create_dir_all(root.join("dir")).unwrap();
        fs::write(outer.path().join("secret"), "secret").unwrap();
        fs::write(root.join("dir/file"), "inside").unwrap();
        symlink(outer.path(), root.join("up")).unwrap();
        symlink("../secret", root.join("link")).unwrap();
        symlink("dir", root.join("alias")).unwrap();
        let tree = Tree::open(&root).unwrap();
        assert_eq!(read(&tree, "dir/file").unwrap(), b"inside");
        let absolute = outer.path().join("secret");
        for escape in [
            "up/secret",
            "link",
            "../secret",
            "dir/../../secret",
            "alias/file",
            absolute.to_str().unwrap(),
        ] {
            assert!(
                matches!(read(&tree, escape).unwrap_err(), TreeError::Unreadable { .. }),
                "{escape}"
            );
        }
        assert!(Tree::open(&root.join("alias")).is_err());
        let mut listing = Listing::default();
        tree.walk(100, &mut listing).unwrap();
        assert_eq!(listing.seen, ["alias", "dir", "link", "up", "dir/file"]);
    }

    #[test]
    fn only_regular_files_of_one_link_and_bounded_size_are_read() {
        let root = tempfile::tempdir().unwrap();
        let path = |name: &str| root.path().join(name);
        nix::unistd::mkfifo(&path("fifo"), Mode::S_IRWXU).unwrap();
        fs::write(path("a"), "x").unwrap();
        fs::hard_link(path("a"), path("b")).unwrap();
        fs::write(path("exact"), "12345678").unwrap();
        fs::write(path("large"), "123456789").unwrap();
        fs::create_dir(path("dir")).unwrap();
        let tree = Tree::open(root.path()).unwrap();
        for name in ["fifo", "dir"] {
            assert!(
                matches!(read(&tree, name).unwrap_err(), TreeError::NotRegular { .. }),
                "{name}"
            );
        }
        assert!(matches!(read(&tree, "a").unwrap_err(), TreeError::HardLinked { .. }));
        assert_eq!(tree.read(Path::new("b"), HardLinks::Allowed, 8).unwrap(), b"x");
        assert_eq!(read(&tree, "exact").unwrap(), b"12345678");
        assert!(matches!(
            read(&tree, "large").unwrap_err(),
            TreeError::TooLarge { limit: 8, .. }
        ));
    }

    #[test]
    fn a_walk_is_bounded_in_entries_and_depth() {
        let root = tempfile::tempdir().unwrap();
        for name in ["a", "b", "c"] {
            fs::write(root.path().join(name), "").unwrap();
        }
        let tree = Tree::open(root.path()).unwrap();
        assert!(tree.walk(3, &mut Listing::default()).is_ok());
        let error = tree.walk(2, &mut Listing::default()).unwrap_err();
        assert!(matches!(error, TreeError::TooManyEntries { limit: 2, .. }));

        for (name, fits) in [("d".repeat(MAX_DEPTH), true), ("d".repeat(MAX_DEPTH + 1), false)] {
            let root = tempfile::tempdir().unwrap();
            let nested: PathBuf = name.chars().map(String::from).collect();
            fs::create_dir_all(root.path().join(nested)).unwrap();
            let walked = Tree::open(root.path()).unwrap().walk(1000, &mut Listing::default());
            assert_eq!(walked.is_ok(), fits);
        }
    }

    #[test]
    fn names_of_any_bytes_are_walked() {
        let root = tempfile::tempdir().unwrap();
        let name = OsStr::from_bytes(b"\xff\n\x1b");
        fs::write(root.path().join(name), "x").unwrap();
        let tree = Tree::open(root.path()).unwrap();
        let mut listing = Listing::default();
        tree.walk(10, &mut listing).unwrap();
        assert_eq!(listing.seen.len(), 1);
        assert_eq!(tree.read(Path::new(name), HardLinks::Refused, 8).unwrap(), b"x");
    }
}
