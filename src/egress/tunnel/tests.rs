//! Tunnels, from the guest's end: what may be spoken first, and how they end.

use crate::egress::first_bytes::TLS_ACCESS_DENIED;
use crate::egress::fixtures::{Answer, Bench, EMPTY_OK, Server, Setup, connect, get, read_head};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, TlsConnector};
use tokio_util::sync::CancellationToken;

fn client_config(roots: RootCertStore) -> Arc<ClientConfig> {
    let builder = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()));
    let builder = builder.with_safe_default_protocol_versions().unwrap();
    Arc::new(builder.with_root_certificates(roots).with_no_client_auth())
}

/// What a real client says first to `server`; an address makes one without a server name.
fn client_hello(server: &str) -> Vec<u8> {
    let config = client_config(RootCertStore::empty());
    let server = ServerName::try_from(server.to_owned()).unwrap();
    let mut hello = Vec::new();
    ClientConnection::new(config, server)
        .unwrap()
        .write_tls(&mut hello)
        .unwrap();
    hello
}

/// A server that is `a.test` to a client which trusts it.
fn tls() -> (TlsAcceptor, TlsConnector) {
    let certified = rcgen::generate_simple_self_signed(["a.test".to_owned()]).unwrap();
    let key = rustls::pki_types::PrivateKeyDer::try_from(certified.signing_key.serialize_der()).unwrap();
    let certificate = certified.cert.der().clone();
    let builder = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()));
    let builder = builder.with_safe_default_protocol_versions().unwrap();
    let server = builder
        .with_no_client_auth()
        .with_single_cert(vec![certificate.clone()], key)
        .unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(certificate).unwrap();
    (
        TlsAcceptor::from(Arc::new(server)),
        TlsConnector::from(client_config(roots)),
    )
}

/// A tunnel to `a.test`, and its server's end.
async fn opened(suffix: &str) -> (Bench, Server, DuplexStream, TcpStream) {
    let server = Server::start().await;
    let bench = Bench::of(server.port, suffix).await;
    let guest = bench.tunnel(&format!("a.test:{}", server.port)).await;
    let stream = server.accept().await;
    (bench, server, guest, stream)
}

