//! Files: very many, and with names that nothing but a kernel takes for names.

use super::{
    Bystander, completed, content, leaves_nothing, name, picture, refused, reply, server_is_small, sessions,
    sessions_json, start, thread_of,
};
use crate::support::client::McpClient;
use crate::support::lane::Lane;
use crate::support::world::World;
use serde_json::json;
use std::ffi::OsString;
use std::fs;
use std::time::Instant;

const MANY: usize = 200_000;

/// A folder of 200,000 files, in 200 directories.
fn fill(world: &World) {
    for directory in 0..200 {
        let directory = world.workspace().join(format!("d{directory}"));
        fs::create_dir(&directory).unwrap();
        for file in 0..MANY / 200 {
            fs::write(directory.join(format!("file-{file}")), "x\n").unwrap();
        }
    }
    world.give_to_user(&world.workspace());
}

fn two_hundred_thousand_files(lane: Lane) {
    let Some(world) = World::with_config(lane, "[workspace]\nmax_files = 201000\n") else {
        return;
    };
    let elsewhere = world.path("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    world.give_to_user(&elsewhere);
    let here = world.workspace();
    world.edit_config(
        "[workspace]\n",
        &format!("[workspace]\nroots = {:?}\n", [&here, &elsewhere]),
    );
    fill(&world);
    let mut client = McpClient::start(&world);
    let other = client.tool("codex", json!({"prompt": "#text ready", "cwd": elsewhere}));
    let other = thread_of(&other);
    let began = Instant::now();
    let call = client.begin_tool(
        "codex",
        json!({"prompt": "#shell find . -type f | wc -l; echo changed >> d7/file-7; rm d8/file-8; mv d9/file-9 d9/moved; echo new > new"}),
    );
    // Another session works while this one is copied.
    let meanwhile = reply(&mut client, &other, "#shell echo mean''while");
    assert!(content(&meanwhile).contains("meanwhile"), "{meanwhile:#}");
    let result = client.answer(call)["result"].clone();
    completed(&result);
    eprintln!(
        "{}: snapshot of {MANY} files, a turn, its changes: {:?}",
        lane.name(),
        began.elapsed()
    );
    assert!(content(&result).contains("200001"), "{result:#}");
    let changes = &result["structuredContent"]["changes"];
    assert_eq!(changes["files"].as_array().unwrap().len(), 4, "{changes:#}");
    let thread = thread_of(&result);
    server_is_small(&client);
    client.close_stdin();
    client.wait();
    let began = Instant::now();
    let applied = sessions_json(&world, &["apply", &thread]);
    eprintln!("{}: apply: {:?}", lane.name(), began.elapsed());
    assert_eq!(applied["files"].as_array().unwrap().len(), 5, "{applied:#}");
    assert_eq!(
        fs::read_to_string(world.workspace().join("d7/file-7")).unwrap(),
        "x\nchanged\n"
    );
    assert!(world.workspace().join("d9/moved").exists() && !world.workspace().join("d8/file-8").exists());
    leaves_nothing(&world, McpClient::start(&world));
}

/// Refused by the setting's name, before anything runs, and nothing is left of it.
fn a_folder_with_too_many_files(lane: Lane) {
    let Some(world) = World::with_config(lane, "[workspace]\nmax_files = 1000\n") else {
        return;
    };
    let large = world.path("large");
    fs::create_dir(&large).unwrap();
    for file in 0..1001 {
        fs::write(large.join(file.to_string()), "").unwrap();
    }
    world.give_to_user(world.root());
    world.edit_config(
        "[workspace]\n",
        &format!("[workspace]\nroots = {:?}\n", [world.workspace(), large.clone()]),
    );
    let mut client = McpClient::start(&world);
    let mut bystander = Bystander::arrive(&mut client);
    let there = world.session_directories();
    let result = client.tool("codex", json!({"prompt": "#text never", "cwd": large}));
    assert_eq!(result["isError"], true, "{result:#}");
    let words = content(&result);
    assert!(
        words.contains("more than 1000 files and directories") && words.contains("raise workspace.max_files"),
        "{words}"
    );
    assert_eq!(world.session_directories(), there, "nothing is left of it");
    assert_eq!(world.running().len(), 1, "no container was started for it");
    bystander.works(&mut client);
}

/// Names that are bytes and no text, or mean something to a shell, to git, or to another file system.
fn odd_names() -> Vec<OsString> {
    let mut names: Vec<OsString> = [
        &b"new\nline"[..],
        b"\xff\xfe\x80",
        b"latin-\xe9",
        b"\"quoted\" 'twice'",
        b"-rf",
        b"--",
        b"$(touch PWNED)",
        b"`touch PWNED`; touch PWNED",
        b"tab\tand \x1b[2J escape",
        b"back\\slash",
        b" leading and trailing ",
        b"*",
        b"~",
        b":(exclude)x",
        b"{a => b}",
        "\u{202e}txt.exe".as_bytes(),
        b"CON",
        b"a:b",
    ]
    .map(name)
    .to_vec();
    names.push(name(&[b'n'; 255]));
    names
}

/// Adds a line to every file of the folder, whatever its name, and makes one more of each beside it in a directory.
const TOUCH_ALL: &str = "#shell perl -e 'mkdir \"made\"; opendir D, \".\"; for my $n (readdir D) { next unless -f \"./$n\"; \
    open my $f, \">>\", \"./$n\"; print $f \"more\\n\"; close $f; \
    open my $m, \">\", \"made/$n\" or die $!; print $m \"made\\n\"; close $m } print \"touched\"'";

fn names_that_are_no_text(lane: Lane) {
    let Some(world) = World::new(lane) else { return };
    names_come_and_go(&world);
}

fn names_that_are_no_text_in_a_repository(lane: Lane) {
    let Some(world) = World::new(lane) else { return };
    super::git::make_repository(&world.workspace());
    names_come_and_go(&world);
}

fn names_come_and_go(world: &World) {
    let names = odd_names();
    for name in &names {
        fs::write(world.workspace().join(name), "host\n").unwrap();
    }
    world.give_to_user(&world.workspace());
    let mut client = McpClient::start(world);
    let mut bystander = Bystander::arrive(&mut client);
    let result = start(&mut client, TOUCH_ALL);
    completed(&result);
    assert!(content(&result).contains("touched"), "{result:#}");
    let changes = &result["structuredContent"]["changes"];
    assert_eq!(
        changes["files"].as_array().unwrap().len(),
        2 * (names.len() + 1),
        "{changes:#}"
    );
    assert!(
        !result["content"].to_string().contains("\\u001b"),
        "no control sequence reaches whoever reads"
    );
    let thread = thread_of(&result);
    bystander.works(&mut client);
    client.close_stdin();
    client.wait();
    let stat = sessions(world, &["diff", &thread, "--stat"]);
    let stat = String::from_utf8(stat.stdout).unwrap();
    assert_eq!(stat.lines().count(), 2 * (names.len() + 1), "one line each: {stat}");
    assert!(!stat.contains('\u{1b}') && !stat.contains('\u{202e}'), "{stat}");
    let applied = sessions_json(world, &["apply", &thread]);
    assert_eq!(
        applied["files"].as_array().unwrap().len(),
        2 * (names.len() + 1),
        "{applied:#}"
    );
    for name in &names {
        let at = world.workspace();
        assert_eq!(fs::read_to_string(at.join(name)).unwrap(), "host\nmore\n", "{name:?}");
        assert_eq!(
            fs::read_to_string(at.join("made").join(name)).unwrap(),
            "made\n",
            "{name:?}"
        );
    }
    assert!(!world.workspace().join("PWNED").exists());
    leaves_nothing(world, McpClient::start(world));
}

/// Whatever some file system takes for `.git`: the host's does not go in, the session's does not come back.
fn names_that_mean_git(lane: Lane) {
    let Some(world) = World::new(lane) else { return };
    let at = |name: &str| world.workspace().join(name);
    fs::create_dir_all(at(".GIT/hooks")).unwrap();
    fs::write(at(".GIT/hooks/pre-commit"), "host\n").unwrap();
    fs::write(at("git~1"), "host\n").unwrap();
    world.give_to_user(&world.workspace());
    let before = picture(&world.workspace());
    let mut client = McpClient::start(&world);
    let mut bystander = Bystander::arrive(&mut client);
    let result = start(
        &mut client,
        "#shell ls -A | tr '\\n' ' '; for d in .Git .giT sub/.git sub/.GIT/hooks .git/hooks 'git~2' '.git ' '.git.' sub/.g$(printf '\\u200c')it; \
         do mkdir -p \"$d\" && echo evil > \"$d/config\"; done; echo evil >> git~1; echo fine > fine; echo '' 'end of it'",
    );
    completed(&result);
    let text = content(&result);
    assert!(
        text.contains("end of it") && !text.contains(".GIT"),
        "it did not go in: {result:#}"
    );
    let thread = thread_of(&result);
    bystander.works(&mut client);
    client.close_stdin();
    client.wait();
    let changes = sessions_json(&world, &["diff", &thread]);
    let withheld = changes["withheld"].to_string();
    for name in ["\".Git\"", "\".giT\"", "\"sub/.git\"", "\"sub/.GIT\""] {
        assert!(withheld.contains(name), "{name} is withheld by name: {changes:#}");
    }
    let preview = sessions_json(&world, &["apply", &thread, "--dry-run"]);
    let refusals = preview["refused"].as_array().unwrap();
    assert!(refusals.len() >= 4, "{preview:#}");
    for refusal in refusals {
        assert!(
            refusal["reason"].as_str().unwrap().contains("git's own directory"),
            "{refusal}"
        );
    }
    let written = preview["wouldWrite"].as_array().unwrap();
    assert_eq!(written.len(), 1, "{preview:#}");
    assert_eq!(written[0]["path"], "fine");
    let said = refused(&sessions(&world, &["apply", &thread]));
    assert!(said.contains("never come back from a session"), "{said}");
    assert_eq!(picture(&world.workspace()), before);
    leaves_nothing(&world, McpClient::start(&world));
}

on_every_lane!(
    a_folder_with_too_many_files,
    names_that_are_no_text,
    names_that_are_no_text_in_a_repository,
    names_that_mean_git,
);
// It takes minutes, and what is slow about it is this host's part, which knows no engine.
on_request!(two_hundred_thousand_files);
