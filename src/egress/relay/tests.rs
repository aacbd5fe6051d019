//! The order, and the bounds of a session, from the guest's end.

use crate::egress::fixtures::{Answer, Bench, EMPTY_OK, Server, Setup, connect, get, size};
use std::net::Ipv4Addr;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const METADATA: Ipv4Addr = Ipv4Addr::new(169, 254, 169, 254);

#[tokio::test]
async fn what_no_rule_names_is_refused_before_its_name_is_resolved() {
    let server = Server::start().await;
    let bench = Bench::of(server.port, "").await;
    let other_port = server.port ^ 1;
    for request in [
        connect("c.test:443"),
        connect(&format!("a.test:{other_port}")),
        connect(&format!("127.0.0.1:{}", server.port)),
        connect(&format!("x.a.test:{}", server.port)),
        get("c.test", "/"),
        get(&format!("a.test:{other_port}"), "/"),
    ] {
        let answer = bench.ask(&request).await;
        assert_eq!(answer.status(), 403, "{request}: {answer:?}");
    }
    assert_eq!(bench.names.asked(), 0);
    assert!(!server.was_connected_to());
    let denied = bench.session.take_denied();
    assert_eq!(denied.iter().map(|denied| denied.count).sum::<u64>(), 6);
    // One host and port were asked for in two ways.
    assert_eq!(denied.len(), 5);
}

#[tokio::test]
async fn every_decision_is_witnessed_before_it_has_an_effect() {
    let server = Server::start().await;
    let bench = Bench::of(server.port, "").await;
    let allowed = format!("a.test:{}", server.port);
    assert_eq!(bench.ask(&connect(&allowed)).await.status(), 200);
    assert_eq!(bench.ask(&connect("c.test:443")).await.status(), 403);
    assert_eq!(bench.ask("CONNECT\r\n\r\n").await.status(), 400);
    assert_eq!(
        *bench.witness.told.lock().unwrap(),
        [
            format!("allowed {allowed} by {allowed}"),
            "denied c.test:443".to_owned(),
            "denied ".to_owned(),
        ]
    );
}

#[tokio::test]
async fn what_can_not_be_witnessed_is_not_even_resolved() {
    let server = Server::start().await;
    let bench = Bench::of(server.port, "").await;
    bench.witness.fails.store(true, Ordering::SeqCst);
    let name = format!("a.test:{}", server.port);
    for request in [connect(&name), get(&name, "/")] {
        let answer = bench.ask(&request).await;
        assert_eq!(answer.status(), 503, "{answer:?}");
        assert!(answer.body.contains("can't be put on record"), "{answer:?}");
    }
    assert_eq!(bench.names.asked(), 0);
    assert!(!server.was_connected_to());
}

#[tokio::test]
async fn a_refusal_says_who_refused_and_who_could_allow() {
    let bench = Setup::allowing(["a.test:443".to_owned()]).start().await;
    let answer = bench.ask(&connect("B.test.:8443")).await;
    let status_line = "HTTP/1.1 403 Refused by codex-mcp: no rule allows b.test:8443\r\n";
    assert!(answer.head.starts_with(status_line), "{}", answer.head);
    assert!(answer.head.contains("content-type: text/plain; charset=utf-8\r\n"));
    let denied = bench.denied();
    assert_eq!((denied.host.as_str(), denied.port, denied.count), ("b.test", 8443, 1));
    let told = format!(
        "host: b.test\nport: 8443\nrule: {}\nto allow: {}\n",
        denied.rule, denied.how_to_allow
    );
    assert!(answer.body.ends_with(&told), "{}", answer.body);
    assert!(told.contains("the operator can add \"b.test:8443\""), "{told}");
}

#[tokio::test]
async fn a_name_that_comes_to_a_private_address_is_not_dialled() {
    let server = Server::start().await;
    for addresses in [
        vec![METADATA],
        vec![Ipv4Addr::LOCALHOST],
        // One of many is enough, wherever it stands.
        vec![Ipv4Addr::new(8, 8, 8, 8), Ipv4Addr::new(10, 0, 0, 1)],
    ] {
        let mut setup = Setup::allowing([format!("a.test:{}", server.port)]);
        setup.private.clear();
        setup.names.insert("a.test", vec![addresses.clone()]);
        let bench = setup.start().await;
        let host = format!("a.test:{}", server.port);
        for request in [connect(&host), get(&host, "/")] {
            let answer = bench.ask(&request).await;
            assert_eq!(answer.status(), 403, "{addresses:?}");
            assert!(answer.body.contains("network.private"), "{}", answer.body);
        }
        assert_eq!(bench.names.asked(), 2);
    }
    assert!(!server.was_connected_to());
}

