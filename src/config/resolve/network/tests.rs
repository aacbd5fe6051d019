use super::*;
use crate::config::environment::Environment;
use crate::config::resolve::tests::{file, home, refusal, resolve_user, user};
use crate::config::resolve::{Layers, resolve};

fn network(text: &str) -> NetworkSettings {
    resolve_user(&format!("[network]\n{text}")).unwrap().network
}

fn refused(text: &str) -> String {
    refusal(&format!("[network]\n{text}"))
}

fn two_files(system: &str, user: &str) -> Layers {
    Layers {
        system: Some(file("/s.toml", &format!("[network]\n{system}"))),
        user: Some(file("/u.toml", &format!("[network]\n{user}"))),
        codex: None,
    }
}

/// Each value with its place.
fn shown<T: ToString>(items: &[Sourced<T>]) -> Vec<String> {
    let show = |item: &Sourced<T>| format!("{} ({})", item.value.to_string(), item.origin);
    items.iter().map(show).collect()
}

#[test]
fn each_rule_keeps_its_line() {
    let allow = network("allow = [\n  \"a.example\",\n\n  \"*.b.example:80\", \"192.0.2.7:22/tcp\",\n]").allow;
    assert_eq!(
        shown(&allow),
        [
            "a.example:443 (/u.toml:3)",
            "*.b.example:80 (/u.toml:5)",
            "192.0.2.7:22/tcp (/u.toml:5)"
        ]
    );
}

#[test]
fn the_strongest_layer_sets_the_whole_list_of_what_is_allowed() {
    let layers = || two_files("allow = [\"s.example\"]", "allow = [\"u.example\"]");
    let allow = |environment: &Environment, flag: Option<&str>| {
        let flags = ConfigFlags {
            network: flag.map(|text| text.parse().unwrap()),
            ..ConfigFlags::default()
        };
        shown(&resolve(layers(), environment, &flags).unwrap().network.allow)
    };
    assert_eq!(allow(&home(), None), ["u.example:443 (/u.toml:2)"]);
    let variable = Environment::from_pairs([("HOME", "/home/u"), ("CODEX_MCP_NETWORK", "v.example, w.example:80")]);
    assert_eq!(
        allow(&variable, None),
        [
            "v.example:443 (environment CODEX_MCP_NETWORK)",
            "w.example:80 (environment CODEX_MCP_NETWORK)"
        ]
    );
    assert_eq!(allow(&variable, Some("f.example")), ["f.example:443 (flag --network)"]);
    assert_eq!(allow(&variable, Some("none")), Vec::<String>::new());
    let closed = resolve(
        two_files("allow = [\"s.example\"]", "allow = []"),
        &home(),
        &ConfigFlags::default(),
    );
    assert_eq!(closed.unwrap().network.allow, []);
}

#[test]
fn what_any_layer_denies_stays_denied() {
    let layers = two_files("deny = [\"s.example\"]", "deny = [\"u.example:80\", \"10.0.0.0/8\"]");
    let deny = resolve(layers, &home(), &ConfigFlags::default()).unwrap().network.deny;
    assert_eq!(
        shown(&deny),
        [
            "s.example (/s.toml:2)",
            "u.example:80 (/u.toml:2)",
            "10.0.0.0/8 (/u.toml:2)"
        ]
    );
    let emptied = two_files("deny = [\"s.example\"]", "deny = []");
    let deny = resolve(emptied, &home(), &ConfigFlags::default()).unwrap().network.deny;
    assert_eq!(shown(&deny), ["s.example (/s.toml:2)"]);
}

