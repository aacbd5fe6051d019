//! Brings a session's changes to the user's folder, on record: what is about to be written is in the audit before it is, and
//! what became of it after.

use crate::audit::Journal;
use crate::audit::record::HandedTo;
use crate::config::Config;
use crate::session::asked::Asked;
use crate::session::blocking::blocking;
use crate::session::error::SessionError;
use crate::session::journal::{self, SessionJournal};
use crate::session::store::Store;
use crate::session::store::record::Record;
use crate::session::surroundings::Surroundings;
use crate::session::upkeep::{Doing, Upkeep};
use crate::session::workspace::{Applying, Compare, SessionWorkspace};
use crate::workspace::apply::{Applied, Preview};
use crate::workspace::changes::{Changes, PatchFigures};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// The most names of files in one record of the audit.
const MOST_NAMES: usize = 1000;

/// Applies a comparison. Once files are being changed it is finished, whatever becomes of the caller.
pub async fn apply(
    compared: &Compare,
    journal: &SessionJournal,
    applying: Applying<'_>,
    cancel: &CancellationToken,
) -> Result<Applied, SessionError> {
    let changes = &compared.changes;
    let names = changes.files.iter().take(MOST_NAMES);
    let to = HandedTo::Folder {
        path: compared.folder().to_owned(),
        base: changes.base.to_string(),
        names: names.map(|file| file.path.one_line(300)).collect(),
    };
    journal.handing_out(changes, to).await?;
    let applied = compared.apply(applying, cancel).await;
    journal.written(&applied).await?;
    let applied = applied?;
    // What the host has is the session's past from here on. Where this fails, the next apply finds the files as they are to be.
    if let Err(error) = compared.advance(&applied).await {
        tracing::warn!(%error, "what was brought back still counts as a change of the session");
    }
    Ok(applied)
}

/// Changes of sessions that this process has no container for.
pub struct BringBack {
    config: Arc<Config>,
    surroundings: Arc<Surroundings>,
    upkeep: Upkeep,
}

/// What came of it.
pub enum BroughtBack {
    Preview(Preview),
    Applied(Applied),
}

impl BringBack {
    pub fn new(config: Arc<Config>, surroundings: Arc<Surroundings>) -> Result<Self, SessionError> {
        Ok(Self {
            upkeep: Upkeep::new(&config)?,
            config,
            surroundings,
        })
    }

    /// What a session changed, as it is now; its container may be at work.
    pub async fn compare(&self, wanted: &str) -> Result<Compare, SessionError> {
        let (root, record) = self.recorded(wanted).await?;
        self.compare_recorded(&root, &record).await
    }

    async fn compare_recorded(&self, root: &Path, record: &Record) -> Result<Compare, SessionError> {
        let git = self.surroundings.git()?;
        let files = crate::plan::decide::SessionFiles::below(root);
        let workspace = SessionWorkspace::open(&git, &self.config, &files, record)?;
        let compared = workspace.compare(&CancellationToken::new()).await?;
        compared.ok_or(SessionError::NothingCompared)
    }

    /// What changed, with the beginning of the patch.
    pub async fn changes(&self, wanted: &str, asked: Asked) -> Result<Changes, SessionError> {
        let compared = self.hand_out(wanted, HandedTo::Caller, asked).await?;
        Ok(compared.changes)
    }

    /// The whole patch into a file.
    pub async fn patch(&self, wanted: &str, file: File, asked: Asked) -> Result<PatchFigures, SessionError> {
        let compared = self.hand_out(wanted, HandedTo::PatchFile, asked).await?;
        compared.write_patch(file, &CancellationToken::new()).await
    }

    /// On record before anybody has it.
    async fn hand_out(&self, wanted: &str, to: HandedTo, asked: Asked) -> Result<Compare, SessionError> {
        let (root, record) = self.recorded(wanted).await?;
        let compared = self.compare_recorded(&root, &record).await?;
        let audit = self.audit().await?;
        let journal = SessionJournal::of_record(audit.clone(), &record, asked);
        let handed = journal.handing_out(&compared.changes, to).await;
        end(audit).await;
        handed?;
        Ok(compared)
    }

    /// Brings the changes of a session back that nobody has: it is this process's while that is done.
    pub async fn apply(
        &self,
        wanted: &str,
        doing: Doing,
        applying: Applying<'_>,
        asked: Asked,
    ) -> Result<BroughtBack, SessionError> {
        let found = self.upkeep.show(wanted).await?;
        let (store, id): (Store, _) = (self.upkeep.store().clone(), found.session);
        let stored = blocking(move || store.open(&id)).await?;
        let compared = self.compare_recorded(stored.directory.root(), stored.record()).await?;
        let cancel = CancellationToken::new();
        if doing == Doing::Preview {
            return Ok(BroughtBack::Preview(compared.preview(applying, &cancel).await?));
        }
        let audit = self.audit().await?;
        let journal = SessionJournal::of_record(audit.clone(), stored.record(), asked);
        let applied = apply(&compared, &journal, applying, &cancel).await;
        end(audit).await;
        Ok(BroughtBack::Applied(applied?))
    }

    /// Where it is, and what is on record of it.
    async fn recorded(&self, wanted: &str) -> Result<(PathBuf, Record), SessionError> {
        let found = self.upkeep.show(wanted).await?;
        match found.record {
            Ok(record) => Ok((found.path, record)),
            Err(flaw) => Err(SessionError::Unreadable {
                session: found.session,
                flaw,
            }),
        }
    }

    async fn audit(&self) -> Result<Journal, SessionError> {
        let config = Arc::clone(&self.config);
        Ok(blocking(move || journal::begin(&config)).await?)
    }
}

/// A chain of its own for one command, with its end.
async fn end(audit: Journal) {
    blocking(move || audit.end()).await;
}
