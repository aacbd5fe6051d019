//! Manifest against tree → changes, and a patch to show.

use crate::wire::untrusted::Untrusted;
use serde::Serialize;

/// What a session changed in its copy.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Changes {
    pub files: Vec<FileChange>,
    pub insertions: u64,
    pub deletions: u64,
    /// A unified diff of the text files, in git's form, cut at a bound (then says so in its last line).
    pub patch: Untrusted,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FileChange {
    /// Relative to the workspace.
    pub path: Untrusted,
    pub kind: ChangeKind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ChangeKind {
    Added,
    Modified,
    Deleted,
}
