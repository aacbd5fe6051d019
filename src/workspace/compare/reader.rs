//! Reads the container's tree, and tells git what is not as it was.

use crate::wire::untrusted::Untrusted;
use crate::workspace::blob::{BlobHasher, Entry, Inventory, Mode, blob_id};
use crate::workspace::compare::{Bounds, TreeChange, Withheld, WithheldReason};
use crate::workspace::fast_import::Import;
use crate::workspace::git::run::GitError;
use crate::workspace::git::{ObjectFormat, ObjectId, is_git};
use crate::workspace::ignore::{IgnoreFiles, Unread};
use crate::workspace::shadow::ShadowError;
use crate::workspace::tree::{HardLinks, Next, Node, TreeError, Visit, Visitor, errno_of};
use nix::errno::Errno;
use std::collections::HashSet;
use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Instant;
use tokio_util::sync::CancellationToken;

/// What fits into memory, in bytes.
pub(super) const SMALL: u64 = 1 << 20;
/// How much is read at once, in bytes.
const PIECE: usize = 128 << 10;
/// How many withheld files are named.
const MAX_WITHHELD: usize = 1000;

/// What came of reading.
pub(super) struct Reading {
    pub changes: Vec<TreeChange>,
    pub withheld: Vec<Withheld>,
    pub withheld_more: u64,
    pub ignored: u64,
}

/// Walks the tree once.
pub(super) struct Reader<'r, W> {
    base: &'r Inventory,
    format: ObjectFormat,
    bounds: Bounds,
    import: Import<W>,
    stop: CancellationToken,
    started: Instant,
    now: Inventory,
    ignore_files: IgnoreFiles,
    ignored: u64,
    /// Paths about which, and below which, nothing is known.
    unknown: HashSet<PathBuf>,
    withheld: Vec<Withheld>,
    withheld_more: u64,
    brought: u64,
    piece: Vec<u8>,
}

impl<W: Write> Visitor for Reader<'_, W> {
    type Error = ShadowError;

    fn visit(&mut self, visit: Visit<'_>) -> Result<Next, ShadowError> {
        self.go_on()?;
        if is_git(visit.name) {
            // The one at the root is what we put there.
            if visit.path != Path::new(".git") || !matches!(visit.node, Node::Directory { .. }) {
                self.withhold(visit.path, WithheldReason::Git);
            }
            return Ok(Next::Skip);
        }
        if self.is_ignored(&visit) {
            self.ignored += 1;
            return Ok(Next::Skip);
        }
        match visit.node {
            Node::Directory { .. } => {}
            Node::File { .. } => self.file(visit)?,
            Node::Symlink => {
                // Gone or replaced since it was seen: deleted, then.
                if let Ok(target) = visit.directory.link_target(visit.name) {
                    self.small(visit.path, Mode::Symlink, target.as_os_str().as_bytes())?;
                }
            }
            Node::Special => self.withhold(visit.path, WithheldReason::Special),
        }
        Ok(Next::Enter)
    }

    fn blocked(&mut self, directory: &Path, errno: Errno) -> Result<(), ShadowError> {
        match errno {
            _ if directory.as_os_str().is_empty() => Err(unreadable(directory, errno).into()),
            // Gone or replaced since it was seen.
            Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP => Ok(()),
            _ => {
                self.withhold(directory.to_owned(), WithheldReason::Unreadable);
                Ok(())
            }
        }
    }
}

impl<'r, W: Write> Reader<'r, W> {
    pub fn new(
        base: &'r Inventory,
        format: ObjectFormat,
        bounds: Bounds,
        import: Import<W>,
        stop: CancellationToken,
    ) -> Self {
        Self {
            base,
            format,
            bounds,
            import,
            stop,
            started: Instant::now(),
            now: Inventory::new(),
            ignore_files: IgnoreFiles::default(),
            ignored: 0,
            unknown: HashSet::new(),
            withheld: Vec::new(),
            withheld_more: 0,
            brought: 0,
            piece: vec![0; PIECE],
        }
    }

    fn go_on(&self) -> Result<(), ShadowError> {
        if self.stop.is_cancelled() {
            return Err(GitError::Cancelled.into());
        }
        if self.started.elapsed() > self.bounds.time {
            return Err(ShadowError::TooSlow(self.bounds.time));
        }
        Ok(())
    }

