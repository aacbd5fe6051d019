//! What one session has asked of its model, and whether it may ask for more: its own numbers behind a lock, and the [`Purse`] that it
//! shares with the others.
//!
//! A request is admitted while something is left, so that a session may overshoot by what its requests at once cost, and by no
//! more. All sessions together may overshoot a day's tokens in the same way.

use crate::auth::broker::purse::{Purse, Refused};
use crate::auth::broker::usage::{Tokens, UsageReader};
use crate::config::{Origin, Sourced, Spendable};
use serde::{Deserialize, Serialize};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What a session's requests came to, as this host counts them, all its containers together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ModelUsage {
    /// That were sent to the provider.
    pub requests: u64,
    /// That were not, for what they asked or because the budget was spent.
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

/// Why a request is not admitted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NotAdmitted {
    /// The session's own bound.
    Spent(Spent),
    /// What all share.
    Refused(Refused),
}

impl From<Spent> for NotAdmitted {
    fn from(spent: Spent) -> Self {
        Self::Spent(spent)
    }
}

impl From<Refused> for NotAdmitted {
    fn from(refused: Refused) -> Self {
        Self::Refused(refused)
    }
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
struct Budget {
    quota: Spendable,
    usage: ModelUsage,
}

impl Budget {
    fn new(quota: Spendable, usage: ModelUsage) -> Self {
        Self { quota, usage }
    }

    fn spending(&self) -> Spending {
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

    /// Whether one more request may be sent.
    fn check(&self) -> Result<(), Spent> {
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
        Ok(())
    }

    /// Counts one more request, where it may be sent.
    fn admit(&mut self) -> Result<(), Spent> {
        self.check()?;
        self.usage.requests = self.usage.requests.saturating_add(1);
        Ok(())
    }

    fn refused(&mut self) {
        self.usage.refused = self.usage.refused.saturating_add(1);
    }

    /// One that was admitted is not sent after all.
    fn withdraw(&mut self) {
        self.usage.requests = self.usage.requests.saturating_sub(1);
    }

    /// What an admitted request came to.
    fn count(&mut self, request: u64, response: u64, tokens: Tokens) {
        let usage = &mut self.usage;
        usage.request_bytes = usage.request_bytes.saturating_add(request);
        usage.response_bytes = usage.response_bytes.saturating_add(response);
        usage.tokens = usage.tokens.plus(tokens);
    }
}

/// A session's account, shared by its requests.
#[derive(Debug, Clone)]
pub struct Account {
    budget: Arc<Mutex<Budget>>,
    /// `None`: nobody counts over sessions.
    purse: Option<Arc<dyn Purse>>,
}

impl Account {
    /// `before`: what the session has used in containers before this one.
    pub fn new(quota: Spendable, before: ModelUsage, purse: Option<Arc<dyn Purse>>) -> Self {
        Self {
            budget: Arc::new(Mutex::new(Budget::new(quota, before))),
            purse,
        }
    }

    pub fn spending(&self) -> Spending {
        self.lock().spending()
    }

    pub fn refused(&self) {
        self.lock().refused();
    }

    /// `request`: the length of its body, in bytes.
    pub async fn admit(&self, request: usize) -> Result<Admitted, NotAdmitted> {
        // A session that has spent its own takes nobody else's time.
        self.lock().check()?;
        if let Some(purse) = &self.purse {
            purse.admit().await?;
        }
        // Another of its requests may have come first meanwhile.
        if let Err(spent) = self.lock().admit() {
            if let Some(purse) = &self.purse {
                purse.withdraw();
            }
            return Err(spent.into());
        }
        Ok(Admitted {
            account: self.clone(),
            request: request as u64,
            usage: Some(UsageReader::new(request)),
            response: 0,
        })
    }

    fn lock(&self) -> MutexGuard<'_, Budget> {
        // Plain numbers, whole at every point where a holder could panic.
        self.budget.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A request that counts. Whatever becomes of it is settled once, at the latest when it is dropped: whoever hangs up before there is
/// an answer has spent what it is estimated to cost.
#[derive(Debug)]
pub struct Admitted {
    account: Account,
    request: u64,
    /// `None`: settled.
    usage: Option<UsageReader>,
    response: u64,
}

impl Admitted {
    /// More of the answer.
    pub fn feed(&mut self, bytes: &[u8]) {
        if let Some(usage) = &mut self.usage {
            self.response += bytes.len() as u64;
            usage.feed(bytes);
        }
    }

    /// The answer has ended, or broken off.
    pub fn settle(&mut self) {
        if let Some(usage) = self.usage.take() {
            let tokens = usage.finish();
            self.account.lock().count(self.request, self.response, tokens);
            if let Some(purse) = &self.account.purse {
                purse.settle(tokens);
            }
        }
    }

    /// It was sent, and refused or not answered: no provider charges for that.
    pub fn for_nothing(mut self) {
        self.usage = None;
        self.account.lock().count(self.request, 0, Tokens::default());
    }

    /// It was not sent.
    pub fn withdraw(mut self) {
        self.usage = None;
        self.account.lock().withdraw();
        if let Some(purse) = &self.account.purse {
            purse.withdraw();
        }
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        self.settle();
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
        let quota = Spendable {
            tokens: bound(tokens),
            requests: bound(requests),
            ..Spendable::default()
        };
        Budget::new(quota, ModelUsage::default())
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
