//! Addresses → a connection, direct or through the operator's own proxy.

use crate::config::Sourced;
use crate::config::authority::Port;
use crate::config::host::Host;
use crate::config::network::{ProxyAddress, Resolution};
use crate::config::target::Target;
use crate::dial::names::{LookupError, Names};
use crate::dial::proxy::{Proxy, ProxyError};
use crate::dial::tcp;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;
use tokio::net::TcpStream;

/// Dials; cheap to clone.
#[derive(Debug, Clone)]
pub struct Dialer {
    names: Names,
    proxy: Option<Proxy>,
}

/// Why there is no connection. For the operator: it names the proxy and what is configured for it.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// The last address that was tried, and what became of it.
    #[error("{address}: {error}")]
    Unreachable {
        address: SocketAddr,
        #[source]
        error: io::Error,
    },
    #[error("there is no address to connect to")]
    NoAddress,
    #[error("no connection in {} s", .0.as_secs_f32())]
    TimedOut(Duration),
    #[error("the proxy {} (from {}): {error}", address.value, address.origin)]
    Proxy {
        /// Boxed, because this error travels in results of connections that mostly succeed.
        address: Box<Sourced<ProxyAddress>>,
        error: ProxyError,
    },
}

/// How a connection to some host is made.
enum Way<'d> {
    Direct,
    Through(&'d Proxy),
}

/// Why a destination of the operator's was not reached.
#[derive(Debug, thiserror::Error)]
pub enum UncheckedError {
    #[error("can't resolve {host}: {reason}")]
    Lookup { host: Host, reason: LookupError },
    #[error(transparent)]
    Dial(#[from] DialError),
}

impl Dialer {
    /// Dials directly.
    pub fn new(names: Names) -> Self {
        Self { names, proxy: None }
    }

    /// Dials through the proxy where that is for the host. `names` also resolves the proxy's own name.
    pub fn through(names: Names, proxy: Proxy) -> Self {
        Self {
            names,
            proxy: Some(proxy),
        }
    }

    fn way(&self, host: &Host) -> Way<'_> {
        match &self.proxy {
            Some(proxy) if proxy.is_for(host) => Way::Through(proxy),
            _ => Way::Direct,
        }
    }

    /// Who resolves this host: the proxy may be the one, where the operator said so. An address is its own.
    pub fn resolution(&self, host: &Host) -> Resolution {
        match (host, self.way(host)) {
            (Host::Name(_), Way::Through(proxy)) => proxy.resolution(),
            _ => Resolution::Here,
        }
    }

    /// The addresses of a host: its own where it is one, else one lookup. Never an empty list.
    pub async fn lookup(&self, host: &Host) -> Result<Vec<IpAddr>, LookupError> {
        self.names.of(host).await
    }

    /// Connects to one of `addresses` and to nothing else, in their order. `host` only says which of them the operator's
    /// proxy is for.
    pub async fn connect(
        &self,
        host: &Host,
        addresses: &[IpAddr],
        port: Port,
        limit: Duration,
    ) -> Result<TcpStream, DialError> {
        // There, loopback is another machine's: what was checked was this one's.
        let (own, others): (Vec<_>, Vec<_>) = addresses.iter().partition(|address| address.is_loopback());
        match self.way(host) {
            Way::Through(proxy) if !others.is_empty() => proxy.connect(&self.names, &others, port, limit).await,
            Way::Through(_) => directly(&own, port, limit).await,
            Way::Direct => directly(addresses, port, limit).await,
        }
    }

    /// Resolves and connects without looking at what the name comes to: for destinations that the operator named, and never
    /// for one that a container did. `limit` is for connecting; a lookup has its own.
    pub async fn connect_unchecked(&self, target: &Target, limit: Duration) -> Result<TcpStream, UncheckedError> {
        let Target { host, port } = target;
        match self.resolution(host) {
            Resolution::ByProxy => Ok(self.connect_by_proxy(host, *port, limit).await?),
            Resolution::Here => {
                let addresses = self.lookup(host).await.map_err(|reason| UncheckedError::Lookup {
                    host: host.clone(),
                    reason,
                })?;
                Ok(self.connect(host, &addresses, *port, limit).await?)
            }
        }
    }

    /// Has the proxy resolve and connect; only where [`Self::resolution`] says so.
    pub async fn connect_by_proxy(&self, host: &Host, port: Port, limit: Duration) -> Result<TcpStream, DialError> {
        match self.way(host) {
            Way::Through(proxy) if proxy.resolution() == Resolution::ByProxy => {
                proxy.connect_by_name(&self.names, host, port, limit).await
            }
            // Nobody checked an address, so nothing is dialled.
            _ => Err(DialError::NoAddress),
        }
    }
}

async fn directly(addresses: &[IpAddr], port: Port, limit: Duration) -> Result<TcpStream, DialError> {
    match tokio::time::timeout(limit, tcp::connect(addresses, port)).await {
        Ok(connected) => connected,
        Err(_elapsed) => Err(DialError::TimedOut(limit)),
    }
}

#[cfg(test)]
mod tests;
