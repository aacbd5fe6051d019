//! The HTTP server that plays scenarios, on a free port of 127.0.0.1.

use crate::scripted_model::scenario::{self, Answer};
use crate::scripted_model::sse::{self, Event};
use bytes::Bytes;
use futures_util::stream;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, Limited, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::convert::Infallible;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio_util::task::AbortOnDropHandle;

/// The largest request body that is read, in bytes. Codex sends some 40 KB, more as a conversation grows.
const MAX_BODY: usize = 16 << 20;
/// How many of the last requests are kept.
const MAX_RECORDED: usize = 64;

type Body = UnsyncBoxBody<Bytes, Infallible>;

/// Who may ask.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Access {
    Open,
    /// Only with `Authorization: Bearer` and this; else 401, as a provider answers a wrong key.
    Bearer(String),
}

/// What one request brought, for a test to look at.
#[derive(Debug, Clone)]
pub struct RecordedRequest {
    pub method: Method,
    pub path: String,
    pub headers: HeaderMap,
    /// `Null` where the body was no JSON.
    pub body: Value,
}

/// A running server; it ends with this value.
#[derive(Debug)]
pub struct ScriptedModel {
    address: SocketAddr,
    state: Arc<State>,
    _accepting: AbortOnDropHandle<()>,
}

#[derive(Debug)]
struct State {
    access: Access,
    recorded: Mutex<VecDeque<RecordedRequest>>,
}

impl ScriptedModel {
    /// Listens on a free port of 127.0.0.1. Fails only where that is impossible.
    pub async fn start(access: Access) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let state = Arc::new(State {
            access,
            recorded: Mutex::default(),
        });
        let accepting = AbortOnDropHandle::new(tokio::spawn(accept(listener, Arc::clone(&state))));
        Ok(Self {
            address,
            state,
            _accepting: accepting,
        })
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What a provider's `base_url` is set to.
    pub fn base_url(&self) -> String {
        format!("http://{}/v1", self.address)
    }

    /// The last requests, oldest first; at most 64 are kept.
    pub fn requests(&self) -> Vec<RecordedRequest> {
        let recorded = self.state.recorded.lock().unwrap_or_else(PoisonError::into_inner);
        recorded.iter().cloned().collect()
    }
}

async fn accept(listener: TcpListener, state: Arc<State>) {
    // Connections end with the set, and the set with this task.
    let mut connections = tokio::task::JoinSet::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            // Out of descriptors, or the peer was gone already: the next accept may work, but not at once.
            tokio::time::sleep(Duration::from_millis(20)).await;
            continue;
        };
        while connections.try_join_next().is_some() {}
        let state = Arc::clone(&state);
        connections.spawn(async move {
            let service = service_fn(|request| respond(Arc::clone(&state), request));
            let connection = hyper::server::conn::http1::Builder::new();
            if let Err(error) = connection.serve_connection(TokioIo::new(stream), service).await {
                tracing::debug!(%error, "scripted model: connection ended");
            }
        });
    }
}

async fn respond(state: Arc<State>, request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
    let (head, body) = request.into_parts();
    let body = match Limited::new(body, MAX_BODY).collect().await {
        Ok(body) => body.to_bytes(),
        Err(error) => return Ok(failure(400, &error.to_string(), "invalid_request_error")),
    };
    let body: Value = serde_json::from_slice(&body).unwrap_or_default();
    let recorded = RecordedRequest {
        method: head.method.clone(),
        path: head.uri.path().to_owned(),
        headers: head.headers.clone(),
        body: body.clone(),
    };
    state.record(recorded);
    if !state.allows(&head.headers) {
        return Ok(failure(401, "Incorrect API key provided.", "invalid_api_key"));
    }
    Ok(match (&head.method, head.uri.path()) {
        (&Method::POST, "/v1/responses") => play(scenario::answer(&body)),
        (&Method::GET, "/v1/models") => models(),
        (method, path) => failure(404, &format!("the scripted model has no {method} {path}"), "not_found"),
    })
}

impl State {
    fn record(&self, request: RecordedRequest) {
        let mut recorded = self.recorded.lock().unwrap_or_else(PoisonError::into_inner);
        if recorded.len() == MAX_RECORDED {
            recorded.pop_front();
        }
        recorded.push_back(request);
    }

    fn allows(&self, headers: &HeaderMap) -> bool {
        match &self.access {
            Access::Open => true,
            Access::Bearer(key) => headers
                .get(AUTHORIZATION)
                .is_some_and(|value| value.as_bytes() == format!("Bearer {key}").as_bytes()),
        }
    }
}

fn play(answer: Answer) -> Response<Body> {
    match answer {
        Answer::Error { status, message, code } => failure(status, &message, &code),
        Answer::Hang { response } => event_stream(vec![sse::created(&response)], Duration::ZERO, AtEnd::Hang),
        Answer::Items {
            response,
            items,
            pause,
            input_tokens,
        } => event_stream(sse::whole(&response, &items, input_tokens), pause, AtEnd::Close),
    }
}

