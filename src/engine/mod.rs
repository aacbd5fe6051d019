//! The engines: LaunchPlan → command line, and the few short commands we give them.
//!
//! [`capabilities`] holds each difference between engines as a predicate with its reason; nothing else in the crate
//! asks "is it podman?". [`argv`] is pure. [`client`] is the only place that runs an engine's short commands (`ps`,
//! `inspect`, `kill`, `rm`); the long-lived `run` belongs to [`crate::supervise`].

pub mod argv;
pub mod capabilities;
pub mod client;
