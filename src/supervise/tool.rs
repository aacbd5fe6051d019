//! Runs a tool (an engine's `build`, `npm pack`, `mmdebstrap`) to its end: output streamed line by line, bounded in
//! time and memory, ended as a whole group where the caller gives up.
//!
//! A tool reads nothing, bytes, or a file (which may be a pipe that the caller fills meanwhile); its output may go into a
//! file past this process.
//!
//! For work that takes minutes and is watched; short questions to an engine go through [`super::output`]. The
//! environment is the caller's, whole: nothing is inherited, so that a model key of this process can't reach a tool.

use super::command::CommandLine;
use super::environment::Environment;
use super::lines::LineSplitter;
use super::spawner::{AtOurDeath, Spawner, in_its_group};
use nix::errno::Errno;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::ChildStdin;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// What a captured stdout may hold, in bytes, where the caller names no other bound.
const MAX_CAPTURE: usize = 8 << 20;
/// How many of the last lines are kept for an error message.
const TAIL_LINES: usize = 40;
/// Between SIGTERM and SIGKILL. Tools such as mmdebstrap unmount and delete what they made in this time.
const GRACE: Duration = Duration::from_secs(10);
/// How long after the tool's own end its output may stay open, held by something it left running.
const DRAIN: Duration = Duration::from_secs(2);

/// A tool, how to start it and how long it may take.
#[derive(Debug, Clone)]
pub struct ToolRun {
    pub command: CommandLine,
    /// The whole environment.
    pub environment: Environment,
    /// Wall-clock time after which the tool is ended.
    pub limit: Duration,
    pub stdout: StdoutUse,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StdoutUse {
    /// Kept whole for the caller; more than 8 MiB is an error.
    Capture,
    /// Kept whole for the caller; more than so many bytes is an error.
    CaptureUpTo(usize),
    /// Streamed line by line, like stderr.
    Lines,
}

impl StdoutUse {
    /// How many bytes are kept.
    fn bound(self) -> usize {
        match self {
            Self::Capture => MAX_CAPTURE,
            Self::CaptureUpTo(bytes) => bytes,
            Self::Lines => 0,
        }
    }
}

/// What a tool's standard streams are joined to, beyond what [`ToolRun`] says. Handed over whole: an end of a pipe that
/// stayed open here would keep its other end waiting after the tool is gone.
#[derive(Debug, Default)]
pub struct Streams {
    pub stdin: Stdin,
    /// Where stdout goes instead of to this process; [`ToolRun::stdout`] then gets nothing.
    pub stdout: Option<File>,
}

#[derive(Debug, Default)]
pub enum Stdin {
    /// Nothing to read.
    #[default]
    Empty,
    /// These bytes and then the end. A tool that reads only some of them is not disturbed.
    Bytes(Vec<u8>),
    /// A file, or the read end of a pipe.
    File(File),
}

/// How a tool ended by itself.
#[derive(Debug, Clone)]
pub struct ToolEnd {
    pub status: ExitStatus,
    /// Empty unless it was captured.
    pub stdout: Vec<u8>,
    /// The last lines it said.
    pub tail: Vec<String>,
}

#[derive(Debug, thiserror::Error)]
pub enum ToolError {
    #[error("{program} can't be started: {source}", program = .program.display())]
    NotStarted {
        program: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("{program} was ended: the work was cancelled", program = .program.display())]
    Cancelled { program: PathBuf },
    #[error("{program} was ended: it took longer than {limit:?}; it last said:\n{tail}", program = .program.display(), tail = .tail.join("\n"))]
    TimedOut {
        program: PathBuf,
        limit: Duration,
        tail: Vec<String>,
    },
    #[error("{program} was ended: it wrote more than {limit} bytes where an answer was expected", program = .program.display())]
    TooMuchOutput { program: PathBuf, limit: usize },
    #[error("lost the output of {program}: {source}", program = .program.display())]
    Lost {
        program: PathBuf,
        #[source]
        source: std::io::Error,
    },
}

/// Why the tool is being ended before its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ending {
    Cancelled,
    TimedOut,
    TooMuchOutput,
}

/// Runs the tool to its end and hands each line (of stderr, and of stdout unless captured) to `on_line`.
///
/// A non-zero exit is not an error here: the caller knows what it means. When `cancel` fires or the time is over,
/// the whole process group gets SIGTERM and, ten seconds later, SIGKILL. A dropped future kills the group at once.
pub async fn run(
    tool: &ToolRun,
    cancel: &CancellationToken,
    on_line: &mut (dyn FnMut(&str) + Send),
) -> Result<ToolEnd, ToolError> {
    run_with(tool, Streams::default(), cancel, on_line).await
}

