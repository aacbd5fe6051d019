//! Who asks, and how often: a bearer token → a [`Caller`], or a 401; then a 429 where it is too often.
//!
//! The token ends here: the header is taken off before anything else sees the request.

use crate::access::token::TokenDigest;
use crate::access::{Doorkeeper, TokensError, Verdict};
use crate::mcp::http::caller::Caller;
use crate::mcp::http::connections::Peer;
use crate::mcp::http::names::one;
use crate::mcp::http::rate::{Payer, Rates};
use crate::mcp::http::refusal::Refusal;
use axum::extract::{Request, State};
use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;
use axum::middleware::Next;
use axum::response::Response;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

#[derive(Debug)]
pub struct Door {
    keeper: Doorkeeper,
    rates: Mutex<Rates>,
}

/// What an `Authorization` header says, if there is one.
enum Presented {
    Nothing,
    Token(TokenDigest),
    /// Several, or of another scheme.
    Unfit,
}

impl Door {
    pub fn new(keeper: Doorkeeper, requests_per_second: u32) -> Self {
        Self {
            keeper,
            rates: Mutex::new(Rates::new(requests_per_second)),
        }
    }

    async fn admit(&self, presented: Presented, address: IpAddr) -> Result<Caller, Refusal> {
        let (digest, refusal) = match presented {
            Presented::Nothing => (None, Refusal::NoToken),
            Presented::Token(digest) => (Some(digest), Refusal::WrongToken),
            Presented::Unfit => (None, Refusal::WrongToken),
        };
        let caller = match self.judge(digest).await {
            Ok(Verdict::Anonymous) => Ok(Caller::Anonymous),
            Ok(Verdict::Known(name)) => Ok(Caller::Known(name)),
            Ok(Verdict::Stranger) => Err(refusal),
            Err(error) => {
                tracing::error!(%error, "a request was turned away");
                Err(Refusal::TokensUnreadable)
            }
        };
        // Strangers pay as well, or guessing would be free, but never out of the purse of somebody whose token it is.
        let payer = match &caller {
            Ok(Caller::Known(name)) => Payer::Identity(name.clone()),
            Ok(Caller::Anonymous) | Err(_) => Payer::at(address),
        };
        let taken = {
            // A map whole at every point where a holder could panic.
            let mut rates = self.rates.lock().unwrap_or_else(PoisonError::into_inner);
            rates.take(payer, Instant::now())
        };
        match taken {
            Ok(()) => caller,
            Err(wait) => Err(Refusal::TooOften { wait }),
        }
    }

    /// Looks at the disk, so not here.
    async fn judge(&self, presented: Option<TokenDigest>) -> Result<Verdict, TokensError> {
        let keeper = self.keeper.clone();
        tokio::task::spawn_blocking(move || keeper.judge(presented))
            .await
            .unwrap_or_else(|stopped| match stopped.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                // The runtime ends, and this process with it.
                Err(_) => Ok(Verdict::Stranger),
            })
    }
}

fn presented(headers: &HeaderMap) -> Presented {
    if !headers.contains_key(AUTHORIZATION) {
        return Presented::Nothing;
    }
    let bearer = one(headers, AUTHORIZATION).and_then(|value| value.split_once(' '));
    match bearer {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") && !token.trim().is_empty() => {
            Presented::Token(TokenDigest::of(token.trim().as_bytes()))
        }
        _ => Presented::Unfit,
    }
}

pub async fn layer(State(door): State<std::sync::Arc<Door>>, mut request: Request, next: Next) -> Response {
    let presented = presented(request.headers());
    request.headers_mut().remove(AUTHORIZATION);
    let address = request.extensions().get::<Peer>().map(|peer| peer.0.ip());
    // Every connection has put it there.
    let address = address.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
    match door.admit(presented, address).await {
        Ok(caller) => {
            request.extensions_mut().insert(caller);
            next.run(request).await
        }
        Err(refusal) => {
            tracing::info!(%address, %refusal, "a request was turned away");
            refusal.response()
        }
    }
}
