//! Keeps a session from filling the host's disk: watches what it writes to its folders, and says when it must be ended.
//!
//! [`decide`] is pure, [`count`] walks; here is when they are called, and what a person reads. Nothing here ends a session
//! or changes a file. The kernel is not asked to enforce anything, because few file systems can: a session may be over its
//! limit for as long as [`decide`] says.

pub mod count;
pub mod decide;

use crate::config::Sourced;
use crate::config::quantity::{ByteSize, Rounded};
use crate::session::disk::count::Linked;
use crate::session::disk::decide::{Bounds, Decision, Finding, Next, Room, Tally, Usage};
use crate::wire::untrusted::Untrusted;
use crate::workspace::tree::{Tree, TreeError};
use nix::errno::Errno;
use nix::sys::stat::fstat;
use nix::sys::statvfs::fstatvfs;
use std::collections::HashSet;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// The most that a folder may hold of which only growth counts: it is the user's own, and has to be walked whole.
const MOST_COUNTED: u64 = 5_000_000;

/// What of a folder counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Counted {
    Everything,
    /// What was added since the watch began: the folder is not the session's own (`workspace.mode = "bind"`).
    Growth,
}

/// A folder that the session may write to, on the host.
#[derive(Debug, Clone)]
pub struct Watched {
    pub path: PathBuf,
    pub counted: Counted,
}

#[derive(Debug, Clone)]
pub struct DiskLimits {
    /// `limits.workspace`: all folders together.
    pub bytes: Sourced<ByteSize>,
    /// `workspace.max_files`: all folders together.
    pub entries: Sourced<u64>,
    /// `workspace.free`: what must stay free where they lie.
    pub free: Sourced<ByteSize>,
}

/// Why the session must be ended. Its text is for people.
#[derive(Debug, thiserror::Error)]
pub enum DiskVerdict {
    #[error(
        "stopped: disk limit {} reached (the session's workspace and Codex home hold {}{}); raise limits.workspace \
         ({}), or have it write less", limit.value, Rounded(*found), Hidden(hidden.as_deref()), limit.origin
    )]
    Bytes {
        found: u64,
        hidden: Option<PathBuf>,
        limit: Sourced<ByteSize>,
    },
    #[error(
        "stopped: the session's workspace and Codex home hold more than {} files and directories{}; raise \
         workspace.max_files ({}), or have it write fewer", limit.value, Hidden(hidden.as_deref()), limit.origin
    )]
    Entries {
        hidden: Option<PathBuf>,
        limit: Sourced<u64>,
    },
    #[error(
        "stopped: the host's disk has {} left at {}, less than workspace.free = {} ({}), and this session has written {}; \
         free some space there, or lower workspace.free", Rounded(*free), at.display(), limit.value, limit.origin,
        Rounded(*grown)
    )]
    Short {
        free: u64,
        grown: u64,
        at: PathBuf,
        limit: Sourced<ByteSize>,
    },
    #[error(
        "stopped: the host's disk has {} left at {}, less than half of workspace.free = {} ({}), and {} went while this \
         session ran; its folders don't show it, but it may hold deleted files open. Free some space there, or lower \
         workspace.free", Rounded(*free), at.display(), limit.value, limit.origin, Rounded(*lost)
    )]
    Unexplained {
        free: u64,
        lost: u64,
        at: PathBuf,
        limit: Sourced<ByteSize>,
    },
    #[error("stopped: what the session writes can't be counted: {0}")]
    Uncountable(#[from] Uncountable),
}

/// Why nothing can be said, so that nothing is promised any more.
#[derive(Debug, thiserror::Error)]
pub enum Uncountable {
    #[error(transparent)]
    Tree(#[from] TreeError),
    #[error("can't look at the file system of {}: {errno}", path.display())]
    FileSystem { path: PathBuf, errno: Errno },
    #[error("the count failed: {0}")]
    Failed(#[from] tokio::task::JoinError),
}

/// A remark on what was not seen; the name is the session's own choice.
struct Hidden<'h>(Option<&'h Path>);

impl fmt::Display for Hidden<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(path) = self.0 else { return Ok(()) };
        let path = Untrusted::new(path.to_string_lossy());
        write!(
            f,
            ", by what the disk lost, because {} can't be looked into",
            path.one_line(200)
        )
    }
}

