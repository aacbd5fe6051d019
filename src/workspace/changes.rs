//! What git says of the two trees of a comparison: files, figures, and a patch that `git apply --binary` takes.

use crate::wire::untrusted::Untrusted;
use crate::workspace::compare::{Bounds, Comparison, Withheld};
use crate::workspace::git::ObjectId;
use crate::workspace::git::command::GitCommand;
use crate::workspace::git::run::{self, Stdin, Stdout};
use crate::workspace::listing;
use crate::workspace::shadow::{MANY_LINES, Shadow, ShadowError};
use serde::Serialize;
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io::{self, Read, Seek};
use std::path::Path;
use tokio_util::sync::CancellationToken;

/// What a session changed in its copy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Changes {
    /// The commit that the files are compared with.
    pub base: ObjectId,
    pub files: Vec<FileChange>,
    /// Lines added and removed in text files.
    pub insertions: u64,
    pub deletions: u64,
    /// A patch in git's form, with binary content and whole names of objects. Cut at a bound; a last line then says so.
    pub patch: Untrusted,
    /// The length of the whole patch, in bytes.
    pub patch_bytes: u64,
    /// Of the whole patch, in hexadecimal.
    pub patch_sha256: String,
    pub withheld: Vec<Withheld>,
    /// How many more are withheld than are named.
    pub withheld_more: u64,
    /// How many files and directories are no part of this because a `.gitignore` names them.
    pub ignored: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct FileChange {
    /// Relative to the workspace.
    pub path: Untrusted,
    pub kind: ChangeKind,
    /// Where it was, if it moved.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub renamed_from: Option<Untrusted>,
    /// Lines; absent where it is binary.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub insertions: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deletions: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ChangeKind {
    Added,
    Modified,
    Deleted,
    Renamed,
}

/// A whole patch that was written to a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PatchFigures {
    pub bytes: u64,
    /// In hexadecimal.
    pub sha256: String,
}

#[cfg(test)]
impl Changes {
    /// Of a tree that is as it was.
    pub fn none() -> Self {
        Self {
            base: ObjectId::from_digest(&[0; 20]),
            files: Vec::new(),
            insertions: 0,
            deletions: 0,
            patch: Untrusted::default(),
            patch_bytes: 0,
            patch_sha256: String::new(),
            withheld: Vec::new(),
            withheld_more: 0,
            ignored: 0,
        }
    }
}

#[cfg(test)]
impl FileChange {
    pub fn of(path: &str, kind: ChangeKind) -> Self {
        Self {
            path: Untrusted::new(path),
            kind,
            renamed_from: None,
            insertions: None,
            deletions: None,
        }
    }
}

impl Shadow {
    /// What the tree at `workspace` has become since the baseline.
    pub async fn changes(
        &self,
        workspace: &Path,
        bounds: &Bounds,
        cancel: &CancellationToken,
    ) -> Result<Changes, ShadowError> {
        self.compare(workspace, bounds, cancel)
            .await?
            .changes(bounds, cancel)
            .await
    }
}

impl Comparison {
    /// Describes the comparison.
    pub async fn changes(&self, bounds: &Bounds, cancel: &CancellationToken) -> Result<Changes, ShadowError> {
        let listed = self.diff_tree(&["-z", "--raw", "--numstat"]);
        let listed = run::run(listed, Stdin::Empty, MANY_LINES, cancel).await?;
        let differences = listing::differences(&listed)?;
        let file = tempfile::tempfile().map_err(ShadowError::Feed)?;
        let patch = file.try_clone().map_err(ShadowError::Feed)?;
        let figures = self.write_patch(file, cancel).await?;
        let limit = bounds.patch;
        let text = tokio::task::spawn_blocking(move || beginning(patch, limit))
            .await
            .unwrap_or_else(|stopped| std::panic::resume_unwind(stopped.into_panic()))
            .map_err(ShadowError::Feed)?;
        let sum = |lines: fn(&listing::Difference) -> Option<u64>| differences.iter().filter_map(lines).sum();
        Ok(Changes {
            base: self.baseline.commit.clone(),
            insertions: sum(|file| file.insertions),
            deletions: sum(|file| file.deletions),
            files: differences.iter().map(file_change).collect(),
            patch: Untrusted::new(text),
            patch_bytes: figures.bytes,
            patch_sha256: figures.sha256,
            withheld: self.withheld.clone(),
            withheld_more: self.withheld_more,
            ignored: self.ignored,
        })
    }

    /// Writes the whole patch, byte by byte as `git apply --binary` takes it, to the beginning of an empty file.
    pub async fn write_patch(&self, file: File, cancel: &CancellationToken) -> Result<PatchFigures, ShadowError> {
        let written = file.try_clone().map_err(ShadowError::Feed)?;
        let patch = [
            "-p",
            "--binary",
            "--full-index",
            "--no-color",
            "--src-prefix=a/",
            "--dst-prefix=b/",
        ];
        run::run(self.diff_tree(&patch), Stdin::Empty, Stdout::File(written), cancel).await?;
        tokio::task::spawn_blocking(move || figures(file))
            .await
            .unwrap_or_else(|stopped| std::panic::resume_unwind(stopped.into_panic()))
            .map_err(ShadowError::Feed)
    }

    fn diff_tree(&self, what: &[&str]) -> GitCommand {
        let (old, new) = (self.baseline.commit.to_string(), self.commit.to_string());
        let mut args = vec!["-r", "-M", "--no-ext-diff", "--no-textconv", "--no-commit-id"];
        args.extend(what);
        args.extend([old.as_str(), new.as_str()]);
        self.git().work(self.repository(), "diff-tree", &args)
    }
}

fn file_change(difference: &listing::Difference) -> FileChange {
    let shown = |path: &Path| Untrusted::new(path.to_string_lossy());
    FileChange {
        path: shown(&difference.path),
        kind: match difference.status {
            b'A' => ChangeKind::Added,
            b'D' => ChangeKind::Deleted,
            b'R' => ChangeKind::Renamed,
            // M, and T where a file became a link.
            _ => ChangeKind::Modified,
        },
        renamed_from: difference.renamed_from.as_deref().map(shown),
        insertions: difference.insertions,
        deletions: difference.deletions,
    }
}

fn figures(mut file: File) -> io::Result<PatchFigures> {
    file.rewind()?;
    let mut hasher = Sha256::new();
    let mut piece = vec![0; 128 << 10];
    let mut bytes = 0;
    loop {
        let read = file.read(&mut piece)?;
        match piece.get(..read) {
            Some(piece) if !piece.is_empty() => hasher.update(piece),
            _ => break,
        }
        bytes += read as u64;
    }
    let sha256 = hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(PatchFigures { bytes, sha256 })
}

/// The text up to the last whole line within the limit, and a line that says what is missing.
fn beginning(mut file: File, limit: usize) -> io::Result<String> {
    file.rewind()?;
    let whole = file.metadata()?.len();
    let mut content = Vec::new();
    file.take(limit as u64).read_to_end(&mut content)?;
    if whole <= limit as u64 {
        return Ok(String::from_utf8_lossy(&content).into_owned());
    }
    let end = content.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    content.truncate(end);
    let mut text = String::from_utf8_lossy(&content).into_owned();
    text.push_str(&format!("# cut here: {end} of {whole} bytes are shown\n"));
    Ok(text)
}

#[cfg(test)]
mod tests;
