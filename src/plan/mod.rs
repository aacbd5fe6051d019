//! (Config, Request, HostFacts, ImageFacts) → [`LaunchPlan`], and `Ready` against the plan → proof or refusal.
//!
//! Pure: it never reads the clock, the environment or a file, and never talks to an engine. A plan says everything
//! about a launch that can vary. What never varies is in no plan: the isolation flags are constants of
//! [`crate::engine::argv`], and [`proof`] holds what the kernel shows of them against the same rules. Beyond those two
//! nothing happens. Whole plans and whole command lines are snapshot-tested.
//!
//! - [`identity`]: session ids and the names derived from them.
//! - [`request`]: what one session asks for.
//! - [`launch`]: the plan itself, as data.
//! - [`user`]: which user the container runs as, and whom its files belong to on the host.
//! - [`network`]: what the session may reach.
//! - [`command_environment`]: what its commands are told of that: variables.
//! - [`paths`]: where things are inside the container.
//! - [`secrets`]: its secret mounts.
//! - [`enforcement`]: which limits this machine can't enforce.
//! - [`decide`]: puts the plan together.
//! - [`proven`]: what was proven about limits.
//! - [`proof`]: compares what the guest read back with the plan.

pub mod command_environment;
pub mod decide;
pub mod enforcement;
#[cfg(test)]
pub(crate) mod fixtures;
pub mod identity;
pub mod launch;
pub mod network;
pub mod paths;
pub mod proof;
pub mod proven;
pub mod request;
pub mod secrets;
pub mod user;

pub use decide::{PlanError, plan};
pub use launch::LaunchPlan;
pub use request::Request;
