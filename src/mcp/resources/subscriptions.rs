//! Tells clients of resources that changed: since 2026-07-28 for as long as they listen, before that once they subscribed.

use crate::codex::event::ThreadId;
use crate::mcp::resources::address::Address;
use rmcp::model::ResourceUpdatedNotificationParam;
use rmcp::service::SubscriptionContext;
use rmcp::{ErrorData, Peer, RoleServer};
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::broadcast;
use tokio_util::sync::CancellationToken;

/// The most resources that one client may subscribe to.
const MOST: usize = 256;
/// A thread at work changes many times a second; its readers hear of it this often.
const EVERY: Duration = Duration::from_secs(1);

/// What one client of before 2026-07-28 subscribed to.
#[derive(Debug, Default)]
pub struct Subscribed {
    state: Shared,
    /// Cancelled when this client's server is gone.
    gone: CancellationToken,
}

#[derive(Debug, Clone, Default)]
struct Shared(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    uris: BTreeSet<String>,
    is_told: bool,
}

impl Subscribed {
    /// From the first one on, the client is told.
    pub fn add(
        &self,
        uri: String,
        peer: Peer<RoleServer>,
        changes: broadcast::Receiver<ThreadId>,
        ending: CancellationToken,
    ) -> Result<(), ErrorData> {
        if Address::parse(&uri).is_none() {
            return Err(ErrorData::resource_not_found("there is no such resource", None));
        }
        let mut state = self.state.lock();
        if state.uris.len() >= MOST && !state.uris.contains(&uri) {
            let refusal = format!("a client may subscribe to {MOST} resources at most: unsubscribe from others");
            return Err(ErrorData::invalid_params(refusal, None));
        }
        state.uris.insert(uri);
        if !std::mem::replace(&mut state.is_told, true) {
            tokio::spawn(tell(self.state.clone(), peer, changes, ending, self.gone.clone()));
        }
        Ok(())
    }

    pub fn remove(&self, uri: &str) {
        self.state.lock().uris.remove(uri);
    }
}

impl Drop for Subscribed {
    fn drop(&mut self) {
        self.gone.cancel();
    }
}

impl Shared {
    fn of(&self, changed: &BTreeSet<ThreadId>) -> Vec<String> {
        affected(self.lock().uris.iter(), changed)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // The set is whole at every point where a holder could panic.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn tell(
    subscribed: Shared,
    peer: Peer<RoleServer>,
    mut changes: broadcast::Receiver<ThreadId>,
    ending: CancellationToken,
    gone: CancellationToken,
) {
    loop {
        let changed = tokio::select! {
            () = ending.cancelled() => return,
            () = gone.cancelled() => return,
            changed = gathered(&mut changes) => changed,
        };
        let Some(changed) = changed else { return };
        for uri in subscribed.of(&changed) {
            let update = ResourceUpdatedNotificationParam::new(uri);
            if peer.notify_resource_updated(update).await.is_err() {
                // The client is gone.
                return;
            }
        }
    }
}

/// Whether somebody may listen to these: what is asked for is held for as long as that lasts.
pub fn may_listen(uris: Option<&Vec<String>>) -> bool {
    uris.is_none_or(|uris| uris.len() <= MOST && uris.iter().all(|uri| Address::parse(uri).is_some()))
}

/// For as long as the client listens.
pub async fn listen(
    context: &SubscriptionContext,
    mut changes: broadcast::Receiver<ThreadId>,
    ending: &CancellationToken,
) -> Result<(), ErrorData> {
    let uris = context.accepted().resource_subscriptions.clone().unwrap_or_default();
    loop {
        let changed = tokio::select! {
            () = ending.cancelled() => return Ok(()),
            () = context.cancelled() => return Ok(()),
            changed = gathered(&mut changes) => changed,
        };
        let Some(changed) = changed else { return Ok(()) };
        for uri in affected(uris.iter(), &changed) {
            if context.sink().notify_resource_updated(uri).await.is_err() {
                return Ok(());
            }
        }
    }
}

/// The threads that changed since, once some did and for a moment after. `None`: none ever will again.
async fn gathered(changes: &mut broadcast::Receiver<ThreadId>) -> Option<BTreeSet<ThreadId>> {
    let mut changed = BTreeSet::new();
    loop {
        match changes.recv().await {
            Ok(thread) => {
                changed.insert(thread);
                break;
            }
            // Those that were missed changed again, or come to rest unseen: the reader's next look finds them.
            Err(broadcast::error::RecvError::Lagged(_)) => {}
            Err(broadcast::error::RecvError::Closed) => return None,
        }
    }
    tokio::time::sleep(EVERY).await;
    loop {
        match changes.try_recv() {
            Ok(thread) => _ = changed.insert(thread),
            Err(broadcast::error::TryRecvError::Lagged(_)) => {}
            Err(_) => return Some(changed),
        }
    }
}

fn affected<'u>(uris: impl Iterator<Item = &'u String>, changed: &BTreeSet<ThreadId>) -> Vec<String> {
    let follows = |uri: &&String| {
        let address = Address::parse(uri);
        address.is_some_and(|address| changed.iter().any(|thread| address.follows(thread)))
    };
    uris.filter(follows).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_listens_to_more_than_is_bounded() {
        let uris = |count: usize| vec!["codex://sessions".to_owned(); count];
        assert!(may_listen(None) && may_listen(Some(&uris(MOST))));
        assert!(!may_listen(Some(&uris(MOST + 1))));
        let long = format!("codex://threads/a/transcript?from={}1", "0".repeat(1 << 20));
        assert!(!may_listen(Some(&vec![long])));
    }

    #[test]
    fn who_reads_of_a_thread_hears_of_that_one() {
        let changed = BTreeSet::from([ThreadId::parse("a").expect("an id")]);
        let uris = [
            "codex://sessions",
            "codex://policy",
            "codex://threads/a/diff",
            "codex://threads/b",
        ]
        .map(str::to_owned);
        assert_eq!(
            affected(uris.iter(), &changed),
            ["codex://sessions", "codex://threads/a/diff"]
        );
    }
}
