//! Over HTTP with real containers: what one token begins is no other's, and all of it ends with the server.

use crate::support::lane::Lane;
use crate::support::world::World;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Stdio};

const VERSION: &str = "2026-07-28";

/// A server over HTTP, with a token for each of its users.
struct Served {
    child: Child,
    address: String,
}

impl Served {
    fn start(world: &World) -> Self {
        let mut child = world
            .codex_mcp(&["serve", "--transport", "http", "--listen", "127.0.0.1:0"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stderr = BufReader::new(child.stderr.take().unwrap());
        let mut line = String::new();
        while !line.starts_with("serving MCP at http://") {
            line.clear();
            assert_ne!(stderr.read_line(&mut line).unwrap(), 0, "it ended: {:?}", child.wait());
        }
        // Read on, so that it never waits for somebody who reads its log.
        std::thread::spawn(move || std::io::copy(&mut stderr, &mut std::io::sink()));
        let address = line.trim().trim_start_matches("serving MCP at http://");
        let address = address.trim_end_matches("/mcp").to_owned();
        Self { child, address }
    }

    fn exchange(&self, head: &str, body: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        write!(
            stream,
            "{head}Host: {}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
            self.address,
            body.len()
        )
        .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
        (status, answer)
    }

    fn get(&self, path: &str, token: &str) -> (u16, String) {
        self.exchange(&format!("GET {path} HTTP/1.1\r\nAuthorization: Bearer {token}\r\n"), "")
    }

    /// A tool's result, by a client without a handshake.
    fn tool(&self, token: &str, name: &str, arguments: &Value) -> Value {
        let meta = json!({
            "io.modelcontextprotocol/protocolVersion": VERSION,
            "io.modelcontextprotocol/clientInfo": {"name": "test", "version": "0"},
            "io.modelcontextprotocol/clientCapabilities": {},
        });
        let params = json!({"name": name, "arguments": arguments, "_meta": meta});
        let body = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}).to_string();
        let head = format!(
            "POST /mcp HTTP/1.1\r\nAuthorization: Bearer {token}\r\nContent-Type: application/json\r\n\
             Accept: application/json, text/event-stream\r\nMCP-Protocol-Version: {VERSION}\r\nMcp-Method: tools/call\r\n\
             Mcp-Name: {name}\r\n"
        );
        let (status, answer) = self.exchange(&head, &body);
        assert_eq!(status, 200, "{answer}");
        // An event of a stream, or the whole body; chunks end in lines of their own.
        let begin = answer.find("{\"").unwrap_or_else(|| panic!("no JSON: {answer}"));
        let mut values = serde_json::Deserializer::from_str(&answer[begin..]).into_iter::<Value>();
        values.next().unwrap().unwrap()["result"].clone()
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn token(world: &World, name: &str) -> String {
    let added = world.codex_mcp(&["token", "add", name]).output().unwrap();
    assert!(added.status.success(), "{}", String::from_utf8_lossy(&added.stderr));
    String::from_utf8(added.stdout).unwrap().trim().to_owned()
}

fn a_token_sees_its_own_threads_only(lane: Lane) {
    let Some(world) = World::with_config(lane, "[http]\ntokens = \"TOKENS\"\n") else {
        return;
    };
    world.edit_config("TOKENS", &world.path("tokens.json").display().to_string());
    let (mine, theirs) = (token(&world, "mine"), token(&world, "theirs"));
    let mut served = Served::start(&world);
    assert_eq!(served.get("/metrics", "no such token").0, 401);
    let (status, ready) = served.get("/readyz", &mine);
    assert_eq!(status, 200, "{ready}");

    let begun = served.tool(&mine, "codex", &json!({"prompt": "#patch made.txt first"}));
    let thread = begun["structuredContent"]["threadId"].clone();
    assert!(thread.is_string(), "{begun:#}");
    for tool in [
        "codex-status",
        "codex-interrupt",
        "codex-diff",
        "codex-apply",
        "codex-close",
    ] {
        let refused = served.tool(&theirs, tool, &json!({ "threadId": thread }));
        let text = refused["content"][0]["text"].as_str().unwrap();
        assert!(text.starts_with("Session not found"), "{tool}: {refused:#}");
    }
    let reply = json!({"threadId": thread, "prompt": "#text again"});
    let refused = served.tool(&theirs, "codex-reply", &reply);
    assert_eq!(refused["isError"], true, "{refused:#}");
    let listed = served.tool(&theirs, "codex-sessions", &json!({}));
    assert_eq!(listed["structuredContent"]["total"], 0, "{listed:#}");

    let listed = served.tool(&mine, "codex-sessions", &json!({}));
    assert_eq!(listed["structuredContent"]["sessions"][0]["threadId"], thread);
    let again = served.tool(&mine, "codex-reply", &reply);
    assert_eq!(again["structuredContent"]["content"], "again", "{again:#}");
    let (_, metrics) = served.get("/metrics", &mine);
    for line in [
        "codex_mcp_turns_total{outcome=\"completed\"} 2",
        "codex_mcp_sessions{state=\"live\"} 1",
        "codex_mcp_launch_seconds_count 1",
    ] {
        assert!(metrics.contains(line), "{line}: {metrics}");
    }

    kill(
        Pid::from_raw(i32::try_from(served.child.id()).unwrap()),
        Signal::SIGTERM,
    )
    .unwrap();
    assert!(served.child.wait().unwrap().success());
    assert_eq!(world.running(), [""; 0]);
}

on_every_lane!(a_token_sees_its_own_threads_only);
