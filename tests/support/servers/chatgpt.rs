//! A stand-in of the ChatGPT backend and of the host that refreshes its logins, on loopback.
//!
//! As strict as the real ones where it matters: a refresh token is good for one use and gives the next one, a second use ends the
//! whole login, an access token ends when it says, and every request must say whose it is. Behind that it is the scripted model.
//! It names nothing of its neighbours, because unit tests of the library include this file as well.
#![allow(
    dead_code,
    clippy::disallowed_methods,
    reason = "each test binary uses its part; tokens end by the clock"
)]

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use codex_mcp::scripted_model::{Access, RecordedRequest, ScriptedModel};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Value, json};
use std::collections::{HashMap, VecDeque};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::net::TcpListener;
use tokio_util::task::AbortOnDropHandle;

pub const ACCOUNT: &str = "acc-1";
pub const EMAIL: &str = "me@example.com";
/// Codex's own id at the real host.
const CLIENT_ID: &str = "app_EMoamEEZ73f0CkXaXp7hrann";

type Body = UnsyncBoxBody<Bytes, hyper::Error>;

/// A running stand-in; it ends with this value.
pub struct ChatGpt {
    address: SocketAddr,
    state: Arc<State>,
    model: ScriptedModel,
    _accepting: AbortOnDropHandle<()>,
}

struct State {
    model: SocketAddr,
    ledger: Mutex<Ledger>,
}

/// What was asked so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Refreshes that gave new tokens, whether or not the answer was let through.
    pub refreshes: usize,
    /// Refresh tokens that came a second time. None ever may.
    pub reuses: usize,
    /// All requests to the token endpoint.
    pub token_requests: usize,
    /// Requests with an access token that is not good, or without the account's id.
    pub unauthorized: usize,
    /// Requests that the backend took.
    pub served: usize,
}

/// What the token endpoint does once, instead of its work.
#[derive(Debug, Clone)]
pub enum Fault {
    /// Answers with this status and `error.code`; the token stays good.
    Refuse(u16, &'static str),
    /// Spends the token, and hangs up without an answer.
    LoseAnswer,
    /// Spends the token, and never answers.
    Hang,
}

#[derive(Default)]
struct Ledger {
    /// Seconds, of access tokens that are given from now on.
    lifetime: i64,
    /// Of each answer of the token endpoint.
    delay: Duration,
    given: u64,
    /// Logins that a second use ended.
    ended: Vec<u64>,
    access: HashMap<String, (u64, i64)>,
    refresh: HashMap<String, (u64, Use)>,
    faults: VecDeque<Fault>,
    counts: Counts,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Use {
    Unused,
    Used,
}

impl ChatGpt {
    /// Access tokens are good for an hour, until [`Self::set_lifetime`].
    pub async fn start() -> Self {
        let model = ScriptedModel::start(Access::Open).await.unwrap();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let ledger = Ledger {
            lifetime: 3600,
            ..Ledger::default()
        };
        let state = Arc::new(State {
            model: model.address(),
            ledger: Mutex::new(ledger),
        });
        let accepting = tokio::spawn(accept(listener, Arc::clone(&state)));
        Self {
            address,
            state,
            model,
            _accepting: AbortOnDropHandle::new(accepting),
        }
    }

    /// `auth.token_url`.
    pub fn token_url(&self) -> String {
        format!("http://{}/oauth/token", self.address)
    }

    /// `auth.chatgpt_base_url`.
    pub fn base_url(&self) -> String {
        format!("http://{}/backend-api/codex", self.address)
    }

    /// The text of an `auth.json`, as a new login leaves it.
    pub fn log_in(&self) -> String {
        let mut ledger = self.state.ledger();
        let login = ledger.number();
        let tokens = ledger.give(login);
        drop(ledger);
        let tokens = json!({
            "id_token": tokens["id_token"], "access_token": tokens["access_token"],
            "refresh_token": tokens["refresh_token"], "account_id": ACCOUNT,
        });
        let file = json!({
            "auth_mode": "chatgpt", "OPENAI_API_KEY": null, "tokens": tokens,
            "last_refresh": "2026-11-01T00:00:00Z", "x_of_another_version": {"kept": true},
        });
        format!("{file:#}")
    }

