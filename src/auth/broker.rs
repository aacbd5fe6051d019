//! Serves the guest's model connections: an HTTP server towards the container, a client towards the provider.
//!
//! The container sends requests without a credential; the key is added here, on the host, and only to the provider that
//! the operator configured. Bodies stream in both directions: an event reaches Codex when the provider sends it. This
//! module must never log a header or a body, nor answer with anything that holds the key.

use crate::auth::passage::{self, Endpoint};
use crate::auth::refusal::{MAX_REQUEST_BODY, Refusal, Verdict, provider_message, quote};
use crate::auth::secret::{Secret, SecretReader};
use crate::auth::timely::Timely;
use crate::auth::upstream::{OutgoingBody, Upstream, UpstreamError, chain};
use crate::config::Provider;
use crate::config::quantity::ProviderName;
use crate::wire::patient::Patient;
use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Empty, Full, LengthLimitError, Limited};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::error::Error;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Requests of one session that are with the provider at once; more wait. Codex runs a turn with one, and sub-agents and
/// compaction with a few.
const CONCURRENT: usize = 8;
/// The largest head of a request, in bytes. Codex sends about 2 KiB.
const MAX_HEAD: usize = 64 << 10;
/// The longest that a connection may wait for a request's head, idle between two requests included. Above the 90 s after
/// which Codex's client drops an idle connection by itself: were this end first, a request could cross the close.
const HEAD_TIMEOUT: Duration = Duration::from_secs(120);
/// How long a provider may be kept waiting for a request's body. Codex has it whole when it connects; whoever dawdles holds
/// one of [`CONCURRENT`] places, and a connection to the provider.
const BODY_TIMEOUT: Duration = Duration::from_secs(20);
/// How long an answer may wait for a reader. Codex reads what comes; whoever does not holds one of the few connections.
const READ_TIMEOUT: Duration = Duration::from_secs(60);
/// How much of a provider's error body is read, in bytes.
const MAX_ERROR_BODY: usize = 64 << 10;

type AnswerBody = UnsyncBoxBody<Bytes, Box<dyn Error + Send + Sync>>;

/// All providers of the process.
#[derive(Debug)]
pub struct Broker {
    providers: BTreeMap<ProviderName, Provider>,
    secrets: SecretReader,
    upstream: Upstream,
}

/// Why a session can't use a provider.
#[derive(Debug, thiserror::Error)]
pub enum BrokerError {
    #[error(
        "codex.provider names `{name}`, but there is no [providers.{name}]; configured: {}",
        list(configured)
    )]
    UnknownProvider {
        name: ProviderName,
        configured: Vec<ProviderName>,
    },
    #[error("{0}")]
    Key(Refusal),
}

fn list(names: &[ProviderName]) -> String {
    if names.is_empty() {
        return "none".to_owned();
    }
    names.iter().map(ProviderName::as_str).collect::<Vec<_>>().join(", ")
}

impl Broker {
    pub fn new(providers: BTreeMap<ProviderName, Provider>, secrets: SecretReader, upstream: Upstream) -> Self {
        Self {
            providers,
            secrets,
            upstream,
        }
    }

    /// The end that serves one session's connections. Reads the key once, so that a missing one refuses the launch
    /// instead of the first turn.
    pub async fn for_session(self: &Arc<Self>, name: &ProviderName) -> Result<SessionBroker, BrokerError> {
        let provider = self.providers.get(name).ok_or_else(|| BrokerError::UnknownProvider {
            name: name.clone(),
            configured: self.providers.keys().cloned().collect(),
        })?;
        let session = SessionBroker {
            route: Arc::new(Route {
                broker: Arc::clone(self),
                name: name.clone(),
                provider: provider.clone(),
                slots: Arc::new(Semaphore::new(CONCURRENT)),
            }),
        };
        session.route.key().await.map_err(BrokerError::Key)?;
        Ok(session)
    }
}

/// Serves the model connections of one session. Clones share its bound on concurrent requests.
#[derive(Debug, Clone)]
pub struct SessionBroker {
    route: Arc<Route>,
}

