use super::*;
use proptest::prelude::*;

/// The registries once more, as first and last address, written down apart from the table so that a slip of a prefix
/// shows. Where a range lies within another, the inner one stands first.
const SPECIAL: &[(&str, &str, AddressKind)] = &[
    (
        "0.0.0.0",
        "0.255.255.255",
        Never("unspecified: this host on this network"),
    ),
    ("10.0.0.0", "10.255.255.255", NotPublic("private")),
    ("100.64.0.0", "100.127.255.255", NotPublic("carrier-grade NAT")),
    ("127.0.0.0", "127.255.255.255", NotPublic("loopback")),
    ("169.254.0.0", "169.254.255.255", NotPublic(LINK_LOCAL)),
    ("172.16.0.0", "172.31.255.255", NotPublic("private")),
    ("192.0.0.0", "192.0.0.255", NotPublic("set aside for protocols")),
    ("192.0.2.0", "192.0.2.255", NotPublic("documentation")),
    ("192.88.99.0", "192.88.99.255", Never("a 6to4 relay")),
    ("192.168.0.0", "192.168.255.255", NotPublic("private")),
    ("198.18.0.0", "198.19.255.255", NotPublic("benchmarking")),
    ("198.51.100.0", "198.51.100.255", NotPublic("documentation")),
    ("203.0.113.0", "203.0.113.255", NotPublic("documentation")),
    ("224.0.0.0", "239.255.255.255", Never("multicast")),
    ("255.255.255.255", "255.255.255.255", Never("broadcast")),
    ("240.0.0.0", "255.255.255.254", NotPublic("reserved")),
    ("::", "::", Never("unspecified")),
    ("::1", "::1", NotPublic("loopback")),
    ("::2", "::ffff:ffff", Never("IPv4 inside IPv6")),
    ("::ffff:0:0", "::ffff:ffff:ffff", Never("IPv4 inside IPv6")),
    ("::ffff:0:0:0", "::ffff:0:ffff:ffff", Never("IPv4 inside IPv6")),
    ("64:ff9b::", "64:ff9b::ffff:ffff", Never("NAT64: IPv4 inside IPv6")),
    (
        "64:ff9b:1::",
        "64:ff9b:1:ffff:ffff:ffff:ffff:ffff",
        Never("NAT64: IPv4 inside IPv6"),
    ),
    ("100::", "100::ffff:ffff:ffff:ffff", NotPublic("discard-only")),
    (
        "100:0:0:1::",
        "100:0:0:1:ffff:ffff:ffff:ffff",
        NotPublic("a dummy prefix"),
    ),
    ("::", "1fff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", NotPublic("reserved")),
    (
        "2001::",
        "2001:0:ffff:ffff:ffff:ffff:ffff:ffff",
        Never("Teredo: IPv4 inside IPv6"),
    ),
    (
        "2001:2::",
        "2001:2:0:ffff:ffff:ffff:ffff:ffff",
        NotPublic("benchmarking"),
    ),
    (
        "2001::",
        "2001:1ff:ffff:ffff:ffff:ffff:ffff:ffff",
        NotPublic("set aside for protocols"),
    ),
    (
        "2001:db8::",
        "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff",
        NotPublic("documentation"),
    ),
    (
        "2002::",
        "2002:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
        Never("6to4: IPv4 inside IPv6"),
    ),
    (
        "3fff::",
        "3fff:fff:ffff:ffff:ffff:ffff:ffff:ffff",
        NotPublic("documentation"),
    ),
    (
        "5f00::",
        "5f00:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
        NotPublic("segment routing"),
    ),
    (
        "fc00::",
        "fdff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
        NotPublic("unique local"),
    ),
    (
        "fe80::",
        "febf:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
        NotPublic(LINK_LOCAL),
    ),
    (
        "fec0::",
        "feff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
        NotPublic("site-local"),
    ),
    ("ff00::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", Never("multicast")),
    (
        "4000::",
        "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
        NotPublic("reserved"),
    ),
];

/// Orders addresses of both families, IPv4 first.
fn number(address: IpAddr) -> (bool, u128) {
    match address {
        IpAddr::V4(address) => (false, address.to_bits().into()),
        IpAddr::V6(address) => (true, address.to_bits()),
    }
}

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// What the list above says.
fn expected(asked: IpAddr) -> AddressKind {
    let bounds = |(first, last, _): &&(&str, &str, AddressKind)| {
        (number(address(first))..=number(address(last))).contains(&number(asked))
    };
    SPECIAL.iter().find(bounds).map_or(Public, |(_, _, kind)| *kind)
}

/// The address and its neighbours in number.
fn around(address: IpAddr) -> Vec<IpAddr> {
    match address {
        IpAddr::V4(at) => [
            at.to_bits().checked_sub(1),
            Some(at.to_bits()),
            at.to_bits().checked_add(1),
        ]
        .into_iter()
        .flatten()
        .map(|bits| Ipv4Addr::from_bits(bits).into())
        .collect(),
        IpAddr::V6(at) => [
            at.to_bits().checked_sub(1),
            Some(at.to_bits()),
            at.to_bits().checked_add(1),
        ]
        .into_iter()
        .flatten()
        .map(|bits| Ipv6Addr::from_bits(bits).into())
        .collect(),
    }
}

