//! What commands are told of the way out, that Codex is told nothing, and what a call may ask for.

use super::{Inside, Scene, attack};
use crate::support::lane::Lane;
use crate::support::servers::PERMITTED;
use crate::support::servers::authority::Authority;
use serde_json::json;

/// A call names what it needs of what the operator allowed. It can't add to it, whatever it names.
fn a_call_can_only_narrow(lane: Lane) {
    let scene = Scene::new();
    let server = scene.servers.http(PERMITTED);
    let port = server.port();
    for name in ["a.test", "b.test", "c.test", "denied.test"] {
        scene.dns.set(name, &[PERMITTED]);
    }
    let config =
        format!("allow = [\"a.test:{port}\", \"b.test:{port}\", \"denied.test:{port}\"]\ndeny = [\"denied.test\"]");
    let Some(world) = scene.world(lane, &config) else {
        return;
    };
    let script: String = ["a", "b", "c", "denied"]
        .iter()
        .map(|name| format!("get {name} http://{name}.test:{port}/\n"))
        .collect();
    let prompt = format!("#shell {}", crate::inside::in_bash(&script));
    let some = vec![
        format!("a.test:{port}"),
        format!("c.test:{port}"),
        format!("denied.test:{port}"),
    ];
    let raw: Vec<String> = some.iter().map(|rule| format!("{rule}/tcp")).collect();
    let mut inside = Inside::new(&world);
    for (allow, passes) in [
        (None, vec!["a", "b"]),
        (Some(some), vec!["a"]),
        (Some(raw), vec!["a"]),
        (Some(vec![format!("*:{port}")]), vec!["a", "b"]),
        (Some(Vec::new()), vec![]),
    ] {
        let mut arguments = json!({ "prompt": prompt });
        if let Some(allow) = &allow {
            arguments["network"] = json!({ "allow": allow });
        }
        let before = server.requests().len();
        let ran = inside.in_a_new_thread().ask(arguments);
        for name in ["a", "b", "c", "denied"] {
            let expected = if passes.contains(&name) { "000 200" } else { "000 403" };
            assert!(ran.line(name).starts_with(expected), "{allow:?}: {}", ran.text);
        }
        assert_eq!(server.requests().len() - before, passes.len(), "{allow:?}");
        assert_eq!(ran.denied.len(), 4 - passes.len(), "{allow:?}: {:#?}", ran.denied);
    }

    let running = world.running();
    for network in [
        json!({"allow": [], "private": ["0.0.0.0/0"]}),
        json!({"allow": [], "unrestricted": true}),
        json!({"deny": []}),
        json!({"allow": ["not a rule"]}),
        json!({"allow": "a.test"}),
    ] {
        let result = inside
            .client
            .tool("codex", json!({"prompt": "#text no", "network": network}));
        assert_eq!(result["isError"], true, "{network}: {result:#}");
        let text = result["content"][0]["text"].as_str().unwrap();
        assert!(text.contains("network"), "{text}");
    }
    assert_eq!(world.running(), running, "none of them started a container");
}

/// curl and git are told nothing on their command lines, and find the way. Codex's own process has none of it in its
/// environment: what it sends goes to the model endpoint.
fn commands_find_the_way_and_codex_is_told_nothing(lane: Lane) {
    let scene = Scene::new();
    let authority = Authority::new();
    let server = scene.servers.http(PERMITTED);
    let secure = scene.servers.https(PERMITTED, &authority, &["good.test"]);
    let (port, tls) = (server.port(), secure.port());
    scene.dns.set("good.test", &[PERMITTED]);
    let Some(world) = scene.world(lane, &format!("allow = [\"good.test:{port}\", \"good.test:{tls}\"]")) else {
        return;
    };
    let bundle = world.path("authorities.pem");
    std::fs::write(&bundle, authority.pem()).unwrap();
    world.give_to_user(&bundle);
    world.edit_config(
        "[network]\n",
        &format!("[network]\nca_bundle = \"{}\"\n", bundle.display()),
    );
    let ran = attack(
        &world,
        &format!(
            r#"
get curl http://good.test:{port}/curl
get curl-tls https://good.test:{tls}/curl
get untold --noproxy '*' http://good.test:{port}/untold
echo "distrusting: $(env -u SSL_CERT_FILE -u CURL_CA_BUNDLE curl -sS -o /dev/null https://good.test:{tls}/distrusted 2>&1 | tr '\n' ' ')"
git ls-remote http://good.test:{port}/plain.git >/dev/null 2>&1
git ls-remote https://good.test:{tls}/secure.git >/dev/null 2>/tmp/git; echo "git: $(tr '\n' ' ' </tmp/git)"
echo "proxies: $(env | grep -i '_proxy=' | sort | tr '\n' ' ')"
echo "loopback: $(curl -s -o /dev/null -w '%{{http_code}}' http://127.0.0.1:18080/v1/models)"
echo "bundle: $(test -w "$SSL_CERT_FILE" && echo WRITABLE) $(grep -c 'BEGIN CERT' "$SSL_CERT_FILE")"
for process in /proc/[0-9]*; do
    case $(tr '\0' ' ' <$process/cmdline 2>/dev/null) in *app-server*) ;; *) continue ;; esac
    tr '\0' '\n' <$process/environ 2>/dev/null >/tmp/environment || continue
    echo "codex: $(grep -c ^PATH= /tmp/environment) [$(grep -i -e proxy -e ssl_cert -e ca_bundle /tmp/environment | tr '\n' ' ')]"
done
"#
        ),
    );
    assert!(
        ran.line("curl").starts_with("000 200 exit=0 served GET /curl"),
        "{}",
        ran.text
    );
    assert!(
        ran.line("curl-tls").starts_with("200 200 exit=0 served GET /curl"),
        "{}",
        ran.text
    );
    assert!(
        ran.line("untold").starts_with("000 000 exit=6"),
        "only by the proxy: {}",
        ran.text
    );
    assert!(ran.line("distrusting").contains("certificate"), "{}", ran.text);
    assert!(!ran.line("git").contains("certificate"), "{}", ran.text);
    let git = "/plain.git/info/refs?service=git-upload-pack";
    assert_eq!(server.targets(), ["/curl", git]);
    assert_eq!(
        secure.targets(),
        ["/curl", "/secure.git/info/refs?service=git-upload-pack"]
    );
    let proxies = ran.line("proxies");
    for name in ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy"] {
        assert!(
            proxies.contains(&format!("{name}=http://127.0.0.1:18081 ")),
            "{name}: {proxies}"
        );
    }
    assert!(
        proxies.contains("NO_PROXY=") && proxies.contains("127.0.0.1"),
        "{proxies}"
    );
    assert_eq!(
        ran.line("loopback"),
        "200",
        "the container's own loopback needs no proxy"
    );
    let bundled: u32 = ran.line("bundle").trim().parse().unwrap();
    assert!(bundled > 1, "the host's authorities are in it as well");
    assert_eq!(ran.line("codex"), "1 []");
}

on_every_lane!(a_call_can_only_narrow, commands_find_the_way_and_codex_is_told_nothing);
