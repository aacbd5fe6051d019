//! Small servers on this host's loopback, in the test's own process: what a container may reach, and what it must not.
//!
//! Each one keeps what it saw, because "refused" inside is only half of an assertion; the other half is that nothing
//! arrived. They end with [`Servers`].

pub mod authority;
pub mod chatgpt;
pub mod dns;
pub mod http;
pub mod recorded;
pub mod sink;

use authority::Authority;
use chatgpt::ChatGpt;
use dns::Dns;
use http::Http;
use sink::Sink;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::sync::Semaphore;

/// All of 127.0.0.0/8 is this host. Tests allow this part of it by `network.private`, where it stands for a public
/// address, and the rest stands for all that is not.
pub const PERMITTED: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 77, 0, 1));
/// `network.private` for it.
pub const PERMITTED_RANGE: &str = "127.77.0.0/16";
/// Not in that range.
pub const FORBIDDEN: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// Connections that one server serves at once.
const AT_ONCE: usize = 64;

pub struct Servers(Runtime);

impl Servers {
    pub fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build();
        Self(runtime.unwrap())
    }

    /// A name server on 127.0.0.1, by UDP and TCP.
    pub fn dns(&self) -> Dns {
        self.0.block_on(Dns::start())
    }

    /// Plain HTTP.
    pub fn http(&self, address: IpAddr) -> Http {
        self.0.block_on(Http::start(address, None))
    }

    /// HTTP in TLS, with a certificate for `names`.
    pub fn https(&self, address: IpAddr, authority: &Authority, names: &[&str]) -> Http {
        self.0.block_on(Http::start(address, Some(authority.server(names))))
    }

    /// The ChatGPT backend and its token endpoint.
    pub fn chatgpt(&self) -> ChatGpt {
        self.0.block_on(ChatGpt::start())
    }

    /// Neither of them: takes what comes.
    pub fn sink(&self, address: IpAddr) -> Sink {
        self.0.block_on(Sink::start(address))
    }
}

/// Accepts until the runtime ends.
async fn listen<F>(address: IpAddr, serve: impl Fn(TcpStream) -> F + Send + 'static) -> SocketAddr
where
    F: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind((address, 0)).await.unwrap();
    let bound = listener.local_addr().unwrap();
    let share = Arc::new(Semaphore::new(AT_ONCE));
    tokio::spawn(async move {
        while let Ok(permit) = Arc::clone(&share).acquire_owned().await {
            let Ok((stream, _)) = listener.accept().await else {
                return;
            };
            let served = serve(stream);
            tokio::spawn(async move {
                served.await;
                drop(permit);
            });
        }
    });
    bound
}
