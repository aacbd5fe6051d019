//! The sessions of a state directory, on disk: one directory each, which outlives container, server and reboot.
//!
//! Several servers share one state directory. Whoever changes a session holds it ([`hold`]); looking takes nothing. A record
//! is replaced whole or not at all. What can't be read is never deleted: a newer version's session is left where it is, a
//! damaged one is set aside.
//!
//! - [`record`]: what is written down, and how it is read back (pure).
//! - [`path_text`]: paths in a record.
//! - [`hold`]: who has a session.
//! - [`stored`]: one session that this process has: its directory, its record.
#![expect(
    clippy::disallowed_methods,
    reason = "lists, reads and sets aside session directories"
)]

pub mod hold;
pub mod path_text;
pub mod record;
pub mod stored;

#[cfg(test)]
pub mod fixtures;

use crate::codex::event::ThreadId;
use crate::config::identity::IdentityName;
use crate::durable::lock::{self, Lock};
use crate::durable::regular;
use crate::plan::identity::SessionId;
use crate::session::directory::{GONE, private_dir_all};
use crate::session::ownership::may_see;
use crate::session::secrets;
use crate::supervise::owner::Owner;
use crate::wire::untrusted::Untrusted;
use crate::workspace::bind::placeholder::PlaceholderError;
use crate::workspace::removal::RemovalError;
use hold::{Hold, HoldError, Holder};
use nix::libc;
use record::{Moment, Record, RecordFlaw};
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use stored::{RECORD_FILE, StoredSession};

/// Below the state directory.
const SESSIONS: &str = "sessions";
/// Below the state directory: sessions whose records can't be read.
const DAMAGED: &str = "damaged";

/// Below the state directory: held while sessions are compared with one another and one of them changes for what was found.
const LOCK: &str = "sessions.lock";
/// Others hold it for as long as it takes to read all records and to write one.
const PATIENCE: Duration = Duration::from_secs(10);

/// The longest that this process' own sweep is waited for.
const OWN_SWEEP: Duration = Duration::from_secs(20);
const BETWEEN_TRIES: Duration = Duration::from_millis(20);

#[derive(Debug, Clone)]
pub struct Store {
    state_dir: PathBuf,
    /// This process, as it says to others who has a session.
    me: Owner,
}

