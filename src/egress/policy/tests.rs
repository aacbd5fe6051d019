use super::*;
use crate::config::authority::Port;
use proptest::prelude::*;

const FILE: Origin = Origin::Flag { name: "--network" };
const CALL: Origin = Origin::Call { parameter: "network" };

fn rules(texts: &[&str]) -> Vec<Sourced<Rule>> {
    texts
        .iter()
        .map(|text| Sourced::new(text.parse().unwrap(), FILE))
        .collect()
}

fn policy(allow: &[&str], deny: &[&str], private: &[&str]) -> Policy {
    Policy {
        allow: rules(allow),
        deny: deny
            .iter()
            .map(|text| Sourced::new(text.parse().unwrap(), FILE))
            .collect(),
        private: private
            .iter()
            .map(|text| Sourced::new(text.parse().unwrap(), FILE))
            .collect(),
        narrowed_to: None,
    }
}

fn call(texts: &[&str]) -> Vec<Sourced<Rule>> {
    rules(texts)
        .into_iter()
        .map(|rule| Sourced::new(rule.value, CALL))
        .collect()
}

fn target(text: &str) -> Target {
    Target::from_authority(text, None).unwrap()
}

fn addresses(texts: &[&str]) -> Vec<IpAddr> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

/// The deciding rule, or the kind of refusal.
fn decided(policy: &Policy, asked: &str) -> String {
    match policy.decide(&target(asked)) {
        Ok(passage) => passage.rule.value.to_string(),
        Err(denial) => short(&denial.reason).to_owned(),
    }
}

fn checked(policy: &Policy, asked: &[&str], own: &[&str]) -> &'static str {
    let result = policy.check_addresses(&target("a.example:443"), &addresses(asked), &addresses(own));
    result.map_or_else(|denial| short(&denial.reason), |()| "passes")
}

fn short(reason: &Reason) -> &'static str {
    match reason {
        Reason::NotAllowed {
            nearest: NearMiss::NoRules,
            ..
        } => "nothing allowed",
        Reason::NotAllowed {
            nearest: NearMiss::OtherPort(_),
            ..
        } => "other port",
        Reason::NotAllowed {
            nearest: NearMiss::OnlyBelow(_),
            ..
        } => "only below",
        Reason::NotAllowed {
            nearest: NearMiss::NoneNear,
            ..
        } => "no rule",
        Reason::Denied { .. } => "denied",
        Reason::LeftOut { .. } => "left out",
        Reason::AddressNotPublic { .. } => "not public",
        Reason::OwnAddress { .. } => "own",
        Reason::AddressNeverAllowed { .. } => "never",
        Reason::AddressDenied { .. } => "address denied",
        _ => "something else",
    }
}

#[test]
fn nothing_is_allowed_but_what_a_rule_names() {
    let closed = policy(&[], &[], &[]);
    assert_eq!(decided(&closed, "a.example:443"), "nothing allowed");
    let policy = policy(
        &["a.example", "*.b.example:8443", "192.0.2.0/24:80", "[2001:db8::1]:443"],
        &[],
        &[],
    );
    for (asked, answer) in [
        ("a.example:443", "a.example:443"),
        ("A.Example.:443", "a.example:443"),
        ("a.example:80", "other port"),
        ("x.a.example:443", "no rule"),
        ("xa.example:443", "no rule"),
        ("x.b.example:8443", "*.b.example:8443"),
        ("x.y.b.example:8443", "*.b.example:8443"),
        ("b.example:8443", "only below"),
        ("xb.example:8443", "no rule"),
        ("x.b.example:443", "other port"),
        ("192.0.2.255:80", "192.0.2.0/24:80"),
        ("192.0.3.0:80", "no rule"),
        ("192.0.2.1:443", "other port"),
        ("[2001:db8::1]:443", "[2001:db8::1]:443"),
        ("[2001:db8::2]:443", "no rule"),
    ] {
        assert_eq!(decided(&policy, asked), answer, "{asked}");
    }
}

#[test]
fn a_rule_that_denies_wins_and_without_a_port_means_all_ports() {
    let policy = policy(
        &["*.example:443", "*.example:80", "0.0.0.0/0:443"],
        &["evil.example", "*.dark.example:443", "198.51.100.0/24"],
        &[],
    );
    for (asked, answer) in [
        ("a.example:443", "*.example:443"),
        ("evil.example:443", "denied"),
        ("evil.example:80", "denied"),
        ("x.dark.example:443", "denied"),
        ("x.dark.example:80", "*.example:80"),
        ("dark.example:443", "*.example:443"),
        ("198.51.100.7:443", "denied"),
        ("198.51.101.7:443", "0.0.0.0/0:443"),
    ] {
        assert_eq!(decided(&policy, asked), answer, "{asked}");
    }
    let everything = self::policy(&["a.example"], &["*"], &[]);
    assert_eq!(decided(&everything, "a.example:443"), "denied");
}

