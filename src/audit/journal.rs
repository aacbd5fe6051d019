//! The one writer of a chain.
//!
//! Each record is one write(2) to a file that only appends. After the first write that fails, nothing more is written, ever:
//! a chain with a hole that looks whole would be worse than one that ends. Whoever is about to do what has to be on record
//! must not do it then.
#![expect(clippy::disallowed_methods, reason = "writes the audit, each record with the time")]

use crate::audit::chain::{Anchor, Chain, ChainId, MAX_LINE};
use crate::audit::files::{self, Life};
use crate::audit::record::{Entry, What};
use crate::config::moment::{rfc3339, rfc3339_millis};
use crate::redact::Redactor;
use std::fmt;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::sync::watch;

/// How much is written and kept, in bytes.
#[derive(Debug, Clone, Copy)]
pub struct Sizes {
    /// At which a chain goes on in a new file.
    pub file: u64,
    /// Of files that nobody writes any more.
    pub keep: u64,
}

/// Why the audit can't be written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the audit can't be written: {doing} {}: {reason}. Nothing is done that can't be recorded: {remedy}, then start \
     codex-mcp anew",
    path.display()
)]
pub struct Failure {
    doing: &'static str,
    path: PathBuf,
    reason: String,
    remedy: &'static str,
}

impl Failure {
    fn new(doing: &'static str, path: &Path, error: &io::Error) -> Self {
        let remedy = match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                "make room on that file system (`audit.keep` says how much of it old records may take)"
            }
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                "let this user write there, or name another `state_dir`"
            }
            _ => "look at that file system, or name another `state_dir`",
        };
        Self {
            doing,
            path: path.to_owned(),
            reason: error.to_string(),
            remedy,
        }
    }
}

/// Why a record was not written. What it is about must not happen.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotRecorded {
    #[error(transparent)]
    Failed(#[from] Failure),
    #[error("this server has ended its audit and does nothing more")]
    Ended,
    /// Only what no caller of ours writes is so long.
    #[error("a record of the audit would be longer than {MAX_LINE} bytes, so what it is about is not done")]
    TooLong,
}

/// Writes one chain. Clones write the same one.
#[derive(Clone)]
pub struct Journal(Arc<Inner>);

struct Inner {
    chain: ChainId,
    directory: PathBuf,
    sizes: Sizes,
    redactor: Redactor,
    state: Mutex<State>,
    /// Held while the disk is waited for: Linux tells an error of writing back once to whoever asks first, and another who asks at
    /// the same moment would be told that all is well.
    flushing: Mutex<()>,
    failed: watch::Sender<Option<Failure>>,
}

enum State {
    Open(Writer),
    Failed(Failure),
    Ended,
}

struct Writer {
    chain: Chain,
    file: Arc<File>,
    number: u64,
    /// Of the file.
    bytes: u64,
    /// Marks the chain as a live server's.
    _claim: File,
}

impl fmt::Debug for Journal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Journal({})", self.0.chain)
    }
}

impl Journal {
    /// Begins a chain below `state_dir`, and removes of old ones what is too much. Blocks.
    ///
    /// # Errors
    ///
    /// Where its first record can't be written down for good.
    pub fn begin(state_dir: &Path, sizes: Sizes, redactor: Redactor) -> Result<Self, NotRecorded> {
        let audit = files::directory(state_dir);
        let mut random = [0; 6];
        getrandom::fill(&mut random)
            .map_err(|error| Failure::new("can't get random bytes for", &audit, &error.into()))?;
        let chain = ChainId::new(&rfc3339(now().as_secs()), random);
        let directory = audit.join(chain.as_str());
        let failed = |error: io::Error| Failure::new("can't make", &directory, &error);
        private_directory().recursive(true).create(&audit).map_err(failed)?;
        private_directory().create(&directory).map_err(failed)?;
        let claim = files::claim(&directory).map_err(failed)?;
        sync_directory(&audit).map_err(failed)?;
        let file = Arc::new(create(&directory, 1).map_err(failed)?);
        let writer = Writer {
            chain: Chain::EMPTY,
            file,
            number: 1,
            bytes: 0,
            _claim: claim,
        };
        let journal = Self(Arc::new(Inner {
            chain,
            directory,
            sizes,
            redactor,
            state: Mutex::new(State::Open(writer)),
            flushing: Mutex::default(),
            failed: watch::Sender::new(None),
        }));
        journal.record(&Entry::of_server(What::ServerStarted {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            uid: nix::unistd::getuid().as_raw(),
        }))?;
        journal.prune()?;
        journal.flush()?;
        Ok(journal)
    }

