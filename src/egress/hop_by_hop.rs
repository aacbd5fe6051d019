//! Which header fields go on behind the relay, and how long a body is said to be there. Pure.
//!
//! Fields about one connection end with it (RFC 9110 §7.6.1): the relay speaks for itself on both sides. Lengths are said
//! anew, from the body as it was parsed, so that the two sides can't disagree about where it ends.

use hyper::header::{
    CONNECTION, CONTENT_LENGTH, EXPECT, HOST, HeaderMap, HeaderName, HeaderValue, TE, TRAILER, TRANSFER_ENCODING,
    UPGRADE,
};
use hyper::{Method, StatusCode};

/// The fields of a request that go to the server. `host` is the canonical target, `length` the body's, where it is known.
pub fn request(headers: &HeaderMap, host: HeaderValue, length: Option<u64>) -> HeaderMap {
    let mut passed = end_to_end(headers);
    // hyper answered it when it began to read the body.
    passed.remove(EXPECT);
    passed.insert(HOST, host);
    match length {
        // For no body hyper says by the method whether there is a length at all.
        Some(0) => {}
        Some(length) => {
            passed.insert(CONTENT_LENGTH, length.into());
        }
        // Said outright, or hyper would send a GET without the body that it came with.
        None => {
            passed.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
        }
    }
    passed
}

/// The fields of an answer that go to the guest.
pub fn response(headers: &HeaderMap, method: &Method, status: StatusCode) -> HeaderMap {
    let mut passed = end_to_end(headers);
    // Without a body it is said how long one would be, and only this header can say it.
    if method == Method::HEAD || status == StatusCode::NOT_MODIFIED {
        let mut lengths = headers.get_all(CONTENT_LENGTH).iter();
        let chunked = headers.contains_key(TRANSFER_ENCODING);
        if let (Some(length), None, false) = (lengths.next(), lengths.next(), chunked)
            && length.as_bytes().iter().all(u8::is_ascii_digit)
        {
            passed.insert(CONTENT_LENGTH, length.clone());
        }
    }
    passed
}

/// Without what concerns a connection, what `Connection` names, and the length.
fn end_to_end(headers: &HeaderMap) -> HeaderMap {
    let listed = headers.get_all(CONNECTION);
    let named: Vec<HeaderName> = listed
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    let passes = |name: &HeaderName| !ends_here(name) && !named.contains(name);
    let kept = headers.iter().filter(|(name, _)| passes(name));
    let mut passed = HeaderMap::with_capacity(headers.len());
    for (name, value) in kept {
        passed.append(name, value.clone());
    }
    passed
}

fn ends_here(name: &HeaderName) -> bool {
    [CONNECTION, CONTENT_LENGTH, TE, TRAILER, TRANSFER_ENCODING, UPGRADE].contains(name)
        || name.as_str() == "keep-alive"
        || name.as_str() == "http2-settings"
        || name.as_str().starts_with("proxy-")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, HeaderValue::from_static(value));
        }
        headers
    }

    fn names(headers: &HeaderMap) -> Vec<&str> {
        headers.iter().map(|(name, _)| name.as_str()).collect()
    }

    #[test]
    fn fields_about_the_connection_end_here() {
        let asked = headers(&[
            ("host", "Other"),
            ("accept", "a"),
            ("accept", "b"),
            ("connection", "close, X-Mine"),
            ("connection", "upgrade"),
            ("x-mine", "1"),
            ("keep-alive", "timeout=5"),
            ("proxy-connection", "keep-alive"),
            ("proxy-authorization", "Basic eDp5"),
            ("te", "trailers"),
            ("trailer", "x"),
            ("upgrade", "websocket"),
            ("expect", "100-continue"),
            ("content-length", "3"),
            ("http2-settings", "x"),
        ]);
        let passed = request(&asked, HeaderValue::from_static("a:1"), Some(3));
        assert_eq!(names(&passed), ["host", "accept", "accept", "content-length"]);
        assert_eq!(passed["host"], "a:1");
    }

    #[test]
    fn the_host_and_the_length_are_the_relays_whatever_connection_names() {
        let asked = headers(&[("connection", "host, content-length, transfer-encoding")]);
        let passed = request(&asked, HeaderValue::from_static("a"), None);
        assert_eq!(passed["host"], "a");
        assert_eq!(passed["transfer-encoding"], "chunked");
        assert!(
            request(&asked, HeaderValue::from_static("a"), Some(0))
                .get("content-length")
                .is_none()
        );
    }

    #[test]
    fn an_answer_without_a_body_keeps_the_length_that_it_would_have() {
        let answered = headers(&[("content-length", "7"), ("connection", "close"), ("etag", "x")]);
        assert_eq!(names(&response(&answered, &Method::GET, StatusCode::OK)), ["etag"]);
        for (method, status) in [(Method::HEAD, StatusCode::OK), (Method::GET, StatusCode::NOT_MODIFIED)] {
            assert_eq!(response(&answered, &method, status)["content-length"], "7");
        }
        for fields in [
            &[("content-length", "7"), ("content-length", "8")][..],
            &[("content-length", "7, 8")],
            &[("content-length", "7"), ("transfer-encoding", "chunked")],
        ] {
            let passed = response(&headers(fields), &Method::HEAD, StatusCode::OK);
            assert!(passed.is_empty(), "{passed:?}");
        }
    }
}
