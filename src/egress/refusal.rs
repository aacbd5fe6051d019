//! What a client inside is told when it gets no connection: a denial, or a failure that no rule is about. Pure.

use crate::config::target::Target;
use crate::dial::proxy::ProxyError;
use crate::dial::{DialError, LookupError};
use crate::egress::decision::Denial;
use crate::egress::witness::Unwitnessed;
use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use hyper::ext::ReasonPhrase;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::{Response, StatusCode};
use std::io;
use std::time::Duration;

/// What the guest is answered with.
pub type AnswerBody = UnsyncBoxBody<Bytes, hyper::Error>;

/// Why a request was not passed on.
#[derive(Debug)]
pub enum Refusal {
    /// By a rule or a bound of the session.
    Denied(Denial),
    Failed {
        target: Target,
        failure: Box<Failure>,
    },
}

/// What went wrong on the way to an allowed target. Names nothing that a server said.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    #[error("its name could not be resolved: {0}")]
    Lookup(#[from] LookupError),
    #[error("it could not be connected to: {}", for_the_guest(.0))]
    Dial(#[from] DialError),
    #[error("resolving its name took longer than {} s (network.connect)", .0.as_secs_f32())]
    LookupTimedOut(Duration),
    #[error("this host's own addresses can't be read ({0}), and without them nothing is dialled")]
    OwnAddresses(io::ErrorKind),
    #[error(transparent)]
    Unwitnessed(#[from] Unwitnessed),
    #[error("the server closed the connection, or did not answer in HTTP")]
    NoHttpAnswer,
    #[error("the client broke its request off")]
    ClientLeft,
    #[error("the server sent nothing for {} s (network.idle)", .0.as_secs_f32())]
    Silent(Duration),
    #[error("the connection was open for {} s (network.total)", .0.as_secs_f32())]
    TooLong(Duration),
}

impl Failure {
    fn status(&self) -> StatusCode {
        match self {
            Self::LookupTimedOut(_)
            | Self::Lookup(LookupError::TimedOut)
            | Self::Dial(
                DialError::TimedOut(_)
                | DialError::Proxy {
                    error: ProxyError::Silent,
                    ..
                },
            )
            | Self::Silent(_)
            | Self::TooLong(_) => StatusCode::GATEWAY_TIMEOUT,
            Self::ClientLeft => StatusCode::BAD_REQUEST,
            Self::Unwitnessed(_) => StatusCode::SERVICE_UNAVAILABLE,
            Self::Lookup(_) | Self::Dial(_) | Self::OwnAddresses(_) | Self::NoHttpAnswer => StatusCode::BAD_GATEWAY,
        }
    }

    /// All that many clients show of a failed CONNECT.
    fn reason_phrase(&self) -> &'static str {
        match self {
            Self::Lookup(_) | Self::LookupTimedOut(_) => "codex-mcp could not resolve",
            Self::Dial(_) | Self::OwnAddresses(_) | Self::Unwitnessed(_) => "codex-mcp could not connect to",
            Self::NoHttpAnswer | Self::ClientLeft | Self::Silent(_) | Self::TooLong(_) => {
                "codex-mcp got no answer from"
            }
        }
    }
}

/// What went wrong with the operator's proxy names where it is and where its password comes from, which is nobody's
/// business inside.
fn for_the_guest(error: &DialError) -> String {
    match error {
        DialError::Proxy { .. } => {
            "the operator's outgoing proxy made no connection; codex-mcp's log says why".to_owned()
        }
        error => error.to_string(),
    }
}

impl From<Denial> for Refusal {
    fn from(denial: Denial) -> Self {
        Self::Denied(denial)
    }
}

impl Refusal {
    pub fn failed(target: &Target, failure: impl Into<Failure>) -> Self {
        Self::Failed {
            target: target.clone(),
            failure: Box::new(failure.into()),
        }
    }

    pub fn answer(&self) -> Response<AnswerBody> {
        let (status, reason, body) = match self {
            Self::Denied(denial) => (denial.status(), denial.reason_phrase(), denial.body()),
            Self::Failed { target, failure } => (
                failure.status(),
                format!("{} {target}", failure.reason_phrase()),
                format!("codex-mcp allows {target}, but {failure}.\n"),
            ),
        };
        let mut answer = Response::new(whole(body));
        *answer.status_mut() = status;
        let headers = answer.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
        // Nothing but printable ASCII is in it; if it were, the status alone says enough.
        if let Ok(reason) = ReasonPhrase::try_from(reason) {
            answer.extensions_mut().insert(reason);
        }
        answer
    }
}

/// A body that is there already.
pub fn whole(text: impl Into<Bytes>) -> AnswerBody {
    Full::new(text.into()).map_err(|never| match never {}).boxed_unsync()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::network::ProxyAddress;
    use crate::config::{Origin, Sourced};

    fn target(text: &str) -> Target {
        Target::from_authority(text, None).unwrap()
    }

    fn failed(failure: impl Into<Failure>) -> (u16, String) {
        let refusal = Refusal::failed(&target("a.test:1"), failure);
        let words = match &refusal {
            Refusal::Failed { failure, .. } => failure.to_string(),
            Refusal::Denied(_) => String::new(),
        };
        (refusal.answer().status().as_u16(), words)
    }

    #[test]
    fn a_failure_is_a_bad_gateway_or_a_timeout() {
        let second = Duration::from_secs(1);
        for (status, failure) in [
            (502, Failure::from(LookupError::NoAddress)),
            (504, LookupError::TimedOut.into()),
            (504, Failure::LookupTimedOut(second)),
            (502, DialError::NoAddress.into()),
            (504, DialError::TimedOut(second).into()),
            (502, Failure::OwnAddresses(io::ErrorKind::Other)),
            (502, Failure::NoHttpAnswer),
            (503, Unwitnessed.into()),
            (504, Failure::Silent(second)),
            (504, Failure::TooLong(second)),
        ] {
            let words = failure.to_string();
            assert_eq!(failed(failure).0, status, "{words}");
        }
    }

    #[test]
    fn the_operators_proxy_is_not_shown_inside() {
        let proxy = target("proxy.test:3128");
        for (status, error) in [
            (
                502,
                ProxyError::CredentialsRefused(Origin::Environment { name: "SECRET" }),
            ),
            (504, ProxyError::Silent),
        ] {
            let address = ProxyAddress {
                host: proxy.host.clone(),
                port: proxy.port,
            };
            let address = Sourced::new(address, Origin::Default);
            let failed = failed(DialError::Proxy {
                address: Box::new(address),
                error,
            });
            let words = "it could not be connected to: the operator's outgoing proxy made no connection; codex-mcp's log \
                         says why";
            assert_eq!(failed, (status, words.to_owned()));
        }
    }

    #[test]
    fn a_denials_status_line_names_what_was_refused() {
        use crate::egress::decision::Malformed;
        let answer = Refusal::from(Denial::malformed(Malformed::Framing)).answer();
        assert_eq!(answer.status(), StatusCode::BAD_REQUEST);
        assert!(answer.extensions().get::<ReasonPhrase>().is_some());
        assert_eq!(answer.headers()[CONTENT_TYPE], "text/plain; charset=utf-8");
    }
}
