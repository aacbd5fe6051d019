//! Network rules as they are written: `host[:port][/tcp]`. Pure.
//!
//! ```text
//! api.example.com          that name, port 443
//! *.example.com:8443       any name below it, not itself, port 8443
//! 192.0.2.7:80             that address
//! 192.0.2.0/24  [2001:db8::]/32:443  (IPv6 in brackets: else its last group and a port look the same)
//! db.example.com:5432/tcp  whatever is spoken there: neither TLS nor HTTP is asked for
//! *                        everything (only with `network.unrestricted = true`)
//! ```

use crate::config::authority::PortError;
use crate::config::host::{DnsName, Host, HostError};
use crate::config::target::Target;
use ipnet::IpNet;
use serde::{Serialize, Serializer};
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

pub use crate::config::authority::Port;

/// Which hosts a rule is about.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Pattern {
    /// `*`
    Anything,
    Name(DnsName),
    /// `*.suffix`: at any depth, and not the suffix itself.
    Below(DnsName),
    /// A single address is a network of one.
    Addresses(IpNet),
}

impl Pattern {
    pub fn covers(&self, host: &Host) -> bool {
        match (self, host) {
            (Self::Anything, _) => true,
            (Self::Name(name), Host::Name(host)) => name == host,
            (Self::Below(suffix), Host::Name(host)) => host.is_below(suffix),
            (Self::Addresses(network), Host::Address(address)) => network.contains(address),
            _ => false,
        }
    }
}

/// What is asked of the first bytes of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Inspection {
    /// TLS whose server name is the host's, or HTTP whose `Host` is.
    Named,
    /// Nothing: `/tcp`.
    Raw,
}

/// One rule of `network.allow`. Where it names no port it means 443.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Rule {
    pub pattern: Pattern,
    pub port: Port,
    pub inspection: Inspection,
}

/// One rule of `network.deny`. Where it names no port it means all of them: a refusal that misses one is none.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct DenyRule {
    pub pattern: Pattern,
    pub port: Option<Port>,
}

/// Why a text is no rule. Never repeats it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RuleError {
    #[error(transparent)]
    Host(#[from] HostError),
    #[error(transparent)]
    Port(#[from] PortError),
    #[error("`*` stands alone, or first as in `*.example.com`")]
    Wildcard,
    #[error(
        "a network is an address and a prefix length, such as `192.0.2.0/24` or `[2001:db8::]/32`, with no bit set after the prefix"
    )]
    Network,
    #[error("a `/tcp` rule names its port, such as `db.example.com:5432/tcp`")]
    TcpWithoutPort,
    #[error("`/tcp` is for rules that allow: a rule that denies, denies everything spoken there")]
    TcpDenied,
    #[error(
        "a rule is `host`, `host:port`, `*.suffix`, an address or a network; no scheme, path or user belongs in it"
    )]
    NotARule,
}

/// That destination and nothing else.
impl From<&Target> for Rule {
    fn from(target: &Target) -> Self {
        Self {
            pattern: match &target.host {
                Host::Name(name) => Pattern::Name(name.clone()),
                Host::Address(address) => Pattern::Addresses((*address).into()),
            },
            port: target.port,
            inspection: Inspection::Named,
        }
    }
}

impl FromStr for Rule {
    type Err = RuleError;

    fn from_str(text: &str) -> Result<Self, RuleError> {
        let (rest, inspection) = match text.strip_suffix("/tcp") {
            Some(rest) => (rest, Inspection::Raw),
            None => (text, Inspection::Named),
        };
        let (pattern, port) = pattern_and_port(rest)?;
        if inspection == Inspection::Raw && port.is_none() {
            return Err(RuleError::TcpWithoutPort);
        }
        Ok(Self {
            pattern,
            port: port.unwrap_or(Port::HTTPS),
            inspection,
        })
    }
}

/// `network.allow` in one text, as the flag and the variable take it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AllowList(pub Vec<Rule>);

impl FromStr for AllowList {
    type Err = RuleError;

