//! What the broker answers by itself, and with which status.
//!
//! The status decides what Codex does, whatever it means in HTTP (seen with Codex 0.169): 400 ends the turn at once and
//! shows the body; 401, 403, 404 and other 4xx are tried five times more (6 s), 5xx for 25 s; 429 ends the turn at once, but
//! hides the message. So: 400 where a retry can't help, 502 where it may.

use crate::auth::broker::budget::Bound;
use crate::auth::broker::document::DocumentError;
use crate::auth::broker::purse::Refused;
use crate::auth::broker::screen::Forbidden;
use crate::auth::broker::witness::Unwitnessed;
use crate::config::Origin;
use crate::config::quantity::ProviderName;
use hyper::StatusCode;
use serde_json::{Value, json};

/// The largest request body that passes, in bytes.
pub const MAX_REQUEST_BODY: usize = 16 << 20;

/// How much of a provider's or a guest's words a message quotes, in bytes.
const MAX_QUOTE: usize = 2 << 10;

/// Why the broker did not pass a request, or not its answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error(
        "codex-mcp refused {method} {path}: a session reaches POST /v1/responses and GET /v1/models of its provider, \
         nothing else"
    )]
    NotAllowed { method: String, path: String },
    #[error("the request body is larger than 16 MiB; start a new thread, or compact this one")]
    BodyTooLarge,
    #[error("the request's body did not arrive whole")]
    BodyBroken,
    #[error(transparent)]
    Unreadable(#[from] DocumentError),
    #[error("codex-mcp refused a request to the model: {0}")]
    Forbidden(#[from] Forbidden),
    #[error("codex-mcp refused a request to the model: the session's thread has not started")]
    NotStarted,
    #[error("codex-mcp sent no request to the model: {0}")]
    Unwitnessed(#[from] Unwitnessed),
    #[error(
        "this session has spent its {limit} {} ({}, from {origin}); raise it, or go on in a new session",
        .what.word(), .what.key()
    )]
    Spent { what: Bound, limit: u64, origin: Origin },
    /// What all sessions may spend together is spent, or can't be counted; says what to do.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// The reason says where it was to come from.
    #[error("no key for provider `{provider}`: providers.{provider}.key, {reason}")]
    KeyMissing { provider: ProviderName, reason: String },
    /// The host's ChatGPT login can't be used; says what to run.
    #[error("{0}")]
    Login(String),
    /// It could not be refreshed, and may be later.
    #[error("{0}")]
    LoginUnreachable(String),
    #[error("provider `{provider}` refused the key (HTTP {status}; providers.{provider}.key, {key}): {message}")]
    KeyRefused {
        provider: ProviderName,
        /// Where the key comes from, or that there is none.
        key: String,
        status: u16,
        message: String,
    },
    #[error("provider `{provider}` refused the request (HTTP {status}): {message}")]
    ProviderRefused {
        provider: ProviderName,
        status: u16,
        message: String,
    },
    #[error(
        "provider `{provider}` answered with a redirect (HTTP {status}), which is not followed; set \
         providers.{provider}.base_url to where the provider really is"
    )]
    Redirect { provider: ProviderName, status: u16 },
    #[error("provider `{provider}` at {base_url} is not trusted: {reason}")]
    Untrusted {
        provider: ProviderName,
        base_url: String,
        reason: String,
    },
    #[error(
        "can't reach provider `{provider}` at {base_url}: {reason}; check providers.{provider}.base_url and this \
         machine's network"
    )]
    Unreachable {
        provider: ProviderName,
        base_url: String,
        reason: String,
    },
}

impl Refusal {
    pub fn status(&self) -> StatusCode {
        match self {
            Self::NotAllowed { .. } => StatusCode::NOT_FOUND,
            Self::Unreachable { .. } | Self::LoginUnreachable(_) => StatusCode::BAD_GATEWAY,
            Self::BodyTooLarge
            | Self::BodyBroken
            | Self::Unreadable(_)
            | Self::Forbidden(_)
            | Self::NotStarted
            | Self::Unwitnessed(_)
            | Self::Spent { .. }
            | Self::Refused(_)
            | Self::KeyMissing { .. }
            | Self::Login(_)
            | Self::KeyRefused { .. }
            | Self::ProviderRefused { .. }
            | Self::Redirect { .. }
            | Self::Untrusted { .. } => StatusCode::BAD_REQUEST,
        }
    }

    /// Whether the provider may have seen the request.
    pub fn was_sent(&self) -> bool {
        matches!(
            self,
            Self::KeyRefused { .. } | Self::ProviderRefused { .. } | Self::Redirect { .. } | Self::Unreachable { .. }
        )
    }

