//! The whole HTTP stack on a port of loopback, from raw bytes to the scripted double of the sessions, in both eras.

mod abuse;
mod doors;
mod eras;

use crate::access::{Doorkeeper, TokenStore};
use crate::config::http::{Front, HttpSettings};
use crate::config::quantity::ByteSize;
use crate::config::{Origin, Sourced};
use crate::mcp::http::serving::{Patience, serve};
use crate::mcp::tests::{BLOCK, Scripted, Seen, scripted, settings as mcp_settings};
use crate::mcp::turns::Turns;
use crate::session::asked::Asked;
use axum::body::Body;
use axum::http::request::Builder;
use axum::http::{HeaderMap, Request, StatusCode};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// Longer than anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

struct Served {
    address: SocketAddr,
    tokens: TokenStore,
    seen: mpsc::UnboundedReceiver<Seen>,
    asked: Arc<Mutex<Vec<Asked>>>,
    signals: mpsc::Sender<()>,
    serving: JoinHandle<()>,
    _dir: TempDir,
}

fn sourced<T>(value: T) -> Sourced<T> {
    Sourced::new(value, Origin::Default)
}

impl Served {
    async fn new() -> Self {
        Self::with(|_, _| {}).await
    }

    async fn with(change: impl FnOnce(&mut HttpSettings, &mut Patience)) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let mut settings = HttpSettings {
            listen: sourced(address.to_string().parse().expect("an address")),
            front: sourced(Front::Nothing),
            allowed_hosts: Vec::new(),
            allowed_origins: vec![sourced("https://app.example.com".parse().expect("an origin"))],
            max_body: sourced(ByteSize::from_mib(1)),
            connections: sourced(512),
            requests_per_second: sourced(5000),
            tokens: Some(sourced(dir.path().join("tokens.json"))),
        };
        let mut patience = Patience::default();
        change(&mut settings, &mut patience);
        let tokens = TokenStore::new(settings.tokens_file().expect("a file").value.clone());
        let keeper = Doorkeeper::new(tokens.clone()).expect("no tokens yet");
        let (agent, seen, asked) = scripted(false);
        let (signals, asked_to_end) = mpsc::channel(2);
        let serving = tokio::spawn(async move {
            serve(turns_of(agent), listener, keeper, &settings, patience, asked_to_end).await;
        });
        Self {
            address,
            tokens,
            seen,
            asked,
            signals,
            serving,
            _dir: dir,
        }
    }

    fn client(&self) -> Client {
        Client {
            address: self.address,
            token: None,
            session: None,
        }
    }

    fn token(&self, name: &str) -> Client {
        let token = self.tokens.add(name.parse().expect("a name"), 0).expect("added");
        Client {
            token: Some(token.reveal().to_owned()),
            ..self.client()
        }
    }

    /// It answers, whatever was done to it.
    async fn is_well(&self) {
        let (status, _, body) = self.client().send(self.client().get("/healthz")).await;
        assert_eq!((status, &body[..]), (StatusCode::OK, &b"ok\n"[..]));
    }

    async fn ended(self) {
        self.signals.send(()).await.expect("it serves");
        tokio::time::timeout(PATIENCE, self.serving)
            .await
            .expect("it ends")
            .expect("without a panic");
    }
}

/// One that opens a connection for each request.
#[derive(Clone)]
struct Client {
    address: SocketAddr,
    token: Option<String>,
    session: Option<String>,
}

impl Client {
    fn request(&self, method: &str, path: &str) -> Builder {
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", self.address.to_string())
            .header("accept", "application/json, text/event-stream");
        if let Some(token) = &self.token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        if let Some(session) = &self.session {
            request = request.header("mcp-session-id", session);
        }
        request
    }

    fn get(&self, path: &str) -> Request<Full<Bytes>> {
        self.request("GET", path).body(Full::default()).expect("a request")
    }

    fn post(&self, message: &Value) -> Request<Full<Bytes>> {
        let request = self.request("POST", "/mcp").header("content-type", "application/json");
        request.body(message.to_string().into()).expect("a request")
    }

