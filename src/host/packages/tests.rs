#![expect(clippy::disallowed_methods, reason = "makes clients and looks at what they left")]

use super::*;
use crate::dial::Names;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

/// A directory with a client that is a script, and a server on loopback for it to fetch from.
struct Scene {
    directory: tempfile::TempDir,
    environment: BTreeMap<OsString, OsString>,
    dialer: Dialer,
    server: std::net::SocketAddr,
    _listener: std::net::TcpListener,
}

/// What a client does that fetches by CONNECT: succeeds where the proxy says 200.
const FETCH: &str = r#"
fetch() {
    proxy=${https_proxy#http://}; address=${proxy#*@}
    exec 3<>"/dev/tcp/${address%:*}/${address#*:}"
    printf 'CONNECT %s HTTP/1.1\r\nHost: %s\r\nProxy-Authorization: Basic %s\r\n\r\n' \
        "$1" "$1" "$(printf %s "${proxy%@*}" | base64 -w0)" >&3
    read -r status <&3
    [[ $status == *200* ]]
}
"#;

/// A pip with one index; `download` is for the test to say.
fn pip(index: &str, download: &str) -> String {
    format!(
        "{FETCH}
case $1-$2 in
config-list) echo \"global.index-url='{index}'\" ;;
config-debug) echo \"  $HOME/pip.conf, exists: True\" ;;
download-*) env > $HOME/environment; pwd > $HOME/directory; {download} ;;
esac"
    )
}

impl Scene {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = format!("{}:/usr/bin:/bin", directory.path().display());
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let environment = [
            ("PATH", path.as_str()),
            ("HOME", directory.path().to_str().unwrap()),
            ("OPENAI_API_KEY", "sk-secret"),
            ("HTTPS_PROXY", "http://elsewhere.example:3128"),
        ];
        Self {
            environment: environment.map(|(name, value)| (name.into(), value.into())).into(),
            dialer: Dialer::new(Names::new(&[])),
            server: listener.local_addr().unwrap(),
            _listener: listener,
            directory,
        }
    }

    fn client(self, name: &str, script: &str) -> Self {
        let path = self.directory.path().join(name);
        let script = format!("#!/usr/bin/env bash\necho \"$@\" >> $HOME/calls\n{script}\n");
        std::fs::write(&path, script).unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
        self
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.directory.path().join(name)).unwrap()
    }

    fn cache(&self) -> PathBuf {
        self.directory.path().join("cache")
    }

    async fn ask(&self, clients: &[PackageClient]) -> Result<Vec<PackageSource>, PackagesError> {
        let cache_dir = self.cache();
        let with = Ask {
            environment: &self.environment,
            cache_dir: &cache_dir,
            dialer: &self.dialer,
        };
        ask(clients, with).await
    }

    fn rules(source: &PackageSource) -> Vec<String> {
        source.rules.iter().map(ToString::to_string).collect()
    }
}

#[tokio::test]
async fn a_clients_hosts_are_those_configured_and_those_seen() {
    let scene = Scene::new();
    let script = pip(
        "https://u:secret@mirror.example/simple",
        &format!("fetch {}", scene.server),
    );
    let scene = scene.client("pip", &script);
    let sources = scene.ask(&[PackageClient::Pip, PackageClient::Pip]).await.unwrap();
    let [source] = &sources[..] else { panic!("{sources:?}") };
    assert_eq!(
        Scene::rules(source),
        ["mirror.example:443".to_owned(), scene.server.to_string()]
    );
    assert_eq!(source.environment["PIP_INDEX_URL"], "https://mirror.example/simple");
    assert_eq!(source.program, scene.directory.path().join("pip"));
}

#[tokio::test]
async fn it_sees_the_recorder_and_nothing_of_ours() {
    let scene = Scene::new();
    let script = pip("https://mirror.example/", &format!("fetch {}", scene.server));
    let scene = scene.client("pip", &script);
    scene.ask(&[PackageClient::Pip]).await.unwrap();
    let seen = scene.read("environment");
    assert!(
        !seen.contains("sk-secret") && !seen.contains("elsewhere.example"),
        "{seen}"
    );
    for name in ["HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy", "PIP_PROXY"] {
        assert!(seen.contains(&format!("\n{name}=http://codex-mcp:")), "{name}: {seen}");
    }
    assert!(seen.lines().any(|line| line == "NO_PROXY="), "{seen}");
    // Below the cache, and gone afterwards.
    let ran_in = PathBuf::from(scene.read("directory").trim());
    assert!(
        ran_in.starts_with(scene.cache().join("packages")),
        "{}",
        ran_in.display()
    );
    assert!(!ran_in.exists());
}

#[tokio::test]
async fn what_is_remembered_is_not_asked_again_until_the_configuration_changes() {
    let scene = Scene::new();
    let script = pip("https://mirror.example/", &format!("fetch {}", scene.server));
    let scene = scene.client("pip", &script);
    let clients = [PackageClient::Pip];
    let (first, second) = tokio::join!(scene.ask(&clients), scene.ask(&clients));
    assert_eq!(first.unwrap(), second.unwrap());
    assert_eq!(scene.read("calls").lines().count(), 3);
    std::fs::write(scene.directory.path().join("pip.conf"), "[global]").unwrap();
    scene.ask(&clients).await.unwrap();
    assert_eq!(scene.read("calls").lines().count(), 6);
}

