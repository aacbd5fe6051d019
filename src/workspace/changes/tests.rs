//! The patch, judged by `git apply`.
#![expect(clippy::disallowed_methods, reason = "tests make and read files")]

use super::*;
use crate::config::History;
use crate::workspace::compare::Bounds;
use crate::workspace::fixtures::{BOUNDS, Scene, content, git_in, write};
use crate::workspace::snapshot::Taken;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};

async fn changes(scene: &Scene, taken: &Taken, bounds: &Bounds) -> Changes {
    let shadow = scene.shadow(taken);
    shadow
        .changes(&scene.workspace(), bounds, &CancellationToken::new())
        .await
        .unwrap()
}

/// Applies the whole patch to the original; it then is what the copy is.
async fn applies(scene: &Scene, taken: &Taken) {
    let cancel = CancellationToken::new();
    let comparison = scene
        .shadow(taken)
        .compare(&scene.workspace(), &BOUNDS, &cancel)
        .await
        .unwrap();
    let path = scene.folder.parent().unwrap().join("whole.patch");
    let figures = comparison
        .write_patch(File::create_new(&path).unwrap(), &cancel)
        .await
        .unwrap();
    assert_eq!(figures.bytes, fs::metadata(&path).unwrap().len());
    if figures.bytes > 0 {
        git_in(&scene.folder, &["apply", "--binary", path.to_str().unwrap()]);
    }
    assert_eq!(content(&scene.folder), content(&scene.workspace()));
}

#[tokio::test]
async fn a_patch_applies_to_the_original() {
    let scene = Scene::repository();
    let text: String = (0..50).map(|line| format!("line {line}\n")).collect();
    for path in ["moved", "edited", "removed", "mode", "to-link", "crlf", "d/deep"] {
        scene.write(path, &text);
    }
    scene.write("moved", text.replace("line 3", "line three"));
    scene.write("binary", [0, 1, 2, 255, 0]);
    scene.write("latin1", b"caf\xe9\n");
    scene.write("crlf", "a\r\nb\r\n");
    symlink("moved", scene.at("link")).unwrap();
    // None of these may change what the patch says. (What `git apply` writes, they may: so no eol and no ident here.)
    scene.write(".gitattributes", "* -diff\nedited binary\ncrlf diff=c\n");
    scene.commit("one");
    scene.write("edited", text.replace("line 7", "uncommitted"));
    let taken = scene.take(History::Head).await;
    let copy = scene.workspace();
    fs::create_dir(copy.join("e")).unwrap();
    fs::rename(copy.join("moved"), copy.join("e/moved here")).unwrap();
    fs::remove_file(copy.join("removed")).unwrap();
    fs::remove_dir_all(copy.join("d")).unwrap();
    write(
        &copy,
        "edited",
        text.replace("line 7", "uncommitted").replace("line 40", "$Id$ forty"),
    );
    fs::set_permissions(copy.join("mode"), fs::Permissions::from_mode(0o755)).unwrap();
    fs::remove_file(copy.join("to-link")).unwrap();
    symlink("binary", copy.join("to-link")).unwrap();
    fs::remove_file(copy.join("link")).unwrap();
    symlink("elsewhere", copy.join("link")).unwrap();
    write(&copy, "binary", [0, 1, 3, 255, 0]);
    write(&copy, "latin1", b"caf\xe9s without an end");
    write(&copy, "crlf", "a\r\nc\n");
    write(&copy, "empty", "");
    write(&copy, "new\n\"odd\"\t\\\u{e9}", "x\n");
    let name = OsStr::from_bytes(b"no utf-8 \xff");
    fs::write(copy.join(name), "x\n").unwrap();

    let told = changes(&scene, &taken, &BOUNDS).await;
    let of = |path: &str| told.files.iter().find(|file| file.path.as_str() == path).unwrap();
    let moved = of("e/moved here");
    assert_eq!(moved.kind, ChangeKind::Renamed);
    assert_eq!(moved.renamed_from.as_ref().unwrap().as_str(), "moved");
    assert_eq!((of("edited").insertions, of("edited").deletions), (Some(1), Some(1)));
    assert_eq!(
        (of("binary").kind, of("binary").insertions),
        (ChangeKind::Modified, None)
    );
    assert_eq!(
        (of("mode").kind, of("mode").insertions),
        (ChangeKind::Modified, Some(0))
    );
    assert_eq!(
        (of("removed").kind, of("removed").deletions),
        (ChangeKind::Deleted, Some(50))
    );
    assert_eq!(of("empty").kind, ChangeKind::Added);
    assert_eq!(told.files.len(), 13);
    assert_eq!(
        told.insertions,
        told.files.iter().filter_map(|file| file.insertions).sum::<u64>()
    );
    assert_eq!(told.base, taken.baseline.commit);
    assert_eq!(told.patch_sha256.len(), 64);
    applies(&scene, &taken).await;
}

