//! `[network]`: layers → settings.

use super::{Stack, bad_value, needed};
use crate::config::Sourced;
use crate::config::authority::{Authority, Port};
use crate::config::breadth;
use crate::config::error::{BadValue, ConfigError};
use crate::config::host::Host;
use crate::config::key::{self, Key};
use crate::config::layer::{FileLayer, ListValues, NetworkValues};
use crate::config::network::{EgressLimits, MOST_CONNECTIONS, NetworkSettings, PackageClient, Reach};
use crate::config::resolve::ConfigFlags;
use crate::config::rule::{self, AllowList, Rule};
use std::net::{IpAddr, SocketAddr};
use toml::Spanned;

/// More than a container of this size can open; a rate that bounds nothing is a slip.
const MOST_CONNECTIONS_PER_SECOND: u32 = 10_000;

/// One list of a file's `[network]`.
type InFile = fn(&NetworkValues) -> Option<&ListValues>;

impl Stack<'_> {
    pub(super) fn network(&self, flags: &ConfigFlags) -> Result<NetworkSettings, ConfigError> {
        let reach = self.reach()?;
        let allow = self.allow(flags)?;
        if reach.value == Reach::Restricted {
            allow.iter().try_for_each(check_breadth)?;
        }
        Ok(NetworkSettings {
            allow,
            deny: self.every_list(key::NETWORK_DENY, |v| v.deny.as_ref(), parsed)?,
            from: self.package_clients()?,
            private: self.list(
                key::NETWORK_PRIVATE,
                |v| v.private.as_ref(),
                |text| Ok(rule::network(text)?),
            )?,
            reach,
            nameservers: self.list(key::NETWORK_NAMESERVERS, |v| v.nameservers.as_ref(), name_server)?,
            proxy: self.proxy()?,
            ca_bundle: self.value_of(
                key::NETWORK_CA_BUNDLE,
                |v| v.network.ca_bundle.as_ref(),
                None,
                |text| self.path(text),
            )?,
            limits: self.egress_limits()?,
        })
    }

    fn reach(&self) -> Result<Sourced<Reach>, ConfigError> {
        let key = key::NETWORK_UNRESTRICTED;
        let unrestricted = needed(key, self.value(key, |v| v.network.unrestricted.as_ref(), None)?)?;
        let reach = match unrestricted.value {
            true => Reach::Unrestricted,
            false => Reach::Restricted,
        };
        Ok(Sourced::new(reach, unrestricted.origin))
    }

    fn allow(&self, flags: &ConfigFlags) -> Result<Vec<Sourced<Rule>>, ConfigError> {
        let key = key::NETWORK_ALLOW;
        let in_files = self.list(key, |v| v.allow.as_ref(), parsed)?;
        // The list as a whole belongs to the variable or the flag.
        let beyond_files = self.value_of(key, |_| None::<&Spanned<String>>, flags.network.clone(), parsed)?;
        Ok(match beyond_files {
            None => in_files,
            Some(Sourced {
                value: AllowList(rules),
                origin,
            }) => rules
                .into_iter()
                .map(|rule| Sourced::new(rule, origin.clone()))
                .collect(),
        })
    }

    /// Each is asked once, however often it is named.
    fn package_clients(&self) -> Result<Vec<Sourced<PackageClient>>, ConfigError> {
        let named = self.list(key::NETWORK_FROM, |v| v.from.as_ref(), parsed)?;
        let mut clients: Vec<Sourced<PackageClient>> = Vec::new();
        for client in named {
            if clients.iter().all(|known| known.value != client.value) {
                clients.push(client);
            }
        }
        Ok(clients)
    }

    fn egress_limits(&self) -> Result<EgressLimits, ConfigError> {
        let bytes = key::NETWORK_BYTES;
        Ok(EgressLimits {
            connections: self.number(
                key::NETWORK_CONNECTIONS,
                |v| v.network.connections.as_ref(),
                1..=MOST_CONNECTIONS,
            )?,
            connections_per_second: self.number(
                key::NETWORK_CONNECTIONS_PER_SECOND,
                |v| v.network.connections_per_second.as_ref(),
                1..=MOST_CONNECTIONS_PER_SECOND,
            )?,
            bytes: needed(bytes, self.value(bytes, |v| v.network.bytes.as_ref(), None)?)?,
            bytes_per_second: self.value(
                key::NETWORK_BYTES_PER_SECOND,
                |v| v.network.bytes_per_second.as_ref(),
                None,
            )?,
            connect: self.period(key::NETWORK_CONNECT, |v| v.network.connect.as_ref(), None)?,
            idle: self.period(key::NETWORK_IDLE, |v| v.network.idle.as_ref(), None)?,
            total: self.period(key::NETWORK_TOTAL, |v| v.network.total.as_ref(), None)?,
        })
    }

    /// The list of the strongest file that has the key; empty where none has it.
    fn list<T>(
        &self,
        key: Key,
        in_file: InFile,
        parse: impl Fn(&str) -> Result<T, BadValue>,
    ) -> Result<Vec<Sourced<T>>, ConfigError> {
        Ok(self.list_if_set(key, in_file, parse)?.unwrap_or_default())
    }

    /// As [`Self::list`]; `None` where no file has the key.
    pub(super) fn list_if_set<T>(
        &self,
        key: Key,
        in_file: InFile,
        parse: impl Fn(&str) -> Result<T, BadValue>,
    ) -> Result<Option<Vec<Sourced<T>>>, ConfigError> {
        let mut strongest = None;
        for file in self.files {
            if let Some(items) = in_file(&file.values.network) {
                strongest = Some(list_of(file, key, items, &parse)?);
            }
        }
        Ok(strongest)
    }

    /// The lists of all files together.
    fn every_list<T>(
        &self,
        key: Key,
        in_file: InFile,
        parse: impl Fn(&str) -> Result<T, BadValue>,
    ) -> Result<Vec<Sourced<T>>, ConfigError> {
        let mut union = Vec::new();
        for file in self.files {
            if let Some(items) = in_file(&file.values.network) {
                union.extend(list_of(file, key, items, &parse)?);
            }
        }
        Ok(union)
    }
}

