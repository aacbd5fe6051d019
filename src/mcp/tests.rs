//! The whole server, from raw JSON lines to a scripted double of the sessions, in both protocol eras.

mod asking;
mod beside;
mod calls;
mod cancelling;
mod ends;
mod progress;
mod reading;

use crate::codex::approver::{Approval, ApprovalRequest, ApprovalSubject, Question};
use crate::codex::error::{TurnError, TurnErrorKind};
use crate::codex::event::{Decision, ItemStatus, ThreadId, TurnEnd, TurnEvent, TurnId, TurnOutcome, Usage};
use crate::codex::prompt::Prompt;
use crate::config::WorkspaceMode;
use crate::config::identity::IdentityName;
use crate::mcp::agent::{Agent, AgentThread};
use crate::mcp::stdio::{ServeError, serve};
use crate::mcp::turns::Settings;
use crate::plan::identity::SessionId;
use crate::plan::request::WorkspaceAccess;
use crate::session::asked::Asked;
use crate::session::bring_back::BroughtBack;
use crate::session::by_thread::{Keeping, Summary};
use crate::session::copying::Copying;
use crate::session::error::{EndReason, SessionError};
use crate::session::handle::LaunchReport;
use crate::session::order::Watcher;
use crate::session::quota::QuotaLeft;
use crate::session::registry::{StartSession, Urgency};
use crate::session::store::path_text::PathText;
use crate::session::turn::{Spending, TurnReport, Used};
use crate::session::upkeep::{Doing, Standing};
use crate::wire::untrusted::Untrusted;
use crate::workspace::changes::{ChangeKind, Changes, FileChange};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, DuplexStream, Lines, ReadHalf, WriteHalf};
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// Longer than any test waits for a turn.
pub(super) const BLOCK: Duration = Duration::from_secs(600);

pub(super) fn settings(block: Duration) -> Settings {
    Settings {
        block,
        ask: Duration::from_secs(60),
        unasked: Decision::Declined,
    }
}

/// What the double was asked to do, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Seen {
    Started {
        cwd: Option<PathBuf>,
    },
    Turn {
        thread: String,
        prompt: String,
    },
    Interrupted {
        thread: String,
    },
    StartGivenUp,
    Decided(Decision),
    Applied {
        thread: String,
        really: bool,
        expect_hash: Option<String>,
    },
    ShutDown(Urgency),
}

/// Sessions that do what the prompt says: `hang` runs until it is interrupted, `fail` fails, anything else is
/// answered with itself. A `cwd` of `gate` starts only when [`Scripted::gate`] opens, `refuse` not at all.
#[derive(Clone)]
pub(super) struct Scripted(Arc<Inner>);

/// A double, what it is asked to do, and by whom.
pub(super) fn scripted(stubborn: bool) -> (Scripted, mpsc::UnboundedReceiver<Seen>, Arc<Mutex<Vec<Asked>>>) {
    let (seen_in, seen) = mpsc::unbounded_channel();
    let asked = Arc::new(Mutex::default());
    let agent = Scripted(Arc::new(Inner {
        seen: seen_in,
        threads: Mutex::default(),
        asked: Arc::clone(&asked),
        gate: Notify::new(),
        stubborn,
    }));
    (agent, seen, asked)
}

struct Inner {
    seen: mpsc::UnboundedSender<Seen>,
    threads: Mutex<HashMap<String, ScriptedThread>>,
    asked: Arc<Mutex<Vec<Asked>>>,
    gate: Notify,
    /// Where true, a graceful shutdown never ends by itself.
    stubborn: bool,
}

#[derive(Clone)]
pub(super) struct ScriptedThread {
    id: ThreadId,
    report: Arc<LaunchReport>,
    seen: mpsc::UnboundedSender<Seen>,
    one_turn: Arc<tokio::sync::Mutex<()>>,
    /// Whether its container was gone once, as for the prompt `parked`.
    parked: Arc<AtomicBool>,
}

impl Agent for Scripted {
    type Thread = ScriptedThread;

