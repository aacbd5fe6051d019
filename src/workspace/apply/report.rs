//! What is said about an apply: names as they may be shown, each with its reason. Pure.

use crate::wire::untrusted::Untrusted;
use crate::workspace::apply::decide::{State, Step};
use crate::workspace::apply::path::RelativePath;
use crate::workspace::git::ObjectId;
use serde::Serialize;
use std::path::PathBuf;

/// A path and why it is in a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Listed {
    /// Escaped as in C.
    pub path: Untrusted,
    pub reason: String,
}

impl Listed {
    pub fn new(path: String, reason: &impl ToString) -> Self {
        Self {
            path: Untrusted::new(path),
            reason: reason.to_string(),
        }
    }
}

pub fn listed<R: ToString>(paths: &[(RelativePath, R)]) -> impl Iterator<Item = Listed> {
    paths.iter().map(|(path, reason)| Listed::new(path.to_string(), reason))
}

/// A file of the folder that is changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Written {
    /// Escaped as in C.
    pub path: Untrusted,
    pub effect: Effect,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Effect {
    Added,
    Modified,
    Deleted,
}

impl Written {
    /// `None` for directories, which come and go with their files.
    pub fn of(step: &Step) -> Option<Self> {
        let effect = match step {
            Step::Remove { .. } => Effect::Deleted,
            Step::Put {
                before: State::Absent, ..
            } => Effect::Added,
            Step::Put { .. } | Step::SetExecutable { .. } => Effect::Modified,
            Step::RemoveDirectory { .. } | Step::MakeDirectory { .. } => return None,
        };
        Some(Self {
            path: step.path().shown(),
            effect,
        })
    }
}

/// What an apply would do now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Preview {
    pub would_write: Vec<Written>,
    /// One of these, or of `refused`, and nothing is written.
    pub conflicts: Vec<Listed>,
    pub refused: Vec<Listed>,
    /// Would wait for an explicit apply.
    pub held: Vec<Listed>,
    /// Would be written, and runs on the host without being asked.
    pub runs_by_itself: Vec<Listed>,
    /// The host has these already.
    pub already: Vec<Untrusted>,
    pub base: ObjectId,
    pub patch_sha256: String,
}

/// What an apply did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Applied {
    pub files: Vec<Written>,
    /// Not written: they run by themselves, and nobody asked for just these changes.
    pub held: Vec<Listed>,
    /// Written, and runs on the host without being asked.
    pub runs_by_itself: Vec<Listed>,
    pub already: Vec<Untrusted>,
    /// Changed on the host in the moment of writing: they stay as they are there.
    pub left: Vec<Listed>,
    /// What the host has of the session now, for the baseline: what was written, and what was there already.
    #[serde(skip)]
    pub brought: Vec<PathBuf>,
    pub base: ObjectId,
    pub patch_sha256: String,
}