    /// Whether git would not offer to track it. What the baseline has is compared in any case.
    fn is_ignored(&mut self, visit: &Visit<'_>) -> bool {
        let parent = visit.path.parent().unwrap_or(Path::new(""));
        if let Err(Unread(path)) = self.ignore_files.enter(visit.directory, parent) {
            self.name(&path, WithheldReason::Patterns);
        }
        let is_directory = matches!(visit.node, Node::Directory { .. });
        let in_baseline = match is_directory {
            true => has_below(self.base, &visit.path),
            false => self.base.contains_key(&visit.path),
        };
        !in_baseline && self.ignore_files.is_ignored(&visit.path, is_directory)
    }

    fn withhold(&mut self, path: PathBuf, reason: WithheldReason) {
        self.name(&path, reason);
        self.unknown.insert(path);
    }

    fn name(&mut self, path: &Path, reason: WithheldReason) {
        if self.withheld.len() < MAX_WITHHELD {
            self.withheld.push(Withheld {
                path: Untrusted::new(path.to_string_lossy()),
                reason,
            });
        } else {
            self.withheld_more += 1;
        }
    }

    fn file(&mut self, visit: Visit<'_>) -> Result<(), ShadowError> {
        let path = visit.path;
        let mut file = match visit.directory.file(visit.name, &path, HardLinks::Refused) {
            Ok(file) => file,
            Err(TreeError::HardLinked { .. }) => {
                self.withhold(path, WithheldReason::HardLinked);
                return Ok(());
            }
            Err(TreeError::Unreadable {
                errno: Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP,
                ..
            }) => return Ok(()),
            Err(TreeError::NotRegular { .. }) => {
                self.withhold(path, WithheldReason::Special);
                return Ok(());
            }
            Err(_) => {
                self.withhold(path, WithheldReason::Unreadable);
                return Ok(());
            }
        };
        let found = file.metadata().map_err(|error| unreadable(&path, errno_of(&error)))?;
        let mode = Mode::of_file(found.mode());
        if found.len() > self.bounds.file {
            self.withhold(path, WithheldReason::TooLarge);
            return Ok(());
        }
        if found.len() <= SMALL {
            let mut content = Vec::new();
            let read = (&mut file).take(SMALL + 1).read_to_end(&mut content);
            read.map_err(|error| unreadable(&path, errno_of(&error)))?;
            if content.len() as u64 <= SMALL {
                return self.small(path, mode, &content);
            }
            // It grew meanwhile.
            file.rewind().map_err(|error| unreadable(&path, errno_of(&error)))?;
        }
        self.large(path, mode, file, found.len())
    }

    /// What is in memory.
    fn small(&mut self, path: PathBuf, mode: Mode, content: &[u8]) -> Result<(), ShadowError> {
        let id = blob_id(self.format, content);
        if self.is_known(&path, mode, &id)? {
            return Ok(());
        }
        let size = content.len() as u64;
        if !self.may_bring(size) {
            self.withhold(path, WithheldReason::TooMuch);
            return Ok(());
        }
        self.import
            .content(&path, mode, size, content)
            .map_err(ShadowError::Feed)?;
        self.now.insert(path, Entry { mode, id });
        Ok(())
    }

    /// Hashed where it lies first; if it is not what it was, taken out of the container's reach and hashed again.
    fn large(&mut self, path: PathBuf, mode: Mode, mut file: File, size: u64) -> Result<(), ShadowError> {
        let (id, _) = self.pass(&mut file, size, None, &path)?;
        if self.is_known(&path, mode, &id)? {
            return Ok(());
        }
        let mut taken = tempfile::tempfile().map_err(ShadowError::Feed)?;
        file.rewind().map_err(|error| unreadable(&path, errno_of(&error)))?;
        let (mut id, taken_size) = self.pass(&mut file, size, Some(&mut taken), &path)?;
        if taken_size > self.bounds.file {
            self.withhold(path, WithheldReason::TooLarge);
            return Ok(());
        }
        if !self.may_bring(taken_size) {
            self.withhold(path, WithheldReason::TooMuch);
            return Ok(());
        }
        if taken_size != size {
            taken.rewind().map_err(ShadowError::Feed)?;
            id = self.pass(&mut taken, taken_size, None, &path)?.0;
        }
        taken.rewind().map_err(ShadowError::Feed)?;
        let told = self.import.content(&path, mode, taken_size, taken);
        told.map_err(ShadowError::Feed)?;
        self.now.insert(path, Entry { mode, id });
        Ok(())
    }

