//! Which credential goes with a request, where, and who learns of it.

use super::*;

#[tokio::test]
async fn a_session_without_its_key_or_provider_is_refused_before_it_starts() {
    let address = "127.0.0.1:1".parse().unwrap();
    let missing = broker(address, Some("OTHER"))
        .for_session(terms("openai"))
        .await
        .unwrap_err();
    insta::assert_snapshot!(missing, @"no key for provider `openai`: providers.openai.key, from default: environment variable OTHER is not set; set it where codex-mcp is started");
    let unknown = broker(address, None).for_session(terms("azure")).await.unwrap_err();
    insta::assert_snapshot!(unknown, @"codex.provider names `azure`, but there is no [providers.azure]; configured: openai");
    assert!(broker(address, None).for_session(terms("openai")).await.is_ok());
}

#[tokio::test]
async fn a_refused_key_ends_the_turn_and_is_never_quoted() {
    let body = format!(r#"{{"error":{{"message":"bad key {KEY}"}}}}"#);
    let refused = format!(
        "HTTP/1.1 401 Unauthorized\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    let (_, answered) = bench().await.exchange(&post("", BODY), &refused).await;
    assert!(answered.starts_with("HTTP/1.1 400 "), "{answered}");
    assert!(
        answered.contains("codex_mcp_key_refused") && answered.contains("bad key [redacted]"),
        "{answered}"
    );
    assert!(!answered.contains(KEY));
}

#[tokio::test]
async fn a_provider_has_its_own_headers_and_the_key_goes_where_it_wants_it() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut provider = provider(listener.local_addr().unwrap(), Some("KEY"));
    provider.key_header.value = "api-key".parse().unwrap();
    let header = ExtraHeader::parse("X-Title", "ours").unwrap();
    provider.headers = vec![Sourced::new(header, Origin::Default)];
    let session = broker_to(&provider).for_session(terms("openai")).await.unwrap();
    session.begin(BTreeSet::from(["gpt-5.5".to_owned()]));
    let bench = Bench { listener, session };
    let (received, _) = bench
        .exchange(&post("x-title: theirs\r\napi-key: theirs\r\n", BODY), &events(1, 1))
        .await;
    assert!(
        received.contains("x-title: ours\r\napi-key: sk-very-secret\r\n"),
        "{received}"
    );
    assert!(
        !received.contains("theirs") && !received.contains("authorization"),
        "{received}"
    );
}

#[tokio::test]
async fn a_command_is_asked_for_another_key_when_its_last_one_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let script = format!(
        "echo >> {0}/ran; echo key-number-$(wc -l < {0}/ran)",
        dir.path().display()
    );
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut provider = provider(listener.local_addr().unwrap(), Some("KEY"));
    let command = SecretSource::Command(["sh", "-c", &script].map(str::to_owned).to_vec());
    provider.key = Some(Sourced::new(command, Origin::Default));
    let session = broker_to(&provider).for_session(terms("openai")).await.unwrap();
    session.begin(BTreeSet::from(["gpt-5.5".to_owned()]));
    let bench = Bench { listener, session };
    let mut guest = bench.connect();
    guest.write_all(post("", BODY).as_bytes()).await.unwrap();
    let (mut provider, _) = bench.listener.accept().await.unwrap();
    assert!(read_request(&mut provider).await.contains("Bearer key-number-1\r\n"));
    provider
        .write_all(b"HTTP/1.1 401 Unauthorized\r\nconnection: close\r\ncontent-length: 0\r\n\r\n")
        .await
        .unwrap();
    let (mut provider, _) = bench.listener.accept().await.unwrap();
    assert!(read_request(&mut provider).await.contains("Bearer key-number-2\r\n"));
    provider.write_all(events(1, 1).as_bytes()).await.unwrap();
    assert!(read_answer(&mut guest).await.starts_with("HTTP/1.1 200 "));
}

#[tokio::test]
async fn no_credential_is_used_that_is_on_no_record() {
    let mut bench = bench().await;
    let address = bench.listener.local_addr().unwrap();
    let full = SessionTerms {
        witness: Arc::new(Record::Full),
        ..terms("openai")
    };
    bench.session = broker(address, Some("KEY")).for_session(full).await.unwrap();
    bench.session.begin(BTreeSet::from(["gpt-5.5".to_owned()]));
    let (_, error) = bench.refused(&post("", BODY)).await;
    assert_eq!(error["code"], "codex_mcp_not_recorded");

    let record = Arc::new(Record::Kept(Mutex::default()));
    let kept = SessionTerms {
        witness: Arc::clone(&record) as Arc<dyn Witness>,
        ..terms("openai")
    };
    bench.session = broker(address, Some("KEY")).for_session(kept).await.unwrap();
    bench.session.begin(BTreeSet::from(["gpt-5.5".to_owned()]));
    bench.exchange(&post("", BODY), &events(1, 1)).await;
    let Record::Kept(uses) = &*record else { panic!() };
    assert_eq!(*uses.lock().unwrap(), ["openai /responses"]);
}

#[tokio::test]
async fn a_provider_that_repeats_the_key_is_not_quoted_however_it_spells_it() {
    let (first, rest) = KEY.split_at(1);
    let escaped = format!("\\u{:04x}{rest}", u32::from(first.as_bytes()[0]));
    let body = format!(r#"{{"error":{{"message":"you sent {escaped}"}}}}"#);
    for status in [400, 404, 500] {
        let answer = format!(
            "HTTP/1.1 {status} X\r\nx-request-id: {KEY}\r\nretry-after: 1\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        let (_, answered) = bench().await.exchange(&post("", BODY), &answer).await;
        assert!(answered.contains("you sent [redacted]"), "{answered}");
        assert!(!answered.contains(KEY) && !answered.contains(&escaped), "{answered}");
    }
    let answer = format!("HTTP/1.1 200 OK\r\nx-request-id: {KEY}\r\netag: e\r\ncontent-length: 0\r\n\r\n");
    let (_, answered) = bench().await.exchange(&post("", BODY), &answer).await;
    assert!(answered.contains("etag: e") && !answered.contains(KEY), "{answered}");
}
