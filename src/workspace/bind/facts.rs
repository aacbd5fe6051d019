//! Reads what [`super::protect`] decides by. Runs nothing, and writes nothing.
//!
//! The folder is the user's, but an earlier session may have written it, so its files are read beneath it, by kind and
//! bounded. Only a `.git` that is a file leads out of it: of what that names, three small files are read.

use crate::workspace::bind::{BindError, Facts, GIT, GitFacts, HEAD, HeadFacts, PointerFacts, pointer};
use crate::workspace::tree::{HardLinks, Node, Tree, TreeError};
use nix::errno::Errno;
use nix::sys::stat::fstat;
use std::path::{Path, PathBuf};

/// The largest `config` and `HEAD` that is read, in bytes; and the most hooks that are looked at.
const MAX_FILE: u64 = 1 << 20;
const MAX_ENTRIES: u64 = 1_000;

/// Names in a git directory that git believes, where they may be links to elsewhere.
const BELIEVED: [&str; 8] = [
    "HEAD",
    "commondir",
    "config",
    "config.worktree",
    "hooks",
    "info",
    "modules",
    "worktrees",
];

/// Looks at a canonical folder. `hooks_path` is what git says of `core.hooksPath`, absolute or relative to the folder: git's
/// configuration has includes and several files, so the caller asks git itself.
pub fn read(folder: &Path, hooks_path: Option<&Path>) -> Result<Facts, BindError> {
    let tree = open(folder)?;
    let stat = tree
        .directory(Path::new(""))
        .and_then(fstat)
        .map_err(|errno| unreadable(folder, errno))?;
    let mut run_by_git = Vec::new();
    if let Some(hooks) = hooks_path {
        run_by_git.push(resolve(&folder.join(hooks))?);
    }
    let git = match tree.node(Path::new(GIT)) {
        Err(Errno::ENOENT) => GitFacts::Absent,
        Err(errno) => return Err(unreadable(&folder.join(GIT), errno)),
        Ok(Node::Directory { .. }) if is_empty(&tree, GIT)? => GitFacts::EmptyDirectory,
        Ok(Node::Directory { .. }) => {
            let git_dir = folder.join(GIT);
            run_by_git.extend(hooks_outside(&git_dir, folder)?);
            // A directory that shares another one's configuration is made by `git worktree` only, and never here.
            let shares = tree.node(&Path::new(GIT).join("commondir")).is_ok();
            if shares {
                return Err(BindError::OwnFileInFolder {
                    link: git_dir.join("commondir"),
                    target: folder.to_owned(),
                });
            }
            let has = |name: &str| tree.node(&Path::new(GIT).join(name)).is_ok();
            GitFacts::Directory {
                complete: ["HEAD", "objects", "refs"].into_iter().all(has),
            }
        }
        Ok(Node::File { .. }) => {
            let pointer = read_pointer(&tree, folder)?;
            for git_dir in std::iter::once(&pointer.git_dir).chain(&pointer.common_dir) {
                run_by_git.extend(hooks_outside(git_dir, folder)?);
            }
            GitFacts::Pointer(pointer)
        }
        Ok(Node::Symlink) => GitFacts::Symlink,
        Ok(Node::Special) => GitFacts::Special,
    };
    let head = match tree.node(Path::new(HEAD)) {
        Err(Errno::ENOENT) => HeadFacts::Absent,
        Err(errno) => return Err(unreadable(&folder.join(HEAD), errno)),
        Ok(Node::Directory { .. }) if is_empty(&tree, HEAD)? => HeadFacts::EmptyDirectory,
        Ok(Node::Directory { .. }) => HeadFacts::Harmless,
        Ok(Node::File { .. }) => match tree.read(Path::new(HEAD), HardLinks::Allowed, MAX_FILE) {
            Ok(content) if pointer::names_commit(&content) => HeadFacts::NamesCommit,
            // Git reads no more than 256 bytes of it.
            Ok(_) | Err(TreeError::TooLarge { .. }) => HeadFacts::Harmless,
            Err(error) => return Err(refused(&folder.join(HEAD), &error)),
        },
        Ok(Node::Symlink) => HeadFacts::Symlink,
        Ok(Node::Special) => HeadFacts::Special,
    };
    Ok(Facts {
        folder: folder.to_owned(),
        uid: stat.st_uid,
        gid: stat.st_gid,
        git,
        head,
        run_by_git,
    })
}

