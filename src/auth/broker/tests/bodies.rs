//! What a request may say, and how long it may be.

use super::*;

#[tokio::test]
async fn a_body_over_the_bound_is_refused_by_its_length_and_while_it_streams() {
    let announced = "POST /v1/responses HTTP/1.1\r\nhost: x\r\ncontent-length: 16777217\r\n\r\n";
    let (status, error) = bench().await.refused(announced).await;
    assert_eq!(
        (status.as_str(), &error["code"]),
        ("HTTP/1.1 400 Bad Request", &"codex_mcp_request_too_large".into())
    );

    let bench = bench().await;
    let (mut reader, mut writer) = tokio::io::split(bench.connect());
    let writing = tokio::spawn(async move {
        writer
            .write_all(b"POST /v1/responses HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n")
            .await?;
        let chunk = [b"100000\r\n", vec![b' '; 1 << 20].as_slice(), b"\r\n"].concat();
        for _ in 0..17 {
            writer.write_all(&chunk).await?;
        }
        Ok::<_, std::io::Error>(())
    });
    let mut seen = Vec::new();
    let answered = async {
        while !String::from_utf8_lossy(&seen).contains("codex_mcp_request_too_large") {
            assert_ne!(reader.read_buf(&mut seen).await.unwrap(), 0);
        }
    };
    tokio::select! {
        () = answered => {}
        _ = bench.listener.accept() => panic!("it reached the provider"),
    }
    assert!(seen.starts_with(b"HTTP/1.1 400 "));
    writing.abort();
}

#[tokio::test]
async fn what_a_body_says_is_checked_before_anything_is_sent() {
    let bench = bench().await;
    for (body, code, message) in [
        ("{", "codex_mcp_request_unreadable", "no JSON that passes"),
        (
            "{\"store\":false,\"store\":true}",
            "codex_mcp_request_unreadable",
            "a name twice",
        ),
        ("[]", "codex_mcp_request_forbidden", "has to be an object"),
        (
            &BODY.replace("gpt-5.5", "o3-pro"),
            "codex_mcp_request_forbidden",
            "`model` is not a model of this session",
        ),
        (
            &BODY.replace("false", "true"),
            "codex_mcp_request_forbidden",
            "`store` has to be false",
        ),
        (
            &BODY.replace("{", "{\"background\":true,"),
            "codex_mcp_request_forbidden",
            "`background`",
        ),
    ] {
        let (status, error) = bench.refused(&post("", body)).await;
        assert_eq!(
            (status.as_str(), &error["code"]),
            ("HTTP/1.1 400 Bad Request", &code.into()),
            "{body}"
        );
        assert!(error["message"].as_str().unwrap().contains(message), "{error}");
    }
    assert_eq!(bench.session.spending().usage.refused, 6);
    assert_eq!(bench.session.spending().usage.requests, 0);
}

#[tokio::test]
async fn a_body_is_written_anew_without_what_tells_of_the_installation() {
    let body = BODY.replace("{", "{ \"client_metadata\": {\"x-codex-installation-id\": \"i\"},  ");
    let (received, _) = bench().await.exchange(&post("", &body), &events(1, 1)).await;
    assert!(received.ends_with(&format!("\r\n\r\n{BODY}")), "{received}");
}

#[tokio::test]
async fn before_the_thread_has_begun_no_model_is_asked() {
    let mut bench = bench().await;
    let address = bench.listener.local_addr().unwrap();
    bench.session = broker(address, None).for_session(terms("openai")).await.unwrap();
    let (_, error) = bench.refused(&post("", BODY)).await;
    assert_eq!(error["code"], "codex_mcp_not_started");
}