impl SessionBroker {
    /// Serves one connection of the guest, request after request, until it closes. Dropping the future aborts what is
    /// under way.
    pub async fn serve(&self, stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static) {
        let service = service_fn(|request| async {
            let answer = self.route.answer(request).await;
            Ok::<_, Infallible>(answer.unwrap_or_else(|refusal| refuse(&refusal)))
        });
        let connection = hyper::server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIMEOUT)
            .max_buf_size(MAX_HEAD)
            .serve_connection(TokioIo::new(Patient::new(stream, READ_TIMEOUT)), service)
            .await;
        if let Err(error) = connection {
            // Mostly Codex hanging up on an answer that it no longer wants.
            tracing::debug!(%error, "model connection ended");
        }
    }
}

#[derive(Debug)]
struct Route {
    broker: Arc<Broker>,
    name: ProviderName,
    provider: Provider,
    slots: Arc<Semaphore>,
}

impl Route {
    async fn answer(&self, request: Request<Incoming>) -> Result<Response<AnswerBody>, Refusal> {
        let endpoint = Endpoint::of(request.method(), request.uri()).ok_or_else(|| Refusal::NotAllowed {
            method: quote(request.method().as_str()),
            path: quote(request.uri().path()),
        })?;
        // Refused by its announced length before a key is read or a connection made.
        if request.body().size_hint().lower() > MAX_REQUEST_BODY as u64 {
            return Err(Refusal::BodyTooLarge);
        }
        let key = self.key().await?;
        let outgoing = self.outgoing(endpoint, request, key.as_deref())?;
        let Ok(slot) = Arc::clone(&self.slots).acquire_owned().await else {
            // Never closed; if it were, nothing may pass.
            return Err(Refusal::BodyBroken);
        };
        let scheme = self.provider.base_url.value.scheme;
        let answer = self
            .broker
            .upstream
            .send(scheme, outgoing)
            .await
            .map_err(|error| self.failed(error))?;
        self.incoming(answer, key.as_deref(), slot).await
    }

    async fn key(&self) -> Result<Option<Arc<Secret>>, Refusal> {
        let Some(source) = &self.provider.key else {
            return Ok(None);
        };
        let secret = self.broker.secrets.read(&source.value).await;
        secret.map(Some).map_err(|error| Refusal::KeyMissing {
            provider: self.name.clone(),
            origin: source.origin.clone(),
            reason: error.to_string(),
        })
    }

    /// A fresh request with what passes of the guest's, to the provider's own address, with the key.
    fn outgoing(
        &self,
        endpoint: Endpoint,
        request: Request<Incoming>,
        key: Option<&Secret>,
    ) -> Result<Request<OutgoingBody>, Refusal> {
        let unusable = |reason: String| Refusal::Untrusted {
            provider: self.name.clone(),
            base_url: self.base_url(),
            reason,
        };
        let (head, body) = request.into_parts();
        let body = match endpoint {
            Endpoint::Responses => Timely::new(Limited::new(body, MAX_REQUEST_BODY), BODY_TIMEOUT).boxed_unsync(),
            Endpoint::Models => Empty::new().map_err(|never: Infallible| match never {}).boxed_unsync(),
        };
        let mut outgoing = Request::builder()
            .method(endpoint.method())
            .uri(format!("{}{}", self.base_url(), endpoint.path()))
            .body(body)
            .map_err(|error| unusable(format!("it makes no request: {error}")))?;
        *outgoing.headers_mut() = passage::request_headers(&head.headers);
        if let Some(key) = key {
            let bearer = [b"Bearer ", key.expose()].concat();
            let mut bearer =
                HeaderValue::from_bytes(&bearer).map_err(|_| unusable("its key can't stand in a header".to_owned()))?;
            bearer.set_sensitive(true);
            outgoing.headers_mut().insert(AUTHORIZATION, bearer);
        }
        Ok(outgoing)
    }

