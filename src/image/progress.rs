//! How the one who waits for a build is told what happens.

use std::sync::Arc;

/// Implemented by the command line for a terminal; calls come from several threads.
pub trait Progress: Send + Sync {
    /// A new step has begun; the one before has ended.
    fn step(&self, name: &str);
    /// How far the step is.
    fn bytes(&self, done: u64, total: u64);
    /// What a tool said, worth showing while it runs.
    fn line(&self, text: &str);
}

/// Shared, because unpacking and hashing run on threads of their own.
pub type SharedProgress = Arc<dyn Progress>;

/// Tells nobody.
#[derive(Debug, Clone, Copy)]
pub struct Silent;

impl Progress for Silent {
    fn step(&self, _: &str) {}
    fn bytes(&self, _: u64, _: u64) {}
    fn line(&self, _: &str) {}
}
