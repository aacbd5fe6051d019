//! What both eras can do: with sessions (before 2026-07-28), and without.

use super::*;
use crate::session::registry::Urgency;

#[tokio::test]
async fn a_client_with_a_session_lists_tools_and_calls_one() {
    let mut served = Served::new().await;
    let client = served.client().initialized().await;
    let tools = client.ask("tools/list", json!({})).await;
    assert!(
        tools["result"]["tools"]
            .as_array()
            .is_some_and(|tools| tools.len() >= 2),
        "{tools}"
    );
    let result = client.call("hello").await;
    assert_eq!(result["structuredContent"]["threadId"], "thread-1", "{result}");
    assert_eq!(served.seen.recv().await, Some(Seen::Started { cwd: None }));
    client.leave().await;
    assert_eq!(client.status(client.get("/mcp")).await, StatusCode::NOT_FOUND);
    served.ended().await;
}

#[tokio::test]
async fn progress_comes_before_the_answer_on_the_same_stream() {
    let served = Served::new().await;
    let client = served.client().initialized().await;
    let message = json!({"jsonrpc": "2.0", "id": 3, "method": "tools/call", "params": {
        "name": "codex", "arguments": {"prompt": "hello"}, "_meta": {"progressToken": "p"},
    }});
    let (_, headers, body) = client.send(client.post(&message)).await;
    assert_eq!(headers["content-type"], "text/event-stream");
    let text = String::from_utf8_lossy(&body);
    let (progress, answer) = (text.find("notifications/progress"), text.find("\"structuredContent\""));
    assert!(progress.is_some() && progress < answer, "{text}");
    served.ended().await;
}

/// Each request of 2026-07-28 says all that an earlier era said once.
async fn modern(client: &Client, method: &str, mut params: Value) -> (StatusCode, HeaderMap, Value) {
    let name = params["name"].as_str().map(str::to_owned);
    params["_meta"] = json!({
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientInfo": {"name": "modern", "version": "2"},
        "io.modelcontextprotocol/clientCapabilities": {},
    });
    let message = json!({"jsonrpc": "2.0", "id": 7, "method": method, "params": params});
    let mut request = client.post(&message);
    let headers = request.headers_mut();
    headers.insert("mcp-protocol-version", "2026-07-28".parse().expect("a value"));
    headers.insert("mcp-method", method.parse().expect("a value"));
    if let Some(name) = name {
        headers.insert("mcp-name", name.parse().expect("a value"));
    }
    let (status, headers, body) = client.send(request).await;
    (status, headers, answer(&body))
}

#[tokio::test]
async fn a_client_without_a_session_calls_a_tool_at_once() {
    let served = Served::new().await;
    let client = served.client();
    let (status, headers, found) = modern(&client, "server/discover", json!({})).await;
    assert_eq!(status, StatusCode::OK, "{found}");
    assert!(!headers.contains_key("mcp-session-id"));
    let call = json!({"name": "codex", "arguments": {"prompt": "hello"}});
    let (status, headers, result) = modern(&client, "tools/call", call).await;
    assert_eq!(status, StatusCode::OK, "{result}");
    assert_eq!(headers["cache-control"], "no-store");
    assert_eq!(
        result["result"]["structuredContent"]["threadId"], "thread-1",
        "{result}"
    );
    let asked = served.asked.lock().unwrap()[0].clone();
    assert_eq!(asked.by.to_string(), "modern 2");
    served.ended().await;
}

#[tokio::test]
async fn a_client_that_hangs_up_without_a_session_stops_its_turn() {
    let mut served = Served::new().await;
    let client = served.client();
    let hanging = tokio::spawn(async move {
        let call = json!({"name": "codex", "arguments": {"prompt": "hang"}});
        modern(&client, "tools/call", call).await
    });
    while !matches!(served.seen.recv().await, Some(Seen::Turn { .. })) {}
    hanging.abort();
    let thread = "thread-1".to_owned();
    assert_eq!(served.seen.recv().await, Some(Seen::Interrupted { thread }));
    served.ended().await;
}

#[tokio::test]
async fn a_signal_lets_calls_return_and_turns_new_ones_away() {
    let mut served = Served::new().await;
    let client = served.client().initialized().await;
    // A connection that stays, as clients keep one.
    let stream = TcpStream::connect(served.address).await.unwrap();
    let (mut kept, connection) = http1::handshake::<_, Full<Bytes>>(TokioIo::new(stream)).await.unwrap();
    let connection = tokio::spawn(connection);
    kept.send_request(client.get("/healthz"))
        .await
        .unwrap()
        .collect()
        .await
        .unwrap();
    let hanging = {
        let client = client.clone();
        tokio::spawn(async move { client.call("hang").await })
    };
    while !matches!(served.seen.recv().await, Some(Seen::Turn { .. })) {}
    let (signals, address) = (served.signals.clone(), served.address);
    signals.send(()).await.unwrap();
    let result = tokio::time::timeout(PATIENCE, hanging).await.unwrap().unwrap();
    assert!(
        result["content"][0]["text"].as_str().unwrap().contains("shut"),
        "{result}"
    );
    assert_eq!(served.seen.recv().await, Some(Seen::ShutDown(Urgency::Graceful)));
    tokio::time::timeout(PATIENCE, served.serving).await.unwrap().unwrap();
    assert!(TcpStream::connect(address).await.is_err());
    let _ = connection.await;
}

#[tokio::test]
async fn while_it_ends_requests_are_turned_away_and_a_second_signal_hurries() {
    let dir = tempfile::tempdir().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (agent, mut seen, _) = scripted(true);
    let (signals, asked_to_end) = mpsc::channel(2);
    let keeper = Doorkeeper::new(TokenStore::new(dir.path().join("t"))).unwrap();
    let config = HttpSettings {
        listen: sourced(address.to_string().parse().unwrap()),
        front: sourced(Front::Nothing),
        allowed_hosts: Vec::new(),
        allowed_origins: Vec::new(),
        max_body: sourced(ByteSize::from_mib(1)),
        connections: sourced(9),
        requests_per_second: sourced(100),
        tokens: Some(sourced(dir.path().join("t"))),
    };
    let serving = tokio::spawn(async move {
        serve(
            turns_of(agent),
            listener,
            keeper,
            &config,
            Patience::default(),
            asked_to_end,
        )
        .await;
    });
    let client = Client {
        address,
        token: None,
        session: None,
    };
    let stream = TcpStream::connect(address).await.unwrap();
    let (mut kept, connection) = http1::handshake::<_, Full<Bytes>>(TokioIo::new(stream)).await.unwrap();
    let connection = tokio::spawn(connection);
    kept.send_request(client.get("/healthz"))
        .await
        .unwrap()
        .collect()
        .await
        .unwrap();
    signals.send(()).await.unwrap();
    assert_eq!(seen.recv().await, Some(Seen::ShutDown(Urgency::Graceful)));
    let response = kept.send_request(client.post(&initialize())).await.unwrap();
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(response.headers()["retry-after"], "1");
    response.collect().await.unwrap();
    assert!(!serving.is_finished());
    signals.send(()).await.unwrap();
    assert_eq!(seen.recv().await, Some(Seen::ShutDown(Urgency::Immediate)));
    tokio::time::timeout(PATIENCE, serving).await.unwrap().unwrap();
    let _ = connection.await;
}
