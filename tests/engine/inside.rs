//! Commands inside a session's container, driven through the scripted model: what a hostile process there can try.

use crate::support::client::McpClient;
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
# raw LABEL BASE64: sends bytes to the proxy, or to $port, as they are; one line with the first line of what comes back.
raw() {
    if exec 3<>/dev/tcp/127.0.0.1/${port:-18081}; then
        # Whoever is refused in the middle of a long request may find nobody reading the rest.
        timeout 10 base64 -d <<<"$2" >&3 2>/dev/null
        answer=; IFS= read -r -t 20 answer <&3; ended=$?
        [ $ended -gt 128 ] && answer="(silence)"
        printf '%s: %s\n' "$1" "${answer:-(closed)}"
        exec 3>&-
    else
        printf '%s: (no connection)\n' "$1"
    fi
} 2>/dev/null
"#;

/// One session, and what its commands printed.
pub struct Inside {
    pub client: McpClient,
    pub thread: Option<String>,
    /// That took their time.
    scripts: u32,
}

/// What one turn came to.
pub struct Ran {
    pub text: String,
    pub denied: Vec<Value>,
}

impl Inside {
    pub fn new(world: &World) -> Self {
        Self::of(McpClient::start(world))
    }

    /// Through a client that was started in a way of its own.
    pub fn of(client: McpClient) -> Self {
        Self {
            client,
            thread: None,
            scripts: 0,
        }
    }

    /// Runs a script in bash. It must end within the ten seconds that Codex waits for a command.
    pub fn run(&mut self, script: &str) -> Ran {
        self.turn(&format!("#shell {}", in_bash(script)))
    }

    /// Runs a script that takes its time, in the background: Codex waits for no command longer than ten seconds.
    pub fn run_patiently(&mut self, script: &str) -> Ran {
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
        self.turn(&format!("{start}\n{wait}#shell cat {printed}; test -e {ended}"))
    }

    /// From here on in a new thread, and so in a new container.
    pub fn in_a_new_thread(&mut self) -> &mut Self {
        self.thread = None;
        self
    }

    pub fn turn(&mut self, prompt: &str) -> Ran {
        self.ask(json!({ "prompt": prompt }))
    }

    /// A turn with other arguments than the prompt, on the session's thread where it has one.
    pub fn ask(&mut self, mut arguments: Value) -> Ran {
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
    pub fn peak_memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.client.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
    }
}

/// A script as one line of shell that no quoting can break.
pub fn in_bash(script: &str) -> String {
    format!(
        "bash <(base64 -d <<< {})",
        base64(format!("{PRELUDE}{script}").as_bytes())
    )
}

pub fn base64(bytes: &[u8]) -> String {
    base64::engine::general_purpose::STANDARD.encode(bytes)
}
