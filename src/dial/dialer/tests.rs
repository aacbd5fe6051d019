use super::*;
use crate::dial::fixtures::NameServer;
use nix::sys::socket::{getsockopt, sockopt};
use std::net::Ipv4Addr;
use tokio::net::{TcpListener, TcpSocket};

const LIMIT: Duration = Duration::from_secs(10);

/// Two addresses of loopback.
const FIRST: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 1));
const SECOND: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));

fn dialer() -> Dialer {
    Dialer::new(Names::new(&[]))
}

fn host() -> Host {
    "a.example.com".parse().unwrap()
}

fn port_of(listener: &TcpListener) -> Port {
    Port::new(listener.local_addr().unwrap().port()).unwrap()
}

/// A listener at that port whose queue is full: what connects to it gets no answer at all.
async fn deaf(address: IpAddr, port: Port) -> (TcpListener, Vec<tokio::task::JoinHandle<std::io::Result<TcpStream>>>) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(SocketAddr::new(address, port.get())).unwrap();
    let listener = socket.listen(1).unwrap();
    let address = listener.local_addr().unwrap();
    let mut filling = vec![tokio::spawn(TcpStream::connect(address))];
    // Full once a connect is left without an answer; the kernel decides how many fit.
    while tokio::time::timeout(Duration::from_millis(100), filling.last_mut().unwrap())
        .await
        .is_ok()
    {
        filling.push(tokio::spawn(TcpStream::connect(address)));
    }
    (listener, filling)
}

#[tokio::test]
async fn the_next_address_is_tried_where_one_refuses() {
    let listener = TcpListener::bind((SECOND, 0)).await.unwrap();
    let connected = dialer()
        .connect(&host(), &[FIRST, SECOND], port_of(&listener), LIMIT)
        .await;
    assert_eq!(connected.unwrap().peer_addr().unwrap(), listener.local_addr().unwrap());
}

#[tokio::test]
async fn a_deaf_first_address_does_not_use_up_the_time() {
    let listener = TcpListener::bind((SECOND, 0)).await.unwrap();
    let _deaf = deaf(FIRST, port_of(&listener)).await;
    let connected = dialer()
        .connect(&host(), &[FIRST, SECOND], port_of(&listener), LIMIT)
        .await;
    assert_eq!(connected.unwrap().peer_addr().unwrap().ip(), SECOND);
}

#[tokio::test]
async fn the_first_address_is_the_one_where_all_would_do() {
    let first = TcpListener::bind((FIRST, 0)).await.unwrap();
    let _second = TcpListener::bind((SECOND, port_of(&first).get())).await.unwrap();
    for addresses in [[FIRST, SECOND], [SECOND, FIRST]] {
        let connected = dialer()
            .connect(&host(), &addresses, port_of(&first), LIMIT)
            .await
            .unwrap();
        assert_eq!(connected.peer_addr().unwrap().ip(), addresses[0]);
        assert!(connected.nodelay().unwrap() && getsockopt(&connected, sockopt::KeepAlive).unwrap());
        assert!(getsockopt(&connected, sockopt::TcpKeepIdle).unwrap() <= 60);
    }
}

#[tokio::test]
async fn time_and_addresses_run_out_with_a_reason() {
    let listener = TcpListener::bind((SECOND, 0)).await.unwrap();
    let port = port_of(&listener);
    let _deaf = deaf(FIRST, port).await;
    let limit = Duration::from_millis(20);
    let slow = dialer().connect(&host(), &[FIRST], port, limit).await.unwrap_err();
    insta::assert_snapshot!(slow, @"no connection in 0.02 s");
    drop(listener);
    let refused = dialer().connect(&host(), &[SECOND], port, LIMIT).await.unwrap_err();
    let address = SocketAddr::new(SECOND, port.get());
    assert_eq!(
        refused.to_string(),
        format!("{address}: Connection refused (os error 111)")
    );
    let nothing = dialer().connect(&host(), &[], port, LIMIT).await;
    assert!(matches!(nothing, Err(DialError::NoAddress)));
    let unchecked = dialer().connect_by_proxy(&host(), port, LIMIT).await;
    assert!(matches!(unchecked, Err(DialError::NoAddress)));
}

#[tokio::test]
async fn connecting_resolves_nothing() {
    let server = NameServer::of("a.example.com", vec![FIRST]).await;
    let dialer = Dialer::new(Names::new(&[server.address]));
    let addresses = dialer.lookup(&host()).await.unwrap();
    let asked = server.queries();
    let listener = TcpListener::bind((FIRST, 0)).await.unwrap();
    dialer
        .connect(&host(), &addresses, port_of(&listener), LIMIT)
        .await
        .unwrap();
    assert_eq!(server.queries(), asked);
}
