//! Plain requests, from the guest's end.

use crate::egress::fixtures::{Answer, Bench, EMPTY_OK, Server, Setup, connect, get, read_head};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// A session that may ask `a.test` and `b.test` on one port, and the server there.
async fn bench() -> (Bench, Server) {
    let server = Server::start().await;
    let rules = ["a.test", "b.test"].map(|host| format!("{host}:{}", server.port));
    (Setup::allowing(rules).start().await, server)
}

#[tokio::test]
async fn a_request_is_sent_anew() {
    let (bench, server) = bench().await;
    let mut guest = bench.connect();
    let host = format!("A.Test.:{}", server.port);
    let request = format!(
        "POST http://{host}/path?query#fragment HTTP/1.1\r\nHOST: {host}\r\nX-One: 1\r\nProxy-Authorization: Basic x\r\n\
         Proxy-Connection: keep-alive\r\nConnection: X-Two\r\nX-Two: 2\r\nUpgrade: websocket\r\nContent-Length: 4\r\n\r\nbody"
    );
    guest.write_all(request.as_bytes()).await.unwrap();
    let mut stream = server.accept().await;
    let got = read_head(&mut stream).await.unwrap();
    let expected = format!(
        "POST /path?query HTTP/1.1\r\nhost: a.test:{}\r\nx-one: 1\r\ncontent-length: 4\r\n\r\n",
        server.port
    );
    assert_eq!(got, expected);
    let mut body = [0; 4];
    stream.read_exact(&mut body).await.unwrap();
    assert_eq!(&body, b"body");
    stream
        .write_all(
            b"HTTP/1.1 201 Made Up\r\nconnection: x-three\r\nx-three: 3\r\nx-four: 4\r\ncontent-length: 2\r\n\r\nok",
        )
        .await
        .unwrap();
    let answer = Answer::read(&mut guest).await;
    assert_eq!(
        answer.head,
        "HTTP/1.1 201 Created\r\nx-four: 4\r\ncontent-length: 2\r\n"
    );
    assert_eq!(answer.body, "ok");
}

#[tokio::test]
async fn a_connection_is_used_again_for_the_same_target_only() {
    let (bench, server) = bench().await;
    let mut guest = bench.connect();
    let (a, b) = (format!("a.test:{}", server.port), format!("b.test:{}", server.port));
    guest.write_all(get(&a, "/1").as_bytes()).await.unwrap();
    let mut stream = server.accept().await;
    server.serve(&mut stream, EMPTY_OK).await;
    Answer::read(&mut guest).await;
    guest.write_all(get(&a, "/2").as_bytes()).await.unwrap();
    let again = server.serve(&mut stream, EMPTY_OK).await;
    assert!(again.starts_with("GET /2 "), "{again}");
    Answer::read(&mut guest).await;
    // Both names are one address here.
    guest.write_all(get(&b, "/3").as_bytes()).await.unwrap();
    let mut other = server.accept().await;
    let third = server.serve(&mut other, EMPTY_OK).await;
    assert!(third.contains(&format!("host: {b}\r\n")), "{third}");
    Answer::read(&mut guest).await;
    assert_eq!(stream.read(&mut [0]).await.unwrap(), 0);
    assert_eq!(bench.names.asked(), 2);
}

#[tokio::test]
async fn a_connection_that_the_server_closed_is_made_anew() {
    let (bench, server) = bench().await;
    let mut guest = bench.connect();
    let host = format!("a.test:{}", server.port);
    for _ in 0..3 {
        guest.write_all(get(&host, "/").as_bytes()).await.unwrap();
        let mut stream = server.accept().await;
        server.serve(&mut stream, EMPTY_OK).await;
        drop(stream);
        assert_eq!(Answer::read(&mut guest).await.status(), 200);
    }
}

