//! Git's name of a file's content, computed while it passes.

use crate::workspace::git::{ObjectFormat, ObjectId};
use sha1::Sha1;
use sha2::{Digest, Sha256};
use std::io::{self, Read};

/// How much is read at once, in bytes.
const PIECE: usize = 128 << 10;

/// Hashes the content of one blob.
pub enum BlobHasher {
    Sha1(Sha1),
    Sha256(Sha256),
}

impl BlobHasher {
    /// Git hashes the size before the content; content of another size gets a name that no blob has.
    pub fn new(format: ObjectFormat, size: u64) -> Self {
        let header = format!("blob {size}\0");
        match format {
            ObjectFormat::Sha1 => Self::Sha1(Sha1::new_with_prefix(header)),
            ObjectFormat::Sha256 => Self::Sha256(Sha256::new_with_prefix(header)),
        }
    }

    pub fn update(&mut self, piece: &[u8]) {
        match self {
            Self::Sha1(hasher) => hasher.update(piece),
            Self::Sha256(hasher) => hasher.update(piece),
        }
    }

    pub fn finish(self) -> ObjectId {
        match self {
            Self::Sha1(hasher) => ObjectId::from_digest(&hasher.finalize()),
            Self::Sha256(hasher) => ObjectId::from_digest(&hasher.finalize()),
        }
    }
}

pub fn id_of(format: ObjectFormat, content: &[u8]) -> ObjectId {
    let mut hasher = BlobHasher::new(format, content.len() as u64);
    hasher.update(content);
    hasher.finish()
}

/// The name of what a reader yields, `size` bytes as far as is known. Never reads much more than that: what grows while it
/// is read is not what was asked about.
pub fn id_of_reader(format: ObjectFormat, size: u64, reader: &mut impl Read) -> io::Result<ObjectId> {
    let mut hasher = BlobHasher::new(format, size);
    let mut piece = vec![0; PIECE];
    let mut reader = reader.take(size.saturating_add(1));
    loop {
        match reader.read(&mut piece) {
            Ok(0) => return Ok(hasher.finish()),
            Ok(read) => hasher.update(piece.get(..read).unwrap_or_default()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_names_are_gits() {
        // printf hello | git hash-object --stdin, in a repository of each format.
        for (format, id) in [
            (ObjectFormat::Sha1, "b6fc4c620b67d95f953a5c1c1230aaab5db5a1b0"),
            (
                ObjectFormat::Sha256,
                "8aec4e4876f854f688d0ebfc8f37598f38e5fd6903cccc850ca36591175aeb60",
            ),
        ] {
            assert_eq!(id_of(format, b"hello").to_string(), id);
            let read = id_of_reader(format, 5, &mut b"hello".as_slice()).unwrap();
            assert_eq!(read.to_string(), id);
        }
    }

    #[test]
    fn what_is_not_of_the_size_that_was_seen_is_no_blob_that_was_meant() {
        let read = |size| id_of_reader(ObjectFormat::Sha1, size, &mut b"hello".as_slice()).unwrap();
        assert_ne!(read(4), id_of(ObjectFormat::Sha1, b"hell"));
        assert_ne!(read(6), id_of(ObjectFormat::Sha1, b"hello"));
    }
}
