//! One stream's state: what is on its way in each direction, how each ended, and who has let go.
//!
//! Pure but for the wakers that it keeps. What it holds is bounded whatever the other side sends: [`WINDOW`] bytes that
//! arrived and [`MAX_UNSENT`] to be sent. How many packets they came in costs nothing.

use crate::wire::mux::packet::{HEADER, MAX_DATA, MAX_PACKET, Packet, StreamId};
use crate::wire::mux::table::Violation;
use std::collections::VecDeque;
use std::io;
use std::task::{Context, Poll, Waker};
use tokio::io::ReadBuf;
use tokio::sync::OwnedSemaphorePermit;
use tokio_util::sync::CancellationToken;

/// Bytes of one stream that may have arrived and not been read.
pub const WINDOW: usize = 256 << 10;
/// Which part of the window must have been read before the other side is told. Quarters keep a fast sender from waiting.
const PARTS: usize = 4;
/// Bytes of one stream that were written and wait for the pipe, or for the other side's credit: two packets, so that one is
/// filled while the other is on its way.
const MAX_UNSENT: usize = 2 * MAX_DATA;

/// Dropped when both sides have let go of the stream: what its opener waits for to open another.
pub type Place = Option<OwnedSemaphorePermit>;

#[derive(Debug)]
pub struct Stream {
    /// The other side knows of it, or will with what is written next.
    announced: bool,
    /// [`WINDOW`], but in tests.
    window: usize,
    outgoing: Outgoing,
    incoming: Incoming,
    ours: Ours,
    /// The other side has let go.
    closed: bool,
    ended: CancellationToken,
    reset: CancellationToken,
    _place: Place,
}

#[derive(Debug)]
struct Outgoing {
    unsent: VecDeque<u8>,
    credit: usize,
    state: Sending,
    writer: Option<Waker>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sending {
    Open,
    /// Ends behind what is unsent.
    Ending,
    Ended,
    /// This side has let go before its end: what the other side has room for is still sent, and the reset behind it. It must
    /// not wait for room, else whoever reads nothing would never learn of a cut.
    Leaving,
    /// Nothing more is sent: this side reset it, or the other side hears nothing any more.
    Over,
}

#[derive(Debug)]
struct Incoming {
    unread: VecDeque<u8>,
    /// What the other side may still send.
    window: usize,
    /// Read, and not yet told.
    read: usize,
    state: Receiving,
    reader: Option<Waker>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Receiving {
    Open,
    Ended,
    Lost,
}

/// This side's hold on the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ours {
    Held,
    /// Let go of, and the other side is still to be told with this.
    Leaving(Packet),
    Told,
}

impl Stream {
    /// One that this side opens.
    pub fn opened(window: usize, place: Place) -> Self {
        Self::new(false, window, place)
    }

    /// One that the other side announced.
    pub fn accepted(window: usize) -> Self {
        Self::new(true, window, None)
    }

    fn new(announced: bool, window: usize, place: Place) -> Self {
        Self {
            announced,
            window,
            outgoing: Outgoing {
                unsent: VecDeque::new(),
                credit: window,
                state: Sending::Open,
                writer: None,
            },
            incoming: Incoming {
                unread: VecDeque::new(),
                window,
                read: 0,
                state: Receiving::Open,
                reader: None,
            },
            ours: Ours::Held,
            closed: false,
            ended: CancellationToken::new(),
            reset: CancellationToken::new(),
            _place: place,
        }
    }

    /// Cancelled once the other side has sent its end, or nothing more can come from it.
    pub fn end_token(&self) -> CancellationToken {
        self.ended.clone()
    }

    /// Cancelled once the other side reset it, or the pipe is lost.
    pub fn reset_token(&self) -> CancellationToken {
        self.reset.clone()
    }

    /// Neither side says anything of it any more: its place is free.
    pub fn is_over(&self) -> bool {
        self.closed && self.ours == Ours::Told
    }

