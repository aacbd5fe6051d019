//! The way out of a container against the bare thing: throughput, the time that a request takes longer, and what a bulk
//! download does to a JSON line on the same pipe.
//!
//! Everything inside is started over the session's own link, without Codex, and reaches two servers on the host's
//! loopback ([`server`]). Ours and the bare thing take turns in one run. `scripts/bench relay` runs this once an engine,
//! as that engine's user:
//!
//! `relay podman|docker` prints one line a figure, tab-separated: its name, ours, the bare thing, and how they compare.
//! `BENCH_RUNS` sets how often each is done. `relay serve` and `relay client …` are the two ends of the traffic.
#![allow(
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::panic,
    reason = "a benchmark starts programs, prints what it saw and stops at the first surprise"
)]

mod client;
mod inside;
mod server;
#[path = "../support/mod.rs"]
mod support;

use codex_mcp::session::registry::{Sessions, Urgency};
use inside::{Inside, Process};
use serde_json::{Value, json};
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};
use support::{Times, session};
use tokio::runtime::Runtime;

/// Of one transfer: long enough that its start does not count.
const BYTES: u64 = 256 << 20;
/// Of one turn.
const REQUESTS: usize = 300;
const LINES: usize = 300;
/// A line as short as most notifications are.
const LINE: [u8; 128] = [b'x'; 128];

fn main() {
    let arguments: Vec<String> = std::env::args()
        .skip(1)
        .filter(|word| !word.starts_with("--"))
        .collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["serve"] => server::serve(),
        ["client", ref arguments @ ..] => client::run(arguments),
        [engine @ ("podman" | "docker")] => measure(engine),
        _ => panic!("say the engine: podman or docker"),
    }
}

fn measure(engine: &str) {
    let runs = support::number_from_env("BENCH_RUNS", 7);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    let servers = Servers::start();
    let world = tempfile::tempdir().unwrap();
    let workspace = world.path().join("workspace");
    fs::create_dir(&workspace).unwrap();
    fs::copy(std::env::current_exe().unwrap(), workspace.join("relay")).unwrap();
    // The model's address is never called.
    let sessions = session::sessions(world.path(), engine, "http://127.0.0.1:9/v1", &servers.network());
    let inside = runtime.block_on(Inside::start(&sessions));
    let bench = Bench {
        runtime,
        sessions,
        servers,
        inside,
    };
    bench.throughput(runs);
    bench.requests(runs);
    bench.lines(runs);
    bench.runtime.block_on(bench.inside.stop());
    bench.runtime.block_on(bench.sessions.shut_down(Urgency::Graceful));
}

/// The process that the container reaches.
struct Servers {
    child: Child,
    http: String,
    raw: String,
}

impl Servers {
    fn start() -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .arg("serve")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut ports = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut ports)
            .unwrap();
        let (http, raw) = ports.trim_end().split_once(' ').unwrap();
        Self {
            http: format!("127.0.0.1:{http}"),
            raw: format!("127.0.0.1:{raw}"),
            child,
        }
    }

    /// What allows them, and no bound that a benchmark meets.
    fn network(&self) -> String {
        let Self { http, raw, .. } = self;
        format!(
            "[network]\nallow = [\"{http}\", \"{raw}/tcp\"]\nprivate = [\"127.0.0.1/32\"]\n\
             connections_per_second = 10000\nbytes = \"100TiB\"\n"
        )
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}

struct Bench {
    runtime: Runtime,
    sessions: Sessions,
    servers: Servers,
    inside: Inside,
}

#[derive(Debug, Clone, Copy)]
enum Direction {
    Down,
    Up,
    Both,
}

