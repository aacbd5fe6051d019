//! What may leave a container, and the relay that lets it.
//!
//! The container has no network. Its commands speak to a loopback port where the guest hands every connection to the
//! host as it is; all of HTTP is parsed here and none of it inside. The order is fixed: canonicalise → decide by name and
//! port, before any DNS → resolve once → check every address → dial exactly one of those → look at the first bytes (the TLS
//! server name or the HTTP `Host` must be the name that was allowed). This room must never dial what the policy was not
//! asked about, never resolve a name that no rule covers, and never log or keep a payload.
//!
//! - [`address`]: which addresses are public (pure).
//! - [`policy`]: the rules of one session, and what they say about a target (pure).
//! - [`decision`]: what was decided: verdict, rule, where it came from, how to allow (pure).
//! - [`first_bytes`]: TLS server name, HTTP or something else (pure).
//! - [`bucket`]: rates (pure).
//! - [`allowance`]: how many bytes a session, and all of them in a day, may move.
//! - [`ledger`]: what one session used and was refused.
//! - [`metered`]: a connection whose bytes are counted, slowed and timed.
//! - [`client`]: the guest's connection, and whether anybody is left at its other end.
//! - [`witness`]: who is told of each decision before it has an effect.
//! - [`relay`]: the order of all this for one session.
//! - [`requests`]: the guest's connection as a stream of requests; [`head`] (pure) and [`head_screen`] look at each before
//!   hyper does, [`request_target`] (pure) says what it asks for.
//! - [`tunnel`]: CONNECT. [`forward`]: plain HTTP, with what [`hop_by_hop`] (pure) lets pass.
//! - [`refusal`]: what a client is told (pure).

pub mod address;
pub mod allowance;
pub mod bucket;
pub mod client;
pub mod decision;
pub mod first_bytes;
pub mod forward;
pub mod head;
pub mod head_screen;
pub mod hop_by_hop;
pub mod ledger;
pub mod metered;
pub mod policy;
pub mod refusal;
pub mod relay;
pub mod request_target;
pub mod requests;
pub mod tunnel;
pub mod witness;

pub use decision::{Denial, DeniedEgress};
pub use policy::Policy;
pub use relay::{Egress, SessionEgress};
pub use witness::{Unwitnessed, Witness};

#[cfg(test)]
mod fixtures;
