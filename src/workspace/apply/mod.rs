//! A session's changes, brought to the user's folder: the only place that writes content there.
//!
//! A three-way merge between what the session began with, what it made of it and what the host has now. One conflict or one
//! refused path, and nothing is written at all. Otherwise everything is staged beside its place first, a journal makes
//! it whole or not at all after any end of this process, and what is done while the user works in the folder is undone
//! nowhere: it is recoverable, not atomic. A reader may see some files new and others old while it is being done.
//!
//! The session chose every name and every byte, and the host may hold links that a hostile repository planted. Nothing
//! here follows a link, leaves the folder, writes to git's directory or where hooks run from, or runs anything of either.
//!
//! - [`incoming`]: changes between two trees → changes with parsed paths (pure).
//! - [`path`]: names that are refused whatever the host has (pure).
//! - [`runs_by_itself`]: files that need nobody to run them (pure).
//! - [`git_directory`]: what git would take for a repository (pure).
//! - [`decide`]: three states of a path → steps, conflicts, refusals (pure).
//! - [`host`]: what the folder holds now.
//! - [`hooks`]: where git runs hooks from.
//! - [`way`]: where a path of the host leads.
//! - [`content`]: content by git's name of it.
//! - [`merge`]: text that both sides changed.
//! - [`prepare`]: all of these together, before the first effect.
//! - [`journal`]: the record of an apply under way.
//! - [`perform`], [`new_file`]: the steps.
//! - [`recovery`]: what a killed process left.
//! - [`reason`], [`report`], [`error`]: what is said about it.

pub mod content;
pub mod decide;
pub mod error;
pub mod git_directory;
pub mod hooks;
pub mod host;
pub mod incoming;
pub mod journal;
pub mod merge;
pub mod new_file;
pub mod path;
pub mod perform;
pub mod prepare;
pub mod reason;
pub mod recovery;
pub mod report;
pub mod runs_by_itself;
pub mod way;

pub use content::Objects;
pub use decide::Consent;
pub use error::ApplyError;
pub use journal::Patch;
pub use recovery::{Recovered, RecoveryEnd, recover};
pub use report::{Applied, Effect, Listed, Preview, Written};

use crate::workspace::apply::decide::{HostFacts, Step};
use crate::workspace::apply::host::{HostError, HostFolder};
use crate::workspace::apply::journal::{Held, Journal, Phase, Slot};
use crate::workspace::apply::path::RelativePath;
use crate::workspace::apply::perform::{EffectError, Left};
use crate::workspace::apply::prepare::{Prepared, prepare};
use crate::workspace::compare::TreeChange;
use crate::workspace::git::ObjectFormat;
use nix::errno::Errno;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

/// How long another apply to the same folder is waited for.
const LOCK_LIMIT: Duration = Duration::from_secs(30);

/// What is to be applied to which folder.
#[derive(Debug, Clone)]
pub struct Request {
    /// Canonical.
    pub folder: PathBuf,
    pub state_dir: PathBuf,
    /// Where both trees' content is read.
    pub objects: Objects,
    pub format: ObjectFormat,
    pub patch: Patch,
    pub changes: Vec<TreeChange>,
    pub bounds: Bounds,
}

/// What one apply may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    pub files: u64,
    /// Of new content.
    pub bytes: u64,
    /// Until the first file is changed. What is begun then is finished.
    pub time: Duration,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            files: 100_000,
            bytes: 4 << 30,
            time: Duration::from_secs(10 * 60),
        }
    }
}

/// Says what [`apply`] would do now. Writes nothing: what another left unfinished it only tells of.
pub async fn preview(request: &Request, consent: Consent, cancel: &CancellationToken) -> Result<Preview, ApplyError> {
    let (held, work) = hold(request, LeftBehind::ToldOf).await?;
    let prepared = in_time(request, prepare(request, consent, &work, cancel)).await;
    let preview = prepared.map(|prepared| prepared.preview(request));
    blocking(move || Ok(held.clear_work()?)).await?;
    preview
}

