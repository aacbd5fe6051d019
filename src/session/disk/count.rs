//! Counts what lies in a session's folders, while the session may write to them.
//!
//! The walk follows no link, enters nothing twice and is bounded in entries. A directory that it can't enter is not an
//! error but [`Tally::hidden`]: a command inside may take the permissions of its own directories away, or nest them deeper
//! than a path can tell.

use crate::session::disk::decide::{Tally, Usage};
use crate::workspace::tree::{MAX_DEPTH, Next, Node, Tree, TreeError, Visit, Visitor};
use nix::errno::Errno;
use std::collections::HashSet;
use std::path::{Path, PathBuf};

/// What a path beneath the root may be long, in bytes; the kernel takes 4095.
const MAX_PATH: usize = 4000;
/// The unit of `st_blocks`, on every file system.
const BLOCK: u64 = 512;

/// Counts a tree of at most `max_entries`; `Err(TooManyEntries)` where there are more.
///
/// `linked` has the files of several names that were counted already, and is for all trees of one count.
pub fn count(tree: &Tree, max_entries: u64, linked: &mut Linked) -> Result<Tally, TreeError> {
    let mut counter = Counter {
        tally: Tally::default(),
        linked,
        root: tree.path(),
    };
    tree.walk(max_entries, &mut counter)?;
    Ok(counter.tally)
}

/// Device and inode of files with several names.
pub type Linked = HashSet<(u64, u64)>;

struct Counter<'c> {
    tally: Tally,
    linked: &'c mut Linked,
    root: &'c Path,
}

impl Visitor for Counter<'_> {
    type Error = TreeError;

    #[allow(
        clippy::useless_conversion,
        clippy::unnecessary_cast,
        reason = "the kernel's types differ between targets"
    )]
    fn visit(&mut self, visit: Visit<'_>) -> Result<Next, TreeError> {
        let Usage { bytes, entries } = &mut self.tally.usage;
        *entries += 1;
        let counted_before = match visit.node {
            Node::File { hard_links: 2.., .. } => {
                !self.linked.insert((visit.stat.st_dev as u64, visit.stat.st_ino as u64))
            }
            _ => false,
        };
        if !counted_before {
            let blocks = u64::try_from(visit.stat.st_blocks).unwrap_or(0);
            *bytes = bytes.saturating_add(blocks.saturating_mul(BLOCK));
        }
        let too_deep = || visit.path.as_os_str().len() > MAX_PATH || visit.path.components().count() > MAX_DEPTH;
        if matches!(visit.node, Node::Directory { .. }) && too_deep() {
            self.hide(&visit.path);
            return Ok(Next::Skip);
        }
        Ok(Next::Enter)
    }

    fn blocked(&mut self, directory: &Path, errno: Errno) -> Result<(), TreeError> {
        // One that was removed or replaced a moment ago holds nothing.
        if !matches!(errno, Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP) {
            self.hide(directory);
        }
        Ok(())
    }
}

impl Counter<'_> {
    fn hide(&mut self, directory: &Path) {
        let at: PathBuf = self.root.join(directory);
        self.tally.hidden.get_or_insert(at);
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "tests make and remove files")]
mod tests {
    use super::*;
    use nix::dir::Dir;
    use nix::fcntl::OFlag;
    use nix::sys::stat::{Mode, mkdirat};
    use std::fs;
    use std::os::fd::AsFd;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

    fn counted(root: &Path) -> Tally {
        count(&Tree::open(root).unwrap(), 1000, &mut Linked::default()).unwrap()
    }

    fn allocated(path: &Path) -> u64 {
        fs::symlink_metadata(path).unwrap().blocks() * 512
    }

    #[test]
    fn what_is_allocated_counts_once_and_every_name_does() {
        let root = tempfile::tempdir().unwrap();
        let path = |name: &str| root.path().join(name);
        fs::create_dir(path("dir")).unwrap();
        fs::write(path("dir/file"), vec![1; 100_000]).unwrap();
        fs::hard_link(path("dir/file"), path("again")).unwrap();
        fs::File::create(path("sparse")).unwrap().set_len(1 << 40).unwrap();
        symlink("/usr", path("link")).unwrap();
        let tally = counted(root.path());
        assert_eq!(tally.usage.entries, 5);
        let once: u64 = ["dir", "dir/file", "sparse", "link"]
            .map(|name| allocated(&path(name)))
            .iter()
            .sum();
        assert_eq!(tally.usage.bytes, once);
        assert!((100_000..1 << 20).contains(&once));
        assert_eq!(tally.hidden, None);
    }

    #[test]
    fn the_names_of_one_file_in_two_trees_are_one_file() {
        let root = tempfile::tempdir().unwrap();
        for tree in ["a", "b"] {
            fs::create_dir(root.path().join(tree)).unwrap();
        }
        fs::write(root.path().join("a/file"), "x").unwrap();
        fs::hard_link(root.path().join("a/file"), root.path().join("b/file")).unwrap();
        let mut linked = Linked::default();
        let mut bytes = |name: &str| {
            let tree = Tree::open(&root.path().join(name)).unwrap();
            count(&tree, 10, &mut linked).unwrap().usage.bytes
        };
        assert!(bytes("a") > 0);
        assert_eq!(bytes("b"), 0);
    }

    #[test]
    fn deeper_than_a_walk_goes_is_hidden_and_no_error() {
        for name in ["d".to_owned(), "d".repeat(250)] {
            let root = tempfile::tempdir().unwrap();
            let open = |at: std::os::fd::BorrowedFd<'_>, name: &str| {
                Dir::openat(at, name, OFlag::O_DIRECTORY, Mode::empty()).unwrap()
            };
            let mut at = Dir::open(root.path(), OFlag::O_DIRECTORY, Mode::empty()).unwrap();
            for _ in 0..MAX_DEPTH + 5 {
                mkdirat(&at, name.as_str(), Mode::S_IRWXU).unwrap();
                at = open(at.as_fd(), &name);
            }
            assert!(counted(root.path()).hidden.is_some(), "{}", name.len());
        }
    }

    #[test]
    fn a_directory_that_cannot_be_entered_is_hidden() {
        let root = tempfile::tempdir().unwrap();
        let closed = root.path().join("closed");
        fs::create_dir(&closed).unwrap();
        fs::set_permissions(&closed, fs::Permissions::from_mode(0o0)).unwrap();
        // Root enters it all the same.
        let entered = fs::read_dir(&closed).is_ok();
        assert_eq!(counted(root.path()).hidden, (!entered).then_some(closed));
    }

    #[test]
    fn what_is_gone_is_not_hidden() {
        let (mut linked, root) = (Linked::default(), tempfile::tempdir().unwrap());
        let mut counter = Counter {
            tally: Tally::default(),
            linked: &mut linked,
            root: root.path(),
        };
        for (errno, hidden) in [(Errno::ENOENT, false), (Errno::ELOOP, false), (Errno::EACCES, true)] {
            counter.blocked(Path::new("x"), errno).unwrap();
            assert_eq!(counter.tally.hidden.is_some(), hidden, "{errno}");
        }
    }

    #[test]
    fn more_than_may_be_counted_is_an_error() {
        let root = tempfile::tempdir().unwrap();
        for name in ["a", "b", "c"] {
            fs::write(root.path().join(name), "").unwrap();
        }
        let tree = Tree::open(root.path()).unwrap();
        assert_eq!(count(&tree, 3, &mut Linked::default()).unwrap().usage.entries, 3);
        assert!(matches!(
            count(&tree, 2, &mut Linked::default()),
            Err(TreeError::TooManyEntries { .. })
        ));
    }
}
