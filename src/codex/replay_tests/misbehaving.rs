//! App-servers made up here, which do what none should.

use super::*;

/// Runs a turn against a made-up app-server.
async fn against<F: Future<Output = ()> + Send + 'static>(play: impl FnOnce(Server) -> F) -> Told {
    let (client, mut events, server) = connection();
    let played = tokio::spawn(play(server));
    client.initialize().await.unwrap();
    let started = client
        .start_thread("/workspace", &ThreadSettings::default(), None)
        .await
        .unwrap();
    let told = turn(&client, &mut events, &started.thread, "go").await;
    played.await.unwrap();
    told
}

fn failure(told: &Told) -> (TurnErrorKind, String) {
    match &told.end.outcome {
        TurnOutcome::Failed(error) => (error.kind, error.message.to_string()),
        other => panic!("{other:?}"),
    }
}

fn completed() -> Value {
    json!({"threadId": "T", "turn": {"id": "U", "status": "completed", "items": []}})
}

#[tokio::test]
async fn a_codex_that_dies_fails_the_turn() {
    let told = against(|mut server| async move { server.begin().await }).await;
    assert_eq!(
        failure(&told),
        (TurnErrorKind::ConnectionLost, "Codex ended".to_owned())
    );
}

#[tokio::test]
async fn what_is_no_protocol_ends_the_connection() {
    let told = against(|mut server| async move {
        server.begin().await;
        server.say_raw("thread 'main' panicked\n").await;
        server.said().await;
    })
    .await;
    let (kind, message) = failure(&told);
    assert_eq!(kind, TurnErrorKind::ConnectionLost);
    assert!(message.contains("thread 'main' panicked"), "{message}");
}

#[tokio::test]
async fn an_answer_to_a_call_never_made_ends_the_connection() {
    let told = against(|mut server| async move {
        server.begin().await;
        server.say(&json!({"id": 99, "result": {}})).await;
        server.said().await;
    })
    .await;
    assert!(failure(&told).1.contains("an answer to a call never made"));
}

#[tokio::test]
async fn a_line_beyond_the_bound_ends_the_connection() {
    let told = against(|mut server| async move {
        server.begin().await;
        let piece = "x".repeat(1 << 20);
        for _ in 0..9 {
            server.say_raw(&piece).await;
        }
        server.said().await;
    })
    .await;
    assert!(failure(&told).1.contains("longer than 8388608 bytes"));
}

#[tokio::test]
async fn other_threads_and_turns_are_not_ours() {
    let told = against(|mut server| async move {
        server.begin().await;
        for (thread, turn) in [("T", "other"), ("other", "U")] {
            let item = json!({"type": "agentMessage", "text": "not ours"});
            server
                .tell(
                    "item/completed",
                    json!({"threadId": thread, "turnId": turn, "item": item}),
                )
                .await;
            server
                .tell(
                    "turn/completed",
                    json!({"threadId": thread, "turn": {"id": turn, "status": "failed"}}),
                )
                .await;
        }
        server.tell("turn/completed", completed()).await;
    })
    .await;
    assert_eq!(told.events, [TurnEvent::Started]);
    assert_eq!(told.end.outcome, TurnOutcome::Completed);
}

#[tokio::test]
async fn every_request_of_codex_is_answered() {
    let told = against(|mut server| async move {
        server.begin().await;
        let table = [
            ("item/tool/requestUserInput", json!({"result": {"answers": {}}})),
            (
                "mcpServer/elicitation/request",
                json!({"result": {"action": "decline"}}),
            ),
            (
                "item/permissions/requestApproval",
                json!({"error": {"code": -32601, "message": "codex-mcp does not answer this"}}),
            ),
            (
                "a/method/of/tomorrow",
                json!({"error": {"code": -32601, "message": "codex-mcp does not answer this"}}),
            ),
        ];
        for (id, (method, mut answer)) in (0..).zip(table) {
            server.say(&json!({"method": method, "id": id, "params": {}})).await;
            answer["id"] = id.into();
            assert_eq!(server.said().await.unwrap(), answer);
        }
        let params = json!({"threadId": "T", "turnId": "U", "itemId": "i", "command": "rm x"});
        server
            .say(&json!({"method": "item/commandExecution/requestApproval", "id": "s", "params": params}))
            .await;
        assert_eq!(
            server.said().await.unwrap(),
            json!({"id": "s", "result": {"decision": "decline"}})
        );
        server.tell("turn/completed", completed()).await;
    })
    .await;
    let answered = TurnEvent::ApprovalAnswered {
        subject: "rm x".to_owned().into(),
        decision: Decision::Declined,
    };
    assert_eq!(told.events, [TurnEvent::Started, answered]);
}

#[tokio::test]
async fn a_flood_of_deltas_costs_deltas_and_never_the_end() {
    let (client, mut events, mut server) = connection();
    let flood = tokio::spawn(async move {
        server.begin().await;
        let delta =
            json!({"method": "item/agentMessage/delta", "params": {"threadId": "T", "turnId": "U", "delta": "x"}});
        let many = format!("{delta}\n").repeat(1000);
        for _ in 0..20 {
            server.say_raw(&many).await;
        }
        server.tell("turn/completed", completed()).await;
        // Everything above was read by the client before it reads this; only then does anybody take events.
        server
            .say(&json!({"method": "item/tool/requestUserInput", "id": 0, "params": {}}))
            .await;
        server.said().await;
    });
    client.initialize().await.unwrap();
    let started = client
        .start_thread("/w", &ThreadSettings::default(), None)
        .await
        .unwrap();
    client
        .start_turn(&started.thread, &Prompt::parse("go").unwrap(), NetworkAccess::None)
        .await
        .unwrap();
    flood.await.unwrap();
    let (mut deltas, mut left_out, mut ends) = (0, 0, 0);
    while let Ok(event) = events.next().await {
        match event.happening {
            crate::codex::event::Happening::Shown(_) => deltas += 1,
            crate::codex::event::Happening::LeftOut(count) => left_out += count,
            crate::codex::event::Happening::TurnEnded(_) => ends += 1,
            _ => {}
        }
    }
    assert_eq!((deltas + left_out, ends), (20_000, 1));
    assert!(deltas <= 1024, "{deltas}");
}
