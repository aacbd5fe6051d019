//! The provider's end: TLS and the request, over the connections that `dial` makes. No redirect is followed here: the client
//! has no such feature.

use crate::config::quantity::Scheme;
use crate::dial::Dialer;
use crate::dial::connector::Connector;
use crate::dial::trust::{self, TrustError};
use http_body_util::combinators::UnsyncBoxBody;
use hyper::body::{Bytes, Incoming};
use hyper::{Request, Response};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::{Client, Error as ClientError};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use std::error::Error;
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::sync::OnceCell;

/// How long an unused connection is kept.
const POOL_IDLE: Duration = Duration::from_secs(60);

/// A request's body on its way to the provider.
pub type OutgoingBody = UnsyncBoxBody<Bytes, Box<dyn Error + Send + Sync>>;

type PlainClient = Client<Connector, OutgoingBody>;
type TlsClient = Client<HttpsConnector<Connector>, OutgoingBody>;

/// The one HTTP client of the process: connections are pooled over all sessions. Cheap to make and to clone; trusted
/// certificates are loaded by the first request that needs them.
#[derive(Clone)]
pub struct Upstream {
    shared: Arc<Shared>,
}

struct Shared {
    connector: Connector,
    /// Authorities that are trusted beside the system's.
    ca_bundle: Option<PathBuf>,
    plain: OnceLock<PlainClient>,
    /// Only once there is something to trust: an operator may mend that while this process runs.
    tls: OnceCell<TlsClient>,
}

impl fmt::Debug for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Upstream")
    }
}

/// Why a request got no answer.
#[derive(Debug, thiserror::Error)]
pub enum UpstreamError {
    /// A handshake that failed, so nothing was sent; mostly a certificate that is not trusted, and trying again changes nothing.
    #[error("{0}")]
    Tls(String),
    /// There is nothing to trust.
    #[error("{0}")]
    Trust(#[from] TrustError),
    /// There is no connection: nothing was sent.
    #[error("{0}")]
    NotConnected(String),
    /// Something may have been sent.
    #[error("{0}")]
    Unreachable(String),
}

impl Upstream {
    pub fn new(dialer: Dialer, ca_bundle: Option<PathBuf>) -> Self {
        Self {
            shared: Arc::new(Shared {
                connector: Connector::new(dialer),
                ca_bundle,
                plain: OnceLock::new(),
                tls: OnceCell::new(),
            }),
        }
    }

    /// Sends one request to an absolute URI. `https` always means TLS with a checked certificate.
    pub async fn send(
        &self,
        scheme: Scheme,
        request: Request<OutgoingBody>,
    ) -> Result<Response<Incoming>, UpstreamError> {
        let answer = match scheme {
            Scheme::Http => self.plain().request(request).await,
            Scheme::Https => self.tls().await?.request(request).await,
        };
        answer.map_err(|error| classify(&error))
    }

    fn plain(&self) -> &PlainClient {
        let connector = || self.shared.connector.clone();
        self.shared.plain.get_or_init(|| pooled().build(connector()))
    }

    async fn tls(&self) -> Result<&TlsClient, UpstreamError> {
        let make = || async {
            let bundle = self.shared.ca_bundle.clone();
            // Some 150 files, or one on a slow file system: not on a runtime thread.
            let loading = tokio::task::spawn_blocking(move || trust::client_config(bundle.as_deref()));
            let config = loading
                .await
                .map_err(|stopped| UpstreamError::Unreachable(stopped.to_string()))??;
            let https = HttpsConnectorBuilder::new()
                .with_tls_config(config)
                .https_only()
                .enable_http1();
            Ok(pooled().build(https.wrap_connector(self.shared.connector.clone())))
        };
        self.shared.tls.get_or_try_init(make).await
    }
}

fn pooled() -> hyper_util::client::legacy::Builder {
    let mut builder = Client::builder(TokioExecutor::new());
    builder
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(POOL_IDLE)
        .pool_max_idle_per_host(8);
    builder
}

fn classify(error: &ClientError) -> UpstreamError {
    let causes = chain(error);
    // The outer errors say no more than "client error (Connect)".
    let innermost = causes.last().map_or_else(|| error.to_string(), ToString::to_string);
    if !error.is_connect() {
        return UpstreamError::Unreachable(innermost);
    }
    match causes.iter().find_map(|cause| cause.downcast_ref::<rustls::Error>()) {
        Some(tls) => UpstreamError::Tls(tls.to_string()),
        None => UpstreamError::NotConnected(innermost),
    }
}

/// An error and everything below it. An [`io::Error`] that wraps another is seen through: its `source` skips the
/// wrapped error itself.
fn chain<'e>(error: &'e (dyn Error + 'static)) -> Vec<&'e (dyn Error + 'static)> {
    let below = |error: &'e (dyn Error + 'static)| match error.downcast_ref::<io::Error>() {
        Some(io) => io.get_ref().map(|inner| inner as &(dyn Error + 'static)),
        None => error.source(),
    };
    std::iter::successors(Some(error), |error| below(*error)).collect()
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "tests write bundles")]
mod tests;