    async fn start(
        &self,
        start: StartSession,
        asked: Asked,
        _copying: Copying,
    ) -> Result<ScriptedThread, SessionError> {
        let cwd = start.workspace;
        self.0.asked.lock().expect("asked").push(asked);
        let _ = self.0.seen.send(Seen::Started { cwd: cwd.clone() });
        let mut given_up = GivenUp(Some(self.0.seen.clone()));
        match cwd.as_deref().and_then(|path| path.to_str()) {
            Some("gate") => self.0.gate.notified().await,
            Some("refuse") => {
                given_up.0 = None;
                return Err(SessionError::ShuttingDown);
            }
            _ => {}
        }
        given_up.0 = None;
        let mut threads = self.0.threads.lock().expect("threads");
        let name = format!("thread-{}", threads.len() + 1);
        let thread = ScriptedThread {
            id: ThreadId::parse(&name).expect("an id"),
            report: Arc::new(LaunchReport {
                session: SessionId::from_random([1; 10]),
                engine: "scripted".into(),
                rootless: true,
                image: "scripted".into(),
                workspace: PathText::of(Path::new("/workspace")),
                mode: WorkspaceMode::Snapshot,
                model: "gpt-5.5".into(),
                limits: Vec::new(),
                warnings: Vec::new(),
                notes: Vec::new(),
                unenforced: Vec::new(),
            }),
            seen: self.0.seen.clone(),
            one_turn: Arc::default(),
            parked: Arc::default(),
        };
        threads.insert(name, thread.clone());
        Ok(thread)
    }

    async fn take_up(&self, thread: &ThreadId, _asked: Asked) -> Result<ScriptedThread, SessionError> {
        let known = self.0.threads.lock().expect("threads").get(thread.as_str()).cloned();
        known.ok_or_else(|| SessionError::UnknownThread(thread.clone()))
    }

    async fn list(&self, _asker: Option<&IdentityName>) -> Result<Vec<Summary>, SessionError> {
        let threads = self.0.threads.lock().expect("threads");
        let mut names: Vec<&String> = threads.keys().collect();
        names.sort();
        Ok(names.into_iter().map(|name| summary(name)).collect())
    }

    async fn look(&self, thread: &ThreadId, _asker: Option<&IdentityName>) -> Result<Summary, SessionError> {
        let known = self.0.threads.lock().expect("threads").contains_key(thread.as_str());
        match known {
            true => Ok(summary(thread.as_str())),
            false => Err(SessionError::UnknownThread(thread.clone())),
        }
    }

    fn policy(&self) -> Value {
        json!({"limits": {}})
    }

    fn models(&self) -> Vec<String> {
        vec!["gpt-5.5".to_owned(), "gpt-6".to_owned()]
    }

    async fn log(&self, _thread: &ThreadId, _asker: Option<&IdentityName>) -> Result<Vec<Value>, SessionError> {
        Ok(vec![json!({"type": "prompt", "text": "hello"})])
    }

    async fn close(
        &self,
        thread: &ThreadId,
        keeping: Keeping,
        asker: Option<&IdentityName>,
    ) -> Result<bool, SessionError> {
        self.look(thread, asker).await?;
        if keeping == Keeping::Nothing {
            self.0.threads.lock().expect("threads").remove(thread.as_str());
        }
        Ok(true)
    }

    async fn changes(&self, thread: &ThreadId, _asked: Asked) -> Result<Option<Changes>, SessionError> {
        self.look(thread, None).await?;
        Ok(Some(changes()))
    }

    async fn apply(
        &self,
        thread: &ThreadId,
        doing: Doing,
        expect_hash: Option<String>,
        _asked: Asked,
    ) -> Result<BroughtBack, SessionError> {
        self.look(thread, None).await?;
        let _ = self.0.seen.send(Seen::Applied {
            thread: thread.to_string(),
            really: doing == Doing::Really,
            expect_hash,
        });
        Err(SessionError::NothingToApplyTo)
    }

    async fn shut_down(&self, urgency: Urgency) {
        let _ = self.0.seen.send(Seen::ShutDown(urgency));
        if self.0.stubborn {
            match urgency {
                Urgency::Graceful => self.0.gate.notified().await,
                Urgency::Immediate => self.0.gate.notify_one(),
            }
        }
    }
}