/// [`run`], with something to read or a file to write to.
pub async fn run_with(
    tool: &ToolRun,
    streams: Streams,
    cancel: &CancellationToken,
    on_line: &mut (dyn FnMut(&str) + Send),
) -> Result<ToolEnd, ToolError> {
    let program = || tool.command.program.clone();
    let lost = |source| ToolError::Lost {
        program: program(),
        source,
    };
    let (stdin, input) = match streams.stdin {
        Stdin::Empty => (Stdio::null(), None),
        Stdin::Bytes(bytes) => (Stdio::piped(), Some(bytes)),
        Stdin::File(file) => (Stdio::from(file), None),
    };
    let mut process = in_its_group(&tool.command, &tool.environment);
    process
        .stdin(stdin)
        .stdout(streams.stdout.map_or_else(Stdio::piped, Stdio::from))
        .stderr(Stdio::piped());
    let not_started = |source| ToolError::NotStarted {
        program: program(),
        source,
    };
    // The tool's own, kept to its end: a git that outlived this process would go on to write beside the next one.
    let spawner = Spawner::new().map_err(|error| not_started(io::Error::other(error)))?;
    let started = spawner.start(process, AtOurDeath::Terminate).await;
    let mut child = started.map_err(io::Error::other).flatten().map_err(not_started)?;
    // Declared after the child, so dropped before it: the group is signalled while its leader is still unreaped.
    let mut group = Group::of(&child);
    let mut stdout = Pipe::new(child.stdout.take());
    let mut stderr = Pipe::new(child.stderr.take());
    let mut captured = Vec::new();
    let bound = tool.stdout.bound();
    let mut feeding = std::pin::pin!(feed(child.stdin.take(), input));
    let mut fed = false;
    let mut tail = Tail::default();
    let mut say = |line: &str| {
        tail.push(line);
        on_line(line);
    };

    let mut status: Option<ExitStatus> = None;
    let mut ending: Option<Ending> = None;
    let mut timer = Instant::now() + tool.limit;
    while status.is_none() || stdout.is_open() || stderr.is_open() {
        tokio::select! {
            chunk = stdout.read(), if stdout.is_open() => {
                let chunk = chunk.map_err(lost)?;
                match tool.stdout {
                    StdoutUse::Lines => stdout.lines.feed(&chunk, &mut say),
                    _ if captured.len() + chunk.len() <= bound => captured.extend_from_slice(&chunk),
                    _ if ending.is_none() => {
                        ending = Some(Ending::TooMuchOutput);
                        group.signal(Signal::SIGTERM);
                        timer = Instant::now() + GRACE;
                    }
                    _ => {}
                }
            }
            () = &mut feeding, if !fed && status.is_none() => fed = true,
            chunk = stderr.read(), if stderr.is_open() => {
                let chunk = chunk.map_err(lost)?;
                stderr.lines.feed(&chunk, &mut say);
            }
            end = child.wait(), if status.is_none() => {
                // Reaped: from here on the number may belong to somebody else.
                group.forget();
                status = Some(end.map_err(lost)?);
                timer = Instant::now() + DRAIN;
            }
            () = cancel.cancelled(), if status.is_none() && ending.is_none() => {
                ending = Some(Ending::Cancelled);
                group.signal(Signal::SIGTERM);
                timer = Instant::now() + GRACE;
            }
            () = tokio::time::sleep_until(timer) => {
                if status.is_some() {
                    break;
                }
                let signal = if ending.is_none() { Signal::SIGTERM } else { Signal::SIGKILL };
                ending.get_or_insert(Ending::TimedOut);
                group.signal(signal);
                timer = Instant::now() + GRACE;
            }
        }
    }
    stdout.lines.finish(&mut say);
    stderr.lines.finish(&mut say);
    let tail = tail.lines.into();
    match (ending, status) {
        (Some(Ending::Cancelled), _) => Err(ToolError::Cancelled { program: program() }),
        (Some(Ending::TooMuchOutput), _) => Err(ToolError::TooMuchOutput {
            program: program(),
            limit: bound,
        }),
        (None, Some(status)) => Ok(ToolEnd {
            status,
            stdout: captured,
            tail,
        }),
        // The loop only ends with a status; without one the tool's fate is unknown, which is no success.
        (Some(Ending::TimedOut), _) | (None, None) => Err(ToolError::TimedOut {
            program: program(),
            limit: tool.limit,
            tail,
        }),
    }
}

/// Writes all there is to say and closes the pipe. That the tool stopped reading is its own affair: its exit tells.
async fn feed(stdin: Option<ChildStdin>, input: Option<Vec<u8>>) {
    if let (Some(mut stdin), Some(input)) = (stdin, input)
        && let Err(error) = stdin.write_all(&input).await
    {
        tracing::debug!(%error, "a tool did not read all of its input");
    }
}

/// The process group of a child that has not been reaped.
struct Group(Option<Pid>);

