//! The rules over facts, and the facts of real repositories.
#![expect(clippy::disallowed_methods, reason = "tests make repositories with git")]

use super::*;
use crate::workspace::bind::pointer::PointerError;
use proptest::prelude::*;
use std::fs;
use std::os::unix::fs::symlink;
use std::process::Command;

fn repository(git: GitFacts) -> Facts {
    Facts {
        folder: "/p".into(),
        uid: 1000,
        gid: 1000,
        git,
        head: HeadFacts::Absent,
        run_by_git: Vec::new(),
    }
}

const COMPLETE: GitFacts = GitFacts::Directory { complete: true };

fn pointer(git_dir: &str, common_dir: Option<&str>, returns_to: Option<&str>) -> Facts {
    repository(GitFacts::Pointer(PointerFacts {
        git_dir: git_dir.into(),
        common_dir: common_dir.map(PathBuf::from),
        returns_to: returns_to.map(PathBuf::from),
    }))
}

fn names(protection: &Protection) -> Vec<&str> {
    protection.names.iter().map(String::as_str).collect()
}

#[test]
fn a_repositorys_own_directory_is_protected_whole() {
    let protection = protect(&repository(COMPLETE)).unwrap();
    assert_eq!(names(&protection), [".git"]);
    assert_eq!((protection.placeholders.len(), &protection.git_elsewhere), (0, &None));
}

/// Git looks for `.git`, and where that is none whether the folder itself is a git directory.
#[test]
fn where_there_is_no_repository_none_can_be_made() {
    use PlaceholderName::{Git, Head};
    for git in [GitFacts::Absent, GitFacts::EmptyDirectory] {
        let mut facts = repository(git);
        for (head, placeholders) in [
            (HeadFacts::Absent, vec![Git, Head]),
            (HeadFacts::EmptyDirectory, vec![Git, Head]),
            (HeadFacts::Harmless, vec![Git]),
        ] {
            facts.head = head;
            let protection = protect(&facts).unwrap();
            assert_eq!(names(&protection), [".git", "HEAD"]);
            assert_eq!(protection.placeholders, placeholders, "{head:?}");
        }
        facts.head = HeadFacts::NamesCommit;
        assert!(matches!(protect(&facts), Err(BindError::IsGitDirectory { .. })));
        facts.head = HeadFacts::Symlink;
        assert!(matches!(protect(&facts), Err(BindError::Symlink { path }) if path == Path::new("/p/HEAD")));
        facts.head = HeadFacts::Special;
        assert!(matches!(protect(&facts), Err(BindError::Special { .. })));
    }
    let protection = protect(&repository(GitFacts::Directory { complete: false })).unwrap();
    assert_eq!(names(&protection), [".git", "HEAD"]);
    assert_eq!(protection.placeholders, [Head]);
}

