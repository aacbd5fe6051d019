//! The way of one request: path → place → body, whole → what it says → credential → budget → record → provider → answer.
//!
//! Every step before the provider can only refuse, and nothing is sent before all of them have passed.

use crate::auth::broker::Broker;
use crate::auth::broker::answer::{AnswerBody, Counted, whole};
use crate::auth::broker::budget::{Account, Admitted, NotAdmitted};
use crate::auth::broker::document::Json;
use crate::auth::broker::passage::{self, Endpoint};
use crate::auth::broker::refusal::{MAX_REQUEST_BODY, Refusal, Verdict, provider_message, quote};
use crate::auth::broker::retry;
use crate::auth::broker::screen::{Terms, screen};
use crate::auth::broker::timely::Timely;
use crate::auth::broker::witness::Witness;
use crate::auth::chatgpt::LoginErrorKind;
use crate::auth::credential::{Credential, CredentialError, Grant};
use crate::auth::destination::Destination;
use crate::auth::upstream::{OutgoingBody, UpstreamError};
use crate::config::WebSearch;
use crate::config::quantity::ProviderName;
use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Full, LengthLimitError, Limited};
use hyper::body::{Body, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use hyper::{Request, Response};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// How long a request's body may take to arrive. Codex has it whole when it connects; whoever dawdles holds one of a session's
/// few places.
const BODY_TIMEOUT: Duration = Duration::from_secs(20);
/// How long a provider may take to begin its answer. Codex itself waits as long.
const BEGIN_TIMEOUT: Duration = Duration::from_secs(300);
/// How much of a provider's error body is read, in bytes.
const MAX_ERROR_BODY: usize = 64 << 10;
/// How long it may take to arrive.
const ERROR_BODY_TIMEOUT: Duration = Duration::from_secs(20);

/// From one session to its provider.
#[derive(Debug)]
pub struct Route {
    pub broker: Arc<Broker>,
    pub name: ProviderName,
    pub destination: Arc<Destination>,
    pub web_search: WebSearch,
    pub witness: Arc<dyn Witness>,
    /// Set when the session's thread has begun.
    pub terms: OnceLock<Terms>,
    pub account: Account,
    pub slots: Arc<Semaphore>,
    /// In KiB of bodies.
    pub held: Arc<Semaphore>,
}

/// A request as it will be sent, also more than once.
struct Outgoing {
    endpoint: Endpoint,
    headers: HeaderMap,
    body: Bytes,
    /// Kept for as long as the body is.
    _held: OwnedSemaphorePermit,
}

impl Route {
    pub async fn answer(&self, request: Request<Incoming>) -> Result<Response<AnswerBody>, Refusal> {
        let endpoint = Endpoint::of(request.method(), request.uri()).ok_or_else(|| Refusal::NotAllowed {
            method: quote(request.method().as_str()),
            path: quote(request.uri().path()),
        })?;
        // Refused by its announced length before it takes a place or any of it is read.
        if request.body().size_hint().lower() > MAX_REQUEST_BODY as u64 {
            return Err(Refusal::BodyTooLarge);
        }
        let slot = place(&self.slots, 1).await?;
        let outgoing = self.read(endpoint, request).await?;
        let grant = self.grant().await?;
        let admitted = self.account.admit(outgoing.body.len()).await?;
        let answer = match self.ask(&outgoing, &grant).await {
            Ok(answer) => answer,
            Err(refusal) => {
                match refusal.was_sent() {
                    true => admitted.for_nothing(),
                    false => admitted.withdraw(),
                }
                return Err(refusal);
            }
        };
        self.incoming(answer, admitted, slot).await
    }

    /// What the provider answers; where it refuses the credential and there is another, to that.
    async fn ask(&self, outgoing: &Outgoing, grant: &Grant) -> Result<Response<Incoming>, Refusal> {
        let answer = self.send(outgoing, grant).await?;
        if answer.status().as_u16() != 401 {
            return Ok(answer);
        }
        match self.another(grant).await? {
            Some(another) => self.send(outgoing, &another).await,
            None => Ok(answer),
        }
    }

    pub async fn grant(&self) -> Result<Grant, Refusal> {
        let grant = self.destination.credential.grant(&self.broker.secrets).await;
        grant.map_err(|error| self.no_credential(error))
    }

    async fn another(&self, refused: &Grant) -> Result<Option<Grant>, Refusal> {
        let another = self.destination.credential.another(&self.broker.secrets, refused).await;
        another.map_err(|error| self.no_credential(error))
    }

    fn no_credential(&self, error: CredentialError) -> Refusal {
        match error {
            CredentialError::Login(error) => match error.kind() {
                LoginErrorKind::Unreachable => Refusal::LoginUnreachable(error.to_string()),
                LoginErrorKind::LogIn | LoginErrorKind::Machine => Refusal::Login(error.to_string()),
            },
            error => Refusal::KeyMissing {
                provider: self.name.clone(),
                reason: error.to_string(),
            },
        }
    }

    fn credential_refused(&self, status: u16, message: String) -> Refusal {
        let key = match &self.destination.credential {
            Credential::ChatGpt(_) => {
                return Refusal::Login(format!(
                    "the ChatGPT backend refused the host's login (HTTP {status}: {message}). Look at it with `codex-mcp auth \
                     status`; to log in again: codex login"
                ));
            }
            Credential::Key { origin, .. } => format!("from {origin}"),
            Credential::None => "none is set".to_owned(),
        };
        Refusal::KeyRefused {
            provider: self.name.clone(),
            key,
            status,
            message,
        }
    }

    /// The guest's request, whole and looked through, with what passes of its headers.
    async fn read(&self, endpoint: Endpoint, request: Request<Incoming>) -> Result<Outgoing, Refusal> {
        let (head, body) = request.into_parts();
        let announced = body.size_hint().upper().unwrap_or(MAX_REQUEST_BODY as u64);
        let kib = u32::try_from(announced.div_ceil(1 << 10)).unwrap_or(u32::MAX);
        let held = place(&self.held, kib.clamp(1, (MAX_REQUEST_BODY >> 10) as u32)).await?;
        let mut headers = passage::request_headers(&head.headers);
        let body = match endpoint {
            Endpoint::Models => Bytes::new(),
            Endpoint::Responses => {
                let terms = self.terms.get().ok_or(Refusal::NotStarted)?;
                let body = whole_body(body).await?;
                let passed = screen(Json::parse(&body)?, terms)?;
                headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
                // It was JSON a moment ago.
                let written = serde_json::to_vec(&passed).map_err(|_| Refusal::BodyBroken)?;
                Bytes::from(written)
            }
        };
        Ok(Outgoing {
            endpoint,
            headers,
            body,
            _held: held,
        })
    }

    /// Sends it, and sends it again where nobody answered.
    async fn send(&self, outgoing: &Outgoing, grant: &Grant) -> Result<Response<Incoming>, Refusal> {
        let scheme = self.destination.base_url.scheme;
        let mut attempt = 1;
        loop {
            if !matches!(grant, Grant::Nothing) {
                self.witness.credential_used(&self.name, outgoing.endpoint)?;
            }
            let request = self.request(outgoing, grant)?;
            let sending = self.broker.upstream.send(scheme, request);
            let failure = match tokio::time::timeout(BEGIN_TIMEOUT, sending).await {
                Ok(Ok(answer)) => return Ok(answer),
                Ok(Err(error)) => error,
                // Whoever took the request and is silent has it, and Codex has given up by now.
                Err(_) => {
                    let late = format!("no answer within {} s", BEGIN_TIMEOUT.as_secs());
                    return Err(self.failed(UpstreamError::Unreachable(late)));
                }
            };
            let may_help = matches!(failure, UpstreamError::NotConnected(_) | UpstreamError::Unreachable(_));
            let Some(wait) = retry::wait_after(attempt, chance()).filter(|_| may_help) else {
                return Err(self.failed(failure));
            };
            tracing::debug!(provider = %self.name, error = %failure, attempt, "the provider did not answer; trying again");
            tokio::time::sleep(wait).await;
            attempt += 1;
        }
    }

    /// To the provider's own address, with the operator's headers and the credential.
    fn request(&self, outgoing: &Outgoing, grant: &Grant) -> Result<Request<OutgoingBody>, Refusal> {
        let body = match outgoing.endpoint {
            Endpoint::Responses => Full::new(outgoing.body.clone())
                .map_err(|never| match never {})
                .boxed_unsync(),
            Endpoint::Models => Empty::new().map_err(|never| match never {}).boxed_unsync(),
        };
        let mut request = Request::builder()
            .method(outgoing.endpoint.method())
            .uri(format!("{}{}", self.base_url(), outgoing.endpoint.path()))
            .body(body)
            .map_err(|error| Refusal::Untrusted {
                provider: self.name.clone(),
                base_url: self.base_url(),
                reason: format!("it makes no request: {error}"),
            })?;
        *request.headers_mut() = outgoing.headers.clone();
        for header in &self.destination.headers {
            request.headers_mut().insert(header.name.clone(), header.value.clone());
        }
        grant.add_to(request.headers_mut());
        Ok(request)
    }

    async fn incoming(
        &self,
        answer: Response<Incoming>,
        admitted: Admitted,
        place: OwnedSemaphorePermit,
    ) -> Result<Response<AnswerBody>, Refusal> {
        let (head, body) = answer.into_parts();
        let provider = self.name.clone();
        let status = head.status.as_u16();
        let passed = |body: AnswerBody| {
            let mut passed = Response::new(body);
            *passed.status_mut() = head.status;
            *passed.headers_mut() = self.response_headers(&head.headers);
            passed
        };
        let verdict = Verdict::of(head.status);
        if verdict == Verdict::Pass && head.status.is_success() {
            return Ok(passed(Counted::new(body, admitted, place).boxed_unsync()));
        }
        admitted.for_nothing();
        match verdict {
            Verdict::Pass => Ok(passed(whole(self.error_words(body).await))),
            Verdict::Redirect => Err(Refusal::Redirect { provider, status }),
            Verdict::KeyRefused => {
                let message = provider_message(self.error_words(body).await.as_bytes());
                Err(self.credential_refused(status, message))
            }
            Verdict::Refused => Err(Refusal::ProviderRefused {
                provider,
                status,
                message: provider_message(self.error_words(body).await.as_bytes()),
            }),
        }
    }

    /// A provider's error body, bounded, without secrets: some gateways quote the request that they refuse.
    async fn error_words(&self, body: Incoming) -> String {
        let reading = Limited::new(body, MAX_ERROR_BODY).collect();
        let words = match tokio::time::timeout(ERROR_BODY_TIMEOUT, reading).await {
            Ok(Ok(body)) => String::from_utf8_lossy(&body.to_bytes()).into_owned(),
            Ok(Err(_)) | Err(_) => String::new(),
        };
        // JSON has many ways to spell a character: what it says is looked at, not how.
        match serde_json::from_str::<serde_json::Value>(&words) {
            Ok(mut error) => {
                self.broker.redactor.json(&mut error);
                error.to_string()
            }
            Err(_) => self.broker.redactor.text(&words).into_owned(),
        }
    }

    /// What passes of an answer's headers. One that repeats a secret does not.
    fn response_headers(&self, headers: &HeaderMap) -> HeaderMap {
        let mut passed = passage::response_headers(headers);
        let tells = |value: &HeaderValue| {
            let text = String::from_utf8_lossy(value.as_bytes());
            self.broker.redactor.text(&text) != text
        };
        let telling: Vec<_> = passed
            .iter()
            .filter(|(_, value)| tells(value))
            .map(|(name, _)| name.clone())
            .collect();
        for name in telling {
            passed.remove(name);
        }
        passed
    }

    fn failed(&self, error: UpstreamError) -> Refusal {
        let provider = self.name.clone();
        let base_url = self.base_url();
        match error {
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
            UpstreamError::NotConnected(reason) | UpstreamError::Unreachable(reason) => Refusal::Unreachable {
                provider,
                base_url,
                reason,
            },
        }
    }

    fn base_url(&self) -> String {
        self.destination.base_url.to_string()
    }

    /// The answer to what was refused, which is counted.
    pub fn refuse(&self, refusal: &Refusal) -> Response<AnswerBody> {
        if !refusal.was_sent() {
            self.account.refused();
        }
        tracing::info!(code = refusal.code(), %refusal, "model request refused");
        let text = refusal.body().to_string();
        let mut response = Response::new(whole(self.broker.redactor.text(&text).into_owned()));
        *response.status_mut() = refusal.status();
        response
            .headers_mut()
            .insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        response
    }
}

impl From<NotAdmitted> for Refusal {
    fn from(reason: NotAdmitted) -> Self {
        match reason {
            NotAdmitted::Spent(spent) => Self::Spent {
                what: spent.what,
                limit: spent.limit,
                origin: spent.origin,
            },
            NotAdmitted::Refused(refused) => Self::Refused(refused),
        }
    }
}

async fn place(places: &Arc<Semaphore>, many: u32) -> Result<OwnedSemaphorePermit, Refusal> {
    // Never closed; if they were, nothing may pass.
    let place = Arc::clone(places).acquire_many_owned(many).await;
    place.map_err(|_| Refusal::BodyBroken)
}

async fn whole_body(body: Incoming) -> Result<Bytes, Refusal> {
    let body = Timely::new(Limited::new(body, MAX_REQUEST_BODY), BODY_TIMEOUT);
    let collected = body
        .collect()
        .await
        .map_err(|error| match error.downcast_ref::<LengthLimitError>() {
            Some(_) => Refusal::BodyTooLarge,
            None => Refusal::BodyBroken,
        })?;
    Ok(collected.to_bytes())
}

/// Without it all sessions would try again at the same moment, which is the worst that can come of it.
fn chance() -> u32 {
    getrandom::u32().unwrap_or_default()
}
