//! The user's folder, which an apply changes whole or not at all.

use crate::support::world::World;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// Files that an apply changes.
const CHANGED: u32 = 150;
/// Files that each apply makes, and the next one removes.
const MADE: u32 = 50;

/// Path → whether it is executable, and its content.
pub type Tree = BTreeMap<String, (bool, String)>;

/// Fills the world's folder, and makes it a repository with one commit.
pub fn fill(world: &World) {
    let folder = world.workspace();
    for n in 0..CHANGED {
        let path = folder.join(format!("data/{}/f-{n}", n % 7));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, format!("from the beginning {n}\n")).unwrap();
    }
    world.give_to_user(&folder);
    let git = |args: &[&str]| {
        let mut git = world.lane.command("git");
        let who = [
            "-c",
            "user.name=t",
            "-c",
            "user.email=t@t.test",
            "-c",
            "init.defaultBranch=main",
        ];
        let output = git.arg("-C").arg(&folder).args(who).args(args).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    git(&["init", "--quiet"]);
    git(&["add", "."]);
    git(&["commit", "--quiet", "--message", "all"]);
}

/// What is in the folder now, without git's directory.
pub fn tree(folder: &Path) -> Tree {
    let mut found = Tree::new();
    let mut pending = vec![folder.to_owned()];
    while let Some(directory) = pending.pop() {
        for entry in fs::read_dir(&directory).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(folder).unwrap().to_str().unwrap().to_owned();
            if name == ".git" {
                continue;
            }
            let metadata = fs::symlink_metadata(&path).unwrap();
            if metadata.is_dir() {
                pending.push(path);
                continue;
            }
            let executable = metadata.permissions().mode() & 0o100 != 0;
            found.insert(name, (executable, fs::read_to_string(&path).unwrap()));
        }
    }
    found
}

/// The shell line by which (without `rm -rf`, which Codex refuses to run) a session changes its copy, in a round of this number.
pub fn change(round: u32) -> String {
    format!(
        "set -e; for n in $(seq 0 {}); do echo \"round {round} $n\" > data/$((n % 7))/f-$n; done; chmod {} data/0/f-0; mkdir -p made; \
         for f in made/*; do test -e $f && unlink $f; done; for n in $(seq 0 {}); do echo \"made {round} $n\" > made/{round}-$n; done; echo changed",
        CHANGED - 1,
        if round.is_multiple_of(2) { "755" } else { "644" },
        MADE - 1,
    )
}

/// What the folder has after it.
pub fn changed(before: &Tree, round: u32) -> Tree {
    let mut after = before.clone();
    after.retain(|path, _| !path.starts_with("made/"));
    for n in 0..CHANGED {
        after.insert(format!("data/{}/f-{n}", n % 7), (false, format!("round {round} {n}\n")));
    }
    if let Some((executable, _)) = after.get_mut("data/0/f-0") {
        *executable = round.is_multiple_of(2);
    }
    for n in 0..MADE {
        after.insert(format!("made/{round}-{n}"), (false, format!("made {round} {n}\n")));
    }
    after
}

/// Neither one nor the other: what differs from both, in few words.
pub fn differences(now: &Tree, other: &Tree) -> Vec<String> {
    let names: std::collections::BTreeSet<&String> = now.keys().chain(other.keys()).collect();
    let differs = names.into_iter().filter(|name| now.get(*name) != other.get(*name));
    differs.take(5).cloned().collect()
}