#[test]
fn a_git_that_is_neither_file_nor_directory_is_refused() {
    let error = protect(&repository(GitFacts::Symlink)).unwrap_err();
    insta::assert_snapshot!(error, @r#"bind is refused: /p/.git is a symbolic link, which could be pointed elsewhere; make it a directory, or use workspace.mode = "snapshot""#);
    assert!(matches!(
        protect(&repository(GitFacts::Special)),
        Err(BindError::Special { .. })
    ));
}

#[test]
fn a_worktree_brings_what_it_shares_and_a_submodule_its_own() {
    let worktree = pointer("/m/.git/worktrees/p", Some("/m/.git"), Some("/p"));
    let protection = protect(&worktree).unwrap();
    assert_eq!(protection.git_elsewhere.as_deref(), Some(Path::new("/m/.git")));
    assert_eq!((names(&protection), protection.placeholders.len()), (vec![".git"], 0));
    let submodule = pointer("/m/.git/modules/p", None, Some("/p"));
    let protection = protect(&submodule).unwrap();
    assert_eq!(
        protection.git_elsewhere.as_deref(),
        Some(Path::new("/m/.git/modules/p"))
    );
    let reading = protection.of_reading();
    assert_eq!((reading.names.len(), reading.git_elsewhere.is_some()), (0, true));
}

/// A hostile folder's `.git` may name anything.
#[test]
fn what_does_not_name_the_folder_in_return_is_never_mounted() {
    for facts in [
        pointer("/home/me/.ssh", None, None),
        pointer("/m/.git", None, Some("/m")),
        pointer("/m/.git/worktrees/p", Some("/m/.git"), None),
        pointer("/m/.git/worktrees/p", Some("/m/.git"), Some("/q")),
        // Something of the folder's own kind elsewhere, whose `commondir` names anything.
        pointer("/tmp/x/worktrees/p", Some("/home/me/.ssh"), Some("/p")),
        pointer("/m/.git/worktrees/a/p", Some("/m/.git"), Some("/p")),
    ] {
        assert!(
            matches!(protect(&facts), Err(BindError::NotReturned { .. })),
            "{facts:?}"
        );
    }
    for facts in [
        pointer("/p/real", None, Some("/p")),
        pointer("/p/x/worktrees/p", Some("/p/x"), Some("/p")),
        pointer("/", None, Some("/p")),
        pointer("/p", None, Some("/p")),
    ] {
        assert!(matches!(protect(&facts), Err(BindError::Entangled { .. })), "{facts:?}");
    }
    insta::assert_snapshot!(protect(&pointer("/home/me/.ssh", None, None)).unwrap_err(), @r#"bind is refused: /p/.git names the git directory /home/me/.ssh, which does not name this folder in return. A folder's own file must not decide what of the host is shown to the container: `git worktree repair` mends a worktree that was moved; else use workspace.mode = "snapshot""#);
}

#[test]
fn hooks_in_the_folder_are_protected_with_all_above_them() {
    let mut facts = repository(COMPLETE);
    facts.run_by_git = [
        "/p/.husky/_",
        "/p/tools/git/pre-commit",
        "/usr/share/hooks",
        "/p/.git/hooks",
        "/p2/x",
    ]
    .map(PathBuf::from)
    .to_vec();
    assert_eq!(names(&protect(&facts).unwrap()), [".git", ".husky", "tools"]);
    facts.run_by_git.push("/p".into());
    assert!(matches!(protect(&facts), Err(BindError::HooksEverywhere { .. })));
}

proptest! {
    /// Whatever a pointer says: what is mounted holds neither the folder nor lies in it, and named it.
    #[test]
    fn a_pointer_never_has_more_mounted_than_what_names_the_folder(
        git_dir in "(/[ap.]{1,2}){0,3}(/worktrees/[ap])?",
        common in prop::option::of("(/[ap.]{1,2}){0,3}"),
        returns in prop::option::of("(/[ap]){1,2}"),
    ) {
        let facts = pointer(&git_dir, common.as_deref(), returns.as_deref());
        if let Ok(protection) = protect(&facts) {
            let mounted = protection.git_elsewhere.unwrap();
            prop_assert_eq!(returns.as_deref(), Some("/p"));
            prop_assert!(!mounted.starts_with("/p") && !Path::new("/p").starts_with(&mounted));
            prop_assert!(Path::new(&git_dir).starts_with(&mounted));
        }
    }
}

/// Folders and repositories in a temporary directory.
struct Place {
    root: PathBuf,
    _guard: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let guard = tempfile::tempdir().unwrap();
        Self {
            root: guard.path().canonicalize().unwrap(),
            _guard: guard,
        }
    }

    fn at(&self, path: &str) -> PathBuf {
        self.root.join(path)
    }

    #[track_caller]
    fn git(&self, folder: &str, args: &[&str]) {
        let output = Command::new("git")
            .current_dir(self.at(folder))
            .args([
                "-c",
                "user.name=a",
                "-c",
                "user.email=a@b",
                "-c",
                "protocol.file.allow=always",
            ])
            .args(args)
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    fn repository(&self, folder: &str) {
        fs::create_dir_all(self.at(folder)).unwrap();
        self.git(folder, &["init", "-q"]);
        self.git(folder, &["commit", "-q", "--allow-empty", "-m", "x"]);
    }

    fn protect(&self, folder: &str) -> Result<Protection, BindError> {
        protect(&facts::read(&self.at(folder), None)?)
    }
}

#[test]
fn what_git_makes_is_recognised() {
    let place = Place::new();
    place.repository("main");
    place.repository("part");
    place.git("main", &["worktree", "add", "-q", "../tree"]);
    place.git(
        "main",
        &["submodule", "--quiet", "add", place.at("part").to_str().unwrap(), "sub"],
    );
    place.git(
        "tree",
        &[
            "submodule",
            "--quiet",
            "add",
            place.at("part").to_str().unwrap(),
            "deep/sub",
        ],
    );
    fs::create_dir_all(place.at("main/below")).unwrap();
    let elsewhere = |folder: &str| place.protect(folder).unwrap().git_elsewhere;

    assert_eq!(elsewhere("main"), None);
    assert_eq!(elsewhere("tree"), Some(place.at("main/.git")));
    assert_eq!(elsewhere("main/sub"), Some(place.at("main/.git/modules/sub")));
    assert_eq!(
        elsewhere("tree/deep/sub"),
        Some(place.at("main/.git/worktrees/tree/modules/deep/sub"))
    );
    assert!(place.protect("main").unwrap().placeholders.is_empty(), "a whole one");
    let below = place.protect("main/below").unwrap();
    assert_eq!(below.placeholders, [PlaceholderName::Git, PlaceholderName::Head]);

    let facts = facts::read(&place.at("main"), None).unwrap();
    let me = (nix::unistd::getuid().as_raw(), nix::unistd::getgid().as_raw());
    assert_eq!((facts.uid, facts.gid), me);
    // Moved without git's knowledge, the worktree is named no more.
    fs::rename(place.at("tree"), place.at("moved")).unwrap();
    assert!(matches!(place.protect("moved"), Err(BindError::NotReturned { .. })));
    place.git("moved", &["worktree", "repair"]);
    assert!(place.protect("moved").is_ok(), "as the error says");
}

#[test]
fn a_bare_repository_and_a_worktree_in_it_are_refused() {
    let place = Place::new();
    place.repository("main");
    place.git("", &["clone", "-q", "--bare", "main", "bare.git"]);
    assert!(matches!(
        place.protect("bare.git"),
        Err(BindError::IsGitDirectory { .. })
    ));
    place.git("bare.git", &["worktree", "add", "-q", "tree"]);
    assert!(matches!(
        place.protect("bare.git/tree"),
        Err(BindError::Entangled { .. })
    ));
}

#[test]
fn hostile_pointers_are_refused() {
    let place = Place::new();
    place.repository("private");
    fs::create_dir_all(place.at("secrets")).unwrap();
    fs::create_dir_all(place.at("p/fake/worktrees/x")).unwrap();
    fs::write(place.at("p/fake/worktrees/x/commondir"), "../../../../secrets\n").unwrap();
    fs::write(
        place.at("p/fake/worktrees/x/gitdir"),
        place.at("p/.git").to_str().unwrap(),
    )
    .unwrap();
    symlink(place.at("secrets"), place.at("p/link")).unwrap();
    let with = |content: &str| {
        fs::write(place.at("p/.git"), content).unwrap();
        place.protect("p").unwrap_err()
    };
    for named in ["../secrets", "link", "../private/.git", "fake/worktrees/x", "/", "/etc"] {
        let error = with(&format!("gitdir: {named}\n"));
        assert!(
            matches!(error, BindError::NotReturned { .. } | BindError::Entangled { .. }),
            "{named}: {error}"
        );
    }
    let entangled = with("gitdir: fake\n");
    assert!(matches!(entangled, BindError::Entangled { .. }), "{entangled}");
    for (content, expected) in [
        ("", PointerError::NoPrefix),
        ("gitdir: /nowhere/at/all", PointerError::Missing),
        ("gitdir: ../secrets\n/x", PointerError::Control),
        (&format!("gitdir: {}", "x".repeat(9000)), PointerError::TooLong),
    ] {
        let error = with(content);
        assert!(
            matches!(error, BindError::Pointer { why, .. } if why == expected),
            "{content:.30}: {error}"
        );
    }
    fs::remove_file(place.at("p/.git")).unwrap();
    symlink(place.at("private/.git"), place.at("p/.git")).unwrap();
    assert!(matches!(place.protect("p"), Err(BindError::Symlink { .. })));
}

/// Another name of somebody else's pointer: git would follow it, so nothing is believed of it.
#[test]
fn a_pointer_with_two_names_is_refused() {
    let place = Place::new();
    place.repository("main");
    place.git("main", &["worktree", "add", "-q", "../tree"]);
    fs::hard_link(place.at("tree/.git"), place.at("other")).unwrap();
    assert!(matches!(place.protect("tree"), Err(BindError::Unreadable { .. })));
}

#[test]
fn gits_own_files_that_are_the_folders_are_refused_or_protected() {
    let place = Place::new();
    place.repository("main");
    fs::create_dir_all(place.at("main/tools/hooks")).unwrap();
    let hook = place.at("main/.git/hooks/pre-commit");
    symlink("../../tools/hooks/pre-commit", &hook).unwrap();
    assert_eq!(
        names(&place.protect("main").unwrap()),
        [".git", "tools"],
        "though it is not there yet"
    );
    let hooks = |path: &str| protect(&facts::read(&place.at("main"), Some(Path::new(path))).unwrap());
    assert_eq!(names(&hooks(".husky/_").unwrap()), [".git", ".husky", "tools"]);
    assert!(matches!(hooks("."), Err(BindError::HooksEverywhere { .. })));
    assert_eq!(names(&hooks("/usr/share/hooks").unwrap()), [".git", "tools"]);

    let config = place.at("main/.git/config");
    fs::rename(&config, place.at("main/gitconfig")).unwrap();
    symlink("../gitconfig", &config).unwrap();
    assert!(matches!(place.protect("main"), Err(BindError::OwnFileInFolder { .. })));
    // One that leads nowhere could be made to.
    fs::remove_file(place.at("main/gitconfig")).unwrap();
    assert!(matches!(place.protect("main"), Err(BindError::OwnFileInFolder { .. })));
    fs::remove_file(&config).unwrap();
    symlink(place.at("elsewhere"), &config).unwrap();
    assert!(place.protect("main").is_ok());
    fs::write(place.at("main/.git/commondir"), "../x").unwrap();
    assert!(matches!(place.protect("main"), Err(BindError::OwnFileInFolder { .. })));
}

#[test]
fn a_folder_without_a_repository_has_its_head_looked_at() {
    let place = Place::new();
    fs::create_dir_all(place.at("p")).unwrap();
    let with = |content: &str| {
        fs::write(place.at("p/HEAD"), content).unwrap();
        place.protect("p")
    };
    assert_eq!(with("notes\n").unwrap().placeholders, [PlaceholderName::Git]);
    assert!(matches!(
        with("ref: refs/heads/x"),
        Err(BindError::IsGitDirectory { .. })
    ));
    fs::remove_file(place.at("p/HEAD")).unwrap();
    fs::create_dir_all(place.at("p/HEAD/x")).unwrap();
    assert_eq!(place.protect("p").unwrap().placeholders, [PlaceholderName::Git]);
    fs::create_dir_all(place.at("p/.git/objects")).unwrap();
    let half = place.protect("p").unwrap();
    assert_eq!((names(&half), half.placeholders.len()), (vec![".git", "HEAD"], 0));
}
