//! A connection whose bytes are counted against the session's bounds, slowed, and ended when idle.
//!
//! Wrapped around the server's end, so that a tunnel and a plain request are metered by the same code. Whoever moves bytes
//! has to watch [`Meter::cut`] as well: a copy that waits for a slow reader polls this stream in neither direction.

use crate::egress::ledger::{Ledger, Slot};
use nix::libc::linger;
use nix::sys::socket::{setsockopt, sockopt};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep};
use tokio_util::sync::CancellationToken;

/// Why a connection was ended from here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// No byte in either direction for this long.
    Idle(Duration),
    /// It lasted this long.
    Total(Duration),
    BytesUsedUp,
}

/// The counts of one connection.
#[derive(Debug)]
pub struct Meter {
    ledger: Arc<Ledger>,
    opened: Instant,
    /// When the last byte moved, in nanoseconds since the connection was opened.
    last: AtomicU64,
    /// How many more bytes may come before an answer's head is whole.
    before_answer: AtomicU64,
    /// Cancelled when the day's bytes are used up.
    today: CancellationToken,
    _slot: Slot,
}

/// Where no answer is awaited.
const UNBOUNDED: u64 = u64::MAX;

impl Meter {
    fn new(ledger: Arc<Ledger>, slot: Slot) -> Self {
        Self {
            today: ledger.today(),
            ledger,
            opened: Instant::now(),
            last: AtomicU64::new(0),
            before_answer: AtomicU64::new(UNBOUNDED),
            _slot: slot,
        }
    }

    /// From now on at most `bytes` may come before [`Self::answer_came`]. A server may send interim answers (1xx) without
    /// end; hyper reads over them without a word and without letting go of its thread, so neither the time nor the end of
    /// the request would be noticed.
    pub fn await_answer(&self, bytes: u64) {
        self.before_answer.store(bytes, Ordering::Relaxed);
    }

    /// The head of the answer is there; its body is bounded by what the session may move.
    pub fn answer_came(&self) {
        self.before_answer.store(UNBOUNDED, Ordering::Relaxed);
    }

    /// Whether this much more may come.
    fn may_come(&self, bytes: usize) -> bool {
        let left = self.before_answer.load(Ordering::Relaxed);
        if left == UNBOUNDED {
            return true;
        }
        match left.checked_sub(bytes as u64) {
            Some(left) => {
                self.before_answer.store(left, Ordering::Relaxed);
                true
            }
            None => false,
        }
    }

    /// Ends when the connection has to.
    pub async fn cut(&self) -> Cut {
        let total = self.ledger.limits().total.value;
        tokio::select! {
            // A connection that is over several bounds is over this one, which names what the operator can raise.
            biased;
            () = self.ledger.used_up() => Cut::BytesUsedUp,
            () = self.today.cancelled() => Cut::BytesUsedUp,
            () = tokio::time::sleep_until(self.opened + total) => Cut::Total(total),
            idle = self.idle() => Cut::Idle(idle),
        }
    }

    /// Why the connection ended just now, if it was cut.
    pub fn was_cut(&self) -> Option<Cut> {
        let now = Instant::now();
        let limits = self.ledger.limits();
        if self.bytes_are_used_up() {
            Some(Cut::BytesUsedUp)
        } else if now >= self.opened + limits.total.value {
            Some(Cut::Total(limits.total.value))
        } else if now >= self.last() + limits.idle.value {
            Some(Cut::Idle(limits.idle.value))
        } else {
            None
        }
    }

    fn bytes_are_used_up(&self) -> bool {
        self.ledger.is_used_up() || self.today.is_cancelled()
    }

    async fn idle(&self) -> Duration {
        let idle = self.ledger.limits().idle.value;
        loop {
            let last = self.last();
            tokio::time::sleep_until(last + idle).await;
            if self.last() == last {
                return idle;
            }
        }
    }

    fn last(&self) -> Instant {
        self.opened + Duration::from_nanos(self.last.load(Ordering::Relaxed))
    }

    fn moved(&self, bytes: usize) {
        let now = self.opened.elapsed().as_nanos();
        self.last
            .store(u64::try_from(now).unwrap_or(u64::MAX), Ordering::Relaxed);
        self.ledger.moved(bytes as u64);
    }
}

/// See the module. Holds the connection's [`Slot`] until it and its meter are dropped.
#[derive(Debug)]
pub struct Metered<S> {
    stream: S,
    meter: Arc<Meter>,
    /// Bytes that were moved and not yet paid for. Paying afterwards bounds this by one buffer and wastes nothing of the
    /// session's speed on bytes that never came.
    debt: u64,
    pause: Option<Pin<Box<Sleep>>>,
}

impl<S> Metered<S> {
    pub fn new(stream: S, ledger: Arc<Ledger>, slot: Slot) -> Self {
        Self {
            stream,
            meter: Arc::new(Meter::new(ledger, slot)),
            debt: 0,
            pause: None,
        }
    }

    pub fn meter(&self) -> Arc<Meter> {
        Arc::clone(&self.meter)
    }

    fn moved(&mut self, bytes: usize) {
        self.debt += bytes as u64;
        self.meter.moved(bytes);
    }

    /// Ready when nothing is owed. Both directions wait for what either owes; they are polled by one task.
    fn poll_paid(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.meter.bytes_are_used_up() {
            return Poll::Ready(Err(io::ErrorKind::QuotaExceeded.into()));
        }
        loop {
            if let Some(pause) = &mut self.pause {
                ready!(pause.as_mut().poll(cx));
                self.pause = None;
            }
            let Some((left, wait)) = self.meter.ledger.pay(self.debt, Instant::now().into_std()) else {
                self.debt = 0;
                return Poll::Ready(Ok(()));
            };
            self.debt = left;
            self.pause = Some(Box::pin(tokio::time::sleep(wait)));
        }
    }
}

impl Metered<TcpStream> {
    /// From now on the server sees a reset where the connection is dropped, and no end: what it got is not all that there
    /// was.
    pub fn reset_when_dropped(&self) {
        // It fails for a socket that is gone, which needs no reset.
        let _ = self.stream.set_zero_linger();
    }

    /// All was said, or what is spoken tells an end from a cut by itself.
    pub fn end_when_dropped(&self) {
        let off = linger {
            l_onoff: 0,
            l_linger: 0,
        };
        let _ = setsockopt(&self.stream, sockopt::Linger, &off);
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Metered<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_paid(cx))?;
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
        let bytes = buf.filled().len() - before;
        self.moved(bytes);
        if !self.meter.may_come(bytes) {
            return Poll::Ready(Err(io::ErrorKind::InvalidData.into()));
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Metered<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        ready!(self.poll_paid(cx))?;
        let bytes = ready!(Pin::new(&mut self.stream).poll_write(cx, buf))?;
        self.moved(bytes);
        Poll::Ready(Ok(bytes))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests;
