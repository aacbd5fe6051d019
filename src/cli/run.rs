//! `run`: one task in one session, streamed to the terminal.
//!
//! For a person the final answer goes to stdout, so that `codex-mcp run … > answer.md` keeps it, and the commentary,
//! the diff and everything else to stderr. With `--json` everything goes to stdout, one object a line.

use crate::cli::exit::{Exit, Failure};
use crate::cli::flags::LaunchFlags;
use crate::cli::progress::CopyBar;
use crate::cli::render::{self, Commentary};
use crate::cli::style::{DIM, Line, WARNING};
use crate::cli::{configure, current_dir, json_lines, output, surroundings};
use crate::codex::client::ThreadSettings;
use crate::codex::event::{ThreadId, TurnEvent};
use crate::codex::prompt::{MAX_PROMPT_CHARS, Prompt, PromptError};
use crate::plan::request::WorkspaceAccess;
use crate::session::asked::Asked;
use crate::session::copying::Copying;
use crate::session::error::SessionError;
use crate::session::handle::LaunchReport;
use crate::session::order::Watcher;
use crate::session::registry::{Losses, Sessions, StartSession, Urgency};
use crate::session::turn::TurnReport;
use crate::workspace::changes::Changes;
use crate::workspace::copy::Progress;
use std::collections::BTreeMap;
use std::io::{self, Read};
use std::sync::Arc;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

#[derive(Debug, clap::Args)]
pub struct RunArgs {
    /// What Codex is to do; `-` reads it from stdin
    pub prompt: String,
    /// Print one JSON object a line instead
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub launch: LaunchFlags,
}

/// How many events may wait to be printed; above that the session drops them and goes on.
const EVENT_BACKLOG: usize = 1024;

pub async fn run(args: RunArgs) -> Exit {
    let view = View::new(args.json);
    match prepare(args) {
        Ok((sessions, start, prompt)) => until_ended(sessions, Task::Start(Box::new(start)), prompt, view).await,
        Err(failure) => view.failed(&failure),
    }
}

/// One more turn of a thread that there is, as [`run`] shows its first.
pub async fn resume(thread: ThreadId, prompt: String, launch: LaunchFlags, json: bool) -> Exit {
    let view = View::new(json);
    match prepare_reply(prompt, &launch) {
        Ok((sessions, prompt)) => until_ended(sessions, Task::Continue(thread), prompt, view).await,
        Err(failure) => view.failed(&failure),
    }
}

/// Tells why a thread is not even looked for.
pub fn refused(failure: &Failure, json: bool) -> Exit {
    View::new(json).failed(failure)
}

/// What the prompt is for.
enum Task {
    Start(Box<StartSession>),
    Continue(ThreadId),
}

impl Task {
    fn name(&self) -> &'static str {
        match self {
            Self::Start(_) => "run",
            Self::Continue(_) => "sessions resume",
        }
    }
}

fn prepare_reply(prompt: String, launch: &LaunchFlags) -> Result<(Sessions, Prompt), Failure> {
    let prompt = read_prompt(prompt).map_err(|error| Failure::new(Exit::Usage, error.to_string()))?;
    let config = configure(&launch.config_flags(&current_dir()?))?;
    Ok((Sessions::new(Arc::new(config), Arc::new(surroundings()?)), prompt))
}

/// Everything that can be wrong before anything is launched.
fn prepare(args: RunArgs) -> Result<(Sessions, StartSession, Prompt), Failure> {
    let prompt = read_prompt(args.prompt).map_err(|error| Failure::new(Exit::Usage, error.to_string()))?;
    let config = configure(&args.launch.config_flags(&current_dir()?))?;
    let start = StartSession {
        workspace: args.launch.workspace,
        mode: None,
        access: WorkspaceAccess::ReadWrite,
        model: None,
        network: None,
        thread: ThreadSettings::default(),
    };
    Ok((
        Sessions::new(Arc::new(config), Arc::new(surroundings()?)),
        start,
        prompt,
    ))
}

