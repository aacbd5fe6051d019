//! Every end: end of input, signals, SIGKILL of the server, and what the next start finds.

use crate::support::client::McpClient;
use crate::support::lane::Lane;
use crate::support::world::World;
use codex_mcp::session::store::hold::Holder;
use codex_mcp::session::store::record::EndCause;
use nix::sys::signal::Signal;
use serde_json::json;
use std::fs;
use std::process::Stdio;
use std::time::{Duration, Instant};

/// What P12 promises.
const AFTER_SIGKILL: Duration = Duration::from_secs(3);
const AFTER_SIGTERM: Duration = Duration::from_secs(10);

fn still(listed: Vec<String>, ours: &[String]) -> Vec<String> {
    listed.into_iter().filter(|name| ours.contains(name)).collect()
}

/// Polls until none of ours is listed; the deadline is the promise.
#[track_caller]
fn gone_within(limit: Duration, ours: &[String], list: impl Fn() -> Vec<String>) {
    let start = Instant::now();
    loop {
        let left = still(list(), ours);
        if left.is_empty() {
            return;
        }
        assert!(start.elapsed() < limit, "{left:?} still there after {limit:?}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn end_of_input_ends_everything(lane: Lane) {
    let Some(world) = World::new(lane) else { return };
    let mut client = McpClient::start(&world);
    client.tool("codex", json!({"prompt": "#text ready"}));
    let ours = world.container_names();
    assert_eq!(still(lane.running(), &ours).len(), 1);
    client.close_stdin();
    assert!(client.wait().success());
    assert_eq!(still(lane.containers(), &ours), [""; 0]);
    assert_eq!(world.rests(EndCause::ServerEnded), 1, "its thread can be taken up");
}

/// Begins a turn that sleeps, and waits until it does.
fn sleeping_turn(client: &mut McpClient, seconds: u32) -> u64 {
    let command = format!("sleep {seconds}");
    let call = client.begin_tool("codex", json!({"prompt": format!("#shell {command}")}));
    client.wait_for(|message| {
        message["params"]["message"]
            .as_str()
            .is_some_and(|text| text.contains(&command))
    });
    call
}

fn sigterm_ends_five_live_turns(lane: Lane) {
    let Some(world) = World::new(lane) else { return };
    let mut client = McpClient::start(&world);
    for nth in 1..=5 {
        sleeping_turn(&mut client, 1000 + nth);
    }
    let ours = world.container_names();
    assert_eq!(still(lane.running(), &ours).len(), 5);
    let start = Instant::now();
    client.signal(Signal::SIGTERM);
    client.wait();
    let took = start.elapsed();
    assert_eq!(
        still(lane.containers(), &ours),
        [""; 0],
        "no container is left when the server has ended"
    );
    assert_eq!(world.rests(EndCause::ServerEnded), 5);
    for record in world.records() {
        assert_eq!(
            record.interrupted.first().map(|one| one.turn),
            Some(1),
            "its turn was interrupted"
        );
    }
    assert!(took < AFTER_SIGTERM, "took {took:?}");
    eprintln!("{}: SIGTERM with 5 live turns: {took:?}", lane.name());
}

/// How a client ends the server.
#[derive(Debug, Clone, Copy)]
enum End {
    Sigterm,
    EndOfInput,
}

/// How far a session came, which is how much of it stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Came {
    /// Nobody worked in it: nothing.
    NoThread,
    /// The engine may be faster than we are: nothing, or a thread without a turn.
    AThreadPerhaps,
    /// All but the container.
    ATurn,
}

/// Ends the server as it is, and asserts that it takes everything with it in time but what somebody may come back to.
#[track_caller]
fn ends_cleanly(world: &World, mut client: McpClient, end: End, came: Came) {
    let ours = world.container_names();
    assert_eq!(ours.len(), 1, "the launch or the turn is on its way: {ours:?}");
    let start = Instant::now();
    match end {
        End::Sigterm => client.signal(Signal::SIGTERM),
        End::EndOfInput => client.close_stdin(),
    }
    let status = client.wait();
    let took = start.elapsed();
    assert!(status.success(), "it ended in order, not by the signal: {status}");
    assert_eq!(still(world.lane.containers(), &ours), [""; 0], "a container is left");
    let rest = world.rests(EndCause::ServerEnded);
    assert_eq!(world.session_directories().len(), rest, "files of no session are left");
    let turns: Vec<_> = world
        .records()
        .iter()
        // It depends on who is first whether Codex still says that it interrupted it; it is on record either way.
        .map(|record| record.interrupted.first().map(|one| one.turn))
        .collect();
    match came {
        Came::NoThread => assert_eq!(turns, [], "a session that nobody worked in is left"),
        Came::AThreadPerhaps => assert!(turns.len() <= 1, "{turns:?}"),
        Came::ATurn => assert_eq!(turns, [Some(1)]),
    }
    assert!(took < AFTER_SIGTERM, "took {took:?}");
    eprintln!("{}: {end:?}: {took:?}", world.lane.name());
}

/// Polls for a phase of a launch.
#[track_caller]
fn comes(what: &str, seen: impl Fn() -> bool) {
    let start = Instant::now();
    while !seen() {
        assert!(start.elapsed() < Duration::from_secs(60), "{what}: not seen");
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn ended_while_the_workspace_is_copied(lane: Lane, end: End) {
    let Some(world) = World::new(lane) else { return };
    for nth in 0..20_000 {
        fs::write(world.workspace().join(format!("file-{nth}")), "x").unwrap();
    }
    world.give_to_user(&world.workspace());
    let mut client = McpClient::start(&world);
    client.begin_tool("codex", json!({"prompt": "#text never"}));
    let copied = || -> usize {
        let directories = world.session_directories();
        let copy = directories
            .first()
            .and_then(|directory| fs::read_dir(directory.join("workspace")).ok());
        copy.map_or(0, |files| files.take(20_000).count())
    };
    comes("the copy", || copied() > 0);
    assert!(copied() < 20_000, "the copy was over before its end could be asked for");
    ends_cleanly(&world, client, end, Came::NoThread);
    assert!(world.model.requests().is_empty(), "the launch did not go on");
}

/// With a client of the engine that tells of a session's `run` and then does as `then` says, and the call that it is for.
fn at_run(world: &World, then: &str) -> (McpClient, u64) {
    let told = world.path("run-was-called");
    let path = world.wrap_engine(&format!(
        "case \" $* \" in *\" --interactive \"*) touch {}; {then};; esac\nexec \"$REAL\" \"$@\"\n",
        told.display()
    ));
    let mut client = McpClient::start_in(world, |command| {
        command.env("PATH", &path);
    });
    let call = client.begin_tool("codex", json!({"prompt": "#text never"}));
    comes("the engine's client", || told.exists());
    (client, call)
}

fn ended_while_the_engine_starts(lane: Lane, end: End) {
    let Some(world) = World::new(lane) else { return };
    let (client, _) = at_run(&world, ":");
    ends_cleanly(&world, client, end, Came::AThreadPerhaps);
}

fn ended_while_the_engine_hangs(lane: Lane, end: End) {
    let Some(world) = World::new(lane) else { return };
    let (client, _) = at_run(&world, "exec sleep 1000");
    ends_cleanly(&world, client, end, Came::NoThread);
}

/// Another process asks, and has not to wait until the engine has come to its senses.
fn a_start_that_hangs_is_stopped_from_outside(lane: Lane) {
    let Some(world) = World::new(lane) else { return };
    let (mut client, call) = at_run(&world, "exec sleep 1000");
    let ours = world.container_names();
    let session = world.sessions()[0].session.to_string();
    let stopped = world.codex_mcp(&["sessions", "stop", &session]).output().unwrap();
    assert!(stopped.status.success(), "{}", String::from_utf8_lossy(&stopped.stderr));
    let answer = client.answer(call);
    let text = answer["result"]["content"][0]["text"].as_str().unwrap();
    assert!(text.contains("was stopped while it was being started"), "{text}");
    assert_eq!(world.session_directories().len(), 0, "nobody worked in it");
    assert_eq!(still(lane.containers(), &ours), [""; 0], "a container is left");
    client.close_stdin();
    assert!(client.wait().success());
}

fn ended_while_the_container_comes_up(lane: Lane, end: End) {
    let Some(world) = World::new(lane) else { return };
    let (client, _) = at_run(&world, ":");
    comes("the container", || {
        !still(lane.containers(), &world.container_names()).is_empty()
    });
    ends_cleanly(&world, client, end, Came::AThreadPerhaps);
}

fn ended_while_a_turn_runs(lane: Lane, end: End) {
    let Some(world) = World::new(lane) else { return };
    let mut client = McpClient::start(&world);
    sleeping_turn(&mut client, 1003);
    ends_cleanly(&world, client, end, Came::ATurn);
}

fn sigterm_while_the_workspace_is_copied(lane: Lane) {
    ended_while_the_workspace_is_copied(lane, End::Sigterm);
}

fn sigterm_while_the_engine_starts(lane: Lane) {
    ended_while_the_engine_starts(lane, End::Sigterm);
}

fn sigterm_while_the_engine_hangs(lane: Lane) {
    ended_while_the_engine_hangs(lane, End::Sigterm);
}

fn sigterm_while_the_container_comes_up(lane: Lane) {
    ended_while_the_container_comes_up(lane, End::Sigterm);
}

fn sigterm_while_a_turn_runs(lane: Lane) {
    ended_while_a_turn_runs(lane, End::Sigterm);
}

fn end_of_input_while_the_workspace_is_copied(lane: Lane) {
    ended_while_the_workspace_is_copied(lane, End::EndOfInput);
}

fn end_of_input_while_the_engine_starts(lane: Lane) {
    ended_while_the_engine_starts(lane, End::EndOfInput);
}

fn end_of_input_while_the_engine_hangs(lane: Lane) {
    ended_while_the_engine_hangs(lane, End::EndOfInput);
}

fn end_of_input_while_the_container_comes_up(lane: Lane) {
    ended_while_the_container_comes_up(lane, End::EndOfInput);
}

fn end_of_input_while_a_turn_runs(lane: Lane) {
    ended_while_a_turn_runs(lane, End::EndOfInput);
}

fn sigkill_of_the_server_leaves_no_running_container(lane: Lane) {
    let Some(world) = World::new(lane) else { return };
    let mut client = McpClient::start(&world);
    sleeping_turn(&mut client, 1001);
    let ours = world.container_names();
    assert_eq!(still(lane.running(), &ours).len(), 1);
    let start = Instant::now();
    client.signal(Signal::SIGKILL);
    client.wait();
    gone_within(AFTER_SIGKILL, &ours, || lane.running());
    eprintln!(
        "{}: SIGKILL, no running container after {:?}",
        lane.name(),
        start.elapsed()
    );
}

/// Kills the server at 24 different moments between its start of a launch and, on a machine that has other work by then,
/// the end of a first turn; nothing of it runs afterwards, and the next start removes what was only created.
fn kills_at_random_moments_are_swept_by_the_next_start(lane: Lane) {
    let Some(world) = World::new(lane) else { return };
    // A first launch, so that what is measured below is a warm one.
    let whole = {
        let mut client = McpClient::start(&world);
        client.tool("codex", json!({"prompt": "#text warm"}));
        let start = Instant::now();
        client.tool("codex", json!({"prompt": "#text warm"}));
        let whole = start.elapsed();
        client.close_stdin();
        client.wait();
        whole
    };
    let mut ours = Vec::new();
    for nth in 0..24u32 {
        let mut client = McpClient::start(&world);
        client.begin_tool("codex", json!({"prompt": "#text hello"}));
        std::thread::sleep(2 * whole * nth / 24);
        client.signal(Signal::SIGKILL);
        client.wait();
        // Before the next start removes what this one left half-made.
        ours.extend(world.container_names());
    }
    assert!(!ours.is_empty(), "the kills hit launches");
    gone_within(AFTER_SIGKILL, &ours, || lane.running());
    let created = still(lane.containers(), &ours);
    eprintln!(
        "{}: 24 kills in {whole:?}, created and never started: {}",
        lane.name(),
        created.len()
    );

    let mut client = McpClient::start(&world);
    client.tool("codex", json!({"prompt": "#text after"}));
    assert_eq!(still(lane.containers(), &ours), [""; 0], "the next start sweeps");
}

/// A live server's containers are nobody else's to remove.
fn a_second_server_leaves_the_first_ones_alone(lane: Lane) {
    let Some(world) = World::new(lane) else { return };
    let mut first = McpClient::start(&world);
    let started = first.tool("codex", json!({"prompt": "#text one"}));
    let thread = started["structuredContent"]["threadId"].clone();
    let mut second = McpClient::start(&world);
    second.tool("codex", json!({"prompt": "#text two"}));
    second.close_stdin();
    second.wait();
    let reply = first.tool("codex-reply", json!({"threadId": thread, "prompt": "#text still here"}));
    assert_eq!(reply["structuredContent"]["content"], "still here");
}

fn killing_the_container_ends_the_turn_with_a_reason(lane: Lane) {
    let Some(world) = World::new(lane) else { return };
    let mut client = McpClient::start(&world);
    let call = sleeping_turn(&mut client, 1002);
    let ours = world.container_names();
    let killed = lane
        .engine()
        .arg("kill")
        .args(&ours)
        .stdout(Stdio::null())
        .status()
        .unwrap();
    assert!(killed.success());
    let result = client.answer(call)["result"].clone();
    assert_eq!(result["isError"], true, "{result:#}");
    let text = result["content"][0]["text"].as_str().unwrap();
    assert!(text.contains("container"), "the reason is named: {text}");
    // The server goes on.
    let next = client.tool("codex", json!({"prompt": "#text next"}));
    assert_eq!(next["structuredContent"]["content"], "next");
}

/// What the session had changed is worth more than the container.
fn a_lost_session_keeps_its_changes(lane: Lane) {
    let Some(world) = World::new(lane) else { return };
    let mut client = McpClient::start(&world);
    let started = client.tool("codex", json!({"prompt": "#shell echo precious > work.txt"}));
    let thread = started["structuredContent"]["threadId"].as_str().unwrap().to_owned();
    let killed = lane
        .engine()
        .arg("kill")
        .args(world.running())
        .stdout(Stdio::null())
        .status()
        .unwrap();
    assert!(killed.success());
    comes("the end of its container", || {
        world.sessions()[0].holder == Holder::Nobody
    });
    assert_eq!(world.rests(EndCause::Lost), 1);
    let diff = world.codex_mcp(&["sessions", "diff", &thread]).output().unwrap();
    let patch = String::from_utf8_lossy(&diff.stdout);
    assert!(
        patch.contains("+precious"),
        "{patch}{}",
        String::from_utf8_lossy(&diff.stderr)
    );
    let replied = client.tool(
        "codex-reply",
        json!({"threadId": thread, "prompt": "#shell cat work.txt"}),
    );
    let content = replied["structuredContent"]["content"].as_str();
    assert!(content.is_some_and(|text| text.contains("precious")), "{replied:#}");
}

/// A tree far deeper than any path can name, in which each level costs the kernel more than the one above, and that this
/// user may not even list.
fn a_hostile_tree_is_removed_with_its_session(lane: Lane) {
    let Some(world) = World::new(lane) else { return };
    let mut client = McpClient::start(&world);
    let dig = "perl -e 'for(1..8000){mkdir \"d\"; chdir \"d\" or die}'; mkdir -p a/b/c; chmod 0 a/b a; echo dug";
    let dug = client.tool("codex", json!({"prompt": format!("#shell {dig}")}));
    let thread = dug["structuredContent"]["threadId"].as_str().unwrap().to_owned();
    client.close_stdin();
    assert!(client.wait().success());
    assert_eq!(world.rests(EndCause::ServerEnded), 1);
    let removed = world.codex_mcp(&["sessions", "rm", &thread]).output().unwrap();
    assert!(removed.status.success(), "{}", String::from_utf8_lossy(&removed.stderr));
    assert_eq!(world.session_directories().len(), 0);
}

/// Its container runs on for as long as its engine takes to see that the pipe is gone, and nobody has swept.
fn what_a_killed_server_left_goes_with_its_session(lane: Lane) {
    let Some(world) = World::new(lane) else { return };
    let mut client = McpClient::start(&world);
    sleeping_turn(&mut client, 1005);
    let ours = world.container_names();
    let session = world.sessions()[0].session.to_string();
    client.signal(Signal::SIGKILL);
    client.wait();
    let removed = world.codex_mcp(&["sessions", "rm", &session]).output().unwrap();
    assert!(removed.status.success(), "{}", String::from_utf8_lossy(&removed.stderr));
    assert_eq!(still(lane.containers(), &ours), [""; 0], "a container is left");
    assert_eq!(world.session_directories().len(), 0);
}

on_every_lane!(
    end_of_input_ends_everything,
    sigterm_ends_five_live_turns,
    sigterm_while_the_workspace_is_copied,
    sigterm_while_the_engine_starts,
    sigterm_while_the_engine_hangs,
    sigterm_while_the_container_comes_up,
    sigterm_while_a_turn_runs,
    end_of_input_while_the_workspace_is_copied,
    end_of_input_while_the_engine_starts,
    end_of_input_while_the_engine_hangs,
    end_of_input_while_the_container_comes_up,
    end_of_input_while_a_turn_runs,
    sigkill_of_the_server_leaves_no_running_container,
    kills_at_random_moments_are_swept_by_the_next_start,
    a_second_server_leaves_the_first_ones_alone,
    killing_the_container_ends_the_turn_with_a_reason,
    a_lost_session_keeps_its_changes,
    a_hostile_tree_is_removed_with_its_session,
    a_start_that_hangs_is_stopped_from_outside,
    what_a_killed_server_left_goes_with_its_session,
);