/// Has the guest say this first, and checks that the server gets nothing and sees that it was cut. What the guest gets.
async fn refused(first: &[u8]) -> (Bench, Vec<u8>) {
    let (bench, _server, mut guest, mut stream) = opened("").await;
    guest.write_all(first).await.unwrap();
    let mut told = Vec::new();
    guest.read_to_end(&mut told).await.unwrap();
    let mut got = Vec::new();
    let ended = stream.read_to_end(&mut got).await;
    assert_eq!(ended.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    assert!(got.is_empty(), "{got:?}");
    (bench, told)
}

#[tokio::test]
async fn tls_to_the_allowed_name_passes() {
    let (_bench, _server, guest, stream) = opened("").await;
    let (acceptor, connector) = tls();
    let serving = async {
        let mut stream = acceptor.accept(stream).await.unwrap();
        let mut asked = [0; 4];
        stream.read_exact(&mut asked).await.unwrap();
        assert_eq!(&asked, b"ping");
        stream.write_all(b"pong").await.unwrap();
        stream.shutdown().await.unwrap();
    };
    let asking = async {
        let mut guest = connector.connect("a.test".try_into().unwrap(), guest).await.unwrap();
        guest.write_all(b"ping").await.unwrap();
        let mut answer = String::new();
        guest.read_to_string(&mut answer).await.unwrap();
        assert_eq!(answer, "pong");
    };
    tokio::join!(serving, asking);
}

#[tokio::test]
async fn tls_to_another_name_is_told_so_in_tls() {
    let (bench, told) = refused(&client_hello("b.test")).await;
    assert_eq!(told, TLS_ACCESS_DENIED);
    let denied = bench.denied();
    assert_eq!((denied.host.as_str(), denied.count), ("a.test", 1));
}

#[tokio::test]
async fn tls_without_a_server_name_is_refused() {
    let (bench, told) = refused(&client_hello("127.0.0.1")).await;
    assert_eq!(told, TLS_ACCESS_DENIED);
    bench.denied();
}

#[tokio::test]
async fn tls_to_an_allowed_address_needs_no_server_name() {
    let server = Server::start().await;
    let address = format!("127.0.0.1:{}", server.port);
    let bench = Setup::allowing([address.clone()]).start().await;
    let mut guest = bench.tunnel(&address).await;
    let hello = client_hello("127.0.0.1");
    guest.write_all(&hello).await.unwrap();
    let mut got = vec![0; hello.len()];
    server.accept().await.read_exact(&mut got).await.unwrap();
    assert_eq!(got, hello);
    assert_eq!(bench.names.asked(), 0);
}

#[tokio::test]
async fn a_client_hello_in_pieces_is_put_together() {
    // A reader that sees no further than a packet would let the second one pass unseen.
    for (name, passes) in [("a.test", true), ("b.test", false)] {
        let (_bench, _server, mut guest, mut stream) = opened("").await;
        let hello = client_hello(name);
        let mut got = Vec::new();
        if passes {
            for byte in &hello {
                guest.write_all(&[*byte]).await.unwrap();
                tokio::task::yield_now().await;
            }
            got.resize(hello.len(), 0);
            stream.read_exact(&mut got).await.unwrap();
            assert_eq!(got, hello);
        } else {
            for byte in &hello {
                let _ = guest.write_all(&[*byte]).await;
                tokio::task::yield_now().await;
            }
            assert!(stream.read_to_end(&mut got).await.is_err());
            assert!(got.is_empty());
        }
    }
}

#[tokio::test]
async fn first_bytes_may_come_with_the_connect() {
    let server = Server::start().await;
    let bench = Bench::of(server.port, "").await;
    let hello = client_hello("a.test");
    let mut guest = bench.connect();
    let mut eager = connect(&format!("a.test:{}", server.port)).into_bytes();
    eager.extend_from_slice(&hello);
    guest.write_all(&eager).await.unwrap();
    assert_eq!(Answer::read(&mut guest).await.status(), 200);
    let mut got = vec![0; hello.len()];
    server.accept().await.read_exact(&mut got).await.unwrap();
    assert_eq!(got, hello);
}

#[tokio::test]
async fn what_is_neither_tls_nor_http_is_refused() {
    for first in [
        &b"SSH-2.0-client\r\n"[..],
        b"\0\0\0\x08\x04\xd2\x16\x2f",
        b"PRI * HTTP/2.0\r\n\r\n",
    ] {
        let (bench, told) = refused(first).await;
        assert!(told.is_empty());
        assert!(bench.denied().how_to_allow.contains("/tcp"));
    }
}

#[tokio::test]
async fn tls_that_can_be_read_in_two_ways_is_refused() {
    let (bench, told) = refused(b"\x16\x03\x01\x00\x04\x0e\x00\x00\x00").await;
    assert_eq!(told, TLS_ACCESS_DENIED);
    bench.denied();
}

#[tokio::test]
async fn a_tcp_rule_asks_for_nothing() {
    let (_bench, _server, mut guest, mut stream) = opened("/tcp").await;
    // As in many protocols, the server speaks first.
    stream.write_all(b"220 ready\r\n").await.unwrap();
    guest.read_exact(&mut [0; 11]).await.unwrap();
    guest.write_all(b"EHLO x\r\n").await.unwrap();
    stream.read_exact(&mut [0; 8]).await.unwrap();
}

#[tokio::test]
async fn a_client_that_says_nothing_is_refused_in_the_end() {
    let (bench, _server, mut guest, mut stream) = opened("").await;
    guest.write_all(b"\x16\x03\x01").await.unwrap();
    tokio::time::pause();
    assert_eq!(guest.read(&mut [0]).await.unwrap(), 0);
    assert!(stream.read(&mut [0]).await.is_err());
    bench.denied();
}

#[tokio::test]
async fn a_client_that_closes_without_a_word_is_not_refused() {
    let (bench, _server, guest, mut stream) = opened("").await;
    drop(guest);
    assert_eq!(stream.read(&mut [0]).await.unwrap(), 0);
    assert_eq!(bench.session.take_denied(), []);
}

#[tokio::test]
async fn http_in_a_tunnel_is_decided_request_by_request() {
    let (bench, server, mut guest, mut stream) = opened("").await;
    let host = format!("a.test:{}", server.port);
    let request = |host: &str| format!("GET /x HTTP/1.1\r\nHost: {host}\r\n\r\n");
    guest.write_all(request(&host.to_uppercase()).as_bytes()).await.unwrap();
    let got = server.serve(&mut stream, EMPTY_OK).await;
    assert_eq!(got, format!("GET /x HTTP/1.1\r\nhost: {host}\r\n\r\n"));
    assert_eq!(Answer::read(&mut guest).await.status(), 200);
    // The connection that passed one check passes the next, with another name, no better.
    for other in [
        "b.test".to_owned(),
        format!("b.test:{}", server.port),
        "a.test".to_owned(),
    ] {
        guest.write_all(request(&other).as_bytes()).await.unwrap();
        let answer = Answer::read(&mut guest).await;
        assert_eq!(answer.status(), 403, "{other}");
    }
    guest.write_all(get(&host, "/").as_bytes()).await.unwrap();
    let answer = Answer::read(&mut guest).await;
    assert_eq!(answer.status(), 400, "{answer:?}");
    assert!(answer.closes());
    assert_eq!(guest.read(&mut [0]).await.unwrap(), 0);
    // The one request was all that came.
    let mut rest = Vec::new();
    let _ = stream.read_to_end(&mut rest).await;
    assert!(rest.is_empty(), "{rest:?}");
    assert_eq!(bench.session.take_denied().len(), 2);
}

#[tokio::test]
async fn a_tunnel_opens_no_other() {
    let (_bench, server, mut guest, mut stream) = opened("").await;
    let host = format!("a.test:{}", server.port);
    guest.write_all(connect(&host).as_bytes()).await.unwrap();
    assert_eq!(Answer::read(&mut guest).await.status(), 400);
    let mut got = Vec::new();
    let _ = stream.read_to_end(&mut got).await;
    assert!(got.is_empty());
    assert!(!server.was_connected_to());
}

#[tokio::test]
async fn each_direction_ends_by_itself() {
    let (_bench, _server, mut guest, mut stream) = opened("/tcp").await;
    guest.write_all(b"all of it").await.unwrap();
    guest.shutdown().await.unwrap();
    let mut got = String::new();
    stream.read_to_string(&mut got).await.unwrap();
    assert_eq!(got, "all of it");
    stream.write_all(b"answer").await.unwrap();
    stream.shutdown().await.unwrap();
    let mut answer = String::new();
    guest.read_to_string(&mut answer).await.unwrap();
    assert_eq!(answer, "answer");

    let (_bench, _server, mut guest, mut stream) = opened("/tcp").await;
    stream.write_all(b"banner").await.unwrap();
    stream.shutdown().await.unwrap();
    let mut banner = String::new();
    guest.read_to_string(&mut banner).await.unwrap();
    assert_eq!(banner, "banner");
    guest.write_all(b"still here").await.unwrap();
    guest.shutdown().await.unwrap();
    let mut got = String::new();
    stream.read_to_string(&mut got).await.unwrap();
    assert_eq!(got, "still here");
}

#[tokio::test]
async fn a_servers_reset_is_no_end_of_file() {
    let (_bench, _server, mut guest, stream) = opened("/tcp").await;
    stream.set_zero_linger().unwrap();
    drop(stream);
    assert_eq!(guest.read(&mut [0]).await.unwrap(), 0);
    // After an end of file the other direction would go on.
    assert!(guest.write_all(b"x").await.is_err());
}

/// A guest's end whose other side is reset once it is told to be.
struct Breaking(
    DuplexStream,
    Arc<tokio::sync::Notify>,
    Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
);

impl AsyncRead for Breaking {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let told = Arc::clone(&self.1);
        let broken = self
            .2
            .get_or_insert_with(|| Box::pin(async move { told.notified().await }));
        if broken.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for Breaking {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

#[tokio::test]
async fn a_guests_reset_is_no_end_of_file() {
    let server = Server::start().await;
    let bench = Bench::of(server.port, "/tcp").await;
    let (mut guest, host) = tokio::io::duplex(1 << 16);
    let broken = Arc::new(tokio::sync::Notify::new());
    let host = Breaking(host, Arc::clone(&broken), None);
    let session = bench.session.clone();
    tokio::spawn(async move { session.serve(host, CancellationToken::new()).await });
    let host = format!("a.test:{}", server.port);
    guest.write_all(connect(&host).as_bytes()).await.unwrap();
    Answer::read(&mut guest).await;
    let mut stream = server.accept().await;
    guest.write_all(b"half an upload").await.unwrap();
    stream.read_exact(&mut [0; 14]).await.unwrap();
    broken.notify_one();
    let ended = stream.read(&mut [0]).await;
    assert_eq!(ended.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn a_silent_tunnel_is_cut() {
    let (_bench, _server, mut guest, mut stream) = opened("/tcp").await;
    guest.write_all(b"x").await.unwrap();
    stream.read_exact(&mut [0]).await.unwrap();
    tokio::time::pause();
    let start = tokio::time::Instant::now();
    assert_eq!(guest.read(&mut [0]).await.unwrap(), 0);
    assert!(start.elapsed().as_secs() >= 299, "{:?}", start.elapsed());
    assert!(stream.read(&mut [0]).await.is_err());
}

#[tokio::test]
async fn a_slow_reader_holds_a_fixed_number_of_bytes_here() {
    let (bench, _server, mut guest, mut stream) = opened("/tcp").await;
    let sending = tokio::spawn(async move {
        stream.write_all(&vec![7; 8 << 20]).await.unwrap();
    });
    let (mut received, mut most) = (0, 0);
    let mut part = vec![0; 1 << 10];
    loop {
        let read = guest.read(&mut part).await.unwrap();
        if read == 0 {
            break;
        }
        received += read;
        most = most.max(bench.session.bytes_moved() - received as u64);
        tokio::task::yield_now().await;
    }
    sending.await.unwrap();
    assert_eq!(received, 8 << 20);
    // The guest's pipe, and one buffer.
    assert!(most <= (64 << 10) + super::BUFFER as u64, "{most}");
    assert!(most > 64 << 10, "nothing was held back: {most}");
}

#[tokio::test]
async fn a_head_is_all_that_is_read_as_http() {
    // What follows the CONNECT's head is the tunnel's, whatever it looks like.
    let server = Server::start().await;
    let bench = Bench::of(server.port, "/tcp").await;
    let mut guest = bench.connect();
    let request = get("b.test", "/");
    let eager = format!("{}{request}", connect(&format!("a.test:{}", server.port)));
    guest.write_all(eager.as_bytes()).await.unwrap();
    assert_eq!(Answer::read(&mut guest).await.status(), 200);
    assert_eq!(read_head(&mut server.accept().await).await.unwrap(), request);
}
