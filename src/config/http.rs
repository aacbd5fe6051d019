//! `[http]`: where MCP is served over HTTP, for whom, and how much of it. Never a token, only where their digests are.

use crate::config::authority::{Authority, Port};
use crate::config::error::{BadValue, ConfigError};
use crate::config::host::Host;
use crate::config::key;
use crate::config::origin::Sourced;
use crate::config::quantity::ByteSize;
use serde::{Serialize, Serializer};
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct HttpSettings {
    pub listen: Sourced<ListenAddress>,
    /// Whether a proxy that the operator runs stands before this server.
    pub front: Sourced<Front>,
    /// Beside the names of this machine's loopback, what a request's `Host` may be.
    pub allowed_hosts: Vec<Sourced<AllowedHost>>,
    /// What a browser's `Origin` may be; none is allowed that is not here.
    pub allowed_origins: Vec<Sourced<AllowedOrigin>>,
    /// The longest body of one request.
    pub max_body: Sourced<ByteSize>,
    /// Connections at once.
    pub connections: Sourced<u32>,
    /// Requests a second of one identity (of one address, where there are no tokens), sustained.
    pub requests_per_second: Sourced<u32>,
    /// The file that has the tokens' names and digests.
    /// `None`: none is named, and there is no home that has one.
    pub tokens: Option<Sourced<PathBuf>>,
}

impl HttpSettings {
    /// # Errors
    /// [`ConfigError::NoHome`] where nobody said where it is.
    pub fn tokens_file(&self) -> Result<&Sourced<PathBuf>, ConfigError> {
        self.tokens.as_ref().ok_or(ConfigError::NoHome {
            key: key::HTTP_TOKENS.name,
            variable: "XDG_CONFIG_HOME",
        })
    }
}

/// An address and a port of this host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListenAddress(pub SocketAddr);

impl FromStr for ListenAddress {
    type Err = BadValue;

    fn from_str(text: &str) -> Result<Self, BadValue> {
        text.parse().map(Self).map_err(|_| BadValue::ListenAddress)
    }
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Serialize for ListenAddress {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// What stands between this server and its clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Front {
    Nothing,
    /// One that the operator runs, and that has the TLS.
    Proxy,
}

/// A `Host` that is answered; without a port, at any.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AllowedHost(pub Authority);

impl AllowedHost {
    /// Whether a request may name this authority.
    pub fn covers(&self, asked: &Authority) -> bool {
        self.0.host == asked.host && (self.0.port.is_none() || self.0.port == asked.port)
    }
}

impl FromStr for AllowedHost {
    type Err = BadValue;

    fn from_str(text: &str) -> Result<Self, BadValue> {
        text.parse().map(Self).map_err(|_| BadValue::AllowedHost)
    }
}

impl fmt::Display for AllowedHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Serialize for AllowedHost {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    Http,
    Https,
}

impl Scheme {
    const fn word(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }

    const fn port(self) -> Port {
        match self {
            Self::Http => Port::HTTP,
            Self::Https => Port::HTTPS,
        }
    }
}

/// Where a page came from, as a browser says it: scheme, host, port (RFC 6454).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebOrigin {
    scheme: Scheme,
    host: Host,
    port: Port,
}

impl WebOrigin {
    /// What a request says; `None` for `null` and whatever else is no page of a server.
    pub fn parse(text: &str) -> Option<Self> {
        let (scheme, authority) = scheme_and_rest(text)?;
        let Authority { host, port } = authority.parse().ok()?;
        Some(Self {
            scheme,
            host,
            port: port.unwrap_or(scheme.port()),
        })
    }
}

fn scheme_and_rest(text: &str) -> Option<(Scheme, &str)> {
    let (scheme, rest) = text.split_once("://")?;
    match scheme {
        "http" => Some((Scheme::Http, rest)),
        "https" => Some((Scheme::Https, rest)),
        _ => None,
    }
}

