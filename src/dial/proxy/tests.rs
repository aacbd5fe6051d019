use super::*;
use crate::config::Sourced;
use crate::config::network::ProxyCredentials;
use crate::config::proxy::VARIABLES;
use crate::dial::Dialer;
use crate::dial::fixtures::{Behaviour, ConnectProxy, ESTABLISHED, NameServer, settings};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

const LIMIT: Duration = Duration::from_secs(10);
/// Public, and nobody's: nothing here is ever dialled.
const ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));

struct Fixed(Result<&'static str, &'static str>);

impl Credentials for Fixed {
    fn authorization(&self) -> BoxFuture<'_, Result<HeaderValue, Box<dyn Error + Send + Sync>>> {
        let read = self.0.map(HeaderValue::from_static).map_err(Into::into);
        Box::pin(std::future::ready(read))
    }
}

fn through(proxy: SocketAddr) -> Dialer {
    let proxy = Proxy::new(settings(proxy, &[], Resolution::Here), None);
    Dialer::through(Names::new(&[]), proxy)
}

fn host(text: &str) -> Host {
    text.parse().unwrap()
}

async fn refusal(behaviour: Behaviour, limit: Duration) -> String {
    let proxy = ConnectProxy::start(move |_| behaviour.clone()).await;
    let error = through(proxy.address)
        .connect(&host("a.example.com"), &[ADDRESS], Port::HTTPS, limit)
        .await
        .unwrap_err();
    let prefix = format!("the proxy http://{} (from default): ", proxy.address);
    error.to_string().strip_prefix(&prefix).unwrap().to_owned()
}

#[tokio::test]
async fn it_is_told_the_checked_address_and_the_greeting_after_its_answer_arrives() {
    let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let to = server.local_addr().unwrap();
    // In one piece with the answer, as a proxy may send what the server said at once.
    let proxy = ConnectProxy::start(move |_| {
        Behaviour::Connect("HTTP/1.1 200 Connection established\r\n\r\n220 ready\r\n", to)
    })
    .await;
    let mut stream = through(proxy.address)
        .connect(&host("a.example.com"), &[ADDRESS], Port::HTTPS, LIMIT)
        .await
        .unwrap();
    let mut greeting = [0; 11];
    stream.read_exact(&mut greeting).await.unwrap();
    assert_eq!(&greeting, b"220 ready\r\n");
    stream.write_all(b"hello").await.unwrap();
    let (mut served, _) = server.accept().await.unwrap();
    let mut heard = [0; 5];
    served.read_exact(&mut heard).await.unwrap();
    assert_eq!(&heard, b"hello");
    assert_eq!(
        proxy.heads(),
        ["CONNECT 192.0.2.1:443 HTTP/1.1\r\nHost: 192.0.2.1:443\r\n\r\n"]
    );
}

#[tokio::test]
async fn it_is_told_the_name_only_where_the_operator_said_so() {
    let proxy = ConnectProxy::start(|_| Behaviour::Say(ESTABLISHED)).await;
    let names = NameServer::of("a.example.com", vec![ADDRESS]).await;
    let by_name = Dialer::through(
        Names::new(&[names.address]),
        Proxy::new(
            settings(proxy.address, &["direct.example.com"], Resolution::ByProxy),
            None,
        ),
    );
    assert_eq!(by_name.resolution(&host("a.example.com")), Resolution::ByProxy);
    for here in ["direct.example.com", "192.0.2.1", "localhost"] {
        assert_eq!(by_name.resolution(&host(here)), Resolution::Here, "{here}");
        let unchecked = by_name
            .connect_by_proxy(&host("direct.example.com"), Port::HTTPS, LIMIT)
            .await;
        assert!(matches!(unchecked, Err(DialError::NoAddress)));
    }
    by_name
        .connect_by_proxy(&host("a.example.com"), Port::HTTPS, LIMIT)
        .await
        .unwrap();
    assert_eq!(proxy.targets(), ["a.example.com:443"]);
    assert_eq!(names.queries(), []);

    let here = through(proxy.address);
    assert_eq!(here.resolution(&host("a.example.com")), Resolution::Here);
    let unchecked = here.connect_by_proxy(&host("a.example.com"), Port::HTTPS, LIMIT).await;
    assert!(matches!(unchecked, Err(DialError::NoAddress)));
    assert_eq!(proxy.targets().len(), 1);
}

#[tokio::test]
async fn its_own_name_is_resolved_here() {
    let proxy = ConnectProxy::start(|_| Behaviour::Say(ESTABLISHED)).await;
    let names = NameServer::of("proxy.example.com", vec![proxy.address.ip()]).await;
    let mut settings = settings(proxy.address, &[], Resolution::Here);
    settings.address.value.host = host("proxy.example.com");
    let dialer = Dialer::through(Names::new(&[names.address]), Proxy::new(settings, None));
    let connected = dialer
        .connect(&host("a.example.com"), &[ADDRESS], Port::HTTPS, LIMIT)
        .await;
    connected.unwrap();
    assert_eq!(proxy.targets(), ["192.0.2.1:443"]);
}

