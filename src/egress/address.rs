//! Which addresses are public, and what the others are. Pure.
//!
//! The table is IANA's special-purpose address registries (RFC 6890 and its updates) and the multicast registries. Where a
//! registry says that a few addresses inside a special block are globally reachable (port control, TURN and AS112
//! anycast), the block's word still holds here: they answer whoever is nearest, and nobody means them by a name. An
//! operator's own NAT64 prefix is not in any registry; who has one can deny it as a network.

use crate::config::host::embedded_ipv4;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use serde::Serialize;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What an address is to this policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum AddressKind {
    Public,
    /// `network.private` may name it.
    NotPublic(&'static str),
    /// Nothing that TCP could reach, or that means another place on every host: no setting allows it.
    Never(&'static str),
}

use AddressKind::{Never, NotPublic, Public};

/// Of several that contain an address the longest prefix counts, so a block may have exceptions in it.
const TABLE: &[(IpNet, AddressKind)] = &[
    (v4([0, 0, 0, 0], 0), Public),
    // Linux takes `0.0.0.0` for this host itself.
    (v4([0, 0, 0, 0], 8), Never("unspecified: this host on this network")),
    (v4([10, 0, 0, 0], 8), NotPublic("private")),
    (v4([100, 64, 0, 0], 10), NotPublic("carrier-grade NAT")),
    (v4([127, 0, 0, 0], 8), NotPublic("loopback")),
    (v4([169, 254, 0, 0], 16), NotPublic(LINK_LOCAL)),
    (v4([172, 16, 0, 0], 12), NotPublic("private")),
    (v4([192, 0, 0, 0], 24), NotPublic("set aside for protocols")),
    (v4([192, 0, 2, 0], 24), NotPublic("documentation")),
    (v4([192, 88, 99, 0], 24), Never("a 6to4 relay")),
    (v4([192, 168, 0, 0], 16), NotPublic("private")),
    (v4([198, 18, 0, 0], 15), NotPublic("benchmarking")),
    (v4([198, 51, 100, 0], 24), NotPublic("documentation")),
    (v4([203, 0, 113, 0], 24), NotPublic("documentation")),
    (v4([224, 0, 0, 0], 4), Never("multicast")),
    (v4([240, 0, 0, 0], 4), NotPublic("reserved")),
    (v4([255, 255, 255, 255], 32), Never("broadcast")),
    // Only 2000::/3 is handed out as global unicast; what lies outside and has no word of its own is reserved.
    (v6([0; 8], 0), NotPublic("reserved")),
    (v6([0x2000, 0, 0, 0, 0, 0, 0, 0], 3), Public),
    (v6([0; 8], 96), Never("IPv4 inside IPv6")),
    (v6([0; 8], 128), Never("unspecified")),
    (v6([0, 0, 0, 0, 0, 0, 0, 1], 128), NotPublic("loopback")),
    (v6([0, 0, 0, 0, 0, 0xffff, 0, 0], 96), Never("IPv4 inside IPv6")),
    (v6([0, 0, 0, 0, 0xffff, 0, 0, 0], 96), Never("IPv4 inside IPv6")),
    (
        v6([0x64, 0xff9b, 0, 0, 0, 0, 0, 0], 96),
        Never("NAT64: IPv4 inside IPv6"),
    ),
    (
        v6([0x64, 0xff9b, 1, 0, 0, 0, 0, 0], 48),
        Never("NAT64: IPv4 inside IPv6"),
    ),
    (v6([0x100, 0, 0, 0, 0, 0, 0, 0], 64), NotPublic("discard-only")),
    (v6([0x100, 0, 0, 1, 0, 0, 0, 0], 64), NotPublic("a dummy prefix")),
    (
        v6([0x2001, 0, 0, 0, 0, 0, 0, 0], 23),
        NotPublic("set aside for protocols"),
    ),
    (v6([0x2001, 0, 0, 0, 0, 0, 0, 0], 32), Never("Teredo: IPv4 inside IPv6")),
    (v6([0x2001, 2, 0, 0, 0, 0, 0, 0], 48), NotPublic("benchmarking")),
    (v6([0x2001, 0xdb8, 0, 0, 0, 0, 0, 0], 32), NotPublic("documentation")),
    (v6([0x2002, 0, 0, 0, 0, 0, 0, 0], 16), Never("6to4: IPv4 inside IPv6")),
    (v6([0x3fff, 0, 0, 0, 0, 0, 0, 0], 20), NotPublic("documentation")),
    (v6([0x5f00, 0, 0, 0, 0, 0, 0, 0], 16), NotPublic("segment routing")),
    (v6([0xfc00, 0, 0, 0, 0, 0, 0, 0], 7), NotPublic("unique local")),
    (v6([0xfe80, 0, 0, 0, 0, 0, 0, 0], 10), NotPublic(LINK_LOCAL)),
    (v6([0xfec0, 0, 0, 0, 0, 0, 0, 0], 10), NotPublic("site-local")),
    (v6([0xff00, 0, 0, 0, 0, 0, 0, 0], 8), Never("multicast")),
];

const LINK_LOCAL: &str = "link-local, where the metadata services of clouds answer";

const fn v4([a, b, c, d]: [u8; 4], prefix: u8) -> IpNet {
    IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), prefix))
}

const fn v6([a, b, c, d, e, f, g, h]: [u16; 8], prefix: u8) -> IpNet {
    IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::new(a, b, c, d, e, f, g, h), prefix))
}

/// Looks at the address alone; whether it is one of this host's own is the policy's question.
pub fn kind(address: IpAddr) -> AddressKind {
    let in_table = TABLE
        .iter()
        .filter(|(network, _)| network.contains(&address))
        .max_by_key(|(network, _)| network.prefix_len())
        .map_or(Never("unknown"), |(_, kind)| *kind);
    match (in_table, address) {
        (Never(_), _) => in_table,
        // The table says so already; the rule that refuses such a literal may one day know more forms than the table.
        (_, IpAddr::V6(address)) if embedded_ipv4(address).is_some() => Never("IPv4 inside IPv6"),
        (_, IpAddr::V6(address)) if is_isatap(address) => Never("ISATAP: IPv4 inside IPv6"),
        _ => in_table,
    }
}

/// An interface identifier that a tunnel end makes of an IPv4 address (RFC 5214), under any prefix.
fn is_isatap(address: Ipv6Addr) -> bool {
    let [_, _, _, _, e, f, _, _] = address.segments();
    matches!(e, 0 | 0x200) && f == 0x5efe
}

impl fmt::Display for AddressKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Public => f.write_str("public"),
            Self::NotPublic(what) | Self::Never(what) => f.write_str(what),
        }
    }
}

#[cfg(test)]
mod tests;
