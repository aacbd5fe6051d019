//! Applies that a killed process left half-way: finished or taken back before anything else looks at the folders, on record.
//!
//! Which of the two was decided when the apply's own journal was committed ([`crate::workspace::apply::journal`]); nothing is
//! decided here. What can't be done now stays recorded, is logged, and is tried again by the next start and by the next
//! apply to that folder.

use crate::audit::Journal;
use crate::session::blocking::blocking;
use crate::session::error::SessionError;
use crate::session::journal;
use crate::workspace::apply::{self, RecoveryEnd};
use std::path::Path;

/// Does what it can. `audit` is awaited only where there is something to record: looking leaves no chain behind.
pub async fn recover(state_dir: &Path, audit: impl Future<Output = Result<Journal, SessionError>> + Send) {
    let ends = match apply::recover(state_dir).await {
        Ok(ends) if ends.is_empty() => return,
        Ok(ends) => ends,
        Err(error) => {
            tracing::warn!(%error, "could not look for applies that a killed process left");
            return;
        }
    };
    let audit = match audit.await {
        Ok(audit) => Some(audit),
        Err(error) => {
            tracing::warn!(%error, "what became of applies that a killed process left is not on record");
            None
        }
    };
    for end in ends {
        let recovered = match end {
            Ok(recovered) => recovered,
            Err(error) => {
                tracing::warn!(%error, "an apply that a killed process left is still unfinished");
                continue;
            }
        };
        let folder = recovered.folder.display();
        match &recovered.end {
            RecoveryEnd::RolledBack => tracing::warn!(%folder, "took back an apply that a killed process left"),
            RecoveryEnd::Finished { left, .. } => {
                let left = left.len();
                tracing::warn!(%folder, left, "finished an apply that a killed process left");
            }
        }
        let Some(audit) = audit.clone() else { continue };
        let recorded = blocking(move || journal::recovered(&audit, &recovered)).await;
        if let Err(error) = recorded {
            tracing::warn!(%error, "what became of an apply that a killed process left is not on record");
        }
    }
}
