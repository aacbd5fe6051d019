//! Memory that ends inside, at the container's own limit: what is killed, and what is said of it.

use crate::support::client::McpClient;
use crate::support::lane::Lane;
use crate::support::world::World;
use serde_json::json;

fn small_world(lane: Lane) -> Option<World> {
    let world = World::new(lane)?;
    world.edit_config("memory = \"2GiB\"", "memory = \"512MiB\"");
    Some(world)
}

fn a_hog_is_killed_and_its_session_goes_on(lane: Lane) {
    let Some(world) = small_world(lane) else { return };
    let mut client = McpClient::start(&world);
    let hog = "#shell perl -e '$x = \"x\" x (1 << 30); print \"survived\"'; echo ended=$?";
    let result = client.tool("codex", json!({ "prompt": hog }));
    let content = result["structuredContent"]["content"].as_str().unwrap_or_default();
    assert!(content.contains("ended=137"), "{result:#}");
    let thread = &result["structuredContent"]["threadId"];
    let result = client.tool(
        "codex-reply",
        json!({"threadId": thread, "prompt": "#shell echo alive"}),
    );
    let content = result["structuredContent"]["content"].as_str().unwrap_or_default();
    assert!(content.contains("alive"), "{result:#}");
}

/// Each too small to be worth killing, and with the guest's own score: all else has to go.
fn a_swarm_ends_its_session_and_the_cause_is_named(lane: Lane) {
    let Some(world) = small_world(lane) else { return };
    let mut client = McpClient::start(&world);
    let swarm = "#shell echo 0 >/proc/self/oom_score_adj; \
        for i in $(seq 300); do perl -e '$x = \"x\" x (3 << 20); sleep 30' & done; wait";
    let result = client.tool("codex", json!({ "prompt": swarm }));
    let text = result.to_string();
    let named = text.contains("killed: memory limit 512MiB reached (peak ");
    // PID 1 may go with the rest before it could tell. Podman says so in its place.
    let hinted = lane == Lane::Docker && text.contains("cause unproven") && text.contains("of memory limit 512MiB");
    assert!(named || hinted, "{result:#}");
    // A second session is as well as before.
    let result = client.tool("codex", json!({"prompt": "#shell echo alive"}));
    let content = result["structuredContent"]["content"].as_str().unwrap_or_default();
    assert!(content.contains("alive"), "{result:#}");
}

// Rootless podman on cgroup v1 has no limit to reach.
on_lanes!(
    [RootfulPodman, Docker] => a_hog_is_killed_and_its_session_goes_on, a_swarm_ends_its_session_and_the_cause_is_named;
);
