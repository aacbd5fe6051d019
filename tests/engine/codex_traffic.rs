//! The image's Codex by itself, on the host and in a network namespace of its own, with exactly the configuration that a
//! session gets: what it takes of it, and where it connects to.
//!
//! A container's Codex could not get anywhere either way. Here nothing holds it, and `strace` writes down what it tries.

use crate::support::client::McpClient;
use crate::support::lane::Lane;
use crate::support::world::World;
use codex_mcp::codex::approver::DeclineAll;
use codex_mcp::codex::client::{Client, NetworkAccess, ThreadSettings};
use codex_mcp::codex::event::{TurnOutcome, Usage};
use codex_mcp::codex::launch::{CodexPaths, app_server_command};
use codex_mcp::codex::overrides::{self, Overrides, parse_overrides};
use codex_mcp::codex::prompt::Prompt;
use codex_mcp::codex::settings::{self, SessionConfig};
use codex_mcp::codex::turn_runner::{TurnRequest, run_turn};
use codex_mcp::config::WebSearch;
use codex_mcp::scripted_model::{Access, RecordedRequest, ScriptedModel};
use nix::sched::{CloneFlags, unshare};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

/// Longer than anything here takes on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// The image's file system on the host.
pub struct ImageTree {
    lane: Lane,
    image: String,
    root: PathBuf,
}

impl ImageTree {
    pub fn of(world: &World) -> Self {
        let plan = world.codex_mcp(&["plan", "--json"]).output().unwrap();
        let plan: Value = serde_json::from_slice(&plan.stdout).unwrap();
        let image = plan["plan"]["image"]["id"].as_str().unwrap().to_owned();
        let mounted = world.lane.engine().args(["image", "mount", &image]).output().unwrap();
        assert!(mounted.status.success(), "{}", String::from_utf8_lossy(&mounted.stderr));
        let root = PathBuf::from(String::from_utf8(mounted.stdout).unwrap().trim());
        Self {
            lane: world.lane,
            image,
            root,
        }
    }

    pub fn codex(&self) -> PathBuf {
        self.root.join("opt/codex/bin/codex")
    }
}

impl Drop for ImageTree {
    fn drop(&mut self) {
        let _ = self.lane.engine().args(["image", "unmount", &self.image]).output();
    }
}

/// Runs `body` in a network namespace with nothing but its loopback; only this thread and what it starts are in it.
fn alone<T: Send>(body: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET).unwrap();
            let up = Command::new("ip").args(["link", "set", "lo", "up"]).status().unwrap();
            assert!(up.success());
            body()
        });
        thread.join().unwrap()
    })
}

/// Where one Codex lives.
pub struct Home(tempfile::TempDir);

impl Home {
    fn with(config: impl FnOnce(&Self) -> String) -> Self {
        let home = Self(tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap());
        for name in ["codex", "home", "tmp", "work"] {
            fs::create_dir(home.path(name)).unwrap();
        }
        fs::write(home.path("codex/config.toml"), config(&home)).unwrap();
        home
    }

    pub fn path(&self, name: &str) -> String {
        self.0.path().join(name).to_str().unwrap().to_owned()
    }

    /// `codex app-server` as a session starts it, below a program that comes first.
    fn app_server(&self, codex: &Path, first: &[&str]) -> Command {
        let as_a_session = app_server_command(&CodexPaths {
            codex_home: &self.path("codex"),
            home: &self.path("home"),
            temporary: &self.path("tmp"),
        });
        let mut words = first.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        words.push(codex.to_str().unwrap().to_owned());
        words.extend(as_a_session.argv.into_iter().skip(1));
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).env_clear().envs(as_a_session.env);
        command.current_dir(self.path("work"));
        command
    }
}

fn rendered(port: u16, overrides: &Overrides) -> String {
    settings::render(&SessionConfig {
        model_port: port,
        model: Some(&"gpt-5.5".parse().unwrap()),
        effort: None,
        web_search: WebSearch::Disabled,
        overrides,
        command_environment: &BTreeMap::new(),
    })
    .unwrap()
}

