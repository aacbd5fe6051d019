//! What git knows of a folder of the user's.

use crate::workspace::git::command::{Discovery, Git, GitCommand, SourceQuestion, SourceRepository};
use crate::workspace::git::own::{self, Found, Unusable};
use crate::workspace::git::run::{self, FEW_LINES, GitEnd, GitError, Stdin};
use crate::workspace::git::{ObjectFormat, ObjectId};
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use tokio_util::sync::CancellationToken;

/// A folder, as git sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Folder {
    /// In no repository's work tree.
    Plain,
    /// It has a `.git` that is not used.
    Unusable(Unusable),
    /// The top level of a repository or of a worktree.
    TopLevel(Box<Repository>),
    /// A directory below the top level.
    Below(SourceRepository),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Repository {
    pub source: SourceRepository,
    pub head: Head,
    pub format: ObjectFormat,
    /// The commits at which the repository's own history is cut; none where it is whole.
    pub shallow: Vec<ObjectId>,
    /// Where its objects are; worktrees of one repository share them.
    pub objects: PathBuf,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Head {
    /// A branch by its full name (`refs/heads/main`), and its commit.
    Branch {
        name: String,
        commit: ObjectId,
    },
    Detached {
        commit: ObjectId,
    },
    /// A branch without a commit yet.
    Unborn {
        name: String,
    },
}

impl Head {
    pub fn commit(&self) -> Option<&ObjectId> {
        match self {
            Self::Branch { commit, .. } | Self::Detached { commit } => Some(commit),
            Self::Unborn { .. } => None,
        }
    }

    /// The content of a HEAD file that says the same.
    pub fn line(&self) -> String {
        match self {
            Self::Branch { name, .. } | Self::Unborn { name } => format!("ref: {name}"),
            Self::Detached { commit } => commit.to_string(),
        }
    }
}

/// Asks git about a folder, which is an absolute path without links.
pub async fn facts(git: &Git, folder: &Path, cancel: &CancellationToken) -> Result<Folder, GitError> {
    // Most folders without a repository need no git to tell.
    let has_git = |directory: &Path| directory.join(".git").symlink_metadata().is_ok();
    if !folder.ancestors().any(has_git) {
        return Ok(Folder::Plain);
    }
    let looked_at = folder.to_owned();
    let own = tokio::task::spawn_blocking(move || own::look(&looked_at))
        .await
        .unwrap_or_else(|stopped| std::panic::resume_unwind(stopped.into_panic()));
    let repository = match own {
        Found::Nothing => None,
        Found::Own { repository } => Some(repository),
        Found::Unusable(why) => return Ok(Folder::Unusable(why)),
    };
    // Without a `.git` of its own a folder that git finds no use for is like any other.
    let unused = || match &repository {
        Some(_) => Folder::Unusable(Unusable::Broken),
        None => Folder::Plain,
    };
    let top = discovered(git, folder, Discovery::TopLevel, cancel).await?;
    let git_dir = discovered(git, folder, Discovery::GitDirectory, cancel).await?;
    let (Some(work_tree), Some(git_dir)) = (top, git_dir) else {
        // A bare repository has no work tree.
        return Ok(unused());
    };
    let source = SourceRepository {
        git_dir,
        work_tree,
        folder: folder.to_owned(),
    };
    if source.work_tree != folder {
        // A repository may name any directory as its work tree.
        let below = folder.starts_with(&source.work_tree);
        return Ok(if below { Folder::Below(source) } else { unused() });
    }
    // One above may name this folder as its work tree; but then nobody looked at what that one is made of.
    let Some(repository) = repository else {
        return Ok(Folder::Plain);
    };
    let common = run::run(
        git.ask(&source, SourceQuestion::CommonDirectory),
        Stdin::Empty,
        FEW_LINES,
        cancel,
    );
    // Relative to where git ran.
    let common = folder.join(one_path(common.await?));
    if !tokio::fs::canonicalize(&common)
        .await
        .is_ok_and(|common| common == repository)
    {
        return Ok(Folder::Unusable(Unusable::Shared));
    }
    let (format, is_shallow) = format(git, &source, cancel).await?;
    let head = head(git, &source, cancel).await?;
    let shallow = if is_shallow {
        shallow_commits(&common).await?
    } else {
        Vec::new()
    };
    Ok(Folder::TopLevel(Box::new(Repository {
        source,
        head,
        format,
        shallow,
        objects: common.join("objects"),
    })))
}

/// `None` where git finds no repository, or no work tree.
async fn discovered(
    git: &Git,
    folder: &Path,
    what: Discovery,
    cancel: &CancellationToken,
) -> Result<Option<PathBuf>, GitError> {
    match run::end(git.discover(folder, what), Stdin::Empty, FEW_LINES, cancel).await? {
        GitEnd::Success(answer) => Ok(Some(one_path(answer))),
        GitEnd::Failure(GitError::Failed { said, .. })
            if said.contains("not a git repository") || said.contains("must be run in a work tree") =>
        {
            Ok(None)
        }
        GitEnd::Failure(error) => Err(error),
    }
}

/// A path may hold newlines; the last one is git's.
fn one_path(mut answer: Vec<u8>) -> PathBuf {
    if answer.last() == Some(&b'\n') {
        answer.pop();
    }
    PathBuf::from(OsString::from_vec(answer))
}

async fn format(
    git: &Git,
    source: &SourceRepository,
    cancel: &CancellationToken,
) -> Result<(ObjectFormat, bool), GitError> {
    let command = git.ask(source, SourceQuestion::Format);
    let name = command.name.clone();
    let answer = run::run(command, Stdin::Empty, FEW_LINES, cancel).await?;
    let text = String::from_utf8_lossy(&answer);
    let mut lines = text.lines();
    let shallow = lines.next() == Some("true");
    let format = lines.next().and_then(ObjectFormat::parse);
    Ok((format.ok_or_else(|| GitError::answer(&name, &answer))?, shallow))
}

async fn head(git: &Git, source: &SourceRepository, cancel: &CancellationToken) -> Result<Head, GitError> {
    let branch = line(git.ask(source, SourceQuestion::Branch), cancel).await?;
    let command = git.ask(source, SourceQuestion::Head);
    let name = command.name.clone();
    let commit = match line(command, cancel).await? {
        Some(id) => Some(ObjectId::parse(id.as_bytes()).map_err(|_| GitError::answer(&name, id.as_bytes()))?),
        None => None,
    };
    match (branch, commit) {
        (Some(name), Some(commit)) => Ok(Head::Branch { name, commit }),
        (Some(name), None) => Ok(Head::Unborn { name }),
        (None, Some(commit)) => Ok(Head::Detached { commit }),
        (None, None) => Err(GitError::answer(&name, b"neither a branch nor a commit")),
    }
}

/// The one line that git answers; `None` where it fails, which with `--quiet` is its way to say "none".
async fn line(command: GitCommand, cancel: &CancellationToken) -> Result<Option<String>, GitError> {
    match run::end(command, Stdin::Empty, FEW_LINES, cancel).await? {
        GitEnd::Success(answer) => Ok(Some(String::from_utf8_lossy(&answer).trim_end().to_owned())),
        GitEnd::Failure(_) => Ok(None),
    }
}

async fn shallow_commits(common: &Path) -> Result<Vec<ObjectId>, GitError> {
    let path = common.join("shallow");
    let text = tokio::fs::read(&path).await.map_err(|source| GitError::Feed {
        command: path.display().to_string(),
        source,
    })?;
    let lines = text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    lines
        .map(|line| ObjectId::parse(line).map_err(|_| GitError::answer(&path.display().to_string(), line)))
        .collect()
}
