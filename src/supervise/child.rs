//! A started client, its process group and its pipes.

use super::spawner::Spawner;
use super::stderr_tail::StderrTail;
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;
use std::io;
use std::marker::PhantomData;
use std::process::ExitStatus;
use std::time::Duration;
use tokio::process::{ChildStdin, ChildStdout};
use tokio::task::JoinHandle;

/// How long after a child's end its stderr may still be held open by something it started (conmon) before the text
/// is taken as it is.
const STDERR_SETTLES: Duration = Duration::from_millis(200);

/// A child that this process started. Dropping it kills its group.
#[derive(Debug)]
pub struct Child {
    process: tokio::process::Child,
    stderr: StderrTail,
    stderr_reader: Option<JoinHandle<()>>,
    /// Keeps the thread alive whose end would be this child's death.
    _spawner: Spawner,
}

impl Child {
    pub(super) fn new(mut process: tokio::process::Child, spawner: Spawner) -> Self {
        let stderr = StderrTail::default();
        let pid = process.id().and_then(|id| i32::try_from(id).ok()).map(Pid::from_raw);
        let stderr_reader = process
            .stderr
            .take()
            .map(|pipe| tokio::spawn(stderr.clone().read_to_end(pipe, pid)));
        Self {
            process,
            stderr,
            stderr_reader,
            _spawner: spawner,
        }
    }

    /// The write end of its stdin: once, and only where it was started with a pipe.
    pub fn take_stdin(&mut self) -> Option<ChildStdin> {
        self.process.stdin.take()
    }

    /// The read end of its stdout: once.
    pub fn take_stdout(&mut self) -> Option<ChildStdout> {
        self.process.stdout.take()
    }

    /// Waits for its end; may be dropped and called again, and returns the same status ever after.
    pub async fn wait(&mut self) -> io::Result<ExitStatus> {
        self.process.wait().await
    }

    /// What it wrote to stderr last, plain. After its end this waits a moment for the rest of the text.
    pub async fn stderr_text(&mut self) -> String {
        if self.alive().is_none()
            && let Some(reader) = self.stderr_reader.as_mut()
            && tokio::time::timeout(STDERR_SETTLES, reader).await.is_ok()
        {
            // A finished task must not be polled again.
            self.stderr_reader = None;
        }
        self.stderr.text()
    }

    /// Proof that the child has not been reaped, and so that its pid is still its own: `None` after its end.
    pub fn alive(&mut self) -> Option<Alive<'_>> {
        // `id` is `None` from the moment tokio has reaped it, and nothing reaps while the witness borrows the child.
        let pid = self.process.id()?;
        i32::try_from(pid).ok().map(|pid| Alive {
            pid: Pid::from_raw(pid),
            child: PhantomData,
        })
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if let Some(alive) = self.alive() {
            // Nobody is left to tell; tokio kills and reaps the leader itself (`kill_on_drop`).
            let _ = alive.kill_group();
        }
    }
}

/// A child not yet reaped: the only thing that can be signalled, because a reaped child's pid may be another's.
#[derive(Debug)]
pub struct Alive<'c> {
    pid: Pid,
    child: PhantomData<&'c mut Child>,
}

impl Alive<'_> {
    pub fn pid(&self) -> Pid {
        self.pid
    }

    /// SIGTERM to the client alone: it forwards the signal to the container.
    pub fn terminate(&self) -> io::Result<()> {
        kill(self.pid, Signal::SIGTERM).map_err(io::Error::from)
    }

    /// SIGKILL to its whole process group, helpers included.
    pub fn kill_group(&self) -> io::Result<()> {
        match killpg(self.pid, Signal::SIGKILL) {
            // The group is made between fork and exec; `spawn` returns after that, so this is no race but an end.
            Err(Errno::ESRCH) | Ok(()) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }
}
