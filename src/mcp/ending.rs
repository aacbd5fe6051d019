//! How a server is asked to end, and how it ends every session: the same over stdio and over HTTP.
//!
//! A signal asks for an orderly end; whatever comes second skips every grace period, because whoever asks twice is about
//! to kill.

use crate::mcp::agent::Agent;
use crate::session::registry::Urgency;
use std::io;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

/// One message for each SIGTERM or SIGINT. Handlers are in place when this returns, so that a signal during a launch
/// can't kill the process with its default action.
pub(super) fn ending_signals() -> io::Result<mpsc::Receiver<()>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let (sender, receiver) = mpsc::channel(2);
    tokio::spawn(async move {
        loop {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            if sender.send(()).await.is_err() {
                return;
            }
        }
    });
    Ok(receiver)
}

/// Ends every session; a further request to end skips the grace periods.
pub(super) async fn end_sessions<A: Agent>(agent: &A, asked_to_end: &mut mpsc::Receiver<()>) {
    let mut graceful = std::pin::pin!(agent.shut_down(Urgency::Graceful));
    tokio::select! {
        () = &mut graceful => return,
        Some(()) = asked_to_end.recv() => {}
    }
    tokio::join!(graceful, agent.shut_down(Urgency::Immediate));
}
