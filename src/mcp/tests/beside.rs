//! What a client does beside waiting: turns that it does not wait for, looked at, interrupted, and what becomes of threads.

use super::*;
use std::time::Instant;

impl Client {
    async fn begun(&mut self, prompt: &str) -> String {
        let result = self.call("codex", json!({"prompt": prompt, "wait": false})).await;
        let thread = result["structuredContent"]["threadId"].as_str();
        thread.expect("a thread").to_owned()
    }

    async fn status(&mut self, arguments: Value) -> Value {
        self.call("codex-status", arguments).await["structuredContent"].clone()
    }
}

#[tokio::test]
async fn a_call_that_does_not_wait_leaves_the_turn_at_work() {
    let mut client = Client::initialized().await;
    let begun = client.call("codex", json!({"prompt": "hang", "wait": false})).await;
    assert_eq!(begun["structuredContent"]["turn"]["status"], "running", "{begun}");
    let thread = begun["structuredContent"]["threadId"].clone();
    let status = client.status(json!({"threadId": thread, "waitSeconds": 0})).await;
    assert_eq!(
        (&status["state"], &status["turnsUnderWay"]),
        (&json!("running"), &json!(1))
    );
    assert_eq!(status.get("lastTurn"), None);

    let interrupted = client.call("codex-interrupt", json!({"threadId": thread})).await;
    assert_eq!(interrupted["structuredContent"]["interrupted"], 1);
    let status = client.status(json!({"threadId": thread})).await;
    assert_eq!(status["state"], "idle");
    assert_eq!(status["lastTurn"]["turn"]["status"], "interrupted");
}

#[tokio::test]
async fn a_status_waits_for_the_end_and_has_the_answer_and_what_came_since() {
    let mut client = Client::initialized().await;
    let thread = client.begun("hello").await;
    let status = client.status(json!({"threadId": thread, "waitSeconds": 60})).await;
    assert_eq!(status["lastTurn"]["content"], "hello");
    assert_eq!(status["events"], json!(["running: ls", "ran: ls (ok)"]));
    let since = json!({"threadId": thread, "cursor": status["cursor"]});
    assert_eq!(client.status(since).await["events"], json!([]));
    let result = client.call("codex-status", json!({ "threadId": thread })).await;
    assert!(text(&result).contains("has ended"), "{result}");
    assert_eq!(result["content"][1]["text"], "hello");
}

#[tokio::test]
async fn a_wait_that_is_cancelled_touches_no_turn() {
    let mut client = Client::initialized().await;
    let thread = client.begun("hang").await;
    client
        .begin("wait", "codex-status", json!({"threadId": thread, "waitSeconds": 200}))
        .await;
    client.cancel("wait").await;
    let status = client.status(json!({"threadId": thread, "waitSeconds": 0})).await;
    assert_eq!(status["turnsUnderWay"], 1);
}

#[tokio::test]
async fn a_call_that_waited_long_enough_says_how_to_go_on() {
    let mut client = Client::of_server(false, Duration::from_millis(50));
    client.initialize("2025-06-18").await;
    client.hang("long").await;
    let (_, answer) = client.answer("long").await;
    let result = &answer["result"];
    assert!(text(result).contains("codex-status"), "{result}");
    assert_eq!(result["structuredContent"]["turn"]["status"], "running");
    let status = client.status(json!({"threadId": "thread-1", "waitSeconds": 0})).await;
    assert_eq!(status["turnsUnderWay"], 1);
}

#[tokio::test]
async fn a_thread_that_nobody_knows_is_not_found() {
    let mut client = Client::initialized().await;
    for tool in [
        "codex-status",
        "codex-interrupt",
        "codex-close",
        "codex-diff",
        "codex-apply",
    ] {
        let result = client.call(tool, json!({"threadId": "thread-9"})).await;
        assert_eq!(result["isError"], true, "{tool}: {result}");
        assert!(
            text(&result).starts_with("Session not found for thread_id: thread-9"),
            "{tool}: {result}"
        );
    }
}

#[tokio::test]
async fn threads_are_listed_compared_applied_and_closed() {
    let mut client = Client::initialized().await;
    client.call("codex", json!({"prompt": "hello"})).await;
    let listed = client.call("codex-sessions", json!({})).await["structuredContent"].clone();
    assert_eq!(
        (&listed["total"], &listed["sessions"][0]["threadId"]),
        (&json!(1), &json!("thread-1"))
    );
    let none = client.call("codex-sessions", json!({"state": "failed"})).await;
    assert_eq!(none["structuredContent"]["total"], 0);

    let diff = client.call("codex-diff", json!({"threadId": "thread-1"})).await;
    assert_eq!(text(&diff), "+hello");
    let stat = client
        .call("codex-diff", json!({"threadId": "thread-1", "format": "stat"}))
        .await;
    assert!(text(&stat).ends_with(" new.txt"), "{stat}");

    while client.seen.try_recv().is_ok() {}
    let hash = "ab".repeat(32);
    let arguments = json!({"threadId": "thread-1", "dryRun": true, "expectHash": hash});
    client.call("codex-apply", arguments).await;
    let applied = Seen::Applied {
        thread: "thread-1".into(),
        really: false,
        expect_hash: Some(hash),
    };
    assert_eq!(client.seen().await, applied);

    let closed = client
        .call("codex-close", json!({"threadId": "thread-1", "keep": false}))
        .await;
    assert_eq!(closed["structuredContent"]["kept"], false);
    let gone = client.call("codex-status", json!({"threadId": "thread-1"})).await;
    assert_eq!(gone["isError"], true);
}

#[tokio::test]
async fn nothing_is_applied_while_a_turn_is_at_work() {
    let mut client = Client::initialized().await;
    let thread = client.begun("hang").await;
    let refused = client.call("codex-apply", json!({ "threadId": thread })).await;
    assert!(text(&refused).contains("is under way"), "{refused}");
}

/// Clients send SIGTERM two seconds after they closed their side.
#[tokio::test]
async fn a_wait_ends_with_the_server() {
    let mut client = Client::initialized().await;
    let thread = client.begun("hang").await;
    client
        .begin("wait", "codex-status", json!({"threadId": thread, "waitSeconds": 200}))
        .await;
    let began = Instant::now();
    client.signals.send(()).await.expect("it serves");
    client.serving.await.expect("it ends").expect("in order");
    assert!(began.elapsed() < Duration::from_secs(2));
}

#[tokio::test]
async fn turns_that_wait_are_bounded_and_closing_ends_them() {
    let mut client = Client::initialized().await;
    let thread = client.begun("hang").await;
    let reply = json!({"prompt": "later", "threadId": thread, "wait": false});
    let mut begun = 1;
    loop {
        let result = client.call("codex-reply", reply.clone()).await;
        if result["isError"] == true {
            assert!(text(&result).starts_with("Too many turns"), "{result}");
            break;
        }
        begun += 1;
    }
    assert_eq!(begun, 16);
    client.call("codex-close", json!({ "threadId": thread })).await;
    let status = client.status(json!({"threadId": thread, "waitSeconds": 0})).await;
    assert_eq!(status["turnsUnderWay"], 0, "{status}");
}

#[tokio::test]
async fn a_turn_that_breaks_this_server_is_told_and_over() {
    let mut client = Client::initialized().await;
    let result = client.call("codex", json!({"prompt": "panic"})).await;
    assert!(text(&result).starts_with("This server met an error"), "{result}");
    let status = client.status(json!({"threadId": "thread-1", "waitSeconds": 0})).await;
    assert_eq!(status["turnsUnderWay"], 0, "{status}");
}
