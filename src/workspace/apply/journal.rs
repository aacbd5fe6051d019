//! The record of an apply under way: what makes it whole or not at all, whatever ends this process or this machine.
//!
//! | file in `state_dir/apply` | what it is |
//! |---|---|
//! | `FOLDER.lock` | held by the one process that works on this folder; FOLDER is a hash of its path |
//! | `FOLDER.journal` | there while an apply is under way |
//! | `FOLDER.work` | content on its way; removed by whoever next holds the lock |
//!
//! A journal is written twice: first as [`Phase::Staging`], which names the files that are about to be made beside their
//! places, and then as [`Phase::Committed`], which is the point from which on recovery goes forward and no longer back.
//! Each time it is put in place whole: written beside, synchronised, renamed, its directory synchronised.
//!
//! This module must never touch the user's folder. It blocks: not for runtime threads.

#![expect(clippy::disallowed_methods, reason = "reads and writes the journals of applies")]

use crate::durable::lock::{self, Lock};
use crate::durable::regular;
use crate::durable::replace;
use crate::workspace::apply::decide::Step;
use crate::workspace::apply::host::FolderIdentity;
use crate::workspace::apply::path::RelativePath;
use crate::workspace::git::{ObjectFormat, ObjectId};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::ffi::{OsStr, OsString};
use std::fs::{self, DirBuilder};
use std::io::{self, ErrorKind, Read};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Another version's journal is left alone.
pub const VERSION: u32 = 2;
/// The largest journal that is read, in bytes: some 100,000 files with long names.
const MAX_JOURNAL: u64 = 256 << 20;
/// What every name that we make in the user's folder begins with.
pub const OURS: &str = ".codex-mcp-";

#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    #[error(
        "another apply to {} has been under way for more than {} s; see which process holds it with: fuser -v {}",
        folder.display(), waited.as_secs(), lock.display()
    )]
    Busy {
        folder: PathBuf,
        lock: PathBuf,
        waited: Duration,
    },
    #[error("{} was written by another version of codex-mcp ({version}); let that version finish it", path.display())]
    Version { path: PathBuf, version: u32 },
    #[error("{} is damaged ({why}); look at the files that it names, and move it away", path.display())]
    Damaged { path: PathBuf, why: String },
    #[error("can't {what} {}: {source}", path.display())]
    Io {
        what: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Nothing in the folder was changed yet; there may be files with our names in it.
    Staging,
    /// All new content lies beside its place; what is not done yet will be.
    Committed,
}

/// A file of ours, in a directory of the folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Staged {
    /// `None` is the folder itself.
    pub directory: Option<RelativePath>,
    /// Begins with [`OURS`].
    pub name: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Task {
    pub step: Step,
    /// Where the step's new content or directory is prepared.
    pub staged: Option<Staged>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Journal {
    version: u32,
    /// Base64 of the folder's canonical path.
    folder: String,
    /// Another folder may have the path by the time that it is read.
    pub identity: FolderIdentity,
    pub format: ObjectFormat,
    pub what: Patch,
    pub phase: Phase,
    pub tasks: Vec<Task>,
}

/// Which changes are applied, for the audit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Patch {
    /// The commit that they are changes to.
    pub base: ObjectId,
    /// Hexadecimal.
    pub patch_sha256: String,
}

impl Journal {
    pub fn new(
        (folder, identity): (&Path, FolderIdentity),
        format: ObjectFormat,
        what: Patch,
        tasks: Vec<Task>,
    ) -> Self {
        Self {
            version: VERSION,
            folder: BASE64_STANDARD.encode(folder.as_os_str().as_bytes()),
            identity,
            format,
            what,
            phase: Phase::Staging,
            tasks,
        }
    }

    /// Nothing that a journal names may lie outside of what we make.
    fn check(&self) -> Result<PathBuf, String> {
        let folder = BASE64_STANDARD
            .decode(&self.folder)
            .map_err(|error| error.to_string())?;
        let folder = PathBuf::from(OsString::from_vec(folder));
        if !folder.is_absolute() {
            return Err("its folder is not absolute".to_owned());
        }
        let is_ours = |staged: &Staged| staged.name.starts_with(OURS) && !staged.name.contains(['/', '\0']);
        if !self.tasks.iter().filter_map(|task| task.staged.as_ref()).all(is_ours) {
            return Err("it names a file that is not codex-mcp's".to_owned());
        }
        Ok(folder)
    }
}

/// What there is about one folder in the state directory.
#[derive(Debug, Clone)]
pub struct Slot {
    directory: PathBuf,
    name: String,
}

fn slot_name(folder: &Path) -> String {
    let hash = Sha256::digest(folder.as_os_str().as_bytes());
    hash.iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}

/// The right to work on a folder, until it is dropped.
#[derive(Debug)]
pub struct Held {
    pub slot: Slot,
    _lock: Lock,
}

impl Slot {
    pub fn of(state_dir: &Path, folder: &Path) -> Self {
        Self {
            directory: state_dir.join("apply"),
            name: slot_name(folder),
        }
    }

