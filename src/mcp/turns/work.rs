//! One turn, from the first look for its container to its result.
//!
//! What ends it early, and what then becomes of the thread:
//! - it is cancelled: the turn is interrupted at once, the thread stays; a thread that was still starting is given up, and what there
//!   is of it ends. No other turn of the thread is touched.
//! - the server ends: its result is that, at once; ending the sessions is the server's job.

use crate::codex::event::{ThreadId, TurnEvent};
use crate::codex::prompt::Prompt;
use crate::mcp::agent::{Agent, AgentThread};
use crate::mcp::progress::describe;
use crate::mcp::result;
use crate::mcp::tools::codex::Note;
use crate::mcp::turns::questions::Questions;
use crate::mcp::turns::{Board, Settings};
use crate::session::asked::Asked;
use crate::session::copying::Copying;
use crate::session::error::SessionError;
use crate::session::order::Watcher;
use crate::session::registry::StartSession;
use crate::session::turn::TurnReport;
use crate::workspace::copy::Progress;
use rmcp::model::CallToolResult;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::{broadcast, mpsc, watch};
use tokio_util::sync::CancellationToken;

/// Events waiting to be taken, by this task of the session and by each follower of this task. What does not fit is dropped.
const EVENTS: usize = 256;
/// The number of the next turn of this process.
static NEXT: AtomicU64 = AtomicU64::new(1);
/// The most of a command or a list of files that a line of the log has, in characters.
const SHOWN: usize = 170;

/// What is to be done.
#[derive(Debug)]
pub struct Asking {
    pub on: On,
    pub prompt: Prompt,
    pub notes: Vec<Note>,
}

#[derive(Debug)]
pub enum On {
    NewThread(Box<StartSession>),
    Thread(ThreadId),
}

/// A handle for whoever waits; clones name the same turn.
#[derive(Debug, Clone)]
pub struct Work(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    stage: watch::Sender<Stage>,
    events: broadcast::Sender<TurnEvent>,
    copied: watch::Receiver<Progress>,
    questions: Questions,
    cancelled: CancellationToken,
}

#[derive(Debug, Clone)]
pub enum Stage {
    /// Its container is being started, or looked for.
    Starting,
    /// It is the thread's to run: now, or after the turns before it.
    Running(ThreadId),
    Ended {
        /// Where it came to one.
        thread: Option<ThreadId>,
        result: Arc<CallToolResult>,
    },
}

impl Work {
    /// With its events from the first.
    fn new(copied: watch::Receiver<Progress>) -> (Self, broadcast::Receiver<TurnEvent>) {
        let (events, heard) = broadcast::channel(EVENTS);
        let work = Self(Arc::new(Shared {
            stage: watch::Sender::new(Stage::Starting),
            events,
            copied,
            questions: Questions::of(NEXT.fetch_add(1, Ordering::Relaxed)),
            cancelled: CancellationToken::new(),
        }));
        (work, heard)
    }

    /// One that nobody runs.
    #[cfg(test)]
    pub fn idle() -> (Self, watch::Sender<Progress>) {
        let (copying, copied) = watch::channel(Progress::default());
        (Self::new(copied).0, copying)
    }

    pub fn stage(&self) -> watch::Receiver<Stage> {
        self.0.stage.subscribe()
    }

    /// How far the copy of its folder is.
    pub fn copied(&self) -> watch::Receiver<Progress> {
        self.0.copied.clone()
    }

    pub fn questions(&self) -> &Questions {
        &self.0.questions
    }

    /// For one more who waits for it: what happened before is not told again.
    pub fn joined(&self) -> Begun {
        Begun {
            work: self.clone(),
            events: self.0.events.subscribe(),
        }
    }

    pub fn cancel(&self) {
        self.0.cancelled.cancel();
    }

    pub fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

/// A turn that has just begun, for the call that began it.
#[derive(Debug)]
pub struct Begun {
    pub work: Work,
    /// What happens in it, from the first on.
    pub events: broadcast::Receiver<TurnEvent>,
}

/// The turn, and the task that runs it.
pub(super) fn prepare<A: Agent>(
    agent: A,
    asking: Asking,
    asked: Asked,
    ending: CancellationToken,
    settings: Settings,
    board: &Arc<Board>,
) -> (Begun, impl Future<Output = ()> + Send + use<A>) {
    let (copying, copied) = Copying::watched();
    let (work, events) = Work::new(copied);
    let thread = match &asking.on {
        On::NewThread(_) => None,
        On::Thread(thread) => Some(thread.clone()),
    };
    if let Some(thread) = &thread {
        // From here on it can be interrupted, and nobody takes the thread for idle.
        board.took_up(thread, &work);
    }
    let task = Task {
        agent,
        asked,
        ending,
        settings,
        work: work.clone(),
        board: Arc::clone(board),
        thread,
        result: None,
    };
    (Begun { work, events }, task.run(asking, copying))
}

struct Task<A> {
    agent: A,
    asked: Asked,
    ending: CancellationToken,
    settings: Settings,
    work: Work,
    board: Arc<Board>,
    /// Once it is known to be one.
    thread: Option<ThreadId>,
    result: Option<CallToolResult>,
}

/// Its end is told however it comes: where the task panicked as well, nobody waits for ever.
impl<A> Drop for Task<A> {
    fn drop(&mut self) {
        let result = Arc::new(self.result.take().unwrap_or_else(result::broken));
        let thread = self.thread.take();
        if let Some(thread) = &thread {
            self.board.ended(thread, &self.work, &result);
        }
        self.work.0.stage.send_replace(Stage::Ended { thread, result });
    }
}

/// What came of looking for a container.
enum Launched<T> {
    Thread(T),
    Refused(SessionError),
    Cancelled,
    ServerEnding,
}

impl<A: Agent> Task<A> {
    async fn run(mut self, asking: Asking, copying: Copying) {
        self.result = Some(match &asking.on {
            On::NewThread(start) => self.begun((**start).clone(), &asking, copying).await,
            On::Thread(thread) => self.gone_on(thread, &asking).await,
        });
    }

