//! A session's copy of the folder, as its handle and its actor share it: read for changes as long as it is there.
//!
//! The container writes it, so it is only ever read through [`crate::workspace::tree`]. Removing it waits for whoever
//! reads it: files that vanish during a comparison would be told as deleted.

use crate::audit::record::HandedTo;
use crate::plan::identity::SessionId;
use crate::session::directory::private_dir_all;
use crate::session::error::SessionError;
use crate::session::journal::SessionJournal;
use crate::workspace::diff::{self, Changes};
use crate::workspace::manifest::Manifest;
use crate::workspace::tree::Tree;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::sync::RwLock;

/// The most files and directories that a copy is read back to.
const MAX_ENTRIES: u64 = 1_000_000;

pub(super) struct WorkspaceCopy {
    /// What the copy held when it was made.
    manifest: Arc<Manifest>,
    /// The user's folder.
    folder: PathBuf,
    path: PathBuf,
    presence: RwLock<Presence>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Presence {
    There,
    Gone,
}

impl WorkspaceCopy {
    pub fn new(manifest: Arc<Manifest>, folder: PathBuf, path: PathBuf) -> Self {
        Self {
            manifest,
            folder,
            path,
            presence: RwLock::new(Presence::There),
        }
    }

    /// What changed so far; `None` once the copy is gone.
    pub async fn changes(&self) -> Result<Option<Changes>, SessionError> {
        let presence = self.presence.read().await;
        if *presence == Presence::Gone {
            return Ok(None);
        }
        let (manifest, folder, path) = (Arc::clone(&self.manifest), self.folder.clone(), self.path.clone());
        let reading =
            tokio::task::spawn_blocking(move || diff::changes(&manifest, &folder, &Tree::open(&path)?, MAX_ENTRIES));
        let changes = reading
            .await
            .unwrap_or_else(|stopped| std::panic::resume_unwind(stopped.into_panic()));
        Ok(Some(changes?))
    }

    /// Nothing is read any more once this returns, so that the copy can be removed.
    pub async fn close(&self) {
        *self.presence.write().await = Presence::Gone;
    }

    /// Keeps the changes of a session that nobody ended on purpose as a patch below the state directory, and says where.
    /// `None` where there are none or they can't be kept; the latter is logged.
    pub async fn salvage(&self, state_dir: &Path, session: &SessionId, journal: &SessionJournal) -> Option<PathBuf> {
        let path = state_dir.join("patches").join(format!("{session}.patch"));
        let kept = match self.changes().await {
            Ok(Some(changes)) if !changes.files.is_empty() => {
                let to = HandedTo::PatchFile { path: path.clone() };
                match journal.handing_out(&changes, to).await {
                    Ok(()) => keep(&path, &changes),
                    Err(error) => Err(io::Error::other(error)),
                }
            }
            Ok(_) => return None,
            Err(error) => Err(io::Error::other(error)),
        };
        match kept {
            Ok(()) => Some(path),
            Err(error) => {
                tracing::warn!(%session, %error, "the changes of a lost session could not be kept");
                None
            }
        }
    }
}

fn keep(path: &Path, changes: &Changes) -> io::Result<()> {
    if let Some(patches) = path.parent() {
        private_dir_all(patches)?;
    }
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(changes.patch.as_str().as_bytes())
}
