//! What a client is told while a call runs.

use super::*;

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
