//! A thread that starts engine clients and tools.
//!
//! Every child asks the kernel for a signal when its parent dies (`PR_SET_PDEATHSIG`), so that not even SIGKILL of
//! this process leaves one behind. But that signal follows the *thread* that forked (prctl(2), "Warning"):
//! started from a worker thread of the async runtime, a client dies whenever the runtime retires that thread. So
//! one thread does all the forking and does nothing else. It ends only when no [`Spawner`] is left, and every child
//! holds one.
//!
//! The thread enters the caller's tokio runtime before it forks: `tokio::process` then gives asynchronous pipes and
//! reaps through a pidfd, and we keep no reaper of our own.

use super::child::Child;
use super::command::CommandLine;
use super::environment::Environment;
use nix::sys::signal::Signal;
use std::io;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::mpsc;
use tokio::runtime::Handle;
use tokio::sync::oneshot;

/// Starts children. Clones share the thread.
#[derive(Debug, Clone)]
pub struct Spawner {
    requests: mpsc::Sender<Request>,
}

/// What a child's stdin is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stdin {
    Null,
    Piped,
}

/// What the kernel sends a child when this process has died without ending it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AtOurDeath {
    /// SIGKILL: an engine's client, whose container ends with the pipe.
    Kill,
    /// SIGTERM: a tool, which removes its locks and unmounts what it mounted.
    Terminate,
}

#[derive(Debug)]
struct Request {
    process: tokio::process::Command,
    runtime: Handle,
    reply: oneshot::Sender<io::Result<tokio::process::Child>>,
}

#[derive(Debug, thiserror::Error)]
pub enum SpawnError {
    #[error("cannot start `{}`: there is no such program", program.display())]
    NotFound { program: PathBuf },
    #[error("cannot start `{}`: it may not be executed by this user", program.display())]
    NotExecutable { program: PathBuf },
    #[error("cannot start `{}`: {source}", program.display())]
    Failed { program: PathBuf, source: io::Error },
    #[error("cannot start the thread that starts children (is the limit of processes reached? see `ulimit -u`): {0}")]
    NoThread(#[source] io::Error),
    /// The thread panicked: nothing can be started any more.
    #[error("the thread that starts children has ended")]
    ThreadEnded,
}

impl Spawner {
    pub fn new() -> Result<Self, SpawnError> {
        let (requests, received) = mpsc::channel::<Request>();
        std::thread::Builder::new()
            .name("spawner".to_owned())
            .spawn(move || {
                while let Ok(mut request) = received.recv() {
                    let _runtime = request.runtime.enter();
                    let started = request.process.spawn();
                    // Before the caller goes on: it holds our copies of pipe ends that only the child should have.
                    drop(request.process);
                    // A caller that went away drops the child here, and with that kills it.
                    let _ = request.reply.send(started);
                }
            })
            .map_err(SpawnError::NoThread)?;
        Ok(Self { requests })
    }

    /// Starts a child in a process group of its own, in its directory, with exactly `env`, stdout and stderr piped. Dropping
    /// the child kills its group.
    pub async fn spawn(&self, command: &CommandLine, env: &Environment, stdin: Stdin) -> Result<Child, SpawnError> {
        let mut process = in_its_group(command, env);
        process
            .stdin(match stdin {
                Stdin::Null => Stdio::null(),
                Stdin::Piped => Stdio::piped(),
            })
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let started = self.start(process, AtOurDeath::Kill).await?;
        let process = started.map_err(|source| SpawnError::new(command, source))?;
        Ok(Child::new(process, self.clone()))
    }

    /// Starts a process as it is spelled out. The child lives no longer than the last clone of this spawner, so the caller
    /// keeps one until the child has ended.
    pub(super) async fn start(
        &self,
        mut process: tokio::process::Command,
        at_our_death: AtOurDeath,
    ) -> Result<io::Result<tokio::process::Child>, SpawnError> {
        die_with_this_process(&mut process, at_our_death);
        let (reply, started) = oneshot::channel();
        let request = Request {
            process,
            runtime: Handle::current(),
            reply,
        };
        self.requests.send(request).map_err(|_| SpawnError::ThreadEnded)?;
        started.await.map_err(|_| SpawnError::ThreadEnded)
    }
}

impl SpawnError {
    fn new(command: &CommandLine, source: io::Error) -> Self {
        let program = command.program.clone();
        match source.kind() {
            io::ErrorKind::NotFound => Self::NotFound { program },
            io::ErrorKind::PermissionDenied => Self::NotExecutable { program },
            _ => Self::Failed { program, source },
        }
    }
}

/// A process that leads a group of its own, sees exactly `env`, and is killed when nobody holds it any more.
#[expect(
    clippy::disallowed_methods,
    reason = "the one place on the host that starts processes"
)]
pub(super) fn in_its_group(command: &CommandLine, env: &Environment) -> tokio::process::Command {
    let mut process = tokio::process::Command::new(&command.program);
    process
        .args(&command.args)
        .env_clear()
        .envs(env.iter())
        .current_dir(&command.directory)
        .process_group(0)
        .kill_on_drop(true);
    process
}

