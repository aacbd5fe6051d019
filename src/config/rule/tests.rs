use super::*;
use proptest::prelude::*;

fn rule(text: &str) -> Result<Rule, RuleError> {
    text.parse()
}

#[test]
fn rules_are_read_and_printed_whole() {
    for (text, printed) in [
        ("api.example.com", "api.example.com:443"),
        ("API.Example.com.:80", "api.example.com:80"),
        ("*.example.org:8443", "*.example.org:8443"),
        ("192.0.2.7:80", "192.0.2.7:80"),
        ("192.0.2.7/32", "192.0.2.7:443"),
        ("192.0.2.0/24:80", "192.0.2.0/24:80"),
        ("0.0.0.0/0", "0.0.0.0/0:443"),
        ("[2001:DB8::1]", "[2001:db8::1]:443"),
        ("[2001:db8::1]:8443", "[2001:db8::1]:8443"),
        ("[2001:db8::]/32:443", "[2001:db8::]/32:443"),
        ("db.example.com:5432/tcp", "db.example.com:5432/tcp"),
        ("[2001:db8::]/32:22/tcp", "[2001:db8::]/32:22/tcp"),
        ("*", "*:443"),
        ("*:22/tcp", "*:22/tcp"),
    ] {
        assert_eq!(rule(text).unwrap().to_string(), printed, "{text}");
        assert_eq!(rule(printed), rule(text), "{text}");
    }
}

#[test]
fn what_two_could_read_differently_is_no_rule() {
    use HostError::{AddressLike, Character, Empty, EmptyLabel, Ipv4InIpv6, NotAscii, NotIpv6};
    let host = RuleError::Host;
    for (text, reason) in [
        ("", host(Empty)),
        (":443", host(Empty)),
        ("*.", host(Empty)),
        ("*..", host(Empty)),
        ("*..example.com", host(EmptyLabel)),
        ("*.1.2.3", host(AddressLike)),
        ("*.192.0.2.7", host(AddressLike)),
        ("*.[::1]", host(NotIpv6)),
        ("bücher.example", host(NotAscii)),
        ("a\0.example.com", host(Character)),
        ("example.com\n", host(Character)),
        (" example.com", host(Character)),
        ("a.example.com,b.example.com", host(Character)),
        ("0177.0.0.1", host(AddressLike)),
        ("127.1:80", host(AddressLike)),
        ("0x7f000001", host(AddressLike)),
        ("[::ffff:127.0.0.1]:80", host(Ipv4InIpv6)),
        ("[::ffff:0:0]/96", host(Ipv4InIpv6)),
        ("::1", host(NotIpv6)),
        ("::1:443", host(NotIpv6)),
        ("2001:db8::1:443", host(NotIpv6)),
        ("2001:db8::/32", host(NotIpv6)),
        ("[fe80::1%eth0]:80", host(NotIpv6)),
        ("[::1]443", host(NotIpv6)),
        ("[::1", host(NotIpv6)),
        ("[192.0.2.7]:80", host(NotIpv6)),
        ("a:80:443", host(NotIpv6)),
        ("example.com:", RuleError::Port(PortError)),
        ("example.com:0", RuleError::Port(PortError)),
        ("example.com:0443", RuleError::Port(PortError)),
        ("example.com:+443", RuleError::Port(PortError)),
        ("example.com:65536", RuleError::Port(PortError)),
        ("example.com:443 ", RuleError::Port(PortError)),
        ("example.com:https", RuleError::Port(PortError)),
        ("example.com:443/TCP", RuleError::Port(PortError)),
        ("example.com:443/tcp/tcp", RuleError::Port(PortError)),
        ("example.com:*", RuleError::Port(PortError)),
        ("**", RuleError::Wildcard),
        ("*example.com", RuleError::Wildcard),
        ("a.*.example.com", RuleError::Wildcard),
        ("*.*.example.com", RuleError::Wildcard),
        ("*.*", RuleError::Wildcard),
        ("example.*", RuleError::Wildcard),
        ("192.0.2.*", RuleError::Wildcard),
        ("192.0.2.7/24", RuleError::Network),
        ("192.0.2.0/33", RuleError::Network),
        ("192.0.2.0/", RuleError::Network),
        ("192.0.2.0/+24", RuleError::Network),
        ("192.0.2.0/024", RuleError::Network),
        ("0.0.0.0/00", RuleError::Network),
        ("192.0.2.0/255.255.255.0", RuleError::Network),
        ("192.0.2.0/24/8", RuleError::Network),
        ("[2001:db8::1]/32", RuleError::Network),
        ("[2001:db8::]/129", RuleError::Network),
        ("192.0.2/24", host(AddressLike)),
        ("example.com/24", RuleError::NotARule),
        ("example.com/path", RuleError::NotARule),
        ("https://example.com", RuleError::NotARule),
        ("user@example.com", RuleError::NotARule),
        ("example.com?q", RuleError::NotARule),
        ("example.com#f", RuleError::NotARule),
        ("example.com/tcp", RuleError::TcpWithoutPort),
        ("/tcp", host(Empty)),
    ] {
        assert_eq!(rule(text), Err(reason), "{text:?}");
    }
    assert!(rule(&"a.".repeat(100_000)).is_err());
}

