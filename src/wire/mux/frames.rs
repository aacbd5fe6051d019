//! The frames that yamux writes, followed one by one, for the two things that yamux does not do itself: saying that it
//! refused the other side, and resetting a stream that was half-closed.
//!
//! Nothing of a frame's body is looked at or kept here.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use tokio::io::AsyncWrite;

/// Bytes before each frame: version, type, flags (2), stream (4), length (4).
pub const HEADER: usize = 12;
const VERSION: u8 = 0;
const DATA: u8 = 0;
const GO_AWAY: u8 = 3;
const RESET: u16 = 8;

/// What the driver and the writer of the frames tell one another.
#[derive(Debug, Default)]
pub struct Asides {
    refused: AtomicBool,
    /// Streams whose reset goes out before the next frame.
    resets: Mutex<VecDeque<u32>>,
}

impl Asides {
    /// True once yamux has written the `GoAway` by which it answers a violation, after which it carries on.
    pub fn refused(&self) -> bool {
        self.refused.load(Ordering::Relaxed)
    }

    /// Has the stream of this number reset with the next flush. It must be half-closed by us: yamux resets all others.
    pub fn reset(&self, stream: u32) {
        self.resets().push_back(stream);
    }

    fn resets(&self) -> std::sync::MutexGuard<'_, VecDeque<u32>> {
        // The queue is whole at every point where a holder could panic.
        self.resets.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The writing half of the pipe, as yamux sees it.
pub struct FrameWriter<W> {
    writer: W,
    asides: Arc<Asides>,
    /// The header of the frame that is being written, as far as it has passed.
    header: [u8; HEADER],
    have: usize,
    /// Bytes of a data frame's body that are still to pass.
    body: u32,
    /// A reset that is being written, and how much of it has passed.
    reset: Option<([u8; HEADER], usize)>,
}

impl<W> FrameWriter<W> {
    pub fn new(writer: W, asides: Arc<Asides>) -> Self {
        Self {
            writer,
            asides,
            header: [0; HEADER],
            have: 0,
            body: 0,
            reset: None,
        }
    }

    fn between_frames(&self) -> bool {
        self.have == 0 && self.body == 0
    }

    fn follow(&mut self, mut written: &[u8]) {
        while !written.is_empty() {
            if self.body > 0 {
                let passed = written.len().min(self.body as usize);
                written = &written[passed..];
                // At most `body`, which is a u32.
                self.body -= passed as u32;
                continue;
            }
            let taken = written.len().min(HEADER - self.have);
            self.header[self.have..self.have + taken].copy_from_slice(&written[..taken]);
            self.have += taken;
            written = &written[taken..];
            if self.have == HEADER {
                self.have = 0;
                let [_, kind, _, _, _, _, _, _, length @ ..] = self.header;
                let length = u32::from_be_bytes(length);
                match kind {
                    DATA => self.body = length,
                    // The length is the reason here; zero is an ordinary goodbye.
                    GO_AWAY if length != 0 => self.asides.refused.store(true, Ordering::Relaxed),
                    _ => {}
                }
            }
        }
    }
}

impl<W: AsyncWrite + Unpin> FrameWriter<W> {
    /// Writes what resets are asked for, where a frame may begin.
    fn poll_resets(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.between_frames() {
            let Some((frame, passed)) = &mut self.reset else {
                let Some(stream) = self.asides.resets().pop_front() else {
                    break;
                };
                self.reset = Some((reset_frame(stream), 0));
                continue;
            };
            match ready!(Pin::new(&mut self.writer).poll_write(cx, &frame[*passed..]))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                written => *passed += written,
            }
            if *passed == HEADER {
                self.reset = None;
            }
        }
        Poll::Ready(Ok(()))
    }
}

fn reset_frame(stream: u32) -> [u8; HEADER] {
    let mut frame = [0; HEADER];
    frame[0] = VERSION;
    frame[1] = DATA;
    frame[2..4].copy_from_slice(&RESET.to_be_bytes());
    frame[4..8].copy_from_slice(&stream.to_be_bytes());
    frame
}

impl<W: AsyncWrite + Unpin> AsyncWrite for FrameWriter<W> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        ready!(self.poll_resets(cx))?;
        let written = ready!(Pin::new(&mut self.writer).poll_write(cx, buf))?;
        self.follow(&buf[..written]);
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_resets(cx))?;
        Pin::new(&mut self.writer).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.writer).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use tokio::io::AsyncWriteExt;

    fn frame(kind: u8, length: u32, body: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0, kind, 0, 0, 0, 0, 0, 1];
        bytes.extend(length.to_be_bytes());
        bytes.extend(body);
        bytes
    }

    /// Takes no more than so many bytes at a time.
    struct Narrow(Vec<u8>, usize);

    impl AsyncWrite for Narrow {
        fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
            let taken = buf.len().min(self.1);
            self.0.extend(&buf[..taken]);
            Poll::Ready(Ok(taken))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    proptest! {
        #[test]
        fn a_go_away_is_seen_wherever_the_writes_are_cut(
            bodies in prop::collection::vec(prop::collection::vec(0u8..4, 0..40), 0..6),
            reason in 0u32..3,
            cuts in prop::collection::vec(1usize..20, 0..60),
        ) {
            let mut bytes: Vec<u8> = bodies.iter().flat_map(|body| frame(DATA, body.len() as u32, body)).collect();
            bytes.extend(frame(1, 3, &[]));
            bytes.extend(frame(GO_AWAY, reason, &[]));
            let asides = Arc::new(Asides::default());
            let mut watch = FrameWriter::new((), Arc::clone(&asides));
            let mut rest = &bytes[..];
            for cut in cuts {
                let (now, later) = rest.split_at(cut.min(rest.len()));
                watch.follow(now);
                rest = later;
            }
            prop_assert!(rest.is_empty() || !asides.refused());
            watch.follow(rest);
            prop_assert_eq!(asides.refused(), reason != 0);
        }

        #[test]
        fn a_reset_goes_out_between_two_frames_wherever_the_writes_are_cut(
            bodies in prop::collection::vec(prop::collection::vec(0u8..4, 0..40), 1..6),
            asked_at in 0usize..200,
            cut in 1usize..20,
            width in 1usize..20,
        ) {
            let frames: Vec<Vec<u8>> = bodies.iter().map(|body| frame(DATA, body.len() as u32, body)).collect();
            let bytes = frames.concat();
            let asides = Arc::new(Asides::default());
            let mut writer = FrameWriter::new(Narrow(Vec::new(), width), Arc::clone(&asides));
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let mut passed = 0;
            let mut asked = false;
            for piece in bytes.chunks(cut) {
                if !asked && passed >= asked_at {
                    asides.reset(7);
                    asked = true;
                }
                runtime.block_on(writer.write_all(piece)).unwrap();
                passed += piece.len();
            }
            if !asked {
                asides.reset(7);
            }
            runtime.block_on(writer.flush()).unwrap();
            let written = writer.writer.0;
            let expected = (0..=frames.len()).map(|at| {
                let (before, after) = frames.split_at(at);
                [before.concat(), reset_frame(7).to_vec(), after.concat()].concat()
            });
            prop_assert!(expected.into_iter().any(|bytes| bytes == written), "{written:?}");
        }
    }
}
