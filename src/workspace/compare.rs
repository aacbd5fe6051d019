//! The container's tree against the baseline: a second tree, in an object directory of its own beside the shadow.
//!
//! The container wrote the tree and may go on writing: it is read through [`Tree`] only, each file once into memory or
//! a file of ours, and what was read is what is compared, hashed and told to git. Sizes and times are the container's
//! to forge, so every file's content is read. What may not be brought is withheld by name, and counts as unchanged. What the
//! baseline does not have and git would ignore is no change: build output is not what a session was asked for.

mod reader;

use crate::wire::untrusted::Untrusted;
use crate::workspace::blob::Entry;
use crate::workspace::compare::reader::Reader;
use crate::workspace::fast_import::{Import, quoted};
use crate::workspace::git::ObjectId;
use crate::workspace::git::command::{Git, OwnRepository};
use crate::workspace::git::run::{self, Stdin, Stdout};
use crate::workspace::shadow::{self, Baseline, Shadow, ShadowError};
use crate::workspace::tree::Tree;
use serde::Serialize;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// How the names of the object directories of comparisons begin, in the shadow.
pub(in crate::workspace) const BESIDE: &str = "changes-";

/// What a comparison may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Files, directories and links of the tree.
    pub entries: u64,
    /// The largest file that is brought, in bytes.
    pub file: u64,
    /// All that is brought together, in bytes.
    pub total: u64,
    /// Wall-clock time of the reading.
    pub time: Duration,
    /// The largest patch in memory, in bytes.
    pub patch: usize,
}

/// Something of the tree that is not brought.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Withheld {
    /// Relative to the workspace.
    pub path: Untrusted,
    pub reason: WithheldReason,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
pub enum WithheldReason {
    #[error("it is a socket, FIFO or device")]
    Special,
    #[error("it has several hard links")]
    HardLinked,
    #[error("it can't be read")]
    Unreadable,
    #[error("it is a .git, or lies where one would be")]
    Git,
    #[error("it is too large")]
    TooLarge,
    #[error("all changes together are too large")]
    TooMuch,
    #[error("it has more patterns than are read: what it ignores is part of the changes")]
    Patterns,
}

/// One path of which the two trees differ. Renames are not looked for: they are one deleted and one added.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TreeChange {
    /// Relative to the workspace; leads down, and into no `.git`.
    pub path: PathBuf,
    pub old: Option<Entry>,
    pub new: Option<Entry>,
}

/// Two trees, and the objects of the second for as long as this lives.
#[derive(Debug)]
pub struct Comparison {
    git: Git,
    repository: OwnRepository,
    shadow: OwnRepository,
    /// What the shadow's reference named when the comparison began.
    reference: Option<ObjectId>,
    /// Removes the object directory at the end.
    _directory: tempfile::TempDir,
    /// What it is compared with.
    pub baseline: Baseline,
    /// The commit of the second tree.
    pub commit: ObjectId,
    /// By path.
    pub changes: Vec<TreeChange>,
    /// The first 1000.
    pub withheld: Vec<Withheld>,
    /// How many more there are.
    pub withheld_more: u64,
    /// Files and directories that are not part of the changes because a `.gitignore` of the tree names them; what is
    /// in such a directory is not counted.
    pub ignored: u64,
}

impl Shadow {
    /// Reads the tree at `workspace` and says in what it differs from the baseline.
    pub async fn compare(
        &self,
        workspace: &Path,
        bounds: &Bounds,
        cancel: &CancellationToken,
    ) -> Result<Comparison, ShadowError> {
        let (repository, directory) = self.beside()?;
        // Read once: another process may move it at any time.
        let reference = shadow::reference(&self.git, &self.repository, cancel).await?;
        let format = self.first.object_format;
        let start = reference.clone().unwrap_or_else(|| self.first.commit.clone());
        let base = self.files(&start, cancel).await?;
        let tree = Tree::open(workspace)?;
        let (bounds, stop) = (*bounds, cancel.clone());
        // fast-import wants the tree of the commit, by its own name.
        let root = shadow::tree_of(&self.git, &self.repository, &start, cancel).await?;
        let fill = move |out| {
            let import = Import::begin(out, Some(&root)).map_err(ShadowError::Feed)?;
            let mut reader = Reader::new(&base, format, bounds, import, stop);
            tree.walk(bounds.entries, &mut reader)?;
            reader.finish()
        };
        let (commit, read) = shadow::import(&self.git, &repository, cancel, fill).await?;
        Ok(Comparison {
            git: self.git.clone(),
            repository,
            shadow: self.repository.clone(),
            reference,
            _directory: directory,
            baseline: Baseline {
                commit: start,
                object_format: format,
            },
            commit,
            changes: read.changes,
            withheld: read.withheld,
            withheld_more: read.withheld_more,
            ignored: read.ignored,
        })
    }

    /// A git directory that has the shadow's objects and keeps its own apart, so that asking often leaves nothing behind.
    fn beside(&self) -> Result<(OwnRepository, tempfile::TempDir), ShadowError> {
        let shadow = &self.repository.git_dir;
        let written = |source| ShadowError::Write {
            path: shadow.clone(),
            source,
        };
        let directory = tempfile::Builder::new()
            .prefix(BESIDE)
            .tempdir_in(shadow)
            .map_err(written)?;
        let repository = shadow::create(&directory.path().join("git"), self.first.object_format)?;
        let objects = quoted(shadow.join("objects").as_os_str().as_bytes());
        let alternates = repository.git_dir.join("objects/info/alternates");
        let file = std::fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .open(alternates);
        file.and_then(|mut file| file.write_all(&objects)).map_err(written)?;
        Ok((repository, directory))
    }
}

impl Comparison {
    /// Where packs of the shadow begin, from [`Self::repository`], in which git runs.
    pub(in crate::workspace) const SHADOW_PACK: &str = "../../objects/pack/pack";

    pub(in crate::workspace) fn shadow(&self) -> &OwnRepository {
        &self.shadow
    }

    pub(in crate::workspace) fn reference(&self) -> Option<&ObjectId> {
        self.reference.as_ref()
    }

    pub fn git(&self) -> &Git {
        &self.git
    }

    /// Where the objects of both trees are found.
    pub fn repository(&self) -> &OwnRepository {
        &self.repository
    }

    /// A blob of either tree into memory; one of more than `limit` bytes is an error.
    pub async fn blob(&self, id: &ObjectId, limit: usize, cancel: &CancellationToken) -> Result<Vec<u8>, ShadowError> {
        let command = self.git.work(&self.repository, "cat-file", &["blob", &id.to_string()]);
        Ok(run::run(command, Stdin::Empty, Stdout::Memory(limit), cancel).await?)
    }
}

#[cfg(test)]
mod tests;
