//! Which entries of a folder are taken, and the walk over just these.

use crate::workspace::git::is_git;
use crate::workspace::tree::{Directory, Next, Node, Tree, TreeError, Visit, Visitor};
use nix::errno::Errno;
use nix::sys::stat::FileStat;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

/// What of a folder is taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selection {
    /// All but what is called `.git`, at any depth.
    WithoutGit,
    /// These, sorted by path, each once; directories on the way as needed. No `.git` anywhere.
    Listed(Vec<Listed>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Relative; leads down.
    pub path: PathBuf,
    pub extent: Extent,
}

/// How much a listed path stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    /// One file or link. A directory that took its place is not meant.
    Entry,
    /// All that is there: a submodule, a nested repository.
    Whole,
}

/// Shows every selected entry as [`Tree::walk`] does, parents before children. Listed paths that are not there are not
/// mentioned: they were deleted.
pub fn walk<V: Visitor>(tree: &Tree, selection: &Selection, max_entries: u64, visitor: &mut V) -> Result<(), V::Error> {
    match selection {
        Selection::WithoutGit => tree.walk(max_entries, &mut NoGit(visitor)),
        Selection::Listed(files) => listed(tree, files, max_entries, visitor),
    }
}

/// Hides what is called `.git`.
struct NoGit<'v, V>(&'v mut V);

impl<V: Visitor> Visitor for NoGit<'_, V> {
    type Error = V::Error;

    fn visit(&mut self, visit: Visit<'_>) -> Result<Next, V::Error> {
        if is_git(visit.name) {
            return Ok(Next::Skip);
        }
        self.0.visit(visit)
    }

    fn blocked(&mut self, directory: &Path, errno: Errno) -> Result<(), V::Error> {
        self.0.blocked(directory, errno)
    }

    fn vanished(&mut self) {
        self.0.vanished();
    }
}

/// A directory on the way to the current path.
struct Level {
    path: PathBuf,
    directory: Directory,
    /// Not yet shown to the visitor: a directory of which nothing is taken is not made. The root never is.
    unshown: Option<FileStat>,
}

fn listed<V: Visitor>(tree: &Tree, files: &[Listed], max_entries: u64, visitor: &mut V) -> Result<(), V::Error> {
    let unreadable = |path: &Path, errno| TreeError::Unreadable {
        path: path.to_owned(),
        errno,
    };
    let root = tree
        .directory(Path::new(""))
        .map_err(|errno| unreadable(tree.path(), errno))?;
    let mut levels = vec![Level {
        path: PathBuf::new(),
        directory: root,
        unshown: None,
    }];
    let mut seen = 0;
    let mut whole: Option<&Path> = None;
    for file in files {
        // Taken with what it lies in.
        if whole.is_some_and(|whole| file.path.starts_with(whole)) {
            continue;
        }
        while levels.last().is_some_and(|level| !file.path.starts_with(&level.path)) {
            levels.pop();
        }
        let Some((node, stat)) = descend(&mut levels, &file.path, visitor)? else {
            continue;
        };
        if matches!(node, Node::Directory { .. }) && file.extent == Extent::Entry {
            continue;
        }
        seen += show(&mut levels, visitor)? + 1;
        let (Some(level), Some(name)) = (levels.last(), file.path.file_name()) else {
            continue;
        };
        if seen > max_entries {
            return Err(tree.too_many(max_entries).into());
        }
        let next = visitor.visit(visit(&level.directory, name, file.path.clone(), node, stat))?;
        if next == Next::Enter && matches!(node, Node::Directory { .. }) {
            whole = Some(&file.path);
            seen += tree.walk_below(&file.path, max_entries - seen, &mut NoGit(visitor))?;
        }
    }
    Ok(())
}

/// Opens the directories down to the path's own; says what the path is, or `None` where it is not there any more.
fn descend<V: Visitor>(
    levels: &mut Vec<Level>,
    path: &Path,
    visitor: &mut V,
) -> Result<Option<(Node, FileStat)>, V::Error> {
    let known = levels.last().map(|level| level.path.clone()).unwrap_or_default();
    let rest = path.strip_prefix(&known).unwrap_or(Path::new(""));
    let mut names = rest.iter().peekable();
    let mut at = known;
    while let Some(name) = names.next() {
        let Some(level) = levels.last() else { break };
        let (node, stat) = match level.directory.entry(name) {
            Ok(found) => found,
            Err(Errno::ENOENT | Errno::ENOTDIR) => return Ok(None),
            Err(errno) => {
                visitor.blocked(&level.path, errno)?;
                return Ok(None);
            }
        };
        if names.peek().is_none() {
            return Ok(Some((node, stat)));
        }
        at.push(name);
        if !matches!(node, Node::Directory { .. }) {
            return Ok(None);
        }
        match level.directory.child(name) {
            Ok(directory) => levels.push(Level {
                path: at.clone(),
                directory,
                unshown: Some(stat),
            }),
            Err(errno) => {
                visitor.blocked(&at, errno)?;
                return Ok(None);
            }
        }
    }
    Ok(None)
}

