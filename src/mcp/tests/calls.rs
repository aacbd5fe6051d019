//! Greetings and calls: what is answered, and what is told of a call.

use super::*;
use crate::mcp::tools::ToolName;
use crate::session::asked::Asker;

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
    assert_eq!(names, ToolName::ALL.map(ToolName::as_str));
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
    let serving = tokio::spawn(serve(agent, settings(BLOCK), input, output, asked_to_end));

    let client = ().serve(ours).await.expect("greeted");
    assert_eq!(client.list_all_tools().await.expect("tools").len(), ToolName::ALL.len());
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
            identity: None,
            request: Some("call-7".into()),
            tool: "codex",
            parameters: [("config", 25), ("prompt", 6), ("sandbox", 9)]
                .map(|(name, size)| (name.to_owned(), size))
                .into(),
        }]
    );
}
