//! TCP to one of several addresses.

use crate::config::rule::Port;
use crate::dial::dialer::DialError;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use nix::sys::socket::{setsockopt, sockopt};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;
use tokio::net::TcpStream;

/// How long an address is tried before the next one is tried beside it (RFC 8305), so that a dead first one costs little.
const HEAD_START: Duration = Duration::from_millis(250);
/// Finds a dead peer below a connection that is silent for minutes, in seconds.
const KEEPALIVE: u32 = 60;

/// The first connection that is made. Attempts begin in the order of the addresses; the others are dropped.
pub async fn connect(addresses: &[IpAddr], port: Port) -> Result<TcpStream, DialError> {
    let mut waiting = addresses.iter().map(|address| SocketAddr::new(*address, port.get()));
    let mut attempts = FuturesUnordered::new();
    let mut failure = DialError::NoAddress;
    loop {
        let untried = waiting.next();
        let more = untried.is_some();
        attempts.extend(untried.map(attempt));
        tokio::select! {
            ended = attempts.next() => match ended {
                Some(Ok(stream)) => return Ok(stream),
                Some(Err(error)) => failure = error,
                None => return Err(failure),
            },
            () = tokio::time::sleep(HEAD_START), if more => {}
        }
    }
}

async fn attempt(address: SocketAddr) -> Result<TcpStream, DialError> {
    let connecting = async {
        let stream = TcpStream::connect(address).await?;
        prepare(&stream)?;
        Ok(stream)
    };
    connecting
        .await
        .map_err(|error| DialError::Unreachable { address, error })
}

fn prepare(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    setsockopt(stream, sockopt::KeepAlive, &true)?;
    setsockopt(stream, sockopt::TcpKeepIdle, &KEEPALIVE)?;
    Ok(())
}
