//! The host↔guest contract and the multiplexed pipe that carries it.
//!
//! The container has no network: its stdin and stdout are one multiplexed pipe, and everything (the control
//! channel, Codex's JSONL, commands, model requests) is a stream of it. Whatever arrives from the guest is
//! untrusted: each frame is bounded before it is read and parsed strictly, and a frame that does not fit ends
//! that session only. This room must never interpret what the streams carry beyond the contract, never start a
//! process, and never log a payload.
//!
//! - [`contract`]: the messages, pure data with their version.
//! - [`frame`]: a length-prefixed JSON frame with a bound.
//! - [`mux`]: streams over the two halves of a pipe; both sides open them.
//! - [`link`]: the host's end: handshake, spawning inside, the guest's own streams.
//! - [`patient`]: gives up on a reader that has stopped reading.
//! - [`untrusted`]: text that came from the guest, safe to show.

pub mod contract;
pub mod frame;
pub mod link;
pub mod mux;
pub mod patient;
pub mod untrusted;
