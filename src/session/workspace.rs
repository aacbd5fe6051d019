//! A session's workspace: filled when the session is made, read for changes for as long as the session is there.
//!
//! The container writes it, so it is only ever read through [`crate::workspace::tree`]. Removing it waits for whoever
//! reads it: files that vanish during a comparison would be told as deleted.

use crate::config::Config;
use crate::plan::launch::LaunchPlan;
use crate::session::blocking::blocking;
use crate::session::directory::SessionDirectory;
use crate::session::error::SessionError;
use crate::session::store::record::Record;
use crate::workspace::copy::{self, CopyLimits, CopyOwner, Skipped};
use crate::workspace::diff::{self, Changes};
use crate::workspace::manifest::Manifest;
use crate::workspace::tree::Tree;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// The most files and directories that a copy is read back to.
const MAX_ENTRIES: u64 = 1_000_000;

#[derive(Debug)]
pub struct SessionWorkspace {
    /// What the copy held when it was made.
    manifest: Arc<Manifest>,
    /// The user's folder.
    folder: PathBuf,
    path: PathBuf,
}

impl SessionWorkspace {
    /// Fills the workspace of a new session. Blocks.
    pub fn fill(
        directory: &SessionDirectory,
        plan: &LaunchPlan,
        folder: &Path,
        config: &Config,
        give_up: &CancellationToken,
    ) -> Result<Self, SessionError> {
        let limits = CopyLimits {
            bytes: config.limits.workspace.clone(),
            files: config.workspace.max_files.clone(),
        };
        let owner = CopyOwner::User {
            uid: plan.user.host_uid,
            gid: plan.user.host_gid,
        };
        let mut progress = |_| match give_up.is_cancelled() {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        };
        let path = directory.files.workspace.clone();
        let copied = copy::copy(folder, &path, &limits, owner, &mut progress)?;
        if copied.skipped != Skipped::default() {
            tracing::info!(skipped = ?copied.skipped, "parts of the folder were not copied");
        }
        Ok(Self {
            manifest: Arc::new(copied.manifest),
            folder: folder.to_owned(),
            path,
        })
    }

    pub fn reopen(directory: &SessionDirectory, record: &Record) -> Result<Self, SessionError> {
        Ok(Self {
            manifest: Arc::default(),
            folder: record.start.folder.path().to_owned(),
            path: directory.files.workspace.clone(),
        })
    }

    /// What changed so far.
    pub async fn changes(&self) -> Result<Changes, SessionError> {
        let (manifest, folder, path) = (Arc::clone(&self.manifest), self.folder.clone(), self.path.clone());
        let changes = blocking(move || diff::changes(&manifest, &folder, &Tree::open(&path)?, MAX_ENTRIES)).await?;
        Ok(changes)
    }
}
