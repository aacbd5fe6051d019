//! From where git runs hooks in the user's folder.
//!
//! What a session changes there would run on the host with the user's next commit, so it is refused by name. Asking is
//! reading git's configuration and nothing else; the user's own is asked, because `core.hooksPath` may stand in any layer.

use crate::workspace::apply::path::RelativePath;
use crate::workspace::apply::way::{Way, follow, without_dots};
use crate::workspace::git::command::{Discovery, Git, GitCommand};
use crate::workspace::git::run::{FEW_LINES, GitEnd, GitError, Stdin, end};
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use tokio_util::sync::CancellationToken;

/// Where in the folder hooks are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Hooks {
    /// In these directories, if any. Git's own is not among them: no path of ours leads there.
    In(Vec<RelativePath>),
    /// The folder itself is the directory that hooks run from.
    Everywhere,
}

/// Finds the hooks that concern a canonical folder, and those of the repositories below it.
pub async fn find(
    git: &Git,
    folder: &Path,
    repositories: &BTreeSet<RelativePath>,
    cancel: &CancellationToken,
) -> Result<Hooks, GitError> {
    let mut places = places(git, folder, cancel).await?;
    for repository in repositories {
        places.extend(self::places(git, &folder.join(repository.as_path()), cancel).await?);
    }
    Ok(within(folder, &places))
}

/// From where git runs hooks for what is in a directory: their directory, what they are links to, and all that is on the way there.
async fn places(git: &Git, directory: &Path, cancel: &CancellationToken) -> Result<Vec<PathBuf>, GitError> {
    let (found, below) = match configured(git, directory, cancel).await? {
        // Git runs hooks in the top level, and takes a relative path from there.
        Some(configured) => (Discovery::TopLevel, configured),
        None => (Discovery::CommonDirectory, PathBuf::from("hooks")),
    };
    let from = ask(git.discover(directory, found), b'\n', 128, cancel).await?;
    // The answer may be relative to where it was asked.
    let spelled = directory.join(from.unwrap_or_default()).join(below);
    let mut places = on_the_way(&spelled).await;
    if let Ok(mut entries) = tokio::fs::read_dir(&spelled).await {
        while let Ok(Some(entry)) = entries.next_entry().await {
            if entry.file_type().await.is_ok_and(|kind| kind.is_symlink()) {
                places.extend(on_the_way(&entry.path()).await);
            }
        }
    }
    Ok(places)
}

/// Every place of which a change would change what a path names: where it leads, each link that it leads through, and where
/// nothing is yet, what would have to be made.
async fn on_the_way(path: &Path) -> Vec<PathBuf> {
    let mut places = vec![without_dots(path)];
    let Way { end, by } = follow(path).await;
    places.extend(by);
    places.extend(end);
    places
}

/// What `core.hooksPath` says for a folder, as it is spelled: absolute, or relative to the top level.
pub async fn configured(git: &Git, folder: &Path, cancel: &CancellationToken) -> Result<Option<PathBuf>, GitError> {
    ask(git.effective_hooks(folder), 0, 1, cancel).await
}

/// A path, which git ends with `ended_by`; `None` where git ends with `nothing`, which says that it has none. Any other failure
/// (a broken configuration) must not pass for that.
async fn ask(
    command: GitCommand,
    ended_by: u8,
    nothing: i32,
    cancel: &CancellationToken,
) -> Result<Option<PathBuf>, GitError> {
    match end(command, Stdin::Empty, FEW_LINES, cancel).await? {
        GitEnd::Success(answer) => {
            let path = answer.strip_suffix(&[ended_by]).unwrap_or(&answer);
            Ok((!path.is_empty()).then(|| PathBuf::from(OsStr::from_bytes(path))))
        }
        GitEnd::Failure(GitError::Failed { status, .. }) if status.code() == Some(nothing) => Ok(None),
        GitEnd::Failure(error) => Err(error),
    }
}

fn within(folder: &Path, places: &[PathBuf]) -> Hooks {
    let mut inside = Vec::new();
    for place in places {
        let Ok(below) = place.strip_prefix(folder) else {
            continue;
        };
        if below.as_os_str().is_empty() {
            return Hooks::Everywhere;
        }
        // What is no path of ours can't be written anyway.
        if let Ok(path) = RelativePath::parse(below.as_os_str().as_bytes())
            && !inside.contains(&path)
        {
            inside.push(path);
        }
    }
    Hooks::In(inside)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_lies_in_the_folder_counts() {
        let below = |places: &[&str]| {
            let places: Vec<PathBuf> = places.iter().map(|place| without_dots(Path::new(place))).collect();
            within(Path::new("/work/project"), &places)
        };
        let path = |text: &str| RelativePath::parse(text.as_bytes()).unwrap();
        assert_eq!(below(&["/work/project/.husky/_"]), Hooks::In(vec![path(".husky/_")]));
        assert_eq!(
            below(&["/work/project/a/../hooks", "/work/project/tools/hooks"]),
            Hooks::In(vec![path("hooks"), path("tools/hooks")])
        );
        assert_eq!(below(&["/work/projects/hooks", "/etc/hooks"]), Hooks::In(Vec::new()));
        assert_eq!(below(&["/work/project/.git/hooks"]), Hooks::In(Vec::new()));
        assert_eq!(below(&["/work/project/x/.."]), Hooks::Everywhere);
    }
}
