//! A name server and a proxy on loopback, for tests.

use crate::config::host::Host;
use crate::config::network::{OutgoingProxy, ProxyAddress, Resolution};
use crate::config::rule::Port;
use crate::config::{Origin, Sourced};
use hickory_resolver::proto::op::{Message, ResponseCode};
use hickory_resolver::proto::rr::{RData, Record, RecordType};
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream, UdpSocket};

/// What a name server answers.
#[derive(Debug, Clone)]
pub enum Answer {
    /// Those of the family that was asked for; valid for no time at all.
    Addresses(Vec<IpAddr>),
    Code(ResponseCode),
    /// Nothing, ever.
    Silence,
}

/// Answers over UDP until the test's runtime ends.
pub struct NameServer {
    pub address: SocketAddr,
    queries: Arc<Mutex<Vec<(String, RecordType)>>>,
}

impl NameServer {
    /// `answer` gets the name with its final dot.
    pub async fn start(mut answer: impl FnMut(&str) -> Answer + Send + 'static) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        let queries = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&queries);
        tokio::spawn(async move {
            let mut packet = [0; 1500];
            loop {
                let (length, client) = socket.recv_from(&mut packet).await.unwrap();
                let mut message = Message::from_vec(&packet[..length]).unwrap();
                let query = message.queries[0].clone();
                seen.lock()
                    .unwrap()
                    .push((query.name().to_string(), query.query_type()));
                let addresses = match answer(&query.name().to_string()) {
                    Answer::Silence => continue,
                    Answer::Code(code) => {
                        message.metadata.response_code = code;
                        Vec::new()
                    }
                    Answer::Addresses(addresses) => addresses,
                };
                let records = addresses.into_iter().map(RData::from);
                let records = records.filter(|data| data.record_type() == query.query_type());
                message.answers = records
                    .map(|data| Record::from_rdata(query.name().clone(), 0, data))
                    .collect();
                let message = message.into_response();
                socket.send_to(&message.to_vec().unwrap(), client).await.unwrap();
            }
        });
        Self { address, queries }
    }

    /// One name with fixed addresses; no other exists.
    pub async fn of(name: &'static str, addresses: Vec<IpAddr>) -> Self {
        Self::start(move |asked| match asked.trim_end_matches('.') == name {
            true => Answer::Addresses(addresses.clone()),
            false => Answer::Code(ResponseCode::NXDomain),
        })
        .await
    }

    /// What was asked so far, in its order.
    pub fn queries(&self) -> Vec<(String, RecordType)> {
        self.queries.lock().unwrap().clone()
    }
}

/// What a proxy does with a CONNECT.
#[derive(Debug, Clone)]
pub enum Behaviour {
    /// Sends this, then connects to that address, wherever it was asked to.
    Connect(&'static str, SocketAddr),
    /// Sends this and closes.
    Say(&'static str),
    /// Never answers.
    Hang,
}

pub const ESTABLISHED: &str = "HTTP/1.1 200 Connection established\r\nvia: test\r\n\r\n";

/// Serves until the test's runtime ends.
pub struct ConnectProxy {
    pub address: SocketAddr,
    heads: Arc<Mutex<Vec<String>>>,
}

impl ConnectProxy {
    /// `behaviour` gets each request's head.
    pub async fn start(behaviour: impl Fn(&str) -> Behaviour + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let heads = Arc::new(Mutex::new(Vec::new()));
        let (seen, behaviour) = (Arc::clone(&heads), Arc::new(behaviour));
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (seen, behaviour) = (Arc::clone(&seen), Arc::clone(&behaviour));
                tokio::spawn(async move {
                    serve(stream, |head| {
                        seen.lock().unwrap().push(head.to_owned());
                        behaviour(head)
                    })
                    .await
                });
            }
        });
        Self { address, heads }
    }

    /// The heads of all requests so far.
    pub fn heads(&self) -> Vec<String> {
        self.heads.lock().unwrap().clone()
    }

    /// Where the requests so far wanted to go.
    pub fn targets(&self) -> Vec<String> {
        let target = |head: &String| head.split(' ').nth(1).unwrap().to_owned();
        self.heads().iter().map(target).collect()
    }
}

/// For a proxy without credentials.
pub fn settings(proxy: SocketAddr, exceptions: &[&str], resolution: Resolution) -> OutgoingProxy {
    let address = ProxyAddress {
        host: Host::Address(proxy.ip()),
        port: Port::new(proxy.port()).unwrap(),
    };
    OutgoingProxy {
        address: Sourced::new(address, Origin::Default),
        credentials: None,
        exceptions: exceptions.iter().map(|text| text.parse().unwrap()).collect(),
        resolution,
    }
}

async fn serve(mut stream: TcpStream, behaviour: impl FnOnce(&str) -> Behaviour) -> std::io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await?);
    }
    match behaviour(&String::from_utf8(head).unwrap()) {
        Behaviour::Connect(answer, to) => {
            let mut server = TcpStream::connect(to).await?;
            stream.write_all(answer.as_bytes()).await?;
            copy_bidirectional(&mut stream, &mut server).await?;
        }
        Behaviour::Say(answer) => stream.write_all(answer.as_bytes()).await?,
        Behaviour::Hang => std::future::pending().await,
    }
    Ok(())
}
