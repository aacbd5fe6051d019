//! Many sessions at once: all of them work, what each costs this host beside its engine and its Codex, and how fast they end.
//!
//! `scripts/load` runs [`sessions_at_once`] with as many as it is told to and prints the figures; six run with every engine test.

use crate::chaos::victims;
use crate::support::client::McpClient;
use crate::support::lane::Lane;
use crate::support::world::World;
use codex_mcp::session::store::record::EndCause;
use nix::sys::signal::Signal;
use serde_json::json;
use std::fs;
use std::time::{Duration, Instant};

/// What P12 promises for any number; a machine that does nothing else does it in a fifth of that.
const TEARDOWN: Duration = Duration::from_secs(10);

/// What was measured.
struct Figures {
    /// From the first call to the last answer.
    all_answered: Duration,
    /// From SIGTERM until no container of ours runs.
    containers_gone: Duration,
    /// From SIGTERM until the server has ended.
    server_gone: Duration,
    /// KiB of its own that the server has grown by, a session.
    server: u64,
    /// KiB of the guest, a session.
    guest: u64,
    /// KiB of the engine's clients and keepers, a session.
    engine: u64,
}

/// One figure of a process' memory in KiB, by the name that the kernel gives it. See proc_pid_smaps(5).
fn memory(pid: u32, figure: &str) -> u64 {
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    let line = rollup.lines().find_map(|line| line.strip_prefix(figure));
    line.and_then(|line| line.trim_start_matches(':').trim().trim_end_matches(" kB").parse().ok())
        .unwrap_or(0)
}

/// KiB that are a process' own, and its share of what it has with others.
fn proportional(pid: u32) -> u64 {
    memory(pid, "Pss")
}

/// KiB that a process has written to. Pages of the program are left out: no session adds any, and a process' share of them
/// grows when another test's server ends, which has nothing to do with this one.
fn written(pid: u32) -> u64 {
    memory(pid, "Anonymous")
}

fn together(of: &[victims::Process]) -> u64 {
    of.iter().map(|one| proportional(one.pid)).sum()
}

fn load(lane: Lane, count: u64) -> Option<Figures> {
    let world = World::new(lane)?;
    let marker = world.root().file_name().unwrap().to_str().unwrap().to_owned();
    let mut client = McpClient::start(&world);
    // What the first session costs once is no session's own.
    let warm = client.tool("codex", json!({"prompt": "#text warm"}));
    let warm = warm["structuredContent"]["threadId"].as_str().unwrap().to_owned();
    let stopped = world.codex_mcp(&["sessions", "stop", &warm]).output().unwrap();
    assert!(stopped.status.success());
    assert!(
        world
            .codex_mcp(&["sessions", "rm", &warm])
            .output()
            .unwrap()
            .status
            .success()
    );
    let server = client.child.id();
    let before = written(server);

    let start = Instant::now();
    let calls: Vec<u64> = (0..count)
        .map(|nth| {
            let prompt = format!("#patch made-{nth}.txt work {nth}\n#shell cat made-{nth}.txt; ls /; sleep 1");
            client.begin_tool("codex", json!({"prompt": prompt}))
        })
        .collect();
    for (nth, call) in (0..count).zip(calls) {
        let result = client.answer(call)["result"].clone();
        let content = result["structuredContent"]["content"].as_str().unwrap_or_default();
        assert!(content.contains(&format!("work {nth}")), "session {nth}: {result:#}");
        let changes = &result["structuredContent"]["changes"]["files"];
        assert_eq!(
            changes[0]["path"],
            format!("made-{nth}.txt"),
            "session {nth}: {result:#}"
        );
    }
    let all_answered = start.elapsed();

    let names = world.container_names();
    assert_eq!(world.running().len() as u64, count, "each session has its container");
    let guests = victims::guests(&marker);
    assert_eq!(guests.len() as u64, count);
    let mut engine = victims::engine_clients(lane, server);
    engine.extend(victims::keepers(lane, &marker, &names));
    let (with, guest, engine) = (written(server), together(&guests), together(&engine));

    let start = Instant::now();
    client.signal(Signal::SIGTERM);
    while guests.iter().any(|guest| victims::one(guest.pid).is_some()) {
        assert!(start.elapsed() < TEARDOWN, "guests still run");
        std::thread::sleep(Duration::from_millis(2));
    }
    let containers_gone = start.elapsed();
    assert!(client.wait().success());
    let server_gone = start.elapsed();
    let mut left = lane.all_containers();
    left.retain(|name| names.contains(name));
    assert_eq!(left, [""; 0], "a container is left");
    assert_eq!(world.rests(EndCause::ServerEnded) as u64, count);
    Some(Figures {
        all_answered,
        containers_gone,
        server_gone,
        server: with.saturating_sub(before) / count,
        guest: guest / count,
        engine: engine / count,
    })
}

fn report(lane: Lane, count: u64, figures: &Figures) {
    let Figures {
        all_answered,
        containers_gone,
        server_gone,
        server,
        guest,
        engine,
    } = figures;
    eprintln!(
        "{}: {count} sessions: all answered in {all_answered:.1?}; SIGTERM: no container runs after {containers_gone:.2?}, the \
         server has ended after {server_gone:.2?}; a session: {server} KiB in the server, {guest} KiB in the guest ({engine} KiB in \
         the engine's own processes)",
        lane.name()
    );
}

fn six_sessions_at_once_work_and_end(lane: Lane) {
    let Some(figures) = load(lane, 6) else { return };
    report(lane, 6, &figures);
    assert!(figures.server_gone < TEARDOWN);
    assert!(figures.server < 3 << 10, "a session's memory in the server");
}

/// LOAD_SESSIONS says how many; LOAD_STRICT holds them to what is promised of a release on a machine that does nothing else.
fn sessions_at_once(lane: Lane) {
    let count = std::env::var("LOAD_SESSIONS")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(20);
    let Some(figures) = load(lane, count) else { return };
    report(lane, count, &figures);
    if std::env::var_os("LOAD_STRICT").is_some() {
        assert!(
            figures.server_gone <= Duration::from_secs(2),
            "teardown took {:?}",
            figures.server_gone
        );
        assert!(
            figures.server + figures.guest <= 3 << 10,
            "a session takes more than 3 MiB"
        );
    }
}

on_every_lane!(six_sessions_at_once_work_and_end);
on_request!(sessions_at_once);
