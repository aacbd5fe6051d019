use super::*;
use crate::config::environment::Environment;
use crate::config::resolve::tests::{file, refusal};
use crate::config::resolve::{ConfigFlags, Layers, resolve};

fn with(environment: &[(&str, &str)], system: &str, user: &str) -> Result<Option<OutgoingProxy>, String> {
    let home = [("HOME", "/home/u")];
    let environment = Environment::from_pairs(home.iter().chain(environment).copied());
    let layers = Layers {
        system: Some(file("/s.toml", &format!("[network]\n{system}"))),
        user: Some(file("/u.toml", &format!("[network]\n{user}"))),
        codex: None,
    };
    let config = resolve(layers, &environment, &ConfigFlags::default()).map_err(|error| error.to_string())?;
    // Whatever came of it: the password of these tests is nowhere in it.
    let shown = format!("{config:?} {}", serde_json::to_string(&config).unwrap());
    assert!(!shown.contains("hunter"), "{shown}");
    Ok(config.network.proxy)
}

fn of_user(text: &str) -> Option<OutgoingProxy> {
    with(&[], "", text).unwrap()
}

fn of_environment(environment: &[(&str, &str)]) -> Option<OutgoingProxy> {
    with(environment, "", "").unwrap()
}

fn place(proxy: Option<&OutgoingProxy>) -> String {
    let proxy = proxy.unwrap();
    format!("{} ({})", proxy.address.value, proxy.address.origin)
}

fn exceptions(proxy: Option<OutgoingProxy>) -> Vec<String> {
    proxy.unwrap().exceptions.iter().map(ToString::to_string).collect()
}

#[test]
fn a_file_names_the_proxy_and_the_environment_does_not_count() {
    let environment = [("HTTPS_PROXY", "http://env.example:3128"), ("NO_PROXY", "a.example")];
    let proxy = with(&environment, "", "proxy = \"http://Proxy.Example:3128/\"").unwrap();
    assert_eq!(place(proxy.as_ref()), "http://proxy.example:3128 (/u.toml:2)");
    assert_eq!(exceptions(proxy), Vec::<String>::new());
    let off = with(&environment, "proxy = \"http://system.example\"", "proxy = \"none\"");
    assert_eq!(off, Ok(None));
    let stronger = with(&environment, "proxy = \"none\"", "proxy = \"http://[2001:db8::1]\"").unwrap();
    assert_eq!(place(stronger.as_ref()), "http://[2001:db8::1]:80 (/u.toml:2)");
}

#[test]
fn the_environments_proxy_counts_where_no_layer_names_one() {
    assert_eq!(of_environment(&[("HTTP_PROXY", "http://plain.example")]), None);
    let mut set = vec![("all_proxy", "http://d.example:1")];
    for (variable, host) in [("ALL_PROXY", "c"), ("https_proxy", "b"), ("HTTPS_PROXY", "a")] {
        let earlier = place(of_environment(&set).as_ref());
        assert!(!earlier.contains(&format!("http://{host}.example")), "{earlier}");
        let url = ["http://", host, ".example:1"].concat();
        set.push((variable, url.leak()));
        let expected = format!("http://{host}.example:1 (environment {variable})");
        assert_eq!(place(of_environment(&set).as_ref()), expected);
    }
    let bare = of_environment(&[("HTTPS_PROXY", "proxy.example:3128")]);
    assert_eq!(
        place(bare.as_ref()),
        "http://proxy.example:3128 (environment HTTPS_PROXY)"
    );
}

#[test]
fn credentials_in_a_variable_stay_there() {
    let proxy = of_environment(&[("https_proxy", "http://me:hunter%32@proxy.example:3128")]).unwrap();
    assert_eq!(
        place(Some(&proxy)),
        "http://proxy.example:3128 (environment https_proxy)"
    );
    assert_eq!(
        proxy.credentials.map(|credentials| credentials.value),
        Some(ProxyCredentials::InVariable("https_proxy"))
    );
    let without = of_environment(&[("https_proxy", "http://proxy.example:3128")]).unwrap();
    assert_eq!(without.credentials, None);
}

#[test]
fn a_variable_of_no_use_says_which_and_how_to_go_on() {
    let error = |value| with(&[("ALL_PROXY", value)], "", "").unwrap_err();
    insta::assert_snapshot!(
        error("socks5://me:hunter2@proxy.example:1080"),
        @r#"the environment variable ALL_PROXY names the proxy, as no layer sets `network.proxy`: only a proxy that is spoken to by plain `http://` can be used, no `https://` and no SOCKS one; set `network.proxy` to the one to use, or `network.proxy = "none"` to use none"#
    );
    for value in [
        "https://proxy.example",
        "http://me:hunter2@",
        "http://me:hunter2/x@proxy.example:3128",
        "http://proxy.example:hunter2",
        "http://proxy.example/hunter2",
        "http://me:hunter2@proxy example",
    ] {
        let error = error(value);
        assert!(
            error.contains("ALL_PROXY") && error.contains("\"none\"") && !error.contains("hunter"),
            "{error}"
        );
    }
    assert_eq!(with(&[("ALL_PROXY", "socks5://p")], "", "proxy = \"none\""), Ok(None));
}

