//! Sessions outlive their containers: threads are taken up after every end, by this server or the next, and nobody takes what
//! another has.

use crate::support::client::McpClient;
use crate::support::lane::Lane;
use crate::support::world::World;
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use std::fs;
use std::time::{Duration, Instant};

/// What is stored of the one session there is.
fn record(world: &World) -> Value {
    let directories = world.session_directories();
    let [directory] = &directories[..] else {
        panic!("one session: {directories:?}")
    };
    let text = fs::read(directory.join("record.json")).unwrap();
    serde_json::from_slice::<Value>(&text).unwrap()["record"].clone()
}

fn thread_of(result: &Value) -> String {
    let id = result["structuredContent"]["threadId"].as_str();
    id.unwrap_or_else(|| panic!("no thread: {result}")).to_owned()
}

fn reply(client: &mut McpClient, thread: &str, prompt: &str) -> Value {
    client.tool("codex-reply", json!({"threadId": thread, "prompt": prompt}))
}

fn content(result: &Value) -> &str {
    result["structuredContent"]["content"].as_str().unwrap_or_default()
}

/// What a `codex-mcp sessions` command prints as JSON.
fn sessions(world: &World, args: &[&str]) -> Value {
    let output = world
        .codex_mcp(&[&["sessions"], args, &["--json"]].concat())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[track_caller]
fn eventually(what: &str, seen: impl Fn() -> bool) {
    let start = Instant::now();
    while !seen() {
        assert!(start.elapsed() < Duration::from_secs(60), "{what}: not seen");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A new server continues a thread on the same home and workspace: the model is sent what was said before, and a file that a
/// command left is there.
fn a_thread_goes_on_after_its_server(lane: Lane) {
    let Some(world) = World::new(lane) else { return };
    let mut first = McpClient::start(&world);
    let started = first.tool(
        "codex",
        json!({"prompt": "#shell echo kept > kept.txt\n#text the first words"}),
    );
    let thread = thread_of(&started);
    first.close_stdin();
    assert!(first.wait().success());
    assert_eq!(record(&world)["state"]["is"], "parked");
    assert_eq!(record(&world)["state"]["end"]["cause"], "server_ended");

    let mut second = McpClient::start(&world);
    let asked = world.model.requests();
    let replied = reply(&mut second, &thread, "#shell cat kept.txt");
    assert_eq!(replied.get("isError"), None, "{replied}");
    assert_eq!(thread_of(&replied), thread);
    assert!(content(&replied).contains("kept"), "{replied}");
    let sent = world.model.requests()[asked.len()].body.clone();
    assert!(
        sent.to_string().contains("the first words"),
        "the model is told what was said before"
    );
    assert_eq!(record(&world)["turns"], 2);
}

/// After SIGKILL in mid-turn: the thread goes on, and is told that its turn was interrupted.
fn a_thread_goes_on_after_its_server_was_killed(lane: Lane) {
    let Some(world) = World::new(lane) else { return };
    let mut first = McpClient::start(&world);
    let thread = thread_of(&first.tool("codex", json!({"prompt": "#text ready"})));
    first.begin_tool(
        "codex-reply",
        json!({"threadId": thread, "prompt": "#shell echo begun > begun.txt; sleep 1000"}),
    );
    first.wait_for(|message| {
        let text = message["params"]["message"].as_str();
        text.is_some_and(|text| text.contains("sleep 1000"))
    });
    first.signal(Signal::SIGKILL);
    first.wait();

    let mut second = McpClient::start(&world);
    let replied = reply(&mut second, &thread, "#shell cat begun.txt");
    assert_eq!(replied.get("isError"), None, "{replied}");
    assert!(content(&replied).contains("begun"), "{replied}");
    let notes = replied["structuredContent"]["notes"].to_string();
    assert!(
        notes.contains("turn 2 of this thread was interrupted: its server died"),
        "{notes}"
    );
    assert_eq!(record(&world)["losses"], 0, "a turn that ended well forgives");
}

/// A session without turns gives its container back, and the next reply brings it another one.
fn an_idle_session_is_parked(lane: Lane) {
    let Some(world) = World::with_config(lane, "") else {
        return;
    };
    world.edit_config("[limits]\n", "[limits]\nidle = \"2s\"\n");
    let mut client = McpClient::start(&world);
    let thread = thread_of(&client.tool("codex", json!({"prompt": "#text ready"})));
    eventually("the container is gone", || world.running().is_empty());
    eventually("it is parked", || record(&world)["state"]["is"] == "parked");
    assert_eq!(record(&world)["state"]["end"]["cause"], "idle");
    let replied = reply(&mut client, &thread, "#text back again");
    assert!(content(&replied).contains("back again"), "{replied}");
}

/// Two servers share a state directory: the second one is told who has the thread, and takes it once it is let go of.
fn a_live_thread_is_its_servers_alone(lane: Lane) {
    let Some(world) = World::new(lane) else { return };
    let mut first = McpClient::start(&world);
    let thread = thread_of(&first.tool("codex", json!({"prompt": "#text ready"})));
    let mut second = McpClient::start(&world);
    let refused = reply(&mut second, &thread, "#text mine");
    assert_eq!(refused["isError"], true, "{refused}");
    let words = refused["content"][0]["text"].as_str().unwrap();
    let holder = format!("process {}", first.child.id());
    assert!(words.contains(&holder) && words.contains("sessions stop"), "{words}");

    let listed = sessions(&world, &["list"]);
    assert_eq!(listed[0]["state"], "live");
    assert_eq!(sessions(&world, &["stop", &thread])["stopped"], true);
    assert_eq!(world.running(), [""; 0]);
    let taken = reply(&mut second, &thread, "#text mine now");
    assert!(content(&taken).contains("mine now"), "{taken}");
    // The first one looks, and finds it taken.
    let refused = reply(&mut first, &thread, "#text mine");
    assert_eq!(refused["isError"], true, "{refused}");
}

/// A Codex that dies again and again is started a few times and then no more, and a person can insist.
fn a_session_that_dies_again_and_again_is_failed(lane: Lane) {
    let Some(world) = World::with_config(lane, "") else {
        return;
    };
    world.edit_config("[codex]\n", "[sessions]\nrestarts = 1\n[codex]\n");
    let mut client = McpClient::start(&world);
    let thread = thread_of(&client.tool("codex", json!({"prompt": "#text ready"})));
    let suicide = "#shell kill -9 $PPID";
    for _ in 0..2 {
        let lost = reply(&mut client, &thread, suicide);
        assert_eq!(lost["isError"], true, "{lost}");
        let words = lost["content"][0]["text"].as_str().unwrap();
        assert!(words.contains("Codex was ended by signal 9"), "{words}");
    }
    let refused = reply(&mut client, &thread, "#text hello");
    let words = refused["content"][0]["text"].as_str().unwrap().to_owned();
    assert!(
        words.contains("lost 2 times in a row") && words.contains("sessions resume"),
        "{words}"
    );
    assert_eq!(sessions(&world, &["list"])[0]["state"], "failed");
    let insisted = world
        .codex_mcp(&["sessions", "resume", &thread, "#text alive again"])
        .output()
        .unwrap();
    let [said, commented] =
        [&insisted.stdout, &insisted.stderr].map(|stream| String::from_utf8_lossy(stream).into_owned());
    assert!(said.contains("alive again"), "{said}{commented}");
    // No answer came to an end that could have told of either.
    for turn in [2, 3] {
        let told = format!("turn {turn} of this thread was interrupted: ");
        assert!(commented.contains(&told), "{commented}");
    }
    let replied = reply(&mut client, &thread, "#text forgiven");
    assert!(content(&replied).contains("forgiven"), "{replied}");
    // On record, for whoever looks at the session later.
    let used = &sessions(&world, &["show", &thread])["used"];
    assert!(used["diskBytes"].as_u64() > Some(0), "{used}");
    // Rootless on cgroup v1 nobody counts it.
    if lane != Lane::RootlessPodman {
        assert!(used["cpuMicros"].as_u64() > Some(0), "{used}");
    }
    let notes = replied["structuredContent"]["notes"].to_string();
    assert!(!notes.contains("was interrupted"), "told twice: {notes}");
}

/// Where no turn may begin, nothing is copied and no container is started for one.
fn a_spent_day_starts_no_container(lane: Lane) {
    let Some(world) = World::with_config(lane, "[quota.day]\nturns = 1") else {
        return;
    };
    let mut client = McpClient::start(&world);
    // Both may begin when they are asked for; by the time that they have their containers, one may not.
    let prompt = json!({"prompt": "#text ready"});
    let asked = [(); 2].map(|()| client.begin_tool("codex", prompt.clone()));
    let answers = asked.map(|id| client.answer(id)["result"].clone());
    let (begun, refused): (Vec<_>, Vec<_>) = answers.iter().partition(|answer| answer.get("isError").is_none());
    let ([begun], [refused]) = (&begun[..], &refused[..]) else {
        panic!("one of them: {answers:?}")
    };
    let words = |result: &Value| result["content"][0]["text"].as_str().unwrap().to_owned();
    assert!(words(refused).contains("quota.day.turns = 1 (from "), "{refused}");
    assert_eq!(
        world.session_directories().len(),
        1,
        "nobody has the other one's thread"
    );
    let thread = thread_of(begun);
    assert_eq!(record(&world)["thread"]["id"], thread);

    let launches = |world: &World| {
        let exported = world.codex_mcp(&["audit", "show", "--json"]).output().unwrap();
        let log = String::from_utf8(exported.stdout).unwrap();
        log.matches(r#""what":"launch""#).count()
    };
    let before = launches(&world);
    assert_eq!(before, 2);
    sessions(&world, &["stop", &thread]);
    let refusals = [client.tool("codex", prompt), reply(&mut client, &thread, "#text more")];
    for refused in &refusals {
        assert!(words(refused).contains("quota.day.turns = 1 (from "), "{refused}");
    }
    assert_eq!(launches(&world), before);
    assert_eq!(record(&world)["state"]["end"]["cause"], "stopped");
}

/// What a person sees and does: the list, one session, its log, and its removal for good.
fn sessions_are_listed_shown_and_removed(lane: Lane) {
    let Some(world) = World::new(lane) else { return };
    let mut client = McpClient::start(&world);
    let thread = thread_of(&client.tool("codex", json!({"prompt": "#shell echo hi > a\n#text written"})));
    let shown = sessions(&world, &["show", &thread]);
    assert_eq!(
        (shown["turns"].as_u64(), shown["state"].as_str()),
        (Some(1), Some("live"))
    );
    let held = world.codex_mcp(&["sessions", "rm", &thread]).output().unwrap();
    assert_eq!(held.status.code(), Some(6), "{}", String::from_utf8_lossy(&held.stderr));
    client.close_stdin();
    client.wait();
    let log = world
        .codex_mcp(&["sessions", "logs", &thread, "--json"])
        .output()
        .unwrap();
    let log = String::from_utf8(log.stdout).unwrap();
    let kinds: Vec<String> = log
        .lines()
        .map(|line| {
            serde_json::from_str::<Value>(line).unwrap()["type"]
                .as_str()
                .unwrap()
                .to_owned()
        })
        .collect();
    assert_eq!(kinds.first().map(String::as_str), Some("launched"));
    for kind in ["prompt", "command_completed", "turn_ended", "ended"] {
        assert!(kinds.iter().any(|seen| seen == kind), "{kind}: {kinds:?}");
    }
    let kept = sessions(&world, &["prune", "--dry-run"]);
    assert_eq!(kept["removed"], json!([]));
    sessions(&world, &["rm", &thread]);
    assert_eq!(world.session_directories().len(), 0);
}

on_every_lane!(
    a_thread_goes_on_after_its_server,
    a_thread_goes_on_after_its_server_was_killed,
    an_idle_session_is_parked,
    a_live_thread_is_its_servers_alone,
    a_session_that_dies_again_and_again_is_failed,
    a_spent_day_starts_no_container,
    sessions_are_listed_shown_and_removed,
);
