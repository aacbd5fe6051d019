//! The loopback model endpoint: each TCP connection becomes a stream to the host. Nothing is parsed here; what may be
//! asked of the model is the broker's decision, on the host.

use crate::guest::say;
use crate::wire::contract::GuestStream;
use crate::wire::frame;
use crate::wire::mux::{MuxStream, Opener};
use std::io;
use std::net::Ipv4Addr;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};

/// After a failed accept (no descriptors left): long enough not to spin, short enough not to be missed.
const PAUSE: Duration = Duration::from_millis(100);

/// The bound port.
#[derive(Debug)]
pub struct Endpoint(TcpListener);

impl Endpoint {
    /// Binds `port` on the container's own loopback.
    pub async fn bind(port: u16) -> io::Result<Self> {
        TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await.map(Self)
    }

    /// Accepts until the link ends.
    ///
    /// The stream comes first and the connection second: with all of the guest's share of streams in use, further
    /// connections wait in the kernel's backlog.
    pub async fn serve(self, opener: Opener) {
        while let Ok(stream) = opener.open().await {
            let connection = loop {
                match self.0.accept().await {
                    Ok((connection, _)) => break connection,
                    Err(error) => {
                        say(format_args!("can't accept a connection: {error}"));
                        tokio::time::sleep(PAUSE).await;
                    }
                }
            };
            tokio::spawn(relay(connection, stream));
        }
    }
}

/// An end of either side, clean or not, ends here; the two ends are told by their half-closes and resets.
async fn relay(mut connection: TcpStream, mut stream: MuxStream) {
    // Server-sent events are small; none should wait for the next.
    let _ = connection.set_nodelay(true);
    if frame::write(&mut stream, &GuestStream::Model).await.is_ok() {
        let _ = tokio::io::copy_bidirectional(&mut connection, &mut stream).await;
    }
}
