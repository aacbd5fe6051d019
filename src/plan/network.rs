//! What a session may reach, and what its commands are told of it. Pure.

use crate::config::network::{EgressLimits, NetworkSettings};
use crate::config::rule::Rule;
use crate::config::{Origin, Sourced};
use crate::egress::Policy;
use crate::host::packages::PackageSource;
use crate::plan::command_environment::command_environment;
use crate::plan::paths;
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// The network part of a plan.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct NetworkPlan {
    pub policy: Policy,
    pub limits: EgressLimits,
    /// What `network.from` came to, and from which client.
    pub sources: Vec<PackageSource>,
    /// The operator's bundle on the host; what is mounted inside holds the host's authorities as well.
    pub ca_bundle: Option<PathBuf>,
    /// Cargo's configuration inside, where the host's cargo has mirrors.
    pub cargo_config: Option<String>,
    /// Set for every command, beside what Codex lets it inherit; never for Codex itself.
    pub command_environment: BTreeMap<String, String>,
}

/// `narrowed_to` is what the tool call asked for.
pub fn network(settings: &NetworkSettings, sources: &[PackageSource], narrowed_to: Option<&[Rule]>) -> NetworkPlan {
    let derived = sources.iter().flat_map(|source| {
        let origin = Origin::Client {
            name: source.client.as_str(),
        };
        source
            .rules
            .iter()
            .map(move |rule| Sourced::new(rule.clone(), origin.clone()))
    });
    let policy = Policy::new(settings, derived.collect());
    let policy = match narrowed_to {
        None => policy,
        Some(rules) => {
            let origin = Origin::Call { parameter: "network" };
            policy.narrowed(
                rules
                    .iter()
                    .map(|rule| Sourced::new(rule.clone(), origin.clone()))
                    .collect(),
            )
        }
    };
    NetworkPlan {
        policy,
        limits: settings.limits.clone(),
        ca_bundle: settings.ca_bundle.as_ref().map(|bundle| bundle.value.clone()),
        cargo_config: sources.iter().find_map(|source| source.cargo_config.clone()),
        command_environment: command_environment(settings.ca_bundle.as_ref().map(|_| paths::CA_BUNDLE), sources),
        sources: sources.to_vec(),
    }
}

/// Nothing is allowed but the model endpoint, every bound is the default.
#[cfg(test)]
pub fn closed() -> NetworkPlan {
    use crate::config::environment::Environment;
    use crate::config::resolve::{ConfigFlags, Layers, resolve};
    let environment = Environment::from_pairs([("HOME", "/home/u")]);
    let config = resolve(Layers::default(), &environment, &ConfigFlags::default());
    network(&config.expect("the defaults resolve").network, &[], None)
}
