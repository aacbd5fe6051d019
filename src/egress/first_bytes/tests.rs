use super::*;
use crate::config::rule::Rule;
use crate::config::{Origin, Sourced};
use proptest::prelude::*;
use rustls::pki_types::ServerName as TlsName;
use rustls::{AlertDescription, ClientConfig, ClientConnection, Error, RootCertStore};
use std::sync::Arc;

const SERVER_NAME: u16 = 0;
const SIGNATURE_ALGORITHMS: u16 = 13;

/// A client that is about to greet `server`.
fn client(server: &str) -> ClientConnection {
    let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth();
    ClientConnection::new(Arc::new(config), TlsName::try_from(server.to_owned()).unwrap()).unwrap()
}

/// What a real client sends.
fn greeting(server: &str) -> Vec<u8> {
    let mut sent = Vec::new();
    client(server).write_tls(&mut sent).unwrap();
    sent
}

fn with_length<const BYTES: usize>(body: &[u8]) -> Vec<u8> {
    let length = u64::try_from(body.len()).unwrap().to_be_bytes();
    [&length[8 - BYTES..], body].concat()
}

/// The extension's content: names, each with its type (0 is a host name).
fn server_names(names: &[(u8, &[u8])]) -> Vec<u8> {
    let list: Vec<u8> = names
        .iter()
        .flat_map(|(kind, name)| [&[*kind][..], &with_length::<2>(name)].concat())
        .collect();
    with_length::<2>(&list)
}

fn signature_algorithms() -> (u16, Vec<u8>) {
    (SIGNATURE_ALGORITHMS, with_length::<2>(&[4, 3]))
}

/// A ClientHello as a handshake message, with these extensions and nothing else of interest.
fn hello(extensions: &[(u16, Vec<u8>)]) -> Vec<u8> {
    let extensions: Vec<u8> = extensions
        .iter()
        .flat_map(|(kind, content)| [&kind.to_be_bytes()[..], &with_length::<2>(content)].concat())
        .collect();
    let (version, random, session) = ([3, 3], [7; 32], [0]);
    let (suites, compression) = ([0, 2, 0x13, 1], [1, 0]);
    let parts: [&[u8]; 6] = [
        &version,
        &random,
        &session,
        &suites,
        &compression,
        &with_length::<2>(&extensions),
    ];
    [&[1][..], &with_length::<3>(&parts.concat())].concat()
}

fn record(kind: u8, content: &[u8]) -> Vec<u8> {
    [&[kind, 3, 1][..], &with_length::<2>(content)].concat()
}

fn handshake(content: &[u8]) -> Vec<u8> {
    record(22, content)
}

/// A ClientHello with these server names, in one record.
fn naming(names: &[(u8, &[u8])]) -> Vec<u8> {
    handshake(&hello(&[(SERVER_NAME, server_names(names)), signature_algorithms()]))
}

fn inspect(bytes: &[u8]) -> FirstBytes {
    Inspector::default().add(bytes)
}

fn tls(name: &str) -> FirstBytes {
    FirstBytes::Tls {
        server_name: ServerName::Name(name.parse().unwrap()),
    }
}

const NAMELESS: FirstBytes = FirstBytes::Tls {
    server_name: ServerName::Absent,
};

#[test]
fn a_real_client_says_its_servers_name() {
    assert_eq!(inspect(&greeting("api.example.com")), tls("api.example.com"));
    assert_eq!(inspect(&greeting("192.0.2.7")), NAMELESS);
}

#[test]
fn the_hand_made_greeting_is_one() {
    assert_eq!(inspect(&naming(&[(0, b"a.example")])), tls("a.example"));
    assert_eq!(inspect(&handshake(&hello(&[signature_algorithms()]))), NAMELESS);
}

#[test]
fn spellings_of_one_name_are_one() {
    for name in ["a.example", "A.Example", "a.example."] {
        assert_eq!(inspect(&naming(&[(0, name.as_bytes())])), tls("a.example"), "{name}");
    }
}

#[test]
fn an_address_as_server_name_is_none() {
    for name in ["192.0.2.7", "2001:db8::1", "::ffff:192.0.2.7"] {
        assert_eq!(inspect(&naming(&[(0, name.as_bytes())])), NAMELESS, "{name}");
    }
}

#[test]
fn a_server_name_that_is_odd_is_refused() {
    for name in [
        "",
        "a..example",
        "a b",
        "a\0.example",
        "a.example\0",
        "-a.example",
        "*.example",
        "0177.0.0.1",
        "[::1]",
        "a.0x7f",
        "b\u{fc}cher.example",
    ] {
        assert_eq!(
            inspect(&naming(&[(0, name.as_bytes())])),
            FirstBytes::MalformedTls,
            "{name:?}"
        );
    }
    for names in [
        &[(0, b"a.example" as &[u8]), (0, b"b.example")][..],
        &[(0, b"a.example"), (0, b"a.example")],
        &[(1, b"a.example")],
        &[],
    ] {
        assert_eq!(inspect(&naming(names)), FirstBytes::MalformedTls, "{names:?}");
    }
}

