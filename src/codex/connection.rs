//! One connection to an app-server: the reader, the writer, and what they share.
//!
//! The reader never waits for anybody but the stream: events go into a bounded queue, answers to their waiting calls,
//! replies into a bounded channel. Whatever goes wrong ends the connection with a typed cause, which everybody who waits
//! or comes later is told.

use crate::codex::approver::{Approval, ApprovalRequest, ApprovalSubject, Approver};
use crate::codex::error::ClientError;
use crate::codex::event::{Decision, Happening, ThreadEvent, ThreadId, TurnEvent, TurnId};
use crate::codex::interpret::{Interpreted, interpret, read, thread_id, turn_id};
use crate::codex::line::{LineError, MAX_LINE, read_line};
use crate::codex::pending::{Answered, MAX_PENDING, Pending};
use crate::codex::queue::{BOUNDS, EventQueue};
use crate::codex::wire_types as wire;
use crate::wire::untrusted::Untrusted;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, BufReader, ReadHalf, WriteHalf};
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::task::AbortHandle;

/// Lines that wait to be written. Codex reads at once; a full channel means that it does not any more.
const OUTGOING: usize = 64;
/// Warnings kept for whoever starts the next thread.
const MAX_NOTICES: usize = 16;
/// JSON-RPC: the server has too much to do.
const OVERLOADED: i64 = -32001;
/// JSON-RPC: method not found.
const NO_SUCH_METHOD: i64 = -32601;

type Answer = Result<Box<RawValue>, wire::RpcError>;

/// Ends both tasks when nobody holds the connection any more.
pub(super) struct Connection {
    shared: Arc<Shared>,
    tasks: [AbortHandle; 2],
}

impl Drop for Connection {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

struct Shared {
    state: Mutex<State>,
    /// Something changed for whoever takes events. One consumer, so one permit is enough.
    news: Notify,
    /// The connection is over: the writer has nothing more to do.
    over: Notify,
    outgoing: mpsc::Sender<Vec<u8>>,
}

struct State {
    pending: Pending<oneshot::Sender<Answer>>,
    events: EventQueue,
    notices: Vec<Untrusted>,
    config_refused: Option<Untrusted>,
    /// Why the connection is over.
    cause: Option<ClientError>,
}

impl Connection {
    /// Starts the tasks; needs a running runtime.
    pub fn open(stream: impl AsyncRead + AsyncWrite + Send + 'static, approver: Arc<dyn Approver>) -> Self {
        let (from, to) = tokio::io::split(stream);
        let (outgoing, lines) = mpsc::channel(OUTGOING);
        let shared = Arc::new(Shared {
            state: Mutex::new(State {
                pending: Pending::new(),
                events: EventQueue::new(BOUNDS),
                notices: Vec::new(),
                config_refused: None,
                cause: None,
            }),
            news: Notify::new(),
            over: Notify::new(),
            outgoing,
        });
        let reader = Reader {
            shared: Arc::clone(&shared),
            approver,
            patch: None,
        };
        let tasks = [
            tokio::spawn(reader.run(from)).abort_handle(),
            tokio::spawn(write_lines(Arc::clone(&shared), lines, to)).abort_handle(),
        ];
        Self { shared, tasks }
    }

    /// Makes a call and waits for its answer, at most for `limit`.
    pub async fn call<R: DeserializeOwned>(
        &self,
        method: &'static str,
        params: &impl Serialize,
        limit: Duration,
    ) -> Result<R, ClientError> {
        let (waiter, answer) = oneshot::channel();
        let id = self.shared.expect_answer(waiter)?;
        // Also where the caller stops waiting: a dropped future must not leave its entry behind.
        let _given_up = GivenUp {
            shared: &self.shared,
            id,
        };
        let line = to_line(&wire::Call { method, id, params })?;
        let exchange = async {
            let sent = self.shared.outgoing.send(line).await;
            sent.map_err(|_| self.shared.cause())?;
            answer.await.map_err(|_| self.shared.cause())
        };
        let answer = tokio::time::timeout(limit, exchange)
            .await
            .map_err(|_| ClientError::Timeout { method, limit })??;
        match answer {
            Ok(result) => read(&result),
            Err(error) if error.code == OVERLOADED => Err(ClientError::Overloaded { method }),
            Err(error) => Err(ClientError::Rejected {
                method,
                code: error.code,
                message: error.message.into(),
            }),
        }
    }

    pub async fn notify(&self, method: &'static str) -> Result<(), ClientError> {
        let line = to_line(&wire::Notice { method })?;
        self.shared.outgoing.send(line).await.map_err(|_| self.shared.cause())
    }

