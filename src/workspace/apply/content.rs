//! The content that goes to the host, by git's name of it: blobs of the session's private git directory, and merged texts.
//!
//! Content passes from git into a file of ours that has no name, and from there to its place; it is never whole in
//! memory but where text is merged.

use crate::workspace::git::ObjectId;
use crate::workspace::git::command::{Git, GitCommand, OwnRepository};
use crate::workspace::git::run::{GitError, Stdin, Stdout, run};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// The longest line of `cat-file --batch-check`: a name of SHA-256, a type, a size.
const MAX_LINE: usize = 128;

#[derive(Debug, thiserror::Error)]
pub enum ContentError {
    #[error(transparent)]
    Git(#[from] GitError),
    #[error("the session's git directory holds no content {id}; its record is damaged, and nothing was written")]
    Missing { id: ObjectId },
    #[error("the changes hold {bytes} bytes, more than the {limit} that are applied at once; take them with git apply")]
    TooLarge { bytes: u64, limit: u64 },
    #[error("can't keep content in {}: {source}", work.display())]
    Work {
        work: std::path::PathBuf,
        #[source]
        source: io::Error,
    },
}

/// Where objects are read.
#[derive(Debug, Clone)]
pub struct Objects {
    pub git: Git,
    pub repository: OwnRepository,
}

impl Objects {
    pub fn command(&self, verb: &str, args: &[&str]) -> GitCommand {
        self.git.work(&self.repository, verb, args)
    }
}

/// Content by its name.
#[derive(Debug, Default)]
pub struct Contents {
    pieces: BTreeMap<ObjectId, Piece>,
    /// Texts that are nowhere else, one after the other: a file each would take as many descriptors as there are merges.
    added: Option<Added>,
}

#[derive(Debug)]
struct Added {
    file: Arc<File>,
    end: u64,
}

#[derive(Debug, Clone)]
struct Piece {
    file: Arc<File>,
    offset: u64,
    size: u64,
}

/// One content, read from its beginning.
#[derive(Debug)]
pub struct Content {
    piece: Piece,
    read: u64,
}

impl Content {
    pub fn size(&self) -> u64 {
        self.piece.size
    }

    /// All of it; for what was bounded before.
    pub fn whole(self) -> io::Result<Vec<u8>> {
        let size = usize::try_from(self.piece.size).map_err(io::Error::other)?;
        let mut bytes = vec![0; size];
        self.piece.file.read_exact_at(&mut bytes, self.piece.offset)?;
        Ok(bytes)
    }
}

impl io::Read for Content {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.piece.size - self.read).unwrap_or(usize::MAX);
        let want = left.min(buffer.len());
        let into = buffer.get_mut(..want).unwrap_or_default();
        let read = self.piece.file.read_at(into, self.piece.offset + self.read)?;
        self.read += read as u64;
        Ok(read)
    }
}

impl Contents {
    pub fn get(&self, id: &ObjectId) -> Option<Content> {
        let piece = self.pieces.get(id)?.clone();
        Some(Content { piece, read: 0 })
    }

    pub fn size(&self, id: &ObjectId) -> Option<u64> {
        self.pieces.get(id).map(|piece| piece.size)
    }

    /// Adds text that is nowhere else.
    pub fn add(&mut self, id: ObjectId, text: &[u8], work: &Path) -> Result<(), ContentError> {
        let added = match &mut self.added {
            Some(added) => added,
            none => none.insert(Added {
                file: Arc::new(tempfile::tempfile_in(work).map_err(|source| in_work(work, source))?),
                end: 0,
            }),
        };
        let written = added.file.write_all_at(text, added.end);
        written.map_err(|source| in_work(work, source))?;
        let piece = Piece {
            file: Arc::clone(&added.file),
            offset: added.end,
            size: text.len() as u64,
        };
        added.end += piece.size;
        self.pieces.insert(id, piece);
        Ok(())
    }

