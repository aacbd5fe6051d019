//! What ends a container, and what is known of it while it lives: each end with its cause.
//!
//! It must never end anything itself: that is [`crate::session::actor`]'s.

use crate::obs::metrics::{LimitHit, Metrics};
use crate::session::container::Container;
use crate::session::disk::DiskWatch;
use crate::session::error::EndReason;
use crate::session::journal::SessionJournal;
use crate::session::registry::Urgency;
use crate::session::stop_order::{StopOrder, StoppedBy};
use crate::session::stop_request;
use crate::session::store::stored::Kept;
use crate::session::turn::Used;
use crate::wire::contract::ProcessEnd;
use crate::wire::link::Ending;
use std::time::Duration;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// How long the guest may take to tell what was used; what it told last is taken then.
const MEASURING: Duration = Duration::from_millis(500);

/// The container, and all that ends it.
pub(super) struct Perils {
    pub container: Container,
    /// The app-server's process.
    pub codex: Ending,
    pub disk: DiskWatch,
    pub stop: watch::Receiver<Option<StopOrder>>,
    /// Kills for memory that were told of.
    pub kills_told: u64,
}

impl Perils {
    /// Works on the host while the container lives. What it is to end for is told again to whoever asks next; what is being written
    /// then is finished.
    pub async fn meanwhile<T>(
        &mut self,
        journal: &SessionJournal,
        kept: &Kept,
        cancel: &CancellationToken,
        work: impl Future<Output = T>,
    ) -> T {
        tokio::pin!(work);
        tokio::select! {
            done = &mut work => done,
            _ = self.next(journal, kept) => {
                cancel.cancel();
                work.await
            }
        }
    }

    /// Waits for whatever ends the container, and says what it was. May be dropped and asked again.
    pub async fn next(&mut self, journal: &SessionJournal, kept: &Kept) -> EndReason {
        let Self {
            container,
            codex,
            disk,
            stop,
            kills_told: _,
        } = self;
        tokio::select! {
            biased;
            reason = stopped(stop) => reason,
            reason = lost(container, codex) => reason,
            failure = journal.unaudited() => EndReason::Unaudited(failure),
            verdict = disk.watch() => EndReason::DiskLimit { why: verdict.to_string() },
            () = stop_request::made(kept.root()) => EndReason::Stopped,
        }
    }

    /// What was used so far.
    pub async fn used(&self, egress_bytes: u64) -> Used {
        self.container.measure(MEASURING).await;
        self.last_used(egress_bytes)
    }

    /// [`Self::used`], as it is known.
    pub fn last_used(&self, egress_bytes: u64) -> Used {
        Used {
            figures: self.container.figures(),
            disk: self.disk.last(),
            memory_kills: self.container.memory_kills(),
            egress_bytes,
        }
    }

    /// What was killed for memory since this was last asked, while Codex itself lived on.
    pub fn memory_ended(&mut self) -> Option<String> {
        let kills = self.container.memory_kills();
        let killed = match kills.saturating_sub(self.kills_told) {
            0 => return None,
            1 => "a process inside was".to_owned(),
            more => format!("{more} processes inside were"),
        };
        Metrics::of_process().limits.count(LimitHit::Memory);
        self.kills_told = kills;
        Some(format!("{killed} {}", self.container.memory_limit_reached()))
    }

    pub async fn lost(&mut self) -> EndReason {
        lost(&mut self.container, &mut self.codex).await
    }
}

/// Waits until the container or the app-server in it has ended by itself, and says which and why. The container is
/// asked first: when it goes, so does the app-server.
async fn lost(container: &mut Container, codex: &mut Ending) -> EndReason {
    tokio::select! {
        biased;
        reason = container.ended() => reason,
        Ok(end) = codex.wait() => {
            let how = match end {
                ProcessEnd::Code(code) => format!("Codex ended by itself with code {code}"),
                ProcessEnd::Signal(_) if container.memory_kills() > 0 => container.memory_limit_reached(),
                ProcessEnd::Signal(signal) => format!("Codex was ended by signal {signal}"),
            };
            EndReason::lost(container.with_last_words(how).await)
        }
    }
}

async fn stopped(stop: &mut watch::Receiver<Option<StopOrder>>) -> EndReason {
    let order = stop.wait_for(Option::is_some).await.map(|order| *order);
    match order {
        Ok(Some(StopOrder {
            by: StoppedBy::Caller, ..
        })) => EndReason::Stopped,
        Ok(Some(StopOrder {
            by: StoppedBy::Starter, ..
        })) => EndReason::GivenUp,
        Ok(_) => EndReason::ServerEnded,
        // Never: the list has a handle as long as this runs.
        Err(_) => std::future::pending().await,
    }
}

/// Resolves when the end is to skip its graces.
pub(super) async fn hurried(stop: &mut watch::Receiver<Option<StopOrder>>) {
    let at_once = |order: &Option<StopOrder>| order.is_some_and(|order| order.urgency == Urgency::Immediate);
    if stop.wait_for(at_once).await.is_err() {
        std::future::pending::<()>().await;
    }
}
