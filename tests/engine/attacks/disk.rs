//! Disks: the host's, by every way to fill one, and the container's own in memory.

use super::{
    Bystander, another_server_works, completed, content, end_of, leaves_nothing, reply, server_is_small, sessions_json,
    start, thread_of,
};
use crate::support::client::McpClient;
use crate::support::lane::Lane;
use crate::support::world::World;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A world whose sessions may hold little.
fn narrow_world(lane: Lane) -> Option<World> {
    let world = World::with_config(lane, "[workspace]\nmax_files = 3000\n")?;
    world.edit_config("[limits]\n", "[limits]\nworkspace = \"128MiB\"\n");
    Some(world)
}

/// Bytes that are allocated below a directory.
fn allocated(directory: &Path) -> u64 {
    let output = Command::new("du")
        .args(["-s", "--block-size=1"])
        .arg(directory)
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    text.split_whitespace().next().unwrap().parse().unwrap()
}

/// Runs what fills, beside a bystander; returns the words of its end.
#[track_caller]
fn stopped(world: &World, client: &mut McpClient, command: &str) -> String {
    let mut bystander = Bystander::arrive(client);
    let result = start(client, &format!("#shell {command}"));
    assert_eq!(result["isError"], true, "{result:#}");
    let end = end_of(world, &thread_of(&result));
    assert_eq!(end["cause"], "disk_limit", "{end}");
    let words = content(&result).to_owned();
    assert!(words.contains(end["why"].as_str().unwrap()), "{words}");
    bystander.works(client);
    eprintln!("{}: {words}", world.lane.name());
    words
}

/// Writes on until it is ended, but no more than this machine has room for.
const FILL: &str = "dd if=/dev/zero bs=1M count=4000 2>/dev/null; sleep 1000";

fn one_large_file(lane: Lane) {
    let Some(world) = narrow_world(lane) else { return };
    let mut client = McpClient::start(&world);
    let words = stopped(
        &world,
        &mut client,
        &format!("true fill-one; {}", FILL.replace("zero", "zero of=big")),
    );
    assert!(
        words.contains("disk limit 128MiB reached") && words.contains("raise limits.workspace"),
        "{words}"
    );
    another_server_works(&world);
    leaves_nothing(&world, client);
}

/// What Codex keeps for itself counts as well.
fn a_large_file_in_the_codex_home(lane: Lane) {
    let Some(world) = narrow_world(lane) else { return };
    let mut client = McpClient::start(&world);
    let fill = FILL.replace("zero", "zero of=/var/lib/codex/sessions/big");
    let words = stopped(&world, &mut client, &format!("true fill-home; {fill}"));
    assert!(words.contains("disk limit 128MiB reached"), "{words}");
    leaves_nothing(&world, client);
}

const MANY: &str =
    "true many-files; perl -e 'mkdir \"many\"; for (1..20000) { open my $f, \">\", \"many/$_\" } sleep 1000'";

fn many_tiny_files(lane: Lane) {
    let Some(world) = narrow_world(lane) else { return };
    let mut client = McpClient::start(&world);
    let words = stopped(&world, &mut client, MANY);
    assert!(
        words.contains("more than 3000 files and directories") && words.contains("raise workspace.max_files"),
        "{words}"
    );
    leaves_nothing(&world, client);
}

/// In a directory that nobody may enter, what the disk lost is taken for what it holds.
fn files_where_nobody_may_look(lane: Lane) {
    let Some(world) = narrow_world(lane) else { return };
    let mut client = McpClient::start(&world);
    let hide = "mkdir hidden; exec 3> hidden/big; chmod 0 hidden; dd if=/dev/zero bs=1M count=2000 2>/dev/null >&3; sleep 1000";
    let words = stopped(&world, &mut client, hide);
    assert!(words.contains("disk limit 128MiB reached"), "{words}");
    leaves_nothing(&world, client);
}

/// A file of a terabyte that takes no room ends nothing, and is neither read nor brought back.
fn a_sparse_file_takes_no_room(lane: Lane) {
    let Some(world) = narrow_world(lane) else { return };
    let mut client = McpClient::start(&world);
    let mut bystander = Bystander::arrive(&mut client);
    let result = start(
        &mut client,
        "#shell truncate -s 1T sparse && truncate -s 100M fits && echo small > small",
    );
    completed(&result);
    assert_eq!(result["structuredContent"]["changes"]["withheld"], 1, "{result:#}");
    let thread = thread_of(&result);
    bystander.works(&mut client);
    let changes = sessions_json(&world, &["diff", &thread]);
    assert_eq!(changes["withheld"][0]["path"], "sparse", "{changes:#}");
    assert_eq!(changes["withheld"][0]["reason"], "too_large");
    let brought: Vec<&Value> = changes["files"]
        .as_array()
        .unwrap()
        .iter()
        .map(|file| &file["path"])
        .collect();
    assert_eq!(brought, ["fits", "small"]);
    let own: u64 = world
        .session_directories()
        .iter()
        .map(|directory| allocated(directory))
        .sum();
    assert!(own < 128 << 20, "looking at it cost {own} bytes");
    server_is_small(&client);
    leaves_nothing(&world, client);
}