    async fn incoming(
        &self,
        answer: Response<Incoming>,
        key: Option<&Secret>,
        slot: OwnedSemaphorePermit,
    ) -> Result<Response<AnswerBody>, Refusal> {
        let (head, body) = answer.into_parts();
        let provider = self.name.clone();
        let status = head.status.as_u16();
        match Verdict::of(head.status) {
            Verdict::Pass if head.status.is_success() => {
                let body = Slotted { body, _slot: slot };
                let mut passed = Response::new(body.map_err(Into::into).boxed_unsync());
                *passed.status_mut() = head.status;
                *passed.headers_mut() = passage::response_headers(&head.headers);
                Ok(passed)
            }
            Verdict::Pass => {
                let words = error_words(body, key).await;
                let mut passed = Response::new(whole(words));
                *passed.status_mut() = head.status;
                *passed.headers_mut() = passage::response_headers(&head.headers);
                Ok(passed)
            }
            Verdict::Redirect => Err(Refusal::Redirect { provider, status }),
            Verdict::KeyRefused => Err(Refusal::KeyRefused {
                provider,
                key: match &self.provider.key {
                    Some(source) => format!("from {}", source.origin),
                    None => "none is set".to_owned(),
                },
                status,
                message: provider_message(error_words(body, key).await.as_bytes()),
            }),
            Verdict::Refused => Err(Refusal::ProviderRefused {
                provider,
                status,
                message: provider_message(error_words(body, key).await.as_bytes()),
            }),
        }
    }

    fn failed(&self, error: UpstreamError) -> Refusal {
        let provider = self.name.clone();
        let base_url = self.base_url();
        match error {
            UpstreamError::Body(cause) => {
                let too_large = chain(cause.as_ref()).iter().any(|cause| cause.is::<LengthLimitError>());
                if too_large {
                    Refusal::BodyTooLarge
                } else {
                    Refusal::BodyBroken
                }
            }
            UpstreamError::Tls(reason) => Refusal::Untrusted {
                provider,
                base_url,
                reason: format!(
                    "{reason}; a private authority's certificate belongs into the file that network.ca_bundle names, or into \
                     this machine's trust store"
                ),
            },
            UpstreamError::Trust(error) => Refusal::Untrusted {
                provider,
                base_url,
                reason: error.to_string(),
            },
            UpstreamError::Unreachable(reason) => Refusal::Unreachable {
                provider,
                base_url,
                reason,
            },
        }
    }

    fn base_url(&self) -> String {
        self.provider.base_url.value.to_string()
    }
}

/// A provider's error body, bounded, without the key: some gateways quote the request that they refuse.
async fn error_words(body: Incoming, key: Option<&Secret>) -> String {
    let words = match Limited::new(body, MAX_ERROR_BODY).collect().await {
        Ok(body) => String::from_utf8_lossy(&body.to_bytes()).into_owned(),
        Err(_) => String::new(),
    };
    match key {
        Some(key) => key.redact(&words),
        None => words,
    }
}

