//! The head of a request, looked at before hyper reads it. Pure.
//!
//! hyper settles by itself what this relay wants to refuse: of a request that says its length in two ways it shows one
//! and drops the other, it takes a bare line feed for a line's end, and it answers what it can't read without a word.
//! So each head is read here first. What passes is parsed again by hyper and sent anew by its client: none of the bytes
//! that were looked at here reach a server.

use crate::egress::decision::Malformed;
use hyper::{Method, Uri};

/// The largest head, in bytes, from the method to the empty line.
pub const MAX_HEAD: usize = 64 << 10;
/// As many fields as hyper reads.
const MAX_FIELDS: usize = 100;
/// The longest request target that hyper takes.
const MAX_TARGET: usize = u16::MAX as usize - 1;

/// A head that can be read in one way only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// In bytes, from the first one of what was looked at.
    pub length: usize,
    pub then: Then,
}

/// What follows a head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Then {
    /// That many bytes of body, and then the next head.
    Body(u64),
    /// No head any more: a chunked body, whose end only hyper knows and after which it closes the connection, or a
    /// tunnel.
    Rest,
}

/// Reads the head at the beginning of `bytes`. `None`: it goes on behind them.
pub fn parse(bytes: &[u8]) -> Result<Option<Head>, Malformed> {
    let mut fields = [httparse::EMPTY_HEADER; MAX_FIELDS];
    let mut request = httparse::Request::new(&mut fields);
    let length = match request.parse(bytes) {
        Ok(httparse::Status::Complete(length)) if length <= MAX_HEAD => length,
        Ok(httparse::Status::Partial) if bytes.len() < MAX_HEAD => return Ok(None),
        Ok(_) | Err(httparse::Error::TooManyHeaders) => return Err(Malformed::TooLarge),
        Err(_) => return Err(Malformed::NotHttp),
    };
    let (Some(method), Some(target), Some(version)) = (request.method, request.path, request.version) else {
        return Err(Malformed::NotHttp);
    };
    if has_bare_line_feed(&bytes[..length]) {
        return Err(Malformed::NotHttp);
    }
    if target.len() > MAX_TARGET {
        return Err(Malformed::TooLarge);
    }
    if Method::from_bytes(method.as_bytes()).is_err() || Uri::try_from(target).is_err() {
        return Err(Malformed::NotHttp);
    }
    let then = match (framing(request.headers, version)?, method) {
        (Then::Body(0), "CONNECT") => Then::Rest,
        // Its body would be the tunnel's first bytes to one reader and not to another.
        (_, "CONNECT") => return Err(Malformed::Framing),
        (then, _) => then,
    };
    let hosts = named(request.headers, "host").count();
    match (hosts, version) {
        (1, _) | (0, 0) => Ok(Some(Head { length, then })),
        _ => Err(Malformed::HostHeader),
    }
}

/// One way to say how long a body is, in one field: RFC 9112 §6.1 and §6.3 without what they tolerate.
fn framing(fields: &[httparse::Header<'_>], version: u8) -> Result<Then, Malformed> {
    let mut lengths = named(fields, "content-length");
    let mut codings = named(fields, "transfer-encoding");
    let then = match (lengths.next(), codings.next()) {
        (None, None) => Then::Body(0),
        (Some(length), None) => Then::Body(decimal(length).ok_or(Malformed::Framing)?),
        (None, Some(coding)) if version == 1 && coding.eq_ignore_ascii_case(b"chunked") => Then::Rest,
        _ => return Err(Malformed::Framing),
    };
    match (lengths.next(), codings.next()) {
        (None, None) => Ok(then),
        _ => Err(Malformed::Framing),
    }
}

fn named<'h>(fields: &'h [httparse::Header<'_>], name: &'h str) -> impl Iterator<Item = &'h [u8]> {
    fields
        .iter()
        .filter(move |field| field.name.eq_ignore_ascii_case(name))
        .map(|field| field.value)
}

