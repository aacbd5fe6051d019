//! A warm launch, from the call to a started Codex thread, against the same by hand: the same command line of the
//! engine with the app-server as its entrypoint, and the app-server's handshake on its stdin.
//!
//! Ours is all that [`Sessions::start`] does: the plan, the session's directory, the copy of the workspace, the proof,
//! the relay. By hand the directory and the copy are made beforehand and are not timed. Both ways take turns in one
//! run. `scripts/bench launch` runs this once an engine, as that engine's user:
//!
//! `launch podman|docker` prints one line, tab-separated: for the start and then for the stop, ours (median and 90th
//! percentile, in milliseconds), by hand (the same) and the ratio; last the number of runs, which
//! `BENCH_RUNS` sets.
#![allow(
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::panic,
    reason = "a benchmark starts programs, prints what it saw and stops at the first surprise"
)]

mod support;

use codex_mcp::engine::argv;
use codex_mcp::scripted_model::{Access, ScriptedModel};
use codex_mcp::session::copying::Copying;
use codex_mcp::session::ground::Ground;
use codex_mcp::session::registry::{Sessions, Urgency};
use codex_mcp::supervise::command::CommandLine;
use serde_json::{Value, json};
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Stdio};
use std::time::Instant;
use support::{Times, session};
use tokio::runtime::Runtime;

const WARM_UPS: usize = 2;

/// One way to launch.
#[derive(Default)]
struct Way {
    started: Times,
    stopped: Times,
}

fn main() {
    // `cargo bench` adds an option of its own.
    let Some(engine) = std::env::args().skip(1).find(|word| !word.starts_with('-')) else {
        panic!("say the engine: podman or docker")
    };
    let runs = support::number_from_env("BENCH_RUNS", 15);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    let world = tempfile::tempdir().unwrap();
    let model = runtime.block_on(ScriptedModel::start(Access::Open)).unwrap();
    fill(&world.path().join("workspace"));
    let sessions = session::sessions(world.path(), &engine, &model.base_url(), "");

    let mut ours = Way::default();
    let mut by_hand = Way::default();
    for run in 0..WARM_UPS + runs {
        let mut ignored = [Way::default(), Way::default()];
        let [ours, by_hand] = if run < WARM_UPS {
            let [first, second] = &mut ignored;
            [first, second]
        } else {
            [&mut ours, &mut by_hand]
        };
        // Neither is always the one that finds what the other left warm.
        if run % 2 == 0 {
            launch(&runtime, &sessions, ours);
            launch_by_hand(&runtime, &sessions, world.path(), by_hand);
        } else {
            launch_by_hand(&runtime, &sessions, world.path(), by_hand);
            launch(&runtime, &sessions, ours);
        }
    }
    runtime.block_on(sessions.shut_down(Urgency::Graceful));
    println!(
        "{}\t{}\t{}",
        against(&ours.started, &by_hand.started),
        against(&ours.stopped, &by_hand.stopped),
        runs
    );
}

fn against(ours: &Times, by_hand: &Times) -> String {
    format!(
        "{:.0}\t{:.0}\t{:.0}\t{:.0}\t{:.2}",
        ours.median(),
        ours.p90(),
        by_hand.median(),
        by_hand.p90(),
        ours.ratio_to(by_hand)
    )
}

/// A small workspace.
fn fill(workspace: &Path) {
    fs::create_dir(workspace).unwrap();
    for number in 0..20 {
        let text = "a line of text\n".repeat(64);
        fs::write(workspace.join(format!("file-{number}.txt")), text).unwrap();
    }
}

fn launch(runtime: &Runtime, sessions: &Sessions, way: &mut Way) {
    let start = Instant::now();
    let session = runtime
        .block_on(sessions.start(session::request(), session::asked(), Copying::unwatched()))
        .unwrap();
    way.started.add(start.elapsed());
    let start = Instant::now();
    runtime.block_on(session.stop(Urgency::Graceful));
    way.stopped.add(start.elapsed());
}

fn launch_by_hand(runtime: &Runtime, sessions: &Sessions, root: &Path, way: &mut Way) {
    let (ground, decided) = runtime.block_on(sessions.decide(&session::request())).unwrap();
    let directory = session::prepare(&ground, &decided);
    let errors = root.join("by-hand.stderr");
    let codex = &decided.plan.codex;
    let command = session::by_hand(&decided.plan, &codex.cwd, &codex.env, &codex.argv);

    let start = Instant::now();
    let mut app_server = AppServer::start(&ground, &command, &errors);
    app_server.shake_hands(&decided.plan.workspace_inside);
    way.started.add(start.elapsed());

    let start = Instant::now();
    // As a person would end it: `rm --force`, and the client that ran it ends with it.
    let remove = argv::remove(&decided.plan.engine, [decided.plan.name.as_str()]);
    let removed = session::as_client(&ground, &remove).output().unwrap();
    app_server.child.wait().unwrap();
    way.stopped.add(start.elapsed());
    assert!(removed.status.success(), "{removed:?}");
    directory.remove().unwrap();
}

/// An app-server by hand.
struct AppServer {
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
    errors: std::path::PathBuf,
}

impl AppServer {
    fn start(ground: &Ground, command: &CommandLine, errors: &Path) -> Self {
        let mut child = session::as_client(ground, command)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(File::create(errors).unwrap())
            .spawn()
            .unwrap();
        Self {
            stdin: child.stdin.take().unwrap(),
            stdout: BufReader::new(child.stdout.take().unwrap()),
            child,
            errors: errors.to_owned(),
        }
    }

    /// Asks for what `codex::client` asks for: a difference in that would be one in what is measured.
    fn shake_hands(&mut self, cwd: &str) {
        let info = json!({"name": "codex_mcp", "title": "codex-mcp", "version": env!("CARGO_PKG_VERSION")});
        let initialize = json!({
            "clientInfo": info,
            "capabilities": {"experimentalApi": true, "optOutNotificationMethods": []},
        });
        self.call(1, "initialize", &initialize);
        self.send(&json!({"method": "initialized"}));
        let thread = json!({"cwd": cwd, "sandbox": "read-only", "approvalPolicy": "never"});
        let started = self.call(2, "thread/start", &thread);
        assert!(started["result"]["thread"]["id"].is_string(), "{started}");
    }

    fn send(&mut self, message: &Value) {
        self.stdin.write_all(format!("{message}\n").as_bytes()).unwrap();
    }

    fn call(&mut self, id: u64, method: &str, params: &Value) -> Value {
        self.send(&json!({"id": id, "method": method, "params": params}));
        loop {
            let mut line = String::new();
            if self.stdout.read_line(&mut line).unwrap() == 0 {
                panic!("the app-server ended: {}", fs::read_to_string(&self.errors).unwrap());
            }
            let message: Value = serde_json::from_str(&line).unwrap();
            if message["id"] == id && message.get("method").is_none() {
                return message;
            }
        }
    }
}
