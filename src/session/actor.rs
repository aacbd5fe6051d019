//! The loop of one session: takes turns one at a time, watches the container, ends when told to or when the container
//! does. The only owner of the container.

use crate::audit::record::Outcome;
use crate::auth::broker::SessionBroker;
use crate::codex::client::{Client, Events, NetworkAccess};
use crate::codex::error::{ClientError, TurnErrorKind};
use crate::codex::event::{ThreadId, TurnEnd, TurnEvent, TurnOutcome, Usage};
use crate::codex::prompt::Prompt;
use crate::codex::turn_runner::{TurnRequest, run_turn};
use crate::egress::SessionEgress;
use crate::session::asked::Asked;
use crate::session::container::Container;
use crate::session::error::{EndReason, SessionError};
use crate::session::journal::SessionJournal;
use crate::session::registry::Urgency;
use crate::session::turn::TurnReport;
use crate::session::workspace_copy::WorkspaceCopy;
use crate::wire::contract::ProcessEnd;
use crate::wire::link::Ending;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

/// Turns that may wait for the one that runs; the next caller waits in `send`.
pub(super) const QUEUE: usize = 16;
/// How long after the app-server's stream broke the end of its process or container may take to be known.
const END_SETTLES: Duration = Duration::from_secs(3);

pub(super) struct Actor {
    pub thread: ThreadId,
    pub container: Container,
    pub egress: SessionEgress,
    pub broker: SessionBroker,
    pub client: Client,
    pub events: Events,
    /// The app-server's process.
    pub codex: Ending,
    pub turn_limit: Duration,
    pub network: NetworkAccess,
    /// Of the thread so far.
    pub usage: Usage,
    pub orders: mpsc::Receiver<TurnOrder>,
    pub stop: watch::Receiver<Option<Urgency>>,
    pub ended: watch::Sender<Option<EndReason>>,
    pub copy: Arc<WorkspaceCopy>,
    pub journal: SessionJournal,
    pub state_dir: PathBuf,
}

/// A turn that is asked for.
pub(super) struct TurnOrder {
    pub prompt: Prompt,
    pub asked: Asked,
    pub events: mpsc::Sender<TurnEvent>,
    /// Interrupts this turn and no other, or keeps it from beginning.
    pub cancelled: CancellationToken,
    pub reply: Reply,
}

pub(super) type Reply = oneshot::Sender<Result<TurnReport, SessionError>>;

/// How a turn left the session.
enum Turned {
    /// Also a turn that failed: the thread goes on.
    Ended(TurnEnd),
    /// It did not begin; the thread goes on.
    Refused(ClientError),
    /// The session is over, and the turn with it.
    Over(EndReason),
}

impl Actor {
    pub async fn run(mut self) {
        let (reason, unanswered) = self.live().await;
        // From here on nothing is accepted; what waits is answered with the reason.
        self.orders.close();
        self.container.stop(hurried(&mut self.stop)).await;
        // Nothing writes the copy any more.
        let reason = match reason {
            EndReason::Lost { why, .. } => {
                let salvaged = self
                    .copy
                    .salvage(&self.state_dir, &self.container.plan().session, &self.journal)
                    .await;
                EndReason::Lost { why, salvaged }
            }
            other => other,
        };
        self.journal.ended(&reason).await;
        if let Some(reply) = unanswered {
            // The caller may have given up on the turn.
            let _ = reply.send(Err(SessionError::Ended(reason.clone())));
        }
        self.ended.send_replace(Some(reason));
        self.copy.close().await;
        self.container.remove_files().await;
    }

