//! All streams of one end of the pipe: bytes that arrived go in, bytes to write come out.
//!
//! Pure but for the wakers, and the same on both ends. The other end may be hostile: each of its packets fits the state of
//! its stream, or is a [`Violation`].
//!
//! A place is free on both ends when each has said that it let go and heard the same. Since all of it goes through the one
//! pipe in order, nothing of the old stream can still be on its way then, and the place is taken again at once.

use crate::wire::mux::flow::{Place, Stream, WINDOW};
use crate::wire::mux::packet::{HEADER, MAX_PACKET, Packet, PacketError, STREAMS, StreamId};
use crate::wire::mux::{OPENED_BY_GUEST, OPENED_BY_HOST, Role};
use std::collections::VecDeque;
use std::io;
use std::task::Waker;

/// Bytes of the guest's streams that may be on their way in the pipe; past that, they wait here. The pipe is a chain (kernel,
/// the engine's client, its monitor), and holds about 300 KiB towards the guest. Filled, it makes whoever writes wait for each
/// page that is read at the far end, and a line to Codex wait behind all of it: at the 99th percentile 12 ms, and 1 to 5 ms
/// with this much. Less would cost throughput. The other way is wider (`widen`) and its far end reads at once: there it is a bound
/// for many streams only, since with 192 KiB a single upload was slower by a quarter.
fn in_flight(sender: Role) -> usize {
    match sender {
        Role::Host => 128 << 10,
        Role::Guest => 512 << 10,
    }
}

/// How much must have come out before the other side is told, in bytes.
const TELL: usize = 32 << 10;

/// What the other side must not send.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    #[error(transparent)]
    Packet(#[from] PacketError),
    #[error("it opened a stream in a place that is not its own")]
    NotItsPlace,
    #[error("it opened a stream in a place that is taken")]
    Taken,
    #[error("a packet for a stream that is not open")]
    NoSuchStream,
    #[error("data or an end after the end of a stream")]
    AfterEnd,
    #[error("a packet for a stream that it had closed")]
    AfterClose,
    #[error("it closed a stream before both sides had ended it")]
    CloseBeforeEnd,
    #[error("more data than a stream's window has room for")]
    PastWindow,
    #[error("more credit than a window has")]
    TooMuchCredit,
    #[error("it received more than was sent")]
    NeverSent,
}

/// See the module.
#[derive(Debug)]
pub struct Table {
    role: Role,
    /// Of each stream, in bytes.
    window: usize,
    streams: [Option<Stream>; STREAMS],
    /// The packet that is arriving: its header as far as it is there.
    header: [u8; HEADER],
    have: usize,
    /// Whose data is arriving, and how much of it is to come.
    data: Option<(StreamId, usize)>,
    arrived: VecDeque<StreamId>,
    /// Of the guest's streams: what was sent and is not known to be out of the pipe, and what came and is not yet told.
    in_flight: usize,
    received: usize,
    /// The guest's stream whose turn it is, counted among the guest's.
    turn: usize,
    /// Woken when there is something to write, or nobody left to write for.
    driver: Option<Waker>,
    /// Nobody holds anything of this end any more.
    let_go: bool,
    /// The pipe is lost.
    over: bool,
}

impl Table {
    pub fn new(role: Role) -> Self {
        Self::with_window(role, WINDOW)
    }

    fn with_window(role: Role, window: usize) -> Self {
        Self {
            role,
            window,
            streams: std::array::from_fn(|_| None),
            header: [0; HEADER],
            have: 0,
            data: None,
            arrived: VecDeque::new(),
            in_flight: 0,
            received: 0,
            turn: 0,
            driver: None,
            let_go: false,
            over: false,
        }
    }

    /// A new stream of this side's; `None` where the pipe is lost, or all of this side's places are taken.
    pub fn open(&mut self, place: Place) -> Option<StreamId> {
        let mut places = StreamId::ALL.into_iter();
        let free = places.find(|id| id.opener() == self.role && self.streams[id.place()].is_none());
        let id = free.filter(|_| !self.over)?;
        self.streams[id.place()] = Some(Stream::opened(self.window, place));
        self.wake_driver();
        Some(id)
    }

    /// An error where there is no such stream, which whoever holds it never sees.
    pub fn stream(&mut self, id: StreamId) -> io::Result<&mut Stream> {
        self.streams[id.place()]
            .as_mut()
            .ok_or_else(|| io::ErrorKind::NotConnected.into())
    }

