//! The changes of a session, as the comparison of two trees has them, and what of them can be applied at all. Pure.

use crate::workspace::apply::decide::{Change, Refusal, State};
use crate::workspace::apply::path::{PathFlaw, RelativePath, escaped};
use crate::workspace::git::ObjectId;
use std::collections::{BTreeMap, BTreeSet};

/// A path that differs between the session's base and its present state; a rename is a deletion and an addition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TreeChange {
    /// Relative to the folder; any bytes.
    pub path: Vec<u8>,
    pub old: Option<TreeEntry>,
    pub new: Option<TreeEntry>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TreeEntry {
    /// Git's: 0o100644, 0o100755, 0o120000.
    pub mode: u32,
    pub id: ObjectId,
}

/// What was made of the changes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Incoming {
    /// In the order of their paths, each once.
    pub changes: Vec<Change>,
    /// By the path as it may be shown.
    pub refused: Vec<(String, Refusal)>,
}

impl Incoming {
    pub fn parse(changes: &[TreeChange]) -> Self {
        let mut incoming = Self::default();
        let mut parsed = BTreeMap::new();
        for change in changes {
            match parse(change) {
                Ok(change) => {
                    // Two trees differ in a path once.
                    if let Some(twice) = parsed.insert(change.path.clone(), change) {
                        let flaw = Refusal::Path(PathFlaw::NotBelow);
                        incoming.refused.push((twice.path.to_string(), flaw));
                    }
                }
                Err(refusal) => incoming.refused.push((escaped(&change.path), refusal)),
            }
        }
        incoming.changes = parsed.into_values().collect();
        incoming
    }

    /// The targets of the links that the session made.
    pub fn links(&self) -> impl Iterator<Item = (&RelativePath, &ObjectId)> {
        self.changes.iter().filter_map(|change| match &change.session {
            State::Symlink { id } => Some((&change.path, id)),
            _ => None,
        })
    }

    pub fn link_ids(&self) -> BTreeSet<ObjectId> {
        self.links().map(|(_, id)| id.clone()).collect()
    }
}

fn parse(change: &TreeChange) -> Result<Change, Refusal> {
    Ok(Change {
        path: RelativePath::parse(&change.path)?,
        base: state(change.old.as_ref())?,
        session: state(change.new.as_ref())?,
    })
}

fn state(entry: Option<&TreeEntry>) -> Result<State, Refusal> {
    let Some(entry) = entry else { return Ok(State::Absent) };
    let id = entry.id.clone();
    match entry.mode {
        // 0o100664 is what very old versions of git wrote.
        0o100_644 | 0o100_664 => Ok(State::File { id, executable: false }),
        0o100_755 => Ok(State::File { id, executable: true }),
        0o120_000 => Ok(State::Symlink { id }),
        _ => Err(Refusal::Kind),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(mode: u32) -> Option<TreeEntry> {
        let id = ObjectId::parse(&[b'a'; 40]).unwrap();
        Some(TreeEntry { mode, id })
    }

    fn change(path: &[u8], new: Option<TreeEntry>) -> TreeChange {
        TreeChange {
            path: path.to_owned(),
            old: None,
            new,
        }
    }

    #[test]
    fn what_can_not_be_applied_is_named_with_its_reason() {
        let changes = [
            change(b"z", entry(0o100_755)),
            change(b"a", entry(0o120_000)),
            change(b".git/config", entry(0o100_644)),
            change(b"../\xff", entry(0o100_644)),
            change(b"module", entry(0o160_000)),
            change(b"z", None),
        ];
        let incoming = Incoming::parse(&changes);
        let paths: Vec<String> = incoming.changes.iter().map(|change| change.path.to_string()).collect();
        assert_eq!(paths, ["a", "z"]);
        assert_eq!(incoming.links().count(), 1);
        let refused: Vec<(&str, Refusal)> = incoming
            .refused
            .iter()
            .map(|(path, why)| (path.as_str(), *why))
            .collect();
        assert_eq!(
            refused,
            [
                (".git/config", Refusal::Path(PathFlaw::Git)),
                (r"../\xff", Refusal::Path(PathFlaw::NotBelow)),
                ("module", Refusal::Kind),
                ("z", Refusal::Path(PathFlaw::NotBelow)),
            ]
        );
    }
}
