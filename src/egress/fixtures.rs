//! A name server, servers and a guest's end on this machine's loopback, for the tests of the relay.

use crate::config::network::EgressLimits;
use crate::config::quantity::ByteSize;
use crate::config::rule::Rule;
use crate::config::target::Target;
use crate::config::{Origin, Sourced};
use crate::dial::{Dialer, Names};
use crate::egress::decision::{Denial, DeniedEgress};
use crate::egress::policy::Policy;
use crate::egress::relay::{Egress, SessionEgress};
use crate::egress::witness::{Unwitnessed, Witness};
use std::collections::BTreeMap;
use std::io;
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

const FLAG: Origin = Origin::Flag { name: "--network" };

fn rule(text: &str) -> Sourced<Rule> {
    Sourced::new(text.parse().unwrap(), FLAG)
}

pub fn limits() -> EgressLimits {
    let sourced = |duration: u64| Sourced::new(Duration::from_secs(duration), Origin::Default);
    EgressLimits {
        connections: Sourced::new(32, Origin::Default),
        connections_per_second: Sourced::new(1000, Origin::Default),
        bytes: Sourced::new(ByteSize::from_mib(1024), Origin::Default),
        bytes_per_second: None,
        connect: sourced(10),
        idle: sourced(300),
        total: sourced(3600),
    }
}

pub fn size(text: &str) -> Sourced<ByteSize> {
    Sourced::new(text.parse().unwrap(), Origin::Default)
}

/// Answers A queries from a table, each name with one address list after the other, the last one for ever. A name that is
/// not in it does not exist.
pub struct NameServer {
    address: std::net::SocketAddr,
    asked: Arc<AtomicUsize>,
    _serving: AbortOnDropHandle<()>,
}

type Answers = BTreeMap<&'static str, Vec<Vec<Ipv4Addr>>>;

impl NameServer {
    async fn start(answers: Answers) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        let asked = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&asked);
        let answers = Mutex::new(answers);
        let serving = tokio::spawn(async move {
            let mut query = [0; 512];
            loop {
                let (length, from) = socket.recv_from(&mut query).await.unwrap();
                let answer = answer(&query[..length], &answers, &count);
                socket.send_to(&answer, from).await.unwrap();
            }
        });
        Self {
            address,
            asked,
            _serving: AbortOnDropHandle::new(serving),
        }
    }

    /// How often an IPv4 address was asked for: once a lookup.
    pub fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

fn answer(query: &[u8], answers: &Mutex<Answers>, asked: &AtomicUsize) -> Vec<u8> {
    let mut labels = Vec::new();
    let mut at = 12;
    while query[at] != 0 {
        let end = at + 1 + usize::from(query[at]);
        labels.push(str::from_utf8(&query[at + 1..end]).unwrap().to_ascii_lowercase());
        at = end;
    }
    let is_a = query[at + 1..at + 3] == [0, 1];
    let mut answers = answers.lock().unwrap();
    let known = answers.get_mut(labels.join(".").as_str());
    let exists = known.is_some();
    let addresses = match known {
        Some(lists) if is_a && lists.len() > 1 => lists.remove(0),
        Some(lists) if is_a => lists[0].clone(),
        _ => Vec::new(),
    };
    asked.fetch_add(usize::from(is_a), Ordering::SeqCst);
    let flags = if exists { [0x81, 0x80] } else { [0x81, 0x83] };
    let counts = [0, 1, 0, addresses.len() as u8, 0, 0, 0, 0];
    let mut message = [&query[..2], &flags, &counts, &query[12..at + 5]].concat();
    for address in addresses {
        // The name of the question, A, IN, for no time at all.
        message.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4]);
        message.extend(address.octets());
    }
    message
}

/// A session, the names it may resolve, and who watches.
pub struct Bench {
    pub names: NameServer,
    pub session: SessionEgress,
    pub witness: Arc<Notes>,
}

/// A witness that remembers, or one that can't.
#[derive(Debug, Default)]
pub struct Notes {
    pub told: Mutex<Vec<String>>,
    pub fails: AtomicBool,
}

impl Witness for Notes {
    fn allowed(&self, target: &Target, rule: &Sourced<Rule>) -> Result<(), Unwitnessed> {
        if self.fails.load(Ordering::SeqCst) {
            return Err(Unwitnessed);
        }
        self.told
            .lock()
            .unwrap()
            .push(format!("allowed {target} by {}", rule.value));
        Ok(())
    }

    fn denied(&self, denial: &Denial) {
        let target = denial.target.as_ref().map(ToString::to_string);
        let target = target.unwrap_or_default();
        self.told.lock().unwrap().push(format!("denied {target}"));
    }
}

/// What a session of a test is made of. `a.test` and `b.test` are this machine, and loopback is in `network.private`.
pub struct Setup {
    pub allow: Vec<String>,
    pub deny: Vec<String>,
    pub private: Vec<String>,
    pub limits: EgressLimits,
    pub names: Answers,
}

