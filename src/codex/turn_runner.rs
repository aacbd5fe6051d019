//! Performs what a turn's state machine decides: the loop between a [`Client`], its [`Events`] and the clock.

use crate::codex::client::{Client, Events, NetworkAccess, TurnReading};
use crate::codex::error::ClientError;
use crate::codex::event::{ThreadId, TurnEnd, TurnEvent, TurnId, Usage};
use crate::codex::prompt::Prompt;
use crate::codex::turn::{Action, GRACE, Input, Turn};
use crate::wire::untrusted::Untrusted;
use std::future::Future;
use std::pin::pin;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// One turn to run.
#[derive(Debug, Clone, Copy)]
pub struct TurnRequest<'a> {
    pub thread: &'a ThreadId,
    pub prompt: &'a Prompt,
    /// The longest that the turn may take.
    pub limit: Duration,
    /// What the thread had used when its last turn ended ([`TurnEnd::usage`]); zero for a new thread.
    pub usage: Usage,
    pub network: NetworkAccess,
}

/// Runs one turn to its end. `interrupt` stops it when it becomes ready. Each event goes to `watch`, which must not block.
/// Turns of one connection must not overlap, which `&mut Events` sees to.
///
/// # Errors
/// Only where the turn did not begin; a connection that is lost later is a turn that failed.
pub async fn run_turn(
    client: &Client,
    events: &mut Events,
    request: TurnRequest<'_>,
    interrupt: impl Future<Output = ()>,
    watch: &mut (dyn FnMut(TurnEvent) + Send),
) -> Result<TurnEnd, ClientError> {
    let clock = Instant::now();
    let mut interrupt = pin!(interrupt);
    let mut starting = pin!(client.start_turn(request.thread, request.prompt, request.network));
    let (turn, mut interrupted) = tokio::select! {
        turn = &mut starting => (turn?, false),
        // It is too late to take the turn back, so its start is waited for, though not for long.
        () = &mut interrupt => match tokio::time::timeout(GRACE, starting).await {
            Ok(turn) => (turn?, true),
            Err(_) => return Err(ClientError::Timeout { method: "turn/start", limit: GRACE }),
        },
    };
    let mut calls = Calls {
        client,
        thread: request.thread,
        turn: &turn,
        running: JoinSet::new(),
    };
    let mut machine = Turn::new(request.thread.clone(), turn.clone(), request.limit, request.usage);
    let mut input = if interrupted {
        Input::InterruptRequested
    } else {
        Input::Tick
    };
    loop {
        for action in machine.step(clock.elapsed(), input) {
            match action {
                Action::Emit(event) => watch(event),
                Action::Interrupt => calls.interrupt(),
                Action::ReadThread => calls.read(),
                Action::CleanBackground => clean(client, request.thread, watch).await,
                Action::Finish(end) => return Ok(end),
            }
        }
        let wake = clock + machine.wake_at().unwrap_or_default();
        input = tokio::select! {
            () = &mut interrupt, if !interrupted => {
                interrupted = true;
                Input::InterruptRequested
            }
            Some(told) = calls.next() => told,
            event = events.next() => match event {
                Ok(event) => Input::Event(event),
                Err(cause) => Input::Lost(Untrusted::new(cause.to_string())),
            },
            () = tokio::time::sleep_until(wake) => Input::Tick,
        };
    }
}

/// Calls made while the turn runs: they must not keep its events waiting.
struct Calls<'a> {
    client: &'a Client,
    thread: &'a ThreadId,
    turn: &'a TurnId,
    running: JoinSet<Input>,
}

impl Calls<'_> {
    fn interrupt(&mut self) {
        let (client, thread, turn) = (self.client.clone(), self.thread.clone(), self.turn.clone());
        self.running.spawn(async move {
            match client.interrupt(&thread, &turn).await {
                Ok(()) => Input::Tick,
                Err(cause) => {
                    tracing::debug!(%cause, "Codex did not take the interrupt");
                    Input::InterruptRefused
                }
            }
        });
    }

    fn read(&mut self) {
        let (client, thread, turn) = (self.client.clone(), self.thread.clone(), self.turn.clone());
        self.running.spawn(async move {
            let reading: Result<TurnReading, ClientError> = client.read_turn(&thread, &turn).await;
            if let Err(cause) = &reading {
                tracing::debug!(%cause, "the turn could not be read back");
            }
            Input::Read(reading.ok())
        });
    }

    /// What the next finished call came to; `None`, at once, where none runs.
    async fn next(&mut self) -> Option<Input> {
        match self.running.join_next().await? {
            Ok(told) => Some(told),
            // Only where the task panicked: nothing was learnt.
            Err(_) => Some(Input::Tick),
        }
    }
}

async fn clean(client: &Client, thread: &ThreadId, watch: &mut (dyn FnMut(TurnEvent) + Send)) {
    if let Err(cause) = client.clean_background(thread).await {
        let message = format!("what the turn left running may still run: {cause}");
        watch(TurnEvent::Warning {
            message: message.into(),
        });
    }
}
