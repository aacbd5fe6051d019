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
    assert_eq!(
        names,
        [
            "codex",
            "codex-reply",
            "codex-status",
            "codex-interrupt",
            "codex-close",
            "codex-sessions",
            "codex-diff",
            "codex-apply"
        ]
    );
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

/// A session that nobody has, as a server leaves it that ended in order.
fn parked(bare: &Bare, session: &str) {
    let record = json!({
        "version": 1,
        "record": {
            "session": session, "created": 1_795_355_405, "changed": 1_795_355_405, "asked_by": "test",
            "start": {"folder": {"text": "/p"}, "mode": "snapshot", "access": "read-write", "approvals": "never"},
            "thread": {"id": format!("thread-{session}"), "in_codex": "t"},
            "state": {"is": "parked", "end": {"at": 1_795_355_500, "cause": "idle", "why": "w", "turn": null}},
            "turns": 1, "losses": 0,
            "usage": {
                "inputTokens": 0, "cachedInputTokens": 0, "outputTokens": 0, "reasoningOutputTokens": 0, "totalTokens": 0,
            },
            "launch": null,
        },
    });
    let path = bare.path(&format!(".local/state/codex-mcp/sessions/{session}/record.json"));
    write(&path, &record.to_string());
}

#[test]
fn either_all_that_are_named_are_removed_or_none() {
    let bare = Bare::new();
    let [one, other] = ["07".repeat(10), "08".repeat(10)];
    parked(&bare, &one);
    parked(&bare, &other);
    let wrong = format!("wrong\n{}", "x".repeat(10_000));
    let refused = bare.run(&["sessions", "rm", &one, &wrong, &other]);
    refused.refused(2, &["there is no session wrong", "sessions list"]);
    assert!(refused.stderr.len() < 300, "{}", refused.stderr);
    let listed = || {
        let listed: Value = serde_json::from_str(&bare.run(&["sessions", "list", "--json"]).stdout).unwrap();
        listed.as_array().unwrap().len()
    };
    assert_eq!(listed(), 2);
    // One of them twice, by its thread.
    let ran = bare.run(&["sessions", "rm", &other, &format!("thread-{one}"), &one, "--json"]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert_eq!(
        serde_json::from_str::<Value>(&ran.stdout).unwrap(),
        json!({ "removed": [one, other] })
    );
    assert_eq!(listed(), 0);
}

#[test]
fn what_a_prune_could_not_do_is_no_success() {
    let bare = Bare::new();
    parked(&bare, &"07".repeat(10));
    write(
        &bare.path(".config/codex-mcp/config.toml"),
        "[sessions]\nkeep_size = \"1\"\n",
    );
    let pruned = bare.run(&["sessions", "prune"]);
    assert_eq!(pruned.code, 4, "{}", pruned.stderr);
    assert!(pruned.stdout.starts_with("removed 0707"), "{}", pruned.stdout);
    assert!(
        pruned
            .stderr
            .contains("could not put in order what dead servers left: "),
        "{}",
        pruned.stderr
    );
}

#[test]
fn a_resume_that_finds_nothing_says_so_in_json_as_well() {
    let ran = Bare::new().run(&["sessions", "resume", "wrong", "go on", "--json"]);
    assert_eq!(ran.code, 2, "{}", ran.stderr);
    let line: Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(
        (line["type"].as_str(), line["exitCode"].as_i64()),
        (Some("error"), Some(2))
    );
}
