//! The baseline follows what was applied: what the host has of a session is no change any more.
//!
//! Otherwise a file that was applied and then edited on the host would be in conflict with itself for ever. Only the objects of
//! the applied paths stay in the shadow, and the reference moves last: a process that ends before leaves the old baseline,
//! against which the next apply finds that the host has it all.

use crate::workspace::compare::{Comparison, TreeChange};
use crate::workspace::fast_import::Import;
use crate::workspace::git::ObjectId;
use crate::workspace::git::run::{self, FEW_LINES, Stdin};
use crate::workspace::shadow::{self, BASELINE, ShadowError};
use std::collections::HashSet;
use std::io::Write;
use std::path::{Path, PathBuf};
use tokio_util::sync::CancellationToken;

impl Comparison {
    /// Moves the shadow's baseline on by these paths, as the session has them; says where it is then. Paths that did not
    /// change are passed over. An error where another process moved it since this comparison began.
    pub async fn advance(&self, brought: &[PathBuf], cancel: &CancellationToken) -> Result<ObjectId, ShadowError> {
        let brought: HashSet<&Path> = brought.iter().map(PathBuf::as_path).collect();
        let changes = self.changes.iter();
        let taken: Vec<TreeChange> = changes
            .filter(|change| brought.contains(change.path.as_path()))
            .cloned()
            .collect();
        if taken.is_empty() {
            return Ok(self.baseline.commit.clone());
        }
        let start = self.baseline.commit.clone();
        let fill = move |out| tell(out, &start, &taken).map_err(ShadowError::Feed);
        let (commit, ()) = shadow::import(self.git(), self.repository(), cancel, fill).await?;
        self.take_over(&commit, cancel).await?;
        self.move_to(&commit, cancel).await?;
        Ok(commit)
    }

    /// Packs what the commit has and the baseline has not into the shadow.
    async fn take_over(&self, commit: &ObjectId, cancel: &CancellationToken) -> Result<(), ShadowError> {
        let args = [
            "--revs",
            "--window=0",
            "--delta-base-offset",
            "--quiet",
            Self::SHADOW_PACK,
        ];
        let command = self.git().work(self.repository(), "pack-objects", &args);
        let revisions = format!("{commit}\n^{}\n", self.baseline.commit);
        run::run(command, Stdin::Bytes(revisions.into_bytes()), FEW_LINES, cancel).await?;
        Ok(())
    }

    async fn move_to(&self, commit: &ObjectId, cancel: &CancellationToken) -> Result<(), ShadowError> {
        let shadow = self.shadow();
        let format = self.baseline.object_format;
        let expected = self.reference().cloned().unwrap_or_else(|| ObjectId::none(format));
        let (new, old) = (commit.to_string(), expected.to_string());
        let command = self
            .git()
            .work(shadow, "update-ref", &["--no-deref", BASELINE, &new, &old]);
        let Err(error) = run::run(command, Stdin::Empty, FEW_LINES, cancel).await else {
            return Ok(());
        };
        let now = shadow::reference(self.git(), shadow, cancel).await?;
        if now.as_ref() == self.reference() {
            Err(error.into())
        } else {
            Err(ShadowError::Moved)
        }
    }
}

/// Deletions first: a directory may come where a file was.
fn tell(out: impl Write, start: &ObjectId, taken: &[TreeChange]) -> std::io::Result<()> {
    let mut import = Import::after(out, start)?;
    for change in taken.iter().filter(|change| change.new.is_none()) {
        import.delete(&change.path)?;
    }
    for change in taken {
        if let Some(entry) = &change.new {
            import.known(&change.path, entry)?;
        }
    }
    import.finish()
}

#[cfg(test)]
mod tests;
