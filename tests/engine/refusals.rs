//! Bad input and missing things: a clear error, an exit code of its own, and nothing half-made stays.

use crate::support::client::McpClient;
use crate::support::lane::Lane;
use crate::support::world::World;
use codex_mcp::session::store::record::EndCause;
use serde_json::json;
use std::fs;
use std::process::Output;

fn run(world: &World, args: &[&str]) -> Output {
    let mut command = world.codex_mcp(&["run"]);
    command.args(args).output().unwrap()
}

#[track_caller]
fn refused(world: &World, output: &Output, code: i32, words: &[&str]) {
    told(output, code, words);
    assert!(
        world.session_directories().is_empty(),
        "{:?}",
        world.session_directories()
    );
}

#[track_caller]
fn told(output: &Output, code: i32, words: &[&str]) {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{stderr}");
    for word in words {
        assert!(stderr.contains(word), "{word:?} is not in:\n{stderr}");
    }
}

fn image_missing(lane: Lane) {
    let Some(world) = World::new(lane) else { return };
    let output = run(&world, &["hi", "--image", "localhost/codex-mcp:no-such-tag"]);
    refused(
        &world,
        &output,
        5,
        &["localhost/codex-mcp:no-such-tag", "codex-mcp image build"],
    );
}

/// An image that somebody else made: no Codex in it.
fn codex_missing_in_the_image(lane: Lane) {
    let Some(world) = World::new(lane) else { return };
    let image = tiny_image(&world, &[]);
    let output = run(&world, &["hi", "--image", &image.reference]);
    refused(&world, &output, 5, &[&image.reference, "codex-mcp image build"]);
}

fn wrong_guest_contract(lane: Lane) {
    let Some(world) = World::new(lane) else { return };
    let image = tiny_image(
        &world,
        &[
            "LABEL io.github.codex-mcp.codex-version=0.169.0",
            "LABEL io.github.codex-mcp.guest-contract=999",
        ],
    );
    let output = run(&world, &["hi", "--image", &image.reference]);
    refused(&world, &output, 5, &["999", "codex-mcp image build --rebuild"]);
}

/// The labels are right and the program is not there: found out when it is started.
fn labels_that_lie_about_codex(lane: Lane) {
    let Some(world) = World::new(lane) else { return };
    let contract = format!(
        "LABEL io.github.codex-mcp.guest-contract={}",
        codex_mcp::wire::contract::CONTRACT
    );
    let image = tiny_image(&world, &["LABEL io.github.codex-mcp.codex-version=0.169.0", &contract]);
    let output = run(&world, &["hi", "--image", &image.reference]);
    refused(&world, &output, 5, &["/opt/codex/bin/codex", "codex-mcp image verify"]);
}

/// An image that is removed with this value.
struct TinyImage<'w> {
    world: &'w World,
    reference: String,
}

impl Drop for TinyImage<'_> {
    fn drop(&mut self) {
        let _ = self
            .world
            .lane
            .engine()
            .args(["rmi", "--force", &self.reference])
            .output();
    }
}

/// Imports an image that holds mount points and nothing else.
fn tiny_image<'w>(world: &'w World, changes: &[&str]) -> TinyImage<'w> {
    let tree = world.path("tree");
    for directory in [
        "tmp",
        "home/codex",
        "var/lib/codex",
        "run/codex-mcp",
        "workspace",
        "proc",
        "dev",
        "sys",
        "etc",
    ] {
        fs::create_dir_all(tree.join(directory)).unwrap();
    }
    fs::write(tree.join("run/codex-mcp/guest"), "").unwrap();
    let archive = world.path("tree.tar");
    let packed = std::process::Command::new("tar")
        .arg("-C")
        .arg(&tree)
        .arg("-cf")
        .arg(&archive)
        .arg(".")
        .status()
        .unwrap();
    assert!(packed.success());
    world.give_to_user(world.root());
    let reference = format!(
        "localhost/codex-mcp-test:{}",
        world.root().file_name().unwrap().to_str().unwrap().to_lowercase()
    );
    let mut import = world.lane.engine();
    import.arg("import");
    for change in changes {
        import.args(["--change", change]);
    }
    let imported = import.arg(&archive).arg(&reference).output().unwrap();
    assert!(
        imported.status.success(),
        "{}",
        String::from_utf8_lossy(&imported.stderr)
    );
    TinyImage { world, reference }
}