#[expect(unsafe_code, reason = "pre_exec is the only place between fork and exec")]
fn die_with_this_process(process: &mut tokio::process::Command, at_our_death: AtOurDeath) {
    let signal = match at_our_death {
        AtOurDeath::Kill => Signal::SIGKILL,
        AtOurDeath::Terminate => Signal::SIGTERM,
    };
    let parent = nix::unistd::getpid();
    // SAFETY: the closure runs between fork and exec, where only async-signal-safe calls are sound: it makes two
    // plain system calls, allocates nothing (an `io::Error` of an errno holds no memory) and takes no lock.
    unsafe {
        process.pre_exec(move || {
            nix::sys::prctl::set_pdeathsig(signal)?;
            // The parent may have died before the kernel knew of the wish; then no signal ever comes, but the child
            // has already been given to another parent.
            if nix::unistd::getppid() != parent {
                return Err(io::Error::from_raw_os_error(nix::libc::ESRCH));
            }
            Ok(())
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    fn sh(script: &str) -> CommandLine {
        CommandLine::new("/bin/sh").arg("-c").arg(script)
    }

    #[tokio::test]
    async fn a_child_sees_only_what_it_was_given() {
        let env: Environment = [("NAME".into(), "value".into())].into_iter().collect();
        let spawner = Spawner::new().unwrap();
        let script = "/usr/bin/env | grep -v -e ^PWD= -e ^SHLVL= -e ^_=; pwd";
        let mut child = spawner.spawn(&sh(script), &env, Stdin::Null).await.unwrap();
        let mut text = String::new();
        child.take_stdout().unwrap().read_to_string(&mut text).await.unwrap();
        assert_eq!(text, "NAME=value\n/\n");
        assert!(child.wait().await.unwrap().success());
    }

    #[tokio::test]
    async fn pipes_carry_both_ways() {
        let spawner = Spawner::new().unwrap();
        let cat = CommandLine::new("/bin/cat");
        let mut child = spawner
            .spawn(&cat, &Environment::default(), Stdin::Piped)
            .await
            .unwrap();
        let mut stdin = child.take_stdin().unwrap();
        stdin.write_all(b"through").await.unwrap();
        drop(stdin);
        let mut text = String::new();
        child.take_stdout().unwrap().read_to_string(&mut text).await.unwrap();
        assert_eq!(text, "through");
        assert!(child.take_stdin().is_none(), "a pipe is handed out once");
    }

    #[tokio::test]
    async fn a_child_leads_its_own_group_and_keeps_the_thread() {
        let spawner = Spawner::new().unwrap();
        let sleep = CommandLine::new("/bin/sleep").arg("60");
        let mut child = spawner
            .spawn(&sleep, &Environment::default(), Stdin::Null)
            .await
            .unwrap();
        let pid = child.alive().unwrap().pid();
        assert_eq!(nix::unistd::getpgid(Some(pid)).unwrap(), pid);
        drop(spawner);
        child.alive().unwrap().terminate().unwrap();
        let status = child.wait().await.unwrap();
        let ended_by = std::os::unix::process::ExitStatusExt::signal(&status);
        assert_eq!(ended_by, Some(15), "the end of the thread would have been a SIGKILL");
        assert!(child.alive().is_none());
    }

    #[tokio::test]
    async fn a_child_dies_with_the_thread_that_forked_it() {
        for (at_our_death, signal) in [(AtOurDeath::Kill, 9), (AtOurDeath::Terminate, 15)] {
            let sleep = in_its_group(&CommandLine::new("/bin/sleep").arg("60"), &Environment::default());
            let spawner = Spawner::new().unwrap();
            let mut child = spawner.start(sleep, at_our_death).await.unwrap().unwrap();
            drop(spawner);
            let status = child.wait().await.unwrap();
            assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(signal));
        }
    }

    #[tokio::test]
    async fn a_missing_program_is_named() {
        let spawner = Spawner::new().unwrap();
        let missing = CommandLine::new("/nowhere/podman");
        let error = spawner
            .spawn(&missing, &Environment::default(), Stdin::Null)
            .await
            .unwrap_err();
        assert!(
            matches!(&error, SpawnError::NotFound { program } if program == &missing.program),
            "{error:?}"
        );
        let error = spawner
            .spawn(&CommandLine::new("/"), &Environment::default(), Stdin::Null)
            .await
            .unwrap_err();
        assert!(matches!(error, SpawnError::NotExecutable { .. }), "{error:?}");
    }

    #[tokio::test]
    async fn dropping_a_child_kills_its_whole_group() {
        let spawner = Spawner::new().unwrap();
        // The grandchild holds stdout: its end is the end of the file.
        let script = sh("sleep 60 & echo ready; wait");
        let env: Environment = [("PATH".into(), "/usr/bin:/bin".into())].into_iter().collect();
        let mut child = spawner.spawn(&script, &env, Stdin::Null).await.unwrap();
        let mut stdout = child.take_stdout().unwrap();
        let mut line = [0; 6];
        stdout.read_exact(&mut line).await.unwrap();
        drop(child);
        let mut rest = Vec::new();
        stdout.read_to_end(&mut rest).await.unwrap();
        assert_eq!(rest, b"");
    }

    #[test]
    fn the_cause_is_told() {
        let command = CommandLine::new("/x");
        let error = SpawnError::new(&command, io::Error::other("text file busy"));
        assert_eq!(error.to_string(), "cannot start `/x`: text file busy");
        let error = SpawnError::NoThread(io::Error::other("no more")).to_string();
        assert!(error.ends_with(": no more"), "{error}");
    }
}
