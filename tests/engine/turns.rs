//! Turns through our MCP server: text, a shell command, a patch, for a plain and a code-mode model; a reply; an interrupt.

use crate::support::client::McpClient;
use crate::support::lane::Lane;
use crate::support::world::World;
use serde_json::{Value, json};

/// Needs no code-mode host; the other one does nothing without it.
const PLAIN_MODEL: &str = "gpt-5.5";
const CODE_MODE_MODEL: &str = "gpt-6-sol";

#[track_caller]
fn content(result: &Value) -> &str {
    assert_ne!(result["isError"], true, "{result:#}");
    let structured = result["structuredContent"]["content"].as_str().unwrap();
    assert_eq!(
        result["content"][0]["text"], structured,
        "the text is the drop-in's content"
    );
    structured
}

fn text_turn_and_reply(lane: Lane) {
    let Some(world) = World::new(lane) else { return };
    let mut client = McpClient::start(&world);
    let first = client.tool("codex", json!({"prompt": "#text one two three"}));
    assert_eq!(content(&first), "one two three");
    let thread = first["structuredContent"]["threadId"].as_str().unwrap().to_owned();
    assert!(
        client.progress().iter().any(|message| message.contains(&thread)),
        "progress carries the thread id: {:?}",
        client.progress()
    );

    let second = client.tool("codex-reply", json!({"threadId": thread, "prompt": "#text four"}));
    assert_eq!(content(&second), "four");
    assert_eq!(second["structuredContent"]["threadId"], thread.as_str());
    let prompts: Vec<String> = world
        .model
        .requests()
        .iter()
        .map(|request| request.body.to_string())
        .collect();
    assert!(
        prompts.last().unwrap().contains("one two three"),
        "the reply continues the same conversation"
    );
    assert_eq!(world.running().len(), 1, "one container a thread");
}

fn shell(lane: Lane, model: &str) {
    let Some(world) = World::new(lane) else { return };
    let mut client = McpClient::start(&world);
    let result = client.tool(
        "codex",
        json!({"prompt": "#shell cat hello.txt; echo uid=$(id -u)", "model": model}),
    );
    let text = content(&result);
    assert!(text.contains("hello"), "{text}");
    let uid: u32 = text
        .split("uid=")
        .find_map(|rest| rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok())
        .unwrap_or_else(|| panic!("no uid was printed: {text}"));
    assert_ne!(uid, 0, "commands must not run as root: {text}");
    assert!(
        client
            .progress()
            .iter()
            .any(|message| message.contains("cat hello.txt")),
        "{:?}",
        client.progress()
    );
}

fn shell_command_plain(lane: Lane) {
    shell(lane, PLAIN_MODEL);
}

fn shell_command_code_mode(lane: Lane) {
    shell(lane, CODE_MODE_MODEL);
}

fn patch(lane: Lane, model: &str) {
    let Some(world) = World::new(lane) else { return };
    let mut client = McpClient::start(&world);
    let result = client.tool("codex", json!({"prompt": "#patch made.txt", "model": model}));
    content(&result);
    assert_eq!(
        result["structuredContent"]["changes"]["files"][0]["path"], "made.txt",
        "{result:#}"
    );
    let blocks = result["content"].as_array().unwrap();
    assert!(
        blocks.iter().any(|block| block["text"]
            .as_str()
            .is_some_and(|text| text.contains("+++ b/made.txt"))),
        "the patch comes in a block of its own: {blocks:#?}"
    );
    assert!(
        !world.workspace().join("made.txt").exists(),
        "the host's folder is not touched"
    );
}

fn patch_plain(lane: Lane) {
    patch(lane, PLAIN_MODEL);
}

fn patch_code_mode(lane: Lane) {
    patch(lane, CODE_MODE_MODEL);
}

fn interrupt_kills_what_the_turn_runs(lane: Lane) {
    let Some(world) = World::new(lane) else { return };
    let mut client = McpClient::start(&world);
    let started = client.tool("codex", json!({"prompt": "#text ready"}));
    let thread = started["structuredContent"]["threadId"].as_str().unwrap().to_owned();
    let call = client.begin_tool(
        "codex-reply",
        json!({"threadId": thread, "prompt": "#shell sleep 1000"}),
    );
    client.wait_for(|message| {
        message["params"]["message"]
            .as_str()
            .is_some_and(|text| text.contains("sleep 1000"))
    });
    client.send(&json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": call, "reason": "test"}}));

    // The thread takes the next turn only when the interrupted one has ended.
    let after = client.tool(
        "codex-reply",
        json!({"threadId": thread, "prompt": "#shell ls /proc/*/comm | xargs cat 2>/dev/null"}),
    );
    let processes = content(&after);
    assert!(processes.contains("codex"), "the process list was read: {processes}");
    assert!(
        !processes.contains("sleep"),
        "the interrupted command still runs: {processes}"
    );
}

fn two_threads_do_not_meet(lane: Lane) {
    let Some(world) = World::new(lane) else { return };
    let mut client = McpClient::start(&world);
    let one = client.begin_tool("codex", json!({"prompt": "#shell touch only-mine; ls"}));
    let two = client.begin_tool("codex", json!({"prompt": "#shell ls"}));
    let (one, two) = (
        client.answer(one)["result"].clone(),
        client.answer(two)["result"].clone(),
    );
    assert!(content(&one).contains("only-mine"));
    assert!(!content(&two).contains("only-mine"));
    assert_ne!(
        one["structuredContent"]["threadId"],
        two["structuredContent"]["threadId"]
    );
}

fn a_read_only_sandbox_cannot_write(lane: Lane) {
    let Some(world) = World::new(lane) else { return };
    let mut client = McpClient::start(&world);
    let result = client.tool(
        "codex",
        json!({"prompt": "#shell touch x || echo refused", "sandbox": "read-only"}),
    );
    assert!(content(&result).contains("Read-only file system"), "{result:#}");
}

/// The answer of the user, through the client, decides.
fn what_codex_asks_reaches_the_user(lane: Lane) {
    let Some(world) = World::new(lane) else { return };
    for (action, ran) in [("accept", true), ("decline", false)] {
        let mut client = McpClient::start(&world);
        let prompt = "#shell touch made-it; ls";
        let call = client.begin_tool("codex", json!({"prompt": prompt, "approval-policy": "untrusted"}));
        let asked = client.wait_for(|message| message["method"] == "elicitation/create");
        assert!(
            asked["params"]["message"].as_str().unwrap().contains("touch made-it"),
            "{asked:#}"
        );
        client.send(&json!({"jsonrpc": "2.0", "id": asked["id"], "result": {"action": action}}));
        let result = client.answer(call)["result"].clone();
        let files = result["structuredContent"]["changes"]["files"].as_array().unwrap();
        assert_eq!(
            files.iter().any(|file| file["path"] == "made-it"),
            ran,
            "{action}: {result:#}"
        );
    }
}

on_every_lane!(
    what_codex_asks_reaches_the_user,
    text_turn_and_reply,
    shell_command_plain,
    shell_command_code_mode,
    patch_plain,
    patch_code_mode,
    interrupt_kills_what_the_turn_runs,
    two_threads_do_not_meet,
    a_read_only_sandbox_cannot_write,
);
