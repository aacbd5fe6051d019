//! The network part of what `plan` prints for a person. Pure.

use super::{Row, from, row};
use crate::config::network::{NetworkSettings, OutgoingProxy, Reach, Resolution};
use crate::config::quantity::Period;
use crate::config::{Config, Sourced};
use crate::host::packages::PackageSource;
use crate::plan::network::NetworkPlan;
use crate::plan::paths;
use std::fmt::Display;

/// What a session may reach, each with where it came from. How it is reached is shown where that is not as usual.
pub fn rows(config: &Config, plan: &NetworkPlan) -> Vec<Row> {
    let settings = &config.network;
    let policy = &plan.policy;
    let mut rows = list("allow", &policy.allow);
    if rows.is_empty() {
        rows.push(row("allow", "nothing but the model endpoint", ""));
    }
    rows.extend(policy.narrowed_to.iter().flat_map(|rules| list("narrowed to", rules)));
    rows.extend(list("deny", &policy.deny));
    rows.extend(list("private", &policy.private));
    if settings.reach.value == Reach::Unrestricted {
        rows.push(row("unrestricted", "true", from(&settings.reach.origin)));
    }
    rows.extend(asked(settings, &plan.sources));
    rows.extend(list("nameservers", &settings.nameservers));
    rows.extend(settings.proxy.iter().flat_map(proxy));
    rows.extend(settings.ca_bundle.as_ref().map(|bundle| {
        let mounted = format!("{} (inside: {})", bundle.value.display(), paths::CA_BUNDLE);
        row("ca_bundle", mounted, from(&bundle.origin))
    }));
    rows.extend(limits(settings));
    rows
}

fn list<T: Display>(name: &str, values: &[Sourced<T>]) -> Vec<Row> {
    let values = values
        .iter()
        .map(|value| (value.value.to_string(), from(&value.origin)));
    named_once(name, values)
}

/// Which programs said what the rules above come from.
fn asked(settings: &NetworkSettings, sources: &[PackageSource]) -> Vec<Row> {
    let values = sources.iter().map(|source| {
        let named = settings.from.iter().find(|named| named.value == source.client);
        let origin = named.map(|named| from(&named.origin)).unwrap_or_default();
        (format!("{} ({})", source.client, source.program.display()), origin)
    });
    named_once("from", values)
}

/// The name stands in the first row only.
fn named_once(name: &str, values: impl Iterator<Item = (String, String)>) -> Vec<Row> {
    let names = std::iter::once(name).chain(std::iter::repeat(""));
    names
        .zip(values)
        .map(|(name, (value, origin))| row(name, value, origin))
        .collect()
}

fn proxy(proxy: &OutgoingProxy) -> Vec<Row> {
    let mut rows = vec![row("proxy", &proxy.address.value, from(&proxy.address.origin))];
    rows.extend(
        proxy
            .exceptions
            .iter()
            .map(|exception| row("", format!("but for {exception}"), "")),
    );
    if proxy.resolution == Resolution::ByProxy {
        rows.push(row("", "resolves names itself: their addresses are not checked", ""));
    }
    rows
}

fn limits(settings: &NetworkSettings) -> Vec<Row> {
    let limits = &settings.limits;
    let times = [
        ("connect", &limits.connect),
        ("idle", &limits.idle),
        ("total", &limits.total),
    ];
    let mut rows = vec![
        sourced("connections", &limits.connections),
        sourced("connections_per_second", &limits.connections_per_second),
        sourced("bytes", &limits.bytes),
    ];
    rows.extend(
        limits
            .bytes_per_second
            .iter()
            .map(|rate| sourced("bytes_per_second", rate)),
    );
    rows.extend(times.map(|(name, time)| row(name, Period::from(time.value), from(&time.origin))));
    rows
}

fn sourced<T: Display>(name: &str, value: &Sourced<T>) -> Row {
    row(name, &value.value, from(&value.origin))
}
