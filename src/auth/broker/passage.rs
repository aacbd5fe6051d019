//! Which requests pass the broker, and which headers go with them, in both directions.
//!
//! Everything is a list of what passes: a header that a future Codex adds stays inside until someone has looked at it.

use hyper::header::{HeaderMap, HeaderName};
use hyper::{Method, Uri};

/// What the guest may ask the provider for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Endpoint {
    Responses,
    Models,
}

impl Endpoint {
    /// The endpoint that a request line names; `None` where it is not ours. A query is ignored, as Codex adds its
    /// version to `models`, and is not passed on.
    pub fn of(method: &Method, uri: &Uri) -> Option<Self> {
        match (method, uri.path()) {
            (&Method::POST, "/v1/responses") => Some(Self::Responses),
            (&Method::GET, "/v1/models") => Some(Self::Models),
            _ => None,
        }
    }

    pub fn method(self) -> Method {
        match self {
            Self::Responses => Method::POST,
            Self::Models => Method::GET,
        }
    }

    /// Below the provider's base URL.
    pub fn path(self) -> &'static str {
        match self {
            Self::Responses => "/responses",
            Self::Models => "/models",
        }
    }
}

/// What Codex 0.169 sends that a provider needs. Left out on purpose: `authorization` and `cookie` (the container has no
/// credential, so they are someone else's), `host`, and `x-codex-turn-metadata` and `x-codex-window-id`, which tell
/// about the installation and its sandbox.
const REQUEST_HEADERS: [&str; 10] = [
    "accept",
    "content-type",
    "openai-beta",
    "originator",
    "session-id",
    "thread-id",
    "user-agent",
    "x-client-request-id",
    "x-codex-beta-features",
    "x-openai-internal-codex-responses-lite",
];

/// What Codex reads of an answer. Left out: `set-cookie`, and all that concerns the connection.
const RESPONSE_HEADERS: [&str; 9] = [
    "content-encoding",
    "content-type",
    "etag",
    "openai-model",
    "openai-processing-ms",
    "retry-after",
    "x-models-etag",
    "x-reasoning-included",
    "x-request-id",
];

/// Rate limits, which Codex shows.
const RESPONSE_PREFIXES: [&str; 2] = ["x-codex-", "x-ratelimit-"];

/// The headers of a guest's request that go to the provider.
pub fn request_headers(headers: &HeaderMap) -> HeaderMap {
    keep(headers, |name| REQUEST_HEADERS.contains(&name.as_str()))
}

/// The headers of a provider's answer that go to the guest.
pub fn response_headers(headers: &HeaderMap) -> HeaderMap {
    keep(headers, |name| {
        let name = name.as_str();
        RESPONSE_HEADERS.contains(&name) || RESPONSE_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
    })
}

fn keep(headers: &HeaderMap, wanted: impl Fn(&HeaderName) -> bool) -> HeaderMap {
    let kept = headers.iter().filter(|(name, _)| wanted(name));
    kept.map(|(name, value)| (name.clone(), value.clone())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::header::HeaderValue;
    use proptest::prelude::*;

    fn endpoint(method: &str, uri: &str) -> Option<Endpoint> {
        Endpoint::of(&method.parse().unwrap(), &uri.parse().unwrap())
    }

    #[test]
    fn two_requests_pass_and_their_neighbours_do_not() {
        assert_eq!(endpoint("POST", "/v1/responses"), Some(Endpoint::Responses));
        assert_eq!(
            endpoint("GET", "/v1/models?client_version=0.169.0"),
            Some(Endpoint::Models)
        );
        for (method, uri) in [
            ("GET", "/v1/responses"),
            ("POST", "/v1/models"),
            ("DELETE", "/v1/responses"),
            ("POST", "/v1/responses/"),
            ("POST", "/v1//responses"),
            ("POST", "/v1/Responses"),
            ("POST", "/v1/responses/resp_1"),
            ("POST", "/v1/x/../responses"),
            ("POST", "/v1/%72esponses"),
            ("GET", "/v1/models/gpt-5.5"),
            ("POST", "/v1/files"),
            ("CONNECT", "evil.example:443"),
        ] {
            assert_eq!(endpoint(method, uri), None, "{method} {uri}");
        }
    }

    #[test]
    fn the_lists_hold_what_a_header_name_can_be() {
        for name in REQUEST_HEADERS
            .iter()
            .chain(&RESPONSE_HEADERS)
            .chain(&RESPONSE_PREFIXES)
        {
            assert_eq!(HeaderName::from_bytes(name.as_bytes()).unwrap().as_str(), *name);
        }
    }

    #[test]
    fn what_identifies_or_authenticates_stays_behind() {
        let mut headers = HeaderMap::new();
        for name in [
            "authorization",
            "cookie",
            "host",
            "x-codex-turn-metadata",
            "x-codex-window-id",
            "x-api-key",
            "openai-organization",
            "proxy-authorization",
            "x-forwarded-for",
            "connection",
            "content-length",
        ] {
            headers.insert(HeaderName::from_static(name), HeaderValue::from_static("x"));
        }
        assert_eq!(request_headers(&headers), HeaderMap::new());
        headers.insert("session-id", HeaderValue::from_static("s"));
        assert_eq!(request_headers(&headers).len(), 1);
    }

    #[test]
    fn an_answer_keeps_its_rate_limits_and_sets_no_cookie() {
        let mut headers = HeaderMap::new();
        for name in [
            "x-ratelimit-remaining-tokens",
            "x-codex-primary-used-percent",
            "retry-after",
            "content-type",
        ] {
            headers.append(HeaderName::from_static(name), HeaderValue::from_static("1"));
        }
        let wanted = headers.clone();
        for name in ["set-cookie", "transfer-encoding", "connection", "location", "alt-svc"] {
            headers.append(HeaderName::from_static(name), HeaderValue::from_static("1"));
        }
        assert_eq!(response_headers(&headers), wanted);
    }

    proptest! {
        #[test]
        fn no_other_path_passes(path in "/[a-z0-9/.%-]{0,20}") {
            let uri: Uri = path.parse().unwrap();
            let passes = Endpoint::of(&Method::POST, &uri).is_some();
            prop_assert_eq!(passes, path == "/v1/responses");
        }
    }
}