/// Shows the directories on the way that were not shown yet; says how many.
fn show<V: Visitor>(levels: &mut [Level], visitor: &mut V) -> Result<u64, V::Error> {
    let mut shown = 0;
    for at in 1..levels.len() {
        let (above, below) = levels.split_at_mut(at);
        let (Some(parent), Some(level)) = (above.last(), below.first_mut()) else {
            continue;
        };
        let (Some(stat), Some(name)) = (level.unshown.take(), level.path.file_name()) else {
            continue;
        };
        let node = Node::of(&stat);
        visitor.visit(visit(&parent.directory, name, level.path.clone(), node, stat))?;
        shown += 1;
    }
    Ok(shown)
}

fn visit<'w>(directory: &'w Directory, name: &'w OsStr, path: PathBuf, node: Node, stat: FileStat) -> Visit<'w> {
    Visit {
        directory,
        name,
        path,
        node,
        stat,
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "tests make files")]
mod tests {
    use super::*;
    use std::fs;

    #[derive(Default)]
    struct Seen(Vec<String>);

    impl Visitor for Seen {
        type Error = TreeError;

        fn visit(&mut self, visit: Visit<'_>) -> Result<Next, TreeError> {
            self.0.push(visit.path.to_string_lossy().into_owned());
            Ok(Next::Enter)
        }

        fn blocked(&mut self, directory: &Path, _: Errno) -> Result<(), TreeError> {
            self.0.push(format!("{} blocked", directory.display()));
            Ok(())
        }
    }

    fn folder() -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for directory in ["a/b", "a/c", "sub/.git/hooks", "sub/in", "was-file", "d"] {
            fs::create_dir_all(root.path().join(directory)).unwrap();
        }
        for file in [
            "a/b/1",
            "a/b/2",
            "a-b",
            "sub/.git/config",
            "sub/in/x",
            "was-file/new",
            "ignored",
        ] {
            fs::write(root.path().join(file), "").unwrap();
        }
        std::os::unix::fs::symlink("a", root.path().join("link")).unwrap();
        root
    }

    fn seen(selection: &Selection, max: u64) -> Result<Vec<String>, TreeError> {
        let root = folder();
        let mut seen = Seen::default();
        walk(&Tree::open(root.path()).unwrap(), selection, max, &mut seen)?;
        Ok(seen.0)
    }

    fn list(files: &[(&str, Extent)]) -> Selection {
        let listed = files.iter().map(|(path, extent)| Listed {
            path: path.into(),
            extent: *extent,
        });
        Selection::Listed(listed.collect())
    }

    #[test]
    fn listed_files_come_with_the_directories_on_the_way_and_no_more() {
        let files = list(&[
            ("a/b/1", Extent::Entry),
            ("a/b/2", Extent::Entry),
            ("a/c/deleted", Extent::Entry),
            ("a-b", Extent::Entry),
            ("d/deleted", Extent::Entry),
            ("link", Extent::Entry),
            ("link/b/1", Extent::Entry),
            ("sub", Extent::Whole),
            ("sub/in/x", Extent::Entry),
            ("was-file", Extent::Entry),
            ("was-file/new", Extent::Entry),
        ]);
        let expected = [
            "a",
            "a/b",
            "a/b/1",
            "a/b/2",
            "a-b",
            "link",
            "sub",
            "sub/in",
            "sub/in/x",
            "was-file",
            "was-file/new",
        ];
        assert_eq!(seen(&files, 100).unwrap(), expected);
    }

    #[test]
    fn git_directories_are_hidden_and_nothing_else() {
        let hidden = seen(&Selection::WithoutGit, 100).unwrap();
        assert!(hidden.iter().all(|path| !path.contains(".git")), "{hidden:?}");
        assert!(hidden.contains(&"ignored".to_owned()));
    }

    #[test]
    fn the_list_is_bounded_with_all_that_it_stands_for() {
        let files = list(&[("a/b/1", Extent::Entry), ("sub", Extent::Whole)]);
        // a, a/b, a/b/1, sub, and the three below it, of which .git is one.
        assert!(seen(&files, 7).is_ok());
        assert!(matches!(seen(&files, 5), Err(TreeError::TooManyEntries { .. })));
    }
}