#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("there is no session {0}; `codex-mcp sessions list` shows those that there are")]
    Unknown(String),
    #[error("{wanted} names {count} sessions: write more of it")]
    Ambiguous { wanted: String, count: usize },
    #[error(
        "session {session} is in use by {}: end it there, or ask with `codex-mcp sessions stop {session}`", holding(.by.as_ref())
    )]
    Held { session: SessionId, by: Option<Owner> },
    #[error("session {session}: {flaw}")]
    Newer { session: SessionId, flaw: RecordFlaw },
    #[error("session {session}: {flaw}. It was set aside, whole, as {}", aside.display())]
    Damaged {
        session: SessionId,
        flaw: RecordFlaw,
        aside: PathBuf,
    },
    #[error(
        "another codex-mcp has held the lock {} for more than {} s; `fuser` names it: end it if it hangs",
        path.display(), PATIENCE.as_secs()
    )]
    Locked { path: PathBuf },
    #[error("{what} {}: {source}", path.display())]
    Files {
        what: &'static str,
        path: PathBuf,
        source: io::Error,
    },
    #[error(transparent)]
    Removal(#[from] RemovalError),
    #[error(transparent)]
    Placeholder(#[from] PlaceholderError),
}

/// Who has a session, in an error.
pub fn holding(by: Option<&Owner>) -> String {
    match by {
        Some(owner) => format!("another codex-mcp (process {})", owner.pid),
        None => "another codex-mcp".to_owned(),
    }
}

/// A session as a look finds it.
#[derive(Debug)]
pub struct Found {
    pub session: SessionId,
    pub path: PathBuf,
    pub record: Result<Record, RecordFlaw>,
    pub holder: Holder,
}

impl Found {
    pub fn is_thread(&self, thread: &ThreadId) -> bool {
        thread_of(self) == Some(thread)
    }
}

impl Store {
    pub fn new(state_dir: &Path, me: Owner) -> Self {
        Self {
            state_dir: state_dir.to_owned(),
            me,
        }
    }

    /// This process.
    pub fn me(&self) -> &Owner {
        &self.me
    }

    pub fn sessions_dir(&self) -> PathBuf {
        self.state_dir.join(SESSIONS)
    }

    pub fn directory_of(&self, session: &SessionId) -> PathBuf {
        session_dir(&self.state_dir, session)
    }

    /// Makes the directory of a new session and writes its record, before anything else is in it.
    pub fn create(&self, record: Record) -> Result<StoredSession, StoreError> {
        let root = self.directory_of(&record.session);
        let failed = |source| StoreError::Files {
            what: "can't make the session's directory",
            path: root.clone(),
            source,
        };
        private_dir_all(&self.sessions_dir()).map_err(failed)?;
        StoredSession::create(&root, record, &self.me).map_err(failed)
    }

    /// As long as this lives, nobody else changes a session for what it found of the others: see [`LOCK`]. Blocks.
    pub fn exclusively(&self) -> Result<Lock, StoreError> {
        let path = self.state_dir.join(LOCK);
        let locked = private_dir_all(&self.state_dir).and_then(|()| lock::exclusive(&path, PATIENCE));
        match locked {
            Ok(Some(lock)) => Ok(lock),
            Ok(None) => Err(StoreError::Locked { path }),
            Err(source) => Err(StoreError::Files {
                what: "can't lock",
                path,
                source,
            }),
        }
    }

    /// Takes a session that is there. Blocks for as long as its record takes to be read.
    pub fn open(&self, session: &SessionId) -> Result<StoredSession, StoreError> {
        let root = self.directory_of(session);
        let hold = Hold::take(&root, &self.me).map_err(|error| match error {
            HoldError::Held { by } => StoreError::Held {
                session: session.clone(),
                by,
            },
            HoldError::Gone => StoreError::Unknown(session.to_string()),
            HoldError::Io(source) => StoreError::Files {
                what: "can't lock",
                path: root.clone(),
                source,
            },
        })?;
        let text = read_record(&root).map_err(|source| StoreError::Files {
            what: "can't read the record in",
            path: root.clone(),
            source,
        })?;
        match parse(text.as_deref(), session) {
            Ok(record) => Ok(StoredSession::held(&root, record, hold)),
            Err(flaw @ RecordFlaw::Newer { .. }) => Err(StoreError::Newer {
                session: session.clone(),
                flaw,
            }),
            Err(flaw) => Err(StoreError::Damaged {
                session: session.clone(),
                aside: self.set_aside(&root, session, &hold)?,
                flaw,
            }),
        }
    }

    /// [`Self::open`], and where this process has it itself, waits for that to be over: its own sweep has each session for as
    /// long as an engine takes to end what is left of a container.
    pub fn open_soon(&self, session: &SessionId) -> Result<StoredSession, StoreError> {
        let since = Instant::now();
        loop {
            match self.open(session) {
                Err(StoreError::Held { by: Some(by), .. }) if by == self.me && since.elapsed() < OWN_SWEEP => {
                    std::thread::sleep(BETWEEN_TRIES);
                }
                opened => return opened,
            }
        }
    }

    /// Everything that is there, oldest first. What vanishes meanwhile is left out; what can't be read is there all the same, so that
    /// one session is no reason to know of none.
    pub fn list(&self) -> io::Result<Vec<Found>> {
        let entries = match fs::read_dir(self.sessions_dir()) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        let mut found = Vec::new();
        for entry in entries {
            let path = entry?.path();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            let Ok(session) = SessionId::try_from(name.to_owned()) else {
                continue;
            };
            found.extend(look(session, path)?);
        }
        let created = |found: &Found| found.record.as_ref().map_or(Moment(0), |record| record.created);
        found.sort_by(|one, other| (created(one), &one.session).cmp(&(created(other), &other.session)));
        Ok(found)
    }

    /// Directories whose sessions were removed, and whose last files may still be.
    pub fn half_removed(&self) -> io::Result<Vec<PathBuf>> {
        let mut found = Vec::new();
        for entry in fs::read_dir(self.sessions_dir())? {
            let path = entry?.path();
            let stem = path.file_stem().and_then(|name| name.to_str()).unwrap_or_default();
            let is_ours = SessionId::try_from(stem.to_owned()).is_ok();
            if is_ours && path.extension().is_some_and(|extension| extension == GONE) {
                found.push(path);
            }
        }
        Ok(found)
    }

    /// The session that `wanted` names: an id, a thread's id, or a beginning of either that no other has.
    pub fn find(&self, wanted: &str) -> Result<SessionId, StoreError> {
        let listed = self.listed()?;
        pick(wanted, listed.iter().map(|found| (&found.session, thread_of(found))))
    }

    /// The session of a thread, by its whole id.
    pub fn of_thread(&self, thread: &ThreadId) -> Result<Option<SessionId>, StoreError> {
        let of_it = self.listed()?.into_iter().find(|found| found.is_thread(thread));
        Ok(of_it.map(|found| found.session))
    }

    /// As [`Self::of_thread`], where whoever asks may know of it.
    pub fn of_thread_for(
        &self,
        thread: &ThreadId,
        asker: Option<&IdentityName>,
    ) -> Result<Option<SessionId>, StoreError> {
        let is_seen = |found: &Found| match &found.record {
            Ok(record) => may_see(asker, record.owner.as_ref()),
            Err(_) => asker.is_none(),
        };
        let mut listed = self.listed()?.into_iter();
        let of_it = listed.find(|found| found.is_thread(thread) && is_seen(found));
        Ok(of_it.map(|found| found.session))
    }

    /// [`Self::list`], with an error that says where.
    pub fn listed(&self) -> Result<Vec<Found>, StoreError> {
        self.list().map_err(|source| StoreError::Files {
            what: "can't list the sessions below",
            path: self.state_dir.clone(),
            source,
        })
    }

    /// Who has a session now.
    pub fn holder(&self, session: &SessionId) -> Result<Holder, StoreError> {
        let path = self.directory_of(session);
        hold::holder(&path).map_err(|source| StoreError::Files {
            what: "can't look at the lock in",
            path,
            source,
        })
    }

    /// Moves a session whose record can't be read out of the way. Its secrets, if any are staged, are removed first.
    pub fn set_aside(&self, root: &Path, session: &SessionId, _held: &Hold) -> Result<PathBuf, StoreError> {
        secrets::remove(root)?;
        let damaged = self.state_dir.join(DAMAGED);
        let failed = |source| StoreError::Files {
            what: "can't set aside",
            path: root.to_owned(),
            source,
        };
        private_dir_all(&damaged).map_err(failed)?;
        let aside = damaged.join(session.as_str());
        // A session's id is random and used once, so nothing is there.
        fs::rename(root, &aside).map_err(failed)?;
        Ok(aside)
    }
}

/// Where a session's files are, also of one that is only planned.
pub fn session_dir(state_dir: &Path, session: &SessionId) -> PathBuf {
    state_dir.join(SESSIONS).join(session.as_str())
}

fn thread_of(found: &Found) -> Option<&ThreadId> {
    found.record.as_ref().ok()?.thread.as_ref().map(|thread| &thread.id)
}

fn pick<'a>(
    wanted: &str,
    sessions: impl Iterator<Item = (&'a SessionId, Option<&'a ThreadId>)> + Clone,
) -> Result<SessionId, StoreError> {
    let names = |(session, thread): &(&SessionId, Option<&ThreadId>)| {
        [Some(session.as_str()), thread.map(ThreadId::as_str)]
            .into_iter()
            .flatten()
            .any(|name| name == wanted)
    };
    if let Some((session, _)) = sessions.clone().find(names) {
        return Ok(session.clone());
    }
    // Whatever somebody typed or pasted.
    let shown = || Untrusted::new(wanted).one_line(80);
    let begins = |name: &str| !wanted.is_empty() && name.starts_with(wanted);
    let mut beginning = sessions
        .filter(|(session, thread)| begins(session.as_str()) || thread.is_some_and(|thread| begins(thread.as_str())));
    match (beginning.next(), beginning.count()) {
        (Some((session, _)), 0) => Ok(session.clone()),
        (Some(_), more) => Err(StoreError::Ambiguous {
            wanted: shown(),
            count: more + 1,
        }),
        (None, _) => Err(StoreError::Unknown(shown())),
    }
}

