//! Secret mounts: what a container sees of them, who else does, and that nothing of them stays.

use crate::support::client::McpClient;
use crate::support::lane::Lane;
use crate::support::world::World;
use nix::sys::signal::Signal;
use serde_json::json;
use sha2::{Digest, Sha256};
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Output;

/// In two pieces wherever a command of the model has it, so that a search does not find itself.
const CANARY: &str = "npm_mounted-canary-77ad41c09e";

/// Each world's own: several tests run at once, and one looks at all processes of this machine.
fn canary(world: &World) -> String {
    let name = world.root().file_name().unwrap();
    format!("{CANARY}-{}", name.to_str().unwrap())
}
/// No text, no line, and an end of line that is the file's own.
const BINARY: &[u8] = b"\0\xff\xfe binary-canary-5be2\r\n\n";

/// A directory in memory that the lane's user owns. The tests' machines need not have runtime directories in memory.
struct Memory(tempfile::TempDir);

impl Memory {
    fn new() -> Self {
        let builder = tempfile::Builder::new()
            .prefix("codex-mcp-secrets-")
            .tempdir_in("/dev/shm");
        Self(builder.unwrap())
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn setting(&self) -> String {
        format!("secrets_dir = \"{}\"\n", self.path().display())
    }

    fn give_to_user_of(&self, world: &World) {
        fs::set_permissions(self.path(), fs::Permissions::from_mode(0o700)).unwrap();
        world.give_to_user(self.path());
    }

    /// What is staged: a session's directory, and its files.
    fn staged(&self) -> Vec<PathBuf> {
        let mut found = Vec::new();
        let mut pending = vec![self.path().to_owned()];
        while let Some(directory) = pending.pop() {
            for entry in fs::read_dir(&directory).unwrap() {
                let path = entry.unwrap().path();
                match path.is_dir() {
                    true => pending.push(path),
                    false => found.push(path),
                }
            }
        }
        found.sort();
        found
    }
}

fn with_secrets(lane: Lane, memory: &Memory, tables: &str) -> Option<World> {
    let world = World::with_config(lane, &format!("{}{tables}", memory.setting()))?;
    memory.give_to_user_of(&world);
    Some(world)
}

const FROM_ENV: &str = "[secrets.npm-token]\nfrom = { env = \"NPM_CANARY\" }\n";

fn start(world: &World) -> McpClient {
    McpClient::start_in(world, |command| {
        command.env("NPM_CANARY", canary(world));
    })
}

fn inside(client: &mut McpClient, script: &str) -> String {
    let result = client.tool("codex", json!({"prompt": format!("#shell {script}")}));
    assert_ne!(result["isError"], true, "{result:#}");
    result["structuredContent"]["content"].as_str().unwrap().to_owned()
}

fn digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn a_secret_is_a_file_that_only_its_session_reads_and_nobody_changes(lane: Lane) {
    let memory = Memory::new();
    let source = tempfile::tempdir().unwrap();
    fs::set_permissions(source.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let file = source.path().join("binary");
    fs::write(&file, BINARY).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    let tables = format!(
        "{FROM_ENV}[secrets.binary]\nfrom = {{ file = \"{}\" }}\npath = \"~/.config/tool/key\"\n\
         [secrets.printed]\nfrom = {{ command = [\"printf\", \"line one\\nline two\\n\"] }}\npath = \"~/.netrc\"\n",
        file.display()
    );
    let Some(world) = with_secrets(lane, &memory, &tables) else {
        return;
    };
    world.give_to_user(source.path());
    let mut client = start(&world);
    let paths = [
        "/run/secrets/npm-token",
        "/home/codex/.config/tool/key",
        "/home/codex/.netrc",
    ];
    let all = paths.join(" ");
    let output = inside(
        &mut client,
        &format!(
            "echo uid=$(id -u).; for f in {all}; do sha256sum $f; echo \"$f $(stat -c '%a %u %F' $f).\"; \
             (echo x >> $f) 2>/dev/null && echo WROTE:$f; chmod 600 $f 2>/dev/null && echo CHMOD:$f; unlink $f 2>/dev/null && echo REMOVED:$f; \
             mv $f /tmp/moved 2>/dev/null && echo MOVED:$f; echo y > /tmp/y; mv -f /tmp/y $f 2>/dev/null && echo REPLACED:$f; \
             ln -sfn /tmp/y $f 2>/dev/null && echo LINKED:$f; done; \
             mv /run/secrets /tmp/s 2>/dev/null && echo MOVED-DIR; mv ~/.config ~/c 2>/dev/null && echo MOVED-HOME-DIR; \
             mv ~/.config/tool ~/.config/t 2>/dev/null && echo MOVED-TOOL-DIR; echo mounts=$(grep -c ' ro,' /proc/self/mountinfo); echo checked"
        ),
    );
    assert!(output.contains("checked"), "{output}");
    let uid = output
        .split("uid=")
        .nth(1)
        .unwrap()
        .split('.')
        .next()
        .unwrap()
        .to_owned();
    for (path, content) in paths
        .iter()
        .zip([canary(&world).as_bytes(), BINARY, b"line one\nline two"])
    {
        assert!(
            output.contains(&format!("{}  {path}", digest(content))),
            "{path}: {output}"
        );
        assert!(
            output.contains(&format!("{path} 400 {uid} regular file.")),
            "{path}: {output}"
        );
    }
    for done in ["WROTE", "CHMOD", "REMOVED", "MOVED", "REPLACED", "LINKED"] {
        assert!(!output.contains(done), "{done}: {output}");
    }

    // On the host: in memory, closed, and of the container's user.
    let staged = memory.staged();
    assert_eq!(staged.len(), 3, "{staged:?}");
    let directory = fs::metadata(staged[0].parent().unwrap()).unwrap();
    assert_eq!(directory.mode() & 0o7777, 0o700);
    for path in &staged {
        let metadata = fs::metadata(path).unwrap();
        assert_eq!(metadata.mode() & 0o7777, 0o400, "{path:?}");
        let reserved = (lane == Lane::RootfulPodman || lane == Lane::Docker).then_some(2_000_001_000);
        assert_eq!(metadata.uid(), reserved.unwrap_or(directory.uid()), "{path:?}");
    }
    client.close_stdin();
    assert!(client.wait().success());
    assert_eq!(memory.staged(), [""; 0].map(PathBuf::from), "nothing stays");
}

/// Every process of this machine but `except`: whose `what` in /proc has the value.
fn processes_with(canary: &str, what: &str, except: u32) -> Vec<String> {
    let processes = fs::read_dir("/proc").unwrap().map(|entry| entry.unwrap().path());
    let others = processes.filter(|path| {
        let pid = path
            .file_name()
            .and_then(|name| name.to_str())
            .and_then(|name| name.parse().ok());
        pid.is_some_and(|pid: u32| pid != except)
    });
    others
        .filter_map(|path| {
            let text = String::from_utf8_lossy(&fs::read(path.join(what)).ok()?).into_owned();
            text.contains(canary).then_some(text)
        })
        .collect()
}

fn a_secret_is_in_no_command_line_no_environment_and_no_file_beside_its_own(lane: Lane) {
    let memory = Memory::new();
    let Some(world) = with_secrets(lane, &memory, FROM_ENV) else {
        return;
    };
    let mut client = start(&world);
    // What is planted must be found, so that "nothing found" means something.
    let output = inside(
        &mut client,
        "p=mounted-canary-77ad; echo ${p}41c09e > /tmp/planted; \
         echo files=[$(LC_ALL=C grep -rasl 'mounted-canary-77ad41c09[e]' /etc /home /run /tmp /var /workspace $PWD | sort -u)]; \
         echo processes=[$(PLANTED=${p}41c09e sh -c 'cat /proc/*/environ /proc/*/cmdline' 2>/dev/null | tr '\\0' '\\n' \
         | LC_ALL=C grep -a 'mounted-canary-77ad41c09[e]' | sed 's/=.*//' | sort -u)]; echo \"said: $(cat /run/secrets/npm-token)\"",
    );
    assert!(
        output.contains("files=[/run/secrets/npm-token /tmp/planted]"),
        "{output}"
    );
    assert!(output.contains("processes=[PLANTED]"), "{output}");
    assert!(
        output.contains("said: [redacted]"),
        "what a result says of it is cut out: {output}"
    );

    let inspected = lane.engine().arg("inspect").args(world.running()).output().unwrap();
    let inspected = String::from_utf8(inspected.stdout).unwrap();
    assert!(
        inspected.contains("/run/secrets/npm-token"),
        "the mount is there: {inspected}"
    );
    assert!(!inspected.contains(CANARY));
    // The server was given it by this test; whoever it started must not have it.
    let server = client.child.id();
    assert_eq!(processes_with(&canary(&world), "cmdline", 0), [""; 0]);
    assert_eq!(processes_with(&canary(&world), "environ", server), [""; 0]);
    assert_eq!(
        processes_with(&canary(&world), "environ", 0).len(),
        1,
        "the search finds what is there"
    );
    // Codex itself keeps what a command printed, in the session's own home; nothing else on the disk has it.
    let kept = std::process::Command::new("grep")
        .args(["-rlF", "--exclude-dir=home", CANARY])
        .arg(world.path("state"))
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&kept.stdout), "");
}

