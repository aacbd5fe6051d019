//! Past the proxy: no address, name server, raw or foreign socket is of use inside.

use super::{Scene, attack};
use crate::support::lane::Lane;
use crate::support::servers::{FORBIDDEN, PERMITTED};
use std::net::IpAddr;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};

/// Addresses of this host that are not loopback. Where it has none (no network at all), there is none to attack.
pub fn own_addresses() -> Vec<IpAddr> {
    let interfaces = nix::ifaddrs::getifaddrs().unwrap();
    let addresses = interfaces.filter_map(|interface| {
        let address = interface.address?;
        if let Some(v4) = address.as_sockaddr_in() {
            return Some(IpAddr::V4(v4.ip()));
        }
        // A link-local address needs its interface beside it.
        let v6 = address.as_sockaddr_in6()?.ip();
        (!v6.is_unicast_link_local()).then_some(IpAddr::V6(v6))
    });
    addresses.filter(|address| !address.is_loopback()).collect()
}

fn no_address_is_reached_directly(lane: Lane) {
    let scene = Scene::new();
    // Allowed for the proxy, so that what is refused here is the way and not the target.
    let targets: Vec<_> = [PERMITTED, FORBIDDEN, "::1".parse().unwrap()]
        .into_iter()
        .chain(own_addresses())
        .map(|address| scene.servers.sink(address))
        .collect();
    let rules: Vec<String> = targets.iter().map(|sink| format!("\"{}/tcp\"", sink.address)).collect();
    let Some(world) = scene.world(lane, &format!("allow = [{}]", rules.join(", "))) else {
        return;
    };
    let mut script = String::new();
    for (at, sink) in targets.iter().enumerate() {
        let (ip, port) = (sink.address.ip(), sink.port());
        script += &format!("get curl-{at} --noproxy '*' http://{}/\n", sink.address);
        script += &format!(
            "(exec 3<>/dev/tcp/{ip}/{port} && echo hello >&3) 2>/dev/null && echo 'bash-{at}: REACHED' || echo 'bash-{at}: no'\n"
        );
    }
    // Metadata services, and any IPv6 address: there is no route to have them by.
    for (label, address) in [
        ("metadata", "169.254.169.254"),
        ("metadata6", "[fd00:ec2::254]"),
        ("ipv6", "[2001:db8::1]"),
    ] {
        script += &format!("get {label} --noproxy '*' http://{address}/\n");
    }
    let ran = attack(&world, &script);

    for (at, sink) in targets.iter().enumerate() {
        let seen = ran.line(&format!("curl-{at}"));
        assert!(seen.starts_with("000 000 exit=7"), "{}: {seen}", sink.address);
        assert_eq!(ran.line(&format!("bash-{at}")), "no", "{}", sink.address);
        assert!(sink.connections().is_empty(), "{} was reached", sink.address);
    }
    for label in ["metadata", "metadata6", "ipv6"] {
        let seen = ran.line(label);
        assert!(seen.starts_with("000 000 exit=7"), "{label}: {seen}");
    }
    assert!(ran.denied.is_empty(), "the proxy had no part in it: {:#?}", ran.denied);
}

