//! The client against recorded app-servers (`tests/fixtures/app-server`, real Codex 0.169 on a scripted model, trimmed)
//! and against misbehaving ones made up here.
//!
//! A recording is played strictly: each line that we once sent must be sent again, equal as JSON and in its place, so
//! the fixtures also pin every request down (`sandbox`, `sandboxPolicy`, the answer to an approval).

mod misbehaving;

use crate::codex::approver::DeclineAll;
use crate::codex::client::{Approvals, Client, Events, NetworkAccess, ThreadSettings};
use crate::codex::error::{ClientError, TurnErrorKind};
use crate::codex::event::{Decision, ThreadId, TurnEnd, TurnEvent, TurnOutcome, Usage};
use crate::codex::overrides::parse_overrides;
use crate::codex::prompt::Prompt;
use crate::codex::turn_runner::{TurnRequest, run_turn};
use serde_json::{Value, json};
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, DuplexStream, ReadHalf, WriteHalf};
use tokio::sync::mpsc;

/// The app-server's end of a connection.
struct Server {
    from: BufReader<ReadHalf<DuplexStream>>,
    to: WriteHalf<DuplexStream>,
}

impl Server {
    async fn said(&mut self) -> Option<Value> {
        let mut line = String::new();
        self.from.read_line(&mut line).await.unwrap();
        (!line.is_empty()).then(|| serde_json::from_str(&line).unwrap())
    }

    async fn say(&mut self, message: &Value) {
        self.say_raw(&format!("{message}\n")).await;
    }

    async fn say_raw(&mut self, text: &str) {
        // The client may have hung up, which is then what the test is about.
        let _ = self.to.write_all(text.as_bytes()).await;
    }

    /// Answers the next call, which must be `method`.
    async fn answer(&mut self, method: &str, result: Value) {
        let call = self.said().await.unwrap();
        assert_eq!(call["method"], method);
        self.say(&json!({"id": call["id"], "result": result})).await;
    }

    /// Up to a turn `U` of thread `T` that is started.
    async fn begin(&mut self) {
        self.answer("initialize", json!({"userAgent": "codex_mcp/0.169.0 (x)"}))
            .await;
        assert_eq!(self.said().await.unwrap(), json!({"method": "initialized"}));
        self.answer("thread/start", thread_started()).await;
        self.answer("turn/start", json!({"turn": {"id": "U"}})).await;
        self.tell(
            "turn/started",
            json!({"threadId": "T", "turn": {"id": "U", "status": "inProgress"}}),
        )
        .await;
    }

    async fn tell(&mut self, method: &str, params: Value) {
        self.say(&json!({"method": method, "params": params})).await;
    }
}

fn thread_started() -> Value {
    json!({
        "thread": {"id": "T"}, "model": "m", "modelProvider": "gateway", "approvalPolicy": "never",
        "sandbox": {"type": "readOnly"},
    })
}

fn connection() -> (Client, Events, Server) {
    let (ours, theirs) = tokio::io::duplex(64 << 10);
    let (client, events) = Client::connect(ours, Arc::new(DeclineAll));
    let (from, to) = tokio::io::split(theirs);
    let from = BufReader::new(from);
    (client, events, Server { from, to })
}

/// What one turn came to, as text.
#[derive(Debug)]
struct Told {
    events: Vec<TurnEvent>,
    end: TurnEnd,
}

async fn turn(client: &Client, events: &mut Events, thread: &ThreadId, prompt: &str) -> Told {
    let mut seen = Vec::new();
    let prompt = Prompt::parse(prompt).unwrap();
    let request = request(thread, &prompt);
    let mut watch = |event| seen.push(event);
    let end = run_turn(client, events, request, std::future::pending(), &mut watch)
        .await
        .unwrap();
    Told { events: seen, end }
}

fn request<'a>(thread: &'a ThreadId, prompt: &'a Prompt) -> TurnRequest<'a> {
    TurnRequest {
        thread,
        prompt,
        limit: Duration::from_secs(600),
        usage: Usage::default(),
        network: NetworkAccess::None,
    }
}

/// A recording: who said what, in order.
fn recording(name: &str) -> Vec<(String, Value)> {
    let path = format!("{}/tests/fixtures/app-server/{name}.jsonl", env!("CARGO_MANIFEST_DIR"));
    #[expect(clippy::disallowed_methods, reason = "a test reads its fixture")]
    let text = std::fs::read_to_string(path).unwrap();
    let line = |line: &str| {
        let entry: Value = serde_json::from_str(line).unwrap();
        (entry["d"].as_str().unwrap().to_owned(), entry["m"].clone())
    };
    text.lines().map(line).collect()
}

