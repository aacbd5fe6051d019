//! The files that count days: one a day below `state_dir/quota/`, shared by every server of that directory.
//!
//! Whoever changes one holds the lock, reads, changes, writes beside it and renames: a reader sees a whole count or the one
//! before, and no two servers lose one another's. It must never delete or overwrite a file that it can't read: what can't be read
//! is set aside, and what a newer version wrote is left alone. All of it blocks: one thread calls it.
#![expect(clippy::disallowed_methods, reason = "reads and writes the files that count days")]

use crate::durable::lock::{self, Lock};
use crate::durable::regular;
use crate::durable::replace;
use crate::session::quota::count::DayCounts;
use crate::session::quota::day::Day;
use serde::{Deserialize, Serialize};
use std::fs::{self, DirBuilder};
use std::io::{self, Read};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Of the files.
const VERSION: u32 = 1;
/// The largest file that is one of these, in bytes.
const MAX_FILE: u64 = 64 << 10;
/// How many days are kept: today, and those that an operator may want to look at.
const KEPT_DAYS: usize = 31;
/// For the lock. Others hold it for a few milliseconds; one that was stopped in the middle of it may not stop this one as well.
const PATIENCE: Duration = Duration::from_secs(5);

const EXTENSION: &str = ".json";
/// Of a file that could not be read, and of further ones of the same day with a number behind it.
const DAMAGED: &str = ".damaged";

/// Why a day can't be counted.
#[derive(Debug, thiserror::Error)]
pub enum Uncounted {
    #[error("can't {what} {}: {error}; make room or give it back to the user that codex-mcp runs as", .path.display())]
    Io {
        what: &'static str,
        path: PathBuf,
        error: io::Error,
    },
    #[error(
        "another codex-mcp has held the lock {} for more than {} s; `fuser` names it: end it if it hangs",
        .path.display(), .waited.as_secs()
    )]
    Locked { path: PathBuf, waited: Duration },
    #[error(
        "{} is written by a newer codex-mcp (version {version} of the file; this one writes {VERSION}): run that one, or use \
         another `state_dir`",
        .path.display()
    )]
    Newer { path: PathBuf, version: u32 },
    #[error(
        "the count of today was damaged and is set aside as {}; it begins anew where that file is moved away, or at {renews}",
        .path.display()
    )]
    Damaged { path: PathBuf, renews: String },
    #[error("the server is shutting down and counts nothing more")]
    Ended,
}

/// A day, as it is counted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    pub day: Day,
    pub counts: DayCounts,
    /// Part of the day's count may be in here, and can't be read.
    pub damaged: Option<PathBuf>,
    /// The file of [`Self::day`], where the clock says an earlier day.
    pub ahead: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Written {
    version: u32,
    #[serde(flatten)]
    counts: DayCounts,
}

/// What every version has.
#[derive(Deserialize)]
struct Versioned {
    version: u32,
}

/// The directory of the files.
#[derive(Debug)]
pub struct Book {
    directory: PathBuf,
    /// How long another server may hold the lock.
    patience: Duration,
}

impl Book {
    pub fn new(state_dir: &Path) -> Self {
        Self {
            directory: state_dir.join("quota"),
            patience: PATIENCE,
        }
    }

    /// Changes the count of the day under the lock, and has it written when this returns.
    ///
    /// The day is the clock's, or a later one that is counted already: a clock that is set back makes no spent day a new one.
    pub fn update(&self, now: Duration, change: impl FnOnce(&mut Page)) -> Result<Page, Uncounted> {
        let _lock = self.lock()?;
        let files = self.files()?;
        let today = Day::at(now);
        let day = files
            .days
            .iter()
            .copied()
            .max()
            .map_or(today, |latest| latest.max(today));
        let path = self.path(day);
        let (before, set_aside) = self.read(day)?;
        let mut page = Page {
            day,
            counts: before,
            damaged: set_aside.or_else(|| files.damaged_of(day)),
            ahead: (day > today).then(|| path.clone()),
        };
        change(&mut page);
        if page.counts != before {
            self.write(&path, &page.counts)?;
            if !files.days.contains(&day) {
                self.prune(files.days);
            }
        }
        Ok(page)
    }