/// Asks `name-server:port` for a name, by UDP and by TCP, in the DNS protocol itself.
const ASK: &str = r#"
ask() { perl -MSocket -MIO::Socket::IP -e '
    my ($label, $server, $port, $name) = @ARGV;
    my $query = pack("n6", 7, 0x100, 1, 0, 0, 0) . join("", map { pack("C/a", $_) } split(/\./, $name)) . pack("Cnn", 0, 1, 1);
    for my $kind ("udp", "tcp") {
        my $socket = IO::Socket::IP->new(PeerHost => $server, PeerPort => $port, Proto => $kind,
            Type => $kind eq "udp" ? SOCK_DGRAM : SOCK_STREAM);
        my $answer;
        if ($socket) {
            alarm 9;
            $socket->syswrite($kind eq "udp" ? $query : pack("n/a", $query)) and $socket->sysread($answer, 512);
        }
        print "$label-$kind: ", (length($answer // "") ? "ANSWERED" : "no ($!)"), "\n";
    }' "$@"; }
"#;

fn no_name_server_answers(lane: Lane) {
    let scene = Scene::new();
    scene.dns.set("canary.test", &[PERMITTED]);
    let Some(world) = scene.world(lane, "allow = [\"canary.test\"]") else {
        return;
    };
    let port = scene.dns.address.port();
    let mut servers = vec![scene.dns.address.ip()];
    servers.extend(own_addresses());
    let mut script = ASK.to_owned();
    for (at, server) in servers.iter().enumerate() {
        script += &format!("ask at-{at} {server} {port} canary.test\nask usual-{at} {server} 53 canary.test\n");
    }
    script += "echo \"getent: [$(getent ahosts canary.test)]\"\n\
               get resolved --noproxy '*' http://canary.test/\n\
               (echo x >/dev/udp/canary.test/53) 2>/dev/null && echo 'udp: SENT' || echo 'udp: no'\n";
    let ran = attack(&world, &script);

    for (at, server) in servers.iter().enumerate() {
        for label in ["at", "usual"] {
            for kind in ["udp", "tcp"] {
                let seen = ran.line(&format!("{label}-{at}-{kind}"));
                assert!(seen.starts_with("no ("), "{server} by {kind}: {seen}");
            }
        }
    }
    assert_eq!(ran.line("getent"), "[]");
    assert_eq!(ran.line("udp"), "no");
    let seen = ran.line("resolved");
    assert!(seen.starts_with("000 000 exit=6"), "{seen}");
    assert_eq!(scene.dns.names(), Vec::<String>::new(), "nothing was asked for");
}

/// ICMP, raw IP, packets, and the families that reach past a network namespace: a virtual machine's host (40, vsock), and
/// what the kernel itself does on a socket's behalf.
fn no_raw_or_foreign_socket(lane: Lane) {
    let scene = Scene::new();
    let Some(world) = scene.world(lane, "") else { return };
    let script = format!(
        r#"perl -e 'use Socket qw(:DEFAULT inet_pton pack_sockaddr_in6);
        for my $try (["raw-icmp", AF_INET, SOCK_RAW, 1], ["raw-tcp", AF_INET, SOCK_RAW, 6], ["raw-udp", AF_INET, SOCK_RAW, 17],
                     ["raw-ip", AF_INET, SOCK_RAW, 255], ["raw-icmp6", AF_INET6, SOCK_RAW, 58],
                     ["packet", 17, SOCK_RAW, 0x0300], ["packet-dgram", 17, SOCK_DGRAM, 0x0300], ["xdp", 44, SOCK_RAW, 0],
                     ["vsock", 40, SOCK_STREAM, 0]) {{
            my ($label, $family, $kind, $protocol) = @$try;
            print "$label: ", (socket(my $socket, $family, $kind, $protocol) ? "OPENED" : "no ($!)"), "\n";
        }}
        for my $address (@ARGV) {{
            my $v6 = $address =~ /:/;
            my $to = $v6 ? pack_sockaddr_in6(0, inet_pton(AF_INET6, $address)) : pack_sockaddr_in(0, inet_aton($address));
            my $sent = socket(my $ping, $v6 ? AF_INET6 : AF_INET, SOCK_DGRAM, $v6 ? 58 : 1)
                && send($ping, pack("CCnnn", $v6 ? 128 : 8, 0, 0, 7, 1), 0, $to);
            print "ping $address: ", ($sent ? "SENT" : "no ($!)"), "\n";
        }}' {}"#,
        own_addresses()
            .iter()
            .map(ToString::to_string)
            .chain(["169.254.169.254".to_owned(), "2001:db8::1".to_owned()])
            .collect::<Vec<_>>()
            .join(" ")
    );
    let ran = attack(&world, &script);
    for label in [
        "raw-icmp",
        "raw-tcp",
        "raw-udp",
        "raw-ip",
        "raw-icmp6",
        "packet",
        "packet-dgram",
        "xdp",
        "vsock",
    ] {
        let seen = ran.line(label);
        assert!(seen.starts_with("no ("), "{label}: {seen}");
    }
    let pings: Vec<&str> = ran.text.lines().filter(|line| line.starts_with("ping ")).collect();
    assert_eq!(pings.len(), own_addresses().len() + 2, "{}", ran.text);
    assert!(pings.iter().all(|line| line.contains(": no (")), "{pings:?}");
}

/// Abstract sockets belong to the network namespace, files of sockets to the mounts: the host's are in neither.
fn no_unix_socket_of_the_host(lane: Lane) {
    let scene = Scene::new();
    let name = format!("codex-mcp-test-{}-{}", std::process::id(), lane.name());
    let listener = UnixListener::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
    listener.set_nonblocking(true).unwrap();
    let Some(world) = scene.world(lane, "") else { return };
    let ran = attack(
        &world,
        &format!(
            "get curl --noproxy '*' --abstract-unix-socket {name} http://x/\n\
             perl -MSocket -e 'socket(my $s, AF_UNIX, SOCK_STREAM, 0) or die; \
             print \"perl: \", (connect($s, pack_sockaddr_un(\"\\0{name}\")) ? \"CONNECTED\" : \"no ($!)\"), \"\\n\"'\n\
             echo \"abstract: [$(grep -c @ /proc/net/unix)]\"\n\
             echo \"files: [$(find / -xdev -type s 2>/dev/null | tr '\\n' ' ')]\"\n"
        ),
    );
    assert!(ran.line("curl").starts_with("000 000 exit=7"), "{}", ran.text);
    assert_eq!(ran.line("perl"), "no (Connection refused)");
    assert_eq!(ran.line("abstract"), "[0]", "none is even listed");
    assert_eq!(ran.line("files"), "[]");
    let accepted = listener.accept();
    assert!(
        accepted
            .as_ref()
            .is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock),
        "{accepted:?}"
    );
}

on_every_lane!(
    no_address_is_reached_directly,
    no_name_server_answers,
    no_raw_or_foreign_socket,
    no_unix_socket_of_the_host,
);
