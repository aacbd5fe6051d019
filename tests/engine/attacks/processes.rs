//! Processes: too many, too busy, and such as do not end when they are asked to.

use super::{
    Bystander, another_server_works, begin, completed, content, leaves_nothing, reply, server_is_small, start,
    thread_of,
};
use crate::support::client::McpClient;
use crate::support::lane::Lane;
use crate::support::world::World;
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// What P12 promises of an end by SIGTERM.
const AFTER_SIGTERM: Duration = Duration::from_secs(10);

fn limit<'r>(result: &'r Value, name: &str) -> &'r Value {
    let limits = result["structuredContent"]["limits"].as_array().unwrap();
    limits.iter().find(|limit| limit["name"] == name).unwrap()
}

/// Processes that multiply, as far as the limit lets them. Codex may be among those that get no more.
fn a_fork_bomb_ends_at_the_limit(lane: Lane) {
    let Some(world) = World::new(lane) else { return };
    world.edit_config("[limits]\n", "[limits]\npids = 200\n");
    let mut client = McpClient::start(&world);
    let mut bystander = Bystander::arrive(&mut client);
    // It ends by itself, in time for a machine where nothing else ends it, and is bounded there.
    let bomb = "#shell perl -e '$SIG{CHLD} = \"IGNORE\"; for (1..600) { my $p = fork; \
        if (!defined $p) { print \"refused: $!\\n\"; last } if (!$p) { sleep 15; exit } } print \"forked\\n\"'; echo bombed";
    let call = client.begin_tool("codex", json!({ "prompt": bomb }));
    bystander.works(&mut client);
    let result = client.answer(call)["result"].clone();
    completed(&result);
    let unenforced = result["structuredContent"]["unenforced"].to_string();
    if unenforced.contains("\"pids\"") {
        assert!(content(&result).contains("forked"), "{result:#}");
    } else {
        assert!(
            content(&result).contains("refused: Resource temporarily unavailable"),
            "{result:#}"
        );
        let pids = limit(&result, "pids");
        assert_eq!(pids["limit"], 200, "{pids}");
        assert!(
            pids["peak"].as_u64() >= Some(200),
            "the result says that the limit was reached: {pids}"
        );
    }
    bystander.works(&mut client);
    another_server_works(&world);
    leaves_nothing(&world, client);
}

/// The classic one, which never gives up: its session can do nothing more, and whatever becomes of its turn, it does not last.
fn a_bomb_that_never_gives_up_ends_with_its_turn(lane: Lane) {
    let Some(world) = World::new(lane) else { return };
    world.edit_config("[limits]\n", "[limits]\npids = 150\nturn = \"5s\"\n");
    let mut client = McpClient::start(&world);
    let mut bystander = Bystander::arrive(&mut client);
    let call = begin(
        &mut client,
        "true a-bomb; b() { b | b & }; b; while :; do :; done 2>/dev/null",
    );
    bystander.works(&mut client);
    let result = client.answer(call)["result"].clone();
    assert_eq!(result["isError"], true, "{result:#}");
    let text = content(&result);
    assert!(
        text.contains("limits.turn") || text.contains("Codex ") || text.contains("pids"),
        "{result:#}"
    );
    eprintln!("{}: {text}", lane.name());
    bystander.works(&mut client);
    leaves_nothing(&world, client);
}

/// Twice as many busy loops as the machine has CPUs, under a limit of half a CPU.
fn a_burner_has_its_share_and_no_more(lane: Lane) {
    let Some(world) = World::new(lane) else { return };
    world.edit_config("[limits]\n", "[limits]\ncpus = 0.5\n");
    let mut client = McpClient::start(&world);
    let mut bystander = Bystander::arrive(&mut client);
    let quiet = start(&mut client, "#text ready");
    let thread = thread_of(&quiet);
    let before = quiet["structuredContent"]["used"]["cpuSeconds"].as_f64();
    let began = Instant::now();
    let burner = "#shell for i in 1 2 3 4; do timeout 6 sh -c 'while :; do :; done' & done; wait; echo burnt";
    let call = client.begin_tool("codex-reply", json!({"threadId": thread, "prompt": burner}));
    bystander.works(&mut client);
    let result = client.answer(call)["result"].clone();
    completed(&result);
    let wall = began.elapsed().as_secs_f64();
    assert!(content(&result).contains("burnt"), "{result:#}");
    let after = result["structuredContent"]["used"]["cpuSeconds"].as_f64();
    let unenforced = result["structuredContent"]["unenforced"].to_string();
    if !unenforced.contains("\"cpus\"") {
        let used = after.unwrap() - before.unwrap();
        // The kernel counts in periods of a tenth of a second, and the last one may be used up at once.
        assert!(
            used > 1.0 && used < 0.5 * wall + 0.5,
            "{used} s of processor time in {wall} s"
        );
        assert_eq!(limit(&result, "cpus")["limit"], 500);
    }
    bystander.works(&mut client);
}

