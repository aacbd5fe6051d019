//! A connection that keeps what its client sent, byte for byte.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// What is kept of one connection.
const MAX_KEPT: usize = 64 << 10;

/// What came on each connection, in the order in which they were accepted.
#[derive(Debug, Clone, Default)]
pub struct Log(Arc<Mutex<Vec<Vec<u8>>>>);

impl Log {
    pub fn record<S>(&self, stream: S) -> Recorded<S> {
        let mut connections = self.0.lock().unwrap();
        connections.push(Vec::new());
        Recorded {
            stream,
            log: self.clone(),
            at: connections.len() - 1,
        }
    }

    pub fn connections(&self) -> Vec<Vec<u8>> {
        self.0.lock().unwrap().clone()
    }

    /// All of it as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.connections().concat()).into_owned()
    }
}

pub struct Recorded<S> {
    stream: S,
    log: Log,
    at: usize,
}

impl<S: AsyncRead + Unpin> AsyncRead for Recorded<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buffer))?;
        let kept = &mut self.log.0.lock().unwrap()[self.at];
        let room = MAX_KEPT - kept.len();
        kept.extend(buffer.filled()[before..].iter().take(room));
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Recorded<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
