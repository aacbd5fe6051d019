//! From the start of `codex-mcp serve` to its answer to `initialize`, and then to its answer to `tools/list`, against
//! the bare thing: the start of the same file for `--version`, which does nothing.
//!
//! The three are measured in turns, so that what the machine does meanwhile falls on all of them alike. Run by
//! `scripts/bench initialize`; `BENCH_RUNS` says how often.
#![allow(
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::panic,
    reason = "a benchmark starts programs, prints what it saw and stops at the first surprise"
)]

mod support;

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;
use support::Times;

const INITIALIZE: &str = concat!(
    r#"{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-06-18","#,
    r#""capabilities":{},"clientInfo":{"name":"bench","version":"0"}}}"#,
    "\n"
);
const TOOLS_LIST: &str = concat!(
    r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#,
    "\n",
    r#"{"jsonrpc":"2.0","id":2,"method":"tools/list"}"#,
    "\n"
);
const WARM_UPS: usize = 2;

fn main() {
    let program = support::program();
    let runs = support::number_from_env("BENCH_RUNS", 50);
    let home = tempfile::tempdir().unwrap();
    let [mut bare, mut initialize, mut list] = <[Times; 3]>::default();
    for run in 0..WARM_UPS + runs {
        let mut ignored = <[Times; 3]>::default();
        let [bare, initialize, list] = if run < WARM_UPS {
            let [a, b, c] = &mut ignored;
            [a, b, c]
        } else {
            [&mut bare, &mut initialize, &mut list]
        };
        time_version(&program, home.path(), bare);
        time_serve(&program, home.path(), initialize, list);
    }
    println!("{:<38}{:>9}{:>9}", format!("n = {runs}"), "median", "p90");
    for (what, times) in [
        ("`--version`, from start to end", &bare),
        ("`serve`, from start to `initialize`", &initialize),
        ("then `tools/list`", &list),
    ] {
        println!("{what:<38}{:>6.2} ms{:>6.2} ms", times.median(), times.p90());
    }
}

/// With nothing of this machine's own configuration.
fn command(program: &Path, home: &Path) -> Command {
    let mut command = Command::new(program);
    command
        .env_clear()
        .env("HOME", home)
        .env("PATH", "/usr/bin:/bin")
        .current_dir(home)
        .stdout(Stdio::piped());
    command
}

fn time_version(program: &Path, home: &Path, times: &mut Times) {
    let start = Instant::now();
    let output = command(program, home).arg("--version").output().unwrap();
    times.add(start.elapsed());
    assert!(output.status.success());
}

fn time_serve(program: &Path, home: &Path, initialize: &mut Times, list: &mut Times) {
    let start = Instant::now();
    let mut child = command(program, home)
        .arg("serve")
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    stdin.write_all(INITIALIZE.as_bytes()).unwrap();
    stdout.read_line(&mut line).unwrap();
    initialize.add(start.elapsed());
    assert!(line.contains(r#""serverInfo""#), "{line}");

    line.clear();
    let start = Instant::now();
    stdin.write_all(TOOLS_LIST.as_bytes()).unwrap();
    stdout.read_line(&mut line).unwrap();
    list.add(start.elapsed());
    assert!(line.contains("codex-reply"), "{line}");

    drop(stdin);
    assert!(child.wait().unwrap().success());
}
