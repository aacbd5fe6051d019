//! Links to everywhere: none is followed on the host, and those that would lead anybody else astray do not come back.

use super::{
    Bystander, completed, content, leaves_nothing, picture, refused, server_is_small, sessions, sessions_json, start,
    thread_of,
};
use crate::support::client::McpClient;
use crate::support::lane::Lane;
use crate::support::world::World;
use serde_json::Value;
use std::fs;

/// What only a link followed on the host could read.
const SECRET: &str = "the-hosts-own-secret";

#[track_caller]
fn reason<'r>(list: &'r Value, path: &str) -> &'r str {
    let found = list.as_array().unwrap().iter().find(|one| one["path"] == path);
    let found = found.unwrap_or_else(|| panic!("{path} is not in {list:#}"));
    found["reason"].as_str().unwrap()
}

fn links_to_everywhere(lane: Lane) {
    let Some(world) = World::new(lane) else { return };
    let secret = world.path("secret");
    fs::create_dir(&secret).unwrap();
    fs::write(secret.join("file"), SECRET).unwrap();
    fs::write(world.workspace().join("kept"), "kept\n").unwrap();
    world.give_to_user(world.root());
    let before = picture(&world.workspace());
    let outside = picture(&secret);
    let mut client = McpClient::start(&world);
    let mut bystander = Bystander::arrive(&mut client);
    let farm = format!(
        "#shell ln -s {0}/file absolute; ln -s ../secret/file up; ln -s / root; ln -s .. above; ln -s a b; ln -s b a; ln -s . self; \
         mkdir d; ln -s hello.txt d/../fine; ln -s d/../../secret/file winding; ln -s .git/config configuration; ln -s /proc/self/mem memory; \
         ln -s /dev/zero zero; ln -s /dev/stdin input; rm kept; ln -s {0} kept; ln hello.txt hard-1; ln hello.txt hard-2; \
         mkfifo pipe; perl -e 'use Socket; socket(S, PF_UNIX, SOCK_STREAM, 0); bind(S, sockaddr_un(\"sock\"))'; \
         ln -s \"$(printf 'x%.0s' $(seq 4000))\" long; mkdir -p deep/er; ln -s ../../../../../../../etc/passwd deep/er/passwd; echo new > new",
        secret.display()
    );
    let result = start(&mut client, &farm);
    completed(&result);
    assert!(
        result["structuredContent"]["changes"]["withheld"].as_u64() >= Some(4),
        "{result:#}"
    );
    assert!(!result.to_string().contains(SECRET));
    let thread = thread_of(&result);
    bystander.works(&mut client);
    server_is_small(&client);
    client.close_stdin();
    client.wait();

    let changes = sessions_json(&world, &["diff", &thread]);
    let files = changes["files"].as_array().unwrap();
    for link in [
        "absolute",
        "up",
        "root",
        "above",
        "a",
        "b",
        "self",
        "winding",
        "configuration",
        "memory",
        "zero",
        "kept",
        "deep/er/passwd",
        "new",
    ] {
        assert!(
            files.iter().any(|file| file["path"] == link),
            "{link} is listed: {changes:#}"
        );
    }
    for name in ["hello.txt", "hard-1", "hard-2"] {
        assert_eq!(reason(&changes["withheld"], name), "hard_linked");
    }
    for name in ["pipe", "sock"] {
        assert_eq!(reason(&changes["withheld"], name), "special");
    }
    let patch = sessions(&world, &["diff", &thread]);
    assert!(patch.status.success() && !String::from_utf8_lossy(&patch.stdout).contains(SECRET));

    let preview = sessions_json(&world, &["apply", &thread, "--dry-run"]);
    for (link, words) in [
        ("absolute", "an absolute path"),
        ("root", "an absolute path"),
        ("memory", "an absolute path"),
        ("kept", "an absolute path"),
        ("up", "leads out of the folder"),
        ("above", "leads out of the folder"),
        ("deep/er/passwd", "leads out of the folder"),
        ("winding", "goes up after going down"),
        ("configuration", "git's own directory"),
    ] {
        let why = reason(&preview["refused"], link);
        assert!(why.contains(words), "{link}: {why}");
    }
    let said = refused(&sessions(&world, &["apply", &thread]));
    assert!(
        said.contains("nothing was written") && said.contains("never come back"),
        "{said}"
    );
    assert_eq!(picture(&world.workspace()), before, "the folder is as it was");
    assert_eq!(picture(&secret), outside);
    leaves_nothing(&world, McpClient::start(&world));
}