#[test]
fn a_bad_rule_is_named_with_its_own_line() {
    insta::assert_snapshot!(
        refused("allow = [\n  \"a.example\",\n  \"https://b.example/\",\n]"),
        @r#"/u.toml:4: `network.allow` = "https://b.example/": a rule is `host`, `host:port`, `*.suffix`, an address or a network; no scheme, path or user belongs in it"#
    );
    insta::assert_snapshot!(
        refused("deny = [\"127.1\"]"),
        @r#"/u.toml:2: `network.deny` = "127.1": an IPv4 address is four decimal numbers without leading zeros, such as `192.0.2.7`"#
    );
    let environment = Environment::from_pairs([("HOME", "/home/u"), ("CODEX_MCP_NETWORK", "a.example,b..example")]);
    let error = resolve(Layers::default(), &environment, &ConfigFlags::default()).unwrap_err();
    insta::assert_snapshot!(
        error,
        @r#"environment CODEX_MCP_NETWORK: `network.allow` = "a.example,b..example": a name has no empty label: two dots in a row, or one at its beginning"#
    );
    // Also where a stronger layer has a list of its own.
    let layers = two_files("allow = [\"a b\"]", "allow = []");
    let error = resolve(layers, &home(), &ConfigFlags::default())
        .unwrap_err()
        .to_string();
    assert!(error.starts_with("/s.toml:2: `network.allow` = \"a b\": "), "{error}");
}

#[test]
fn a_rule_that_is_too_broad_has_to_be_meant() {
    insta::assert_snapshot!(
        refused("allow = [\n  \"a.example\",\n  \"*.co.uk:80\",\n]"),
        @"/u.toml:4: `network.allow`: `*.co.uk:80` is too broad: it covers every name that anybody registers below a public suffix; name the hosts that are needed, or mean it with `network.unrestricted = true` in a configuration file"
    );
    for rule in ["*", "*.com", "0.0.0.0/0", "[::]/0"] {
        let error = refused(&format!("allow = [\"{rule}\"]"));
        assert!(
            error.contains("is too broad") && error.contains("`network.unrestricted = true`"),
            "{error}"
        );
        let meant = network(&format!("unrestricted = true\nallow = [\"{rule}\"]"));
        assert_eq!((meant.allow.len(), meant.reach.value), (1, Reach::Unrestricted));
        assert_eq!(meant.reach.origin.to_string(), "/u.toml:2");
    }
    // Denying as much as one likes needs no leave.
    assert_eq!(network("deny = [\"*\"]").deny.len(), 1);
}

#[test]
fn a_layer_that_narrows_takes_the_breadth_back() {
    let layers = two_files(
        "unrestricted = true\nallow = [\"*\"]",
        "unrestricted = false\nallow = [\"a.example\"]",
    );
    let narrowed = resolve(layers, &home(), &ConfigFlags::default()).unwrap().network;
    assert_eq!(shown(&narrowed.allow), ["a.example:443 (/u.toml:3)"]);
    let layers = two_files("unrestricted = true\nallow = [\"*\"]", "unrestricted = false");
    let error = resolve(layers, &home(), &ConfigFlags::default())
        .unwrap_err()
        .to_string();
    assert!(
        error.starts_with("/s.toml:3: `network.allow`: `*:443` is too broad"),
        "{error}"
    );
}

#[test]
fn a_flag_and_a_variable_are_held_to_the_same_breadth() {
    let flags = ConfigFlags {
        network: Some("*".parse().unwrap()),
        ..ConfigFlags::default()
    };
    let error = resolve(Layers::default(), &home(), &flags).unwrap_err().to_string();
    assert!(
        error.starts_with("flag --network: `network.allow`: `*:443` is too broad"),
        "{error}"
    );
    let meant = resolve(user("[network]\nunrestricted = true"), &home(), &flags).unwrap();
    assert_eq!(shown(&meant.network.allow), ["*:443 (flag --network)"]);
}

#[test]
fn package_clients_are_named_once() {
    let from = network("from = [\"npm\", \"cargo\", \"npm\"]").from;
    assert_eq!(shown(&from), ["npm (/u.toml:2)", "cargo (/u.toml:2)"]);
    assert_eq!(
        refused("from = [\"apt\"]"),
        "/u.toml:2: `network.from` = \"apt\": expected one of `cargo`, `npm`, `pip`, `go`"
    );
}

