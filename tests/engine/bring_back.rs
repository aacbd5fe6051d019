//! Changes come back by an apply only: whole or not at all, by a three-way merge, after each turn where the operator set that.

use crate::support::client::McpClient;
use crate::support::lane::Lane;
use crate::support::world::World;
use serde_json::{Value, json};
use std::fs;
use std::path::Path;
use std::process::Command;

/// The folder becomes a repository with one commit.
fn make_repository(world: &World) {
    let git = |args: &[&str]| {
        let mut command: Command = world.lane.command("git");
        let done = command
            .args(["-c", "user.name=t", "-c", "user.email=t@example.com"])
            .args(args)
            .current_dir(world.workspace())
            .output()
            .unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    };
    fs::write(world.workspace().join(".gitignore"), "ignored/\n").unwrap();
    fs::create_dir(world.workspace().join("ignored")).unwrap();
    fs::write(world.workspace().join("ignored/private"), "p").unwrap();
    world.give_to_user(&world.workspace());
    git(&["init", "--quiet"]);
    git(&["add", "."]);
    git(&["commit", "--quiet", "-m", "first"]);
}

fn read(world: &World, name: &str) -> String {
    fs::read_to_string(world.workspace().join(name)).unwrap_or_default()
}

fn sessions(world: &World, args: &[&str]) -> (i32, Value, String) {
    let output = world
        .codex_mcp(&[&["sessions"], args, &["--json"]].concat())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let value = serde_json::from_slice(&output.stdout).unwrap_or(Value::Null);
    (output.status.code().unwrap(), value, said)
}

fn a_thread_that_ran(world: &World, prompt: &str) -> String {
    let mut client = McpClient::start(world);
    let result = client.tool("codex", json!({ "prompt": prompt }));
    assert_eq!(result.get("isError"), None, "{result}");
    client.close_stdin();
    client.wait();
    result["structuredContent"]["threadId"].as_str().unwrap().to_owned()
}

/// Inside there is a repository with its history, and without what git ignores; a patch of what is made there applies.
fn a_snapshot_is_a_repository_and_its_patch_applies(lane: Lane) {
    let Some(world) = World::new(lane) else { return };
    make_repository(&world);
    let inside = "#shell git log --format=%s | head -n 1; ls ignored 2>&1; git status --porcelain; mkdir -p ignored made; \
                  echo built > ignored/output; echo new > made/file; echo more >> hello.txt; git commit -qam inside && echo committed";
    let mut client = McpClient::start(&world);
    let result = client.tool("codex", json!({ "prompt": inside }));
    let told = result["structuredContent"]["content"].as_str().unwrap().to_owned();
    assert!(told.contains("first") && told.contains("committed"), "{told}");
    assert!(told.contains("No such file"), "what git ignores was not copied: {told}");
    let files = result["structuredContent"]["changes"]["files"].to_string();
    assert!(files.contains("made/file") && files.contains("hello.txt"), "{files}");
    assert!(!files.contains("ignored"), "what it ignores is no change: {files}");
    client.close_stdin();
    client.wait();
    assert_eq!(read(&world, "hello.txt"), "hello\n", "nothing comes back by itself");

    let thread = result["structuredContent"]["threadId"].as_str().unwrap();
    let patch = world.path("the.patch");
    let diff = world
        .codex_mcp(&["sessions", "diff", thread, "--output", patch.to_str().unwrap()])
        .output()
        .unwrap();
    assert!(diff.status.success(), "{}", String::from_utf8_lossy(&diff.stderr));
    let applied = world
        .lane
        .command("git")
        .args(["apply", "--binary", "--check"])
        .arg(&patch)
        .current_dir(world.workspace())
        .output()
        .unwrap();
    assert!(applied.status.success(), "{}", String::from_utf8_lossy(&applied.stderr));
}