impl Group {
    fn of(child: &tokio::process::Child) -> Self {
        Self(child.id().and_then(|id| i32::try_from(id).ok()).map(Pid::from_raw))
    }

    fn signal(&self, signal: Signal) {
        let Some(leader) = self.0 else { return };
        match killpg(leader, signal) {
            // ESRCH: ended meanwhile. EPERM: all that is left runs as other users (a rootless bootstrap maps ids),
            // and ends with its parent.
            Ok(()) | Err(Errno::ESRCH | Errno::EPERM) => {}
            Err(error) => tracing::warn!(%leader, %signal, %error, "a tool's process group can't be signalled"),
        }
    }

    fn forget(&mut self) {
        self.0 = None;
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.signal(Signal::SIGKILL);
    }
}

struct Pipe<R> {
    reader: Option<R>,
    lines: LineSplitter,
}

impl<R: AsyncRead + Unpin> Pipe<R> {
    fn new(reader: Option<R>) -> Self {
        Self {
            reader,
            lines: LineSplitter::default(),
        }
    }

    fn is_open(&self) -> bool {
        self.reader.is_some()
    }

    /// The next bytes; none at the end, after which the pipe is closed. Cancel safe: a read that is dropped has
    /// taken nothing.
    async fn read(&mut self) -> std::io::Result<Vec<u8>> {
        let Some(reader) = &mut self.reader else {
            return Ok(Vec::new());
        };
        let mut chunk = Vec::with_capacity(16 << 10);
        if reader.read_buf(&mut chunk).await? == 0 {
            self.reader = None;
        }
        Ok(chunk)
    }
}

#[derive(Default)]
struct Tail {
    lines: VecDeque<String>,
}

impl Tail {
    fn push(&mut self, line: &str) {
        if self.lines.len() == TAIL_LINES {
            self.lines.pop_front();
        }
        self.lines.push_back(line.to_owned());
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "tests read files")]
mod tests {
    use super::*;
    use std::path::Path;

    fn shell(script: &str, stdout: StdoutUse) -> ToolRun {
        ToolRun {
            command: CommandLine::new("/bin/sh").arg("-c").arg(script),
            environment: [("PATH".into(), "/usr/bin:/bin".into())].into_iter().collect(),
            limit: Duration::from_secs(60),
            stdout,
        }
    }

    async fn run_shell(tool: &ToolRun, cancel: &CancellationToken) -> (Result<ToolEnd, ToolError>, Vec<String>) {
        let mut lines = Vec::new();
        let end = run(tool, cancel, &mut |line| lines.push(line.to_owned())).await;
        (end, lines)
    }

    #[tokio::test]
    async fn streams_lines_of_both_and_reports_the_exit() {
        let tool = shell("echo one; printf 'two\\rthree' >&2; exit 3", StdoutUse::Lines);
        let (end, mut lines) = run_shell(&tool, &CancellationToken::new()).await;
        let end = end.unwrap();
        lines.sort();
        assert_eq!(lines, ["one", "three", "two"]);
        assert_eq!(end.status.code(), Some(3));
        assert!(end.stdout.is_empty());
        assert_eq!(end.tail.len(), 3);
    }

    #[tokio::test]
    async fn captured_stdout_is_whole_and_not_streamed() {
        let tool = shell("echo answer; echo noise >&2", StdoutUse::Capture);
        let (end, lines) = run_shell(&tool, &CancellationToken::new()).await;
        assert_eq!(end.unwrap().stdout, b"answer\n");
        assert_eq!(lines, ["noise"]);
    }

    #[tokio::test]
    async fn the_environment_is_the_callers_alone() {
        let tool = shell("/usr/bin/env", StdoutUse::Capture);
        let (end, _) = run_shell(&tool, &CancellationToken::new()).await;
        let names: Vec<String> = String::from_utf8(end.unwrap().stdout)
            .unwrap()
            .lines()
            .filter_map(|line| line.split_once('=').map(|(name, _)| name.to_owned()))
            .filter(|name| !["PWD", "_", "SHLVL", "OLDPWD"].contains(&name.as_str()))
            .collect();
        assert_eq!(names, ["PATH"]);
    }

    #[tokio::test]
    async fn it_runs_in_its_directory() {
        let directory = tempfile::tempdir().unwrap();
        let mut tool = shell("pwd -P", StdoutUse::Capture);
        tool.command = tool.command.in_directory(directory.path());
        let (end, _) = run_shell(&tool, &CancellationToken::new()).await;
        let expected = format!("{}\n", directory.path().canonicalize().unwrap().display());
        assert_eq!(String::from_utf8(end.unwrap().stdout).unwrap(), expected);
    }