/// A launch that fails after the files were staged: in the copy, and in the engine.
fn a_failed_launch_leaves_no_secret(lane: Lane) {
    let memory = Memory::new();
    let too_small = format!("[workspace]\nmax_files = 1\n{FROM_ENV}");
    let Some(world) = with_secrets(lane, &memory, &too_small) else {
        return;
    };
    fs::write(world.workspace().join("second"), "x").unwrap();
    fs::write(world.workspace().join("third"), "x").unwrap();
    world.give_to_user(&world.workspace());
    let mut copy_fails = world.codex_mcp(&["run", "hi"]);
    refused(
        &world,
        &memory,
        &copy_fails.env("NPM_CANARY", canary(&world)).output().unwrap(),
        2,
        &["max_files"],
    );

    world.edit_config("max_files = 1\n", "max_files = 1000\n");
    // The files are there when the engine is asked, and the engine fails.
    let seen = world.path("seen");
    let path = world.wrap_engine(&format!(
        "case \" $* \" in *\" --read-only \"*) ls {}/* > {}; echo broken >&2; exit 125;; esac\nexec \"$REAL\" \"$@\"\n",
        memory.path().display(),
        seen.display()
    ));
    let mut engine_fails = world.codex_mcp(&["run", "hi"]);
    let output = engine_fails
        .env("NPM_CANARY", canary(&world))
        .env("PATH", path)
        .output()
        .unwrap();
    refused(&world, &memory, &output, 4, &["broken"]);
    assert_eq!(
        fs::read_to_string(seen).unwrap().trim(),
        "npm-token",
        "it was staged before"
    );
}

