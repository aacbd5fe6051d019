//! A session's workspace: filled when the session is made, read for changes as long as the session is there, and brought back
//! by applying them.
//!
//! The container writes it, so it is only ever read through [`crate::workspace::tree`], and compared with a baseline that
//! the container never sees. In mode `bind` it is the user's own folder: there is nothing to compare and nothing to bring back.

use crate::config::{Config, WorkspaceMode};
use crate::plan::decide::SessionFiles;
use crate::plan::launch::ContainerUser;
use crate::session::blocking::blocking;
use crate::session::copying::Copying;
use crate::session::error::SessionError;
use crate::session::store::record::{Record, RecordedWorkspace};
use crate::workspace::apply::{self, Applied, Consent, Objects, Patch, Preview};
use crate::workspace::bounds::CopyLimits;
use crate::workspace::changes::{Changes, PatchFigures};
use crate::workspace::compare::{Bounds, Comparison};
use crate::workspace::copy::{CopyOwner, Skipped};
use crate::workspace::git::command::Git;
use crate::workspace::shadow::Shadow;
use crate::workspace::snapshot::{self, SnapshotJob};
use std::fs::{DirBuilder, File};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// What reading a workspace for changes may take. The sizes are those of `limits.workspace`, which it can't be over for long.
const COMPARING: Duration = Duration::from_secs(300);
/// The most of a patch that is held in memory, in bytes.
const PATCH_IN_MEMORY: usize = 1 << 20;

#[derive(Debug, Clone)]
pub struct SessionWorkspace {
    /// The user's folder.
    folder: PathBuf,
    /// What the container writes.
    path: PathBuf,
    state_dir: PathBuf,
    bounds: Bounds,
    compared: Compared,
}

#[derive(Debug, Clone)]
enum Compared {
    /// Changes can go to the folder.
    WithSnapshot(Shadow),
    /// There is no folder that they are changes to.
    WithNothing(Shadow),
    /// The folder itself was worked on.
    Not,
}

/// A workspace that is to be filled.
pub struct Filling<'a> {
    pub git: &'a Git,
    pub config: &'a Config,
    pub files: &'a SessionFiles,
    pub folder: &'a Path,
    pub user: &'a ContainerUser,
    pub copying: &'a Copying,
    pub cancel: &'a CancellationToken,
}

impl Filling<'_> {
    /// Fills it, and says what has to be on record to open it again.
    pub async fn fill(&self, mode: WorkspaceMode) -> Result<RecordedWorkspace, SessionError> {
        match mode {
            WorkspaceMode::Snapshot => {
                let (baseline, notes) = self.snapshot(self.folder.to_owned()).await?;
                Ok(RecordedWorkspace::Snapshot { baseline, notes })
            }
            WorkspaceMode::Scratch => {
                // A snapshot of nothing: all that the session makes is what it changed.
                let nothing = self.files.workspace.with_extension("empty");
                let made = nothing.clone();
                let empty = |source| SessionError::Files {
                    what: "can't make",
                    path: nothing.clone(),
                    source,
                };
                blocking(move || DirBuilder::new().mode(0o700).create(made))
                    .await
                    .map_err(empty)?;
                let (baseline, _) = self.snapshot(nothing).await?;
                Ok(RecordedWorkspace::Scratch { baseline })
            }
            WorkspaceMode::Bind => Ok(RecordedWorkspace::Bind {}),
        }
    }

    async fn snapshot(
        &self,
        folder: PathBuf,
    ) -> Result<(crate::workspace::shadow::Baseline, Vec<String>), SessionError> {
        let job = SnapshotJob {
            folder,
            workspace: self.files.workspace.clone(),
            shadow: self.files.shadow.clone(),
            history: self.config.workspace.history.value,
            limits: CopyLimits {
                bytes: self.config.limits.workspace.clone(),
                files: self.config.workspace.max_files.clone(),
            },
            owner: CopyOwner::User {
                uid: self.user.host_uid,
                gid: self.user.host_gid,
            },
        };
        let taken = snapshot::take(self.git, job, self.copying.reporter(), self.cancel).await?;
        let mut notes: Vec<String> = taken.notes.iter().map(ToString::to_string).collect();
        notes.extend(not_copied(&taken.skipped));
        Ok((taken.baseline, notes))
    }
}

/// What of the folder is not in the copy, where a person should know.
fn not_copied(skipped: &Skipped) -> Option<String> {
    let Skipped {
        special, unreadable, ..
    } = skipped;
    (special + unreadable > 0).then(|| {
        format!(
            "not copied from the folder: {unreadable} files or directories that can't be read, {special} sockets, FIFOs or \
             devices"
        )
    })
}

