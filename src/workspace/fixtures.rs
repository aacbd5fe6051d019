//! A folder, a place for its snapshot, and a git of one's own, for tests.
#![expect(clippy::disallowed_methods, reason = "tests run git and make files")]

use crate::config::History;
use crate::config::quantity::ByteSize;
use crate::config::{Origin, Sourced};
use crate::workspace::compare::Bounds;
use crate::workspace::copy::{CopyLimits, CopyOwner};
use crate::workspace::git::command::Git;
use crate::workspace::shadow::Shadow;
use crate::workspace::snapshot::{self, SnapshotError, SnapshotJob, Taken};
use std::ffi::OsStr;
use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

pub(in crate::workspace) const BOUNDS: Bounds = Bounds {
    entries: 10_000,
    file: 8 << 20,
    total: 32 << 20,
    time: Duration::from_secs(60),
    patch: 4 << 20,
};

pub(in crate::workspace) struct Scene {
    _dir: tempfile::TempDir,
    pub folder: PathBuf,
}

impl Scene {
    /// An empty folder.
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        let folder = root.join("folder");
        fs::create_dir(&folder).unwrap();
        Self { _dir: dir, folder }
    }

    /// A repository without a commit.
    pub fn repository() -> Self {
        let scene = Self::new();
        scene.run(&["init", "-q", "-b", "main"]);
        scene
    }

    pub fn at(&self, path: &str) -> PathBuf {
        self.folder.join(path)
    }

    pub fn write(&self, path: &str, content: impl AsRef<[u8]>) {
        write(&self.folder, path, content);
    }

    /// Git in the folder; its output without the last newline.
    pub fn run(&self, args: &[&str]) -> String {
        git_in(&self.folder, args)
    }

    pub fn commit(&self, message: &str) {
        self.run(&["add", "-A"]);
        self.run(&["commit", "-q", "-m", message]);
    }

    pub fn workspace(&self) -> PathBuf {
        self.folder.parent().unwrap().join("session/workspace")
    }

    pub fn shadow_dir(&self) -> PathBuf {
        self.folder.parent().unwrap().join("session/shadow.git")
    }

    pub fn job(&self, history: History) -> SnapshotJob {
        SnapshotJob {
            folder: self.folder.clone(),
            workspace: self.workspace(),
            shadow: self.shadow_dir(),
            history,
            limits: CopyLimits {
                bytes: Sourced::new(ByteSize::from_mib(64), Origin::Default),
                files: Sourced::new(10_000, Origin::Default),
            },
            owner: CopyOwner::Caller,
        }
    }

    pub async fn take_job(&self, job: SnapshotJob) -> Result<Taken, SnapshotError> {
        fs::create_dir_all(self.workspace().parent().unwrap()).unwrap();
        let progress = Box::new(|_| ControlFlow::Continue(()));
        snapshot::take(&git(), job, progress, &CancellationToken::new()).await
    }

    pub async fn take(&self, history: History) -> Taken {
        self.take_job(self.job(history)).await.unwrap()
    }

    /// Git in the copy.
    pub fn inside(&self, args: &[&str]) -> String {
        git_in(&self.workspace(), args)
    }

    pub fn shadow(&self, taken: &Taken) -> Shadow {
        Shadow::open(git(), self.shadow_dir(), taken.baseline.clone())
    }
}

pub(in crate::workspace) fn write(root: &Path, path: &str, content: impl AsRef<[u8]>) {
    let path = root.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, content).unwrap();
}

pub(in crate::workspace) fn git() -> Git {
    Git::find(OsStr::new("/usr/local/bin:/usr/bin:/bin"), None, None).unwrap()
}

pub(in crate::workspace) fn git_in(directory: &Path, args: &[&str]) -> String {
    let output = Command::new("git")
        .args(["-c", "protocol.file.allow=always"])
        .args(args)
        .current_dir(directory)
        .env_clear()
        .env("PATH", "/usr/local/bin:/usr/bin:/bin")
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .envs(["AUTHOR", "COMMITTER"].map(|who| (format!("GIT_{who}_NAME"), "Test")))
        .envs(["AUTHOR", "COMMITTER"].map(|who| (format!("GIT_{who}_EMAIL"), "test@example.com")))
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout)
        .trim_end_matches('\n')
        .to_owned();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "git {args:?}: {said}");
    text
}

/// Every file and link below a directory but git's own: path, mode bits that git keeps, content.
pub(in crate::workspace) fn content(root: &Path) -> Vec<(PathBuf, u32, Vec<u8>)> {
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::fs::MetadataExt;
    let mut found = Vec::new();
    let mut pending = vec![root.to_owned()];
    while let Some(directory) = pending.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let entry = entry.unwrap();
            let (path, kind) = (entry.path(), entry.file_type().unwrap());
            if entry.file_name() == ".git" {
                continue;
            }
            let relative = path.strip_prefix(root).unwrap().to_owned();
            if kind.is_dir() {
                pending.push(path);
            } else if kind.is_symlink() {
                let target = fs::read_link(&path).unwrap();
                found.push((relative, 0o120_000, target.as_os_str().as_bytes().to_vec()));
            } else if kind.is_file() {
                let mode = entry.metadata().unwrap().mode() & 0o100;
                found.push((relative, mode, fs::read(&path).unwrap()));
            }
        }
    }
    found.sort();
    found
}