/// A way through the relay: its name, and the command that takes it.
type Transfer = (&'static str, Direction, fn(&Bench) -> Vec<String>);

const TRANSFERS: [Transfer; 7] = [
    ("download, plain HTTP", Direction::Down, |bench| bench.curl_down(&[])),
    ("download, HTTP in a CONNECT", Direction::Down, |bench| {
        bench.curl_down(&["--proxytunnel"])
    }),
    ("download, raw tunnel", Direction::Down, |bench| bench.tunnel("down")),
    ("upload, plain HTTP", Direction::Up, |bench| bench.curl_up(&[])),
    ("upload, HTTP in a CONNECT", Direction::Up, |bench| {
        bench.curl_up(&["--proxytunnel"])
    }),
    ("upload, raw tunnel", Direction::Up, |bench| bench.tunnel("up")),
    ("both ways at once, raw tunnel", Direction::Both, |bench| {
        bench.tunnel("both")
    }),
];

impl Bench {
    fn curl(&self, more: &[&str]) -> Vec<String> {
        let proxy = format!("http://{}", self.inside.proxy());
        let fixed = ["/usr/bin/curl", "--silent", "--show-error", "--fail", "--proxy", &proxy];
        [&fixed, more, &["--output", "/dev/null", "--write-out", "%{time_total}"]]
            .concat()
            .iter()
            .map(|&word| word.to_owned())
            .collect()
    }

    fn curl_down(&self, more: &[&str]) -> Vec<String> {
        let address = format!("http://{}/{BYTES}", self.servers.http);
        self.curl(&[more, &[&address]].concat())
    }

    fn curl_up(&self, more: &[&str]) -> Vec<String> {
        let address = format!("http://{}/", self.servers.http);
        self.curl(&[more, &["--header", "Expect:", "--upload-file", "zeros", &address]].concat())
    }

    fn tunnel(&self, direction: &str) -> Vec<String> {
        let Self { inside, servers, .. } = self;
        inside.client(&["tunnel", direction, &inside.proxy(), &servers.raw, &BYTES.to_string()])
    }

    fn throughput(&self, runs: usize) {
        self.run(
            &[
                "/bin/dd",
                "if=/dev/zero",
                "of=zeros",
                "bs=1M",
                &format!("count={}", BYTES >> 20),
            ]
            .map(str::to_owned),
        );
        let mut bare = <[Times; 3]>::default();
        let mut ours = <[Times; TRANSFERS.len()]>::default();
        // The first of each is a warm-up.
        for run in 0..=runs {
            let down = self.bare_down();
            let up = self.bare_up();
            let both = self.bare_both();
            for ((_, _, command), times) in TRANSFERS.iter().zip(&mut ours) {
                let time = took(&self.run(&command(self)));
                if run > 0 {
                    times.add(time);
                }
            }
            if run > 0 {
                bare[Direction::Down as usize].add(down);
                bare[Direction::Up as usize].add(up);
                bare[Direction::Both as usize].add(both);
            }
        }
        let rate = |times: &Times| format!("{:.0} MB/s", BYTES as f64 / 1e3 / times.median());
        let [_, _, cat] = &bare;
        for ((name, direction, _), times) in TRANSFERS.iter().zip(&ours) {
            let way = &bare[*direction as usize];
            println!(
                "{name}\t{}\t{}\t{:.2} of it, {:.2} of `cat`",
                rate(times),
                rate(way),
                way.ratio_to(times),
                cat.ratio_to(times)
            );
        }
    }

    /// The bytes down the bare pipe, from the first of them to the word of whoever read the last.
    fn bare_down(&self) -> Duration {
        self.bare("echo begin; cat >/dev/null; echo done", |pipe| {
            let mut stdin = pipe.stdin.take().unwrap();
            server::zeros(&mut stdin, &[], BYTES).unwrap();
            drop(stdin);
            pipe.line();
        })
    }

    fn bare_up(&self) -> Duration {
        let script = format!(
            "echo begin; read go; exec dd if=/dev/zero bs=64K count={} status=none",
            BYTES >> 16
        );
        self.bare(&script, |pipe| {
            pipe.stdin.as_mut().unwrap().write_all(b"go\n").unwrap();
            server::swallow(&mut pipe.stdout, BYTES).unwrap();
        })
    }

    /// `cat`, as it is.
    fn bare_both(&self) -> Duration {
        self.bare("echo begin; exec cat", |pipe| {
            let mut stdin = pipe.stdin.take().unwrap();
            let sending = std::thread::spawn(move || server::zeros(&mut stdin, &[], BYTES));
            server::swallow(&mut pipe.stdout, BYTES).unwrap();
            sending.join().unwrap().unwrap();
        })
    }

    fn bare(&self, script: &str, transfer: impl FnOnce(&mut Pipe)) -> Duration {
        let (ground, decided) = self
            .runtime
            .block_on(self.sessions.decide(&session::request()))
            .unwrap();
        let directory = session::prepare(&ground, &decided);
        let argv = ["/bin/sh", "-c", script].map(str::to_owned);
        let command = session::by_hand(&decided.plan, "/", &Default::default(), &argv);
        let mut child = session::as_client(&ground, &command)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut pipe = Pipe {
            stdin: child.stdin.take(),
            stdout: BufReader::with_capacity(256 << 10, child.stdout.take().unwrap()),
        };
        pipe.line();
        let start = Instant::now();
        transfer(&mut pipe);
        let time = start.elapsed();
        drop(pipe);
        assert!(child.wait().unwrap().success());
        directory.remove().unwrap();
        time
    }

    /// Small requests one after the other. The bare thing is the same program with the same requests on the host,
    /// straight at the server: the server is the host's, so nothing in the container could reach it without a relay.
    fn requests(&self, runs: usize) {
        let ways = [
            ("request, plain HTTP, kept alive", "plain"),
            ("request, HTTP in a CONNECT, kept alive", "connect"),
            ("request, plain HTTP, a connection each", "anew"),
        ];
        let Self { inside, servers, .. } = self;
        let count = REQUESTS.to_string();
        let mut ours = <[Times; 3]>::default();
        let mut direct = Times::default();
        for _ in 0..runs {
            let output = Command::new(std::env::current_exe().unwrap())
                .args(["client", "requests", "direct", "-", &servers.http, &count])
                .output()
                .unwrap();
            direct.add_micros(&String::from_utf8(output.stdout).unwrap());
            for ((_, way), times) in ways.iter().zip(&mut ours) {
                times.add_micros(&self.run(&inside.client(&["requests", way, &inside.proxy(), &servers.http, &count])));
            }
        }
        for ((name, _), times) in ways.iter().zip(&ours) {
            compare(name, times, &direct);
        }
    }

    /// Lines there and back while nothing else runs and while a download fills the pipe.
    fn lines(&self, runs: usize) {
        let Self { inside, servers, .. } = self;
        let [mut echo, mut echo_loaded, mut codex, mut codex_loaded] = <[Times; 4]>::default();
        let mut rates = Vec::new();
        self.runtime.block_on(async {
            let mut cat = inside.spawn(&["/bin/cat".to_owned()]).await;
            let mut app_server = AppServer::start(inside).await;
            for _ in 0..runs {
                time_echo(&mut cat, &mut echo).await;
                app_server.time(&mut codex).await;
                let mut flood = inside
                    .spawn(&inside.client(&["flood", &inside.proxy(), &servers.raw]))
                    .await;
                assert_eq!(flood.line().await, "flows");
                time_echo(&mut cat, &mut echo_loaded).await;
                app_server.time(&mut codex_loaded).await;
                flood.close().await;
                let (bytes, micros) = flood.line().await.split_once(' ').map(numbers).unwrap();
                rates.push(bytes / micros);
                flood.wait().await;
            }
        });
        rates.sort_unstable_by(f64::total_cmp);
        let rate = format!("under a download of {:.0} MB/s", rates[rates.len() / 2]);
        compare(&format!("line to `cat` and back, {rate}"), &echo_loaded, &echo);
        compare(&format!("app-server request, {rate}"), &codex_loaded, &codex);
    }

    fn run(&self, argv: &[String]) -> String {
        self.runtime.block_on(self.inside.run(argv))
    }
}

fn numbers((bytes, micros): (&str, &str)) -> (f64, f64) {
    (bytes.parse().unwrap(), micros.parse().unwrap())
}

/// The seconds that curl printed, or the microseconds that our client did.
fn took(printed: &str) -> Duration {
    match printed.trim() {
        seconds if seconds.contains('.') => Duration::from_secs_f64(seconds.parse().unwrap()),
        micros => Duration::from_micros(micros.parse().unwrap()),
    }
}

fn compare(name: &str, ours: &Times, bare: &Times) {
    let text = |times: &Times| format!("{:.2} ({:.2}) ms", times.median(), times.p99());
    let more = ours.median() - bare.median();
    let more_p99 = ours.p99() - bare.p99();
    println!("{name}\t{}\t{}\t{more:+.2} ({more_p99:+.2})", text(ours), text(bare));
}

/// Both ends of a bare client.
struct Pipe {
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
}

impl Pipe {
    fn line(&mut self) {
        assert!(
            self.stdout.read_line(&mut String::new()).unwrap() > 0,
            "the container ended"
        );
    }
}

async fn time_echo(cat: &mut Process, times: &mut Times) {
    for _ in 0..LINES {
        let start = Instant::now();
        cat.write(&LINE).await;
        cat.read(&mut [0; LINE.len()]).await;
        times.add(start.elapsed());
    }
}

/// Codex's app-server, with its handshake done.
struct AppServer {
    process: Process,
    requests: u64,
}

impl AppServer {
    async fn start(inside: &Inside) -> Self {
        let process = inside.codex().await;
        let mut this = Self { process, requests: 0 };
        let info = json!({"name": "codex_mcp", "title": "codex-mcp", "version": env!("CARGO_PKG_VERSION")});
        this.call(
            "initialize",
            json!({"clientInfo": info, "capabilities": {"experimentalApi": true}}),
        )
        .await;
        this.process.write(b"{\"method\":\"initialized\"}\n").await;
        this
    }

    async fn call(&mut self, method: &str, params: Value) {
        self.requests += 1;
        let request = json!({"id": self.requests, "method": method, "params": params});
        self.process.write(format!("{request}\n").as_bytes()).await;
        loop {
            let answer: Value = serde_json::from_str(&self.process.line().await).unwrap();
            if answer["id"] == self.requests && answer.get("method").is_none() {
                assert!(answer["result"].is_object(), "{answer}");
                return;
            }
        }
    }

    /// The cheapest request that it answers.
    async fn time(&mut self, times: &mut Times) {
        for _ in 0..LINES {
            let start = Instant::now();
            self.call("thread/loaded/list", json!({})).await;
            times.add(start.elapsed());
        }
    }
}
