//! Text that the session and the host both changed.
//!
//! `git merge-file` sees three temporary files of ours and no work tree. Where both changed the same lines its output, with
//! the conflict's marks, is thrown away: marks never reach the host.

#![expect(
    clippy::disallowed_methods,
    reason = "writes the three versions of a text for git merge-file"
)]

use crate::workspace::apply::content::{ContentError, Contents, Objects};
use crate::workspace::apply::decide::{Conflict, State, Step, TextMerge, with_executable};
use crate::workspace::apply::host::{HostError, HostFolder};
use crate::workspace::blob::blob_id;
use crate::workspace::git::ObjectId;
use crate::workspace::git::run::{GitEnd, GitError, Stdin, Stdout, end};
use crate::workspace::tree::{HardLinks, TreeError};
use nix::errno::Errno;
use std::path::Path;
use tokio_util::sync::CancellationToken;

/// The largest text that is merged, in bytes.
const MAX_TEXT: u64 = 4 << 20;
/// Git takes a file for binary that has a NUL in so many first bytes.
const LOOKED_AT: usize = 8000;

#[derive(Debug, thiserror::Error)]
pub enum MergeError {
    #[error(transparent)]
    Content(#[from] ContentError),
    #[error(transparent)]
    Git(#[from] GitError),
    #[error(transparent)]
    Host(#[from] HostError),
}

/// What a merge came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Merged {
    /// To be done for it; `None` where the host's text is the result already.
    Step(Option<Step>),
    Conflict(Conflict),
    /// The host's file is no longer what was decided on.
    Changed,
}

/// Merges one file's text. The result is in `contents` under its name.
pub async fn merge(
    merge: &TextMerge,
    folder: &HostFolder,
    objects: &Objects,
    contents: &mut Contents,
    work: &Path,
    cancel: &CancellationToken,
) -> Result<Merged, MergeError> {
    let fits = |id: &ObjectId| contents.size(id).is_some_and(|size| size <= MAX_TEXT);
    if !fits(&merge.base) || !fits(&merge.session) {
        return Ok(Merged::Conflict(Conflict::TooLargeToMerge));
    }
    let host = match folder.tree().read(merge.path.as_path(), HardLinks::Allowed, MAX_TEXT) {
        Ok(text) => text,
        Err(TreeError::TooLarge { .. }) => return Ok(Merged::Conflict(Conflict::TooLargeToMerge)),
        Err(TreeError::Unreadable { errno, .. }) if errno != Errno::ENOENT => {
            return Err(folder.failed(&merge.path, errno).into());
        }
        Err(_) => return Ok(Merged::Changed),
    };
    if blob_id(folder.format(), &host) != merge.host.id {
        return Ok(Merged::Changed);
    }
    let texts = [
        Some(host),
        whole(contents, &merge.base, work)?,
        whole(contents, &merge.session, work)?,
    ];
    let [Some(host), Some(base), Some(session)] = texts else {
        return Ok(Merged::Conflict(Conflict::TooLargeToMerge));
    };
    if [&host, &base, &session].into_iter().any(|text| is_binary(text)) {
        return Ok(Merged::Conflict(Conflict::NotText));
    }
    let Some(text) = three_way([&host, &base, &session], objects, work, cancel).await? else {
        return Ok(Merged::Conflict(Conflict::Lines));
    };
    let id = blob_id(folder.format(), &text);
    let host = &merge.host;
    let before = State::File {
        id: host.id.clone(),
        executable: host.attributes.is_executable(),
    };
    let after = State::File {
        id: id.clone(),
        executable: merge.executable,
    };
    if before == after {
        return Ok(Merged::Step(None));
    }
    let path = merge.path.clone();
    if id == host.id {
        let mode = with_executable(host.attributes.mode, merge.executable);
        return Ok(Merged::Step(Some(Step::SetExecutable {
            path,
            before,
            after,
            mode,
        })));
    }
    contents.add(id, &text, work)?;
    Ok(Merged::Step(Some(Step::Put {
        path,
        before,
        after,
        replaces: Some(host.attributes),
    })))
}

fn whole(contents: &Contents, id: &ObjectId, work: &Path) -> Result<Option<Vec<u8>>, ContentError> {
    let content = contents.get(id).map(super::content::Content::whole).transpose();
    content.map_err(|source| ContentError::Work {
        work: work.to_owned(),
        source,
    })
}

fn is_binary(text: &[u8]) -> bool {
    text.get(..text.len().min(LOOKED_AT)).unwrap_or_default().contains(&0)
}

/// `None` where both sides changed the same lines.
async fn three_way(
    texts: [&[u8]; 3],
    objects: &Objects,
    work: &Path,
    cancel: &CancellationToken,
) -> Result<Option<Vec<u8>>, MergeError> {
    let in_work = |source| ContentError::Work {
        work: work.to_owned(),
        source,
    };
    let directory = tempfile::tempdir_in(work).map_err(in_work)?;
    let mut merge = objects.command("merge-file", &["--stdout", "--quiet"]);
    for (name, text) in ["host", "base", "session"].into_iter().zip(texts) {
        let path = directory.path().join(name);
        std::fs::write(&path, text).map_err(in_work)?;
        merge.command = merge.command.arg(path);
    }
    // Merged text is no longer than both sides together, and marks are not kept.
    let bound = texts.iter().map(|text| text.len()).sum::<usize>() * 2 + (1 << 20);
    match end(merge, Stdin::Empty, Stdout::Memory(bound), cancel).await? {
        GitEnd::Success(text) => Ok(Some(text)),
        // Its exit code is the number of conflicts, 127 at most.
        GitEnd::Failure(GitError::Failed { status, .. })
            if status.code().is_some_and(|code| (1..=127).contains(&code)) =>
        {
            Ok(None)
        }
        GitEnd::Failure(error) => Err(error.into()),
    }
}
