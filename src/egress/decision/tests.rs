use super::*;
use crate::egress::policy::Policy;
use hyper::ext::ReasonPhrase;

fn file(line: usize) -> Origin {
    Origin::File {
        path: "/etc/codex-mcp/config.toml".into(),
        line,
    }
}

fn rule(text: &str, origin: Origin) -> Sourced<Rule> {
    Sourced::new(text.parse().unwrap(), origin)
}

fn target(text: &str) -> Target {
    Target::from_authority(text, None).unwrap()
}

fn deny(text: &str) -> Sourced<DenyRule> {
    Sourced::new(text.parse().unwrap(), file(9))
}

fn asked(allow: Vec<Sourced<Rule>>, target: &Target) -> Denial {
    let policy = Policy {
        allow,
        deny: Vec::new(),
        private: Vec::new(),
        narrowed_to: None,
    };
    policy.decide(target).unwrap_err()
}

/// One of every reason.
fn every_denial() -> Vec<Denial> {
    let name = target("x.example:443");
    let address: IpAddr = "10.0.0.5".parse().unwrap();
    let nowhere: IpAddr = "224.0.0.1".parse().unwrap();
    let allowed = || rule("*.example:443", file(3));
    let mut denials = vec![
        asked(vec![], &name),
        asked(vec![allowed()], &target("x.test:443")),
        asked(vec![allowed()], &target("x.example:8443")),
        asked(vec![allowed()], &target("example:443")),
        asked(vec![allowed()], &target("10.0.0.5:443")),
        asked(vec![allowed()], &target("224.0.0.1:443")),
        Denial::malformed(Malformed::Target(TargetError::UserInfo)),
    ];
    let of_name = [
        Reason::Denied {
            rule: deny("x.example"),
        },
        Reason::LeftOut { allowed_by: allowed() },
        Reason::AddressNotPublic {
            address,
            kind: kind(address),
        },
        Reason::OwnAddress { address },
        Reason::AddressNeverAllowed {
            address: nowhere,
            kind: kind(nowhere),
        },
        Reason::AddressDenied {
            address,
            rule: deny("10.0.0.0/8"),
        },
        Reason::NoServerName { rule: allowed() },
        Reason::OtherServerName {
            rule: allowed(),
            named: Some("evil.test".parse().unwrap()),
        },
        Reason::OtherServerName {
            rule: allowed(),
            named: None,
        },
        Reason::OtherHost {
            rule: allowed(),
            named: Some(target("evil.test:80")),
        },
        Reason::OtherHost {
            rule: allowed(),
            named: None,
        },
        Reason::NeitherTlsNorHttp { rule: allowed() },
        Reason::MalformedTls { rule: allowed() },
        Reason::TooManyConnections {
            limit: Sourced::new(32, Origin::Default),
        },
        Reason::TooFast {
            limit: Sourced::new(50, Origin::Default),
        },
        Reason::BytesUsedUp {
            bound: ByteBound::Network,
            limit: Sourced::new(ByteSize::from_mib(10 << 10), file(12)),
        },
        Reason::BytesUsedUp {
            bound: ByteBound::Session,
            limit: Sourced::new(ByteSize::from_mib(1 << 10), file(13)),
        },
        Reason::BytesUsedUp {
            bound: ByteBound::Day {
                renews: "2026-11-29T00:00:00Z".to_owned(),
            },
            limit: Sourced::new(ByteSize::from_mib(5 << 10), file(14)),
        },
        Reason::Malformed {
            problem: Malformed::Framing,
        },
    ];
    denials.extend(of_name.map(|reason| Denial::of(&name, reason)));
    denials
}

#[test]
fn every_refusal_teaches() {
    let texts: Vec<String> = every_denial()
        .iter()
        .map(|denial| {
            format!(
                "{} {}\n  why   {}\n  rule  {}\n  allow {}\n",
                denial.status().as_u16(),
                denial.reason_phrase(),
                denial.reason,
                denial.rule(),
                denial.how_to_allow()
            )
        })
        .collect();
    insta::assert_snapshot!(texts.concat());
}