#[test]
fn the_most_specific_rule_says_whether_the_first_bytes_are_looked_at() {
    for (allow, decides) in [
        (["*.example:5432", "db.example:5432/tcp"], "db.example:5432/tcp"),
        (["*.example:5432/tcp", "db.example:5432"], "db.example:5432"),
        (["*:5432", "*.example:5432/tcp"], "*.example:5432/tcp"),
        (["db.example:5432/tcp", "db.example:5432"], "db.example:5432"),
        (["*.example:5432/tcp", "*.example:5432"], "*.example:5432"),
        (["db.example:5432/tcp", "db.example:443"], "db.example:5432/tcp"),
    ] {
        for allow in [allow, [allow[1], allow[0]]] {
            assert_eq!(
                decided(&policy(&allow, &[], &[]), "db.example:5432"),
                decides,
                "{allow:?}"
            );
        }
    }
    let mut derived = policy(&["db.example:5432/tcp"], &[], &[]);
    let client = Origin::Client { name: "cargo" };
    derived
        .allow
        .insert(0, Sourced::new("db.example:5432".parse().unwrap(), client.clone()));
    assert_eq!(decided(&derived, "db.example:5432"), "db.example:5432/tcp");
    derived
        .allow
        .push(Sourced::new("x.example:5432".parse().unwrap(), client));
    derived.allow.extend(rules(&["*.example:5432/tcp"]));
    assert_eq!(decided(&derived, "x.example:5432"), "x.example:5432");
    let networks = policy(&["192.0.2.0/24:22/tcp", "192.0.2.7:22", "192.0.0.0/16:22"], &[], &[]);
    assert_eq!(decided(&networks, "192.0.2.7:22"), "192.0.2.7:22");
    assert_eq!(decided(&networks, "192.0.2.8:22"), "192.0.2.0/24:22/tcp");
    assert_eq!(decided(&networks, "192.0.3.8:22"), "192.0.0.0/16:22");
}

#[test]
fn a_call_narrows_and_never_widens() {
    let operator = policy(
        &["*.example:443", "db.example:5432/tcp", "c.example:80"],
        &["evil.example"],
        &[],
    );
    let narrowed = operator.clone().narrowed(call(&[
        "a.example",
        "evil.example",
        "outside.test",
        "db.example:5432",
        "c.example:80/tcp",
    ]));
    for (asked, answer) in [
        ("a.example:443", "*.example:443"),
        ("b.example:443", "left out"),
        ("evil.example:443", "denied"),
        ("outside.test:443", "no rule"),
        // The call asks for inspection where the operator did not; the reverse has no effect.
        ("db.example:5432", "db.example:5432"),
        ("c.example:80", "c.example:80"),
    ] {
        assert_eq!(decided(&narrowed, asked), answer, "{asked}");
    }
    let nothing = operator.narrowed(Vec::new());
    assert_eq!(decided(&nothing, "a.example:443"), "left out");
}

#[test]
fn only_public_addresses_and_named_private_ones_pass() {
    let closed = policy(&["a.example"], &[], &[]);
    let lan = policy(
        &["a.example"],
        &["10.0.0.13", "198.51.100.0/24:80"],
        &["10.0.0.0/8", "::1/128", "0.0.0.0/0"],
    );
    for (asked, without, with) in [
        (vec!["1.1.1.1"], "passes", "passes"),
        (vec!["1.1.1.1", "2606:4700::1"], "passes", "passes"),
        (vec!["10.0.0.5"], "not public", "passes"),
        (vec!["1.1.1.1", "10.0.0.5"], "not public", "passes"),
        (vec!["10.0.0.13"], "not public", "address denied"),
        (vec!["10.0.0.5", "10.0.0.13"], "not public", "address denied"),
        (vec!["198.51.100.7"], "not public", "passes"),
        (vec!["127.0.0.1"], "not public", "passes"),
        (vec!["::1"], "not public", "passes"),
        (vec!["fe80::1"], "not public", "not public"),
        (vec!["0.0.0.0"], "never", "never"),
        (vec!["255.255.255.255"], "never", "never"),
        (vec!["::ffff:10.0.0.5"], "never", "never"),
        (vec!["1.1.1.1", "224.0.0.1"], "never", "never"),
    ] {
        assert_eq!(checked(&closed, &asked, &[]), without, "{asked:?}");
        assert_eq!(checked(&lan, &asked, &[]), with, "{asked:?}");
    }
}