    /// Hashes to the end, but no further than the bound, and writes into `to` where there is one; says how much it was.
    fn pass(
        &mut self,
        from: &mut File,
        expected: u64,
        mut to: Option<&mut File>,
        path: &Path,
    ) -> Result<(ObjectId, u64), ShadowError> {
        let mut hasher = BlobHasher::new(self.format, expected);
        let mut size = 0;
        while size <= self.bounds.file {
            self.go_on()?;
            let read = match from.read(&mut self.piece) {
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(unreadable(path, errno_of(&error)).into()),
            };
            let piece = self.piece.get(..read).unwrap_or_default();
            if piece.is_empty() {
                break;
            }
            hasher.update(piece);
            if let Some(to) = &mut to {
                to.write_all(piece).map_err(ShadowError::Feed)?;
            }
            size += read as u64;
        }
        Ok((hasher.finish(), size))
    }

    /// Whether the baseline has this content at this path; then there is nothing more to do about it.
    fn is_known(&mut self, path: &Path, mode: Mode, id: &ObjectId) -> Result<bool, ShadowError> {
        let Some(before) = self.base.get(path).filter(|before| before.id == *id) else {
            return Ok(false);
        };
        let entry = Entry { mode, id: id.clone() };
        if before.mode != mode {
            self.import.known(path, &entry).map_err(ShadowError::Feed)?;
        }
        self.now.insert(path.to_owned(), entry);
        Ok(true)
    }

    fn may_bring(&mut self, size: u64) -> bool {
        let after = self.brought.saturating_add(size);
        if after <= self.bounds.total {
            self.brought = after;
        }
        after <= self.bounds.total
    }

    pub fn finish(mut self) -> Result<Reading, ShadowError> {
        for (path, entry) in self.base {
            if !self.now.contains_key(path) && path.ancestors().any(|above| self.unknown.contains(above)) {
                self.now.insert(path.clone(), entry.clone());
            }
        }
        for path in self.base.keys() {
            // What became a directory was replaced when the first file in it was told.
            let is_gone = !self.now.contains_key(path) && !has_below(&self.now, path);
            if is_gone {
                self.import.delete(path).map_err(ShadowError::Feed)?;
            }
        }
        self.import.finish().map_err(ShadowError::Feed)?;
        let mut changes: Vec<TreeChange> = Vec::new();
        for (path, old) in self.base {
            let new = self.now.remove(path);
            if new.as_ref() != Some(old) {
                changes.push(TreeChange {
                    path: path.clone(),
                    old: Some(old.clone()),
                    new,
                });
            }
        }
        changes.extend(self.now.into_iter().map(|(path, new)| TreeChange {
            path,
            old: None,
            new: Some(new),
        }));
        changes.sort_unstable_by(|one, other| one.path.cmp(&other.path));
        Ok(Reading {
            changes,
            withheld: self.withheld,
            withheld_more: self.withheld_more,
            ignored: self.ignored,
        })
    }
}

/// Paths are ordered by their parts, so what lies below a path follows it at once.
fn has_below(inventory: &Inventory, path: &Path) -> bool {
    let after = (std::ops::Bound::Excluded(path), std::ops::Bound::Unbounded);
    inventory
        .range::<Path, _>(after)
        .next()
        .is_some_and(|(next, _)| next.starts_with(path))
}

fn unreadable(path: &Path, errno: Errno) -> TreeError {
    TreeError::Unreadable {
        path: path.to_owned(),
        errno,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lies_below_follows_at_once() {
        let entry = Entry {
            mode: Mode::File,
            id: blob_id(ObjectFormat::Sha1, b""),
        };
        let inventory: Inventory = ["a-b", "a/b", "a.c"]
            .into_iter()
            .map(|path| (PathBuf::from(path), entry.clone()))
            .collect();
        assert!(has_below(&inventory, Path::new("a")));
        assert!(!has_below(&inventory, Path::new("a-b")));
        assert!(!has_below(&inventory, Path::new("b")));
    }
}