/// What came of a whole life of Codex.
pub struct Conversation {
    /// Where it connected to.
    destinations: BTreeSet<String>,
    pub requests: Vec<RecordedRequest>,
    /// Names in its temporary directory.
    pub left_in_tmp: Vec<String>,
}

/// Handshake, thread, a turn with a shell command, end of input, in the home that `config` is made for (with the port of the
/// model on loopback).
pub fn converse(codex: &Path, config: impl FnOnce(u16, &Home) -> String + Send) -> Conversation {
    alone(|| {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let model = ScriptedModel::start(Access::Open).await.unwrap();
            let port = model.address().port();
            let home = Home::with(|home| config(port, home));
            let log = home.path("network.log");
            let strace = ["strace", "-f", "-qq", "-e", "trace=network", "-o", &log];
            let mut child = tokio::process::Command::from(home.app_server(codex, &strace))
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::inherit())
                .kill_on_drop(true)
                .spawn()
                .unwrap();
            let pipe = tokio::io::join(child.stdout.take().unwrap(), child.stdin.take().unwrap());
            let (client, mut events) = Client::connect(pipe, Arc::new(DeclineAll));
            client.initialize().await.unwrap();
            let thread = client
                .start_thread(&home.path("work"), &ThreadSettings::default(), None)
                .await
                .unwrap();
            let prompt = Prompt::parse("#shell echo said > said.txt").unwrap();
            let request = TurnRequest {
                thread: &thread.thread,
                prompt: &prompt,
                limit: PATIENCE,
                usage: Usage::default(),
                network: NetworkAccess::None,
            };
            let turn = run_turn(&client, &mut events, request, std::future::pending(), &mut |_| {})
                .await
                .unwrap();
            assert_eq!(turn.outcome, TurnOutcome::Completed, "{turn:?}");
            assert_eq!(
                fs::read_to_string(home.path("work/said.txt")).unwrap(),
                "said\n",
                "the command ran"
            );
            drop((client, events));
            tokio::time::timeout(PATIENCE, child.wait()).await.unwrap().unwrap();
            let log = fs::read_to_string(log).unwrap();
            let destinations = log.lines().filter_map(destination);
            let left = fs::read_dir(home.path("tmp")).unwrap();
            Conversation {
                destinations: destinations
                    .map(|to| to.replace(&format!("127.0.0.1:{port}"), "the model endpoint"))
                    .collect(),
                requests: model.requests(),
                left_in_tmp: left
                    .map(|entry| entry.unwrap().file_name().to_str().unwrap().to_owned())
                    .collect(),
            }
        })
    })
}

/// Where a traced call sends something or connects to. The kernel's own netlink is no network.
fn destination(line: &str) -> Option<String> {
    let (_, call) = line.split_once(' ')?;
    let (name, arguments) = call.trim_start().split_once('(')?;
    if !["connect", "sendto", "sendmsg", "sendmmsg"].contains(&name) {
        return None;
    }
    let (_, address) = arguments.split_once("sa_family=AF_")?;
    let between = |begin: &str, end: char| Some(address.split_once(begin)?.1.split_once(end)?.0.to_owned());
    match address.split_once(',')?.0 {
        "NETLINK" => None,
        // Where the shell's libc looks for the cache of user names; hosts are asked of it by no libc that Codex has.
        "UNIX" if address.contains("\"/var/run/nscd/socket\"") => None,
        "INET" => Some(format!(
            "{}:{}",
            between("inet_addr(\"", '"')?,
            between("sin_port=htons(", ')')?
        )),
        "INET6" => Some(format!(
            "[{}]:{}",
            between("AF_INET6, \"", '"')?,
            between("sin6_port=htons(", ')')?
        )),
        _ => Some(address.to_owned()),
    }
}

