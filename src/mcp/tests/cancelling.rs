//! Calls beside one another, and what cancelling one does to it and to no other.

use super::*;

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
