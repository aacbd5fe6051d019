//! What the `.gitignore` files of a tree say while it is walked.
//!
//! The container wrote them, and may have written them to hide something: that can only be what it made itself, because
//! what the baseline has is compared whatever they say, and what is hidden stays in the container. They are read as bytes within
//! bounds, and one over them counts as absent: then more is shown, not less.

pub mod patterns;

use crate::workspace::ignore::patterns::{Patterns, Verdict};
use crate::workspace::tree::{Directory, HardLinks};
use std::ffi::OsStr;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// The name of such a file.
pub const NAME: &str = ".gitignore";

/// The largest file, in bytes.
const FILE: u64 = 64 << 10;
/// All files together, in bytes.
const TOTAL: u64 = 1 << 20;
/// Patterns of all files together.
const PATTERNS: usize = 20_000;

/// The files between the root and the directory in which a walk is.
#[derive(Debug)]
pub struct IgnoreFiles {
    levels: Vec<Level>,
    bytes_left: u64,
    patterns_left: usize,
}

#[derive(Debug)]
struct Level {
    directory: PathBuf,
    patterns: Option<Patterns>,
    /// All in it is ignored, whatever files in it say: git does not look into such a directory.
    ignored: bool,
}

/// A file that is over a bound, and counts as absent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unread(pub PathBuf);

impl Default for IgnoreFiles {
    fn default() -> Self {
        Self {
            levels: Vec::new(),
            bytes_left: TOTAL,
            patterns_left: PATTERNS,
        }
    }
}

impl IgnoreFiles {
    /// Called with the directory of every entry of a walk that shows parents first; reads the directory's own file when
    /// it is new.
    pub fn enter(&mut self, directory: &Directory, path: &Path) -> Result<(), Unread> {
        if self.levels.last().is_some_and(|level| level.directory == path) {
            return Ok(());
        }
        while self
            .levels
            .last()
            .is_some_and(|level| !path.starts_with(&level.directory))
        {
            self.levels.pop();
        }
        let ignored = !path.as_os_str().is_empty() && self.is_ignored(path, true);
        // What it says changes nothing then.
        let read = if ignored { Ok(None) } else { self.read(directory, path) };
        let (patterns, unread) = match read {
            Ok(patterns) => (patterns, Ok(())),
            Err(unread) => (None, Err(unread)),
        };
        self.levels.push(Level {
            directory: path.to_owned(),
            patterns,
            ignored,
        });
        unread
    }

    /// Whether git would leave this entry of the entered directory out, if it did not track it.
    pub fn is_ignored(&self, path: &Path, is_directory: bool) -> bool {
        for level in self.levels.iter().rev() {
            if level.ignored {
                return true;
            }
            let Ok(relative) = path.strip_prefix(&level.directory) else {
                continue;
            };
            let patterns = level.patterns.as_ref();
            match patterns.and_then(|patterns| patterns.verdict(relative.as_os_str().as_bytes(), is_directory)) {
                Some(verdict) => return verdict == Verdict::Ignored,
                None => continue,
            }
        }
        false
    }

    fn read(&mut self, directory: &Directory, path: &Path) -> Result<Option<Patterns>, Unread> {
        let path = path.join(NAME);
        // A link is none to git either.
        let Ok(file) = directory.file(OsStr::new(NAME), &path, HardLinks::Refused) else {
            return Ok(None);
        };
        let bound = FILE.min(self.bytes_left);
        let mut content = Vec::new();
        // Not its size but the read is bounded: it may grow meanwhile.
        if file.take(bound + 1).read_to_end(&mut content).is_err() {
            return Ok(None);
        }
        let patterns = patterns::count(&content);
        if content.len() as u64 > bound || patterns > self.patterns_left {
            return Err(Unread(path));
        }
        self.bytes_left -= content.len() as u64;
        self.patterns_left -= patterns;
        Patterns::parse(&content).map_err(|_| Unread(path))
    }
}

#[cfg(test)]
mod tests;
