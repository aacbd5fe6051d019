//! The broker between a guest's connection and a provider's socket.

use super::*;
use crate::auth::broker::answer::whole;
use crate::auth::broker::passage::Endpoint;
use crate::auth::broker::witness::Unwitnessed;
use crate::config::network::Resolution;
use crate::config::provider::{ExtraHeader, KeyHeader};
use crate::config::quantity::{BaseUrl, Scheme};
use crate::config::{Origin, Provider, SecretSource, Sourced};
use crate::dial::fixtures::{Behaviour, ConnectProxy, ESTABLISHED, settings};
use crate::dial::proxy::Proxy;
use crate::dial::{Dialer, Names};
use crate::redact::Redactor;
use hyper::Request;
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::sync::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::net::{TcpListener, TcpStream};

mod bodies;
mod counting;
mod credentials;

const KEY: &str = "sk-very-secret";
/// The least that passes.
const BODY: &str = r#"{"model":"gpt-5.5","input":[],"store":false,"stream":true}"#;

/// A request's first lines and its body, with further header lines.
fn post(headers: &str, body: &str) -> String {
    format!(
        "POST /v1/responses HTTP/1.1\r\nhost: gateway\r\ncontent-length: {}\r\n{headers}\r\n{body}",
        body.len()
    )
}

struct Bench {
    listener: TcpListener,
    session: SessionBroker,
}

async fn bench() -> Bench {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let session = broker(address, Some("KEY")).for_session(terms("openai")).await.unwrap();
    session.begin(BTreeSet::from(["gpt-5.5".to_owned()]));
    Bench { listener, session }
}

fn name(name: &str) -> ProviderName {
    name.parse().unwrap()
}

fn terms(provider: &str) -> SessionTerms {
    SessionTerms {
        provider: name(provider),
        web_search: WebSearch::Disabled,
        quota: Spendable::default(),
        before: ModelUsage::default(),
        purse: None,
        witness: Arc::new(Record::Kept(Mutex::default())),
    }
}

#[derive(Debug)]
enum Record {
    Kept(Mutex<Vec<String>>),
    Full,
}

impl Witness for Record {
    fn credential_used(&self, provider: &ProviderName, endpoint: Endpoint) -> Result<(), Unwitnessed> {
        match self {
            Self::Kept(uses) => {
                uses.lock().unwrap().push(format!("{provider} {}", endpoint.path()));
                Ok(())
            }
            Self::Full => Err(Unwitnessed),
        }
    }
}

fn upstream() -> Upstream {
    Upstream::new(Dialer::new(Names::new(&[])), None)
}

fn provider(address: SocketAddr, variable: Option<&str>) -> Provider {
    Provider {
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
        key_header: Sourced::new(KeyHeader::Bearer, Origin::Default),
        headers: Vec::new(),
    }
}

fn broker(address: SocketAddr, variable: Option<&str>) -> Arc<Broker> {
    broker_to(&provider(address, variable))
}

fn broker_to(provider: &Provider) -> Arc<Broker> {
    let redactor = Redactor::default();
    let secrets = SecretReader::new(|name| (name == "KEY").then(|| KEY.to_owned()), redactor.clone());
    let destinations = BTreeMap::from([(name("openai"), Destination::of_provider(provider))]);
    Arc::new(Broker::new(destinations, secrets, upstream(), redactor))
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

/// A request with [`BODY`], or none.
async fn read_request(stream: &mut TcpStream) -> String {
    let mut seen = String::new();
    while !seen.contains("\r\n\r\n") || (seen.starts_with("POST") && !seen.ends_with("true}")) {
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
    let request = post(
        "authorization: Bearer guest\r\ncookie: a=b\r\nx-codex-turn-metadata: leak\r\n\
         content-type: text/plain\r\nthread-id: t1\r\n",
        BODY,
    );
    let answer = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\nset-cookie: c=d\r\nx-request-id: r1\r\n\r\nok";
    let bench = bench().await;
    let (received, answered) = bench.exchange(&request, answer).await;
    let host = format!("host: {}\r\n", bench.listener.local_addr().unwrap());
    insta::assert_snapshot!(received.replace(&host, "host: PROVIDER\r\n").replace('\r', ""), @r#"
    POST /base/v1/responses HTTP/1.1
    content-type: application/json
    thread-id: t1
    authorization: Bearer sk-very-secret
    host: PROVIDER
    content-length: 58

    {"model":"gpt-5.5","input":[],"store":false,"stream":true}
    "#);
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
    guest.write_all(post("", BODY).as_bytes()).await.unwrap();
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
    guest.write_all(post("", BODY).as_bytes()).await.unwrap();
    let (mut provider, _) = bench.listener.accept().await.unwrap();
    read_request(&mut provider).await;
    drop(guest);
    assert_eq!(provider.read(&mut [0; 16]).await.unwrap(), 0);
    // Before there is an answer, too: the provider has the request.
    let spent = bench.session.spending().usage;
    assert_eq!((spent.requests, spent.tokens.input), (1, BODY.len().div_ceil(2) as u64));
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
async fn a_redirect_is_explained_and_not_followed() {
    let redirect = "HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n";
    let (_, answered) = bench().await.exchange(&post("", BODY), redirect).await;
    assert!(answered.starts_with("HTTP/1.1 400 "), "{answered}");
    assert!(
        answered.contains("codex_mcp_provider_redirects") && !answered.contains("location"),
        "{answered}"
    );
}

#[tokio::test]
async fn errors_that_codex_understands_keep_status_and_body() {
    for status in [400, 429, 503] {
        let body = format!(r#"{{"error":{{"code":"server_is_overloaded","message":"{KEY}"}}}}"#);
        let answer = format!(
            "HTTP/1.1 {status} X\r\nretry-after: 1\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        let (_, answered) = bench().await.exchange(&post("", BODY), &answer).await;
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
    guest.write_all(post("", BODY).as_bytes()).await.unwrap();
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
    let session = Arc::new(broker).for_session(terms("openai")).await.unwrap();
    let bench = Bench { listener, session };
    let mut guest = bench.connect();
    bench.session.begin(BTreeSet::from(["gpt-5.5".to_owned()]));
    let (mut provider, request) = (None, post("", BODY));
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
async fn requests_over_the_sessions_bound_wait_for_a_slot() {
    let bench = bench().await;
    let mut guests = Vec::new();
    let mut providers = Vec::new();
    for _ in 0..CONCURRENT {
        let mut guest = bench.connect();
        guest.write_all(post("", BODY).as_bytes()).await.unwrap();
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
    waiting.write_all(post("", BODY).as_bytes()).await.unwrap();
    let nobody = tokio::time::timeout(Duration::from_millis(200), bench.listener.accept()).await;
    assert!(nobody.is_err(), "it was sent before a slot was free");
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

/// A stream of events that says what it cost.
fn events(input: u64, output: u64) -> String {
    let usage =
        json!({"type": "response.completed", "response": {"usage": {"input_tokens": input, "output_tokens": output}}});
    let body = format!("data: {usage}\n\n");
    format!(
        "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
}

#[tokio::test]
async fn the_list_of_models_is_said_once() {
    let bench = bench().await;
    bench.session.begin(BTreeSet::from(["o3-pro".to_owned()]));
    let (_, error) = bench.refused(&post("", &BODY.replace("gpt-5.5", "o3-pro"))).await;
    assert_eq!(error["code"], "codex_mcp_request_forbidden");
}