pub(super) fn list_of<T>(
    file: &FileLayer,
    key: Key,
    items: &ListValues,
    parse: &impl Fn(&str) -> Result<T, BadValue>,
) -> Result<Vec<Sourced<T>>, ConfigError> {
    let item = |written: &Spanned<String>| {
        let value = parse(written.get_ref()).map_err(|reason| bad_value(file, key.name, written.span(), reason))?;
        Ok(Sourced::new(value, file.origin(written.span())))
    };
    items.iter().map(item).collect()
}

pub(super) fn parsed<T>(text: &str) -> Result<T, BadValue>
where
    T: std::str::FromStr,
    BadValue: From<T::Err>,
{
    Ok(text.parse()?)
}

fn check_breadth(rule: &Sourced<Rule>) -> Result<(), ConfigError> {
    breadth::check(&rule.value.pattern).map_err(|reason| ConfigError::TooBroad {
        at: rule.origin.clone(),
        rule: rule.value.clone(),
        reason,
    })
}

fn name_server(text: &str) -> Result<SocketAddr, BadValue> {
    // IPv6 without brackets has no port behind it.
    let authority = match text.parse::<IpAddr>() {
        Ok(IpAddr::V6(_)) => format!("[{text}]").parse(),
        _ => text.parse(),
    };
    match authority {
        Ok(Authority {
            host: Host::Address(address),
            port,
        }) => Ok(SocketAddr::new(address, port.unwrap_or(Port::DNS).get())),
        _ => Err(BadValue::NameServer),
    }
}

#[cfg(test)]
mod tests;