/// Plays the app-server's part.
async fn play(mut server: Server, recording: Vec<(String, Value)>) {
    for (direction, message) in recording {
        if direction == "<" {
            server.say(&message).await;
            continue;
        }
        let mut said = server.said().await.unwrap();
        if let Some(info) = said.pointer_mut("/params/clientInfo").and_then(Value::as_object_mut) {
            info.remove("version");
        }
        assert_eq!(said, message);
    }
}

fn sent<'a>(recording: &'a [(String, Value)], method: &str) -> Vec<&'a Value> {
    let sent = recording
        .iter()
        .filter(|(direction, message)| direction == ">" && message["method"] == method);
    sent.map(|(_, message)| &message["params"]).collect()
}

fn recorded_settings(recording: &[(String, Value)]) -> ThreadSettings {
    let params = sent(recording, "thread/start")[0];
    let mut config = params["config"].as_object().unwrap().clone();
    let compact_prompt = config.remove("compact_prompt").unwrap();
    ThreadSettings {
        approvals: if params["approvalPolicy"] == "untrusted" {
            Approvals::Untrusted
        } else {
            Approvals::Never
        },
        compact_prompt: compact_prompt.as_str().map(str::to_owned),
        overrides: parse_overrides(&config).unwrap(),
        ..ThreadSettings::default()
    }
}

/// Everything that a recording's turns came to.
async fn replay(name: &str) -> String {
    let recording = recording(name);
    let settings = recorded_settings(&recording);
    let prompts: Vec<String> = sent(&recording, "turn/start")
        .iter()
        .map(|params| params["input"][0]["text"].as_str().unwrap().to_owned())
        .collect();
    let (client, mut events, server) = connection();
    let played = tokio::spawn(play(server, recording));
    client.initialize().await.unwrap();
    let started = client.start_thread("/workspace", &settings, None).await.unwrap();
    let mut story = format!("{started:?}\n");
    for prompt in prompts {
        let told = turn(&client, &mut events, &started.thread, &prompt).await;
        story.push_str(&format!("\n{prompt}\n"));
        for event in told.events {
            story.push_str(&format!("  {event:?}\n"));
        }
        story.push_str(&format!("  {:?}\n", told.end));
    }
    played.await.unwrap();
    story
}

#[tokio::test]
async fn text() {
    insta::assert_snapshot!(replay("text").await);
}

#[tokio::test]
async fn a_command_and_a_patch_in_two_turns() {
    insta::assert_snapshot!(replay("shell-and-patch").await);
}

#[tokio::test]
async fn a_command_in_code_mode() {
    insta::assert_snapshot!(replay("code-mode").await);
}

#[tokio::test]
async fn approvals_are_declined_and_told() {
    insta::assert_snapshot!(replay("declined").await);
}

#[tokio::test]
async fn a_key_that_the_provider_refuses() {
    insta::assert_snapshot!(replay("unauthorized").await);
}

#[tokio::test]
async fn a_key_that_the_host_misses() {
    insta::assert_snapshot!(replay("key-missing").await);
}

#[tokio::test]
async fn a_configuration_that_codex_refuses() {
    let recording = recording("config-refused");
    let settings = recorded_settings(&recording);
    let (client, _events, server) = connection();
    let played = tokio::spawn(play(server, recording));
    client.initialize().await.unwrap();
    let refused = client.start_thread("/workspace", &settings, None).await.unwrap_err();
    insta::assert_snapshot!(refused, @"Codex refused its configuration: Invalid configuration; using defaults. /home/codex/.codex/config.toml:1:19: wanted string or table");
    played.await.unwrap();
}

/// Becomes ready once the turn has begun a command.
async fn command_started(mut watched: mpsc::Receiver<TurnEvent>) {
    while let Some(event) = watched.recv().await {
        if matches!(event, TurnEvent::CommandStarted { .. }) {
            return;
        }
    }
}

#[tokio::test]
async fn an_interrupt_ends_the_turn_and_then_what_it_left_running() {
    let recording = recording("interrupt");
    let settings = recorded_settings(&recording);
    let (client, mut events, server) = connection();
    let played = tokio::spawn(play(server, recording));
    client.initialize().await.unwrap();
    let started = client.start_thread("/workspace", &settings, None).await.unwrap();
    let (watcher, watched) = mpsc::channel(64);
    let mut watch = |event| drop(watcher.try_send(event));
    let prompt = Prompt::parse("#shell sleep 1000").unwrap();
    let request = request(&started.thread, &prompt);
    let end = run_turn(&client, &mut events, request, command_started(watched), &mut watch)
        .await
        .unwrap();
    assert_eq!(end.outcome, TurnOutcome::Interrupted);
    // The recording goes on to the answer of `thread/backgroundTerminals/clean`, so both calls were made.
    played.await.unwrap();
}

