//! What a session spends, whatever becomes of its requests.

use super::*;

#[tokio::test]
async fn what_a_request_cost_is_counted_and_a_spent_budget_sends_nothing() {
    let mut bench = bench().await;
    let address = bench.listener.local_addr().unwrap();
    let quota = SessionQuota {
        tokens: Some(Sourced::new(100, Origin::Default)),
        ..SessionQuota::default()
    };
    let terms = SessionTerms {
        quota,
        ..terms("openai")
    };
    bench.session = broker(address, None).for_session(terms).await.unwrap();
    bench.session.begin(BTreeSet::from(["gpt-5.5".to_owned()]));
    let answer = events(90, 9);
    bench.exchange(&post("", BODY), &answer).await;
    assert_eq!(bench.session.spending().quota_left.tokens, Some(1));
    bench.exchange(&post("", BODY), &answer).await;
    let (status, error) = bench.refused(&post("", BODY)).await;
    assert_eq!(
        (status.as_str(), &error["code"]),
        ("HTTP/1.1 400 Bad Request", &"codex_mcp_quota_spent".into())
    );
    insta::assert_snapshot!(error["message"].as_str().unwrap(), @"this session has spent its 100 tokens (quota.session.tokens, from default); raise it, or go on in a new session");
    insta::assert_json_snapshot!(bench.session.spending().usage, @r#"
    {
      "requests": 2,
      "refused": 1,
      "requestBytes": 116,
      "responseBytes": 192,
      "tokens": {
        "input": 180,
        "output": 18
      }
    }
    "#);
}

#[tokio::test]
async fn a_guest_that_hangs_up_early_is_counted_all_the_same() {
    let bench = bench().await;
    let mut guest = bench.connect();
    guest.write_all(post("", BODY).as_bytes()).await.unwrap();
    let (mut provider, _) = bench.listener.accept().await.unwrap();
    read_request(&mut provider).await;
    provider
        .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 999\r\n\r\ndata: 1\n\ndata: 2\n\n")
        .await
        .unwrap();
    let mut seen = Vec::new();
    while !seen.ends_with(b"data: 2\n\n") {
        assert_ne!(guest.read_buf(&mut seen).await.unwrap(), 0);
    }
    drop(guest);
    assert_eq!(provider.read(&mut [0; 16]).await.unwrap(), 0);
    let tokens = bench.session.spending().usage.tokens;
    assert_eq!((tokens.input, tokens.output), (BODY.len().div_ceil(2) as u64, 2));
}

#[tokio::test]
async fn a_connection_that_breaks_before_an_answer_is_tried_again_and_one_after_it_is_not() {
    let bench = bench().await;
    let mut guest = bench.connect();
    guest.write_all(post("", BODY).as_bytes()).await.unwrap();
    for _ in 0..2 {
        let (mut provider, _) = bench.listener.accept().await.unwrap();
        read_request(&mut provider).await;
        drop(provider);
    }
    let (mut provider, _) = bench.listener.accept().await.unwrap();
    assert!(
        read_request(&mut provider).await.ends_with(BODY),
        "the same body each time"
    );
    provider
        .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nx")
        .await
        .unwrap();
    drop(provider);
    let mut seen = Vec::new();
    let ended = async { while guest.read_buf(&mut seen).await.unwrap() > 0 {} };
    tokio::select! {
        () = ended => {}
        _ = bench.listener.accept() => panic!("tried again after the first byte"),
    }
    assert!(String::from_utf8_lossy(&seen).ends_with("\r\n\r\nx"));
    assert_eq!(
        bench.session.spending().usage.requests,
        1,
        "one request, however often it was sent"
    );
}

#[tokio::test]
async fn asking_for_models_counts_as_well() {
    let bench = bench().await;
    let request = "GET /v1/models HTTP/1.1\r\nhost: x\r\n\r\n";
    bench
        .exchange(request, "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
        .await;
    let usage = bench.session.spending().usage;
    assert_eq!((usage.requests, usage.tokens.total()), (1, 0));
}

#[tokio::test]
async fn what_a_provider_refuses_was_sent_and_cost_nothing() {
    let bench = bench().await;
    bench
        .exchange(&post("", BODY), "HTTP/1.1 404 X\r\ncontent-length: 0\r\n\r\n")
        .await;
    let usage = bench.session.spending().usage;
    assert_eq!((usage.requests, usage.refused, usage.tokens.total()), (1, 0, 0));
}
