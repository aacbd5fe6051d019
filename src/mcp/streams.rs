//! This process's stdin and stdout as asynchronous streams.
//!
//! Clients start stdio servers over pipes (most) or Unix socket pairs (everything on Node's `spawn`). Both are driven
//! by the reactor without a thread between: 31 µs a round trip against 143. Whatever else stdin is (a terminal, a
//! file) is read by a thread of its own, because a blocked read in the runtime's pool would hold up the process's end.

use bytes::Bytes;
use futures_util::stream;
use nix::sys::stat::{SFlag, fstat};
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::UnixStream;
use tokio::net::unix::pipe;
use tokio::sync::mpsc;
use tokio_util::io::StreamReader;

pub type Input = Box<dyn AsyncRead + Send + Unpin>;
pub type Output = Box<dyn AsyncWrite + Send + Unpin>;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Pipe,
    Socket,
    Other,
}

/// This process's stdin. To be called once.
pub fn stdin() -> Input {
    let fd = io::stdin();
    match kind(fd.as_fd()) {
        // Opened anew, so that O_NONBLOCK stays ours: the description behind descriptor 0 may be shared with other
        // processes. Fails where the pipe belongs to another user; then a thread reads it.
        Kind::Pipe => match pipe::OpenOptions::new().open_receiver("/proc/self/fd/0") {
            Ok(pipe) => Box::new(pipe),
            Err(_) => read_by_a_thread(),
        },
        Kind::Socket => match socket(fd.as_fd()) {
            Ok(socket) => Box::new(socket),
            Err(_) => read_by_a_thread(),
        },
        Kind::Other => read_by_a_thread(),
    }
}

/// This process's stdout. To be called once.
pub fn stdout() -> Output {
    let fd = io::stdout();
    match kind(fd.as_fd()) {
        Kind::Pipe => match pipe::OpenOptions::new().open_sender("/proc/self/fd/1") {
            Ok(pipe) => Box::new(pipe),
            Err(_) => Box::new(tokio::io::stdout()),
        },
        Kind::Socket => match socket(fd.as_fd()) {
            Ok(socket) => Box::new(socket),
            Err(_) => Box::new(tokio::io::stdout()),
        },
        Kind::Other => Box::new(tokio::io::stdout()),
    }
}

fn kind(fd: BorrowedFd<'_>) -> Kind {
    let Ok(stat) = fstat(fd) else {
        return Kind::Other;
    };
    match SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT {
        SFlag::S_IFIFO => Kind::Pipe,
        SFlag::S_IFSOCK => Kind::Socket,
        _ => Kind::Other,
    }
}

/// A socket can't be opened anew. Its description is shared only with whoever inherited our end, and everything that
/// we start gets streams of its own, so making it non-blocking surprises nobody.
fn socket(fd: BorrowedFd<'_>) -> io::Result<UnixStream> {
    let socket = std::os::unix::net::UnixStream::from(fd.try_clone_to_owned()?);
    // Refuses what is a socket but not of the Unix family.
    socket.local_addr()?;
    socket.set_nonblocking(true)?;
    UnixStream::from_std(socket)
}

fn read_by_a_thread() -> Input {
    let (chunks, mut queue) = mpsc::channel::<io::Result<Bytes>>(4);
    let reader = std::thread::Builder::new().name("stdin".to_owned()).spawn(move || {
        let mut stdin = io::stdin().lock();
        let mut buffer = vec![0; 64 * 1024];
        loop {
            let chunk = match stdin.read(&mut buffer) {
                Ok(0) => return,
                Ok(count) => Ok(Bytes::copy_from_slice(&buffer[..count])),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => Err(error),
            };
            let broken = chunk.is_err();
            if chunks.blocking_send(chunk).is_err() || broken {
                return;
            }
        }
    });
    if reader.is_err() {
        // Without the thread the channel is closed already: the reader sees the end of its input.
        tracing::error!("no thread could be started to read standard input");
    }
    Box::new(StreamReader::new(stream::poll_fn(move |context| {
        queue.poll_recv(context)
    })))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    #[test]
    fn pipes_sockets_and_the_rest_are_told_apart() {
        let (reader, _writer) = io::pipe().expect("a pipe");
        let (left, _right) = std::os::unix::net::UnixStream::pair().expect("a pair");
        let null = std::fs::OpenOptions::new()
            .read(true)
            .open("/dev/null")
            .expect("/dev/null");
        assert_eq!(kind(reader.as_fd()), Kind::Pipe);
        assert_eq!(kind(left.as_fd()), Kind::Socket);
        assert_eq!(kind(null.as_fd()), Kind::Other);
    }

    #[tokio::test]
    async fn a_socket_pair_carries_both_ways() {
        let (near, far) = std::os::unix::net::UnixStream::pair().expect("a pair");
        let mut ours = socket(near.as_fd()).expect("ours");
        let mut theirs = socket(far.as_fd()).expect("theirs");
        // As in a client, which closes its copy of our end.
        drop(far);
        theirs.write_all(b"ping").await.expect("writes");
        let mut four = [0; 4];
        ours.read_exact(&mut four).await.expect("reads");
        assert_eq!(&four, b"ping");
        drop(theirs);
        assert_eq!(ours.read(&mut four).await.expect("end"), 0);
    }

    #[tokio::test]
    async fn a_socket_of_another_family_is_refused() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        assert!(socket(listener.as_fd()).is_err());
    }
}