/// `None`: it is gone, or no session.
fn look(session: SessionId, path: PathBuf) -> io::Result<Option<Found>> {
    // The holder first: what is held while its record is not there yet is being made.
    let looked = hold::holder(&path).and_then(|holder| Ok((holder, read_record(&path)?)));
    let (holder, record) = match looked {
        Ok((_, None)) if !path.exists() => return Ok(None),
        Ok((holder, text)) => (holder, parse(text.as_deref(), &session)),
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => return Ok(None),
        // What this process has run out of says nothing about the session.
        Err(error) if matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE | libc::ENOMEM)) => {
            return Err(error);
        }
        // Somebody may have it.
        Err(error) => (Holder::Process(None), Err(RecordFlaw::Unreadable(error.to_string()))),
    };
    Ok(Some(Found {
        session,
        path,
        record,
        holder,
    }))
}

/// `None`: there is no record.
fn read_record(root: &Path) -> io::Result<Option<Vec<u8>>> {
    let file = match regular::read(&root.join(RECORD_FILE)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened?,
    };
    let mut text = Vec::new();
    file.take(record::MAX_BYTES).read_to_end(&mut text)?;
    Ok(Some(text))
}

fn parse(text: Option<&[u8]>, session: &SessionId) -> Result<Record, RecordFlaw> {
    match text {
        Some(text) => record::from_json(text, session),
        None => Err(RecordFlaw::Missing),
    }
}

/// What the clock says.
pub fn now() -> Moment {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    Moment(since.unwrap_or_default().as_secs())
}

#[cfg(test)]
mod tests;
