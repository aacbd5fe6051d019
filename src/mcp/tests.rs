//! The whole server, from raw JSON lines to a scripted double of the sessions, in both protocol eras.

use crate::codex::error::{TurnError, TurnErrorKind};
use crate::codex::event::{ItemStatus, ThreadId, TurnEnd, TurnEvent, TurnOutcome, Usage};
use crate::codex::prompt::Prompt;
use crate::mcp::agent::{Agent, AgentThread};
use crate::mcp::stdio::{ServeError, serve};
use crate::plan::identity::SessionId;
use crate::session::asked::{Asked, Asker};
use crate::session::error::{EndReason, SessionError};
use crate::session::handle::LaunchReport;
use crate::session::quota::QuotaLeft;
use crate::session::registry::{StartSession, Urgency};
use crate::session::store::path_text::PathText;
use crate::session::turn::{Spending, TurnReport, Used};
use crate::wire::untrusted::Untrusted;
use crate::workspace::changes::{ChangeKind, Changes, FileChange};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, DuplexStream, Lines, ReadHalf, WriteHalf};
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// What the double was asked to do, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Seen {
    Started { cwd: Option<PathBuf> },
    Turn { thread: String, prompt: String },
    Interrupted { thread: String },
    StartGivenUp,
    ShutDown(Urgency),
}

/// Sessions that do what the prompt says: `hang` runs until it is interrupted, `fail` fails, anything else is
/// answered with itself. A `cwd` of `gate` starts only when [`Scripted::gate`] opens, `refuse` not at all.
#[derive(Clone)]
struct Scripted(Arc<Inner>);

struct Inner {
    seen: mpsc::UnboundedSender<Seen>,
    threads: Mutex<HashMap<String, ScriptedThread>>,
    asked: Arc<Mutex<Vec<Asked>>>,
    gate: Notify,
    /// Where true, a graceful shutdown never ends by itself.
    stubborn: bool,
}

#[derive(Clone)]
struct ScriptedThread {
    id: ThreadId,
    report: Arc<LaunchReport>,
    seen: mpsc::UnboundedSender<Seen>,
    one_turn: Arc<tokio::sync::Mutex<()>>,
    /// Whether its container was gone once, as for the prompt `parked`.
    parked: Arc<AtomicBool>,
}

impl Agent for Scripted {
    type Thread = ScriptedThread;

