//! What is done to sessions without starting a container: listed, shown, asked to stop, removed, pruned.
//!
//! For the command line, for the start of a server, and for whoever shows sessions to a client. Whatever is changed is held
//! first: a session that another process has is left to it.

use crate::config::Config;
use crate::plan::identity::{ContainerName, SessionId};
use crate::session::blocking::blocking;
use crate::session::disk::count::{self, Linked};
use crate::session::error::SessionError;
use crate::session::retention::{self, Ended, Keep, Pruned};
use crate::session::stop_request;
use crate::session::store::hold::Holder;
use crate::session::store::record::{Record, RecordFlaw, State};
use crate::session::store::{Found, Store, StoreError, holding, now};
use crate::session::sweep;
use crate::session::transcript;
use crate::supervise::owner::{Owner, OwnerError};
use crate::workspace::tree::Tree;
use serde_json::Value;
use std::path::Path;
use std::time::Duration;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// How long a stop waits for whoever has the session. P12 promises its server's own end in less.
const STOP_LIMIT: Duration = Duration::from_secs(15);
/// How often is looked whether it has let go.
const STOP_POLL: Duration = Duration::from_millis(50);
/// The most entries that a session's directory is counted to.
const MOST_ENTRIES: u64 = 5_000_000;

/// The sessions of the configured state directory.
#[derive(Debug, Clone)]
pub struct Upkeep {
    store: Store,
    keep: Keep,
}

#[derive(Debug, thiserror::Error)]
pub enum UpkeepError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Owner(#[from] OwnerError),
    #[error("can't read the log of session {session}: {source}")]
    Log { session: SessionId, source: std::io::Error },
    #[error(
        "session {session} did not end within {} s; its server may hang: end that process, and `codex-mcp sessions prune` \
         removes what it leaves", STOP_LIMIT.as_secs()
    )]
    NotStopped { session: SessionId },
    #[error(
        "session {session} has no container, and {} has it: its changes are brought back, or it is looked after; wait until that \
         is done", holding(.by.as_ref())
    )]
    Occupied { session: SessionId, by: Option<Owner> },
    #[error(
        "session {session} was not removed: what its server left of its container can't be ended: {source}\n\
         Mend that and remove the session again."
    )]
    NotEnded {
        session: SessionId,
        source: Box<SessionError>,
    },
}

/// A session that was removed, or would be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Removed {
    pub session: SessionId,
    /// Bytes on the disk.
    pub bytes: u64,
    pub why: Pruned,
}

impl Removed {
    fn of(session: &Ended, why: Pruned) -> Self {
        Self {
            session: session.session.clone(),
            bytes: session.bytes,
            why,
        }
    }
}

/// Whether anything is done, or only said what would be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Doing {
    Preview,
    Really,
}

impl Upkeep {
    pub fn new(config: &Config) -> Result<Self, UpkeepError> {
        Ok(Self::of(
            Store::new(&config.state_dir.value, Owner::of_this_process()?),
            config,
        ))
    }

    pub(super) fn of(store: Store, config: &Config) -> Self {
        Self {
            store,
            keep: Keep {
                age: config.sessions.keep.value,
                bytes: config.sessions.keep_size.value.bytes(),
            },
        }
    }

    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Every session, oldest first.
    pub async fn list(&self) -> Result<Vec<Found>, UpkeepError> {
        let store = self.store.clone();
        Ok(blocking(move || store.listed()).await?)
    }

    /// The one that `wanted` names: by its id, its thread's, or a beginning of either.
    pub async fn show(&self, wanted: &str) -> Result<Found, UpkeepError> {
        let (store, wanted) = (self.store.clone(), wanted.to_owned());
        let found = blocking(move || {
            let session = store.find(&wanted)?;
            let found = store.listed()?.into_iter().find(|found| found.session == session);
            // Removed since it was found.
            found.ok_or(StoreError::Unknown(session.to_string()))
        });
        Ok(found.await?)
    }

    /// What happened in it, oldest first.
    pub async fn logs(&self, wanted: &str) -> Result<Vec<Value>, UpkeepError> {
        let found = self.show(wanted).await?;
        let read = blocking(move || transcript::read(&found.path)).await;
        read.map_err(|source| UpkeepError::Log {
            session: found.session,
            source,
        })
    }