/// What both sides changed in different places is merged; a conflict writes nothing; what was applied is not asked for again.
fn an_apply_merges_or_writes_nothing(lane: Lane) {
    let Some(world) = World::new(lane) else { return };
    let lines = |first: &str, last: &str| format!("{first}\n2\n3\n4\n5\n6\n7\n8\n{last}\n");
    fs::write(world.workspace().join("both.txt"), lines("one", "nine")).unwrap();
    world.give_to_user(&world.workspace());
    let thread = a_thread_that_ran(
        &world,
        "#shell sed -i s/nine/NINE/ both.txt; echo made > made.txt; rm hello.txt; git init -q . && echo '[core]' >> .git/config",
    );
    fs::write(world.workspace().join("both.txt"), lines("ONE", "nine")).unwrap();
    fs::write(world.workspace().join("made.txt"), "mine\n").unwrap();
    let (code, _, said) = sessions(&world, &["apply", &thread]);
    assert_eq!(code, 6, "{said}");
    assert!(
        said.contains("made.txt") && said.contains("nothing was written"),
        "{said}"
    );
    assert_eq!(
        (read(&world, "both.txt"), read(&world, "hello.txt")),
        (lines("ONE", "nine"), "hello\n".to_owned())
    );

    fs::remove_file(world.workspace().join("made.txt")).unwrap();
    let (_, shown, _) = sessions(&world, &["diff", &thread]);
    let (code, ..) = sessions(&world, &["apply", &thread, "--expect-hash", &"0".repeat(64)]);
    assert_eq!(code, 6, "another patch than the one that was looked at");
    let hash = shown["patchSha256"].as_str().unwrap();
    let (code, applied, said) = sessions(&world, &["apply", &thread, "--expect-hash", hash]);
    assert_eq!(code, 0, "{said}");
    assert_eq!(applied["files"].as_array().unwrap().len(), 3, "{applied}");
    assert_eq!(read(&world, "both.txt"), lines("ONE", "NINE"));
    assert_eq!(read(&world, "made.txt"), "made\n");
    assert!(!world.workspace().join("hello.txt").exists());
    assert!(!world.workspace().join(".git").exists(), "a .git never comes back");
    // What is there is the user's now.
    fs::write(world.workspace().join("made.txt"), "mine after all\n").unwrap();
    let (code, applied, said) = sessions(&world, &["apply", &thread]);
    assert_eq!(
        (code, applied["files"].as_array().map(Vec::len)),
        (0, Some(0)),
        "{said}"
    );
    let audit = world.codex_mcp(&["audit", "show", "--json"]).output().unwrap();
    let audit = String::from_utf8(audit.stdout).unwrap();
    assert!(
        audit.contains("\"kind\":\"folder\"") && audit.contains("changes_written"),
        "{audit}"
    );
}

/// `workspace.apply = "turn"`: each completed turn writes to the folder, and what runs by itself there waits.
fn each_turn_brings_its_changes(lane: Lane) {
    let Some(world) = World::new(lane) else { return };
    world.edit_config("[codex]\n", "[workspace]\napply = \"turn\"\n[codex]\n");
    let mut client = McpClient::start(&world);
    let first = client.tool(
        "codex",
        json!({"prompt": "#shell echo 1 > a.txt; echo 'layout x' > .envrc"}),
    );
    assert_eq!(read(&world, "a.txt"), "1\n", "{first}");
    assert!(!world.workspace().join(".envrc").exists(), "{first}");
    let held = first["structuredContent"]["applied"]["held"].to_string();
    assert!(held.contains(".envrc"), "{held}");
    let thread = first["structuredContent"]["threadId"].as_str().unwrap().to_owned();
    // The user goes on with what came back, and so does the session elsewhere.
    fs::write(world.workspace().join("a.txt"), "mine\n").unwrap();
    let second = client.tool(
        "codex-reply",
        json!({"threadId": thread, "prompt": "#shell echo 2 > b.txt"}),
    );
    assert_eq!(
        (read(&world, "a.txt"), read(&world, "b.txt")),
        ("mine\n".to_owned(), "2\n".to_owned()),
        "{second}"
    );
    // A conflict leaves the folder as it is, and says so.
    let third = client.tool(
        "codex-reply",
        json!({"threadId": thread, "prompt": "#shell echo 3 > a.txt; echo 3 > c.txt"}),
    );
    assert_eq!(
        (read(&world, "a.txt"), read(&world, "c.txt")),
        ("mine\n".to_owned(), String::new())
    );
    let refused = third["structuredContent"]["applied"]["refused"].as_str().unwrap();
    assert!(refused.contains("a.txt"), "{refused}");
    assert_eq!(third.get("isError"), None, "the turn itself went well");
}