/// P8 begins here: of its own, Codex asks the model and nobody else. With its own defaults it does, or this would prove
/// nothing.
fn codex_connects_to_the_model_endpoint_and_nothing_else(lane: Lane) {
    let Some(world) = World::new(lane) else { return };
    let tree = ImageTree::of(&world);
    let ours = converse(&tree.codex(), |port, _| rendered(port, &Overrides::default()));
    assert_eq!(ours.destinations, BTreeSet::from(["the model endpoint".to_owned()]));
    assert_eq!(ours.requests.len(), 2, "the turn and the command's output");

    let defaults = converse(&tree.codex(), |port, _| {
        format!(
            "model = \"gpt-5.5\"\nmodel_provider = \"gateway\"\n[model_providers.gateway]\nname = \"gateway\"\n\
             base_url = \"http://127.0.0.1:{port}/v1\"\nwire_api = \"responses\"\n"
        )
    });
    let defaults = defaults.destinations;
    assert!(defaults.contains("the model endpoint"), "{defaults:?}");
    assert!(
        defaults.len() > 1,
        "what Codex does by itself is in the log: {defaults:?}"
    );
    eprintln!("with Codex's own defaults: {defaults:?}");
}

/// Every setting that may be set, with a value that it takes.
fn every_override() -> Value {
    json!({
        "hide_agent_reasoning": true,
        "model_auto_compact_token_limit": 100_000,
        "model_context_window": 200_000,
        "model_reasoning_effort": "high",
        "model_reasoning_summary": "concise",
        "model_verbosity": "low",
        "plan_mode_reasoning_effort": "xhigh",
        "project_doc_max_bytes": 4096,
        "show_raw_agent_reasoning": false,
        "tool_output_token_limit": 5000,
    })
}

/// How Codex ends that is started with this configuration and told nothing.
fn start_and_end(codex: &Path, config: &str) -> (Option<i32>, String) {
    let home = Home::with(|_| config.to_owned());
    let output = home.app_server(codex, &["env"]).stdin(Stdio::null()).output().unwrap();
    (
        output.status.code(),
        String::from_utf8_lossy(&output.stderr).into_owned(),
    )
}

fn every_override_passes_codexs_strict_config(lane: Lane) {
    let Some(world) = World::new(lane) else { return };
    let tree = ImageTree::of(&world);
    let Value::Object(all) = every_override() else {
        unreachable!()
    };
    let named: BTreeSet<&str> = all.keys().map(String::as_str).collect();
    assert_eq!(named, overrides::allowed().collect(), "each is tried");
    let config = rendered(18080, &parse_overrides(&all).unwrap());
    let (code, stderr) = start_and_end(&tree.codex(), &config);
    assert_eq!(code, Some(0), "{stderr}");
    // One key more that Codex does not know, and one value that is of another kind: strict is strict.
    for wrong in ["no_such_key = 1\n", "model_context_window = \"x\"\n"] {
        let broken = format!("{wrong}{}", rendered(18080, &Overrides::default()));
        let (code, stderr) = start_and_end(&tree.codex(), &broken);
        assert_eq!(code, Some(1), "{stderr}");
    }
}

/// The operator's settings hold for all sessions, a call's for its thread, and a refused one starts nothing.
fn a_calls_config_goes_over_the_operators(lane: Lane) {
    let operators = "[codex.config]\nmodel_verbosity = \"low\"\n";
    let Some(world) = World::with_config(lane, operators) else {
        return;
    };
    let mut client = McpClient::start(&world);
    for (config, verbosity) in [(json!({}), "low"), (json!({"model_verbosity": "high"}), "high")] {
        let result = client.tool("codex", json!({"prompt": "#text said", "config": config}));
        assert_ne!(result["isError"], true, "{result:#}");
        let requests = world.model.requests();
        assert_eq!(requests.last().unwrap().body["text"]["verbosity"], verbosity);
    }
    drop(client);
    world.edit_config(operators, "[codex.config]\nmcp_servers.x.command = \"sh\"\n");
    let output = world.codex_mcp(&["run", "hi"]).output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(3), "{stderr}");
    assert!(
        stderr.contains("config.toml:") && stderr.contains("`codex.config.mcp_servers` can't be set"),
        "{stderr}"
    );
}

on_every_lane!(a_calls_config_goes_over_the_operators);
// Of rootful podman, whose image can be mounted: the tree in it is the same for all. A network namespace needs root.
on_lanes!([RootfulPodman] => codex_connects_to_the_model_endpoint_and_nothing_else, every_override_passes_codexs_strict_config);
