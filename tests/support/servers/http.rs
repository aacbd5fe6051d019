//! An HTTP server, plain or in TLS, that keeps each request and what came on the wire.
//!
//! `/endless` offers [`ENDLESS`] bytes and counts what it could get rid of, `/drip` sends a byte now and then and has no
//! end, `/stall` begins an answer and leaves it at that; everything else is answered with a line about the request, and
//! its body.

use super::listen;
use super::recorded::Log;
use bytes::Bytes;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use rustls::ServerConfig;
use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::LazyConfigAcceptor;

/// 10 GiB.
pub const ENDLESS: u64 = 10 << 30;
const CHUNK: usize = 64 << 10;
const BETWEEN_DRIPS: Duration = Duration::from_millis(100);
/// What is kept of a request's body.
const MAX_BODY: usize = 1 << 20;

pub struct Http {
    pub address: SocketAddr,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    /// As it came, where there is no TLS around it.
    wire: Log,
    requests: Mutex<Vec<Seen>>,
    server_names: Mutex<Vec<Option<String>>>,
    endless: AtomicU64,
}

/// One request.
#[derive(Debug, Clone)]
pub struct Seen {
    pub method: String,
    pub target: String,
    /// Names in lower case, in the order in which they came.
    pub headers: Vec<(String, String)>,
    pub body: String,
}

impl Seen {
    /// All values of one header.
    pub fn all(&self, name: &str) -> Vec<&str> {
        let named = self.headers.iter().filter(|(key, _)| key == name);
        named.map(|(_, value)| value.as_str()).collect()
    }
}

impl Http {
    pub(super) async fn start(address: IpAddr, tls: Option<Arc<ServerConfig>>) -> Self {
        let state = Arc::new(State::default());
        let shared = Arc::clone(&state);
        let serve = move |stream| serve(stream, tls.clone(), Arc::clone(&shared));
        Self {
            address: listen(address, serve).await,
            state,
        }
    }

    pub fn port(&self) -> u16 {
        self.address.port()
    }

    pub fn requests(&self) -> Vec<Seen> {
        self.state.requests.lock().unwrap().clone()
    }

    /// The paths of the requests, in their order.
    pub fn targets(&self) -> Vec<String> {
        self.requests().into_iter().map(|request| request.target).collect()
    }

    /// What came on each connection, byte for byte.
    pub fn connections(&self) -> Vec<Vec<u8>> {
        self.state.wire.connections()
    }

    pub fn wire(&self) -> String {
        self.state.wire.text()
    }

    /// The server name of each ClientHello that came.
    pub fn server_names(&self) -> Vec<Option<String>> {
        self.state.server_names.lock().unwrap().clone()
    }

    /// Bytes of `/endless` that were handed to the network.
    pub fn endless_sent(&self) -> u64 {
        self.state.endless.load(Ordering::SeqCst)
    }
}

async fn serve(stream: TcpStream, tls: Option<Arc<ServerConfig>>, state: Arc<State>) {
    let stream = state.wire.record(stream);
    let Some(tls) = tls else {
        return speak(stream, state).await;
    };
    let Ok(started) = LazyConfigAcceptor::new(rustls::server::Acceptor::default(), stream).await else {
        return;
    };
    let name = started.client_hello().server_name().map(str::to_owned);
    state.server_names.lock().unwrap().push(name);
    if let Ok(stream) = started.into_stream(tls).await {
        speak(stream, state).await;
    }
}

async fn speak(stream: impl AsyncRead + AsyncWrite + Unpin, state: Arc<State>) {
    let service = service_fn(move |request| answer(request, Arc::clone(&state)));
    let _ = hyper::server::conn::http1::Builder::new()
        .half_close(true)
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

type Answer = Response<BoxBody<Bytes, Infallible>>;

async fn answer(request: Request<Incoming>, state: Arc<State>) -> Result<Answer, Infallible> {
    let (head, body) = request.into_parts();
    let body = match Limited::new(body, MAX_BODY).collect().await {
        Ok(body) => String::from_utf8_lossy(&body.to_bytes()).into_owned(),
        Err(error) => format!("(cut: {error})"),
    };
    let seen = Seen {
        method: head.method.to_string(),
        target: head.uri.to_string(),
        headers: head
            .headers
            .iter()
            .map(|(name, value)| (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned()))
            .collect(),
        body,
    };
    state.requests.lock().unwrap().push(seen.clone());
    let body = match head.uri.path() {
        "/endless" => Endless { state, left: ENDLESS }.boxed(),
        "/drip" => Drip(tokio::time::interval(BETWEEN_DRIPS)).boxed(),
        "/stall" => Stall.boxed(),
        _ => Full::new(Bytes::from(format!(
            "served {} {} {}\n{}",
            seen.method,
            seen.target,
            seen.all("host").join(" and "),
            seen.body
        )))
        .boxed(),
    };
    let mut answer = Response::new(body);
    *answer.status_mut() = StatusCode::OK;
    Ok(answer)
}

struct Endless {
    state: Arc<State>,
    left: u64,
}

impl Body for Endless {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        static ZEROES: [u8; CHUNK] = [0; CHUNK];
        if self.left == 0 {
            return Poll::Ready(None);
        }
        self.left -= CHUNK as u64;
        self.state.endless.fetch_add(CHUNK as u64, Ordering::SeqCst);
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(&ZEROES)))))
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

struct Drip(tokio::time::Interval);

impl Body for Drip {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let dripped = |_| Some(Ok(Frame::data(Bytes::from_static(b"."))));
        self.0.poll_tick(cx).map(dripped)
    }
}

/// Says that a byte will come, and never sends it.
struct Stall;

impl Body for Stall {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Pending
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(1)
    }
}
