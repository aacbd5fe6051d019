//! Takes a snapshot of a folder: the session's copy, the copy's own `.git`, and the baseline in the shadow.
//!
//! Which files: in a repository those that git tracks or would offer to track, as they are on disk now; in any other
//! folder all. In a nested repository, which git is never asked about, its own `.gitignore` files decide. Nothing called
//! `.git` is copied: what the copy has is made anew. The user may go on working meanwhile, so
//! the baseline is what arrived in the copy and not what the folder held. On any error nothing is left behind.

mod note;

pub use note::Note;

use crate::config::History;
use crate::supervise::tool::ToolError;
use crate::workspace::blob::Inventory;
use crate::workspace::copy::{self, CopyError, CopyJob, CopyLimits, CopyOwner, Progress, Skipped};
use crate::workspace::git::ObjectFormat;
use crate::workspace::git::ObjectId;
use crate::workspace::git::command::{Git, HistoryCut, OwnRepository, SourceQuestion, SourceRepository, revisions};
use crate::workspace::git::run::{self, FEW_LINES, GitEnd, GitError, Stdin};
use crate::workspace::git::source::{self, Folder, Head, Repository};
use crate::workspace::inner_git::{self, InnerGit};
use crate::workspace::inventory::InventoryRecorder;
use crate::workspace::listing;
use crate::workspace::removal::HalfMade;
use crate::workspace::selection::Selection;
use crate::workspace::shadow::{self, Baseline, KnownTree, MANY_LINES, ShadowError};
use crate::workspace::tree::Tree;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// What to take, and where to.
#[derive(Debug, Clone)]
pub struct SnapshotJob {
    /// The folder: absolute, without links, checked by [`super::root`].
    pub folder: PathBuf,
    /// Where the copy goes; must not exist.
    pub workspace: PathBuf,
    /// Where the shadow goes; must not exist. No container may ever see it.
    pub shadow: PathBuf,
    pub history: History,
    pub limits: CopyLimits,
    pub owner: CopyOwner,
}

/// A snapshot was taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Taken {
    pub baseline: Baseline,
    pub skipped: Skipped,
    pub notes: Vec<Note>,
}

/// Why there is no snapshot.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    #[error("{0}")]
    Copy(#[from] CopyError),
    #[error("{0}")]
    Shadow(#[from] ShadowError),
    #[error(
        "the history of {} can't be packed: {cause}; if it is a partial or damaged clone, fetch what is missing, or set \
         workspace.history = \"none\"", folder.display()
    )]
    History { folder: PathBuf, cause: GitError },
    #[error(
        "git did not list the files of {} in time ({cause}); it waits for ever where a .gitignore is a FIFO \
         (`find FOLDER -name .gitignore -type p` names them), which has to be removed, and for long on a slow file system",
        folder.display()
    )]
    Listing { folder: PathBuf, cause: ToolError },
    #[error(
        "{} and its history hold {found} bytes, more than limits.workspace = {limit} bytes ({origin}) allows to copy; \
         raise limits.workspace, or set workspace.history to \"none\" or to a number of commits", folder.display()
    )]
    HistoryTooLarge {
        folder: PathBuf,
        found: u64,
        limit: u64,
        origin: String,
    },
}

impl From<GitError> for SnapshotError {
    fn from(error: GitError) -> Self {
        match error {
            GitError::Cancelled => Self::Copy(CopyError::Cancelled),
            other => Self::Shadow(other.into()),
        }
    }
}

/// Called after every entry and piece; breaking cancels.
pub type OnProgress = Box<dyn FnMut(Progress) -> ControlFlow<()> + Send>;

/// Takes a snapshot. A dropped future stops the work, but only `cancel` waits until all of it is removed.
pub async fn take(
    git: &Git,
    job: SnapshotJob,
    progress: OnProgress,
    cancel: &CancellationToken,
) -> Result<Taken, SnapshotError> {
    // What fails on one side ends the other.
    let stop = cancel.child_token();
    let _stopped_when_dropped = stop.clone().drop_guard();
    let folder = source::facts(git, &job.folder, &stop).await?;
    let mut plan = decide(folder, job.history);
    let selection = match &plan.files {
        Files::Listed(source) => {
            let listed = listed(git, source, &stop).await?;
            match listed.is_empty() && source.folder != source.work_tree {
                true => nothing_listed(git, source, &mut plan.notes, &stop).await?,
                false => Selection::Listed(listed),
            }
        }
        Files::Unignored => Selection::WithoutIgnored,
        Files::All => Selection::WithoutGit,
    };
    if let Some(history) = &mut plan.history {
        history.cut(git, job.history, &stop).await?;
    }

    let half_made = HalfMade::new(vec![job.shadow.clone(), job.workspace.clone()]);
    let own = shadow::create(&job.shadow, plan.format)?;
    let copying = ending(&stop, copy_files(&job, selection, plan.format, progress, stop.clone()));
    let packing = ending(&stop, pack(git, &job, plan.history.as_ref(), &own, &stop));
    let (copied, known) = match tokio::join!(copying, packing) {
        (Ok(copied), Ok(known)) => (copied, known),
        // The one that was only told to stop has nothing to say.
        (Err(SnapshotError::Copy(CopyError::Cancelled)), Err(error)) | (Err(error), _) | (_, Err(error)) => {
            return Err(error);
        }
    };
    check_size(&job, &own, copied.bytes)?;

    let copy = Tree::open(&job.workspace).map_err(ShadowError::Tree)?;
    let baseline = shadow::write_baseline(git, &own, known, Arc::new(copied.inventory), copy, &stop);
    let inner = make_inner_git(git, &job, plan.history, &own, plan.format, &stop);
    // One after the other: fast-import's own pack must not get into the copy.
    inner.await?;
    let commit = baseline.await?;
    half_made.keep();
    let remarks = copied.skipped.remarks.iter();
    plan.notes.extend(remarks.map(|(remark, several)| Note::Remark {
        remark: *remark,
        several: several.clone(),
    }));
    Ok(Taken {
        baseline: Baseline {
            commit,
            object_format: plan.format,
        },
        skipped: copied.skipped,
        notes: plan.notes,
    })
}

