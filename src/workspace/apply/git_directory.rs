//! Directories that git takes for a repository though none is called `.git`. Pure.
//!
//! Where a shell's prompt or an editor asks git about such a directory, or about one in it, its configuration runs commands
//! (`core.fsmonitor`), and a push to it runs its hooks. So no change is brought into one, and none that makes one.

use crate::workspace::apply::decide::{Change, State};
use crate::workspace::apply::path::RelativePath;
use crate::workspace::git::directory::Parts;
use std::collections::{BTreeMap, BTreeSet};

/// The directories that are such a repository once the host has these changes; `None` is the folder itself. `host` is what it has
/// now. What a change takes away is not counted: another may have come back by then.
pub fn find(changes: &[Change], host: &BTreeMap<Option<RelativePath>, Parts>) -> BTreeSet<Option<RelativePath>> {
    let mut all = host.clone();
    for change in changes.iter().filter(|change| change.session != State::Absent) {
        for path in change.path.ancestors().chain([change.path.clone()]) {
            let mut parts = Parts::default();
            parts.add(path.name().as_encoded_bytes());
            if parts != Parts::default() {
                all.entry(path.parent())
                    .or_default()
                    .add(path.name().as_encoded_bytes());
            }
        }
    }
    let found = all.into_iter().filter(|(_, parts)| parts.is_git_directory());
    found.map(|(directory, _)| directory).collect()
}

/// Whether a path is in one of them.
pub fn is_in_one(path: &RelativePath, directories: &BTreeSet<Option<RelativePath>>) -> bool {
    !directories.is_empty()
        && path
            .ancestors()
            .map(Some)
            .chain([None])
            .any(|above| directories.contains(&above))
}
