//! A session that is applied again and again, with a user who works in the folder.
#![expect(clippy::disallowed_methods, reason = "tests make and read files")]

use super::*;
use crate::config::History;
use crate::workspace::apply::{self, Applied, ApplyError, Consent, Objects, Patch, Request};
use crate::workspace::fixtures::{BOUNDS, Scene, content, write};
use crate::workspace::snapshot::Taken;
use std::fs;
use std::os::unix::fs::symlink;

async fn taken(files: &[(&str, &str)]) -> (Scene, Taken) {
    let scene = Scene::repository();
    for (path, text) in files {
        scene.write(path, text);
    }
    scene.commit("one");
    let taken = scene.take(History::Head).await;
    (scene, taken)
}

async fn compare(scene: &Scene, taken: &Taken) -> Comparison {
    let shadow = scene.shadow(taken);
    let (workspace, cancel) = (scene.workspace(), CancellationToken::new());
    shadow.compare(&workspace, &BOUNDS, &cancel).await.unwrap()
}

/// The paths that are changes now.
async fn changed(scene: &Scene, taken: &Taken) -> Vec<PathBuf> {
    let changes = compare(scene, taken).await.changes;
    changes.into_iter().map(|change| change.path).collect()
}

async fn apply(scene: &Scene, comparison: &Comparison, consent: Consent) -> Result<Applied, ApplyError> {
    let request = Request {
        folder: scene.folder.clone(),
        state_dir: scene.folder.parent().unwrap().join("state"),
        objects: Objects {
            git: comparison.git().clone(),
            repository: comparison.repository().clone(),
        },
        format: comparison.baseline.object_format,
        patch: Patch {
            base: comparison.baseline.commit.clone(),
            patch_sha256: "ab".repeat(32),
        },
        changes: comparison.changes.clone(),
        bounds: apply::Bounds::default(),
    };
    apply::apply(&request, consent, None, &CancellationToken::new()).await
}

async fn applied(scene: &Scene, taken: &Taken, consent: Consent) -> Applied {
    let comparison = compare(scene, taken).await;
    let applied = apply(scene, &comparison, consent).await.unwrap();
    let cancel = CancellationToken::new();
    comparison.advance(&applied.brought, &cancel).await.unwrap();
    applied
}

#[tokio::test]
async fn what_was_applied_and_then_edited_on_the_host_is_in_conflict_with_nothing() {
    let (scene, taken) = taken(&[
        ("a", "1\n"),
        ("b", "1\n"),
        ("gone", "1\n"),
        ("file-to-dir", "1\n"),
        ("d/x", "1\n"),
    ])
    .await;
    let copy = scene.workspace();
    write(&copy, "a", "by the session\n");
    write(&copy, "new", vec![7; 3 << 20]);
    fs::remove_file(copy.join("gone")).unwrap();
    fs::remove_file(copy.join("file-to-dir")).unwrap();
    write(&copy, "file-to-dir/in", "2\n");
    fs::remove_dir_all(copy.join("d")).unwrap();
    symlink("a", copy.join("d")).unwrap();
    let mut brought = applied(&scene, &taken, Consent::EachTurn).await.brought;
    brought.sort();
    assert_eq!(
        brought,
        ["a", "d", "d/x", "file-to-dir", "file-to-dir/in", "gone", "new"].map(PathBuf::from)
    );
    assert_eq!(content(&scene.folder), content(&copy));
    assert_eq!(changed(&scene, &taken).await, Vec::<PathBuf>::new());

    scene.write("a", "by the user\n");
    scene.write("gone", "back again\n");
    write(&copy, "b", "by the session\n");
    applied(&scene, &taken, Consent::EachTurn).await;
    assert_eq!(fs::read(scene.at("a")).unwrap(), b"by the user\n");
    assert_eq!(fs::read(scene.at("b")).unwrap(), b"by the session\n");
    assert!(scene.at("gone").exists());
    // What both changed since is one still.
    write(&copy, "a", "by the session again\n");
    let comparison = compare(&scene, &taken).await;
    let refused = apply(&scene, &comparison, Consent::EachTurn).await.unwrap_err();
    assert!(matches!(refused, ApplyError::Conflicts(_)), "{refused}");
}

