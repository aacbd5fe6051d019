//! The provider's end: name resolution, TLS, the request.
//!
//! The binary is linked statically, and glibc's `getaddrinfo` loads shared libraries at run time, so names are resolved
//! by hickory, from `/etc/hosts` and `/etc/resolv.conf`. No redirect is followed here: the client has no such feature.

use crate::config::quantity::Scheme;
use hickory_resolver::config::ResolverConfig;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::{Resolver, TokioResolver};
use http_body_util::combinators::UnsyncBoxBody;
use hyper::body::{Bytes, Incoming};
use hyper::{Request, Response};
use hyper_rustls::{ConfigBuilderExt, HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::dns::Name;
use hyper_util::client::legacy::{Client, Error as ClientError};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use std::error::Error;
use std::fmt;
use std::future::Future;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Duration;
use tower_service::Service;

/// The longest that a TCP connect may take, all addresses together.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// The longest that resolving a name may take, with the resolver's own retries.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(10);
/// Finds a dead peer below an answer that streams for minutes.
const TCP_KEEPALIVE: Duration = Duration::from_secs(60);
/// How long an unused connection is kept.
const POOL_IDLE: Duration = Duration::from_secs(60);

/// A request's body on its way to the provider.
pub type OutgoingBody = UnsyncBoxBody<Bytes, Box<dyn Error + Send + Sync>>;

type PlainClient = Client<HttpConnector<Names>, OutgoingBody>;
type TlsClient = Client<HttpsConnector<HttpConnector<Names>>, OutgoingBody>;

/// The one HTTP client of the process: connections are pooled over all sessions. Cheap to make and to clone; resolver
/// and trusted certificates are loaded by the first request that needs them.
#[derive(Clone, Default)]
pub struct Upstream {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    names: OnceLock<Names>,
    plain: OnceLock<PlainClient>,
    /// Or why there is no TLS on this machine.
    tls: OnceLock<Result<TlsClient, String>>,
}

impl fmt::Debug for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Upstream")
    }
}

/// Why a request got no answer.
#[derive(Debug, thiserror::Error)]
pub enum UpstreamError {
    /// A certificate that is not trusted, or no certificates to trust: trying again changes nothing.
    #[error("{0}")]
    Tls(String),
    #[error("{0}")]
    Unreachable(String),
    /// The request's own body failed; the error is the one that its stream gave.
    #[error("the request body could not be sent: {0}")]
    Body(Box<dyn Error + Send + Sync>),
}

impl Upstream {
    pub fn new() -> Self {
        Self::default()
    }

    /// Sends one request to an absolute URI. `https` always means TLS with a checked certificate.
    pub async fn send(
        &self,
        scheme: Scheme,
        request: Request<OutgoingBody>,
    ) -> Result<Response<Incoming>, UpstreamError> {
        let answer = match scheme {
            Scheme::Http => self.plain().request(request).await,
            Scheme::Https => {
                let client = self
                    .tls()
                    .as_ref()
                    .map_err(|reason| UpstreamError::Tls(reason.clone()))?;
                client.request(request).await
            }
        };
        answer.map_err(classify)
    }

    fn plain(&self) -> &PlainClient {
        self.shared.plain.get_or_init(|| pooled().build(self.connector()))
    }

    fn tls(&self) -> &Result<TlsClient, String> {
        self.shared.tls.get_or_init(|| {
            let mut tcp = self.connector();
            // The TLS layer above hands https URIs down to this one.
            tcp.enforce_http(false);
            let https = HttpsConnectorBuilder::new()
                .with_tls_config(tls_config()?)
                .https_only()
                .enable_http1();
            Ok(pooled().build(https.wrap_connector(tcp)))
        })
    }

