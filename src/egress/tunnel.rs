//! CONNECT: the first bytes must fit the name that was allowed; then bytes pass as they are.

use crate::config::rule::Inspection;
use crate::config::target::Target;
use crate::egress::first_bytes::{self, FirstBytes, Inspector, TLS_ACCESS_DENIED};
use crate::egress::head_screen::Screened;
use crate::egress::metered::Metered;
use crate::egress::policy::Passage;
use crate::egress::relay::Session;
use crate::egress::requests::{self, Side};
use bytes::BytesMut;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, copy_bidirectional_with_sizes};
use tokio::net::TcpStream;

/// The longest that a client may take to say what it speaks, from the answer to its CONNECT.
const FIRST_BYTES_TIMEOUT: Duration = Duration::from_secs(30);
/// How much is read at once, in bytes, in each direction: all that a tunnel holds of what passes through it.
const BUFFER: usize = 64 << 10;

/// Room for a usual ClientHello, in bytes.
const READ: usize = 4 << 10;

/// A connection that CONNECT asked for, allowed and made.
#[derive(Debug)]
pub struct Tunnel {
    pub target: Target,
    pub passage: Passage,
    pub upstream: Metered<TcpStream>,
}

/// What a client spoke first.
enum Spoken {
    /// It closed without a word.
    Nothing,
    First(FirstBytes),
}

/// Passes bytes until both directions have ended, or the connection is cut. `first` was read from the guest already.
pub async fn run<S>(session: &Arc<Session>, tunnel: Tunnel, mut guest: S, mut first: BytesMut)
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    // However it ends: cut, refused, or dropped because the client or the session is gone.
    tunnel.upstream.reset_when_dropped();
    if tunnel.passage.inspection == Inspection::Named {
        let meter = tunnel.upstream.meter();
        let spoken = tokio::select! {
            spoken = listen(&mut guest, &mut first) => spoken,
            cut = meter.cut() => return session.cut(&tunnel.target, cut),
        };
        let spoken = match spoken {
            Ok(Spoken::First(spoken)) => spoken,
            Ok(Spoken::Nothing) => return tunnel.upstream.end_when_dropped(),
            Err(_) => return,
        };
        if let Err(denial) = first_bytes::check(&tunnel.target, &tunnel.passage, &spoken) {
            session.deny(denial);
            drop(tunnel);
            return refuse(guest, &spoken).await;
        }
        if spoken == FirstBytes::Http {
            tunnel.upstream.end_when_dropped();
            let screened = Screened::new(guest, first);
            // Inside a tunnel no request opens another.
            let _ = requests::serve(session, screened, Side::Server(tunnel)).await;
            return;
        }
    }
    pass(session, tunnel, guest, &first).await;
}

/// Reads until it is clear what is spoken; `first` grows by what was read, to at most a ClientHello's bound and a buffer.
async fn listen(guest: &mut (impl AsyncRead + Unpin), first: &mut BytesMut) -> io::Result<Spoken> {
    let mut inspector = Inspector::default();
    let mut verdict = inspector.add(first);
    let read = async {
        while verdict == FirstBytes::NeedMore {
            let known = first.len();
            first.reserve(READ);
            if guest.read_buf(first).await? == 0 {
                break;
            }
            verdict = inspector.add(&first[known..]);
        }
        io::Result::Ok(())
    };
    // What was said in time is what there is to decide on.
    if let Ok(read) = tokio::time::timeout(FIRST_BYTES_TIMEOUT, read).await {
        read?;
        if first.is_empty() {
            return Ok(Spoken::Nothing);
        }
    }
    Ok(Spoken::First(verdict))
}

/// A TLS client is told in TLS; another one finds its connection closed, since no other protocol is known to be spoken.
async fn refuse(mut guest: impl AsyncWrite + Unpin, spoken: &FirstBytes) {
    if matches!(spoken, FirstBytes::Tls { .. } | FirstBytes::MalformedTls) {
        let told = async {
            guest.write_all(&TLS_ACCESS_DENIED).await?;
            guest.shutdown().await
        };
        // To a client that reads nothing there is nothing to tell.
        let _ = tokio::time::timeout(Duration::from_secs(1), told).await;
    }
}

async fn pass(session: &Session, mut tunnel: Tunnel, mut guest: impl AsyncRead + AsyncWrite + Unpin, first: &[u8]) {
    let meter = tunnel.upstream.meter();
    let copied = async {
        tunnel.upstream.write_all(first).await?;
        copy_bidirectional_with_sizes(&mut guest, &mut tunnel.upstream, BUFFER, BUFFER).await
    };
    let copied = tokio::select! {
        copied = copied => copied.map_err(|error| error.kind()),
        cut = meter.cut() => return session.cut(&tunnel.target, cut),
    };
    match (copied, meter.was_cut()) {
        (Ok((sent, received)), _) => {
            tunnel.upstream.end_when_dropped();
            tracing::debug!(destination = %tunnel.target, sent, received, "egress ended");
        }
        (Err(_), Some(cut)) => session.cut(&tunnel.target, cut),
        (Err(error), None) => tracing::debug!(destination = %tunnel.target, %error, "egress broke off"),
    }
}

#[cfg(test)]
mod tests;
