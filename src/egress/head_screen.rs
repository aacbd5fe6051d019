//! The guest's connection as hyper sees it: every head is looked at before hyper gets a byte of it.
//!
//! A head that is refused is replaced by a fixed one, which the service answers with the reason; nothing that follows it
//! is read as HTTP. This module must never let a byte pass that stands in a head it has not seen the end of.

use crate::egress::decision::Malformed;
use crate::egress::head::{self, Head, MAX_HEAD, Then};
use bytes::{Buf, BytesMut};
use std::io;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

/// What hyper gets for a head that was refused. No request of this form is ever passed on, so that it needs no other
/// sign, and a guest that sends it itself is refused as well.
const REFUSED: &[u8] = b"OPTIONS * HTTP/1.1\r\nhost: -\r\nconnection: close\r\n\r\n";
/// How much of a head is read at once, in bytes.
const READ: usize = 8 << 10;
/// Empty lines before a request that are passed over. RFC 9112 §2.2 asks for one; without a bound they cost as much as
/// requests and count as none.
const MAX_EMPTY_LINES: u8 = 4;
/// How much is read away after the last answer, and for how long.
const MAX_DISCARDED: usize = 1 << 20;
const DISCARD_LIMIT: Duration = Duration::from_secs(1);

/// Why a head was refused, once one is; shared with the service that answers.
pub type Verdict = Arc<OnceLock<Malformed>>;

/// See the module. At most 72 KiB are held.
#[derive(Debug)]
pub struct Screened<S> {
    stream: S,
    held: BytesMut,
    mode: Mode,
    verdict: Verdict,
    /// Before the head that is awaited.
    empty_lines: u8,
    discarding: Option<Discarding>,
}

#[derive(Debug)]
enum Mode {
    /// `looked`: how many of the held bytes can't end the head.
    Head {
        looked: usize,
    },
    /// Held bytes of a head that passed, and what comes behind it.
    Passing {
        left: usize,
        then: Next,
    },
    Body(u64),
    Rest,
    /// To hyper the end; the guest may still be sending.
    Refused,
    /// The guest's end of file was read.
    Ended,
}

#[derive(Debug, Clone, Copy)]
enum Next {
    After(Then),
    Refused,
}

#[derive(Debug)]
struct Discarding {
    left: usize,
    until: Pin<Box<Sleep>>,
}

impl<S> Screened<S> {
    /// `before` was read from the stream already.
    pub fn new(stream: S, before: BytesMut) -> Self {
        Self {
            stream,
            held: before,
            mode: Mode::Head { looked: 0 },
            verdict: Verdict::default(),
            empty_lines: 0,
            discarding: None,
        }
    }

    pub fn verdict(&self) -> Verdict {
        Arc::clone(&self.verdict)
    }

    /// The connection, and what was read of it and not handed on: what a tunnel begins with.
    pub fn into_parts(self) -> (S, BytesMut) {
        (self.stream, self.held)
    }

    /// Decides about what is held. `true`: hyper may read on, `false`: the head goes on behind what is held.
    fn look(&mut self) -> bool {
        let Mode::Head { looked } = &mut self.mode else {
            return true;
        };
        // Empty lines before a request are no part of it (RFC 9112 §2.2).
        let mut endless = false;
        while self.held.starts_with(b"\r\n") && !endless {
            self.held.advance(2);
            *looked = 0;
            self.empty_lines += 1;
            endless = self.empty_lines > MAX_EMPTY_LINES;
        }
        let first_look = *looked == 0 && !self.held.is_empty();
        let full = self.held.len() >= MAX_HEAD;
        if !(endless || first_look || full || head::may_end(&self.held, *looked)) {
            *looked = self.held.len();
            return false;
        }
        *looked = self.held.len();
        let head = match endless {
            true => Err(Malformed::NotHttp),
            false => head::parse(&self.held),
        };
        self.mode = match head {
            Ok(None) => return false,
            Ok(Some(Head { length, then })) => {
                self.empty_lines = 0;
                Mode::Passing {
                    left: length,
                    then: Next::After(then),
                }
            }
            Err(problem) => {
                // The first refusal is the last: nothing is read behind it.
                let _ = self.verdict.set(problem);
                self.held = BytesMut::from(REFUSED);
                Mode::Passing {
                    left: REFUSED.len(),
                    then: Next::Refused,
                }
            }
        };
        true
    }
}

