//! One session that this process has: its directory and its record, which change together.

use crate::durable::replace;
use crate::session::blocking::blocking;
use crate::session::directory::SessionDirectory;
use crate::session::parking;
use crate::session::store::StoreError;
use crate::session::store::hold::{Hold, HoldError};
use crate::session::store::record::{self, Record, State};
use crate::supervise::owner::Owner;
use crate::workspace::bind::placeholder::{self, Placeholders};
use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

pub const RECORD_FILE: &str = "record.json";
/// What a record is written as before it takes the place of the one before.
const NEW_RECORD_FILE: &str = "record.json.new";

#[derive(Debug)]
pub struct StoredSession {
    pub directory: SessionDirectory,
    record: Record,
    /// In the user's folder, while a container has it.
    placeholders: Option<Placeholders>,
    /// Last, so that it is let go of last.
    _hold: Hold,
}

impl StoredSession {
    /// Makes the directory. It is there with its lock taken and its record written, or not at all but for what
    /// [`crate::session::sweep`] takes away.
    pub(super) fn create(root: &Path, record: Record, me: &Owner) -> io::Result<Self> {
        DirBuilder::new().mode(0o700).create(root)?;
        let hold = Hold::take(root, me).map_err(|error| match error {
            HoldError::Io(error) => error,
            other => io::Error::other(other),
        })?;
        write(root, &record)?;
        Ok(Self::held(root, record, hold))
    }

    pub(super) fn held(root: &Path, record: Record, hold: Hold) -> Self {
        Self {
            directory: SessionDirectory::at(root),
            record,
            placeholders: None,
            _hold: hold,
        }
    }

    pub fn record(&self) -> &Record {
        &self.record
    }

    /// Changes the record, on the disk first. Blocks until the disk has it.
    pub fn update(&mut self, change: impl FnOnce(&mut Record)) -> io::Result<()> {
        let mut changed = self.record.clone();
        change(&mut changed);
        changed.changed = super::now();
        self.replace(changed)
    }

    fn replace(&mut self, record: Record) -> io::Result<()> {
        write(self.directory.root(), &record)?;
        self.record = record;
        Ok(())
    }

    /// Removes what a container needs while it runs and nobody after it: here, and where a dead server had it.
    pub fn container_ended(&mut self) -> Result<(), StoreError> {
        self.take_away()?;
        if self.record.placeholders.is_some() {
            self.update(|record| record.placeholders = None)
                .map_err(|source| self.unwritten(source))?;
        }
        Ok(())
    }

    fn take_away(&mut self) -> Result<(), StoreError> {
        self.directory.container_ended()?;
        match (self.placeholders.take(), &self.record.placeholders) {
            (Some(ours), _) => ours.remove()?,
            (None, Some(left)) => placeholder::remove_left(left)?,
            (None, None) => {}
        }
        Ok(())
    }

    fn unwritten(&self, source: io::Error) -> StoreError {
        StoreError::Files {
            what: "can't write the record in",
            path: self.directory.root().to_owned(),
            source,
        }
    }

    /// Puts a record right that says that the session lives, though nobody had it. Nothing happened in it by that: for how long it
    /// is kept counts from when something did.
    pub fn settle(&mut self, restarts: u32) -> Result<(), StoreError> {
        if !matches!(self.record.state, State::Live { .. }) {
            return Ok(());
        }
        let mut settled = self.record.clone();
        parking::settle(&mut settled, restarts, super::now());
        self.replace(settled).map_err(|source| self.unwritten(source))
    }

    /// Removes the session with all that it has, in the user's folder as well. Called when no container has it.
    pub fn remove(mut self) -> Result<(), StoreError> {
        if let Err(error) = self.forget() {
            tracing::debug!(%error, "a session is removed that its record does not say so of");
        }
        // First, because the record of what lies elsewhere goes with the rest. Nothing is written: the disk may be full.
        self.take_away()?;
        Ok(self.directory.remove()?)
    }

    /// Writes down that it is no session any more: if this process ends half-way, nobody goes on with what is left, and the sweep
    /// takes it. A full disk may refuse that, and must not keep anybody from making room.
    fn forget(&mut self) -> io::Result<()> {
        self.update(|record| {
            record.thread = None;
            record.state = State::Live { turn: None };
        })
    }

    /// [`Self::remove`]; a failure is logged, and the next start's sweep tries again.
    pub fn remove_or_warn(self) {
        let root = self.directory.root().to_owned();
        if let Err(error) = self.remove() {
            tracing::warn!(path = %root.display(), %error, "could not remove a session's directory");
        }
    }

    /// Writes down how its container ended and lets go of the session; it is there for whoever comes next. Failures are logged:
    /// a session that could not be written is one whose server died, and the next look at it finds that.
    pub fn let_go_or_warn(mut self, change: impl FnOnce(&mut Record)) {
        let root = self.directory.root().to_owned();
        if let Err(error) = self.container_ended() {
            tracing::warn!(path = %root.display(), %error, "could not remove what a container needed");
        }
        if let Err(error) = self.update(change) {
            tracing::warn!(path = %root.display(), %error, "could not write a session's record");
        }
    }
}

fn write(root: &Path, record: &Record) -> io::Result<()> {
    replace::for_good(
        &root.join(RECORD_FILE),
        &root.join(NEW_RECORD_FILE),
        &record::to_json(record)?,
    )
}

/// A session that this process has, shared by its actor, its container and whoever looks. It is held until it is finished.
#[derive(Debug, Clone)]
pub struct Kept {
    root: Arc<Path>,
    stored: Arc<Mutex<Option<StoredSession>>>,
}

impl Kept {
    pub fn new(stored: StoredSession) -> Self {
        Self {
            root: stored.directory.root().into(),
            stored: Arc::new(Mutex::new(Some(stored))),
        }
    }

    /// The session's directory.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The record as it was last written; `None` once the session is finished.
    pub fn record(&self) -> Option<Record> {
        self.lock().as_ref().map(|stored| stored.record.clone())
    }

    /// Changes the record, on the disk first. Dropping the future drops no change that has begun.
    pub async fn update(&self, change: impl FnOnce(&mut Record) + Send + 'static) -> Result<(), StoreError> {
        let this = self.clone();
        let written = blocking(move || match this.lock().as_mut() {
            Some(stored) => stored.update(change),
            None => Err(io::Error::other("the session is finished")),
        });
        written.await.map_err(|source| StoreError::Files {
            what: "can't write the record in",
            path: self.root.to_path_buf(),
            source,
        })
    }

    /// What lies in the user's folder for the container stays ours until the container is gone.
    pub fn lay(&self, placeholders: Placeholders) {
        if let Some(stored) = self.lock().as_mut() {
            stored.placeholders = Some(placeholders);
        }
    }

    /// Takes the session out of everybody's hands, to be let go of or removed by the caller.
    pub fn take(&self) -> Option<StoredSession> {
        self.lock().take()
    }

    fn lock(&self) -> MutexGuard<'_, Option<StoredSession>> {
        // A record in memory changes after the one on the disk, in one step.
        self.stored.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
