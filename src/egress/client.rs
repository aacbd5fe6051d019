//! The guest's connection, and whether anybody is still at its other end.
//!
//! A client that closes its socket and one that has only said all it had to say look the same from here: an end of file. The
//! first is noticed as soon as something is sent to it, and while there is nothing to send it would keep its place. So a
//! client that has ended its own sending is waited for only so long.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// See the module. When something last passed is noted, nothing else is changed.
#[derive(Debug)]
pub struct Client<S> {
    stream: S,
    moved: watch::Sender<Option<Instant>>,
}

/// Tells when a [`Client`] has been silent for too long.
#[derive(Debug)]
pub struct Silence {
    ended: CancellationToken,
    moved: watch::Receiver<Option<Instant>>,
}

impl<S> Client<S> {
    /// `ended` is cancelled when the client's end has arrived: nobody need read it, and mostly nobody does who waits for a
    /// server.
    pub fn new(stream: S, ended: CancellationToken) -> (Self, Silence) {
        let (moved, last) = watch::channel(None);
        (Self { stream, moved }, Silence { ended, moved: last })
    }
}

impl Silence {
    /// Waits until the client has sent its end, and nothing has passed in either direction for `limit` since.
    pub async fn lasts(self, limit: Duration) {
        self.ended.cancelled().await;
        let mut since = Instant::now();
        loop {
            tokio::time::sleep_until(since + limit).await;
            match *self.moved.borrow() {
                Some(moved) if moved > since => since = moved,
                _ => return,
            }
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Client<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.remaining();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
        if buf.remaining() < before {
            self.moved.send_replace(Some(Instant::now()));
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Client<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.stream).poll_write(cx, buf))?;
        self.moved.send_replace(Some(Instant::now()));
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncWriteExt;

    const LIMIT: Duration = Duration::from_secs(30);

    #[tokio::test(start_paused = true)]
    async fn a_client_that_ended_is_waited_for_as_long_as_something_passes() {
        let ended = CancellationToken::new();
        let (mut client, silence) = Client::new(tokio::io::sink(), ended.clone());
        let mut lasts = Box::pin(silence.lasts(LIMIT));
        assert!(futures_util::poll!(&mut lasts).is_pending());
        tokio::time::sleep(2 * LIMIT).await;
        assert!(
            futures_util::poll!(&mut lasts).is_pending(),
            "it may still say something"
        );
        ended.cancel();
        for _ in 0..5 {
            assert!(futures_util::poll!(&mut lasts).is_pending());
            tokio::time::sleep(LIMIT * 2 / 3).await;
            client.write_all(b"x").await.unwrap();
        }
        let before = Instant::now();
        lasts.await;
        assert_eq!(before.elapsed().as_secs(), LIMIT.as_secs());
    }
}
