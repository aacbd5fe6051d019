//! Removes what dead owners left: containers, created ones above all, sessions that never came to a thread, staged secrets.
//! What belongs to a live process is never touched, and no session with a thread is removed.

use crate::engine::capabilities::Capabilities;
use crate::engine::client::{Engine, EngineError};
use crate::plan::identity::ContainerName;
use crate::session::blocking::blocking;
use crate::session::error::SessionError;
use crate::session::ground::Ground;
use crate::session::secrets;
use crate::session::store::hold::{Hold, Holder};
use crate::session::store::record::{Record, RecordFlaw, State};
use crate::session::store::{Found, Store, StoreError, now};
use crate::supervise::owner::Owner;
use crate::supervise::reconcile;
use crate::workspace;
use crate::workspace::removal::remove_tree;
use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

/// How long a daemon may go on with a client's request after the client is gone; a second look comes after that.
pub const SECOND_LOOK: Duration = Duration::from_secs(3);

/// A directory is made, then locked, then its record is written: within milliseconds. Whoever is between these has not much
/// longer to live.
const RECORDLESS_AGE: Duration = Duration::from_secs(60);

/// Whether one look is not enough: docker's daemon creates a container that its killed client had asked for.
pub fn needs_second_look(ground: &Ground) -> bool {
    Capabilities::of(ground.engine.facts()).outlives_its_client()
}

/// Does what it can: a sweep that fails is logged, and the next one tries again.
pub async fn sweep(ground: &Ground) {
    let store = ground.store();
    match containers(&ground.engine, store.me()).await {
        Ok(0) => {}
        Ok(removed) => tracing::info!(removed, "removed containers that dead servers left"),
        Err(error) => tracing::warn!(%error, "could not look for containers that dead servers left"),
    }
    let restarts = ground.config.sessions.restarts.value;
    let (engine, runtime) = (ground.engine.clone(), tokio::runtime::Handle::current());
    let end = move |name: &ContainerName| runtime.block_on(engine.remove([name.as_str()]));
    blocking(move || sessions(&store, restarts, end)).await;
}

async fn containers(engine: &Engine, me: &Owner) -> Result<usize, EngineError> {
    let sightings = engine.list_ours().await?;
    let clock = UNIX_EPOCH + Duration::from_secs(now().0);
    let names: Vec<String> = reconcile::to_remove(&sightings, me, clock, Owner::is_alive)
        .into_iter()
        .map(|left| left.name.clone())
        // Docker lists a container that another client is just removing without its name.
        .filter(|name| !name.is_empty())
        .collect();
    if !names.is_empty() {
        engine.remove(names.iter().map(String::as_str)).await?;
    }
    Ok(names.len())
}

/// Blocks. `end` ends a container by its name; that there is none is no error.
fn sessions(store: &Store, restarts: u32, end: impl Fn(&ContainerName) -> Result<(), EngineError>) {
    let found = match store.list() {
        Ok(found) => found,
        Err(error) => {
            tracing::warn!(%error, "could not look for sessions that dead servers left");
            return;
        }
    };
    half_removed(store);
    for found in found.iter().filter(|found| found.holder == Holder::Nobody) {
        if let Err(error) = session(store, found, restarts, &end) {
            tracing::warn!(path = %found.path.display(), %error, "could not put in order what a dead server left");
        }
    }
}

/// What a removal left that was cut short in its last step: a record and a lock that are nobody's. One that goes on just now
/// ends before it is this old.
fn half_removed(store: &Store) {
    for path in store.half_removed().unwrap_or_default() {
        if is_old(&path)
            && let Err(error) = remove_tree(&path)
        {
            tracing::warn!(path = %path.display(), %error, "could not remove what is left of a removed session");
        }
    }
}

fn is_old(path: &Path) -> bool {
    let changed = path.metadata().and_then(|metadata| metadata.modified());
    changed.is_ok_and(|at| at.elapsed().is_ok_and(|age| age > RECORDLESS_AGE))
}