/// What will be done with a folder.
struct Plan {
    files: Files,
    history: Option<SourceHistory>,
    format: ObjectFormat,
    notes: Vec<Note>,
}

/// Which files are taken.
enum Files {
    All,
    /// Those that the folder's own `.gitignore` files don't name.
    Unignored,
    /// Those of git's list.
    Listed(SourceRepository),
}

struct SourceHistory {
    repository: Repository,
    cut: HistoryCut,
    /// Commits of the copy's history whose parents are left out.
    shallow: Vec<ObjectId>,
}

fn decide(folder: Folder, history: History) -> Plan {
    let plain = |notes| Plan {
        files: Files::All,
        history: None,
        format: ObjectFormat::Sha1,
        notes,
    };
    match folder {
        Folder::Plain => plain(Vec::new()),
        Folder::Unusable(why) => Plan {
            files: Files::Unignored,
            ..plain(vec![Note::Unusable(why)])
        },
        Folder::Below(source) => Plan {
            notes: vec![Note::BelowTopLevel {
                top: source.work_tree.clone(),
            }],
            files: Files::Listed(source),
            ..plain(Vec::new())
        },
        Folder::TopLevel(repository) => Plan {
            files: Files::Listed(repository.source.clone()),
            format: repository.format,
            notes: Vec::new(),
            history: (history != History::None).then(|| SourceHistory {
                shallow: repository.shallow.clone(),
                cut: HistoryCut::AsItIs,
                repository: *repository,
            }),
        },
    }
}

impl SourceHistory {
    /// Finds where a history of so many commits ends.
    async fn cut(&mut self, git: &Git, history: History, cancel: &CancellationToken) -> Result<(), SnapshotError> {
        let (History::Commits(depth), Some(_)) = (history, self.repository.head.commit()) else {
            return Ok(());
        };
        let command = git.ask(&self.repository.source, SourceQuestion::Commits);
        let commits = run::run(command, Stdin::Empty, MANY_LINES, cancel).await?;
        let cuts = listing::cuts(&commits, depth.get(), &self.repository.shallow).map_err(ShadowError::Listing)?;
        self.shallow = cuts;
        self.cut = HistoryCut::ByStdin;
        Ok(())
    }
}

async fn listed(
    git: &Git,
    source: &SourceRepository,
    cancel: &CancellationToken,
) -> Result<Vec<crate::workspace::selection::Listed>, SnapshotError> {
    let ask = |question| run::run(git.ask(source, question), Stdin::Empty, MANY_LINES, cancel);
    let (tracked, untracked) = tokio::join!(ask(SourceQuestion::Tracked), ask(SourceQuestion::Untracked));
    let (tracked, untracked) = tracked
        .and_then(|tracked| Ok((tracked, untracked?)))
        .map_err(|error| not_listed(&source.folder, error))?;
    Ok(listing::files(&tracked, &untracked).map_err(ShadowError::Listing)?)
}

fn not_listed(folder: &Path, error: GitError) -> SnapshotError {
    match error {
        GitError::Tool(cause @ ToolError::TimedOut { .. }) => SnapshotError::Listing {
            folder: folder.to_owned(),
            cause,
        },
        other => other.into(),
    }
}

/// What is taken of a part of a repository in which git lists nothing. The user named that very part.
async fn nothing_listed(
    git: &Git,
    source: &SourceRepository,
    notes: &mut Vec<Note>,
    cancel: &CancellationToken,
) -> Result<Selection, SnapshotError> {
    let top = source.work_tree.clone();
    let ignored = git.ask(source, SourceQuestion::Ignored);
    match run::end(ignored, Stdin::Empty, FEW_LINES, cancel).await? {
        GitEnd::Success(_) => {
            *notes = vec![Note::Ignored { top }];
            Ok(Selection::WithoutGit)
        }
        GitEnd::Failure(GitError::Failed { status, .. }) if status.code() == Some(1) => {
            notes.push(Note::NothingListed { top });
            Ok(Selection::Listed(Vec::new()))
        }
        GitEnd::Failure(error) => Err(error.into()),
    }
}