    /// Writes one record and says its number. It is the kernel's then: it outlives this process, and not the machine.
    ///
    /// # Errors
    ///
    /// Where it is not written: what it is about must not happen.
    pub fn record(&self, entry: &Entry) -> Result<u64, NotRecorded> {
        let mut state = self.lock();
        let writer = match &mut *state {
            State::Open(writer) => writer,
            State::Failed(failure) => return Err(failure.clone().into()),
            State::Ended => return Err(NotRecorded::Ended),
        };
        match self.0.append(writer, entry) {
            Ok(sequence) => Ok(sequence),
            Err(NotRecorded::Failed(failure)) => Err(self.fail(&mut state, failure)),
            Err(other) => Err(other),
        }
    }

    /// As [`Self::record`], and waits until the disk has it, and all before it. Blocks.
    ///
    /// # Errors
    ///
    /// As there.
    pub fn record_for_good(&self, entry: &Entry) -> Result<u64, NotRecorded> {
        let sequence = self.record(entry)?;
        self.flush()?;
        Ok(sequence)
    }

    /// Whether records can be written: waits until the disk has all that were. Blocks.
    ///
    /// # Errors
    ///
    /// As of [`Self::record`].
    pub fn check(&self) -> Result<(), NotRecorded> {
        self.flush()
    }

    fn flush(&self) -> Result<(), NotRecorded> {
        let _one_at_a_time = self.0.flushing.lock().unwrap_or_else(PoisonError::into_inner);
        let (file, path) = match &*self.lock() {
            State::Open(writer) => (Arc::clone(&writer.file), self.0.path_of(writer.number)),
            State::Failed(failure) => return Err(failure.clone().into()),
            State::Ended => return Err(NotRecorded::Ended),
        };
        // Whoever only writes does not wait for the disk, but where the chain goes on in a new file: the old one is flushed then.
        let written = file.sync_data().and_then(|()| still_there(&file));
        written.map_err(|error| {
            let failure = Failure::new("can't flush", &path, &error);
            self.fail(&mut self.lock(), failure)
        })
    }

    /// Ends the chain in order. Nothing can be recorded any more, from the moment that its last record is written: an end is asked
    /// for twice where a signal follows the end of input.
    pub fn end(&self) {
        let (file, path) = {
            let mut state = self.lock();
            let State::Open(writer) = &mut *state else { return };
            if let Err(error) = self.0.append(writer, &Entry::of_server(What::ServerEnded)) {
                tracing::warn!(%error, "the audit ends without its last record");
                if let NotRecorded::Failed(failure) = error {
                    self.fail(&mut state, failure);
                }
                return;
            }
            self.0.tell_anchor(writer, "the audit of this server has ended");
            let ended = (Arc::clone(&writer.file), self.0.path_of(writer.number));
            *state = State::Ended;
            ended
        };
        if let Err(error) = file.sync_data() {
            tracing::warn!(path = %path.display(), %error, "the end of the audit may not be on the disk");
        }
    }

    /// Waits until the audit has failed, for ever where it never does.
    pub async fn failed(&self) -> Failure {
        let mut failed = self.0.failed.subscribe();
        let failure = failed
            .wait_for(Option::is_some)
            .await
            .ok()
            .and_then(|told| told.clone());
        match failure {
            Some(failure) => failure,
            None => std::future::pending().await,
        }
    }

    fn fail(&self, state: &mut State, failure: Failure) -> NotRecorded {
        if let State::Failed(first) = state {
            return first.clone().into();
        }
        tracing::error!(error = %failure, "every session is ended");
        *state = State::Failed(failure.clone());
        self.0.failed.send_replace(Some(failure.clone()));
        failure.into()
    }