    /// The next event; waits for one.
    ///
    /// # Errors
    /// The connection is over and every event was taken.
    pub async fn next_event(&self) -> Result<ThreadEvent, ClientError> {
        loop {
            {
                let mut state = self.shared.lock();
                if let Some(event) = state.events.pop() {
                    return Ok(event);
                }
                if let Some(cause) = &state.cause {
                    return Err(cause.clone());
                }
            }
            self.shared.news.notified().await;
        }
    }

    /// Warnings that came since the last time, and whether Codex refused its configuration.
    pub fn take_notices(&self) -> Result<Vec<Untrusted>, ClientError> {
        let mut state = self.shared.lock();
        match &state.config_refused {
            Some(message) => Err(ClientError::ConfigRefused {
                message: message.clone(),
            }),
            None => Ok(std::mem::take(&mut state.notices)),
        }
    }
}

struct GivenUp<'a> {
    shared: &'a Shared,
    id: u64,
}

impl Drop for GivenUp<'_> {
    fn drop(&mut self) {
        self.shared.lock().pending.give_up(self.id);
    }
}

impl Shared {
    /// A panic elsewhere while the lock was held left no half-made state: every change below is one statement.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn expect_answer(&self, waiter: oneshot::Sender<Answer>) -> Result<u64, ClientError> {
        let mut state = self.lock();
        if let Some(cause) = &state.cause {
            return Err(cause.clone());
        }
        let added = state.pending.add(waiter);
        added.map_err(|_| ClientError::TooManyCalls { limit: MAX_PENDING })
    }

    /// Why the connection is over, for somebody who has noticed that it is.
    fn cause(&self) -> ClientError {
        let cause = self.lock().cause.clone();
        cause.unwrap_or(ClientError::Closed)
    }

    /// The first cause stays.
    fn end(&self, cause: ClientError) {
        let mut state = self.lock();
        state.cause.get_or_insert(cause);
        state.pending.give_up_all();
        drop(state);
        self.news.notify_one();
        self.over.notify_one();
    }

    fn push(&self, event: ThreadEvent, size: usize) -> Result<(), ClientError> {
        let pushed = self.lock().events.push(event, size);
        self.news.notify_one();
        pushed.map_err(|_| ClientError::Flooded)
    }

    /// Queues a line without waiting: Codex is answered at once or not at all.
    fn reply(&self, line: &impl Serialize) -> Result<(), ClientError> {
        let line = to_line(line)?;
        self.outgoing.try_send(line).map_err(|_| ClientError::Flooded)
    }
}

struct Reader {
    shared: Arc<Shared>,
    approver: Arc<dyn Approver>,
    /// The patch that was begun last: its item, and the files. The approval of a patch names only the item.
    patch: Option<(String, Vec<Untrusted>)>,
}

impl Reader {
    async fn run<S: AsyncRead>(mut self, from: ReadHalf<S>) {
        let mut from = BufReader::with_capacity(64 << 10, from);
        let mut line = Vec::new();
        let cause = loop {
            match read_line(&mut from, &mut line, MAX_LINE).await {
                Ok(true) => {}
                Ok(false) => break ClientError::Closed,
                Err(LineError::TooLong { limit }) => break ClientError::LineTooLong { limit },
                Err(LineError::Io(error)) => {
                    break ClientError::Io {
                        reason: error.to_string(),
                    };
                }
            }
            if let Err(cause) = self.take(&line) {
                break cause;
            }
            // One huge line must not cost its memory for the rest of the session.
            line.shrink_to(64 << 10);
        };
        tracing::debug!(%cause, "the connection to the app-server is over");
        self.shared.end(cause);
    }

    fn take(&mut self, line: &[u8]) -> Result<(), ClientError> {
        let incoming = wire::Incoming::parse(line)
            .map_err(|error| ClientError::malformed(error, &String::from_utf8_lossy(&line[..line.len().min(800)])))?;
        match incoming {
            wire::Incoming::Response { id, outcome } => self.answered(id, outcome),
            wire::Incoming::Notification(notification) => self.told(&notification, line.len()),
            wire::Incoming::Request(request) => self.asked(request),
        }
    }

    fn answered(&self, id: u64, outcome: Answer) -> Result<(), ClientError> {
        let answered = self.shared.lock().pending.answered(id);
        match answered {
            Answered::Waiter(waiter) => {
                // An error means that the caller stopped waiting this instant.
                let _ = waiter.send(outcome);
                Ok(())
            }
            Answered::GivenUp => Ok(()),
            Answered::NeverAsked => Err(ClientError::malformed(
                "an answer to a call never made",
                &id.to_string(),
            )),
        }
    }

