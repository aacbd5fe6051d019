//! The exchange with the provider's token endpoint: one refresh token in, new tokens out.
//!
//! What it says is what Codex 0.169 says. One request, never repeated here, no redirect followed; the answer is bounded in size and
//! time. It must never log a body, nor put more of an error's than its code into a message.

use crate::auth::chatgpt::auth_file::{NewTokens, Token};
use crate::auth::chatgpt::decide::{Reason, Why};
use crate::auth::upstream::{Upstream, UpstreamError};
use crate::config::quantity::BaseUrl;
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::Request;
use hyper::header::{ACCEPT, CONTENT_TYPE, USER_AGENT};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::convert::Infallible;
use std::time::Duration;
use zeroize::Zeroizing;

/// Codex's own, registered at the provider: a refresh token is good for the client that it was given to.
const CLIENT_ID: &str = "app_EMoamEEZ73f0CkXaXp7hrann";
/// The longest that an exchange may take, connecting included.
pub const EXCHANGE_LIMIT: Duration = Duration::from_secs(30);
/// The largest answer that is read, in bytes.
const MAX_ANSWER: usize = 64 << 10;

/// What came of an exchange.
#[derive(Debug)]
pub enum Exchange {
    Renewed(NewTokens),
    /// The provider said no.
    Refused(Why),
    /// Nothing was sent: there was no connection.
    Unsent(String),
    /// It was sent, perhaps, and no answer that says what became of it.
    Unanswered(String),
}

#[derive(Serialize)]
struct Asked<'a> {
    client_id: &'static str,
    grant_type: &'static str,
    refresh_reason: &'static str,
    refresh_token: &'a str,
}

#[derive(Deserialize)]
struct Answered {
    access_token: Option<String>,
    refresh_token: Option<String>,
    id_token: Option<String>,
}

pub async fn exchange(upstream: &Upstream, url: &BaseUrl, refresh: &Token, reason: Reason) -> Exchange {
    let Ok(refresh_token) = std::str::from_utf8(refresh.secret.expose()) else {
        return Exchange::Unsent("the refresh token is no text".to_owned());
    };
    let asked = serde_json::to_vec(&Asked {
        client_id: CLIENT_ID,
        grant_type: "refresh_token",
        refresh_reason: reason.as_str(),
        refresh_token,
    });
    let body = Full::new(Bytes::from(asked.unwrap_or_default()));
    let request = Request::post(url.to_string())
        .header(CONTENT_TYPE, "application/json")
        .header(ACCEPT, "application/json")
        .header(USER_AGENT, concat!("codex-mcp/", env!("CARGO_PKG_VERSION")))
        .body(body.map_err(|never: Infallible| match never {}).boxed_unsync());
    let request = match request {
        Ok(request) => request,
        Err(error) => return Exchange::Unsent(error.to_string()),
    };
    let answering = async {
        let answer = match upstream.send(url.scheme, request).await {
            Ok(answer) => answer,
            Err(UpstreamError::Unreachable(reason)) => return Exchange::Unanswered(reason),
            Err(unsent) => return Exchange::Unsent(unsent.to_string()),
        };
        let status = answer.status().as_u16();
        match Limited::new(answer.into_body(), MAX_ANSWER).collect().await {
            Ok(body) => understand(status, &body.to_bytes()),
            Err(_) => Exchange::Unanswered("its answer did not come whole".to_owned()),
        }
    };
    let answered = tokio::time::timeout(EXCHANGE_LIMIT, answering).await;
    answered.unwrap_or_else(|_| Exchange::Unanswered(format!("no answer within {} s", EXCHANGE_LIMIT.as_secs())))
}

