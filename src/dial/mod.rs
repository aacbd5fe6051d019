//! Connections that this host makes: names, the operator's own proxy, certificate authorities.
//!
//! The one way out for the credential broker and for the egress relay. It decides nothing: whoever calls has decided what
//! to reach. It must never resolve a name twice for one connection, and never fall back from the proxy to a direct one.
//!
//! - [`names`]: names → addresses.
//! - [`dialer`]: addresses → a connection, through the operator's proxy where one is set.
//! - [`connector`]: the same for HTTP clients, for what the operator named.
//! - [`trust`]: which certificate authorities are believed, and the bundle that is offered inside.
//! - [`own_addresses`]: the addresses of this host's interfaces.
//! - [`proxy`]: the operator's own proxy; `handshake`: what it is asked and answers.
//! - `tcp`: one connection out of several addresses.

pub mod connector;
pub mod dialer;
#[cfg(test)]
pub mod fixtures;
mod handshake;
pub mod names;
pub mod own_addresses;
pub mod proxy;
mod tcp;
pub mod trust;

pub use dialer::{DialError, Dialer};
pub use names::{LookupError, Names};
