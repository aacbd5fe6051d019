//! What a session works on: its own copy of the folder, what changed in it and how that is brought back; or the folder itself.
//!
//! The copy is written by the container, so it is hostile when read back: every such read goes through
//! [`tree::Tree`] (openat2 beneath the root, no symlinks followed, regular files with one link, size caps). This room
//! must never follow a link out of a tree, and nothing in it but [`apply`] writes content to the user's folder.
//!
//! - [`root`]: which folder may be a workspace.
//! - [`bind`]: a folder that is mounted itself: what of it the container may never write.
//! - [`git`]: the one way to run git.
//! - [`listing`]: what git lists, parsed (pure).
//! - [`tree`]: reading a tree that the container could write.
//! - [`removal`]: takes away a tree that the container wrote.
//! - [`selection`]: which entries of a folder are taken.
//! - [`bounds`]: what a copy may take.
//! - [`copy`]: the bounded copy.
//! - [`blob`]: files as git stores and names them.
//! - [`fast_import`]: what `git fast-import` is told (pure).
//! - [`inventory`]: what a copy holds, as git names it.
//! - [`shadow`]: a session's private git directory, with the baseline.
//! - [`inner_git`]: the copy's own `.git`.
//! - [`snapshot`]: takes a snapshot of a folder: the copy, its `.git`, the baseline.
//! - [`ignore`]: what the `.gitignore` files of a tree say.
//! - [`compare`]: the container's tree against the baseline, as a second tree beside the shadow.
//! - [`changes`]: what git says of the two trees: files, figures, patch.
//! - [`advance`]: the baseline follows what was applied.
//! - [`sweep`]: what a dead process left in a shadow.
//! - [`apply`]: the only writer of content to the user's folder.

pub mod advance;
pub mod apply;
pub mod bind;
pub mod blob;
pub mod bounds;
pub mod changes;
pub mod compare;
pub mod copy;
pub mod fast_import;
#[cfg(test)]
mod fixtures;
pub mod git;
pub mod ignore;
pub mod inner_git;
pub mod inventory;
pub mod listing;
pub mod removal;
pub mod root;
pub mod selection;
pub mod shadow;
pub mod snapshot;
pub mod sweep;
pub mod tree;
