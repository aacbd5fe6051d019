//! The thread of a session: taken up where Codex has kept it, and begun where not.
//!
//! A thread goes by the id that clients know, which is the first one that its Codex named. That is chosen inside a container: a hostile
//! one must not take another's place, be that live or not.

use crate::codex::client::{Client, StartedThread};
use crate::plan::identity::SessionId;
use crate::session::blocking::blocking;
use crate::session::error::SessionError;
use crate::session::registry::StartSession;
use crate::session::store::record::RecordedThread;
use crate::session::store::stored::Kept;
use crate::session::store::{Found, Store};
use crate::wire::untrusted::Untrusted;

/// Said to whoever continues a thread that Codex has nothing of.
const NOT_KEPT: &str =
    "Codex had kept nothing of this thread's earlier turns: it goes on in the same workspace, without them";

/// Whose thread it is.
#[derive(Debug, Clone, Copy)]
pub struct ThreadOf<'a> {
    pub kept: &'a Kept,
    pub store: &'a Store,
    pub session: &'a SessionId,
}

impl ThreadOf<'_> {
    pub async fn begin(self, client: &Client, cwd: &str, start: &StartSession) -> Result<StartedThread, SessionError> {
        let model = start.model.as_ref().map(|model| &model.value);
        let Some(recorded) = self.kept.record().and_then(|record| record.thread) else {
            let thread = client.start_thread(cwd, &start.thread, model).await?;
            self.claim(&thread).await?;
            return Ok(thread);
        };
        let resuming = client.resume_thread(&recorded.in_codex, cwd, &start.thread, model);
        if let Some(thread) = resuming.await? {
            return Ok(thread);
        }
        let mut thread = client.start_thread(cwd, &start.thread, model).await?;
        thread.warnings.push(Untrusted::new(NOT_KEPT));
        let recorded = RecordedThread {
            id: recorded.id,
            in_codex: thread.thread.clone(),
        };
        self.kept.update(move |record| record.thread = Some(recorded)).await?;
        Ok(thread)
    }

    /// Records the thread of a session that had none, where it is nobody else's: what is on record is known to others.
    async fn claim(self, thread: &StartedThread) -> Result<(), SessionError> {
        let (store, me, id) = (self.store.clone(), self.session.clone(), thread.thread.clone());
        let alone = blocking(move || {
            let alone = store.exclusively()?;
            let is_taken = |found: &Found| found.session != me && found.is_thread(&id);
            match store.listed()?.iter().any(is_taken) {
                true => Err(SessionError::ThreadTaken(id)),
                false => Ok(alone),
            }
        })
        .await?;
        let recorded = RecordedThread {
            id: thread.thread.clone(),
            in_codex: thread.thread.clone(),
        };
        let claimed = self.kept.update(move |record| record.thread = Some(recorded)).await;
        // Nobody else looks before it is there.
        drop(alone);
        Ok(claimed?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codex::event::ThreadId;
    use crate::session::store::fixtures::record;
    use crate::supervise::owner::Owner;

    fn started(id: &str) -> StartedThread {
        StartedThread {
            thread: ThreadId::parse(id).unwrap(),
            model: Untrusted::new("m"),
            warnings: Vec::new(),
        }
    }

    /// Without a thread yet.
    fn new_session(store: &Store, byte: u8) -> Kept {
        let mut record = record(byte);
        record.thread = None;
        Kept::new(store.create(record).unwrap())
    }

    #[tokio::test]
    async fn a_thread_that_another_session_has_never_comes_on_record() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::new(dir.path(), Owner::of_this_process().unwrap());
        // Nobody has it now, and its thread is its own all the same.
        drop(store.create(record(1)).unwrap());
        let (kept, session) = (new_session(&store, 2), record(2).session);
        let of = ThreadOf {
            kept: &kept,
            store: &store,
            session: &session,
        };
        let refused = of.claim(&started("thread-1")).await.unwrap_err();
        assert!(matches!(refused, SessionError::ThreadTaken(_)), "{refused}");
        assert_eq!(kept.record().unwrap().thread, None);
        of.claim(&started("thread-2")).await.unwrap();
        assert_eq!(store.of_thread(&started("thread-2").thread).unwrap(), Some(session));
    }

    #[tokio::test]
    async fn of_two_that_name_the_same_thread_at_once_one_has_it() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::new(dir.path(), Owner::of_this_process().unwrap());
        let sessions: Vec<_> = (1..=6)
            .map(|byte| (new_session(&store, byte), record(byte).session))
            .collect();
        let claims = sessions.iter().map(|(kept, session)| async {
            let of = ThreadOf {
                kept,
                store: &store,
                session,
            };
            of.claim(&started("same")).await.is_ok()
        });
        let claimed = futures_util::future::join_all(claims).await;
        assert_eq!(claimed.iter().filter(|claimed| **claimed).count(), 1);
    }
}
