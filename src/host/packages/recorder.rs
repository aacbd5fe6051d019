//! An HTTP proxy for one run of one package client: connects it to whatever it asks for and writes down what that was.
//!
//! It decides nothing about hosts, because the client is the user's own and could connect without it. It connects as the
//! relay of a session will (names, the operator's proxy), so that what works here works there. It listens on loopback,
//! where other users of this host can knock as well: nothing is done for a request without the credential of this run. It
//! must never read what it copies, nor outlive its [`Recorder`].

use super::error::Unreached;
use super::mirror;
use crate::config::authority::Port;
use crate::config::target::Target;
use crate::dial::Dialer;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http_body_util::{Either, Full};
use hyper::body::Incoming;
use hyper::header::{self, HeaderName, HeaderValue};
use hyper::http::uri::{self, PathAndQuery};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode, Uri};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::collections::BTreeSet;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::{CancellationToken, DropGuard};

/// At once; further ones wait to be accepted.
const MAX_CONNECTIONS: usize = 64;
/// Different ones that a client may reach. One small package comes from two or three.
pub const MAX_TARGETS: usize = 32;
/// Failures that are kept for the error.
const MAX_UNREACHED: usize = 4;
/// For one connection to a host.
const CONNECT: Duration = Duration::from_secs(15);
/// Until a request's headers are whole.
const HEADERS: Duration = Duration::from_secs(10);
const USER: &str = "codex-mcp";

/// Listens until it is dropped; then every connection through it ends.
pub struct Recorder {
    address: SocketAddr,
    password: String,
    seen: Arc<Mutex<Seen>>,
    _stop: DropGuard,
}

/// What was asked for.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    /// Connected to; at most [`MAX_TARGETS`].
    pub targets: BTreeSet<Target>,
    pub unreached: Unreached,
    /// There were more than [`MAX_TARGETS`], which were refused.
    pub more: bool,
}

impl Recorder {
    /// Must be called within a tokio runtime.
    pub async fn start(dialer: Dialer) -> io::Result<Self> {
        let mut secret = [0; 16];
        getrandom::fill(&mut secret).map_err(|error| io::Error::other(error.to_string()))?;
        let password: String = secret.iter().map(|byte| format!("{byte:02x}")).collect();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let seen = Arc::default();
        let stop = CancellationToken::new();
        let shared = Arc::new(Shared {
            dialer,
            authorization: format!("Basic {}", STANDARD.encode(format!("{USER}:{password}"))),
            seen: Arc::clone(&seen),
            stop: stop.clone(),
        });
        tokio::spawn(stop.clone().run_until_cancelled_owned(accept(listener, shared)));
        Ok(Self {
            address,
            password,
            seen,
            _stop: stop.drop_guard(),
        })
    }

    /// For the client's proxy variables. Holds the credential: environment only, never a command line or a log.
    pub fn url(&self) -> String {
        format!("http://{USER}:{}@{}", self.password, self.address)
    }

    pub fn seen(&self) -> Seen {
        lock(&self.seen).clone()
    }
}

struct Shared {
    dialer: Dialer,
    /// The value of `Proxy-Authorization`.
    authorization: String,
    seen: Arc<Mutex<Seen>>,
    stop: CancellationToken,
}

