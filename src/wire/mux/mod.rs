//! The multiplexer: yamux over the two halves of a pipe.
//!
//! [`start`] gives an [`Opener`] (streams of ours), an [`Incoming`] (the other side's) and a [`Driver`]: the future
//! that moves every byte. Nothing happens unless the driver is polled, and when it ends, every stream ends with it.
//!
//! What the bounds are, because the other side may be hostile: [`MAX_STREAMS`] live streams on one pipe and
//! [`MAX_BUFFERED`] bytes received and not yet read, all of them together. A side that breaks yamux's rules (one
//! stream too many, more data than its window) ends the whole connection as [`MuxEnd::Violation`].
//!
//! Traps of yamux 0.14, each met here once so that no caller meets it:
//! - A stream exists for the other side only once something was written to it: write first, then wait.
//! - `poll_new_outbound` at the limit of streams does not fail, it tears the connection down. Each side therefore
//!   opens no more than its own share (a permit a stream), and the shares leave room.
//! - The end of the connection and a reset read like an ordinary end of file: [`MuxStream`] turns them into errors.
//! - A stream that was half-closed and then dropped sends no reset; the other side would write until its window is
//!   used up and then hang. The driver takes such a stream over: it lets the other side finish, if that is soon, and
//!   has it reset otherwise ([`frames`]).
//! - After a violation yamux sends `GoAway` and carries on: the driver watches for that frame and ends.
//! - Each side counts a stream until that side has let go of it, and a reset takes back one side's count alone. Whoever
//!   opens a stream for each of many short connections must therefore wait for the other side: see `wire::link`.

mod frames;

use frames::{Asides, FrameWriter, HEADER};
use futures_util::io::AsyncReadExt;
use futures_util::stream::FuturesUnordered;
use futures_util::{StreamExt, io as futures_io};
use nix::fcntl::{FcntlArg, fcntl};
use std::any::Any;
use std::io;
use std::os::fd::AsFd;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, BufReader, BufWriter, Join, ReadBuf};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio_util::compat::{Compat, FuturesAsyncReadCompatExt, TokioAsyncReadCompatExt};

/// Streams alive at once on one pipe, both directions together.
pub const MAX_STREAMS: usize = 64;
/// Bytes received and not yet read, all streams together: yamux's 256 KiB for each of [`MAX_STREAMS`], and as much again for
/// those whose window yamux widens, because they are read as fast as they fill it. At 256 KiB a window a download
/// waits for the next update of its window for a third of the time.
pub const MAX_BUFFERED: usize = 32 << 20;
/// The most that one frame carries, in bytes. With its header that is eight pages: a pipe holds sixteen and splits no page
/// between two writes, so that a byte more would have every second frame written in two pieces. The engines' clients copy
/// 32 KiB at a time, too.
pub const FRAME: usize = (32 << 10) - HEADER;
/// Bytes that are read along with a header. No more, because the rest of a large frame is then read right to its place.
const READ_AHEAD: usize = 4 << 10;
/// What a stream that was half-closed and dropped may still bring, in bytes, and how long it may take: for an answer that is
/// about to end, and not for a download that nobody reads any more.
const LINGER_BYTES: u64 = 1 << 20;
const LINGER: Duration = Duration::from_secs(5);
/// In bytes.
const WIDE: i32 = 256 << 10;
/// Streams that the host has open at once: the control stream, Codex, commands.
const OPENED_BY_HOST: usize = 16;
/// Of the guest's streams, those for connections to the loopback model endpoint.
pub const FOR_MODEL: usize = 8;
/// And those for connections to the loopback proxy.
pub const FOR_PROXY: usize = 32;
/// Streams that the guest has open at once.
pub const OPENED_BY_GUEST: usize = FOR_MODEL + FOR_PROXY;
// The rest is for streams that one side has already forgotten and the other still closes.
const _: () = assert!(OPENED_BY_HOST + OPENED_BY_GUEST < MAX_STREAMS);

/// Which end of the pipe this is; the two sides number their streams apart by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    Host,
    Guest,
}

/// Why the multiplexer ended.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MuxEnd {
    #[error("the pipe closed")]
    Closed,
    #[error("this side let go of every stream")]
    LetGo,
    #[error("the other side broke the rules of the multiplexed pipe: {0}")]
    Violation(String),
    #[error("the pipe failed: {0}")]
    Failed(io::ErrorKind),
}

