//! What a client says first: a TLS ClientHello and its server name, HTTP, or something else. Pure.
//!
//! A tunnel was allowed for a name; the first bytes must be for that name too, or whoever answers at the address could be
//! asked for anything. The ClientHello is read by rustls, which stops at what it finds odd, as a server might not. What it
//! was seen to do (0.23, each with a test below):
//!
//! - Handshake fragments are put together whatever the record and packet boundaries; another record type in between is
//!   refused, and so are handshake bytes behind the ClientHello.
//! - An IP address as server name, which RFC 6066 forbids, is read as no server name. So it never passes for a name; for an
//!   address target it says nothing that the target did not.
//! - Two names in the extension, the extension twice, an empty one, and a name that is no host name are refused.
//! - A ClientHello without `signature_algorithms` is refused, which shuts out clients older than TLS 1.2.
//! - Its own bound is 64 KiB too.
//!
//! What is not seen: a server name that is encrypted (ECH). The outer name is the one that is compared, so a client that
//! knows the keys of an allowed name's front can reach what else that front serves, as with any shared front.

use crate::config::host::{DnsName, Host};
use crate::config::rule::Inspection;
use crate::config::target::Target;
use crate::egress::decision::{Denial, Reason};
use crate::egress::policy::Passage;
use rustls::server::Acceptor;
use std::fmt;

/// All of a ClientHello, its records' headers included. Real ones have 0.2 to 2 KiB.
pub const MAX_CLIENT_HELLO: usize = 64 << 10;

/// The longest registered HTTP method has 17 bytes.
const MAX_METHOD: usize = 32;

/// A fatal `access_denied` (RFC 8446 §6): what a TLS client is told before its connection is cut. TLS 1.2 clients read it
/// as well, because nothing is encrypted yet.
pub const TLS_ACCESS_DENIED: [u8; 7] = [21, 3, 3, 0, 2, 2, 49];

/// What the bytes so far amount to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FirstBytes {
    /// Nothing yet. To whoever waits no longer, this is neither TLS nor HTTP.
    NeedMore,
    Tls {
        server_name: ServerName,
    },
    /// A TLS record that holds no ClientHello which can be read in one way only.
    MalformedTls,
    /// A method and a space. Whether it is a request, and whose, is for the HTTP parser to say.
    Http,
    Other,
}

/// The server name of a ClientHello.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ServerName {
    Absent,
    Name(DnsName),
    /// One that rustls takes and that is no name to network rules.
    NotAName,
}

/// Decides from a growing prefix. Give it each byte once; who relays keeps the bytes, to send them on.
pub struct Inspector(State);

enum State {
    Nothing,
    Tls { acceptor: Box<Acceptor>, seen: usize },
    Method(Vec<u8>),
    Decided(FirstBytes),
}

impl Default for Inspector {
    fn default() -> Self {
        Self(State::Nothing)
    }
}

impl fmt::Debug for Inspector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Never what the client sent.
        f.write_str(match self.0 {
            State::Nothing => "Inspector(nothing yet)",
            State::Tls { .. } => "Inspector(TLS)",
            State::Method(_) => "Inspector(a method)",
            State::Decided(_) => "Inspector(decided)",
        })
    }
}

impl Inspector {
    /// The verdict with `more` added. Once it is another than [`FirstBytes::NeedMore`] it stays.
    pub fn add(&mut self, more: &[u8]) -> FirstBytes {
        if let (State::Nothing, Some(first)) = (&self.0, more.first()) {
            self.0 = match first {
                HANDSHAKE_RECORD => State::Tls {
                    acceptor: Box::default(),
                    seen: 0,
                },
                _ => State::Method(Vec::new()),
            };
        }
        let verdict = match &mut self.0 {
            State::Nothing => FirstBytes::NeedMore,
            State::Tls { acceptor, seen } => client_hello(acceptor, seen, more),
            State::Method(method) => http(method, more),
            State::Decided(verdict) => return verdict.clone(),
        };
        if verdict != FirstBytes::NeedMore {
            self.0 = State::Decided(verdict.clone());
        }
        verdict
    }
}

/// The content type of a TLS record that carries a ClientHello.
const HANDSHAKE_RECORD: &u8 = &22;

fn client_hello(acceptor: &mut Acceptor, seen: &mut usize, mut more: &[u8]) -> FirstBytes {
    // rustls takes some KiB at a time and has to parse before it takes more.
    while !more.is_empty() {
        match acceptor.read_tls(&mut more) {
            Ok(0) | Err(_) => return FirstBytes::MalformedTls,
            Ok(taken) => *seen += taken,
        }
        match acceptor.accept() {
            Ok(None) if *seen >= MAX_CLIENT_HELLO => return FirstBytes::MalformedTls,
            Ok(None) => {}
            Ok(Some(accepted)) => {
                let server_name = match accepted.client_hello().server_name().map(str::parse) {
                    None => ServerName::Absent,
                    Some(Ok(name)) => ServerName::Name(name),
                    Some(Err(_)) => ServerName::NotAName,
                };
                return FirstBytes::Tls { server_name };
            }
            Err(_) => return FirstBytes::MalformedTls,
        }
    }
    FirstBytes::NeedMore
}

fn http(method: &mut Vec<u8>, more: &[u8]) -> FirstBytes {
    for byte in more {
        match byte {
            // HTTP/2 without TLS begins like a request and is none that could be checked one by one.
            b' ' if method.as_slice() == b"PRI" || method.is_empty() => return FirstBytes::Other,
            b' ' => return FirstBytes::Http,
            byte if is_token(*byte) && method.len() < MAX_METHOD => method.push(*byte),
            _ => return FirstBytes::Other,
        }
    }
    FirstBytes::NeedMore
}

/// RFC 9110 §5.6.2.
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// Compares what was said first with what was allowed. HTTP passes here: each of its requests has a `Host` of its own,
/// which whoever parses them compares. The server name of a name target must be that name; an address target has none,
/// because a name there was never decided about.
pub fn check(target: &Target, passage: &Passage, first: &FirstBytes) -> Result<(), Denial> {
    if passage.inspection == Inspection::Raw {
        return Ok(());
    }
    let rule = passage.rule.clone();
    let reason = match (first, &target.host) {
        (FirstBytes::Http, _) => return Ok(()),
        (FirstBytes::Tls { server_name }, host) => match (server_name, host) {
            (ServerName::Name(name), Host::Name(host)) if name == host => return Ok(()),
            (ServerName::Absent, Host::Address(_)) => return Ok(()),
            (ServerName::Absent, Host::Name(_)) => Reason::NoServerName { rule },
            (ServerName::Name(name), _) => Reason::OtherServerName {
                rule,
                named: Some(name.clone()),
            },
            (ServerName::NotAName, _) => Reason::OtherServerName { rule, named: None },
        },
        (FirstBytes::MalformedTls, _) => Reason::MalformedTls { rule },
        (FirstBytes::NeedMore | FirstBytes::Other, _) => Reason::NeitherTlsNorHttp { rule },
    };
    Err(Denial::of(target, reason))
}

#[cfg(test)]
mod tests;
