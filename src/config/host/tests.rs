use super::*;
use proptest::prelude::*;

#[test]
fn one_name_has_one_spelling() {
    for text in ["Api.Example.COM", "api.example.com.", "API.EXAMPLE.COM."] {
        assert_eq!(text.parse::<Host>().unwrap().to_string(), "api.example.com");
    }
    for (text, canonical) in [
        ("2001:DB8::0:1", "2001:db8::1"),
        ("[2001:0db8:0:0:0:0:0:1]", "2001:db8::1"),
    ] {
        assert_eq!(text.parse::<Host>().unwrap().to_string(), canonical);
    }
}

#[test]
fn what_is_no_name_is_refused_with_the_reason() {
    let long_label = "a".repeat(64);
    let long_name = ["abcdefg."; 32].concat();
    for (text, reason) in [
        ("", HostError::Empty),
        (".", HostError::Empty),
        ("..", HostError::EmptyLabel),
        (".example.com", HostError::EmptyLabel),
        ("a..example.com", HostError::EmptyLabel),
        ("example.com..", HostError::EmptyLabel),
        ("-a.example.com", HostError::Hyphen),
        ("a-.example.com", HostError::Hyphen),
        ("xn--.example.com", HostError::Hyphen),
        ("a\0.example.com", HostError::Character),
        ("example.com\0", HostError::Character),
        ("example.com\r\n", HostError::Character),
        ("exa\u{7f}mple.com", HostError::Character),
        ("example.com ", HostError::Character),
        (" example.com", HostError::Character),
        ("exam ple.com", HostError::Character),
        ("a%2eexample.com", HostError::Character),
        ("a/b", HostError::Character),
        ("a\\b", HostError::Character),
        ("u@example.com", HostError::Character),
        ("*.example.com", HostError::Character),
        ("a,b", HostError::Character),
        ("bücher.example", HostError::NotAscii),
        // A full stop, a slash and digits to some and other characters to others.
        ("example\u{3002}com", HostError::NotAscii),
        ("１２７.0.0.1", HostError::NotAscii),
        ("exam\u{200b}ple.com", HostError::NotAscii),
        (&long_label, HostError::TooLong),
        (&long_name, HostError::TooLong),
    ] {
        assert_eq!(text.parse::<Host>(), Err(reason), "{text:?}");
    }
    let longest = ["a23456789."; 25].concat() + "abc";
    assert_eq!(longest.len(), 253);
    assert!(longest.parse::<Host>().is_ok() && format!("{longest}.").parse::<Host>().is_ok());
    assert_eq!(format!("{longest}d").parse::<Host>(), Err(HostError::TooLong));
}

#[test]
fn what_could_be_an_address_is_no_name() {
    for text in [
        "0177.0.0.1",
        "127.1",
        "127.0.0.1.",
        "2130706433",
        "017700000001",
        "0x7f.1",
        "0X7F.0X1",
        "1.2.3",
        "1.2.3.4.5",
        "0x7f000001",
        "a.0x",
        "a.09",
        "1.2.3.256",
        "00.0.0.0",
        "example.com.1",
    ] {
        assert_eq!(text.parse::<Host>(), Err(HostError::AddressLike), "{text}");
    }
    // Letters in the last label: no notation of an address.
    for text in ["1.2.3.4.example", "0x7f.1.0xg", "127.0.0.1a"] {
        assert!(matches!(text.parse::<Host>(), Ok(Host::Name(_))), "{text}");
    }
}

#[test]
fn ipv4_inside_ipv6_is_neither() {
    for text in [
        "::ffff:127.0.0.1",
        "[::ffff:7f00:1]",
        "::ffff:0:7f00:1",
        "::127.0.0.1",
        "::2",
        "64:ff9b::7f00:1",
        "64:ff9b:1:2:3:4:7f00:1",
        "2002:7f00:1::",
        "2001:0:1:2:3:4:80ff:fffe",
    ] {
        assert_eq!(text.parse::<Host>(), Err(HostError::Ipv4InIpv6), "{text}");
    }
    let inside = |text: &str| embedded_ipv4(text.parse().unwrap());
    let loopback = Some(Ipv4Addr::LOCALHOST);
    assert_eq!(inside("2002:7f00:1::5"), loopback);
    assert_eq!(inside("2001:0:1:2:3:4:80ff:fffe"), loopback);
    assert_eq!(inside("64:ff9b::7f00:1"), loopback);
    for text in [
        "::",
        "::1",
        "2001:db8::1",
        "2606:4700::ffff:1",
        "fe80::1",
        "64:ff9b:2::1",
        "2001:1::1",
    ] {
        assert_eq!(inside(text), None, "{text}");
        assert!(text.parse::<Host>().is_ok(), "{text}");
    }
}

