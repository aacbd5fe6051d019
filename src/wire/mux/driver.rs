//! Moves the bytes between the table of the streams and the pipe.

use crate::wire::mux::MuxEnd;
use crate::wire::mux::handle::{Lease, MuxStream, Shared};
use crate::wire::mux::packet::MAX_PACKET;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::mpsc;

/// How much is read at once, in bytes: what a pipe holds by default.
const READ: usize = 64 << 10;

/// Ends when the pipe does, or when nobody holds a stream, the [`Opener`](super::Opener) or the
/// [`Incoming`](super::Incoming) any more.
pub struct Driver<R, W> {
    reader: R,
    writer: W,
    shared: Arc<Shared>,
    /// What each stream that arrives gets a share in; gone once everybody has let go.
    lease: Weak<Lease>,
    arrivals: mpsc::Sender<MuxStream>,
    input: Box<[u8]>,
    output: Vec<u8>,
    /// How much of `output` was written.
    written: usize,
}

impl<R, W> Driver<R, W> {
    pub(super) fn new(reader: R, writer: W, lease: &Arc<Lease>, arrivals: mpsc::Sender<MuxStream>) -> Self {
        Self {
            reader,
            writer,
            shared: Arc::clone(lease.shared()),
            lease: Arc::downgrade(lease),
            arrivals,
            input: vec![0; READ].into(),
            output: Vec::with_capacity(MAX_PACKET),
            written: 0,
        }
    }

    /// Hands over what the other side opened.
    fn hand_over(&self) {
        loop {
            let Some(id) = self.shared.table().next_arrived() else {
                return;
            };
            match self.lease.upgrade() {
                // As many fit as there are places. Without a taker the stream is dropped, which resets it.
                Some(lease) => drop(self.arrivals.try_send(MuxStream::new(id, lease))),
                None => self.shared.table().let_go_of(id),
            }
        }
    }
}

impl<R: AsyncRead + Unpin, W> Driver<R, W> {
    /// Ready with what was read, or with the reason to end.
    fn poll_input(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), MuxEnd>> {
        let mut input = ReadBuf::new(&mut self.input);
        let read = std::task::ready!(Pin::new(&mut self.reader).poll_read(cx, &mut input));
        if let Err(error) = read {
            return Poll::Ready(Err(end_of(&error)));
        }
        if input.filled().is_empty() {
            return Poll::Ready(Err(MuxEnd::Closed));
        }
        let received = self.shared.table().receive(input.filled());
        if let Err(violation) = received {
            return Poll::Ready(Err(MuxEnd::Violation(violation)));
        }
        self.hand_over();
        Poll::Ready(Ok(()))
    }
}

impl<R, W: AsyncWrite + Unpin> Driver<R, W> {
    /// Ready when something was written; pending when there is nothing to write, or no room.
    fn poll_output(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), MuxEnd>> {
        if self.written == self.output.len() {
            self.written = 0;
            self.shared.table().fill(&mut self.output);
        }
        let Some(rest) = self.output.get(self.written..).filter(|rest| !rest.is_empty()) else {
            return match Pin::new(&mut self.writer).poll_flush(cx) {
                Poll::Ready(Err(error)) => Poll::Ready(Err(end_of(&error))),
                Poll::Ready(Ok(())) | Poll::Pending => Poll::Pending,
            };
        };
        Poll::Ready(
            match std::task::ready!(Pin::new(&mut self.writer).poll_write(cx, rest)) {
                Ok(0) => Err(MuxEnd::Closed),
                Ok(written) => {
                    self.written += written;
                    Ok(())
                }
                Err(error) => Err(end_of(&error)),
            },
        )
    }

    /// Everybody has let go: what is left to say goes out, and the pipe is closed.
    fn poll_leave(&mut self, cx: &mut Context<'_>) -> Poll<MuxEnd> {
        loop {
            match self.poll_output(cx) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(end)) => return Poll::Ready(end),
                Poll::Pending if self.written < self.output.len() => return Poll::Pending,
                // What waits for the other side's credit has nobody any more who cares.
                Poll::Pending => break,
            }
        }
        Pin::new(&mut self.writer).poll_shutdown(cx).map(|_| MuxEnd::LetGo)
    }
}

impl<R, W> Future for Driver<R, W>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    type Output = MuxEnd;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<MuxEnd> {
        let this = self.get_mut();
        loop {
            {
                // Before anything is looked at, so that whatever changes meanwhile wakes this again.
                let mut table = this.shared.table();
                table.set_driver(cx.waker());
                if table.is_let_go() {
                    drop(table);
                    return this.poll_leave(cx);
                }
            }
            // Both each time: neither direction may wait for the other.
            let input = this.poll_input(cx);
            let output = this.poll_output(cx);
            match (input, output) {
                (Poll::Ready(Err(end)), _) | (_, Poll::Ready(Err(end))) => return Poll::Ready(end),
                (Poll::Pending, Poll::Pending) => return Poll::Pending,
                _ => {}
            }
        }
    }
}

impl<R, W> Drop for Driver<R, W> {
    fn drop(&mut self) {
        self.shared.end();
    }
}

fn end_of(error: &io::Error) -> MuxEnd {
    match error.kind() {
        // How the death of the other end looks, depending on what this end was doing just then.
        io::ErrorKind::UnexpectedEof | io::ErrorKind::BrokenPipe | io::ErrorKind::WriteZero => MuxEnd::Closed,
        kind => MuxEnd::Failed(kind),
    }
}
