//! The guest's connection as a stream of requests, one after the other: each is read, decided and answered.
//!
//! The same for the proxy's own requests and for those inside a tunnel; [`Side`] says which. This module must never pass a
//! request on that was not decided about by itself, whatever the one before it was.

use crate::config::authority::Port;
use crate::config::target::Target;
use crate::egress::decision::{Denial, Malformed, Reason};
use crate::egress::forward::Forwarder;
use crate::egress::head::MAX_HEAD;
use crate::egress::head_screen::{Screened, Verdict};
use crate::egress::policy::Passage;
use crate::egress::refusal::{AnswerBody, Refusal, whole};
use crate::egress::relay::Session;
use crate::egress::request_target::{self, Asked, HostField};
use crate::egress::tunnel::Tunnel;
use bytes::{Bytes, BytesMut};
use hyper::body::Incoming;
use hyper::ext::ReasonPhrase;
use hyper::header::{CONNECTION, HeaderValue, TRANSFER_ENCODING};
use hyper::http::request::Parts;
use hyper::service::service_fn;
use hyper::upgrade::OnUpgrade;
use hyper::{Method, Request, Response, Version};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Mutex;

/// The longest that a connection may wait for a request's head, idle between two requests included (and no longer than
/// `network.idle`): whoever sends one byte a second holds a stream for no longer than this.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);

/// Who the requests are for.
#[derive(Debug)]
pub enum Side {
    /// The proxy: each names its target.
    Proxy,
    /// The server that a tunnel leads to, over the connection that was made for the tunnel.
    Server(Tunnel),
}

/// Serves requests until the connection closes; or until it becomes a tunnel, which is returned with the guest's stream and
/// with what it sent already.
pub async fn serve<S>(session: &Arc<Session>, stream: Screened<S>, side: Side) -> Option<(Tunnel, S, BytesMut)>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let verdict = stream.verdict();
    let (within, forwarder) = match side {
        Side::Proxy => (None, Forwarder::new(Arc::clone(session))),
        Side::Server(tunnel) => {
            let within = (tunnel.target.clone(), tunnel.passage.clone());
            let forwarder = Forwarder::over(Arc::clone(session), tunnel).await;
            (Some(within), forwarder)
        }
    };
    let requests = Requests {
        session: Arc::clone(session),
        verdict,
        within,
        state: Mutex::new(State {
            forwarder,
            tunnel: None,
        }),
    };
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT.min(session.limits().idle.value))
        // Above the bound of the heads that pass the screen, so that it is the screen that refuses one.
        .max_buf_size(2 * MAX_HEAD)
        // A client that has said all it wants to say still gets its answer.
        .half_close(true)
        .serve_connection(TokioIo::new(stream), service_fn(|request| requests.answered(request)))
        .with_upgrades()
        .await;
    if let Err(error) = connection {
        tracing::debug!(%error, "a guest's proxy connection ended");
    }
    let State { forwarder, tunnel } = requests.state.into_inner();
    forwarder.close().await;
    let (tunnel, upgrade) = tunnel?;
    let parts = upgrade.await.ok()?.downcast::<TokioIo<Screened<S>>>().ok()?;
    let (stream, held) = parts.io.into_inner().into_parts();
    // hyper read ahead, and the screen behind it did.
    let mut first = BytesMut::from(parts.read_buf);
    first.extend_from_slice(&held);
    Some((tunnel, stream, first))
}

struct Requests {
    session: Arc<Session>,
    verdict: Verdict,
    /// The tunnel that the requests are in.
    within: Option<(Target, Passage)>,
    /// hyper has one request of a connection under way at a time, so that nobody waits for this lock.
    state: Mutex<State>,
}

struct State {
    forwarder: Forwarder,
    tunnel: Option<(Tunnel, OnUpgrade)>,
}

impl Requests {
    async fn answered(&self, request: Request<Incoming>) -> Result<Response<AnswerBody>, Infallible> {
        let is_connect = request.method() == Method::CONNECT;
        let chunked = request.headers().contains_key(TRANSFER_ENCODING);
        let answer = self.answer(request).await;
        if let Err(Refusal::Denied(_)) = &answer {
            self.session.pace_refusal().await;
        }
        // Nothing behind these was screened: their end is where hyper says, and no other request may follow.
        let mut last = chunked || is_connect && answer.is_err();
        let mut answer = answer.unwrap_or_else(|refusal| {
            last |= is_malformed(&refusal);
            refusal.answer()
        });
        if last {
            let headers = answer.headers_mut();
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        Ok(answer)
    }

    async fn answer(&self, request: Request<Incoming>) -> Result<Response<AnswerBody>, Refusal> {
        let (head, body) = request.into_parts();
        match self.asked(&head).map_err(|problem| self.malformed(problem))? {
            Asked::Tunnel(target) => self.open(head, target).await,
            Asked::Request { target, uri } => {
                let passage = match &self.within {
                    None => self.session.decide(&target)?,
                    Some((_, passage)) => passage.clone(),
                };
                self.check_host(&head, &target, Port::HTTP, &passage)?;
                let mut state = self.state.lock().await;
                state.forwarder.forward(target, uri, head, body).await
            }
        }
    }

    fn asked(&self, head: &Parts) -> Result<Asked, Malformed> {
        if head.uri.path() == "*" {
            // What the screen puts in the place of a head that it refused.
            return Err(self.verdict.get().copied().unwrap_or(Malformed::NotAProxyRequest));
        }
        match &self.within {
            None => request_target::of_proxy(head),
            Some((target, _)) => request_target::of_server(head, target),
        }
    }

    async fn open(&self, mut head: Parts, target: Target) -> Result<Response<AnswerBody>, Refusal> {
        let passage = self.session.decide(&target)?;
        self.check_host(&head, &target, target.port, &passage)?;
        let slot = self.session.admit(&target)?;
        let upgrade = head.extensions.remove::<OnUpgrade>();
        let upgrade = upgrade.ok_or_else(|| self.malformed(Malformed::NotHttp))?;
        let upstream = self.session.reach(&target, slot).await?;
        let tunnel = Tunnel {
            target,
            passage,
            upstream,
        };
        self.state.lock().await.tunnel = Some((tunnel, upgrade));
        let mut answer = Response::new(whole(Bytes::new()));
        let established = ReasonPhrase::from_static(b"Connection established");
        answer.extensions_mut().insert(established);
        Ok(answer)
    }

    /// `usual` is the port of a `Host` that names none.
    fn check_host(&self, head: &Parts, target: &Target, usual: Port, passage: &Passage) -> Result<(), Refusal> {
        let named = match request_target::host_field(head, usual) {
            HostField::Names(named) if named == *target => return Ok(()),
            HostField::Absent if head.version == Version::HTTP_10 && self.within.is_none() => return Ok(()),
            HostField::Names(named) => Some(named),
            HostField::Absent | HostField::NoHost => None,
        };
        let rule = passage.rule.clone();
        Err(self.session.deny(Denial::of(target, Reason::OtherHost { rule, named })))
    }

    fn malformed(&self, problem: Malformed) -> Refusal {
        let reason = Reason::Malformed { problem };
        self.session.deny(match &self.within {
            Some((target, _)) => Denial::of(target, reason),
            None => Denial::malformed(problem),
        })
    }
}

/// Whether the place where the request ends is in doubt.
fn is_malformed(refusal: &Refusal) -> bool {
    match refusal {
        Refusal::Denied(denial) => matches!(*denial.reason, Reason::Malformed { .. }),
        Refusal::Failed { .. } => false,
    }
}

#[cfg(test)]
mod tests;
