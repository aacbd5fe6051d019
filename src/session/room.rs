//! Room for one more session: how many may have a container at once, over all servers of one state directory.

use crate::config::Sourced;
use crate::plan::identity::SessionId;
use crate::session::error::SessionError;
use crate::session::quota::{self, LiveSession, QuotaError};
use crate::session::store::hold::Holder;
use crate::session::store::record::{RecordFlaw, State};
use crate::session::store::{Found, Store};

/// Runs `begin`, which writes down that `session` is live, where one more may be. Nobody else becomes live between the look and
/// that. Blocks.
pub fn take<T>(
    store: &Store,
    session: &SessionId,
    limit: &Sourced<u32>,
    begin: impl FnOnce() -> Result<T, SessionError>,
) -> Result<T, SessionError> {
    let _alone = store.exclusively()?;
    let found = store.listed()?;
    let others = found.iter().filter(|found| found.session != *session);
    let live: Vec<_> = others.filter_map(live).collect();
    let met = quota::check_sessions(&live, limit).map_err(|spent| QuotaError::Spent(Box::new(spent)));
    quota::counted(met)?;
    begin()
}

/// Somebody has it, and has or had a container for it. A session that is only looked after, or waits for its start, has none; what
/// was written by another version may have one.
fn live(found: &Found) -> Option<LiveSession> {
    let may_have_one = match &found.record {
        Ok(record) => matches!(record.state, State::Live { .. }),
        // Whether anybody has it can't be seen, and it would take its place for ever.
        Err(RecordFlaw::Unreadable(_)) => false,
        Err(_) => true,
    };
    match &found.holder {
        Holder::Process(owner) if may_have_one => Some(LiveSession {
            session: found.session.to_string(),
            server: owner.as_ref().map(|owner| owner.pid),
        }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Origin;
    use crate::session::store::fixtures::record;
    use crate::session::store::record::{End, EndCause, Moment};
    use crate::session::store::stored::StoredSession;
    use crate::supervise::owner::Owner;

    fn store(dir: &tempfile::TempDir) -> Store {
        Store::new(dir.path(), Owner::of_this_process().unwrap())
    }

    fn limit(most: u32) -> Sourced<u32> {
        Sourced::new(most, Origin::Default)
    }

    fn start(store: &Store, byte: u8, most: u32) -> Result<StoredSession, SessionError> {
        take(store, &record(byte).session, &limit(most), || {
            Ok(store.create(record(byte))?)
        })
    }

    fn park(stored: &mut StoredSession) {
        let end = End {
            at: Moment(0),
            cause: EndCause::Idle,
            why: String::new(),
            turn: None,
        };
        stored.update(|record| record.state = State::Parked { end }).unwrap();
    }

    #[test]
    fn a_session_does_not_take_its_own_place() {
        let dir = tempfile::tempdir().unwrap();
        let store = store(&dir);
        let mut resumed = store.create(record(1)).unwrap();
        take(&store, &record(1).session, &limit(1), || Ok(())).unwrap();
        let refused = start(&store, 2, 1).unwrap_err().to_string();
        assert!(
            refused.starts_with("quota.sessions = 1 (from default) is used up: "),
            "{refused}"
        );
        // It is held, and has no container: somebody brings its changes back, or it waits for its turn to be started again.
        park(&mut resumed);
        drop(start(&store, 2, 1).unwrap());
    }

    #[test]
    fn what_nobody_has_takes_no_place() {
        let dir = tempfile::tempdir().unwrap();
        let store = store(&dir);
        // Its server died.
        drop(store.create(record(1)).unwrap());
        start(&store, 2, 1).unwrap();
    }

    #[test]
    fn of_those_that_start_at_once_no_more_become_live_than_may() {
        let dir = tempfile::tempdir().unwrap();
        let started: Vec<_> = std::thread::scope(|scope| {
            let starts = (1..=8).map(|byte| {
                // A server each.
                let store = store(&dir);
                scope.spawn(move || start(&store, byte, 3))
            });
            let starts: Vec<_> = starts.collect();
            starts.into_iter().map(|start| start.join().unwrap()).collect()
        });
        assert_eq!(started.iter().filter(|started| started.is_ok()).count(), 3);
    }
}