    /// How long access tokens are good that are given from now on, in seconds; not positive: they have ended already.
    pub fn set_lifetime(&self, seconds: i64) {
        self.state.ledger().lifetime = seconds;
    }

    /// How long the token endpoint takes for an answer.
    pub fn set_delay(&self, delay: Duration) {
        self.state.ledger().delay = delay;
    }

    /// Takes no access token any more that was given so far.
    pub fn forget_access(&self) {
        self.state.ledger().access.clear();
    }

    /// The next request to the token endpoint that no other fault waits for.
    pub fn fault(&self, fault: Fault) {
        self.state.ledger().faults.push_back(fault);
    }

    pub fn counts(&self) -> Counts {
        self.state.ledger().counts
    }

    /// What reached the model.
    pub fn requests(&self) -> Vec<RecordedRequest> {
        self.model.requests()
    }
}

impl State {
    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ledger {
    fn number(&mut self) -> u64 {
        self.given += 1;
        self.given
    }

    fn give(&mut self, login: u64) -> Value {
        let number = self.number();
        let expires = now() + self.lifetime;
        let auth = json!({"chatgpt_account_id": ACCOUNT, "chatgpt_plan_type": "plus", "chatgpt_user_id": "user-1"});
        let token = |more: Value| {
            let mut payload = json!({"exp": expires, "jti": number, "https://api.openai.com/auth": auth});
            payload
                .as_object_mut()
                .unwrap()
                .extend(more.as_object().unwrap().clone());
            let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
            format!(
                "{}.{}.{}",
                part(&json!({"alg": "RS256"})),
                part(&payload),
                URL_SAFE_NO_PAD.encode("signature")
            )
        };
        let access = token(json!({"aud": ["https://api.openai.com/v1"]}));
        let refresh = format!("rt-of-the-stand-in-{number}");
        self.access.insert(access.clone(), (login, expires));
        self.refresh.insert(refresh.clone(), (login, Use::Unused));
        json!({
            "access_token": access, "refresh_token": refresh,
            "id_token": token(json!({"email": EMAIL})), "token_type": "Bearer", "expires_in": self.lifetime,
        })
    }

    /// What becomes of one use of a refresh token: new tokens, or a status and a code.
    fn spend(&mut self, token: &str) -> Result<Value, (u16, &'static str)> {
        let Some((login, used)) = self.refresh.get_mut(token) else {
            return Err((401, "refresh_token_invalidated"));
        };
        let login = *login;
        if std::mem::replace(used, Use::Used) == Use::Used {
            self.counts.reuses += 1;
            self.ended.push(login);
            return Err((401, "refresh_token_reused"));
        }
        if self.ended.contains(&login) {
            return Err((401, "refresh_token_invalidated"));
        }
        self.counts.refreshes += 1;
        Ok(self.give(login))
    }

    fn allows(&self, headers: &HeaderMap) -> bool {
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let bearer = text(AUTHORIZATION.as_str()).and_then(|value| value.strip_prefix("Bearer "));
        let known = bearer.and_then(|token| self.access.get(token));
        let good = known.is_some_and(|(login, expires)| *expires > now() && !self.ended.contains(login));
        good && text("chatgpt-account-id") == Some(ACCOUNT)
    }
}

async fn accept(listener: TcpListener, state: Arc<State>) {
    // Connections end with the set, and the set with this task.
    let mut connections = tokio::task::JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        while connections.try_join_next().is_some() {}
        let state = Arc::clone(&state);
        connections.spawn(async move {
            let service = service_fn(|request| respond(Arc::clone(&state), request));
            let connection = hyper::server::conn::http1::Builder::new();
            let _ = connection.serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

/// The answer that a fault kept back.
#[derive(Debug, thiserror::Error)]
#[error("no answer")]
struct NoAnswer;

async fn respond(state: Arc<State>, request: Request<Incoming>) -> Result<Response<Body>, NoAnswer> {
    let path = request.uri().path().to_owned();
    if path == "/oauth/token" {
        return token(&state, request).await;
    }
    let Some(below) = path.strip_prefix("/backend-api/codex") else {
        return Ok(failure(404, "not_found"));
    };
    {
        let mut ledger = state.ledger();
        if !ledger.allows(request.headers()) {
            ledger.counts.unauthorized += 1;
            return Ok(failure(401, "token_expired"));
        }
        ledger.counts.served += 1;
    }
    match (request.method(), below) {
        (&Method::GET, "/models") => Ok(answer(
            200,
            &json!({"models": [{"slug": "gpt-6-sol", "display_name": "x"}, {"slug": "gpt-5.5"}]}),
        )),
        (&Method::POST, "/responses") => Ok(play(state.model, request).await),
        _ => Ok(failure(404, "not_found")),
    }
}

async fn token(state: &State, request: Request<Incoming>) -> Result<Response<Body>, NoAnswer> {
    let is_json = request
        .headers()
        .get(CONTENT_TYPE)
        .is_some_and(|value| value == "application/json");
    let body = request.into_body().collect().await.map_err(|_| NoAnswer)?.to_bytes();
    let body: Value = serde_json::from_slice(&body).unwrap_or_default();
    let (outcome, fault, delay) = {
        let mut ledger = state.ledger();
        ledger.counts.token_requests += 1;
        let fault = ledger.faults.pop_front();
        let well_formed = is_json
            && body["client_id"] == CLIENT_ID
            && body["grant_type"] == "refresh_token"
            && ["proactive_expiry", "unauthorized_recovery"]
                .contains(&body["refresh_reason"].as_str().unwrap_or_default());
        let outcome = match (&fault, body["refresh_token"].as_str()) {
            (Some(Fault::Refuse(status, code)), _) => Err((*status, *code)),
            (_, Some(token)) if well_formed => ledger.spend(token),
            _ => Err((400, "invalid_request")),
        };
        (outcome, fault, ledger.delay)
    };
    tokio::time::sleep(delay).await;
    match fault {
        Some(Fault::LoseAnswer) => return Err(NoAnswer),
        Some(Fault::Hang) => std::future::pending().await,
        Some(Fault::Refuse(..)) | None => {}
    }
    Ok(match outcome {
        Ok(tokens) => answer(200, &tokens),
        Err((status, code)) => failure(status, code),
    })
}

/// As the scripted model answers.
async fn play(model: SocketAddr, request: Request<Incoming>) -> Response<Body> {
    let (mut head, body) = request.into_parts();
    head.uri = format!("http://{model}/v1/responses").parse().unwrap();
    let client: Client<_, Incoming> = Client::builder(TokioExecutor::new()).build_http();
    match client.request(Request::from_parts(head, body)).await {
        Ok(answer) => answer.map(BodyExt::boxed_unsync),
        Err(error) => panic!("the scripted model is in this process: {error}"),
    }
}

fn failure(status: u16, code: &str) -> Response<Body> {
    let body = json!({"error": {"message": format!("refused: {code}"), "code": code}});
    answer(status, &body)
}

fn answer(status: u16, body: &Value) -> Response<Body> {
    let body = Full::new(Bytes::from(body.to_string())).map_err(|never| match never {});
    let mut answer = Response::new(body.boxed_unsync());
    *answer.status_mut() = StatusCode::from_u16(status).unwrap();
    answer
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    answer
}

fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    i64::try_from(since.as_secs()).unwrap()
}