/// Applies the changes, all that are not held or none. `expect_hash` is the hash of the patch that somebody looked at.
///
/// Once files are being changed it is finished, whatever becomes of the caller: a dropped future stops nothing then.
pub async fn apply(
    request: &Request,
    consent: Consent,
    expect_hash: Option<&str>,
    cancel: &CancellationToken,
) -> Result<Applied, ApplyError> {
    let actual = &request.patch.patch_sha256;
    if let Some(expected) = expect_hash.filter(|expected| !expected.eq_ignore_ascii_case(actual)) {
        return Err(ApplyError::OtherPatch {
            expected: expected.chars().take(64).collect(),
            actual: actual.clone(),
        });
    }
    let (held, work) = hold(request, LeftBehind::Finished).await?;
    let prepared = in_time(request, async {
        let mut prepared = prepare(request, consent, &work, cancel).await?;
        let preview = prepared.preview(request);
        if !preview.refused.is_empty() {
            return Err(ApplyError::Refused(Box::new(preview)));
        }
        if !preview.conflicts.is_empty() {
            return Err(ApplyError::Conflicts(Box::new(preview)));
        }
        let (needed, bytes) = (prepared.needed(), request.bounds.bytes);
        let contents = &mut prepared.contents;
        contents.fetch(&request.objects, needed, bytes, &work, cancel).await?;
        Ok((prepared, preview))
    });
    let (prepared, preview) = match prepared.await {
        Ok(prepared) if !cancel.is_cancelled() => prepared,
        unprepared => {
            blocking(move || Ok(held.clear_work()?)).await?;
            return Err(unprepared.err().unwrap_or(ApplyError::Cancelled));
        }
    };
    let mut brought = prepared.brought();
    let plan = Plan::of(prepared, request)?;
    let left = blocking(move || {
        let left = plan.perform(&held);
        held.clear_work()?;
        left
    })
    .await?;
    brought.retain(|path| !left.iter().any(|(left, _)| left == path));
    let left: Vec<Listed> = report::listed(&left).collect();
    Ok(Applied {
        brought: brought.iter().map(|path| path.as_path().to_owned()).collect(),
        files: preview
            .would_write
            .into_iter()
            .filter(|written| !left.iter().any(|left| left.path == written.path))
            .collect(),
        held: preview.held,
        runs_by_itself: preview.runs_by_itself,
        already: preview.already,
        left,
        base: preview.base,
        patch_sha256: preview.patch_sha256,
    })
}

/// What is done about what another left unfinished in a folder.
enum LeftBehind {
    Finished,
    ToldOf,
}

/// Takes the folder for this process.
async fn hold(request: &Request, left: LeftBehind) -> Result<(Held, PathBuf), ApplyError> {
    let (state_dir, folder) = (request.state_dir.clone(), request.folder.clone());
    blocking(move || {
        let held = Slot::of(&state_dir, &folder).hold(&folder, LOCK_LIMIT)?;
        match left {
            LeftBehind::Finished => _ = recovery::finish(&held)?,
            LeftBehind::ToldOf if held.read()?.is_some() => return Err(ApplyError::CutShort { folder }),
            LeftBehind::ToldOf => {}
        }
        let work = held.work()?;
        Ok((held, work))
    })
    .await
}

async fn in_time<T>(request: &Request, work: impl Future<Output = Result<T, ApplyError>>) -> Result<T, ApplyError> {
    let limit = request.bounds.time;
    let late = |_| ApplyError::Late(limit);
    tokio::time::timeout(limit, work).await.map_err(late)?
}

/// Runs work that blocks where it may.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ApplyError> + Send + 'static,
) -> Result<T, ApplyError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // The runtime is shutting down, and never started it.
            Err(_) => Err(ApplyError::Cancelled),
        },
    }
}

/// Everything that the effects need, and nothing that is still to be decided.
struct Plan {
    path: PathBuf,
    folder: Arc<HostFolder>,
    changes: Arc<Vec<decide::Change>>,
    facts: Arc<HostFacts>,
    journal: Journal,
    contents: content::Contents,
    deadline: Instant,
    limit: Duration,
}

