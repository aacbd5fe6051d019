//! Puts the layers together, serves, and ends in an order that cuts nobody off: nothing new is taken, calls under way
//! return, sessions end, and only then are streams and connections closed.

use crate::access::{Doorkeeper, TokenStore, TokensError};
use crate::config::{ConfigError, HttpSettings, McpSettings};
use crate::mcp::agent::Agent;
use crate::mcp::ending::{end_sessions, ending_signals};
use crate::mcp::http::body::{self, Bodies};
use crate::mcp::http::connections::{self, ConnectionBounds, Ends};
use crate::mcp::http::door::{self, Door};
use crate::mcp::http::exposure::{self, Exposed};
use crate::mcp::http::health::{Health, Vital};
use crate::mcp::http::names::{self, Names};
use crate::mcp::http::refusal::Refusal;
use crate::mcp::http::reply;
use crate::mcp::http::seats::{self, SeatBounds, Seats};
use crate::mcp::http::traffic::{self, Traffic};
use crate::mcp::server::Server;
use crate::mcp::turns::Turns;
use crate::session::registry::Sessions;
use axum::Router;
use axum::middleware::{from_fn, from_fn_with_state};
use axum::response::Response;
use axum::routing::get;
use rmcp::transport::streamable_http_server::{StreamableHttpServerConfig, StreamableHttpService};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// Where MCP is.
pub const ENDPOINT: &str = "/mcp";

/// How long answers that are owed may take once the server ends: their calls return at once, and a client may not read.
const LAST_ANSWERS: Duration = Duration::from_secs(2);
/// How long connections may take to be closed after that.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// What no operator has a reason to set.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patience {
    /// For a request's head, and for a connection's next request.
    pub head: Duration,
    /// For a request's body.
    pub body: Duration,
    pub seats: SeatBounds,
    /// How often unused MCP sessions are looked for.
    pub sweep: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            head: Duration::from_secs(30),
            body: Duration::from_secs(30),
            seats: SeatBounds {
                most: 512,
                unused: Duration::from_secs(60 * 60),
            },
            sweep: Duration::from_secs(60),
        }
    }
}