    fn connector(&self) -> HttpConnector<Names> {
        let names = self.shared.names.get_or_init(Names::from_system).clone();
        let mut tcp = HttpConnector::new_with_resolver(names);
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(CONNECT_TIMEOUT));
        tcp.set_keepalive(Some(TCP_KEEPALIVE));
        tcp
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

fn tls_config() -> Result<rustls::ClientConfig, String> {
    // Named, because rustls picks no provider by itself where more than one could be linked in.
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?;
    let builder = builder
        .with_native_roots()
        .map_err(|error| format!("{error}; install the ca-certificates package"))?;
    Ok(builder.with_no_client_auth())
}

fn classify(error: ClientError) -> UpstreamError {
    let causes = chain(&error);
    if let Some(tls) = causes.iter().find_map(|cause| cause.downcast_ref::<rustls::Error>()) {
        return UpstreamError::Tls(tls.to_string());
    }
    if let Some(hyper) = causes.iter().find_map(|cause| cause.downcast_ref::<hyper::Error>())
        && hyper.is_user()
    {
        return UpstreamError::Body(error.into());
    }
    // The outer errors say no more than "client error (Connect)".
    let innermost = causes.last().map_or_else(|| error.to_string(), ToString::to_string);
    UpstreamError::Unreachable(innermost)
}

/// An error and everything below it. An [`io::Error`] that wraps another is seen through: its `source` skips the
/// wrapped error itself.
pub fn chain<'e>(error: &'e (dyn Error + 'static)) -> Vec<&'e (dyn Error + 'static)> {
    let below = |error: &'e (dyn Error + 'static)| match error.downcast_ref::<io::Error>() {
        Some(io) => io.get_ref().map(|inner| inner as &(dyn Error + 'static)),
        None => error.source(),
    };
    std::iter::successors(Some(error), |error| below(*error)).collect()
}

/// Resolves names for the connector; address literals never come here.
#[derive(Clone)]
pub struct Names {
    resolver: Result<TokioResolver, String>,
}

impl Names {
    fn from_system() -> Self {
        // Without a usable resolv.conf the names in /etc/hosts still resolve.
        let builder = TokioResolver::builder_tokio().unwrap_or_else(|_| {
            let no_servers = ResolverConfig::from_parts(None, Vec::new(), Vec::new());
            Resolver::builder_with_config(no_servers, TokioRuntimeProvider::default())
        });
        let resolver = builder.build().map_err(|error| error.to_string());
        Self { resolver }
    }

    async fn resolve(self, name: Name) -> io::Result<std::vec::IntoIter<SocketAddr>> {
        // The port is the connector's business.
        let with_port = |ip: IpAddr| SocketAddr::new(ip, 0);
        if is_localhost(name.as_str()) {
            // RFC 6761: never asked of a server.
            let loopback = [IpAddr::from(Ipv4Addr::LOCALHOST), IpAddr::from(Ipv6Addr::LOCALHOST)];
            return Ok(loopback.map(with_port).to_vec().into_iter());
        }
        let failed = |reason: String| io::Error::other(format!("can't resolve {name}: {reason}"));
        let resolver = self.resolver.as_ref().map_err(|reason| failed(reason.clone()))?;
        let found = resolver.lookup_ip(name.as_str()).await.map_err(|error| {
            failed(if error.is_nx_domain() || error.is_no_records_found() {
                "the name servers know no address for it".to_owned()
            } else {
                error.to_string()
            })
        })?;
        let addresses: Vec<SocketAddr> = found.iter().map(with_port).collect();
        Ok(addresses.into_iter())
    }
}

fn is_localhost(name: &str) -> bool {
    let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
    name == "localhost" || name.ends_with(".localhost")
}

impl Service<Name> for Names {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let resolving = self.clone().resolve(name);
        Box::pin(async move {
            match tokio::time::timeout(RESOLVE_TIMEOUT, resolving).await {
                Ok(addresses) => addresses,
                Err(_elapsed) => Err(io::Error::new(
                    io::ErrorKind::TimedOut,
                    "no answer from the name servers",
                )),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn resolve(name: &str) -> io::Result<Vec<IpAddr>> {
        let addresses = Names::from_system().call(name.parse().unwrap()).await?;
        Ok(addresses.map(|address| address.ip()).collect())
    }

    #[tokio::test]
    async fn localhost_and_names_below_it_are_loopback() {
        for name in ["localhost", "LocalHost.", "a.localhost"] {
            let addresses = resolve(name).await.unwrap();
            assert_eq!(
                addresses,
                [IpAddr::from(Ipv4Addr::LOCALHOST), IpAddr::from(Ipv6Addr::LOCALHOST)],
                "{name}"
            );
        }
        assert!(!is_localhost("localhost.example.com") && !is_localhost("notlocalhost"));
    }

    #[tokio::test]
    async fn a_name_without_an_address_says_which() {
        // `.invalid` is reserved to be nobody's (RFC 6761).
        let names = Names {
            resolver: Resolver::builder_with_config(
                ResolverConfig::from_parts(None, Vec::new(), Vec::new()),
                TokioRuntimeProvider::default(),
            )
            .build()
            .map_err(|error| error.to_string()),
        };
        let error = names.resolve("nobody.invalid".parse().unwrap()).await.unwrap_err();
        assert!(
            error.to_string().starts_with("can't resolve nobody.invalid: "),
            "{error}"
        );
    }

    #[test]
    fn the_cause_inside_an_io_error_is_found() {
        let tls = rustls::Error::General("bad certificate".into());
        let wrapped = io::Error::other(io::Error::other(tls));
        let found = chain(&wrapped);
        assert!(found.iter().any(|cause| cause.is::<rustls::Error>()), "{found:?}");
    }
}
