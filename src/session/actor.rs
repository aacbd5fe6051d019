//! The loop of one container's life: takes turns one at a time, watches, ends when told to, when there is nothing to do, or
//! when the container does. The only owner of the container. The session goes on without it.

use crate::audit::record::Outcome;
use crate::auth::broker::SessionBroker;
use crate::auth::broker::budget::ModelUsage;
use crate::codex::client::{Client, Events, NetworkAccess};
use crate::codex::error::{ClientError, TurnErrorKind};
use crate::codex::event::{ThreadId, TurnEnd, TurnEvent, TurnOutcome, Usage};
use crate::codex::prompt::Prompt;
use crate::codex::turn_runner::{TurnRequest, run_turn};
use crate::config::ApplyWhen;
use crate::egress::SessionEgress;
use crate::session::asked::Asked;
use crate::session::blocking::blocking;
use crate::session::bring_back::{self, BroughtBack};
use crate::session::error::{EndReason, SessionError};
use crate::session::journal::SessionJournal;
use crate::session::order::{BringBackOrder, Order, Reply, TurnOrder, Watcher};
use crate::session::parking;
use crate::session::perils::{Perils, hurried};
use crate::session::questions::Questions;
use crate::session::quota::{Quota, SessionSpent, TurnTicket};
use crate::session::stop_order::{KnownTo, StopOrder};
use crate::session::store::now;
use crate::session::store::record::{Interrupted, RecordedUse, State};
use crate::session::store::stored::Kept;
use crate::session::transcript::{Line, Transcript};
use crate::session::turn::TurnReport;
use crate::session::upkeep::Doing;
use crate::session::workspace::{Applying, SessionWorkspace};
use crate::workspace::apply::{Applied, Consent};
use crate::workspace::changes::Changes;
use std::convert::Infallible;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

/// Turns that may wait for the one that runs; the next caller waits in `send`.
pub(super) const QUEUE: usize = 16;
/// How often a running turn's time, tokens and bytes are written down: what a server that is killed has not counted.
const NOTED_EVERY: Duration = Duration::from_secs(10);
/// How long after the app-server's stream broke the end of its process or container may take to be known.
const END_SETTLES: Duration = Duration::from_secs(3);

pub(super) struct Actor {
    /// As Codex calls it.
    pub thread: ThreadId,
    pub perils: Perils,
    pub egress: SessionEgress,
    pub broker: SessionBroker,
    pub client: Client,
    pub events: Events,
    pub questions: Questions,
    pub bounds: Bounds,
    pub network: NetworkAccess,
    /// Of the thread so far.
    pub usage: Usage,
    /// Turns that began so far, in this container and before.
    pub turns: u64,
    pub quota: Quota,
    /// By the session, over its life.
    pub spent: SessionSpent,
    pub workspace: SessionWorkspace,
    pub apply: ApplyWhen,
    /// Turns that never came to an end: told with the next answer.
    pub interrupted: Vec<Interrupted>,
    pub known_to: KnownTo,
    pub orders: mpsc::Receiver<Order>,
    pub ended: watch::Sender<Option<EndReason>>,
    pub kept: Kept,
    pub transcript: Transcript,
    pub journal: SessionJournal,
}

/// What the operator set for every session.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    /// The longest that a turn may take.
    pub turn: Duration,
    /// The longest without a turn.
    pub idle: Duration,
    /// Losses in a row after which it is not started again by itself.
    pub restarts: u32,
}

/// Who still waits when a container has ended, and for what.
struct Unanswered {
    reply: Reply,
    error: SessionError,
}

/// Why a container is to end.
struct Over {
    reason: EndReason,
    /// The turn that it interrupts.
    turn: Option<u64>,
    unanswered: Option<Unanswered>,
}

/// How a turn left the session.
enum Turned {
    /// Also a turn that failed: the thread goes on.
    Ended(TurnEnd),
    /// It did not begin; the thread goes on.
    Refused(ClientError),
    /// The container is gone, and the turn with it.
    Over(EndReason),
}