#[tokio::test]
async fn the_address_that_was_checked_is_the_one_that_is_dialled() {
    let server = Server::start().await;
    let mut setup = Setup::allowing([format!("a.test:{}/tcp", server.port)]);
    setup
        .names
        .insert("a.test", vec![vec![Ipv4Addr::LOCALHOST], vec![METADATA]]);
    let bench = setup.start().await;
    let host = format!("a.test:{}", server.port);
    // Were it looked up again to be dialled, it would be elsewhere by then.
    let _guest = bench.tunnel(&host).await;
    server.accept().await;
    assert_eq!(bench.names.asked(), 1);
    // The next connection is another decision.
    assert_eq!(bench.ask(&connect(&host)).await.status(), 403);
    assert_eq!(bench.names.asked(), 2);
    assert!(!server.was_connected_to());
}

#[tokio::test]
async fn what_is_no_policy_is_another_status() {
    let server = Server::start().await;
    let closed = server.port;
    drop(server);
    let bench = Setup::allowing(["gone.test:443".to_owned(), format!("a.test:{closed}")])
        .start()
        .await;
    let answer = bench.ask(&connect("gone.test:443")).await;
    insta::assert_snapshot!(format!("{}\n{}", answer.head.replace("\r\n", "\n"), answer.body), @r"
    HTTP/1.1 502 codex-mcp could not resolve gone.test:443
    content-type: text/plain; charset=utf-8
    connection: close
    content-length: 109

    codex-mcp allows gone.test:443, but its name could not be resolved: the name servers know no address for it.
    ");
    for request in [
        connect(&format!("a.test:{closed}")),
        get(&format!("a.test:{closed}"), "/"),
    ] {
        let answer = bench.ask(&request).await;
        assert_eq!(answer.status(), 502);
        assert!(answer.body.contains("could not be connected to"), "{}", answer.body);
    }
    assert_eq!(bench.session.take_denied(), []);
}

#[tokio::test]
async fn connections_at_once_have_a_bound_and_give_their_place_back() {
    let server = Server::start().await;
    let mut setup = Setup::allowing([format!("a.test:{}/tcp", server.port), format!("b.test:{}", server.port)]);
    setup.limits.connections.value = 1;
    let bench = setup.start().await;
    let host = format!("a.test:{}", server.port);
    let plain = get(&format!("b.test:{}", server.port), "/");
    {
        let _open = bench.tunnel(&host).await;
        for request in [&connect(&host), &plain] {
            let answer = bench.ask(request).await;
            assert_eq!(answer.status(), 429);
            assert!(answer.body.contains("network.connections"), "{}", answer.body);
        }
    }
    // Its end is the server's end of file, and then the place is free.
    let mut first = server.accept().await;
    assert_eq!(first.read(&mut [0]).await.unwrap(), 0);
    drop(first);
    while bench.ask(&connect(&host)).await.status() != 200 {}
}

#[tokio::test]
async fn one_connection_of_the_guest_has_one_outside() {
    let (one, other) = (Server::start().await, Server::start().await);
    let mut setup = Setup::allowing([format!("a.test:{}", one.port), format!("a.test:{}", other.port)]);
    setup.limits.connections.value = 1;
    let bench = setup.start().await;
    let mut guest = bench.connect();
    for server in [&one, &other, &one] {
        let host = format!("a.test:{}", server.port);
        guest.write_all(get(&host, "/").as_bytes()).await.unwrap();
        let serving = async {
            let mut stream = server.accept().await;
            server.serve(&mut stream, EMPTY_OK).await;
            // Closed before the next is opened.
            stream
        };
        let (answer, _kept) = tokio::join!(Answer::read(&mut guest), serving);
        assert_eq!(answer.status(), 200, "{answer:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn new_connections_have_a_rate() {
    let server = Server::start().await;
    let host = format!("a.test:{}", server.port);
    let mut setup = Setup::allowing([host.clone()]);
    setup.limits.connections_per_second.value = 1;
    let bench = setup.start().await;
    let mut statuses = Vec::new();
    for _ in 0..3 {
        statuses.push(bench.ask(&connect(&host)).await.status());
    }
    assert_eq!(statuses, [200, 200, 429]);
    assert!(
        bench.denied().how_to_allow.contains("network.connections_per_second"),
        "it names what bounds it"
    );
    tokio::time::advance(Duration::from_secs(1)).await;
    assert_eq!(bench.ask(&connect(&host)).await.status(), 200);
}

/// A guest that asks for what is refused, as fast as it can, gets no more of this host's time for it.
#[tokio::test(start_paused = true)]
async fn refusals_have_a_rate() {
    let bench = Setup::allowing([]).start().await;
    let begun = tokio::time::Instant::now();
    for _ in 0..100 {
        for request in [connect("c.test:443"), get("c.test", "/")] {
            assert_eq!(bench.ask(&request).await.status(), 403);
        }
    }
    // A hundred at once, and then fifty a second.
    assert!(begun.elapsed() >= Duration::from_secs(2), "{:?}", begun.elapsed());
}

/// One empty line before a request is some client's habit; a stream of them would be work that nobody counts.
#[tokio::test]
async fn empty_lines_before_a_request_have_a_bound() {
    let bench = Setup::allowing([]).start().await;
    for (lines, status) in [(1, 403), (4, 403), (5, 400), (5000, 400)] {
        let request = format!("{}{}", "\r\n".repeat(lines), get("c.test", "/"));
        assert_eq!(bench.ask(&request).await.status(), status, "{lines} empty lines");
    }
}

/// Each interim answer is read over, so that there is no end to them but this bound.
#[tokio::test]
async fn interim_answers_without_end_are_no_answer() {
    let server = Server::start().await;
    let host = format!("a.test:{}", server.port);
    let bench = Setup::allowing([host.clone()]).start().await;
    let sending = async {
        let mut stream = server.accept().await;
        let hints = b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n".repeat(1000);
        while stream.write_all(&hints).await.is_ok() {}
    };
    let request = get(&host, "/");
    let (answer, ()) = tokio::join!(bench.ask(&request), sending);
    assert_eq!(answer.status(), 502, "{answer:?}");
}

#[tokio::test]
async fn with_the_sessions_bytes_used_up_everything_is_cut() {
    let server = Server::start().await;
    let mut setup = Setup::allowing([format!("a.test:{}/tcp", server.port), format!("b.test:{}", server.port)]);
    setup.limits.bytes = size("1m");
    let bench = setup.start().await;
    let host = format!("a.test:{}", server.port);
    let mut idle = bench.tunnel(&host).await;
    let _idle = server.accept().await;
    let mut guest = bench.tunnel(&host).await;
    let mut stream = server.accept().await;
    let sending = tokio::spawn(async move {
        let sent = stream.write_all(&vec![0; 64 << 20]).await;
        sent.map_err(|error| error.kind())
    });
    let mut received = Vec::new();
    guest.read_to_end(&mut received).await.unwrap();
    assert!(received.len() <= 1 << 20, "{}", received.len());
    assert!(sending.await.unwrap().is_err());
    assert_eq!(idle.read(&mut [0]).await.unwrap(), 0);
    for request in [connect(&host), get(&format!("b.test:{}", server.port), "/")] {
        let answer = bench.ask(&request).await;
        assert_eq!(answer.status(), 429);
        assert!(answer.body.contains("network.bytes"), "{}", answer.body);
    }
    let denied = bench.session.take_denied();
    let counts: Vec<_> = denied
        .iter()
        .map(|denied| (denied.host.as_str(), denied.count))
        .collect();
    assert_eq!(counts, [("a.test", 3), ("b.test", 1)]);
}

#[tokio::test]
async fn an_answer_that_is_cut_is_no_whole_one() {
    let server = Server::start().await;
    let mut setup = Setup::allowing([format!("a.test:{}", server.port)]);
    setup.limits.bytes = size("64k");
    let bench = setup.start().await;
    let host = format!("a.test:{}", server.port);
    let mut guest = bench.connect();
    guest.write_all(get(&host, "/").as_bytes()).await.unwrap();
    let mut stream = server.accept().await;
    // Until the server closes, and that never comes: the guest must not take the cut for it.
    server.serve(&mut stream, "HTTP/1.1 200 OK\r\n\r\n").await;
    let _ = stream.write_all(&vec![b'x'; 1 << 20]).await;
    let mut received = Vec::new();
    guest.read_to_end(&mut received).await.unwrap();
    let received = String::from_utf8(received).unwrap();
    assert!(received.contains("transfer-encoding: chunked"), "{}", &received[..200]);
    assert!(!received.ends_with("0\r\n\r\n"));
    assert_eq!(bench.denied().count, 1);
}

#[tokio::test]
async fn the_end_of_the_session_ends_its_connections() {
    let server = Server::start().await;
    let bench = Bench::of(server.port, "/tcp").await;
    let (mut guest, serving) = bench.connect_watched();
    guest
        .write_all(connect(&format!("a.test:{}", server.port)).as_bytes())
        .await
        .unwrap();
    Answer::read(&mut guest).await;
    let mut stream = server.accept().await;
    serving.abort();
    let ended = stream.read(&mut [0]).await.unwrap_err();
    assert_eq!(ended.kind(), std::io::ErrorKind::ConnectionReset);
}
