//! All that a guest can send to its proxy port, where nothing is allowed: it is answered with refusals or not at all, in
//! bounded time, and what is told of it names canonical hosts only.

#![no_main]

use codex_mcp::config::host::Host;
use codex_mcp::config::network::EgressLimits;
use codex_mcp::config::quantity::ByteSize;
use codex_mcp::config::{Origin, Sourced};
use codex_mcp::dial::{Dialer, Names};
use codex_mcp::egress::{Egress, Policy};
use libfuzzer_sys::fuzz_target;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_util::sync::CancellationToken;

fuzz_target!(|sent: &[u8]| {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
    runtime.expect("a runtime starts").block_on(talk(sent));
});

async fn talk(sent: &[u8]) {
    let egress = Arc::new(Egress::new(Dialer::new(Names::new(&[]))));
    let session = egress.for_session(closed(), limits());
    // Room for everything at once: both ends are this thread.
    let (mut guest, host) = tokio::io::duplex(1 << 20);
    guest.write_all(sent).await.expect("the pipe has room");
    guest.shutdown().await.expect("an end can be said");
    session.serve(host, CancellationToken::new()).await;

    let mut answer = Vec::new();
    // An end that was reset is one as well.
    let _ = guest.read_to_end(&mut answer).await;
    assert!(
        answer.is_empty() || answer.starts_with(b"HTTP/1.1 4") || answer.starts_with(b"HTTP/1.0 4"),
        "answered {}",
        answer.escape_ascii()
    );
    for denied in session.take_denied() {
        if !denied.host.is_empty() {
            assert_eq!(denied.host.parse::<Host>().expect("a host").to_string(), denied.host);
        }
    }
}

fn closed() -> Policy {
    Policy {
        allow: Vec::new(),
        deny: Vec::new(),
        private: Vec::new(),
        narrowed_to: None,
    }
}

fn limits() -> EgressLimits {
    fn set<T>(value: T) -> Sourced<T> {
        Sourced::new(value, Origin::Default)
    }
    EgressLimits {
        connections: set(4),
        connections_per_second: set(1000),
        bytes: set(ByteSize::from_mib(1)),
        bytes_per_second: None,
        connect: set(Duration::from_secs(1)),
        idle: set(Duration::from_secs(2)),
        total: set(Duration::from_secs(5)),
    }
}
