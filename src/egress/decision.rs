//! What was decided about a connection: verdict, rule, where the rule came from, and how to allow. Pure.
//!
//! A denial is read in three places: by the client inside (status, reason phrase, body), by whoever reads the turn's
//! result (`egressDenied`), and by the operator. Nothing in it is a text that the guest wrote: a host is shown only as the
//! canonical [`Target`] or name that it parsed to, and what did not parse is described in fixed words. Remedies speak of
//! the operator, because the model that reads them must not take them for its own task.

use crate::config::host::{DnsName, Host};
use crate::config::key;
use crate::config::quantity::ByteSize;
use crate::config::rule::{DenyRule, Rule};
use crate::config::target::{Target, TargetError};
use crate::config::{Origin, Sourced};
use crate::egress::address::{AddressKind, kind};
use hyper::StatusCode;
use ipnet::IpNet;
use serde::{Serialize, Serializer};
use std::fmt;
use std::net::IpAddr;

/// One refusal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Denial {
    /// What was asked for; `None` where the request named nothing that could be one.
    pub target: Option<Target>,
    /// Boxed, because a refusal is the rare half of many results.
    pub reason: Box<Reason>,
}

/// Why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// No rule of `network.allow` or `network.from` covers it.
    NotAllowed {
        nearest: NearMiss,
        /// Where `network.allow` stands; `None` where no layer puts a rule there.
        list: Option<Origin>,
    },
    /// A rule denies it, whatever allows it.
    Denied {
        rule: Sourced<DenyRule>,
    },
    /// The operator's rule allows it; the call's own list has it not.
    LeftOut {
        allowed_by: Sourced<Rule>,
    },
    /// What it came to is not public, and `network.private` does not name it.
    AddressNotPublic {
        address: IpAddr,
        kind: AddressKind,
    },
    /// What it came to is an address of one of this host's interfaces, and `network.private` does not name it.
    OwnAddress {
        address: IpAddr,
    },
    /// What it came to is no place that any setting could allow.
    AddressNeverAllowed {
        address: IpAddr,
        kind: AddressKind,
    },
    /// What it came to is in a denied network.
    AddressDenied {
        address: IpAddr,
        rule: Sourced<DenyRule>,
    },
    /// TLS to a name, and the ClientHello names none.
    NoServerName {
        rule: Sourced<Rule>,
    },
    /// The ClientHello names another host than the one that was allowed; `None` where that is no name.
    OtherServerName {
        rule: Sourced<Rule>,
        named: Option<DnsName>,
    },
    /// A plain HTTP request's `Host` is another than the one that was allowed; `None` where that is no host.
    OtherHost {
        rule: Sourced<Rule>,
        named: Option<Target>,
    },
    /// The first bytes are neither TLS nor HTTP.
    NeitherTlsNorHttp {
        rule: Sourced<Rule>,
    },
    /// A TLS record without a ClientHello that can be read in one way only.
    MalformedTls {
        rule: Sourced<Rule>,
    },
    TooManyConnections {
        limit: Sourced<u32>,
    },
    /// New connections, a second.
    TooFast {
        limit: Sourced<u32>,
    },
    BytesUsedUp {
        bound: ByteBound,
        limit: Sourced<ByteSize>,
    },
    Malformed {
        problem: Malformed,
    },
}

/// Whose bytes are used up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ByteBound {
    /// `network.bytes`, of a session.
    Network,
    /// `quota.session.egress`.
    Session,
    /// `quota.day.egress`, of all sessions together.
    Day {
        /// RFC 3339.
        renews: String,
    },
}

impl ByteBound {
    fn key(&self) -> &'static str {
        match self {
            Self::Network => key::NETWORK_BYTES.name,
            Self::Session => key::QUOTA_SESSION_EGRESS.name,
            Self::Day { .. } => key::QUOTA_DAY_EGRESS.name,
        }
    }
}

/// What comes closest to a rule that would have covered a target.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum NearMiss {
    /// There is no rule at all.
    NoRules,
    /// That host, and another port.
    OtherPort(Sourced<Rule>),
    /// `*.example.com` where `example.com` was asked for.
    OnlyBelow(Sourced<Rule>),
    /// There are rules, and none is about that host.
    NoneNear,
}

