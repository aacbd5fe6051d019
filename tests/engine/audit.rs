//! The audit of real sessions: what is in it, that it verifies, and what happens where it can't be written.

use crate::support::client::McpClient;
use crate::support::lane::Lane;
use crate::support::servers::dns::Dns;
use crate::support::servers::http::Http;
use crate::support::servers::{PERMITTED, PERMITTED_RANGE, Servers};
use crate::support::world::World;
use codex_mcp::session::store::record::EndCause;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;

fn audit(world: &World, args: &[&str]) -> Output {
    world.codex_mcp(&[&["audit"], args].concat()).output().unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn records(world: &World, args: &[&str]) -> Vec<Value> {
    let shown = audit(world, &[&["show", "--json"], args].concat());
    assert!(shown.status.success(), "{}", String::from_utf8_lossy(&shown.stderr));
    let lines = stdout(&shown);
    lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[track_caller]
fn verified(world: &World, code: i32, words: &[&str]) -> String {
    let output = audit(world, &["verify"]);
    let text = stdout(&output);
    assert_eq!(
        output.status.code(),
        Some(code),
        "{text}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    for word in words {
        assert!(text.contains(word), "{word:?} is not in:\n{text}");
    }
    text
}

fn only_file(world: &World) -> PathBuf {
    let chains: Vec<_> = fs::read_dir(world.path("state/audit")).unwrap().collect();
    assert_eq!(chains.len(), 1);
    chains[0].as_ref().unwrap().path().join("000001.jsonl")
}

/// The record of a kind, which is there once.
#[track_caller]
fn one<'r>(records: &'r [Value], what: &str, also: impl Fn(&Value) -> bool) -> &'r Value {
    let found: Vec<&Value> = records
        .iter()
        .filter(|record| record["what"] == what && also(record))
        .collect();
    assert_eq!(found.len(), 1, "{what}: {records:#?}");
    found[0]
}

fn a_turn_leaves_a_record_of_each_kind_with_its_ids(lane: Lane) {
    let place = Place::new();
    let Some(world) = place.world(lane) else { return };
    let port = place.server.port();
    let mut client = McpClient::start(&world);
    assert!(
        !world.path("state/audit").exists(),
        "nothing is made before a session is asked for"
    );
    let script = format!(
        "echo new > new.txt; for n in 1 2 3; do curl -s http://good.test:{port}/; curl -s http://bad.test:{port}/; done"
    );
    let prompt = format!("#shell {script}");
    let call = client.begin_tool("codex", json!({"prompt": prompt}));
    let result = client.answer(call)["result"].clone();
    assert_ne!(result["isError"], true, "{result:#}");
    let thread = result["structuredContent"]["threadId"].as_str().unwrap().to_owned();
    verified(&world, 0, &["intact", "its server is running", "anchor "]);
    client.close_stdin();
    assert!(client.wait().success());
    let told = verified(&world, 0, &["intact"]);
    assert!(!told.contains("did not end it"), "{told}");

    let all = records(&world, &[]);
    let sequences: Vec<u64> = all.iter().map(|record| record["sequence"].as_u64().unwrap()).collect();
    assert_eq!(sequences, (1..=all.len() as u64).collect::<Vec<_>>());
    assert_eq!(all[0]["what"], "server_started");
    assert_eq!(all.last().unwrap()["what"], "server_ended");
    let any = |_: &Value| true;
    let launch = one(&all, "launch", any);
    assert_eq!(
        launch["call"],
        json!({"tool": "codex", "parameters": {"prompt": prompt.len()}})
    );
    assert!(launch["image"].as_str().unwrap().starts_with("sha256:"), "{launch}");
    for digest in ["argv_sha256", "policy_sha256"] {
        assert_eq!(launch[digest].as_str().unwrap().len(), 64, "{launch}");
    }
    let session = launch["session"].as_str().unwrap();
    let limits = one(&all, "limits_proven", any)["limits"].as_array().unwrap();
    let names: BTreeSet<&str> = limits.iter().map(|limit| limit["name"].as_str().unwrap()).collect();
    let all_of_them = [
        "cpus",
        "idle",
        "memory",
        "open_files",
        "pids",
        "scratch",
        "turn",
        "wall",
        "workspace",
    ];
    assert_eq!(names, BTreeSet::from(all_of_them));
    assert_eq!(one(&all, "thread_started", any)["thread"], thread.as_str());
    let target = |name: &str| format!("{name}.test:{port}");
    let allowed = one(&all, "egress", |record| record["target"] == target("good"));
    let denied = one(&all, "egress", |record| record["target"] == target("bad"));
    assert_eq!(
        (&allowed["verdict"], &denied["verdict"]),
        (&json!("allowed"), &json!("denied"))
    );
    let ended = one(&all, "turn_ended", any);
    assert_eq!(ended["outcome"], "completed");
    for egress in [allowed, denied] {
        assert_eq!(ended["times"][egress["sequence"].to_string()], 3, "{ended}");
    }
    let changes = one(&all, "changes", any);
    assert_eq!((&changes["files"], &changes["insertions"]), (&json!(1), &json!(1)));
    assert_eq!(one(&all, "session_ended", any)["cause"], "stopped");
    for record in &all[1..all.len() - 1] {
        assert_eq!(record["session"], session, "{record}");
        assert_eq!(record["request"], call.to_string(), "{record}");
        assert_eq!(
            record["actor"],
            json!({"kind": "mcp_client", "name": "test", "version": "0"}),
            "{record}"
        );
    }
    for record in [allowed, denied, ended] {
        assert_eq!((&record["thread"], &record["turn"]), (&json!(thread), &json!(1)));
    }
    assert!(
        !stdout(&audit(&world, &["show"])).contains("new.txt"),
        "no prompt is in it"
    );
    assert_eq!(records(&world, &["--session", &thread]).len(), all.len() - 2);
    assert_eq!(records(&world, &["--session", "other"]).len(), 0);
}

