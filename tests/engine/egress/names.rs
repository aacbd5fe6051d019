//! What a name may lead to: decided before it is looked up, looked up once, and every address checked.

use super::raw::own_addresses;
use super::{Inside, Scene, attack};
use crate::support::lane::Lane;
use crate::support::servers::{FORBIDDEN, PERMITTED};
use std::net::IpAddr;

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// The rule allows every one of these names and literals; what they lead to is refused.
fn no_name_leads_to_a_forbidden_address(lane: Lane) {
    let scene = Scene::new();
    let forbidden = scene.servers.sink(FORBIDDEN);
    let port = forbidden.port();
    let mut literals = vec!["169.254.169.254".to_owned(), "127.0.0.1".to_owned()];
    let mut names = vec![
        "metadata.test",
        "loopback.test",
        "private.test",
        "cgnat.test",
        "link-local.test",
        "mixed.test",
        "last.test",
    ];
    scene.dns.set("metadata.test", &[address("169.254.169.254")]);
    scene.dns.set("loopback.test", &[FORBIDDEN]);
    scene.dns.set("private.test", &[address("10.1.2.3")]);
    scene.dns.set("cgnat.test", &[address("100.64.0.1")]);
    scene.dns.set("link-local.test", &[address("169.254.1.1")]);
    // What is good about the one address does not make the other good, wherever it stands.
    scene.dns.set("mixed.test", &[FORBIDDEN, PERMITTED]);
    scene.dns.set("last.test", &[PERMITTED, FORBIDDEN]);
    if let Some(own) = own_addresses().first() {
        scene.dns.set("own.test", &[*own]);
        names.push("own.test");
        literals.push(own.to_string());
    }
    let rules: Vec<String> = names
        .iter()
        .map(|name| format!("\"{name}:{port}\""))
        .chain(literals.iter().map(|literal| format!("\"{literal}:{port}\"")))
        .collect();
    let Some(world) = scene.world(lane, &format!("allow = [{}]", rules.join(", "))) else {
        return;
    };
    let mut script = String::new();
    for host in names.iter().copied().chain(literals.iter().map(String::as_str)) {
        // Loopback is reached without the proxy unless one insists.
        script += &format!(
            "get plain-{host} --noproxy '' http://{host}:{port}/\nget tunnel-{host} --noproxy '' -p http://{host}:{port}/\n"
        );
    }
    let ran = attack(&world, &script);

    for host in names.iter().copied().chain(literals.iter().map(String::as_str)) {
        let plain = ran.line(&format!("plain-{host}"));
        assert!(plain.starts_with("000 403 exit=0"), "{host}: {plain}");
        assert!(
            plain.contains("address") && plain.contains(host),
            "it says why: {plain}"
        );
        let tunnel = ran.line(&format!("tunnel-{host}"));
        assert!(tunnel.starts_with("403 000 exit=56"), "{host}: {tunnel}");
        let denied = ran.denied(host, port);
        assert_eq!(denied["count"], 2, "{denied:#}");
        let remedy = denied["howToAllow"].as_str().unwrap();
        assert!(remedy.contains("network.private"), "{remedy}");
    }
    assert!(forbidden.connections().is_empty(), "the forbidden server was reached");
}

/// IPv6 through the proxy: the same rules, and no IPv4 address in disguise.
fn no_ipv6_literal_leads_past_the_rules(lane: Lane) {
    let scene = Scene::new();
    let loopback = scene.servers.sink(address("::1"));
    let hidden = scene.servers.sink(FORBIDDEN);
    let (port, hidden_port) = (loopback.port(), hidden.port());
    scene.dns.set("six.test", &[address("::1")]);
    scene.dns.set("mapped.test", &[address("::ffff:127.0.0.1")]);
    scene.dns.set("nat64.test", &[address("64:ff9b::7f00:1")]);
    let rules = format!(
        "allow = [\"[::1]:{port}\", \"six.test:{port}\", \"mapped.test:{hidden_port}\", \"nat64.test:{hidden_port}\", \
         \"127.0.0.1:{hidden_port}\"]"
    );
    let Some(world) = scene.world(lane, &rules) else { return };
    let targets = [
        ("literal", format!("[::1]:{port}")),
        ("long", format!("[0:0:0:0:0:0:0:1]:{port}")),
        ("name", format!("six.test:{port}")),
        ("mapped-name", format!("mapped.test:{hidden_port}")),
        ("nat64-name", format!("nat64.test:{hidden_port}")),
        ("mapped", format!("[::ffff:127.0.0.1]:{hidden_port}")),
        ("mapped-hex", format!("[::ffff:7f00:1]:{hidden_port}")),
        ("compatible", format!("[::127.0.0.1]:{hidden_port}")),
        ("nat64", format!("[64:ff9b::7f00:1]:{hidden_port}")),
        ("zone", format!("[::1%25lo]:{port}")),
        ("zone-raw", format!("[::1%lo]:{port}")),
        ("unspecified", format!("[::]:{hidden_port}")),
        // No rule names it.
        ("elsewhere", format!("[2001:db8::1]:{port}")),
    ];
    let script: String = targets
        .iter()
        .map(|(label, target)| {
            let request = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n");
            format!("raw {label} {}\n", crate::inside::base64(request.as_bytes()))
        })
        .collect();
    let ran = attack(&world, &script);
    for (label, target) in &targets {
        let seen = ran.line(label);
        assert!(seen.starts_with("HTTP/1.1 40"), "{target}: {seen}");
    }
    assert_eq!(ran.denied("::1", port)["count"], 2, "{:#?}", ran.denied);
    assert_eq!(ran.denied("2001:db8::1", port)["count"], 1);
    assert!(loopback.connections().is_empty() && hidden.connections().is_empty());
}

