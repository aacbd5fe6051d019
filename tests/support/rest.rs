//! What an end may leave, and what it may not: sessions rest, with what was done in them, and nothing else is there.

use super::world::World;
use codex_mcp::session::store::hold::Holder;
use codex_mcp::session::store::record::{EndCause, Record, State};
use codex_mcp::session::store::{Found, Store};
use codex_mcp::supervise::owner::Owner;
use std::fs;
use std::path::{Path, PathBuf};

impl World {
    /// The sessions that there are, oldest first, as the program itself reads them.
    pub fn sessions(&self) -> Vec<Found> {
        let me = Owner::of_this_process().unwrap();
        Store::new(&self.path("state"), me).listed().unwrap()
    }

    /// The records of the sessions that there are; each can be read.
    #[track_caller]
    pub fn records(&self) -> Vec<Record> {
        let found = self.sessions().into_iter();
        found
            .map(|found| {
                found
                    .record
                    .unwrap_or_else(|flaw| panic!("{}: {flaw}", found.path.display()))
            })
            .collect()
    }

    /// Nobody has any session, nothing of a container is left in their directories, and each has a thread and came to its end
    /// by this cause. Returns how many there are.
    #[track_caller]
    pub fn rests(&self, by: EndCause) -> usize {
        nothing_but_sessions(self);
        let records = self.records();
        for record in &records {
            let end = record.end();
            assert!(matches!(record.state, State::Parked { .. }), "{record:#?}");
            assert_eq!(end.map(|end| end.cause), Some(by), "{record:#?}");
        }
        records.len()
    }
}

/// What holds whenever no server has a session of this world.
#[track_caller]
pub fn nothing_but_sessions(world: &World) {
    for found in world.sessions() {
        assert_eq!(
            found.holder,
            Holder::Nobody,
            "{}: its lock is held",
            found.path.display()
        );
        let record = found
            .record
            .unwrap_or_else(|flaw| panic!("{}: {flaw}", found.path.display()));
        assert!(record.thread.is_some(), "a half-made session stays: {record:#?}");
        assert_eq!(record.placeholders, None, "{record:#?}");
        assert!(record.workspace.is_some(), "{record:#?}");
        let staged = staged_of(&found.path);
        assert!(!staged.as_ref().is_some_and(|path| path.exists()), "{staged:?} is left");
    }
    assert_eq!(
        mounts_below(&world.path("state/sessions")),
        [""; 0],
        "something is mounted"
    );
}

/// Where a session's secrets were staged, if ever any were.
fn staged_of(session_dir: &Path) -> Option<PathBuf> {
    let path = fs::read_to_string(session_dir.join("secrets-staged-at")).ok()?;
    Some(path.into())
}

/// Mount points of this machine below a directory.
pub fn mounts_below(directory: &Path) -> Vec<String> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let points = mounts.lines().filter_map(|line| line.split(' ').nth(4));
    points
        .filter(|point| Path::new(point).starts_with(directory))
        .map(str::to_owned)
        .collect()
}