/// A set and a list, whole at every point where a holder could panic.
fn lock(seen: &Mutex<Seen>) -> MutexGuard<'_, Seen> {
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    while let Ok(permit) = Arc::clone(&places).acquire_owned().await {
        match listener.accept().await {
            Ok((stream, _)) => {
                let serving = serve(stream, Arc::clone(&shared), Arc::new(permit));
                tokio::spawn(shared.stop.clone().run_until_cancelled_owned(serving));
            }
            Err(error) => {
                // No descriptor left, or a client that was gone at once: either passes.
                tracing::debug!(%error, "a connection to the recorder can't be accepted");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

async fn serve(stream: TcpStream, shared: Arc<Shared>, permit: Arc<OwnedSemaphorePermit>) {
    let answer = service_fn(|request| {
        let (shared, permit) = (Arc::clone(&shared), Arc::clone(&permit));
        async move { Ok::<_, hyper::Error>(shared.answer(request, permit).await) }
    });
    let served = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADERS)
        .serve_connection(TokioIo::new(stream), answer)
        .with_upgrades()
        .await;
    if let Err(error) = served {
        tracing::debug!(%error, "a connection to the recorder ended early");
    }
}

type Body = Either<Full<Bytes>, Incoming>;

impl Shared {
    async fn answer(&self, request: Request<Incoming>, permit: Arc<OwnedSemaphorePermit>) -> Response<Body> {
        let authorization = request.headers().get(header::PROXY_AUTHORIZATION);
        if authorization.map(HeaderValue::as_bytes) != Some(self.authorization.as_bytes()) {
            return self.refuse_stranger();
        }
        let done = match *request.method() {
            Method::CONNECT => self.tunnel(request, permit).await,
            _ => self.forward(request).await,
        };
        done.unwrap_or_else(|(status, why)| refuse(status, why))
    }

    fn refuse_stranger(&self) -> Response<Body> {
        let mut response = refuse(
            StatusCode::PROXY_AUTHENTICATION_REQUIRED,
            "this proxy serves one program\n".to_owned(),
        );
        let challenge = HeaderValue::from_static("Basic realm=\"codex-mcp\"");
        response.headers_mut().insert(header::PROXY_AUTHENTICATE, challenge);
        response
    }

    async fn tunnel(
        &self,
        request: Request<Incoming>,
        permit: Arc<OwnedSemaphorePermit>,
    ) -> Result<Response<Body>, Refused> {
        let authority = request.uri().authority().map(uri::Authority::as_str);
        let target = authority.and_then(|authority| mirror::target(authority, Port::HTTPS));
        let target = target.ok_or_else(no_target)?;
        let mut upstream = self.connect(target).await?;
        let tunnel = async move {
            let copied = match hyper::upgrade::on(request).await {
                Ok(upgraded) => tokio::io::copy_bidirectional(&mut TokioIo::new(upgraded), &mut upstream).await,
                Err(error) => Err(io::Error::other(error)),
            };
            if let Err(error) = copied {
                tracing::debug!(%error, "a connection through the recorder broke");
            }
            drop(permit);
        };
        tokio::spawn(self.stop.clone().run_until_cancelled_owned(tunnel));
        Ok(Response::new(Either::Left(Full::default())))
    }

    /// `GET http://host/path`: how a mirror without TLS is reached through a proxy.
    async fn forward(&self, mut request: Request<Incoming>) -> Result<Response<Body>, Refused> {
        let plain = request.uri().scheme() == Some(&uri::Scheme::HTTP);
        let authority = request.uri().authority().filter(|_| plain).map(uri::Authority::as_str);
        let target = authority.and_then(|authority| mirror::target(authority, Port::HTTP));
        let target = target.ok_or_else(no_target)?;
        let host = target.host_field(Port::HTTP);
        let bad_gateway = |error: hyper::Error| (StatusCode::BAD_GATEWAY, format!("{error}\n"));
        let stream = self.connect(target).await?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(bad_gateway)?;
        tokio::spawn(self.stop.clone().run_until_cancelled_owned(connection));
        let path = request.uri().path_and_query().cloned();
        *request.uri_mut() = Uri::from(path.unwrap_or_else(|| PathAndQuery::from_static("/")));
        let headers = request.headers_mut();
        HOP_BY_HOP.iter().for_each(|name| drop(headers.remove(name)));
        headers.insert(header::HOST, HeaderValue::from_str(&host).map_err(|_| no_target())?);
        let mut response = sender.send_request(request).await.map_err(bad_gateway)?;
        HOP_BY_HOP
            .iter()
            .for_each(|name| drop(response.headers_mut().remove(name)));
        Ok(response.map(Either::Right))
    }

    /// Connects and writes down where to, or what was in the way.
    async fn connect(&self, target: Target) -> Result<TcpStream, Refused> {
        let connected = self.dialer.connect_unchecked(&target, CONNECT).await;
        let mut seen = lock(&self.seen);
        match connected {
            Ok(_) if !seen.targets.contains(&target) && seen.targets.len() == MAX_TARGETS => {
                seen.more = true;
                Err((
                    StatusCode::FORBIDDEN,
                    format!("{target} is one host more than the {MAX_TARGETS} that are written down\n"),
                ))
            }
            Ok(stream) => {
                seen.targets.insert(target);
                Ok(stream)
            }
            Err(error) => {
                let refused = (StatusCode::BAD_GATEWAY, format!("no connection to {target}: {error}\n"));
                let failure = (target, error.to_string());
                if seen.unreached.0.len() < MAX_UNREACHED && !seen.unreached.0.contains(&failure) {
                    seen.unreached.0.push(failure);
                }
                Err(refused)
            }
        }
    }
}

/// About one connection only, whatever `Connection` says beside. The credential for the recorder is among them.
const HOP_BY_HOP: [HeaderName; 6] = [
    header::CONNECTION,
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    HeaderName::from_static("proxy-connection"),
    header::TE,
    header::UPGRADE,
];

type Refused = (StatusCode, String);

fn no_target() -> Refused {
    let why = "a request through this proxy is CONNECT host:port or names an http:// URL\n";
    (StatusCode::BAD_REQUEST, why.to_owned())
}

fn refuse(status: StatusCode, why: String) -> Response<Body> {
    let mut response = Response::new(Either::Left(Full::from(why)));
    *response.status_mut() = status;
    response
}

#[cfg(test)]
mod tests;