/// The container's own file systems are full at their size, and nothing else is.
fn scratch_file_systems_are_full_at_their_size(lane: Lane) {
    let Some(world) = World::new(lane) else { return };
    world.edit_config("[limits]\n", "[limits]\ntmp = \"8MiB\"\n");
    let mut client = McpClient::start(&world);
    let mut bystander = Bystander::arrive(&mut client);
    let fill = "#shell for d in /tmp /home/codex /dev/shm; do dd if=/dev/zero of=$d/fill bs=1M count=300 2>&1 | grep -o 'No space left on device'; \
        echo $d=$(stat -c %s $d/fill); done; \
        find /tmp /home/codex -type f -delete; touch /tmp/again && echo usable''-again";
    let result = start(&mut client, fill);
    completed(&result);
    let text = content(&result);
    assert_eq!(text.matches("No space left on device").count(), 3, "{result:#}");
    for full in ["/tmp=8388608", "/home/codex=8388608", "usable-again"] {
        assert!(text.contains(full), "{full}: {result:#}");
    }
    bystander.works(&mut client);
}

/// A small disk for the state directory, which only root may have.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn below(world: &World, size: &str) -> Option<Self> {
        if !nix::unistd::geteuid().is_root() {
            eprintln!("not asserted: only root can mount a small disk");
            return None;
        }
        let path = world.path("state");
        std::fs::create_dir_all(&path).unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={size},mode=0700"), "tmpfs"])
            .arg(&path)
            .status()
            .unwrap();
        assert!(mounted.success());
        world.give_to_user(&path);
        Some(Self(path))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let unmounted = Command::new("umount").arg("--lazy").arg(&self.0).status();
        assert!(unmounted.is_ok_and(|status| status.success()) || std::thread::panicking());
    }
}

/// A world on a disk of 600 MiB of which 400 have to stay free.
fn small_disk(lane: Lane) -> Option<(World, SmallDisk)> {
    let world = World::with_config(lane, "[workspace]\nfree = \"400MiB\"\n")?;
    let disk = SmallDisk::below(&world, "600m")?;
    Some((world, disk))
}

fn a_disk_that_gets_short(lane: Lane) {
    let Some((world, disk)) = small_disk(lane) else { return };
    let mut client = McpClient::start(&world);
    let fill = "true fill-short; dd if=/dev/zero of=big bs=1M count=250 2>/dev/null; sleep 1000";
    let words = stopped(&world, &mut client, fill);
    assert!(
        words.contains("less than workspace.free = 400MiB") && words.contains("this session has written"),
        "{words}"
    );
    leaves_nothing(&world, client);
    drop(disk);
}

/// Space that no name leads to: its holder can't be told from others, and goes all the same before the disk is full.
fn deleted_files_that_are_held_open(lane: Lane) {
    let Some((world, disk)) = small_disk(lane) else { return };
    let mut client = McpClient::start(&world);
    let hold = "exec 3> held; rm held; dd if=/dev/zero bs=1M count=450 2>/dev/null >&3; sleep 1000";
    let result = start(&mut client, &format!("#shell {hold}"));
    assert_eq!(result["isError"], true, "{result:#}");
    let words = content(&result).to_owned();
    assert!(
        words.contains("less than half of workspace.free = 400MiB") && words.contains("deleted files open"),
        "{words}"
    );
    // With its container the space is free again.
    let mut bystander = Bystander::arrive(&mut client);
    bystander.works(&mut client);
    let again = reply(&mut client, &thread_of(&result), "#shell echo goes''-on");
    assert!(content(&again).contains("goes-on"), "{again:#}");
    leaves_nothing(&world, client);
    drop(disk);
}

on_every_lane!(
    one_large_file,
    a_large_file_in_the_codex_home,
    many_tiny_files,
    files_where_nobody_may_look,
    a_sparse_file_takes_no_room,
    scratch_file_systems_are_full_at_their_size,
);
// Rootless podman has a mount namespace of its own, in which a disk that was mounted since is not there.
on_lanes!([RootfulPodman, Docker] => a_disk_that_gets_short, deleted_files_that_are_held_open);
