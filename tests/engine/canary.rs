//! A key that must be nowhere: looked for in all that a container can read, and in all that this program leaves or says on the
//! host, over a whole turn and a crash.
//!
//! The search must not find itself, so the values are only ever spelled out by the host; inside they are put together from
//! numbers. A second value, planted in each kind of place, shows that the search finds what is there.

use crate::inside::{Inside, Ran};
use crate::support::client::McpClient;
use crate::support::lane::Lane;
use crate::support::world::World;
use nix::sys::signal::Signal;
use serde_json::json;
use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Of no shape that a redactor knows, and each world's own: tests run at once, and one looks at all processes.
fn canary(world: &World) -> String {
    let name = world.root().file_name().unwrap();
    format!("Canary.key+{}/\"of the operator\"=9d1f", name.to_str().unwrap())
}

const CONTROL: &str = "Control-value-5be2-that-is-planted";

/// Numbers that only this search knows to be letters.
fn spelled(text: &str) -> String {
    text.bytes()
        .map(|byte| (byte ^ 0x55).to_string())
        .collect::<Vec<_>>()
        .join(",")
}

/// Files, links, environments, command lines and memory of every process that can be read; prints where each value is.
const SEARCH: &str = r#"
use strict; no warnings;
my %want = map { my ($n, $v) = split /=/; ($n => join('', map { chr($_ ^ 0x55) } split /,/, $v)) } @ARGV;
my ($files, $bytes, $procs, $maps) = (0, 0, 0, 0);
sub look { my ($where, $text) = @_; for (sort keys %want) { print "FOUND $_ $where\n" if index($text, $want{$_}) >= 0 } }
sub file { my ($path, $where) = @_; open(my $f, '<:raw', $path) or return; my ($keep, $buf) = ('', '');
  while (1) { my $n = sysread($f, $buf, 1 << 20); last unless $n; $bytes += $n; look($where, $keep . $buf); $keep = substr($buf, -200); } }
my @dirs = ('/'); my %seen;
while (defined(my $d = shift @dirs)) {
  opendir(my $h, $d) or next;
  for my $n (readdir $h) { next if $n eq '.' || $n eq '..'; my $p = $d eq '/' ? "/$n" : "$d/$n";
    look("name", $p); if (-l $p) { look("link $p", readlink $p); next }
    next if $p =~ m{^/(proc|sys)$}; my ($dev, $ino) = lstat $p; next if $seen{"$dev $ino"}++;
    if (-d _) { push @dirs, $p } elsif (-f _ && (-s _) < (600 << 20)) { $files++; file($p, "file $p") } } }
for my $pid (grep { /^\d+$/ && $_ != $$ } map { s{^/proc/}{}r } glob '/proc/*') {
  $procs++; file("/proc/$pid/environ", "environ of a process"); file("/proc/$pid/cmdline", "cmdline of a process");
  open(my $m, '<', "/proc/$pid/maps") or next; my @maps = <$m>; open(my $mem, '<:raw', "/proc/$pid/mem") or next;
  for (@maps) { /^([0-9a-f]+)-([0-9a-f]+) r\S+ \S+ \S+ (\d+)/ or next; no warnings 'portable'; my ($s, $e, $ino) = (hex $1, hex $2, $3);
    next if $ino && ($e - $s) > (64 << 20); next if $e - $s > (1 << 30); $maps++;
    for (my $at = $s; $at < $e; $at += 4 << 20) { my $len = $e - $at < (4 << 20) ? $e - $at : 4 << 20; my $buf = '';
      sysseek($mem, $at, 0) or next; my $n = sysread($mem, $buf, $len) or next; $bytes += $n; look("memory of a process", $buf); } } }
print "searched files=$files procs=$procs maps=$maps mib=", $bytes >> 20, "\n";
"#;

fn search(world: &World) -> String {
    let (key, control) = (spelled(&canary(world)), spelled(CONTROL));
    // The control: a file, an environment, a command line, and the memory of a process that has forgotten how it came to it.
    let plant = format!(
        "value=$(perl -e 'print map {{ chr($_ ^ 0x55) }} ({control})'); echo \"$value\" >/tmp/planted\n\
         PLANTED=\"$value\" sleep 100 & sh -c 'sleep 100; : ignored' \"$value\" &\n\
         perl -e 'my $v = join \"\", map {{ chr($_ ^ 0x55) }} ({control}); sleep 100' & sleep 0.5\n"
    );
    format!(
        "{plant}cat >/tmp/search.pl <<'END_OF_SEARCH'\n{SEARCH}END_OF_SEARCH\n\
         perl /tmp/search.pl key={key} control={control} | sort | uniq -c | head -40\necho over; kill %1 %2 %3\n"
    )
}

/// What the program leaves behind or says, each with a name.
fn find_in_tree(directory: &Path, value: &str, found: &mut Vec<String>) -> u64 {
    let mut searched = 0;
    let mut pending = vec![directory.to_owned()];
    while let Some(path) = pending.pop() {
        let Ok(metadata) = fs::symlink_metadata(&path) else {
            continue;
        };
        if metadata.is_dir() {
            pending.extend(
                fs::read_dir(&path)
                    .into_iter()
                    .flatten()
                    .map(|entry| entry.unwrap().path()),
            );
        } else if metadata.is_file() {
            searched += 1;
            let bytes = fs::read(&path).unwrap_or_default();
            if bytes.windows(value.len()).any(|window| window == value.as_bytes()) {
                found.push(path.display().to_string());
            }
        }
    }
    searched
}