/// How a comparison is brought to the folder.
#[derive(Debug, Clone, Copy)]
pub struct Applying<'a> {
    pub consent: Consent,
    /// The hash of the patch that somebody looked at.
    pub expect_hash: Option<&'a str>,
}

impl SessionWorkspace {
    /// Of a session that was filled.
    pub fn open(git: &Git, config: &Config, files: &SessionFiles, record: &Record) -> Result<Self, SessionError> {
        let shadow = |baseline: &crate::workspace::shadow::Baseline| {
            Shadow::open(git.clone(), files.shadow.clone(), baseline.clone())
        };
        let compared = match &record.workspace {
            Some(RecordedWorkspace::Snapshot { baseline, .. }) => Compared::WithSnapshot(shadow(baseline)),
            Some(RecordedWorkspace::Scratch { baseline }) => Compared::WithNothing(shadow(baseline)),
            Some(RecordedWorkspace::Bind {}) => Compared::Not,
            None => return Err(SessionError::NotFilled(record.session.clone())),
        };
        let bytes = config.limits.workspace.value.bytes();
        Ok(Self {
            folder: record.start.folder.path().to_owned(),
            path: files.workspace.clone(),
            state_dir: config.state_dir.value.clone(),
            bounds: Bounds {
                // It may hold more than was copied, up to what the watch over the disk finds.
                entries: config.workspace.max_files.value.saturating_mul(2),
                file: bytes,
                total: bytes,
                time: COMPARING,
                patch: PATCH_IN_MEMORY,
            },
            compared,
        })
    }

    /// The workspace against its baseline, as it is now. `None`: the folder itself is worked on.
    pub async fn compare(&self, cancel: &CancellationToken) -> Result<Option<Compare>, SessionError> {
        let shadow = match &self.compared {
            Compared::WithSnapshot(shadow) | Compared::WithNothing(shadow) => shadow,
            Compared::Not => return Ok(None),
        };
        let bounded = cancel.child_token();
        let comparing = async {
            let comparison = shadow.compare(&self.path, &self.bounds, &bounded).await?;
            let changes = comparison.changes(&self.bounds, &bounded).await?;
            Ok(Some(Compare {
                workspace: self.clone(),
                comparison,
                changes,
            }))
        };
        tokio::pin!(comparing);
        tokio::select! {
            compared = &mut comparing => compared,
            () = tokio::time::sleep(COMPARING) => {
                // Not dropped: it ends git, and takes away what it has made.
                bounded.cancel();
                comparing.await.map_err(|_: SessionError| SessionError::ComparedTooLong(COMPARING))
            }
        }
    }
}

/// A workspace against its baseline, at one moment.
#[derive(Debug)]
pub struct Compare {
    workspace: SessionWorkspace,
    comparison: Comparison,
    pub changes: Changes,
}

impl Compare {
    /// The whole patch, as `git apply --binary` takes it.
    pub async fn write_patch(&self, file: File, cancel: &CancellationToken) -> Result<PatchFigures, SessionError> {
        Ok(self.comparison.write_patch(file, cancel).await?)
    }

    /// What applying would do now.
    pub async fn preview(&self, applying: Applying<'_>, cancel: &CancellationToken) -> Result<Preview, SessionError> {
        Ok(apply::preview(&self.request()?, applying.consent, cancel).await?)
    }

    /// Brings the changes to the user's folder, all that are not held or none.
    pub async fn apply(&self, applying: Applying<'_>, cancel: &CancellationToken) -> Result<Applied, SessionError> {
        let Applying { consent, expect_hash } = applying;
        Ok(apply::apply(&self.request()?, consent, expect_hash, cancel).await?)
    }

    /// Moves the baseline on by what was brought back.
    pub async fn advance(&self, applied: &Applied) -> Result<(), SessionError> {
        // It is short, and a baseline that lags behind is found out by nobody: so nothing cancels it.
        let cancel = CancellationToken::new();
        self.comparison.advance(&applied.brought, &cancel).await?;
        Ok(())
    }

    /// The user's folder.
    pub fn folder(&self) -> &Path {
        &self.workspace.folder
    }

    fn request(&self) -> Result<apply::Request, SessionError> {
        let Compared::WithSnapshot(_) = self.workspace.compared else {
            return Err(SessionError::NothingToApplyTo);
        };
        Ok(apply::Request {
            folder: self.workspace.folder.clone(),
            state_dir: self.workspace.state_dir.clone(),
            objects: Objects {
                git: self.comparison.git().clone(),
                repository: self.comparison.repository().clone(),
            },
            format: self.comparison.baseline.object_format,
            patch: Patch {
                base: self.changes.base.clone(),
                patch_sha256: self.changes.patch_sha256.clone(),
            },
            changes: self.comparison.changes.clone(),
            bounds: apply::Bounds::default(),
        })
    }
}