    /// Has whoever has it end its container, and waits for that. `false`: it had none.
    pub async fn stop(&self, wanted: &str) -> Result<bool, UpkeepError> {
        let found = self.show(wanted).await?;
        if found.holder == Holder::Nobody {
            return Ok(false);
        }
        let failed = |source| StoreError::Files {
            what: "can't ask for the end of the session in",
            path: found.path.clone(),
            source,
        };
        stop_request::make(&found.path).map_err(failed)?;
        let deadline = Instant::now() + STOP_LIMIT;
        while self.store.holder(&found.session)? != Holder::Nobody {
            if Instant::now() > deadline {
                let session = found.session;
                return Err(match (found.record, found.holder) {
                    // To end that process would be the wrong advice: it may be writing to the user's folder.
                    (
                        Ok(Record {
                            state: State::Parked { .. } | State::Failed { .. },
                            ..
                        }),
                        Holder::Process(by),
                    ) => UpkeepError::Occupied { session, by },
                    _ => UpkeepError::NotStopped { session },
                });
            }
            tokio::time::sleep(STOP_POLL).await;
        }
        Ok(true)
    }

    /// Removes a session for good, with what it changed. Where its server died, its container may still run: `end` ends it first.
    ///
    /// # Errors
    /// Also where that can't be done: a container keeps its files and what is protected in its folder.
    pub async fn remove<E>(&self, wanted: &str, end: E) -> Result<SessionId, UpkeepError>
    where
        E: AsyncFnOnce(&ContainerName) -> Result<(), SessionError>,
    {
        let session = self.show(wanted).await?.session;
        let (store, opened) = (self.store.clone(), session.clone());
        let stored = blocking(move || store.open(&opened)).await?;
        if sweep::may_be_left(stored.record(), stored.directory.root())
            && let Err(source) = end(&session.container_name()).await
        {
            return Err(UpkeepError::NotEnded {
                session,
                source: Box::new(source),
            });
        }
        blocking(move || stored.remove()).await?;
        Ok(session)
    }

    /// What [`Self::prune_after`] would remove now, if what dead servers left can be ended.
    pub async fn prunable(&self) -> Result<Vec<Removed>, UpkeepError> {
        let (store, keep) = (self.store.clone(), self.keep);
        Ok(blocking(move || {
            let found = store.listed()?;
            let mut removed = unfinished(&found);
            let ended: Vec<Ended> = found.iter().filter_map(ended_or_orphaned).collect();
            let pruned = retention::to_prune(&ended, keep, now()).into_iter();
            removed.extend(pruned.map(|(session, why)| Removed::of(session, why)));
            Ok::<_, StoreError>(removed)
        })
        .await?)
    }

    /// Removes what is too old or too much, once `put_in_order` has settled what dead servers left; sessions that it removed itself
    /// are told as well.
    pub async fn prune_after(&self, put_in_order: impl Future<Output = ()>) -> Result<Vec<Removed>, UpkeepError> {
        let store = self.store.clone();
        let unfinished = blocking(move || Ok::<_, StoreError>(unfinished(&store.listed()?))).await?;
        put_in_order.await;
        let (store, keep) = (self.store.clone(), self.keep);
        Ok(blocking(move || {
            let is_gone = |one: &Removed| !store.directory_of(&one.session).exists();
            let mut removed: Vec<Removed> = unfinished.into_iter().filter(is_gone).collect();
            removed.extend(prune(&store, keep)?);
            Ok::<_, StoreError>(removed)
        })
        .await?)
    }

    /// [`Self::prune_after`] for the start of a server, which has put in order what there was: as a task of its own: it walks the files of every session, and nobody who starts one
    /// waits for that. Nor does the end of the server; a removal that is cut short is finished by the next sweep.
    pub fn prune_beside(self, tasks: &TaskTracker, closing: CancellationToken) {
        tasks.spawn(async move {
            let pruned = tokio::select! {
                biased;
                () = closing.cancelled() => return,
                pruned = self.prune_after(async {}) => pruned,
            };
            match pruned {
                Ok(removed) if removed.is_empty() => {}
                Ok(removed) => tracing::info!(
                    removed = removed.len(),
                    "removed sessions that were too old or too much"
                ),
                Err(error) => tracing::warn!(%error, "could not look for sessions that are too old or too much"),
            }
        });
    }
}

