//! Plain HTTP: each request is sent anew; nothing of its framing passes.
//!
//! A connection to a server is used again for the next request to the same target, and closed before another is made: a
//! guest's connection holds one at most. This module must never use a connection for a target that it was not checked for.

use crate::config::authority::Port;
use crate::config::target::Target;
use crate::egress::decision::{Denial, Malformed, Reason};
use crate::egress::head::MAX_HEAD;
use crate::egress::hop_by_hop;
use crate::egress::metered::{Cut, Meter, Metered};
use crate::egress::refusal::{AnswerBody, Failure, Refusal};
use crate::egress::relay::Session;
use crate::egress::tunnel::Tunnel;
use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};
use hyper::client::conn::http1::{Builder, Connection, SendRequest};
use hyper::header::HeaderValue;
use hyper::http::request::Parts;
use hyper::{Method, Request, Response, Uri, Version};
use hyper_util::rt::TokioIo;
use std::error::Error as _;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio_util::task::AbortOnDropHandle;

/// How much a server may send before the head of its answer is whole, in bytes, interim answers included.
const MAX_BEFORE_ANSWER: u64 = 1 << 20;
/// How long a connection that carried a request may take to be ready for the next: its driver notices the end of an
/// answer a moment after the guest has read it.
const READY_TIMEOUT: Duration = Duration::from_secs(1);

/// Sends the requests of one guest's connection.
#[derive(Debug)]
pub struct Forwarder {
    session: Arc<Session>,
    upstream: Option<Upstream>,
}

/// A connection that was made and checked for one target.
#[derive(Debug)]
struct Upstream {
    target: Target,
    sender: SendRequest<Incoming>,
    meter: Arc<Meter>,
    /// Moves the bytes, until the connection ends or is cut.
    driver: AbortOnDropHandle<()>,
}

impl Upstream {
    async fn new(session: &Arc<Session>, target: Target, stream: Metered<TcpStream>) -> Result<Self, Refusal> {
        let meter = stream.meter();
        let handshake = Builder::new()
            .max_buf_size(MAX_HEAD)
            .handshake::<_, Incoming>(TokioIo::new(stream))
            .await;
        let (sender, connection) = handshake.map_err(|_| Refusal::failed(&target, Failure::NoHttpAnswer))?;
        let driver = drive(Arc::clone(session), target.clone(), Arc::clone(&meter), connection);
        let driver = AbortOnDropHandle::new(tokio::spawn(driver));
        Ok(Self {
            target,
            sender,
            meter,
            driver,
        })
    }

    async fn is_ready(&mut self) -> bool {
        let ready = tokio::time::timeout(READY_TIMEOUT, self.sender.ready()).await;
        matches!(ready, Ok(Ok(())))
    }

    /// Closes the connection. Its slot is free when this returns: an aborted task drops what it has a moment later.
    async fn close(self) {
        self.driver.abort();
        // Being cancelled is what was asked for.
        let _ = self.driver.await;
    }
}

async fn drive(
    session: Arc<Session>,
    target: Target,
    meter: Arc<Meter>,
    connection: Connection<TokioIo<Metered<TcpStream>>, Incoming>,
) {
    // How it ended is told by the request that was under way, unless its answer had begun.
    let broken = tokio::select! {
        ended = connection => ended.is_err(),
        _ = meter.cut() => true,
    };
    if let Some(cut) = meter.was_cut().filter(|_| broken) {
        session.cut(&target, cut);
    }
}

impl Forwarder {
    pub fn new(session: Arc<Session>) -> Self {
        Self {
            session,
            upstream: None,
        }
    }

    /// The first requests go over the tunnel's own connection.
    pub async fn over(session: Arc<Session>, tunnel: Tunnel) -> Self {
        let upstream = Upstream::new(&session, tunnel.target, tunnel.upstream).await;
        Self {
            session,
            upstream: upstream.ok(),
        }
    }