#[tokio::test]
async fn what_is_held_stays_a_change() {
    let (scene, taken) = taken(&[("a", "1\n")]).await;
    write(&scene.workspace(), "a", "2\n");
    write(&scene.workspace(), "Makefile", "all:\n");
    let done = applied(&scene, &taken, Consent::EachTurn).await;
    assert_eq!((done.held.len(), done.brought), (1, vec!["a".into()]));
    assert_eq!(changed(&scene, &taken).await, ["Makefile"].map(PathBuf::from));
    let done = applied(&scene, &taken, Consent::Explicit).await;
    assert_eq!(done.brought, ["Makefile"].map(PathBuf::from));
    assert_eq!(changed(&scene, &taken).await, Vec::<PathBuf>::new());
}

#[tokio::test]
async fn after_an_end_before_the_baseline_moved_the_next_apply_moves_it() {
    let (scene, taken) = taken(&[("a", "1\n"), ("b", "1\n")]).await;
    write(&scene.workspace(), "a", "2\n");
    fs::remove_file(scene.workspace().join("b")).unwrap();
    let comparison = compare(&scene, &taken).await;
    apply(&scene, &comparison, Consent::EachTurn).await.unwrap();
    drop(comparison);
    assert_eq!(changed(&scene, &taken).await.len(), 2);
    let again = applied(&scene, &taken, Consent::EachTurn).await;
    assert_eq!((again.files.len(), again.already.len(), again.brought.len()), (0, 2, 2));
    assert_eq!(changed(&scene, &taken).await, Vec::<PathBuf>::new());
}

#[tokio::test]
async fn two_that_compared_with_the_same_do_not_overwrite_each_other() {
    let (scene, taken) = taken(&[("a", "1\n"), ("b", "1\n")]).await;
    let cancel = CancellationToken::new();
    for text in ["2\n", "3\n"] {
        write(&scene.workspace(), "a", text);
        write(&scene.workspace(), "b", text);
        let (one, other) = (compare(&scene, &taken).await, compare(&scene, &taken).await);
        let first = one.advance(&["a".into()], &cancel).await.unwrap();
        let refused = other.advance(&["b".into()], &cancel).await.unwrap_err();
        assert!(matches!(refused, ShadowError::Moved), "{refused}");
        let now = compare(&scene, &taken).await;
        assert_eq!(now.baseline.commit, first);
        assert_eq!(
            now.changes.iter().map(|change| change.path.clone()).collect::<Vec<_>>(),
            ["b"].map(PathBuf::from)
        );
        assert_eq!(
            now.advance(&["b".into()], &cancel).await.unwrap(),
            compare(&scene, &taken).await.baseline.commit
        );
    }
}

#[tokio::test]
async fn the_shadow_has_all_of_its_baselines_and_nothing_else_of_the_session() {
    let (scene, taken) = taken(&[("a", "1\n")]).await;
    write(&scene.workspace(), "a", "brought\n");
    write(&scene.workspace(), "b", "not brought\n");
    let comparison = compare(&scene, &taken).await;
    let cancel = CancellationToken::new();
    assert_eq!(
        comparison.advance(&["x".into()], &cancel).await.unwrap(),
        taken.baseline.commit
    );
    let commit = comparison.advance(&["a".into()], &cancel).await.unwrap();
    let left_out = comparison.changes.iter().find(|change| change.path == Path::new("b"));
    let left_out = left_out.and_then(|change| change.new.clone()).unwrap().id.to_string();
    drop(comparison);
    let shadow = |args: &[&str]| crate::workspace::fixtures::git_in(&scene.shadow_dir(), args);
    assert_eq!(shadow(&["fsck", "--full", "--strict", "--no-dangling", BASELINE]), "");
    assert_eq!(shadow(&["show", &format!("{commit}:a")]), "brought");
    assert_eq!(
        shadow(&["rev-list", "--parents", "-1", BASELINE]),
        format!("{commit} {}", taken.baseline.commit)
    );
    let all = shadow(&["cat-file", "--batch-all-objects", "--batch-check=%(objectname)"]);
    assert!(!all.lines().any(|id| id == left_out));
}