/// Follows `.git` (a file) to the git directory, and what that says of itself.
pub(in crate::workspace) fn read_pointer(tree: &Tree, folder: &Path) -> Result<PointerFacts, BindError> {
    let path = folder.join(GIT);
    let failed = |why| BindError::Pointer {
        path: path.clone(),
        why,
    };
    let content = match tree.read(Path::new(GIT), HardLinks::Refused, pointer::MAX_POINTER) {
        Ok(content) => content,
        Err(TreeError::TooLarge { .. }) => return Err(failed(pointer::PointerError::TooLong)),
        Err(error) => return Err(refused(&path, &error)),
    };
    let named = pointer::parse_pointer(&content).map_err(failed)?;
    let missing = |_| failed(pointer::PointerError::Missing);
    let git_dir = folder.join(named).canonicalize().map_err(missing)?;
    let git_tree = Tree::open(&git_dir).map_err(|_| failed(pointer::PointerError::Missing))?;
    let small = |name: &str| {
        git_tree
            .read(Path::new(name), HardLinks::Allowed, pointer::MAX_POINTER)
            .ok()
    };
    let common_dir = match small("commondir") {
        None => None,
        Some(content) => {
            let common = pointer::parse_path(&content).map_err(failed)?;
            Some(git_dir.join(common).canonicalize().map_err(missing)?)
        }
    };
    let returns_to = if common_dir.is_some() {
        // The worktree's `.git`, by its path.
        let named = small("gitdir").and_then(|content| pointer::parse_path(&content).ok());
        let git_file = named.and_then(|named| git_dir.join(named).canonicalize().ok());
        git_file
            .filter(|file| file.file_name().is_some_and(|name| name == GIT))
            .and_then(|file| file.parent().map(Path::to_owned))
    } else {
        let config = git_tree.read(Path::new("config"), HardLinks::Allowed, MAX_FILE).ok();
        let named = config.and_then(|config| pointer::core_worktree(&config));
        named.and_then(|named| git_dir.join(named).canonicalize().ok())
    };
    Ok(PointerFacts {
        git_dir,
        common_dir,
        returns_to,
    })
}

/// What a git directory has git run or believe from elsewhere by links. A link of its own files into the folder is refused;
/// hooks that lead there are returned.
fn hooks_outside(git_dir: &Path, folder: &Path) -> Result<Vec<PathBuf>, BindError> {
    let tree = open(git_dir)?;
    let own = folder.join(GIT);
    let in_folder = |target: &Path| target.starts_with(folder) && !target.starts_with(&own);
    for name in BELIEVED {
        if tree.node(Path::new(name)) == Ok(Node::Symlink) {
            let link = git_dir.join(name);
            let target = resolve(&link)?;
            if in_folder(&target) {
                return Err(BindError::OwnFileInFolder { link, target });
            }
        }
    }
    let names = match tree.names(Path::new("hooks"), MAX_ENTRIES) {
        Ok(names) => names,
        // None, or a link that leads out of the folder, as was seen above.
        Err(TreeError::Unreadable {
            errno: Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP,
            ..
        }) => return Ok(Vec::new()),
        Err(error) => return Err(refused(&git_dir.join("hooks"), &error)),
    };
    let mut found = Vec::new();
    for name in names {
        let hook = Path::new("hooks").join(name);
        if tree.node(&hook) == Ok(Node::Symlink) {
            let target = resolve(&git_dir.join(hook))?;
            if in_folder(&target) {
                found.push(target);
            }
        }
    }
    Ok(found)
}

/// Where a path leads. One that leads nowhere yet is followed as far as it goes: what it lacks could be made inside.
fn resolve(path: &Path) -> Result<PathBuf, BindError> {
    /// As many links as the kernel follows.
    const MAX_LINKS: usize = 40;
    let mut path = path.to_owned();
    for _ in 0..MAX_LINKS {
        match path.canonicalize() {
            Ok(canonical) => return Ok(canonical),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(unreadable(&path, crate::workspace::tree::errno_of(&error))),
        }
        match path.read_link() {
            Ok(target) => path = path.parent().unwrap_or(Path::new("/")).join(target),
            Err(_) => {
                let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
                    break;
                };
                return Ok(resolve(parent)?.join(name));
            }
        }
    }
    Err(unreadable(&path, Errno::ELOOP))
}

fn is_empty(tree: &Tree, name: &str) -> Result<bool, BindError> {
    match tree.names(Path::new(name), 1) {
        Ok(names) => Ok(names.is_empty()),
        Err(TreeError::TooManyEntries { .. }) => Ok(false),
        Err(error) => Err(refused(&tree.path().join(name), &error)),
    }
}

fn open(path: &Path) -> Result<Tree, BindError> {
    Tree::open(path).map_err(|error| refused(path, &error))
}

fn refused(path: &Path, error: &TreeError) -> BindError {
    let errno = match error {
        TreeError::Unreadable { errno, .. } => *errno,
        TreeError::HardLinked { .. } => Errno::EMLINK,
        TreeError::TooLarge { .. } => Errno::EFBIG,
        TreeError::TooManyEntries { .. } | TreeError::TooDeep { .. } => Errno::E2BIG,
        TreeError::NotRegular { .. } => Errno::EINVAL,
    };
    unreadable(path, errno)
}

fn unreadable(path: &Path, errno: Errno) -> BindError {
    BindError::Unreadable {
        path: path.to_owned(),
        errno,
    }
}