/// The multiplexer has ended; its [`Driver`] says why.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the multiplexed pipe has ended")]
pub struct Ended;

/// Multiplexes streams over a pipe. The caller polls the driver to its end; dropping it closes the pipe.
pub fn start<R, W>(role: Role, reader: R, writer: W) -> (Opener, Incoming, Driver<R, W>)
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let mut config = yamux::Config::default();
    // In this order: yamux asserts at each step that the window covers 256 KiB for every stream.
    config.set_max_num_streams(MAX_STREAMS);
    config.set_max_connection_receive_window(Some(MAX_BUFFERED));
    let (mode, share) = match role {
        Role::Host => (yamux::Mode::Client, OPENED_BY_HOST),
        Role::Guest => (yamux::Mode::Server, OPENED_BY_GUEST),
    };
    let asides = Arc::new(Asides::default());
    config.set_split_send_size(FRAME);
    let pipe = tokio::io::join(
        BufReader::with_capacity(READ_AHEAD, reader),
        FrameWriter::new(BufWriter::with_capacity(HEADER + FRAME, writer), Arc::clone(&asides)),
    );
    // Unbounded in type only: each command belongs to a live stream, and of those there are at most MAX_STREAMS.
    let (commands, orders) = mpsc::unbounded_channel();
    let (arrivals, incoming) = mpsc::channel(MAX_STREAMS);
    let permits = Arc::new(Semaphore::new(share));
    let driver = Driver {
        connection: yamux::Connection::new(pipe.compat(), config, mode),
        commands: commands.downgrade(),
        orders,
        requested: None,
        arrivals,
        abandoned: FuturesUnordered::new(),
        permits: Arc::clone(&permits),
        asides,
        letting_go: false,
    };
    let opener = Opener {
        commands: commands.clone(),
        permits,
    };
    (
        opener,
        Incoming {
            streams: incoming,
            _commands: commands,
        },
        driver,
    )
}

/// Gives the pipe that this end belongs to room for eight frames of bulk on its way to the host: conmon(8) moves 8 KiB at a
/// time, and with the kernel's 64 KiB every reader and writer on that way waits for the next one after each few of them.
/// The other way stays short, since what it holds is what a message to Codex waits behind.
///
/// What one user's pipes may hold in all is bounded (pipe(7)). Past that this one stays as it is, which is no error.
pub fn widen(pipe: impl AsFd) {
    let _ = fcntl(pipe, FcntlArg::F_SETPIPE_SZ(WIDE));
}

/// Opens streams; cheap to clone.
#[derive(Debug, Clone)]
pub struct Opener {
    commands: mpsc::UnboundedSender<Command>,
    permits: Arc<Semaphore>,
}

impl Opener {
    /// A new stream. Waits while this side has its whole share of streams open. The other side learns of the stream
    /// with the first byte written to it.
    pub async fn open(&self) -> Result<MuxStream, Ended> {
        let permit = Arc::clone(&self.permits).acquire_owned().await.map_err(|_| Ended)?;
        let (reply, stream) = oneshot::channel();
        self.commands.send(Command::Open(reply)).map_err(|_| Ended)?;
        let stream = stream.await.map_err(|_| Ended)?;
        Ok(MuxStream::new(stream, Some(Box::new(permit)), self.commands.clone()))
    }
}

/// The streams that the other side opened, in order. Dropping it refuses all further ones.
#[derive(Debug)]
pub struct Incoming {
    streams: mpsc::Receiver<MuxStream>,
    /// Keeps the multiplexer alive while someone still listens.
    _commands: mpsc::UnboundedSender<Command>,
}

impl Incoming {
    /// The next stream; `None` once the multiplexer has ended. Cancel-safe.
    pub async fn next(&mut self) -> Option<MuxStream> {
        self.streams.recv().await
    }
}

#[derive(Debug)]
enum Command {
    Open(oneshot::Sender<yamux::Stream>),
    /// Half-closed by us and dropped: let the other side finish, or reset it.
    Abandon(yamux::Stream, Held),
}

/// Dropped when this side has let go of a stream, so that yamux counts it here no more.
type Held = Option<Box<dyn Any + Send + Sync>>;

