//! Plain HTTP and CONNECT: which host, which port, which rule.

use super::{Inside, Scene, attack, base64};
use crate::support::lane::Lane;
use crate::support::servers::PERMITTED;

/// all LABEL BASE64: sends bytes to the proxy as they are; one line with every status that comes back before it closes.
pub const ALL: &str = r#"
all() {
    exec 3<>/dev/tcp/127.0.0.1/18081
    base64 -d <<<"$2" >&3
    printf '%s: %s\n' "$1" "$(timeout 8 cat <&3 | tr -d '\r' | grep -a '^HTTP/1' | cut -d' ' -f2 | tr '\n' ' ')"
    exec 3>&-
} 2>/dev/null
"#;

fn the_host_must_be_the_one_that_was_allowed(lane: Lane) {
    let scene = Scene::new();
    // Both names lead to one server, as with tenants of one host.
    let server = scene.servers.http(PERMITTED);
    let port = server.port();
    scene.dns.set("good.test", &[PERMITTED]);
    scene.dns.set("other.test", &[PERMITTED]);
    let Some(world) = scene.world(lane, &format!("allow = [\"good.test:{port}\"]")) else {
        return;
    };
    let (good, other) = (format!("good.test:{port}"), format!("other.test:{port}"));
    let first = format!("GET http://{good}/first HTTP/1.1\r\nHost: {good}\r\n\r\n");
    let tunnel = format!("CONNECT {good} HTTP/1.1\r\nHost: {good}\r\n\r\n");
    let inner = format!("GET /inner HTTP/1.1\r\nHost: {good}\r\n\r\n");
    let second =
        |target: &str, host: &str| format!("GET {target} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    let conversations = [
        (
            "again",
            first.clone() + &second(&format!("http://{good}/again"), &good),
            "200 200",
        ),
        (
            "second-target",
            first.clone() + &second(&format!("http://{other}/secret"), &other),
            "200 403",
        ),
        (
            "second-host",
            first.clone() + &second(&format!("http://{good}/secret"), &other),
            "200 4",
        ),
        (
            "inner-again",
            format!("{tunnel}{inner}") + &second("/inner-again", &good),
            "200 200 200",
        ),
        (
            "inner-host",
            format!("{tunnel}{inner}") + &second("/secret", &other),
            "200 200 403",
        ),
        (
            "inner-target",
            format!("{tunnel}{inner}") + &second(&format!("http://{other}/secret"), &good),
            "200 200 4",
        ),
        (
            "inner-tunnel",
            format!("{tunnel}{inner}CONNECT {other} HTTP/1.1\r\nHost: {other}\r\nConnection: close\r\n\r\n"),
            "200 200 4",
        ),
    ];
    let mut script = format!(
        "{ALL}get plain -H 'Host: {other}' http://{good}/secret\nget tunnel -p -H 'Host: {other}' http://{good}/secret\n"
    );
    for (label, bytes, _) in &conversations {
        script += &format!("all {label} {}\n", base64(bytes.as_bytes()));
    }
    let ran = attack(&world, &script);

    assert!(ran.line("plain").starts_with("000 4"), "{}", ran.text);
    assert!(ran.line("tunnel").starts_with("200 403"), "{}", ran.text);
    for (label, _, expected) in &conversations {
        let seen = ran.line(label);
        assert!(seen.starts_with(expected), "{label}: {seen:?}, not {expected:?}");
    }
    let targets = server.targets();
    assert!(!targets.iter().any(|target| target.contains("secret")), "{targets:?}");
    assert_eq!(
        targets.iter().filter(|target| *target == "/first").count(),
        3,
        "{targets:?}"
    );
    assert_eq!(
        targets.iter().filter(|target| *target == "/inner").count(),
        4,
        "{targets:?}"
    );
    for request in server.requests() {
        assert_eq!(request.all("host"), [good.as_str()], "{request:?}");
    }
    assert_eq!(
        ran.denied("other.test", port)["count"],
        1,
        "by its target: {:#?}",
        ran.denied
    );
    assert!(ran.denied("good.test", port)["rule"].as_str().unwrap().contains("Host"));
}