#[derive(Debug, thiserror::Error)]
enum PromptInputError {
    #[error(transparent)]
    Prompt(#[from] PromptError),
    #[error("can't read the prompt from stdin: {0}")]
    Stdin(#[from] io::Error),
    #[error("the prompt on stdin is not UTF-8 text")]
    NotText,
}

fn read_prompt(argument: String) -> Result<Prompt, PromptInputError> {
    if argument != "-" {
        return Ok(Prompt::parse(argument)?);
    }
    if output::stdin_is_terminal() {
        output::comment(&[Line::new(
            DIM,
            "reading the prompt from the terminal; end it with Ctrl-D",
        )]);
    }
    prompt_from(io::stdin().lock())
}

/// Reads no more than could still be a prompt, so that `run - < /dev/zero` ends.
fn prompt_from(input: impl Read) -> Result<Prompt, PromptInputError> {
    // The longest character has four bytes.
    let most = 4 * MAX_PROMPT_CHARS;
    let mut bytes = Vec::new();
    input.take(most as u64 + 1).read_to_end(&mut bytes)?;
    if bytes.len() > most {
        let actual = String::from_utf8_lossy(&bytes).chars().count();
        return Err(PromptError::TooLong { actual }.into());
    }
    let text = String::from_utf8(bytes).map_err(|_| PromptInputError::NotText)?;
    Ok(Prompt::parse(text)?)
}

/// Runs the task while listening for signals: the first interrupts the turn and ends in order, with the diff; the
/// second ends at once.
async fn until_ended(sessions: Sessions, task: Task, prompt: Prompt, view: View) -> Exit {
    let mut signals = match Signals::listen() {
        Ok(signals) => signals,
        Err(error) => {
            return view.failed(&Failure::new(
                Exit::Internal,
                format!("can't listen for signals: {error}"),
            ));
        }
    };
    let interrupt = CancellationToken::new();
    let task = perform(sessions.clone(), task, prompt, view, interrupt.clone());
    tokio::pin!(task);
    let mut stops = Stops::default();
    let mut stopped = Exit::Success;
    loop {
        let asked = tokio::select! {
            biased;
            exit = &mut task => return stops.exit(exit, stopped),
            asked = signals.next() => asked,
        };
        stopped = asked;
        match stops.next() {
            Stop::Interrupt => {
                output::comment(&[Line::new(WARNING, "interrupting; once more to end at once")]);
                interrupt.cancel();
            }
            Stop::AtOnce => {
                sessions.shut_down(Urgency::Immediate).await;
                return stopped;
            }
        }
    }
}

/// What a signal leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
enum Stop {
    /// Ends the turn, or gives the launch up; the task then shows what there is and ends by itself.
    Interrupt,
    AtOnce,
}

/// Counts the signals.
#[derive(Debug, Default)]
struct Stops {
    asked: bool,
}

impl Stops {
    fn next(&mut self) -> Stop {
        if std::mem::replace(&mut self.asked, true) {
            Stop::AtOnce
        } else {
            Stop::Interrupt
        }
    }

    /// A task that was finished when the signal came did succeed; any other end is the signal's doing.
    fn exit(&self, of_task: Exit, of_signal: Exit) -> Exit {
        if self.asked && of_task != Exit::Success {
            of_signal
        } else {
            of_task
        }
    }
}

struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    fn listen() -> io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    async fn next(&mut self) -> Exit {
        tokio::select! {
            _ = self.interrupt.recv() => Exit::Interrupted,
            _ = self.terminate.recv() => Exit::Terminated,
        }
    }
}

/// The task from launch to diff. Whatever happens, no container is left when it returns.
async fn perform(sessions: Sessions, task: Task, prompt: Prompt, mut view: View, interrupt: CancellationToken) -> Exit {
    let finished = session(&sessions, task, prompt, &mut view, interrupt).await;
    sessions.shut_down(Urgency::Graceful).await;
    match finished {
        Ok(finished) => view.ended(finished),
        Err(error) => view.failed(&error.into()),
    }
}

struct Finished {
    thread: ThreadId,
    report: LaunchReport,
    turn: TurnReport,
    /// The answer is worth having even where the changes can't be read.
    changes: Result<Option<Changes>, SessionError>,
}

impl Finished {
    /// A turn that ended well, with changes that nobody can see, did not end well.
    fn exit(&self) -> Exit {
        match (Exit::from(&self.turn.end.outcome), &self.changes) {
            (Exit::Success, Err(error)) => Exit::from(error),
            (exit, _) => exit,
        }
    }
}

async fn session(
    sessions: &Sessions,
    task: Task,
    prompt: Prompt,
    view: &mut View,
    interrupt: CancellationToken,
) -> Result<Finished, SessionError> {
    let size = prompt.as_str().len() as u64;
    let asked = Asked::by_command_line(task.name(), BTreeMap::from([("prompt".to_owned(), size)]));
    let (copying, mut copied) = Copying::watched();
    let asking = asked.clone();
    let launching = async move {
        match task {
            Task::Start(start) => sessions.start(*start, asking, copying).await,
            Task::Continue(thread) => sessions.take_up(&thread, Losses::Forgiven, asking).await,
        }
    };
    tokio::pin!(launching);
    let session = loop {
        tokio::select! {
            biased;
            // Dropping the launch gives it up.
            () = interrupt.cancelled() => return Err(SessionError::TurnCancelled),
            started = &mut launching => break started?,
            Ok(()) = copied.changed() => view.copying(*copied.borrow_and_update()),
        }
    };
    view.started(session.thread(), session.report());
    let (sender, mut events) = mpsc::channel(EVENT_BACKLOG);
    let running = session.run_turn(prompt, asked, Watcher::of_events(sender), interrupt.clone());
    tokio::pin!(running);
    let turn = loop {
        tokio::select! {
            // Events first, so that what was said before the end is shown before it.
            biased;
            Some(event) = events.recv() => view.event(&event),
            turn = &mut running => break turn?,
        }
    };
    while let Ok(event) = events.try_recv() {
        view.event(&event);
    }
    let changes = match &turn.brought {
        Some(brought) => Ok(Some(brought.clone())),
        None => {
            // Whoever interrupted the turn still wants to see what it did.
            let given_up = match interrupt.is_cancelled() {
                true => CancellationToken::new(),
                false => interrupt,
            };
            session.changes(&given_up).await
        }
    };
    Ok(Finished {
        thread: session.thread().clone(),
        report: session.report().clone(),
        turn,
        changes,
    })
}

/// Who is looking.
enum View {
    Human(Commentary, CopyBar),
    Json,
}

impl View {
    fn new(json: bool) -> Self {
        match json {
            true => Self::Json,
            false => Self::Human(Commentary::default(), CopyBar::default()),
        }
    }

