//! What clients do that mean harm, or know no better: the server stays well, and everybody else is served.

use super::*;
use std::time::Instant;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_clients_at_once_are_all_served() {
    let served = Served::new().await;
    let clients = (0..200).map(|n| {
        let client = served.client();
        tokio::spawn(async move {
            let client = client.initialized().await;
            let tools = client.ask("tools/list", json!({})).await;
            assert!(tools["result"]["tools"].is_array(), "{tools}");
            let prompt = format!("prompt {n}");
            let result = client.call(&prompt).await;
            assert_eq!(result["structuredContent"]["content"], prompt, "{result}");
            client.leave().await;
        })
    });
    for client in clients.collect::<Vec<_>>() {
        client.await.unwrap();
    }
    served.is_well().await;
    served.ended().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_connections_opened_and_dropped_are_forgotten() {
    let served = Served::new().await;
    let begun = Instant::now();
    for n in 0..10_000 {
        let mut stream = TcpStream::connect(served.address).await.unwrap();
        if n % 2 == 0 {
            stream.write_all(b"POST /mcp HTTP/1.1\r\nHost: 127").await.unwrap();
        }
    }
    served.is_well().await;
    assert!(begun.elapsed() < PATIENCE, "{:?}", begun.elapsed());
    served.ended().await;
}

#[tokio::test]
async fn a_head_that_does_not_come_and_a_body_that_stops_are_closed() {
    let short = Duration::from_millis(300);
    let served = Served::with(|_, patience| (patience.head, patience.body) = (short, short)).await;
    let begun = Instant::now();
    let head = raw(served.address, b"POST /mcp HTTP/1.1\r\nHost: localhost\r\nX-Slow: ").await;
    // Nothing, or that it took too long.
    assert!(head.is_empty() || head.starts_with("HTTP/1.1 408"), "{head}");
    let body = raw(
        served.address,
        b"POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{\"half\":",
    )
    .await;
    assert!(body.starts_with("HTTP/1.1 408"), "{body}");
    // One that says nothing at all has no place for ever either.
    assert_eq!(raw(served.address, b"").await, "");
    assert!(begun.elapsed() < PATIENCE / 2);
    served.is_well().await;
    served.ended().await;
}

#[tokio::test]
async fn a_body_that_is_too_long_is_refused_before_it_is_read() {
    let served = Served::new().await;
    let said = raw(
        served.address,
        b"POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Length: 104857600\r\n\r\n",
    )
    .await;
    assert!(said.starts_with("HTTP/1.1 413"), "{said}");
    assert!(said.contains("http.max_body"), "{said}");
    // One that does not say how long it is.
    let chunk = [b"10000\r\n".as_slice(), &vec![b' '; 0x10000], b"\r\n"].concat();
    let mut chunked = b"POST /mcp HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
    chunked.extend(chunk.repeat(17));
    let unsaid = raw(served.address, &chunked).await;
    assert!(unsaid.starts_with("HTTP/1.1 413"), "{unsaid}");
    served.is_well().await;
    served.ended().await;
}

#[tokio::test]
async fn junk_is_refused_and_what_is_pipelined_behind_it_is_not_run() {
    let served = Served::new().await;
    let ask = "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let two = format!("{ask}{ask}GARBAGE\r\n\r\n{ask}");
    let answers = raw(served.address, two.as_bytes()).await;
    assert_eq!(answers.matches("HTTP/1.1 200").count(), 2, "{answers}");
    assert_eq!(answers.matches("HTTP/1.1 400").count(), 1, "{answers}");
    for junk in [
        &b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc"[..],
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\nzzz",
        b"POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
        b"GET /mcp HTTP/1.1\r\n\r\n",
    ] {
        let answer = raw(served.address, junk).await;
        assert!(!answer.contains(" 200 "), "{answer}");
    }
    let long = format!(
        "GET /healthz HTTP/1.1\r\nHost: localhost\r\nX: {}\r\n\r\n",
        "x".repeat(1 << 20)
    );
    assert!(!raw(served.address, long.as_bytes()).await.contains(" 200 "));
    served.is_well().await;
    served.ended().await;
}

#[tokio::test]
async fn what_is_no_message_is_refused() {
    let served = Served::new().await;
    let client = served.client();
    for text in ["", "null", "[]", "{", "{\"jsonrpc\":\"2.0\"}", "\u{0}"] {
        let request = client
            .request("POST", "/mcp")
            .header("content-type", "application/json");
        let status = client.status(request.body(text.to_owned().into()).unwrap()).await;
        assert!(status.is_client_error(), "{text}: {status}");
    }
    assert_eq!(client.status(client.get("/")).await, StatusCode::NOT_FOUND);
    let put = client.request("PUT", "/mcp").body(Full::default()).unwrap();
    assert_eq!(client.status(put).await, StatusCode::METHOD_NOT_ALLOWED);
    let post = client.request("POST", "/healthz").body(Full::default()).unwrap();
    assert_eq!(client.status(post).await, StatusCode::METHOD_NOT_ALLOWED);
    served.is_well().await;
    served.ended().await;
}

#[tokio::test]
async fn one_too_many_connections_waits_for_a_place() {
    let served = Served::with(|settings, _| settings.connections = sourced(2)).await;
    let held = [
        TcpStream::connect(served.address).await.unwrap(),
        TcpStream::connect(served.address).await.unwrap(),
    ];
    let client = served.client();
    let waiting = tokio::spawn(async move { client.status(client.get("/healthz")).await });
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(!waiting.is_finished());
    drop(held);
    assert_eq!(
        tokio::time::timeout(PATIENCE, waiting).await.unwrap().unwrap(),
        StatusCode::OK
    );
    served.ended().await;
}

#[tokio::test]
async fn sessions_that_nobody_uses_are_over() {
    let served = Served::with(|_, patience| {
        patience.seats.unused = Duration::from_millis(200);
        patience.sweep = Duration::from_millis(50);
    })
    .await;
    let client = served.client().initialized().await;
    let list = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/list"});
    assert_eq!(client.status(client.post(&list)).await, StatusCode::OK);
    tokio::time::sleep(Duration::from_millis(600)).await;
    assert_eq!(client.status(client.post(&list)).await, StatusCode::NOT_FOUND);
    // A call under way is use.
    let client = served.client().initialized().await;
    let hanging = client.begin(client.post(
        &json!({"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": {"name": "codex", "arguments": {"prompt": "hang"}}}),
    ));
    let hanging = hanging.await;
    tokio::time::sleep(Duration::from_millis(600)).await;
    assert_eq!(client.status(client.post(&list)).await, StatusCode::OK);
    drop(hanging);
    served.ended().await;
}
