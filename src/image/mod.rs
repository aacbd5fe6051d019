//! The image that sessions run in: what goes in, where it comes from, and how each engine gets it.
//!
//! It must never run anything that was fetched on the host, nor accept Codex without its committed integrity value.
//!
//! - [`labels`]: the label names that an image carries, shared with the probe and the plan.

pub mod labels;