/// Watches one session from before anything untrusted runs in it.
#[derive(Debug)]
pub struct DiskWatch {
    folders: Arc<Vec<Folder>>,
    limits: DiskLimits,
    began: Instant,
    /// `None` until the first count is there.
    decision: Option<Decision>,
    state: State,
}

#[derive(Debug)]
enum State {
    Waiting { until: Instant },
    Looking(JoinHandle<Result<Room, Uncountable>>),
    Counting(JoinHandle<Result<Count, Uncountable>>),
    Stopped(Finding),
}

/// A folder, held open: what is renamed meanwhile stays the same folder.
#[derive(Debug)]
struct Folder {
    tree: Tree,
    counted: Counted,
    /// What it held at the first count; 0 where everything counts.
    before: std::sync::OnceLock<Usage>,
}

/// A count, with what was free before it.
#[derive(Debug)]
struct Count {
    tally: Tally,
    room: Room,
    took: Duration,
}

impl DiskWatch {
    /// Begins the first count; [`Self::ready`] waits for it. Within a runtime.
    pub fn new(watched: &[Watched], limits: DiskLimits) -> Result<Self, Uncountable> {
        let folders = watched.iter().map(|watched| {
            Ok(Folder {
                tree: Tree::open(&watched.path)?,
                counted: watched.counted,
                before: std::sync::OnceLock::new(),
            })
        });
        let folders = Arc::new(folders.collect::<Result<Vec<_>, Uncountable>>()?);
        let mut watch = Self {
            folders,
            limits,
            began: Instant::now(),
            decision: None,
            state: State::Waiting { until: Instant::now() },
        };
        watch.count();
        Ok(watch)
    }

    /// Waits for the first count, from which growth is measured: to be called before anything untrusted runs. Cancel-safe.
    pub async fn ready(&mut self) -> Result<(), DiskVerdict> {
        while self.decision.is_none() {
            self.step().await?;
        }
        match &self.state {
            State::Stopped(finding) => Err(self.verdict(finding.clone())),
            _ => Ok(()),
        }
    }

    /// Resolves once the session must be ended, and again if asked again. Cancel-safe.
    pub async fn watch(&mut self) -> DiskVerdict {
        loop {
            if let State::Stopped(finding) = &self.state {
                return self.verdict(finding.clone());
            }
            if let Err(error) = self.step().await {
                return error.into();
            }
        }
    }

    /// What the folders held, or had grown by, as of the last count; `None` before the first.
    pub fn last(&self) -> Option<Usage> {
        self.decision.as_ref().map(Decision::usage)
    }

    async fn step(&mut self) -> Result<(), Uncountable> {
        // Each is waited for in its place, so that nothing is lost where the caller gives up.
        let next = match &mut self.state {
            State::Waiting { until } => {
                tokio::time::sleep_until(*until).await;
                self.look();
                return Ok(());
            }
            State::Looking(looking) => match joined(looking.await) {
                Ok(room) => self.looked(room),
                Err(error) => return Err(self.again(error)),
            },
            State::Counting(counting) => match joined(counting.await) {
                Ok(count) => self.counted(count),
                Err(error) => return Err(self.again(error)),
            },
            State::Stopped(_) => return Ok(()),
        };
        match next {
            Next::Look(after) => {
                self.state = State::Waiting {
                    until: Instant::now() + after,
                }
            }
            Next::Count => self.count(),
            Next::Stop(finding) => self.state = State::Stopped(finding),
        }
        Ok(())
    }

    /// A task that has ended must not be waited for again.
    fn again(&mut self, error: Uncountable) -> Uncountable {
        self.count();
        error
    }

    fn look(&mut self) {
        let folders = Arc::clone(&self.folders);
        self.state = State::Looking(tokio::task::spawn_blocking(move || room(&folders)));
    }

    fn count(&mut self) {
        let folders = Arc::clone(&self.folders);
        let most = self.limits.entries.value;
        self.state = State::Counting(tokio::task::spawn_blocking(move || count_all(&folders, most)));
    }

    fn looked(&self, room: Room) -> Next {
        match &self.decision {
            Some(decision) => decision.looked(self.began.elapsed(), room),
            None => Next::Count,
        }
    }

    fn counted(&mut self, Count { tally, room, took }: Count) -> Next {
        let now = self.began.elapsed();
        match &mut self.decision {
            Some(decision) => decision.counted(now, took, room, tally),
            None => {
                let bounds = Bounds {
                    bytes: self.limits.bytes.value.bytes(),
                    entries: self.limits.entries.value,
                    reserve: self.limits.free.value.bytes(),
                };
                let (decision, next) = Decision::new(bounds, now, took, room, tally);
                self.decision = Some(decision);
                next
            }
        }
    }