#[test]
fn a_name_of_unknown_type_ends_the_list() {
    // RFC 6066 defines host names only and gives other types no length, so nobody can read on behind one.
    assert_eq!(
        inspect(&naming(&[(0, b"a.example"), (1, b"b.example")])),
        tls("a.example")
    );
    assert_eq!(
        inspect(&naming(&[(1, b"a.example"), (0, b"b.example")])),
        FirstBytes::MalformedTls
    );
}

#[test]
fn an_extension_that_comes_twice_is_refused() {
    let name = |name: &[u8]| (SERVER_NAME, server_names(&[(0, name)]));
    let twice = hello(&[name(b"a.example"), name(b"b.example"), signature_algorithms()]);
    assert_eq!(inspect(&handshake(&twice)), FirstBytes::MalformedTls);
}

#[test]
fn a_greeting_without_signature_algorithms_is_refused() {
    let old = hello(&[(SERVER_NAME, server_names(&[(0, b"a.example")]))]);
    assert_eq!(inspect(&handshake(&old)), FirstBytes::MalformedTls);
}

#[test]
fn nothing_may_stand_between_or_behind_the_fragments() {
    let whole = hello(&[
        (SERVER_NAME, server_names(&[(0, b"a.example")])),
        signature_algorithms(),
    ]);
    let (front, back) = whole.split_at(20);
    let alert = record(21, &[1, 0]);
    let change = record(20, &[1]);
    for between in [&alert, &change] {
        let bytes = [&handshake(front)[..], between, &handshake(back)].concat();
        assert_eq!(inspect(&bytes), FirstBytes::MalformedTls);
        // In front of it, they are no handshake record.
        assert_eq!(inspect(&[&between[..], &handshake(&whole)].concat()), FirstBytes::Other);
    }
    let doubled = handshake(&[&whole[..], &whole].concat());
    assert_eq!(inspect(&doubled), FirstBytes::MalformedTls);
    // What comes in a record of its own is the server's to judge.
    let early = [&handshake(&whole)[..], &record(23, b"early data")].concat();
    assert_eq!(inspect(&early), tls("a.example"));
}

#[test]
fn a_greeting_that_never_ends_is_cut() {
    let mut inspector = Inspector::default();
    // A ClientHello of 65,000 bytes would fit; in records of 64 bytes their headers do not.
    let content = [&[1, 0, 0xfd, 0xe8][..], &[0; 65_000]].concat();
    let mut given = 0;
    for chunk in content.chunks(64) {
        let bytes = handshake(chunk);
        given += bytes.len();
        match inspector.add(&bytes) {
            FirstBytes::NeedMore => assert!(given < MAX_CLIENT_HELLO, "{given}"),
            verdict => {
                assert_eq!(verdict, FirstBytes::MalformedTls);
                assert!(given > MAX_CLIENT_HELLO / 2, "{given}");
                return;
            }
        }
    }
    panic!("all of it was taken");
}

#[test]
fn an_announced_length_over_the_bound_is_refused_at_once() {
    assert_eq!(
        inspect(&handshake(&[1, 0xff, 0xff, 0xff, 3, 3])),
        FirstBytes::MalformedTls
    );
    assert_eq!(inspect(&[22, 3, 1, 0xff, 0xff, 1]), FirstBytes::MalformedTls);
    let empty: Vec<u8> = (0..200).flat_map(|_| handshake(&[])).collect();
    assert_eq!(inspect(&empty), FirstBytes::MalformedTls);
}

#[test]
fn http_begins_with_a_method_and_a_space() {
    for (bytes, verdict) in [
        (&b"GET / HTTP/1.1\r\n"[..], FirstBytes::Http),
        (b"M-SEARCH *", FirstBytes::Http),
        (b"get ", FirstBytes::Http),
        (b"", FirstBytes::NeedMore),
        (b"GET", FirstBytes::NeedMore),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", FirstBytes::Other),
        (b"PRIOR ", FirstBytes::Http),
        (b" GET / HTTP/1.1\r\n", FirstBytes::Other),
        (b"\r\nGET / HTTP/1.1\r\n", FirstBytes::Other),
        (b"GET\t/", FirstBytes::Other),
        (b"G\0T /", FirstBytes::Other),
        (b"SSH-2.0-OpenSSH_9.2\r\n", FirstBytes::Other),
        (b"\x80\x2e\x01\x03\x01", FirstBytes::Other),
        (b"\x00\x00\x00\x08\x04\xd2\x16\x2f", FirstBytes::Other),
        (&[b'A'; 32], FirstBytes::NeedMore),
        (&[b'A'; 33], FirstBytes::Other),
    ] {
        assert_eq!(inspect(bytes), verdict, "{:?}", bytes.escape_ascii().to_string());
    }
}