    /// Rules with commas between them, or the one word `none` for a list without any: nothing else can be written where an
    /// empty variable counts as unset.
    fn from_str(text: &str) -> Result<Self, RuleError> {
        match text.trim() {
            "none" => Ok(Self(Vec::new())),
            rules => rules
                .split(',')
                .map(|rule| rule.trim().parse())
                .collect::<Result<_, _>>()
                .map(Self),
        }
    }
}

impl FromStr for DenyRule {
    type Err = RuleError;

    fn from_str(text: &str) -> Result<Self, RuleError> {
        if text.ends_with("/tcp") {
            return Err(RuleError::TcpDenied);
        }
        let (pattern, port) = pattern_and_port(text)?;
        Ok(Self { pattern, port })
    }
}

fn pattern_and_port(text: &str) -> Result<(Pattern, Option<Port>), RuleError> {
    if text.contains("://") || text.contains(['@', '?', '#']) {
        return Err(RuleError::NotARule);
    }
    let (hosts, port) = match text.rsplit_once(':') {
        // The last colon of `[::1]` separates no port.
        Some((hosts, port)) if !port.contains(']') => (hosts, Some(port)),
        _ => (text, None),
    };
    // `2001:db8::1:443` names one address to one reader and another one with a port to the next.
    if hosts.contains(':') && !hosts.starts_with('[') {
        return Err(RuleError::Host(HostError::NotIpv6));
    }
    let port = port.map(str::parse).transpose()?;
    Ok((pattern(hosts)?, port))
}

fn pattern(text: &str) -> Result<Pattern, RuleError> {
    if text == "*" {
        return Ok(Pattern::Anything);
    }
    let (below, rest) = match text.strip_prefix("*.") {
        Some(suffix) => (true, suffix),
        None => (false, text),
    };
    if rest.contains('*') {
        return Err(RuleError::Wildcard);
    }
    if below {
        return Ok(Pattern::Below(rest.parse()?));
    }
    if text.contains('/') {
        return network(text).map(Pattern::Addresses);
    }
    Ok(match text.parse()? {
        Host::Name(name) => Pattern::Name(name),
        Host::Address(address) => Pattern::Addresses(address.into()),
    })
}

/// An address, or an address and a prefix length after which no bit is set; IPv6 with brackets or without.
///
/// # Errors
///
/// Where it is neither; a name is none.
pub fn network(text: &str) -> Result<IpNet, RuleError> {
    let (address, prefix) = match text.split_once('/') {
        Some((address, prefix)) => (address, Some(prefix)),
        None => (text, None),
    };
    let address = match address.parse()? {
        Host::Address(address) => address,
        // `example.com/path` is the usual mistake.
        Host::Name(_) if prefix.is_some() => return Err(RuleError::NotARule),
        Host::Name(_) => return Err(RuleError::Network),
    };
    let Some(prefix) = prefix else {
        return Ok(address.into());
    };
    // What `u8` takes as well (`+8`, `08`) would be a second spelling of one length.
    let plain = prefix.bytes().all(|c| c.is_ascii_digit()) && (prefix == "0" || !prefix.starts_with('0'));
    let length = prefix.parse().ok().filter(|_| plain).ok_or(RuleError::Network)?;
    let network = IpNet::new(address, length).map_err(|_| RuleError::Network)?;
    match network.network() == address {
        true => Ok(network),
        false => Err(RuleError::Network),
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Anything => f.write_str("*"),
            Self::Name(name) => name.fmt(f),
            Self::Below(suffix) => write!(f, "*.{suffix}"),
            Self::Addresses(network) => {
                let whole = network.prefix_len() == network.max_prefix_len();
                let address = match network.addr() {
                    IpAddr::V6(address) => format!("[{address}]"),
                    IpAddr::V4(address) => address.to_string(),
                };
                match whole {
                    true => f.write_str(&address),
                    false => write!(f, "{address}/{}", network.prefix_len()),
                }
            }
        }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.pattern, self.port)?;
        match self.inspection {
            Inspection::Named => Ok(()),
            Inspection::Raw => f.write_str("/tcp"),
        }
    }
}

impl fmt::Display for DenyRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.port {
            Some(port) => write!(f, "{}:{port}", self.pattern),
            None => self.pattern.fmt(f),
        }
    }
}

impl Serialize for Rule {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl Serialize for DenyRule {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests;