/// Digits alone: what `u64` takes besides (`+1`) is no length.
fn decimal(value: &[u8]) -> Option<u64> {
    let digits = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
    digits
        .then(|| str::from_utf8(value).ok()?.parse().ok())
        .flatten()
        // hyper's own bound: above it the length would mean something else there.
        .filter(|length| *length < u64::MAX - 2)
}

fn has_bare_line_feed(head: &[u8]) -> bool {
    let mut before = 0;
    head.iter().any(|byte| {
        let bare = *byte == b'\n' && before != b'\r';
        before = *byte;
        bare
    })
}

/// Whether an empty line may end within `bytes` at or behind `from`: only then is it worth while to parse again, and a
/// head that comes byte by byte costs no more than its length.
pub fn may_end(bytes: &[u8], from: usize) -> bool {
    // An empty line begins up to three bytes before its last one.
    let tail = bytes.get(from.saturating_sub(3)..).unwrap_or_default();
    tail.windows(2).any(|pair| pair == b"\n\n") || tail.windows(3).any(|three| three == b"\n\r\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(head: &str) -> Result<Option<Then>, Malformed> {
        parse(head.as_bytes()).map(|head| head.map(|head| head.then))
    }

    fn get(fields: &str) -> Result<Option<Then>, Malformed> {
        read(&format!("GET http://a/ HTTP/1.1\r\nhost: a\r\n{fields}\r\n"))
    }

    #[test]
    fn a_length_is_said_once_and_in_one_way() {
        assert_eq!(get(""), Ok(Some(Then::Body(0))));
        assert_eq!(get("content-length: 12\r\n"), Ok(Some(Then::Body(12))));
        assert_eq!(get("Transfer-Encoding: Chunked\r\n"), Ok(Some(Then::Rest)));
        for fields in [
            "content-length: 1\r\ntransfer-encoding: chunked\r\n",
            "transfer-encoding: chunked\r\ncontent-length: 1\r\n",
            "content-length: 1\r\ncontent-length: 1\r\n",
            "content-length: 1, 1\r\n",
            "content-length: +1\r\n",
            "content-length: 0x1\r\n",
            "content-length: -1\r\n",
            "content-length:\r\n",
            "content-length: 18446744073709551616\r\n",
            "content-length: 18446744073709551615\r\n",
            "transfer-encoding: gzip, chunked\r\n",
            "transfer-encoding: chunked, identity\r\n",
            "transfer-encoding: xchunked\r\n",
            "transfer-encoding: identity\r\n",
            "transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n",
        ] {
            assert_eq!(get(fields), Err(Malformed::Framing), "{fields:?}");
        }
        assert_eq!(
            read("POST http://a/ HTTP/1.0\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n"),
            Err(Malformed::Framing)
        );
    }

    #[test]
    fn a_tunnel_has_no_body() {
        assert_eq!(read("CONNECT a:1 HTTP/1.1\r\nhost: a:1\r\n\r\n"), Ok(Some(Then::Rest)));
        assert_eq!(
            read("CONNECT a:1 HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n"),
            Ok(Some(Then::Rest))
        );
        for fields in ["content-length: 1", "transfer-encoding: chunked"] {
            let head = format!("CONNECT a:1 HTTP/1.1\r\nhost: a:1\r\n{fields}\r\n\r\n");
            assert_eq!(read(&head), Err(Malformed::Framing), "{fields}");
        }
    }

    #[test]
    fn a_request_has_one_host() {
        assert_eq!(read("GET http://a/ HTTP/1.1\r\n\r\n"), Err(Malformed::HostHeader));
        assert_eq!(get("Host: b\r\n"), Err(Malformed::HostHeader));
        assert_eq!(
            read("GET http://a/ HTTP/1.0\r\nhost: a\r\nhost: a\r\n\r\n"),
            Err(Malformed::HostHeader)
        );
        assert_eq!(read("GET http://a/ HTTP/1.0\r\n\r\n"), Ok(Some(Then::Body(0))));
    }

    #[test]
    fn what_two_readers_could_read_differently_is_no_http() {
        for head in [
            "GET http://a/ HTTP/1.1\r\nhost: a\nx: y\r\n\r\n",
            "GET http://a/ HTTP/1.1\nhost: a\n\n",
            "GET http://a/ HTTP/1.1\r\nhost: a\r\n x: folded\r\n\r\n",
            "GET http://a/ HTTP/1.1\r\nhost : a\r\n\r\n",
            "GET http://a/ HTTP/1.1\r\nhost: a\r\nx: a\rb\r\n\r\n",
            "GET http://a/ HTTP/1.1\r\nhost: a\r\nx: a\0b\r\n\r\n",
            "GET http://a/ HTTP/1.1\r\nhost: a\r\n: b\r\n\r\n",
            "GET http://a/b c HTTP/1.1\r\nhost: a\r\n\r\n",
            "GET  http://a/ HTTP/1.1\r\nhost: a\r\n\r\n",
            "GET http://a/\0 HTTP/1.1\r\nhost: a\r\n\r\n",
            "GET http://a/\t HTTP/1.1\r\nhost: a\r\n\r\n",
            "GET http://a/ HTTP/2.0\r\nhost: a\r\n\r\n",
            "GET http://a/ HTTP/1.2\r\nhost: a\r\n\r\n",
            "GET http://a/\r\n\r\n",
            "G\u{e9}T http://a/ HTTP/1.1\r\nhost: a\r\n\r\n",
            "\u{16}\u{3}\u{1}",
        ] {
            assert_eq!(read(head), Err(Malformed::NotHttp), "{head:?}");
        }
    }

    #[test]
    fn a_head_has_its_size() {
        let padded = |size: usize| {
            let mut head = b"GET http://a/ HTTP/1.1\r\nhost: a\r\nx: ".to_vec();
            head.resize(size - 4, b'x');
            head.extend_from_slice(b"\r\n\r\n");
            head
        };
        assert_eq!(parse(&padded(MAX_HEAD)).unwrap().unwrap().length, MAX_HEAD);
        assert_eq!(parse(&padded(MAX_HEAD + 1)), Err(Malformed::TooLarge));
        assert_eq!(parse(&padded(MAX_HEAD + 1)[..MAX_HEAD]), Err(Malformed::TooLarge));
        assert_eq!(parse(&padded(MAX_HEAD)[..MAX_HEAD - 1]), Ok(None));
        assert_eq!(get(&"x: y\r\n".repeat(MAX_FIELDS)), Err(Malformed::TooLarge));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..512)) {
            let _ = parse(&bytes);
        }

        /// What this says of a head does not depend on what stands behind it, and a part of it is never another head.
        #[test]
        fn a_head_ends_where_it_ends(
            fields in proptest::collection::vec("[a-z]{1,8}: [ -~]{0,16}", 0..4),
            behind in proptest::collection::vec(any::<u8>(), 0..64),
        ) {
            let mut bytes = format!("GET http://a/ HTTP/1.1\r\nhost: a\r\n{}\r\n", fields.iter().map(|f| format!("{f}\r\n")).collect::<String>()).into_bytes();
            let whole = parse(&bytes);
            let length = bytes.len();
            for cut in 0..length {
                prop_assert!(!matches!(parse(&bytes[..cut]), Ok(Some(_))));
                prop_assert!(!may_end(&bytes[..cut], 0) || cut == length);
            }
            prop_assert!(may_end(&bytes, length - 1));
            bytes.extend(behind);
            prop_assert_eq!(parse(&bytes), whole);
            if let Ok(Some(head)) = whole {
                prop_assert_eq!(head.length, length);
            }
        }
    }
}
