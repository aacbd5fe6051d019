use super::*;
use crate::dial::Names;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

async fn recorder() -> Recorder {
    Recorder::start(Dialer::new(Names::new(&[]))).await.unwrap()
}

/// A server on loopback that answers every connection's first bytes with `answer` and what it got.
async fn echo(answer: &'static str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut bytes = [0; 4096];
                let count = stream.read(&mut bytes).await.unwrap();
                stream.write_all(answer.as_bytes()).await.unwrap();
                stream.write_all(&bytes[..count]).await.unwrap();
            });
        }
    });
    address
}

async fn say(recorder: &Recorder, request: &str) -> TcpStream {
    let mut stream = TcpStream::connect(recorder.address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    stream
}

async fn head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => break,
        }
    }
    String::from_utf8(head).unwrap()
}

fn credential(recorder: &Recorder) -> String {
    format!(
        "Proxy-Authorization: Basic {}\r\n",
        STANDARD.encode(format!("{USER}:{}", recorder.password))
    )
}

async fn connect(recorder: &Recorder, authority: &str) -> (String, TcpStream) {
    let request = format!(
        "CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n{}\r\n",
        credential(recorder)
    );
    let mut stream = say(recorder, &request).await;
    (head(&mut stream).await, stream)
}

#[tokio::test]
async fn a_tunnel_is_made_and_written_down() {
    let (recorder, server) = (recorder().await, echo("hello ").await);
    let (head, mut stream) = connect(&recorder, &server.to_string()).await;
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    stream.write_all(b"you").await.unwrap();
    let mut said = String::new();
    stream.read_to_string(&mut said).await.unwrap();
    assert_eq!(said, "hello you");
    let targets: Vec<String> = recorder.seen().targets.iter().map(ToString::to_string).collect();
    assert_eq!(targets, [server.to_string()]);
}

#[tokio::test]
async fn without_the_credential_nothing_is_done_or_written_down() {
    let (recorder, server) = (recorder().await, echo("").await);
    for credential in ["", "Proxy-Authorization: Basic Y29kZXgtbWNwOg==\r\n"] {
        for line in [format!("CONNECT {server}"), format!("GET http://{server}/")] {
            let mut stream = say(
                &recorder,
                &format!("{line} HTTP/1.1\r\nHost: {server}\r\n{credential}\r\n"),
            )
            .await;
            let head = head(&mut stream).await;
            assert!(head.starts_with("HTTP/1.1 407"), "{head}");
        }
    }
    assert!(recorder.seen().targets.is_empty());
}

#[tokio::test]
async fn plain_http_is_forwarded_without_the_credential() {
    let (recorder, server) = (
        recorder().await,
        echo("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n").await,
    );
    let request = format!(
        "GET http://{server}/simple/?x=1 HTTP/1.1\r\nHost: elsewhere.example\r\nConnection: close\r\n{}\r\n",
        credential(&recorder)
    );
    let mut answer = String::new();
    say(&recorder, &request)
        .await
        .read_to_string(&mut answer)
        .await
        .unwrap();
    let (_, got) = answer.split_once("\r\n\r\n").unwrap();
    assert!(got.contains("GET /simple/?x=1 HTTP/1.1\r\n"), "{got}");
    assert!(got.contains(&format!("host: {server}\r\n")), "{got}");
    assert!(!got.to_lowercase().contains("proxy-authorization"), "{got}");
    assert!(
        recorder
            .seen()
            .targets
            .contains(&mirror::target(&server.to_string(), Port::HTTP).unwrap())
    );
}

#[tokio::test]
async fn what_is_no_place_is_refused() {
    let recorder = recorder().await;
    for line in [
        "CONNECT 127.1:443",
        "CONNECT a..b:443",
        "GET /",
        "GET https://h.example/",
        "GET ftp://h.example/",
    ] {
        let request = format!("{line} HTTP/1.1\r\nHost: h.example\r\n{}\r\n", credential(&recorder));
        let head = head(&mut say(&recorder, &request).await).await;
        assert!(head.starts_with("HTTP/1.1 400"), "{line}: {head}");
    }
    assert!(recorder.seen().targets.is_empty());
}

#[tokio::test]
async fn a_host_that_is_not_reached_is_no_place_but_is_named() {
    let recorder = recorder().await;
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    for _ in 0..2 {
        let (head, _) = connect(&recorder, &closed.to_string()).await;
        assert!(head.starts_with("HTTP/1.1 502"), "{head}");
    }
    let seen = recorder.seen();
    assert!(seen.targets.is_empty());
    assert_eq!(seen.unreached.0.len(), 1);
    assert!(
        seen.unreached.to_string().contains(&closed.to_string()),
        "{}",
        seen.unreached
    );
}

#[tokio::test]
async fn places_are_bounded() {
    let recorder = recorder().await;
    let mut tunnels = Vec::new();
    for number in 0..=MAX_TARGETS {
        let (head, stream) = connect(&recorder, &echo("").await.to_string()).await;
        let expected = if number < MAX_TARGETS {
            "HTTP/1.1 200"
        } else {
            "HTTP/1.1 403"
        };
        assert!(head.starts_with(expected), "{number}: {head}");
        tunnels.push(stream);
    }
    let seen = recorder.seen();
    assert!(seen.more);
    assert_eq!(seen.targets.len(), MAX_TARGETS);
}

#[tokio::test]
async fn a_connection_beyond_the_bound_waits_for_one_to_end() {
    let (recorder, server) = (recorder().await, echo("").await.to_string());
    let mut tunnels = Vec::new();
    for _ in 0..MAX_CONNECTIONS {
        tunnels.push(connect(&recorder, &server).await.1);
    }
    let mut late = Box::pin(connect(&recorder, &server));
    // All that the recorder can do for it without a free place is done within many turns of this runtime's one thread.
    for _ in 0..1000 {
        assert!(futures_util::FutureExt::now_or_never(&mut late).is_none());
        tokio::task::yield_now().await;
    }
    tunnels.clear();
    assert!(late.await.0.starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn every_connection_ends_with_the_recorder() {
    let recorder = recorder().await;
    let (head, mut stream) = connect(&recorder, &echo("").await.to_string()).await;
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    let address = recorder.address;
    drop(recorder);
    assert_eq!(stream.read(&mut [0; 16]).await.unwrap_or(0), 0);
    while TcpStream::connect(address).await.is_ok() {
        tokio::task::yield_now().await;
    }
}
