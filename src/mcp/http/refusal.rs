//! What a request that is turned away reads: a status, a JSON-RPC error without an id, and what mends it.

use crate::obs::metrics::{LimitHit, Metrics};
use axum::body::Body;
use axum::http::header::{ALLOW, CONNECTION, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::Response;
use serde_json::json;
use std::time::Duration;

/// An implementation's own code, of the range that JSON-RPC leaves to servers.
const TURNED_AWAY: i32 = -32000;

/// Why a request was turned away.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("this server does not go by that Host; the operator can name it in http.allowed_hosts")]
    Host,
    #[error("pages of that Origin may not speak with this server; the operator can name it in http.allowed_origins")]
    Origin,
    #[error(
        "a token is needed: send `Authorization: Bearer TOKEN`; the operator makes one with `codex-mcp token add NAME`"
    )]
    NoToken,
    #[error("that token is unknown here, or was revoked; the operator makes one with `codex-mcp token add NAME`")]
    WrongToken,
    #[error("who may come in can't be found out at the moment; the server's log says why")]
    TokensUnreadable,
    #[error("too many requests (http.requests_per_second); try again in {} s", seconds(.wait))]
    TooOften { wait: Duration },
    #[error("there is no such session; initialize anew")]
    NoSession,
    #[error("too many MCP sessions of yours have calls under way; end one first (DELETE)")]
    TooManySessions,
    #[error("the body is longer than {most} bytes (http.max_body)")]
    TooLong { most: u64 },
    #[error("the body did not arrive in time")]
    TooSlow,
    #[error("the body broke off")]
    Broken,
    #[error("too many long bodies at once; try again")]
    Crowded,
    #[error("this server is shutting down")]
    Ending,
    #[error("there is nothing here; MCP is served at /mcp")]
    NothingHere,
    #[error("only GET is answered here")]
    OnlyGet,
}

impl Refusal {
    fn status(&self) -> StatusCode {
        match self {
            Self::Host | Self::Origin => StatusCode::FORBIDDEN,
            Self::NoToken | Self::WrongToken => StatusCode::UNAUTHORIZED,
            Self::TooOften { .. } => StatusCode::TOO_MANY_REQUESTS,
            Self::NoSession | Self::NothingHere => StatusCode::NOT_FOUND,
            Self::TooLong { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            Self::TooSlow => StatusCode::REQUEST_TIMEOUT,
            Self::Broken => StatusCode::BAD_REQUEST,
            Self::OnlyGet => StatusCode::METHOD_NOT_ALLOWED,
            Self::TokensUnreadable | Self::TooManySessions | Self::Crowded | Self::Ending => {
                StatusCode::SERVICE_UNAVAILABLE
            }
        }
    }

    fn header(&self) -> Option<(HeaderName, HeaderValue)> {
        let challenge = |text| Some((WWW_AUTHENTICATE, HeaderValue::from_static(text)));
        match self {
            Self::NoToken => challenge("Bearer realm=\"codex-mcp\""),
            Self::WrongToken => challenge("Bearer realm=\"codex-mcp\", error=\"invalid_token\""),
            Self::TooOften { wait } => Some((RETRY_AFTER, HeaderValue::from(seconds(wait)))),
            Self::Crowded | Self::Ending => Some((RETRY_AFTER, HeaderValue::from_static("1"))),
            Self::OnlyGet => Some((ALLOW, HeaderValue::from_static("GET"))),
            // What follows on the connection is the rest of a body that nobody will read.
            Self::TooLong { .. } | Self::TooSlow | Self::Broken => {
                Some((CONNECTION, HeaderValue::from_static("close")))
            }
            _ => None,
        }
    }

    /// The bound that it met.
    fn limit(&self) -> Option<LimitHit> {
        match self {
            Self::TooOften { .. } => Some(LimitHit::HttpRate),
            Self::TooLong { .. } | Self::TooSlow | Self::Crowded => Some(LimitHit::HttpBody),
            Self::TooManySessions => Some(LimitHit::HttpSessions),
            _ => None,
        }
    }

    pub fn response(&self) -> Response {
        if let Some(limit) = self.limit() {
            Metrics::of_process().limits.count(limit);
        }
        let body = json!({"jsonrpc": "2.0", "error": {"code": TURNED_AWAY, "message": self.to_string()}});
        let mut response = Response::new(Body::from(body.to_string()));
        *response.status_mut() = self.status();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.extend(self.header());
        response
    }
}

/// Whole ones, at least one: a client that waits for none is turned away again.
fn seconds(wait: &Duration) -> u64 {
    let whole = wait.as_secs().saturating_add(u64::from(wait.subsec_nanos() > 0));
    whole.max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_is_told_in_whole_seconds_and_never_as_none() {
        for (millis, told) in [(0, 1), (1, 1), (1000, 1), (1001, 2)] {
            assert_eq!(seconds(&Duration::from_millis(millis)), told);
        }
        let response = Refusal::TooOften {
            wait: Duration::from_millis(1500),
        }
        .response();
        assert_eq!(response.headers()[RETRY_AFTER], "2");
        assert_eq!(response.status(), StatusCode::TOO_MANY_REQUESTS);
    }
}
