//! What a hostile tree can and can't bring.
#![expect(clippy::disallowed_methods, reason = "tests make and read files")]

use super::reader::SMALL;
use super::*;
use crate::config::History;
use crate::workspace::fixtures::{BOUNDS, Scene, write};
use crate::workspace::git::run::GitError;
use crate::workspace::snapshot::Taken;
use crate::workspace::tree::TreeError;
use nix::sys::stat::Mode as Permissions;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

async fn taken() -> (Scene, Taken) {
    let scene = Scene::repository();
    for path in ["a", "b", "dir/x", "dir/y", "file-to-dir", "dir-to-file/in"] {
        scene.write(path, format!("{path}\n"));
    }
    scene.commit("one");
    let taken = scene.take(History::Head).await;
    (scene, taken)
}

async fn compare(scene: &Scene, taken: &Taken, bounds: &Bounds) -> Result<Comparison, ShadowError> {
    scene
        .shadow(taken)
        .compare(&scene.workspace(), bounds, &CancellationToken::new())
        .await
}

fn told(comparison: &Comparison) -> Vec<(&str, bool, bool)> {
    let changes = comparison.changes.iter();
    changes
        .map(|change| {
            (
                change.path.to_str().unwrap(),
                change.old.is_some(),
                change.new.is_some(),
            )
        })
        .collect()
}

fn reasons(comparison: &Comparison) -> Vec<(&str, WithheldReason)> {
    let mut reasons: Vec<_> = comparison
        .withheld
        .iter()
        .map(|withheld| (withheld.path.as_str(), withheld.reason))
        .collect();
    reasons.sort_by_key(|(path, _)| *path);
    reasons
}

/// Git's own list of the two trees is what we computed without it.
async fn agrees_with_git(comparison: &Comparison) {
    let files = |commit: ObjectId| async move {
        let listed = shadow::list(
            comparison.git(),
            comparison.repository(),
            &commit,
            &CancellationToken::new(),
        )
        .await;
        listed.unwrap()
    };
    let (old, new) = (
        files(comparison.baseline.commit.clone()).await,
        files(comparison.commit.clone()).await,
    );
    let paths: std::collections::BTreeSet<&PathBuf> = old.keys().chain(new.keys()).collect();
    let expected: Vec<TreeChange> = paths
        .into_iter()
        .filter(|path| old.get(*path) != new.get(*path))
        .map(|path| TreeChange {
            path: path.clone(),
            old: old.get(path).cloned().flatten(),
            new: new.get(path).cloned().flatten(),
        })
        .collect();
    assert_eq!(comparison.changes, expected);
}

#[tokio::test]
async fn an_untouched_copy_is_the_baseline() {
    let (scene, taken) = taken().await;
    let comparison = compare(&scene, &taken, &BOUNDS).await.unwrap();
    assert_eq!(comparison.commit, taken.baseline.commit);
    assert_eq!((told(&comparison), reasons(&comparison)), (vec![], vec![]));
}

#[tokio::test]
async fn every_kind_of_change_is_told_and_asking_leaves_nothing() {
    let (scene, taken) = taken().await;
    let copy = scene.workspace();
    write(&copy, "a", "changed\n");
    fs::set_permissions(copy.join("b"), fs::Permissions::from_mode(0o755)).unwrap();
    fs::remove_file(copy.join("dir/x")).unwrap();
    fs::remove_file(copy.join("file-to-dir")).unwrap();
    write(&copy, "file-to-dir/in", "x");
    fs::remove_dir_all(copy.join("dir-to-file")).unwrap();
    write(&copy, "dir-to-file", "x");
    write(&copy, "large", vec![7; SMALL as usize * 2 + 3]);
    fs::create_dir(copy.join("empty")).unwrap();
    symlink("/etc/passwd", copy.join("link")).unwrap();
    let before = fs::read_dir(scene.shadow_dir()).unwrap().count();
    let comparison = compare(&scene, &taken, &BOUNDS).await.unwrap();
    assert_eq!(
        told(&comparison),
        [
            ("a", true, true),
            ("b", true, true),
            ("dir/x", true, false),
            ("dir-to-file", false, true),
            ("dir-to-file/in", true, false),
            ("file-to-dir", true, false),
            ("file-to-dir/in", false, true),
            ("large", false, true),
            ("link", false, true),
        ]
    );
    agrees_with_git(&comparison).await;
    let link = comparison.changes.last().unwrap().new.as_ref().unwrap();
    let cancel = CancellationToken::new();
    assert_eq!(comparison.blob(&link.id, 100, &cancel).await.unwrap(), b"/etc/passwd");
    assert!(comparison.blob(&link.id, 3, &cancel).await.is_err());
    drop(comparison);
    assert_eq!(fs::read_dir(scene.shadow_dir()).unwrap().count(), before);
}

