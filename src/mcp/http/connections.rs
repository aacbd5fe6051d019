//! Sockets: how many at once, how long a request's head may take, and how they end.
//!
//! It must never let one client's silence hold a place for long: a head that does not come, a peer that is gone and does not
//! say so, an answer that nobody reads.

use axum::Router;
use axum::body::Body;
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use nix::sys::socket::{setsockopt, sockopt};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower_service::Service;

/// Heads are some hundred bytes; this is what one may take of memory.
const LONGEST_HEAD: usize = 32 << 10;
/// How long what was sent may stay unconfirmed: the peer is gone, or reads nothing.
const UNCONFIRMED: Duration = Duration::from_secs(60);
/// How long a connection may be silent before its peer is asked whether it is there.
const KEEPALIVE: u32 = 60;
/// How long to wait where no further socket can be had.
const OUT_OF_SOCKETS: Duration = Duration::from_millis(100);

/// Who is at the other end of a connection.
#[derive(Debug, Clone, Copy)]
pub struct Peer(pub SocketAddr);

#[derive(Debug, Clone, Copy)]
pub struct ConnectionBounds {
    /// At once; further ones wait to be taken.
    pub most: u32,
    /// For a whole head, and for the next request to begin.
    pub head: Duration,
}

/// What ends them.
#[derive(Debug, Clone, Default)]
pub struct Ends {
    /// No further connection is taken.
    pub accepting: CancellationToken,
    /// Each ends with the answer that it is at.
    pub gracefully: CancellationToken,
    /// Each ends now.
    pub now: CancellationToken,
}

/// Serves until `ends` say otherwise. Returns when the last connection is closed.
pub async fn serve(listener: TcpListener, router: Router, bounds: ConnectionBounds, ends: Ends) {
    let places = Arc::new(Semaphore::new(bounds.most.try_into().unwrap_or(Semaphore::MAX_PERMITS)));
    let connections = TaskTracker::new();
    loop {
        let place = tokio::select! {
            biased;
            () = ends.accepting.cancelled() => break,
            place = Arc::clone(&places).acquire_owned() => place,
        };
        let accepted = tokio::select! {
            biased;
            () = ends.accepting.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                let (router, ends) = (router.clone(), ends.clone());
                connections.spawn(async move {
                    let _place = place;
                    connection(stream, peer, router, bounds, ends).await;
                });
            }
            // That one was gone before it was taken.
            Err(error) if is_of_the_connection(&error) => {}
            Err(error) => {
                tracing::warn!(%error, "no connection can be taken at the moment");
                tokio::time::sleep(OUT_OF_SOCKETS).await;
            }
        }
    }
    drop(listener);
    connections.close();
    connections.wait().await;
}

async fn connection(stream: TcpStream, peer: SocketAddr, router: Router, bounds: ConnectionBounds, ends: Ends) {
    if let Err(error) = prepare(&stream) {
        tracing::debug!(%error, "a connection's options can't be set");
    }
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(Peer(peer));
        router.clone().call(request.map(Body::new))
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(bounds.head)
        .max_buf_size(LONGEST_HEAD)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = &mut connection => ended,
        () = ends.gracefully.cancelled() => {
            connection.as_mut().graceful_shutdown();
            tokio::select! {
                ended = &mut connection => ended,
                () = ends.now.cancelled() => return,
            }
        }
        () = ends.now.cancelled() => return,
    };
    if let Err(error) = ended {
        // Junk, half a request, a client that left: theirs, and anybody may send it.
        tracing::debug!(%peer, %error, "a connection broke off");
    }
}

fn prepare(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    setsockopt(stream, sockopt::KeepAlive, &true)?;
    setsockopt(stream, sockopt::TcpKeepIdle, &KEEPALIVE)?;
    let millis = u32::try_from(UNCONFIRMED.as_millis()).unwrap_or(u32::MAX);
    setsockopt(stream, sockopt::TcpUserTimeout, &millis)?;
    Ok(())
}

fn is_of_the_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionRefused | io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset
    )
}