    /// Sends one request that was decided about, and returns its answer when its head is there.
    pub async fn forward(
        &mut self,
        target: Target,
        uri: Uri,
        head: Parts,
        body: Incoming,
    ) -> Result<Response<AnswerBody>, Refusal> {
        let method = head.method.clone();
        let mut request = outgoing(&target, uri, &head, body)?;
        // Whatever is not used again is closed before another is made: one connection of the guest's has one outside.
        if let Some(mut used) = self.upstream.take() {
            if used.target == target && used.is_ready().await {
                used.meter.await_answer(MAX_BEFORE_ANSWER);
                match used.sender.try_send_request(request).await {
                    Ok(answer) => return self.answered(used, &method, answer),
                    Err(mut error) => match error.take_message() {
                        // The server closed it in between, and has seen nothing of the request.
                        Some(unsent) => request = unsent,
                        None => return Err(self.failed(&used, error.error())),
                    },
                }
            }
            used.close().await;
        }
        let slot = self.session.admit(&target)?;
        let stream = self.session.reach(&target, slot).await?;
        let mut fresh = Upstream::new(&self.session, target, stream).await?;
        fresh.meter.await_answer(MAX_BEFORE_ANSWER);
        match fresh.sender.send_request(request).await {
            Ok(answer) => self.answered(fresh, &method, answer),
            Err(error) => Err(self.failed(&fresh, &error)),
        }
    }

    /// Closes the connection that is held for a next request.
    pub async fn close(self) {
        if let Some(held) = self.upstream {
            held.close().await;
        }
    }

    fn answered(
        &mut self,
        upstream: Upstream,
        method: &Method,
        answer: Response<Incoming>,
    ) -> Result<Response<AnswerBody>, Refusal> {
        upstream.meter.answer_came();
        // No request asks for another protocol.
        if answer.status().is_informational() {
            return Err(Refusal::failed(&upstream.target, Failure::NoHttpAnswer));
        }
        let (head, body) = answer.into_parts();
        let mut passed = Response::new(body.boxed_unsync());
        *passed.status_mut() = head.status;
        *passed.headers_mut() = hop_by_hop::response(&head.headers, method, head.status);
        self.upstream = Some(upstream);
        Ok(passed)
    }

    fn failed(&self, upstream: &Upstream, error: &hyper::Error) -> Refusal {
        let target = &upstream.target;
        match upstream.meter.was_cut() {
            Some(Cut::BytesUsedUp) => self.session.bytes_used_up(target),
            Some(Cut::Idle(idle)) => Refusal::failed(target, Failure::Silent(idle)),
            Some(Cut::Total(total)) => Refusal::failed(target, Failure::TooLong(total)),
            // Nobody is left to be told, and nothing was refused.
            None if client_left(error) => Refusal::failed(target, Failure::ClientLeft),
            // The body is the guest's.
            None if error.is_user() => self.session.deny(Denial::of(
                target,
                Reason::Malformed {
                    problem: Malformed::Framing,
                },
            )),
            None => Refusal::failed(target, Failure::NoHttpAnswer),
        }
    }
}

/// Whether a request failed because the guest broke it off, and not by what it said.
fn client_left(error: &hyper::Error) -> bool {
    let causes = std::iter::successors(error.source(), |&cause| cause.source());
    error.is_user()
        && causes.into_iter().any(|cause| {
            let broken_off = cause.downcast_ref().is_some_and(hyper::Error::is_incomplete_message);
            let lost = cause.downcast_ref().map(io::Error::kind);
            broken_off
                || matches!(
                    lost,
                    Some(io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe)
                )
        })
}

fn outgoing(target: &Target, uri: Uri, head: &Parts, body: Incoming) -> Result<Request<Incoming>, Refusal> {
    // A canonical host is ASCII.
    let host = HeaderValue::try_from(target.host_field(Port::HTTP))
        .map_err(|_| Refusal::failed(target, Failure::NoHttpAnswer))?;
    let length = body.size_hint().exact();
    let mut request = Request::new(body);
    *request.method_mut() = head.method.clone();
    *request.uri_mut() = uri;
    *request.version_mut() = Version::HTTP_11;
    *request.headers_mut() = hop_by_hop::request(&head.headers, host, length);
    Ok(request)
}