    async fn start(&self, start: StartSession, asked: Asked) -> Result<ScriptedThread, SessionError> {
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
        events: mpsc::Sender<TurnEvent>,
        cancelled: CancellationToken,
    ) -> Result<TurnReport, SessionError> {
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
            interrupted_before: None,
            egress_denied: Vec::new(),
            spending: Spending::default(),
            quota_left: QuotaLeft::default(),
            used: Used::default(),
            brought: None,
            applied: None,
        })
    }

    async fn changes(&self) -> Result<Option<Changes>, SessionError> {
        Ok(Some(Changes {
            files: vec![FileChange::of("new.txt", ChangeKind::Added)],
            insertions: 1,
            patch: Untrusted::new("+hello"),
            ..Changes::none()
        }))
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
        let (seen_in, seen) = mpsc::unbounded_channel();
        let asked = Arc::new(Mutex::default());
        let agent = Scripted(Arc::new(Inner {
            seen: seen_in,
            threads: Mutex::default(),
            asked: Arc::clone(&asked),
            gate: Notify::new(),
            stubborn,
        }));
        let (ours, theirs) = tokio::io::duplex(1 << 16);
        let (input, output) = tokio::io::split(theirs);
        let (signals, asked_to_end) = mpsc::channel(2);
        let serving = tokio::spawn(serve(agent, input, output, asked_to_end));
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

#[tokio::test]
async fn both_eras_are_greeted_and_see_the_same_tools_without_an_engine() {
    let mut lists = Vec::new();
    for version in ["2024-11-05", "2025-06-18", "2025-11-25"] {
        let mut client = Client::silent(false);
        let hello = client.initialize(version).await;
        assert_eq!(hello["result"]["protocolVersion"], version);
        assert_eq!(hello["result"]["serverInfo"]["name"], "codex-mcp");
        assert!(hello["result"]["capabilities"]["tools"].is_object());
        lists.push(client.request("list", "tools/list", json!({})).await["result"]["tools"].clone());
        assert!(client.seen.try_recv().is_err(), "nothing was started");
    }

    let mut client = Client::silent(false);
    let meta = json!({"_meta": {
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientInfo": {"name": "test", "version": "1"},
        "io.modelcontextprotocol/clientCapabilities": {},
    }});
    let discovered = client.request("discover", "server/discover", meta.clone()).await;
    let versions = discovered["result"]["supportedVersions"].as_array().expect("versions");
    assert!(versions.contains(&json!("2026-07-28")), "{discovered}");
    let list = client.request("list", "tools/list", meta.clone()).await;
    assert_eq!(list["result"]["resultType"], "complete");
    lists.push(list["result"]["tools"].clone());
    let mut params = meta;
    params["name"] = json!("codex");
    params["arguments"] = json!({"prompt": "hello"});
    let result = client.request("call", "tools/call", params).await["result"].clone();
    assert_eq!(result["structuredContent"]["content"], "hello");

    assert!(lists.iter().all(|list| *list == lists[0]));
    let names: Vec<_> = lists[0]
        .as_array()
        .expect("tools")
        .iter()
        .map(|tool| tool["name"].clone())
        .collect();
    assert_eq!(names, ["codex", "codex-reply"]);
}

#[tokio::test]
async fn a_call_and_its_reply_have_the_removed_servers_shape() {
    let mut client = Client::initialized().await;
    let first = client.call("codex", json!({"prompt": "hello", "cwd": "here"})).await;
    assert_eq!(
        client.seen().await,
        Seen::Started {
            cwd: Some("here".into())
        }
    );
    assert_eq!(first["structuredContent"]["threadId"], "thread-1");
    assert_eq!(first["structuredContent"]["content"], "hello");
    assert_eq!(text(&first), "hello");
    assert_eq!(first.get("isError"), None);
    assert!(
        first["content"][1]["text"]
            .as_str()
            .expect("changes")
            .ends_with("+hello")
    );

    let second = client
        .call("codex-reply", json!({"prompt": "again", "threadId": "thread-1"}))
        .await;
    assert_eq!(second["structuredContent"]["threadId"], "thread-1");
    assert_eq!(text(&second), "again");
    let third = client
        .call("codex-reply", json!({"prompt": "old", "conversationId": "thread-1"}))
        .await;
    assert_eq!(text(&third), "old");
}

#[tokio::test]
async fn a_thread_whose_container_ended_just_before_the_turn_is_taken_up_again() {
    let mut client = Client::initialized().await;
    client.call("codex", json!({"prompt": "hello"})).await;
    let reply = client
        .call("codex-reply", json!({"prompt": "parked", "threadId": "thread-1"}))
        .await;
    assert_eq!(text(&reply), "parked");
    assert_eq!(reply.get("isError"), None);
}

/// A client library, with its own idea of what a result is, takes ours.
#[tokio::test]
async fn a_client_library_understands_the_server() {
    use rmcp::ServiceExt;
    use rmcp::model::CallToolRequestParams;

    let (seen, _seen) = mpsc::unbounded_channel();
    let agent = Scripted(Arc::new(Inner {
        seen,
        threads: Mutex::default(),
        asked: Arc::default(),
        gate: Notify::new(),
        stubborn: false,
    }));
    let (ours, theirs) = tokio::io::duplex(1 << 16);
    let (input, output) = tokio::io::split(theirs);
    let (_signals, asked_to_end) = mpsc::channel(1);
    let serving = tokio::spawn(serve(agent, input, output, asked_to_end));

    let client = ().serve(ours).await.expect("greeted");
    assert_eq!(client.list_all_tools().await.expect("tools").len(), 2);
    let Value::Object(arguments) = json!({"prompt": "hello"}) else {
        panic!("an object");
    };
    let call = CallToolRequestParams::new("codex").with_arguments(arguments);
    let result = client.call_tool(call).await.expect("a result");
    assert_eq!(result.structured_content.expect("structured")["content"], "hello");
    client.cancel().await.expect("leaves");
    serving.await.expect("no panic").expect("a clean end");
}

#[tokio::test]
async fn progress_comes_before_the_result_grows_and_names_the_thread() {
    let mut client = Client::initialized().await;
    let params = json!({"name": "codex", "arguments": {"prompt": "hello"}, "_meta": {"progressToken": "p"}});
    client
        .send(json!({"jsonrpc": "2.0", "id": "call", "method": "tools/call", "params": params}))
        .await;
    let (notifications, _) = client.answer("call").await;
    let messages: Vec<_> = notifications
        .iter()
        .map(|notification| {
            assert_eq!(notification["method"], "notifications/progress");
            assert_eq!(notification["params"]["progressToken"], "p");
            notification["params"]["message"].as_str().expect("a message")
        })
        .collect();
    assert_eq!(
        messages,
        [
            "starting a container for this thread",
            "thread thread-1: Codex is working",
            "running: ls",
            "ran: ls (ok)"
        ]
    );
    let numbers: Vec<_> = notifications
        .iter()
        .map(|each| each["params"]["progress"].as_f64().expect("a number"))
        .collect();
    assert!(numbers.is_sorted_by(|a, b| a < b), "{numbers:?}");
}

#[tokio::test]
async fn without_a_token_there_is_no_progress() {
    let mut client = Client::initialized().await;
    client.begin("call", "codex", json!({"prompt": "hello"})).await;
    assert_eq!(client.answer("call").await.0, Vec::<Value>::new());
}

#[tokio::test]
async fn cancelling_interrupts_the_turn_and_keeps_the_thread() {
    let mut client = Client::initialized().await;
    client.hang("long").await;
    client.cancel("long").await;
    assert_eq!(client.seen().await, interrupted("thread-1"));
    // No answer to a cancelled call comes in between.
    let next = client
        .call("codex-reply", json!({"prompt": "go on", "threadId": "thread-1"}))
        .await;
    assert_eq!(text(&next), "go on");
}

#[tokio::test]
async fn cancelling_a_queued_call_does_not_interrupt_the_turn_before_it() {
    let mut client = Client::initialized().await;
    client.hang("first").await;
    client
        .begin(
            "second",
            "codex-reply",
            json!({"prompt": "hang", "threadId": "thread-1"}),
        )
        .await;
    client.cancel("second").await;
    // A whole exchange after it proves that the cancellation was read, and interrupted nothing.
    client
        .call("codex-reply", json!({"prompt": "x", "threadId": "nobody"}))
        .await;
    assert!(client.seen.try_recv().is_err());
    client.cancel("first").await;
    assert_eq!(client.seen().await, interrupted("thread-1"));
    // The second never begins: the next turn that does is the third.
    client
        .call("codex-reply", json!({"prompt": "third", "threadId": "thread-1"}))
        .await;
    assert!(matches!(client.seen().await, Seen::Turn { prompt, .. } if prompt == "third"));
}

#[tokio::test]
async fn a_thread_whose_call_was_cancelled_while_it_started_is_given_up() {
    let mut client = Client::initialized().await;
    client
        .begin("call", "codex", json!({"prompt": "x", "cwd": "gate"}))
        .await;
    assert!(matches!(client.seen().await, Seen::Started { .. }));
    client.cancel("call").await;
    assert_eq!(client.seen().await, Seen::StartGivenUp);
}

#[tokio::test]
async fn what_a_caller_can_mend_is_a_tool_error_and_not_a_protocol_error() {
    let mut client = Client::initialized().await;
    for (tool, arguments, beginning) in [
        ("codex", json!({}), "codex: `prompt` is missing"),
        ("codex", json!({"prompt": ""}), "codex: `prompt`: the prompt is empty"),
        (
            "codex",
            json!({"prompt": "x", "sandbox": 1}),
            "codex: `sandbox` must be a string, not a number",
        ),
        (
            "codex",
            json!({"prompt": "x", "workdir": "/"}),
            "codex: there is no argument `workdir`",
        ),
        ("codex", json!("prompt"), "codex: `arguments` must be an object"),
        (
            "codex-reply",
            json!({"prompt": "x"}),
            "codex-reply: `threadId` is missing",
        ),
        (
            "codex-reply",
            json!({"prompt": "x", "threadId": "gone"}),
            "Session not found for thread_id: gone",
        ),
        ("nope", json!({}), "Unknown tool 'nope'"),
        (
            "codex",
            json!({"prompt": "x", "cwd": "refuse"}),
            "this server is shutting down",
        ),
    ] {
        let result = client.call(tool, arguments.clone()).await;
        assert_eq!(result["isError"], true, "{tool} {arguments}");
        assert!(text(&result).starts_with(beginning), "{}", text(&result));
    }
    let without = client.request("bare", "tools/call", json!({"name": "codex"})).await;
    assert!(text(&without["result"]).starts_with("codex: `prompt` is missing"));
    let nameless = client.request("nameless", "tools/call", json!({"arguments": {}})).await;
    assert_eq!(nameless["error"]["code"], -32602);
    let unknown = client.request("unknown", "no/such", json!({})).await;
    assert_eq!(unknown["error"]["code"], -32601);
}

#[tokio::test]
async fn a_failed_turn_is_an_error_with_its_thread() {
    let mut client = Client::initialized().await;
    let result = client.call("codex", json!({"prompt": "fail"})).await;
    assert_eq!(result["isError"], true);
    assert!(text(&result).contains("the model said no"));
    assert_eq!(result["structuredContent"]["threadId"], "thread-1");
    assert_eq!(result["structuredContent"]["turn"]["status"], "failed");
}

#[tokio::test]
async fn two_calls_run_at_once() {
    let mut client = Client::initialized().await;
    client.hang("one").await;
    let other = client.call("codex", json!({"prompt": "quick"})).await;
    assert_eq!(other["structuredContent"]["threadId"], "thread-2");
    client.cancel("one").await;
    loop {
        if client.seen().await == interrupted("thread-1") {
            return;
        }
    }
}

#[tokio::test]
async fn the_end_of_input_ends_a_running_call_and_every_session() {
    let mut client = Client::initialized().await;
    client.hang("long").await;
    client.writer.shutdown().await.expect("closes");
    let (_, answer) = client.answer("long").await;
    assert!(text(&answer["result"]).starts_with("This server is shutting down"));
    assert_eq!(client.seen().await, Seen::ShutDown(Urgency::Graceful));
    client.serving.await.expect("no panic").expect("a clean end");
    assert!(client.seen.try_recv().is_err(), "nothing was interrupted one by one");
}

#[tokio::test]
async fn input_that_ends_before_a_word_is_a_clean_end() {
    let mut client = Client::silent(false);
    client.writer.shutdown().await.expect("closes");
    client.serving.await.expect("no panic").expect("a clean end");
}

#[tokio::test]
async fn a_signal_ends_the_server_and_a_second_one_skips_the_grace() {
    for greeted in [true, false] {
        let mut client = Client::silent(true);
        if greeted {
            client.initialize("2025-06-18").await;
            client.hang("long").await;
        }
        client.signals.send(()).await.expect("listening");
        assert_eq!(client.seen().await, Seen::ShutDown(Urgency::Graceful));
        client.signals.send(()).await.expect("listening");
        assert_eq!(client.seen().await, Seen::ShutDown(Urgency::Immediate));
        client.serving.await.expect("no panic").expect("a clean end");
    }
}

#[tokio::test]
async fn garbage_ends_nothing() {
    let mut client = Client::silent(false);
    client.cancel("a probe that timed out").await;
    client.raw(b"not json\n\n\xff\xfe\n{\"jsonrpc\": \"2.0\"\n").await;
    assert_eq!(
        client.initialize("2025-06-18").await["result"]["serverInfo"]["name"],
        "codex-mcp"
    );
    client.raw(b"[1, 2\n").await;
    let too_long = vec![b'a'; (16 << 20) + 1];
    client.raw(&too_long).await;
    client.raw(b"\n").await;
    client.cancel("a call that never was").await;
    assert_eq!(
        text(&client.call("codex", json!({"prompt": "still here"})).await),
        "still here"
    );
}

/// A client that neither reads nor closes must not keep the server, and with it the sessions, alive.
#[tokio::test]
async fn a_client_that_stopped_reading_does_not_hold_up_the_end() {
    let mut client = Client::initialized().await;
    for number in 0..40 {
        let params = json!({"name": "codex", "arguments": {"prompt": "y".repeat(4096)}});
        client
            .send(json!({"jsonrpc": "2.0", "id": number, "method": "tools/call", "params": params}))
            .await;
    }
    client.signals.send(()).await.expect("listening");
    while client.seen().await != Seen::ShutDown(Urgency::Graceful) {}
    client.serving.await.expect("no panic").expect("a clean end");
}

/// What the audit has of a call: who, under which id, names and sizes, and no value.
#[tokio::test]
async fn a_session_learns_who_asked_and_in_which_shape() {
    let mut client = Client::initialized().await;
    let arguments = json!({"prompt": "héllo", "sandbox": "read-only", "config": {"model_verbosity": "low"}});
    client
        .request("call-7", "tools/call", json!({"name": "codex", "arguments": arguments}))
        .await;
    let asked = client.asked.lock().expect("asked").clone();
    assert_eq!(
        asked,
        [Asked {
            by: Asker::McpClient {
                name: "test".into(),
                version: "1".into()
            },
            request: Some("call-7".into()),
            tool: "codex",
            parameters: [("config", 25), ("prompt", 6), ("sandbox", 9)]
                .map(|(name, size)| (name.to_owned(), size))
                .into(),
        }]
    );
}
