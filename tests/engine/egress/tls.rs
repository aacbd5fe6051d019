//! Server names: TLS passes where its ClientHello names the host that was allowed, and nothing of it arrives elsewhere.

use super::{Scene, attack, base64};
use crate::support::lane::Lane;
use crate::support::servers::PERMITTED;
use crate::support::servers::authority::{Authority, client_hello, in_records_of};

const NAMES: [&str; 3] = ["good.test", "other.test", "long.test"];

/// connect LABEL HOST:PORT BASE64: a tunnel, bytes into it, and what kind of record comes back first, if one does.
/// 22 is a TLS handshake, 21 an alert.
const CONNECT: &str = r#"
connect() {
    exec 3<>/dev/tcp/127.0.0.1/18081
    printf 'CONNECT %s HTTP/1.1\r\nHost: %s\r\n\r\n' "$2" "$2" >&3
    IFS= read -r -t 20 status <&3
    while IFS= read -r -t 20 line <&3 && [ "$line" != $'\r' ]; do :; done
    base64 -d <<<"$3" >&3
    answer=$(timeout 20 head -c 1 <&3 | od -An -tu1 | tr -d ' ')
    printf '%s: %s | %s\n' "$1" "${status%$'\r'}" "${answer:-closed}"
    exec 3>&-
} 2>/dev/null
"#;

