//! The dialer as HTTP clients want it: a URI → a connection. For destinations that the operator named; what a container
//! names is checked first, and that is the relay's business.

use crate::config::authority::Port;
use crate::config::host::{Host, HostError};
use crate::config::target::Target;
use crate::dial::dialer::{Dialer, UncheckedError};
use hyper::Uri;
use hyper_util::rt::TokioIo;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::net::TcpStream;
use tower_service::Service;

/// The longest that a connection may take, all addresses together, a name's lookup not counted.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Connects by TCP to a URI's host and port, and leaves TLS to who wraps it.
#[derive(Debug, Clone)]
pub struct Connector(Dialer);

/// Why there is no connection to a URI.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    #[error("it has no usable host: {0}")]
    Host(HostError),
    #[error("a port is a number from 1 to 65535")]
    Port,
    #[error(transparent)]
    Unreached(#[from] UncheckedError),
}

impl Connector {
    pub fn new(dialer: Dialer) -> Self {
        Self(dialer)
    }

    async fn connect(self, uri: Uri) -> Result<TcpStream, ConnectError> {
        let host: Host = uri.host().unwrap_or_default().parse().map_err(ConnectError::Host)?;
        let port = match (uri.port_u16(), uri.scheme_str()) {
            (Some(port), _) => Port::new(port).ok_or(ConnectError::Port)?,
            (None, Some("http")) => Port::HTTP,
            (None, _) => Port::HTTPS,
        };
        let target = Target { host, port };
        Ok(self.0.connect_unchecked(&target, CONNECT_TIMEOUT).await?)
    }
}

impl Service<Uri> for Connector {
    type Response = TokioIo<TcpStream>;
    type Error = ConnectError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, ConnectError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), ConnectError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let connecting = self.clone().connect(uri);
        Box::pin(async move { connecting.await.map(TokioIo::new) })
    }
}