/// Why nothing is served.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    #[error("no handler for signals could be installed: {0}")]
    Signals(#[source] io::Error),
    #[error("the kernel gave no random bytes: {0}")]
    NoRandom(#[source] getrandom::Error),
    #[error(transparent)]
    Configuration(#[from] ConfigError),
    #[error(transparent)]
    Tokens(#[from] TokensError),
    #[error(transparent)]
    Exposed(#[from] Exposed),
    #[error("can't listen at {address} (http.listen): {source}")]
    Listen { address: SocketAddr, source: io::Error },
}

/// Serves until a signal comes. Returns when every session is shut down. `listening` is told where it listens.
pub async fn serve_http(
    sessions: Sessions,
    settings: &HttpSettings,
    answering: &McpSettings,
    listening: impl FnOnce(SocketAddr),
) -> Result<(), HttpError> {
    let signals = ending_signals().map_err(HttpError::Signals)?;
    let file = settings.tokens_file()?;
    let store = TokenStore::new(file.value.clone());
    let keeper = tokio::task::spawn_blocking(move || {
        let keeper = Doorkeeper::new(store)?;
        Ok::<_, TokensError>((keeper.door()?, keeper))
    });
    let (door, keeper) = keeper
        .await
        .unwrap_or_else(|stopped| std::panic::resume_unwind(stopped.into_panic()))?;
    exposure::check(&settings.listen, &settings.front, door, file)?;
    let address = settings.listen.value.0;
    let failed = |source| HttpError::Listen { address, source };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    listening(listener.local_addr().map_err(failed)?);
    let turns = Turns::new(sessions, CancellationToken::new(), answering.into()).map_err(HttpError::NoRandom)?;
    serve(turns, listener, keeper, settings, Patience::default(), signals).await;
    Ok(())
}

/// Serves whoever comes to `listener`, until `turns` are to end. Each message of `asked_to_end` is one request to end.
pub(super) async fn serve<A: Agent + Vital>(
    turns: Turns<A>,
    listener: TcpListener,
    keeper: Doorkeeper,
    settings: &HttpSettings,
    patience: Patience,
    mut asked_to_end: mpsc::Receiver<()>,
) {
    let (agent, ending) = (turns.agent.clone(), turns.ending.clone());
    let streams = CancellationToken::new();
    let traffic = Traffic::new(ending.clone());
    let seats = Arc::new(Seats::new(patience.seats));
    let most = settings.max_body.value.bytes();
    let names = Arc::new(Names::new(settings));
    let mcp = StreamableHttpService::new(
        move || Ok(Server::new(turns.clone())),
        Arc::clone(&seats),
        StreamableHttpServerConfig::default()
            .with_allowed_hosts(names.hosts())
            .with_allowed_origins(names.origins())
            .enforce_origin_validation()
            .with_max_request_body_bytes(usize::try_from(most).unwrap_or(usize::MAX))
            .with_cancellation_token(streams.clone()),
    );
    let door = Arc::new(Door::new(keeper, settings.requests_per_second.value));
    let bodies = Arc::new(Bodies::new(most, patience.body));
    // The last layer is the first that a request comes to.
    let router = Router::new()
        .route_service(ENDPOINT, mcp)
        .route_layer(from_fn_with_state(bodies, body::layer))
        .route_layer(from_fn_with_state(Arc::clone(&seats), seats::layer))
        .merge(operators(Health::new(agent.clone(), Arc::clone(&seats))))
        .route_layer(from_fn_with_state(door, door::layer))
        .route("/healthz", get(alive).fallback(only_get))
        .fallback(nothing_here)
        .layer(from_fn_with_state(traffic.clone(), traffic::layer))
        .layer(from_fn_with_state(names, names::layer))
        .layer(from_fn(reply::layer));
    let bounds = ConnectionBounds {
        most: settings.connections.value,
        head: patience.head,
    };
    let ends = Ends::default();
    let mut connections = tokio::spawn(connections::serve(listener, router, bounds, ends.clone()));
    let sweeping = sweep(Arc::clone(&seats), patience.sweep);
    tokio::select! {
        _ = asked_to_end.recv() => {}
        () = sweeping => {}
    }
    ends.accepting.cancel();
    ending.cancel();
    // The calls see `ending` and return; what is asked for from now on is turned away.
    let answered = tokio::time::timeout(LAST_ANSWERS, traffic.settled());
    let (answered, ()) = tokio::join!(answered, end_sessions(&agent, &mut asked_to_end));
    if answered.is_err() {
        tracing::warn!("answers that no client read are given up");
    }
    // Open ears end with this, so not before the answers.
    streams.cancel();
    ends.gracefully.cancel();
    if tokio::time::timeout(LAST_WORDS, &mut connections).await.is_err() {
        ends.now.cancel();
        let _ = connections.await;
    }
}

async fn sweep(seats: Arc<Seats>, every: Duration) {
    loop {
        tokio::time::sleep(every).await;
        seats.sweep(Instant::now()).await;
    }
}

/// What an operator's own programs look at. It tells of this machine, so it takes a token where there are any.
fn operators<V: Vital>(health: Health<V>) -> Router {
    let health = Arc::new(health);
    let ready = {
        let health = Arc::clone(&health);
        move || async move { health.ready().await }
    };
    let metrics = move || async move { health.metrics().await };
    Router::new()
        .route("/readyz", get(ready).fallback(only_get))
        .route("/metrics", get(metrics).fallback(only_get))
}

/// That this process answers, and no more.
async fn alive() -> &'static str {
    "ok\n"
}

async fn nothing_here() -> Response {
    Refusal::NothingHere.response()
}

async fn only_get() -> Response {
    Refusal::OnlyGet.response()
}
