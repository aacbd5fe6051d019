//! Starts a process inside and pumps its stdin and stdout.
//!
//! What a child gets from the guest: the environment of the request and nothing else, a process group of its own, two
//! pipes, and the guest's stderr where the request says so. All else is close-on-exec.
#![expect(clippy::disallowed_methods, reason = "starting processes is this module's job")]

use crate::wire::contract::{ProcessEnd, SpawnRequest, StderrTo};
use crate::wire::mux::MuxStream;
use nix::unistd::Pid;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::unix::pipe;
use tokio::sync::oneshot;

/// Bytes on their way between a child and the pipe, each direction.
const BUFFER: usize = 16 << 10;

/// How long the end of a process waits for its output. Normally the output has ended with the process; it has not where
/// a grandchild (a daemon) kept the pipe, which may be for ever, or where the host is slow to read.
const DRAIN: Duration = Duration::from_secs(1);

/// Why nothing was started.
#[derive(Debug, thiserror::Error)]
pub enum SpawnError {
    #[error("no absolute program path to start")]
    NoProgram,
    #[error("process number {0} is still running")]
    NumberTaken(u32),
    #[error("can't start {program} in {cwd}: {error}")]
    Start {
        program: String,
        cwd: String,
        error: io::Error,
    },
}

/// A started process and this side of its pipes.
#[derive(Debug)]
pub struct Child {
    pub pid: Pid,
    stdin: pipe::Sender,
    stdout: pipe::Receiver,
}

/// Starts the process. The caller registers it before it next waits for anything, so that its end can't be missed.
pub fn start(request: &SpawnRequest) -> Result<Child, SpawnError> {
    let [program, arguments @ ..] = &request.argv[..] else {
        return Err(SpawnError::NoProgram);
    };
    // A relative one would be looked for in the image's PATH or the workspace.
    if !Path::new(program).is_absolute() {
        return Err(SpawnError::NoProgram);
    }
    let mut command = Command::new(program);
    command
        .args(arguments)
        .env_clear()
        .envs(&request.env)
        .current_dir(&request.cwd)
        .process_group(0);
    let failed = |error| SpawnError::Start {
        program: program.clone(),
        cwd: request.cwd.clone(),
        error,
    };
    launch(command, request.stderr).map_err(failed)
}

fn launch(mut command: Command, stderr: StderrTo) -> io::Result<Child> {
    // All that can fail comes before the start: afterwards there is a process to account for.
    let (theirs, ours) = io::pipe()?;
    let stdin = pipe::Sender::from_owned_fd(ours.into())?;
    command.stdin(theirs);
    let (ours, theirs) = io::pipe()?;
    let stdout = pipe::Receiver::from_owned_fd(ours.into())?;
    match stderr {
        StderrTo::Log => command.stderr(Stdio::inherit()),
        StderrTo::Stdout => command.stderr(theirs.try_clone()?),
    };
    command.stdout(theirs);
    // std resets the signal mask and SIGPIPE in the child; the guest ignores no other signal. The handle is not
    // needed: whoever dies is reaped by pid.
    let pid = command.spawn()?.id();
    // `command` ends here and with it our copies of the child's ends: only then can its end of file be seen.
    drop(command);
    Ok(Child {
        pid: Pid::from_raw(pid.cast_signed()),
        stdin,
        stdout,
    })
}

/// Pumps both directions until each has ended. `drained` fires when the child's output has ended.
pub async fn pump(child: Child, stream: MuxStream, drained: oneshot::Sender<()>) {
    let Child { stdin, stdout, .. } = child;
    let (from_host, to_host) = tokio::io::split(stream);
    tokio::join!(feed(from_host, stdin), async {
        drain(stdout, to_host).await;
        let _ = drained.send(());
    });
}

/// The host's half-close is the child's end of file.
async fn feed(from_host: impl AsyncRead + Unpin, mut stdin: pipe::Sender) {
    let mut from_host = BufReader::with_capacity(BUFFER, from_host);
    let fed = tokio::io::copy_buf(&mut from_host, &mut stdin).await;
    drop(stdin);
    if fed.is_err() {
        // The child reads no more. The rest is thrown away, else the host would wait for room for ever.
        let _ = tokio::io::copy_buf(&mut from_host, &mut tokio::io::sink()).await;
    }
}

/// The child's end of file is the half-close towards the host. Where the host dropped the stream, the child gets
/// SIGPIPE with its next output.
async fn drain(stdout: pipe::Receiver, mut to_host: impl AsyncWrite + Unpin) {
    let mut stdout = BufReader::with_capacity(BUFFER, stdout);
    let _ = tokio::io::copy_buf(&mut stdout, &mut to_host).await;
    drop(stdout);
    let _ = to_host.shutdown().await;
}

/// The end of a process once it may be told: it has ended, and its output has too or [`DRAIN`] has passed since. The pump
/// goes on after that, so output that comes later still reaches the stream; only its order to the report is lost.
pub async fn settled(end: oneshot::Receiver<ProcessEnd>, drained: oneshot::Receiver<()>) -> Option<ProcessEnd> {
    let end = end.await.ok()?;
    let _ = tokio::time::timeout(DRAIN, drained).await;
    Some(end)
}