    /// Runs until the session is to end; says why, and who still waits for a turn.
    async fn live(&mut self) -> (EndReason, Option<Reply>) {
        loop {
            let order = match self.idle().await {
                Ok(order) => order,
                Err(reason) => return (reason, None),
            };
            let TurnOrder {
                prompt,
                asked,
                events,
                cancelled,
                mut reply,
            } = order;
            if cancelled.is_cancelled() || reply.is_closed() {
                let _ = reply.send(Err(SessionError::TurnCancelled));
                continue;
            }
            if let Err(error) = self.journal.turn_started(asked) {
                let _ = reply.send(Err(error.into()));
                continue;
            }
            let unwanted = async {
                tokio::select! {
                    () = cancelled.cancelled() => {}
                    // Whoever dropped the future wants no answer.
                    () = reply.closed() => {}
                }
            };
            let answer = match self.turn(&prompt, &events, unwanted).await {
                Turned::Ended(end) => {
                    self.journal.turn_ended(Ok(&end), self.usage);
                    Ok(TurnReport {
                        end,
                        egress_denied: self.egress.take_denied(),
                        spending: self.broker.spending(),
                    })
                }
                Turned::Refused(error) => {
                    self.journal.turn_ended(Err(Outcome::Refused), self.usage);
                    Err(error.into())
                }
                Turned::Over(reason) => {
                    self.journal.turn_ended(Err(Outcome::SessionOver), self.usage);
                    return (reason, Some(reply));
                }
            };
            // The caller may have given up on the turn.
            let _ = reply.send(answer);
        }
    }

    /// Waits for a turn to run, or for the reason that there is none.
    async fn idle(&mut self) -> Result<TurnOrder, EndReason> {
        tokio::select! {
            biased;
            () = stopped(&mut self.stop) => Err(EndReason::Stopped),
            why = lost(&mut self.container, &mut self.codex) => Err(EndReason::lost(why)),
            failure = self.journal.unaudited() => Err(EndReason::Unaudited(failure)),
            order = self.orders.recv() => order.ok_or(EndReason::Abandoned),
        }
    }

    /// Runs one turn. Further ones wait in the channel.
    async fn turn(
        &mut self,
        prompt: &Prompt,
        watcher: &mpsc::Sender<TurnEvent>,
        unwanted: impl Future<Output = ()>,
    ) -> Turned {
        let request = TurnRequest {
            thread: &self.thread,
            prompt,
            limit: self.turn_limit,
            usage: self.usage,
            network: self.network,
        };
        let turn = run_turn(&self.client, &mut self.events, request, unwanted, watcher);
        let end = tokio::select! {
            biased;
            end = turn => end,
            why = lost(&mut self.container, &mut self.codex) => return Turned::Over(EndReason::lost(why)),
            () = stopped(&mut self.stop) => return Turned::Over(EndReason::Stopped),
            failure = self.journal.unaudited() => return Turned::Over(EndReason::Unaudited(failure)),
        };
        match end {
            Ok(end) => {
                self.usage = end.usage;
                match &end.outcome {
                    TurnOutcome::Failed(error) if error.kind == TurnErrorKind::ConnectionLost => {
                        Turned::Over(self.why_lost(error.to_string()).await)
                    }
                    _ => Turned::Ended(end),
                }
            }
            Err(error) if error.ends_connection() => Turned::Over(self.why_lost(error.to_string()).await),
            Err(error) => Turned::Refused(error),
        }
    }

    /// The app-server's stream broke, which says nothing about why; the end of its process or container does.
    async fn why_lost(&mut self, otherwise: String) -> EndReason {
        let settling = tokio::time::timeout(END_SETTLES, lost(&mut self.container, &mut self.codex));
        EndReason::lost(settling.await.unwrap_or(otherwise))
    }
}

/// Waits until the container or the app-server in it has ended by itself, and says which and why. The container is
/// asked first: when it goes, so does the app-server.
async fn lost(container: &mut Container, codex: &mut Ending) -> String {
    tokio::select! {
        biased;
        why = container.ended() => why,
        Ok(end) = codex.wait() => match end {
            ProcessEnd::Code(code) => format!("Codex ended by itself with code {code}"),
            ProcessEnd::Signal(_) if container.memory_kills() > 0 => container.memory_limit_reached(),
            ProcessEnd::Signal(signal) => format!("Codex was ended by signal {signal}"),
        },
    }
}

async fn stopped(stop: &mut watch::Receiver<Option<Urgency>>) {
    if stop.wait_for(Option::is_some).await.is_err() {
        // Every handle is gone, which the orders' channel reports.
        std::future::pending::<()>().await;
    }
}

async fn hurried(stop: &mut watch::Receiver<Option<Urgency>>) {
    if stop.wait_for(|asked| *asked == Some(Urgency::Immediate)).await.is_err() {
        std::future::pending::<()>().await;
    }
}
