//! The operator's own proxy: what its setting says, what the variables say that other programs take theirs from, and which
//! hosts it is for. Pure.
//!
//! Credentials are never taken out of a text here, only found to be in it: whoever connects reads them when it does.

use crate::config::authority::{Authority, AuthorityError, Port};
use crate::config::host::{DnsName, Host};
use crate::config::network::{OutgoingProxy, ProxyAddress, ProxyException};
use crate::config::rule::{self, RuleError};
use serde::{Serialize, Serializer};
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

/// Variables that name a proxy for TLS connections, as other programs read them: the first that is set counts.
pub const VARIABLES: [&str; 4] = ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"];

/// Variables that list what is reached without it.
pub const EXCEPTION_VARIABLES: [&str; 2] = ["NO_PROXY", "no_proxy"];

/// `network.proxy`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProxySetting {
    /// `none`: no proxy, whatever the environment says.
    Off,
    At(ProxyAddress),
}

/// Why a text names no proxy. Never repeats it: people write passwords there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ProxyError {
    #[error("a proxy is written `http://proxy.example.com:3128`")]
    NotAnAddress,
    #[error("only a proxy that is spoken to by plain `http://` can be used, no `https://` and no SOCKS one")]
    Scheme,
    #[error(
        "user and password do not belong in the proxy's address: use `network.proxy_credentials = {{ env = \"NAME\" }}` beside it"
    )]
    UserInformation,
    #[error("the address of a proxy ends with its port")]
    Path,
    #[error(transparent)]
    Authority(#[from] AuthorityError),
}

impl FromStr for ProxySetting {
    type Err = ProxyError;

    fn from_str(text: &str) -> Result<Self, ProxyError> {
        match text {
            "none" => Ok(Self::Off),
            address => address.parse().map(Self::At),
        }
    }
}

impl FromStr for ProxyAddress {
    type Err = ProxyError;

    /// `http://host[:port]`; without a port, 80.
    fn from_str(text: &str) -> Result<Self, ProxyError> {
        let parts = Parts::of(text);
        if parts.user_information.is_some() {
            return Err(ProxyError::UserInformation);
        }
        match parts.scheme {
            Some(_) => parts.address(),
            None => Err(ProxyError::NotAnAddress),
        }
    }
}

impl fmt::Display for ProxyAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}:{}", self.host.in_authority(), self.port)
    }
}

impl Serialize for ProxyAddress {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Whether a variable's URL holds `user:password@`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UserInformation {
    Absent,
    Present,
}

/// What one of [`VARIABLES`] names. Unlike in the setting, `host:port` is enough and credentials may be in it: that is how
/// other programs have these variables.
///
/// # Errors
///
/// Where the variable names a proxy of another kind, or nothing that is one.
pub fn of_variable(text: &str) -> Result<(ProxyAddress, UserInformation), ProxyError> {
    let parts = Parts::of(text);
    let held = match user_information(text) {
        Some(_) => UserInformation::Present,
        None => UserInformation::Absent,
    };
    Ok((parts.address()?, held))
}

/// `user:password` of a proxy's URL as it stands there, percent-encoded; `None` where the URL has none.
pub fn user_information(url: &str) -> Option<&str> {
    Parts::of(url).user_information.filter(|text| !text.is_empty())
}

/// The parts of `[scheme://][user information@]rest`.
struct Parts<'t> {
    scheme: Option<&'t str>,
    user_information: Option<&'t str>,
    rest: &'t str,
}

impl<'t> Parts<'t> {
    fn of(text: &'t str) -> Self {
        let (scheme, rest) = match text.split_once("://") {
            Some((scheme, rest)) => (Some(scheme), rest),
            None => (None, text),
        };
        let authority_end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        // An `@` in a password is often left as it is: the last one counts, as elsewhere.
        let (user_information, rest) = match rest[..authority_end].rfind('@') {
            Some(at) => (Some(&rest[..at]), &rest[at + 1..]),
            None => (None, rest),
        };
        Self {
            scheme,
            user_information,
            rest,
        }
    }

    fn address(&self) -> Result<ProxyAddress, ProxyError> {
        if self.scheme.is_some_and(|scheme| !scheme.eq_ignore_ascii_case("http")) {
            return Err(ProxyError::Scheme);
        }
        let authority = self.rest.strip_suffix('/').unwrap_or(self.rest);
        if authority.contains(['/', '?', '#']) {
            return Err(ProxyError::Path);
        }
        let Authority { host, port } = authority.parse()?;
        Ok(ProxyAddress {
            host,
            port: port.unwrap_or(Port::HTTP),
        })
    }
}

impl FromStr for ProxyException {
    type Err = RuleError;

    /// One item of `network.no_proxy`: `*`, a name (also as `.name` or `*.name`), an address or a network.
    fn from_str(text: &str) -> Result<Self, RuleError> {
        if text == "*" {
            return Ok(Self::Everything);
        }
        if let Some(name) = text.strip_prefix("*.").or_else(|| text.strip_prefix('.')) {
            return Ok(Self::Host(Host::Name(name.parse::<DnsName>()?)));
        }
        match text.contains('/') {
            true => rule::network(text).map(Self::Addresses),
            false => Ok(Self::Host(text.parse()?)),
        }
    }
}

/// What one of [`EXCEPTION_VARIABLES`] lists. Every program has its own notations there (`10.*`, `host:port`): what is none
/// of ours is passed over, and such a host is reached through the proxy.
pub fn exceptions_of_variable(text: &str) -> Vec<ProxyException> {
    let items = text.split([',', ' ']).map(str::trim);
    items.filter_map(|item| item.parse().ok()).collect()
}

impl ProxyException {
    pub fn covers(&self, host: &Host) -> bool {
        match (self, host) {
            (Self::Everything, _) => true,
            (Self::Host(Host::Name(exception)), Host::Name(name)) => name == exception || name.is_below(exception),
            (Self::Host(exception), host) => exception == host,
            (Self::Addresses(network), Host::Address(address)) => network.contains(address),
            (Self::Addresses(_), Host::Name(_)) => false,
        }
    }
}

impl fmt::Display for ProxyException {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Everything => f.write_str("*"),
            Self::Host(host) => host.fmt(f),
            Self::Addresses(network) => network.fmt(f),
        }
    }
}

impl Serialize for ProxyException {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl OutgoingProxy {
    /// Whether connections to this host go through the proxy. Those to this machine never do: there, its loopback would be
    /// another machine's.
    pub fn is_for(&self, host: &Host) -> bool {
        !is_loopback(host) && !self.exceptions.iter().any(|exception| exception.covers(host))
    }
}

fn is_loopback(host: &Host) -> bool {
    match host {
        Host::Address(IpAddr::V4(address)) => address.is_loopback(),
        Host::Address(IpAddr::V6(address)) => address.is_loopback(),
        Host::Name(name) => name.is_localhost(),
    }
}

#[cfg(test)]
mod tests;