impl Setup {
    pub fn allowing(rules: impl IntoIterator<Item = String>) -> Self {
        let here = vec![vec![Ipv4Addr::LOCALHOST]];
        Self {
            allow: rules.into_iter().collect(),
            deny: Vec::new(),
            private: vec!["127.0.0.0/8".to_owned()],
            limits: limits(),
            names: BTreeMap::from([("a.test", here.clone()), ("b.test", here)]),
        }
    }

    pub async fn start(self) -> Bench {
        let names = NameServer::start(self.names).await;
        let sourced = |text: &String| Sourced::new(text.parse().unwrap(), FLAG);
        let policy = Policy {
            allow: self.allow.iter().map(|text| rule(text)).collect(),
            deny: self
                .deny
                .iter()
                .map(|text| Sourced::new(text.parse().unwrap(), FLAG))
                .collect(),
            private: self.private.iter().map(sourced).collect(),
            narrowed_to: None,
        };
        let egress = Arc::new(Egress::new(Dialer::new(Names::new(&[names.address]))));
        let witness = Arc::new(Notes::default());
        let session = egress.for_session(policy, self.limits, Arc::clone(&witness) as Arc<dyn Witness>);
        Bench {
            names,
            session,
            witness,
        }
    }
}

impl Bench {
    /// Allows `a.test` on one port, with the suffix a rule may have.
    pub async fn of(port: u16, suffix: &str) -> Self {
        Setup::allowing([format!("a.test:{port}{suffix}")]).start().await
    }

    /// A connection of the guest.
    pub fn connect(&self) -> DuplexStream {
        self.connect_watched().0
    }

    /// As [`Self::connect`], and what serves it.
    pub fn connect_watched(&self) -> (DuplexStream, JoinHandle<()>) {
        let (guest, host) = tokio::io::duplex(64 << 10);
        let session = self.session.clone();
        (
            guest,
            tokio::spawn(async move { session.serve(host, CancellationToken::new()).await }),
        )
    }

    /// Sends one request on a connection of its own.
    pub async fn ask(&self, request: &str) -> Answer {
        let mut guest = self.connect();
        guest.write_all(request.as_bytes()).await.unwrap();
        Answer::read(&mut guest).await
    }

    /// Opens a tunnel.
    pub async fn tunnel(&self, to: &str) -> DuplexStream {
        let mut guest = self.connect();
        guest.write_all(connect(to).as_bytes()).await.unwrap();
        let answer = Answer::read(&mut guest).await;
        assert_eq!(
            answer.head, "HTTP/1.1 200 Connection established\r\n",
            "{}",
            answer.body
        );
        guest
    }

    /// The one refusal since this was last asked.
    pub fn denied(&self) -> DeniedEgress {
        let mut denied = self.session.take_denied();
        assert_eq!(denied.len(), 1, "{denied:?}");
        denied.remove(0)
    }
}

pub fn connect(to: &str) -> String {
    format!("CONNECT {to} HTTP/1.1\r\nHost: {to}\r\n\r\n")
}

pub fn get(host: &str, path: &str) -> String {
    format!("GET http://{host}{path} HTTP/1.1\r\nHost: {host}\r\n\r\n")
}

/// An answer of the relay.
#[derive(Debug)]
pub struct Answer {
    /// Status line and fields, without `date`.
    pub head: String,
    pub body: String,
}

impl Answer {
    /// Reads one whose length is said, and nothing behind it.
    pub async fn read(stream: &mut (impl AsyncRead + Unpin)) -> Self {
        let head = read_head(stream).await.unwrap();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        let mut body = vec![0; length.map_or(0, |length| length.parse().unwrap())];
        stream.read_exact(&mut body).await.unwrap();
        let fields = head.split_inclusive("\r\n");
        Self {
            head: fields
                .filter(|line| !line.starts_with("date: ") && *line != "\r\n")
                .collect(),
            body: String::from_utf8(body).unwrap(),
        }
    }

    pub fn status(&self) -> u16 {
        self.head[9..12].parse().unwrap()
    }

    pub fn closes(&self) -> bool {
        self.head.contains("connection: close\r\n")
    }
}

/// Reads to the empty line.
pub async fn read_head(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await?);
    }
    Ok(String::from_utf8(head).unwrap())
}

/// A server on loopback.
pub struct Server {
    pub listener: TcpListener,
    pub port: u16,
}

impl Server {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        Self { listener, port }
    }

    pub async fn accept(&self) -> TcpStream {
        self.listener.accept().await.unwrap().0
    }

    /// Reads a request's head and answers it with `answer`.
    pub async fn serve(&self, stream: &mut TcpStream, answer: &str) -> String {
        let head = read_head(stream).await.unwrap();
        stream.write_all(answer.as_bytes()).await.unwrap();
        head
    }

    /// Whether somebody connected. To be asked when whatever could have connected has ended: a connection is in the
    /// backlog before its maker knows of it.
    pub fn was_connected_to(&self) -> bool {
        let mut nothing = std::task::Context::from_waker(std::task::Waker::noop());
        self.listener.poll_accept(&mut nothing).is_ready()
    }
}

pub const EMPTY_OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
