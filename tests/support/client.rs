//! An MCP client in a few lines: JSON lines to a child's stdin, answers and notifications from its stdout.
//!
//! On purpose not a library: these are the bytes that a client written for the removed server sends.

use super::world::World;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Longer than anything here takes on a loaded machine; a test that meets it has failed.
const PATIENCE: Duration = Duration::from_secs(120);

pub struct McpClient {
    pub child: Child,
    stdin: Option<ChildStdin>,
    lines: Receiver<Value>,
    reader: Option<JoinHandle<()>>,
    /// Closed: the reader lets go of the server's stdout.
    vanish: Option<OwnedFd>,
    next_id: u64,
    /// Notifications in the order in which they came.
    pub notifications: Vec<Value>,
    answered: Vec<Value>,
}

impl McpClient {
    /// Starts `codex-mcp serve` in the world and shakes hands.
    pub fn start(world: &World) -> Self {
        Self::start_in(world, |_| ())
    }

    /// `change` may edit the command first.
    pub fn start_in(world: &World, change: impl FnOnce(&mut Command)) -> Self {
        let mut command = world.codex_mcp(&["serve"]);
        command.stderr(Stdio::inherit());
        change(&mut command);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let stdout = child.stdout.take().unwrap();
        let (sender, lines) = channel();
        let (vanishes, vanish) = nix::unistd::pipe().unwrap();
        let reader = std::thread::spawn(move || read_lines(stdout, vanishes, &sender));
        let stdin = child.stdin.take();
        let mut client = Self {
            child,
            stdin,
            lines,
            reader: Some(reader),
            vanish: Some(vanish),
            next_id: 0,
            notifications: Vec::new(),
            answered: Vec::new(),
        };
        let answer = client.request(
            "initialize",
            json!({"protocolVersion": "2025-06-18", "capabilities": {"elicitation": {}}, "clientInfo": {"name": "test", "version": "0"}}),
        );
        assert_eq!(answer["result"]["serverInfo"]["name"], "codex-mcp", "{answer}");
        client.send(&json!({"jsonrpc": "2.0", "method": "notifications/initialized"}));
        client
    }

    pub fn send(&mut self, message: &Value) {
        let stdin = self.stdin.as_mut().expect("stdin was closed");
        writeln!(stdin, "{message}").unwrap();
        stdin.flush().unwrap();
    }