/// Stops everything else where this fails.
async fn ending<T>(
    stop: &CancellationToken,
    work: impl Future<Output = Result<T, SnapshotError>>,
) -> Result<T, SnapshotError> {
    let end = work.await;
    if end.is_err() {
        stop.cancel();
    }
    end
}

struct CopiedFiles {
    inventory: Inventory,
    bytes: u64,
    skipped: Skipped,
}

async fn copy_files(
    job: &SnapshotJob,
    selection: Selection,
    format: ObjectFormat,
    mut progress: OnProgress,
    stop: CancellationToken,
) -> Result<CopiedFiles, SnapshotError> {
    let job = CopyJob {
        source: job.folder.clone(),
        destination: job.workspace.clone(),
        selection,
        limits: job.limits.clone(),
        owner: job.owner,
    };
    let copying = tokio::task::spawn_blocking(move || {
        let mut recorder = InventoryRecorder::new(format);
        let mut on_progress = |now| match stop.is_cancelled() {
            true => ControlFlow::Break(()),
            false => progress(now),
        };
        let skipped = copy::take(&job, &mut recorder, &mut on_progress)?;
        let bytes = recorder.bytes();
        let inventory = recorder.finish(&Tree::open(&job.destination)?)?;
        Ok(CopiedFiles {
            inventory,
            bytes,
            skipped,
        })
    });
    copying
        .await
        .unwrap_or_else(|stopped| std::panic::resume_unwind(stopped.into_panic()))
        .map_err(SnapshotError::Copy)
}

/// Packs the history into the shadow; says what of HEAD's tree is there then.
async fn pack(
    git: &Git,
    job: &SnapshotJob,
    history: Option<&SourceHistory>,
    own: &OwnRepository,
    cancel: &CancellationToken,
) -> Result<Option<KnownTree>, SnapshotError> {
    let Some((history, commit)) = history.and_then(|history| Some((history, history.repository.head.commit()?))) else {
        return Ok(None);
    };
    let cuts: &[ObjectId] = match history.cut {
        HistoryCut::AsItIs => &[],
        HistoryCut::ByStdin => &history.shallow,
    };
    let question = SourceQuestion::Pack {
        into: own,
        objects: &history.repository.objects,
        cut: history.cut,
    };
    let command = git.ask(&history.repository.source, question);
    let packed = run::run(command, Stdin::Bytes(revisions(commit, cuts)), FEW_LINES, cancel).await;
    packed.map_err(|error| match error {
        cause @ GitError::Failed { .. } => SnapshotError::History {
            folder: job.folder.clone(),
            cause,
        },
        other => other.into(),
    })?;
    Ok(Some(shadow::known_tree(git, own, commit, cancel).await?))
}

fn check_size(job: &SnapshotJob, own: &OwnRepository, copied: u64) -> Result<(), SnapshotError> {
    let unreadable = |source| ShadowError::Write {
        path: own.git_dir.clone(),
        source,
    };
    let mut found = copied;
    for pack in inner_git::pack_files(own).map_err(unreadable)? {
        found = found.saturating_add(pack.metadata().map_err(unreadable)?.len());
    }
    let limit = job.limits.bytes.value.bytes();
    if found > limit {
        return Err(SnapshotError::HistoryTooLarge {
            folder: job.folder.clone(),
            found,
            limit,
            origin: job.limits.bytes.origin.to_string(),
        });
    }
    Ok(())
}

async fn make_inner_git(
    git: &Git,
    job: &SnapshotJob,
    history: Option<SourceHistory>,
    own: &OwnRepository,
    format: ObjectFormat,
    cancel: &CancellationToken,
) -> Result<(), SnapshotError> {
    let Some(history) = history else {
        return Ok(());
    };
    let mut shallow = history.shallow;
    if history.cut == HistoryCut::AsItIs && !shallow.is_empty() {
        shallow = packed_of(git, own, &shallow, cancel).await?;
    }
    if matches!(history.repository.head, Head::Unborn { .. }) {
        shallow.clear();
    }
    let inner = InnerGit {
        workspace: job.workspace.clone(),
        shadow: own.clone(),
        head: history.repository.head,
        format,
        shallow,
        owner: job.owner,
    };
    Ok(inner_git::make(git, inner, cancel).await?)
}

/// Those that were packed: the source's other branches are cut elsewhere.
async fn packed_of(
    git: &Git,
    own: &OwnRepository,
    commits: &[ObjectId],
    cancel: &CancellationToken,
) -> Result<Vec<ObjectId>, SnapshotError> {
    let names: String = commits.iter().map(|id| format!("{id}\n")).collect();
    let command = git.work(own, "cat-file", &["--batch-check=%(objectname) %(objecttype)"]);
    let answer = run::run(command, Stdin::Bytes(names.into_bytes()), MANY_LINES, cancel).await?;
    let present = answer
        .split(|byte| *byte == b'\n')
        .filter_map(|line| line.strip_suffix(b" commit"));
    Ok(present.filter_map(|id| ObjectId::parse(id).ok()).collect())
}

#[cfg(test)]
mod tests;