#[test]
fn a_denial_without_a_port_is_of_all_ports() {
    let deny = |text: &str| text.parse::<DenyRule>();
    assert_eq!(deny("example.com").unwrap().port, None);
    assert_eq!(deny("example.com:80").unwrap().to_string(), "example.com:80");
    assert_eq!(deny("10.0.0.0/8").unwrap().to_string(), "10.0.0.0/8");
    assert_eq!(deny("*").unwrap().pattern, Pattern::Anything);
    assert_eq!(deny("example.com:80/tcp"), Err(RuleError::TcpDenied));
    assert_eq!(deny("a.*"), Err(RuleError::Wildcard));
}

#[test]
fn a_pattern_covers_what_it_says() {
    let covers = |pattern: &str, host: &str| rule(pattern).unwrap().pattern.covers(&host.parse().unwrap());
    for host in ["example.com", "localhost", "192.0.2.7", "::1"] {
        assert!(covers("*", host), "{host}");
    }
    assert!(covers("example.com", "EXAMPLE.com.") && !covers("example.com", "a.example.com"));
    assert!(covers("*.example.com", "a.b.example.com"));
    for host in ["example.com", "evilexample.com", "example.com.evil.org", "192.0.2.7"] {
        assert!(!covers("*.example.com", host), "{host}");
    }
    assert!(covers("192.0.2.0/24", "192.0.2.7") && !covers("192.0.2.0/24", "192.0.3.7"));
    assert!(covers("[2001:db8::]/32", "2001:db8::7") && !covers("0.0.0.0/0", "2001:db8::7"));
    assert!(!covers("[::]/0", "192.0.2.7") && !covers("0.0.0.0/0", "example.com"));
}

#[test]
fn a_list_in_one_text_is_all_rules_or_none() {
    let list = |text: &str| {
        text.parse::<AllowList>()
            .map(|list| list.0.iter().map(Rule::to_string).collect::<Vec<_>>())
    };
    assert_eq!(
        list("a.example,*.b.example:80").unwrap(),
        ["a.example:443", "*.b.example:80"]
    );
    assert_eq!(
        list(" a.example , b.example ").unwrap(),
        ["a.example:443", "b.example:443"]
    );
    assert_eq!(list("none").unwrap(), Vec::<String>::new());
    for text in ["", ",", "a.example,", "a.example,,b.example", "a.example;b.example"] {
        assert!(list(text).is_err(), "{text:?}");
    }
}

#[test]
fn a_network_is_no_name() {
    for (text, printed) in [
        ("10.0.0.0/8", "10.0.0.0/8"),
        ("192.168.1.7", "192.168.1.7/32"),
        ("fd00::/8", "fd00::/8"),
        ("[fd00::7]", "fd00::7/128"),
    ] {
        assert_eq!(network(text).unwrap().to_string(), printed);
    }
    for (text, reason) in [
        ("example.com", RuleError::Network),
        ("example.com/8", RuleError::NotARule),
        ("10.0.0.1/8", RuleError::Network),
        ("::ffff:10.0.0.0/104", RuleError::Host(HostError::Ipv4InIpv6)),
        ("10/8", RuleError::Host(HostError::AddressLike)),
    ] {
        assert_eq!(network(text), Err(reason), "{text}");
    }
}

/// Texts that are nearly rules, so that both answers come up often.
fn nearly_a_rule() -> impl Strategy<Value = String> {
    let host = prop_oneof![
        "(\\*\\.)?[a-zA-Z0-9_.*-]{0,16}",
        "[0-9]{1,3}(\\.[0-9]{1,3}){3}(/[0-9]{1,3})?",
        "\\[?[0-9a-f:]{2,20}\\]?(/[0-9]{1,3})?",
        ".{0,8}",
    ];
    (host, "(:[0-9+]{0,6})?", "(/tcp)?").prop_map(|(host, port, tcp)| host + &port + &tcp)
}

proptest! {
    #[test]
    fn a_printed_rule_is_the_same_rule(text in nearly_a_rule()) {
        if let Ok(rule) = text.parse::<Rule>() {
            prop_assert_eq!(rule.to_string().parse(), Ok(rule));
        }
        if let Ok(rule) = text.parse::<DenyRule>() {
            prop_assert_eq!(rule.to_string().parse(), Ok(rule));
        }
    }

    #[test]
    fn what_is_taken_holds_nothing_odd(text in nearly_a_rule()) {
        if let Ok(rule) = text.parse::<Rule>() {
            prop_assert!(text.bytes().all(|c| c.is_ascii_alphanumeric() || b"*.-_:/[]".contains(&c)), "{:?}", text);
            prop_assert!(text.matches('*').count() <= 1);
            if let Pattern::Addresses(network) = rule.pattern {
                prop_assert_eq!(network, network.trunc());
            }
        }
    }

    #[test]
    fn a_network_covers_its_addresses_only(address: [u8; 4], other: [u8; 4], length in 0_u8..=32) {
        let network = IpNet::new(IpAddr::from(address), length).unwrap().trunc();
        let rule: Rule = format!("{network}").parse().unwrap();
        prop_assert!(rule.pattern.covers(&Host::Address(address.into())));
        let same = |bits: [u8; 4]| u64::from(u32::from_be_bytes(bits)) >> (32 - length);
        prop_assert_eq!(rule.pattern.covers(&Host::Address(other.into())), same(address) == same(other));
    }
}
