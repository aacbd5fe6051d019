//! What a copy may take, and what is said where a folder takes more.

use crate::config::Sourced;
use crate::config::quantity::{ByteSize, Rounded};
use crate::workspace::tree::TreeError;
use nix::errno::Errno;
use std::path::{Path, PathBuf};

/// How much may be copied.
#[derive(Debug, Clone, PartialEq)]
pub struct CopyLimits {
    /// All files together, by their length.
    pub bytes: Sourced<ByteSize>,
    /// Files, directories and links together.
    pub files: Sourced<u64>,
}

impl CopyLimits {
    /// The error for a folder with this many bytes in its files.
    pub fn too_many_bytes(&self, source: &Path, found: u64) -> CopyError {
        CopyError::TooManyBytes {
            source_path: source.to_owned(),
            found,
            limit: self.bytes.value.bytes(),
            origin: self.bytes.origin.to_string(),
        }
    }
}

/// Why there is no copy. Nothing of it is left behind.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    #[error(
        "{} holds {found} bytes ({}) in files, more than limits.workspace = {} ({origin}) allows to copy; raise \
         limits.workspace, or work on a smaller folder", source_path.display(), Rounded(*found), Rounded(*limit)
    )]
    TooManyBytes {
        source_path: PathBuf,
        found: u64,
        limit: u64,
        origin: String,
    },
    #[error(
        "{} holds more than {limit} files and directories, which is what workspace.max_files ({origin}) allows to copy; \
         raise workspace.max_files, or work on a smaller folder", source_path.display()
    )]
    TooManyFiles {
        source_path: PathBuf,
        limit: u64,
        origin: String,
    },
    #[error(
        "the copy would lie inside the folder that it is a copy of ({}); set state_dir to a place outside of it",
        source_path.display()
    )]
    Nested { source_path: PathBuf },
    #[error("can't copy the workspace: {0}")]
    Source(TreeError),
    #[error("can't write {}: {errno}", path.display())]
    Write { path: PathBuf, errno: Errno },
    #[error("the copy was cancelled")]
    Cancelled,
}

impl From<TreeError> for CopyError {
    fn from(error: TreeError) -> Self {
        Self::Source(error)
    }
}
