//! Who is let in, as whom, and how often.

use super::*;

#[tokio::test]
async fn a_page_of_another_origin_and_a_name_of_another_host_are_turned_away() {
    let served = Served::new().await;
    let client = served.client();
    for path in ["/mcp", "/healthz"] {
        let with = |name: &str, value: &str| {
            let mut request = match path {
                "/mcp" => client.post(&initialize()),
                path => client.get(path),
            };
            request.headers_mut().insert(
                axum::http::HeaderName::from_bytes(name.as_bytes()).unwrap(),
                value.parse().unwrap(),
            );
            request
        };
        assert_eq!(
            client.status(with("origin", "https://evil.example")).await,
            StatusCode::FORBIDDEN
        );
        assert_eq!(client.status(with("origin", "null")).await, StatusCode::FORBIDDEN);
        assert_eq!(client.status(with("host", "evil.example")).await, StatusCode::FORBIDDEN);
        let allowed = with("origin", "https://app.example.com");
        let (status, headers, _) = client.send(allowed).await;
        assert_eq!(status, StatusCode::OK);
        assert_eq!(headers["access-control-allow-origin"], "https://app.example.com");
    }
    // A browser asks before it sends a page's request, and without the page's token.
    served.token("page");
    let asks = |origin: &str| {
        let request = served.client().request("OPTIONS", "/mcp").header("origin", origin);
        let request = request.header("access-control-request-method", "POST");
        request.body(Full::default()).unwrap()
    };
    let (status, headers, _) = served.client().send(asks("https://app.example.com")).await;
    assert_eq!(status, StatusCode::NO_CONTENT);
    assert!(
        headers["access-control-allow-headers"]
            .to_str()
            .unwrap()
            .contains("authorization")
    );
    let (status, headers, _) = served.client().send(asks("https://evil.example")).await;
    assert_eq!(status, StatusCode::FORBIDDEN);
    assert!(!headers.contains_key("access-control-allow-origin"));
    served.ended().await;
}

#[tokio::test]
async fn with_tokens_nobody_else_is_let_in_and_revoking_acts_at_once() {
    let served = Served::new().await;
    // Begun before there was a token: the door locks while the server runs.
    assert_eq!(
        served.client().status(served.client().post(&initialize())).await,
        StatusCode::OK
    );
    let known = served.token("ci");
    let (status, headers, body) = served.client().send(served.client().post(&initialize())).await;
    assert_eq!(status, StatusCode::UNAUTHORIZED);
    assert_eq!(headers["www-authenticate"], "Bearer realm=\"codex-mcp\"");
    assert!(
        String::from_utf8_lossy(&body).contains("codex-mcp token add"),
        "{body:?}"
    );
    let stranger = Client {
        token: Some("codexmcp_guess".into()),
        ..served.client()
    };
    let (status, headers, _) = stranger.send(stranger.post(&initialize())).await;
    assert_eq!(status, StatusCode::UNAUTHORIZED);
    assert_eq!(
        headers["www-authenticate"],
        "Bearer realm=\"codex-mcp\", error=\"invalid_token\""
    );
    // A token in the address is none, and health needs none.
    let in_address = format!("/mcp?token={}", known.token.as_deref().unwrap());
    assert_eq!(
        served.client().status(served.client().get(&in_address)).await,
        StatusCode::UNAUTHORIZED
    );
    served.is_well().await;
    let client = known.initialized().await;
    client.call("hello").await;
    let by: Vec<_> = served
        .asked
        .lock()
        .unwrap()
        .iter()
        .map(|asked| asked.identity.clone())
        .collect();
    assert_eq!(by, [Some("ci".parse().unwrap())]);
    served.tokens.revoke(&"ci".parse().unwrap()).unwrap();
    assert_eq!(
        client.status(client.post(&initialize())).await,
        StatusCode::UNAUTHORIZED
    );
    served.ended().await;
}

#[tokio::test]
async fn a_session_of_somebody_else_is_not_there() {
    let served = Served::new().await;
    let [mine, theirs] = [served.token("mine"), served.token("theirs")];
    let mine = mine.initialized().await;
    let thief = Client {
        session: mine.session.clone(),
        ..theirs.clone()
    };
    let nobodys = Client {
        session: Some("0b7a3c9e-0000-4000-8000-000000000000".into()),
        ..theirs.clone()
    };
    let list = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/list"});
    let delete = |client: &Client| client.request("DELETE", "/mcp").body(Full::default()).unwrap();
    let mut answers = Vec::new();
    for client in [&thief, &nobodys] {
        for request in [client.post(&list), client.get("/mcp"), delete(client)] {
            let (status, _, body) = client.send(request).await;
            assert_eq!(status, StatusCode::NOT_FOUND);
            answers.push(body);
        }
    }
    answers.dedup();
    assert_eq!(answers.len(), 1, "the two can be told apart: {answers:?}");
    assert_eq!(mine.status(mine.post(&list)).await, StatusCode::OK);
    served.ended().await;
}

#[tokio::test]
async fn too_often_is_told_with_a_wait_and_costs_nobody_else() {
    let served = Served::with(|settings, _| settings.requests_per_second = sourced(1)).await;
    let [one, other] = [served.token("one"), served.token("other")];
    let mut statuses = Vec::new();
    let mut wait = None;
    for _ in 0..5 {
        let (status, headers, _) = one.send(one.post(&initialize())).await;
        wait = headers.get("retry-after").cloned().or(wait);
        statuses.push(status);
    }
    assert_eq!(statuses[..2], [StatusCode::OK; 2]);
    assert!(statuses.contains(&StatusCode::TOO_MANY_REQUESTS), "{statuses:?}");
    assert_eq!(wait.unwrap(), "1");
    // Strangers guess at their own cost.
    for _ in 0..5 {
        served.client().status(served.client().post(&initialize())).await;
    }
    assert_eq!(other.status(other.post(&initialize())).await, StatusCode::OK);
    served.ended().await;
}

#[tokio::test]
async fn readiness_names_what_is_missing_and_numbers_are_prometheus_and_both_take_a_token() {
    let served = Served::new().await;
    let client = served.client().initialized().await;
    let (status, _, body) = client.send(client.get("/readyz")).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    let found: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(
        found["checks"]["image"],
        json!({"ok": false, "why": "there is no image"})
    );
    assert_eq!(found["checks"]["engine"], json!({"ok": true}));
    let (status, headers, body) = client.send(client.get("/metrics")).await;
    assert_eq!(status, StatusCode::OK);
    assert!(
        headers["content-type"]
            .to_str()
            .unwrap()
            .starts_with("text/plain; version=0.0.4")
    );
    let text = String::from_utf8(body.to_vec()).unwrap();
    for line in [
        "codex_mcp_sessions{state=\"live\"} 3",
        "codex_mcp_http_sessions 1",
        "codex_mcp_http_requests_total{status=\"5xx\"} 1",
    ] {
        assert!(text.lines().any(|written| written == line), "{line} is not in:\n{text}");
    }
    let token = served.token("ci");
    for path in ["/readyz", "/metrics"] {
        assert_eq!(
            served.client().status(served.client().get(path)).await,
            StatusCode::UNAUTHORIZED
        );
        assert_ne!(token.status(token.get(path)).await, StatusCode::UNAUTHORIZED);
    }
    served.ended().await;
}
