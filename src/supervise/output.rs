//! Runs a short command to its end, bounded in time and output.

use super::command::CommandLine;
use super::environment::Environment;
use super::spawner::{SpawnError, Spawner, Stdin};
use std::io;
use std::process::ExitStatus;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt};

/// How much a command may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    pub deadline: Duration,
    /// Bytes of stdout; more is an error. (Of stderr only the last 16 KiB are kept, see [`super::stderr_tail`].)
    pub stdout: usize,
}

impl Bounds {
    /// For the engines' `info`, `inspect`, `ps`, `kill` and `rm`.
    pub const SHORT: Self = Self {
        deadline: Duration::from_secs(30),
        stdout: 4 << 20,
    };
}

/// What a command said and how it ended. A failure's meaning is the caller's to find.
#[derive(Debug)]
pub struct Output {
    pub status: ExitStatus,
    pub stdout: Vec<u8>,
    /// Its last lines, without control characters.
    pub stderr: String,
}

#[derive(Debug, thiserror::Error)]
pub enum OutputError {
    #[error(transparent)]
    Spawn(#[from] SpawnError),
    #[error("`{command}` did not end within {} s and was killed{}", after.as_secs(), said(stderr))]
    TimedOut {
        command: CommandLine,
        after: Duration,
        stderr: String,
    },
    #[error("`{command}` wrote more than {limit} bytes and was killed")]
    TooMuchOutput { command: CommandLine, limit: usize },
    #[error("cannot read what `{command}` writes: {source}")]
    Read { command: CommandLine, source: io::Error },
}

fn said(stderr: &str) -> String {
    if stderr.is_empty() {
        String::new()
    } else {
        format!("; it said: {stderr}")
    }
}

enum Cut {
    TooMuch,
    Read(io::Error),
}

/// Runs `command` without stdin. Dropping the future kills it.
pub async fn run(
    spawner: &Spawner,
    command: &CommandLine,
    env: &Environment,
    bounds: Bounds,
) -> Result<Output, OutputError> {
    let mut child = spawner.spawn(command, env, Stdin::Null).await?;
    let stdout = child.take_stdout();
    let to_its_end = async {
        let stdout = match stdout {
            Some(pipe) => read_bounded(pipe, bounds.stdout).await?,
            None => Vec::new(),
        };
        let status = child.wait().await.map_err(Cut::Read)?;
        Ok((status, stdout))
    };
    let ended = tokio::time::timeout(bounds.deadline, to_its_end).await;
    let command = || command.clone();
    match ended {
        Ok(Ok((status, stdout))) => Ok(Output {
            status,
            stdout,
            stderr: child.stderr_text().await,
        }),
        // In the cases below the child is dropped here, and its group with it.
        Ok(Err(Cut::TooMuch)) => Err(OutputError::TooMuchOutput {
            command: command(),
            limit: bounds.stdout,
        }),
        Ok(Err(Cut::Read(source))) => Err(OutputError::Read {
            command: command(),
            source,
        }),
        Err(_) => Err(OutputError::TimedOut {
            command: command(),
            after: bounds.deadline,
            stderr: child.stderr_text().await,
        }),
    }
}

async fn read_bounded(from: impl AsyncRead + Unpin, limit: usize) -> Result<Vec<u8>, Cut> {
    let mut bytes = Vec::new();
    // One byte more than allowed tells "exactly the limit" from "too much".
    let one_more = u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1);
    from.take(one_more).read_to_end(&mut bytes).await.map_err(Cut::Read)?;
    if bytes.len() > limit {
        Err(Cut::TooMuch)
    } else {
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn sh(script: &str, bounds: Bounds) -> Result<Output, OutputError> {
        let env: Environment = [("PATH".into(), "/usr/bin:/bin".into())].into_iter().collect();
        let command = CommandLine::new("/bin/sh").arg("-c").arg(script);
        run(&Spawner::new().unwrap(), &command, &env, bounds).await
    }

    #[tokio::test]
    async fn tells_what_was_said_and_how_it_ended() {
        let output = sh("echo out; echo err >&2; exit 3", Bounds::SHORT).await.unwrap();
        assert_eq!(output.status.code(), Some(3));
        assert_eq!(output.stdout, b"out\n");
        assert_eq!(output.stderr, "err");
    }

    #[tokio::test]
    async fn the_limit_itself_is_allowed() {
        let bounds = Bounds {
            stdout: 4,
            ..Bounds::SHORT
        };
        assert_eq!(sh("printf 1234", bounds).await.unwrap().stdout, b"1234");
        let error = sh("printf 12345", bounds).await.unwrap_err();
        assert!(
            matches!(error, OutputError::TooMuchOutput { limit: 4, .. }),
            "{error:?}"
        );
    }

    #[tokio::test]
    async fn an_endless_writer_is_cut() {
        let error = sh(
            "yes",
            Bounds {
                stdout: 1000,
                ..Bounds::SHORT
            },
        )
        .await
        .unwrap_err();
        assert!(matches!(error, OutputError::TooMuchOutput { .. }), "{error:?}");
    }

    #[tokio::test]
    async fn a_hanging_command_is_killed_at_its_deadline() {
        let bounds = Bounds {
            deadline: Duration::from_millis(50),
            ..Bounds::SHORT
        };
        let error = sh("sleep 600", bounds).await.unwrap_err();
        assert!(matches!(error, OutputError::TimedOut { .. }), "{error:?}");
        assert!(error.to_string().contains("sleep 600"), "{error}");
    }

    #[test]
    fn the_cause_is_told() {
        let error = OutputError::Read {
            command: CommandLine::new("/x"),
            source: io::Error::other("broken"),
        };
        assert_eq!(error.to_string(), "cannot read what `/x` writes: broken");
    }
}