#[test]
fn a_setting_of_no_use_is_refused_and_not_repeated() {
    for (value, reason) in [
        (
            "http://me:hunter2@proxy.example:3128",
            "use `network.proxy_credentials = { env = \"NAME\" }`",
        ),
        ("http://me:hunter2/x@proxy.example", "ends with its port"),
        ("https://proxy.example", "no `https://` and no SOCKS one"),
        ("socks5h://proxy.example", "no `https://` and no SOCKS one"),
        ("proxy.example:3128", "a proxy is written `http://"),
        ("None", "a proxy is written `http://"),
        ("", "a proxy is written `http://"),
        ("http://", "a host is a name"),
        ("http://proxy.example/path", "ends with its port"),
        ("http://proxy.example:3128?x", "ends with its port"),
        ("http://127.1:3128", "an IPv4 address is four decimal numbers"),
        ("http://proxy.example:03128", "a port is a number"),
        ("http://proxy\\u0000.example", "no control byte"),
    ] {
        let error = refusal(&format!("[network]\nproxy = \"{value}\""));
        assert!(
            error.starts_with("/u.toml:2: `network.proxy`: ") && error.contains(reason),
            "{error}"
        );
        assert!(!error.contains("hunter"), "{error}");
    }
}

#[test]
fn credentials_belong_to_the_proxy_they_are_written_beside() {
    let beside = "proxy = \"http://proxy.example\"\nproxy_credentials = { env = \"PROXY\" }";
    let credentials = |system, user| {
        let proxy = with(&[("HTTPS_PROXY", "http://env.example")], system, user)?;
        Ok::<_, String>(proxy.and_then(|proxy| proxy.credentials).map(|found| found.value))
    };
    let in_variable = |name: &str| Some(ProxyCredentials::Secret(SecretSource::Env(name.into())));
    assert_eq!(credentials("", beside), Ok(in_variable("PROXY")));
    assert_eq!(
        credentials(beside, "proxy_credentials = { env = \"OTHER\" }"),
        Ok(in_variable("OTHER"))
    );
    assert_eq!(credentials(beside, "proxy = \"http://other.example\""), Ok(None));
    assert_eq!(credentials(beside, "proxy = \"none\""), Ok(None));
    // Not sent to whatever the environment names, either.
    for (system, user) in [
        ("", "proxy_credentials = { env = \"PROXY\" }"),
        ("proxy = \"none\"", "proxy_credentials = { env = \"PROXY\" }"),
    ] {
        assert_eq!(
            credentials(system, user).unwrap_err(),
            "/u.toml:2: `network.proxy_credentials`: belongs to a proxy: set `network.proxy` to its address in the same file"
        );
    }
    assert!(
        credentials("", "proxy = \"http://p\"\nproxy_credentials = { env = \"me:hunter2\" }")
            .unwrap_err()
            .starts_with("/u.toml:3: `network.proxy_credentials`: names no environment variable")
    );
}

#[test]
fn exceptions_are_the_settings_or_those_beside_the_environments_proxy() {
    let environment = [
        ("HTTPS_PROXY", "http://env.example"),
        ("NO_PROXY", ".a.example, 10.*,b.example:80 , 10.0.0.0/8,::1,*.c.example"),
        ("no_proxy", "z.example"),
    ];
    assert_eq!(
        exceptions(with(&environment, "", "").unwrap()),
        ["a.example", "10.0.0.0/8", "::1", "c.example"]
    );
    assert_eq!(
        exceptions(with(&environment, "", "no_proxy = [\"d.example\"]").unwrap()),
        ["d.example"]
    );
    assert_eq!(
        exceptions(of_user("proxy = \"http://p\"\nno_proxy = [\"*\", \"192.0.2.7\"]")),
        ["*", "192.0.2.7"]
    );
    let error = refusal("[network]\nno_proxy = [\"a.example\",\n\"10.*\"]");
    assert!(
        error.starts_with("/u.toml:3: `network.no_proxy` = \"10.*\": "),
        "{error}"
    );
}

#[test]
fn names_are_resolved_here_unless_the_operator_says_otherwise() {
    let resolution = |text: &str| of_user(&format!("proxy = \"http://p\"\n{text}")).unwrap().resolution;
    assert_eq!(resolution(""), Resolution::Here);
    assert_eq!(resolution("proxy_resolves = true"), Resolution::ByProxy);
}
