//! What can go wrong with Codex, typed, each with what a person can do about it.
//!
//! Two families: a [`TurnError`] is Codex telling why a turn failed (the session lives on); a [`ClientError`] is trouble
//! with the app-server itself (mostly the end of the session).

use crate::wire::untrusted::Untrusted;
use serde_json::Value;
use std::fmt;
use std::time::Duration;

/// Why a turn failed. `Display` gives the message and the remedy, made safe for a terminal.
#[derive(Debug, Clone, PartialEq)]
pub struct TurnError {
    pub kind: TurnErrorKind,
    /// Codex's own words, or those of our broker on the host.
    pub message: Untrusted,
}

/// Codex's `codexErrorInfo`, and after it the kinds that we found out ourselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TurnErrorKind {
    ContextWindowExceeded,
    SessionBudgetExceeded,
    UsageLimitExceeded,
    RateLimitExceeded,
    FlexUnavailable,
    ServerOverloaded,
    ModelNotFound,
    PolicyCapacityUnavailable,
    CyberPolicy,
    MisalignmentPolicyViolation,
    TooManyDenials,
    InternalServerError,
    Unauthorized,
    BadRequest,
    ThreadRollbackFailed,
    SandboxError,
    InferenceHookDenied,
    ActiveTurnNotSteerable,
    /// The provider answered with this HTTP status; `None` where it could not be reached at all.
    HttpConnectionFailed(Option<u16>),
    ResponseStreamConnectionFailed(Option<u16>),
    ResponseStreamDisconnected(Option<u16>),
    ResponseTooManyFailedAttempts(Option<u16>),
    /// Codex's own word for what fits nowhere, and kinds that this version does not know.
    Other,
    /// The broker on the host refused the model request; its message says why and what mends it.
    RefusedByHost,
    /// The turn took longer than its limit and was stopped.
    TimedOut,
    /// The app-server's stream ended during the turn.
    ConnectionLost,
    /// The thread fell silent, and Codex could not say how the turn ended.
    EndNeverReported,
}

impl TurnErrorKind {
    /// From Codex's `codexErrorInfo`: a word, or an object with one key.
    pub(super) fn from_codex(info: &Value) -> Self {
        let (name, detail) = match info {
            Value::String(name) => (name.as_str(), &Value::Null),
            Value::Object(map) if map.len() == 1 => match map.iter().next() {
                Some((name, detail)) => (name.as_str(), detail),
                None => return Self::Other,
            },
            _ => return Self::Other,
        };
        let status = || {
            detail
                .get("httpStatusCode")
                .and_then(Value::as_u64)
                .and_then(|code| u16::try_from(code).ok())
        };
        match name {
            "contextWindowExceeded" => Self::ContextWindowExceeded,
            "sessionBudgetExceeded" => Self::SessionBudgetExceeded,
            "usageLimitExceeded" => Self::UsageLimitExceeded,
            "rateLimitExceeded" => Self::RateLimitExceeded,
            "flexUnavailable" => Self::FlexUnavailable,
            "serverOverloaded" => Self::ServerOverloaded,
            "modelNotFound" => Self::ModelNotFound,
            "policyCapacityUnavailable" => Self::PolicyCapacityUnavailable,
            "cyberPolicy" => Self::CyberPolicy,
            "misalignmentPolicyViolation" => Self::MisalignmentPolicyViolation,
            "tooManyDenials" => Self::TooManyDenials,
            "internalServerError" => Self::InternalServerError,
            "unauthorized" => Self::Unauthorized,
            "badRequest" => Self::BadRequest,
            "threadRollbackFailed" => Self::ThreadRollbackFailed,
            "sandboxError" => Self::SandboxError,
            "inferenceHookDenied" => Self::InferenceHookDenied,
            "activeTurnNotSteerable" => Self::ActiveTurnNotSteerable,
            "httpConnectionFailed" => Self::HttpConnectionFailed(status()),
            "responseStreamConnectionFailed" => Self::ResponseStreamConnectionFailed(status()),
            "responseStreamDisconnected" => Self::ResponseStreamDisconnected(status()),
            "responseTooManyFailedAttempts" => Self::ResponseTooManyFailedAttempts(status()),
            _ => Self::Other,
        }
    }

