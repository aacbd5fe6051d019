//! What callers hold of a pipe: its streams, and the right to open or accept more.

use crate::wire::mux::Role;
use crate::wire::mux::flow::Stream;
use crate::wire::mux::packet::StreamId;
use crate::wire::mux::table::Table;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::{Semaphore, mpsc};
use tokio_util::sync::CancellationToken;

/// The multiplexer has ended; its [`Driver`](super::Driver) says why.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the multiplexed pipe has ended")]
pub struct Ended;

/// What the driver and all holders share.
#[derive(Debug)]
pub struct Shared {
    table: Mutex<Table>,
    over: CancellationToken,
}

impl Shared {
    pub fn new(role: Role) -> Self {
        Self {
            table: Mutex::new(Table::new(role)),
            over: CancellationToken::new(),
        }
    }

    pub fn table(&self) -> MutexGuard<'_, Table> {
        // Whoever panicked while it held the table may have left it half-changed, and the other side is not to be trusted
        // with that: every stream is lost then.
        self.table.lock().unwrap_or_else(|poisoned| {
            let mut table = poisoned.into_inner();
            table.end();
            table
        })
    }

    /// The pipe is lost.
    pub fn end(&self) {
        self.table().end();
        self.over.cancel();
    }
}

/// A share in the pipe. The driver ends when the last is dropped.
#[derive(Debug)]
pub struct Lease(Arc<Shared>);

impl Lease {
    pub fn new(shared: Arc<Shared>) -> Self {
        Self(shared)
    }

    pub fn shared(&self) -> &Arc<Shared> {
        &self.0
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.0.table().let_go();
    }
}

/// Opens streams; cheap to clone.
#[derive(Debug, Clone)]
pub struct Opener {
    lease: Arc<Lease>,
    places: Arc<Semaphore>,
}

impl Opener {
    pub(super) fn new(lease: Arc<Lease>, places: usize) -> Self {
        Self {
            lease,
            places: Arc::new(Semaphore::new(places)),
        }
    }

    /// A new stream, of which the other side learns with the first byte. Waits while this opener's places are taken; each
    /// comes back when both sides have let go of its stream. Cancel-safe.
    pub async fn open(&self) -> Result<MuxStream, Ended> {
        let shared = self.lease.shared();
        let place = tokio::select! {
            biased;
            () = shared.over.cancelled() => return Err(Ended),
            place = Arc::clone(&self.places).acquire_owned() => place.map_err(|_| Ended)?,
        };
        let opened = shared.table().open(Some(place));
        opened
            .map(|id| MuxStream::new(id, Arc::clone(&self.lease)))
            .ok_or(Ended)
    }
}

/// The streams that the other side opened, in order. Dropping it refuses all further ones.
#[derive(Debug)]
pub struct Incoming {
    streams: mpsc::Receiver<MuxStream>,
    /// Keeps the multiplexer alive while someone still listens.
    _lease: Arc<Lease>,
}

impl Incoming {
    pub(super) fn new(streams: mpsc::Receiver<MuxStream>, lease: Arc<Lease>) -> Self {
        Self { streams, _lease: lease }
    }

    /// The next stream; `None` once the multiplexer has ended. Cancel-safe.
    pub async fn next(&mut self) -> Option<MuxStream> {
        self.streams.recv().await
    }
}

/// One stream: bytes both ways, each way with its own end (`shutdown` is the half-close).
///
/// Reading gives an end of file only where the other side half-closed; a reset, or the loss of the pipe, is
/// [`io::ErrorKind::ConnectionReset`] after what had arrived. Dropping it before both directions have ended resets it, behind
/// as much of what was written as the other side has room for.
#[derive(Debug)]
pub struct MuxStream {
    id: StreamId,
    lease: Arc<Lease>,
}

impl MuxStream {
    pub(super) fn new(id: StreamId, lease: Arc<Lease>) -> Self {
        Self { id, lease }
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.lease.shared().table()
    }

    /// Cancelled once the other side has sent its end or a reset, or the pipe is lost; also where nobody reads just then.
    pub fn end_token(&self) -> CancellationToken {
        self.token(Stream::end_token)
    }

    /// Cancelled once the other side has reset the stream, or the pipe is lost; also where nobody reads or writes just then.
    pub fn reset_token(&self) -> CancellationToken {
        self.token(Stream::reset_token)
    }

    fn token(&self, of: impl Fn(&Stream) -> CancellationToken) -> CancellationToken {
        match self.table().stream(self.id) {
            Ok(stream) => of(stream),
            Err(_) => self.lease.shared().over.clone(),
        }
    }
}

impl AsyncRead for MuxStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let mut table = self.table();
        let stream = table.stream(self.id)?;
        let polled = stream.poll_read(cx, buf);
        if stream.owes_credit() {
            table.wake_driver();
        }
        polled
    }
}

impl AsyncWrite for MuxStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let mut table = self.table();
        let polled = table.stream(self.id)?.poll_write(cx, buf);
        table.wake_driver();
        polled
    }

    /// Like a socket's: what was written is on its way.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    /// Ready when the driver has taken all that was written, and the end behind it.
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut table = self.table();
        let polled = table.stream(self.id)?.poll_end(cx);
        table.wake_driver();
        polled
    }
}

impl Drop for MuxStream {
    fn drop(&mut self) {
        self.table().let_go_of(self.id);
    }
}