fn an_edited_and_a_missing_record_are_named(lane: Lane) {
    let Some(world) = World::new(lane) else { return };
    let ran = world.codex_mcp(&["run", "#text done"]).output().unwrap();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    let told = verified(&world, 0, &["intact"]);
    let anchor = told.split("anchor ").nth(1).unwrap().trim().to_owned();
    let file = only_file(&world);
    let written = fs::read_to_string(&file).unwrap();
    assert!(written.contains(r#""actor":{"kind":"cli"}"#), "{written}");

    fs::write(&file, written.replacen("\"tool\":\"run\"", "\"tool\":\"fun\"", 1)).unwrap();
    verified(&world, 10, &["BROKEN at", "000001.jsonl:2", "record 2 was changed"]);
    let without_third: String = written
        .split_inclusive('\n')
        .enumerate()
        .filter(|(at, _)| *at != 2)
        .map(|(_, line)| line)
        .collect();
    fs::write(&file, without_third).unwrap();
    verified(
        &world,
        10,
        &["BROKEN at", "000001.jsonl:3", "record 3 should stand there"],
    );
    let lines = written.lines().count();
    let cut: String = written.split_inclusive('\n').take(lines - 2).collect();
    fs::write(&file, &cut).unwrap();
    verified(&world, 0, &["did not end it"]);
    let anchored = audit(&world, &["verify", "--anchor", &anchor]);
    assert_eq!(anchored.status.code(), Some(10));
    assert!(stdout(&anchored).contains("its end is gone"), "{}", stdout(&anchored));
    fs::write(&file, format!("{cut}{{\"seq")).unwrap();
    verified(&world, 0, &["a torn tail of 5 bytes"]);
    assert!(stdout(&audit(&world, &["show"])).contains("(damaged)"));
}

fn sigkill_in_a_turn_leaves_a_chain_that_verifies(lane: Lane) {
    let Some(world) = World::new(lane) else { return };
    let mut client = McpClient::start(&world);
    client.begin_tool("codex", json!({"prompt": "#shell sleep 1004"}));
    client.wait_for(|message| {
        message["params"]["message"]
            .as_str()
            .is_some_and(|text| text.contains("sleep 1004"))
    });
    client.signal(Signal::SIGKILL);
    client.wait();
    verified(&world, 0, &["intact", "did not end it"]);
    let kinds: BTreeSet<String> = records(&world, &[])
        .iter()
        .map(|record| record["what"].as_str().unwrap().to_owned())
        .collect();
    assert!(
        kinds.contains("turn_started") && !kinds.contains("turn_ended"),
        "{kinds:?}"
    );
}

/// A server that the container may reach by the name `good.test`.
struct Place {
    dns: Dns,
    server: Http,
    _servers: Servers,
}

impl Place {
    fn new() -> Self {
        let servers = Servers::new();
        let dns = servers.dns();
        dns.set("good.test", &[PERMITTED]);
        Self {
            server: servers.http(PERMITTED),
            dns,
            _servers: servers,
        }
    }

    fn world(&self, lane: Lane) -> Option<World> {
        let network = format!(
            "[network]\nnameservers = [\"{}\"]\nprivate = [\"{PERMITTED_RANGE}\"]\nallow = [\"good.test:{}\"]\n",
            self.dns.address,
            self.server.port()
        );
        World::with_config(lane, &network)
    }
}

/// A small file system in the place of the audit's directory, taken away with this value.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn at(path: &Path) -> Self {
        fs::create_dir_all(path).unwrap();
        mount(Some("tmpfs"), path, Some("tmpfs"), MsFlags::empty(), Some("size=1m")).unwrap();
        Self(path.to_owned())
    }

    /// Takes the rest of the room.
    fn fill(&self) {
        let mut file = fs::File::create(self.0.join("filling")).unwrap();
        let error = std::io::copy(&mut std::io::repeat(0), &mut file).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::StorageFull, "{error}");
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = umount2(&self.0, MntFlags::MNT_DETACH);
    }
}

