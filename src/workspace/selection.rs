//! Which entries of a folder are taken, and the walk over just these.
//!
//! A git directory below the folder is left out under any name, because its configuration may hold credentials; but not
//! the files of one that a repository itself tracks (test data): who has the history has them already.

use crate::workspace::git::directory::Parts;
use crate::workspace::git::is_git;
use crate::workspace::ignore::{IgnoreFiles, Unread};
use crate::workspace::tree::{Directory, Next, Node, Tree, TreeError, Visit, Visitor};
use nix::errno::Errno;
use nix::sys::stat::FileStat;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

/// What of a folder is taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selection {
    /// All but git directories, at any depth.
    WithoutGit,
    /// Of these, what the folder's own `.gitignore` files don't name.
    WithoutIgnored,
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
    /// One file or link that is tracked. A directory that took its place is not meant.
    Entry,
    /// One that git would offer to track: not where it lies in a git directory.
    Offered,
    /// All that is there but git directories and what its own `.gitignore` files name: a submodule, a nested repository.
    Whole,
}

/// What a person should know of something that is not taken, or is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Remark {
    /// A directory that git takes for a repository, though it is not called `.git`.
    GitDirectory,
    /// A `.gitignore` names it, where git is not asked. That it is tracked all the same can't be known then; and what is named
    /// there is more often a secret or build output.
    Ignored,
    /// A `.gitignore` that is over a bound: what it names is taken.
    Unread,
}

/// Told of a walk over a selection.
pub trait Selecting: Visitor {
    /// Of what is called `.git` there is none: that is never meant.
    fn remark(&mut self, path: &Path, remark: Remark);
}

/// Shows every selected entry as [`Tree::walk`] does, parents before children. Listed paths that are not there are not
/// mentioned: they were deleted.
pub fn walk<V: Selecting>(
    tree: &Tree,
    selection: &Selection,
    max_entries: u64,
    visitor: &mut V,
) -> Result<(), V::Error> {
    match selection {
        Selection::WithoutGit => tree.walk(max_entries, &mut Filter::new(visitor, None)),
        Selection::WithoutIgnored => tree.walk(max_entries, &mut Filter::new(visitor, Some(IgnoreFiles::default()))),
        Selection::Listed(files) => listed(tree, files, max_entries, visitor),
    }
}

/// Hides git directories, and what is ignored.
struct Filter<'v, V> {
    visitor: &'v mut V,
    ignore_files: Option<IgnoreFiles>,
}

impl<'v, V: Selecting> Filter<'v, V> {
    fn new(visitor: &'v mut V, ignore_files: Option<IgnoreFiles>) -> Self {
        Self { visitor, ignore_files }
    }

    fn is_ignored(&mut self, visit: &Visit<'_>) -> bool {
        let Some(files) = &mut self.ignore_files else {
            return false;
        };
        let parent = visit.path.parent().unwrap_or(Path::new(""));
        if let Err(Unread(path)) = files.enter(visit.directory, parent) {
            self.visitor.remark(&path, Remark::Unread);
        }
        files.is_ignored(&visit.path, matches!(visit.node, Node::Directory { .. }))
    }
}

impl<V: Selecting> Visitor for Filter<'_, V> {
    type Error = V::Error;

    fn visit(&mut self, visit: Visit<'_>) -> Result<Next, V::Error> {
        if is_git(visit.name) {
            return Ok(Next::Skip);
        }
        if self.is_ignored(&visit) {
            self.visitor.remark(&visit.path, Remark::Ignored);
            return Ok(Next::Skip);
        }
        let is_directory = matches!(visit.node, Node::Directory { .. });
        if is_directory
            && visit
                .directory
                .child(visit.name)
                .is_ok_and(|child| is_git_directory(&child))
        {
            self.visitor.remark(&visit.path, Remark::GitDirectory);
            return Ok(Next::Skip);
        }
        self.visitor.visit(visit)
    }

    fn blocked(&mut self, directory: &Path, errno: Errno) -> Result<(), V::Error> {
        self.visitor.blocked(directory, errno)
    }

    fn vanished(&mut self) {
        self.visitor.vanished();
    }
}

fn is_git_directory(directory: &Directory) -> bool {
    Parts::of(|name| directory.entry(OsStr::new(name)).is_ok()).is_git_directory()
}

/// A directory on the way to the current path.
struct Level {
    path: PathBuf,
    directory: Directory,
    /// A git directory, under any name: what is only offered is not taken from it.
    git: GitDirectory,
    /// Not yet shown to the visitor: a directory of which nothing is taken is not made. The root never is.
    unshown: Option<FileStat>,
}

/// Whether a directory is one, and whether the visitor knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum GitDirectory {
    No,
    Unsaid,
    Said,
}

