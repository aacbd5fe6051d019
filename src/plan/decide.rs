//! Puts the plan together.

use crate::config::Config;
use crate::host::facts::{HostFacts, ImageFacts};
use crate::plan::launch::LaunchPlan;
use crate::plan::request::Request;

/// Why no plan could be made: what was refused, by which rule from where, and what mends it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {}

pub fn plan(
    _config: &Config,
    _request: &Request,
    _facts: &HostFacts,
    _image: &ImageFacts,
) -> Result<LaunchPlan, PlanError> {
    unimplemented!()
}