impl<S: AsyncRead + Unpin> Screened<S> {
    /// Reads more of a head. `Ok(0)` is the end.
    fn poll_more(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let mut space = [0; READ];
        let mut more = ReadBuf::new(&mut space);
        ready!(Pin::new(&mut self.stream).poll_read(cx, &mut more))?;
        self.held.extend_from_slice(more.filled());
        Poll::Ready(Ok(more.filled().len()))
    }

    /// Hands on at most `most` bytes, those that are held first. How many; 0 is the end.
    fn poll_pass(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>, most: usize) -> Poll<io::Result<usize>> {
        let most = most.min(buf.remaining());
        if !self.held.is_empty() {
            let passed = most.min(self.held.len());
            buf.put_slice(&self.held.split_to(passed));
            return Poll::Ready(Ok(passed));
        }
        let mut part = ReadBuf::new(buf.initialize_unfilled_to(most));
        ready!(Pin::new(&mut self.stream).poll_read(cx, &mut part))?;
        let passed = part.filled().len();
        buf.advance(passed);
        Poll::Ready(Ok(passed))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Screened<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if buf.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        loop {
            match this.mode {
                Mode::Head { .. } => {
                    // An end within a head is an end: a part of a head is never handed on.
                    if !this.look() && ready!(this.poll_more(cx))? == 0 {
                        this.mode = Mode::Ended;
                    }
                }
                Mode::Passing { left, then } => {
                    let passed = ready!(this.poll_pass(cx, buf, left))?;
                    this.mode = match (left - passed, then) {
                        (0, Next::After(Then::Body(length))) => Mode::Body(length),
                        (0, Next::After(Then::Rest)) => Mode::Rest,
                        (0, Next::Refused) => Mode::Refused,
                        (left, then) => Mode::Passing { left, then },
                    };
                    return Poll::Ready(Ok(()));
                }
                Mode::Body(0) => this.mode = Mode::Head { looked: 0 },
                Mode::Body(left) => {
                    let most = usize::try_from(left).unwrap_or(usize::MAX);
                    let passed = ready!(this.poll_pass(cx, buf, most))?;
                    this.mode = match passed {
                        0 => Mode::Ended,
                        passed => Mode::Body(left - passed as u64),
                    };
                    return Poll::Ready(Ok(()));
                }
                Mode::Rest => {
                    if ready!(this.poll_pass(cx, buf, usize::MAX))? == 0 {
                        this.mode = Mode::Ended;
                    }
                    return Poll::Ready(Ok(()));
                }
                Mode::Refused | Mode::Ended => return Poll::Ready(Ok(())),
            }
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Screened<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    /// Ends this direction, then reads away for a moment what the guest still sends: a connection that is closed with
    /// bytes unread is reset, and the reset may overtake the answer that was just written.
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        ready!(Pin::new(&mut this.stream).poll_shutdown(cx))?;
        if matches!(this.mode, Mode::Ended) {
            return Poll::Ready(Ok(()));
        }
        let discarding = this.discarding.get_or_insert_with(|| Discarding {
            left: MAX_DISCARDED,
            until: Box::pin(tokio::time::sleep(DISCARD_LIMIT)),
        });
        let mut space = [0; READ];
        while discarding.left > 0 && discarding.until.as_mut().poll(cx).is_pending() {
            let mut more = ReadBuf::new(&mut space);
            match ready!(Pin::new(&mut this.stream).poll_read(cx, &mut more)) {
                Ok(()) if !more.filled().is_empty() => {
                    discarding.left = discarding.left.saturating_sub(more.filled().len());
                }
                Ok(()) | Err(_) => break,
            }
        }
        this.mode = Mode::Ended;
        Poll::Ready(Ok(()))
    }
}