/// An origin that is answered: `https://app.example.com`, `http://localhost:5173`, `http://localhost:*`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AllowedOrigin {
    scheme: Scheme,
    host: Host,
    /// `None`: any.
    port: Option<Port>,
}

impl AllowedOrigin {
    pub fn covers(&self, asked: &WebOrigin) -> bool {
        self.scheme == asked.scheme && self.host == asked.host && self.port.is_none_or(|port| port == asked.port)
    }
}

impl FromStr for AllowedOrigin {
    type Err = BadValue;

    fn from_str(text: &str) -> Result<Self, BadValue> {
        let (scheme, rest) = scheme_and_rest(text).ok_or(BadValue::AllowedOrigin)?;
        let (authority, any_port) = match rest.strip_suffix(":*") {
            Some(host) => (host, true),
            None => (rest, false),
        };
        match (authority.parse(), any_port) {
            (Ok(Authority { host, port: None }), true) => Ok(Self {
                scheme,
                host,
                port: None,
            }),
            // As browsers leave it out.
            (Ok(Authority { host, port }), false) => Ok(Self {
                scheme,
                host,
                port: Some(port.unwrap_or(scheme.port())),
            }),
            _ => Err(BadValue::AllowedOrigin),
        }
    }
}

impl fmt::Display for AllowedOrigin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.scheme.word(), self.host.in_authority())?;
        match self.port {
            Some(port) => write!(f, ":{port}"),
            None => f.write_str(":*"),
        }
    }
}

impl Serialize for AllowedOrigin {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_without_a_port_is_allowed_at_any() {
        let any: AllowedHost = "mcp.example.com".parse().unwrap();
        let one: AllowedHost = "mcp.example.com:8443".parse().unwrap();
        let asked = |text: &str| text.parse::<Authority>().unwrap();
        assert!(any.covers(&asked("MCP.example.com")) && any.covers(&asked("mcp.example.com:1")));
        assert!(one.covers(&asked("mcp.example.com:8443")));
        assert!(!one.covers(&asked("mcp.example.com")) && !any.covers(&asked("a.mcp.example.com")));
        for text in ["", "*", "http://h", "h/p", "u@h", "h:0"] {
            assert_eq!(text.parse::<AllowedHost>(), Err(BadValue::AllowedHost), "{text:?}");
        }
    }

    #[test]
    fn an_origin_is_scheme_host_and_port() {
        let allowed = |text: &str| text.parse::<AllowedOrigin>().unwrap();
        let asked = |text: &str| WebOrigin::parse(text).unwrap();
        assert!(allowed("https://app.example.com").covers(&asked("https://app.example.com:443")));
        assert!(allowed("https://app.example.com:443").covers(&asked("https://app.example.com")));
        assert!(!allowed("https://app.example.com").covers(&asked("http://app.example.com")));
        assert!(!allowed("http://localhost").covers(&asked("http://localhost:5173")));
        assert!(allowed("http://localhost:*").covers(&asked("http://localhost:5173")));
        assert!(allowed("http://[::1]:*").covers(&asked("http://[::1]:3000")));
        assert_eq!(allowed("http://localhost:*").to_string(), "http://localhost:*");
        for text in ["null", "file://", "app.example.com", "https://h/p", "https://u@h", ""] {
            assert_eq!(WebOrigin::parse(text), None, "{text:?}");
            assert_eq!(text.parse::<AllowedOrigin>(), Err(BadValue::AllowedOrigin), "{text:?}");
        }
        assert_eq!("*".parse::<AllowedOrigin>(), Err(BadValue::AllowedOrigin));
    }

    #[test]
    fn an_address_to_listen_at_has_a_port_and_no_name() {
        for text in ["127.0.0.1:8931", "[::1]:8931", "0.0.0.0:0"] {
            assert_eq!(text.parse::<ListenAddress>().unwrap().to_string(), text);
        }
        for text in ["localhost:8931", "127.0.0.1", ":8931", "8931"] {
            assert_eq!(text.parse::<ListenAddress>(), Err(BadValue::ListenAddress), "{text:?}");
        }
    }
}