#[tokio::test]
async fn refusals_are_typed() {
    let (client, _events, mut server) = connection();
    let played = tokio::spawn(async move {
        server
            .answer("initialize", json!({"userAgent": "codex_mcp/0.170.1 (x)"}))
            .await;
        server.answer("initialize", json!({"userAgent": 7})).await;
        for (code, message) in [(-32001, "busy"), (-32600, "no such thread")] {
            let call = server.said().await.unwrap();
            server
                .say(&json!({"id": call["id"], "error": {"code": code, "message": message}}))
                .await;
        }
        let mut trusting = thread_started();
        trusting["sandbox"] = json!({"type": "dangerFullAccess"});
        server.answer("thread/start", trusting).await;
    });
    let settings = ThreadSettings::default();
    let mut lines = vec![
        client.initialize().await.unwrap_err().to_string(),
        client.initialize().await.unwrap_err().to_string(),
    ];
    for _ in 0..3 {
        lines.push(
            client
                .start_thread("/w", &settings, None)
                .await
                .unwrap_err()
                .to_string(),
        );
    }
    played.await.unwrap();
    // The server is gone now.
    lines.push(
        client
            .start_thread("/w", &settings, None)
            .await
            .unwrap_err()
            .to_string(),
    );
    insta::assert_snapshot!(lines.join("\n"));
}

#[tokio::test]
async fn dropping_every_handle_closes_the_stream() {
    let (client, events, mut server) = connection();
    drop((client, events));
    assert_eq!(server.said().await, None);
}

#[tokio::test]
async fn a_call_given_up_leaves_no_waiter_behind() {
    let (client, _events, mut server) = connection();
    for _ in 0..200 {
        // Polled once, so that it is sent, and dropped.
        let call = client.initialize();
        let abandoned = tokio::time::timeout(Duration::ZERO, call).await;
        assert!(abandoned.is_err());
        server.said().await.unwrap();
    }
    let played = tokio::spawn(async move {
        // A late answer is no trouble.
        server.say(&json!({"id": 1, "result": {}})).await;
        server
            .answer("initialize", json!({"userAgent": "codex_mcp/0.169.0"}))
            .await;
        server.said().await
    });
    assert!(client.initialize().await.is_ok());
    played.await.unwrap();
    let ended: Result<_, ClientError> = client.start_thread("/w", &ThreadSettings::default(), None).await;
    assert_eq!(ended, Err(ClientError::Closed));
}

/// A thread is resumed with the settings that it was started with, whatever Codex kept of it in the container's reach.
#[tokio::test]
async fn a_thread_is_resumed_as_it_was_started() {
    let settings = ThreadSettings {
        approvals: Approvals::Untrusted,
        developer_instructions: Some("be brief".to_owned()),
        ..ThreadSettings::default()
    };
    let thread = ThreadId::parse("T").unwrap();
    let resume = async |answer: Value| {
        let (client, _events, mut server) = connection();
        let asked = tokio::spawn(async move {
            let call = server.said().await.unwrap();
            let mut answer = answer;
            answer["id"] = call["id"].clone();
            server.say(&answer).await;
            call
        });
        let resumed = client.resume_thread(&thread, "/w", &settings, None).await;
        (resumed, asked.await.unwrap())
    };
    let mut kept = thread_started();
    kept["approvalPolicy"] = json!("untrusted");
    let (resumed, call) = resume(json!({ "result": kept })).await;
    assert_eq!(resumed.unwrap().unwrap().thread, thread);
    assert_eq!(call["method"], "thread/resume");
    let params = json!({
        "threadId": "T", "excludeTurns": true, "cwd": "/w", "sandbox": "read-only", "approvalPolicy": "untrusted",
        "developerInstructions": "be brief",
    });
    assert_eq!(call["params"], params);

    let refusal = |message: &str| json!({"error": {"code": -32600, "message": message}});
    let (nothing_kept, _) = resume(refusal("no rollout found for thread id T")).await;
    assert_eq!(nothing_kept.unwrap(), None);
    let empty = "failed to read thread: thread-store internal error: failed to read session metadata /h/sessions/r.jsonl: rollout at \
                 /h/sessions/r.jsonl is empty";
    let (nothing_kept, _) = resume(refusal(empty)).await;
    assert_eq!(nothing_kept.unwrap(), None);
    let unreadable = "failed to read session metadata /h/sessions/r.jsonl: Permission denied";
    let (refused, _) = resume(refusal(unreadable)).await;
    assert!(matches!(refused, Err(ClientError::Rejected { .. })));
    let (refused, _) = resume(refusal("thread T already has an active writer")).await;
    assert!(matches!(refused, Err(ClientError::Rejected { .. })));
    kept["thread"]["id"] = json!("another");
    let (another, _) = resume(json!({ "result": kept })).await;
    assert!(matches!(another, Err(ClientError::NotAsAsked { .. })));
}