fn a_full_disk_ends_the_session_cleanly(lane: Lane) {
    let Some(world) = World::new(lane) else { return };
    if !nix::unistd::getuid().is_root() {
        eprintln!("skipped: only root can mount a small file system");
        return;
    }
    let disk = SmallDisk::at(&world.path("state/audit"));
    world.give_to_user(&world.path("state"));
    let mut client = McpClient::start(&world);
    let first = client.tool("codex", json!({"prompt": "#text one"}));
    let thread = first["structuredContent"]["threadId"].clone();
    assert!(thread.is_string(), "{first:#}");
    let ours = world.container_names();
    assert_eq!(world.running(), ours);
    disk.fill();
    // What is left of the last page takes a few records more.
    let mut result = Value::Null;
    for _ in 0..30 {
        result = client.tool("codex-reply", json!({"threadId": thread, "prompt": "#text more"}));
        if result["isError"] == true {
            break;
        }
    }
    let text = result["content"][0]["text"].as_str().unwrap();
    for words in ["audit", "No space left", "audit.keep", "start codex-mcp anew"] {
        assert!(text.contains(words), "{words:?} is not in: {text}");
    }
    let refused = client.tool("codex", json!({"prompt": "#text two"}));
    assert_eq!(refused["isError"], true);
    assert!(
        refused["content"][0]["text"]
            .as_str()
            .unwrap()
            .contains("No space left"),
        "{refused:#}"
    );
    ends_in_order(&mut client, lane, &ours);
    assert_eq!(world.rests(EndCause::Unaudited), 1);
    verified(&world, 0, &["intact", "could not write any more"]);
}

/// The guest goes on and on; what it asks for is not done unrecorded, and its session ends under it.
fn a_disk_that_fills_up_in_a_turn_ends_it(lane: Lane) {
    let place = Place::new();
    let Some(world) = place.world(lane) else { return };
    let port = place.server.port();
    if !nix::unistd::getuid().is_root() {
        eprintln!("skipped: only root can mount a small file system");
        return;
    }
    let disk = SmallDisk::at(&world.path("state/audit"));
    world.give_to_user(&world.path("state"));
    let mut client = McpClient::start(&world);
    let script = format!(
        "until test -e go; do sleep 0.1; done; for n in $(seq 40); do curl -s http://x$n.test/; done; \
         curl -s http://good.test:{port}/; sleep 1005"
    );
    let call = client.begin_tool("codex", json!({"prompt": format!("#shell {script}")}));
    client.wait_for(|message| {
        message["params"]["message"]
            .as_str()
            .is_some_and(|text| text.contains("sleep 1005"))
    });
    let ours = world.container_names();
    assert_eq!(world.running(), ours);
    disk.fill();
    let go = world.session_directories()[0].join("workspace/go");
    fs::write(&go, "").unwrap();
    let result = client.answer(call)["result"].clone();
    assert_eq!(result["isError"], true, "{result:#}");
    let text = result["content"][0]["text"].as_str().unwrap();
    assert!(text.contains("audit") && text.contains("No space left"), "{text}");
    assert_eq!(place.server.requests().len(), 0, "nothing was reached unrecorded");
    ends_in_order(&mut client, lane, &ours);
    assert_eq!(world.rests(EndCause::Unaudited), 1);
    verified(&world, 0, &["intact", "could not write any more"]);
}

fn ends_in_order(client: &mut McpClient, lane: Lane, ours: &[String]) {
    client.close_stdin();
    assert!(client.wait().success(), "it ended in order");
    let left: Vec<String> = lane
        .containers()
        .into_iter()
        .filter(|name| ours.contains(name))
        .collect();
    assert_eq!(left, [""; 0], "no container is left");
}

on_every_lane!(
    a_turn_leaves_a_record_of_each_kind_with_its_ids,
    an_edited_and_a_missing_record_are_named,
    sigkill_in_a_turn_leaves_a_chain_that_verifies,
    a_full_disk_ends_the_session_cleanly,
    a_disk_that_fills_up_in_a_turn_ends_it,
);
