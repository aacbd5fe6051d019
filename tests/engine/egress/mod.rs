//! Attacks on egress by real commands in real containers: what is refused inside, that nothing arrived where it was meant
//! to go, and that the result tells of it.
//!
//! - [`raw`]: past the proxy.
//! - [`names`]: what a name may lead to.
//! - [`tls`]: server names.
//! - [`http`]: hosts, ports and rules of plain HTTP and CONNECT.
//! - [`smuggling`]: requests that two readers would read differently, oversized and malformed ones.
//! - [`bounds`]: floods, slow ones, endless ones.
//! - [`commands`]: what commands are told, and what a call may ask for.

mod bounds;
mod commands;
mod http;
mod names;
mod raw;
mod smuggling;
mod tls;

use crate::support::client::McpClient;
use crate::support::lane::Lane;
use crate::support::servers::dns::Dns;
use crate::support::servers::{PERMITTED_RANGE, Servers};
use crate::support::world::World;
use base64::Engine;
use serde_json::{Value, json};

/// Shell functions for every script.
const PRELUDE: &str = r#"
proxy=127.0.0.1:18081
# get LABEL CURL-ARGUMENTS…: one line with the answer to CONNECT, the answer, how curl ended and the body's beginning.
get() {
    label=$1; shift
    codes=$(curl -sS -m 30 -o /tmp/body -w '%{http_connect} %{http_code}' "$@" 2>/tmp/error); ended=$?
    printf '%s: %s exit=%s %s | %s\n' "$label" "$codes" "$ended" \
        "$(head -c 400 /tmp/body 2>/dev/null | tr '\r\n' '  ')" "$(head -c 150 /tmp/error | tr '\n' ' ')"
    rm -f /tmp/body
}
# raw LABEL BASE64: sends bytes to the proxy as they are; one line with the first line of what comes back.
raw() {
    if exec 3<>/dev/tcp/127.0.0.1/18081; then
        base64 -d <<<"$2" >&3
        answer=; IFS= read -r -t 20 answer <&3; ended=$?
        [ $ended -gt 128 ] && answer="(silence)"
        printf '%s: %s\n' "$1" "${answer:-(closed)}"
        exec 3>&-
    else
        printf '%s: (no connection)\n' "$1"
    fi
} 2>/dev/null
"#;

/// A name server, and the servers that a container is after.
struct Scene {
    servers: Servers,
    dns: Dns,
}

impl Scene {
    fn new() -> Self {
        let servers = Servers::new();
        let dns = servers.dns();
        Self { servers, dns }
    }

    /// A world whose host asks this scene's name server and where [`PERMITTED_RANGE`] counts as allowed by the operator.
    /// `network` is what else stands in `[network]`.
    fn world(&self, lane: Lane, network: &str) -> Option<World> {
        let own = format!(
            "[network]\nnameservers = [\"{}\"]\nprivate = [\"{PERMITTED_RANGE}\"]\n",
            self.dns.address
        );
        World::with_config(lane, &format!("{own}{network}\n"))
    }
}

/// One session, and what its commands printed.
struct Inside {
    client: McpClient,
    thread: Option<String>,
    /// That took their time.
    scripts: u32,
}

/// What one turn came to.
struct Ran {
    text: String,
    denied: Vec<Value>,
}

impl Inside {
    fn new(world: &World) -> Self {
        Self {
            client: McpClient::start(world),
            thread: None,
            scripts: 0,
        }
    }

    /// Runs a script in bash. It must end within the ten seconds that Codex waits for a command.
    fn run(&mut self, script: &str) -> Ran {
        self.turn(&format!("#shell {}", in_bash(script)))
    }

    /// Runs a script that takes its time, in the background: Codex waits for no command longer than ten seconds.
    fn run_patiently(&mut self, script: &str) -> Ran {
        self.scripts += 1;
        let [printed, started, ended] =
            ["printed", "started", "ended"].map(|what| format!("/tmp/{what}-{}", self.scripts));
        // When a command's shell ends, Codex kills its process group. Only the new session's own word shows that the script
        // is out of that group by then.
        let start = format!(
            "#shell setsid bash -c \"touch {started}; {}; touch {ended}\" >{printed} 2>&1 </dev/null & \
             timeout 8 bash -c 'until test -e {started}; do sleep 0.02; done'",
            in_bash(script)
        );
        let wait = format!("#shell timeout 8 bash -c 'until test -e {ended}; do sleep 0.1; done'\n").repeat(8);
        self.turn(&format!("{start}\n{wait}#shell test -e {ended} && cat {printed}"))
    }

    /// From here on in a new thread, and so in a new container.
    fn in_a_new_thread(&mut self) -> &mut Self {
        self.thread = None;
        self
    }

    fn turn(&mut self, prompt: &str) -> Ran {
        self.ask(json!({ "prompt": prompt }))
    }

    /// A turn with other arguments than the prompt, on the session's thread where it has one.
    fn ask(&mut self, mut arguments: Value) -> Ran {
        let result = match &self.thread {
            None => self.client.tool("codex", arguments),
            Some(thread) => {
                arguments["threadId"] = json!(thread);
                self.client.tool("codex-reply", arguments)
            }
        };
        assert_ne!(result["isError"], true, "{result:#}");
        let structured = &result["structuredContent"];
        self.thread = structured["threadId"].as_str().map(str::to_owned);
        Ran {
            text: structured["content"].as_str().unwrap().to_owned(),
            denied: structured["egressDenied"].as_array().cloned().unwrap_or_default(),
        }
    }
}

impl Inside {
    /// The most memory that the server had so far, in bytes: the kernel's own high-water mark.
    fn peak_memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.client.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
    }
}

/// One session, one script.
fn attack(world: &World, script: &str) -> Ran {
    Inside::new(world).run(script)
}

/// A script as one line of shell that no quoting can break.
fn in_bash(script: &str) -> String {
    format!(
        "bash <(base64 -d <<< {})",
        base64(format!("{PRELUDE}{script}").as_bytes())
    )
}

fn base64(bytes: &[u8]) -> String {
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

impl Ran {
    /// What a script printed after `label: `.
    #[track_caller]
    fn line(&self, label: &str) -> &str {
        let found = self
            .text
            .lines()
            .find_map(|line| line.strip_prefix(label)?.strip_prefix(": "));
        found.unwrap_or_else(|| panic!("no line {label:?} in:\n{}", self.text))
    }

    /// The refusals of one target, added up, and their entry in the result.
    #[track_caller]
    fn denied(&self, host: &str, port: u16) -> &Value {
        let entry = self
            .denied
            .iter()
            .find(|entry| entry["host"] == host && entry["port"] == port);
        entry.unwrap_or_else(|| {
            panic!(
                "{host}:{port} is not in egressDenied: {:#?}\n{}",
                self.denied, self.text
            )
        })
    }
}