impl Actor {
    pub async fn run(mut self) {
        let Over {
            reason,
            turn,
            unanswered,
        } = self.live().await;
        // From here on nothing is accepted; what waits is told that it has not begun.
        self.orders.close();
        // With the container goes the link that knows.
        let used = RecordedUse::from(self.perils.last_used(self.egress.bytes_moved()));
        let Perils { container, stop, .. } = &mut self.perils;
        container.stop(hurried(stop)).await;
        self.journal.ended(&reason).await;
        let why = reason.to_string();
        self.transcript.note(turn, &Line::Ended { why });
        self.transcript.close().await;
        // Its files are nobody's any more once this is done: another server may take the session up at once.
        let egress_bytes = self.egress.bytes_moved();
        self.spent.observe(self.broker.spending().usage, egress_bytes);
        let (kept, ended, restarts, spent) = (self.kept.clone(), reason.clone(), self.bounds.restarts, self.spent);
        // Whatever was the first to end it.
        let is_kept = reason != EndReason::GivenUp && self.perils.stop.borrow().is_none_or(StopOrder::keeps_session);
        blocking(move || match kept.take() {
            Some(stored) if is_kept => stored.let_go_or_warn(|record| {
                record.spent = spent;
                record.used = Some(used);
                parking::ended(record, &ended, turn, restarts, now());
            }),
            Some(stored) => stored.remove_or_warn(),
            None => {}
        })
        .await;
        if let Some(Unanswered { reply, error }) = unanswered {
            // The caller may have given up on the turn.
            let _ = reply.send(Err(error));
        }
        self.ended.send_replace(Some(reason));
    }

    /// Runs until the container is to end; says why, and who still waits for a turn.
    async fn live(&mut self) -> Over {
        loop {
            let order = match self.idle().await {
                Ok(order) => order,
                Err(reason) => {
                    return Over {
                        reason,
                        turn: None,
                        unanswered: None,
                    };
                }
            };
            let TurnOrder {
                prompt,
                asked,
                watcher,
                cancelled,
                mut reply,
            } = match order {
                Order::Turn(turn) => turn,
                Order::BringBack(order) => {
                    self.bring_back_now(order).await;
                    continue;
                }
            };
            let begun = match cancelled.is_cancelled() || reply.is_closed() {
                true => Err(SessionError::TurnCancelled),
                false => self.begin(asked, &prompt).await,
            };
            let mut ticket = match (begun, self.known_to) {
                (Ok(ticket), _) => ticket,
                (Err(error @ SessionError::TurnCancelled), _) | (Err(error), KnownTo::Callers) => {
                    let _ = reply.send(Err(error));
                    continue;
                }
                (Err(error), KnownTo::Starter) => {
                    let error = SessionError::FirstTurnRefused(Box::new(error));
                    return Over {
                        reason: EndReason::GivenUp,
                        turn: None,
                        unanswered: Some(Unanswered { reply, error }),
                    };
                }
            };
            self.known_to = KnownTo::Callers;
            let unwanted = async {
                tokio::select! {
                    () = cancelled.cancelled() => {}
                    // Whoever dropped the future wants no answer.
                    () = reply.closed() => {}
                }
            };
            let turned = self.turn(&prompt, &watcher, unwanted, &mut ticket).await;
            self.spent.add_wall(ticket.settle());
            let answer = match turned {
                Turned::Ended(end) => {
                    self.journal.turn_ended(Ok(&end), self.usage);
                    Ok(self.report(end).await)
                }
                Turned::Refused(error) => {
                    self.journal.turn_ended(Err(Outcome::Refused), self.usage);
                    Err(error.into())
                }
                Turned::Over(reason) => {
                    self.journal.turn_ended(Err(Outcome::SessionOver), self.usage);
                    let error = SessionError::Ended(reason.clone());
                    return Over {
                        reason,
                        turn: Some(self.turns),
                        unanswered: Some(Unanswered { reply, error }),
                    };
                }
            };
            self.note_end(&answer).await;
            let tells = answer.is_ok();
            match reply.send(answer) {
                Ok(()) if tells && !cancelled.is_cancelled() => self.note_told().await,
                Ok(()) => {}
                // The caller is gone. What became of the turn, whoever comes next has to be told.
                Err(Ok(report)) if report.end.outcome == TurnOutcome::Interrupted => self.note_untold().await,
                Err(_) => {}
            }
        }
    }

    /// Everything that has to be counted and written down before a turn begins.
    async fn begin(&mut self, asked: Asked, prompt: &Prompt) -> Result<TurnTicket, SessionError> {
        let ticket = self.quota.admit_turn(&self.spent).await?;
        if let Err(error) = self.journal.turn_started(asked) {
            ticket.withdraw();
            return Err(error.into());
        }
        let turn = self.turns + 1;
        let mut spent = self.spent;
        spent.add_turn();
        let begun = self.kept.update(move |record| {
            record.turns = turn;
            record.spent = spent;
            record.state = State::Live { turn: Some(turn) };
        });
        if let Err(error) = begun.await {
            ticket.withdraw();
            self.journal.turn_ended(Err(Outcome::Refused), self.usage);
            return Err(error.into());
        }
        self.turns = turn;
        self.spent = spent;
        let text = prompt.as_str().to_owned();
        self.transcript.note(Some(turn), &Line::Prompt { text });
        Ok(ticket)
    }