fn the_server_name_must_be_the_one_that_was_allowed(lane: Lane) {
    let scene = Scene::new();
    let authority = Authority::new();
    let server = scene.servers.https(PERMITTED, &authority, &NAMES);
    let port = server.port();
    for name in NAMES {
        scene.dns.set(name, &[PERMITTED]);
    }
    let Some(world) = scene.world(lane, &format!("allow = [\"good.test:{port}\", \"127.77.0.1:{port}\"]")) else {
        return;
    };
    let hello = client_hello("good.test");
    let in_bytes = in_records_of(1, &hello);
    let in_pieces = in_records_of(40, &hello);
    let script = format!(
        "{CONNECT}
get right -k https://good.test:{port}/right
get address -k https://127.77.0.1:{port}/address
# The tunnel is to good.test, and the ClientHello is another's.
get other -k --connect-to other.test:{port}:good.test:{port} https://other.test:{port}/other
openssl_to() {{ label=$1; shift; printf '%s: %s\\n' \"$label\" \"$(timeout 20 openssl s_client -proxy $proxy -connect good.test:{port} \"$@\" </dev/null 2>/dev/null | grep -c 'BEGIN CERTIFICATE')\"; }}
openssl_to named -servername good.test
openssl_to upper -servername GOOD.test
openssl_to misnamed -servername other.test
openssl_to below -servername www.good.test
openssl_to unnamed -noservername
connect whole good.test:{port} {whole}
connect fragments good.test:{port} {fragments}
connect crumbs good.test:{port} {crumbs}
connect fragments-other good.test:{port} {fragments_other}
",
        whole = base64(&hello),
        fragments = base64(&in_pieces),
        crumbs = base64(&in_bytes),
        fragments_other = base64(&in_records_of(40, &client_hello("other.test"))),
    );
    let ran = attack(&world, &script);

    assert!(
        ran.line("right").starts_with("200 200 exit=0 served GET /right"),
        "{}",
        ran.text
    );
    assert!(
        ran.line("address").starts_with("200 200 exit=0 served GET /address"),
        "{}",
        ran.text
    );
    assert!(ran.line("other").starts_with("200 000 exit=35"), "{}", ran.text);
    assert_eq!(ran.line("named"), "1");
    assert_eq!(ran.line("upper"), "1", "names have no case");
    for label in ["misnamed", "below", "unnamed"] {
        assert_eq!(ran.line(label), "0", "{}", ran.text);
    }
    assert!(ran.line("whole").ends_with("| 22"), "{}", ran.text);
    assert!(ran.line("fragments").ends_with("| 22"), "{}", ran.text);
    assert!(ran.line("crumbs").ends_with("| 22"), "{}", ran.text);
    let other = ran.line("fragments-other");
    assert!(!other.ends_with("| 22"), "{other}");

    let names = server.server_names();
    assert!(
        names.iter().all(|name| name
            .as_deref()
            .is_none_or(|name| name.eq_ignore_ascii_case("good.test"))),
        "{names:?}"
    );
    assert_eq!(
        names.iter().filter(|name| name.is_none()).count(),
        1,
        "only for the address: {names:?}"
    );
    assert_eq!(server.targets(), ["/right", "/address"]);
    let denied = ran.denied("good.test", port);
    assert!(
        ran.denied.iter().all(|entry| entry["host"] == "good.test"),
        "{:#?}",
        ran.denied
    );
    let counted: u64 = ran.denied.iter().map(|entry| entry["count"].as_u64().unwrap()).sum();
    assert_eq!(
        counted, 5,
        "curl, three of openssl, and the fragments: {:#?}",
        ran.denied
    );
    assert!(denied["rule"].as_str().unwrap().contains("server name"), "{denied:#}");
}

/// What is neither TLS nor HTTP passes by a `/tcp` rule and no other.
fn another_protocol_needs_a_tcp_rule(lane: Lane) {
    let scene = Scene::new();
    let (open, closed) = (scene.servers.sink(PERMITTED), scene.servers.sink(PERMITTED));
    scene.dns.set("good.test", &[PERMITTED]);
    let (raw, named) = (open.port(), closed.port());
    let Some(world) = scene.world(
        lane,
        &format!("allow = [\"good.test:{raw}/tcp\", \"good.test:{named}\"]"),
    ) else {
        return;
    };
    let words = [
        ("ssh", b"SSH-2.0-attack\r\n".to_vec()),
        ("smtp", b"EHLO attack\r\n".to_vec()),
        ("zeroes", vec![0; 64]),
        // Looks like TLS, and is none.
        ("half-tls", [b"\x16\x03\x01\x00\x20".as_slice(), &[7; 32]].concat()),
        ("sslv2", b"\x80\x2e\x01\x00\x02\x00\x15\x00\x00\x00\x10".to_vec()),
        // HTTP/2 without TLS: a request in it could name any host.
        ("h2c", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec()),
    ];
    let mut script = CONNECT.to_owned();
    for (label, bytes) in &words {
        let bytes = base64(bytes);
        script += &format!("connect {label} good.test:{named} {bytes}\n");
    }
    script += &format!(
        "perl -MIO::Socket::INET -e '
            my $s = IO::Socket::INET->new(PeerAddr => q(127.0.0.1:18081)) or die;
            print $s qq(CONNECT good.test:{raw} HTTP/1.1\\r\\nHost: good.test:{raw}\\r\\n\\r\\n); alarm 9;
            while (my $line = <$s>) {{ last if $line eq qq(\\r\\n) }}
            print $s q(SSH-2.0-attack); $s->flush; shutdown($s, 1);
            print q(raw: ), <$s>'\n"
    );
    let ran = attack(&world, &script);
    for (label, _) in &words {
        let seen = ran.line(label);
        assert!(!seen.ends_with("| 22"), "{label}: {seen}");
    }
    assert!(
        closed.connections().iter().all(Vec::is_empty),
        "{:?}",
        closed.connections()
    );
    let counted: u64 = ran.denied.iter().map(|entry| entry["count"].as_u64().unwrap()).sum();
    assert_eq!(counted, words.len() as u64, "{:#?}", ran.denied);
    assert!(
        ran.denied
            .iter()
            .all(|entry| entry["host"] == "good.test" && entry["port"] == named)
    );

    // Half-close: the sink answers only when it has seen the client's end, and the client still hears it.
    assert_eq!(ran.line("raw"), "took 14 bytes");
    assert_eq!(open.connections(), [b"SSH-2.0-attack".to_vec()]);
}

on_every_lane!(
    the_server_name_must_be_the_one_that_was_allowed,
    another_protocol_needs_a_tcp_rule,
);