/// What is wrong with a request that names no target, or names one in a way that two readers could read differently.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    #[error("{0}")]
    Target(#[from] TargetError),
    #[error("the request is not HTTP/1.0 or HTTP/1.1")]
    NotHttp,
    #[error("the request line names no host: a proxy is asked with CONNECT host:port or with a whole http:// address")]
    NotAProxyRequest,
    #[error("a proxy is asked for http:// addresses, and with CONNECT for every other scheme")]
    Scheme,
    #[error("inside a tunnel a request names a path alone: its host is the tunnel's")]
    NotOriginForm,
    #[error("the request has no Host header, or more than one")]
    HostHeader,
    #[error("the request says its length in two ways, or in one that is not understood")]
    Framing,
    #[error("the head of the request is too large")]
    TooLarge,
}

impl Serialize for Malformed {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl Denial {
    pub fn of(target: &Target, reason: Reason) -> Self {
        Self {
            target: Some(target.clone()),
            reason: Box::new(reason),
        }
    }

    /// Of a request that named no target.
    pub fn malformed(problem: Malformed) -> Self {
        Self {
            target: None,
            reason: Box::new(Reason::Malformed { problem }),
        }
    }

    /// What the client inside is answered with, where it can still be answered.
    pub fn status(&self) -> StatusCode {
        match *self.reason {
            Reason::Malformed { .. } => StatusCode::BAD_REQUEST,
            Reason::TooManyConnections { .. } | Reason::TooFast { .. } | Reason::BytesUsedUp { .. } => {
                StatusCode::TOO_MANY_REQUESTS
            }
            _ => StatusCode::FORBIDDEN,
        }
    }

    /// Of the status line: all that many clients show of a refused CONNECT. Printable ASCII, under 400 bytes.
    pub fn reason_phrase(&self) -> String {
        let what = match &*self.reason {
            Reason::NotAllowed { .. } => "no rule allows",
            Reason::Denied { .. } | Reason::AddressDenied { .. } => "a rule denies",
            Reason::LeftOut { .. } => "this session was narrowed and leaves out",
            Reason::AddressNotPublic { .. } | Reason::OwnAddress { .. } | Reason::AddressNeverAllowed { .. } => {
                "not a public address:"
            }
            Reason::NoServerName { .. } => "no TLS server name for",
            Reason::OtherServerName { .. } => "another TLS server name than",
            Reason::OtherHost { .. } => "another Host than",
            Reason::NeitherTlsNorHttp { .. } => "neither TLS nor HTTP to",
            Reason::MalformedTls { .. } => "malformed TLS to",
            Reason::TooManyConnections { .. } => "no connection left for",
            Reason::TooFast { .. } => "too many new connections for",
            Reason::BytesUsedUp { .. } => "no bytes left for",
            Reason::Malformed { .. } => "malformed request for",
        };
        match &self.target {
            Some(target) => format!("Refused by codex-mcp: {what} {target}"),
            None => "Refused by codex-mcp: malformed request".to_owned(),
        }
    }

    /// Which rule refused it and where that stands: one line.
    pub fn rule(&self) -> String {
        self.reason.rule()
    }

    /// What the operator would set to allow it: one line, addressed to the operator and never to a model.
    pub fn how_to_allow(&self) -> String {
        match (&*self.reason, &self.target) {
            (Reason::NotAllowed { list, .. }, Some(target)) => allow_target(target, list.as_ref()),
            (Reason::NotAllowed { .. }, None) | (Reason::Malformed { .. }, _) => {
                "no setting allows it: the client's request has to be mended".to_owned()
            }
            (Reason::Denied { rule } | Reason::AddressDenied { rule, .. }, _) => {
                format!(
                    "the operator can take `{}` out of network.deny ({})",
                    rule.value, rule.origin
                )
            }
            (Reason::LeftOut { .. }, _) => {
                "the operator's rules allow it already; the call that started this session asked for fewer hosts"
                    .to_owned()
            }
            (Reason::AddressNotPublic { address, .. } | Reason::OwnAddress { address }, _) => {
                format!("the operator can add \"{}\" to network.private", IpNet::from(*address))
            }
            (Reason::AddressNeverAllowed { kind, .. }, _) => format!("no setting allows it ({kind})"),
            (Reason::OtherHost { .. }, _) => {
                "no setting allows it: a request's Host is the host that the proxy was asked for".to_owned()
            }
            (
                Reason::NoServerName { rule }
                | Reason::OtherServerName { rule, .. }
                | Reason::NeitherTlsNorHttp { rule }
                | Reason::MalformedTls { rule },
                target,
            ) => allow_uninspected(rule, target.as_ref()),
            (Reason::TooManyConnections { .. }, _) => raise("connections"),
            (Reason::TooFast { .. }, _) => raise("connections_per_second"),
            (Reason::BytesUsedUp { bound, .. }, _) => match bound {
                ByteBound::Network => raise("bytes"),
                ByteBound::Session => format!("the operator can raise {}", bound.key()),
                ByteBound::Day { renews } => format!("it renews at {renews}; the operator can raise {}", bound.key()),
            },
        }
    }