fn refuse(refusal: &Refusal) -> Response<AnswerBody> {
    tracing::info!(code = refusal.code(), %refusal, "model request refused");
    let mut response = Response::new(whole(refusal.body().to_string()));
    *response.status_mut() = refusal.status();
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

fn whole(text: String) -> AnswerBody {
    Full::new(Bytes::from(text))
        .map_err(|never| match never {})
        .boxed_unsync()
}

/// A body that holds its request's slot until it ends or is dropped.
struct Slotted {
    body: Incoming,
    _slot: OwnedSemaphorePermit,
}

impl Body for Slotted {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::network::Resolution;
    use crate::config::quantity::{BaseUrl, Scheme};
    use crate::config::{Origin, SecretSource, Sourced};
    use crate::dial::fixtures::{Behaviour, ConnectProxy, ESTABLISHED, settings};
    use crate::dial::proxy::Proxy;
    use crate::dial::{Dialer, Names};
    use crate::redact::Redactor;
    use serde_json::Value;
    use std::net::SocketAddr;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
    use tokio::net::{TcpListener, TcpStream};

    const KEY: &str = "sk-very-secret";
    const POST: &str = "POST /v1/responses HTTP/1.1\r\nhost: gateway\r\ncontent-length: 2\r\n";

    struct Bench {
        listener: TcpListener,
        session: SessionBroker,
    }

    async fn bench() -> Bench {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let session = broker(address, Some("KEY")).for_session(&name("openai")).await.unwrap();
        Bench { listener, session }
    }

    fn name(name: &str) -> ProviderName {
        name.parse().unwrap()
    }

    fn upstream() -> Upstream {
        Upstream::new(Dialer::new(Names::new(&[])), None)
    }

    fn broker(address: SocketAddr, variable: Option<&str>) -> Arc<Broker> {
        let provider = Provider {
            base_url: Sourced::new(
                BaseUrl {
                    scheme: Scheme::Http,
                    host: address.ip().to_string().parse().unwrap(),
                    port: address.port().to_string().parse().unwrap(),
                    path: "/base/v1".into(),
                },
                Origin::Default,
            ),
            key: variable.map(|variable| Sourced::new(SecretSource::Env(variable.into()), Origin::Default)),
        };
        let secrets = SecretReader::new(|name| (name == "KEY").then(|| KEY.to_owned()), Redactor::default());
        let providers = BTreeMap::from([(name("openai"), provider)]);
        Arc::new(Broker::new(providers, secrets, upstream()))
    }

    impl Bench {
        fn connect(&self) -> DuplexStream {
            let (guest, host) = tokio::io::duplex(64 << 10);
            let session = self.session.clone();
            tokio::spawn(async move { session.serve(host).await });
            guest
        }

        /// What the provider gets for one request of the guest, and what the guest gets for the provider's answer.
        async fn exchange(&self, request: &str, answer: &str) -> (String, String) {
            let mut guest = self.connect();
            guest.write_all(request.as_bytes()).await.unwrap();
            let (mut provider, _) = self.listener.accept().await.unwrap();
            let received = read_request(&mut provider).await;
            provider.write_all(answer.as_bytes()).await.unwrap();
            drop(provider);
            (received, read_answer(&mut guest).await)
        }

        /// What the guest gets for a request that must not reach the provider.
        async fn refused(&self, request: &str) -> (String, Value) {
            let mut guest = self.connect();
            guest.write_all(request.as_bytes()).await.unwrap();
            let answer = tokio::select! {
                answer = read_answer(&mut guest) => answer,
                _ = self.listener.accept() => panic!("it reached the provider"),
            };
            let (head, body) = answer.split_once("\r\n\r\n").unwrap();
            let body: Value = serde_json::from_str(body).unwrap();
            (head.lines().next().unwrap().to_owned(), body["error"].clone())
        }
    }

    /// A request with a body of two bytes, or none.
    async fn read_request(stream: &mut TcpStream) -> String {
        let mut seen = String::new();
        while !seen.contains("\r\n\r\n") || (seen.starts_with("POST") && !seen.ends_with("{}")) {
            let mut piece = [0; 4096];
            let read = stream.read(&mut piece).await.unwrap();
            assert_ne!(read, 0, "{seen}");
            seen.push_str(std::str::from_utf8(&piece[..read]).unwrap());
        }
        seen
    }

    /// One answer, by its content-length.
    async fn read_answer(stream: &mut DuplexStream) -> String {
        let mut seen = String::new();
        loop {
            let length = seen.split_once("\r\n\r\n").map(|(head, body)| {
                let length = head
                    .lines()
                    .find_map(|line| line.strip_prefix("content-length: "))
                    .unwrap();
                (length.parse::<usize>().unwrap(), body.len())
            });
            if matches!(length, Some((wanted, there)) if there >= wanted) {
                return seen;
            }
            let mut piece = [0; 4096];
            let read = stream.read(&mut piece).await.unwrap();
            assert_ne!(read, 0, "{seen}");
            seen.push_str(std::str::from_utf8(&piece[..read]).unwrap());
        }
    }

    #[tokio::test]
    async fn the_key_is_added_and_only_listed_headers_pass() {
        let request = format!(
            "{POST}authorization: Bearer guest\r\ncookie: a=b\r\nx-codex-turn-metadata: leak\r\n\
             content-type: application/json\r\nthread-id: t1\r\n\r\n{{}}"
        );
        let answer = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\nset-cookie: c=d\r\nx-request-id: r1\r\n\r\nok";
        let bench = bench().await;
        let (received, answered) = bench.exchange(&request, answer).await;
        let host = format!("host: {}\r\n", bench.listener.local_addr().unwrap());
        insta::assert_snapshot!(received.replace(&host, "host: PROVIDER\r\n").replace('\r', ""), @r"
        POST /base/v1/responses HTTP/1.1
        content-type: application/json
        thread-id: t1
        authorization: Bearer sk-very-secret
        host: PROVIDER
        content-length: 2

        {}
        ");
        assert!(
            answered.starts_with("HTTP/1.1 200 OK\r\n") && answered.ends_with("\r\n\r\nok"),
            "{answered}"
        );
        assert!(
            answered.contains("x-request-id: r1") && !answered.contains("set-cookie"),
            "{answered}"
        );
    }

    #[tokio::test]
    async fn models_passes_without_its_query_and_a_body() {
        let request = "GET /v1/models?client_version=1 HTTP/1.1\r\nhost: x\r\n\r\n";
        let (received, _) = bench()
            .await
            .exchange(request, "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
            .await;
        assert!(received.starts_with("GET /base/v1/models HTTP/1.1\r\n"), "{received}");
    }

    #[tokio::test]
    async fn an_event_arrives_before_the_next_is_sent() {
        let bench = bench().await;
        let mut guest = bench.connect();
        guest.write_all(format!("{POST}\r\n{{}}").as_bytes()).await.unwrap();
        let (mut provider, _) = bench.listener.accept().await.unwrap();
        read_request(&mut provider).await;
        let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
        provider
            .write_all(format!("{head}7\r\ndata: 1\r\n").as_bytes())
            .await
            .unwrap();
        // The provider sends nothing more until the guest has the first event: a buffering broker would hang here.
        let mut seen = Vec::new();
        while !String::from_utf8_lossy(&seen).contains("data: 1") {
            assert_ne!(guest.read_buf(&mut seen).await.unwrap(), 0);
        }
        provider.write_all(b"7\r\ndata: 2\r\n0\r\n\r\n").await.unwrap();
        while !String::from_utf8_lossy(&seen).ends_with("0\r\n\r\n") {
            assert_ne!(guest.read_buf(&mut seen).await.unwrap(), 0);
        }
        assert!(String::from_utf8_lossy(&seen).contains("data: 2"));
    }

    #[tokio::test]
    async fn a_guest_that_hangs_up_ends_the_providers_request() {
        let bench = bench().await;
        let mut guest = bench.connect();
        guest.write_all(format!("{POST}\r\n{{}}").as_bytes()).await.unwrap();
        let (mut provider, _) = bench.listener.accept().await.unwrap();
        read_request(&mut provider).await;
        drop(guest);
        assert_eq!(provider.read(&mut [0; 16]).await.unwrap(), 0);
    }

    #[tokio::test]
    async fn what_is_not_on_the_list_goes_nowhere() {
        let bench = bench().await;
        for line in [
            "DELETE /v1/responses",
            "GET /v1/files",
            "POST /v1/responses/x",
            "POST /base/v1/responses",
        ] {
            let (status, error) = bench.refused(&format!("{line} HTTP/1.1\r\nhost: x\r\n\r\n")).await;
            assert_eq!(status, "HTTP/1.1 404 Not Found");
            assert_eq!(error["code"], "codex_mcp_not_allowed");
            assert!(error["message"].as_str().unwrap().contains(line), "{error}");
        }
    }

    #[tokio::test]
    async fn a_body_over_the_bound_is_refused_by_its_length_and_while_it_streams() {
        let announced = "POST /v1/responses HTTP/1.1\r\nhost: x\r\ncontent-length: 16777217\r\n\r\n";
        let (status, error) = bench().await.refused(announced).await;
        assert_eq!(
            (status.as_str(), &error["code"]),
            ("HTTP/1.1 400 Bad Request", &"codex_mcp_request_too_large".into())
        );

        let bench = bench().await;
        let (mut reader, mut writer) = tokio::io::split(bench.connect());
        let writing = tokio::spawn(async move {
            writer
                .write_all(b"POST /v1/responses HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n")
                .await?;
            let chunk = [b"100000\r\n", vec![b'a'; 1 << 20].as_slice(), b"\r\n"].concat();
            for _ in 0..17 {
                writer.write_all(&chunk).await?;
            }
            Ok::<_, std::io::Error>(())
        });
        let (mut provider, _) = bench.listener.accept().await.unwrap();
        let draining = tokio::spawn(async move { tokio::io::copy(&mut provider, &mut tokio::io::sink()).await });
        let mut seen = Vec::new();
        while !String::from_utf8_lossy(&seen).contains("codex_mcp_request_too_large") {
            assert_ne!(
                reader.read_buf(&mut seen).await.unwrap(),
                0,
                "{}",
                String::from_utf8_lossy(&seen)
            );
        }
        assert!(seen.starts_with(b"HTTP/1.1 400 "));
        writing.abort();
        // However it ended, the provider got no whole request: the last chunk never came.
        draining.abort();
    }

    #[tokio::test]
    async fn a_redirect_is_explained_and_not_followed() {
        let redirect = "HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n";
        let (_, answered) = bench().await.exchange(&format!("{POST}\r\n{{}}"), redirect).await;
        assert!(answered.starts_with("HTTP/1.1 400 "), "{answered}");
        assert!(
            answered.contains("codex_mcp_provider_redirects") && !answered.contains("location"),
            "{answered}"
        );
    }

    #[tokio::test]
    async fn a_refused_key_ends_the_turn_and_is_never_quoted() {
        let body = format!(r#"{{"error":{{"message":"bad key {KEY}"}}}}"#);
        let refused = format!(
            "HTTP/1.1 401 Unauthorized\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        let (_, answered) = bench().await.exchange(&format!("{POST}\r\n{{}}"), &refused).await;
        assert!(answered.starts_with("HTTP/1.1 400 "), "{answered}");
        assert!(
            answered.contains("codex_mcp_key_refused") && answered.contains("bad key [redacted]"),
            "{answered}"
        );
        assert!(!answered.contains(KEY));
    }

    #[tokio::test]
    async fn errors_that_codex_understands_keep_status_and_body() {
        for status in [400, 429, 503] {
            let body = format!(r#"{{"error":{{"code":"server_is_overloaded","message":"{KEY}"}}}}"#);
            let answer = format!(
                "HTTP/1.1 {status} X\r\nretry-after: 1\r\ncontent-length: {}\r\n\r\n{body}",
                body.len()
            );
            let (_, answered) = bench().await.exchange(&format!("{POST}\r\n{{}}"), &answer).await;
            assert!(answered.starts_with(&format!("HTTP/1.1 {status} ")), "{answered}");
            assert!(
                answered.contains("server_is_overloaded") && answered.contains("retry-after: 1"),
                "{answered}"
            );
            assert!(!answered.contains(KEY), "{answered}");
        }
    }

    #[tokio::test]
    async fn an_unreachable_provider_is_named() {
        let bench = bench().await;
        let address = bench.listener.local_addr().unwrap();
        drop(bench.listener);
        let (mut guest, host) = tokio::io::duplex(1 << 16);
        tokio::spawn(async move { bench.session.serve(host).await });
        guest.write_all(format!("{POST}\r\n{{}}").as_bytes()).await.unwrap();
        let answered = read_answer(&mut guest).await;
        assert!(answered.starts_with("HTTP/1.1 502 "), "{answered}");
        assert!(
            answered.contains(&address.to_string()) && answered.contains("refused"),
            "{answered}"
        );
    }

    #[tokio::test]
    async fn requests_go_through_the_operators_proxy_and_its_pool_is_kept() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let to = listener.local_addr().unwrap();
        let proxy = ConnectProxy::start(move |_| Behaviour::Connect(ESTABLISHED, to)).await;
        let proxied = Proxy::new(settings(proxy.address, &[], Resolution::Here), None);
        let dialer = Dialer::through(Names::new(&[]), proxied);
        // An address that leads nowhere from here.
        let mut broker = Arc::into_inner(broker("192.0.2.1:80".parse().unwrap(), Some("KEY"))).unwrap();
        broker.upstream = Upstream::new(dialer, None);
        let session = Arc::new(broker).for_session(&name("openai")).await.unwrap();
        let bench = Bench { listener, session };
        let mut guest = bench.connect();
        let (mut provider, request) = (None, format!("{POST}\r\n{{}}"));
        for _ in 0..2 {
            guest.write_all(request.as_bytes()).await.unwrap();
            let stream = match &mut provider {
                Some(stream) => stream,
                None => provider.insert(bench.listener.accept().await.unwrap().0),
            };
            let received = read_request(stream).await;
            assert!(
                received.starts_with("POST /base/v1/responses HTTP/1.1\r\n"),
                "{received}"
            );
            stream
                .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
                .await
                .unwrap();
            let answered = read_answer(&mut guest).await;
            assert!(answered.ends_with("ok"), "{answered}");
        }
        assert_eq!(proxy.targets(), ["192.0.2.1:80"]);
    }

    #[tokio::test]
    async fn a_tls_provider_is_never_spoken_to_in_plain_text() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let request = Request::builder()
            .uri(format!("http://{}/v1/models", listener.local_addr().unwrap()))
            .body(whole(String::new()))
            .unwrap();
        let upstream = upstream();
        tokio::select! {
            answer = upstream.send(Scheme::Https, request) => assert!(answer.is_err()),
            _ = listener.accept() => panic!("connected in plain text"),
        }
    }

    #[tokio::test]
    async fn a_session_without_its_key_or_provider_is_refused_before_it_starts() {
        let address = "127.0.0.1:1".parse().unwrap();
        let missing = broker(address, Some("OTHER"))
            .for_session(&name("openai"))
            .await
            .unwrap_err();
        insta::assert_snapshot!(missing, @"no key for provider `openai` (providers.openai.key, from default): environment variable OTHER is not set; set it where codex-mcp is started");
        let unknown = broker(address, None).for_session(&name("azure")).await.unwrap_err();
        insta::assert_snapshot!(unknown, @"codex.provider names `azure`, but there is no [providers.azure]; configured: openai");
        assert!(broker(address, None).for_session(&name("openai")).await.is_ok());
    }

    #[tokio::test]
    async fn requests_over_the_sessions_bound_wait_for_a_slot() {
        let bench = bench().await;
        let mut guests = Vec::new();
        let mut providers = Vec::new();
        for _ in 0..CONCURRENT {
            let mut guest = bench.connect();
            guest.write_all(format!("{POST}\r\n{{}}").as_bytes()).await.unwrap();
            let (mut provider, _) = bench.listener.accept().await.unwrap();
            read_request(&mut provider).await;
            provider
                .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nx")
                .await
                .unwrap();
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\nx") {
                guest.read_buf(&mut head).await.unwrap();
            }
            guests.push(guest);
            providers.push(provider);
        }
        assert_eq!(bench.session.route.slots.available_permits(), 0);
        let mut waiting = bench.connect();
        waiting.write_all(format!("{POST}\r\n{{}}").as_bytes()).await.unwrap();
        // One answer's end frees the slot, and only then the waiting request is sent.
        providers[0].write_all(b"12345678").await.unwrap();
        guests[0].read_exact(&mut [0; 8]).await.unwrap();
        let reused = async { read_request(&mut providers[0]).await };
        let fresh = async {
            let (mut provider, _) = bench.listener.accept().await.unwrap();
            read_request(&mut provider).await
        };
        // The freed connection is pooled, so either it or a new one carries the request.
        let received = tokio::select! { received = reused => received, received = fresh => received };
        assert!(received.starts_with("POST /base/v1/responses"), "{received}");
    }
}