type Abandoned = Pin<Box<dyn Future<Output = ()> + Send>>;

/// The two halves as yamux sees them: headers are read, and frames written, in one piece.
type Pipe<R, W> = Join<BufReader<R>, FrameWriter<BufWriter<W>>>;

/// Moves the bytes; ends when the pipe does, or when nobody holds a stream, the [`Opener`] or the [`Incoming`].
pub struct Driver<R, W> {
    connection: yamux::Connection<Compat<Pipe<R, W>>>,
    commands: mpsc::WeakUnboundedSender<Command>,
    orders: mpsc::UnboundedReceiver<Command>,
    requested: Option<oneshot::Sender<yamux::Stream>>,
    arrivals: mpsc::Sender<MuxStream>,
    abandoned: FuturesUnordered<Abandoned>,
    permits: Arc<Semaphore>,
    asides: Arc<Asides>,
    letting_go: bool,
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
            this.take_orders(cx);
            if this.letting_go {
                return this.connection.poll_close(cx).map(|_| MuxEnd::LetGo);
            }
            if this.requested.is_some() {
                match this.connection.poll_new_outbound(cx) {
                    Poll::Ready(Ok(stream)) => {
                        // A caller that has gone drops the stream, which nobody has heard of yet.
                        let _ = this.requested.take().map(|reply| reply.send(stream));
                        continue;
                    }
                    Poll::Ready(Err(error)) => return Poll::Ready(end_of(&error)),
                    Poll::Pending => {}
                }
            }
            while let Poll::Ready(Some(())) = this.abandoned.poll_next_unpin(cx) {}
            // This call is also what reads and writes the pipe: it must be made on every wake-up.
            match this.connection.poll_next_inbound(cx) {
                Poll::Ready(Some(Ok(stream))) => match this.hand_over(stream) {
                    Ok(()) => continue,
                    Err(end) => return Poll::Ready(end),
                },
                Poll::Ready(Some(Err(error))) => return Poll::Ready(end_of(&error)),
                Poll::Ready(None) => return Poll::Ready(MuxEnd::Closed),
                Poll::Pending => {}
            }
            if this.asides.refused() {
                return Poll::Ready(MuxEnd::Violation("too many streams, or data past a window".into()));
            }
            return Poll::Pending;
        }
    }
}

impl<R, W> Driver<R, W> {
    fn take_orders(&mut self, cx: &mut Context<'_>) {
        while self.requested.is_none() {
            match self.orders.poll_recv(cx) {
                Poll::Ready(Some(Command::Open(reply))) => self.requested = Some(reply),
                Poll::Ready(Some(Command::Abandon(stream, held))) => {
                    self.abandoned
                        .push(Box::pin(linger(stream, held, Arc::clone(&self.asides))));
                }
                Poll::Ready(None) => {
                    self.letting_go = true;
                    return;
                }
                Poll::Pending => return,
            }
        }
    }

    fn hand_over(&mut self, stream: yamux::Stream) -> Result<(), MuxEnd> {
        // No sender left means that everybody has let go: the stream is refused by dropping it.
        let Some(commands) = self.commands.upgrade() else {
            return Ok(());
        };
        match self.arrivals.try_send(MuxStream::new(stream, None, commands)) {
            Ok(()) | Err(mpsc::error::TrySendError::Closed(_)) => Ok(()),
            // A queued stream is a live one, so yamux's own limit comes first.
            Err(mpsc::error::TrySendError::Full(_)) => Err(MuxEnd::Violation("too many streams".into())),
        }
    }
}

impl<R, W> Drop for Driver<R, W> {
    fn drop(&mut self) {
        // Wakes those who wait in `Opener::open` for a permit that nobody will return.
        self.permits.close();
    }
}

async fn linger(mut stream: yamux::Stream, held: Held, asides: Arc<Asides>) {
    let mut rest = AsyncReadExt::take(&mut stream, LINGER_BYTES);
    // An error is an end too: there is nobody left to tell.
    let _ = tokio::time::timeout(LINGER, futures_io::copy(&mut rest, &mut futures_io::sink())).await;
    if !stream.is_closed()
        // The only way in which yamux tells the number.
        && let Ok(number) = stream.id().to_string().parse()
    {
        asides.reset(number);
    }
    drop(stream);
    drop(held);
}

