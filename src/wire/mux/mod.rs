//! The multiplexer: streams over the two halves of a pipe.
//!
//! [`host`] and [`guest`] give an [`Opener`] (streams of ours), an [`Incoming`] (the other side's) and a [`Driver`]: the future
//! that moves every byte. Nothing happens unless the driver is polled, and when it ends, every stream ends with it.
//!
//! It is our own because the other side may be hostile, and what it can cost has to be exact. There are as many places for
//! streams as [`OPENED_BY_HOST`] and [`OPENED_BY_GUEST`] say, each with a window of its own, so that this side never holds
//! more than about 18 MiB; a stream's place is free when both sides have let go of it, and not before; a reset is told from
//! an end, whatever was closed before. A side that breaks these rules ends the whole pipe as [`MuxEnd::Violation`].
//! (yamux bounds a stream's bytes and not their pieces: bytes sent one by one cost a hundred times their number. Nor does it
//! say that a half-closed stream was reset, or when the other side forgot one.)
//!
//! - [`packet`]: what is written, pure.
//! - [`flow`]: one stream's state, pure.
//! - [`table`]: all of them, pure: bytes that arrived go in, bytes to write come out.
//! - [`handle`]: what callers hold.
//! - [`driver`]: the only one that touches the pipe.

mod driver;
mod flow;
mod handle;
pub mod packet;
pub mod table;

pub use driver::Driver;
pub use handle::{Ended, Incoming, MuxStream, Opener};

use handle::{Lease, Shared};
use nix::fcntl::{FcntlArg, fcntl};
use packet::STREAMS;
use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use table::Violation;
use tokio::sync::mpsc;

/// Streams that the host has open at once: the control stream, Codex, commands.
pub const OPENED_BY_HOST: usize = 16;
/// Of the guest's streams, those for connections to the loopback model endpoint.
pub const FOR_MODEL: usize = 8;
/// And those for connections to the loopback proxy.
pub const FOR_PROXY: usize = 32;
/// Streams that the guest has open at once.
pub const OPENED_BY_GUEST: usize = FOR_MODEL + FOR_PROXY;
/// In bytes: see [`widen`].
const PIPE_SIZE: i32 = 256 << 10;

/// Which end of the pipe this is; each side opens streams in its own places.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    Host,
    Guest,
}

/// Why the multiplexer ended.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MuxEnd {
    #[error("the pipe closed")]
    Closed,
    #[error("this side let go of every stream")]
    LetGo,
    #[error("the other side broke the rules of the multiplexed pipe: {0}")]
    Violation(Violation),
    #[error("the pipe failed: {0}")]
    Failed(io::ErrorKind),
}

/// The right to open the guest's streams: each port has places of its own, so that a flood of one leaves the other its share.
#[derive(Debug)]
pub struct GuestOpeners {
    pub model: Opener,
    pub proxy: Opener,
}

/// Multiplexes streams over the host's end of a pipe. The caller polls the driver to its end; dropping it closes the pipe.
pub fn host<R, W>(reader: R, writer: W) -> (Opener, Incoming, Driver<R, W>) {
    let (lease, incoming, driver) = start(Role::Host, reader, writer);
    (Opener::new(lease, OPENED_BY_HOST), incoming, driver)
}

/// The same over the guest's end.
pub fn guest<R, W>(reader: R, writer: W) -> (GuestOpeners, Incoming, Driver<R, W>) {
    let (lease, incoming, driver) = start(Role::Guest, reader, writer);
    let openers = GuestOpeners {
        model: Opener::new(Arc::clone(&lease), FOR_MODEL),
        proxy: Opener::new(lease, FOR_PROXY),
    };
    (openers, incoming, driver)
}

fn start<R, W>(role: Role, reader: R, writer: W) -> (Arc<Lease>, Incoming, Driver<R, W>) {
    let lease = Arc::new(Lease::new(Arc::new(Shared::new(role))));
    let (arrivals, streams) = mpsc::channel(STREAMS);
    let driver = Driver::new(reader, writer, &lease, arrivals);
    (Arc::clone(&lease), Incoming::new(streams, lease), driver)
}

/// Gives the pipe that this end belongs to room for eight packets of bulk on its way to the host: conmon(8) moves 8 KiB at a
/// time, and with the kernel's 64 KiB every reader and writer on that way waits for the next one after each few of them.
/// The other way stays short, since what it holds is what a message to Codex waits behind.
///
/// What one user's pipes may hold in all is bounded (pipe(7)). Past that this one stays as it is, which is no error.
pub fn widen(pipe: impl AsFd) {
    let _ = fcntl(pipe, FcntlArg::F_SETPIPE_SZ(PIPE_SIZE));
}

#[cfg(test)]
mod tests;