    fn prune(&self) -> Result<(), NotRecorded> {
        let mut state = self.lock();
        let State::Open(writer) = &mut *state else {
            return Ok(());
        };
        match self.0.prune(writer) {
            Err(NotRecorded::Failed(failure)) => Err(self.fail(&mut state, failure)),
            other => other,
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Whoever panicked while writing left a chain of unknown end, which the next record's `prev` would show.
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn path_of(&self, number: u64) -> PathBuf {
        self.directory.join(files::name(number))
    }

    fn append(&self, writer: &mut Writer, entry: &Entry) -> Result<u64, NotRecorded> {
        let (line, chain) = self.line(writer.chain, entry)?;
        if writer.bytes > 0 && writer.bytes.saturating_add(line.len() as u64) > self.sizes.file {
            self.go_on_in_a_new_file(writer)?;
            return self.write(writer, entry);
        }
        self.put(writer, &line, chain)
    }

    fn line(&self, chain: Chain, entry: &Entry) -> Result<(Vec<u8>, Chain), NotRecorded> {
        let unwritable =
            |error: serde_json::Error| Failure::new("can't spell a record for", &self.directory, &error.into());
        let mut value = entry.bounded().map_err(unwritable)?;
        self.redactor.json(&mut value);
        let (line, chain) = chain.link(&rfc3339_millis(now()), &value).map_err(unwritable)?;
        match line.len() > MAX_LINE {
            true => Err(NotRecorded::TooLong),
            false => Ok((line, chain)),
        }
    }

    fn write(&self, writer: &mut Writer, entry: &Entry) -> Result<u64, NotRecorded> {
        let (line, chain) = self.line(writer.chain, entry)?;
        self.put(writer, &line, chain)
    }

    fn put(&self, writer: &mut Writer, line: &[u8], chain: Chain) -> Result<u64, NotRecorded> {
        let failed = |error| Failure::new("can't write to", &self.path_of(writer.number), &error);
        let written = loop {
            match (&*writer.file).write(line) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                written => break written.map_err(failed)?,
            }
        };
        if written < line.len() {
            // The disk took a part: a further write would say why, and mix with nobody's.
            let rest = line.get(written..).unwrap_or_default();
            (&*writer.file).write_all(rest).map_err(failed)?;
        }
        writer.chain = chain;
        writer.bytes = writer.bytes.saturating_add(line.len() as u64);
        Ok(chain.tip().sequence)
    }

    fn go_on_in_a_new_file(&self, writer: &mut Writer) -> Result<(), NotRecorded> {
        let number = writer.number.saturating_add(1);
        let failed = |error| Failure::new("can't go on in", &self.path_of(number), &error);
        writer.file.sync_data().map_err(failed)?;
        self.tell_anchor(writer, "the audit goes on in a new file");
        writer.file = Arc::new(create(&self.directory, number).map_err(failed)?);
        writer.number = number;
        writer.bytes = 0;
        self.write(writer, &Entry::of_server(What::Continued { file: number }))?;
        self.prune(writer)
    }

    /// Each removal is on record before it happens. What can't be removed is nobody's danger: it is logged.
    fn prune(&self, writer: &mut Writer) -> Result<(), NotRecorded> {
        let audit = self.directory.parent().unwrap_or(&self.directory);
        let chains = match files::list(audit) {
            Ok(chains) => chains,
            Err(error) => {
                tracing::warn!(path = %audit.display(), %error, "could not look for old records of the audit");
                return Ok(());
            }
        };
        for doomed in files::to_prune(&chains, self.sizes.keep) {
            let Some(chain) = chains.get(doomed.chain) else {
                continue;
            };
            let entry = Entry::of_server(What::Pruned {
                chain: chain.chain.to_string(),
                file: doomed.number,
                bytes: doomed.bytes,
            });
            self.write(writer, &entry)?;
            let path = chain.path_of(doomed.number);
            if let Err(error) = std::fs::remove_file(&path) {
                tracing::warn!(path = %path.display(), %error, "could not remove old records of the audit");
                continue;
            }
            let was_last = chain.files.last().is_some_and(|last| last.number == doomed.number);
            if was_last && chain.life == Life::Over {
                // Not empty where something else lies there, which is not ours to remove.
                let _ = std::fs::remove_dir(&chain.path);
            }
        }
        Ok(())
    }

    fn tell_anchor(&self, writer: &Writer, what: &str) {
        let anchor = Anchor {
            chain: self.chain.clone(),
            tip: writer.chain.tip(),
        };
        tracing::info!(%anchor, "{what}");
    }
}

fn create(directory: &Path, number: u64) -> io::Result<File> {
    let file = OpenOptions::new()
        .append(true)
        .create_new(true)
        .mode(0o600)
        .open(directory.join(files::name(number)))?;
    // Without its name on the disk, what is flushed into it is lost all the same.
    sync_directory(directory)?;
    Ok(file)
}

/// What is written to a file that somebody removed is on no record.
fn still_there(file: &File) -> io::Result<()> {
    match file.metadata()?.nlink() {
        0 => Err(io::Error::other("somebody removed it")),
        _ => Ok(()),
    }
}

fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

fn private_directory() -> DirBuilder {
    let mut builder = DirBuilder::new();
    builder.mode(0o700);
    builder
}

fn now() -> Duration {
    // A clock before 1970 is wrong anyway.
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

#[cfg(test)]
mod tests;
