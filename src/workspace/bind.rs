//! A folder of the host as the workspace itself: what of it the container may never write.
//!
//! What the container writes into such a folder is there on the host at once, and git on the host runs what a repository's
//! configuration and hooks say. So git's own directory is a read-only mount, and a mount of its own at the folder's root:
//! where only its hooks and its configuration were mounts, `mv .git .old && mkdir .git` planted others. A mount point can
//! be neither renamed nor removed inside, and a folder's root neither, so it can't be moved away together with it.
//!
//! [`protect`] decides by facts that [`facts::read`] collects without running git, which would already do what a
//! repository says. [`placeholder`] makes and removes what a mount of an absent name needs.
//!
//! What remains, because no mount can prevent it, and so is said in docs/SECURITY.md:
//! - A repository below the folder, there already or made inside, is the container's to write: a directory above a mount
//!   point can be renamed, mount and all, and another made in its place.
//! - Whatever else the host runs out of the folder: build files, `.envrc`, an editor's tasks, and commands that the
//!   repository's own configuration takes from its files (`include.path`, a filter's script).
//! - A host that removes or renames a protected name takes the container's mount away with it (the kernel detaches mounts
//!   of a name that is gone), and another can then be made inside.
//! - Sockets and FIFOs in the folder connect the container with whatever serves them on the host.

pub mod facts;
pub mod placeholder;
pub mod pointer;

use crate::workspace::bind::placeholder::PlaceholderName;
use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};

/// Git's directory, or the file that says where it is.
pub const GIT: &str = ".git";
/// Without a usable [`GIT`], a file of this name (with `objects` and `refs`) makes the folder itself a git directory, whose
/// `config` would then be one of the folder's files.
pub const HEAD: &str = "HEAD";

/// What the folder is, as [`facts::read`] found it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// Canonical.
    pub folder: PathBuf,
    pub uid: u32,
    pub gid: u32,
    pub git: GitFacts,
    pub head: HeadFacts,
    /// Files that git runs, or directories of such (`core.hooksPath`, hooks that are links): canonical.
    pub run_by_git: Vec<PathBuf>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GitFacts {
    Absent,
    /// Without an entry: a placeholder of another session, or as good as none.
    EmptyDirectory,
    Directory {
        /// Git takes it for one of its own; else it looks whether the folder itself is one.
        complete: bool,
    },
    Pointer(PointerFacts),
    Symlink,
    /// A socket, FIFO or device.
    Special,
}

/// What `.git`, where it is a file, leads to. All paths are canonical.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PointerFacts {
    pub git_dir: PathBuf,
    /// What several worktrees share, where the git directory says that it is one of them.
    pub common_dir: Option<PathBuf>,
    /// The folder that the git directory says it is for.
    pub returns_to: Option<PathBuf>,
}

impl PointerFacts {
    /// Where the repository keeps what it is made of; `None` where the pointer's own directory is not one that it keeps.
    pub fn repository(&self) -> Option<&Path> {
        match &self.common_dir {
            // Else `commondir`, a file, could name anything: it has to be where this worktree's own directory is kept.
            Some(common) if self.git_dir.parent() == Some(&common.join("worktrees")) => Some(common),
            Some(_) => None,
            None => Some(&self.git_dir),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeadFacts {
    Absent,
    EmptyDirectory,
    /// A directory or a file that names no commit.
    Harmless,
    /// A file that names a commit or a branch.
    NamesCommit,
    Symlink,
    Special,
}

/// How the folder is mounted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Protection {
    /// Names in the folder, each a read-only mount of its own.
    pub names: BTreeSet<String>,
    /// Those of them that are not there: [`placeholder::make`] before the launch.
    pub placeholders: Vec<PlaceholderName>,
    /// Git's directory where it is elsewhere: mounted read-only, whole, at its own path.
    pub git_elsewhere: Option<PathBuf>,
}

impl Protection {
    /// For a session that mounts the whole folder read-only: nothing in it needs another mount, or has to be made.
    pub fn of_reading(self) -> Self {
        Self {
            names: BTreeSet::new(),
            placeholders: Vec::new(),
            git_elsewhere: self.git_elsewhere,
        }
    }
}

/// Why a folder can't be mounted itself.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    #[error(
        "bind is refused: {} is a symbolic link, which could be pointed elsewhere; make it a directory, or use \
         workspace.mode = \"snapshot\"", path.display()
    )]
    Symlink { path: PathBuf },
    #[error("bind is refused: {} is neither a file nor a directory", path.display())]
    Special { path: PathBuf },
    #[error(
        "bind is refused: {} is itself a git directory, whose configuration and hooks the container could then write; name \
         a worktree of it, or use workspace.mode = \"snapshot\"", folder.display()
    )]
    IsGitDirectory { folder: PathBuf },
    #[error("bind is refused: {} is no pointer to a git directory: {why}", path.display())]
    Pointer { path: PathBuf, why: pointer::PointerError },
    #[error(
        "bind is refused: {} names the git directory {}, which does not name this folder in return. A folder's own file \
         must not decide what of the host is shown to the container: `git worktree repair` mends a worktree that was \
         moved; else use workspace.mode = \"snapshot\"", folder.join(GIT).display(), git_dir.display()
    )]
    NotReturned { folder: PathBuf, git_dir: PathBuf },
    #[error(
        "bind is refused: the git directory of {} is {}, and one lies in the other, so that it can't be mounted read-only by \
         itself; use workspace.mode = \"snapshot\"", folder.display(), git_dir.display()
    )]
    Entangled { folder: PathBuf, git_dir: PathBuf },
    #[error(
        "bind is refused: {} leads to {}, so that git's own files are among those that the container may write; make it a \
         file of its own, or use workspace.mode = \"snapshot\"", link.display(), target.display()
    )]
    OwnFileInFolder { link: PathBuf, target: PathBuf },
    #[error(
        "bind is refused: git runs hooks out of {} itself, which the container may write; set core.hooksPath to a directory, \
         or use workspace.mode = \"snapshot\"", folder.display()
    )]
    HooksEverywhere { folder: PathBuf },
    #[error("bind is refused: {} can't be looked at: {errno}", path.display())]
    Unreadable { path: PathBuf, errno: nix::errno::Errno },
}

