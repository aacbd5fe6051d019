//! What a container may do to a folder of the host that is mounted with the protections of `workspace::bind`, judged by what
//! git on the host runs afterwards. Each attack also runs with less protection, where it has to succeed: one that can't
//! prove nothing.

use crate::support::lane::Lane;
use crate::support::world::World;
use codex_mcp::workspace::bind::{Protection, facts, placeholder, placeholder::PlaceholderRecord, protect};
use std::fs;
use std::os::unix::fs::{MetadataExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Makes the folder a repository of its own whose configuration has git run a program at the next `git status`.
const BARE: &str = "mkdir -p objects refs; rmdir HEAD; echo 'ref: refs/heads/x' > HEAD; printf '[core]\\nrepositoryformatversion=0\\nbare=false\\nworktree=.\\nfsmonitor=\"touch PWNED; false\"\\n' > config";
/// The same by a directory in the place of `.git`.
const REPLACED: &str = "mv .git .old || rm -rf .git; mkdir .git && cp -r .old/. .git/; git init -q; git config core.fsmonitor 'touch PWNED; false'";
/// Makes the repository's own hooks and configuration others.
const WRITTEN: &str =
    "printf '[core]\\nfsmonitor=\"touch PWNED; false\"\\n' >> $(git rev-parse --git-common-dir)/config";

/// Who the container's processes are on the host, and the engine's command line without what is mounted.
struct Launch {
    argv: Vec<String>,
    owner: u32,
}

impl Launch {
    /// From `codex-mcp plan`: every flag is the product's. The labels are left out, or another test's sweep would find a
    /// container whose owner is gone.
    fn of(world: &World) -> Self {
        let output = world.codex_mcp(&["plan", "--json"]).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let plan: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        let argv = plan["command"]
            .as_array()
            .unwrap()
            .iter()
            .map(|arg| arg.as_str().unwrap().to_owned());
        let mut kept = Vec::new();
        let mut argv = argv.skip(1);
        while let Some(arg) = argv.next() {
            match arg.as_str() {
                "--volume" | "--label" | "--name" | "--workdir" | "--entrypoint" => drop(argv.next()),
                _ => kept.push(arg),
            }
        }
        assert_eq!(kept.pop().as_deref(), Some("guest"));
        let owner = plan["plan"]["user"]["host_uid"].as_u64().unwrap().try_into().unwrap();
        Self { argv: kept, owner }
    }

    /// Runs a shell line in the folder, with these mounts over it; says what it printed.
    fn run(&self, lane: Lane, folder: &Path, protection: &Protection, script: &str) -> String {
        let at = |path: &Path, access: &str| format!("{0}:{0}:{access}", path.display());
        let mut volumes: Vec<String> = protection.git_elsewhere.iter().map(|git| at(git, "ro")).collect();
        volumes.push(at(folder, "rw"));
        volumes.extend(protection.names.iter().map(|name| at(&folder.join(name), "ro")));
        let (image, flags) = self.argv.split_last().unwrap();
        let mut command = lane.engine();
        command
            .args(flags)
            .arg("--workdir")
            .arg(folder)
            .args(["--entrypoint", "/bin/sh"]);
        for volume in volumes {
            command.args(["--volume", &volume]);
        }
        // Its own scratch home is empty: git must take the folder for its user's.
        let script = format!("export HOME=/tmp; {script}; ls -d $PWD > /dev/null && echo REACHED-THE-END");
        let output = command.args([image, "-c", &script]).output().unwrap();
        let printed = [output.stdout, output.stderr].concat();
        let printed = String::from_utf8_lossy(&printed).into_owned();
        assert!(printed.contains("REACHED-THE-END"), "{printed}");
        printed
    }
}

fn git(folder: &Path, args: &[&str]) {
    let safe = ["-c", "safe.directory=*", "-c", "user.name=a", "-c", "user.email=a@b"];
    let output = Command::new("git")
        .arg("-C")
        .arg(folder)
        .args(safe)
        .args(args)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// What a person does next: did that run what the container wrote?
fn status_runs_what_was_planted(folder: &Path) -> bool {
    // Its own success does not matter: a broken repository is no attack.
    let _ = Command::new("git")
        .arg("-C")
        .arg(folder)
        .args(["-c", "safe.directory=*", "status"])
        .output()
        .unwrap();
    folder.join("PWNED").exists()
}

fn give(path: &Path, owner: u32) {
    let mut pending = vec![path.to_owned()];
    while let Some(path) = pending.pop() {
        chown(&path, Some(owner), Some(owner)).unwrap();
        if path.is_dir() {
            pending.extend(fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()));
        }
    }
}

/// A plain folder, a repository, a worktree.
fn folder(world: &World, launch: &Launch, name: &str, kind: &str) -> PathBuf {
    let root = world.path(name);
    let folder = match kind {
        "worktree" => root.join("tree"),
        _ => root.join("main"),
    };
    fs::create_dir_all(root.join("main")).unwrap();
    if kind != "plain" {
        git(&root.join("main"), &["init", "-q"]);
        git(&root.join("main"), &["commit", "-q", "--allow-empty", "-m", "x"]);
    }
    if kind == "worktree" {
        git(&root.join("main"), &["worktree", "add", "-q", folder.to_str().unwrap()]);
    }
    give(&root, launch.owner);
    folder
}

fn nothing_planted_runs_on_the_host(lane: Lane) {
    let Some(world) = World::new(lane) else { return };
    let launch = Launch::of(&world);
    for (kind, attack, needed) in [
        ("plain", BARE, "HEAD"),
        ("plain", REPLACED, ".git"),
        ("repository", REPLACED, ".git"),
        ("repository", WRITTEN, ".git"),
        ("worktree", REPLACED, ".git"),
    ] {
        let case = format!("{kind}-without-{needed}-{}", attack.len());
        let attacked = folder(&world, &launch, &case, kind);
        let whole = protect(&facts::read(&attacked, None).unwrap()).unwrap();
        let mut less = whole.clone();
        assert!(less.names.remove(needed), "{case}: {whole:?}");
        less.placeholders.retain(|name| name.as_str() != needed);
        for (protection, expected) in [(&whole, false), (&less, true)] {
            let record = PlaceholderRecord {
                folder: attacked.clone(),
                names: protection.placeholders.clone(),
            };
            let made = placeholder::make(record, (launch.owner, launch.owner)).unwrap();
            give(&attacked, launch.owner);
            let printed = launch.run(lane, &attacked, protection, attack);
            assert_eq!(status_runs_what_was_planted(&attacked), expected, "{case}: {printed}");
            made.remove().unwrap();
            assert_eq!(
                status_runs_what_was_planted(&attacked),
                expected,
                "{case}, after its end: {printed}"
            );
        }
    }
}

fn git_works_in_a_worktree_and_writes_nothing(lane: Lane) {
    let Some(world) = World::new(lane) else { return };
    let launch = Launch::of(&world);
    let tree = folder(&world, &launch, "w", "worktree");
    let protection = protect(&facts::read(&tree, None).unwrap()).unwrap();
    let script = "touch new; git status --short; git log --format=%s; git commit -q --allow-empty -m y && echo COMMITTED; \
                  git config x.y z && echo CONFIGURED";
    let printed = launch.run(lane, &tree, &protection, script);
    assert!(printed.contains("?? new") && printed.contains("\nx\n"), "{printed}");
    assert!(
        !printed.contains("COMMITTED") && !printed.contains("CONFIGURED"),
        "{printed}"
    );
    assert_eq!(
        fs::metadata(tree.join("new")).unwrap().uid(),
        launch.owner,
        "the host's user has it"
    );
}

on_every_lane!(
    nothing_planted_runs_on_the_host,
    git_works_in_a_worktree_and_writes_nothing
);
