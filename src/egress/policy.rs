//! The rules of one session, and what they say. Pure.
//!
//! Nothing is allowed but what a rule names, and what any layer denies no rule allows. [`Policy::decide`] sees a name and
//! a port and no address; [`Policy::check_addresses`] sees what the name came to. A connection needs both.

use crate::config::host::Host;
use crate::config::network::NetworkSettings;
use crate::config::rule::{DenyRule, Inspection, Pattern, Rule};
use crate::config::target::Target;
use crate::config::{Origin, Sourced};
use crate::egress::address::{AddressKind, kind};
use crate::egress::decision::{Denial, NearMiss, Reason};
use ipnet::IpNet;
use serde::Serialize;
use std::cmp::Reverse;
use std::net::IpAddr;

/// Everything that decides about one session's connections.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Policy {
    /// The operator's, and behind them those of `network.from`.
    pub allow: Vec<Sourced<Rule>>,
    pub deny: Vec<Sourced<DenyRule>>,
    /// Ranges that are not public and that an allowed name may resolve to.
    pub private: Vec<Sourced<IpNet>>,
    /// What the tool call asked for: a target must be covered by one of these as well. `None`: the call named nothing.
    pub narrowed_to: Option<Vec<Sourced<Rule>>>,
}

/// An allowed target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Passage {
    /// The rule that decided: of the operator's, or the call's where that asks for more.
    pub rule: Sourced<Rule>,
    /// What the first bytes must be.
    pub inspection: Inspection,
}

impl Policy {
    /// `derived` are the rules that `network.from` came to.
    pub fn new(network: &NetworkSettings, derived: Vec<Sourced<Rule>>) -> Self {
        Self {
            allow: network.allow.iter().cloned().chain(derived).collect(),
            deny: network.deny.clone(),
            private: network.private.clone(),
            narrowed_to: None,
        }
    }

    /// Allows no more than before, whatever the call names.
    #[must_use]
    pub fn narrowed(self, call: Vec<Sourced<Rule>>) -> Self {
        Self {
            narrowed_to: Some(call),
            ..self
        }
    }

    /// Whether no target whatsoever can pass: a model need not try.
    pub fn allows_nothing(&self) -> bool {
        self.allow.is_empty() || self.narrowed_to.as_ref().is_some_and(Vec::is_empty)
    }

    /// Decides by name and port: what is denied, then what is allowed, then what the call left of that.
    ///
    /// Of several rules that cover the target the most specific decides whether the first bytes are looked at: a `/tcp`
    /// rule is the operator's explicit wish for that host and port, so `db.example.com:5432/tcp` opens one host below
    /// `*.example.com:5432`, and the reverse pair keeps one host inspected. Between equally specific rules one of the
    /// operator's goes before one of `network.from`, and then one that inspects before one that does not. A call's own rules are chosen in the same way and can only add inspection.
    pub fn decide(&self, target: &Target) -> Result<Passage, Denial> {
        let denial = |reason| Denial::of(target, reason);
        if let Some(rule) = self.deny.iter().find(|rule| denies(&rule.value, target)) {
            return Err(denial(Reason::Denied { rule: rule.clone() }));
        }
        let Some(allowed) = deciding(&self.allow, target) else {
            return Err(denial(Reason::NotAllowed {
                nearest: self.near_miss(target),
                list: self.operators_list(),
            }));
        };
        let called = match &self.narrowed_to {
            None => allowed,
            Some(rules) => deciding(rules, target).ok_or_else(|| {
                denial(Reason::LeftOut {
                    allowed_by: allowed.clone(),
                })
            })?,
        };
        let rule = match (allowed.value.inspection, called.value.inspection) {
            (Inspection::Raw, Inspection::Named) => called,
            _ => allowed,
        };
        Ok(Passage {
            rule: rule.clone(),
            inspection: rule.value.inspection,
        })
    }

    /// Decides about what an allowed target came to: each address must be public or in `private`, none may be denied, and
    /// none may be one of this host's own (`own`) unless `private` names it. One bad address refuses all of them: a name
    /// that mixes public and private ones is being used to reach the private one.
    pub fn check_addresses(&self, target: &Target, addresses: &[IpAddr], own: &[IpAddr]) -> Result<(), Denial> {
        for address in addresses {
            self.check_address(target, *address, own)
                .map_err(|reason| Denial::of(target, reason))?;
        }
        Ok(())
    }

    fn check_address(&self, target: &Target, address: IpAddr, own: &[IpAddr]) -> Result<(), Reason> {
        let kind = kind(address);
        if let AddressKind::Never(_) = kind {
            return Err(Reason::AddressNeverAllowed { address, kind });
        }
        // The target's own host was asked about already; here it is what a name came to.
        let resolved = Target {
            host: Host::Address(address),
            port: target.port,
        };
        if let Some(rule) = self.deny.iter().find(|rule| denies(&rule.value, &resolved)) {
            let rule = rule.clone();
            return Err(Reason::AddressDenied { address, rule });
        }
        if self.private.iter().any(|range| range.value.contains(&address)) {
            return Ok(());
        }
        if own.contains(&address) {
            return Err(Reason::OwnAddress { address });
        }
        match kind {
            AddressKind::Public => Ok(()),
            _ => Err(Reason::AddressNotPublic { address, kind }),
        }
    }

    /// Where the operator's own rules stand; one layer has all of them.
    fn operators_list(&self) -> Option<Origin> {
        self.allow
            .iter()
            .map(|rule| &rule.origin)
            .find(|origin| !matches!(origin, Origin::Client { .. }))
            .cloned()
    }

    fn near_miss(&self, target: &Target) -> NearMiss {
        if self.allow.is_empty() {
            return NearMiss::NoRules;
        }
        let about_host = self
            .allow
            .iter()
            .filter(|rule| rule.value.pattern.covers(&target.host))
            .min_by_key(|rule| Reverse(specificity(&rule.value.pattern)));
        let below_host = |rule: &&Sourced<Rule>| match (&rule.value.pattern, &target.host) {
            (Pattern::Below(suffix), Host::Name(name)) => suffix == name,
            _ => false,
        };
        match (about_host, self.allow.iter().find(below_host)) {
            (Some(rule), _) => NearMiss::OtherPort(rule.clone()),
            (None, Some(rule)) => NearMiss::OnlyBelow(rule.clone()),
            (None, None) => NearMiss::NoneNear,
        }
    }
}

fn denies(rule: &DenyRule, target: &Target) -> bool {
    rule.pattern.covers(&target.host) && rule.port.is_none_or(|port| port == target.port)
}

/// The rule that decides about a target, if any covers it; of equal ones the first.
fn deciding<'r>(rules: &'r [Sourced<Rule>], target: &Target) -> Option<&'r Sourced<Rule>> {
    rules
        .iter()
        .filter(|rule| rule.value.pattern.covers(&target.host) && rule.value.port == target.port)
        .min_by_key(|rule| {
            let derived = matches!(rule.origin, Origin::Client { .. });
            let raw = rule.value.inspection == Inspection::Raw;
            (Reverse(specificity(&rule.value.pattern)), derived, raw)
        })
}

/// Comparable between patterns that cover one host: of two such, the larger covers less.
fn specificity(pattern: &Pattern) -> usize {
    match pattern {
        Pattern::Anything => 0,
        Pattern::Below(suffix) => suffix.labels().count(),
        Pattern::Name(_) => usize::MAX,
        Pattern::Addresses(network) => usize::from(network.prefix_len()) + 1,
    }
}

#[cfg(test)]
mod tests;
