//! `host[:port]` as it stands in a URL or in a list of servers. Pure.

use crate::config::host::{Host, HostError};
use serde::Serialize;
use std::fmt;
use std::num::NonZeroU16;
use std::str::FromStr;

/// A TCP port, 1 to 65535. Written without sign or leading zeros.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct Port(NonZeroU16);

impl Port {
    pub const HTTP: Self = Self::known(80);
    pub const HTTPS: Self = Self::known(443);
    pub const DNS: Self = Self::known(53);

    pub fn new(number: u16) -> Option<Self> {
        NonZeroU16::new(number).map(Self)
    }

    pub fn get(self) -> u16 {
        self.0.get()
    }

    const fn known(number: u16) -> Self {
        match NonZeroU16::new(number) {
            Some(number) => Self(number),
            None => Self(NonZeroU16::MIN),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a port is a number from 1 to 65535, without sign or leading zeros")]
pub struct PortError;

impl FromStr for Port {
    type Err = PortError;

    fn from_str(text: &str) -> Result<Self, PortError> {
        // What `u16` takes as well (`+443`, `0443`) would be a second spelling of one port.
        let plain = text.bytes().all(|c| c.is_ascii_digit()) && !text.starts_with('0');
        match text.parse() {
            Ok(number) if plain => Ok(Self(number)),
            _ => Err(PortError),
        }
    }
}

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A host and perhaps a port, nothing else: no user information, no path. IPv6 stands in brackets.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Authority {
    pub host: Host,
    pub port: Option<Port>,
}

/// Why a text is no authority. Never repeats it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AuthorityError {
    #[error(transparent)]
    Host(#[from] HostError),
    #[error(transparent)]
    Port(#[from] PortError),
}

/// A name of 253 bytes and its trailing dot, a colon, and a port of five digits. Addresses are shorter.
const MAX_AUTHORITY: usize = 253 + 1 + 1 + 5;

/// Stricter than RFC 3986: no user, no percent escape, no empty port, IPv6 only in brackets and without a zone.
impl FromStr for Authority {
    type Err = AuthorityError;

    fn from_str(text: &str) -> Result<Self, AuthorityError> {
        if text.len() > MAX_AUTHORITY {
            return Err(AuthorityError::Host(HostError::TooLong));
        }
        // The host ends at the bracket or at the first colon, and all that follows must be the port: were it looked for
        // from the end, two parsers could split at two places.
        let ends = match text.starts_with('[') {
            true => text.find(']').map(|bracket| bracket + 1),
            false => text.find(':'),
        };
        let (host, rest) = text.split_at(ends.unwrap_or(text.len()));
        let port = match rest.strip_prefix(':') {
            // Without brackets, nobody can tell the last group of an IPv6 address from a port.
            Some(port) if port.contains(':') => return Err(AuthorityError::Host(HostError::NotIpv6)),
            Some(port) => Some(port),
            None if rest.is_empty() => None,
            None => return Err(AuthorityError::Host(HostError::NotIpv6)),
        };
        Ok(Self {
            host: host.parse()?,
            port: port.map(str::parse).transpose()?,
        })
    }
}

impl fmt::Display for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.host.in_authority())?;
        match self.port {
            Some(port) => write!(f, ":{port}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_port_has_one_spelling() {
        assert_eq!("443".parse(), Ok(Port::HTTPS));
        assert_eq!("65535".parse::<Port>().map(Port::get), Ok(65535));
        for text in [
            "", "0", "0443", "+443", "-1", " 443", "443 ", "65536", "4\0", "٤٤٣", "4_4", "0x1",
        ] {
            assert_eq!(text.parse::<Port>(), Err(PortError), "{text:?}");
        }
    }

    #[test]
    fn a_colon_is_a_ports_or_stands_in_brackets() {
        for (text, host, port) in [
            ("Example.com", "example.com", None),
            ("example.com:8080", "example.com", Some(8080)),
            ("192.0.2.7:80", "192.0.2.7", Some(80)),
            ("[2001:db8::1]", "2001:db8::1", None),
            ("[2001:db8::1]:443", "2001:db8::1", Some(443)),
        ] {
            let authority: Authority = text.parse().unwrap();
            assert_eq!(authority.host.to_string(), host, "{text}");
            assert_eq!(authority.port.map(Port::get), port, "{text}");
        }
        for text in [
            "",
            ":",
            ":443",
            "h:",
            "h:0",
            "h:0443",
            "h:+443",
            "h:443:443",
            "::1",
            "2001:db8::1:443",
            "[::1",
            "[::1]443",
            "[::1]:",
            "[::1]:[::1]",
            "[h]:443",
            "[192.0.2.7]",
            "u@h",
            "h/p",
            "h:443/",
            "[fe80::1%eth0]:80",
            "[::1]]:80",
        ] {
            assert!(text.parse::<Authority>().is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn a_printed_authority_is_the_same(text in "[a-z0-9.:\\[\\]-]{1,24}") {
            if let Ok(authority) = text.parse::<Authority>() {
                prop_assert_eq!(authority.to_string().parse(), Ok(authority));
            }
        }
    }
}