/// Environment and command line of every process but the server, which was started with the key, and its launcher.
fn find_in_processes(value: &str, server: u32, found: &mut Vec<String>) {
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        for what in ["environ", "cmdline"] {
            let bytes = fs::read(entry.path().join(what)).unwrap_or_default();
            let is_there = bytes.windows(value.len()).any(|window| window == value.as_bytes());
            if is_there && (pid != server || what == "cmdline") {
                found.push(format!("{what} of {}", String::from_utf8_lossy(&bytes)));
            }
        }
    }
}

fn start_with_the_key(world: &World, log: &Path) -> McpClient {
    world.edit_config(
        "[providers.scripted]\n",
        "[providers.scripted]\nkey = { env = \"CANARY_KEY\" }\n",
    );
    let log = File::create(log).unwrap();
    McpClient::start_in(world, |command: &mut Command| {
        command.env("CANARY_KEY", canary(world)).args(["--log", "trace"]);
        command.stderr(Stdio::from(log));
    })
}

fn a_canary_key_is_nowhere_over_a_turn_and_a_crash(lane: Lane) {
    let Some(world) = World::new(lane) else { return };
    let logs = tempfile::tempdir().unwrap();
    let log = logs.path().join("log");
    let mut inside = Inside::of(start_with_the_key(&world, &log));
    let Ran { text, .. } = inside.run_patiently(&search(&world));
    let (mut client, thread) = (inside.client, inside.thread.unwrap());

    // It was used,
    let bearer = format!("Bearer {}", canary(&world));
    let requests = world.model.requests();
    assert!(requests.len() >= 2, "{requests:?}");
    assert!(
        requests
            .iter()
            .all(|request| request.headers["authorization"] == bearer.as_str())
    );
    // the search ended and finds what is there,
    assert!(text.contains("searched files="), "{text}");
    for place in [
        "file /tmp/planted",
        "environ of a process",
        "cmdline of a process",
        "memory of a process",
    ] {
        assert!(text.contains(&format!("FOUND control {place}")), "{place}: {text}");
    }
    // and it is not inside.
    assert!(!text.contains("FOUND key"), "{text}");

    // Nor outside, while the container runs,
    let name = world.container_names().pop().unwrap();
    let inspected = lane.engine().args(["inspect", &name]).output().unwrap();
    assert!(inspected.status.success());
    let mut found = Vec::new();
    let value = canary(&world);
    let inspected = String::from_utf8_lossy(&inspected.stdout).into_owned();
    assert!(inspected.contains(&name));
    if inspected.contains(&value) || inspected.contains(json!(value).to_string().trim_matches('"')) {
        found.push("inspect".to_owned());
    }
    find_in_processes(&value, client.child.id(), &mut found);
    // nor after a server that died in the middle of a turn,
    client.begin_tool(
        "codex-reply",
        json!({"threadId": thread, "prompt": "#text begins\n#hang"}),
    );
    let deadline = Instant::now() + Duration::from_secs(30);
    while world.model.requests().len() < requests.len() + 1 {
        assert!(Instant::now() < deadline, "the turn did not begin");
        std::thread::sleep(Duration::from_millis(20));
    }
    client.signal(Signal::SIGKILL);
    client.wait();
    assert!(
        find_in_tree(&world.path("state"), &value, &mut found) > 20,
        "the state directory was searched"
    );
    // nor in what it said.
    let said = fs::read_to_string(&log).unwrap();
    assert!(
        said.contains("TRACE") && said.contains("starting the container"),
        "everything was logged:\n{said}"
    );
    let answers = format!("{text}{:?}", client.notifications);
    for (what, text) in [("the log", &said), ("an answer", &answers)] {
        if text.contains(&value) || text.contains(json!(value).to_string().trim_matches('"')) {
            found.push(what.to_owned());
        }
    }
    assert_eq!(found, [""; 0]);
}

/// Whoever brought it in: the last layer is for what all others overlooked.
fn a_key_that_somebody_repeats_is_in_no_result_and_no_log(lane: Lane) {
    let Some(world) = World::new(lane) else { return };
    let value = canary(&world);
    let logs = tempfile::tempdir().unwrap();
    let log = logs.path().join("log");
    let mut client = start_with_the_key(&world, &log);
    let said = client.tool(
        "codex",
        json!({"prompt": format!("#text the key is {value}, is it not?")}),
    );
    assert_eq!(
        said["structuredContent"]["content"], "the key is [redacted], is it not?",
        "{said:#}"
    );
    let text = said.to_string();
    let spelled = json!(value).to_string();
    let logged = fs::read_to_string(&log).unwrap();
    assert!(logged.contains("TRACE"), "{logged}");
    for text in [text, logged] {
        assert!(
            !text.contains(&value) && !text.contains(spelled.trim_matches('"')),
            "{text}"
        );
    }
}

on_every_lane!(
    a_canary_key_is_nowhere_over_a_turn_and_a_crash,
    a_key_that_somebody_repeats_is_in_no_result_and_no_log
);
