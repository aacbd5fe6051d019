//! Real folders, a real private git directory, real ends.
#![expect(
    clippy::disallowed_methods,
    reason = "tests make and remove files, and start processes to kill them"
)]

use super::*;
use crate::wire::untrusted::Untrusted;
use crate::workspace::apply::decide::Refusal;
use crate::workspace::apply::journal::JournalError;
use crate::workspace::blob::{Entry, Mode};
use crate::workspace::git::ObjectId;
use crate::workspace::git::command::{Git, OwnRepository};
use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs::{self, Permissions};
use std::io::{BufRead, BufReader, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};

mod git_on_host;

/// A user's folder, a session's copy of it, and the private git directory.
struct Bench {
    dir: tempfile::TempDir,
    format: ObjectFormat,
    base: String,
}

impl Bench {
    fn new(make: impl FnOnce(&Path)) -> Self {
        Self::of_format(ObjectFormat::Sha1, make)
    }

    fn of_format(format: ObjectFormat, make: impl FnOnce(&Path)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        fs::create_dir(root.join("folder")).unwrap();
        fs::set_permissions(root.join("folder"), Permissions::from_mode(0o755)).unwrap();
        make(&root.join("folder"));
        let format_argument = format!("--object-format={}", format.as_str());
        sh("git", &["init", "-q", "--bare", &format_argument, "shadow.git"], root);
        let base = tree_of(root, &root.join("folder"));
        sh("cp", &["-a", "folder", "copy"], root);
        Self { dir, format, base }
    }

    fn folder(&self) -> PathBuf {
        self.dir.path().join("folder")
    }

    fn copy(&self) -> PathBuf {
        self.dir.path().join("copy")
    }

    fn state(&self) -> PathBuf {
        self.dir.path().join("state")
    }

    fn outside(&self) -> PathBuf {
        self.dir.path().join("outside")
    }

    /// Has the session change its copy.
    fn session(&self, change: impl FnOnce(&Path)) -> Request {
        change(&self.copy());
        self.request(&tree_of(self.dir.path(), &self.copy()))
    }

    fn request(&self, session: &str) -> Request {
        request(self.dir.path(), self.format, &self.base, session)
    }

    /// What git sees of a directory.
    fn tree(&self, path: &Path) -> String {
        tree_of(self.dir.path(), path)
    }

    /// Nothing of ours is left in the folder, and no record of it.
    fn assert_clean(&self) {
        let found = sh("find", &[".", "-name", ".codex-mcp-*"], &self.folder());
        assert_eq!(String::from_utf8_lossy(&found), "");
        let names: Vec<OsString> = fs::read_dir(self.state().join("apply"))
            .map(|entries| entries.map(|entry| entry.unwrap().file_name()).collect())
            .unwrap_or_default();
        let locks_only = names
            .iter()
            .all(|name| Path::new(name).extension() == Some(OsStr::new("lock")));
        assert!(locks_only, "{names:?}");
    }
}

fn request(root: &Path, format: ObjectFormat, base: &str, session: &str) -> Request {
    Request {
        folder: root.join("folder").canonicalize().unwrap(),
        state_dir: root.join("state"),
        objects: Objects {
            git: Git::find(OsStr::new("/usr/local/bin:/usr/bin:/bin"), Some(root.as_os_str()), None).unwrap(),
            repository: OwnRepository {
                git_dir: root.join("shadow.git"),
            },
        },
        format,
        patch: Patch {
            base: ObjectId::parse(base.as_bytes()).unwrap(),
            patch_sha256: "ab".repeat(32),
        },
        changes: changes(root, base, session),
        bounds: Bounds::default(),
    }
}

/// Stdout of a command that succeeds, in an environment that no configuration of this machine reaches.
fn sh(program: &str, args: &[&str], directory: &Path) -> Vec<u8> {
    let output = Command::new(program)
        .args(args)
        .current_dir(directory)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .output()
        .unwrap();
    assert!(output.status.success(), "{program} {args:?}: {output:?}");
    output.stdout
}