impl Plan {
    fn of(mut prepared: Prepared, request: &Request) -> Result<Self, ApplyError> {
        let steps: Vec<Step> = std::mem::take(&mut prepared.decision.steps);
        let tasks = perform::tasks(steps, &random_name(), |path| prepared.nearest_directory(path));
        let identity = prepared.folder.identity()?;
        Ok(Self {
            path: request.folder.clone(),
            journal: Journal::new(
                (&request.folder, identity),
                request.format,
                request.patch.clone(),
                tasks,
            ),
            folder: prepared.folder,
            changes: prepared.changes,
            facts: prepared.facts,
            contents: prepared.contents,
            deadline: Instant::now() + request.bounds.time,
            limit: request.bounds.time,
        })
    }

    /// The order that makes it whole or not at all. Returns what the user changed in the last moment.
    fn perform(mut self, held: &Held) -> Result<Vec<(RelativePath, Left)>, ApplyError> {
        if self.journal.tasks.is_empty() {
            return Ok(Vec::new());
        }
        held.write(&self.journal)?;
        if let Err(error) = self.stage_and_check() {
            perform::unstage(&self.folder, &self.journal).map_err(ApplyError::Effect)?;
            held.remove()?;
            return Err(error);
        }
        self.journal.phase = Phase::Committed;
        if let Err(error) = held.write(&self.journal) {
            // It may be in place all the same. Without a journal what is staged is only litter, so the journal goes first.
            held.remove()?;
            perform::unstage(&self.folder, &self.journal).map_err(ApplyError::Effect)?;
            return Err(error.into());
        }
        carry_out(&self.folder, &self.journal, held)
    }

    fn stage_and_check(&self) -> Result<(), ApplyError> {
        perform::stage(&self.folder, &self.journal, &self.contents, self.deadline).map_err(|error| match error {
            EffectError::Late => ApplyError::Late(self.limit),
            error => ApplyError::Effect(error),
        })?;
        // The folder that has this name now: another may have been put in its place.
        let folder = HostFolder::open(&self.path, self.folder.format())?;
        if folder.identity()? != self.journal.identity {
            return Err(ApplyError::Host(HostError::Gone {
                path: self.path.clone(),
                errno: Errno::ESTALE,
            }));
        }
        let now = folder.facts(self.changes.iter())?;
        let paths = differences(&self.facts, &now);
        if paths.is_empty() {
            Ok(())
        } else {
            Err(ApplyError::Changed { paths })
        }
    }
}

/// Finishes a committed journal and removes it.
fn carry_out(folder: &HostFolder, journal: &Journal, held: &Held) -> Result<Vec<(RelativePath, Left)>, ApplyError> {
    let unfinished = |error: ApplyError| ApplyError::Unfinished {
        journal: held.slot.journal(),
        error: Box::new(error),
    };
    let left = perform::carry_out(folder, journal).map_err(|error| unfinished(ApplyError::Effect(error)))?;
    held.remove().map_err(|error| unfinished(error.into()))?;
    Ok(left)
}

/// The paths at which the host is no longer what was decided on.
fn differences(before: &HostFacts, now: &HostFacts) -> Vec<crate::wire::untrusted::Untrusted> {
    let mut paths: Vec<_> = before
        .found
        .iter()
        .filter(|(path, found)| now.found.get(*path) != Some(found))
        .map(|(path, _)| path.shown())
        .collect();
    let occupied = before
        .occupants
        .iter()
        .filter(|(path, occupants)| now.occupants.get(*path) != Some(occupants));
    paths.extend(occupied.map(|(path, _)| path.shown()));
    paths
}

/// Names what is staged so that nobody can have made a file of the same name before. Where there is no randomness a file
/// that has the name is an error, not overwritten.
fn random_name() -> String {
    format!("{:016x}", getrandom::u64().unwrap_or_default())
}

#[cfg(test)]
mod tests;