    fn copying(&mut self, done: Progress) {
        if let Self::Human(_, copy) = self {
            copy.at(done);
        }
    }

    fn started(&mut self, thread: &ThreadId, report: &LaunchReport) {
        match self {
            Self::Human(_, copy) => {
                copy.end();
                output::comment(&render::launched(report));
            }
            Self::Json => json_line(&json_lines::session(thread, report)),
        }
    }

    fn event(&mut self, event: &TurnEvent) {
        match self {
            Self::Human(commentary, _) => output::comment(&commentary.event(event)),
            Self::Json => json_line(&json_lines::event(event)),
        }
    }

    fn ended(self, finished: Finished) -> Exit {
        let exit = finished.exit();
        let Finished {
            thread,
            report,
            turn,
            changes,
        } = finished;
        let end = &turn.end;
        let written = match self {
            Self::Human(commentary, _) => {
                output::comment(&commentary.finish(&end.answer));
                let answer = end.answer.to_string();
                let written = match answer.trim_end() {
                    "" => Ok(()),
                    answer => output::result(answer),
                };
                output::comment(&render::notes(&turn));
                output::comment(&render::ended(&end.outcome, end.usage));
                output::comment(&render::denied(&turn.egress_denied));
                match changes {
                    Ok(Some(changes)) => {
                        output::comment(&render::changes(&changes, turn.applied.as_ref(), &report.session));
                    }
                    // The folder itself was worked on.
                    Ok(None) => {}
                    Err(error) => {
                        output::failure(&error.into());
                    }
                }
                written
            }
            Self::Json => {
                let changes = changes.as_ref().map(Option::as_ref);
                output::result(&json_lines::result(&thread, &report, &turn, changes, exit))
            }
        };
        match written {
            Ok(()) => exit,
            Err(failure) => output::failure(&failure),
        }
    }

    fn failed(mut self, failure: &Failure) -> Exit {
        match &mut self {
            Self::Human(_, copy) => copy.end(),
            Self::Json => json_line(&json_lines::error(failure)),
        }
        output::failure(failure)
    }
}

/// A line that is not the result: a full disk is reported once, by that one.
fn json_line(line: &str) {
    let _ = output::result(line);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prompt_on_stdin_is_text_and_bounded() {
        assert_eq!(prompt_from(&b"fix it\n"[..]).unwrap().as_str(), "fix it\n");
        assert!(matches!(
            prompt_from(&b" \n"[..]),
            Err(PromptInputError::Prompt(PromptError::Empty))
        ));
        assert!(matches!(prompt_from(&b"\xff"[..]), Err(PromptInputError::NotText)));
        assert!(matches!(
            prompt_from(io::repeat(b'a')),
            Err(PromptInputError::Prompt(PromptError::TooLong { .. }))
        ));
    }

    #[test]
    fn the_first_signal_ends_in_order_and_the_second_at_once() {
        let mut stops = Stops::default();
        assert_eq!(stops.exit(Exit::TurnFailed, Exit::Success), Exit::TurnFailed);
        assert_eq!(stops.next(), Stop::Interrupt);
        assert_eq!(stops.next(), Stop::AtOnce);
        assert_eq!(stops.exit(Exit::SessionLost, Exit::Terminated), Exit::Terminated);
        assert_eq!(stops.exit(Exit::Success, Exit::Interrupted), Exit::Success);
    }
}