/// A name that answers with a good address when it is checked and with another when it is dialled (rebinding) finds that
/// there is only one look-up, and that the next connection has a look-up and a check of its own.
fn a_name_is_looked_up_once_a_connection(lane: Lane) {
    let scene = Scene::new();
    let good = scene.servers.http(PERMITTED);
    let port = good.port();
    scene.dns.alternate("rebinding.test", &[&[PERMITTED], &[FORBIDDEN]]);
    scene.dns.alternate("tunnel.test", &[&[PERMITTED], &[FORBIDDEN]]);
    let Some(world) = scene.world(
        lane,
        &format!("allow = [\"rebinding.test:{port}\", \"tunnel.test:{port}\"]"),
    ) else {
        return;
    };
    let mut inside = Inside::new(&world);
    let first = inside.run(&format!(
        "get plain http://rebinding.test:{port}/one\nget tunnel -p http://tunnel.test:{port}/two\n"
    ));
    assert!(
        first.line("plain").starts_with("000 200 exit=0 served GET /one"),
        "{}",
        first.text
    );
    assert!(
        first.line("tunnel").starts_with("200 200 exit=0 served GET /two"),
        "{}",
        first.text
    );
    assert!(first.denied.is_empty(), "{:#?}", first.denied);
    assert_eq!(scene.dns.look_ups("rebinding.test"), 1, "one look-up a connection");
    assert_eq!(scene.dns.look_ups("tunnel.test"), 1, "one look-up a connection");

    let second = inside.run(&format!(
        "get plain http://rebinding.test:{port}/three\nget tunnel -p http://tunnel.test:{port}/four\n"
    ));
    assert!(second.line("plain").starts_with("000 403"), "{}", second.text);
    assert!(second.line("tunnel").starts_with("403 000"), "{}", second.text);
    assert_eq!(second.denied("rebinding.test", port)["count"], 1);
    assert_eq!(second.denied("tunnel.test", port)["count"], 1);
    assert_eq!(good.targets(), ["/one", "/two"]);
}

/// A look-up is a message to whoever runs the name server, so no name is looked up that no rule covers.
fn what_no_rule_covers_is_never_looked_up(lane: Lane) {
    let scene = Scene::new();
    for name in [
        "secret.elsewhere.test",
        "denied.allowed.test",
        "good.test",
        "sub.good.test",
    ] {
        scene.dns.set(name, &[PERMITTED]);
    }
    let server = scene.servers.http(PERMITTED);
    let port = server.port();
    let Some(world) = scene.world(
        lane,
        &format!("allow = [\"*.allowed.test:{port}\", \"good.test:{port}\"]\ndeny = [\"denied.allowed.test\"]"),
    ) else {
        return;
    };
    let ran = attack(
        &world,
        &format!(
            "get elsewhere http://secret.elsewhere.test:{port}/\n\
             get tunnel -p http://secret.elsewhere.test:{port}/\n\
             get denied http://denied.allowed.test:{port}/\n\
             get apex http://allowed.test:{port}/\n\
             get below http://sub.good.test:{port}/\n\
             get port http://good.test:1/\n\
             get missing http://missing.allowed.test:{port}/\n"
        ),
    );
    for label in ["elsewhere", "denied", "apex", "below", "port"] {
        assert!(ran.line(label).starts_with("000 403"), "{}", ran.text);
    }
    assert!(ran.line("tunnel").starts_with("403 000"), "{}", ran.text);
    assert!(
        ran.line("missing").starts_with("000 502"),
        "no such name is no denial: {}",
        ran.text
    );
    assert_eq!(scene.dns.names(), ["missing.allowed.test"]);
    assert!(server.connections().is_empty());
    assert!(
        ran.denied.iter().all(|entry| entry["host"] != "missing.allowed.test"),
        "{:#?}",
        ran.denied
    );
}

on_every_lane!(
    no_name_leads_to_a_forbidden_address,
    no_ipv6_literal_leads_past_the_rules,
    a_name_is_looked_up_once_a_connection,
    what_no_rule_covers_is_never_looked_up,
);