/// Blocks. A session that can't be removed is logged and stays.
fn prune(store: &Store, keep: Keep) -> Result<Vec<Removed>, StoreError> {
    let ended: Vec<Ended> = store.listed()?.iter().filter_map(ended).collect();
    let mut removed = Vec::new();
    for (session, why) in retention::to_prune(&ended, keep, now()) {
        match remove_if_still(store, session) {
            Ok(true) => removed.push(Removed::of(session, why)),
            Ok(false) => {}
            Err(error) => {
                tracing::warn!(session = %session.session, %error, "could not remove a session that is too old or too much");
            }
        }
    }
    Ok(removed)
}

/// Sessions that a dead server had begun, and in which nobody has worked: the sweep removes them.
fn unfinished(found: &[Found]) -> Vec<Removed> {
    let is_one = |found: &&Found| {
        let has_no_thread = found.record.as_ref().is_ok_and(|record| record.thread.is_none());
        has_no_thread && found.holder == Holder::Nobody
    };
    let removed = |found: &Found| Removed {
        session: found.session.clone(),
        bytes: size_of(&found.path),
        why: Pruned::Unfinished,
    };
    found.iter().filter(is_one).map(removed).collect()
}

/// `false`: somebody took it up since it was measured, which may have been minutes ago, or removed it.
fn remove_if_still(store: &Store, decided: &Ended) -> Result<bool, StoreError> {
    let stored = match store.open(&decided.session) {
        Ok(stored) => stored,
        Err(StoreError::Held { .. } | StoreError::Unknown(_)) => return Ok(false),
        Err(error) => return Err(error),
    };
    if !decided.is_still(stored.record()) {
        return Ok(false);
    }
    stored.remove()?;
    Ok(true)
}

/// `None`: it is in use, or not ours to remove. Of one that nobody has settled yet something may run.
fn ended(found: &Found) -> Option<Ended> {
    let settled = found.record.as_ref().is_ok_and(|record| record.end().is_some());
    settled.then(|| ended_or_orphaned(found)).flatten()
}

/// [`ended`], and what will have once it is settled.
fn ended_or_orphaned(found: &Found) -> Option<Ended> {
    let record = found.record.as_ref().ok()?;
    if found.holder != Holder::Nobody || record.thread.is_none() {
        return None;
    }
    Some(Ended {
        session: found.session.clone(),
        changed: record.changed,
        turns: record.turns,
        bytes: size_of(&found.path),
    })
}

/// What a session's directory takes on the disk. What can't be counted counts as nothing: it is no reason to remove another.
fn size_of(path: &Path) -> u64 {
    let counted = Tree::open(path).and_then(|tree| count::count(&tree, MOST_ENTRIES, &mut Linked::default()));
    counted.map_or(0, |tally| tally.usage.bytes)
}

/// What can be said of a session in one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// A server has it, and a container for it.
    Live,
    /// The next reply starts a container.
    Parked,
    /// It was lost too often.
    Failed,
    /// Its server died, and nobody has looked since.
    Orphaned,
    /// Its record can't be read.
    Damaged,
    /// A newer version wrote it.
    Newer,
    /// Nothing is known of it: its files are somebody else's, or the disk fails.
    Unreadable,
}

impl Standing {
    pub const ALL: [Self; 7] = [
        Self::Live,
        Self::Parked,
        Self::Failed,
        Self::Orphaned,
        Self::Damaged,
        Self::Newer,
        Self::Unreadable,
    ];

    pub fn of(found: &Found) -> Self {
        match (&found.record, &found.holder) {
            (Err(RecordFlaw::Newer { .. }), _) => Self::Newer,
            (Err(RecordFlaw::Unreadable(_)), _) => Self::Unreadable,
            (Err(_), Holder::Nobody) => Self::Damaged,
            (_, Holder::Process(_)) => Self::Live,
            (Ok(Record { state, .. }), Holder::Nobody) => match state {
                State::Live { .. } => Self::Orphaned,
                State::Parked { .. } => Self::Parked,
                State::Failed { .. } => Self::Failed,
            },
        }
    }