#[tokio::test]
async fn what_may_not_be_brought_is_withheld_by_name_and_counts_as_unchanged() {
    let (scene, taken) = taken().await;
    let copy = scene.workspace();
    fs::remove_file(copy.join("a")).unwrap();
    nix::unistd::mkfifo(&copy.join("a"), Permissions::S_IRWXU).unwrap();
    fs::hard_link(copy.join("b"), copy.join("c")).unwrap();
    fs::remove_dir_all(copy.join("dir")).unwrap();
    nix::unistd::mkfifo(&copy.join("dir"), Permissions::S_IRWXU).unwrap();
    write(&copy, "file-to-dir", vec![1; 20]);
    write(&copy, "sub/.GIT/config", "[core]\n\tfsmonitor = evil\n");
    write(&copy, ".git/config", "[core]\n\tfsmonitor = evil\n");
    write(&copy, "sparse", "");
    fs::File::options()
        .write(true)
        .open(copy.join("sparse"))
        .unwrap()
        .set_len(1 << 40)
        .unwrap();
    let bounds = Bounds { total: 19, ..BOUNDS };
    let comparison = compare(&scene, &taken, &bounds).await.unwrap();
    assert_eq!(told(&comparison), []);
    assert_eq!(
        reasons(&comparison),
        [
            ("a", WithheldReason::Special),
            ("b", WithheldReason::HardLinked),
            ("c", WithheldReason::HardLinked),
            ("dir", WithheldReason::Special),
            ("file-to-dir", WithheldReason::TooMuch),
            ("sparse", WithheldReason::TooLarge),
            ("sub/.GIT", WithheldReason::Git),
        ]
    );
    agrees_with_git(&comparison).await;
}

#[tokio::test]
async fn a_git_that_is_no_directory_is_named() {
    let (scene, taken) = taken().await;
    fs::remove_dir_all(scene.workspace().join(".git")).unwrap();
    write(&scene.workspace(), ".git", "gitdir: /etc\n");
    let comparison = compare(&scene, &taken, &BOUNDS).await.unwrap();
    assert_eq!(reasons(&comparison), [(".git", WithheldReason::Git)]);
}

#[tokio::test]
async fn entries_and_time_are_bounded() {
    let (scene, taken) = taken().await;
    let few = Bounds { entries: 3, ..BOUNDS };
    let error = compare(&scene, &taken, &few).await.unwrap_err();
    assert!(
        matches!(error, ShadowError::Tree(TreeError::TooManyEntries { .. })),
        "{error}"
    );
    let short = Bounds {
        time: Duration::ZERO,
        ..BOUNDS
    };
    let error = compare(&scene, &taken, &short).await.unwrap_err();
    assert!(matches!(error, ShadowError::TooSlow(_)), "{error}");
    let cancel = CancellationToken::new();
    cancel.cancel();
    let error = scene
        .shadow(&taken)
        .compare(&scene.workspace(), &BOUNDS, &cancel)
        .await
        .unwrap_err();
    assert!(matches!(error, ShadowError::Git(GitError::Cancelled)), "{error}");
}

/// What git itself offers to track in the copy.
fn added_of_git(scene: &Scene) -> std::collections::BTreeSet<String> {
    let status = scene.inside(&["status", "--porcelain", "-z", "--untracked-files=all"]);
    let lines = status.split('\0').filter_map(|line| line.strip_prefix("?? "));
    lines.map(str::to_owned).collect()
}

#[tokio::test]
async fn what_the_trees_own_rules_ignore_is_no_change() {
    let scene = Scene::repository();
    for path in ["kept.o", "target/tracked", "src/main", "was-file"] {
        scene.write(path, "1");
    }
    scene.write(".gitignore", "*.log\n");
    scene.run(&["add", "-f", "-A"]);
    scene.run(&["commit", "-q", "-m", "one"]);
    let taken = scene.take(History::Head).await;
    let copy = scene.workspace();
    // As it is now, not as it was: a tool writes such lines beside what it makes.
    write(
        &copy,
        ".gitignore",
        "*.log\ntarget/\nnode_modules\n*.o\nwas-file\n!src/keep.o\n",
    );
    for path in [
        "target/debug/a",
        "target/b",
        "node_modules/x/index",
        "src/a.o",
        "src/keep.o",
        "src/new",
        "sub/one.log",
    ] {
        write(&copy, path, "2");
    }
    write(&copy, "sub/.gitignore", "!one.log\n");
    write(&copy, "sub/two.log", "2");
    write(&copy, "kept.o", "2");
    write(&copy, "target/tracked", "2");
    fs::remove_file(copy.join("was-file")).unwrap();
    write(&copy, "was-file/in", "2");
    let comparison = compare(&scene, &taken, &BOUNDS).await.unwrap();
    let changes = &comparison.changes;
    let told: std::collections::BTreeSet<String> = changes
        .iter()
        .filter(|change| change.old.is_none())
        .map(|change| change.path.to_str().unwrap().to_owned())
        .collect();
    assert_eq!(told, added_of_git(&scene));
    assert_eq!(
        told.iter().map(String::as_str).collect::<Vec<_>>(),
        ["src/keep.o", "src/new", "sub/.gitignore", "sub/one.log"]
    );
    let rest: Vec<_> = changes
        .iter()
        .filter(|change| change.old.is_some())
        .map(|change| change.path.to_str().unwrap())
        .collect();
    assert_eq!(rest, [".gitignore", "kept.o", "target/tracked", "was-file"]);
    // target/b, target/debug, node_modules, src/a.o, sub/two.log, and was-file.
    assert_eq!(comparison.ignored, 6);
    agrees_with_git(&comparison).await;
}

#[tokio::test]
async fn patterns_that_are_not_read_are_said_to_be_so_and_come_over() {
    let (scene, taken) = taken().await;
    write(
        &scene.workspace(),
        ".gitignore",
        format!("a-*\n{}", "#".repeat(1 << 20)),
    );
    write(&scene.workspace(), "a-new", "x");
    let comparison = compare(&scene, &taken, &BOUNDS).await.unwrap();
    assert_eq!(told(&comparison), [(".gitignore", false, true), ("a-new", false, true)]);
    assert_eq!(reasons(&comparison), [(".gitignore", WithheldReason::Patterns)]);
}
