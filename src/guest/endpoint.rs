//! The loopback ports: each TCP connection becomes a stream to the host. Nothing is parsed here; what may be asked of the
//! model is the broker's decision and what may leave the egress relay's, both on the host.

use crate::guest::say;
use crate::wire::contract::GuestStream;
use crate::wire::frame;
use crate::wire::mux::{MuxStream, Opener};
use std::io;
use std::net::Ipv4Addr;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

/// After a failed accept (no descriptors left): long enough not to spin, short enough not to be missed.
const PAUSE: Duration = Duration::from_millis(100);

/// Bytes on their way between a connection and its stream, each direction. What a connection has to give is read at once
/// into a few large packets: with tokio's own 8 KiB, the wake-ups between them halved the throughput.
const BUFFER: usize = 64 << 10;

/// What a client may still send after the host has hung up and it has got the whole answer, in bytes, and for how long. A
/// connection that is closed with something unread is reset, and a reset takes the answer with it that it has not read yet.
const LINGER_BYTES: u64 = 1 << 20;
const LINGER: Duration = Duration::from_secs(5);

/// How long a client may take to read what the host had said before it hung up. One that reads nothing would never learn of
/// the end, and keep its place.
const LAST_WORDS: Duration = Duration::from_secs(30);

/// One bound port, and what its connections are to the host.
#[derive(Debug)]
pub struct Endpoint {
    listener: TcpListener,
    kind: GuestStream,
}

impl Endpoint {
    /// Binds `port` on the container's own loopback.
    pub async fn bind(port: u16, kind: GuestStream) -> io::Result<Self> {
        Ok(Self {
            listener: TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await?,
            kind,
        })
    }

    /// Accepts until the link ends.
    ///
    /// The stream comes first and the connection second: with all of this port's streams in use, further connections wait in
    /// the kernel's backlog.
    pub async fn serve(self, opener: Opener) {
        loop {
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
            tokio::spawn(carry(connection, stream, self.kind));
        }
    }
}

/// Why a connection and its stream end before both directions have.
enum Break {
    ClientGone,
    /// By the host. A connection that is dropped with nothing unread would be closed like one that ended well, and an answer
    /// without a length would be taken for the whole of it.
    Cut,
}

/// Whether the host heard all that the client had to say.
#[derive(PartialEq, Eq)]
enum Heard {
    All,
    /// It reads no more. Whether that is an end or a cut, the other direction tells.
    Part,
}

async fn carry(mut connection: TcpStream, mut stream: MuxStream, kind: GuestStream) {
    // Server-sent events are small; none should wait for the next.
    let _ = connection.set_nodelay(true);
    if frame::write(&mut stream, &kind).await.is_err() {
        return;
    }
    let reset = stream.reset_token();
    let (from_host, to_host) = tokio::io::split(stream);
    let (from_client, to_client) = connection.split();
    // Each watches for the reset beside its work: a client that says nothing, or reads nothing, leaves neither a chance to
    // come upon it.
    let up = async {
        tokio::select! {
            passed = pass(from_client, to_host) => match passed {
                Ok(()) => Ok(Heard::All),
                Err(Broken::Sink) => Ok(Heard::Part),
                Err(Broken::Source) => Err(Break::ClientGone),
            },
            () = reset.cancelled() => Ok(Heard::Part),
        }
    };
    let down = async {
        let last_words = async {
            reset.cancelled().await;
            tokio::time::sleep(LAST_WORDS).await;
        };
        tokio::select! {
            passed = pass(from_host, to_client) => passed.map_err(|broken| match broken {
                Broken::Source => Break::Cut,
                Broken::Sink => Break::ClientGone,
            }),
            () = last_words => Err(Break::Cut),
        }
    };
    match tokio::try_join!(up, down) {
        Ok((Heard::All, ())) | Err(Break::ClientGone) => {}
        Ok((Heard::Part, ())) => {
            let rest = async { tokio::io::copy(&mut connection.take(LINGER_BYTES), &mut tokio::io::sink()).await };
            // However it ends, the client had its time.
            let _ = tokio::time::timeout(LINGER, rest).await;
        }
        Err(Break::Cut) => {
            // It fails for a connection that is gone, which needs no reset.
            let _ = connection.set_zero_linger();
        }
    }
}

/// Which end failed.
enum Broken {
    Source,
    Sink,
}

/// Passes bytes on, and their end.
async fn pass(source: impl AsyncRead + Unpin, mut sink: impl AsyncWrite + Unpin) -> Result<(), Broken> {
    let mut source = BufReader::with_capacity(BUFFER, source);
    loop {
        let read = source.fill_buf().await.map_err(|_| Broken::Source)?;
        if read.is_empty() {
            return sink.shutdown().await.map_err(|_| Broken::Sink);
        }
        let length = read.len();
        sink.write_all(read).await.map_err(|_| Broken::Sink)?;
        source.consume(length);
    }
}