    pub fn word(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::Parked => "parked",
            Self::Failed => "failed",
            Self::Orphaned => "orphaned",
            Self::Damaged => "damaged",
            Self::Newer => "newer",
            Self::Unreadable => "unreadable",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::store::fixtures::record;
    use crate::session::store::record::{End, EndCause, Moment};
    use crate::workspace::bind::placeholder::{PlaceholderName, PlaceholderRecord};

    fn store(dir: &tempfile::TempDir) -> Store {
        Store::new(dir.path(), Owner::of_this_process().unwrap())
    }

    fn parked(byte: u8) -> Record {
        let end = End {
            at: Moment(0),
            cause: EndCause::Idle,
            why: String::new(),
            turn: None,
        };
        Record {
            state: State::Parked { end },
            ..record(byte)
        }
    }

    #[test]
    fn what_was_taken_up_while_others_were_measured_is_not_pruned() {
        let dir = tempfile::tempdir().unwrap();
        let store = store(&dir);
        (1..=4).for_each(|byte| drop(store.create(parked(byte)).unwrap()));
        let measured: Vec<Ended> = store.list().unwrap().iter().filter_map(ended).collect();
        let again = parked(2).state;
        // Within the same second, and parked again.
        let mut taken_up = store.open(&record(2).session).unwrap();
        taken_up
            .update(|record| (record.turns, record.state) = (record.turns + 1, again))
            .unwrap();
        drop(taken_up);
        let _in_use = store.open(&record(3).session).unwrap();
        // Its server has it no more, and nobody has settled it yet.
        let mut orphaned = store.open(&record(4).session).unwrap();
        orphaned
            .update(|record| record.state = State::Live { turn: None })
            .unwrap();
        drop(orphaned);
        let removed: Vec<bool> = measured
            .iter()
            .map(|decided| {
                // As if the clock had stood still.
                let now = store
                    .list()
                    .unwrap()
                    .into_iter()
                    .find(|found| found.session == decided.session);
                let changed = now.unwrap().record.unwrap().changed;
                remove_if_still(
                    &store,
                    &Ended {
                        changed,
                        ..decided.clone()
                    },
                )
                .unwrap()
            })
            .collect();
        assert_eq!(removed, [true, false, false, false]);
        assert_eq!(store.list().unwrap().len(), 3);
        assert!(!remove_if_still(&store, &measured[0]).unwrap(), "it is gone already");
    }

    #[tokio::test]
    async fn a_preview_says_what_is_removed_then() {
        let dir = tempfile::tempdir().unwrap();
        let mut upkeep = upkeep(&dir);
        upkeep.keep.age = Duration::from_secs(1000);
        let long_ago = |mut record: Record| {
            (record.created, record.changed) = (Moment(5), Moment(5));
            drop(upkeep.store.create(record).unwrap());
        };
        long_ago(parked(1));
        // Their servers died; that they are settled now makes nothing of it younger.
        long_ago(record(2));
        long_ago(Record {
            thread: None,
            ..record(3)
        });
        let recent = Moment(now().0);
        let young = Record {
            changed: recent,
            ..record(4)
        };
        drop(upkeep.store.create(young).unwrap());
        let says = |removed: Vec<Removed>| {
            let mut said: Vec<_> = removed.into_iter().map(|one| (one.session, one.why)).collect();
            said.sort_by(|one, other| one.0.cmp(&other.0));
            said
        };
        let preview = says(upkeep.prunable().await.unwrap());
        let expected = [(1, Pruned::TooOld), (2, Pruned::TooOld), (3, Pruned::Unfinished)];
        assert_eq!(preview, expected.map(|(byte, why)| (record(byte).session, why)));
        assert_eq!(upkeep.store.list().unwrap().len(), 4, "nothing was done");
        let put_in_order = async {
            upkeep.store.open(&record(3).session).unwrap().remove().unwrap();
            for byte in [2, 4] {
                upkeep.store.open(&record(byte).session).unwrap().settle(3).unwrap();
            }
        };
        assert_eq!(says(upkeep.prune_after(put_in_order).await.unwrap()), preview);
        let left = upkeep.store.list().unwrap();
        let [young] = &left[..] else { panic!("{left:?}") };
        assert_eq!(young.record.as_ref().unwrap().changed, recent);
    }

    fn upkeep(dir: &tempfile::TempDir) -> Upkeep {
        let keep = Keep {
            age: Duration::MAX,
            bytes: u64::MAX,
        };
        Upkeep {
            store: store(dir),
            keep,
        }
    }

    /// One whose server died: its record says that it lives, and a placeholder of it lies in the user's folder.
    fn orphan(upkeep: &Upkeep, folder: &Path) -> SessionId {
        let mut left = record(1);
        left.placeholders = Some(PlaceholderRecord {
            folder: folder.canonicalize().unwrap(),
            names: vec![PlaceholderName::Git],
        });
        std::fs::create_dir(folder.join(".git")).unwrap();
        drop(upkeep.store.create(left).unwrap());
        record(1).session
    }

    #[tokio::test]
    async fn what_a_dead_server_left_of_a_removed_session_goes_with_it() {
        let [dir, folder] = [(), ()].map(|()| tempfile::tempdir().unwrap());
        let upkeep = upkeep(&dir);
        let session = orphan(&upkeep, folder.path());
        let place = folder.path().join(".git");
        let refused = upkeep
            .remove(session.as_str(), async |_: &ContainerName| {
                Err(SessionError::ShuttingDown)
            })
            .await
            .unwrap_err()
            .to_string();
        assert!(
            refused.contains("can't be ended: ") && refused.contains("remove the session again"),
            "{refused}"
        );
        assert!(place.exists());
        let mut ended = Vec::new();
        let removed = upkeep
            .remove(session.as_str(), async |name: &ContainerName| {
                // Its files and its placeholders are there until its container is not.
                assert!(place.exists());
                ended.push(name.clone());
                Ok(())
            })
            .await
            .unwrap();
        assert_eq!((removed, ended), (session.clone(), vec![session.container_name()]));
        assert!(!place.exists() && upkeep.store.list().unwrap().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_is_told_to_end_a_process_that_brings_changes_back() {
        let dir = tempfile::tempdir().unwrap();
        let upkeep = upkeep(&dir);
        let session = record(1).session;
        let held = upkeep.store.create(parked(1)).unwrap();
        let error = upkeep.stop(session.as_str()).await.unwrap_err().to_string();
        assert!(
            error.contains("has no container") && error.contains("wait until that is done"),
            "{error}"
        );
        drop(held);
        let live = upkeep.store.open(&session).map(|mut stored| {
            stored
                .update(|record| record.state = State::Live { turn: None })
                .unwrap();
            stored
        });
        let error = upkeep.stop(session.as_str()).await.unwrap_err().to_string();
        assert!(error.contains("its server may hang: end that process"), "{error}");
        drop(live);
    }

    #[tokio::test]
    async fn no_engine_is_asked_to_remove_what_ended_in_order() {
        let dir = tempfile::tempdir().unwrap();
        let upkeep = upkeep(&dir);
        drop(upkeep.store.create(parked(1)).unwrap());
        let end = async |_: &ContainerName| panic!("nothing is left of its container");
        upkeep.remove(record(1).session.as_str(), end).await.unwrap();
        assert!(upkeep.store.list().unwrap().is_empty());
    }

    #[tokio::test]
    async fn pruning_at_a_start_keeps_neither_the_start_nor_the_end_waiting() {
        let dir = tempfile::tempdir().unwrap();
        let mut upkeep = upkeep(&dir);
        upkeep.keep.bytes = 0;
        drop(upkeep.store.create(parked(1)).unwrap());
        let store = upkeep.store.clone();
        let tasks = TaskTracker::new();
        tasks.close();
        upkeep.clone().prune_beside(&tasks, CancellationToken::new());
        // Nothing has run yet of what was only begun.
        assert_eq!(store.list().unwrap().len(), 1);
        tasks.wait().await;
        assert!(store.list().unwrap().is_empty());
        let closing = CancellationToken::new();
        closing.cancel();
        drop(store.create(parked(2)).unwrap());
        upkeep.prune_beside(&tasks, closing);
        tasks.wait().await;
        assert_eq!(store.list().unwrap().len(), 1);
    }
}
