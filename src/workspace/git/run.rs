//! Finds git on this machine and runs it to its end.

use crate::supervise::tool::{self, StdoutUse, Streams, ToolError, ToolRun};
use crate::workspace::git::command::{Git, GitCommand};
use std::ffi::OsStr;
use std::fs::File;
use tokio_util::sync::CancellationToken;

pub use crate::supervise::tool::Stdin;

/// How much of what git says is in an error, in lines.
const SAID_LINES: usize = 6;

#[derive(Debug, thiserror::Error)]
pub enum GitError {
    #[error(
        "there is no git on PATH, and changes in a workspace are found with it; install git (2.39 or newer), e.g. \
         apt-get install git, or dnf install git"
    )]
    Missing,
    #[error("{command} failed ({status}): {said}")]
    Failed {
        /// `git ls-files`.
        command: String,
        status: std::process::ExitStatus,
        said: String,
    },
    #[error("{command} answered what git does not answer: {answer}")]
    Answer { command: String, answer: String },
    #[error("the work was cancelled")]
    Cancelled,
    #[error("{0}")]
    Tool(ToolError),
    #[error("{command} could not be fed: {source}")]
    Feed {
        command: String,
        #[source]
        source: std::io::Error,
    },
}

impl From<ToolError> for GitError {
    fn from(error: ToolError) -> Self {
        match error {
            ToolError::Cancelled { .. } => Self::Cancelled,
            other => Self::Tool(other),
        }
    }
}

impl GitError {
    pub(in crate::workspace) fn answer(command: &str, answer: &[u8]) -> Self {
        Self::Answer {
            command: command.to_owned(),
            answer: String::from_utf8_lossy(answer).chars().take(200).collect(),
        }
    }
}

/// Where git's answer goes.
#[derive(Debug)]
pub enum Stdout {
    /// Into memory, at most so many bytes; more is an error.
    Memory(usize),
    File(File),
}

/// What a question of a few lines may answer, in bytes.
pub const FEW_LINES: Stdout = Stdout::Memory(64 << 10);

/// How git ended: with success, or not, which some questions have as an answer.
#[derive(Debug)]
pub enum GitEnd {
    Success(Vec<u8>),
    Failure(GitError),
}

impl Git {
    /// The git that `search_path` (PATH) leads to. `home` and `config_home` are the user's HOME and XDG_CONFIG_HOME.
    pub fn find(search_path: &OsStr, home: Option<&OsStr>, config_home: Option<&OsStr>) -> Result<Self, GitError> {
        // Relative parts of PATH would be looked up in whatever directory git runs in.
        let absolute = std::env::join_paths(std::env::split_paths(search_path).filter(|path| path.is_absolute()))
            .map_err(|_| GitError::Missing)?;
        let program = which::which_in("git", Some(&absolute), "/").map_err(|_| GitError::Missing)?;
        Ok(Self {
            program,
            search_path: absolute,
            home: home.map(OsStr::to_owned),
            config_home: config_home.map(OsStr::to_owned),
        })
    }
}

/// Runs git to its end. Anything but exit code 0 is an error with its last lines.
pub async fn run(
    command: GitCommand,
    stdin: Stdin,
    stdout: Stdout,
    cancel: &CancellationToken,
) -> Result<Vec<u8>, GitError> {
    match end(command, stdin, stdout, cancel).await? {
        GitEnd::Success(answer) => Ok(answer),
        GitEnd::Failure(error) => Err(error),
    }
}

/// [`run`], where failing is an answer.
pub async fn end(
    command: GitCommand,
    stdin: Stdin,
    stdout: Stdout,
    cancel: &CancellationToken,
) -> Result<GitEnd, GitError> {
    let (stdout_use, file) = match stdout {
        Stdout::Memory(bytes) => (StdoutUse::CaptureUpTo(bytes), None),
        Stdout::File(file) => (StdoutUse::Capture, Some(file)),
    };
    let tool = ToolRun {
        command: command.command,
        environment: command.environment,
        limit: command.limit,
        stdout: stdout_use,
    };
    let streams = Streams { stdin, stdout: file };
    let end = tool::run_with(&tool, streams, cancel, &mut |_| ()).await?;
    if end.status.success() {
        return Ok(GitEnd::Success(end.stdout));
    }
    let skipped = end.tail.len().saturating_sub(SAID_LINES);
    Ok(GitEnd::Failure(GitError::Failed {
        command: command.name,
        status: end.status,
        said: end.tail.get(skipped..).unwrap_or_default().join(" · "),
    }))
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "tests read files")]
mod tests {
    use super::*;
    use crate::workspace::git::command::OwnRepository;
    use crate::workspace::git::skeleton::{self, Purpose};
    use crate::workspace::git::{ObjectFormat, ObjectId};

    fn git() -> Git {
        Git::find(OsStr::new("relative:/usr/local/bin:/usr/bin:/bin"), None, None).unwrap()
    }

    #[test]
    fn git_is_found_by_absolute_directories_only_and_its_absence_teaches() {
        assert_eq!(git().search_path, "/usr/local/bin:/usr/bin:/bin");
        let error = Git::find(OsStr::new("/nonexistent:usr/bin"), None, None).unwrap_err();
        assert!(error.to_string().contains("apt-get install git"), "{error}");
    }

    #[tokio::test]
    async fn a_directory_of_ours_is_a_repository_and_a_failure_says_why() {
        let directory = tempfile::tempdir().unwrap();
        let cancel = CancellationToken::new();
        for format in [ObjectFormat::Sha1, ObjectFormat::Sha256] {
            let own = OwnRepository {
                git_dir: directory.path().join(format.as_str()),
            };
            skeleton::make(&own.git_dir, Purpose::Shadow, format, "ref: refs/heads/main").unwrap();
            let hash = git().work(&own, "hash-object", &["-w", "--stdin"]);
            let id = run(hash, Stdin::Bytes(b"abc".to_vec()), FEW_LINES, &cancel)
                .await
                .unwrap();
            let id = ObjectId::parse(id.trim_ascii_end()).unwrap();
            let show = git().work(&own, "cat-file", &["blob", &id.to_string()]);
            let content = tempfile::NamedTempFile::new().unwrap();
            let stdout = Stdout::File(content.reopen().unwrap());
            assert!(run(show, Stdin::Empty, stdout, &cancel).await.unwrap().is_empty());
            assert_eq!(std::fs::read(content.path()).unwrap(), b"abc");

            let missing = git().work(&own, "cat-file", &["blob", "HEAD"]);
            let error = run(missing, Stdin::Empty, FEW_LINES, &cancel)
                .await
                .unwrap_err()
                .to_string();
            assert!(
                error.starts_with("git cat-file failed (exit status: 128): fatal:"),
                "{error}"
            );
        }
    }
}