/// Of one that nobody has. Whoever takes it meanwhile keeps it.
fn session(
    store: &Store,
    found: &Found,
    restarts: u32,
    end: impl Fn(&ContainerName) -> Result<(), EngineError>,
) -> Result<(), SessionError> {
    let is_left = match &found.record {
        Ok(record) => may_be_left(record, &found.path),
        Err(RecordFlaw::Newer { .. } | RecordFlaw::Unreadable(_)) => false,
        Err(RecordFlaw::Missing) => return recordless(store, found),
        // It is set aside when it is opened.
        Err(RecordFlaw::Damaged(_)) => true,
    };
    if !is_left {
        return Ok(());
    }
    let mut stored = match store.open(&found.session) {
        Ok(stored) => stored,
        Err(StoreError::Held { .. } | StoreError::Unknown(_)) => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    // By its name and while the session is ours: a client that was killed in its first step leaves a container without the
    // labels that it would be found by. What can't be ended keeps its files, and is tried again.
    end(&found.session.container_name())?;
    match stored.record().thread {
        None => stored.remove_or_warn(),
        Some(_) => {
            stored.container_ended()?;
            // What a comparison of a killed process left. It is litter, and no reason to leave the rest undone.
            if let Err(error) = workspace::sweep::sweep(&stored.directory.files.shadow) {
                tracing::debug!(%error, "could not tidy a session's private git directory");
            }
            stored.settle(restarts)?;
        }
    }
    Ok(())
}

/// Whether something of its container may be there still: its server died, or could not clean up after it.
pub fn may_be_left(record: &Record, session_dir: &Path) -> bool {
    let is_live = matches!(record.state, State::Live { .. });
    is_live || record.placeholders.is_some() || secrets::are_left(session_dir)
}

/// A directory without a record was just made, or its maker died; or somebody took the record away, and then the rest is not ours
/// to remove.
fn recordless(store: &Store, found: &Found) -> Result<(), SessionError> {
    if !is_old(&found.path) {
        return Ok(());
    }
    let Ok(hold) = Hold::take(&found.path, store.me()) else {
        return Ok(());
    };
    if found.path.join("workspace").exists() {
        let aside = store.set_aside(&found.path, &found.session, &hold)?;
        tracing::warn!(path = %aside.display(), "a session without a record was set aside");
        return Ok(());
    }
    secrets::remove(&found.path)?;
    Ok(remove_tree(&found.path)?)
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "tests make and look at files")]
mod tests {
    use super::*;
    use crate::session::store::fixtures::record;
    use crate::session::store::record::{End, EndCause, Moment};
    use crate::supervise::output::OutputError;
    use crate::supervise::spawner::SpawnError;
    use crate::workspace::bind::placeholder::{PlaceholderName, PlaceholderRecord};
    use std::fs::{self, File, FileTimes};
    use std::time::SystemTime;

    struct Bench {
        dir: tempfile::TempDir,
        store: Store,
    }

    fn bench() -> Bench {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::new(dir.path(), Owner::of_this_process().unwrap());
        Bench { dir, store }
    }

    impl Bench {
        fn made(&self, record: Record) -> std::path::PathBuf {
            let path = self.store.directory_of(&record.session);
            drop(self.store.create(record).unwrap());
            path
        }

        fn state(&self, byte: u8) -> State {
            self.store.open(&record(byte).session).unwrap().record().state.clone()
        }
    }

    fn no_container(_: &ContainerName) -> Result<(), EngineError> {
        Ok(())
    }

    #[test]
    fn a_session_keeps_its_files_until_its_container_is_gone() {
        let bench = bench();
        let mut half_made = record(1);
        half_made.thread = None;
        let path = bench.made(half_made);
        let asked = std::cell::RefCell::new(Vec::new());
        sessions(&bench.store, 3, |name| {
            asked.borrow_mut().push(name.clone());
            Err(EngineError::Command(OutputError::Spawn(SpawnError::ThreadEnded)))
        });
        assert_eq!(asked.into_inner(), [record(1).session.container_name()]);
        assert!(path.exists());
        sessions(&bench.store, 3, no_container);
        assert!(!path.exists());
    }

    #[test]
    fn what_nobody_has_is_put_in_order_and_only_half_made_sessions_are_removed() {
        let bench = bench();
        let mut half_made = record(1);
        half_made.thread = None;
        let mut half_made_and_live = half_made.clone();
        half_made_and_live.session = record(2).session;
        let held = bench.store.create(half_made_and_live).unwrap();
        let half_made = bench.made(half_made);
        let mut in_mid_turn = record(3);
        in_mid_turn.state = State::Live { turn: Some(2) };
        bench.made(in_mid_turn);
        sessions(&bench.store, 3, no_container);
        assert!(!half_made.exists());
        assert!(held.directory.root().exists());
        let State::Parked { end } = bench.state(3) else {
            panic!("{:?}", bench.state(3))
        };
        assert_eq!((end.why.as_str(), end.turn), ("its server died", Some(2)));
        sessions(&bench.store, 3, no_container);
        assert_eq!(bench.store.open(&record(3).session).unwrap().record().losses, 1);
    }

    #[test]
    fn what_a_dead_server_staged_is_removed_and_its_session_stays() {
        let bench = bench();
        let memory = tempfile::tempdir_in("/dev/shm").unwrap();
        let root = bench.made(record(1));
        let staged = memory.path().join(root.file_name().unwrap());
        fs::create_dir(&staged).unwrap();
        fs::write(staged.join("token"), "x").unwrap();
        fs::write(root.join("secrets-staged-at"), staged.to_str().unwrap()).unwrap();
        sessions(&bench.store, 3, no_container);
        assert!(!staged.exists() && root.exists());
    }