fn a_rule_is_for_one_port_and_a_denial_wins(lane: Lane) {
    let scene = Scene::new();
    let (open, shut) = (scene.servers.http(PERMITTED), scene.servers.http(PERMITTED));
    let (port, elsewhere) = (open.port(), shut.port());
    for name in ["good.test", "a.wide.test", "bad.wide.test", "moved.test"] {
        scene.dns.set(name, &[PERMITTED]);
    }
    scene.dns.set("moved.test", &["127.77.9.9".parse().unwrap()]);
    let config = format!(
        "allow = [\"good.test:{port}\", \"*.wide.test:{port}\", \"*.wide.test:{elsewhere}\", \"moved.test:{port}\"]\n\
         deny = [\"bad.wide.test\", \"a.wide.test:{elsewhere}\", \"127.77.9.0/24\"]"
    );
    let Some(world) = scene.world(lane, &config) else {
        return;
    };
    let ran = attack(
        &world,
        &format!(
            "get good -p http://good.test:{port}/good\n\
             get other-port -p http://good.test:{elsewhere}/\n\
             get default-port -p http://good.test/\n\
             get plain-port http://good.test:{elsewhere}/\n\
             get wide http://a.wide.test:{port}/wide\n\
             get denied-name http://bad.wide.test:{port}/\n\
             get denied-tunnel -p http://bad.wide.test:{port}/\n\
             get denied-port http://a.wide.test:{elsewhere}/\n\
             get denied-range http://moved.test:{port}/\n"
        ),
    );
    assert!(
        ran.line("good").starts_with("200 200 exit=0 served GET /good"),
        "{}",
        ran.text
    );
    assert!(
        ran.line("wide").starts_with("000 200 exit=0 served GET /wide"),
        "{}",
        ran.text
    );
    for label in ["other-port", "default-port", "denied-tunnel"] {
        assert!(ran.line(label).starts_with("403 000 exit=56"), "{}", ran.text);
    }
    for label in ["plain-port", "denied-name", "denied-port", "denied-range"] {
        assert!(ran.line(label).starts_with("000 403 exit=0"), "{}", ran.text);
    }
    assert_eq!(open.targets(), ["/good", "/wide"]);
    assert!(shut.connections().is_empty());
    for (host, port, rule) in [
        ("bad.wide.test", port, "bad.wide.test"),
        ("a.wide.test", elsewhere, "a.wide.test"),
        ("moved.test", port, "127.77.9.0/24"),
    ] {
        let denied = ran.denied(host, port);
        let text = denied["rule"].as_str().unwrap();
        assert!(text.contains("network.deny") && text.contains(rule), "{denied:#}");
    }
}

/// What is refused says so where it is read: in the client's error inside, and in the turn's result.
fn a_denial_teaches(lane: Lane) {
    let scene = Scene::new();
    let server = scene.servers.http(PERMITTED);
    let port = server.port();
    scene.dns.set("good.test", &[PERMITTED]);
    let Some(world) = scene.world(lane, &format!("allow = [\"good.test:{port}\"]")) else {
        return;
    };
    let mut inside = Inside::new(&world);
    let ran = inside.run(&format!(
        "get plain http://missing.test:{port}/\n\
         echo \"body: $(curl -s http://missing.test:{port}/ | tr '\\n' ' ')\"\n\
         echo \"connect: $(curl -sv https://missing.test:{port}/ 2>&1 | tr '\\r\\n' '  ')\"\n\
         get good http://good.test:{port}/\n"
    ));
    assert!(ran.line("plain").starts_with("000 403"), "{}", ran.text);
    let denied = ran.denied("missing.test", port);
    assert_eq!(denied["count"], 3, "{denied:#}");
    assert_eq!(ran.denied.len(), 1, "equal refusals are one entry: {:#?}", ran.denied);
    let (rule, remedy) = (denied["rule"].as_str().unwrap(), denied["howToAllow"].as_str().unwrap());
    assert!(!rule.is_empty() && remedy.contains("network.allow"), "{denied:#}");
    let body = ran.line("body");
    for part in ["missing.test", &port.to_string(), rule, remedy] {
        assert!(body.contains(part), "{part:?} is not in the body: {body}");
    }
    assert!(
        remedy.contains("operator"),
        "the remedy is not for the model to try: {remedy}"
    );
    let connect = ran.line("connect");
    assert!(
        connect.contains(" 403 ") && connect.contains("missing.test"),
        "the reason phrase says it: {connect}"
    );

    // Told once, and in the turn it belongs to.
    let second = inside.run(&format!("get good http://good.test:{port}/\n"));
    assert!(second.denied.is_empty(), "{:#?}", second.denied);
    let third = inside.run(&format!("get plain http://missing.test:{port}/\n"));
    assert_eq!(third.denied("missing.test", port)["count"], 1, "{:#?}", third.denied);
    assert_eq!(server.requests().len(), 2);
}

on_every_lane!(
    the_host_must_be_the_one_that_was_allowed,
    a_rule_is_for_one_port_and_a_denial_wins,
    a_denial_teaches,
);
