//! Memory that ends inside, at the container's own limit: what is killed, and what is said of it.

use super::{Bystander, another_server_works, completed, content, reply, server_is_small, start, thread_of};
use crate::support::client::McpClient;
use crate::support::lane::Lane;
use crate::support::world::World;
use serde_json::Value;
use std::fs;

fn small_world(lane: Lane) -> Option<World> {
    let world = World::new(lane)?;
    world.edit_config("memory = \"2GiB\"", "memory = \"512MiB\"");
    Some(world)
}

/// How often this host has killed for memory anywhere, by the kernel's count.
fn kills_of_the_host() -> u64 {
    let counts = fs::read_to_string("/proc/vmstat").unwrap();
    let line = counts.lines().find_map(|line| line.strip_prefix("oom_kill "));
    line.map_or(0, |count| count.parse().unwrap())
}

fn a_hog_is_killed_and_its_session_goes_on(lane: Lane) {
    let Some(world) = small_world(lane) else { return };
    let mut client = McpClient::start(&world);
    let mut bystander = Bystander::arrive(&mut client);
    let hog = "#shell perl -e '$x = \"x\" x (1 << 30); print \"survived\"'; echo ended=$?";
    let result = start(&mut client, hog);
    assert!(content(&result).contains("ended=137"), "{result:#}");
    let limits = result["structuredContent"]["limits"].as_array().unwrap();
    let memory = limits.iter().find(|limit| limit["name"] == "memory").unwrap();
    assert!(memory["peak"].as_u64() >= Some(500 << 20), "{memory}");
    let again = reply(&mut client, &thread_of(&result), "#shell echo alive");
    assert!(content(&again).contains("alive"), "{again:#}");
    let named = |result: &Value| {
        let notes = result["structuredContent"]["notes"].to_string();
        notes.contains("a process inside was killed: memory limit 512MiB reached (peak 5")
    };
    for (result, is_news) in [(&result, true), (&again, false)] {
        assert_eq!(result["structuredContent"]["used"]["memoryKills"], 1, "{result:#}");
        assert_eq!(named(result), is_news, "{result:#}");
    }
    bystander.works(&mut client);
    server_is_small(&client);
}

/// Each too small to be worth killing, and with the guest's own score: all else has to go.
fn a_swarm_ends_its_session_and_the_cause_is_named(lane: Lane) {
    let Some(world) = small_world(lane) else { return };
    let mut client = McpClient::start(&world);
    let mut bystander = Bystander::arrive(&mut client);
    let swarm = "#shell echo 0 >/proc/self/oom_score_adj; \
        for i in $(seq 300); do perl -e '$x = \"x\" x (3 << 20); sleep 30' & done; wait";
    let result = start(&mut client, swarm);
    let text = content(&result);
    let named = text.contains("killed: memory limit 512MiB reached (peak ");
    // PID 1 may go with the rest before it could tell. Podman says so in its place.
    let hinted = lane == Lane::Docker && text.contains("cause unproven") && text.contains("of memory limit 512MiB");
    assert!(named || hinted, "{result:#}");
    bystander.works(&mut client);
    another_server_works(&world);
    // Its thread and its work are kept.
    let again = reply(&mut client, &thread_of(&result), "#shell echo alive");
    assert!(content(&again).contains("alive"), "{again:#}");
}

/// What lies in a file system in memory is the container's memory too.
fn files_in_memory_count_as_memory(lane: Lane) {
    let Some(world) = small_world(lane) else { return };
    let mut client = McpClient::start(&world);
    let mut bystander = Bystander::arrive(&mut client);
    let fill = "#shell for d in /tmp ~ /dev/shm; do dd if=/dev/zero of=$d/fill bs=1M count=400 2>&1 | tail -1; done; echo tried";
    let result = start(&mut client, fill);
    let text = content(&result);
    assert!(
        text.contains("killed: memory limit 512MiB reached")
            || text.contains("tried")
            || text.contains("cause unproven"),
        "{result:#}"
    );
    bystander.works(&mut client);
    server_is_small(&client);
}

/// Where nothing enforces the limit, every result says so, and whoever hogs has no more than it asks for.
fn an_unenforced_limit_is_said_to_be_none(lane: Lane) {
    let Some(world) = small_world(lane) else { return };
    let mut client = McpClient::start(&world);
    let mut bystander = Bystander::arrive(&mut client);
    let kills = kills_of_the_host();
    let hog = "#shell perl -e '$x = \"x\" x (600 << 20); print \"survived\"'; echo ended=$?";
    let result = start(&mut client, hog);
    completed(&result);
    let unenforced = result["structuredContent"]["unenforced"].as_array();
    let memory = unenforced.and_then(|limits| limits.iter().find(|limit| limit["limit"] == "memory"));
    match memory {
        Some(memory) => {
            assert!(
                memory["remedy"].as_str().is_some_and(|remedy| !remedy.is_empty()),
                "{memory}"
            );
            assert!(content(&result).contains("survived"), "{result:#}");
            assert_eq!(kills_of_the_host(), kills, "nobody was killed for it");
        }
        // A machine with cgroup v2 and delegation.
        None => assert!(content(&result).contains("ended=137"), "{result:#}"),
    }
    bystander.works(&mut client);
}

// Rootless podman on cgroup v1 has no limit to reach.
on_lanes!(
    [RootfulPodman, Docker] => a_hog_is_killed_and_its_session_goes_on, a_swarm_ends_its_session_and_the_cause_is_named,
        files_in_memory_count_as_memory;
    [RootlessPodman] => an_unenforced_limit_is_said_to_be_none;
);
