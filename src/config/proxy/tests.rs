use super::*;
use crate::config::network::Resolution;
use crate::config::origin::{Origin, Sourced};
use proptest::prelude::*;

fn proxy(exceptions: &[&str]) -> OutgoingProxy {
    OutgoingProxy {
        address: Sourced::new("http://proxy.example:3128".parse().unwrap(), Origin::Default),
        credentials: None,
        exceptions: exceptions.iter().map(|text| text.parse().unwrap()).collect(),
        resolution: Resolution::Here,
    }
}

fn is_for(exceptions: &[&str], host: &str) -> bool {
    proxy(exceptions).is_for(&host.parse().unwrap())
}

#[test]
fn this_machine_is_never_reached_through_a_proxy() {
    for host in ["localhost", "a.localhost", "127.0.0.1", "127.9.9.9", "::1"] {
        assert!(!is_for(&[], host), "{host}");
    }
    for host in [
        "localhost.example.com",
        "notlocalhost",
        "10.0.0.1",
        "192.0.2.7",
        "example.com",
    ] {
        assert!(is_for(&[], host), "{host}");
    }
}

#[test]
fn an_exception_covers_what_is_below_it_and_no_lookalike() {
    for exception in ["example.com", ".example.com", "*.example.com"] {
        assert!(!is_for(&[exception], "example.com") && !is_for(&[exception], "a.b.example.com"));
        assert!(is_for(&[exception], "evilexample.com") && is_for(&[exception], "com"));
    }
    assert!(!is_for(&["10.0.0.0/8"], "10.1.2.3") && is_for(&["10.0.0.0/8"], "11.1.2.3"));
    assert!(!is_for(&["192.0.2.7"], "192.0.2.7") && is_for(&["192.0.2.7"], "192.0.2.8"));
    assert!(!is_for(&["2001:db8::1"], "2001:db8::1"));
    assert!(!is_for(&["*"], "anything.example") && !is_for(&["*"], "192.0.2.7"));
}

#[test]
fn user_information_is_found_where_it_stands() {
    for (url, found) in [
        ("http://me:pw@proxy.example:3128", Some("me:pw")),
        ("me:pw@proxy.example", Some("me:pw")),
        ("http://me@corp:p@w@proxy.example/", Some("me@corp:p@w")),
        ("http://@proxy.example", None),
        ("http://proxy.example/a@b", None),
        ("http://proxy.example", None),
        ("", None),
    ] {
        assert_eq!(user_information(url), found, "{url}");
    }
}

proptest! {
    #[test]
    fn a_printed_proxy_is_the_same(text in "(http://)?([a-z]{0,3}:[a-z]{0,3}@)?[a-z0-9.:\\[\\]]{1,16}/?") {
        if let Ok(address) = text.parse::<ProxyAddress>() {
            prop_assert!(!text.contains('@'));
            prop_assert_eq!(address.to_string().parse(), Ok(address));
        }
    }

    /// Whatever stands before the last `@` of the authority is the credentials' and changes nothing about the address.
    #[test]
    fn credentials_are_no_part_of_the_address(held in "[a-zA-Z0-9:@%._~!$&'()*+,;=-]{1,16}", host in "[a-z]{1,8}", port in 1_u16..) {
        let without = format!("http://{host}:{port}");
        let with = format!("http://{held}@{host}:{port}");
        let (address, absent) = of_variable(&without).unwrap();
        prop_assert_eq!(absent, UserInformation::Absent);
        prop_assert_eq!(of_variable(&with), Ok((address, UserInformation::Present)));
        prop_assert_eq!(user_information(&with), Some(held.as_str()));
        prop_assert_eq!(with.parse::<ProxySetting>(), Err(ProxyError::UserInformation));
    }
}