/// Writes a directory into the private git directory, as git sees it.
fn tree_of(root: &Path, directory: &Path) -> String {
    let index = tempfile::tempdir().unwrap();
    let run = |args: &[&str]| {
        let output = Command::new("git")
            // A threshold of one byte puts all content into one pack, which is much faster than a file each.
            .args(["-c", "core.autocrlf=false", "-c", "core.fsync=none", "-c", "core.bigFileThreshold=1"])
            .args(args)
            .current_dir(directory)
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("GIT_DIR", root.join("shadow.git"))
            .env("GIT_WORK_TREE", directory)
            .env("GIT_INDEX_FILE", index.path().join("index"))
            .output()
            .unwrap();
        assert!(output.status.success(), "{args:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    };
    run(&["add", "--all", "--force", "."]);
    run(&["write-tree"])
}

fn changes(root: &Path, base: &str, session: &str) -> Vec<TreeChange> {
    let raw = sh(
        "git",
        &["diff-tree", "-r", "-z", "--no-renames", base, session],
        &root.join("shadow.git"),
    );
    let mut fields = raw.split(|byte| *byte == 0);
    let mut changes = Vec::new();
    while let (Some(head), Some(path)) = (fields.next(), fields.next()) {
        let head = std::str::from_utf8(head).unwrap();
        let [old, new, old_id, new_id, _] = head.trim_start_matches(':').split(' ').collect::<Vec<_>>()[..] else {
            panic!("{head}")
        };
        let entry = |mode: &str, id: &str| {
            let mode = Mode::parse(mode.as_bytes())?;
            let id = ObjectId::parse(id.as_bytes()).unwrap();
            Some(Entry { mode, id })
        };
        changes.push(TreeChange {
            path: OsStr::from_bytes(path).into(),
            old: entry(old, old_id),
            new: entry(new, new_id),
        });
    }
    changes
}

fn write(path: PathBuf, text: impl AsRef<[u8]>) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

fn mode_of(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().permissions().mode() & 0o7777
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

async fn explicitly(request: &Request) -> Result<Applied, ApplyError> {
    apply(request, Consent::Explicit, None, &CancellationToken::new()).await
}

fn paths(listed: &[Listed]) -> Vec<&str> {
    listed.iter().map(|listed| listed.path.as_str()).collect()
}

fn effects(applied: &Applied) -> BTreeMap<&str, Effect> {
    let effects = applied
        .files
        .iter()
        .map(|written| (written.path.as_str(), written.effect));
    effects.collect()
}

/// Everything that git keeps, in one folder.
fn of_all_kinds(folder: &Path) {
    write(folder.join("kept"), "kept\n");
    write(folder.join("edited"), "old\n");
    write(folder.join("private"), "old\n");
    set_mode(&folder.join("private"), 0o600);
    write(folder.join("script"), "#!/bin/sh\n");
    write(folder.join("gone/deep/file"), "x");
    write(folder.join("gone/deep/other"), "y");
    write(folder.join("binary"), [0, 1, 2, 255]);
    write(folder.join("becomes-directory"), "file");
    write(folder.join("becomes-file/one"), "1");
    write(folder.join("becomes-file/two/three"), "3");
    symlink("kept", folder.join("link")).unwrap();
    write(folder.join(OsStr::from_bytes(b"new\nline\xff\"quote\\")), "odd");
}

fn change_all_kinds(copy: &Path) {
    write(copy.join("edited"), "new\n");
    write(copy.join("private"), "new\n");
    set_mode(&copy.join("script"), 0o755);
    fs::remove_dir_all(copy.join("gone")).unwrap();
    write(copy.join("binary"), [9, 0, 9]);
    fs::remove_file(copy.join("becomes-directory")).unwrap();
    write(copy.join("becomes-directory/in/it"), "now");
    fs::remove_dir_all(copy.join("becomes-file")).unwrap();
    write(copy.join("becomes-file"), "now");
    fs::remove_file(copy.join("link")).unwrap();
    symlink("edited", copy.join("link")).unwrap();
    symlink("../kept", copy.join("becomes-directory/up")).unwrap();
    write(copy.join(OsStr::from_bytes(b"new\nline\xff\"quote\\")), "changed");
    write(copy.join(OsStr::from_bytes(b"more\xfe/a\tb/\x01")), "added");
    write(copy.join("a/b/c/d/e"), "deep");
    write(copy.join("tool"), "#!/bin/sh\n");
    set_mode(&copy.join("tool"), 0o755);
    write(copy.join("empty"), "");
}

#[tokio::test]
async fn all_that_git_keeps_comes_over_and_nothing_else_is_touched() {
    for format in [ObjectFormat::Sha1, ObjectFormat::Sha256] {
        let bench = Bench::of_format(format, of_all_kinds);
        let request = bench.session(change_all_kinds);
        // The host's own, which the session never saw.
        write(bench.folder().join("hosts-own"), "untouched");
        write(bench.copy().join("hosts-own"), "untouched");

        let preview = preview(&request, Consent::Explicit, &CancellationToken::new())
            .await
            .unwrap();
        bench.assert_clean();
        let applied = explicitly(&request).await.unwrap();
        assert_eq!(preview.would_write, applied.files);
        assert_eq!(applied.left, []);
        assert_eq!(bench.tree(&bench.folder()), bench.tree(&bench.copy()));
        bench.assert_clean();

        let folder = bench.folder();
        assert!(!folder.join("gone").exists(), "a directory goes with its last file");
        assert_eq!(mode_of(&folder.join("private")), 0o600, "what a file had it keeps");
        assert_eq!(mode_of(&folder.join("tool")), 0o755);
        assert_eq!(mode_of(&folder.join("a/b/c")), 0o755);
        let effects = effects(&applied);
        assert_eq!(effects[r#"new\nline\xff"quote\\"#], Effect::Modified);
        assert_eq!(effects[r"more\xfe/a\tb/\u{1}"], Effect::Added);
        assert_eq!(effects["gone/deep/file"], Effect::Deleted);
        assert_eq!(effects["script"], Effect::Modified);

        // Once more there is nothing to do.
        let again = explicitly(&request).await.unwrap();
        assert_eq!((again.files.len(), again.already.len()), (0, request.changes.len()));
    }
}

#[tokio::test]
async fn new_files_are_as_open_as_their_directory() {
    let bench = Bench::new(|folder| write(folder.join("in/x"), "x"));
    set_mode(&bench.folder().join("in"), 0o700);
    let request = bench.session(|copy| {
        write(copy.join("in/new"), "new");
        write(copy.join("in/deep/tool"), "new");
        set_mode(&copy.join("in/deep/tool"), 0o755);
    });
    explicitly(&request).await.unwrap();
    let folder = bench.folder();
    assert_eq!(mode_of(&folder.join("in/new")), 0o600);
    assert_eq!(mode_of(&folder.join("in/deep")), 0o700);
    assert_eq!(mode_of(&folder.join("in/deep/tool")), 0o700);
}

#[tokio::test]
async fn root_gives_files_to_whoever_has_the_folder_or_had_the_file() {
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    let bench = Bench::new(|folder| write(folder.join("edited"), "x"));
    let request = bench.session(|copy| {
        write(copy.join("edited"), "y");
        write(copy.join("new/file"), "y");
        symlink("file", copy.join("new/link")).unwrap();
    });
    let folder = bench.folder();
    std::os::unix::fs::chown(&folder, Some(1234), Some(1235)).unwrap();
    std::os::unix::fs::chown(folder.join("edited"), Some(4321), Some(4322)).unwrap();
    explicitly(&request).await.unwrap();
    let owner = |path: &str| {
        let metadata = fs::symlink_metadata(folder.join(path)).unwrap();
        (metadata.uid(), metadata.gid())
    };
    assert_eq!(owner("edited"), (4321, 4322));
    for path in ["new", "new/file", "new/link"] {
        assert_eq!(owner(path), (1234, 1235), "{path}");
    }
}

#[tokio::test]
async fn lines_that_both_sides_changed_apart_are_merged() {
    let lines = |edit: &dyn Fn(usize) -> Option<&'static str>| -> String {
        let line = |number| edit(number).map_or_else(|| format!("line {number}\n"), |line| format!("{line}\n"));
        (0..20).map(line).collect()
    };
    let bench = Bench::new(|folder| {
        write(folder.join("text"), lines(&|_| None));
        write(folder.join("same"), lines(&|_| None));
    });
    let request = bench.session(|copy| {
        write(
            copy.join("text"),
            lines(&|number| (number == 2).then_some("the session's")),
        );
        set_mode(&copy.join("text"), 0o755);
        write(copy.join("same"), lines(&|number| (number == 2).then_some("of both")));
    });
    let hosts = |number| match number {
        2 => Some("of both"),
        17 => Some("the host's"),
        _ => None,
    };
    write(
        bench.folder().join("text"),
        lines(&|number| (number == 17).then_some("the host's")),
    );
    set_mode(&bench.folder().join("text"), 0o640);
    write(bench.folder().join("same"), lines(&hosts));
    let applied = explicitly(&request).await.unwrap();
    let merged = lines(&|number| match number {
        2 => Some("the session's"),
        17 => Some("the host's"),
        _ => None,
    });
    assert_eq!(fs::read_to_string(bench.folder().join("text")).unwrap(), merged);
    assert_eq!(mode_of(&bench.folder().join("text")), 0o750);
    assert_eq!(effects(&applied), [("text", Effect::Modified)].into_iter().collect());
    assert_eq!(applied.already, [Untrusted::new("same")]);
}

#[tokio::test]
async fn one_conflict_and_nothing_is_written() {
    let bench = Bench::new(|folder| {
        for name in ["lines", "binary", "deleted-there", "deleted-here", "fine"] {
            write(folder.join(name), "one\ntwo\n");
        }
        write(folder.join("directory/file"), "x");
    });
    let request = bench.session(|copy| {
        write(copy.join("lines"), "one\nsession\n");
        write(copy.join("binary"), b"session\0");
        write(copy.join("deleted-there"), "session");
        fs::remove_file(copy.join("deleted-here")).unwrap();
        write(copy.join("fine"), "session");
        write(copy.join("added"), "session");
        fs::remove_dir_all(copy.join("directory")).unwrap();
        write(copy.join("directory"), "session");
    });
    let folder = bench.folder();
    write(folder.join("lines"), "one\nhost\n");
    write(folder.join("binary"), b"host\0");
    fs::remove_file(folder.join("deleted-there")).unwrap();
    write(folder.join("deleted-here"), "host");
    write(folder.join("added"), "host");
    write(folder.join("directory/hosts-own"), "host");
    let before = bench.tree(&folder);
    let error = explicitly(&request).await.unwrap_err();
    let ApplyError::Conflicts(preview) = &error else {
        panic!("{error}")
    };
    let mut conflicts = paths(&preview.conflicts);
    conflicts.sort_unstable();
    assert_eq!(
        conflicts,
        ["added", "binary", "deleted-here", "deleted-there", "directory", "lines"]
    );
    let message = error.to_string();
    assert!(
        message.contains("lines (the session and the host changed the same lines)"),
        "{message}"
    );
    assert!(message.contains("nothing was written"), "{message}");
    assert_eq!(bench.tree(&folder), before);
    bench.assert_clean();
}

fn added(path: &[u8], id: &ObjectId) -> TreeChange {
    TreeChange {
        path: OsStr::from_bytes(path).into(),
        old: None,
        new: Some(Entry {
            mode: Mode::File,
            id: id.clone(),
        }),
    }
}

#[tokio::test]
async fn git_and_ways_out_are_refused_with_their_reasons() {
    let bench = Bench::new(|folder| write(folder.join("file"), "x"));
    let mut request = bench.session(|copy| {
        write(copy.join("file"), "payload");
        symlink("/etc/passwd", copy.join("absolute")).unwrap();
        symlink("../outside", copy.join("upwards")).unwrap();
        symlink(".git/hooks", copy.join("into-git")).unwrap();
    });
    let payload = request
        .changes
        .iter()
        .find(|change| change.path == Path::new("file"))
        .unwrap();
    let payload = payload.new.clone().unwrap().id;
    let hostile: [&[u8]; 8] = [
        b".git/hooks/pre-commit",
        b".GIT/config",
        b"sub/.gIt/config",
        b".git ./config",
        b"git~1/config",
        ".g\u{200c}it/config".as_bytes(),
        b"../outside/file",
        b"/etc/cron.d/x",
    ];
    let hostile = hostile.iter().map(|path| added(path, &payload));
    request.changes.extend(hostile);
    let before = bench.tree(&bench.folder());
    let error = explicitly(&request).await.unwrap_err();
    let ApplyError::Refused(preview) = &error else {
        panic!("{error}")
    };
    assert_eq!(preview.refused.len(), 11, "{:?}", preview.refused);
    assert_eq!(bench.tree(&bench.folder()), before);
    assert!(!bench.folder().join(".git").exists() && !bench.outside().exists());
    bench.assert_clean();
}

#[tokio::test]
async fn links_that_were_planted_on_the_host_lead_nowhere() {
    let bench = Bench::new(|folder| {
        write(folder.join("dir/file"), "x");
        write(folder.join("file"), "x");
    });
    let request = bench.session(|copy| {
        write(copy.join("dir/file"), "session");
        write(copy.join("dir/new"), "session");
        write(copy.join("file"), "session");
    });
    let (folder, outside) = (bench.folder(), bench.outside());
    write(outside.join("file"), "x");
    fs::remove_dir_all(folder.join("dir")).unwrap();
    symlink(&outside, folder.join("dir")).unwrap();
    fs::remove_file(folder.join("file")).unwrap();
    symlink(outside.join("file"), folder.join("file")).unwrap();
    let preview = preview(&request, Consent::Explicit, &CancellationToken::new())
        .await
        .unwrap();
    assert_eq!(paths(&preview.refused), ["dir/file", "dir/new"]);
    assert_eq!(paths(&preview.conflicts), ["file"]);
    assert!(matches!(explicitly(&request).await, Err(ApplyError::Refused(_))));
    assert_eq!(fs::read_to_string(outside.join("file")).unwrap(), "x");
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 1);
}

#[tokio::test]
async fn what_runs_by_itself_waits_for_somebody_to_ask() {
    let bench = Bench::new(|folder| write(folder.join("Makefile"), "all:\n"));
    let request = bench.session(|copy| {
        write(copy.join("Makefile"), "all:\n\tevil\n");
        write(copy.join(".vscode/tasks.json"), "{}");
        write(copy.join("src/main.rs"), "fn main() {}\n");
    });
    let cancel = CancellationToken::new();
    let applied = apply(&request, Consent::EachTurn, None, &cancel).await.unwrap();
    assert_eq!(
        effects(&applied),
        [("src/main.rs", Effect::Added)].into_iter().collect()
    );
    assert_eq!(paths(&applied.held), [".vscode/tasks.json", "Makefile"]);
    assert_eq!(fs::read_to_string(bench.folder().join("Makefile")).unwrap(), "all:\n");
    let applied = explicitly(&request).await.unwrap();
    assert_eq!(paths(&applied.runs_by_itself), [".vscode/tasks.json", "Makefile"]);
    assert_eq!(bench.tree(&bench.folder()), bench.tree(&bench.copy()));
}

#[tokio::test]
async fn only_the_patch_that_was_shown_is_applied() {
    let bench = Bench::new(|folder| write(folder.join("file"), "x"));
    let request = bench.session(|copy| write(copy.join("file"), "y"));
    let cancel = CancellationToken::new();
    let other = "cd".repeat(32);
    let error = apply(&request, Consent::Explicit, Some(&other), &cancel)
        .await
        .unwrap_err();
    assert!(matches!(error, ApplyError::OtherPatch { .. }), "{error}");
    assert_eq!(fs::read_to_string(bench.folder().join("file")).unwrap(), "x");
    let shown = "AB".repeat(32);
    let applied = apply(&request, Consent::Explicit, Some(&shown), &cancel).await.unwrap();
    assert_eq!(applied.patch_sha256, "ab".repeat(32));
    assert_eq!(applied.base, request.patch.base);
}

#[tokio::test]
async fn what_is_too_much_is_refused_before_anything_is_read() {
    let bench = Bench::new(|_| ());
    let mut request = bench.session(|copy| {
        write(copy.join("one"), [b'x'; 600]);
        write(copy.join("two"), [b'y'; 600]);
    });
    request.bounds.files = 1;
    let error = explicitly(&request).await.unwrap_err();
    assert!(
        matches!(error, ApplyError::TooManyFiles { files: 2, limit: 1 }),
        "{error}"
    );
    request.bounds = Bounds {
        bytes: 1000,
        ..Bounds::default()
    };
    let error = explicitly(&request).await.unwrap_err();
    let too_large = ApplyError::Content(content::ContentError::TooLarge {
        bytes: 1200,
        limit: 1000,
    });
    assert_eq!(error.to_string(), too_large.to_string());
    request.bounds.bytes = 1200;
    request.bounds.time = Duration::ZERO;
    let error = explicitly(&request).await.unwrap_err();
    assert!(matches!(error, ApplyError::Late(_)), "{error}");
    assert_eq!(fs::read_dir(bench.folder()).unwrap().count(), 0);
}

#[tokio::test]
async fn a_cancelled_apply_writes_nothing() {
    let bench = Bench::new(|_| ());
    let request = bench.session(|copy| write(copy.join("one"), "x"));
    let cancel = CancellationToken::new();
    cancel.cancel();
    let error = apply(&request, Consent::Explicit, None, &cancel).await.unwrap_err();
    assert!(
        matches!(
            &error,
            ApplyError::Cancelled | ApplyError::Git(_) | ApplyError::Content(_)
        ),
        "{error}"
    );
    assert_eq!(fs::read_dir(bench.folder()).unwrap().count(), 0);
    bench.assert_clean();
}

#[tokio::test]
async fn a_missing_object_is_named_and_nothing_is_written() {
    let bench = Bench::new(|folder| write(folder.join("file"), "x"));
    let mut request = bench.session(|copy| write(copy.join("file"), "y"));
    let missing = ObjectId::parse(&[b'0'; 40]).unwrap();
    request.changes.push(added(b"new", &missing));
    let error = explicitly(&request).await.unwrap_err();
    assert!(error.to_string().contains(&missing.to_string()), "{error}");
    assert_eq!(fs::read_to_string(bench.folder().join("file")).unwrap(), "x");
}

/// Ready to be carried out, with the lock.
async fn planned(request: &Request) -> (Held, Plan) {
    let (held, work) = hold(request).await.unwrap();
    let cancel = CancellationToken::new();
    let mut prepared = prepare(request, Consent::Explicit, &work, &cancel).await.unwrap();
    let needed = prepared.needed();
    let contents = &mut prepared.contents;
    contents
        .fetch(&request.objects, needed, u64::MAX, &work, &cancel)
        .await
        .unwrap();
    (held, Plan::of(prepared, request))
}

#[tokio::test]
async fn an_edit_between_decision_and_commit_is_noticed_by_its_content() {
    let edits: [fn(&Path); 5] = [
        // Of the same size and time.
        |folder| {
            let times = fs::metadata(folder.join("edited")).unwrap().modified().unwrap();
            write(folder.join("edited"), "usr\n");
            let file = fs::File::options().write(true).open(folder.join("edited")).unwrap();
            file.set_modified(times).unwrap();
        },
        |folder| write(folder.join("a/b"), "the user's"),
        |folder| write(folder.join("becomes-file/hosts-own"), "the user's"),
        |folder| set_mode(&folder.join("script"), 0o700),
        |folder| fs::remove_file(folder.join("gone/deep/file")).unwrap(),
    ];
    for edit in edits {
        let bench = Bench::new(of_all_kinds);
        let request = bench.session(change_all_kinds);
        let (held, plan) = planned(&request).await;
        edit(&bench.folder());
        let before = bench.tree(&bench.folder());
        let error = plan.perform(&held).unwrap_err();
        assert!(matches!(error, ApplyError::Changed { .. }), "{error}");
        assert_eq!(bench.tree(&bench.folder()), before);
        held.clear_work().unwrap();
        bench.assert_clean();
    }
}

#[tokio::test]
async fn what_the_user_changed_after_the_commit_stays_and_is_reported() {
    let bench = Bench::new(of_all_kinds);
    let request = bench.session(change_all_kinds);
    let (held, mut plan) = planned(&request).await;
    perform::stage(&plan.folder, &plan.journal, &plan.contents, plan.deadline).unwrap();
    plan.journal.phase = Phase::Committed;
    held.write(&plan.journal).unwrap();
    drop(held);
    let folder = bench.folder();
    write(folder.join("edited"), "the user's\n");
    write(folder.join("gone/deep/file"), "the user's\n");
    write(folder.join("empty"), "the user's\n");
    write(folder.join("becomes-file/hosts-own"), "the user's\n");

    let ends = recover(&bench.state()).await.unwrap();
    let [Ok(Recovered { folder: named, end, .. })] = ends.as_slice() else {
        panic!("{ends:?}")
    };
    let RecoveryEnd::Finished { left, files } = end else {
        panic!("{end:?}")
    };
    assert_eq!(*named, folder.canonicalize().unwrap());
    let mut left = paths(left);
    left.sort_unstable();
    assert_eq!(left, ["becomes-file", "edited", "empty", "gone/deep/file"]);
    assert!(files.iter().all(|written| written.path.as_str() != "edited"));
    for path in ["edited", "gone/deep/file", "empty", "becomes-file/hosts-own"] {
        assert_eq!(fs::read_to_string(folder.join(path)).unwrap(), "the user's\n", "{path}");
    }
    assert_eq!(fs::read_to_string(folder.join("a/b/c/d/e")).unwrap(), "deep");
    bench.assert_clean();
}

#[tokio::test]
async fn after_any_number_of_steps_the_rest_is_done_by_recovery() {
    let mut number = 0;
    loop {
        let bench = Bench::new(of_all_kinds);
        let request = bench.session(change_all_kinds);
        let (held, mut plan) = planned(&request).await;
        perform::stage(&plan.folder, &plan.journal, &plan.contents, plan.deadline).unwrap();
        plan.journal.phase = Phase::Committed;
        held.write(&plan.journal).unwrap();
        drop(held);
        let all = plan.journal.tasks.len();
        let mut done = plan.journal.clone();
        done.tasks.truncate(number);
        assert_eq!(perform::carry_out(&plan.folder, &done).unwrap(), []);
        // The next apply to the folder is as good a recovery as a start.
        let applied = explicitly(&request).await.unwrap();
        assert_eq!(applied.files, [], "{number} of {all}");
        assert_eq!(
            bench.tree(&bench.folder()),
            bench.tree(&bench.copy()),
            "{number} of {all}"
        );
        bench.assert_clean();
        number += 3;
        if number > all + 2 {
            break;
        }
    }
}

#[tokio::test]
async fn before_the_commit_recovery_leaves_no_trace() {
    let bench = Bench::new(of_all_kinds);
    let request = bench.session(change_all_kinds);
    let before = bench.tree(&bench.folder());
    let (held, plan) = planned(&request).await;
    held.write(&plan.journal).unwrap();
    let mut half = plan.journal.clone();
    half.tasks.truncate(plan.journal.tasks.len() / 2 + 4);
    perform::stage(&plan.folder, &half, &plan.contents, plan.deadline).unwrap();
    assert_ne!(bench.tree(&bench.folder()), before, "something was staged");
    assert!(
        recover(&bench.state()).await.unwrap().is_empty(),
        "a living owner is left alone"
    );
    drop(held);
    let ends = recover(&bench.state()).await.unwrap();
    assert!(
        matches!(
            ends.as_slice(),
            [Ok(Recovered {
                end: RecoveryEnd::RolledBack,
                ..
            })]
        ),
        "{ends:?}"
    );
    assert_eq!(bench.tree(&bench.folder()), before);
    bench.assert_clean();
}

#[tokio::test]
async fn journals_that_are_not_understood_are_left_alone() {
    let bench = Bench::new(of_all_kinds);
    let request = bench.session(change_all_kinds);
    let (held, plan) = planned(&request).await;
    let path = held.slot.journal();
    held.write(&plan.journal).unwrap();
    let text = fs::read_to_string(&path).unwrap();
    for (spoiled, wanted) in [
        (
            text.replace("\"version\":1", "\"version\":2"),
            "another version of codex-mcp (2)",
        ),
        (
            text.replace(".codex-mcp-", "../../etc/"),
            "it names a file that is not codex-mcp's",
        ),
        (text[..text.len() / 2].to_owned(), "is damaged"),
    ] {
        fs::write(&path, &spoiled).unwrap();
        let error = recovery::finish(&held).unwrap_err().to_string();
        assert!(error.contains(wanted), "{error}");
        assert_eq!(fs::read_to_string(&path).unwrap(), spoiled);
    }
    fs::remove_file(&path).unwrap();
}

#[tokio::test]
async fn a_folder_that_is_gone_keeps_its_journal_until_it_is_back() {
    let bench = Bench::new(of_all_kinds);
    let request = bench.session(change_all_kinds);
    let (held, plan) = planned(&request).await;
    held.write(&plan.journal).unwrap();
    drop(held);
    let elsewhere = bench.dir.path().join("elsewhere");
    fs::rename(bench.folder(), &elsewhere).unwrap();
    let ends = recover(&bench.state()).await.unwrap();
    assert!(matches!(ends.as_slice(), [Err(ApplyError::Host(_))]), "{ends:?}");
    fs::rename(&elsewhere, bench.folder()).unwrap();
    assert!(recover(&bench.state()).await.unwrap()[0].is_ok());
    bench.assert_clean();
}

#[test]
fn two_applies_to_one_folder_do_not_meet() {
    let state = tempfile::tempdir().unwrap();
    let folder = Path::new("/work/project");
    let slot = Slot::of(state.path(), folder);
    let held = slot.clone().hold(folder, Duration::ZERO).unwrap();
    let error = slot.clone().hold(folder, Duration::ZERO).unwrap_err();
    assert!(matches!(error, JournalError::Busy { .. }), "{error}");
    let other = Path::new("/work/other");
    Slot::of(state.path(), other).hold(other, Duration::ZERO).unwrap();
    drop(held);
    slot.hold(folder, Duration::ZERO).unwrap();
}

/// As root a directory's mode keeps nobody out, but a read-only mount does.
#[test]
fn where_nothing_can_be_written_nothing_is_half_written() {
    let bench = Bench::new(of_all_kinds);
    let request = bench.session(change_all_kinds);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let (held, plan) = runtime.block_on(planned(&request));
    let before = bench.tree(&bench.folder());
    let becomes_directory = bench.folder().join("gone/deep");
    let error = if nix::unistd::geteuid().is_root() {
        let folder = bench.folder();
        // Its own thread: a mount namespace is a thread's.
        std::thread::spawn(move || {
            use nix::mount::{MsFlags, mount};
            let none: Option<&str> = None;
            nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS).unwrap();
            mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).unwrap();
            // Only deletions lie here: nothing is staged beside them that would fail first.
            let read_only = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
            let place = folder.join("gone/deep");
            mount(Some(&place), &place, none, MsFlags::MS_BIND, none).unwrap();
            mount(none, &place, none, read_only, none).unwrap();
            // The folder as this thread sees it.
            let plan = Plan {
                folder: Arc::new(HostFolder::open(&folder, ObjectFormat::Sha1).unwrap()),
                ..plan
            };
            plan.perform(&held).unwrap_err()
        })
        .join()
        .unwrap()
    } else {
        set_mode(&becomes_directory, 0o555);
        let error = plan.perform(&held).unwrap_err();
        set_mode(&becomes_directory, 0o755);
        error
    };
    let message = error.to_string();
    assert!(
        message.starts_with("nothing was written: can't remove gone/deep/file: "),
        "{message}"
    );
    assert_eq!(bench.tree(&bench.folder()), before);
}

#[tokio::test]
async fn ten_thousand_files_at_once() {
    let bench = Bench::new(|folder| {
        for number in 0..2_000 {
            write(
                folder.join(format!("old/{}/{number}", number % 50)),
                format!("{number}\n"),
            );
        }
    });
    let request = bench.session(|copy| {
        for number in 0..10_000 {
            if number < 1_000 {
                fs::remove_file(copy.join(format!("old/{}/{number}", number % 50))).unwrap();
            } else if number < 2_000 {
                write(copy.join(format!("old/{}/{number}", number % 50)), "changed");
            } else {
                write(
                    copy.join(format!("new/{}/{number}", number % 100)),
                    format!("{number}\n"),
                );
            }
        }
    });
    assert_eq!(request.changes.len(), 10_000);
    let since = Instant::now();
    let applied = explicitly(&request).await.unwrap();
    println!("applied 10,000 changes in {:?}", since.elapsed());
    assert_eq!(applied.files.len(), 10_000);
    assert_eq!(bench.tree(&bench.folder()), bench.tree(&bench.copy()));
    bench.assert_clean();
}

/// Names the directory that the process which is to be killed works in.
const KILLED_IN: &str = "CODEX_MCP_TEST_KILLED_APPLY";

#[test]
#[ignore = "the process that the test below kills"]
fn killed() {
    let Some(root) = std::env::var_os(KILLED_IN).map(PathBuf::from) else {
        return;
    };
    let read = |name: &str| fs::read_to_string(root.join(name)).unwrap();
    let request = request(&root, ObjectFormat::Sha1, &read("base"), &read("session"));
    println!("\nready");
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(explicitly(&request)).unwrap();
}

/// How many times it is killed after the journal is there, over the journal's whole life and a little more, and how often before.
const KILLS: u32 = 24;
const EARLY_KILLS: u32 = 4;

#[tokio::test]
async fn killed_at_any_moment_it_is_whole_or_not_at_all() {
    let bench = Bench::new(|folder| {
        of_all_kinds(folder);
        for number in 0..60 {
            write(
                folder.join(format!("many/{}/{number}", number % 10)),
                format!("{number}\n"),
            );
        }
    });
    let root = bench.dir.path();
    let request = bench.session(|copy| {
        change_all_kinds(copy);
        for number in 0..40 {
            write(copy.join(format!("many/{}/{number}", number % 10)), "changed");
            write(copy.join(format!("more/{}/{number}", number % 10)), "new");
        }
        for number in 40..60 {
            fs::remove_file(copy.join(format!("many/{}/{number}", number % 10))).unwrap();
        }
    });
    let after = bench.tree(&bench.copy());
    fs::write(root.join("base"), &bench.base).unwrap();
    fs::write(root.join("session"), &after).unwrap();
    sh("cp", &["-a", "folder", "original"], root);
    let journal = Slot::of(&request.state_dir, &request.folder).journal();
    let (whole, life) = run_to_the_end(root, &journal);

    let early = (0..EARLY_KILLS).map(|round| (whole * round / EARLY_KILLS, Since::Start));
    let late = (0..KILLS).map(|round| (life * round * 12 / (KILLS * 10), Since::Journal));
    let (mut rolled_back, mut finished, mut untouched) = (0, 0, 0);
    for (delay, since) in early.chain(late) {
        sh("rm", &["-rf", "folder"], root);
        sh("cp", &["-a", "original", "folder"], root);
        let (mut child, _stdout) = start(root);
        if since == Since::Journal {
            wait_for(&journal, &mut child);
        }
        std::thread::sleep(delay);
        child.kill().unwrap();
        child.wait().unwrap();
        let ends = recover(&bench.state()).await.unwrap();
        let now = bench.tree(&bench.folder());
        match ends.as_slice() {
            [] => {
                untouched += 1;
                assert!(
                    now == bench.base || now == after,
                    "{since:?} {delay:?}: torn without a journal"
                );
            }
            [
                Ok(Recovered {
                    end: RecoveryEnd::RolledBack,
                    ..
                }),
            ] => {
                rolled_back += 1;
                assert_eq!(now, bench.base, "{since:?} {delay:?}");
            }
            [
                Ok(Recovered {
                    end: RecoveryEnd::Finished { left, .. },
                    ..
                }),
            ] => {
                finished += 1;
                assert_eq!(
                    (now.as_str(), left.as_slice()),
                    (after.as_str(), [].as_slice()),
                    "{since:?} {delay:?}"
                );
            }
            ends => panic!("{since:?} {delay:?}: {ends:?}"),
        }
        let found = sh("find", &[".", "-name", ".codex-mcp-*"], &bench.folder());
        assert_eq!(String::from_utf8_lossy(&found), "", "{since:?} {delay:?}");
        assert!(!journal.exists());
    }
    println!(
        "a journal lives for {life:?}; killed: {rolled_back} rolled back, {finished} finished, {untouched} without a journal"
    );
    assert!(rolled_back > 0, "the moments before the commit were not met");
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Since {
    Start,
    Journal,
}

/// The process, about to apply, and its output, which it must not find closed.
fn start(root: &Path) -> (Child, BufReader<ChildStdout>) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["workspace::apply::tests::killed", "--exact", "--ignored", "--nocapture"])
        .env(KILLED_IN, root)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    assert!(stdout.by_ref().lines().any(|line| line.unwrap() == "ready"));
    (child, stdout)
}

fn wait_for(journal: &Path, child: &mut Child) {
    while !journal.exists() {
        assert!(child.try_wait().unwrap().is_none(), "it ended without a journal");
        std::thread::yield_now();
    }
}

/// How long an apply takes, and for how long its journal is there.
fn run_to_the_end(root: &Path, journal: &Path) -> (Duration, Duration) {
    let begun = Instant::now();
    let (mut child, _stdout) = start(root);
    wait_for(journal, &mut child);
    let there = Instant::now();
    while journal.exists() {
        std::thread::yield_now();
    }
    let life = there.elapsed();
    assert!(child.wait().unwrap().success());
    (begun.elapsed(), life)
}
