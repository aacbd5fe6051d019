//! The copy's own `.git`: made before the container ever ran, with the history that HEAD reaches and nothing else of the
//! source's: no remotes, hooks, configuration, alternates or other branches.

#![expect(clippy::disallowed_methods, reason = "writes the copy's git directory")]

use crate::workspace::copy::CopyOwner;
use crate::workspace::git::command::{Git, OwnRepository};
use crate::workspace::git::run::{self, FEW_LINES, Stdin};
use crate::workspace::git::skeleton::{self, Purpose};
use crate::workspace::git::source::Head;
use crate::workspace::git::{ObjectFormat, ObjectId};
use crate::workspace::shadow::ShadowError;
use std::fs;
use std::io;
use std::os::unix::fs::lchown;
use std::path::{Path, PathBuf};
use tokio_util::sync::CancellationToken;

/// What goes into it.
#[derive(Debug, Clone)]
pub(in crate::workspace) struct InnerGit {
    /// The copy.
    pub workspace: PathBuf,
    /// Where the pack is taken from.
    pub shadow: OwnRepository,
    pub head: Head,
    pub format: ObjectFormat,
    /// Commits of the pack whose parents are not in it.
    pub shallow: Vec<ObjectId>,
    pub owner: CopyOwner,
}

/// Makes it.
pub(in crate::workspace) async fn make(
    git: &Git,
    inner: InnerGit,
    cancel: &CancellationToken,
) -> Result<(), ShadowError> {
    let own = OwnRepository {
        git_dir: inner.workspace.join(".git"),
    };
    let path = own.git_dir.clone();
    let written = |source| ShadowError::Write { path, source };
    let (commit, owner) = (inner.head.commit().cloned(), inner.owner);
    let files = own.git_dir.clone();
    blocking(move || write(&files, &inner)).await.map_err(written)?;
    if commit.is_some() {
        // Ours still: the container has not been started.
        let command = git.work(&own, "read-tree", &["HEAD"]);
        run::run(command, Stdin::Empty, FEW_LINES, cancel).await?;
    }
    if let CopyOwner::User { uid, gid } = owner {
        let path = own.git_dir.clone();
        let written = |source| ShadowError::Write { path, source };
        blocking(move || give_away(&own.git_dir, uid, gid))
            .await
            .map_err(written)?;
    }
    Ok(())
}

async fn blocking(work: impl FnOnce() -> io::Result<()> + Send + 'static) -> io::Result<()> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|stopped| std::panic::resume_unwind(stopped.into_panic()))
}

fn write(git_dir: &Path, inner: &InnerGit) -> io::Result<()> {
    skeleton::make(git_dir, Purpose::Workspace, inner.format, &inner.head.line())?;
    if let Head::Branch { name, commit } = &inner.head {
        let text = format!("# pack-refs with: peeled fully-peeled sorted \n{commit} {name}\n");
        fs::write(git_dir.join("packed-refs"), text)?;
    }
    if !inner.shallow.is_empty() {
        let lines: String = inner.shallow.iter().map(|id| format!("{id}\n")).collect();
        fs::write(git_dir.join("shallow"), lines)?;
    }
    // Copied, never linked: without root inside and out the container's user is ours, and could write the shadow's.
    for pack in pack_files(&inner.shadow)? {
        if let Some(name) = pack.file_name() {
            fs::copy(&pack, git_dir.join("objects/pack").join(name))?;
        }
    }
    Ok(())
}

/// The packs of the shadow, each with its index.
pub(in crate::workspace) fn pack_files(shadow: &OwnRepository) -> io::Result<Vec<PathBuf>> {
    let below = shadow.git_dir.join("objects/pack");
    fs::read_dir(below)?.map(|entry| Ok(entry?.path())).collect()
}

fn give_away(path: &Path, uid: u32, gid: u32) -> io::Result<()> {
    if path.symlink_metadata()?.is_dir() {
        for entry in fs::read_dir(path)? {
            give_away(&entry?.path(), uid, gid)?;
        }
    }
    lchown(path, Some(uid), Some(gid))
}
