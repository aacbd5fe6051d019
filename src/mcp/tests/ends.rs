//! What ends the server, and what does not.

use super::*;

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
