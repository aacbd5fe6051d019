//! Whether what a folder calls its `.git` is its own.
//!
//! A project's files come from anybody, and its `.git` is one of them. Where that leads to another repository, a snapshot
//! would show the container a history that nobody named: so before git is asked anything, what it would take the history
//! from is looked at here, without git. One rule for both modes: what lies elsewhere has to name the folder in return
//! ([`crate::workspace::bind`]).

use crate::wire::untrusted::Untrusted;
use crate::workspace::bind::pointer::PointerError;
use crate::workspace::bind::{BindError, GIT, facts};
use crate::workspace::tree::{Next, Node, Tree, TreeError, Visit, Visitor};
use nix::errno::Errno;
use std::path::{Path, PathBuf};

/// The most files among a repository's objects that are looked at. Git packs them long before.
const MAX_OBJECTS: u64 = 1_000_000;

/// What a folder has as its `.git`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// None, or an empty directory, which is none to git.
    Nothing,
    Own {
        /// Canonical: what the worktrees of a repository share, where there are several.
        repository: PathBuf,
    },
    Unusable(Unusable),
}

/// Why a folder's `.git` is not used: neither its history nor its index. Goes on from "the folder's .git".
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unusable {
    #[error("names a repository that is not there")]
    Dangling,
    #[error("is no repository that git can use for this folder")]
    Broken,
    #[error("is a symbolic link, which could lead to any repository")]
    Link,
    #[error(
        "names the git directory {}, which does not name this folder in return (`git worktree repair` mends a worktree \
         that was moved; for another, set core.worktree to the folder in that directory's own configuration)",
        Untrusted::new(git_dir.to_string_lossy()).one_line(400)
    )]
    NotReturned { git_dir: PathBuf },
    #[error("shares the git directory of another repository (commondir)")]
    Shared,
    #[error("has a symbolic link for its {place} or in it, which could lead into any repository")]
    LinkInside { place: &'static str },
    #[error(
        "borrows objects of another repository (objects/info/alternates; `git repack -a -d` fetches them, and then that \
         file can be removed)"
    )]
    Borrows,
    #[error("has more than {MAX_OBJECTS} files among its objects, too many to look at (`git gc` packs them)")]
    TooManyObjects,
}

/// Looks at a canonical folder. Runs nothing. Blocks.
pub fn look(folder: &Path) -> Found {
    let repository = match repository(folder) {
        Ok(Some(repository)) => repository,
        Ok(None) => return Found::Nothing,
        Err(why) => return Found::Unusable(why),
    };
    match own_objects(&repository) {
        Ok(()) => Found::Own { repository },
        Err(why) => Found::Unusable(why),
    }
}

/// The repository that a folder's `.git` file leads to, where that names the folder in return.
pub fn returned_repository(folder: &Path) -> Option<PathBuf> {
    let tree = Tree::open(folder).ok()?;
    let is_file = matches!(tree.node(Path::new(GIT)), Ok(Node::File { .. }));
    let pointer = is_file.then(|| facts::read_pointer(&tree, folder).ok()).flatten()?;
    let returned = pointer.returns_to.as_deref() == Some(folder);
    pointer.repository().filter(|_| returned).map(Path::to_owned)
}

fn repository(folder: &Path) -> Result<Option<PathBuf>, Unusable> {
    let git = Path::new(GIT);
    let tree = Tree::open(folder)?;
    match tree.node(git) {
        Err(Errno::ENOENT) => Ok(None),
        Ok(Node::Directory { .. }) if tree.names(git, 1).is_ok_and(|names| names.is_empty()) => Ok(None),
        // A directory that shares another's is made by `git worktree` only, and never here.
        Ok(Node::Directory { .. }) => match tree.node(&git.join("commondir")) {
            Err(Errno::ENOENT) => Ok(Some(folder.join(GIT))),
            _ => Err(Unusable::Shared),
        },
        Ok(Node::File { .. }) => pointed_at(&tree, folder).map(Some),
        Ok(Node::Symlink) => Err(Unusable::Link),
        Ok(Node::Special) | Err(_) => Err(Unusable::Broken),
    }
}

/// What lies in the folder is shown with it in any case.
fn pointed_at(tree: &Tree, folder: &Path) -> Result<PathBuf, Unusable> {
    let pointer = facts::read_pointer(tree, folder).map_err(|error| match error {
        BindError::Pointer {
            why: PointerError::Missing,
            ..
        } => Unusable::Dangling,
        _ => Unusable::Broken,
    })?;
    match pointer.repository() {
        Some(own) if own.starts_with(folder) || pointer.returns_to.as_deref() == Some(folder) => Ok(own.to_owned()),
        _ => Err(Unusable::NotReturned {
            git_dir: pointer.git_dir,
        }),
    }
}

/// Whether all that a pack of the repository could be made of lies in the repository itself. What its references say does not
/// matter then: there is nothing else that they could name.
fn own_objects(repository: &Path) -> Result<(), Unusable> {
    let tree = Tree::open(repository)?;
    // Git quotes a line of these that it can't read, wherever the line comes from.
    for place in ["HEAD", "packed-refs", "shallow"] {
        if tree.node(Path::new(place)) == Ok(Node::Symlink) {
            return Err(Unusable::LinkInside { place });
        }
    }
    for place in ["refs", OBJECTS] {
        match tree.node(Path::new(place)) {
            Ok(Node::Directory { .. }) => {}
            Ok(Node::Symlink) => return Err(Unusable::LinkInside { place }),
            _ => return Err(Unusable::Broken),
        }
    }
    Tree::open(&repository.join(OBJECTS))?.walk(MAX_OBJECTS, &mut OwnObjects)
}

const OBJECTS: &str = "objects";

struct OwnObjects;

impl Visitor for OwnObjects {
    type Error = Unusable;

    fn visit(&mut self, visit: Visit<'_>) -> Result<Next, Unusable> {
        match visit.node {
            Node::Symlink => Err(Unusable::LinkInside { place: OBJECTS }),
            Node::File { size: 1.., .. } if visit.path == Path::new("info/alternates") => Err(Unusable::Borrows),
            _ => Ok(Next::Enter),
        }
    }

    fn blocked(&mut self, _: &Path, _: Errno) -> Result<(), Unusable> {
        // Git can't read it either, and says so where it needs it.
        Ok(())
    }
}

impl From<TreeError> for Unusable {
    fn from(error: TreeError) -> Self {
        match error {
            TreeError::TooManyEntries { .. } => Self::TooManyObjects,
            _ => Self::Broken,
        }
    }
}
