//! What this machine and its engine are.
//!
//! [`facts`] is pure data that every later decision is made from; [`probe`] is the one place that looks. It must
//! never change anything on the machine, and never decide policy: it says what is, not what is allowed.

pub mod facts;
pub mod probe;

pub use facts::HostFacts;