    fn verdict(&self, finding: Finding) -> DiskVerdict {
        let limits = self.limits.clone();
        match finding {
            Finding::Bytes { found, hidden } => DiskVerdict::Bytes {
                found,
                hidden,
                limit: limits.bytes,
            },
            Finding::Entries { hidden } => DiskVerdict::Entries {
                hidden,
                limit: limits.entries,
            },
            Finding::Short { free, grown } => DiskVerdict::Short {
                free,
                grown,
                at: self.scarcest(),
                limit: limits.free,
            },
            Finding::Unexplained { free, lost } => DiskVerdict::Unexplained {
                free,
                lost,
                at: self.scarcest(),
                limit: limits.free,
            },
        }
    }

    /// The folder whose file system has least left.
    fn scarcest(&self) -> PathBuf {
        let left = |folder: &&Folder| fstatvfs(&folder.tree).map_or(u64::MAX, |stat| free(&stat));
        let scarcest = self.folders.iter().min_by_key(left);
        scarcest.map_or(Path::new("/"), |folder| folder.tree.path()).to_owned()
    }
}

fn joined<T>(ended: Result<Result<T, Uncountable>, tokio::task::JoinError>) -> Result<T, Uncountable> {
    ended?
}

/// What is free for whoever is not root: the rest is the file system's own.
#[allow(
    clippy::useless_conversion,
    reason = "the kernel's counts are narrower on other targets"
)]
pub(super) fn free(stat: &nix::sys::statvfs::Statvfs) -> u64 {
    u64::from(stat.blocks_available()).saturating_mul(u64::from(stat.fragment_size()))
}

#[allow(
    clippy::useless_conversion,
    reason = "the kernel's counts are narrower on other targets"
)]
fn room(folders: &[Folder]) -> Result<Room, Uncountable> {
    let mut room = Room {
        least: u64::MAX,
        ..Room::default()
    };
    let mut seen = HashSet::new();
    for folder in folders {
        let failed = |errno| Uncountable::FileSystem {
            path: folder.tree.path().to_owned(),
            errno,
        };
        // Of the folder that is held: another may have its name by now, or none.
        let stat = fstatvfs(&folder.tree).map_err(failed)?;
        let itself = fstat(&folder.tree).map_err(failed)?;
        // Removed: what is made at its name from now on would be seen by nobody.
        if itself.st_nlink == 0 {
            return Err(failed(Errno::ENOENT));
        }
        if seen.insert(itself.st_dev) {
            room.free = room.free.saturating_add(free(&stat));
            room.inodes = room.inodes.saturating_add(u64::from(stat.files_available()));
            room.least = room.least.min(free(&stat));
        }
    }
    Ok(room)
}

/// Counts all folders, as far as `most` entries and one more.
fn count_all(folders: &[Folder], most: u64) -> Result<Count, Uncountable> {
    let room = room(folders)?;
    let began = std::time::Instant::now();
    let mut tally = Tally::default();
    let mut linked = Linked::default();
    for folder in folders {
        let left = most.saturating_sub(tally.usage.entries).saturating_add(1);
        let before = folder.before.get().copied().unwrap_or_default();
        let walked = match (folder.counted, folder.before.get()) {
            (Counted::Growth, None) => MOST_COUNTED,
            _ => left.saturating_add(before.entries),
        };
        match count::count(&folder.tree, walked, &mut linked) {
            Ok(found) => {
                if folder.counted == Counted::Growth {
                    folder.before.get_or_init(|| found.usage);
                }
                let before = folder.before.get().copied().unwrap_or_default();
                let Usage { bytes, entries } = &mut tally.usage;
                *bytes = bytes.saturating_add(found.usage.bytes.saturating_sub(before.bytes));
                *entries = entries.saturating_add(found.usage.entries.saturating_sub(before.entries));
                tally.hidden = tally.hidden.or(found.hidden);
            }
            Err(TreeError::TooManyEntries { .. }) if walked != MOST_COUNTED => {
                tally.usage.entries = most.saturating_add(1);
                break;
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(Count {
        tally,
        room,
        took: began.elapsed(),
    })
}

#[cfg(test)]
mod tests;