#[tokio::test]
async fn each_request_of_a_connection_is_decided_by_itself() {
    let (bench, server) = bench().await;
    let mut guest = bench.connect();
    let host = format!("a.test:{}", server.port);
    // At once, so that the second is read behind the first.
    let both = format!("{}{}{}", get(&host, "/"), get("c.test", "/"), get(&host, "/"));
    guest.write_all(both.as_bytes()).await.unwrap();
    let mut stream = server.accept().await;
    server.serve(&mut stream, EMPTY_OK).await;
    assert_eq!(Answer::read(&mut guest).await.status(), 200);
    assert_eq!(Answer::read(&mut guest).await.status(), 403);
    server.serve(&mut stream, EMPTY_OK).await;
    assert_eq!(Answer::read(&mut guest).await.status(), 200);
    assert_eq!(bench.denied().host, "c.test");
}

#[tokio::test]
async fn the_host_is_the_one_that_was_asked_for() {
    let (bench, server) = bench().await;
    let request = |host: &str| {
        let port = server.port;
        format!("GET http://a.test:{port}/ HTTP/1.1\r\nHost: {host}\r\n\r\n")
    };
    let b = format!("b.test:{}", server.port);
    for host in ["a.test", "", &b, "a.test:1", "u@a.test", "a.test, b.test"] {
        let answer = bench.ask(&request(host)).await;
        assert_eq!(answer.status(), 403, "{host}");
    }
    let connect = format!("CONNECT a.test:{} HTTP/1.1\r\nHost: {b}\r\n\r\n", server.port);
    let answer = bench.ask(&connect).await;
    assert_eq!(answer.status(), 403);
    assert!(answer.closes());
    assert!(!server.was_connected_to());
    assert_eq!(bench.names.asked(), 0);
}