    /// Sends a request and returns its id without waiting.
    pub fn begin(&mut self, method: &str, params: Value) -> u64 {
        self.next_id += 1;
        let id = self.next_id;
        self.send(&json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params}));
        id
    }

    /// Waits for the answer to a request, keeping what else comes.
    pub fn answer(&mut self, id: u64) -> Value {
        if let Some(at) = self.answered.iter().position(|message| message["id"] == id) {
            return self.answered.remove(at);
        }
        let deadline = Instant::now() + PATIENCE;
        loop {
            let message = self
                .receive(deadline)
                .unwrap_or_else(|| panic!("no answer to request {id} in {PATIENCE:?}"));
            if message["id"] == id && message.get("method").is_none() {
                return message;
            }
            self.keep(message);
        }
    }

    /// Waits until a notification satisfies `wanted`.
    pub fn wait_for(&mut self, wanted: impl Fn(&Value) -> bool) -> Value {
        if let Some(found) = self.notifications.iter().find(|message| wanted(message)) {
            return found.clone();
        }
        let deadline = Instant::now() + PATIENCE;
        loop {
            let message = self.receive(deadline).unwrap_or_else(|| {
                panic!(
                    "the notification did not come in {PATIENCE:?}; seen: {:#?}",
                    self.notifications
                )
            });
            let found = message.get("method").is_some() && wanted(&message);
            self.keep(message.clone());
            if found {
                return message;
            }
        }
    }

    fn keep(&mut self, message: Value) {
        if message.get("method").is_some() {
            self.notifications.push(message);
        } else {
            self.answered.push(message);
        }
    }

    fn receive(&mut self, deadline: Instant) -> Option<Value> {
        match self
            .lines
            .recv_timeout(deadline.saturating_duration_since(Instant::now()))
        {
            Ok(message) => Some(message),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => {
                panic!("the server closed its stdout; it ended: {:?}", self.child.wait())
            }
        }
    }

    pub fn request(&mut self, method: &str, params: Value) -> Value {
        let id = self.begin(method, params);
        self.answer(id)
    }

    /// Begins a tool call with a progress token; see [`Self::answer`].
    pub fn begin_tool(&mut self, name: &str, arguments: Value) -> u64 {
        let token = format!("progress-{}", self.next_id + 1);
        self.begin(
            "tools/call",
            json!({"name": name, "arguments": arguments, "_meta": {"progressToken": token}}),
        )
    }

    /// Calls a tool and returns its result.
    pub fn tool(&mut self, name: &str, arguments: Value) -> Value {
        let id = self.begin_tool(name, arguments);
        let answer = self.answer(id);
        answer
            .get("result")
            .unwrap_or_else(|| panic!("a protocol error: {answer}"))
            .clone()
    }

    /// Messages of the progress notifications so far.
    pub fn progress(&self) -> Vec<String> {
        self.notifications
            .iter()
            .filter(|message| message["method"] == "notifications/progress")
            .map(|message| message["params"]["message"].as_str().unwrap_or_default().to_owned())
            .collect()
    }

    /// Closes stdin, as a client does that is done.
    pub fn close_stdin(&mut self) {
        self.stdin = None;
    }

    /// What a client's own sudden end is to the server: both pipes are closed, whatever is under way.
    pub fn vanish(&mut self) {
        self.stdin = None;
        self.vanish = None;
        if let Some(reader) = self.reader.take() {
            reader.join().unwrap();
        }
    }

    /// Threads that the progress of a call, or an answer that nobody took, has named.
    pub fn threads_told(&mut self) -> Vec<String> {
        while let Ok(message) = self.lines.try_recv() {
            self.keep(message);
        }
        let progress = self.progress().into_iter().filter_map(|said| {
            let thread = said.strip_prefix("thread ")?.split_once(':')?.0;
            Some(thread.to_owned())
        });
        let answers = self.answered.iter().filter_map(|answer| {
            let thread = answer["result"]["structuredContent"]["threadId"].as_str();
            thread.map(str::to_owned)
        });
        progress.chain(answers).collect()
    }

    /// Waits for the server's end.
    pub fn wait(&mut self) -> ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < deadline, "the server did not end in {PATIENCE:?}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    pub fn signal(&self, signal: nix::sys::signal::Signal) {
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(self.child.id().cast_signed()), signal).unwrap();
    }
}

/// Until the server closes its stdout, or `vanishes` is closed at its other end.
fn read_lines(mut stdout: ChildStdout, vanishes: OwnedFd, sender: &Sender<Value>) {
    let (mut pending, mut piece) = (Vec::new(), vec![0; 64 << 10]);
    loop {
        let mut polled = [
            PollFd::new(stdout.as_fd(), PollFlags::POLLIN),
            PollFd::new(vanishes.as_fd(), PollFlags::POLLIN),
        ];
        if poll(&mut polled, PollTimeout::NONE).is_err() {
            continue;
        }
        if polled[1].any() == Some(true) {
            return;
        }
        match stdout.read(&mut piece) {
            Ok(0) | Err(_) => return,
            Ok(read) => pending.extend_from_slice(&piece[..read]),
        }
        while let Some(end) = pending.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = pending.drain(..=end).collect();
            let value = serde_json::from_slice(&line)
                .unwrap_or_else(|error| panic!("stdout holds {:?}: {error}", String::from_utf8_lossy(&line)));
            if sender.send(value).is_err() {
                return;
            }
        }
    }
}

impl Drop for McpClient {
    fn drop(&mut self) {
        self.stdin = None;
        if self.child.try_wait().ok().flatten().is_none() {
            // A test that failed half-way: the server gets the chance to end its containers.
            let _ = nix::sys::signal::kill(
                nix::unistd::Pid::from_raw(self.child.id().cast_signed()),
                nix::sys::signal::Signal::SIGTERM,
            );
            let _ = self.child.wait();
        }
    }
}