#[test]
fn every_range_ends_where_its_registry_says() {
    for (first, last, _) in SPECIAL {
        for edge in [first, last].map(|edge| address(edge)) {
            for asked in around(edge) {
                assert_eq!(kind(asked), expected(asked), "{asked}, at an edge of {first} to {last}");
            }
        }
    }
}

#[test]
fn every_range_of_the_table_is_in_the_list() {
    for (network, kind) in TABLE.iter().filter(|(_, kind)| *kind != Public) {
        let listed = |(_, last, listed): &(&str, &str, AddressKind)| {
            listed == kind && number(address(last)) >= number(network.network()) && network.contains(&address(last))
        };
        // `::/0` is the reserved remainder, which the list spells as its two ends.
        assert!(
            SPECIAL.iter().any(listed),
            "{network} ({kind}) is not in the tests' list"
        );
    }
}

#[test]
fn well_known_addresses_are_what_they_are() {
    for (text, what) in [
        ("1.1.1.1", "public"),
        ("2606:4700:4700::1111", "public"),
        (
            "169.254.169.254",
            "link-local, where the metadata services of clouds answer",
        ),
        ("fd00:ec2::254", "unique local"),
        ("fe80::1", "link-local, where the metadata services of clouds answer"),
        ("100.100.100.200", "carrier-grade NAT"),
        ("168.63.129.16", "public"),
        ("::ffff:127.0.0.1", "IPv4 inside IPv6"),
        ("::ffff:0:127.0.0.1", "IPv4 inside IPv6"),
        ("2002:7f00:1::", "6to4: IPv4 inside IPv6"),
        ("2001:0:4136:e378:8000:63bf:3fff:fdd2", "Teredo: IPv4 inside IPv6"),
        ("2606:4700::5efe:7f00:1", "ISATAP: IPv4 inside IPv6"),
        ("2606:4700::200:5efe:7f00:1", "ISATAP: IPv4 inside IPv6"),
        ("fe80::5efe:7f00:1", "ISATAP: IPv4 inside IPv6"),
        ("2606:4700::5efd:7f00:1", "public"),
    ] {
        assert_eq!(kind(address(text)).to_string(), what, "{text}");
    }
}

fn any_address() -> impl Strategy<Value = IpAddr> {
    let near_an_edge =
        (prop::sample::select(SPECIAL), any::<bool>(), -3i128..=3).prop_map(|((first, last, _), which, off)| {
            match address(if which { first } else { last }) {
                IpAddr::V4(at) => {
                    Ipv4Addr::from_bits((i128::from(at.to_bits()) + off).rem_euclid(1 << 32) as u32).into()
                }
                IpAddr::V6(at) => Ipv6Addr::from_bits(at.to_bits().wrapping_add_signed(off)).into(),
            }
        });
    prop_oneof![
        any::<u32>().prop_map(|bits| Ipv4Addr::from_bits(bits).into()),
        any::<u128>().prop_map(|bits| Ipv6Addr::from_bits(bits).into()),
        (0x2000u16..0x4000, any::<[u16; 7]>())
            .prop_map(|(first, [b, c, d, e, f, g, h])| Ipv6Addr::new(first, b, c, d, e, f, g, h).into()),
        near_an_edge,
    ]
}

fn tunnels(address: IpAddr) -> bool {
    matches!(address, IpAddr::V6(address) if is_isatap(address))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    #[test]
    fn an_address_in_no_range_is_public_and_any_other_is_not(asked in any_address()) {
        prop_assume!(!tunnels(asked));
        prop_assert_eq!(kind(asked), expected(asked));
    }

    #[test]
    fn what_holds_an_ipv4_address_is_never_allowed(bits in any::<u32>(), prefix in 0x2000u16..0x4000) {
        let [high, low] = [(bits >> 16) as u16, bits as u16];
        for address in [
            Ipv6Addr::new(0, 0, 0, 0, 0, 0xffff, high, low),
            Ipv6Addr::new(0, 0, 0, 0, 0xffff, 0, high, low),
            Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, high, low),
            Ipv6Addr::new(0x64, 0xff9b, 1, 0, 0, 0, high, low),
            Ipv6Addr::new(0x2002, high, low, 0, 0, 0, 0, 1),
            Ipv6Addr::new(0x2001, 0, high, low, 0, 0, 0, 1),
            Ipv6Addr::new(prefix, 0, 0, 0, 0x200, 0x5efe, high, low),
        ] {
            prop_assert!(matches!(kind(address.into()), Never(_)), "{address}");
        }
    }

    #[test]
    fn what_the_rule_parser_refuses_as_embedded_is_never_allowed(bits in any::<u32>(), sixth in prop::sample::select(vec![0u16, 0xffff])) {
        let address = Ipv6Addr::from_bits(u128::from(sixth) << 32 | u128::from(bits));
        if embedded_ipv4(address).is_some() {
            prop_assert!(matches!(kind(address.into()), Never(_)), "{address}");
        }
    }
}