fn passage(rule: &str) -> Passage {
    let rule: Rule = rule.parse().unwrap();
    Passage {
        inspection: rule.inspection,
        rule: Sourced::new(rule, Origin::Flag { name: "--network" }),
    }
}

#[test]
fn the_first_bytes_must_be_for_the_target() {
    let not_a_name = FirstBytes::Tls {
        server_name: ServerName::NotAName,
    };
    let answer = |target: &str, rule: &str, first: &FirstBytes| {
        let target = Target::from_authority(target, None).unwrap();
        match check(&target, &passage(rule), first) {
            Ok(()) => "passes".to_owned(),
            Err(denial) => denial.reason.to_string(),
        }
    };
    let absent = "the TLS ClientHello names no server";
    let other = "the TLS ClientHello names another server, b.example";
    let odd = "the TLS ClientHello names a server in a way that is no host name";
    let neither = "what was sent is neither TLS nor HTTP";
    let malformed = "the TLS ClientHello is malformed, or older than TLS 1.2";
    for (first, by_name, by_address) in [
        (
            tls("a.example"),
            "passes",
            "the TLS ClientHello names another server, a.example",
        ),
        (tls("b.example"), other, other),
        (NAMELESS, absent, "passes"),
        (not_a_name, odd, odd),
        (FirstBytes::Http, "passes", "passes"),
        (FirstBytes::MalformedTls, malformed, malformed),
        (FirstBytes::Other, neither, neither),
        (FirstBytes::NeedMore, neither, neither),
    ] {
        assert_eq!(answer("a.example:443", "*.example", &first), by_name, "{first:?}");
        assert_eq!(answer("192.0.2.7:443", "192.0.2.0/24", &first), by_address, "{first:?}");
        assert_eq!(
            answer("a.example:443", "*.example:443/tcp", &first),
            "passes",
            "{first:?}"
        );
    }
}

#[test]
fn a_tls_client_understands_why_it_was_cut() {
    let mut client = client("a.example");
    client.write_tls(&mut Vec::new()).unwrap();
    client.read_tls(&mut &TLS_ACCESS_DENIED[..]).unwrap();
    assert_eq!(
        client.process_new_packets().unwrap_err(),
        Error::AlertReceived(AlertDescription::AccessDenied)
    );
}

/// Bytes in portions of the given sizes, the last size over and over.
fn portions<'b>(mut bytes: &'b [u8], sizes: &[usize]) -> Vec<&'b [u8]> {
    let mut portions = Vec::new();
    let mut sizes = sizes
        .iter()
        .copied()
        .chain(std::iter::repeat(sizes.last().copied().unwrap_or(1)));
    while !bytes.is_empty() {
        let (portion, rest) = bytes.split_at(sizes.next().unwrap_or(1).min(bytes.len()));
        portions.push(portion);
        bytes = rest;
    }
    portions
}

fn sizes(most: usize) -> impl Strategy<Value = Vec<usize>> {
    prop::collection::vec(1..most, 1..12)
}

proptest! {
    #[test]
    fn neither_records_nor_packets_matter(records in sizes(120), packets in sizes(120), name in "[a-z0-9_]{1,20}(\\.[a-z]{1,8}){1,4}") {
        let whole = hello(&[signature_algorithms(), (SERVER_NAME, server_names(&[(0, name.as_bytes())]))]);
        let bytes: Vec<u8> = portions(&whole, &records).into_iter().flat_map(handshake).collect();
        let mut inspector = Inspector::default();
        let packets = portions(&bytes, &packets);
        for (number, packet) in packets.iter().enumerate() {
            let verdict = inspector.add(packet);
            let expected = if number + 1 == packets.len() { tls(&name) } else { FirstBytes::NeedMore };
            prop_assert_eq!(verdict, expected, "packet {} of {}", number, packets.len());
        }
    }

    #[test]
    fn any_bytes_come_to_one_verdict_however_they_arrive(
        bytes in prop_oneof![
            prop::collection::vec(any::<u8>(), 0..300),
            // A greeting that is wrong in a few places.
            prop::collection::vec((0usize..90, any::<u8>()), 0..4).prop_map(|changes| {
                let mut bytes = naming(&[(0, b"a.example")]);
                for (at, byte) in changes {
                    let length = bytes.len();
                    bytes[at % length] = byte;
                }
                bytes
            }),
        ],
        packets in sizes(40),
    ) {
        let at_once = inspect(&bytes);
        let mut inspector = Inspector::default();
        let mut verdict = FirstBytes::NeedMore;
        for packet in portions(&bytes, &packets) {
            let next = inspector.add(packet);
            if verdict != FirstBytes::NeedMore {
                prop_assert_eq!(&next, &verdict, "a verdict stays");
            }
            verdict = next;
        }
        prop_assert_eq!(verdict, at_once);
    }
}