    /// The body of the answer: plain text for whoever reads a failed command's output.
    pub fn body(&self) -> String {
        let (host, port) = match &self.target {
            Some(target) => (target.host.to_string(), target.port.to_string()),
            None => ("-".to_owned(), "-".to_owned()),
        };
        format!(
            "codex-mcp refused this connection: {}.\n\nhost: {host}\nport: {port}\nrule: {}\nto allow: {}\n",
            self.reason,
            self.rule(),
            self.how_to_allow()
        )
    }
}

fn allow_target(target: &Target, list: Option<&Origin>) -> String {
    let also = match &target.host {
        Host::Name(_) => String::new(),
        Host::Address(address) => match kind(*address) {
            AddressKind::Public => String::new(),
            AddressKind::NotPublic(_) => format!(", and \"{}\" to network.private", IpNet::from(*address)),
            never @ AddressKind::Never(_) => return format!("no setting allows it ({never})"),
        },
    };
    let add = add_to_list(&target.to_string(), list);
    match list {
        None if also.is_empty() => format!("{add}, or start codex-mcp with --network {target}"),
        _ => format!("{add}{also}"),
    }
}

/// `list` is where the rules stand that are in force: one written anywhere else would replace them or be overlooked.
fn add_to_list(rule: &str, list: Option<&Origin>) -> String {
    match list {
        None | Some(Origin::Client { .. }) => format!("the operator can add \"{rule}\" to network.allow"),
        Some(Origin::Flag { name }) => format!("the operator can add \"{rule}\" to what {name} names"),
        Some(Origin::Environment { name }) => format!("the operator can add \"{rule}\" to {name}"),
        Some(origin) => format!("the operator can add \"{rule}\" to network.allow ({origin})"),
    }
}

/// `rule` is the one that had the first bytes looked at.
fn allow_uninspected(rule: &Sourced<Rule>, target: Option<&Target>) -> String {
    let raw = match target {
        Some(target) => format!("{target}/tcp"),
        None => format!("{}/tcp", rule.value),
    };
    let remedy = match &rule.origin {
        Origin::Call { .. } => {
            return "the operator's rules allow it already; the call that started this session asked for TLS or HTTP there"
                .to_owned();
        }
        // Beside an inspecting rule for exactly this target, another would have no effect.
        origin if !matches!(origin, Origin::Client { .. }) && format!("{}/tcp", rule.value) == raw => {
            format!("the operator can write `{}` as \"{raw}\" ({origin})", rule.value)
        }
        origin => add_to_list(&raw, Some(origin)),
    };
    format!("{remedy}: then anything passes there unchecked")
}

fn raise(key: &str) -> String {
    format!("the operator can raise network.{key}")
}

impl Reason {
    fn rule(&self) -> String {
        match self {
            Self::NotAllowed { nearest, .. } => nearest.to_string(),
            Self::Denied { rule } | Self::AddressDenied { rule, .. } => {
                format!("network.deny has `{}` ({})", rule.value, rule.origin)
            }
            Self::LeftOut { allowed_by } => format!(
                "the call's own network.allow leaves it out, though `{}` ({}) allows it",
                allowed_by.value, allowed_by.origin
            ),
            Self::AddressNotPublic { .. } | Self::OwnAddress { .. } => {
                "an address that is not public, or this host's own, must be in network.private".to_owned()
            }
            Self::AddressNeverAllowed { .. } => "built in: such an address is never reached".to_owned(),
            Self::NoServerName { rule } | Self::OtherServerName { rule, .. } => format!(
                "`{}` ({}) allows TLS whose server name is that host",
                rule.value, rule.origin
            ),
            Self::OtherHost { rule, .. } => {
                format!("`{}` ({}) allows HTTP whose Host is that host", rule.value, rule.origin)
            }
            Self::NeitherTlsNorHttp { rule } | Self::MalformedTls { rule } => {
                format!("`{}` ({}) allows TLS and HTTP only", rule.value, rule.origin)
            }
            Self::TooManyConnections { limit } => format!("network.connections = {} ({})", limit.value, limit.origin),
            Self::TooFast { limit } => format!("network.connections_per_second = {} ({})", limit.value, limit.origin),
            Self::BytesUsedUp { bound, limit } => format!("{} = {} ({})", bound.key(), limit.value, limit.origin),
            Self::Malformed { .. } => "built in: a request must be one that can be read in one way only".to_owned(),
        }
    }
}

/// One clause, without a full stop.
impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotAllowed { .. } => f.write_str("no rule allows it"),
            Self::Denied { .. } => f.write_str("a rule denies it"),
            Self::LeftOut { .. } => f.write_str("the call that started this session left it out"),
            Self::AddressNotPublic { address, kind } => write!(f, "its address {address} is not public ({kind})"),
            Self::OwnAddress { address } => {
                write!(f, "its address {address} is one of the host that codex-mcp runs on")
            }
            Self::AddressNeverAllowed { address, kind } => write!(f, "its address {address} is never allowed ({kind})"),
            Self::AddressDenied { address, .. } => write!(f, "a rule denies its address {address}"),
            Self::NoServerName { .. } => f.write_str("the TLS ClientHello names no server"),
            Self::OtherServerName { named: Some(name), .. } => {
                write!(f, "the TLS ClientHello names another server, {name}")
            }
            Self::OtherServerName { named: None, .. } => {
                f.write_str("the TLS ClientHello names a server in a way that is no host name")
            }
            Self::OtherHost { named: Some(other), .. } => write!(f, "the request's Host is another, {other}"),
            Self::OtherHost { named: None, .. } => f.write_str("the request's Host is no host"),
            Self::NeitherTlsNorHttp { .. } => f.write_str("what was sent is neither TLS nor HTTP"),
            Self::MalformedTls { .. } => f.write_str("the TLS ClientHello is malformed, or older than TLS 1.2"),
            Self::TooManyConnections { .. } => f.write_str("the session has too many connections open"),
            Self::TooFast { .. } => f.write_str("the session opens connections too fast"),
            Self::BytesUsedUp {
                bound: ByteBound::Day { .. },
                ..
            } => f.write_str("all sessions together have moved as many bytes as they may today"),
            Self::BytesUsedUp { .. } => f.write_str("the session has moved as many bytes as it may"),
            Self::Malformed { problem } => problem.fmt(f),
        }
    }
}

