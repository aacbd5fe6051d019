//! Snapshots of every kind of folder, judged by git itself.
#![expect(clippy::disallowed_methods, reason = "tests make and read files")]

mod not_own;

use super::*;
use crate::config::quantity::ByteSize;
use crate::workspace::fixtures::{Scene, content, git, git_in, write};
use crate::workspace::git::own::Unusable;
use std::fs;
use std::num::NonZeroU32;
use std::os::unix::fs::{PermissionsExt, symlink};

fn chmod(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

fn names(root: &Path) -> Vec<String> {
    let files = content(root).into_iter();
    files.map(|(path, ..)| path.to_string_lossy().into_owned()).collect()
}

/// A repository with a file of every sort, some changed since the last commit.
fn lived_in() -> Scene {
    let scene = Scene::repository();
    for (path, text) in [
        (".gitignore", "target/\n*.log\n"),
        ("kept", "kept\n"),
        ("modified", "before\n"),
        ("deleted", "gone\n"),
        ("run.sh", "#!/bin/sh\n"),
        ("was-dir/file", "x\n"),
        ("was-file", "x\n"),
        ("new\nline \"quoted\" \\", "odd\n"),
    ] {
        scene.write(path, text);
    }
    chmod(&scene.at("run.sh"), 0o755);
    symlink("kept", scene.at("link")).unwrap();
    scene.commit("one");
    scene.write("kept-too", "second\n");
    scene.commit("two");
    scene.write("modified", "after\n");
    fs::remove_file(scene.at("deleted")).unwrap();
    fs::remove_dir_all(scene.at("was-dir")).unwrap();
    scene.write("was-dir", "now a file\n");
    fs::remove_file(scene.at("was-file")).unwrap();
    scene.write("was-file/inner", "now a directory\n");
    scene.write("untracked", "new\n");
    scene.write("target/artefact", "ignored\n");
    scene.write("a.log", "ignored\n");
    scene
}

#[tokio::test]
async fn a_repository_is_copied_as_it_is_on_disk_and_works_inside() {
    let scene = lived_in();
    scene.run(&["branch", "secret-branch"]);
    scene.run(&["remote", "add", "origin", "https://user:password@example.com/x"]);
    let taken = scene.take(History::Head).await;
    assert_eq!((taken.skipped, taken.notes), (Skipped::default(), Vec::new()));

    let expected: Vec<_> = content(&scene.folder)
        .into_iter()
        .filter(|(path, ..)| !path.starts_with("target") && path != Path::new("a.log"))
        .collect();
    assert_eq!(content(&scene.workspace()), expected);
    assert_eq!(
        scene.inside(&["status", "--porcelain"]),
        scene.run(&["status", "--porcelain"])
    );
    assert_eq!(
        scene.inside(&["log", "--format=%H"]),
        scene.run(&["log", "--format=%H"])
    );
    assert_eq!(scene.inside(&["fsck", "--full", "--strict"]), "");
    assert_eq!(scene.inside(&["remote"]), "");
    assert_eq!(scene.inside(&["branch", "--format=%(refname)"]), "refs/heads/main");
    assert!(!scene.workspace().join(".git/hooks").exists());
    // A commit needs no name of the user's.
    let commit = std::process::Command::new("git")
        .args(["commit", "-q", "-a", "-m", "inside"])
        .current_dir(scene.workspace())
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .status();
    assert!(commit.unwrap().success());
}

/// The baseline's tree, as git itself would write it from the copy.
fn tree_of_copy(scene: &Scene) -> String {
    let fresh = scene.folder.parent().unwrap().join("fresh.git");
    let work = scene.workspace();
    let args = [
        "--git-dir",
        fresh.to_str().unwrap(),
        "--work-tree",
        work.to_str().unwrap(),
    ];
    git_in(&scene.folder, &["init", "-q", "--bare", fresh.to_str().unwrap()]);
    git_in(&work, &[&args[..], &["add", "-A", "-f", "."]].concat());
    git_in(&work, &[&args[..], &["write-tree"]].concat())
}

fn baseline_tree(scene: &Scene, taken: &Taken) -> String {
    let commit = format!("{}^{{tree}}", taken.baseline.commit);
    git_in(&scene.shadow_dir(), &["rev-parse", &commit])
}

#[tokio::test]
async fn the_baseline_is_the_copy_whatever_the_history() {
    for history in [History::Head, History::None, History::Commits(NonZeroU32::MIN)] {
        let scene = lived_in();
        let taken = scene.take(history).await;
        assert_eq!(baseline_tree(&scene, &taken), tree_of_copy(&scene), "{history:?}");
        assert_eq!(
            git_in(
                &scene.shadow_dir(),
                &["rev-list", "--count", &taken.baseline.commit.to_string()]
            ),
            "1"
        );
        assert_eq!(scene.workspace().join(".git").exists(), history != History::None);
    }
}

#[tokio::test]
async fn history_is_cut_where_it_was_asked_to_be() {
    let scene = Scene::repository();
    for number in 0..5 {
        scene.write("file", number.to_string());
        scene.commit("one more");
    }
    let taken = scene.take(History::Commits(NonZeroU32::new(2).unwrap())).await;
    assert_eq!(
        scene.inside(&["log", "--format=%H"]),
        scene.run(&["log", "--format=%H", "-2"])
    );
    assert_eq!(scene.inside(&["fsck", "--full"]), "");
    assert_eq!(
        scene
            .inside(&["count-objects", "-v"])
            .lines()
            .find(|line| line.starts_with("in-pack")),
        Some("in-pack: 6")
    );
    assert_eq!(baseline_tree(&scene, &taken), tree_of_copy(&scene));
}

#[tokio::test]
async fn shallow_detached_unborn_and_sha256_repositories_are_taken() {
    let origin = Scene::repository();
    for number in 0..4 {
        origin.write("file", number.to_string());
        origin.commit("one more");
    }
    for depth in [History::Head, History::Commits(NonZeroU32::new(9).unwrap())] {
        let shallow = Scene::new();
        let url = format!("file://{}", origin.folder.display());
        shallow.run(&["clone", "-q", "--depth", "2", &url, "."]);
        shallow.run(&["checkout", "-q", "--detach"]);
        shallow.take(depth).await;
        assert_eq!(
            shallow.inside(&["log", "--format=%H"]),
            shallow.run(&["log", "--format=%H"])
        );
        assert_eq!(shallow.inside(&["fsck", "--full"]), "");
        assert_eq!(shallow.inside(&["status", "--porcelain"]), "");
    }
    let unborn = Scene::repository();
    unborn.write("new", "x");
    unborn.take(History::Head).await;
    assert_eq!(
        unborn.inside(&["status", "--porcelain", "--branch"]),
        "## No commits yet on main\n?? new"
    );

    let sha256 = Scene::new();
    sha256.run(&["init", "-q", "-b", "main", "--object-format=sha256"]);
    sha256.write("file", "x");
    sha256.commit("one");
    sha256.write("file", "y");
    let taken = sha256.take(History::Head).await;
    assert_eq!(taken.baseline.object_format, ObjectFormat::Sha256);
    assert_eq!(sha256.inside(&["status", "--porcelain"]), " M file");
    assert_eq!(
        git_in(
            &sha256.shadow_dir(),
            &["show", &format!("{}:file", taken.baseline.commit)]
        ),
        "y"
    );
}

#[tokio::test]
async fn a_worktree_gets_a_git_directory_of_its_own() {
    let main = lived_in();
    let scene = Scene::new();
    main.run(&[
        "worktree",
        "add",
        "-q",
        "-b",
        "side",
        scene.folder.join("tree").to_str().unwrap(),
    ]);
    let mut job = scene.job(History::Head);
    job.folder = scene.folder.join("tree");
    scene.take_job(job).await.unwrap();
    assert!(scene.workspace().join(".git").is_dir());
    assert_eq!(scene.inside(&["symbolic-ref", "HEAD"]), "refs/heads/side");
    assert_eq!(scene.inside(&["status", "--porcelain"]), "");
}

#[tokio::test]
async fn a_part_of_a_repository_is_taken_without_its_history_and_says_so() {
    let scene = lived_in();
    scene.write("part/in", "x");
    scene.write("part/b.log", "ignored by the repository's rules");
    scene.commit("part");
    let mut job = scene.job(History::Head);
    job.folder = scene.at("part");
    let taken = scene.take_job(job).await.unwrap();
    assert_eq!(names(&scene.workspace()), ["in"]);
    assert!(!scene.workspace().join(".git").exists());
    let note = taken.notes[0]
        .to_string()
        .replace(scene.folder.to_str().unwrap(), "REPOSITORY");
    insta::assert_snapshot!(note, @"the folder is a part of the repository REPOSITORY: it was copied without history, which would show the rest of it; name the repository itself to have both");
}

#[tokio::test]
async fn a_folder_that_the_repository_above_ignores_is_not_taken_for_an_empty_one() {
    let scene = lived_in();
    let name = ":(glob)[x] *";
    scene.write(".gitignore", "*.log\n/target/\n/\\:*\n");
    scene.write("target/project/file", "x");
    scene.write(&format!("{name}/file"), "x");
    scene.write("logs/a.log", "x");
    let take = async |folder: &str| {
        let _ = fs::remove_dir_all(scene.workspace().parent().unwrap());
        let job = SnapshotJob {
            folder: scene.at(folder),
            ..scene.job(History::Head)
        };
        (scene.take_job(job).await.unwrap().notes, names(&scene.workspace()))
    };
    let top = scene.folder.clone();
    for ignored in ["target", "target/project", name] {
        let (notes, taken) = take(ignored).await;
        assert_eq!(notes, [Note::Ignored { top: top.clone() }], "{ignored}");
        assert!(!taken.is_empty(), "{ignored}");
    }
    let (notes, taken) = take("logs").await;
    let part = Note::BelowTopLevel { top: top.clone() };
    assert_eq!((notes, taken.len()), (vec![part, Note::NothingListed { top }], 0));
}

#[tokio::test]
async fn a_fifo_in_the_place_of_a_gitignore_is_named_as_what_git_may_wait_for() {
    let scene = lived_in();
    scene.write("sub/file", "x");
    nix::unistd::mkfifo(&scene.at("sub/.gitignore"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    let (git, cancel) = (git(), CancellationToken::new());
    let Folder::TopLevel(repository) = source::facts(&git, &scene.folder, &cancel).await.unwrap() else {
        panic!("a repository")
    };
    let mut untracked = git.ask(&repository.source, SourceQuestion::Untracked);
    untracked.limit = std::time::Duration::from_millis(300);
    let waited = run::run(untracked, Stdin::Empty, MANY_LINES, &cancel)
        .await
        .unwrap_err();
    let error = not_listed(&scene.folder, waited);
    assert!(matches!(error, SnapshotError::Listing { .. }), "{error}");
    assert!(error.to_string().contains("-name .gitignore -type p"), "{error}");
}

#[tokio::test]
async fn submodules_and_nested_repositories_come_whole_and_without_their_git() {
    let library = Scene::repository();
    library.write("library", "x");
    library.commit("library");
    let scene = lived_in();
    scene.run(&["submodule", "add", "-q", library.folder.to_str().unwrap(), "module"]);
    scene.commit("module");
    scene.write("module/changed", "inside the submodule");
    fs::create_dir(scene.at("nested")).unwrap();
    git_in(&scene.at("nested"), &["init", "-q"]);
    scene.write("nested/file", "x");
    scene.write("nested/.gitignore", "/.env\n");
    for secret in ["nested/.env", "module/below/.env"] {
        scene.write(secret, "TOKEN=x");
    }
    scene.write("module/below/.gitignore", "*\n");
    let taken = scene.take(History::Head).await;
    let names = names(&scene.workspace());
    for expected in ["module/library", "module/changed", "nested/file"] {
        assert!(names.iter().any(|name| name == expected), "{expected}: {names:?}");
    }
    for gone in ["module/.git", "nested/.git", "nested/.env", "module/below/.env"] {
        assert!(scene.workspace().join(gone).symlink_metadata().is_err(), "{gone}");
    }
    insta::assert_snapshot!(taken.notes[0], @"not copied: what a .gitignore names where git is not asked, so that what is tracked all the same is missing too (module/below/.env and 2 more)");
    assert_eq!(baseline_tree(&scene, &taken), tree_of_copy(&scene));
}

#[tokio::test]
async fn any_other_folder_is_taken_whole_but_for_git_directories() {
    let scene = Scene::new();
    scene.write("a/b", "x");
    scene.write("project/file", "x");
    git_in(&scene.at("project"), &["init", "-q"]);
    let taken = scene.take(History::Head).await;
    assert_eq!(names(&scene.workspace()), ["a/b", "project/file"]);
    assert!(!scene.workspace().join("project/.git").exists());
    assert_eq!(taken.notes, []);
    assert_eq!(baseline_tree(&scene, &taken), tree_of_copy(&scene));

    let mirror = Scene::new();
    mirror.write("file", "x");
    mirror.run(&["init", "-q", "--bare", "mirror.git"]);
    mirror.run(&[
        "-C",
        "mirror.git",
        "remote",
        "add",
        "origin",
        "https://user:password@example.com/x",
    ]);
    let taken = mirror.take(History::Head).await;
    assert_eq!(names(&mirror.workspace()), ["file"]);
    insta::assert_snapshot!(taken.notes[0], @"not copied: git directories, whose configuration may hold credentials (mirror.git)");
    // Where it lies in a repository git offers each of its files.
    let outer = lived_in();
    outer.run(&["init", "-q", "--bare", "mirror.git"]);
    outer.take(History::Head).await;
    assert!(!outer.workspace().join("mirror.git").exists());

    let dangling = Scene::new();
    dangling.write(".git", "gitdir: /nonexistent/worktree\n");
    dangling.write("file", "x");
    let taken = dangling.take(History::Head).await;
    assert_eq!(taken.notes, [Note::Unusable(Unusable::Dangling)]);
    assert_eq!(names(&dangling.workspace()), ["file"]);
}

#[tokio::test]
async fn nothing_that_the_repository_names_is_run() {
    let scene = lived_in();
    let mark = scene.folder.parent().unwrap().join("ran");
    let script = scene.folder.parent().unwrap().join("evil.sh");
    fs::write(&script, format!("#!/bin/sh\ntouch '{}'\ncat\n", mark.display())).unwrap();
    chmod(&script, 0o755);
    let evil = script.to_str().unwrap();
    for name in [
        "core.fsmonitor",
        "filter.evil.clean",
        "filter.evil.smudge",
        "filter.evil.process",
        "diff.evil.textconv",
        "diff.external",
        "core.pager",
        "core.sshCommand",
        "core.alternateRefsCommand",
        "core.askPass",
    ] {
        scene.run(&["config", name, evil]);
    }
    scene.run(&[
        "config",
        "core.hooksPath",
        scene.folder.parent().unwrap().to_str().unwrap(),
    ]);
    scene.write(".gitattributes", "* filter=evil diff=evil\n");
    for hook in ["post-index-change", "reference-transaction", "post-checkout"] {
        fs::copy(&script, scene.folder.parent().unwrap().join(hook)).unwrap();
    }
    let nested = scene.at("nested");
    fs::create_dir(&nested).unwrap();
    git_in(&nested, &["init", "-q"]);
    git_in(&nested, &["config", "core.fsmonitor", evil]);
    scene.write("nested/file", "x");
    let _ = fs::remove_file(&mark);
    let taken = scene.take(History::Head).await;
    let changes = scene
        .shadow(&taken)
        .changes(
            &scene.workspace(),
            &crate::workspace::fixtures::BOUNDS,
            &CancellationToken::new(),
        )
        .await
        .unwrap();
    assert_eq!(changes.files, []);
    assert!(!mark.exists());
}

#[tokio::test]
async fn history_that_is_not_all_there_is_refused_with_the_setting() {
    let scene = lived_in();
    let blob = scene.run(&["rev-parse", "HEAD:kept"]);
    let (head, tail) = blob.split_at(2);
    fs::remove_file(scene.at(&format!(".git/objects/{head}/{tail}"))).unwrap();
    let error = scene.take_job(scene.job(History::Head)).await.unwrap_err();
    assert!(matches!(error, SnapshotError::History { .. }), "{error}");
    assert!(error.to_string().contains("workspace.history = \"none\""), "{error}");
    assert!(!scene.workspace().exists() && !scene.shadow_dir().exists());
    scene.take(History::None).await;
}

#[tokio::test]
async fn limits_and_cancelling_leave_nothing() {
    let scene = lived_in();
    let mut noise = vec![0; 3 << 20];
    let mut state = 1_u32;
    for byte in &mut noise {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        *byte = state.to_be_bytes()[0];
    }
    scene.write("noise", &noise);
    scene.commit("noise");
    fs::remove_file(scene.at("noise")).unwrap();
    let mut job = scene.job(History::Head);
    job.limits.bytes.value = ByteSize::from_mib(1);
    let error = scene.take_job(job).await.unwrap_err();
    assert!(matches!(error, SnapshotError::HistoryTooLarge { .. }), "{error}");
    let mut job = scene.job(History::Head);
    job.limits.files.value = 2;
    let error = scene.take_job(job).await.unwrap_err();
    assert!(
        matches!(error, SnapshotError::Copy(CopyError::TooManyFiles { .. })),
        "{error}"
    );
    let stop = Box::new(|_| ControlFlow::Break(()));
    let cancelled = take(&git(), scene.job(History::Head), stop, &CancellationToken::new()).await;
    assert!(
        matches!(cancelled, Err(SnapshotError::Copy(CopyError::Cancelled))),
        "{cancelled:?}"
    );
    let cancel = CancellationToken::new();
    cancel.cancel();
    let go_on = Box::new(|_| ControlFlow::Continue(()));
    let cancelled = take(&git(), scene.job(History::Head), go_on, &cancel).await;
    assert!(
        matches!(cancelled, Err(SnapshotError::Copy(CopyError::Cancelled))),
        "{cancelled:?}"
    );
    assert!(!scene.workspace().exists() && !scene.shadow_dir().exists());
}

#[tokio::test]
async fn the_users_own_list_of_ignored_files_counts() {
    let scene = lived_in();
    let home = scene.folder.parent().unwrap().join("home");
    write(&home, ".config/git/ignore", "*.private\n");
    scene.write("x.private", "mine");
    let mut git = git();
    git.home = Some(home.into());
    fs::create_dir_all(scene.workspace().parent().unwrap()).unwrap();
    let go_on = Box::new(|_| ControlFlow::Continue(()));
    take(&git, scene.job(History::Head), go_on, &CancellationToken::new())
        .await
        .unwrap();
    assert!(!scene.workspace().join("x.private").exists());
    assert!(scene.workspace().join("untracked").exists());
}

#[tokio::test]
async fn another_file_system_is_no_obstacle_and_the_source_is_not_written_to() {
    let scene = lived_in();
    let elsewhere = tempfile::tempdir_in("/dev/shm").unwrap();
    let place = elsewhere.path().canonicalize().unwrap();
    let job = SnapshotJob {
        workspace: place.join("workspace"),
        shadow: place.join("shadow.git"),
        ..scene.job(History::Head)
    };
    let objects = scene.at(".git/objects/pack");
    // Even a file that comes and goes is seen in the directory's time.
    let before = fs::metadata(&objects).unwrap().modified().unwrap();
    scene.take_job(job).await.unwrap();
    assert_eq!(fs::metadata(&objects).unwrap().modified().unwrap(), before);
    let log = git_in(&place.join("workspace"), &["log", "--format=%H"]);
    assert_eq!(log, scene.run(&["log", "--format=%H"]));
}
