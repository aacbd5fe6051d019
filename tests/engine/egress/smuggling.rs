//! Requests that two readers would read differently, oversized and malformed ones, sent byte for byte.
//!
//! What counts is what the server behind the relay saw: never a request that no rule was asked about. Nothing of a client's
//! framing passes, because each request is parsed and sent anew.

use super::http::ALL;
use super::{Inside, Scene, attack, base64};
use crate::support::lane::Lane;
use crate::support::servers::PERMITTED;

/// Any of these answers is a refusal; "(closed)" is the one for what is no HTTP at all.
fn is_refusal(answer: &str) -> bool {
    answer.starts_with("HTTP/1.1 4") || answer.starts_with("HTTP/1.0 4") || answer == "(closed)"
}

/// Requests of which each says two things. `@` stands for the allowed host and port, `%` for another.
const AMBIGUOUS: &[(&str, &[u8])] = &[
    ("cl-te", b"POST http://@/x HTTP/1.1\r\nHost: @\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: @\r\n\r\n"),
    ("te-cl", b"POST http://@/x HTTP/1.1\r\nHost: @\r\nTransfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n5c\r\nGET /smuggled HTTP/1.1\r\nHost: %\r\n\r\n0\r\n\r\n"),
    ("te-other", b"POST http://@/x HTTP/1.1\r\nHost: @\r\nTransfer-Encoding: xchunked\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: @\r\n\r\n"),
    ("te-not-last", b"POST http://@/x HTTP/1.1\r\nHost: @\r\nTransfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n"),
    ("te-hidden", b"POST http://@/x HTTP/1.1\r\nHost: @\r\nContent-Length: 4\r\nTransfer-Encoding:\x0bchunked\r\n\r\n0\r\n\r\n"),
    ("te-1.0", b"POST http://@/x HTTP/1.0\r\nHost: @\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: @\r\n\r\n"),
    ("cl-cl", b"POST http://@/x HTTP/1.1\r\nHost: @\r\nContent-Length: 0\r\nContent-Length: 40\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: @\r\n\r\n"),
    ("cl-list", b"POST http://@/x HTTP/1.1\r\nHost: @\r\nContent-Length: 0, 40\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: @\r\n\r\n"),
    ("cl-sign", b"POST http://@/x HTTP/1.1\r\nHost: @\r\nContent-Length: +4\r\n\r\nabcd"),
    ("cl-huge", b"POST http://@/x HTTP/1.1\r\nHost: @\r\nContent-Length: 18446744073709551617\r\n\r\nabcd"),
    ("two-hosts", b"GET http://@/smuggled HTTP/1.1\r\nHost: @\r\nHost: %\r\n\r\n"),
    ("two-hosts-swapped", b"GET http://@/smuggled HTTP/1.1\r\nHost: %\r\nHost: @\r\n\r\n"),
    ("same-host-twice", b"GET http://@/smuggled HTTP/1.1\r\nHost: @\r\nHost: @\r\n\r\n"),
    ("no-host", b"GET http://@/smuggled HTTP/1.1\r\nAccept: */*\r\n\r\n"),
    ("empty-host", b"GET http://@/smuggled HTTP/1.1\r\nHost:\r\n\r\n"),
    ("host-list", b"GET http://@/smuggled HTTP/1.1\r\nHost: @, %\r\n\r\n"),
    ("host-user", b"GET http://@/smuggled HTTP/1.1\r\nHost: user@@\r\n\r\n"),
    ("host-space", b"GET http://@/smuggled HTTP/1.1\r\nHost : @\r\n\r\n"),
    ("fold", b"GET http://@/smuggled HTTP/1.1\r\nHost: @\r\nX: a\r\n Host: %\r\n\r\n"),
    ("fold-host", b"GET http://@/smuggled HTTP/1.1\r\nHost:\r\n @\r\n\r\n"),
    ("nul-value", b"GET http://@/smuggled HTTP/1.1\r\nHost: @\r\nX: a\0b\r\n\r\n"),
    ("nul-name", b"GET http://@/smuggled HTTP/1.1\r\nHost: @\r\nX\0: a\r\n\r\n"),
    ("nul-target", b"GET http://@/smuggled\0 HTTP/1.1\r\nHost: @\r\n\r\n"),
    ("nul-host", b"GET http://good.test\0.other.test/smuggled HTTP/1.1\r\nHost: @\r\n\r\n"),
    ("bare-cr", b"GET http://@/smuggled HTTP/1.1\r\nHost: @\r\nX: a\rHost: %\r\n\r\n"),
    ("bare-lf", b"GET http://@/smuggled HTTP/1.1\r\nHost: @\r\nX: a\nHost: %\r\n\r\n"),
    ("space-target", b"GET http://@/a /smuggled HTTP/1.1\r\nHost: @\r\n\r\n"),
    ("two-targets", b"GET http://@/ http://%/smuggled HTTP/1.1\r\nHost: @\r\n\r\n"),
    ("leading-space", b" GET http://@/smuggled HTTP/1.1\r\nHost: @\r\n\r\n"),
    ("header-before", b"X: y\r\nGET http://@/smuggled HTTP/1.1\r\nHost: @\r\n\r\n"),
    ("user", b"GET http://user:password@@/smuggled HTTP/1.1\r\nHost: @\r\n\r\n"),
    ("user-is-host", b"GET http://good.test@%/smuggled HTTP/1.1\r\nHost: %\r\n\r\n"),
    ("backslash", b"GET http://%\\@@/smuggled HTTP/1.1\r\nHost: @\r\n\r\n"),
    ("fragment", b"GET http://%#@@/smuggled HTTP/1.1\r\nHost: %\r\n\r\n"),
    ("escaped-host", b"GET http://%67ood.test/smuggled HTTP/1.1\r\nHost: @\r\n\r\n"),
    ("octal", b"GET http://0177.0.0.1/smuggled HTTP/1.1\r\nHost: 0177.0.0.1\r\n\r\n"),
    ("decimal", b"GET http://2130706433/smuggled HTTP/1.1\r\nHost: 2130706433\r\n\r\n"),
    ("origin-form", b"GET /smuggled HTTP/1.1\r\nHost: @\r\n\r\n"),
    ("asterisk", b"OPTIONS * HTTP/1.1\r\nHost: @\r\n\r\n"),
    ("https", b"GET https://@/smuggled HTTP/1.1\r\nHost: @\r\n\r\n"),
    ("ftp", b"GET ftp://@/smuggled HTTP/1.1\r\nHost: @\r\n\r\n"),
    ("no-scheme", b"GET //@/smuggled HTTP/1.1\r\nHost: @\r\n\r\n"),
    ("connect-path", b"CONNECT @/smuggled HTTP/1.1\r\nHost: @\r\n\r\n"),
    ("connect-url", b"CONNECT http://@ HTTP/1.1\r\nHost: @\r\n\r\n"),
    ("connect-user", b"CONNECT user@@ HTTP/1.1\r\nHost: @\r\n\r\n"),
    ("connect-no-port", b"CONNECT good.test HTTP/1.1\r\nHost: @\r\n\r\n"),
    ("connect-port-0", b"CONNECT good.test:0 HTTP/1.1\r\nHost: @\r\n\r\n"),
    ("connect-port-sign", b"CONNECT good.test:+443 HTTP/1.1\r\nHost: @\r\n\r\n"),
    ("connect-port-huge", b"CONNECT good.test:65979 HTTP/1.1\r\nHost: @\r\n\r\n"),
    ("h2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    ("http-9", b"GET http://@/smuggled HTTP/9.9\r\nHost: @\r\n\r\n"),
    ("http-0.9", b"GET http://@/smuggled\r\n\r\n"),
    ("words", b"hello, is anybody there?\r\n\r\n"),
    ("tls", b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00\r\n\r\n"),
    ("empty-lines", b"\r\n\r\n\r\n\0\r\n\r\n"),
];

fn what_can_be_read_in_two_ways_is_refused(lane: Lane) {
    let scene = Scene::new();
    let server = scene.servers.http(PERMITTED);
    let port = server.port();
    scene.dns.set("good.test", &[PERMITTED]);
    scene.dns.set("other.test", &[PERMITTED]);
    let config = format!("allow = [\"good.test:{port}\"]\nconnections_per_second = 1000");
    let Some(world) = scene.world(lane, &config) else {
        return;
    };
    let (good, other) = (format!("good.test:{port}"), format!("other.test:{port}"));
    let mut script = String::new();
    for (label, bytes) in AMBIGUOUS {
        script += &format!("raw {label} {}\n", base64(&filled(bytes, &good, &other)));
    }
    // The relay is none the worse for it.
    script += &format!("get after http://{good}/after\n");
    let ran = attack(&world, &script);
    let accepted: Vec<String> = AMBIGUOUS
        .iter()
        .map(|(label, _)| format!("{label}: {}", ran.line(label)))
        .filter(|line| !is_refusal(line.split_once(": ").unwrap().1))
        .collect();
    assert!(
        accepted.is_empty(),
        "not refused: {accepted:#?}\nthe server saw: {:?}",
        server.wire()
    );
    assert!(
        ran.line("after").starts_with("000 200 exit=0 served GET /after"),
        "{}",
        ran.text
    );
    assert_eq!(server.targets(), ["/after"], "{:?}", server.wire());
    // A refusal names what was asked for only where that was a host and a port.
    for entry in &ran.denied {
        let host = entry["host"].as_str().unwrap();
        assert!(["", "good.test", "other.test"].contains(&host), "{entry:#}");
    }
}

fn filled(bytes: &[u8], good: &str, other: &str) -> Vec<u8> {
    let mut filled = Vec::new();
    let mut rest = bytes.iter().peekable();
    while let Some(byte) = rest.next() {
        match byte {
            // Doubled it is itself.
            b'@' if rest.peek() == Some(&&b'@') => {
                rest.next();
                filled.push(b'@');
                filled.extend(good.as_bytes());
            }
            b'@' => filled.extend(good.as_bytes()),
            b'%' if rest.peek() == Some(&&b'6') => filled.push(b'%'),
            b'%' => filled.extend(other.as_bytes()),
            other => filled.push(*other),
        }
    }
    filled
}

/// A request that is in order arrives in order: its body whole, and nothing of its framing or of what is between it and
/// the proxy.
fn requests_are_sent_anew(lane: Lane) {
    let scene = Scene::new();
    let server = scene.servers.http(PERMITTED);
    let port = server.port();
    scene.dns.set("good.test", &[PERMITTED]);
    let Some(world) = scene.world(lane, &format!("allow = [\"good.test:{port}\"]")) else {
        return;
    };
    let good = format!("good.test:{port}");
    let requests = [
        (
            "chunks",
            format!(
                "POST http://{good}/chunks?a=b HTTP/1.1\r\nHost: {good}\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n\
                 5;ext=\"GET /smuggled HTTP/1.1\"\r\nhello\r\n1\r\n!\r\n0\r\nHost: other.test\r\nX-Trailer: smuggled\r\n\r\n"
            ),
        ),
        (
            "hops",
            format!(
                "GET http://{good}/hops HTTP/1.1\r\nHost: {good}\r\nConnection: close, X-Listed, Upgrade\r\nX-Listed: smuggled\r\n\
                 Upgrade: h2c\r\nHTTP2-Settings: smuggled\r\nProxy-Authorization: Basic smuggled\r\nProxy-Connection: keep-alive\r\n\
                 TE: trailers\r\nKeep-Alive: timeout=smuggled\r\nX-Kept: kept\r\n\r\n"
            ),
        ),
        (
            "websocket",
            format!(
                "GET http://{good}/websocket HTTP/1.1\r\nHost: {good}\r\nConnection: Upgrade, close\r\nUpgrade: websocket\r\n\
                 Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n"
            ),
        ),
        (
            "case",
            format!("GET HTTP://GOOD.TEST:{port}/case HTTP/1.1\r\nhOST: {good}\r\nConnection: close\r\n\r\n"),
        ),
    ];
    let mut script = ALL.to_owned();
    for (label, bytes) in &requests {
        script += &format!("all {label} {}\n", base64(bytes.as_bytes()));
    }
    let ran = attack(&world, &script);
    for (label, _) in &requests {
        assert_eq!(ran.line(label).trim(), "200", "{label}: {}", ran.text);
    }
    assert_eq!(server.targets(), ["/chunks?a=b", "/hops", "/websocket", "/case"]);
    let seen = server.requests();
    assert_eq!(seen[0].body, "hello!");
    assert_eq!(seen[1].all("x-kept"), ["kept"]);
    for request in &seen {
        assert_eq!(request.all("host"), [good.as_str()]);
        for name in [
            "upgrade",
            "proxy-authorization",
            "proxy-connection",
            "te",
            "keep-alive",
            "x-listed",
            "http2-settings",
            "x-trailer",
        ] {
            assert!(request.all(name).is_empty(), "{name} passed: {request:?}");
        }
    }
    assert!(!server.wire().contains("smuggled"), "{:?}", server.wire());
    assert!(ran.denied.is_empty(), "{:#?}", ran.denied);
}

/// Heads without end, and clients that say nothing sensible: refused or cut, at no cost to the session.
fn oversized_and_malformed_requests_are_cut(lane: Lane) {
    let scene = Scene::new();
    let server = scene.servers.http(PERMITTED);
    let port = server.port();
    scene.dns.set("good.test", &[PERMITTED]);
    let Some(world) = scene.world(lane, &format!("allow = [\"good.test:{port}\"]")) else {
        return;
    };
    let mut inside = Inside::new(&world);
    inside.run("echo started");
    let before = inside.peak_memory();
    let ran = inside.run_patiently(&format!(
        r#"
# send LABEL: standard input to the proxy; the first line of its answer.
send() {{
    exec 3<>/dev/tcp/127.0.0.1/18081
    cat >&3
    answer=; IFS= read -r -t 20 answer <&3; [ $? -gt 128 ] && answer='(silence)'
    printf '%s: %s\n' "$1" "${{answer:-(closed)}}"
    exec 3>&-
}} 2>/dev/null
fill() {{ head -c "$1" /dev/zero | tr '\0' "${{2:-a}}"; }}
{{ printf 'GET http://good.test:{port}/'; fill 200000; printf ' HTTP/1.1\r\nHost: good.test:{port}\r\n\r\n'; }} | send target
{{ printf 'GET http://good.test:{port}/ HTTP/1.1\r\nHost: good.test:{port}\r\nX: '; fill 1000000; printf '\r\n\r\n'; }} | send header
{{ printf 'GET http://good.test:{port}/ HTTP/1.1\r\nHost: good.test:{port}\r\n'; for i in $(seq 5000); do printf 'X-%s: y\r\n' $i; done; printf '\r\n'; }} | send headers
{{ printf 'CONNECT '; fill 100000; printf ':443 HTTP/1.1\r\n\r\n'; }} | send connect
fill 20000000 | send no-end
fill 20000000 '\n' | send lines
head -c 1000000 /dev/urandom | send noise
get after http://good.test:{port}/after
"#
    ));
    for label in ["target", "header", "headers", "connect", "no-end", "lines", "noise"] {
        let seen = ran.line(label);
        assert!(is_refusal(seen), "{label}: {seen}");
    }
    assert!(
        ran.line("after").starts_with("000 200 exit=0 served GET /after"),
        "{}",
        ran.text
    );
    assert_eq!(server.targets(), ["/after"]);
    let grown = inside.peak_memory() - before;
    assert!(grown < 32 << 20, "the server's memory grew by {grown} bytes");
}

on_every_lane!(
    what_can_be_read_in_two_ways_is_refused,
    requests_are_sent_anew,
    oversized_and_malformed_requests_are_cut,
);
