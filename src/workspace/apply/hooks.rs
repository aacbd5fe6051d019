//! From where git runs hooks in the user's folder.
//!
//! What a session changes there would run on the host with the user's next commit, so it is refused by name. Asking is
//! reading git's configuration and nothing else; the user's own is asked, because `core.hooksPath` may stand in any layer.

use crate::workspace::apply::path::RelativePath;
use crate::workspace::git::command::{Discovery, Git, GitCommand};
use crate::workspace::git::run::{FEW_LINES, GitEnd, GitError, Stdin, end};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};
use tokio_util::sync::CancellationToken;

/// Where in the folder hooks are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Hooks {
    /// In these directories, if any. Git's own is not among them: no path of ours leads there.
    In(Vec<RelativePath>),
    /// The folder itself is the directory that hooks run from.
    Everywhere,
}

/// Finds the hooks that concern a canonical folder.
pub async fn find(git: &Git, folder: &Path, cancel: &CancellationToken) -> Result<Hooks, GitError> {
    let Some(configured) = self::configured(git, folder, cancel).await? else {
        return Ok(Hooks::In(Vec::new()));
    };
    // Git runs hooks in the top level, and takes a relative path from there.
    let top = ask(git.discover(folder, Discovery::TopLevel), b'\n', 128, cancel).await?;
    let spelled = top.as_deref().unwrap_or(folder).join(configured);
    let mut places = vec![without_dots(&spelled)];
    // The name may lead through a link to a directory that has another one in the folder.
    places.extend(tokio::fs::canonicalize(&spelled).await.ok());
    Ok(within(folder, &places))
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

/// A path without `.` and `..`, by its spelling.
fn without_dots(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => {
                plain.pop();
            }
            Component::CurDir => {}
            part => plain.push(part),
        }
    }
    plain
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