fn end_of(error: &yamux::ConnectionError) -> MuxEnd {
    use yamux::{ConnectionError, FrameDecodeError};
    match error {
        ConnectionError::Closed => MuxEnd::Closed,
        ConnectionError::Io(io) | ConnectionError::Decode(FrameDecodeError::Io(io)) => match io.kind() {
            // How the death of the other end looks, depending on what this end was doing just then.
            io::ErrorKind::UnexpectedEof | io::ErrorKind::BrokenPipe | io::ErrorKind::WriteZero => MuxEnd::Closed,
            kind => MuxEnd::Failed(kind),
        },
        other => MuxEnd::Violation(other.to_string()),
    }
}

/// One stream: bytes both ways, each way with its own end (`shutdown` is the half-close).
///
/// Reading gives an end of file only where the other side half-closed; a reset, or the loss of the pipe, is
/// [`io::ErrorKind::ConnectionReset`] after what had arrived. After our own half-close the two can't be told apart any more
/// and both read as the end. Dropping an open stream resets it; dropping a half-closed one lets the other side finish what
/// is about to end, and resets it otherwise.
#[derive(Debug)]
pub struct MuxStream {
    /// `None` only inside `drop`.
    stream: Option<Compat<yamux::Stream>>,
    held: Held,
    commands: mpsc::UnboundedSender<Command>,
    half_closed: bool,
    read_to_end: bool,
}

impl MuxStream {
    fn new(stream: yamux::Stream, held: Held, commands: mpsc::UnboundedSender<Command>) -> Self {
        Self {
            stream: Some(stream.compat()),
            held,
            commands,
            half_closed: false,
            read_to_end: false,
        }
    }

    /// Keeps `guard` for as long as this side has the stream: beyond its drop, where the other side still finishes. For
    /// streams that the other side opened; ours hold their place in our share.
    pub fn hold(&mut self, guard: impl Any + Send + Sync) {
        self.held = Some(Box::new(guard));
    }

    fn inner(&mut self) -> io::Result<Pin<&mut Compat<yamux::Stream>>> {
        self.stream
            .as_mut()
            .map(Pin::new)
            .ok_or_else(|| io::ErrorKind::NotConnected.into())
    }
}

impl AsyncRead for MuxStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let wanted = buf.remaining();
        std::task::ready!(self.inner()?.poll_read(cx, buf)).map_err(reset)?;
        if buf.filled().len() == before && wanted > 0 {
            let closed = self.stream.as_ref().is_some_and(|stream| stream.get_ref().is_closed());
            if closed && !self.half_closed {
                return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
            }
            self.read_to_end = true;
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for MuxStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.inner()?.poll_write(cx, buf).map_err(reset)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.inner()?.poll_flush(cx).map_err(reset)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.half_closed {
            return Poll::Ready(Ok(()));
        }
        std::task::ready!(self.inner()?.poll_shutdown(cx)).map_err(reset)?;
        self.half_closed = true;
        Poll::Ready(Ok(()))
    }
}

impl Drop for MuxStream {
    fn drop(&mut self) {
        let Some(stream) = self.stream.take().map(Compat::into_inner) else {
            return;
        };
        if self.half_closed && !self.read_to_end && !stream.is_closed() {
            // Fails only where the driver is gone, and the pipe with it.
            let _ = self.commands.send(Command::Abandon(stream, self.held.take()));
        }
    }
}