/// What an answer means.
fn understand(status: u16, body: &[u8]) -> Exchange {
    match status {
        200..=299 => {
            let answered = serde_json::from_slice(body).ok();
            let tokens = answered.and_then(new_tokens);
            tokens.map_or_else(
                || Exchange::Unanswered("its answer has no access token".to_owned()),
                Exchange::Renewed,
            )
        }
        400..=499 => match code(body).as_deref() {
            Some("refresh_token_expired") => Exchange::Refused(Why::Expired),
            Some("refresh_token_reused") => Exchange::Refused(Why::Reused),
            Some("refresh_token_invalidated" | "app_session_terminated" | "invalid_grant") => {
                Exchange::Refused(Why::Revoked)
            }
            Some(code) => Exchange::Unanswered(format!("HTTP {status}, `{code}`")),
            None => Exchange::Unanswered(format!("HTTP {status}")),
        },
        _ => Exchange::Unanswered(format!("HTTP {status}")),
    }
}

fn new_tokens(answered: Answered) -> Option<NewTokens> {
    // One that can't be sent is as bad as none, where it was given at all.
    let token = |text: Option<String>| {
        let text = text.map(Zeroizing::new);
        text.map(|text| Token::parse(&text).ok_or(())).transpose()
    };
    Some(NewTokens {
        access: token(answered.access_token).ok()??,
        refresh: token(answered.refresh_token).ok()?,
        id: token(answered.id_token).ok()?,
    })
}

/// `error.code`, `error` or `code`, whichever is there: one word that can be shown.
fn code(body: &[u8]) -> Option<String> {
    let body: Value = serde_json::from_slice(body).ok()?;
    let code = [body.pointer("/error/code"), body.get("error"), body.get("code")]
        .into_iter()
        .flatten()
        .find_map(Value::as_str)?;
    let fits = |c: u8| c.is_ascii_lowercase() || c == b'_';
    (code.len() <= 64 && code.bytes().all(fits)).then(|| code.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn said(status: u16, body: &Value) -> String {
        match understand(status, body.to_string().as_bytes()) {
            Exchange::Renewed(tokens) => format!(
                "renewed, refresh {}, id {}",
                tokens.refresh.is_some(),
                tokens.id.is_some()
            ),
            Exchange::Refused(why) => format!("refused: {why:?}"),
            Exchange::Unsent(reason) => format!("unsent: {reason}"),
            Exchange::Unanswered(reason) => format!("unanswered: {reason}"),
        }
    }

    #[test]
    fn answers_are_told_apart() {
        for (status, body, expected) in [
            (
                200,
                json!({"access_token": "a", "refresh_token": "b", "id_token": "c"}),
                "renewed, refresh true, id true",
            ),
            (
                200,
                json!({"access_token": "a", "expires_in": 1}),
                "renewed, refresh false, id false",
            ),
            (
                200,
                json!({"refresh_token": "b"}),
                "unanswered: its answer has no access token",
            ),
            (
                200,
                json!({"access_token": "a", "refresh_token": "\n"}),
                "unanswered: its answer has no access token",
            ),
            (
                401,
                json!({"error": {"code": "refresh_token_expired"}}),
                "refused: Expired",
            ),
            (
                401,
                json!({"error": {"code": "refresh_token_reused"}}),
                "refused: Reused",
            ),
            (401, json!({"code": "refresh_token_invalidated"}), "refused: Revoked"),
            (
                400,
                json!({"error": "invalid_grant", "error_description": "x"}),
                "refused: Revoked",
            ),
            (
                400,
                json!({"error": "invalid_client"}),
                "unanswered: HTTP 400, `invalid_client`",
            ),
            (
                403,
                json!({"error": {"code": "See <b>rt-secret</b>"}}),
                "unanswered: HTTP 403",
            ),
            (
                503,
                json!({"error": {"code": "refresh_token_expired"}}),
                "unanswered: HTTP 503",
            ),
            (302, json!({}), "unanswered: HTTP 302"),
        ] {
            assert_eq!(said(status, &body), expected, "{status} {body}");
        }
    }

    proptest! {
        #[test]
        fn no_answer_makes_it_panic_or_is_repeated(status in 100u16..600, body in "\\PC{0,40}", code in "[A-Z0-9-]{3,20}") {
            let _ = understand(status, body.as_bytes());
            let shown = said(status, &json!({"error": {"code": code, "message": code}, "access_token": code}));
            prop_assert!(!shown.contains(&code), "{shown}");
        }
    }
}
