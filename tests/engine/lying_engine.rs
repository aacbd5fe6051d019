//! An engine that does not do what it was told: a wrapper on PATH that drops a flag. The session is refused, naming the
//! promise that failed, and nothing of it stays.

use crate::support::client::McpClient;
use crate::support::lane::Lane;
use crate::support::world::World;
use serde_json::json;

/// Runs one session through a wrapper whose shell code may edit the arguments of `run` (as "$@").
#[track_caller]
fn refused_with(lane: Lane, edit: &str, promise: &str) {
    let Some(world) = World::new(lane) else { return };
    // Rebuilds the arguments one by one: $1 is the argument at hand, $2 the next one.
    let path = world.wrap_engine(&format!(
        "args=()\nwhile [ $# -gt 0 ]; do\n{edit}\nargs+=(\"$1\"); shift\ndone\nexec \"$REAL\" \"${{args[@]}}\"\n"
    ));

    let mut client = McpClient::start_in(&world, |command| {
        command.env("PATH", &path);
    });
    let result = client.tool("codex", json!({"prompt": "#text never"}));
    assert_eq!(result["isError"], true, "{result:#}");
    let text = result["content"][0]["text"].as_str().unwrap();
    assert!(text.contains(promise), "the promise that failed is named: {text}");
    assert!(world.model.requests().is_empty(), "nothing ran");
    assert!(world.session_directories().is_empty(), "nothing half-made stays");
}

fn dropped_cap_drop(lane: Lane) {
    // Docker and podman give a user other than root no effective capabilities, so the bounding set tells.
    refused_with(
        lane,
        r#"if [ "$1" = --cap-drop ]; then shift 2; continue; fi; case "$1" in --cap-drop=*) shift; continue;; esac"#,
        "P3",
    );
}

fn dropped_read_only(lane: Lane) {
    refused_with(lane, r#"if [ "$1" = --read-only ]; then shift; continue; fi"#, "P2");
}

fn dropped_memory(lane: Lane) {
    refused_with(
        lane,
        r#"case "$1" in --memory|--memory-swap) shift 2; continue;; --memory=*|--memory-swap=*) shift; continue;; esac"#,
        "P4",
    );
}

fn added_network(lane: Lane) {
    refused_with(
        lane,
        r#"if [ "$1" = --network ]; then args+=(--network host); shift 2; continue; fi; case "$1" in --network=*) args+=(--network=host); shift; continue;; esac"#,
        "P7",
    );
}

fn added_volume(lane: Lane) {
    refused_with(
        lane,
        r#"if [ "$1" = --read-only ]; then args+=(-v /etc:/host-etc:ro); fi"#,
        "P1",
    );
}

fn dropped_no_new_privileges(lane: Lane) {
    refused_with(
        lane,
        r#"if [ "$1" = --security-opt ] && [ "$2" = no-new-privileges ]; then shift 2; continue; fi; case "$1" in --security-opt=no-new-privileges) shift; continue;; esac"#,
        "P3",
    );
}

fn switched_off_seccomp(lane: Lane) {
    refused_with(
        lane,
        r#"if [ "$1" = --read-only ]; then args+=(--security-opt seccomp=unconfined); fi"#,
        "P3",
    );
}

on_every_lane!(
    dropped_cap_drop,
    dropped_read_only,
    added_volume,
    dropped_no_new_privileges,
    switched_off_seccomp,
);
on_lanes!(
    // Rootless podman's limits are refused where they can't hold, lie or no lie (refusals.rs), and its network may need a
    // tun device that a machine keeps for root.
    [RootfulPodman, Docker] => dropped_memory, added_network;
);