fn workspace_that_is_not_there(lane: Lane) {
    let Some(world) = World::new(lane) else { return };
    let output = run(&world, &["hi", "--workspace", "/no/such/folder"]);
    refused(&world, &output, 2, &["/no/such/folder"]);
}

fn workspace_that_is_the_root(lane: Lane) {
    let Some(world) = World::new(lane) else { return };
    let output = run(&world, &["hi", "--workspace", "/"]);
    refused(&world, &output, 2, &["/ is never a workspace"]);
}

fn provider_unreachable(lane: Lane) {
    let Some(world) = World::new(lane) else { return };
    let address = world.model.base_url();
    // Port 1 on loopback: nothing listens there.
    world.edit_config(&address, "http://127.0.0.1:1/v1");
    let output = run(&world, &["hi"]);
    told(&output, 7, &["127.0.0.1:1", "providers.scripted.base_url"]);
    // Its thread was there before its model was not.
    assert_eq!(world.rests(EndCause::ServerEnded), 1);
}

fn key_missing(lane: Lane) {
    let Some(world) = World::new(lane) else { return };
    let address = format!("base_url = \"{}\"", world.model.base_url());
    world.edit_config(&address, &format!("{address}\nkey = {{ env = \"NO_SUCH_KEY_HERE\" }}"));
    let output = run(&world, &["hi"]);
    refused(&world, &output, 7, &["NO_SUCH_KEY_HERE"]);
}

fn prompt_empty_or_too_long(lane: Lane) {
    let Some(world) = World::new(lane) else { return };
    refused(&world, &run(&world, &[" "]), 2, &["empty"]);
    let mut client = McpClient::start(&world);
    let result = client.tool("codex", json!({"prompt": "x".repeat(1_048_577)}));
    assert_eq!(result["isError"], true);
    let text = result["content"][0]["text"].as_str().unwrap();
    assert!(text.contains("prompt") && text.contains("1048576"), "{text}");
}

fn rootless_limits_are_refused_by_default(lane: Lane) {
    let Some(world) = World::new(lane) else { return };
    world.edit_config("best-effort", "required");
    let output = run(&world, &["#text started"]);
    if std::path::Path::new("/sys/fs/cgroup/cgroup.controllers").exists() && output.status.success() {
        // On cgroup v2 with its controllers delegated the limits hold, and there is nothing to refuse.
        assert!(String::from_utf8_lossy(&output.stdout).contains("started"));
        return;
    }
    refused(&world, &output, 6, &["memory", "cpus", "pids", "cgroup", "best-effort"]);
}

fn no_engine(lane: Lane) {
    let Some(world) = World::new(lane) else { return };
    let mut command = world.codex_mcp(&["run", "hi"]);
    let output = command.env("PATH", world.path("empty")).output().unwrap();
    refused(&world, &output, 4, &[lane.runtime(), "install"]);
}

fn docker_not_running(lane: Lane) {
    let Some(world) = World::new(lane) else { return };
    let mut command = world.codex_mcp(&["run", "hi"]);
    let output = command
        .env("DOCKER_HOST", "unix:///no/such/docker.sock")
        .output()
        .unwrap();
    refused(&world, &output, 4, &["docker", "/no/such/docker.sock"]);
}

fn unknown_configuration_key(lane: Lane) {
    let Some(world) = World::new(lane) else { return };
    world.edit_config("memory =", "memmory =");
    let output = run(&world, &["hi"]);
    refused(&world, &output, 3, &["memmory", "memory", "config.toml"]);
}

on_every_lane!(
    image_missing,
    codex_missing_in_the_image,
    wrong_guest_contract,
    labels_that_lie_about_codex,
    workspace_that_is_not_there,
    workspace_that_is_the_root,
    provider_unreachable,
    key_missing,
    prompt_empty_or_too_long,
    no_engine,
    unknown_configuration_key,
);
on_lanes!(
    [RootlessPodman] => rootless_limits_are_refused_by_default;
    [Docker] => docker_not_running;
);