#[track_caller]
fn refused(world: &World, memory: &Memory, output: &Output, code: i32, words: &[&str]) {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{stderr}");
    for word in words {
        assert!(stderr.contains(word), "{word:?} is not in:\n{stderr}");
    }
    assert!(!stderr.contains(CANARY), "{stderr}");
    assert_eq!(memory.staged(), [""; 0].map(PathBuf::from));
    assert_eq!(world.session_directories(), [""; 0].map(PathBuf::from));
}

fn what_sigkill_leaves_is_swept_by_a_start_that_stages_elsewhere(lane: Lane) {
    let (memory, elsewhere) = (Memory::new(), Memory::new());
    let Some(world) = with_secrets(lane, &memory, FROM_ENV) else {
        return;
    };
    elsewhere.give_to_user_of(&world);
    let mut killed = start(&world);
    killed.tool("codex", json!({"prompt": "#text ready"}));
    killed.signal(Signal::SIGKILL);
    killed.wait();
    assert_eq!(memory.staged().len(), 1, "nobody was there to remove it");

    world.edit_config(&memory.setting(), &elsewhere.setting());
    let mut next = start(&world);
    next.tool("codex", json!({"prompt": "#text swept"}));
    assert_eq!(memory.staged(), [""; 0].map(PathBuf::from));
    assert_eq!(elsewhere.staged().len(), 1, "the live session keeps its own");
    next.close_stdin();
    assert!(next.wait().success());
    assert_eq!(elsewhere.staged(), [""; 0].map(PathBuf::from));
}

