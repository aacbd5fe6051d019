//! Clocks that run out: each end has the name of its limit.

use super::{Bystander, begin, content, end_of, reply, start, thread_of};
use crate::support::client::McpClient;
use crate::support::lane::Lane;
use crate::support::world::World;
use std::time::{Duration, Instant};

fn limited(lane: Lane, limits: &str) -> Option<World> {
    let world = World::new(lane)?;
    world.edit_config("[limits]\n", &format!("[limits]\n{limits}\n"));
    Some(world)
}

#[track_caller]
fn parked(world: &World) {
    let start = Instant::now();
    while !world.running().is_empty() {
        assert!(start.elapsed() < Duration::from_secs(60), "its container runs on");
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn a_turn_ends_at_its_limit(lane: Lane) {
    let Some(world) = limited(lane, "turn = \"3s\"") else {
        return;
    };
    let mut client = McpClient::start(&world);
    let mut bystander = Bystander::arrive(&mut client);
    let call = begin(&mut client, "sleep 1000; echo slept");
    bystander.works(&mut client);
    let result = client.answer(call)["result"].clone();
    assert_eq!(result["isError"], true, "{result:#}");
    let text = content(&result);
    assert!(
        text.contains("took longer than it may") && text.contains("limits.turn"),
        "{text}"
    );
    assert_eq!(result["structuredContent"]["turn"]["status"], "failed");
    let again = reply(
        &mut client,
        &thread_of(&result),
        "#shell pgrep -x sleep; echo none''-left",
    );
    assert!(content(&again).contains("none-left"), "{again:#}");
    bystander.works(&mut client);
}

/// A model that never ends its answer.
fn a_silent_model_is_given_up_at_the_turns_limit(lane: Lane) {
    let Some(world) = limited(lane, "turn = \"3s\"") else {
        return;
    };
    let mut client = McpClient::start(&world);
    let result = start(&mut client, "#hang");
    assert_eq!(result["isError"], true, "{result:#}");
    assert!(content(&result).contains("limits.turn"), "{result:#}");
    let again = reply(&mut client, &thread_of(&result), "#text goes on");
    assert!(content(&again).contains("goes on"), "{again:#}");
}

/// Its container ends in the middle of a turn, and the next reply brings another one.
fn a_container_ends_at_its_wall_clock(lane: Lane) {
    let Some(world) = limited(lane, "wall = \"8s\"") else {
        return;
    };
    let mut client = McpClient::start(&world);
    let call = begin(&mut client, "echo begun > begun; sleep 1000");
    let result = client.answer(call)["result"].clone();
    assert_eq!(result["isError"], true, "{result:#}");
    let text = content(&result);
    assert!(text.contains("its container had lived for 8s (limits.wall)"), "{text}");
    let thread = thread_of(&result);
    let end = end_of(&world, &thread);
    assert_eq!(
        (end["cause"].as_str(), end["interruptedTurn"].as_u64()),
        (Some("wall_clock"), Some(1)),
        "{end}"
    );
    let again = reply(&mut client, &thread, "#shell cat begun");
    assert!(content(&again).contains("begun"), "{again:#}");
    assert!(
        again["structuredContent"]["notes"].to_string().contains("limits.wall"),
        "{again:#}"
    );
}

fn a_session_without_turns_is_parked_at_its_limit(lane: Lane) {
    let Some(world) = limited(lane, "idle = \"2s\"") else {
        return;
    };
    let mut client = McpClient::start(&world);
    let thread = thread_of(&start(&mut client, "#text ready"));
    parked(&world);
    let start = Instant::now();
    let end = loop {
        let end = end_of(&world, &thread);
        if !end.is_null() {
            break end;
        }
        assert!(start.elapsed() < Duration::from_secs(60), "no end on record");
    };
    assert_eq!(end["cause"], "idle");
    assert!(
        end["why"].as_str().unwrap().contains("no turn for 2s (limits.idle)"),
        "{end}"
    );
    assert!(end["interruptedTurn"].is_null(), "{end}");
    let again = reply(&mut client, &thread, "#text back");
    assert!(content(&again).contains("back"), "{again:#}");
}

on_every_lane!(
    a_turn_ends_at_its_limit,
    a_silent_model_is_given_up_at_the_turns_limit,
    a_container_ends_at_its_wall_clock,
    a_session_without_turns_is_parked_at_its_limit,
);
