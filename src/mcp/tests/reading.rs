//! Resources, prompts, completion: what a client reads, and how it hears of changes.

use super::*;

#[tokio::test]
async fn threads_are_resources_with_their_log_and_their_changes() {
    let mut client = Client::initialized().await;
    client.call("codex", json!({"prompt": "hello"})).await;
    let listed = client.request("list", "resources/list", json!({})).await["result"].clone();
    let uris: Vec<&str> = listed["resources"]
        .as_array()
        .expect("resources")
        .iter()
        .filter_map(|resource| resource["uri"].as_str())
        .collect();
    assert_eq!(uris, ["codex://sessions", "codex://policy", "codex://threads/thread-1"]);
    let templates = client.request("list", "resources/templates/list", json!({})).await;
    assert_eq!(
        templates["result"]["resourceTemplates"]
            .as_array()
            .expect("templates")
            .len(),
        3
    );
    for (uri, expected) in [
        ("codex://sessions", "thread-1"),
        ("codex://policy", "limits"),
        ("codex://threads/thread-1", "codex://threads/thread-1/diff"),
        ("codex://threads/thread-1/transcript", "hello"),
        ("codex://threads/thread-1/diff", "+hello"),
    ] {
        let read = client.request("read", "resources/read", json!({ "uri": uri })).await;
        let text = read["result"]["contents"][0]["text"].as_str().expect("text");
        assert!(text.contains(expected), "{uri}: {text}");
    }
    for uri in ["codex://threads/thread-9", "file:///etc/passwd"] {
        let read = client.request("read", "resources/read", json!({ "uri": uri })).await;
        assert_eq!(read["error"]["code"], -32002, "{read}");
    }
}

#[tokio::test]
async fn who_subscribed_hears_of_a_thread_that_works() {
    let mut client = Client::initialized().await;
    client.call("codex", json!({"prompt": "hello"})).await;
    for uri in ["codex://threads/thread-1/transcript", "codex://threads/thread-9"] {
        client
            .request("sub", "resources/subscribe", json!({ "uri": uri }))
            .await;
    }
    client
        .call("codex-reply", json!({"prompt": "again", "threadId": "thread-1"}))
        .await;
    let update = client.next().await;
    assert_eq!(update["method"], "notifications/resources/updated");
    assert_eq!(update["params"]["uri"], "codex://threads/thread-1/transcript");
    let refused = client
        .request("sub", "resources/subscribe", json!({"uri": "file:///x"}))
        .await;
    assert!(refused["error"].is_object(), "{refused}");
}

#[tokio::test]
async fn prompts_are_listed_filled_and_completed() {
    let mut client = Client::initialized().await;
    let listed = client.request("list", "prompts/list", json!({})).await["result"]["prompts"].clone();
    assert_eq!(listed.as_array().expect("prompts").len(), 5);
    let params = json!({"name": "delegate", "arguments": {"task": "mend it"}});
    let filled = client.request("get", "prompts/get", params).await;
    let text = filled["result"]["messages"][0]["content"]["text"]
        .as_str()
        .expect("text");
    assert!(text.ends_with("mend it"), "{text}");
    let unknown = client.request("get", "prompts/get", json!({"name": "x"})).await;
    assert_eq!(unknown["error"]["code"], -32602);

    client.call("codex", json!({"prompt": "hello"})).await;
    for (reference, name, value, values) in [
        (
            json!({"type": "ref/resource", "uri": "codex://threads/{threadId}"}),
            "threadId",
            "thr",
            json!(["thread-1"]),
        ),
        (
            json!({"type": "ref/prompt", "name": "delegate"}),
            "model",
            "gpt-5",
            json!(["gpt-5.5"]),
        ),
        (json!({"type": "ref/prompt", "name": "delegate"}), "task", "", json!([])),
    ] {
        let params = json!({"ref": reference, "argument": {"name": name, "value": value}});
        let completed = client.request("complete", "completion/complete", params).await;
        assert_eq!(completed["result"]["completion"]["values"], values, "{completed}");
    }
}