    async fn report(&mut self, end: TurnEnd) -> TurnReport {
        let used = self.perils.used(self.egress.bytes_moved()).await;
        let spending = self.broker.spending();
        self.spent.observe(spending.usage, used.egress_bytes);
        let (brought, applied) = match self.bring_back(&end).await {
            Some((changes, applied)) => (changes, Some(applied)),
            None => (None, None),
        };
        TurnReport {
            memory_ended: self.perils.memory_ended(),
            brought,
            applied,
            end,
            interrupted_before: self.interrupted.clone(),
            egress_denied: self.egress.take_denied(),
            spending,
            quota_left: self.quota.left(&self.spent).await,
            used,
        }
    }

    /// Brings the changes to the user's folder, where that is done after each completed turn.
    async fn bring_back(&mut self, end: &TurnEnd) -> Option<(Option<Changes>, Result<Applied, String>)> {
        if self.apply != ApplyWhen::Turn || end.outcome != TurnOutcome::Completed {
            return None;
        }
        let cancel = CancellationToken::new();
        let applying = Applying {
            consent: Consent::EachTurn,
            expect_hash: None,
        };
        let (workspace, journal) = (&self.workspace, &self.journal);
        let bringing = async {
            let compared = match workspace.compare(&cancel).await {
                Ok(Some(compared)) if !compared.changes.files.is_empty() => compared,
                Ok(_) => return None,
                Err(error) => return Some((None, Err(error.to_string()))),
            };
            let applied = bring_back::apply(&compared, journal, applying, &cancel).await;
            Some((Some(compared.changes), applied.map_err(|error| error.to_string())))
        };
        self.perils.meanwhile(journal, &self.kept, &cancel, bringing).await
    }

    /// As somebody asked for.
    async fn bring_back_now(&mut self, order: BringBackOrder) {
        let BringBackOrder {
            doing,
            expect_hash,
            reply,
        } = order;
        let cancel = CancellationToken::new();
        let applying = Applying {
            consent: Consent::Explicit,
            expect_hash: expect_hash.as_deref(),
        };
        let (workspace, journal) = (&self.workspace, &self.journal);
        let bringing = async {
            let compared = workspace.compare(&cancel).await?.ok_or(SessionError::NothingCompared)?;
            match doing {
                Doing::Preview => Ok(BroughtBack::Preview(compared.preview(applying, &cancel).await?)),
                Doing::Really => bring_back::apply(&compared, journal, applying, &cancel)
                    .await
                    .map(BroughtBack::Applied),
            }
        };
        let brought = self.perils.meanwhile(journal, &self.kept, &cancel, bringing).await;
        // Whoever asked may have gone; what was written is on record.
        let _ = reply.send(brought);
    }

    async fn note_end(&mut self, answer: &Result<TurnReport, SessionError>) {
        let (status, error) = match answer {
            Ok(report) => {
                let outcome = &report.end.outcome;
                let error = match outcome {
                    TurnOutcome::Completed | TurnOutcome::Interrupted => None,
                    TurnOutcome::Failed(error) => Some(error.to_string()),
                };
                (outcome.word(), error)
            }
            Err(error) => ("refused", Some(error.to_string())),
        };
        self.transcript
            .note(Some(self.turns), &Line::TurnEnded { status, error });
        let (usage, spent) = (self.usage, self.spent);
        let used = answer.as_ref().ok().map(|report| RecordedUse::from(report.used));
        let noted = self.kept.update(move |record| {
            record.state = State::Live { turn: None };
            record.usage = usage;
            record.spent = spent;
            record.used = used.or(record.used);
            parking::turn_ended(record);
        });
        if let Err(error) = noted.await {
            // The turn has happened. A record that says it still runs errs on the safe side.
            tracing::warn!(%error, "the end of a turn is not on record");
        }
    }

    /// Somebody has an answer that told of the turns that were interrupted before.
    async fn note_told(&mut self) {
        let told = std::mem::take(&mut self.interrupted);
        if told.is_empty() {
            return;
        }
        let noted = self.kept.update(move |record| parking::told(record, &told));
        if let Err(error) = noted.await {
            tracing::warn!(%error, "interrupted turns that were told of will be told of once more");
        }
    }

    /// The turn that has just ended was interrupted, and nobody has its answer.
    async fn note_untold(&mut self) {
        let one = Interrupted {
            turn: self.turns,
            why: "whoever had asked for it was gone".to_owned(),
        };
        self.interrupted.push(one.clone());
        let noted = self.kept.update(move |record| parking::interrupted(record, one));
        if let Err(error) = noted.await {
            tracing::warn!(%error, "that a turn was interrupted is not on record");
        }
    }

    /// Waits for something to do, or for the reason that there is nothing.
    async fn idle(&mut self) -> Result<Order, EndReason> {
        let limit = self.bounds.idle;
        tokio::select! {
            biased;
            reason = self.perils.next(&self.journal, &self.kept) => Err(reason),
            // None is never there: the list has a handle as long as this runs.
            Some(order) = self.orders.recv() => Ok(order),
            () = tokio::time::sleep(limit) => Err(EndReason::Idle { limit }),
        }
    }

