//! Performs the stop ladder's actions on a child.

use super::child::Child;
use super::command::CommandLine;
use super::environment::Environment;
use super::ladder::{Action, CommandEnd, Event, Graces, Ladder, Outcome};
use super::output::{self, Bounds};
use super::spawner::Spawner;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::time::Duration;
use tokio::time::Instant;

/// How to end a container by its name, whatever became of its client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StopCommands {
    pub kill: CommandLine,
    pub remove: CommandLine,
    /// What the engine writes to stderr, beside a failing status, where `remove` finds no such container. That is a
    /// success: the name is free.
    pub nothing_to_remove: &'static str,
}

/// What a stop works with.
pub struct Stop<'a> {
    pub commands: &'a StopCommands,
    /// Asks the engine whether the container is gone.
    pub confirm: &'a Confirm<'a>,
    pub spawner: &'a Spawner,
    pub env: &'a Environment,
    pub graces: Graces,
}

/// Removes what may be left of the container, with those of other stops where there are any, and says whether it is gone. What
/// was asked before the call says nothing: the command must begin after it.
pub type Confirm<'a> = dyn Fn() -> RunningCommand<'a> + Send + Sync + 'a;

/// The ladder's timer bounds each command; this only catches a command that outlived its ladder.
const COMMAND_BOUNDS: Bounds = Bounds {
    deadline: Duration::from_secs(10),
    stdout: 64 << 10,
};

pub type RunningCommand<'a> = Pin<Box<dyn Future<Output = CommandEnd> + Send + 'a>>;

/// Ends the child and its container, and says whether the container is known to be gone.
///
/// `close_pipe` drops both ends of the child's pipes; it is called exactly once, before anything else is done.
/// `hurry` resolves when all graces are to be skipped: at once where the first request was urgent already, never
/// (`std::future::pending`) where nobody may ask. Takes at most [`Graces::worst_case`], or from the moment `hurry`
/// resolves [`Graces::worst_case_hurried`].
pub async fn stop(
    child: &mut Child,
    close_pipe: impl FnOnce() + Send,
    hurry: impl Future<Output = ()> + Send,
    with: Stop<'_>,
) -> Outcome {
    let mut hurry = std::pin::pin!(hurry);
    let mut close_pipe = Some(close_pipe);
    let mut ladder = Ladder::new(with.graces);
    let mut command: Option<RunningCommand<'_>> = None;
    let mut deadline = Instant::now();
    let mut hurried = false;
    let mut running = child.alive().is_some();
    let mut event = if running {
        Event::StopRequested
    } else {
        Event::ClientExited
    };
    loop {
        for action in ladder.handle(event) {
            tracing::debug!(?event, ?action, "stop");
            match action {
                Action::ClosePipe => {
                    if let Some(close) = close_pipe.take() {
                        close();
                    }
                }
                Action::Terminate => warn_of(child.alive().map(|alive| alive.terminate())),
                Action::KillGroup => warn_of(child.alive().map(|alive| alive.kill_group())),
                Action::RunKill => command = Some(Box::pin(with.run(&with.commands.kill))),
                Action::RunRemove => command = Some(Box::pin(with.run(&with.commands.remove))),
                Action::Confirm => command = Some((with.confirm)()),
                Action::StartTimer(grace) => deadline = Instant::now() + grace,
                Action::Finished(outcome) => return outcome,
            }
        }
        event = tokio::select! {
            // In this order: an end that has come already must not be answered with a signal or a further grace.
            biased;
            status = child.wait(), if running => {
                running = false;
                tracing::debug!(?status, "the engine's client ended");
                Event::ClientExited
            }
            () = &mut hurry, if !hurried => {
                hurried = true;
                Event::Hurry
            }
            end = finished(&mut command) => {
                command = None;
                Event::CommandFinished(end)
            }
            () = tokio::time::sleep_until(deadline) => Event::GraceElapsed,
        };
    }
}

/// The end of the command, or never where none runs.
async fn finished(command: &mut Option<RunningCommand<'_>>) -> CommandEnd {
    match command {
        Some(running) => running.await,
        None => std::future::pending().await,
    }
}

/// A signal that could not be sent is only told: the next rung follows all the same.
fn warn_of(sent: Option<io::Result<()>>) {
    if let Some(Err(error)) = sent {
        tracing::warn!(%error, "cannot signal the engine's client");
    }
}