#[test]
fn private_ranges_are_networks_or_addresses() {
    let private = network("private = [\"10.0.0.0/8\", \"192.168.1.7\", \"fd00::/8\", \"[fd00::7]\"]").private;
    assert_eq!(
        shown(&private).join(" "),
        "10.0.0.0/8 (/u.toml:2) 192.168.1.7/32 (/u.toml:2) fd00::/8 (/u.toml:2) fd00::7/128 (/u.toml:2)"
    );
    for (text, reason) in [
        ("10.0.0.1/8", "no bit set after the prefix"),
        ("::ffff:10.0.0.1", "an IPv4 address inside an IPv6 one"),
        ("::ffff:10.0.0.0/104", "an IPv4 address inside an IPv6 one"),
        ("intranet.example", "a network is an address and a prefix length"),
        ("010.0.0.0/8", "without leading zeros"),
    ] {
        let error = refused(&format!("private = [\"{text}\"]"));
        assert!(
            error.starts_with("/u.toml:2: `network.private`") && error.contains(reason),
            "{error}"
        );
    }
}

#[test]
fn name_servers_are_addresses() {
    let servers =
        network("nameservers = [\"192.0.2.53\", \"192.0.2.53:5353\", \"2001:db8::53\", \"[2001:db8::53]:5353\"]");
    assert_eq!(
        shown(&servers.nameservers).join(" "),
        "192.0.2.53:53 (/u.toml:2) 192.0.2.53:5353 (/u.toml:2) [2001:db8::53]:53 (/u.toml:2) [2001:db8::53]:5353 (/u.toml:2)"
    );
    for text in [
        "dns.example",
        "192.0.2.53:0",
        "192.0.2.53:",
        "::ffff:192.0.2.53",
        "192.0.2",
        "",
        "2001:db8::53%eth0",
    ] {
        let error = refused(&format!("nameservers = [\"{text}\"]"));
        assert!(error.contains("a name server is an address"), "{error}");
    }
}

#[test]
fn bounds_are_read_and_bounded() {
    let limits = network(
        "connections = 8\nconnections_per_second = 5\nbytes = \"1g\"\nbytes_per_second = \"1m\"\nconnect = \"3s\"\n\
         idle = \"1m\"\ntotal = \"2h\"",
    )
    .limits;
    insta::assert_compact_json_snapshot!(
        (
            limits.connections.value,
            limits.connections_per_second.value,
            limits.bytes.value,
            limits.bytes_per_second.map(|bytes| bytes.value),
            limits.connect.value.as_secs(),
            limits.idle.value.as_secs(),
            limits.total.value.as_secs(),
        ),
        @"[8, 5, 1073741824, 1048576, 3, 60, 7200]"
    );
    assert_eq!(
        refused("connections = 33"),
        "/u.toml:2: `network.connections` = 33: expected a whole number from 1 to 32"
    );
    for (text, reason) in [
        ("connections = 0", "from 1 to 32"),
        ("connections = 1.5", "from 1 to 32"),
        ("connections_per_second = 0", "from 1 to 10000"),
        ("bytes = \"1GB\"", "that unit means"),
        ("bytes_per_second = 0", "at least one byte"),
        ("idle = \"0s\"", "at least 1s"),
        ("ca_bundle = \"corp.pem\"", "a path is absolute"),
    ] {
        let error = refused(text);
        assert!(error.starts_with("/u.toml:2: ") && error.contains(reason), "{error}");
    }
}

#[test]
fn a_bundle_is_a_path() {
    let bundle = network("ca_bundle = \"~/corp.pem\"").ca_bundle.unwrap();
    assert_eq!(bundle.value, std::path::Path::new("/home/u/corp.pem"));
}
