//! What one session has asked of its model, and whether it may ask for more. Pure.
//!
//! A request is admitted while something is left, so that a session may overshoot by what its requests at once cost, and by no
//! more.

use crate::auth::broker::usage::Tokens;
use crate::config::{Origin, SessionQuota, Sourced};
use serde::Serialize;

/// What a session's requests came to, as this host counts them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ModelUsage {
    /// That were sent to the provider.
    pub requests: u64,
    /// That were not, for what they asked.
    pub refused: u64,
    pub request_bytes: u64,
    pub response_bytes: u64,
    pub tokens: Tokens,
}

/// A bound that is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spent {
    pub what: Bound,
    pub limit: u64,
    pub origin: Origin,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bound {
    Tokens,
    Requests,
}

impl Bound {
    pub fn key(self) -> &'static str {
        match self {
            Self::Tokens => "quota.session.tokens",
            Self::Requests => "quota.session.requests",
        }
    }

    pub fn word(self) -> &'static str {
        match self {
            Self::Tokens => "tokens",
            Self::Requests => "requests",
        }
    }
}

/// One session's account.
#[derive(Debug)]
pub struct Budget {
    quota: SessionQuota,
    usage: ModelUsage,
}

impl Budget {
    pub fn new(quota: SessionQuota) -> Self {
        Self {
            quota,
            usage: ModelUsage::default(),
        }
    }

    pub fn spending(&self) -> Spending {
        Spending {
            usage: self.usage,
            quota_left: self.left(),
        }
    }

    fn left(&self) -> QuotaLeft {
        let left = |limit: &Option<Sourced<u64>>, used: u64| {
            let limit = limit.as_ref()?;
            Some(limit.value.saturating_sub(used))
        };
        QuotaLeft {
            tokens: left(&self.quota.tokens, self.usage.tokens.total()),
            requests: left(&self.quota.requests, self.usage.requests),
        }
    }

    /// Counts one more request, where it may be sent.
    pub fn admit(&mut self) -> Result<(), Spent> {
        let bounds = [
            (Bound::Tokens, &self.quota.tokens, self.usage.tokens.total()),
            (Bound::Requests, &self.quota.requests, self.usage.requests),
        ];
        for (what, limit, used) in bounds {
            if let Some(limit) = limit.as_ref().filter(|limit| used >= limit.value) {
                return Err(Spent {
                    what,
                    limit: limit.value,
                    origin: limit.origin.clone(),
                });
            }
        }
        self.usage.requests += 1;
        Ok(())
    }

    pub fn refused(&mut self) {
        self.usage.refused = self.usage.refused.saturating_add(1);
    }

    /// What an admitted request came to.
    pub fn count(&mut self, request: u64, response: u64, tokens: Tokens) {
        let usage = &mut self.usage;
        usage.request_bytes = usage.request_bytes.saturating_add(request);
        usage.response_bytes = usage.response_bytes.saturating_add(response);
        usage.tokens = usage.tokens.plus(tokens);
    }
}

/// What a session has spent, and what it may spend yet.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Spending {
    #[serde(flatten)]
    pub usage: ModelUsage,
    pub quota_left: QuotaLeft,
}

/// What is left of a session's bounds; `None` where there is none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct QuotaLeft {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokens: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requests: Option<u64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn budget(tokens: Option<u64>, requests: Option<u64>) -> Budget {
        let bound = |value: Option<u64>| value.map(|value| Sourced::new(value, Origin::Default));
        Budget::new(SessionQuota {
            tokens: bound(tokens),
            requests: bound(requests),
        })
    }

    fn tokens(input: u64, output: u64) -> Tokens {
        Tokens { input, output }
    }

    #[test]
    fn a_request_is_admitted_while_tokens_are_left() {
        let mut budget = budget(Some(100), None);
        budget.admit().unwrap();
        budget.count(10, 20, tokens(60, 39));
        budget.admit().unwrap();
        assert_eq!(budget.left().tokens, Some(1));
        budget.count(10, 20, tokens(0, 1));
        assert_eq!(budget.admit().unwrap_err().what, Bound::Tokens);
        let usage = budget.spending().usage;
        assert_eq!((usage.requests, usage.request_bytes, usage.response_bytes), (2, 20, 40));
    }

    #[test]
    fn requests_at_once_are_counted_before_they_end() {
        let mut budget = budget(None, Some(2));
        budget.admit().unwrap();
        budget.admit().unwrap();
        assert_eq!(budget.admit().unwrap_err().what, Bound::Requests);
        assert_eq!(budget.left().requests, Some(0));
    }

    #[test]
    fn without_bounds_nothing_is_refused_and_no_count_wraps() {
        let mut budget = budget(None, None);
        budget.count(u64::MAX, u64::MAX, tokens(u64::MAX, u64::MAX));
        budget.count(1, 1, tokens(1, 1));
        budget.admit().unwrap();
        assert_eq!(budget.left().tokens, None);
        assert_eq!(budget.spending().usage.tokens.total(), u64::MAX);
    }
}
