//! The engines: LaunchPlan → command line, and the few short commands we give them.
//!
//! Nothing else in the crate asks "is it podman?", and nothing here decides policy: a command line says what the
//! plan says, and the isolation that no plan may vary ([`argv`]'s constants). It must never talk to an engine's API, nor give a client an environment that was not allowed by name.
//!
//! - [`capabilities`]: each difference between engines as a predicate with its reason.
//! - [`argv`]: the command lines; pure.
//! - [`listing`]: what `ps` and `image inspect` print; pure.
//! - [`environment`]: which variables an engine's client may see; `host` has it, because images are built by the same
//!   rule.
//! - [`confirmations`]: whether containers are gone, asked of many in one command.
//! - [`client`]: runs the short commands that sessions need (`ps`, `inspect`, `kill`, `rm`); the long-lived `run`
//!   belongs to [`crate::supervise`]. Questions about the machine are [`crate::host`]'s, those about images
//!   [`crate::image`]'s; `cli/demo` looks at what is left by itself.

pub mod argv;
pub mod capabilities;
pub mod client;
pub mod confirmations;
#[cfg(test)]
pub(crate) mod fixtures;
pub mod listing;

pub use crate::host::client_environment as environment;
