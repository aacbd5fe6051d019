//! The operator's own proxy: a connection that it makes for this host.
//!
//! What goes through it never goes directly, whatever fails. Its credentials are read for each connection and are in no
//! error.

use crate::config::host::Host;
use crate::config::network::{OutgoingProxy, Resolution};
use crate::config::origin::Origin;
use crate::config::rule::Port;
use crate::config::target::Target;
use crate::dial::dialer::DialError;
use crate::dial::names::{LookupError, Names};
use crate::dial::{handshake, tcp};
use futures_util::future::BoxFuture;
use hyper::StatusCode;
use hyper::header::HeaderValue;
use std::error::Error;
use std::fmt;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};

/// What a `Proxy-Authorization` header says, wherever it is kept.
pub trait Credentials: Send + Sync + 'static {
    /// Reads it anew. The value is marked as sensitive; an error does not repeat it.
    fn authorization(&self) -> BoxFuture<'_, Result<HeaderValue, Box<dyn Error + Send + Sync>>>;
}

/// A proxy that takes CONNECT, and what it is told of who connects. Cheap to clone.
#[derive(Clone)]
pub struct Proxy {
    settings: Arc<OutgoingProxy>,
    credentials: Option<Arc<dyn Credentials>>,
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Proxy").field(&self.settings).finish()
    }
}

/// Why the proxy made no connection.
#[derive(Debug, thiserror::Error)]
pub enum ProxyError {
    #[error("can't resolve its name: {0}")]
    Lookup(LookupError),
    #[error("can't reach it: {0}")]
    Unreachable(Box<DialError>),
    #[error("can't read its credentials: {0}")]
    Credentials(Box<dyn Error + Send + Sync>),
    #[error("it wants user and password; set network.proxy_credentials")]
    CredentialsMissing,
    #[error("it refused the user and password of {0}")]
    CredentialsRefused(Origin),
    #[error("it answered {status} for {target}{}", hint(*status, target))]
    Refused { status: StatusCode, target: Target },
    #[error("it closed the connection without an answer")]
    Closed,
    #[error("the connection to it broke: {0}")]
    Broken(io::Error),
    #[error("what it answered is no HTTP; is it a proxy that takes CONNECT?")]
    NotHttp,
    #[error("it made no connection in time")]
    Silent,
}

fn hint(status: StatusCode, target: &Target) -> &'static str {
    match (status, &target.host) {
        (StatusCode::FORBIDDEN, Host::Address(_)) => {
            "; where it allows by name, network.proxy_resolves = true tells it names (which nobody checks here)"
        }
        _ => "",
    }
}

impl Proxy {
    pub fn new(settings: OutgoingProxy, credentials: Option<Arc<dyn Credentials>>) -> Self {
        Self {
            settings: Arc::new(settings),
            credentials,
        }
    }

    /// Whether connections to this host go through it.
    pub fn is_for(&self, host: &Host) -> bool {
        self.settings.is_for(host)
    }

    pub fn resolution(&self) -> Resolution {
        self.settings.resolution
    }

    /// Has it connect to one of `addresses`, one after the other: it is told an address, so what was checked is what is
    /// reached. Each gets an equal share of the time that is left.
    pub async fn connect(
        &self,
        names: &Names,
        addresses: &[IpAddr],
        port: Port,
        limit: Duration,
    ) -> Result<TcpStream, DialError> {
        let end = Instant::now() + limit;
        let mut failure = DialError::NoAddress;
        for (tried, address) in addresses.iter().enumerate() {
            let left = end.saturating_duration_since(Instant::now());
            let share = left / u32::try_from(addresses.len() - tried).unwrap_or(u32::MAX);
            let target = Target {
                host: Host::Address(*address),
                port,
            };
            match self.ask_within(names, &target, share).await {
                Ok(stream) => return Ok(stream),
                // Another address may be one that it can and may reach.
                Err(error @ (ProxyError::Refused { .. } | ProxyError::Closed | ProxyError::Silent)) => {
                    failure = self.failed(error);
                }
                Err(error) => return Err(self.failed(error)),
            }
        }
        Err(failure)
    }

    /// Has it resolve and connect.
    pub async fn connect_by_name(
        &self,
        names: &Names,
        host: &Host,
        port: Port,
        limit: Duration,
    ) -> Result<TcpStream, DialError> {
        let target = Target {
            host: host.clone(),
            port,
        };
        let asked = self.ask_within(names, &target, limit).await;
        asked.map_err(|error| self.failed(error))
    }

    async fn ask_within(&self, names: &Names, target: &Target, limit: Duration) -> Result<TcpStream, ProxyError> {
        match timeout_at(Instant::now() + limit, self.ask(names, target)).await {
            Ok(asked) => asked,
            Err(_elapsed) => Err(ProxyError::Silent),
        }
    }

    async fn ask(&self, names: &Names, target: &Target) -> Result<TcpStream, ProxyError> {
        let authorization = match &self.credentials {
            None => None,
            Some(credentials) => Some(credentials.authorization().await.map_err(ProxyError::Credentials)?),
        };
        let address = &self.settings.address.value;
        let addresses = names.of(&address.host).await.map_err(ProxyError::Lookup)?;
        let mut stream = tcp::connect(&addresses, address.port)
            .await
            .map_err(|error| ProxyError::Unreachable(Box::new(error)))?;
        let status = handshake::connect(&mut stream, &target.to_string(), authorization.as_ref()).await?;
        if status.is_success() {
            return Ok(stream);
        }
        Err(match (status, &self.settings.credentials) {
            (StatusCode::PROXY_AUTHENTICATION_REQUIRED, None) => ProxyError::CredentialsMissing,
            (StatusCode::PROXY_AUTHENTICATION_REQUIRED, Some(source)) => {
                ProxyError::CredentialsRefused(source.origin.clone())
            }
            _ => ProxyError::Refused {
                status,
                target: target.clone(),
            },
        })
    }

    fn failed(&self, error: ProxyError) -> DialError {
        DialError::Proxy {
            address: Box::new(self.settings.address.clone()),
            error,
        }
    }
}

#[cfg(test)]
mod tests;
