//! The container's tree against the baseline: a second tree, in an object directory of its own beside the shadow.
//!
//! The container wrote the tree and may go on writing: it is read through [`Tree`] only, each file once into memory or
//! a file of ours, and what was read is what is compared, hashed and told to git. Sizes and times are the container's
//! to forge, so every file's content is read. What may not be brought is withheld by name, and counts as unchanged.

use crate::wire::untrusted::Untrusted;
use crate::workspace::blob::{BlobHasher, Entry, Inventory, Mode, blob_id};
use crate::workspace::fast_import::{Import, quoted};
use crate::workspace::git::command::{Git, OwnRepository};
use crate::workspace::git::run::{self, Stdin, Stdout};
use crate::workspace::git::{ObjectFormat, ObjectId, is_git};
use crate::workspace::shadow::{self, Baseline, Shadow, ShadowError};
use crate::workspace::tree::{HardLinks, Next, Node, Tree, TreeError, Visit, Visitor, errno_of};
use nix::errno::Errno;
use serde::Serialize;
use std::collections::HashSet;
use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

/// What fits into memory, in bytes.
const SMALL: u64 = 1 << 20;
/// How much is read at once, in bytes.
const PIECE: usize = 128 << 10;
/// How many withheld files are named.
const MAX_WITHHELD: usize = 1000;

/// What a comparison may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Files, directories and links of the tree.
    pub entries: u64,
    /// The largest file that is brought, in bytes.
    pub file: u64,
    /// All that is brought together, in bytes.
    pub total: u64,
    /// Wall-clock time of the reading.
    pub time: Duration,
    /// The largest patch in memory, in bytes.
    pub patch: usize,
}

/// Something of the tree that is not brought.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Withheld {
    /// Relative to the workspace.
    pub path: Untrusted,
    pub reason: WithheldReason,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
pub enum WithheldReason {
    #[error("it is a socket, FIFO or device")]
    Special,
    #[error("it has several hard links")]
    HardLinked,
    #[error("it can't be read")]
    Unreadable,
    #[error("it is a .git, or lies where one would be")]
    Git,
    #[error("it is too large")]
    TooLarge,
    #[error("all changes together are too large")]
    TooMuch,
}

/// One path of which the two trees differ. Renames are not looked for: they are one deleted and one added.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TreeChange {
    /// Relative to the workspace; leads down, and into no `.git`.
    pub path: PathBuf,
    pub old: Option<Entry>,
    pub new: Option<Entry>,
}

/// Two trees, and the objects of the second for as long as this lives.
#[derive(Debug)]
pub struct Comparison {
    git: Git,
    repository: OwnRepository,
    /// Removes the object directory at the end.
    _directory: tempfile::TempDir,
    pub baseline: Baseline,
    /// The commit of the second tree.
    pub commit: ObjectId,
    /// By path.
    pub changes: Vec<TreeChange>,
    /// The first 1000.
    pub withheld: Vec<Withheld>,
    /// How many more there are.
    pub withheld_more: u64,
}

impl Shadow {
    /// Reads the tree at `workspace` and says in what it differs from the baseline.
    pub async fn compare(
        &self,
        workspace: &Path,
        bounds: &Bounds,
        cancel: &CancellationToken,
    ) -> Result<Comparison, ShadowError> {
        let (repository, directory) = self.beside()?;
        let base = self.files(cancel).await?;
        let tree = Tree::open(workspace)?;
        let (bounds, format) = (*bounds, self.baseline.object_format);
        let (start, stop) = (self.baseline.commit.clone(), cancel.clone());
        // fast-import wants the tree of the commit, by its own name.
        let root = shadow::tree_of(&self.git, &self.repository, &start, cancel).await?;
        let fill = move |out| {
            let import = Import::begin(out, Some(&root)).map_err(ShadowError::Feed)?;
            let mut reader = Reader::new(&base, format, bounds, import, stop);
            tree.walk(bounds.entries, &mut reader)?;
            reader.finish()
        };
        let (commit, read) = shadow::import(&self.git, &repository, cancel, fill).await?;
        Ok(Comparison {
            git: self.git.clone(),
            repository,
            _directory: directory,
            baseline: self.baseline.clone(),
            commit,
            changes: read.changes,
            withheld: read.withheld,
            withheld_more: read.withheld_more,
        })
    }

    /// A git directory that has the shadow's objects and keeps its own apart, so that asking often leaves nothing behind.
    fn beside(&self) -> Result<(OwnRepository, tempfile::TempDir), ShadowError> {
        let shadow = &self.repository.git_dir;
        let written = |source| ShadowError::Write {
            path: shadow.clone(),
            source,
        };
        let directory = tempfile::Builder::new()
            .prefix("changes-")
            .tempdir_in(shadow)
            .map_err(written)?;
        let repository = shadow::create(&directory.path().join("git"), self.baseline.object_format)?;
        let objects = quoted(shadow.join("objects").as_os_str().as_bytes());
        let alternates = repository.git_dir.join("objects/info/alternates");
        let file = std::fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .open(alternates);
        file.and_then(|mut file| file.write_all(&objects)).map_err(written)?;
        Ok((repository, directory))
    }
}

impl Comparison {
    pub fn git(&self) -> &Git {
        &self.git
    }

    /// Where the objects of both trees are found.
    pub fn repository(&self) -> &OwnRepository {
        &self.repository
    }

    /// A blob of either tree into memory; one of more than `limit` bytes is an error.
    pub async fn blob(&self, id: &ObjectId, limit: usize, cancel: &CancellationToken) -> Result<Vec<u8>, ShadowError> {
        let command = self.git.work(&self.repository, "cat-file", &["blob", &id.to_string()]);
        Ok(run::run(command, Stdin::Empty, Stdout::Memory(limit), cancel).await?)
    }

    /// A blob of either tree into a file.
    pub async fn blob_into(&self, id: &ObjectId, file: File, cancel: &CancellationToken) -> Result<(), ShadowError> {
        let command = self.git.work(&self.repository, "cat-file", &["blob", &id.to_string()]);
        run::run(command, Stdin::Empty, Stdout::File(file), cancel).await?;
        Ok(())
    }
}

/// What came of reading.
struct Reading {
    changes: Vec<TreeChange>,
    withheld: Vec<Withheld>,
    withheld_more: u64,
}

/// Walks the tree, and tells git what is not as it was.
struct Reader<'r, W> {
    base: &'r Inventory,
    format: ObjectFormat,
    bounds: Bounds,
    import: Import<W>,
    stop: CancellationToken,
    started: Instant,
    now: Inventory,
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
    fn new(
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
            unknown: HashSet::new(),
            withheld: Vec::new(),
            withheld_more: 0,
            brought: 0,
            piece: vec![0; PIECE],
        }
    }

    fn go_on(&self) -> Result<(), ShadowError> {
        if self.stop.is_cancelled() {
            return Err(crate::workspace::git::run::GitError::Cancelled.into());
        }
        if self.started.elapsed() > self.bounds.time {
            return Err(ShadowError::TooSlow(self.bounds.time));
        }
        Ok(())
    }

    fn withhold(&mut self, path: PathBuf, reason: WithheldReason) {
        if self.withheld.len() < MAX_WITHHELD {
            self.withheld.push(Withheld {
                path: Untrusted::new(path.to_string_lossy()),
                reason,
            });
        } else {
            self.withheld_more += 1;
        }
        self.unknown.insert(path);
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

    fn finish(mut self) -> Result<Reading, ShadowError> {
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
mod tests;
