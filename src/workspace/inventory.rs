//! What a copy holds, as git names it: computed while the copy is made.

use crate::workspace::blob::{BlobHasher, Entry, Inventory, Mode, blob_id};
use crate::workspace::copy::Recorder;
use crate::workspace::git::ObjectFormat;
use crate::workspace::tree::{HardLinks, Tree, TreeError, errno_of};
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// How much is read at once, in bytes.
const PIECE: usize = 128 << 10;

/// Names every file of a copy while it passes. Directories are not in it: git doesn't track them.
pub struct InventoryRecorder {
    format: ObjectFormat,
    hasher: BlobHasher,
    /// What `hasher` was told to expect.
    size: u64,
    inventory: Inventory,
    /// Files that turned out longer or shorter than they were when opened: their size is hashed first, so again.
    resized: Vec<(PathBuf, Mode)>,
    bytes: u64,
}

impl InventoryRecorder {
    pub fn new(format: ObjectFormat) -> Self {
        Self {
            format,
            hasher: BlobHasher::new(format, 0),
            size: 0,
            inventory: Inventory::new(),
            resized: Vec::new(),
            bytes: 0,
        }
    }

    /// All bytes in files.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The whole inventory of the copy at `tree`, which nobody but us could write yet.
    pub fn finish(mut self, tree: &Tree) -> Result<Inventory, TreeError> {
        for (path, mode) in std::mem::take(&mut self.resized) {
            let id = file_id(tree, &path, self.format)?;
            self.inventory.insert(path, Entry { mode, id });
        }
        Ok(self.inventory)
    }
}

fn file_id(tree: &Tree, path: &Path, format: ObjectFormat) -> Result<crate::workspace::git::ObjectId, TreeError> {
    let failed = |error: std::io::Error| TreeError::Unreadable {
        path: path.to_owned(),
        errno: errno_of(&error),
    };
    let mut file = tree.file(path, HardLinks::Allowed)?;
    let mut hasher = BlobHasher::new(format, file.metadata().map_err(failed)?.len());
    let mut piece = vec![0; PIECE];
    loop {
        let read = file.read(&mut piece).map_err(failed)?;
        match piece.get(..read) {
            Some(piece) if !piece.is_empty() => hasher.update(piece),
            _ => return Ok(hasher.finish()),
        }
    }
}

impl Recorder for InventoryRecorder {
    fn symlink(&mut self, path: PathBuf, target: PathBuf) {
        let id = blob_id(self.format, target.as_os_str().as_bytes());
        let mode = Mode::Symlink;
        self.inventory.insert(path, Entry { mode, id });
    }

    fn begin_file(&mut self, size: u64) {
        self.size = size;
        self.hasher = BlobHasher::new(self.format, size);
    }

    fn piece(&mut self, piece: &[u8]) {
        self.hasher.update(piece);
    }

    fn end_file(&mut self, path: PathBuf, permissions: u32, size: u64) {
        self.bytes += size;
        let mode = Mode::of_file(permissions);
        if size == self.size {
            let id = self.hasher.clone().finish();
            self.inventory.insert(path, Entry { mode, id });
        } else {
            self.resized.push((path, mode));
        }
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "tests make files")]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_changed_its_size_on_the_way_is_named_by_what_arrived() {
        let copy = tempfile::tempdir().unwrap();
        std::fs::write(copy.path().join("grown"), "abc").unwrap();
        let mut recorder = InventoryRecorder::new(ObjectFormat::Sha1);
        recorder.begin_file(1);
        recorder.piece(b"abc");
        recorder.end_file("grown".into(), 0o755, 3);
        assert_eq!(recorder.bytes(), 3);
        let inventory = recorder.finish(&Tree::open(copy.path()).unwrap()).unwrap();
        let expected = Entry {
            mode: Mode::Executable,
            id: blob_id(ObjectFormat::Sha1, b"abc"),
        };
        assert_eq!(inventory.get(Path::new("grown")), Some(&expected));
    }
}