/// Tells of a start whose future was dropped.
struct GivenUp(Option<mpsc::UnboundedSender<Seen>>);

impl Drop for GivenUp {
    fn drop(&mut self) {
        if let Some(seen) = &self.0 {
            let _ = seen.send(Seen::StartGivenUp);
        }
    }
}

impl ScriptedThread {
    fn name(&self) -> String {
        self.id.to_string()
    }
}

impl AgentThread for ScriptedThread {
    fn id(&self) -> &ThreadId {
        &self.id
    }

    fn report(&self) -> &LaunchReport {
        &self.report
    }

    async fn run_turn(
        &self,
        prompt: Prompt,
        _asked: Asked,
        watcher: Watcher,
        cancelled: CancellationToken,
    ) -> Result<TurnReport, SessionError> {
        let events = watcher.events;
        let _one = self.one_turn.lock().await;
        if cancelled.is_cancelled() {
            return Err(SessionError::TurnCancelled);
        }
        let prompt = prompt.as_str().to_owned();
        if prompt == "parked" && !self.parked.swap(true, Ordering::SeqCst) {
            return Err(SessionError::NotBegun(EndReason::Stopped));
        }
        let _ = self.seen.send(Seen::Turn {
            thread: self.name(),
            prompt: prompt.clone(),
        });
        let _ = events.send(TurnEvent::Started).await;
        let outcome = match prompt.as_str() {
            "hang" => {
                cancelled.cancelled().await;
                let _ = self.seen.send(Seen::Interrupted { thread: self.name() });
                TurnOutcome::Interrupted
            }
            "ask" => {
                let (tell, told) = oneshot::channel();
                let approval = Approval::new(move |decision| _ = tell.send(decision));
                let request = ApprovalRequest {
                    thread: self.id.clone(),
                    turn: TurnId::parse("turn-1").expect("an id"),
                    subject: ApprovalSubject::Command(Untrusted::new("make")),
                    reason: None,
                };
                let _ = watcher.questions.send(Question { request, approval }).await;
                let decision = told.await.expect("answered");
                let _ = self.seen.send(Seen::Decided(decision));
                TurnOutcome::Completed
            }
            "panic" => panic!("as the test asked"),
            "fail" => TurnOutcome::Failed(TurnError {
                kind: TurnErrorKind::Other,
                message: Untrusted::new("the model said no"),
            }),
            _ => TurnOutcome::Completed,
        };
        let completed = TurnEvent::CommandCompleted {
            command: Untrusted::new("ls"),
            status: ItemStatus::Completed,
            exit_code: Some(0),
            output: Untrusted::new(""),
        };
        let _ = events
            .send(TurnEvent::CommandStarted {
                command: Untrusted::new("ls"),
            })
            .await;
        let _ = events.send(completed).await;
        Ok(TurnReport {
            end: TurnEnd {
                turn: "turn-1".into(),
                answer: Untrusted::new(prompt),
                usage: Usage::default(),
                outcome,
            },
            interrupted_before: Vec::new(),
            memory_ended: None,
            egress_denied: Vec::new(),
            spending: Spending::default(),
            quota_left: QuotaLeft::default(),
            used: Used::default(),
            brought: None,
            applied: None,
        })
    }

    async fn changes(&self, _: &CancellationToken) -> Result<Option<Changes>, SessionError> {
        Ok(Some(changes()))
    }
}

fn changes() -> Changes {
    Changes {
        files: vec![FileChange::of("new.txt", ChangeKind::Added)],
        insertions: 1,
        patch: Untrusted::new("+hello"),
        ..Changes::none()
    }
}

fn summary(thread: &str) -> Summary {
    Summary {
        thread_id: ThreadId::parse(thread).expect("an id"),
        session: SessionId::from_random([1; 10]),
        state: Standing::Live,
        folder: "/workspace".into(),
        mode: WorkspaceMode::Snapshot,
        access: WorkspaceAccess::ReadWrite,
        model: None,
        turns: 1,
        created: "2026-01-01T00:00:00Z".into(),
        changed: "2026-01-01T00:00:00Z".into(),
        usage: Usage::default(),
        ended: None,
    }
}