    async fn begun(&mut self, start: StartSession, asking: &Asking, copying: Copying) -> CallToolResult {
        let starting = self.agent.start(start, self.asked.clone(), copying);
        match self.launched(starting).await {
            Launched::Thread(thread) => self
                .turn(&thread, asking)
                .await
                .unwrap_or_else(|gone| result::not_started(&gone)),
            Launched::Refused(error) => result::not_started(&error),
            Launched::Cancelled => result::cancelled_while_starting(),
            Launched::ServerEnding => result::server_ending(None),
        }
    }

    async fn gone_on(&mut self, thread: &ThreadId, asking: &Asking) -> CallToolResult {
        let first = self.taken_up(thread, asking).await;
        let result = match first {
            // Its container ended between the look and the turn, which had not begun: the second look finds none.
            Err(_) => self.taken_up(thread, asking).await,
            done => done,
        };
        result.unwrap_or_else(|gone| result::not_started(&gone))
    }

    /// `Err`: the thread's container was gone before the turn began.
    async fn taken_up(&mut self, thread: &ThreadId, asking: &Asking) -> Result<CallToolResult, SessionError> {
        let taking_up = self.agent.take_up(thread, self.asked.clone());
        match self.launched(taking_up).await {
            Launched::Thread(taken) => self.turn(&taken, asking).await,
            Launched::Refused(SessionError::UnknownThread(thread)) => Ok(result::unknown_thread(&thread)),
            Launched::Refused(error) => Ok(result::not_taken_up(thread, &error)),
            Launched::Cancelled => Ok(result::cancelled_while_starting()),
            Launched::ServerEnding => Ok(result::server_ending(Some(thread))),
        }
    }

    /// Leaving it drops the launch, which gives it up.
    async fn launched(&self, launching: impl Future<Output = Result<A::Thread, SessionError>>) -> Launched<A::Thread> {
        tokio::select! {
            biased;
            () = self.ending.cancelled() => Launched::ServerEnding,
            () = self.work.0.cancelled.cancelled() => Launched::Cancelled,
            started = launching => match started {
                Ok(thread) => Launched::Thread(thread),
                Err(error) => Launched::Refused(error),
            },
        }
    }

    /// `Err`: the thread's container was gone before the turn began.
    async fn turn(&mut self, thread: &A::Thread, asking: &Asking) -> Result<CallToolResult, SessionError> {
        self.thread = Some(thread.id().clone());
        self.board.took_up(thread.id(), &self.work);
        self.work.0.stage.send_replace(Stage::Running(thread.id().clone()));
        let Some(end) = self.to_its_end(thread, asking.prompt.clone()).await else {
            return Ok(result::server_ending(Some(thread.id())));
        };
        if let Err(gone @ (SessionError::NotBegun(_) | SessionError::FirstTurnRefused(_))) = end {
            return Err(gone);
        }
        let brought = end.as_ref().ok().and_then(|report| report.brought.clone());
        let changes = match brought {
            Some(brought) => Ok(Some(brought)),
            None => tokio::select! {
                biased;
                () = self.ending.cancelled() => return Ok(result::server_ending(Some(thread.id()))),
                changes = thread.changes(&self.work.0.cancelled) => changes,
            },
        };
        Ok(result::ended(result::Ended {
            thread: thread.id(),
            report: thread.report(),
            notes: &asking.notes,
            end,
            changes,
        }))
    }

    /// `None` where the server ends first.
    async fn to_its_end(&self, thread: &A::Thread, prompt: Prompt) -> Option<Result<TurnReport, SessionError>> {
        let (events_in, mut events) = mpsc::channel(EVENTS);
        let (questions_in, mut questions) = mpsc::channel(EVENTS);
        let watcher = Watcher {
            events: events_in,
            questions: questions_in,
        };
        let cancelled = self.work.0.cancelled.clone();
        let mut running = std::pin::pin!(thread.run_turn(prompt, self.asked.clone(), watcher, cancelled));
        let open = self.work.questions();
        let end = loop {
            tokio::select! {
                biased;
                () = self.ending.cancelled() => return None,
                Some(event) = events.recv() => self.happened(thread.id(), event),
                Some(question) = questions.recv() => {
                    let line = format!("asks whether it may: {}", question.request.subject.describe().one_line(SHOWN));
                    self.board.note(thread.id(), line);
                    open.ask(question, self.settings.ask);
                }
                number = open.overdue() => { open.answer(number, self.settings.unasked); }
                end = &mut running => break end,
            }
        };
        // The end overtakes events that came before it.
        while let Ok(event) = events.try_recv() {
            self.happened(thread.id(), event);
        }
        Some(end)
    }

    fn happened(&self, thread: &ThreadId, event: TurnEvent) {
        if let Some(line) = describe(&event) {
            self.board.note(thread, line);
        }
        // Nobody may be following.
        let _ = self.work.0.events.send(event);
    }
}
