//! The HTTP transport as a process: where it listens, who gets in, how it ends. No engine is needed for any of it.

use assert_cmd::cargo::CommandCargoExt;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Output, Stdio};
use tempfile::TempDir;

struct Home(TempDir);

impl Home {
    fn new() -> Self {
        let home = tempfile::tempdir().unwrap();
        std::fs::create_dir(home.path().join("project")).unwrap();
        Self(home)
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::cargo_bin("codex-mcp").unwrap();
        command
            .args(args)
            .env_clear()
            .env("HOME", self.0.path())
            .env("PATH", self.0.path())
            .current_dir(self.0.path().join("project"));
        command
    }

    fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// A server, and the port that it told of.
struct Served {
    child: Child,
    stderr: BufReader<std::process::ChildStderr>,
    address: String,
}

impl Served {
    fn new(home: &Home) -> Self {
        let mut child = home
            .command(&["serve", "--transport", "http", "--listen", "127.0.0.1:0"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stderr = BufReader::new(child.stderr.take().unwrap());
        let mut line = String::new();
        stderr.read_line(&mut line).unwrap();
        let address = line.trim().strip_prefix("serving MCP at http://");
        let address = address.and_then(|rest| rest.strip_suffix("/mcp"));
        let address = address.unwrap_or_else(|| panic!("no address: {line}")).to_owned();
        Self { child, stderr, address }
    }

    fn get(&self, path: &str, token: Option<&str>) -> String {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        let authorization = token.map_or(String::new(), |token| format!("Authorization: Bearer {token}\r\n"));
        write!(
            stream,
            "GET {path} HTTP/1.1\r\nHost: {}\r\n{authorization}Connection: close\r\n\r\n",
            self.address
        )
        .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    /// What it wrote on stdout and stderr, after SIGTERM.
    fn ended(mut self) -> (String, String) {
        kill(Pid::from_raw(self.child.id().try_into().unwrap()), Signal::SIGTERM).unwrap();
        let status = self.child.wait().unwrap();
        assert!(status.success(), "{status}");
        let (mut stdout, mut stderr) = (String::new(), String::new());
        self.child.stdout.take().unwrap().read_to_string(&mut stdout).unwrap();
        self.stderr.read_to_string(&mut stderr).unwrap();
        (stdout, stderr)
    }
}

#[test]
fn a_token_is_printed_once_and_lets_in_until_it_is_revoked() {
    let home = Home::new();
    let served = Served::new(&home);
    assert!(served.get("/healthz", None).starts_with("HTTP/1.1 200"));
    assert!(served.get("/metrics", None).starts_with("HTTP/1.1 200"));
    let added = home.run(&["token", "add", "laptop"]);
    assert!(added.status.success(), "{}", text(&added.stderr));
    let token = text(&added.stdout).trim().to_owned();
    assert!(token.starts_with("codexmcp_"), "{token}");
    let refused = served.get("/metrics", None);
    assert!(refused.starts_with("HTTP/1.1 401"), "{refused}");
    assert!(refused.to_lowercase().contains("www-authenticate: bearer"), "{refused}");
    let numbers = served.get("/metrics", Some(&token));
    assert!(
        numbers.contains("codex_mcp_turns_total{outcome=\"completed\"} 0"),
        "{numbers}"
    );
    assert!(served.get("/healthz", None).starts_with("HTTP/1.1 200"));
    let listed = text(&home.run(&["token", "list"]).stdout);
    assert!(listed.contains("laptop") && !listed.contains(&token), "{listed}");
    let again = home.run(&["token", "add", "laptop"]);
    assert_eq!(again.status.code(), Some(2), "{}", text(&again.stderr));
    assert!(home.run(&["token", "revoke", "laptop"]).status.success());
    assert!(served.get("/metrics", Some(&token)).starts_with("HTTP/1.1 401"));
    let (stdout, stderr) = served.ended();
    assert_eq!(stdout, "");
    assert!(!stderr.contains(&token), "{stderr}");
}

#[test]
fn beyond_loopback_it_does_not_listen_without_tokens_and_a_proxy() {
    let home = Home::new();
    let serve = ["serve", "--transport", "http", "--listen", "0.0.0.0:0"];
    let refused = home.run(&serve);
    assert_eq!(refused.status.code(), Some(3));
    assert_eq!(text(&refused.stdout), "");
    for words in ["0.0.0.0:0 (flag --listen)", "codex-mcp token add NAME", "127.0.0.1"] {
        assert!(
            text(&refused.stderr).contains(words),
            "{words}: {}",
            text(&refused.stderr)
        );
    }
    assert!(home.run(&["token", "add", "laptop"]).status.success());
    let refused = text(&home.run(&serve).stderr);
    assert!(refused.contains("http.behind_proxy = true"), "{refused}");
}

#[test]
fn an_address_without_http_is_a_slip() {
    let refused = Home::new().run(&["serve", "--listen", "127.0.0.1:1"]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(text(&refused.stderr).contains("--transport http"));
}

#[test]
fn a_port_that_is_taken_is_named() {
    let home = Home::new();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let refused = home.run(&["serve", "--transport", "http", "--listen", &address]);
    assert_eq!(refused.status.code(), Some(3));
    let told = text(&refused.stderr);
    assert!(told.contains(&address) && told.contains("http.listen"), "{told}");
}
