use super::*;
use crate::dial::fixtures::{Answer, NameServer};
use std::sync::atomic::{AtomicU8, Ordering};

fn name(text: &str) -> DnsName {
    text.parse().unwrap()
}

fn v4(last: u8) -> IpAddr {
    Ipv4Addr::new(192, 0, 2, last).into()
}

fn v6(last: u16) -> IpAddr {
    Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, last).into()
}

async fn looked_up(answer: Answer) -> Result<Vec<IpAddr>, LookupError> {
    let server = NameServer::start(move |_| answer.clone()).await;
    Names::new(&[server.address]).lookup(&name("a.example.com")).await
}

#[tokio::test]
async fn localhost_and_names_below_it_are_loopback_and_never_asked() {
    let server = NameServer::start(|_| Answer::Addresses(vec![v4(1)])).await;
    let names = Names::new(&[server.address]);
    for text in ["localhost", "LocalHost.", "a.localhost"] {
        let addresses = names.lookup(&name(text)).await.unwrap();
        assert_eq!(
            addresses,
            [IpAddr::from(Ipv4Addr::LOCALHOST), IpAddr::from(Ipv6Addr::LOCALHOST)],
            "{text}"
        );
    }
    assert_eq!(server.queries(), []);
    for text in ["localhost.example.com", "notlocalhost"] {
        assert_eq!(names.lookup(&name(text)).await.unwrap(), [v4(1)], "{text}");
    }
}

#[tokio::test]
async fn a_lookup_asks_once_for_each_family_and_for_that_name_only() {
    let server = NameServer::of("a.example.com", vec![v4(1), v6(1)]).await;
    let names = Names::new(&[server.address]);
    assert_eq!(names.lookup(&name("a.example.com")).await.unwrap(), [v6(1), v4(1)]);
    assert_eq!(names.lookup(&name("b")).await, Err(LookupError::NoAddress));
    let mut queries = server.queries();
    queries.sort();
    let asked = |name: &str, family| (name.to_owned(), family);
    assert_eq!(
        queries,
        [
            asked("a.example.com.", RecordType::A),
            asked("a.example.com.", RecordType::AAAA),
            asked("b.", RecordType::A),
            asked("b.", RecordType::AAAA),
        ]
    );
}

#[tokio::test]
async fn a_changed_answer_is_seen_by_the_next_lookup() {
    let asked = AtomicU8::new(0);
    let server = NameServer::start(move |_| {
        // Both families of one lookup get the same.
        Answer::Addresses(vec![v4(asked.fetch_add(1, Ordering::Relaxed) / 2)])
    })
    .await;
    let names = Names::new(&[server.address]);
    assert_eq!(names.lookup(&name("a.example.com")).await.unwrap(), [v4(0)]);
    assert_eq!(names.lookup(&name("a.example.com")).await.unwrap(), [v4(1)]);
}

#[tokio::test]
async fn a_name_without_an_address_has_none_however_that_is_said() {
    assert_eq!(
        looked_up(Answer::Addresses(Vec::new())).await,
        Err(LookupError::NoAddress)
    );
    let absent = looked_up(Answer::Code(ResponseCode::NXDomain)).await;
    assert_eq!(absent, Err(LookupError::NoAddress));
    // `.invalid` is reserved to be nobody's (RFC 6761).
    let nobody = Names::new(&["127.0.0.1:9".parse().unwrap()])
        .lookup(&name("nobody.invalid"))
        .await;
    assert_eq!(nobody, Err(LookupError::NoAddress));
}

#[tokio::test]
async fn a_server_that_fails_is_no_missing_name() {
    for code in [ResponseCode::ServFail, ResponseCode::Refused] {
        assert_eq!(looked_up(Answer::Code(code)).await, Err(LookupError::Refused(code)));
    }
}

#[tokio::test]
async fn a_silent_server_is_given_up() {
    let server = NameServer::start(|_| Answer::Silence).await;
    let sources = Sources::load(&Source::Servers(vec![server.address])).await.unwrap();
    let found = sources.find(&name("a.example.com"), Duration::from_millis(20)).await;
    assert_eq!(found, Err(LookupError::TimedOut));
}

#[tokio::test]
async fn what_is_listed_in_the_hosts_file_is_asked_of_nobody() {
    let server = NameServer::start(|_| Answer::Addresses(vec![v4(9), v6(9)])).await;
    let mut hosts = Hosts::default();
    hosts
        .read_hosts_conf("192.0.2.1 pinned.example.com\n".as_bytes())
        .unwrap();
    let Sources { resolver, .. } = Sources::load(&Source::Servers(vec![server.address])).await.unwrap();
    let sources = Sources { hosts, resolver };
    let found = sources.find(&name("pinned.example.com"), LOOKUP_TIMEOUT).await;
    assert_eq!(found.unwrap(), [v4(1)]);
    assert_eq!(server.queries(), []);
    let found = sources.find(&name("other.example.com"), LOOKUP_TIMEOUT).await;
    assert_eq!(found.unwrap(), [v6(9), v4(9)]);
}

#[tokio::test]
async fn a_search_domain_makes_no_other_name_of_it() {
    let server = NameServer::of("a.corp.example.com", vec![v4(1)]).await;
    let (_, _, servers) = ResolverConfig::from_name_servers(name_servers(&[server.address])).into_parts();
    let config = ResolverConfig::from_parts(None, vec![Name::from_ascii("corp.example.com.").unwrap()], servers);
    let builder = Resolver::builder_with_config(config, TokioRuntimeProvider::default());
    let sources = Sources {
        hosts: Hosts::default(),
        resolver: builder.build().unwrap(),
    };
    let found = sources.find(&name("a"), LOOKUP_TIMEOUT).await;
    assert_eq!(found, Err(LookupError::NoAddress));
    assert!(
        server.queries().iter().all(|(asked, _)| asked == "a."),
        "{:?}",
        server.queries()
    );
}

#[tokio::test]
async fn a_servers_flood_of_addresses_is_cut_with_both_families_in_it() {
    let many = (1..=20).map(v6).chain((1..=4).map(v4)).chain([v4(1)]).collect();
    let found = looked_up(Answer::Addresses(many)).await.unwrap();
    let expected = [v6(1), v4(1), v6(2), v4(2), v6(3), v4(3), v6(4), v4(4), v6(5), v6(6)];
    assert_eq!(found[..10], expected);
    assert_eq!(found.len(), MAX_ADDRESSES);
}

#[test]
fn repetitions_are_dropped() {
    assert_eq!(usable(vec![v4(1), v4(1), v6(1), v4(2), v6(1)]), [v4(1), v6(1), v4(2)]);
    assert_eq!(usable(Vec::new()), Vec::<IpAddr>::new());
}

#[tokio::test]
async fn the_systems_files_are_read_again_when_they_change() {
    let files = tempfile::tempdir().unwrap();
    let [resolv_conf, hosts] = ["resolv.conf", "hosts"].map(|name| files.path().join(name));
    let names = Names::by(Source::System {
        resolv_conf: resolv_conf.clone(),
        hosts: hosts.clone(),
    });
    let asked = name("a.example.com");
    assert_eq!(
        names.lookup(&asked).await,
        Err(LookupError::NoServers),
        "neither is there yet"
    );

    tokio::fs::write(&hosts, "192.0.2.7 a.example.com\n").await.unwrap();
    assert_eq!(names.lookup(&asked).await.unwrap(), [v4(7)]);
    tokio::fs::write(&hosts, "").await.unwrap();
    assert_eq!(names.lookup(&asked).await, Err(LookupError::NoServers));
}
