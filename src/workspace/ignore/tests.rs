//! What is ignored, judged by git on the same files.

use super::*;
use crate::workspace::fixtures::{Scene, git_in, write};
use crate::workspace::git::is_git;
use crate::workspace::tree::{Next, Node, Tree, TreeError, Visit, Visitor};
use nix::errno::Errno;
use proptest::prelude::*;
use std::collections::BTreeSet;
use std::fs;

/// Walks as a comparison does that knows no file.
#[derive(Default)]
struct Shown {
    files: IgnoreFiles,
    shown: BTreeSet<PathBuf>,
    unread: Vec<PathBuf>,
}

impl Visitor for Shown {
    type Error = TreeError;

    fn visit(&mut self, visit: Visit<'_>) -> Result<Next, TreeError> {
        if is_git(visit.name) {
            return Ok(Next::Skip);
        }
        let parent = visit.path.parent().unwrap();
        if let Err(Unread(path)) = self.files.enter(visit.directory, parent) {
            self.unread.push(path);
        }
        let is_directory = matches!(visit.node, Node::Directory { .. });
        if self.files.is_ignored(&visit.path, is_directory) {
            return Ok(Next::Skip);
        }
        if !is_directory {
            self.shown.insert(visit.path);
        }
        Ok(Next::Enter)
    }

    fn blocked(&mut self, directory: &Path, errno: Errno) -> Result<(), TreeError> {
        panic!("{}: {errno}", directory.display());
    }
}

fn shown(root: &Path) -> Shown {
    let mut shown = Shown::default();
    Tree::open(root).unwrap().walk(10_000, &mut shown).unwrap();
    shown
}

/// The files that git would offer to track.
fn of_git(root: &Path) -> BTreeSet<PathBuf> {
    let listed = git_in(root, &["ls-files", "-z", "--others", "--exclude-standard"]);
    let names = listed.split('\0').filter(|name| !name.is_empty());
    names.map(PathBuf::from).collect()
}

const FILES: &[&str] = &[
    "a",
    "b",
    "ab",
    "a b",
    "a ",
    "#a",
    "!a",
    "a-",
    "a]",
    "a{b,c}",
    "B1",
    "sub/a",
    "sub/b",
    "sub/ab",
    "sub/x.o",
    "sub/dir/a",
    "sub/dir/b",
    "sub/dir/deep/a",
    "sub/dir/deep/x.o",
    "dir/a",
    "dir/sub/a",
    "dir/sub/dir/a",
    "x.o",
    "é",
];

/// Lines of what patterns are made of.
fn ignore_file() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        4 => prop::sample::select(vec!["a", "b", "ab", "sub", "dir", "deep", "x.o", ".o", "1", "é"]),
        4 => prop::sample::select(vec!["/", "*", "**", "**/", "/**", "/**/", "?"]),
        1 => prop::sample::select(vec![
            "[ab]", "[!a]", "[^b]", "[a-z]", "[[:upper:]]", "[[:alpha:]-]", "[[:no:]]", "[]a]", "[a", "[\\a-b]", "[b-a]", "]",
            "[--0]", "[[:a]",
        ]),
        1 => prop::sample::select(vec!["\\", "\\a", "\\#", "\\!", "\\ ", " ", "#", "!", "{b,c}", "-", "\r"]),
    ];
    let line = (
        prop::bool::weighted(0.25),
        prop::collection::vec(piece, 1..5),
        prop::bool::weighted(0.2),
    );
    let line = line.prop_map(|(negated, pieces, directory)| {
        let (start, end) = (if negated { "!" } else { "" }, if directory { "/" } else { "" });
        format!("{start}{}{end}", pieces.concat())
    });
    prop::collection::vec(line, 0..6).prop_map(|lines| lines.join("\n"))
}

/// A tree's files: at its root, in `sub`, in `sub/dir`.
type Texts = (String, Option<String>, Option<String>);

fn texts() -> impl Strategy<Value = Texts> {
    let below = || prop::option::of(ignore_file());
    (ignore_file(), below(), below())
}

fn plant(root: &Path, (top, sub, deep): &Texts) {
    for file in FILES {
        write(root, file, "");
    }
    let places = [
        (".gitignore", Some(top)),
        ("sub/.gitignore", sub.as_ref()),
        ("sub/dir/.gitignore", deep.as_ref()),
    ];
    for (path, text) in places {
        if let Some(text) = text {
            write(root, path, text);
        }
    }
}

fn below(all: &BTreeSet<PathBuf>, directory: &str) -> BTreeSet<PathBuf> {
    let below = all.iter().filter_map(|path| path.strip_prefix(directory).ok());
    below.map(Path::to_owned).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 6, ..ProptestConfig::default() })]

    /// Git is asked once about many trees, each in a directory of its own: to start it takes longest.
    #[test]
    fn what_is_ignored_is_what_git_ignores(trees in prop::collection::vec(texts(), 16)) {
        let scene = Scene::repository();
        for (number, texts) in trees.iter().enumerate() {
            plant(&scene.at(&number.to_string()), texts);
        }
        let (ours, gits) = (shown(&scene.folder), of_git(&scene.folder));
        prop_assert_eq!(ours.unread, Vec::<PathBuf>::new());
        for (number, texts) in trees.iter().enumerate() {
            let number = number.to_string();
            prop_assert_eq!(below(&ours.shown, &number), below(&gits, &number), "{:?}", texts);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 8, ..ProptestConfig::default() })]

    #[test]
    fn at_the_root_as_well(texts in texts()) {
        let scene = Scene::repository();
        plant(&scene.folder, &texts);
        prop_assert_eq!(shown(&scene.folder).shown, of_git(&scene.folder));
    }
}

#[test]
fn a_file_that_is_a_link_or_over_a_bound_counts_as_absent() {
    let scene = Scene::repository();
    for directory in ["link", "large", "many", "fine", "after"] {
        scene.write(&format!("{directory}/a"), "");
    }
    scene.write("list", "a\n");
    std::os::unix::fs::symlink("../list", scene.at("link/.gitignore")).unwrap();
    scene.write("large/.gitignore", format!("a\n{}", "#".repeat(FILE as usize)));
    scene.write("many/.gitignore", "a\n".repeat(PATTERNS));
    scene.write("fine/.gitignore", "a\n");
    let shown = shown(&scene.folder);
    assert!(shown.shown.contains(Path::new("link/a")));
    assert!(shown.shown.contains(Path::new("large/a")));
    assert!(!shown.shown.contains(Path::new("fine/a")));
    // What was read before leaves no room.
    assert!(shown.shown.contains(Path::new("many/a")));
    assert_eq!(shown.unread, ["large/.gitignore", "many/.gitignore"].map(PathBuf::from));
}

#[test]
fn an_ignored_directory_stays_so_whatever_is_said_in_it() {
    let scene = Scene::repository();
    scene.write(".gitignore", "out/*\n");
    scene.write("out/x/.gitignore", "!*\n");
    scene.write("out/x/a", "");
    write(&scene.folder, "out-not/a", "");
    fs::create_dir(scene.at("empty")).unwrap();
    let shown = shown(&scene.folder).shown;
    assert_eq!(shown, of_git(&scene.folder));
    assert_eq!(shown.len(), 2);
}