    fn lock(&self) -> Result<Lock, Uncounted> {
        let made = DirBuilder::new().recursive(true).mode(0o700).create(&self.directory);
        made.map_err(failed("make", &self.directory))?;
        let path = self.directory.join("lock");
        let locked = lock::exclusive(&path, self.patience).map_err(failed("lock", &path))?;
        locked.ok_or(Uncounted::Locked {
            path,
            waited: self.patience,
        })
    }

    fn files(&self) -> Result<Files, Uncounted> {
        let mut files = Files::default();
        let entries = fs::read_dir(&self.directory).map_err(failed("read", &self.directory))?;
        for entry in entries {
            let entry = entry.map_err(failed("read", &self.directory))?;
            let name = entry.file_name();
            let Some((day, rest)) = name.to_str().and_then(|name| name.split_once('.')) else {
                continue;
            };
            let Some(day) = Day::parse(day) else { continue };
            let rest = format!(".{rest}");
            if rest == EXTENSION {
                files.days.push(day);
            } else if rest.starts_with(&format!("{EXTENSION}{DAMAGED}")) {
                files.damaged.push((day, entry.path()));
            }
        }
        Ok(files)
    }

    fn path(&self, day: Day) -> PathBuf {
        self.directory.join(format!("{day}{EXTENSION}"))
    }

    /// What is counted of a day; nothing where there is no file. One that can't be read is set aside, and named.
    fn read(&self, day: Day) -> Result<(DayCounts, Option<PathBuf>), Uncounted> {
        let path = self.path(day);
        let mut text = Vec::new();
        match regular::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok((DayCounts::default(), None)),
            Err(error) => return Err(failed("read", &path)(error)),
            Ok(file) => {
                let read = file.take(MAX_FILE).read_to_end(&mut text);
                read.map_err(failed("read", &path))?;
            }
        }
        if let Ok(Versioned { version }) = serde_json::from_slice(&text)
            && version > VERSION
        {
            return Err(Uncounted::Newer { path, version });
        }
        match serde_json::from_slice::<Written>(&text) {
            Ok(written) => Ok((written.counts, None)),
            Err(error) => {
                let aside = self.set_aside(&path)?;
                tracing::error!(file = %aside.display(), %error, "the count of what was spent today is damaged and was set aside");
                Ok((DayCounts::default(), Some(aside)))
            }
        }
    }

    fn set_aside(&self, path: &Path) -> Result<PathBuf, Uncounted> {
        let mut aside = path.as_os_str().to_owned();
        aside.push(DAMAGED);
        let first = PathBuf::from(aside);
        let numbered = (2..).map(|n: u32| PathBuf::from(format!("{}-{n}", first.display())));
        // Under the lock, so nobody takes the name in between.
        let free = std::iter::once(first.clone())
            .chain(numbered)
            .find(|path| !path.exists());
        let free = free.unwrap_or(first);
        fs::rename(path, &free).map_err(failed("set aside", path))?;
        Ok(free)
    }

    fn write(&self, path: &Path, counts: &DayCounts) -> Result<(), Uncounted> {
        let written = Written {
            version: VERSION,
            counts: *counts,
        };
        // One name, because there is one writer at a time: what a server that was killed left is written over.
        let new = self.directory.join("writing");
        let text = serde_json::to_vec(&written).map_err(|error| failed("write", &new)(error.into()))?;
        replace::whole(path, &new, &text).map_err(failed("write", path))
    }

    /// Removes the files of days long past, when a new one begins. Those that were set aside stay.
    fn prune(&self, mut days: Vec<Day>) {
        days.sort_unstable();
        let old = (days.len() + 1).saturating_sub(KEPT_DAYS);
        for day in days.into_iter().take(old) {
            let path = self.path(day);
            if let Err(error) = fs::remove_file(&path) {
                tracing::warn!(file = %path.display(), %error, "can't remove the count of a day long past");
            }
        }
    }
}

#[derive(Debug, Default)]
struct Files {
    days: Vec<Day>,
    damaged: Vec<(Day, PathBuf)>,
}

impl Files {
    fn damaged_of(&self, day: Day) -> Option<PathBuf> {
        let damaged = self.damaged.iter().find(|(damaged, _)| *damaged == day);
        damaged.map(|(_, path)| path.clone())
    }
}

fn failed(what: &'static str, path: &Path) -> impl Fn(io::Error) -> Uncounted {
    let path = path.to_owned();
    move |error| Uncounted::Io {
        what,
        path: path.clone(),
        error,
    }
}

#[cfg(test)]
mod tests;
