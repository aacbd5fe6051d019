//! The program as its users start it, without any engine: exit codes, what is said where, and the MCP handshake.

use assert_cmd::Command;
use codex_mcp::wire::contract::CONTRACT;
use serde_json::{Value, json};
use std::path::Path;
use tempfile::TempDir;

/// A home of its own, and a PATH on which there is nothing.
struct Bare {
    home: TempDir,
}

impl Bare {
    fn new() -> Self {
        let home = tempfile::tempdir().unwrap();
        std::fs::create_dir(home.path().join("project")).unwrap();
        Self { home }
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.home.path().join(name)
    }

    fn run(&self, args: &[&str]) -> Ran {
        self.run_with(args, "")
    }

    fn run_with(&self, args: &[&str], stdin: &str) -> Ran {
        let output = Command::cargo_bin("codex-mcp")
            .unwrap()
            .args(args)
            .env_clear()
            .env("HOME", self.home.path())
            .env("PATH", self.path("nothing-here"))
            .current_dir(self.path("project"))
            .write_stdin(stdin)
            .output()
            .unwrap();
        Ran {
            code: output.status.code().unwrap(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

struct Ran {
    code: i32,
    stdout: String,
    stderr: String,
}

impl Ran {
    #[track_caller]
    fn refused(&self, code: i32, words: &[&str]) {
        assert_eq!(self.code, code, "{}", self.stderr);
        assert_eq!(self.stdout, "", "a refusal is told on stderr");
        for word in words {
            assert!(self.stderr.contains(word), "{word:?} is not in:\n{}", self.stderr);
        }
    }
}

fn write(path: &Path, text: &str) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, text).unwrap();
}

#[test]
fn without_an_engine_it_says_what_to_install() {
    let bare = Bare::new();
    for args in [&["run", "hi"][..], &["plan"], &["image", "list"]] {
        bare.run(args).refused(4, &["podman", "docker", "install"]);
    }
    bare.run(&["run", "hi", "--runtime", "docker"])
        .refused(4, &["docker", "install"]);
    assert!(
        !bare.path(".local/state/codex-mcp/sessions").exists(),
        "nothing half-made stays"
    );
}

#[test]
fn a_bad_flag_prompt_or_configuration_is_named() {
    let bare = Bare::new();
    bare.run(&["run", ""]).refused(2, &["empty"]);
    bare.run(&["run", "hi", "--memroy", "2g"])
        .refused(2, &["--memroy", "--memory"]);
    bare.run(&["run", "hi", "--memory", "lots"])
        .refused(2, &["--memory", "lots"]);
    bare.run(&["run", "hi", "--config", "/no/such/file.toml"])
        .refused(3, &["/no/such/file.toml"]);
    write(
        &bare.path(".config/codex-mcp/config.toml"),
        "[limits]\nmemroy = \"2GiB\"\n",
    );
    bare.run(&["serve"]).refused(3, &["memroy", "memory", "config.toml:2"]);
}

#[test]
fn a_prompt_may_come_from_stdin() {
    Bare::new().run_with(&["run", "-"], " \n").refused(2, &["empty"]);
    // A good one gets as far as the engine.
    Bare::new()
        .run_with(&["run", "-"], "explain this")
        .refused(4, &["install"]);
}

/// `initialize` and `tools/list` answer where no engine could; a call is a tool error; the end of input is the end.
#[test]
fn the_server_shakes_hands_before_any_engine_is_touched() {
    let requests = [
        json!({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {
            "protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "t", "version": "0"}}}),
        json!({"jsonrpc": "2.0", "method": "notifications/initialized"}),
        json!({"jsonrpc": "2.0", "id": 2, "method": "tools/list", "params": {}}),
        json!({"jsonrpc": "2.0", "id": 3, "method": "tools/call", "params": {"name": "codex", "arguments": {}}}),
    ];
    let stdin: String = requests.iter().map(|request| format!("{request}\n")).collect();
    let bare = Bare::new();
    let ran = bare.run_with(&["serve"], &stdin);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let answers: Vec<Value> = ran
        .stdout
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let answer = |id: u64| answers.iter().find(|answer| answer["id"] == id);
    assert_eq!(answer(1).unwrap()["result"]["serverInfo"]["name"], "codex-mcp");
    let tools = answer(2).unwrap()["result"]["tools"].as_array().unwrap();
    let names: Vec<&str> = tools.iter().map(|tool| tool["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["codex", "codex-reply"]);
    let refused = &answer(3).unwrap()["result"];
    assert_eq!(refused["isError"], true);
    assert!(
        refused["content"][0]["text"].as_str().unwrap().contains("prompt"),
        "{refused}"
    );
    assert!(
        !bare.path(".local/state/codex-mcp").exists(),
        "no engine was looked for"
    );
}

#[test]
fn help_and_version_are_results() {
    let bare = Bare::new();
    let version = bare.run(&["--version"]);
    assert_eq!((version.code, version.stderr.as_str()), (0, ""));
    assert!(
        version.stdout.contains(&format!("guest contract {CONTRACT}")),
        "{}",
        version.stdout
    );
    for command in ["serve", "run", "demo", "plan", "image", "auth"] {
        let help = bare.run(&[command, "--help"]);
        assert_eq!(help.code, 0, "{}", help.stderr);
        assert!(help.stdout.contains("Usage:"), "{}", help.stdout);
    }
}
