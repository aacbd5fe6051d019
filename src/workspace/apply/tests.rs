//! Real folders, a real private git directory, real ends.
#![expect(
    clippy::disallowed_methods,
    reason = "tests make and remove files, and start processes to kill them"
)]

use super::*;
use crate::wire::untrusted::Untrusted;
use crate::workspace::apply::decide::Refusal;
use crate::workspace::blob::{Entry, Mode};
use crate::workspace::git::ObjectId;
use crate::workspace::git::command::{Git, OwnRepository};
use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs::{self, Permissions};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

mod brought;
mod git_on_host;
mod interrupted;
mod killed;
mod refused;

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
