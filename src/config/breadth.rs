//! How much of the network one rule covers, and from where on that takes `network.unrestricted = true`. Pure.

use crate::config::host::DnsName;
use crate::config::rule::Pattern;
use ipnet::IpNet;

/// Why a rule covers too much to be meant without being spelled out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TooBroad {
    #[error("it covers every host")]
    Everything,
    #[error("it covers a whole top-level domain")]
    TopLevelDomain,
    #[error("it covers every name that anybody registers below a public suffix")]
    PublicSuffix,
    #[error("it covers a network with a prefix shorter than /{shortest}")]
    Network { shortest: u8 },
}

/// The shortest prefix that one rule may have: the largest networks that one holder has.
const SHORTEST_IPV4: u8 = 8;
const SHORTEST_IPV6: u8 = 16;

/// # Errors
///
/// Where a rule with this pattern needs `network.unrestricted = true`.
pub fn check(pattern: &Pattern) -> Result<(), TooBroad> {
    match pattern {
        Pattern::Anything => Err(TooBroad::Everything),
        Pattern::Name(_) => Ok(()),
        Pattern::Below(suffix) => check_suffix(suffix),
        Pattern::Addresses(network) => check_network(network),
    }
}

/// By the registries' part of the public suffix list. Its other part, the suffixes of hosting providers, holds such as
/// operators really mean (`*.googleapis.com`) and not what stands above them (`*.amazonaws.com`).
fn check_suffix(suffix: &DnsName) -> Result<(), TooBroad> {
    if suffix.labels().count() == 1 {
        // Also one that no list knows, such as `internal`.
        return Err(TooBroad::TopLevelDomain);
    }
    // The list has rules such as `*.kawasaki.jp`: all below are suffixes, without that it is one itself.
    let any_below = format!("any.{suffix}");
    match is_registrys(suffix.as_str()) || is_registrys(&any_below) {
        true => Err(TooBroad::PublicSuffix),
        false => Ok(()),
    }
}

fn is_registrys(name: &str) -> bool {
    psl::suffix(name.as_bytes()).is_some_and(|suffix| suffix == name && suffix.typ() == Some(psl::Type::Icann))
}

fn check_network(network: &IpNet) -> Result<(), TooBroad> {
    let shortest = match network {
        IpNet::V4(_) => SHORTEST_IPV4,
        IpNet::V6(_) => SHORTEST_IPV6,
    };
    match network.prefix_len() < shortest {
        true => Err(TooBroad::Network { shortest }),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(text: &str) -> Result<(), TooBroad> {
        let rule: crate::config::rule::Rule = text.parse().unwrap();
        check(&rule.pattern)
    }

    #[test]
    fn what_covers_most_of_the_network_is_too_broad() {
        for (text, reason) in [
            ("*", TooBroad::Everything),
            ("*:8443/tcp", TooBroad::Everything),
            ("*.com", TooBroad::TopLevelDomain),
            ("*.COM.", TooBroad::TopLevelDomain),
            ("*.internal", TooBroad::TopLevelDomain),
            ("*.xn--p1ai", TooBroad::TopLevelDomain),
            ("*.co.uk", TooBroad::PublicSuffix),
            ("*.k12.ma.us", TooBroad::PublicSuffix),
            ("*.kawasaki.jp", TooBroad::PublicSuffix),
            ("*.x.kawasaki.jp", TooBroad::PublicSuffix),
            ("0.0.0.0/0", TooBroad::Network { shortest: 8 }),
            ("8.0.0.0/7", TooBroad::Network { shortest: 8 }),
            ("[::]/0", TooBroad::Network { shortest: 16 }),
            ("[2000::]/3", TooBroad::Network { shortest: 16 }),
            ("[2000::]/15", TooBroad::Network { shortest: 16 }),
        ] {
            assert_eq!(verdict(text), Err(reason), "{text}");
        }
    }

    #[test]
    fn what_somebody_holds_is_not() {
        for text in [
            "com",
            "co.uk",
            "*.example.com",
            "*.example.co.uk",
            "*.corp.internal",
            "*.city.kawasaki.jp",
            "*.googleapis.com",
            "10.0.0.0/8",
            "192.0.2.7",
            "[2400::]/16",
            "[2001:db8::1]:443",
        ] {
            assert_eq!(verdict(text), Ok(()), "{text}");
        }
    }
}