    /// What arrived; then nothing for an end, and an error where it was reset.
    pub fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let Incoming {
            unread,
            read,
            state,
            reader,
            ..
        } = &mut self.incoming;
        if buf.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        if unread.is_empty() {
            return match state {
                Receiving::Ended => Poll::Ready(Ok(())),
                Receiving::Lost => Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
                Receiving::Open => {
                    *reader = Some(cx.waker().clone());
                    Poll::Pending
                }
            };
        }
        let (front, back) = unread.as_slices();
        let first = front.len().min(buf.remaining());
        buf.put_slice(&front[..first]);
        let second = back.len().min(buf.remaining());
        buf.put_slice(&back[..second]);
        unread.drain(..first + second);
        *read += first + second;
        Poll::Ready(Ok(()))
    }

    pub fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let Outgoing {
            unsent, state, writer, ..
        } = &mut self.outgoing;
        if *state != Sending::Open {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let taken = bytes.len().min(MAX_UNSENT - unsent.len());
        if taken == 0 && !bytes.is_empty() {
            *writer = Some(cx.waker().clone());
            return Poll::Pending;
        }
        append(unsent, &bytes[..taken], MAX_UNSENT);
        Poll::Ready(Ok(taken))
    }

    /// The end of what is sent, behind all that was written. Ready when the driver has it.
    pub fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.outgoing.state {
            Sending::Open | Sending::Ending => {
                self.outgoing.state = Sending::Ending;
                self.outgoing.writer = Some(cx.waker().clone());
                Poll::Pending
            }
            Sending::Ended => Poll::Ready(Ok(())),
            Sending::Leaving | Sending::Over => Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
        }
    }

    /// This side wants nothing more of it. Unless both sides' ends are out and all was read, the other side finds it reset.
    pub fn let_go(&mut self) {
        let heard_all = self.incoming.state == Receiving::Ended && self.incoming.unread.is_empty();
        self.ours = Ours::Leaving(match (heard_all, self.outgoing.state) {
            (true, Sending::Ended) => Packet::Close,
            _ => Packet::Reset,
        });
        self.incoming.unread = VecDeque::new();
        if matches!(self.outgoing.state, Sending::Open | Sending::Ending) {
            self.outgoing.state = Sending::Leaving;
        }
    }

    /// The other side is gone: with the pipe, or by its reset.
    pub fn lose(&mut self) {
        self.closed = true;
        if self.incoming.state == Receiving::Open {
            self.incoming.state = Receiving::Lost;
        }
        wake(&mut self.incoming.reader);
        self.outgoing.stop();
        self.ended.cancel();
        self.reset.cancel();
    }

    /// Takes one of the other side's packets. Of [`Packet::Data`] this is the announcement; the bytes come to [`Self::arrive`].
    pub fn receive(&mut self, packet: Packet) -> Result<(), Violation> {
        if self.closed {
            return Err(Violation::AfterClose);
        }
        let ended = self.incoming.state != Receiving::Open;
        match packet {
            Packet::Open => return Err(Violation::Taken),
            Packet::Data(_) | Packet::End if ended => return Err(Violation::AfterEnd),
            Packet::Data(length) => {
                let window = self.incoming.window.checked_sub(length);
                self.incoming.window = window.ok_or(Violation::PastWindow)?;
            }
            Packet::Credit(more) => {
                let credit = self.outgoing.credit.saturating_add(more);
                if credit > self.window {
                    return Err(Violation::TooMuchCredit);
                }
                self.outgoing.credit = credit;
            }
            Packet::End => {
                self.incoming.state = Receiving::Ended;
                self.ended.cancel();
                wake(&mut self.incoming.reader);
            }
            // It closes behind both ends, or says that it resets.
            Packet::Close if !ended || self.outgoing.state != Sending::Ended => return Err(Violation::CloseBeforeEnd),
            Packet::Close => self.closed = true,
            Packet::Reset => self.lose(),
            // The table's.
            Packet::Received(_) => {}
        }
        Ok(())
    }

    /// Bytes that it has room for just now, used or not.
    #[cfg(test)]
    pub fn holds(&self) -> usize {
        self.incoming.unread.capacity() + self.outgoing.unsent.capacity()
    }

    pub fn arrive(&mut self, bytes: &[u8]) {
        if self.ours == Ours::Held {
            append(&mut self.incoming.unread, bytes, self.window);
            wake(&mut self.incoming.reader);
        }
    }

    /// Whether there is something to tell the other side of what was read.
    pub fn owes_credit(&self) -> bool {
        self.incoming.read >= self.window / PARTS && self.incoming.state == Receiving::Open && self.ours == Ours::Held
    }

    /// Writes what there is to say, as far as `out` has room, and at most so much data. How much data it was.
    pub fn fill(&mut self, id: StreamId, out: &mut Vec<u8>, most: usize) -> usize {
        if !self.announced && !self.announce(id, out) {
            return 0;
        }
        if self.owes_credit() && put(out, id, Packet::Credit(self.incoming.read)) {
            self.incoming.window += self.incoming.read;
            self.incoming.read = 0;
        }
        let sent = self.outgoing.fill(id, out, most);
        let Outgoing {
            unsent,
            credit,
            state,
            writer,
        } = &mut self.outgoing;
        if *state == Sending::Ending && unsent.is_empty() && put(out, id, Packet::End) {
            *state = Sending::Ended;
            wake(writer);
        }
        if *state == Sending::Leaving && (unsent.is_empty() || *credit == 0) {
            *state = Sending::Over;
            // Credit may still come for it, and behind the reset nothing may follow.
            *unsent = VecDeque::new();
        }
        if let Ours::Leaving(packet) = self.ours
            && matches!(state, Sending::Ended | Sending::Over)
            && put(out, id, packet)
        {
            self.ours = Ours::Told;
        }
        sent
    }

    /// Together with what comes first, so that one may be held ready for a connection that is still to come, and nobody
    /// waits at the other end for what it is.
    fn announce(&mut self, id: StreamId, out: &mut Vec<u8>) -> bool {
        match (self.outgoing.state, self.ours) {
            (Sending::Leaving | Sending::Over, Ours::Leaving(_)) if self.outgoing.unsent.is_empty() => {
                // Nobody heard of it, and nobody has to.
                self.ours = Ours::Told;
                self.closed = true;
            }
            (Sending::Open, _) if self.outgoing.unsent.is_empty() => {}
            _ => self.announced = put(out, id, Packet::Open),
        }
        self.announced
    }
}