impl fmt::Display for NearMiss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoRules => f.write_str("network.allow and network.from name nothing, so nothing is allowed"),
            Self::OtherPort(rule) => write!(
                f,
                "no rule has that port; the nearest, `{}` ({}), has another",
                rule.value, rule.origin
            ),
            Self::OnlyBelow(rule) => write!(
                f,
                "no rule covers that host; the nearest, `{}` ({}), covers only hosts below it",
                rule.value, rule.origin
            ),
            Self::NoneNear => f.write_str("no rule of network.allow or network.from covers that host"),
        }
    }
}

/// Equal refusals of one session, for results: `egressDenied`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DeniedEgress {
    /// Canonical; empty where the request named nothing that could be a host.
    pub host: String,
    /// 0 where none was named.
    pub port: u16,
    pub count: u64,
    pub rule: String,
    pub how_to_allow: String,
}

impl DeniedEgress {
    /// For people: `host:port`, or that there is none.
    pub fn destination(&self) -> String {
        match (self.host.as_str(), self.port) {
            ("", _) => "no host".to_owned(),
            // IPv6, where a colon would also be the port's.
            (host, port) if host.contains(':') => format!("[{host}]:{port}"),
            (host, port) => format!("{host}:{port}"),
        }
    }
}

impl From<&Denial> for DeniedEgress {
    /// Counts one.
    fn from(denial: &Denial) -> Self {
        let target = denial.target.as_ref();
        Self {
            host: target.map(|target| target.host.to_string()).unwrap_or_default(),
            port: target.map_or(0, |target| target.port.get()),
            count: 1,
            rule: denial.rule(),
            how_to_allow: denial.how_to_allow(),
        }
    }
}

#[cfg(test)]
mod tests;
