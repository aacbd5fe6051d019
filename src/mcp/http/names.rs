//! Whether a request calls this server by a name that is its own, and comes from no page that may not: what keeps a web
//! site that a user visits, and a name that such a site has resolve to this machine, from speaking with the server.

use crate::config::authority::Authority;
use crate::config::http::{AllowedHost, AllowedOrigin, HttpSettings, WebOrigin};
use crate::mcp::http::refusal::Refusal;
use axum::extract::{Request, State};
use axum::http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_REQUEST_METHOD, HOST, ORIGIN, VARY,
};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use std::sync::Arc;

/// What this machine is called on itself.
const LOOPBACK: [&str; 3] = ["localhost", "127.0.0.1", "[::1]"];

#[derive(Debug)]
pub struct Names {
    hosts: Vec<AllowedHost>,
    origins: Vec<AllowedOrigin>,
}

impl Names {
    pub fn new(settings: &HttpSettings) -> Self {
        let loopback = LOOPBACK.iter().filter_map(|name| name.parse().ok());
        let named = settings.allowed_hosts.iter().map(|host| host.value.clone());
        Self {
            hosts: loopback.chain(named).collect(),
            origins: settings
                .allowed_origins
                .iter()
                .map(|origin| origin.value.clone())
                .collect(),
        }
    }

    /// As rmcp spells them: it looks once more.
    pub fn hosts(&self) -> impl Iterator<Item = String> {
        self.hosts.iter().map(ToString::to_string)
    }

    pub fn origins(&self) -> impl Iterator<Item = String> {
        self.origins.iter().map(ToString::to_string)
    }

    /// The page that asks, if one does. Several of either, or one that can't be read, are none that is allowed.
    fn check(&self, headers: &HeaderMap) -> Result<Option<HeaderValue>, Refusal> {
        let host: Authority = one(headers, HOST)
            .and_then(|host| host.parse().ok())
            .ok_or(Refusal::Host)?;
        if !self.hosts.iter().any(|allowed| allowed.covers(&host)) {
            return Err(Refusal::Host);
        }
        let Some(page) = headers.get(ORIGIN) else {
            return Ok(None);
        };
        let origin = one(headers, ORIGIN).and_then(WebOrigin::parse).ok_or(Refusal::Origin)?;
        match self.origins.iter().any(|allowed| allowed.covers(&origin)) {
            true => Ok(Some(page.clone())),
            false => Err(Refusal::Origin),
        }
    }
}

/// The value of a header that is there once.
pub(super) fn one(headers: &HeaderMap, name: axum::http::HeaderName) -> Option<&str> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?;
    match values.next() {
        None => value.to_str().ok(),
        Some(_) => None,
    }
}

pub async fn layer(State(names): State<Arc<Names>>, request: Request, next: Next) -> Response {
    match names.check(request.headers()) {
        Ok(None) => next.run(request).await,
        Ok(Some(page)) if asks_first(&request) => shared_with(page, StatusCode::NO_CONTENT.into_response()),
        Ok(Some(page)) => shared_with(page, next.run(request).await),
        Err(refusal) => {
            tracing::info!(%refusal, "a request was turned away");
            refusal.response()
        }
    }
}

/// A browser asks whether the page may, before it sends what the page wants to.
fn asks_first(request: &Request) -> bool {
    request.method() == Method::OPTIONS && request.headers().contains_key(ACCESS_CONTROL_REQUEST_METHOD)
}

/// Lets the browser show an answer to a page that is allowed. Cookies are nothing here, so none are asked for.
fn shared_with(page: HeaderValue, mut response: Response) -> Response {
    let headers = response.headers_mut();
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, page);
    headers.append(VARY, HeaderValue::from_static("origin"));
    for (name, value) in [
        (ACCESS_CONTROL_ALLOW_METHODS, "GET, POST, DELETE"),
        (
            ACCESS_CONTROL_ALLOW_HEADERS,
            "accept, authorization, content-type, last-event-id, mcp-method, mcp-name, mcp-protocol-version, mcp-session-id",
        ),
        (
            ACCESS_CONTROL_EXPOSE_HEADERS,
            "mcp-session-id, retry-after, www-authenticate",
        ),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderName;

    fn names() -> Names {
        Names {
            hosts: ["localhost", "127.0.0.1", "[::1]", "mcp.example.com:443"]
                .map(|host| host.parse().unwrap())
                .into(),
            origins: vec!["https://app.example.com".parse().unwrap()],
        }
    }

    fn checked(headers: &[(HeaderName, &str)]) -> Result<(), Refusal> {
        let headers = headers
            .iter()
            .map(|(name, value)| (name.clone(), HeaderValue::from_bytes(value.as_bytes()).unwrap()));
        let mut map = HeaderMap::new();
        headers.for_each(|(name, value)| _ = map.append(name, value));
        names().check(&map).map(drop)
    }

    #[test]
    fn a_host_is_one_of_ours() {
        for host in [
            "localhost",
            "localhost:8931",
            "127.0.0.1:1",
            "[::1]:8931",
            "mcp.example.com:443",
        ] {
            assert_eq!(checked(&[(HOST, host)]), Ok(()), "{host}");
        }
        for host in [
            "evil.example",
            "mcp.example.com",
            "mcp.example.com:80",
            "",
            "localhost.evil",
            "a b",
            "\u{fc}",
        ] {
            assert_eq!(checked(&[(HOST, host)]), Err(Refusal::Host), "{host}");
        }
        assert_eq!(checked(&[]), Err(Refusal::Host));
        assert_eq!(checked(&[(HOST, "localhost"), (HOST, "localhost")]), Err(Refusal::Host));
    }

    #[test]
    fn an_origin_is_none_or_allowed() {
        let with = |origin| checked(&[(HOST, "localhost"), (ORIGIN, origin)]);
        assert_eq!(with("https://app.example.com"), Ok(()));
        for origin in [
            "https://evil.example",
            "http://app.example.com",
            "null",
            "",
            "http://localhost",
        ] {
            assert_eq!(with(origin), Err(Refusal::Origin), "{origin}");
        }
    }
}
