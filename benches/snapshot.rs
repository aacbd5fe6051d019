//! A snapshot of a repository with 10,000 files and 5,000 commits, against the bare thing: `git clone --no-hardlinks
//! --single-branch`, then the changed and the new files copied over by hand.
//!
//! The two are measured in turns, so that what the machine does meanwhile falls on both alike. Run by
//! `scripts/bench snapshot`; `BENCH_RUNS` says how often.
#![allow(
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::panic,
    reason = "a benchmark starts programs, prints what it saw and stops at the first surprise"
)]

mod support;

use codex_mcp::config::History;
use codex_mcp::config::quantity::ByteSize;
use codex_mcp::config::{Origin, Sourced};
use codex_mcp::workspace::compare::Bounds;
use codex_mcp::workspace::copy::{CopyLimits, CopyOwner};
use codex_mcp::workspace::git::command::Git;
use codex_mcp::workspace::shadow::Shadow;
use codex_mcp::workspace::snapshot::{self, SnapshotJob, Taken};
use std::ffi::OsStr;
use std::fs;
use std::io::{BufWriter, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use support::Times;
use tokio_util::sync::CancellationToken;

const FILES: usize = 10_000;
const COMMITS: usize = 5_000;
const MODIFIED: usize = 100;
const UNTRACKED: usize = 50;
const PATH: &str = "/usr/local/bin:/usr/bin:/bin";

fn main() {
    let runs = support::number_from_env("BENCH_RUNS", 7);
    let place = tempfile::tempdir().unwrap();
    let place = place.path().canonicalize().unwrap();
    let folder = place.join("repository");
    let changed = make(&folder);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    let git = Git::find(OsStr::new(PATH), None, None).unwrap();

    let [mut by_hand, mut ours, mut comparing] = <[Times; 3]>::default();
    for run in 0..=runs {
        let session = place.join("session");
        fs::create_dir(&session).unwrap();
        let start = Instant::now();
        let taken = runtime.block_on(take(&git, &folder, &session));
        let taking = start.elapsed();
        let start = Instant::now();
        runtime.block_on(compare(&git, &session, &taken));
        let compared = start.elapsed();
        fs::remove_dir_all(&session).unwrap();

        let clone = place.join("clone");
        let start = Instant::now();
        clone_and_copy(&folder, &clone, &changed);
        let cloning = start.elapsed();
        fs::remove_dir_all(&clone).unwrap();
        // The first of each finds the caches cold.
        if run > 0 {
            ours.add(taking);
            comparing.add(compared);
            by_hand.add(cloning);
        }
    }
    println!("{:<58}{:>10}{:>10}", format!("n = {runs}"), "median", "p90");
    for (what, times) in [
        ("clone, and the changes copied by hand", &by_hand),
        ("snapshot", &ours),
        ("changes of an untouched snapshot", &comparing),
    ] {
        println!("{what:<58}{:>7.0} ms{:>7.0} ms", times.median(), times.p90());
    }
    println!("{:<58}{:>10.2}", "snapshot : by hand", ours.ratio_to(&by_hand));
}

fn run_git(directory: &Path, args: &[&str]) -> Command {
    let mut command = Command::new("git");
    command
        .args(args)
        .current_dir(directory)
        .env_clear()
        .env("PATH", PATH)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_NOSYSTEM", "1");
    command
}

fn success(mut command: Command) {
    let status = command.status().unwrap();
    assert!(status.success(), "{command:?}: {status}");
}

fn name(number: usize) -> String {
    format!("src/part{}/deep{}/file{number}.rs", number % 40, number % 7)
}

/// Some 2 KiB that differ from file to file and from commit to commit.
fn text(number: usize, revision: usize) -> String {
    let line = |at: usize| format!("fn item_{at}_{number}() -> u64 {{ {} }}\n", at * number + 7);
    let body: String = (0..40).map(line).collect();
    format!("// revision {revision}\n{body}")
}

/// Makes the repository, packed as `git gc` leaves it, and changes some files since; says which.
fn make(folder: &Path) -> Vec<PathBuf> {
    fs::create_dir(folder).unwrap();
    success(run_git(folder, &["init", "-q", "-b", "main"]));
    let mut import = run_git(folder, &["fast-import", "--quiet"])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let mut out = BufWriter::new(import.stdin.take().unwrap());
    for commit in 0..COMMITS {
        let changed: Vec<usize> = match commit {
            0 => (0..FILES).collect(),
            _ => (0..3).map(|at| (commit * 7919 + at * 104_729) % FILES).collect(),
        };
        write!(
            out,
            "commit refs/heads/main\ncommitter A <a@b.c> {} +0000\ndata 1\n.",
            1_000_000_000 + commit
        )
        .unwrap();
        for file in changed {
            let text = text(file, commit);
            write!(out, "\nM 100644 inline {}\ndata {}\n{text}", name(file), text.len()).unwrap();
        }
        writeln!(out).unwrap();
    }
    drop(out.into_inner().unwrap());
    assert!(import.wait().unwrap().success());
    success(run_git(folder, &["repack", "-a", "-d", "-q"]));
    success(run_git(folder, &["reset", "-q", "--hard"]));
    let modified = (0..MODIFIED).map(|at| PathBuf::from(name(at * 97)));
    let untracked = (0..UNTRACKED).map(|at| PathBuf::from(format!("new/file{at}")));
    let changed: Vec<PathBuf> = modified.chain(untracked).collect();
    fs::create_dir(folder.join("new")).unwrap();
    for path in &changed {
        fs::write(folder.join(path), format!("changed since: {}\n", path.display())).unwrap();
    }
    changed
}

async fn take(git: &Git, folder: &Path, session: &Path) -> Taken {
    let job = SnapshotJob {
        folder: folder.to_owned(),
        workspace: session.join("workspace"),
        shadow: session.join("shadow.git"),
        history: History::Head,
        limits: CopyLimits {
            bytes: Sourced::new(ByteSize::from_mib(4096), Origin::Default),
            files: Sourced::new(200_000, Origin::Default),
        },
        owner: CopyOwner::Caller,
    };
    let progress = Box::new(|_| ControlFlow::Continue(()));
    snapshot::take(git, job, progress, &CancellationToken::new())
        .await
        .unwrap()
}

async fn compare(git: &Git, session: &Path, taken: &Taken) {
    let shadow = Shadow::open(git.clone(), session.join("shadow.git"), taken.baseline.clone());
    let bounds = Bounds {
        entries: 200_000,
        file: 64 << 20,
        total: 1 << 30,
        time: Duration::from_secs(120),
        patch: 1 << 20,
    };
    let changes = shadow
        .changes(&session.join("workspace"), &bounds, &CancellationToken::new())
        .await;
    assert!(changes.unwrap().files.is_empty());
}

fn clone_and_copy(folder: &Path, clone: &Path, changed: &[PathBuf]) {
    let (from, to) = (folder.to_str().unwrap(), clone.to_str().unwrap());
    success(run_git(
        folder,
        &["clone", "-q", "--no-hardlinks", "--single-branch", from, to],
    ));
    for path in changed {
        let to = clone.join(path);
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::copy(folder.join(path), to).unwrap();
    }
}