/// The folder itself, where the operator set that: written at once, `.git` apart; a call can't ask for it.
fn the_folder_itself_is_worked_on_where_that_is_set(lane: Lane) {
    let Some(world) = World::new(lane) else { return };
    if lane.user().is_none() {
        // As root, the folder has to belong to somebody else.
        let owned = |path: &Path| std::os::unix::fs::chown(path, Some(12345), Some(12345)).unwrap();
        owned(&world.workspace());
        owned(&world.workspace().join("hello.txt"));
    }
    world.edit_config("[codex]\n", "[workspace]\nmode = \"bind\"\n[codex]\n");
    let mut client = McpClient::start(&world);
    let prompt = "#shell echo there >> hello.txt; mkdir .git; touch .git/config; mv .git x; git init . ; ls -A";
    let result = client.tool("codex", json!({ "prompt": prompt }));
    assert_eq!(result.get("isError"), None, "{result}");
    assert_eq!(read(&world, "hello.txt"), "hello\nthere\n");
    assert!(!world.workspace().join(".git/config").exists());
    assert_eq!(result["structuredContent"].get("changes"), None, "{result}");
    client.close_stdin();
    client.wait();
    let left: Vec<_> = fs::read_dir(world.workspace())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert_eq!(left, ["hello.txt"], "placeholders are gone");
}

/// All of it through MCP, with the container there: begun, waited for, looked at, compared, applied, read, closed.
fn a_thread_is_looked_after_by_tools(lane: Lane) {
    let Some(world) = World::new(lane) else { return };
    make_repository(&world);
    let mut client = McpClient::start(&world);
    let structured = |result: &Value| {
        assert_eq!(result.get("isError"), None, "{result:#}");
        result["structuredContent"].clone()
    };
    let prompt = "#patch made.txt first\n#shell sleep 2";
    let begun = structured(&client.tool("codex", json!({"prompt": prompt, "wait": false})));
    assert_eq!(begun["turn"]["status"], "running", "{begun:#}");
    let thread = begun["threadId"].clone();
    let refused = client.tool("codex-apply", json!({ "threadId": thread }));
    assert_eq!(refused["isError"], true, "a turn is under way: {refused:#}");

    let status = structured(&client.tool("codex-status", json!({"threadId": thread, "waitSeconds": 120})));
    assert_eq!(status["state"], "idle", "{status:#}");
    assert_eq!(status["lastTurn"]["turn"]["status"], "completed");
    let events = status["events"].to_string();
    assert!(events.contains("made.txt") && events.contains("sleep 2"), "{events}");

    let diff = structured(&client.tool("codex-diff", json!({ "threadId": thread })));
    assert_eq!(diff["changes"]["files"][0]["path"], "made.txt", "{diff:#}");
    let hash = diff["changes"]["hash"].clone();
    let other = json!({"threadId": thread, "expectHash": "0".repeat(64)});
    assert_eq!(client.tool("codex-apply", other)["isError"], true);
    let dry = structured(&client.tool("codex-apply", json!({"threadId": thread, "dryRun": true})));
    assert_eq!(dry["preview"]["wouldWrite"][0]["path"], "made.txt", "{dry:#}");
    assert_eq!(read(&world, "made.txt"), "");
    let applied = structured(&client.tool("codex-apply", json!({"threadId": thread, "expectHash": hash})));
    assert_eq!(applied["applied"]["files"], 1, "{applied:#}");
    assert!(read(&world, "made.txt").contains("first"));
    assert_eq!(world.running().len(), 1, "the container works on");

    let uri = format!("codex://threads/{}/transcript", thread.as_str().unwrap());
    let log = client.request("resources/read", json!({ "uri": uri }));
    assert!(
        log["result"]["contents"][0]["text"]
            .as_str()
            .unwrap()
            .contains("sleep 2")
    );
    let long = json!({"prompt": "#shell sleep 600", "threadId": thread, "wait": false});
    structured(&client.tool("codex-reply", long));
    let interrupted = structured(&client.tool("codex-interrupt", json!({ "threadId": thread })));
    assert_eq!(interrupted["interrupted"], 1);

    let closed = structured(&client.tool("codex-close", json!({ "threadId": thread })));
    assert_eq!(closed["hadContainer"], true);
    assert_eq!(world.running(), [""; 0]);
    let listed = structured(&client.tool("codex-sessions", json!({"state": "parked"})));
    assert_eq!(listed["sessions"][0]["threadId"], thread);
    let again = structured(&client.tool("codex-reply", json!({"threadId": thread, "prompt": "#text back"})));
    assert_eq!(again["content"], "back");
    structured(&client.tool("codex-close", json!({"threadId": thread, "keep": false})));
    assert_eq!(world.session_directories().len(), 0);
}

on_every_lane!(
    a_thread_is_looked_after_by_tools,
    a_snapshot_is_a_repository_and_its_patch_applies,
    an_apply_merges_or_writes_nothing,
    each_turn_brings_its_changes,
    the_folder_itself_is_worked_on_where_that_is_set,
);