/// Decides on the facts. Fails closed: what git might take for its own and no mount can keep is refused.
pub fn protect(facts: &Facts) -> Result<Protection, BindError> {
    let folder = &facts.folder;
    let mut protection = Protection {
        names: BTreeSet::from([GIT.to_owned()]),
        placeholders: Vec::new(),
        git_elsewhere: None,
    };
    let mut folder_may_be_git_directory = false;
    match &facts.git {
        GitFacts::Absent | GitFacts::EmptyDirectory => {
            protection.placeholders.push(PlaceholderName::Git);
            folder_may_be_git_directory = true;
        }
        GitFacts::Directory { complete } => folder_may_be_git_directory = !complete,
        GitFacts::Pointer(pointer) => protection.git_elsewhere = Some(elsewhere(folder, pointer)?),
        GitFacts::Symlink => return Err(BindError::Symlink { path: folder.join(GIT) }),
        GitFacts::Special => return Err(BindError::Special { path: folder.join(GIT) }),
    }
    if folder_may_be_git_directory {
        protection.names.insert(HEAD.to_owned());
        match facts.head {
            HeadFacts::Absent | HeadFacts::EmptyDirectory => protection.placeholders.push(PlaceholderName::Head),
            HeadFacts::Harmless => {}
            HeadFacts::NamesCommit => return Err(BindError::IsGitDirectory { folder: folder.clone() }),
            HeadFacts::Symlink => {
                return Err(BindError::Symlink {
                    path: folder.join(HEAD),
                });
            }
            HeadFacts::Special => {
                return Err(BindError::Special {
                    path: folder.join(HEAD),
                });
            }
        }
    }
    for path in &facts.run_by_git {
        protection.names.extend(first_name(folder, path)?);
    }
    Ok(protection)
}

/// The name in the folder that leads to `path`: what lies deeper is only kept with all that is above it, because a directory
/// above a mount point can be renamed. `None` where the path is not in the folder.
fn first_name(folder: &Path, path: &Path) -> Result<Option<String>, BindError> {
    let Ok(below) = path.strip_prefix(folder) else {
        return Ok(None);
    };
    let everywhere = || BindError::HooksEverywhere {
        folder: folder.to_owned(),
    };
    match below.components().next() {
        Some(Component::Normal(name)) => name.to_str().map(|name| Some(name.to_owned())).ok_or_else(everywhere),
        _ => Err(everywhere()),
    }
}

/// The directory to mount for a worktree or a submodule.
///
/// The pointer is a file of the folder, so a folder from anywhere could name `~/.ssh` or another repository. It is believed
/// only where what it names names this folder in return, which takes somebody who could write there: `git worktree add`
/// and `git submodule` do. The operator's roots don't come into it: a worktree usually lies beside its repository, and
/// nothing but that git directory is shown.
fn elsewhere(folder: &Path, pointer: &PointerFacts) -> Result<PathBuf, BindError> {
    let not_returned = || BindError::NotReturned {
        folder: folder.to_owned(),
        git_dir: pointer.git_dir.clone(),
    };
    let place = pointer.repository().ok_or_else(not_returned)?;
    // First: in the folder, what names the folder in return is the folder's own word again.
    if place.starts_with(folder) || folder.starts_with(place) {
        return Err(BindError::Entangled {
            folder: folder.to_owned(),
            git_dir: place.to_owned(),
        });
    }
    if pointer.returns_to.as_deref() != Some(folder) {
        return Err(not_returned());
    }
    Ok(place.to_owned())
}

#[cfg(test)]
mod tests;