/// A folder of the host that holds links of its own: they are copied as links.
fn links_of_the_hosts_folder(lane: Lane) {
    let Some(world) = World::new(lane) else { return };
    let secret = world.path("secret");
    fs::write(&secret, SECRET).unwrap();
    let at = |name: &str| world.workspace().join(name);
    for (target, link) in [
        ("../secret", "up"),
        ("/", "root"),
        ("loop-b", "loop-a"),
        ("loop-a", "loop-b"),
        (".", "self"),
    ] {
        std::os::unix::fs::symlink(target, at(link)).unwrap();
    }
    std::os::unix::fs::symlink(&secret, at("absolute")).unwrap();
    let mut client = McpClient::start(&world);
    let result = start(
        &mut client,
        "#shell cat up absolute; readlink up root loop-a self | tr '\\n' ' '; ls root/work 2>&1 | head -1; echo looked",
    );
    completed(&result);
    let text = content(&result);
    assert!(
        text.contains("../secret / loop-b . ") && text.contains("looked"),
        "{result:#}"
    );
    assert!(!text.contains(SECRET), "{result:#}");
    assert_eq!(
        result["structuredContent"]
            .get("changes")
            .map(|changes| changes["files"].clone()),
        Some(Value::Array(Vec::new()))
    );
    leaves_nothing(&world, client);
}

/// 100,000 links, half of them hard.
fn a_farm_of_a_hundred_thousand_links(lane: Lane) {
    let Some(world) = World::new(lane) else { return };
    let before = picture(&world.workspace());
    let mut client = McpClient::start(&world);
    let mut bystander = Bystander::arrive(&mut client);
    let began = std::time::Instant::now();
    let farm = "#shell perl -e 'mkdir \"s\"; mkdir \"h\"; open F, \">\", \"f\"; for (1..50000) { symlink \"/etc/passwd\", \"s/$_\"; link \"f\", \"h/$_\" } print \"farmed\"'";
    let result = start(&mut client, farm);
    completed(&result);
    assert!(content(&result).contains("farmed"), "{}", content(&result));
    eprintln!(
        "{}: a turn that makes 100,000 links: {:?}",
        lane.name(),
        began.elapsed()
    );
    let changes = &result["structuredContent"]["changes"];
    assert_eq!(changes["withheld"], 50_001, "the hard ones, with the file itself");
    assert!(
        result.to_string().len() < 1 << 20,
        "the result is no longer than others"
    );
    bystander.works(&mut client);
    server_is_small(&client);
    let thread = thread_of(&result);
    client.close_stdin();
    client.wait();
    let began = std::time::Instant::now();
    let said = refused(&sessions(&world, &["apply", &thread]));
    eprintln!("{}: refused after {:?}", lane.name(), began.elapsed());
    assert!(
        said.contains("nothing was written") && said.contains("an absolute path") && said.contains("more"),
        "{said}"
    );
    assert!(said.len() < 10_000, "a few are named: {said}");
    assert_eq!(picture(&world.workspace()), before);
    leaves_nothing(&world, McpClient::start(&world));
}

on_every_lane!(links_to_everywhere, links_of_the_hosts_folder);
// What is slow about it is this host's part, which knows no engine; the two owners that a copy can have are both here.
on_lanes!([RootfulPodman, RootlessPodman] => a_farm_of_a_hundred_thousand_links);