#[test]
fn a_public_address_of_this_host_is_private_too() {
    let closed = policy(&["a.example"], &[], &[]);
    let own = ["1.1.1.1", "127.0.0.1", "2606:4700::1"];
    assert_eq!(checked(&closed, &["1.1.1.1"], &own), "own");
    assert_eq!(checked(&closed, &["1.1.1.2"], &own), "passes");
    assert_eq!(checked(&closed, &["2606:4700::1"], &own), "own");
    let named = policy(&["a.example"], &[], &["1.1.1.1/32"]);
    assert_eq!(checked(&named, &["1.1.1.1"], &own), "passes");
    assert_eq!(checked(&named, &["127.0.0.1"], &own), "own");
}

fn name() -> impl Strategy<Value = String> {
    "[ab]{1,2}(\\.[ab]{1,2}){0,2}\\.example"
}

fn any_target() -> impl Strategy<Value = Target> {
    let host = prop_oneof![
        name().prop_map(|name| name.parse().unwrap()),
        any::<u8>().prop_map(|last| Host::Address(IpAddr::from([192, 0, 2, last]))),
    ];
    let port = prop::sample::select(vec![80u16, 443]).prop_map(|port| Port::new(port).unwrap_or(Port::HTTPS));
    (host, port).prop_map(|(host, port)| Target { host, port })
}

fn any_rule() -> impl Strategy<Value = Rule> {
    let pattern = prop_oneof![
        Just("*".to_owned()),
        name(),
        name().prop_map(|name| format!("*.{name}")),
        Just("*.example".to_owned()),
        (24u8..=32).prop_map(|prefix| format!("192.0.2.0/{prefix}")),
    ];
    let rest = prop::sample::select(vec![":80", ":443", ":80/tcp", ":443/tcp"]);
    (pattern, rest).prop_map(|(pattern, rest)| format!("{pattern}{rest}").parse().unwrap())
}

fn any_policy() -> impl Strategy<Value = Policy> {
    let list = || prop::collection::vec(any_rule().prop_map(|rule| Sourced::new(rule, FILE)), 0..5);
    let deny = any_rule().prop_map(|rule| {
        let port = (rule.inspection == Inspection::Named).then_some(rule.port);
        let pattern = rule.pattern;
        Sourced::new(DenyRule { pattern, port }, FILE)
    });
    (list(), prop::collection::vec(deny, 0..2), prop::option::of(list())).prop_map(|(allow, deny, narrowed_to)| {
        Policy {
            allow,
            deny,
            private: Vec::new(),
            narrowed_to,
        }
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1024))]

    #[test]
    fn what_passes_is_covered_in_every_list_and_denied_in_none(policy in any_policy(), target in any_target()) {
        let covers = |rules: &[Sourced<Rule>]| {
            rules.iter().any(|rule| rule.value.pattern.covers(&target.host) && rule.value.port == target.port)
        };
        let denied = policy.deny.iter().any(|rule| denies(&rule.value, &target));
        let left = policy.narrowed_to.as_ref().is_none_or(|rules| covers(rules));
        prop_assert_eq!(policy.decide(&target).is_ok(), !denied && covers(&policy.allow) && left);
    }

    #[test]
    fn the_order_of_rules_decides_nothing(policy in any_policy(), target in any_target()) {
        let mut reversed = policy.clone();
        reversed.allow.reverse();
        reversed.narrowed_to.iter_mut().for_each(|rules| rules.reverse());
        let inspection = |policy: &Policy| policy.decide(&target).ok().map(|passage| passage.inspection);
        prop_assert_eq!(inspection(&policy), inspection(&reversed));
    }

    #[test]
    fn narrowing_never_allows_or_spares_an_inspection(policy in any_policy(), target in any_target()) {
        let wide = Policy { narrowed_to: None, ..policy.clone() };
        match (wide.decide(&target), policy.decide(&target)) {
            (Err(_), narrow) => prop_assert!(narrow.is_err()),
            (Ok(wide), Ok(narrow)) if wide.inspection == Inspection::Named => {
                prop_assert_eq!(narrow.inspection, Inspection::Named);
            }
            _ => {}
        }
    }
}

#[test]
fn a_policy_that_lets_nothing_pass_says_so() {
    assert!(policy(&[], &[], &["10.0.0.0/8"]).allows_nothing());
    let some = policy(&["a.example"], &[], &[]);
    assert!(!some.allows_nothing());
    assert!(some.clone().narrowed(Vec::new()).allows_nothing());
    assert!(!some.narrowed(call(&["*"])).allows_nothing());
}