    /// Its server went on after a clean-up that failed, and parked it all the same.
    #[test]
    fn what_a_server_could_not_clean_up_is_tried_again() {
        let bench = bench();
        let memory = tempfile::tempdir_in("/dev/shm").unwrap();
        let folder = tempfile::tempdir().unwrap();
        let end = End {
            at: Moment(5),
            cause: EndCause::Idle,
            why: "x".to_owned(),
            turn: None,
        };
        let parked = |byte| Record {
            state: State::Parked { end: end.clone() },
            ..record(byte)
        };
        let staged_for = bench.made(parked(1));
        let staged = memory.path().join(staged_for.file_name().unwrap());
        fs::create_dir(&staged).unwrap();
        fs::write(staged_for.join("secrets-staged-at"), staged.to_str().unwrap()).unwrap();
        bench.made(Record {
            placeholders: Some(PlaceholderRecord {
                folder: folder.path().canonicalize().unwrap(),
                names: vec![PlaceholderName::Git],
            }),
            ..parked(2)
        });
        let placeholder = folder.path().join(".git");
        fs::create_dir(&placeholder).unwrap();
        bench.made(parked(3));
        let asked = std::cell::RefCell::new(Vec::new());
        let end = |name: &ContainerName| {
            asked.borrow_mut().push(name.clone());
            Ok(())
        };
        sessions(&bench.store, 3, end);
        assert!(!staged.exists() && !placeholder.exists());
        // Nothing is asked of what ended in order, and nothing is lost.
        assert_eq!(asked.borrow().len(), 2);
        for byte in 1..=3 {
            let state = bench.state(byte);
            assert!(
                matches!(&state, State::Parked { end } if end.at == Moment(5)),
                "{state:?}"
            );
        }
        sessions(&bench.store, 3, end);
        assert_eq!(asked.borrow().len(), 2);
    }

    #[test]
    fn a_directory_without_a_record_is_removed_when_it_is_old_and_set_aside_where_somebody_worked_in_it() {
        let bench = bench();
        let (empty, worked_in) = (bench.made(record(1)), bench.made(record(2)));
        fs::create_dir(worked_in.join("workspace")).unwrap();
        let paths = [&empty, &worked_in];
        paths
            .iter()
            .for_each(|path| fs::remove_file(path.join("record.json")).unwrap());
        sessions(&bench.store, 3, no_container);
        assert!(empty.exists() && worked_in.exists());
        let old = FileTimes::new().set_modified(SystemTime::now() - 2 * RECORDLESS_AGE);
        paths
            .iter()
            .for_each(|path| File::open(path).unwrap().set_times(old).unwrap());
        sessions(&bench.store, 3, no_container);
        assert!(!empty.exists() && !worked_in.exists());
        let aside = bench.dir.path().join("damaged").join(worked_in.file_name().unwrap());
        assert!(aside.join("workspace").exists());
    }

    #[test]
    fn what_is_left_of_a_removal_goes_once_it_is_old() {
        let bench = bench();
        let root = bench.made(record(1));
        let gone = root.with_extension("gone");
        fs::rename(&root, &gone).unwrap();
        sessions(&bench.store, 3, no_container);
        assert!(gone.exists());
        let old = FileTimes::new().set_modified(SystemTime::now() - 2 * RECORDLESS_AGE);
        File::open(&gone).unwrap().set_times(old).unwrap();
        sessions(&bench.store, 3, no_container);
        assert!(!gone.exists());
    }

    #[test]
    fn one_that_cant_be_read_is_left_alone_and_keeps_nobody_from_the_others() {
        let bench = bench();
        let unreadable = bench.made(record(1));
        fs::remove_file(unreadable.join("record.json")).unwrap();
        fs::create_dir(unreadable.join("record.json")).unwrap();
        bench.made(record(2));
        sessions(&bench.store, 3, no_container);
        assert!(unreadable.join("record.json").is_dir());
        assert!(matches!(bench.state(2), State::Parked { .. }));
    }

    #[test]
    fn a_damaged_session_is_set_aside_and_a_newer_one_stays() {
        let bench = bench();
        let (damaged, newer) = (bench.made(record(1)), bench.made(record(2)));
        fs::write(damaged.join("record.json"), "{").unwrap();
        fs::write(newer.join("record.json"), r#"{"version": 99}"#).unwrap();
        sessions(&bench.store, 3, no_container);
        assert!(!damaged.exists() && newer.exists());
        assert!(
            bench
                .dir
                .path()
                .join("damaged")
                .join(damaged.file_name().unwrap())
                .exists()
        );
    }
}
