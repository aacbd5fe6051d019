//! Removes what dead owners left: containers, created ones above all, and directories of sessions that never came to
//! a thread. What belongs to a live process is never touched.
#![expect(
    clippy::disallowed_methods,
    reason = "lists session directories of dead owners, by their age and the clock"
)]

use crate::engine::capabilities::Capabilities;
use crate::engine::client::{Engine, EngineError};
use crate::plan::identity::SessionId;
use crate::session::directory::{THREAD_FILE, owner_of};
use crate::session::removal::remove_tree;
use crate::session::secrets;
use crate::supervise::owner::Owner;
use crate::supervise::reconcile;
use std::path::Path;
use std::time::{Duration, SystemTime};

/// How long a daemon may go on with a client's request after the client is gone; a second look comes after that.
pub const SECOND_LOOK: Duration = Duration::from_secs(3);

const UNOWNED_AGE: Duration = Duration::from_secs(60);
/// A launch takes seconds; a half-made session of this age has no launch any more.
const FOREIGN_AGE: Duration = Duration::from_secs(24 * 60 * 60);

/// Whether one look is not enough: docker's daemon creates a container that its killed client had asked for.
pub fn needs_second_look(engine: &Engine) -> bool {
    Capabilities::of(engine.facts()).outlives_its_client()
}

/// Does what it can: a sweep that fails is logged, and the next one tries again.
pub async fn sweep(engine: &Engine, state_dir: &Path, me: &Owner) {
    match containers(engine, me).await {
        Ok(0) => {}
        Ok(removed) => tracing::info!(removed, "removed containers that dead servers left"),
        Err(error) => tracing::warn!(%error, "could not look for containers that dead servers left"),
    }
    directories(state_dir, me);
}

async fn containers(engine: &Engine, me: &Owner) -> Result<usize, EngineError> {
    let sightings = engine.list_ours().await?;
    let names: Vec<String> = reconcile::to_remove(&sightings, me, SystemTime::now(), Owner::is_alive)
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

/// A directory without a thread holds nothing of value; one with a thread holds a user's work and stays.
fn directories(state_dir: &Path, me: &Owner) {
    let Ok(entries) = std::fs::read_dir(state_dir.join("sessions")) else {
        return;
    };
    for entry in entries.flatten() {
        let path = entry.path();
        let is_session = entry
            .file_name()
            .to_str()
            .is_some_and(|name| SessionId::try_from(name.to_owned()).is_ok());
        let left_over = match owner_of(&path) {
            Some(owner) if owner == *me => false,
            // Another boot, or another machine or PID namespace that shares the directory: its processes can't be seen.
            Some(owner) if owner.boot_id != me.boot_id => is_older(&path, FOREIGN_AGE),
            Some(owner) => !owner.is_alive(),
            // The owner is written right after the directory is made.
            None => is_older(&path, UNOWNED_AGE),
        };
        if !is_session || !left_over {
            continue;
        }
        // Whatever is kept of a session, its secrets are not.
        if let Err(error) = secrets::remove(&path) {
            tracing::warn!(path = %path.display(), %error, "could not remove the secrets of a session");
        } else if path.join(THREAD_FILE).exists() {
            tracing::warn!(path = %path.display(), "a session of a server that was killed keeps its workspace here");
        } else if let Err(error) = remove_tree(&path) {
            tracing::warn!(path = %path.display(), %error, "could not remove a half-made session");
        }
    }
}

fn is_older(path: &Path, limit: Duration) -> bool {
    let modified = std::fs::metadata(path).and_then(|metadata| metadata.modified());
    modified.is_ok_and(|at| at.elapsed().is_ok_and(|age| age > limit))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::directory::SessionDirectory;

    fn owner(start_ticks: u64) -> Owner {
        Owner {
            start_ticks,
            ..Owner::of_this_process().unwrap()
        }
    }

    #[test]
    fn what_a_dead_owner_staged_is_removed_also_where_its_workspace_is_kept() {
        let state = tempfile::tempdir().unwrap();
        let memory = tempfile::tempdir_in("/dev/shm").unwrap();
        let me = Owner::of_this_process().unwrap();
        let staged = |byte, owner: &Owner| {
            let directory = SessionDirectory::create(state.path(), &SessionId::from_random([byte; 10]), owner).unwrap();
            directory.record_thread("t").unwrap();
            let staged = memory.path().join(directory.root().file_name().unwrap());
            std::fs::create_dir(&staged).unwrap();
            std::fs::write(staged.join("token"), "x").unwrap();
            std::fs::write(directory.root().join("secrets-staged-at"), staged.to_str().unwrap()).unwrap();
            (directory, staged)
        };
        let (_, mine) = staged(1, &me);
        let (kept, dead) = staged(2, &owner(1));
        directories(state.path(), &me);
        assert!(mine.join("token").exists());
        assert!(!dead.exists() && kept.root().exists());
    }

    #[test]
    fn only_half_made_sessions_of_dead_owners_are_removed() {
        let state = tempfile::tempdir().unwrap();
        let me = Owner::of_this_process().unwrap();
        // A pid that lives, with a start time that is not its own: a reused pid.
        let dead = owner(1);
        let make = |byte, owner: &Owner| {
            SessionDirectory::create(state.path(), &SessionId::from_random([byte; 10]), owner).unwrap()
        };
        let mine = make(1, &me);
        let half_made = make(2, &dead);
        let with_thread = make(3, &dead);
        with_thread.record_thread("t").unwrap();
        directories(state.path(), &me);
        assert!(mine.root().exists());
        assert!(!half_made.root().exists());
        assert!(with_thread.root().exists());
    }
}