impl GitDirectory {
    fn of(directory: &Directory) -> Self {
        match is_git_directory(directory) {
            true => Self::Unsaid,
            false => Self::No,
        }
    }
}

fn listed<V: Selecting>(tree: &Tree, files: &[Listed], max_entries: u64, visitor: &mut V) -> Result<(), V::Error> {
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
        // The folder itself is none: that was found out when it was chosen.
        git: GitDirectory::No,
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
        if matches!(node, Node::Directory { .. }) && file.extent != Extent::Whole {
            continue;
        }
        let in_git = levels.iter_mut().find(|level| level.git != GitDirectory::No);
        if let Some(level) = in_git.filter(|_| file.extent != Extent::Entry) {
            if level.git == GitDirectory::Unsaid {
                level.git = GitDirectory::Said;
                visitor.remark(&level.path, Remark::GitDirectory);
            }
            continue;
        }
        let whole_git = |level: &Level, name| level.directory.child(name).is_ok_and(|child| is_git_directory(&child));
        if file.extent == Extent::Whole
            && let (Some(level), Some(name)) = (levels.last(), file.path.file_name())
            && whole_git(level, name)
        {
            visitor.remark(&file.path, Remark::GitDirectory);
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
            let mut filter = Filter::new(visitor, Some(IgnoreFiles::default()));
            seen += tree.walk_below(&file.path, max_entries - seen, &mut filter)?;
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
                git: GitDirectory::of(&directory),
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

    impl Selecting for Seen {
        fn remark(&mut self, path: &Path, remark: Remark) {
            self.0.push(format!("{} {remark:?}", path.display()));
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
    fn a_git_directory_of_any_name_is_left_out_unless_its_files_are_tracked() {
        let root = folder();
        for file in [
            "m.git/HEAD",
            "m.git/objects/x",
            "m.git/refs/x",
            "m.git/config",
            "a/HEAD",
        ] {
            fs::create_dir_all(root.path().join(file).parent().unwrap()).unwrap();
            fs::write(root.path().join(file), "").unwrap();
        }
        let tree = Tree::open(root.path()).unwrap();
        let seen = |selection: &Selection| {
            let mut seen = Seen::default();
            walk(&tree, selection, 100, &mut seen).unwrap();
            seen.0.retain(|path| path.starts_with("m.git"));
            seen.0
        };
        assert_eq!(seen(&Selection::WithoutGit), ["m.git GitDirectory"]);
        let offered = [("m.git/HEAD", Extent::Offered), ("m.git/objects/x", Extent::Offered)];
        assert_eq!(seen(&list(&offered)), ["m.git GitDirectory"]);
        let tracked = [("m.git/HEAD", Extent::Entry), ("m.git/config", Extent::Offered)];
        assert_eq!(seen(&list(&tracked)), ["m.git", "m.git/HEAD", "m.git GitDirectory"]);
        assert_eq!(seen(&list(&[("m.git", Extent::Whole)])), ["m.git GitDirectory"]);
    }

    #[test]
    fn what_ignore_files_name_is_left_out_where_git_is_not_asked() {
        let root = folder();
        fs::write(root.path().join(".gitignore"), "sub/in\n").unwrap();
        fs::write(root.path().join("sub/.gitignore"), "/.env\n*.o\n").unwrap();
        fs::write(root.path().join("sub/.env"), "").unwrap();
        fs::write(root.path().join("sub/in/x.o"), "").unwrap();
        let tree = Tree::open(root.path()).unwrap();
        let seen = |selection: &Selection| {
            let mut seen = Seen::default();
            walk(&tree, selection, 100, &mut seen).unwrap();
            seen.0.retain(|path| path.starts_with("sub"));
            seen.0
        };
        // A repository of its own: what stands above it is not meant for it.
        let nested = [
            "sub",
            "sub/.env Ignored",
            "sub/.gitignore",
            "sub/in",
            "sub/in/x",
            "sub/in/x.o Ignored",
        ];
        assert_eq!(seen(&list(&[("sub", Extent::Whole)])), nested);
        let folder = ["sub", "sub/.env Ignored", "sub/.gitignore", "sub/in Ignored"];
        assert_eq!(seen(&Selection::WithoutIgnored), folder);
        assert!(seen(&Selection::WithoutGit).contains(&"sub/.env".to_owned()));
    }

    #[test]
    fn the_list_is_bounded_with_all_that_it_stands_for() {
        let files = list(&[("a/b/1", Extent::Entry), ("sub", Extent::Whole)]);
        // a, a/b, a/b/1, sub, and the three below it, of which .git is one.
        assert!(seen(&files, 7).is_ok());
        assert!(matches!(seen(&files, 5), Err(TreeError::TooManyEntries { .. })));
    }
}