    /// Runs one turn. Further ones wait in the channel.
    async fn turn(
        &mut self,
        prompt: &Prompt,
        watcher: &Watcher,
        unwanted: impl Future<Output = ()>,
        ticket: &mut TurnTicket,
    ) -> Turned {
        let request = TurnRequest {
            thread: &self.thread,
            prompt,
            limit: self.bounds.turn,
            usage: self.usage,
            network: self.network,
        };
        let (transcript, turn) = (&mut self.transcript, Some(self.turns));
        let mut watch = |event: TurnEvent| {
            transcript.note(turn, &Line::Event(event.clone()));
            // A full channel is a slow watcher, a closed one nobody who watches.
            drop(watcher.events.try_send(event));
        };
        let _asked = self.questions.go_to(watcher.questions.clone());
        let turn = run_turn(&self.client, &mut self.events, request, unwanted, &mut watch);
        let (broker, egress) = (&self.broker, &self.egress);
        let counted = || (broker.spending().usage, egress.bytes_moved());
        let noting = note_spent(&self.kept, self.turns, &mut self.spent, ticket, counted);
        let end = tokio::select! {
            biased;
            end = turn => end,
            reason = self.perils.next(&self.journal, &self.kept) => {
                return Turned::Over(reason);
            }
            never = noting => match never {},
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
        let settling = tokio::time::timeout(END_SETTLES, self.perils.lost());
        settling.await.unwrap_or_else(|_| EndReason::lost(otherwise))
    }
}

/// Writes down from time to time what a running turn has come to. Dropping the future drops nothing that was counted.
async fn note_spent(
    kept: &Kept,
    turn: u64,
    spent: &mut SessionSpent,
    ticket: &mut TurnTicket,
    counted: impl Fn() -> (ModelUsage, u64),
) -> Infallible {
    loop {
        tokio::time::sleep(NOTED_EVERY).await;
        spent.add_wall(ticket.so_far());
        let (model, egress_bytes) = counted();
        spent.observe(model, egress_bytes);
        let so_far = *spent;
        let noted = kept.update(move |record| {
            // A slow disk may come to it when the turn's end is on record already, which has counted more.
            if record.state == (State::Live { turn: Some(turn) }) {
                record.spent = so_far;
            }
        });
        if let Err(error) = noted.await {
            tracing::debug!(%error, "what a turn has come to so far is not on record");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::broker::usage::Tokens;
    use crate::config::{DayQuota, Origin, QuotaSettings, Sourced, Spendable};
    use crate::session::store::Store;
    use crate::session::store::fixtures::record;
    use crate::session::store::record::Record;
    use crate::supervise::owner::Owner;

    /// As if the server were killed a while later: what counts is what the disk has.
    #[tokio::test(start_paused = true)]
    async fn what_a_turn_has_come_to_is_on_record_before_it_ends() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::new(dir.path(), Owner::of_this_process().unwrap());
        let kept = Kept::new(store.create(record(1)).unwrap());
        let settings = QuotaSettings {
            sessions: Sourced::new(1, Origin::Default),
            session: Spendable::default(),
            day: DayQuota::default(),
        };
        let quota = Quota::open(dir.path(), &settings).unwrap();
        let mut spent = SessionSpent::default();
        let mut ticket = quota.admit_turn(&spent).await.unwrap();
        let live = |turn| move |record: &mut Record| record.state = State::Live { turn };
        kept.update(live(Some(4))).await.unwrap();
        let counted = || {
            let tokens = Tokens { input: 7, output: 1 };
            let model = ModelUsage {
                tokens,
                ..ModelUsage::default()
            };
            (model, 90)
        };
        let on_disk = || store.list().unwrap()[0].record.clone().unwrap().spent;
        // Real time, of which a turn's is.
        std::thread::sleep(Duration::from_millis(20));
        let noting = note_spent(&kept, 4, &mut spent, &mut ticket, counted);
        _ = tokio::time::timeout(NOTED_EVERY + NOTED_EVERY / 2, noting).await;
        let noted = on_disk();
        assert!(noted.wall_millis >= 20, "{noted:?}");
        assert_eq!((noted.model.tokens.total(), noted.egress_bytes), (8, 90));
        assert_eq!(noted, spent);
        // The turn's end is on record.
        kept.update(live(None)).await.unwrap();
        let noting = note_spent(&kept, 4, &mut spent, &mut ticket, || (ModelUsage::default(), 1000));
        _ = tokio::time::timeout(NOTED_EVERY + NOTED_EVERY / 2, noting).await;
        assert_eq!(on_disk(), noted);
    }
}