    /// Fetches blobs that are not here yet, `limit` bytes at most.
    pub async fn fetch(
        &mut self,
        objects: &Objects,
        ids: BTreeSet<ObjectId>,
        limit: u64,
        work: &Path,
        cancel: &CancellationToken,
    ) -> Result<(), ContentError> {
        let ids: Vec<ObjectId> = ids.into_iter().filter(|id| !self.pieces.contains_key(id)).collect();
        if ids.is_empty() {
            return Ok(());
        }
        let sizes = sizes(objects, &ids, cancel).await?;
        let bytes = sizes.iter().fold(0_u64, |sum, size| sum.saturating_add(*size));
        if bytes > limit {
            return Err(ContentError::TooLarge { bytes, limit });
        }
        let file = tempfile::tempfile_in(work).map_err(|source| in_work(work, source))?;
        let into = file.try_clone().map_err(|source| in_work(work, source))?;
        let command = objects.command("cat-file", &["--batch", "--buffer"]);
        run(command, Stdin::Bytes(lines(&ids)), Stdout::File(into), cancel).await?;
        let file = Arc::new(file);
        let mut offset = 0;
        for (id, size) in ids.into_iter().zip(sizes) {
            let header = format!("{id} blob {size}\n");
            let mut there = vec![0; header.len()];
            let read = file.read_exact_at(&mut there, offset);
            if read.is_err() || there != header.as_bytes() {
                return Err(ContentError::Missing { id });
            }
            offset += header.len() as u64;
            let piece = Piece {
                file: Arc::clone(&file),
                offset,
                size,
            };
            self.pieces.insert(id, piece);
            // A line feed follows each content.
            offset += size + 1;
        }
        Ok(())
    }
}

/// How large each of these blobs is, in bytes.
async fn sizes(objects: &Objects, ids: &[ObjectId], cancel: &CancellationToken) -> Result<Vec<u64>, ContentError> {
    let command = objects.command("cat-file", &["--batch-check", "--buffer"]);
    let answer = Stdout::Memory(ids.len() * MAX_LINE);
    let answer = run(command, Stdin::Bytes(lines(ids)), answer, cancel).await?;
    let mut answers = answer.split(|byte| *byte == b'\n');
    let size = |id: &ObjectId| {
        let line = std::str::from_utf8(answers.next()?).ok()?;
        line.strip_prefix(&format!("{id} blob "))?.parse().ok()
    };
    let mut size = size;
    ids.iter()
        .map(|id| size(id).ok_or_else(|| ContentError::Missing { id: id.clone() }))
        .collect()
}

fn lines(ids: &[ObjectId]) -> Vec<u8> {
    ids.iter().map(|id| format!("{id}\n")).collect::<String>().into_bytes()
}

fn in_work(work: &Path, source: io::Error) -> ContentError {
    ContentError::Work {
        work: work.to_owned(),
        source,
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "counts the descriptors of its process")]
mod tests {
    use super::*;
    use crate::workspace::blob::blob_id;
    use crate::workspace::git::ObjectFormat;

    #[test]
    fn any_number_of_added_texts_takes_one_descriptor() {
        let open = || std::fs::read_dir("/proc/self/fd").unwrap().count();
        let work = tempfile::tempdir().unwrap();
        let texts: Vec<Vec<u8>> = (0..200_usize)
            .map(|number| number.to_string().repeat(number).into_bytes())
            .collect();
        let id = |text: &[u8]| blob_id(ObjectFormat::Sha1, text);
        let mut contents = Contents::default();
        let before = open();
        for text in &texts {
            contents.add(id(text), text, work.path()).unwrap();
        }
        // Other tests of the same process may open some meanwhile.
        assert!(open() < before + 100, "{before} → {}", open());
        for text in &texts {
            assert_eq!(contents.get(&id(text)).unwrap().whole().unwrap(), *text);
        }
    }
}
