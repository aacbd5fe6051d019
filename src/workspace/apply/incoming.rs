//! The changes of a session, as the comparison of two trees has them, and what of them can be applied at all. Pure.

use crate::workspace::apply::decide::{Change, Refusal, State};
use crate::workspace::apply::path::{PathFlaw, RelativePath, escaped};
use crate::workspace::blob::{Entry, Mode};
use crate::workspace::compare::TreeChange;
use crate::workspace::git::ObjectId;
use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::ffi::OsStrExt;

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
                Err(refusal) => incoming
                    .refused
                    .push((escaped(change.path.as_os_str().as_bytes()), refusal)),
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
        path: RelativePath::parse(change.path.as_os_str().as_bytes())?,
        base: state(change.old.as_ref()),
        session: state(change.new.as_ref()),
    })
}

fn state(entry: Option<&Entry>) -> State {
    let Some(Entry { mode, id }) = entry else {
        return State::Absent;
    };
    let id = id.clone();
    match mode {
        Mode::Symlink => State::Symlink { id },
        Mode::File | Mode::Executable => State::File {
            id,
            executable: *mode == Mode::Executable,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::OsStr;

    fn entry(mode: Mode) -> Option<Entry> {
        let id = ObjectId::parse(&[b'a'; 40]).unwrap();
        Some(Entry { mode, id })
    }

    fn change(path: &[u8], new: Option<Entry>) -> TreeChange {
        TreeChange {
            path: OsStr::from_bytes(path).into(),
            old: None,
            new,
        }
    }

    #[test]
    fn what_can_not_be_applied_is_named_with_its_reason() {
        let changes = [
            change(b"z", entry(Mode::Executable)),
            change(b"a", entry(Mode::Symlink)),
            change(b".git/config", entry(Mode::File)),
            change(b"../\xff", entry(Mode::File)),
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
                ("z", Refusal::Path(PathFlaw::NotBelow)),
            ]
        );
    }
}