/// A tree of processes of which none ends for any signal that can be ignored, in sessions of their own as well.
const STUBBORN: &str = "true stubborn; trap '' TERM INT HUP QUIT PIPE USR1; for i in 1 2 3; do setsid sh -c \
    \"trap '' TERM INT HUP QUIT; while :; do sleep 1; done\" & done; while :; do sleep 1; done";

fn what_ignores_sigterm_ends_with_its_server(lane: Lane) {
    let Some(world) = World::new(lane) else { return };
    let mut client = McpClient::start(&world);
    begin(&mut client, STUBBORN);
    let ours = world.running();
    assert_eq!(ours.len(), 1);
    let start = Instant::now();
    client.signal(Signal::SIGTERM);
    client.wait();
    let took = start.elapsed();
    assert!(took < AFTER_SIGTERM, "took {took:?}");
    let left = world.lane.containers();
    assert!(!left.iter().any(|name| ours.contains(name)), "{left:?}");
    another_server_works(&world);
}

/// The turn's own end; its thread goes on in the same container.
fn what_ignores_sigterm_ends_with_its_turn(lane: Lane) {
    let Some(world) = World::new(lane) else { return };
    world.edit_config("[limits]\n", "[limits]\nturn = \"4s\"\n");
    let mut client = McpClient::start(&world);
    let mut bystander = Bystander::arrive(&mut client);
    let call = begin(&mut client, STUBBORN);
    bystander.works(&mut client);
    let result = client.answer(call)["result"].clone();
    assert_eq!(result["isError"], true, "{result:#}");
    assert!(content(&result).contains("limits.turn"), "{result:#}");
    let again = reply(&mut client, &thread_of(&result), "#shell echo goes''-on");
    assert!(content(&again).contains("goes-on"), "{again:#}");
    bystander.works(&mut client);
    server_is_small(&client);
}

/// An app-server that was stopped says nothing and closes nothing. Only its process is heard of, or the clock.
fn a_stopped_codex_does_not_hold_its_turn_for_ever(lane: Lane) {
    let Some(world) = World::new(lane) else { return };
    world.edit_config("[limits]\n", "[limits]\nturn = \"4s\"\n");
    let mut client = McpClient::start(&world);
    let mut bystander = Bystander::arrive(&mut client);
    let stopping = "#shell for p in /proc/[0-9]*; do test \"$(cat $p/comm)\" = codex && kill -STOP ${p#/proc/}; done";
    let call = client.begin_tool("codex", json!({ "prompt": stopping }));
    bystander.works(&mut client);
    let result = client.answer(call)["result"].clone();
    assert_eq!(result["isError"], true, "{result:#}");
    assert!(content(&result).contains("limits.turn"), "{result:#}");
    bystander.works(&mut client);
    leaves_nothing(&world, client);
}

on_every_lane!(
    a_fork_bomb_ends_at_the_limit,
    a_burner_has_its_share_and_no_more,
    what_ignores_sigterm_ends_with_its_server,
    what_ignores_sigterm_ends_with_its_turn,
    a_stopped_codex_does_not_hold_its_turn_for_ever,
);
// Rootless podman on cgroup v1 has no limit of processes but the user's: this bomb would be the whole machine's.
on_lanes!([RootfulPodman, Docker] => a_bomb_that_never_gives_up_ends_with_its_turn);
