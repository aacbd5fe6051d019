//! Each promise attacked from inside, or by the folder that a session is given, one file a theme. What every one of them asserts:
//! a second session of the same server works while the attack runs or after it, the host is as it was (what was looked at stands
//! in the test), and the result or the end says in words what stopped the attack.

use crate::support::client::McpClient;
use crate::support::world::World;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::Output;

mod disk;
mod files;
mod git;
mod links;
mod memory;
mod output;
mod processes;
mod time;

/// The most that a server may take on the host for any of this, in bytes: several times what it takes without, in a build that was
/// not optimised.
const SERVER_MEMORY: u64 = 300 << 20;

/// What a turn came to, as text: Codex's answer, or why there is none.
#[track_caller]
fn content(result: &Value) -> &str {
    let text = result["content"][0]["text"].as_str();
    text.unwrap_or_else(|| panic!("no text: {result:#}"))
}

#[track_caller]
fn thread_of(result: &Value) -> String {
    let id = result["structuredContent"]["threadId"].as_str();
    id.unwrap_or_else(|| panic!("no thread: {result:#}")).to_owned()
}

#[track_caller]
fn completed(result: &Value) {
    let status = &result["structuredContent"]["turn"]["status"];
    assert_eq!(status, "completed", "{result:#}");
}

fn start(client: &mut McpClient, prompt: &str) -> Value {
    client.tool("codex", json!({ "prompt": prompt }))
}

fn reply(client: &mut McpClient, thread: &str, prompt: &str) -> Value {
    client.tool("codex-reply", json!({"threadId": thread, "prompt": prompt}))
}

/// Begins an attack as a new thread, and waits until its command runs. It must begin as no other one does.
fn begin(client: &mut McpClient, command: &str) -> u64 {
    let call = client.begin_tool("codex", json!({"prompt": format!("#shell {command}")}));
    let beginning: String = command.chars().take(16).collect();
    client.wait_for(|message| {
        let text = message["params"]["message"].as_str();
        text.is_some_and(|text| text.contains(&beginning))
    });
    call
}

/// A session of the same server that attacks nothing.
struct Bystander {
    thread: String,
    turns: u32,
}

impl Bystander {
    fn arrive(client: &mut McpClient) -> Self {
        let result = start(client, "#shell echo works-0 > mine");
        completed(&result);
        let thread = thread_of(&result);
        Self { thread, turns: 0 }
    }

    /// One more turn, which runs a command and finds the file of the one before.
    #[track_caller]
    fn works(&mut self, client: &mut McpClient) {
        let (was, is) = (self.turns, self.turns + 1);
        self.turns = is;
        let result = reply(
            client,
            &self.thread,
            &format!("#shell grep works-{was} mine && echo works-{is} > mine && echo by''stander-{is}"),
        );
        completed(&result);
        assert!(content(&result).contains(&format!("bystander-{is}")), "{result:#}");
    }
}

/// A second server of the same user and state directory runs a turn in a session of its own.
#[track_caller]
fn another_server_works(world: &World) {
    let mut client = McpClient::start(world);
    let result = start(&mut client, "#shell echo another''-server");
    assert!(content(&result).contains("another-server"), "{result:#}");
    client.close_stdin();
    assert!(client.wait().success());
}

/// The most memory that the server has had, in bytes.
fn server_peak(client: &McpClient) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", client.child.id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    let kib: u64 = line.trim().trim_end_matches(" kB").parse().unwrap();
    kib << 10
}

#[track_caller]
fn server_is_small(client: &McpClient) {
    let peak = server_peak(client);
    eprintln!("the server had at most {} MiB", peak >> 20);
    assert!(peak < SERVER_MEMORY, "the server had {peak} bytes");
}

/// Names, kinds and contents of a folder of the host, `.git` included.
fn picture(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut seen = BTreeMap::new();
    let mut pending = vec![folder.to_owned()];
    while let Some(directory) = pending.pop() {
        for entry in fs::read_dir(&directory).unwrap() {
            let entry = entry.unwrap();
            let (path, kind) = (entry.path(), entry.file_type().unwrap());
            let shown = if kind.is_dir() {
                pending.push(path.clone());
                b"directory".to_vec()
            } else if kind.is_symlink() {
                [b"link to ", fs::read_link(&path).unwrap().as_os_str().as_bytes()].concat()
            } else {
                [b"file ".to_vec(), fs::read(&path).unwrap()].concat()
            };
            seen.insert(path, shown);
        }
    }
    seen
}

/// `codex-mcp sessions ARGS…` in the world.
fn sessions(world: &World, args: &[&str]) -> Output {
    world.codex_mcp(&[&["sessions"], args].concat()).output().unwrap()
}

/// What it prints as JSON.
#[track_caller]
fn sessions_json(world: &World, args: &[&str]) -> Value {
    let output = sessions(world, &[args, &["--json"]].concat());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// What a refused one says.
#[track_caller]
fn refused(output: &Output) -> String {
    assert!(!output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Why a thread's container ended, as its record has it.
fn end_of(world: &World, thread: &str) -> Value {
    sessions_json(world, &["show", thread])["end"].clone()
}

/// Ends the server, and removes all sessions: whatever lies in one can be removed.
#[track_caller]
fn leaves_nothing(world: &World, mut client: McpClient) {
    client.close_stdin();
    assert!(client.wait().success());
    let ours = world.container_names();
    let left = world.lane.containers();
    assert!(!left.iter().any(|name| ours.contains(name)), "{left:?}");
    let listed = sessions_json(world, &["list"]);
    let ids: Vec<&str> = listed
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["session"].as_str().unwrap())
        .collect();
    let removed = sessions(world, &[&["rm"], &ids[..]].concat());
    assert!(removed.status.success(), "{}", String::from_utf8_lossy(&removed.stderr));
    assert_eq!(world.session_directories().len(), 0);
}

fn name(bytes: &[u8]) -> OsString {
    std::ffi::OsStr::from_bytes(bytes).to_owned()
}
