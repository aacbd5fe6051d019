//! The settings of `[network]`, as data: what a session may reach, and how this host reaches it.

use crate::config::authority::Port;
use crate::config::host::Host;
use crate::config::quantity::ByteSize;
use crate::config::rule::{DenyRule, Rule};
use crate::config::{SecretSource, Sourced};
use ipnet::IpNet;
use serde::Serialize;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// The most that `network.connections` may say. Each is a stream of the pipe that the session shares with Codex and its
/// commands.
pub const MOST_CONNECTIONS: u32 = 32;

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct NetworkSettings {
    /// Empty: nothing but the model endpoint. The strongest layer that has the key sets the whole list.
    pub allow: Vec<Sourced<Rule>>,
    /// Of all layers together: what one denies, no other allows again.
    pub deny: Vec<Sourced<DenyRule>>,
    /// Whose configured hosts are allowed as well.
    pub from: Vec<Sourced<PackageClient>>,
    /// Ranges that are not public and that an allowed name may resolve to.
    pub private: Vec<Sourced<IpNet>>,
    pub reach: Sourced<Reach>,
    /// Empty: the system's.
    pub nameservers: Vec<Sourced<SocketAddr>>,
    /// `None`: outgoing connections are direct.
    pub proxy: Option<OutgoingProxy>,
    /// Certificates (PEM) that are trusted beside the system's, here and inside.
    pub ca_bundle: Option<Sourced<PathBuf>>,
    pub limits: EgressLimits,
}

/// Whether rules that cover most of the network may stand in `network.allow`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Reach {
    /// `*`, `*.com`, `0.0.0.0/0` and the like are refused.
    Restricted,
    /// The operator wrote `network.unrestricted = true`.
    Unrestricted,
}

/// A package client whose configured hosts `network.from` can take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum PackageClient {
    Cargo,
    Npm,
    Pip,
    Go,
}

/// The operator's own proxy, an `http://` one that takes CONNECT.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct OutgoingProxy {
    pub address: Sourced<ProxyAddress>,
    pub credentials: Option<Sourced<ProxyCredentials>>,
    /// See [`OutgoingProxy::is_for`].
    pub exceptions: Vec<ProxyException>,
    pub resolution: Resolution,
}

/// Where a proxy is. Prints as its URL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProxyAddress {
    pub host: Host,
    pub port: Port,
}

/// Where `user:password` of a proxy is found; never the value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ProxyCredentials {
    /// `network.proxy_credentials`: the secret is `user:password` as it is.
    Secret(SecretSource),
    /// In this variable's URL, percent-encoded: [`proxy::user_information`](crate::config::proxy::user_information) of its
    /// value.
    InVariable(&'static str),
}

/// What is reached without the proxy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProxyException {
    Everything,
    /// A name covers those below it as well, as NO_PROXY has it.
    Host(Host),
    Addresses(IpNet),
}

/// Who turns a name into an address where a proxy is in between.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Resolution {
    /// This host, which checks the address and tells the proxy that one.
    Here,
    /// The proxy is told the name: what it comes to is not checked here.
    ByProxy,
}

/// Bounds of one session's connections.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct EgressLimits {
    /// At once.
    pub connections: Sourced<u32>,
    /// New ones, sustained; twice as many may come at once.
    pub connections_per_second: Sourced<u32>,
    /// Both directions together, over the session's life.
    pub bytes: Sourced<ByteSize>,
    /// Both directions together; `None`: as fast as it goes.
    pub bytes_per_second: Option<Sourced<ByteSize>>,
    /// To resolve and connect.
    pub connect: Sourced<Duration>,
    /// Without a byte in either direction.
    pub idle: Sourced<Duration>,
    /// Of one connection.
    pub total: Sourced<Duration>,
}
