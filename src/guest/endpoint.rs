//! The loopback ports: each TCP connection becomes a stream to the host. Nothing is parsed here; what may be asked of the
//! model is the broker's decision and what may leave the egress relay's, both on the host.

use crate::guest::say;
use crate::wire::contract::GuestStream;
use crate::wire::frame;
use crate::wire::mux::{self, MuxStream, Opener};
use std::io;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// After a failed accept (no descriptors left): long enough not to spin, short enough not to be missed.
const PAUSE: Duration = Duration::from_millis(100);

/// Bytes on their way between a connection and its stream, each direction. What a connection has to give is read at once
/// into a few large frames: with tokio's own 8 KiB, the wake-ups between them halved the throughput.
const BUFFER: usize = 2 * mux::FRAME;

/// One bound port, and what its connections are to the host.
#[derive(Debug)]
pub struct Endpoint {
    listener: TcpListener,
    kind: GuestStream,
    share: Arc<Semaphore>,
}

/// The streams that a port may have open. Each port has its own, so that a flood on one leaves the other its share.
#[derive(Debug)]
pub struct Share {
    free: Arc<Semaphore>,
    /// How many the host has let go of, of all that this port ever opened.
    let_go: u64,
}

impl Share {
    /// By the host's word, which counts from the start.
    pub fn let_go(&mut self, sum: u64) {
        let more = sum.saturating_sub(self.let_go);
        self.let_go += more;
        self.free.add_permits(usize::try_from(more).unwrap_or(0));
    }
}

impl Endpoint {
    /// Binds `port` on the container's own loopback.
    pub async fn bind(port: u16, kind: GuestStream, share: usize) -> io::Result<Self> {
        Ok(Self {
            listener: TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await?,
            kind,
            share: Arc::new(Semaphore::new(share)),
        })
    }

    pub fn share(&self) -> Share {
        Share {
            free: Arc::clone(&self.share),
            let_go: 0,
        }
    }

    /// Accepts until the link ends.
    ///
    /// The stream comes first and the connection second: with all of this port's share of streams in use, further
    /// connections wait in the kernel's backlog.
    pub async fn serve(self, opener: Opener) {
        loop {
            let Ok(permit) = Arc::clone(&self.share).acquire_owned().await else {
                return;
            };
            let Ok(stream) = opener.open().await else {
                return;
            };
            let connection = loop {
                match self.listener.accept().await {
                    Ok((connection, _)) => break connection,
                    Err(error) => {
                        say(format_args!("can't accept a connection: {error}"));
                        tokio::time::sleep(PAUSE).await;
                    }
                }
            };
            tokio::spawn(relay(connection, stream, self.kind, permit));
        }
    }
}

/// An end of either side, clean or not, ends here; the two ends are told by their half-closes and resets. A connection that
/// is dropped with nothing unread would be closed like one that ended well, and an answer without a length would be taken
/// for the whole of it.
async fn relay(mut connection: TcpStream, mut stream: MuxStream, kind: GuestStream, permit: OwnedSemaphorePermit) {
    // Server-sent events are small; none should wait for the next.
    let _ = connection.set_nodelay(true);
    if frame::write(&mut stream, &kind).await.is_ok() {
        // The host knows of it from here on, and gives the place back when it has let go: see `LetGo`.
        permit.forget();
        if tokio::io::copy_bidirectional_with_sizes(&mut connection, &mut stream, BUFFER, BUFFER)
            .await
            .is_err()
        {
            // It fails for a connection that is gone, which needs no reset.
            let _ = connection.set_zero_linger();
        }
    }
}
