//! A process that is killed at any moment of an apply.

use super::*;
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, ChildStdout, Stdio};

/// Names the directory that the process which is to be killed works in.
const KILLED_IN: &str = "CODEX_MCP_TEST_KILLED_APPLY";

#[test]
#[ignore = "the process that the test below kills"]
fn killed() {
    let Some(root) = std::env::var_os(KILLED_IN).map(PathBuf::from) else {
        return;
    };
    let read = |name: &str| fs::read_to_string(root.join(name)).unwrap();
    let request = request(&root, ObjectFormat::Sha1, &read("base"), &read("session"));
    println!("\nready");
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(explicitly(&request)).unwrap();
}

/// How many times it is killed after the journal is there, over the journal's whole life and a little more, and how often before.
const KILLS: u32 = 24;
const EARLY_KILLS: u32 = 4;

#[tokio::test]
async fn killed_at_any_moment_it_is_whole_or_not_at_all() {
    let bench = Bench::new(|folder| {
        of_all_kinds(folder);
        for number in 0..60 {
            write(
                folder.join(format!("many/{}/{number}", number % 10)),
                format!("{number}\n"),
            );
        }
    });
    let root = bench.dir.path();
    let request = bench.session(|copy| {
        change_all_kinds(copy);
        for number in 0..40 {
            write(copy.join(format!("many/{}/{number}", number % 10)), "changed");
            write(copy.join(format!("more/{}/{number}", number % 10)), "new");
        }
        for number in 40..60 {
            fs::remove_file(copy.join(format!("many/{}/{number}", number % 10))).unwrap();
        }
    });
    let after = bench.tree(&bench.copy());
    fs::write(root.join("base"), &bench.base).unwrap();
    fs::write(root.join("session"), &after).unwrap();
    sh("cp", &["-a", "folder", "original"], root);
    let journal = Slot::of(&request.state_dir, &request.folder).journal();
    let (whole, life) = run_to_the_end(root, &journal);

    let early = (0..EARLY_KILLS).map(|round| (whole * round / EARLY_KILLS, Since::Start));
    let late = (0..KILLS).map(|round| (life * round * 12 / (KILLS * 10), Since::Journal));
    let (mut rolled_back, mut finished, mut untouched) = (0, 0, 0);
    for (delay, since) in early.chain(late) {
        sh("rm", &["-rf", "folder"], root);
        sh("cp", &["-a", "original", "folder"], root);
        let (mut child, _stdout) = start(root);
        if since == Since::Journal {
            wait_for(&journal, &mut child);
        }
        std::thread::sleep(delay);
        child.kill().unwrap();
        child.wait().unwrap();
        let ends = recover(&bench.state()).await.unwrap();
        let now = bench.tree(&bench.folder());
        match ends.as_slice() {
            [] => {
                untouched += 1;
                assert!(
                    now == bench.base || now == after,
                    "{since:?} {delay:?}: torn without a journal"
                );
            }
            [
                Ok(Recovered {
                    end: RecoveryEnd::RolledBack,
                    ..
                }),
            ] => {
                rolled_back += 1;
                assert_eq!(now, bench.base, "{since:?} {delay:?}");
            }
            [
                Ok(Recovered {
                    end: RecoveryEnd::Finished { left, .. },
                    ..
                }),
            ] => {
                finished += 1;
                assert_eq!(
                    (now.as_str(), left.as_slice()),
                    (after.as_str(), [].as_slice()),
                    "{since:?} {delay:?}"
                );
            }
            ends => panic!("{since:?} {delay:?}: {ends:?}"),
        }
        let found = sh("find", &[".", "-name", ".codex-mcp-*"], &bench.folder());
        assert_eq!(String::from_utf8_lossy(&found), "", "{since:?} {delay:?}");
        assert!(!journal.exists());
    }
    println!(
        "a journal lives for {life:?}; killed: {rolled_back} rolled back, {finished} finished, {untouched} without a journal"
    );
    assert!(rolled_back > 0, "the moments before the commit were not met");
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Since {
    Start,
    Journal,
}

/// The process, about to apply, and its output, which it must not find closed.
fn start(root: &Path) -> (Child, BufReader<ChildStdout>) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args([
            "workspace::apply::tests::killed::killed",
            "--exact",
            "--ignored",
            "--nocapture",
        ])
        .env(KILLED_IN, root)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    assert!(stdout.by_ref().lines().any(|line| line.unwrap() == "ready"));
    (child, stdout)
}

fn wait_for(journal: &Path, child: &mut Child) {
    while !journal.exists() {
        assert!(child.try_wait().unwrap().is_none(), "it ended without a journal");
        std::thread::yield_now();
    }
}

/// How long an apply takes, and for how long its journal is there.
fn run_to_the_end(root: &Path, journal: &Path) -> (Duration, Duration) {
    let begun = Instant::now();
    let (mut child, _stdout) = start(root);
    wait_for(journal, &mut child);
    let there = Instant::now();
    while journal.exists() {
        std::thread::yield_now();
    }
    let life = there.elapsed();
    assert!(child.wait().unwrap().success());
    (begun.elapsed(), life)
}