fn what_can_not_be_a_secret_is_refused_before_anything_is_made(lane: Lane) {
    let memory = Memory::new();
    let Some(world) = with_secrets(lane, &memory, FROM_ENV) else {
        return;
    };
    let run = || world.codex_mcp(&["run", "hi"]).output().unwrap();
    refused(
        &world,
        &memory,
        &run(),
        3,
        &["npm-token", "config.toml:", "NPM_CANARY is not set"],
    );

    let source = world.path("source");
    let from_file = format!("from = {{ file = \"{}\" }}", source.display());
    world.edit_config("from = { env = \"NPM_CANARY\" }", &from_file);
    let write = |content: &[u8], mode| {
        fs::write(&source, content).unwrap();
        fs::set_permissions(&source, fs::Permissions::from_mode(mode)).unwrap();
        world.give_to_user(&source);
    };
    refused(&world, &memory, &run(), 3, &["npm-token", "source: No such file"]);
    write(CANARY.as_bytes(), 0o644);
    refused(&world, &memory, &run(), 3, &["npm-token", "mode 0644", "chmod 600 "]);
    write(&vec![b'x'; (1 << 20) + 1], 0o600);
    refused(&world, &memory, &run(), 3, &["npm-token", "larger than 1 MiB"]);

    // A directory on a disk, whatever it is called.
    let on_disk = world.path("on-disk");
    let setting = format!("secrets_dir = \"{}\"\n", on_disk.display());
    world.edit_config(&memory.setting(), &setting);
    refused(
        &world,
        &memory,
        &run(),
        3,
        &["secrets_dir", "config.toml:", "is on a disk", "/dev/shm/codex-mcp-"],
    );
    assert!(!on_disk.exists());

    world.edit_config(&setting, &memory.setting());
    write(&vec![b'x'; 1 << 20], 0o600);
    let mut client = McpClient::start(&world);
    let largest = inside(&mut client, "wc -c < /run/secrets/npm-token");
    assert!(largest.contains("1048576"), "{largest}");
}

/// What `secrets_dir` says where it is set, the runtime directory of whoever starts the server says otherwise.
fn the_runtime_directory_is_where_secrets_are_staged(lane: Lane) {
    let memory = Memory::new();
    let Some(world) = World::with_config(lane, FROM_ENV) else {
        return;
    };
    memory.give_to_user_of(&world);
    let mut client = McpClient::start_in(&world, |command| {
        command
            .env("NPM_CANARY", canary(&world))
            .env("XDG_RUNTIME_DIR", memory.path());
    });
    let output = inside(&mut client, "sha256sum /run/secrets/npm-token");
    assert!(output.contains(&digest(canary(&world).as_bytes())), "{output}");
    let staged = memory.staged();
    assert_eq!(staged.len(), 1, "{staged:?}");
    assert!(
        staged[0].starts_with(memory.path().join("codex-mcp/secrets")),
        "{staged:?}"
    );
}

on_every_lane!(
    a_secret_is_a_file_that_only_its_session_reads_and_nobody_changes,
    a_secret_is_in_no_command_line_no_environment_and_no_file_beside_its_own,
    a_failed_launch_leaves_no_secret,
    what_sigkill_leaves_is_swept_by_a_start_that_stages_elsewhere,
    what_can_not_be_a_secret_is_refused_before_anything_is_made,
);
// Rootless podman keeps its own state in the runtime directory, so a test can't give it another one.
on_lanes!([RootfulPodman, Docker] => the_runtime_directory_is_where_secrets_are_staged);