impl Outgoing {
    /// The other side hears nothing any more.
    fn stop(&mut self) {
        if self.state != Sending::Ended {
            self.state = Sending::Over;
            self.unsent = VecDeque::new();
        }
        wake(&mut self.writer);
    }

    fn fill(&mut self, id: StreamId, out: &mut Vec<u8>, most: usize) -> usize {
        let room = MAX_PACKET.saturating_sub(out.len() + HEADER);
        let length = self.unsent.len().min(self.credit).min(room).min(most);
        if length == 0 {
            return 0;
        }
        out.extend(Packet::Data(length).encode(id));
        let (front, back) = self.unsent.as_slices();
        let first = front.len().min(length);
        out.extend_from_slice(&front[..first]);
        out.extend_from_slice(&back[..length - first]);
        self.unsent.drain(..length);
        self.credit -= length;
        wake(&mut self.writer);
        length
    }
}

/// Appends what fits in any case, and never has room for more than `most`: a queue that grows by itself would come to twice
/// that.
fn append(queue: &mut VecDeque<u8>, bytes: &[u8], most: usize) {
    let needed = queue.len() + bytes.len();
    if needed > queue.capacity() {
        let room = needed.max(2 * queue.capacity()).min(most);
        queue.reserve_exact(room - queue.len());
    }
    queue.extend(bytes);
}

/// Whether it still fitted.
fn put(out: &mut Vec<u8>, id: StreamId, packet: Packet) -> bool {
    let fits = out.len() + HEADER <= MAX_PACKET;
    if fits {
        out.extend(packet.encode(id));
    }
    fits
}

fn wake(waker: &mut Option<Waker>) {
    if let Some(waker) = waker.take() {
        waker.wake();
    }
}
