//! The audit: an append-only chain of records, one a server process, in which each record carries the hash of the one
//! before.
//!
//! Written by this process alone; nothing of a container reaches a file here but as a bounded, redacted string of a record.
//! This room must never be asked what a container may do, and never go on silently where a record can't be written: a
//! [`journal::Journal`] that failed once has failed for good, and says so to all who wait for it.
//!
//! - [`record`]: what is in a record (pure).
//! - [`chain`]: linking, hashing and checking, line after line (pure).
//! - [`files`]: which files there are, and which of them have to go (the choice is pure).
//! - [`journal`]: the one writer.
//! - [`reader`]: stored lines, bounded, as hostile as any file.
//! - [`verify`]: every chain of a directory against its own links and against anchors.

pub mod chain;
pub mod files;
pub mod journal;
pub mod reader;
pub mod record;
pub mod verify;

pub use chain::Anchor;
pub use journal::{Failure, Journal, NotRecorded};
