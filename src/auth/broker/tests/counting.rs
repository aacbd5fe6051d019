//! What a session spends, whatever becomes of its requests.

use super::*;
use crate::auth::broker::purse::Refused;
use crate::auth::broker::usage::Tokens;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

#[tokio::test]
async fn what_a_request_cost_is_counted_and_a_spent_budget_sends_nothing() {
    let mut bench = bench().await;
    let address = bench.listener.local_addr().unwrap();
    let quota = Spendable {
        tokens: Some(Sourced::new(100, Origin::Default)),
        ..Spendable::default()
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

/// What all sessions share, as a test sees it.
#[derive(Debug, Default)]
struct Shared {
    requests: AtomicU64,
    tokens: AtomicU64,
    empty: AtomicBool,
}

impl Purse for Shared {
    fn admit(&self) -> Pin<Box<dyn Future<Output = Result<(), Refused>> + Send + '_>> {
        Box::pin(async {
            // As from another thread.
            tokio::task::yield_now().await;
            if self.empty.load(Ordering::Relaxed) {
                return Err(Refused("quota.day.tokens is used up".to_owned()));
            }
            self.requests.fetch_add(1, Ordering::Relaxed);
            Ok(())
        })
    }

    fn withdraw(&self) {
        self.requests.fetch_sub(1, Ordering::Relaxed);
    }

    fn settle(&self, tokens: Tokens) {
        self.tokens.fetch_add(tokens.total(), Ordering::Relaxed);
    }
}

#[tokio::test]
async fn what_all_share_is_asked_before_a_request_and_told_after_it() {
    let mut bench = bench().await;
    let address = bench.listener.local_addr().unwrap();
    let shared = Arc::new(Shared::default());
    let of_session = |witness| SessionTerms {
        quota: Spendable {
            requests: Some(Sourced::new(12, Origin::Default)),
            ..Spendable::default()
        },
        before: ModelUsage {
            requests: 10,
            ..ModelUsage::default()
        },
        purse: Some(Arc::clone(&shared) as Arc<dyn Purse>),
        witness: Arc::new(witness),
        ..terms("openai")
    };
    let counted = || {
        (
            shared.requests.load(Ordering::Relaxed),
            shared.tokens.load(Ordering::Relaxed),
        )
    };
    let models = || BTreeSet::from(["gpt-5.5".to_owned()]);
    let kept = of_session(Record::Kept(Mutex::default()));
    bench.session = broker(address, Some("KEY")).for_session(kept).await.unwrap();
    bench.session.begin(models());
    bench.exchange(&post("", BODY), &events(90, 9)).await;
    assert_eq!(counted(), (1, 99));
    assert_eq!(
        bench.session.spending().usage.requests,
        11,
        "it goes on from what was before"
    );

    shared.empty.store(true, Ordering::Relaxed);
    let (status, error) = bench.refused(&post("", BODY)).await;
    assert_eq!(
        (status.as_str(), &error["code"], &error["message"]),
        (
            "HTTP/1.1 400 Bad Request",
            &"codex_mcp_quota_spent".into(),
            &"quota.day.tokens is used up".into()
        )
    );
    assert_eq!(
        bench.session.spending().quota_left.requests,
        Some(1),
        "the session's own is not touched"
    );

    shared.empty.store(false, Ordering::Relaxed);
    bench.exchange(&post("", BODY), &events(1, 0)).await;
    let (_, error) = bench.refused(&post("", BODY)).await;
    assert!(
        error["message"].as_str().unwrap().contains("quota.session.requests"),
        "{error}"
    );
    assert_eq!(counted(), (2, 100), "a session that has spent its own asks nobody");

    let unrecorded = of_session(Record::Full);
    bench.session = broker(address, Some("KEY")).for_session(unrecorded).await.unwrap();
    bench.session.begin(models());
    bench.refused(&post("", BODY)).await;
    assert_eq!(counted(), (2, 100), "what is not sent is given back");
}
