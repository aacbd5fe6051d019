//! Performs a call: starts the thread or takes it up, runs one turn, follows it to its end.
//!
//! What ends a call early, and what then happens to the work:
//! - the client cancels it: the turn is interrupted at once, the thread stays; a thread that was still starting is given
//!   up, and what there is of it ends. Cancelling never touches another call's turn on the same thread.
//! - the server ends (end of input, a signal): the call returns at once; ending the sessions is the server's job.

use crate::codex::prompt::Prompt;
use crate::mcp::agent::{Agent, AgentThread};
use crate::mcp::arguments::{CodexCall, Note, ReplyCall};
use crate::mcp::progress::{Notifier, Pacer};
use crate::mcp::result;
use crate::session::asked::Asked;
use crate::session::copying::Copying;
use crate::session::error::SessionError;
use crate::session::turn::TurnReport;
use crate::workspace::copy::Progress;
use rmcp::model::CallToolResult;
use std::time::Instant;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

/// Events waiting to become progress. The session drops what does not fit.
const EVENTS: usize = 256;

/// What surrounds one call.
pub struct CallContext {
    /// Who asked, and in which shape.
    pub asked: Asked,
    /// The client cancelled this call.
    pub cancelled: CancellationToken,
    /// The server ends.
    pub ending: CancellationToken,
    pub notifier: Notifier,
}

pub async fn codex<A: Agent>(agent: &A, call: CodexCall, context: CallContext) -> CallToolResult {
    let mut pacer = Pacer::new(Instant::now());
    context.notifier.send(pacer.starting(Instant::now()));
    let (copying, copied) = Copying::watched();
    let starting = agent.start(call.start, context.asked.clone(), copying);
    let result = match launched::<A>(starting, copied, &context, &mut pacer).await {
        Launched::Thread(thread) => turn(&thread, call.prompt, &call.notes, &context, &mut pacer)
            .await
            .unwrap_or_else(|gone| result::not_started(&gone)),
        Launched::Refused(error) => result::not_started(&error),
        Launched::Cancelled => result::cancelled_while_starting(),
        Launched::ServerEnding => result::server_ending(None),
    };
    finish(result, context).await
}

pub async fn reply<A: Agent>(agent: &A, call: ReplyCall, context: CallContext) -> CallToolResult {
    let mut pacer = Pacer::new(Instant::now());
    let mut result = taken_up(agent, &call, &context, &mut pacer).await;
    if result.is_err() {
        // Its container ended between the look and the turn, which had not begun: the second look finds none.
        result = taken_up(agent, &call, &context, &mut pacer).await;
    }
    finish(result.unwrap_or_else(|gone| result::not_started(&gone)), context).await
}

/// `Err`: the thread's container was gone before the turn began.
async fn taken_up<A: Agent>(
    agent: &A,
    call: &ReplyCall,
    context: &CallContext,
    pacer: &mut Pacer,
) -> Result<CallToolResult, SessionError> {
    let taking_up = agent.take_up(&call.thread, context.asked.clone());
    let (_nothing, copied) = Copying::watched();
    match launched::<A>(taking_up, copied, context, pacer).await {
        Launched::Thread(thread) => turn(&thread, call.prompt.clone(), &call.notes, context, pacer).await,
        Launched::Refused(SessionError::UnknownThread(thread)) => Ok(result::unknown_thread(&thread)),
        Launched::Refused(error) => Ok(result::not_taken_up(&call.thread, &error)),
        Launched::Cancelled => Ok(result::cancelled_while_starting()),
        Launched::ServerEnding => Ok(result::server_ending(Some(&call.thread))),
    }
}

/// Progress goes out before the result, unless the server ends: then nobody may be reading any more.
async fn finish(result: CallToolResult, context: CallContext) -> CallToolResult {
    tokio::select! {
        () = context.ending.cancelled() => {}
        () = context.notifier.finish() => {}
    }
    result
}

enum Launched<T> {
    Thread(T),
    Refused(SessionError),
    Cancelled,
    ServerEnding,
}

/// Leaving the loop drops the launch, which gives it up.
async fn launched<A: Agent>(
    launching: impl Future<Output = Result<A::Thread, SessionError>>,
    mut copied: watch::Receiver<Progress>,
    context: &CallContext,
    pacer: &mut Pacer,
) -> Launched<A::Thread> {
    let mut starting = std::pin::pin!(launching);
    loop {
        tokio::select! {
            biased;
            () = context.ending.cancelled() => return Launched::ServerEnding,
            () = context.cancelled.cancelled() => return Launched::Cancelled,
            started = &mut starting => return match started {
                Ok(thread) => Launched::Thread(thread),
                Err(error) => Launched::Refused(error),
            },
            Ok(()) = copied.changed() => {
                let done = *copied.borrow_and_update();
                if let Some(step) = pacer.copying(done, Instant::now()) {
                    context.notifier.send(step);
                }
            }
            () = tokio::time::sleep_until(pacer.heartbeat_due().into()) => {
                context.notifier.send(pacer.heartbeat(Instant::now()));
            }
        }
    }
}

/// `Err`: the thread's container was gone before the turn began.
async fn turn<T: AgentThread>(
    thread: &T,
    prompt: Prompt,
    notes: &[Note],
    context: &CallContext,
    pacer: &mut Pacer,
) -> Result<CallToolResult, SessionError> {
    context.notifier.send(pacer.thread_ready(thread.id(), Instant::now()));
    let Some(end) = follow(thread, prompt, context, pacer).await else {
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
            () = context.ending.cancelled() => return Ok(result::server_ending(Some(thread.id()))),
            changes = thread.changes(&context.cancelled) => changes,
        },
    };
    let ended = result::ended(result::Ended {
        thread: thread.id(),
        report: thread.report(),
        notes,
        end,
        changes,
    });
    Ok(ended)
}

/// `None` where the server ends first.
async fn follow<T: AgentThread>(
    thread: &T,
    prompt: Prompt,
    context: &CallContext,
    pacer: &mut Pacer,
) -> Option<Result<TurnReport, SessionError>> {
    let (events_in, mut events) = mpsc::channel(EVENTS);
    let mut running =
        std::pin::pin!(thread.run_turn(prompt, context.asked.clone(), events_in, context.cancelled.clone()));
    let end = loop {
        tokio::select! {
            biased;
            () = context.ending.cancelled() => return None,
            Some(event) = events.recv() => {
                if let Some(step) = pacer.event(&event, Instant::now()) {
                    context.notifier.send(step);
                }
            }
            end = &mut running => break end,
            () = tokio::time::sleep_until(pacer.heartbeat_due().into()) => {
                context.notifier.send(pacer.heartbeat(Instant::now()));
            }
        }
    };
    // The end overtakes events that came before it.
    while let Ok(event) = events.try_recv() {
        if let Some(step) = pacer.event(&event, Instant::now()) {
            context.notifier.send(step);
        }
    }
    Some(end)
}