#[test]
fn ipv6_has_no_zone_and_whole_brackets() {
    for text in [
        "fe80::1%eth0",
        "[fe80::1%25eth0]",
        "[::1",
        "::1]",
        "[[::1]]",
        "[]",
        "[127.0.0.1]",
        "[example.com]",
        "[::1]x",
        "[::1]:80",
        "1::2::3",
        "12345::",
        "a:b",
        ":",
        "[::1\0]",
    ] {
        assert_eq!(text.parse::<Host>(), Err(HostError::NotIpv6), "{text}");
    }
}

#[test]
fn below_is_neither_itself_nor_what_looks_like_it() {
    let name = |text: &str| text.parse::<DnsName>().unwrap();
    let suffix = name("example.com");
    for below in ["a.example.com", "a.b.example.com", "_x.EXAMPLE.com."] {
        assert!(name(below).is_below(&suffix), "{below}");
    }
    for other in [
        "example.com",
        "evilexample.com",
        "evil-example.com",
        "example.com.evil.org",
        "com",
        "xexample.com",
    ] {
        assert!(!name(other).is_below(&suffix), "{other}");
    }
}

/// Texts that are nearly hosts, so that both answers come up often.
fn nearly_a_host() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-zA-Z0-9_.-]{0,24}",
        "[0-9a-fxX.]{0,16}",
        "\\[?[0-9a-f:.]{0,24}\\]?",
        "[0-9]{1,3}(\\.[0-9]{1,3}){0,4}",
        ".{0,12}",
    ]
}

fn label() -> impl Strategy<Value = String> {
    "[a-z0-9_]([a-z0-9_-]{0,6}[a-z0-9_])?"
}

fn name() -> impl Strategy<Value = DnsName> {
    (proptest::collection::vec(label(), 0..4), "[a-z]{2,6}").prop_map(|(labels, last)| {
        let name = labels.into_iter().chain([last]).collect::<Vec<_>>().join(".");
        name.parse().unwrap()
    })
}

proptest! {
    #[test]
    fn what_is_taken_is_what_the_type_says(text in nearly_a_host()) {
        let Ok(host) = text.parse::<Host>() else { return Ok(()) };
        prop_assert_eq!(host.to_string().parse(), Ok(host.clone()));
        prop_assert_eq!(host.in_authority().parse(), Ok(host.clone()));
        match host {
            Host::Address(IpAddr::V4(_)) => prop_assert_eq!(host.to_string(), text),
            Host::Address(IpAddr::V6(address)) => prop_assert_eq!(embedded_ipv4(address), None),
            Host::Name(name) => {
                let name = name.as_str();
                prop_assert!(name.len() <= 253 && !name.ends_with('.'));
                prop_assert!(name.bytes().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || b"-_.".contains(&c)));
                for label in name.split('.') {
                    prop_assert!((1..=63).contains(&label.len()) && !label.starts_with('-') && !label.ends_with('-'));
                }
                // The system's own reader of addresses, which takes all the old notations, takes none of these.
                prop_assert!(!is_an_address_to_inet_aton(name), "{}", name);
            }
        }
    }

    #[test]
    fn case_and_a_trailing_dot_make_no_other_name(name in name()) {
        let shouted = name.as_str().to_ascii_uppercase() + ".";
        prop_assert_eq!(shouted.parse(), Ok(name));
    }

    #[test]
    fn below_means_with_a_whole_label_before(suffix in name(), label in label(), prefix in "[a-z0-9]{1,4}") {
        let below: DnsName = format!("{label}.{suffix}").parse().unwrap();
        prop_assert!(below.is_below(&suffix));
        prop_assert!(!suffix.is_below(&below) && !suffix.is_below(&suffix));
        let lookalike: DnsName = format!("{prefix}{suffix}").parse().unwrap();
        prop_assert!(!lookalike.is_below(&suffix), "{} below {}", lookalike, suffix);
    }
}

fn is_an_address_to_inet_aton(text: &str) -> bool {
    let Ok(text) = std::ffi::CString::new(text) else {
        return false;
    };
    let mut address = nix::libc::in_addr { s_addr: 0 };
    // SAFETY: `text` ends with a NUL and `address` may be written.
    #[expect(unsafe_code, reason = "the C library's reader is the one to compare with")]
    let read = unsafe { inet_aton(text.as_ptr(), &raw mut address) };
    read != 0
}

#[expect(unsafe_code, reason = "the C library's reader is the one to compare with")]
unsafe extern "C" {
    fn inet_aton(text: *const std::ffi::c_char, address: *mut nix::libc::in_addr) -> std::ffi::c_int;
}
