//! A host as network rules and the relay know it: a canonical name, or an address. Pure.
//!
//! What two programs could read differently is no host here. A name is lower-case ASCII without a trailing dot, so two
//! spellings of one name are one value; a text that some resolver would take for an address (`0177.0.0.1`, `127.1`,
//! `2130706433`, `0x7f.1`) is refused instead of looked up; an IPv4 address inside an IPv6 one is refused, because a check
//! of the outer says nothing about the inner.

use serde::{Serialize, Serializer};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// A DNS name: 1 to 253 of `a-z 0-9 - _ .`, labels of 1 to 63 that neither begin nor end with `-` (RFC 1123, and the
/// underscore that is in use), the last one no number. No trailing dot, no upper case, no IDN but as `xn--`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct DnsName(String);

impl DnsName {
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether this name is `suffix` with at least one label before it.
    pub fn is_below(&self, suffix: &DnsName) -> bool {
        self.0
            .strip_suffix(suffix.as_str())
            .is_some_and(|rest| rest.ends_with('.'))
    }

    /// `localhost` and all names below it, which are loopback without anybody being asked (RFC 6761).
    pub fn is_localhost(&self) -> bool {
        self.labels().next_back() == Some("localhost")
    }

    pub fn labels(&self) -> impl DoubleEndedIterator<Item = &str> {
        self.0.split('.')
    }
}

impl fmt::Display for DnsName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Why a text is no host. Never repeats it: it may come from a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HostError {
    #[error("a host is a name such as `api.example.com`, or an address")]
    Empty,
    #[error("a name has letters, digits, `-` and `_` between its dots, and no control byte")]
    Character,
    #[error("a name is ASCII: write an international one in its `xn--` form")]
    NotAscii,
    #[error("a name has no empty label: two dots in a row, or one at its beginning")]
    EmptyLabel,
    #[error("a label neither begins nor ends with `-`")]
    Hyphen,
    #[error("a label has at most 63 characters, and a name at most 253")]
    TooLong,
    #[error("an IPv4 address is four decimal numbers without leading zeros, such as `192.0.2.7`")]
    AddressLike,
    #[error("an IPv4 address inside an IPv6 one says one thing and means another: write the IPv4 address")]
    Ipv4InIpv6,
    #[error("an IPv6 address stands in brackets where a port may follow, as in `[2001:db8::1]:443`, and has no zone")]
    NotIpv6,
}

impl FromStr for DnsName {
    type Err = HostError;

    fn from_str(text: &str) -> Result<Self, HostError> {
        if !text.is_ascii() {
            return Err(HostError::NotAscii);
        }
        // One trailing dot only says "absolute", as every name here is.
        let text = text.strip_suffix('.').unwrap_or(text);
        if text.is_empty() {
            return Err(HostError::Empty);
        }
        if text.len() > 253 {
            return Err(HostError::TooLong);
        }
        for label in text.split('.') {
            check_label(label)?;
        }
        let name = text.to_ascii_lowercase();
        match name.rsplit('.').next().is_some_and(is_number) {
            true => Err(HostError::AddressLike),
            false => Ok(Self(name)),
        }
    }
}

/// As in the URL standard: a last label that is a number makes an address of the whole, in one notation or another.
fn is_number(last_label: &str) -> bool {
    match last_label.strip_prefix("0x") {
        Some(digits) => digits.bytes().all(|c| c.is_ascii_hexdigit()),
        None => last_label.bytes().all(|c| c.is_ascii_digit()),
    }
}

fn check_label(label: &str) -> Result<(), HostError> {
    if label.is_empty() {
        return Err(HostError::EmptyLabel);
    }
    if label.len() > 63 {
        return Err(HostError::TooLong);
    }
    if !label
        .bytes()
        .all(|c| c.is_ascii_alphanumeric() || c == b'-' || c == b'_')
    {
        return Err(HostError::Character);
    }
    if label.starts_with('-') || label.ends_with('-') {
        return Err(HostError::Hyphen);
    }
    Ok(())
}

/// A name or an address; IPv6 is written without brackets by `Display`, with them by [`Host::in_authority`].
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Host {
    Name(DnsName),
    Address(IpAddr),
}

impl Host {
    /// As it stands before a port: IPv6 in brackets.
    pub fn in_authority(&self) -> String {
        match self {
            Self::Address(IpAddr::V6(address)) => format!("[{address}]"),
            other => other.to_string(),
        }
    }
}

impl FromStr for Host {
    type Err = HostError;

    /// Takes IPv6 with brackets and without.
    fn from_str(text: &str) -> Result<Self, HostError> {
        let bracketed = text
            .strip_prefix('[')
            .map(|rest| rest.strip_suffix(']').ok_or(HostError::NotIpv6));
        match bracketed {
            Some(inner) => ipv6(inner?).map(Self::Address),
            None if text.contains(':') => ipv6(text).map(Self::Address),
            // `Ipv4Addr` takes neither leading zeros nor fewer than four parts.
            None => match text.parse::<Ipv4Addr>() {
                Ok(address) => Ok(Self::Address(address.into())),
                Err(_) => text.parse().map(Self::Name),
            },
        }
    }
}

fn ipv6(text: &str) -> Result<IpAddr, HostError> {
    let address: Ipv6Addr = text.parse().map_err(|_| HostError::NotIpv6)?;
    match embedded_ipv4(address) {
        Some(_) => Err(HostError::Ipv4InIpv6),
        None => Ok(address.into()),
    }
}

/// The IPv4 address that an IPv6 one stands for: mapped (`::ffff:a.b.c.d`), translated (`::ffff:0:a.b.c.d`), compatible
/// (`::a.b.c.d`), by NAT64 (`64:ff9b::/96`, and `64:ff9b:1::/48` read as if its prefix were 96 bits), by 6to4
/// (`2002::/16`) or Teredo (`2001::/32`). `::` and `::1` are themselves.
pub fn embedded_ipv4(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let (high, low) = match address.segments() {
        [0, 0, 0, 0, 0, 0, 0, 0 | 1] => return None,
        [0, 0, 0, 0, 0, 0 | 0xffff, high, low]
        | [0, 0, 0, 0, 0xffff, 0, high, low]
        | [0x64, 0xff9b, 0, 0, 0, 0, high, low]
        | [0x64, 0xff9b, 1, _, _, _, high, low]
        | [0x2002, high, low, ..] => (high, low),
        // Teredo writes its client's address inverted.
        [0x2001, 0, _, _, _, _, high, low] => (!high, !low),
        _ => return None,
    };
    let [a, b] = high.to_be_bytes();
    let [c, d] = low.to_be_bytes();
    Some(Ipv4Addr::new(a, b, c, d))
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => name.fmt(f),
            Self::Address(address) => address.fmt(f),
        }
    }
}

impl Serialize for Host {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests;