#[tokio::test]
async fn a_long_patch_is_cut_at_a_line_and_says_so() {
    let scene = Scene::new();
    scene.write("file", "");
    let taken = scene.take(History::Head).await;
    let text: String = (0..500).map(|line| format!("line {line}\n")).collect();
    write(&scene.workspace(), "file", text);
    let whole = changes(&scene, &taken, &BOUNDS).await;
    assert_eq!(whole.patch.as_str().len() as u64, whole.patch_bytes);
    let cut = changes(&scene, &taken, &Bounds { patch: 1000, ..BOUNDS }).await;
    assert_eq!(
        (&cut.patch_sha256, cut.patch_bytes),
        (&whole.patch_sha256, whole.patch_bytes)
    );
    let (kept, note) = cut.patch.as_str().split_at(cut.patch.as_str().rfind('#').unwrap());
    assert!(kept.len() <= 1000 && kept.len() > 980 && whole.patch.as_str().starts_with(kept));
    assert_eq!(
        note,
        format!("# cut here: {} of {} bytes are shown\n", kept.len(), whole.patch_bytes)
    );
}

#[tokio::test]
async fn nothing_changed_is_an_empty_patch() {
    let scene = Scene::new();
    scene.write("file", "x");
    let taken = scene.take(History::Head).await;
    let told = changes(&scene, &taken, &BOUNDS).await;
    assert_eq!((told.files, told.patch_bytes, told.patch.as_str()), (vec![], 0, ""));
    assert_eq!(
        told.patch_sha256,
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    );
}

/// A tree by path; any bytes but NUL and `/` in a name.
fn tree() -> impl Strategy<Value = BTreeMap<Vec<u8>, (Vec<u8>, bool)>> {
    let byte = prop_oneof![
        Just(b'\n'),
        Just(b'"'),
        Just(b'\\'),
        Just(b' '),
        Just(b'\t'),
        Just(0xff_u8),
        Just(b'~'),
        b'a'..=b'c',
        1..=255_u8
    ];
    let name = prop::collection::vec(byte.prop_filter("no slash", |byte| *byte != b'/'), 1..5)
        .prop_filter("a name", |name| name != b"." && name != b"..");
    let path = prop::collection::vec(name, 1..3).prop_map(|names| names.join(&b'/'));
    let content = prop_oneof![Just(b"a\nb\nc\n".to_vec()), prop::collection::vec(any::<u8>(), 0..20)];
    prop::collection::btree_map(path, (content, any::<bool>()), 0..8)
}

fn make(root: &Path, tree: &BTreeMap<Vec<u8>, (Vec<u8>, bool)>) {
    for (path, (content, executable)) in tree {
        let path = root.join(OsStr::from_bytes(path));
        // A path that goes through another one's file is left out.
        if fs::create_dir_all(path.parent().unwrap()).is_err() || fs::write(&path, content).is_err() {
            continue;
        }
        let mode = if *executable { 0o755 } else { 0o644 };
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Whatever the names are: the baseline is what git would have written, and the patch turns the one into the other.
    #[test]
    fn any_tree_becomes_any_other(before in tree(), after in tree()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let scene = Scene::new();
            make(&scene.folder, &before);
            let taken = scene.take(History::Head).await;
            assert_eq!(content(&scene.folder), content(&scene.workspace()));
            for entry in fs::read_dir(scene.workspace()).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() { fs::remove_dir_all(path).unwrap() } else { fs::remove_file(path).unwrap() }
            }
            make(&scene.workspace(), &after);
            applies(&scene, &taken).await;
        });
    }
}