    /// The HTTP status of the provider's answer, where the kind carries one.
    pub fn http_status(self) -> Option<u16> {
        match self {
            Self::HttpConnectionFailed(status)
            | Self::ResponseStreamConnectionFailed(status)
            | Self::ResponseStreamDisconnected(status)
            | Self::ResponseTooManyFailedAttempts(status) => status,
            _ => None,
        }
    }
}

/// Codes of error bodies that our own broker writes begin so; nobody else's are believed to be the host's words.
pub const BROKER_CODE_PREFIX: &str = "codex_mcp_";

impl TurnError {
    /// From Codex's words. For a 400 these are the HTTP body as it came, whose `error.message` says it better.
    pub(super) fn from_codex(message: String, info: Option<&Value>) -> Self {
        let kind = info.map_or(TurnErrorKind::Other, TurnErrorKind::from_codex);
        let body = serde_json::from_str::<Value>(&message).unwrap_or(Value::Null);
        let said = |key: &str| {
            body.get("error")
                .and_then(|error| error.get(key))
                .and_then(Value::as_str)
        };
        match (said("message"), said("code")) {
            (Some(inner), Some(code)) if code.starts_with(BROKER_CODE_PREFIX) => Self {
                kind: TurnErrorKind::RefusedByHost,
                message: Untrusted::new(inner),
            },
            (Some(inner), _) => Self {
                kind,
                message: Untrusted::new(inner),
            },
            (None, _) => Self {
                kind,
                message: Untrusted::new(message),
            },
        }
    }

    /// What the operator can do. `None` where the message says it all.
    pub fn remedy(&self) -> Option<&'static str> {
        use TurnErrorKind as Kind;
        match (self.kind, self.kind.http_status()) {
            (Kind::Unauthorized, _) | (_, Some(401)) => {
                Some("the provider wants another key: set `key` of the provider's section `[providers.NAME]`")
            }
            (_, Some(403)) => Some(
                "the provider's key may not do this: check the rights of the `key` in `[providers.NAME]`, and that it may use the model",
            ),
            (Kind::ModelNotFound, _) | (_, Some(404)) => Some(
                "the provider has no such model, or no such path: check the model (`codex.model`, `--model`) and `base_url` in `[providers.NAME]`",
            ),
            (Kind::RateLimitExceeded, _) | (_, Some(429)) => {
                Some("the provider limits the rate of requests: wait, then reply to the thread to go on")
            }
            (Kind::UsageLimitExceeded, _) => Some(
                "the provider account's usage is spent: wait for its reset, raise its limit, or name another provider",
            ),
            (Kind::ContextWindowExceeded, _) => {
                Some("reply to the thread (Codex compacts it first), or start a new thread with a shorter prompt")
            }
            (Kind::SessionBudgetExceeded, _) => Some("the thread's token budget is spent: start a new thread"),
            (
                Kind::ServerOverloaded
                | Kind::InternalServerError
                | Kind::FlexUnavailable
                | Kind::PolicyCapacityUnavailable,
                _,
            )
            | (_, Some(500..=599)) => Some("trouble at the provider's end: reply to the thread to try again"),
            (
                Kind::HttpConnectionFailed(None)
                | Kind::ResponseStreamConnectionFailed(None)
                | Kind::ResponseStreamDisconnected(None)
                | Kind::ResponseTooManyFailedAttempts(None),
                _,
            ) => Some(
                "the provider could not be reached, or hung up: check `base_url` in `[providers.NAME]` and this machine's network, then reply to the thread to try again",
            ),
            (Kind::CyberPolicy | Kind::MisalignmentPolicyViolation | Kind::InferenceHookDenied, _) => {
                Some("the provider refuses this by its policy: ask for it differently")
            }
            (Kind::TooManyDenials, _) => {
                Some("too many approvals were declined: allow them, or start the thread with `approval-policy: never`")
            }
            (Kind::TimedOut, _) => Some("reply to the thread to go on, give it smaller tasks, or raise `limits.turn`"),
            (Kind::ConnectionLost | Kind::EndNeverReported, _) => {
                Some("start a new thread; if this comes again, look into the log (`log.filter = \"debug\"`)")
            }
            _ => None,
        }
    }
}

