//! Files of ours that several processes share and that a machine may go down under: opened only where they are files, locked for a
//! bounded time, replaced whole.
//!
//! It must never know what a file is about: a caller names it, its words for an error, and how long it waits. All of it blocks:
//! not for runtime threads.

pub mod lock;
pub mod regular;
pub mod replace;
