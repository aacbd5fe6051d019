//! A TCP server of no protocol: it takes what comes until its client has no more to say, and then says how much that was.

use super::listen;
use super::recorded::Log;
use std::net::{IpAddr, SocketAddr};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Of one connection.
const MAX_TAKEN: u64 = 1 << 20;

pub struct Sink {
    pub address: SocketAddr,
    log: Log,
}

impl Sink {
    pub(super) async fn start(address: IpAddr) -> Self {
        let log = Log::default();
        let recorder = log.clone();
        let serve = move |stream| {
            let mut stream = recorder.record(stream);
            async move {
                let mut taken = Vec::new();
                // Answers only after the client's half-close: a relay that passes none on never gets this line.
                if (&mut stream).take(MAX_TAKEN).read_to_end(&mut taken).await.is_ok() {
                    let _ = stream
                        .write_all(format!("took {} bytes\n", taken.len()).as_bytes())
                        .await;
                    let _ = stream.shutdown().await;
                }
            }
        };
        Self {
            address: listen(address, serve).await,
            log,
        }
    }

    pub fn port(&self) -> u16 {
        self.address.port()
    }

    pub fn connections(&self) -> Vec<Vec<u8>> {
        self.log.connections()
    }
}
