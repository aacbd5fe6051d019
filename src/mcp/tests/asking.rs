//! What Codex asks reaches the user in either era, and nobody who can't be asked keeps it waiting.

use super::*;

async fn greeted(capabilities: Value) -> Client {
    let mut client = Client::silent(false);
    let client_info = json!({"name": "test", "version": "1"});
    let params = json!({"protocolVersion": "2025-06-18", "capabilities": capabilities, "clientInfo": client_info});
    client.request("init", "initialize", params).await;
    client
        .send(json!({"jsonrpc": "2.0", "method": "notifications/initialized"}))
        .await;
    client
}

async fn decided(client: &mut Client) -> Decision {
    loop {
        if let Seen::Decided(decision) = client.seen().await {
            return decision;
        }
    }
}

#[tokio::test]
async fn a_client_with_a_handshake_is_asked_and_its_bare_yes_counts() {
    for (answer, decision) in [
        (json!({"action": "accept"}), Decision::Accepted),
        (json!({"action": "accept", "content": {}}), Decision::Accepted),
        (json!({"action": "decline"}), Decision::Declined),
        (json!({"action": "cancel"}), Decision::Declined),
    ] {
        let mut client = greeted(json!({"elicitation": {}})).await;
        client.begin("call", "codex", json!({"prompt": "ask"})).await;
        let asked = client.next().await;
        assert_eq!(asked["method"], "elicitation/create", "{asked}");
        assert!(
            asked["params"]["message"]
                .as_str()
                .expect("a message")
                .ends_with("run this command: make.")
        );
        client
            .send(json!({"jsonrpc": "2.0", "id": asked["id"], "result": answer}))
            .await;
        assert_eq!(decided(&mut client).await, decision);
        assert_eq!(
            client.answer("call").await.1["result"]["structuredContent"]["content"],
            "ask"
        );
    }
}

#[tokio::test]
async fn a_client_that_can_not_ask_gets_the_operators_answer() {
    let mut client = greeted(json!({})).await;
    client.begin("call", "codex", json!({"prompt": "ask"})).await;
    assert_eq!(decided(&mut client).await, Decision::Declined);
    assert_eq!(
        client.answer("call").await.1["result"]["structuredContent"]["content"],
        "ask"
    );
}

fn modern(tool: &str, arguments: &Value) -> Value {
    json!({"name": tool, "arguments": arguments, "_meta": {
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientInfo": {"name": "test", "version": "1"},
        "io.modelcontextprotocol/clientCapabilities": {"elicitation": {}},
    }})
}

#[tokio::test]
async fn since_2026_a_result_asks_and_the_next_call_answers() {
    for tool in ["codex", "codex-status"] {
        let mut client = Client::silent(false);
        let arguments = json!({"prompt": "ask"});
        let asks = client.request("call", "tools/call", modern("codex", &arguments)).await["result"].clone();
        assert_eq!(asks["resultType"], "input_required", "{asks}");
        let message = &asks["inputRequests"]["approval"]["params"]["message"];
        assert!(message.as_str().expect("a message").contains("make"), "{asks}");

        let arguments = match tool {
            "codex" => arguments,
            _ => json!({"threadId": "thread-1"}),
        };
        let mut forged = modern(tool, &arguments);
        forged["requestState"] = json!("rs1.AAAA");
        forged["inputResponses"] = json!({"approval": {"action": "accept"}});
        let refused = client.request("call", "tools/call", forged).await["result"].clone();
        assert_eq!(refused["isError"], true, "{refused}");

        let mut retried = modern(tool, &arguments);
        retried["requestState"] = asks["requestState"].clone();
        retried["inputResponses"] = json!({"approval": {"action": "accept"}});
        let done = client.request("call", "tools/call", retried.clone()).await["result"].clone();
        assert_eq!(decided(&mut client).await, Decision::Accepted);
        let structured = &done["structuredContent"];
        let content = if tool == "codex" {
            &structured["content"]
        } else {
            &structured["lastTurn"]["content"]
        };
        assert_eq!(content, "ask", "{done}");

        // Once more, after all is over: no second turn begins.
        client.request("call", "tools/call", retried).await;
        assert!(!matches!(client.seen.try_recv(), Ok(Seen::Turn { .. })));
    }
}

/// Its own turn is over: a later one of the thread, which asks as well, hears nothing of it.
#[tokio::test]
async fn an_answer_to_one_turn_is_none_to_the_next() {
    let mut client = Client::silent(false);
    let first = client
        .request("call", "tools/call", modern("codex", &json!({"prompt": "ask"})))
        .await["result"]
        .clone();
    let mut answered = modern("codex", &json!({"prompt": "ask"}));
    answered["requestState"] = first["requestState"].clone();
    answered["inputResponses"] = json!({"approval": {"action": "accept"}});
    client.request("call", "tools/call", answered.clone()).await;
    assert_eq!(decided(&mut client).await, Decision::Accepted);

    let reply = modern("codex-reply", &json!({"prompt": "ask", "threadId": "thread-1"}));
    let second = client.request("call", "tools/call", reply).await["result"].clone();
    assert_eq!(second["resultType"], "input_required", "{second}");
    let mut replayed = modern("codex-status", &json!({"threadId": "thread-1", "waitSeconds": 0}));
    replayed["requestState"] = first["requestState"].clone();
    replayed["inputResponses"] = json!({"approval": {"action": "accept"}});
    let asks_again = client.request("call", "tools/call", replayed).await["result"].clone();
    assert_eq!(asks_again["resultType"], "input_required", "{asks_again}");
    assert!(!matches!(client.seen.try_recv(), Ok(Seen::Decided(_))));
}