    /// For programs; stable.
    pub fn code(&self) -> &'static str {
        match self {
            Self::NotAllowed { .. } => "codex_mcp_not_allowed",
            Self::BodyTooLarge => "codex_mcp_request_too_large",
            Self::BodyBroken => "codex_mcp_request_broken",
            Self::Unreadable(_) => "codex_mcp_request_unreadable",
            Self::Forbidden(_) => "codex_mcp_request_forbidden",
            Self::NotStarted => "codex_mcp_not_started",
            Self::Unwitnessed(_) => "codex_mcp_not_recorded",
            Self::Spent { .. } | Self::Refused(_) => "codex_mcp_quota_spent",
            Self::KeyMissing { .. } => "codex_mcp_key_missing",
            Self::Login(_) => "codex_mcp_login",
            Self::LoginUnreachable(_) => "codex_mcp_login_unreachable",
            Self::KeyRefused { .. } => "codex_mcp_key_refused",
            Self::ProviderRefused { .. } => "codex_mcp_provider_refused",
            Self::Redirect { .. } => "codex_mcp_provider_redirects",
            Self::Untrusted { .. } => "codex_mcp_provider_untrusted",
            Self::Unreachable { .. } => "codex_mcp_provider_unreachable",
        }
    }

    pub fn body(&self) -> Value {
        json!({"error": {"message": self.to_string(), "type": "codex_mcp", "code": self.code()}})
    }
}

/// What becomes of a provider's status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Passed on as it is: a success, or an error that Codex knows what to do with.
    Pass,
    KeyRefused,
    Redirect,
    /// Codex would retry what can't get better.
    Refused,
}

impl Verdict {
    pub fn of(status: StatusCode) -> Self {
        match status.as_u16() {
            // 400 stays: Codex reads codes such as context_length_exceeded off its body.
            200..=299 | 400 | 408 | 409 | 425 | 429 => Self::Pass,
            401 | 403 => Self::KeyRefused,
            300..=399 => Self::Redirect,
            402..=499 => Self::Refused,
            _ => Self::Pass,
        }
    }
}

/// The words in a provider's error body: `error.message` where it is JSON in OpenAI's form, else the body itself, cut.
pub fn provider_message(body: &[u8]) -> String {
    let parsed: Value = serde_json::from_slice(body).unwrap_or_default();
    let text = match parsed.pointer("/error/message").and_then(Value::as_str) {
        Some(message) => message.to_owned(),
        None => String::from_utf8_lossy(body).trim().to_owned(),
    };
    if text.is_empty() {
        return "it gave no reason".to_owned();
    }
    quote(&text)
}

/// At most 2 KiB of somebody's text, without control characters.
pub fn quote(text: &str) -> String {
    let cut = text.get(..text.floor_char_boundary(MAX_QUOTE)).unwrap_or_default();
    cut.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn provider() -> ProviderName {
        "openai".parse().unwrap()
    }

    #[test]
    fn a_refusal_says_what_by_which_setting_and_what_mends_it() {
        let refusal = Refusal::KeyMissing {
            provider: provider(),
            reason: "from /etc/codex-mcp.toml:7: environment variable K is not set; set it where codex-mcp is started"
                .into(),
        };
        insta::assert_json_snapshot!(refusal.body(), @r#"
        {
          "error": {
            "code": "codex_mcp_key_missing",
            "message": "no key for provider `openai`: providers.openai.key, from /etc/codex-mcp.toml:7: environment variable K is not set; set it where codex-mcp is started",
            "type": "codex_mcp"
          }
        }
        "#);
        assert_eq!(refusal.status(), StatusCode::BAD_REQUEST);
    }

    #[test]
    fn only_what_a_retry_may_mend_is_a_5xx() {
        let unreachable = Refusal::Unreachable {
            provider: provider(),
            base_url: "https://x".into(),
            reason: "connection refused".into(),
        };
        assert!(unreachable.status().is_server_error());
        let redirect = Refusal::Redirect {
            provider: provider(),
            status: 302,
        };
        for refusal in [Refusal::BodyTooLarge, Refusal::BodyBroken, redirect] {
            assert_eq!(refusal.status(), StatusCode::BAD_REQUEST, "{refusal}");
        }
    }

    #[test]
    fn every_status_has_a_verdict() {
        let verdict = |status: u16| Verdict::of(StatusCode::from_u16(status).unwrap());
        for status in [200, 204, 400, 408, 409, 429, 500, 502, 503, 529] {
            assert_eq!(verdict(status), Verdict::Pass, "{status}");
        }
        for status in [401, 403] {
            assert_eq!(verdict(status), Verdict::KeyRefused, "{status}");
        }
        for status in [301, 302, 303, 304, 307, 308] {
            assert_eq!(verdict(status), Verdict::Redirect, "{status}");
        }
        for status in [402, 404, 405, 413, 422] {
            assert_eq!(verdict(status), Verdict::Refused, "{status}");
        }
    }

    #[test]
    fn a_providers_words_are_found_cut_and_cleaned() {
        assert_eq!(
            provider_message(br#"{"error":{"message":"no\u001b[2J such model"}}"#),
            "no [2J such model"
        );
        assert_eq!(provider_message(b" <html>\n"), "<html>");
        assert_eq!(provider_message(b""), "it gave no reason");
        assert_eq!(provider_message("ä".repeat(MAX_QUOTE).as_bytes()).len(), MAX_QUOTE);
    }
}