impl fmt::Display for TurnError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.message)?;
        match self.remedy() {
            Some(remedy) => write!(f, " ({remedy})"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for TurnError {}

/// Trouble with the app-server itself. Cloned to everybody who waits when a connection ends.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum ClientError {
    #[error("Codex ended")]
    Closed,
    #[error("the stream to Codex broke: {reason}")]
    Io { reason: String },
    #[error("Codex did not answer `{method}` within {} s", limit.as_secs())]
    Timeout { method: &'static str, limit: Duration },
    #[error("Codex refused `{method}`: {message} (code {code})")]
    Rejected {
        method: &'static str,
        code: i64,
        message: Untrusted,
    },
    /// JSON-RPC code -32001.
    #[error("Codex is overloaded and did not take `{method}`: try again in a moment")]
    Overloaded { method: &'static str },
    #[error("Codex said what this version of codex-mcp can't read ({reason}): {excerpt}")]
    Malformed { reason: String, excerpt: Untrusted },
    #[error("Codex wrote a line longer than {limit} bytes: this session can't be trusted to stay bounded")]
    LineTooLong { limit: usize },
    #[error("Codex wrote more than this process will hold in memory: this session can't be trusted to stay bounded")]
    Flooded,
    #[error(
        "the image has Codex {found} and this codex-mcp speaks with {supported}: build the image again with `codex-mcp image build`"
    )]
    UnsupportedVersion { found: Untrusted, supported: &'static str },
    #[error("Codex refused its configuration: {message}")]
    ConfigRefused { message: Untrusted },
    #[error("Codex did not start the thread as asked: {what} is {found}, not {wanted}")]
    NotAsAsked {
        what: &'static str,
        wanted: &'static str,
        found: Untrusted,
    },
    #[error("more than {limit} calls to Codex wait at once")]
    TooManyCalls { limit: usize },
}

impl ClientError {
    /// Whether nothing more can come of the connection. An unanswered call ends it too: what it started is unknown.
    pub fn ends_connection(&self) -> bool {
        !matches!(
            self,
            Self::Rejected { .. } | Self::Overloaded { .. } | Self::TooManyCalls { .. }
        )
    }

    /// Whether Codex refused a call in these words. It has one code for all that it refuses.
    pub(super) fn says(&self, words: &str) -> bool {
        matches!(self, Self::Rejected { message, .. } if message.as_str().contains(words))
    }

    /// A line or message that can't be read, with the beginning of it.
    pub(super) fn malformed(reason: impl fmt::Display, text: &str) -> Self {
        Self::Malformed {
            reason: reason.to_string(),
            excerpt: Untrusted::new(text.chars().take(200).collect::<String>()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn error(message: &str, info: &Value) -> TurnError {
        TurnError::from_codex(message.to_owned(), Some(info))
    }

    #[test]
    fn every_word_and_object_of_codex_has_its_kind() {
        use TurnErrorKind as Kind;
        let table = [
            (json!("contextWindowExceeded"), Kind::ContextWindowExceeded),
            (json!("sessionBudgetExceeded"), Kind::SessionBudgetExceeded),
            (json!("usageLimitExceeded"), Kind::UsageLimitExceeded),
            (json!("rateLimitExceeded"), Kind::RateLimitExceeded),
            (json!("flexUnavailable"), Kind::FlexUnavailable),
            (json!("serverOverloaded"), Kind::ServerOverloaded),
            (json!("modelNotFound"), Kind::ModelNotFound),
            (json!("policyCapacityUnavailable"), Kind::PolicyCapacityUnavailable),
            (json!("cyberPolicy"), Kind::CyberPolicy),
            (json!("misalignmentPolicyViolation"), Kind::MisalignmentPolicyViolation),
            (json!("tooManyDenials"), Kind::TooManyDenials),
            (json!("internalServerError"), Kind::InternalServerError),
            (json!("unauthorized"), Kind::Unauthorized),
            (json!("badRequest"), Kind::BadRequest),
            (json!("threadRollbackFailed"), Kind::ThreadRollbackFailed),
            (json!("sandboxError"), Kind::SandboxError),
            (json!("inferenceHookDenied"), Kind::InferenceHookDenied),
            (
                json!({"activeTurnNotSteerable": {"turnKind": "review"}}),
                Kind::ActiveTurnNotSteerable,
            ),
            (
                json!({"httpConnectionFailed": {"httpStatusCode": 401}}),
                Kind::HttpConnectionFailed(Some(401)),
            ),
            (
                json!({"httpConnectionFailed": {"httpStatusCode": null}}),
                Kind::HttpConnectionFailed(None),
            ),
            (
                json!({"responseStreamConnectionFailed": {}}),
                Kind::ResponseStreamConnectionFailed(None),
            ),
            (
                json!({"responseStreamDisconnected": {"httpStatusCode": 503}}),
                Kind::ResponseStreamDisconnected(Some(503)),
            ),
            (
                json!({"responseTooManyFailedAttempts": {"httpStatusCode": 429}}),
                Kind::ResponseTooManyFailedAttempts(Some(429)),
            ),
            (
                json!({"httpConnectionFailed": {"httpStatusCode": 99999}}),
                Kind::HttpConnectionFailed(None),
            ),
            (json!("other"), Kind::Other),
            (json!("aKindOfTomorrow"), Kind::Other),
            (json!({"a": 1, "b": 2}), Kind::Other),
            (json!({}), Kind::Other),
            (json!(7), Kind::Other),
        ];
        for (info, kind) in table {
            assert_eq!(TurnErrorKind::from_codex(&info), kind, "{info}");
        }
    }

    #[test]
    fn the_brokers_own_refusal_is_shown_whole_and_without_a_second_remedy() {
        let body =
            json!({"error": {"message": "OPENAI_API_KEY is not set: export it", "code": "codex_mcp_key_missing"}});
        let refused = error(&body.to_string(), &json!("other"));
        assert_eq!(refused.kind, TurnErrorKind::RefusedByHost);
        assert_eq!(refused.to_string(), "OPENAI_API_KEY is not set: export it");
    }

    #[test]
    fn a_providers_error_body_gives_its_message_but_is_not_taken_for_the_hosts() {
        let body = json!({"error": {"message": "Unsupported parameter", "code": "unsupported"}});
        let refused = error(&body.to_string(), &json!("badRequest"));
        assert_eq!(refused.kind, TurnErrorKind::BadRequest);
        assert_eq!(refused.message.as_str(), "Unsupported parameter");
    }

    #[test]
    fn what_a_person_reads() {
        let lines = [
            error(
                "unexpected status 401 Unauthorized: no",
                &json!({"httpConnectionFailed": {"httpStatusCode": 401}}),
            ),
            error(
                "unexpected status 404 Not Found: no",
                &json!({"httpConnectionFailed": {"httpStatusCode": 404}}),
            ),
            error(
                "exceeded retry limit",
                &json!({"responseTooManyFailedAttempts": {"httpStatusCode": 429}}),
            ),
            error(
                "stream disconnected",
                &json!({"responseStreamDisconnected": {"httpStatusCode": null}}),
            ),
            error("You've hit your limit", &json!("usageLimitExceeded")),
            error("boom\u{1b}[2J", &json!("other")),
        ]
        .map(|error| error.to_string())
        .join("\n");
        insta::assert_snapshot!(lines, @r"
        unexpected status 401 Unauthorized: no (the provider wants another key: set `key` of the provider's section `[providers.NAME]`)
        unexpected status 404 Not Found: no (the provider has no such model, or no such path: check the model (`codex.model`, `--model`) and `base_url` in `[providers.NAME]`)
        exceeded retry limit (the provider limits the rate of requests: wait, then reply to the thread to go on)
        stream disconnected (the provider could not be reached, or hung up: check `base_url` in `[providers.NAME]` and this machine's network, then reply to the thread to try again)
        You've hit your limit (the provider account's usage is spent: wait for its reset, raise its limit, or name another provider)
        boom[2J
        ");
    }
}