    async fn send(&self, request: Request<Full<Bytes>>) -> (StatusCode, HeaderMap, Bytes) {
        let sending = async {
            let response = self.begin(request).await;
            let (parts, body) = response.into_parts();
            let body = body.collect().await.expect("a whole body").to_bytes();
            (parts.status, parts.headers, body)
        };
        tokio::time::timeout(PATIENCE, sending)
            .await
            .expect("an answer in time")
    }

    async fn begin(&self, request: Request<Full<Bytes>>) -> hyper::Response<Body> {
        let stream = TcpStream::connect(self.address).await.expect("it listens");
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.expect("HTTP");
        let connection = tokio::spawn(connection);
        let response = sender.send_request(request).await.expect("a response");
        // The connection goes with the response's body.
        drop(connection);
        response.map(Body::new)
    }

    async fn status(&self, request: Request<Full<Bytes>>) -> StatusCode {
        self.send(request).await.0
    }

    /// The answer to a request, whether it comes as an event or as it is.
    async fn ask(&self, method: &str, params: Value) -> Value {
        let message = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params});
        let (status, _, body) = self.send(self.post(&message)).await;
        assert_eq!(status, StatusCode::OK, "{}", String::from_utf8_lossy(&body));
        answer(&body)
    }

    /// Of the era with sessions.
    async fn initialized(mut self) -> Self {
        let (status, headers, body) = self.send(self.post(&initialize())).await;
        assert_eq!(status, StatusCode::OK, "{}", String::from_utf8_lossy(&body));
        assert_eq!(answer(&body)["result"]["serverInfo"]["name"], "codex-mcp");
        self.session = Some(headers["mcp-session-id"].to_str().expect("text").to_owned());
        let notification = json!({"jsonrpc": "2.0", "method": "notifications/initialized"});
        assert_eq!(self.status(self.post(&notification)).await, StatusCode::ACCEPTED);
        self
    }

    async fn call(&self, prompt: &str) -> Value {
        let params = json!({"name": "codex", "arguments": {"prompt": prompt}});
        self.ask("tools/call", params).await["result"].clone()
    }

    async fn leave(&self) {
        let request = self.request("DELETE", "/mcp").body(Full::default()).expect("a request");
        assert_eq!(self.status(request).await, StatusCode::ACCEPTED);
    }
}

fn initialize() -> Value {
    let params = json!({
        "protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "test", "version": "1"},
    });
    json!({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": params})
}

/// The last message of a body that has an answer.
fn answer(body: &[u8]) -> Value {
    let text = String::from_utf8_lossy(body);
    let mut events = text.lines().filter_map(|line| line.strip_prefix("data: "));
    let last = events.rfind(|data| !data.is_empty()).unwrap_or(&text);
    serde_json::from_str(last).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// What comes back for these bytes, up to the end of the connection.
async fn raw(address: SocketAddr, bytes: &[u8]) -> String {
    let talking = async {
        let mut stream = TcpStream::connect(address).await.expect("it listens");
        // It may have closed before all was written.
        let _ = stream.write_all(bytes).await;
        let mut text = Vec::new();
        let _ = stream.read_to_end(&mut text).await;
        String::from_utf8_lossy(&text).into_owned()
    };
    tokio::time::timeout(PATIENCE, talking)
        .await
        .expect("it closes the connection")
}

impl crate::mcp::http::health::Vital for crate::mcp::tests::Scripted {
    async fn readiness(&self) -> crate::session::readiness::Readiness {
        crate::session::readiness::Readiness {
            engine: Ok(()),
            image: Err("there is no image".into()),
            disk: Ok(()),
            audit: Ok(()),
        }
    }

    async fn standings(&self) -> std::collections::BTreeMap<crate::session::upkeep::Standing, u64> {
        [(crate::session::upkeep::Standing::Live, 3)].into()
    }
}

fn turns_of(agent: Scripted) -> Turns<Scripted> {
    Turns::new(agent, CancellationToken::new(), mcp_settings(BLOCK)).expect("random bytes")
}