#[tokio::test]
async fn exceptions_and_this_machine_are_reached_directly_and_nothing_else_is() {
    let proxy = ConnectProxy::start(|_| Behaviour::Say("HTTP/1.1 403 Forbidden\r\n\r\n")).await;
    let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = Port::new(server.local_addr().unwrap().port()).unwrap();
    let loopback = [IpAddr::from(Ipv4Addr::LOCALHOST)];
    let dialer = |exceptions: &[&str]| {
        let proxy = Proxy::new(settings(proxy.address, exceptions, Resolution::Here), None);
        Dialer::through(Names::new(&[]), proxy)
    };
    for (exceptions, to) in [
        (&["example.com"] as &[&str], "a.example.com"),
        (&["192.0.2.1"], "192.0.2.1"),
        (&["192.0.2.0/24"], "192.0.2.1"),
        (&["*"], "a.example.net"),
        (&[], "localhost"),
        (&[], "127.0.0.1"),
        // Of the proxy's loopback nobody knows anything.
        (&[], "a.example.net"),
    ] {
        let direct = dialer(exceptions)
            .connect(&host(to), &loopback, port, LIMIT)
            .await
            .unwrap();
        assert_eq!(direct.peer_addr().unwrap(), server.local_addr().unwrap(), "{to}");
    }
    assert_eq!(proxy.targets().len(), 0);
    let mixed = [loopback[0], ADDRESS];
    let refused = dialer(&["example.com"])
        .connect(&host("a.example.net"), &mixed, port, LIMIT)
        .await;
    assert!(matches!(refused, Err(DialError::Proxy { .. })));
    assert_eq!(proxy.targets(), [format!("192.0.2.1:{port}")]);
}

#[tokio::test]
async fn a_refused_address_is_followed_by_the_next() {
    let second = IpAddr::from(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1));
    let proxy = ConnectProxy::start(|head| match head.contains("192.0.2.1") {
        true => Behaviour::Say("HTTP/1.1 503 Unreachable\r\n\r\n"),
        false => Behaviour::Say(ESTABLISHED),
    })
    .await;
    let dialer = through(proxy.address);
    let connected = dialer
        .connect(&host("a.example.com"), &[ADDRESS, second], Port::HTTPS, LIMIT)
        .await;
    connected.unwrap();
    assert_eq!(proxy.targets(), ["192.0.2.1:443", "[2001:db8::1]:443"]);
}

#[tokio::test]
async fn every_way_to_fail_says_what_it_was() {
    let say = |answer| refusal(Behaviour::Say(answer), LIMIT);
    insta::assert_snapshot!(say("HTTP/1.1 502 Bad Gateway\r\n\r\n").await, @"it answered 502 Bad Gateway for 192.0.2.1:443");
    insta::assert_snapshot!(say("HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n").await, @"it answered 403 Forbidden for 192.0.2.1:443; where it allows by name, network.proxy_resolves = true tells it names (which nobody checks here)");
    insta::assert_snapshot!(say("HTTP/1.1 407 Who?\r\n\r\n").await, @"it wants user and password; set network.proxy_credentials");
    insta::assert_snapshot!(say("").await, @"it closed the connection without an answer");
    insta::assert_snapshot!(say("HTTP/1.1 200 OK\r\nhalf: ").await, @"it closed the connection without an answer");
    insta::assert_snapshot!(say("SSH-2.0-OpenSSH\r\n\r\n").await, @"what it answered is no HTTP; is it a proxy that takes CONNECT?");
    let endless: &'static str = String::leak(format!("HTTP/1.1 200 OK\r\nx: {}", "y".repeat(9000)));
    insta::assert_snapshot!(say(endless).await, @"what it answered is no HTTP; is it a proxy that takes CONNECT?");
    let hung = refusal(Behaviour::Hang, Duration::from_millis(20)).await;
    insta::assert_snapshot!(hung, @"it made no connection in time");
}

#[tokio::test]
async fn without_the_proxy_there_is_no_connection() {
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let server = TcpListener::bind("0.0.0.0:0").await.unwrap();
    // One that a direct connection would reach: of this machine, but not loopback.
    let own = crate::dial::own_addresses::read().unwrap();
    let other = own
        .into_iter()
        .find(|address| !address.is_loopback())
        .unwrap_or(ADDRESS);
    let port = Port::new(server.local_addr().unwrap().port()).unwrap();
    let error = through(gone)
        .connect(&host("a.example.com"), &[other], port, LIMIT)
        .await
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("the proxy http://{gone} (from default): can't reach it: {gone}: Connection refused (os error 111)")
    );
}

#[tokio::test]
async fn credentials_are_sent_and_in_no_error() {
    let proxy = ConnectProxy::start(
        |head| match head.contains("\r\nProxy-Authorization: Basic aHVzaA==\r\n") {
            true => Behaviour::Say(ESTABLISHED),
            false => Behaviour::Say("HTTP/1.1 407 Proxy Authentication Required\r\n\r\n"),
        },
    )
    .await;
    let connect = |credentials: Result<&'static str, &'static str>| {
        let origin = Origin::Environment { name: VARIABLES[0] };
        let mut settings = settings(proxy.address, &[], Resolution::Here);
        settings.credentials = Some(Sourced::new(ProxyCredentials::InVariable(VARIABLES[0]), origin));
        let proxy = Proxy::new(settings, Some(Arc::new(Fixed(credentials))));
        let dialer = Dialer::through(Names::new(&[]), proxy);
        async move {
            let addresses = [ADDRESS, ADDRESS];
            let connected = dialer
                .connect(&host("a.example.com"), &addresses, Port::HTTPS, LIMIT)
                .await;
            connected
                .map(drop)
                .map_err(|error| format!("{error} {error:?} {dialer:?}"))
        }
    };
    connect(Ok("Basic aHVzaA==")).await.unwrap();
    let refused = connect(Ok("Basic d3Jvbmc=")).await.unwrap_err();
    assert!(
        refused.contains("it refused the user and password of environment HTTPS_PROXY") && !refused.contains("d3Jvbmc"),
        "{refused}"
    );
    // Wrong ones are not tried again with the next address: an account may be locked for it.
    assert_eq!(proxy.targets().len(), 2);
    let unread = connect(Err("the file is gone")).await.unwrap_err();
    assert!(
        unread.contains("can't read its credentials: the file is gone"),
        "{unread}"
    );
    assert_eq!(proxy.targets().len(), 2);
}
