//! The session's own copy of the folder, and what changed in it.
//!
//! The copy is written by the container, so it is hostile when read back: every such read goes through
//! [`tree::Tree`] (openat2 beneath the root, no symlinks followed, regular files with one link, size caps). This room
//! must never follow a link out of a tree, and nothing in it but [`apply`] writes to the user's folder.
//!
//! - [`git`]: the one way to run git.
//! - [`root`]: which folder may be a workspace.
//! - [`tree`]: reading a tree that the container could write.
//! - [`manifest`]: what a copy held when it was made.
//! - [`bounds`]: what a copy may take.
//! - [`copy`]: the bounded copy, with its manifest.
//! - [`diff`]: manifest against tree → changes.
//! - [`patch`]: changes → a patch in git's form (pure).
//! - [`apply`]: the only writer to the user's folder.

pub mod apply;
pub mod bounds;
pub mod copy;
pub mod diff;
pub mod git;
pub mod manifest;
pub mod patch;
pub mod root;
pub mod tree;