    /// Whoever held the stream does so no more.
    pub fn let_go_of(&mut self, id: StreamId) {
        if self.over {
            self.streams[id.place()] = None;
        } else if let Some(stream) = &mut self.streams[id.place()] {
            stream.let_go();
            self.wake_driver();
        }
    }

    /// Nobody can ask for anything more.
    pub fn let_go(&mut self) {
        self.let_go = true;
        self.wake_driver();
    }

    pub fn is_let_go(&self) -> bool {
        self.let_go
    }

    /// The pipe is lost. What arrived can still be read.
    pub fn end(&mut self) {
        self.over = true;
        self.streams.iter_mut().flatten().for_each(Stream::lose);
    }

    pub fn set_driver(&mut self, waker: &Waker) {
        match &mut self.driver {
            Some(known) => known.clone_from(waker),
            unknown => *unknown = Some(waker.clone()),
        }
    }

    pub fn wake_driver(&mut self) {
        if let Some(driver) = self.driver.take() {
            driver.wake();
        }
    }

    /// The next stream that the other side opened.
    pub fn next_arrived(&mut self) -> Option<StreamId> {
        self.arrived.pop_front()
    }

    /// Takes what arrived, cut anywhere.
    pub fn receive(&mut self, mut bytes: &[u8]) -> Result<(), Violation> {
        while !bytes.is_empty() {
            if let Some((id, left)) = self.data {
                let (now, rest) = bytes.split_at(left.min(bytes.len()));
                bytes = rest;
                self.data = (left > now.len()).then_some((id, left - now.len()));
                self.streams[id.place()]
                    .as_mut()
                    .ok_or(Violation::NoSuchStream)?
                    .arrive(now);
                continue;
            }
            let (now, rest) = bytes.split_at((HEADER - self.have).min(bytes.len()));
            bytes = rest;
            self.header[self.have..self.have + now.len()].copy_from_slice(now);
            self.have += now.len();
            if self.have == HEADER {
                self.have = 0;
                let (id, packet) = Packet::decode(self.header)?;
                self.take(id, packet)?;
            }
        }
        Ok(())
    }

    fn take(&mut self, id: StreamId, packet: Packet) -> Result<(), Violation> {
        if let Packet::Received(bytes) = packet {
            self.in_flight = self.in_flight.checked_sub(bytes).ok_or(Violation::NeverSent)?;
            return Ok(());
        }
        let place = &mut self.streams[id.place()];
        match (place.as_mut(), packet) {
            (None, Packet::Open) if id.opener() == self.role => return Err(Violation::NotItsPlace),
            (None, Packet::Open) => {
                *place = Some(Stream::accepted(self.window));
                self.arrived.push_back(id);
            }
            (None, _) => return Err(Violation::NoSuchStream),
            (Some(stream), packet) => {
                stream.receive(packet)?;
                if let Packet::Data(length) = packet {
                    self.data = Some((id, length));
                    if id.opener() == Role::Guest {
                        self.received += length;
                    }
                }
                if stream.is_over() {
                    *place = None;
                }
            }
        }
        Ok(())
    }

    /// Writes what there is to say to `out`, up to [`MAX_PACKET`] in all. Empty when there is nothing.
    ///
    /// The host's streams come first: Codex and control messages wait for one packet of a bulk transfer at most. Those of
    /// the guest take turns.
    pub fn fill(&mut self, out: &mut Vec<u8>) {
        out.clear();
        if self.received >= TELL {
            out.extend(Packet::Received(self.received).encode(StreamId::ALL[0]));
            self.received = 0;
        }
        let (hosts, guests) = StreamId::ALL.split_at(OPENED_BY_HOST);
        let (later, sooner) = guests.split_at(self.turn);
        for &id in hosts.iter().chain(sooner).chain(later) {
            let place = &mut self.streams[id.place()];
            let Some(stream) = place else { continue };
            match id.opener() {
                Role::Host => {
                    stream.fill(id, out, usize::MAX);
                }
                Role::Guest => {
                    let sent = stream.fill(id, out, in_flight(self.role).saturating_sub(self.in_flight));
                    self.in_flight += sent;
                    if sent > 0 {
                        self.turn = (id.place() + 1 - OPENED_BY_HOST) % OPENED_BY_GUEST;
                    }
                }
            }
            if stream.is_over() {
                *place = None;
            }
            if out.len() + HEADER > MAX_PACKET {
                return;
            }
        }
    }

    #[cfg(test)]
    pub fn live(&self) -> usize {
        self.streams.iter().flatten().count()
    }
}

#[cfg(test)]
mod tests;
