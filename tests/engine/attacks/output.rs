//! More than anybody wants to read: what a command prints, what it sends to the loopback endpoints, what the model says.

use super::{Bystander, begin, completed, content, leaves_nothing, reply, server_is_small, start, thread_of};
use crate::support::client::McpClient;
use crate::support::lane::Lane;
use crate::support::world::World;
use std::fs;
use std::path::Path;

/// The most that one session's records may take after any of these, in bytes.
const RECORDS: u64 = 64 << 20;

/// Bytes of everything below a directory but the workspace.
fn size_without_workspace(directory: &Path) -> u64 {
    let mut size = 0;
    let mut pending = vec![directory.to_owned()];
    while let Some(at) = pending.pop() {
        for entry in fs::read_dir(at).unwrap() {
            let entry = entry.unwrap();
            // What a container still writes may go while it is looked at.
            let Ok(found) = fs::symlink_metadata(entry.path()) else {
                continue;
            };
            match found.is_dir() {
                true if entry.file_name() != "workspace" => pending.push(entry.path()),
                true => {}
                false => size += found.len(),
            }
        }
    }
    size
}

#[track_caller]
fn records_are_small(world: &World) {
    for session in world.session_directories() {
        let size = size_without_workspace(&session);
        eprintln!("{} holds {} KiB beside its workspace", session.display(), size >> 10);
        assert!(size < RECORDS, "{}: {size} bytes", session.display());
    }
}

/// 500 MB of output as fast as it is read, on both streams, with control sequences in it.
fn a_command_that_prints_without_end(lane: Lane) {
    let Some(world) = World::new(lane) else { return };
    let mut client = McpClient::start(&world);
    let mut bystander = Bystander::arrive(&mut client);
    let call = begin(
        &mut client,
        "true a-flood; yes $'flood \\e[2J\\a' | head -c 500000000 | tee /dev/stderr; echo; echo ebbed",
    );
    bystander.works(&mut client);
    let result = client.answer(call)["result"].clone();
    completed(&result);
    // Its words are the model's own, which are handed on whole; all others are not.
    let progress = client.progress().join("");
    assert!(
        progress.contains("flood") && !progress.contains('\u{1b}'),
        "{progress:?}"
    );
    assert!(
        result.to_string().len() < 1 << 20,
        "{} bytes of result",
        result.to_string().len()
    );
    let again = reply(&mut client, &thread_of(&result), "#shell echo goes''-on");
    assert!(content(&again).contains("goes-on"), "{again:#}");
    bystander.works(&mut client);
    server_is_small(&client);
    records_are_small(&world);
    leaves_nothing(&world, client);
}

/// One line without an end.
fn a_line_that_never_ends(lane: Lane) {
    let Some(world) = World::new(lane) else { return };
    let mut client = McpClient::start(&world);
    let mut bystander = Bystander::arrive(&mut client);
    let call = begin(
        &mut client,
        "head -c 300000000 /dev/zero | tr '\\0' x; echo; echo ended",
    );
    bystander.works(&mut client);
    let result = client.answer(call)["result"].clone();
    completed(&result);
    server_is_small(&client);
    records_are_small(&world);
}

/// What is sent to the model's endpoint and to the proxy is refused without being taken in, and the refusal is told.
fn a_flood_at_the_loopback_endpoints(lane: Lane) {
    let Some(world) = World::new(lane) else { return };
    let mut client = McpClient::start(&world);
    let mut bystander = Bystander::arrive(&mut client);
    let flood = "true endpoints; head -c 200000000 /dev/zero > /tmp/big; \
        curl -s -m 20 -H 'Expect:' -H 'Content-Type: application/json' --data-binary @/tmp/big -o /dev/null \
            -w 'model=%{http_code} ' http://127.0.0.1:18080/v1/responses; \
        curl -s -m 20 -H 'Expect:' --data-binary @/tmp/big -o /dev/null -w 'files=%{http_code} ' http://127.0.0.1:18080/v1/files; \
        curl -s -m 20 -x http://127.0.0.1:18081 -H 'Expect:' --data-binary @/tmp/big -o /dev/null -w 'proxy=%{http_code} ' http://example.com/; \
        for i in 1 2 3 4 5 6 7 8; do timeout 5 sh -c 'cat /dev/zero > /dev/tcp/127.0.0.1/18081' 2>/dev/null & \
            timeout 5 bash -c 'cat /dev/zero > /dev/tcp/127.0.0.1/18080' 2>/dev/null & \
            timeout 5 bash -c 'cat /dev/zero > /dev/tcp/127.0.0.1/18081' 2>/dev/null & done; wait; echo over''-now";
    let call = begin(&mut client, flood);
    bystander.works(&mut client);
    let result = client.answer(call)["result"].clone();
    completed(&result);
    let text = content(&result);
    assert!(text.contains("over-now"), "{result:#}");
    for taken in ["model=200", "files=200", "proxy=200"] {
        assert!(!text.contains(taken), "{result:#}");
    }
    let denied = result["structuredContent"]["egressDenied"].to_string();
    assert!(
        denied.contains("example.com") && denied.contains("howToAllow"),
        "{denied}"
    );
    bystander.works(&mut client);
    server_is_small(&client);
    records_are_small(&world);
}

/// The longest answer that the scripted model gives.
fn a_model_that_says_very_much(lane: Lane) {
    let Some(world) = World::new(lane) else { return };
    let mut client = McpClient::start(&world);
    let mut bystander = Bystander::arrive(&mut client);
    let result = start(&mut client, "#long 8000000");
    assert!(
        content(&result).contains("The quick brown fox"),
        "{}",
        content(&result).len()
    );
    bystander.works(&mut client);
    server_is_small(&client);
}

on_every_lane!(
    a_command_that_prints_without_end,
    a_line_that_never_ends,
    a_flood_at_the_loopback_endpoints,
    a_model_that_says_very_much,
);