#[tokio::test]
async fn a_client_that_fails_is_named_with_its_last_words_and_a_remedy() {
    let scene = Scene::new().client(
        "pip",
        &pip(
            "https://u:secret@mirror.example/",
            "echo 'ERROR: no https://u:secret@mirror.example/' >&2; exit 1",
        ),
    );
    let error = scene.ask(&[PackageClient::Pip]).await.unwrap_err();
    insta::assert_snapshot!(error, @r#"
    network.from: `pip download` failed; it last said:
      ERROR: no https://mirror.example/
    Take "pip" out of network.from, or write the hosts that it needs into network.allow instead
    "#);
    assert_eq!(std::fs::read_dir(scene.cache().join("packages")).unwrap().count(), 0);
}

#[tokio::test]
async fn a_host_out_of_reach_is_named() {
    let closed = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let scene = Scene::new().client(
        "pip",
        &pip("https://mirror.example/", &format!("fetch {closed} || exit 1")),
    );
    let error = scene.ask(&[PackageClient::Pip]).await.unwrap_err().to_string();
    assert!(
        error.contains(&format!("this host has no connection to {closed} (")),
        "{error}"
    );
}

#[tokio::test]
async fn one_that_fails_does_not_cost_the_answers_of_others() {
    let scene = Scene::new();
    let script = pip("https://mirror.example/", &format!("fetch {}", scene.server));
    let scene = scene.client("pip", &script).client("npm", "exit 1");
    scene.ask(&[PackageClient::Npm, PackageClient::Pip]).await.unwrap_err();
    scene.ask(&[PackageClient::Pip]).await.unwrap();
    let of_pip = scene
        .read("calls")
        .lines()
        .filter(|call| call.starts_with("download"))
        .count();
    assert_eq!(of_pip, 1);
}

#[tokio::test]
async fn what_go_says_of_its_proxies_counts_where_one_has_no_such_module() {
    let scene = Scene::new().client(
        "go",
        r#"[ $1 = env ] && echo '{"GOPROXY": "https://u:secret@go.mirror.example,direct", "GOSUMDB": "off"}'"#,
    );
    let sources = scene.ask(&[PackageClient::Go]).await.unwrap();
    assert_eq!(Scene::rules(&sources[0]), ["go.mirror.example:443"]);
    assert!(scene.read("calls").contains("mod download"));
}

#[tokio::test]
async fn a_missing_client_is_an_error_and_a_relative_path_is_not_searched() {
    let mut scene = Scene::new().client("go", "exit 1");
    scene.environment.insert("PATH".into(), ".:relative".into());
    let error = scene.ask(&[PackageClient::Go]).await.unwrap_err();
    assert!(
        matches!(
            error,
            PackagesError::Missing {
                client: PackageClient::Go
            }
        ),
        "{error}"
    );
}

#[tokio::test]
async fn a_client_that_goes_around_the_recorder_is_an_error() {
    let scene = Scene::new().client("cargo", "exit 0");
    let error = scene.ask(&[PackageClient::Cargo]).await.unwrap_err();
    assert!(matches!(error, PackagesError::NoHosts { .. }), "{error}");
}

#[tokio::test]
async fn a_client_that_never_ends_is_ended_with_all_that_it_started() {
    let scene = Scene::new().client("cargo", "sleep 600 & echo $! > $HOME/child; echo waiting >&2; wait");
    let environment = environment::of_client(PackageClient::Cargo, &scene.environment);
    let program = scene.directory.path().join("cargo");
    let below = scene.directory.path();
    let asking = Asking::new(PackageClient::Cargo, &program, &environment, &scene.dialer, below)
        .unwrap()
        .limited(Duration::from_secs(1));
    let error = asking.watch("fetch", &["fetch"], Vec::new()).await.unwrap_err();
    assert!(
        error
            .to_string()
            .contains("`cargo fetch` took longer than 1 s; it last said:\n  waiting"),
        "{error}"
    );
    let child = scene.read("child").trim().parse().unwrap();
    let ended = || nix::sys::signal::kill(nix::unistd::Pid::from_raw(child), None).is_err() || is_zombie(child);
    while !ended() {
        tokio::task::yield_now().await;
    }
}

fn is_zombie(process: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    stat.rsplit(')').next().is_some_and(|rest| rest.starts_with(" Z"))
}

#[test]
fn what_a_killed_process_left_is_swept_after_an_hour() {
    let below = tempfile::tempdir().unwrap();
    let old = std::time::SystemTime::now() - Duration::from_secs(3700);
    for (name, modified) in [("asking-old", Some(old)), ("asking-new", None), ("other", Some(old))] {
        let path = below.path().join(name);
        std::fs::create_dir(&path).unwrap();
        if let Some(modified) = modified {
            std::fs::File::open(&path).unwrap().set_modified(modified).unwrap();
        }
    }
    client_run::sweep(below.path());
    assert!(!below.path().join("asking-old").exists());
    assert!(below.path().join("asking-new").exists() && below.path().join("other").exists());
}

/// With what this machine has: `cargo nextest run --lib real_clients --run-ignored all --no-capture`.
#[tokio::test]
#[ignore = "asks the package clients of this machine, which ask their registries"]
async fn real_clients_name_their_hosts() {
    let mut scene = Scene::new();
    scene.environment = std::env::vars_os().collect();
    for client in [
        PackageClient::Cargo,
        PackageClient::Npm,
        PackageClient::Pip,
        PackageClient::Go,
    ] {
        let begun = std::time::Instant::now();
        match scene.ask(&[client]).await {
            Err(PackagesError::Missing { client }) => println!("no {}", client.as_str()),
            Err(error) => panic!("{error}"),
            Ok(sources) => {
                let first = begun.elapsed();
                assert!(!sources[0].rules.is_empty());
                println!("{first:?}: {}", serde_json::to_string_pretty(&sources[0]).unwrap());
                let begun = std::time::Instant::now();
                assert_eq!(scene.ask(&[client]).await.unwrap(), sources);
                println!("remembered: {:?}", begun.elapsed());
            }
        }
    }
}