/// A client that writes lines and reads lines.
struct Client {
    lines: Lines<BufReader<ReadHalf<DuplexStream>>>,
    writer: WriteHalf<DuplexStream>,
    seen: mpsc::UnboundedReceiver<Seen>,
    signals: mpsc::Sender<()>,
    asked: Arc<Mutex<Vec<Asked>>>,
    serving: JoinHandle<Result<(), ServeError>>,
}

impl Client {
    /// Connected, nothing said yet.
    fn silent(stubborn: bool) -> Self {
        Self::of_server(stubborn, BLOCK)
    }

    fn of_server(stubborn: bool, block: Duration) -> Self {
        let (agent, seen, asked) = scripted(stubborn);
        let (ours, theirs) = tokio::io::duplex(1 << 16);
        let (input, output) = tokio::io::split(theirs);
        let (signals, asked_to_end) = mpsc::channel(2);
        let serving = tokio::spawn(serve(agent, settings(block), input, output, asked_to_end));
        let (reader, writer) = tokio::io::split(ours);
        Self {
            lines: BufReader::new(reader).lines(),
            writer,
            seen,
            signals,
            asked,
            serving,
        }
    }

    async fn initialized() -> Self {
        let mut client = Self::silent(false);
        let reply = client.initialize("2025-06-18").await;
        assert_eq!(reply["result"]["protocolVersion"], "2025-06-18");
        client
    }

    async fn initialize(&mut self, version: &str) -> Value {
        let client_info = json!({"name": "test", "version": "1"});
        let params = json!({"protocolVersion": version, "capabilities": {}, "clientInfo": client_info});
        let reply = self.request("init", "initialize", params).await;
        self.send(json!({"jsonrpc": "2.0", "method": "notifications/initialized"}))
            .await;
        reply
    }

    async fn raw(&mut self, bytes: &[u8]) {
        self.writer.write_all(bytes).await.expect("the server reads");
    }

    async fn send(&mut self, message: Value) {
        self.raw(format!("{message}\n").as_bytes()).await;
    }

    async fn next(&mut self) -> Value {
        let line = self
            .lines
            .next_line()
            .await
            .expect("readable")
            .expect("the server is there");
        serde_json::from_str(&line).expect("one JSON message a line")
    }

    /// Every notification before the answer to `id`, and the answer.
    async fn answer(&mut self, id: &str) -> (Vec<Value>, Value) {
        let mut notifications = Vec::new();
        loop {
            let message = self.next().await;
            if message["id"] == id {
                return (notifications, message);
            }
            assert_eq!(message.get("id"), None, "an answer to nothing: {message}");
            notifications.push(message);
        }
    }

    async fn request(&mut self, id: &str, method: &str, params: Value) -> Value {
        self.send(json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params}))
            .await;
        self.answer(id).await.1
    }

    async fn begin(&mut self, id: &str, tool: &str, arguments: Value) {
        let params = json!({"name": tool, "arguments": arguments});
        self.send(json!({"jsonrpc": "2.0", "id": id, "method": "tools/call", "params": params}))
            .await;
    }

    async fn call(&mut self, tool: &str, arguments: Value) -> Value {
        self.begin("call", tool, arguments).await;
        self.answer("call").await.1["result"].clone()
    }

    async fn cancel(&mut self, id: &str) {
        let params = json!({"requestId": id, "reason": "test"});
        self.send(json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": params}))
            .await;
    }

    async fn seen(&mut self) -> Seen {
        self.seen.recv().await.expect("the double is there")
    }

    /// Starts a hanging turn and waits until it runs.
    async fn hang(&mut self, id: &str) {
        self.begin(id, "codex", json!({"prompt": "hang"})).await;
        assert_eq!(self.seen().await, Seen::Started { cwd: None });
        assert!(matches!(self.seen().await, Seen::Turn { .. }));
    }
}

fn text(result: &Value) -> &str {
    result["content"][0]["text"].as_str().expect("a text block")
}

fn interrupted(thread: &str) -> Seen {
    Seen::Interrupted { thread: thread.into() }
}