/// yamux says `WriteZero` for a stream that is gone, which reads like a bug of the writer.
fn reset(error: io::Error) -> io::Error {
    match error.kind() {
        io::ErrorKind::WriteZero => io::ErrorKind::BrokenPipe.into(),
        _ => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, ReadHalf, WriteHalf, duplex, split};
    use tokio::task::JoinHandle;

    struct Side {
        opener: Opener,
        incoming: Incoming,
        driver: JoinHandle<MuxEnd>,
    }

    fn side(role: Role, pipe: DuplexStream) -> Side {
        let (reader, writer): (ReadHalf<_>, WriteHalf<_>) = split(pipe);
        let (opener, incoming, driver) = start(role, reader, writer);
        Side {
            opener,
            incoming,
            driver: tokio::spawn(driver),
        }
    }

    fn pair() -> (Side, Side) {
        let (host, guest) = duplex(4096);
        (side(Role::Host, host), side(Role::Guest, guest))
    }

    /// A stream that both sides know of: (opener's end, acceptor's end).
    async fn connected(from: &mut Side, to: &mut Side) -> (MuxStream, MuxStream) {
        let mut ours = from.opener.open().await.unwrap();
        ours.write_all(b"!").await.unwrap();
        let mut theirs = to.incoming.next().await.unwrap();
        assert_eq!(theirs.read_u8().await.unwrap(), b'!');
        (ours, theirs)
    }

    #[tokio::test]
    async fn both_sides_open_streams_and_half_close_them() {
        let (mut host, mut guest) = pair();
        for host_opens in [true, false] {
            let (mut a, mut b) = match host_opens {
                true => connected(&mut host, &mut guest).await,
                false => connected(&mut guest, &mut host).await,
            };
            a.write_all(b"question").await.unwrap();
            a.shutdown().await.unwrap();
            let mut heard = String::new();
            b.read_to_string(&mut heard).await.unwrap();
            assert_eq!(heard, "question");
            b.write_all(b"answer").await.unwrap();
            b.shutdown().await.unwrap();
            heard.clear();
            a.read_to_string(&mut heard).await.unwrap();
            assert_eq!(heard, "answer");
        }
    }

    #[tokio::test]
    async fn bulk_on_many_streams_arrives_whole_and_in_order() {
        let (mut host, mut guest) = pair();
        let mut ends = Vec::new();
        for seed in 0..8u8 {
            let (mut a, mut b) = connected(&mut host, &mut guest).await;
            let sent: Vec<u8> = (0..600_000u32)
                .map(|i| (i as u8).wrapping_mul(31).wrapping_add(seed))
                .collect();
            let expected = sent.clone();
            ends.push(tokio::spawn(async move {
                a.write_all(&sent).await.unwrap();
                a.shutdown().await.unwrap();
                assert_eq!(a.read_u8().await.unwrap(), b'.');
            }));
            ends.push(tokio::spawn(async move {
                let mut received = Vec::new();
                b.read_to_end(&mut received).await.unwrap();
                assert!(received == expected);
                b.write_all(b".").await.unwrap();
                b.shutdown().await.unwrap();
            }));
        }
        for end in ends {
            end.await.unwrap();
        }
    }

    #[tokio::test]
    async fn a_reader_that_stops_does_not_stop_other_streams() {
        let (mut host, mut guest) = pair();
        let (_unread, mut flooding) = connected(&mut host, &mut guest).await;
        let flood = tokio::spawn(async move { flooding.write_all(&vec![0; 4 << 20]).await });
        let (mut a, mut b) = connected(&mut host, &mut guest).await;
        for _ in 0..50 {
            b.write_all(b"ping").await.unwrap();
            let mut heard = [0; 4];
            a.read_exact(&mut heard).await.unwrap();
        }
        assert!(!flood.is_finished());
        flood.abort();
    }

    #[tokio::test]
    async fn the_loss_of_the_pipe_is_an_error_on_every_stream_and_for_the_opener() {
        let (mut host, mut guest) = pair();
        let (mut reading, mut far) = connected(&mut host, &mut guest).await;
        let (mut writing, _far) = connected(&mut host, &mut guest).await;
        far.write_all(b"last words").await.unwrap();
        let mut words = [0; 10];
        reading.read_exact(&mut words).await.unwrap();
        guest.driver.abort();
        assert_eq!(host.driver.await.unwrap(), MuxEnd::Closed);
        assert_eq!(
            reading.read(&mut words).await.unwrap_err().kind(),
            io::ErrorKind::ConnectionReset
        );
        assert_eq!(
            writing.write_all(b"x").await.unwrap_err().kind(),
            io::ErrorKind::BrokenPipe
        );
        assert_eq!(host.opener.open().await.unwrap_err(), Ended);
        assert!(host.incoming.next().await.is_none());
    }

    #[tokio::test]
    async fn a_dropped_stream_is_a_reset_and_not_an_end_of_file() {
        let (mut host, mut guest) = pair();
        let (mut ours, theirs) = connected(&mut host, &mut guest).await;
        drop(theirs);
        assert_eq!(ours.read_u8().await.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    }

    #[tokio::test]
    async fn a_half_closed_stream_that_is_dropped_lets_the_other_side_finish() {
        let (mut host, mut guest) = pair();
        let (mut ours, mut theirs) = connected(&mut host, &mut guest).await;
        ours.shutdown().await.unwrap();
        drop(ours);
        // More than a window: without the driver's help this would never return.
        theirs.write_all(&vec![0; 800 << 10]).await.unwrap();
        theirs.shutdown().await.unwrap();
        assert_eq!(theirs.read(&mut [0]).await.unwrap(), 0);
    }

    #[tokio::test]
    async fn what_goes_on_past_a_half_closed_and_dropped_stream_is_reset() {
        for both_ways in [true, false] {
            let (mut host, mut guest) = pair();
            let (mut ours, mut theirs) = match both_ways {
                true => connected(&mut host, &mut guest).await,
                false => connected(&mut guest, &mut host).await,
            };
            ours.shutdown().await.unwrap();
            drop(ours);
            let endless = async { while theirs.write_all(&[0; 4096]).await.is_ok() {} };
            tokio::time::timeout(LINGER / 2, endless).await.unwrap();
            assert_eq!(
                theirs.write_all(b"x").await.unwrap_err().kind(),
                io::ErrorKind::BrokenPipe
            );
            // The pipe itself goes on.
            connected(&mut host, &mut guest).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_half_closed_and_dropped_stream_that_falls_silent_is_reset() {
        let (mut host, mut guest) = pair();
        let (mut ours, mut theirs) = connected(&mut host, &mut guest).await;
        let before = tokio::time::Instant::now();
        ours.shutdown().await.unwrap();
        drop(ours);
        let mut silent = [0];
        assert_eq!(theirs.read(&mut silent).await.unwrap(), 0);
        while theirs.write_all(b"x").await.is_ok() {
            tokio::time::sleep(LINGER / 4).await;
        }
        assert!(before.elapsed() <= LINGER + LINGER / 2);
    }

    #[tokio::test]
    async fn opening_waits_for_this_sides_share() {
        let (host, _guest) = pair();
        let mut held = Vec::new();
        for _ in 0..OPENED_BY_HOST {
            held.push(host.opener.open().await.unwrap());
        }
        let opener = host.opener.clone();
        let mut waiting = Box::pin(opener.open());
        assert!(futures_util::poll!(&mut waiting).is_pending());
        held.pop();
        assert!(waiting.await.is_ok());
    }

    #[tokio::test]
    async fn one_stream_too_many_ends_the_connection_as_a_violation() {
        let (near, far) = duplex(1 << 20);
        let host = side(Role::Host, near);
        let mut config = yamux::Config::default();
        config.set_max_num_streams(512);
        let mut hostile = yamux::Connection::new(far.compat(), config, yamux::Mode::Server);
        let flood = tokio::spawn(async move {
            let mut held = Vec::new();
            for _ in 0..=MAX_STREAMS {
                let stream = std::future::poll_fn(|cx| hostile.poll_new_outbound(cx)).await.unwrap();
                let mut stream = stream.compat();
                stream.write_all(b"x").await.unwrap();
                held.push(stream);
            }
            std::future::poll_fn(|cx| hostile.poll_next_inbound(cx)).await;
        });
        assert!(matches!(host.driver.await.unwrap(), MuxEnd::Violation(_)));
        flood.await.unwrap();
    }

    #[tokio::test]
    async fn bytes_that_are_no_yamux_are_a_violation() {
        let (near, mut far) = duplex(4096);
        let host = side(Role::Host, near);
        far.write_all(b"codex-mcp guest: panicked at src/").await.unwrap();
        assert!(matches!(host.driver.await.unwrap(), MuxEnd::Violation(_)));
    }

    #[tokio::test]
    async fn letting_go_of_everything_ends_both_sides() {
        let (mut host, mut guest) = pair();
        let (ours, theirs) = connected(&mut host, &mut guest).await;
        drop((host.opener, host.incoming));
        assert!(!host.driver.is_finished());
        drop(ours);
        assert_eq!(host.driver.await.unwrap(), MuxEnd::LetGo);
        assert_eq!(guest.driver.await.unwrap(), MuxEnd::Closed);
        drop(theirs);
    }
}
