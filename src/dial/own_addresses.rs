//! The addresses of this host's interfaces: read when asked, because they come and go.

use nix::ifaddrs::getifaddrs;
use nix::sys::socket::SockaddrStorage;
use std::io;
use std::net::IpAddr;

/// Addresses of all interfaces, loopback included. What hides behind an address translation of others is not known.
pub fn read() -> io::Result<Vec<IpAddr>> {
    let interfaces = getifaddrs()?;
    Ok(interfaces
        .filter_map(|interface| interface.address.as_ref().and_then(ip))
        .collect())
}

/// `None`: an address of another kind, such as an Ethernet one.
fn ip(address: &SockaddrStorage) -> Option<IpAddr> {
    match (address.as_sockaddr_in(), address.as_sockaddr_in6()) {
        (Some(address), _) => Some(address.ip().into()),
        (None, Some(address)) => Some(address.ip().into()),
        (None, None) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{Ipv4Addr, UdpSocket};

    #[test]
    fn loopback_and_what_a_socket_is_bound_to_are_among_them() {
        let own = read().unwrap();
        assert!(own.contains(&Ipv4Addr::LOCALHOST.into()), "{own:?}");
        // A UDP connect sends nothing, but has the kernel choose the address that traffic would leave from.
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        if socket.connect("192.0.2.1:9").is_ok() {
            assert!(own.contains(&socket.local_addr().unwrap().ip()), "{own:?}");
        }
    }
}
