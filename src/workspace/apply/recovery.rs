//! What a killed process left: rolled back where nothing was changed yet, finished where it was.

use crate::workspace::apply::error::ApplyError;
use crate::workspace::apply::host::HostFolder;
use crate::workspace::apply::journal::{Held, Journal, Patch, Phase, Slot};
use crate::workspace::apply::perform;
use crate::workspace::apply::report::{Listed, Written, listed};
use crate::workspace::apply::{blocking, carry_out};
use std::path::{Path, PathBuf};

/// One unfinished apply and what became of it.
#[derive(Debug)]
pub struct Recovered {
    pub folder: PathBuf,
    pub patch: Patch,
    pub end: RecoveryEnd,
}

#[derive(Debug)]
pub enum RecoveryEnd {
    /// Nothing in the folder had been changed; what was staged is removed.
    RolledBack,
    /// All is written but what the user changed meanwhile, which stays as it is.
    Finished { files: Vec<Written>, left: Vec<Listed> },
}

/// Finishes or rolls back every apply that no living process is at. What could not be done now stays recorded, and is an
/// error of its own in the list.
pub async fn recover(state_dir: &Path) -> Result<Vec<Result<Recovered, ApplyError>>, ApplyError> {
    let state_dir = state_dir.to_owned();
    blocking(move || {
        let mut ends = Vec::new();
        for slot in Slot::unfinished(&state_dir)? {
            // Held: somebody is at it.
            let Some(held) = slot.try_hold()? else { continue };
            ends.extend(finish(&held).transpose());
            if let Err(error) = held.clear_work() {
                tracing::warn!(%error, "what an apply was working with is still there");
            }
        }
        Ok(ends)
    })
    .await
}

/// Finishes what is recorded about a folder, if anything.
pub fn finish(held: &Held) -> Result<Option<Recovered>, ApplyError> {
    let Some((path, journal)) = held.read()? else {
        return Ok(None);
    };
    let folder = HostFolder::open(&path, journal.format).map_err(|error| match journal.phase {
        Phase::Staging => ApplyError::Host(error),
        Phase::Committed => unfinished(held, error.into()),
    })?;
    if folder.identity()? != journal.identity {
        return Err(ApplyError::OtherFolder {
            folder: path,
            journal: held.slot.journal(),
        });
    }
    let end = match journal.phase {
        Phase::Staging => {
            perform::unstage(&folder, &journal).map_err(ApplyError::Effect)?;
            held.remove()?;
            RecoveryEnd::RolledBack
        }
        Phase::Committed => {
            let left: Vec<Listed> = listed(&carry_out(&folder, &journal, held)?).collect();
            RecoveryEnd::Finished {
                files: written(&journal, &left),
                left,
            }
        }
    };
    Ok(Some(Recovered {
        folder: path,
        patch: journal.what,
        end,
    }))
}

fn written(journal: &Journal, left: &[Listed]) -> Vec<Written> {
    let all = journal.tasks.iter().filter_map(|task| Written::of(&task.step));
    all.filter(|written| !left.iter().any(|left| left.path == written.path))
        .collect()
}

fn unfinished(held: &Held, error: ApplyError) -> ApplyError {
    ApplyError::Unfinished {
        journal: held.slot.journal(),
        error: Box::new(error),
    }
}
