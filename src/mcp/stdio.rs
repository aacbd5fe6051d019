//! Serves one client over stdio until its input ends or a signal comes, then ends every session.
//!
//! How it ends, and why not rmcp's way: on end of input rmcp waits up to five seconds for running calls before it
//! cancels them, while clients send SIGTERM after two. Here the end of input cancels them at once. A signal is the
//! same request; whatever comes second (a signal after the end of input too) skips every grace period, because a
//! client that asks twice is about to kill.

use crate::config::McpSettings;
use crate::mcp::agent::Agent;
use crate::mcp::ending::{end_sessions, ending_signals};
use crate::mcp::server::Server;
use crate::mcp::streams;
use crate::mcp::turns::{Settings, Turns};
use crate::redact::Redactor;
use crate::redact::lines::RedactedLines;
use crate::session::registry::Sessions;
use rmcp::RoleServer;
use rmcp::model::ClientJsonRpcMessage;
use rmcp::service::{RunningService, RxJsonRpcMessage, ServerInitializeError, TxJsonRpcMessage, serve_server};
use rmcp::transport::Transport;
use rmcp::transport::async_rw::AsyncRwTransport;
use std::future::Future;
use std::io;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// The longest line that is read, in bytes; a longer one is dropped without being kept. The longest prompt fits with
/// every character escaped as a surrogate pair (12 bytes).
const MAX_LINE: usize = 16 << 20;

/// How long the last answers may take to be written once the server ends: a client that closed its side may have
/// stopped reading as well.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// Why serving ended otherwise than asked.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    #[error("no handler for signals could be installed: {0}")]
    Signals(#[source] io::Error),
    #[error("the kernel gave no random bytes: {0}")]
    NoRandom(#[source] getrandom::Error),
    #[error("the MCP client could not be served: {0}")]
    Handshake(#[source] Box<ServerInitializeError>),
}

/// Serves the client on this process's stdin and stdout. Returns when the client or a signal ended it and every
/// session is shut down.
pub async fn serve_stdio(sessions: Sessions, settings: &McpSettings) -> Result<(), ServeError> {
    let signals = ending_signals().map_err(ServeError::Signals)?;
    let output = RedactedLines::new(streams::stdout(), Redactor::of_process());
    serve(sessions, settings.into(), streams::stdin(), output, signals).await
}

/// Serves one client over any pair of streams. Each message of `asked_to_end` is one request to end.
pub async fn serve<A, R, W>(
    agent: A,
    settings: Settings,
    input: R,
    output: W,
    mut asked_to_end: mpsc::Receiver<()>,
) -> Result<(), ServeError>
where
    A: Agent,
    R: AsyncRead + Send + Unpin + 'static,
    W: AsyncWrite + Send + Unpin + 'static,
{
    let ending = CancellationToken::new();
    let transport = Watched {
        inner: AsyncRwTransport::new_server(input, output).with_max_line_length(MAX_LINE),
        ending: ending.clone(),
        opened: false,
    };
    let turns = Turns::new(agent.clone(), ending.clone(), settings).map_err(ServeError::NoRandom)?;
    let server = Server::new(turns);
    let mut client = tokio::spawn(serve_client(server, transport));
    let finished = tokio::select! {
        finished = &mut client => Some(finished),
        () = ending.cancelled() => None,
        Some(()) = asked_to_end.recv() => None,
    };
    ending.cancel();
    let last_words = async {
        match finished {
            Some(finished) => Some(finished),
            None => {
                let written = tokio::time::timeout(LAST_WORDS, &mut client).await.ok();
                client.abort();
                written
            }
        }
    };
    let (finished, ()) = tokio::join!(last_words, end_sessions(&agent, &mut asked_to_end));
    match finished {
        Some(Ok(outcome)) => outcome,
        // Cut off, which is what was asked for.
        Some(Err(_)) | None => Ok(()),
    }
}

async fn serve_client<A: Agent, T>(server: Server<A>, transport: T) -> Result<(), ServeError>
where
    T: Transport<RoleServer, Error = io::Error> + 'static,
{
    let ending = server.ending();
    let opened = tokio::select! {
        opened = serve_server(server, transport) => opened,
        () = ending.cancelled() => return Ok(()),
    };
    let running: RunningService<RoleServer, Server<A>> = match opened {
        Ok(running) => running,
        // Nobody spoke, or the client was gone before the answer was written: both are ends of input.
        Err(ServerInitializeError::ConnectionClosed(_) | ServerInitializeError::TransportError { .. }) => return Ok(()),
        Err(error) => return Err(ServeError::Handshake(Box::new(error))),
    };
    let stop = running.cancellation_token();
    let mut waiting = std::pin::pin!(running.waiting());
    tokio::select! {
        _ = &mut waiting => return Ok(()),
        () = ending.cancelled() => {}
    }
    // The calls see `ending` and return; rmcp writes their answers and then stops.
    stop.cancel();
    let _ = waiting.await;
    Ok(())
}

/// Tells the rest of the server when the input ends, and keeps out what would end rmcp's handshake.
struct Watched<T> {
    inner: T,
    ending: CancellationToken,
    /// A request has come.
    opened: bool,
}

impl<T: Transport<RoleServer>> Transport<RoleServer> for Watched<T> {
    type Error = T::Error;

    fn send(
        &mut self,
        item: TxJsonRpcMessage<RoleServer>,
    ) -> impl Future<Output = Result<(), Self::Error>> + Send + 'static {
        self.inner.send(item)
    }

    async fn receive(&mut self) -> Option<RxJsonRpcMessage<RoleServer>> {
        loop {
            let Some(message) = self.inner.receive().await else {
                self.ending.cancel();
                return None;
            };
            if matches!(message, ClientJsonRpcMessage::Request(_)) {
                self.opened = true;
            }
            // rmcp gives up the connection when anything but a request comes first. A client that cancels its own
            // probe (`server/discover`) before it falls back to `initialize` sends just that.
            if self.opened {
                return Some(message);
            }
            tracing::debug!("a message before the first request was ignored");
        }
    }

    async fn close(&mut self) -> Result<(), Self::Error> {
        self.inner.close().await
    }
}