impl Stop<'_> {
    async fn run(&self, command: &CommandLine) -> CommandEnd {
        match output::run(self.spawner, command, self.env, COMMAND_BOUNDS).await {
            Ok(output) if output.status.success() || output.stderr.contains(self.commands.nothing_to_remove) => {
                CommandEnd::Succeeded
            }
            Ok(output) => {
                tracing::debug!(%command, status = %output.status, stderr = output.stderr, "failed");
                CommandEnd::Failed
            }
            Err(error) => {
                tracing::warn!(%error, "cannot run the engine's command");
                CommandEnd::Failed
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::supervise::spawner::Stdin;
    use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};

    fn sh(script: &str) -> CommandLine {
        CommandLine::new("/bin/sh").arg("-c").arg(script)
    }

    fn env() -> Environment {
        [("PATH".into(), "/usr/bin:/bin".into())].into_iter().collect()
    }

    fn commands(kill: &str, remove: &str) -> StopCommands {
        StopCommands {
            kill: sh(kill),
            remove: sh(remove),
            nothing_to_remove: "no such container",
        }
    }

    /// Graces short enough to climb the whole ladder in a test.
    const SHORT: Graces = Graces {
        pipe: Duration::from_millis(20),
        term: Duration::from_millis(20),
        kill: Duration::from_millis(500),
        remove: Duration::from_secs(20),
        reap: Duration::from_secs(20),
        together: Duration::from_secs(20),
        confirm: Duration::from_secs(20),
        pause: Duration::from_millis(1),
    };

    /// Graces so long that only an event can end a rung.
    const PATIENT: Graces = Graces {
        pipe: Duration::from_secs(3600),
        ..SHORT
    };

    async fn stop_client(
        script: &str,
        hurry: impl Future<Output = ()> + Send,
        commands: &StopCommands,
        graces: Graces,
    ) -> (Outcome, std::process::ExitStatus) {
        let spawner = Spawner::new().unwrap();
        let mut child = spawner.spawn(&sh(script), &env(), Stdin::Piped).await.unwrap();
        let stdin = child.take_stdin();
        let mut stdout = BufReader::new(child.take_stdout().unwrap());
        let mut ready = String::new();
        stdout.read_line(&mut ready).await.unwrap();
        assert_eq!(ready, "ready\n");
        let env = env();
        let with = Stop {
            commands,
            confirm: &|| {
                Box::pin(async {
                    match output::run(&spawner, &commands.remove, &env, COMMAND_BOUNDS).await {
                        Ok(output) if output.status.success() => CommandEnd::Succeeded,
                        _ => CommandEnd::Failed,
                    }
                })
            },
            spawner: &spawner,
            env: &env,
            graces,
        };
        let outcome = stop(&mut child, move || drop(stdin), hurry, with).await;
        let status = child.wait().await.unwrap();
        // Nothing of the group is left: the pipe has no writer.
        stdout.read_to_end(&mut Vec::new()).await.unwrap();
        (outcome, status)
    }

    #[tokio::test]
    async fn a_client_that_follows_its_pipe_is_not_signalled() {
        let commands = commands("exit 9", "exit 0");
        let (outcome, status) =
            stop_client("echo ready; cat; exit 7", std::future::pending(), &commands, PATIENT).await;
        assert_eq!((outcome, status.code()), (Outcome::Gone, Some(7)));
    }

    #[tokio::test]
    async fn a_hurry_cuts_the_grace() {
        let commands = commands("exit 9", "exit 0");
        let (outcome, status) =
            stop_client("trap '' TERM; echo ready; exec sleep 600", async {}, &commands, PATIENT).await;
        assert_eq!(outcome, Outcome::Gone);
        assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(9));
    }

    #[tokio::test]
    async fn a_client_that_ignores_everything_is_killed_with_its_group() {
        let commands = commands("exit 9", "echo no such container >&2; exit 1");
        let script = "trap '' TERM; sleep 600 & echo ready; wait; exec sleep 600";
        let (outcome, status) = stop_client(script, std::future::pending(), &commands, SHORT).await;
        assert_eq!(outcome, Outcome::Gone);
        assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(9));
    }

    #[tokio::test]
    async fn a_removal_that_always_fails_is_told() {
        let commands = commands("exit 0", "echo engine trouble >&2; exit 125");
        let (outcome, _) = stop_client("echo ready; cat", std::future::pending(), &commands, PATIENT).await;
        assert_eq!(outcome, Outcome::MayRemain);
    }
}