#[test]
fn a_body_names_host_port_rule_and_remedy() {
    insta::assert_snapshot!(asked(vec![rule("*.example:443", file(3))], &target("x.example:8443")).body(), @r#"
    codex-mcp refused this connection: no rule allows it.

    host: x.example
    port: 8443
    rule: no rule has that port; the nearest, `*.example:443` (/etc/codex-mcp/config.toml:3), has another
    to allow: the operator can add "x.example:8443" to network.allow (/etc/codex-mcp/config.toml:3)
    "#);
    insta::assert_snapshot!(Denial::malformed(Malformed::NotAProxyRequest).body(), @"
    codex-mcp refused this connection: the request line names no host: a proxy is asked with CONNECT host:port or with a whole http:// address.

    host: -
    port: -
    rule: built in: a request must be one that can be read in one way only
    to allow: no setting allows it: the client's request has to be mended
    ");
}

/// A rule written where the list does not stand would replace that list, or be overlooked.
#[test]
fn the_remedy_is_for_the_layer_that_is_in_force() {
    let name = target("x.test:443");
    let remedy = |allow| asked(allow, &name).how_to_allow();
    let client = || rule("a.example", Origin::Client { name: "cargo" });
    for (allow, expected) in [
        (
            vec![client()],
            "the operator can add \"x.test:443\" to network.allow, or start codex-mcp with --network x.test:443",
        ),
        (
            vec![client(), rule("b.example", file(3))],
            "the operator can add \"x.test:443\" to network.allow (/etc/codex-mcp/config.toml:3)",
        ),
        (
            vec![rule("b.example", Origin::Flag { name: "--network" })],
            "the operator can add \"x.test:443\" to what --network names",
        ),
        (
            vec![rule(
                "b.example",
                Origin::Environment {
                    name: "CODEX_MCP_NETWORK",
                },
            )],
            "the operator can add \"x.test:443\" to CODEX_MCP_NETWORK",
        ),
    ] {
        assert_eq!(remedy(allow), expected);
    }
}

#[test]
fn the_remedy_for_uninspected_bytes_has_an_effect() {
    let name = target("x.example:5432");
    let remedy = |rule| Denial::of(&name, Reason::NeitherTlsNorHttp { rule }).how_to_allow();
    let client = Origin::Client { name: "cargo" };
    let call = Origin::Call { parameter: "network" };
    for (rule, expected) in [
        (
            rule("*.example:5432", file(3)),
            "the operator can add \"x.example:5432/tcp\" to network.allow (/etc/codex-mcp/config.toml:3): \
             then anything passes there unchecked",
        ),
        (
            rule("x.example:5432", file(3)),
            "the operator can write `x.example:5432` as \"x.example:5432/tcp\" (/etc/codex-mcp/config.toml:3): \
             then anything passes there unchecked",
        ),
        (
            rule("x.example:5432", client),
            "the operator can add \"x.example:5432/tcp\" to network.allow: then anything passes there unchecked",
        ),
        (
            rule("x.example:5432", call),
            "the operator's rules allow it already; \
             the call that started this session asked for TLS or HTTP there",
        ),
    ] {
        assert_eq!(remedy(rule), expected);
    }
}

#[test]
fn every_text_is_one_clean_line() {
    for denial in every_denial() {
        for line in [
            denial.reason_phrase(),
            denial.rule(),
            denial.how_to_allow(),
            denial.reason.to_string(),
        ] {
            assert!(!line.is_empty() && !line.ends_with('.'), "{line:?}");
            assert!(line.bytes().all(|byte| (b' '..=b'~').contains(&byte)), "{line:?}");
        }
    }
}

#[test]
fn the_longest_reason_phrase_fits_a_status_line() {
    let long = format!(
        "{}.{}.{}.{}:65535",
        "a".repeat(63),
        "b".repeat(63),
        "c".repeat(63),
        "d".repeat(61)
    );
    for mut denial in every_denial() {
        denial.target = Some(target(&long));
        let phrase = denial.reason_phrase();
        assert!(phrase.len() < 400, "{phrase}");
        assert!(ReasonPhrase::try_from(phrase.into_bytes()).is_ok());
    }
}

#[test]
fn a_denial_becomes_an_entry_of_a_result() {
    let denied = DeniedEgress::from(&asked(vec![], &target("[2001:db8::1]:443")));
    insta::assert_json_snapshot!(denied, @r#"
    {
      "host": "2001:db8::1",
      "port": 443,
      "count": 1,
      "rule": "network.allow and network.from name nothing, so nothing is allowed",
      "howToAllow": "the operator can add \"[2001:db8::1]:443\" to network.allow, and \"2001:db8::1/128\" to network.private"
    }
    "#);
    let malformed = DeniedEgress::from(&Denial::malformed(Malformed::NotHttp));
    assert_eq!((malformed.host.as_str(), malformed.port, malformed.count), ("", 0, 1));
}
