//! A name server that answers from a table, by UDP and by TCP, and counts what it is asked.

use hickory_proto::op::{Message, OpCode, ResponseCode};
use hickory_proto::rr::rdata::{A, AAAA};
use hickory_proto::rr::{RData, Record, RecordType};
use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};

/// A query is far smaller.
const MAX_MESSAGE: usize = 4 << 10;

pub struct Dns {
    pub address: SocketAddr,
    zone: Arc<Mutex<Zone>>,
}

#[derive(Default)]
struct Zone {
    /// The answers to successive queries of one kind; the last one stays.
    answers: HashMap<String, Vec<Vec<IpAddr>>>,
    asked: HashMap<(String, RecordType), usize>,
}

impl Dns {
    pub(super) async fn start() -> Self {
        let zone = Arc::new(Mutex::new(Zone::default()));
        let (udp, tcp) = bind().await;
        let address = udp.local_addr().unwrap();
        tokio::spawn(serve_udp(udp, Arc::clone(&zone)));
        tokio::spawn(serve_tcp(tcp, Arc::clone(&zone)));
        Self { address, zone }
    }

    /// Gives a name its addresses.
    pub fn set(&self, name: &str, addresses: &[IpAddr]) {
        self.alternate(name, &[addresses]);
    }

    /// Gives a name other addresses each time it is asked for; the last ones stay. Queries for IPv4 and for IPv6 are
    /// counted apart, so that one look-up, which asks for both, gets one answer.
    pub fn alternate(&self, name: &str, answers: &[&[IpAddr]]) {
        let answers = answers.iter().map(|addresses| addresses.to_vec()).collect();
        self.zone.lock().unwrap().answers.insert(name.to_owned(), answers);
    }

    /// How often the IPv4 addresses of a name were asked for.
    pub fn look_ups(&self, name: &str) -> usize {
        let zone = self.zone.lock().unwrap();
        zone.asked
            .get(&(name.to_owned(), RecordType::A))
            .copied()
            .unwrap_or_default()
    }

    /// All names that were asked for, of any kind, sorted.
    pub fn names(&self) -> Vec<String> {
        let zone = self.zone.lock().unwrap();
        let mut names: Vec<String> = zone.asked.keys().map(|(name, _)| name.clone()).collect();
        names.sort();
        names.dedup();
        names
    }
}

/// One port for both.
async fn bind() -> (UdpSocket, TcpListener) {
    for _ in 0..100 {
        let udp = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        if let Ok(tcp) = TcpListener::bind(udp.local_addr().unwrap()).await {
            return (udp, tcp);
        }
    }
    panic!("no port is free for UDP and TCP");
}

async fn serve_udp(socket: UdpSocket, zone: Arc<Mutex<Zone>>) {
    let mut buffer = [0; MAX_MESSAGE];
    while let Ok((length, from)) = socket.recv_from(&mut buffer).await {
        let answered = answer(&zone, &buffer[..length]);
        if let Some(answer) = answered {
            let _ = socket.send_to(&answer, from).await;
        }
    }
}

async fn serve_tcp(listener: TcpListener, zone: Arc<Mutex<Zone>>) {
    while let Ok((stream, _)) = listener.accept().await {
        tokio::spawn(serve_stream(stream, Arc::clone(&zone)));
    }
}

async fn serve_stream(mut stream: TcpStream, zone: Arc<Mutex<Zone>>) -> Option<()> {
    loop {
        let length = stream.read_u16().await.ok()?;
        let mut query = vec![0; usize::from(length)];
        stream.read_exact(&mut query).await.ok()?;
        let answer = answer(&zone, &query)?;
        stream.write_u16(answer.len().try_into().ok()?).await.ok()?;
        stream.write_all(&answer).await.ok()?;
    }
}

fn answer(zone: &Mutex<Zone>, query: &[u8]) -> Option<Vec<u8>> {
    let query = Message::from_vec(query).ok()?;
    let question = query.queries.first()?;
    let mut answer = Message::response(query.metadata.id, OpCode::Query);
    answer.metadata.recursion_desired = query.metadata.recursion_desired;
    answer.metadata.recursion_available = true;
    answer.add_query(question.clone());
    match zone
        .lock()
        .unwrap()
        .ask(&question.name().to_ascii(), question.query_type())
    {
        None => answer.metadata.response_code = ResponseCode::NXDomain,
        Some(addresses) => {
            for address in addresses {
                let data = match address {
                    IpAddr::V4(address) => RData::A(A(address)),
                    IpAddr::V6(address) => RData::AAAA(AAAA(address)),
                };
                // To be kept by nobody: the next look-up may get another answer.
                answer.add_answer(Record::from_rdata(question.name().clone(), 0, data));
            }
        }
    }
    answer.to_vec().ok()
}

impl Zone {
    fn ask(&mut self, name: &str, kind: RecordType) -> Option<Vec<IpAddr>> {
        let name = name.trim_end_matches('.').to_ascii_lowercase();
        let asked = self.asked.entry((name.clone(), kind)).or_default();
        *asked += 1;
        let answers = self.answers.get(&name)?;
        let due = answers.get(*asked - 1).or_else(|| answers.last())?;
        let fits = |address: &&IpAddr| match kind {
            RecordType::A => address.is_ipv4(),
            RecordType::AAAA => address.is_ipv6(),
            _ => false,
        };
        Some(due.iter().filter(fits).copied().collect())
    }
}