    #[tokio::test]
    async fn cancelling_ends_the_tool_and_what_it_started() {
        let directory = tempfile::tempdir().unwrap();
        let mark = directory.path().join("ended");
        // The grandchild is the one that notices: only a signal to the whole group reaches it.
        let script = format!(
            "(trap 'touch {mark}; exit' TERM; echo ready >&2; while :; do sleep 0.05; done) & wait; wait",
            mark = mark.display()
        );
        let tool = shell(&script, StdoutUse::Lines);
        let cancel = CancellationToken::new();
        let on_ready = cancel.clone();
        let end = run(&tool, &cancel, &mut |line| {
            if line == "ready" {
                on_ready.cancel();
            }
        })
        .await;
        assert!(matches!(end, Err(ToolError::Cancelled { .. })), "{end:?}");
        assert!(Path::new(&mark).exists());
    }

    #[tokio::test]
    async fn a_tool_that_takes_too_long_is_ended_with_its_last_words() {
        let mut tool = shell("echo stuck >&2; exec sleep 600", StdoutUse::Lines);
        tool.limit = Duration::from_millis(300);
        let (end, _) = run_shell(&tool, &CancellationToken::new()).await;
        match end {
            Err(ToolError::TimedOut { tail, .. }) => assert_eq!(tail, ["stuck"]),
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn an_endless_answer_is_refused() {
        let (end, _) = run_shell(
            &shell("exec cat /dev/zero", StdoutUse::Capture),
            &CancellationToken::new(),
        )
        .await;
        assert!(matches!(end, Err(ToolError::TooMuchOutput { .. })), "{end:?}");
    }

    #[tokio::test]
    async fn another_bound_of_an_answer_is_kept() {
        for (bound, fits) in [(7, true), (6, false)] {
            let tool = shell("echo answer", StdoutUse::CaptureUpTo(bound));
            let (end, _) = run_shell(&tool, &CancellationToken::new()).await;
            assert_eq!(end.is_ok(), fits, "{end:?}");
        }
    }

    async fn run_fed(script: &str, streams: Streams) -> Result<ToolEnd, ToolError> {
        let tool = shell(script, StdoutUse::Capture);
        run_with(&tool, streams, &CancellationToken::new(), &mut |_| ()).await
    }

    #[tokio::test]
    async fn bytes_reach_it_whole_and_end() {
        let input: Vec<u8> = (0..1 << 20).map(|n: u32| n.to_le_bytes()[0]).collect();
        let stdin = Stdin::Bytes(input.clone());
        let end = run_fed("exec cat", Streams { stdin, stdout: None }).await.unwrap();
        assert_eq!(end.stdout, input);
        let stdin = Stdin::Bytes(input);
        let end = run_fed("exit 4", Streams { stdin, stdout: None }).await.unwrap();
        assert_eq!(end.status.code(), Some(4));
    }

    #[tokio::test]
    async fn stdout_goes_into_a_file() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let streams = Streams {
            stdin: Stdin::Empty,
            stdout: Some(file.reopen().unwrap()),
        };
        assert!(run_fed("echo there", streams).await.unwrap().stdout.is_empty());
        assert_eq!(std::fs::read(file.path()).unwrap(), b"there\n");
    }

    /// Our copy of the read end would let the writer wait for ever.
    #[tokio::test]
    async fn who_fills_a_pipe_learns_that_the_tool_is_gone() {
        let (read, mut write) = std::io::pipe().unwrap();
        let stdin = Stdin::File(File::from(std::os::fd::OwnedFd::from(read)));
        let writer = tokio::task::spawn_blocking(move || std::io::Write::write_all(&mut write, &vec![0; 8 << 20]));
        run_fed("exec head -c 1", Streams { stdin, stdout: None })
            .await
            .unwrap();
        assert_eq!(
            writer.await.unwrap().unwrap_err().kind(),
            std::io::ErrorKind::BrokenPipe
        );
    }

    #[tokio::test]
    async fn output_held_open_by_a_leftover_does_not_hold_the_end() {
        let (end, _) = run_shell(&shell("sleep 20 & exit 0", StdoutUse::Lines), &CancellationToken::new()).await;
        assert!(end.unwrap().status.success());
    }

    #[tokio::test]
    async fn a_missing_program_is_named() {
        let mut tool = shell("", StdoutUse::Lines);
        tool.command.program = "/nonexistent/tool".into();
        let (end, _) = run_shell(&tool, &CancellationToken::new()).await;
        let message = end.unwrap_err().to_string();
        assert!(message.starts_with("/nonexistent/tool can't be started:"), "{message}");
    }

    #[test]
    fn the_tail_keeps_the_last_lines_only() {
        let mut tail = Tail::default();
        (0..TAIL_LINES + 2).for_each(|number| tail.push(&number.to_string()));
        assert_eq!(tail.lines.len(), TAIL_LINES);
        assert_eq!(tail.lines.front().map(String::as_str), Some("2"));
    }
}
