//! One destination: a host and a port, canonical. Pure.
//!
//! What a rule allows, what a request names and what a client's configuration points at are all one of these.

use crate::config::authority::{Authority, AuthorityError, Port};
use crate::config::host::Host;
use serde::Serialize;
use std::fmt;

/// Canonical: two ways to write one destination are one value.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct Target {
    pub host: Host,
    pub port: Port,
}

/// Why a request names no target. Never repeats what it said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TargetError {
    #[error(transparent)]
    Authority(#[from] AuthorityError),
    #[error("the request names no port")]
    NoPort,
    #[error("user and password have no place in a request's target")]
    UserInfo,
}

impl Target {
    /// `host[:port]` as it stands in a request line or a `Host` header. `usual` is the port where none is named.
    ///
    /// Stricter than RFC 3986: no user, and what [`Authority`] refuses.
    pub fn from_authority(text: &str, usual: Option<Port>) -> Result<Self, TargetError> {
        if text.contains('@') {
            return Err(TargetError::UserInfo);
        }
        let Authority { host, port } = text.parse()?;
        Ok(Self {
            host,
            port: port.or(usual).ok_or(TargetError::NoPort)?,
        })
    }

    /// The text of a `Host` field: without the port where it is the scheme's own.
    pub fn host_field(&self, usual: Port) -> String {
        match self.port == usual {
            true => self.host.in_authority(),
            false => self.to_string(),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host.in_authority(), self.port)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::authority::PortError;
    use crate::config::host::HostError;
    use proptest::prelude::*;

    fn parse(text: &str) -> Result<Target, TargetError> {
        Target::from_authority(text, None)
    }

    #[test]
    fn spellings_of_one_destination_are_one_value() {
        for text in ["api.example.com:443", "API.Example.COM:443", "api.example.com.:443"] {
            assert_eq!(parse(text).unwrap().to_string(), "api.example.com:443");
        }
        assert_eq!(parse("[2001:DB8:0::0:1]:443").unwrap().to_string(), "[2001:db8::1]:443");
        let http = Port::new(80);
        assert_eq!(
            Target::from_authority("a.example", http),
            Target::from_authority("a.example:80", None)
        );
        assert_eq!(
            Target::from_authority("[2001:db8::1]", http).unwrap().to_string(),
            "[2001:db8::1]:80"
        );
        assert_eq!(
            Target::from_authority("192.0.2.7", http).unwrap().to_string(),
            "192.0.2.7:80"
        );
    }

    #[test]
    fn what_could_be_read_in_two_ways_is_refused() {
        use HostError::{AddressLike, Character, Empty, EmptyLabel, Ipv4InIpv6, NotAscii, NotIpv6, TooLong};
        const PORT: TargetError = TargetError::Authority(AuthorityError::Port(PortError));
        let host = |error| TargetError::Authority(AuthorityError::Host(error));
        let long = format!("{}:443", "a.".repeat(130));
        for (text, why) in [
            ("a.example", TargetError::NoPort),
            ("a.example:", PORT),
            ("a.example:0", PORT),
            ("a.example:0443", PORT),
            ("a.example:+443", PORT),
            ("a.example:443 ", PORT),
            ("a.example:65536", PORT),
            ("a.example:443/", PORT),
            ("a.example:443@b.example:443", TargetError::UserInfo),
            ("user:word@a.example:443", TargetError::UserInfo),
            ("", host(Empty)),
            (":443", host(Empty)),
            (".:443", host(Empty)),
            (" a.example:443", host(Character)),
            ("a.example\0:443", host(Character)),
            ("a.example\r\nHost:443", host(Character)),
            ("%61.example:443", host(Character)),
            ("a.example/b:443", host(Character)),
            ("a.example#b:443", host(Character)),
            ("a\\b.example:443", host(Character)),
            ("a..example:443", host(EmptyLabel)),
            ("a.example..:443", host(EmptyLabel)),
            ("b\u{fc}cher.example:443", host(NotAscii)),
            ("a.example\u{ff0e}:443", host(NotAscii)),
            ("0177.0.0.1:443", host(AddressLike)),
            ("192.0.2.7.:443", host(AddressLike)),
            ("a.example:443:443", host(NotIpv6)),
            ("2001:db8::1:443", host(NotIpv6)),
            ("::1", host(NotIpv6)),
            ("[2001:db8::1]443", host(NotIpv6)),
            ("[2001:db8::1:443", host(NotIpv6)),
            ("[fe80::1%25lo]:443", host(NotIpv6)),
            ("[a.example]:443", host(NotIpv6)),
            ("[192.0.2.7]:443", host(NotIpv6)),
            ("[::ffff:192.0.2.7]:443", host(Ipv4InIpv6)),
            (long.as_str(), host(TooLong)),
        ] {
            assert_eq!(parse(text), Err(why), "{text:?}");
        }
    }

    /// Texts that are nearly targets: the pieces of which they are made, and what attackers put between them.
    fn near_targets() -> impl Strategy<Value = String> {
        let piece = prop_oneof![
            "[a-zA-Z0-9_-]{1,5}",
            r"[.:\[\]@/%?#\\ 0-9]",
            Just("443".to_owned()),
            Just(":80".to_owned()),
            Just("::1".to_owned()),
            Just("[2001:db8::1]".to_owned()),
            Just("127.0.0.1".to_owned()),
            Just("0x7f".to_owned()),
            Just("xn--bcher-kva.example".to_owned()),
            any::<char>().prop_map(String::from),
        ];
        prop::collection::vec(piece, 0..8).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #[test]
        fn what_is_accepted_has_one_spelling_that_is_itself(text in near_targets(), usual in any::<Option<u16>>()) {
            let usual = usual.and_then(Port::new);
            if let Ok(target) = Target::from_authority(&text, usual) {
                let shown = target.to_string();
                prop_assert_eq!(parse(&shown), Ok(target.clone()), "{}", shown);
                let ours = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-_.:[]".contains(c);
                prop_assert!(shown.chars().all(ours), "{text:?} became {shown:?}");
                // Nothing was dropped on the way but case, one trailing dot, and how an address is written.
                if let Host::Name(name) = &target.host {
                    let host = text.split(':').next().unwrap_or_default();
                    prop_assert_eq!(host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase(), name.as_str());
                }
            }
        }

        #[test]
        fn a_byte_that_has_no_place_in_a_target_is_refused_anywhere(
            at in 0usize..=17,
            byte in prop::char::ranges(vec!['\0'..=',', '/'..='/', ';'..='@', '\\'..='\\', '^'..='^', '`'..='`', '{'..='\u{ff}'].into()),
        ) {
            let mut text = "api.example.com:443".to_owned();
            text.insert(at, byte);
            prop_assert!(parse(&text).is_err(), "{text:?}");
        }

        #[test]
        fn names_and_addresses_are_accepted(name in "[a-z0-9_]{1,9}(\\.[a-z0-9]{1,9}){0,4}\\.[a-z]{2,5}", port in 1u16..,
                                            bits in any::<u32>()) {
            prop_assert_eq!(parse(&format!("{name}:{port}")).unwrap().to_string(), format!("{name}:{port}"));
            let address = std::net::Ipv4Addr::from(bits);
            prop_assert_eq!(parse(&format!("{address}:{port}")).unwrap().host, Host::Address(address.into()));
        }
    }
}
