//! Why changes were not applied.

use crate::wire::untrusted::Untrusted;
use crate::workspace::apply::content::ContentError;
use crate::workspace::apply::host::HostError;
use crate::workspace::apply::journal::JournalError;
use crate::workspace::apply::merge::MergeError;
use crate::workspace::apply::perform::EffectError;
use crate::workspace::apply::report::{Listed, Preview};
use crate::workspace::git::run::GitError;
use std::path::PathBuf;
use std::time::Duration;

/// How many paths an error names.
const NAMED: usize = 10;

/// All but [`ApplyError::Unfinished`] mean that nothing was written.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    #[error(
        "nothing was written, because the folder has changed since the session began: {}; bring the folder to a state that \
         these fit, or take what you want from the patch (codex-mcp sessions diff)", list(&.0.conflicts)
    )]
    Conflicts(Box<Preview>),
    #[error(
        "nothing was written, because these never come back from a session: {}; have the session undo them, or take the \
         rest from the patch (codex-mcp sessions diff)", list(&.0.refused)
    )]
    Refused(Box<Preview>),
    #[error(
        "nothing was written: the changes are no longer those that were shown (expected {expected}, they are {actual}); \
         look at them again and apply with their new hash"
    )]
    OtherPatch { expected: String, actual: String },
    #[error("nothing was written: the host changed {} meanwhile; apply again", names(paths))]
    Changed { paths: Vec<Untrusted> },
    #[error(
        "nothing was written: {files} files changed, more than the {limit} that are applied at once; take the patch (codex-mcp sessions diff) and use git apply"
    )]
    TooManyFiles { files: u64, limit: u64 },
    #[error(
        "nothing was written: core.hooksPath names {} itself, so that git runs its files by their names; set it to a \
         directory of its own: git config core.hooksPath .githooks", folder.display()
    )]
    HooksEverywhere { folder: PathBuf },
    #[error("nothing was written: it took longer than {} s; apply again when the disk has less to do, or take the patch: `codex-mcp \
         sessions diff --output FILE`", .0.as_secs())]
    Late(Duration),
    #[error(
        "an earlier apply to {} was cut short, and is finished or taken back by the next one, or by `codex-mcp sessions prune`: ask \
         again after that", folder.display()
    )]
    CutShort { folder: PathBuf },
    #[error(
        "nothing was written: an apply to {} was cut short, and another folder is in its place now, which is left alone; put the one \
         before back there, or where it is gone, remove {}", folder.display(), journal.display()
    )]
    OtherFolder { folder: PathBuf, journal: PathBuf },
    #[error("nothing was written: the work was cancelled")]
    Cancelled,
    #[error("nothing was written: {0}")]
    Content(#[from] ContentError),
    #[error("nothing was written: {0}")]
    Git(#[from] GitError),
    #[error("nothing was written: {0}")]
    Host(#[from] HostError),
    #[error("nothing was written: {0}")]
    Journal(#[from] JournalError),
    #[error("nothing was written: {0}")]
    Effect(EffectError),
    /// It is taken up again by the next apply to the folder, or the next start.
    #[error(
        "the changes are only partly written: {error}; mend that, and apply again or start codex-mcp again to have the rest \
         written ({})", journal.display()
    )]
    Unfinished {
        journal: PathBuf,
        #[source]
        error: Box<ApplyError>,
    },
}

impl From<MergeError> for ApplyError {
    fn from(error: MergeError) -> Self {
        match error {
            MergeError::Content(error) => error.into(),
            MergeError::Git(error) => error.into(),
            MergeError::Host(error) => error.into(),
        }
    }
}

fn list(listed: &[Listed]) -> String {
    let shown = listed
        .iter()
        .take(NAMED)
        .map(|listed| format!("{} ({})", listed.path, listed.reason));
    and_more(shown.collect(), listed.len())
}

fn names(paths: &[Untrusted]) -> String {
    and_more(paths.iter().take(NAMED).map(ToString::to_string).collect(), paths.len())
}

fn and_more(mut shown: Vec<String>, all: usize) -> String {
    if all > shown.len() {
        shown.push(format!("and {} more", all - shown.len()));
    }
    shown.join(", ")
}