    fn told(&mut self, notification: &wire::Notification, size: usize) -> Result<(), ClientError> {
        match interpret(notification)? {
            Interpreted::Nothing => Ok(()),
            Interpreted::Event(event) => self.shared.push(event, size),
            Interpreted::PatchBegun { item, paths } => {
                self.patch = Some((item, paths));
                Ok(())
            }
            Interpreted::Notice(message) => {
                let mut state = self.shared.lock();
                if state.notices.len() < MAX_NOTICES {
                    state.notices.push(message);
                }
                Ok(())
            }
            Interpreted::ConfigRefused(message) => {
                self.shared.lock().config_refused = Some(message);
                Ok(())
            }
        }
    }

    /// Codex asks something. What nobody here can answer is declined, never left open: Codex would wait for ever.
    fn asked(&mut self, request: wire::ServerRequest) -> Result<(), ClientError> {
        let id = request.id;
        match request.method.as_str() {
            "item/commandExecution/requestApproval" => {
                let params: wire::ApprovalParams = read(&request.params)?;
                let command = params.command.clone().unwrap_or_default();
                self.ask_approver(id, params, ApprovalSubject::Command(command.into()))
            }
            "item/fileChange/requestApproval" => {
                let params: wire::ApprovalParams = read(&request.params)?;
                let paths = match &self.patch {
                    Some((item, paths)) if *item == params.item_id => paths.clone(),
                    _ => Vec::new(),
                };
                self.ask_approver(id, params, ApprovalSubject::Patch(paths))
            }
            "item/tool/requestUserInput" => self.shared.reply(&wire::Reply {
                id: &id,
                result: wire::NoAnswers::default(),
            }),
            "mcpServer/elicitation/request" => self.shared.reply(&wire::Reply {
                id: &id,
                result: wire::ElicitationReply { action: "decline" },
            }),
            _ => self.shared.reply(&wire::Refusal {
                id: &id,
                error: wire::RefusalError {
                    code: NO_SUCH_METHOD,
                    message: "codex-mcp does not answer this",
                },
            }),
        }
    }

    fn ask_approver(
        &self,
        id: wire::RequestId,
        params: wire::ApprovalParams,
        subject: ApprovalSubject,
    ) -> Result<(), ClientError> {
        let request = ApprovalRequest {
            thread: thread_id(&params.thread_id)?,
            turn: turn_id(&params.turn_id)?,
            subject,
            reason: params.reason.map(Untrusted::new),
        };
        let (thread, turn, subject) = (request.thread.clone(), request.turn.clone(), request.subject.describe());
        let shared = Arc::clone(&self.shared);
        let approval = Approval::new(move |decision| {
            if let Err(cause) = give(&shared, &id, decision, thread, turn, subject) {
                shared.end(cause);
            }
        });
        self.approver.consider(&request, approval);
        Ok(())
    }
}

fn give(
    shared: &Shared,
    id: &wire::RequestId,
    decision: Decision,
    thread: ThreadId,
    turn: TurnId,
    subject: Untrusted,
) -> Result<(), ClientError> {
    let word = match decision {
        Decision::Accepted => "accept",
        Decision::Declined => "decline",
    };
    shared.reply(&wire::Reply {
        id,
        result: wire::DecisionReply { decision: word },
    })?;
    let size = subject.as_str().len();
    let event = ThreadEvent {
        thread: Some(thread),
        turn: Some(turn),
        happening: Happening::Shown(TurnEvent::ApprovalAnswered { subject, decision }),
    };
    shared.push(event, size)
}

fn to_line(message: &impl Serialize) -> Result<Vec<u8>, ClientError> {
    let mut line = serde_json::to_vec(message).map_err(|error| ClientError::Io {
        reason: error.to_string(),
    })?;
    line.push(b'\n');
    Ok(line)
}

/// Writes until somebody hangs up or the connection is over; then closes our end, so that Codex ends too.
async fn write_lines<S: AsyncWrite>(shared: Arc<Shared>, mut lines: mpsc::Receiver<Vec<u8>>, mut to: WriteHalf<S>) {
    let written = tokio::select! {
        written = write_each(&mut lines, &mut to) => written,
        // Even in the middle of a line: a Codex that reads nothing must not keep the stream open.
        () = shared.over.notified() => Ok(()),
    };
    if let Err(error) = written {
        tracing::debug!(%error, "writing to the app-server failed");
        shared.end(ClientError::Closed);
    }
    // An error means that it is closed already.
    let _ = to.shutdown().await;
}

async fn write_each(
    lines: &mut mpsc::Receiver<Vec<u8>>,
    to: &mut (impl AsyncWrite + Unpin),
) -> Result<(), std::io::Error> {
    while let Some(line) = lines.recv().await {
        to.write_all(&line).await?;
        to.flush().await?;
    }
    Ok(())
}