#[tokio::test]
async fn what_two_readers_could_read_differently_reaches_nobody() {
    let (bench, server) = bench().await;
    let host = format!("a.test:{}", server.port);
    let smuggled = format!("GET http://{host}/smuggled HTTP/1.1\r\nHost: {host}\r\n\r\n");
    let line = format!("POST http://{host}/ HTTP/1.1\r\n");
    let headed = format!("{line}Host: {host}\r\n");
    for head in [
        format!("{headed}Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
        format!("{headed}Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n"),
        format!("{headed}Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n"),
        format!("{headed}Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n"),
        format!("{headed}Content-Length: 0\r\nContent-Length: 5\r\n\r\n"),
        format!("{headed}Content-Length: +0\r\n\r\n"),
        format!("{headed}X: a\r\n Content-Length: 9\r\n\r\n"),
        format!("{headed}X: a\nHost: c.test\r\n\r\n"),
        format!("{headed}X: a\rHost: c.test\r\n\r\n"),
        format!("{headed}X: a\0b\r\n\r\n"),
        format!("{headed}Host: c.test\r\n\r\n"),
        format!("{headed}X : a\r\n\r\n"),
        format!("{line}\r\n"),
        format!("GET http://{host}/ HTTP/1.1\r\nX: http://c.test/ HTTP/1.1\r\n\r\n"),
        format!("GET http://{host}/a b HTTP/1.1\r\nHost: {host}\r\n\r\n"),
        format!("GET http://{host}/a\0b HTTP/1.1\r\nHost: {host}\r\n\r\n"),
        format!("GET http://u:p@{host}/ HTTP/1.1\r\nHost: {host}\r\n\r\n"),
        format!("GET https://{host}/ HTTP/1.1\r\nHost: {host}\r\n\r\n"),
        format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n"),
        format!("OPTIONS * HTTP/1.1\r\nHost: {host}\r\n\r\n"),
        format!("GET {host} HTTP/1.1\r\nHost: {host}\r\n\r\n"),
        format!("CONNECT {host} HTTP/1.1\r\nHost: {host}\r\nContent-Length: 3\r\n\r\n"),
        format!("CONNECT http://{host}/ HTTP/1.1\r\nHost: {host}\r\n\r\n"),
        "CONNECT a.test HTTP/1.1\r\nHost: a.test\r\n\r\n".to_owned(),
        "PRI * HTTP/2.0\r\n\r\n".to_owned(),
        "\x16\x03\x01\x02\x00\x01\x00\x01\u{fc}\x03\x03".to_owned(),
    ] {
        let mut guest = bench.connect();
        guest.write_all(format!("{head}{smuggled}").as_bytes()).await.unwrap();
        let answer = Answer::read(&mut guest).await;
        assert_eq!(answer.status(), 400, "{head:?}: {answer:?}");
        assert!(answer.body.starts_with("codex-mcp refused"), "{head:?}: {answer:?}");
        assert!(answer.closes(), "{head:?}");
        assert_eq!(guest.read(&mut [0]).await.unwrap(), 0, "{head:?}");
    }
    assert!(!server.was_connected_to());
    assert_eq!(bench.names.asked(), 0);
}

#[tokio::test]
async fn a_refused_head_waits_its_turn_behind_those_that_passed() {
    let (bench, server) = bench().await;
    let host = format!("a.test:{}", server.port);
    let mut guest = bench.connect();
    let both = format!("{}{}GET / HTTP/9\r\n\r\n", get(&host, "/"), get("c.test", "/"));
    guest.write_all(both.as_bytes()).await.unwrap();
    server.serve(&mut server.accept().await, EMPTY_OK).await;
    let mut statuses = Vec::new();
    for _ in 0..3 {
        statuses.push(Answer::read(&mut guest).await.status());
    }
    assert_eq!(statuses, [200, 403, 400]);
    assert_eq!(guest.read(&mut [0]).await.unwrap(), 0);
}

#[tokio::test]
async fn a_head_that_is_too_large_is_refused_with_a_reason() {
    let bench = Setup::allowing([]).start().await;
    let mut guest = bench.connect();
    let head = format!("{}X: ", get("a.test", "/").trim_end().to_owned() + "\r\n");
    let (mut read, mut write) = tokio::io::split(&mut guest);
    let sending = async {
        write.write_all(head.as_bytes()).await.unwrap();
        write.write_all(&vec![b'x'; 1 << 19]).await.unwrap();
    };
    // All of it is taken: a client that is still sending would otherwise see a reset before it sees the reason.
    let (answer, ()) = tokio::join!(Answer::read(&mut read), sending);
    assert_eq!(answer.status(), 400);
    assert!(answer.body.contains("too large"), "{}", answer.body);
}

#[tokio::test(start_paused = true)]
async fn a_head_that_does_not_end_is_waited_for_so_long_and_no_longer() {
    let bench = Setup::allowing([]).start().await;
    let (mut guest, serving) = bench.connect_watched();
    let start = tokio::time::Instant::now();
    guest.write_all(b"GET http://a.test/ HTTP/1.1\r\n").await.unwrap();
    let dribbling = async {
        loop {
            tokio::time::sleep(std::time::Duration::from_secs(1)).await;
            if guest.write_all(b"x: y\r\n").await.is_err() {
                break;
            }
        }
    };
    tokio::join!(dribbling, serving).1.unwrap();
    // And the second that is read on for.
    assert!(
        start.elapsed() <= super::HEAD_TIMEOUT + std::time::Duration::from_secs(3),
        "{:?}",
        start.elapsed()
    );
}

#[tokio::test]
async fn a_client_that_says_no_more_still_gets_its_answer() {
    let (bench, server) = bench().await;
    let mut guest = bench.connect();
    guest
        .write_all(get(&format!("a.test:{}", server.port), "/").as_bytes())
        .await
        .unwrap();
    guest.shutdown().await.unwrap();
    let mut stream = server.accept().await;
    read_head(&mut stream).await.unwrap();
    stream
        .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
        .await
        .unwrap();
    assert_eq!(Answer::read(&mut guest).await.body, "ok");
    assert_eq!(guest.read(&mut [0]).await.unwrap(), 0);
}

#[tokio::test]
async fn a_large_upload_that_is_refused_learns_why() {
    let bench = Setup::allowing([]).start().await;
    let mut guest = bench.connect();
    let (mut read, mut write) = tokio::io::split(&mut guest);
    let sending = async {
        write
            .write_all(b"POST http://c.test/ HTTP/1.1\r\nHost: c.test\r\nContent-Length: 900000\r\n\r\n")
            .await
            .unwrap();
        write.write_all(&[0; 900_000]).await.unwrap();
    };
    let (answer, ()) = tokio::join!(Answer::read(&mut read), sending);
    assert_eq!(answer.status(), 403);
}

#[tokio::test]
async fn bodies_of_unknown_length_pass_in_both_directions() {
    let (bench, server) = bench().await;
    let mut guest = bench.connect();
    let host = format!("a.test:{}", server.port);
    // A GET too: without a word about its body, the next reader would take that for a request.
    let request = format!(
        "GET http://{host}/ HTTP/1.1\r\nHost: {host}\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
    );
    guest.write_all(request.as_bytes()).await.unwrap();
    let mut stream = server.accept().await;
    let head = read_head(&mut stream).await.unwrap();
    assert!(head.contains("transfer-encoding: chunked\r\n"), "{head}");
    let mut body = [0; 13];
    stream.read_exact(&mut body).await.unwrap();
    assert_eq!(&body, b"3\r\nabc\r\n0\r\n\r\n");
    stream.write_all(b"HTTP/1.1 200 OK\r\n\r\nuntil the end").await.unwrap();
    drop(stream);
    // Where the request ended only hyper knew, so that nothing behind it was screened and nothing is read.
    let _ = guest.write_all(get(&host, "/").as_bytes()).await;
    let mut answer = String::new();
    guest.read_to_string(&mut answer).await.unwrap();
    assert!(answer.ends_with("\r\n\r\nD\r\nuntil the end\r\n0\r\n\r\n"), "{answer}");
}

#[tokio::test]
async fn an_old_client_is_served() {
    let (bench, server) = bench().await;
    let mut guest = bench.connect();
    let request = format!("GET http://a.test:{}/ HTTP/1.0\r\n\r\n", server.port);
    guest.write_all(request.as_bytes()).await.unwrap();
    let mut stream = server.accept().await;
    let got = server
        .serve(
            &mut stream,
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        )
        .await;
    assert!(got.starts_with("GET / HTTP/1.1\r\nhost: a.test:"), "{got}");
    let mut answer = String::new();
    guest.read_to_string(&mut answer).await.unwrap();
    assert!(
        answer.starts_with("HTTP/1.0 200 OK\r\n") && answer.ends_with("\r\n\r\nok"),
        "{answer}"
    );
    // And for a tunnel.
    let connect = connect(&format!("a.test:{}", server.port)).replace("1.1", "1.0");
    assert_eq!(bench.ask(&connect).await.status(), 200);
}

#[tokio::test]
async fn an_upload_may_wait_to_be_wanted() {
    let (bench, server) = bench().await;
    let mut guest = bench.connect();
    let host = format!("a.test:{}", server.port);
    let request =
        format!("PUT http://{host}/ HTTP/1.1\r\nHost: {host}\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n");
    guest.write_all(request.as_bytes()).await.unwrap();
    assert_eq!(read_head(&mut guest).await.unwrap(), "HTTP/1.1 100 Continue\r\n\r\n");
    guest.write_all(b"ok").await.unwrap();
    let mut stream = server.accept().await;
    let got = server.serve(&mut stream, EMPTY_OK).await;
    assert!(!got.contains("expect"), "{got}");
    assert_eq!(Answer::read(&mut guest).await.status(), 200);
}

#[tokio::test]
async fn the_length_of_what_is_not_sent_passes() {
    let (bench, server) = bench().await;
    let mut guest = bench.connect();
    let host = format!("a.test:{}", server.port);
    let request = get(&host, "/").replace("GET", "HEAD");
    guest.write_all(format!("{request}{request}").as_bytes()).await.unwrap();
    let mut stream = server.accept().await;
    for _ in 0..2 {
        server
            .serve(&mut stream, "HTTP/1.1 200 OK\r\ncontent-length: 77\r\n\r\n")
            .await;
        let head = read_head(&mut guest).await.unwrap();
        assert!(head.contains("content-length: 77\r\n"), "{head}");
    }
}

#[tokio::test]
async fn an_answer_that_is_none_is_a_bad_gateway() {
    let (bench, server) = bench().await;
    let host = format!("a.test:{}", server.port);
    for answer in [
        "",
        "SSH-2.0-server\r\n",
        "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: x\r\n\r\n",
    ] {
        let serving = async {
            let mut stream = server.accept().await;
            server.serve(&mut stream, answer).await;
        };
        let request = get(&host, "/");
        let (answered, ()) = tokio::join!(bench.ask(&request), serving);
        assert_eq!(answered.status(), 502, "{answer:?}: {answered:?}");
    }
}

#[tokio::test]
async fn a_server_that_does_not_answer_is_a_gateway_timeout() {
    let (bench, server) = bench().await;
    let mut guest = bench.connect();
    let host = format!("a.test:{}", server.port);
    guest.write_all(get(&host, "/").as_bytes()).await.unwrap();
    let mut stream = server.accept().await;
    read_head(&mut stream).await.unwrap();
    tokio::time::pause();
    let answer = Answer::read(&mut guest).await;
    insta::assert_snapshot!(answer.body.replace(&server.port.to_string(), "PORT"), @"codex-mcp allows a.test:PORT, but the server sent nothing for 300 s (network.idle).");
    assert_eq!(answer.status(), 504);
}

#[tokio::test]
async fn a_broken_upload_is_no_whole_one() {
    let (bench, server) = bench().await;
    let mut guest = bench.connect();
    let host = format!("a.test:{}", server.port);
    let request = format!(
        "POST http://{host}/ HTTP/1.1\r\nHost: {host}\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nno length\r\n"
    );
    guest.write_all(request.as_bytes()).await.unwrap();
    let mut stream = server.accept().await;
    let mut got = String::new();
    let _ = stream.read_to_string(&mut got).await;
    assert!(!got.ends_with("0\r\n\r\n"), "{got}");
}

#[tokio::test]
async fn an_upload_that_is_broken_off_is_no_refusal() {
    for (framing, refused) in [
        ("Content-Length: 100\r\n\r\nabc", false),
        ("Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n", false),
        ("Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nno length\r\n", true),
    ] {
        let (bench, server) = bench().await;
        let (mut guest, served) = bench.connect_watched();
        let host = format!("a.test:{}", server.port);
        let request = format!("POST http://{host}/ HTTP/1.1\r\nHost: {host}\r\n{framing}");
        guest.write_all(request.as_bytes()).await.unwrap();
        let mut stream = server.accept().await;
        read_head(&mut stream).await.unwrap();
        drop(guest);
        served.await.unwrap();
        assert_eq!(!bench.session.take_denied().is_empty(), refused, "{framing}");
    }
}

#[tokio::test]
async fn a_guest_that_reads_nothing_is_given_up() {
    let (bench, server) = bench().await;
    let (mut guest, serving) = bench.connect_watched();
    guest
        .write_all(get(&format!("a.test:{}", server.port), "/").as_bytes())
        .await
        .unwrap();
    let mut stream = server.accept().await;
    read_head(&mut stream).await.unwrap();
    stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
    let sending = async { while stream.write_all(&[0; 1 << 16]).await.is_ok() {} };
    let waiting = async {
        // Until this is read nothing is stuck yet.
        read_head(&mut guest).await.unwrap();
        tokio::time::pause();
        serving.await.unwrap();
    };
    tokio::join!(sending, waiting);
}