    /// Every folder that has a journal, or content that was on its way.
    pub fn unfinished(state_dir: &Path) -> Result<Vec<Self>, JournalError> {
        let directory = state_dir.join("apply");
        let listed = match fs::read_dir(&directory) {
            Ok(listed) => listed,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(io_error("list", &directory)(error)),
        };
        let mut slots = Vec::new();
        for entry in listed {
            let name = entry.map_err(io_error("list", &directory))?.file_name();
            let unfinished = |name: &str| {
                [".journal", ".work"]
                    .iter()
                    .find_map(|kind| name.strip_suffix(kind))
                    .map(str::to_owned)
            };
            if let Some(name) = name.to_str().and_then(unfinished) {
                slots.push(Self {
                    directory: directory.clone(),
                    name,
                });
            }
        }
        slots.sort_by(|one, other| one.name.cmp(&other.name));
        slots.dedup_by(|one, other| one.name == other.name);
        Ok(slots)
    }

    fn path(&self, kind: &str) -> PathBuf {
        self.directory.join(format!("{}.{kind}", self.name))
    }

    pub fn journal(&self) -> PathBuf {
        self.path("journal")
    }

    /// The right to work on the folder, over all processes of this state directory; `None` while another has it.
    pub fn try_hold(self) -> Result<Option<Held>, JournalError> {
        self.hold_within(Duration::ZERO)
    }

    pub fn hold(self, folder: &Path, limit: Duration) -> Result<Held, JournalError> {
        let lock = self.path("lock");
        self.hold_within(limit)?.ok_or_else(|| JournalError::Busy {
            folder: folder.to_owned(),
            lock,
            waited: limit,
        })
    }

    fn hold_within(self, limit: Duration) -> Result<Option<Held>, JournalError> {
        let path = self.path("lock");
        let made = DirBuilder::new().mode(0o700).recursive(true).create(&self.directory);
        made.map_err(io_error("make", &self.directory))?;
        let lock = lock::exclusive(&path, limit).map_err(io_error("lock", &path))?;
        Ok(lock.map(|lock| Held {
            slot: self,
            _lock: lock,
        }))
    }
}

impl Held {
    /// The journal that is there, and the folder that it is about.
    pub fn read(&self) -> Result<Option<(PathBuf, Journal)>, JournalError> {
        let path = self.slot.journal();
        let damaged = |why: String| JournalError::Damaged {
            path: path.clone(),
            why,
        };
        let file = match regular::read(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(io_error("read", &path)(error)),
        };
        let mut text = Vec::new();
        let read = file.take(MAX_JOURNAL + 1).read_to_end(&mut text);
        if read.map_err(io_error("read", &path))? as u64 > MAX_JOURNAL {
            return Err(damaged(format!("it is larger than {MAX_JOURNAL} bytes")));
        }
        #[derive(Deserialize)]
        struct Versioned {
            version: u32,
        }
        let Versioned { version } = serde_json::from_slice(&text).map_err(|error| damaged(error.to_string()))?;
        if version != VERSION {
            return Err(JournalError::Version { path, version });
        }
        let journal: Journal = serde_json::from_slice(&text).map_err(|error| damaged(error.to_string()))?;
        let folder = journal.check().map_err(damaged)?;
        if slot_name(&folder) != self.slot.name {
            return Err(damaged("it is about another folder than its name says".to_owned()));
        }
        Ok(Some((folder, journal)))
    }

    /// Puts the journal in place. When this returns it outlives the machine's end.
    pub fn write(&self, journal: &Journal) -> Result<(), JournalError> {
        let path = self.slot.journal();
        let beside = self.slot.path("new");
        let text = serde_json::to_vec(journal).map_err(io::Error::from).and_then(|text| {
            // What recovery would not read must never be begun. The word for the second phase is a few bytes longer.
            let fits = text.len() as u64 + 64 <= MAX_JOURNAL;
            fits.then_some(text)
                .ok_or_else(|| io::Error::new(ErrorKind::FileTooLarge, "too many files with long names for one apply"))
        });
        let written = text.and_then(|text| replace::for_good(&path, &beside, &text));
        written.map_err(io_error("write", &path))
    }

    pub fn remove(&self) -> Result<(), JournalError> {
        let path = self.slot.journal();
        let removed = fs::remove_file(&path).and_then(|()| replace::synchronise(&self.slot.directory));
        removed.map_err(io_error("remove", &path))
    }

    /// An empty directory for content on its way, on the state directory's file system.
    pub fn work(&self) -> Result<PathBuf, JournalError> {
        let path = self.slot.path("work");
        self.clear_work()?;
        let made = DirBuilder::new().mode(0o700).create(&path);
        made.map_err(io_error("make", &path))?;
        Ok(path)
    }

    pub fn clear_work(&self) -> Result<(), JournalError> {
        let path = self.slot.path("work");
        match fs::remove_dir_all(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(io_error("remove", &path)(error)),
            _ => Ok(()),
        }
    }
}

impl AsRef<OsStr> for Staged {
    fn as_ref(&self) -> &OsStr {
        OsStr::new(&self.name)
    }
}

fn io_error(what: &'static str, path: &Path) -> impl Fn(io::Error) -> JournalError {
    let path = path.to_owned();
    move |source| JournalError::Io {
        what,
        path: path.clone(),
        source,
    }
}