#[derive(Debug, Clone, Copy)]
enum AtEnd {
    Close,
    Hang,
}

fn event_stream(events: Vec<Event>, pause: Duration, end: AtEnd) -> Response<Body> {
    let frames = stream::unfold(events.into_iter(), move |mut events| async move {
        let Some(event) = events.next() else {
            if matches!(end, AtEnd::Hang) {
                std::future::pending::<()>().await;
            }
            return None;
        };
        if event.is_text && !pause.is_zero() {
            tokio::time::sleep(pause).await;
        }
        Some((Ok(Frame::data(event.frame)), events))
    });
    let mut response = Response::new(StreamBody::new(frames).boxed_unsync());
    set_content_type(&mut response, "text/event-stream");
    response
}

fn models() -> Response<Body> {
    let list = json!({"object": "list", "data": [{"id": "scripted", "object": "model"}], "models": []});
    json_response(StatusCode::OK, &list)
}

fn failure(status: u16, message: &str, code: &str) -> Response<Body> {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = json_response(
        status,
        &json!({"error": {"message": message, "type": code, "code": code}}),
    );
    if status.is_redirection() {
        let elsewhere = hyper::header::HeaderValue::from_static("/v1/elsewhere");
        response.headers_mut().insert(hyper::header::LOCATION, elsewhere);
    }
    response
}

fn json_response(status: StatusCode, body: &Value) -> Response<Body> {
    let mut response = Response::new(Full::new(Bytes::from(body.to_string())).boxed_unsync());
    *response.status_mut() = status;
    set_content_type(&mut response, "application/json");
    response
}

fn set_content_type(response: &mut Response<Body>, value: &'static str) {
    let value = hyper::header::HeaderValue::from_static(value);
    response.headers_mut().insert(CONTENT_TYPE, value);
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;

    async fn ask(model: &ScriptedModel, method_and_path: &str, headers: &str, body: &str) -> String {
        let mut stream = TcpStream::connect(model.address()).await.unwrap();
        let length = body.len();
        let request = format!(
            "{method_and_path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{headers}content-length: {length}\r\n\r\n{body}"
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test]
    async fn plays_a_scenario_and_records_the_request() {
        let model = ScriptedModel::start(Access::Open).await.unwrap();
        let body = r##"{"input":[{"role":"user","content":"#text hello"}]}"##;
        let answer = ask(&model, "POST /v1/responses", "thread-id: t1\r\n", body).await;
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        assert!(
            answer.contains("text/event-stream") && answer.contains("response.completed"),
            "{answer}"
        );
        let requests = model.requests();
        assert_eq!(requests.len(), 1);
        assert_eq!(requests[0].headers["thread-id"], "t1");
        assert_eq!(requests[0].body["input"][0]["content"], "#text hello");
    }

    #[tokio::test]
    async fn wants_its_key() {
        let model = ScriptedModel::start(Access::Bearer("sk-1".into())).await.unwrap();
        let refused = ask(&model, "GET /v1/models", "authorization: Bearer sk-2\r\n", "").await;
        assert!(refused.starts_with("HTTP/1.1 401 "), "{refused}");
        let allowed = ask(&model, "GET /v1/models", "authorization: Bearer sk-1\r\n", "").await;
        assert!(allowed.starts_with("HTTP/1.1 200 "), "{allowed}");
    }

    #[tokio::test]
    async fn other_paths_are_not_there_and_errors_are_played() {
        let model = ScriptedModel::start(Access::Open).await.unwrap();
        assert!(ask(&model, "GET /v1/files", "", "").await.starts_with("HTTP/1.1 404 "));
        let body = r##"{"input":[{"role":"user","content":"#error 503 server_is_overloaded"}]}"##;
        let answer = ask(&model, "POST /v1/responses", "", body).await;
        assert!(
            answer.starts_with("HTTP/1.1 503 ") && answer.contains("server_is_overloaded"),
            "{answer}"
        );
    }

    #[tokio::test]
    async fn only_the_last_requests_are_kept() {
        let model = ScriptedModel::start(Access::Open).await.unwrap();
        for number in 0..MAX_RECORDED + 3 {
            ask(&model, "GET /v1/models", &format!("n: {number}\r\n"), "").await;
        }
        let requests = model.requests();
        assert_eq!(requests.len(), MAX_RECORDED);
        assert_eq!(requests[0].headers["n"], "3");
    }

    #[tokio::test]
    async fn a_hang_begins_and_ends_with_the_client() {
        let model = ScriptedModel::start(Access::Open).await.unwrap();
        let mut stream = TcpStream::connect(model.address()).await.unwrap();
        let body = r##"{"input":[{"role":"user","content":"#hang"}]}"##;
        let request = format!(
            "POST /v1/responses HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut seen = Vec::new();
        while !String::from_utf8_lossy(&seen).contains("response.created") {
            assert_ne!(stream.read_buf(&mut seen).await.unwrap(), 0, "{seen:?}");
        }
    }
}
