//! Whether containers are gone, asked of many in one command.
//!
//! An engine's client takes its tenth of a second of a core however many containers it is asked about, and twenty clients at once
//! take turns at podman's locks: at a server's end they would keep each other waiting until nobody waits any longer. So those that
//! are asked about while a command runs go together into the next one.
//!
//! It must never answer by a command that began before the question: it would say nothing about a client that ended since.

use crate::plan::identity::ContainerName;
use crate::supervise::ladder::CommandEnd;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::oneshot;

#[derive(Debug, Clone, Default)]
pub struct Confirmations(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    /// Asked about and in no command yet.
    waiting: Mutex<Vec<(ContainerName, oneshot::Sender<CommandEnd>)>>,
    /// Held by the command that runs.
    turn: tokio::sync::Mutex<()>,
}

impl Confirmations {
    /// `remove` removes what is left of containers, and fails where one may remain. Of the callers that wait for one command,
    /// only one's is called. A caller that gives up takes nothing from the others.
    pub async fn ask<F>(
        &self,
        name: ContainerName,
        remove: impl FnOnce(Vec<ContainerName>) -> F + Send + 'static,
    ) -> CommandEnd
    where
        F: Future<Output = CommandEnd> + Send,
    {
        let (answer, answered) = oneshot::channel();
        self.waiting().push((name, answer));
        let this = self.clone();
        // A task of its own: a caller that is dropped must not take the others' command with it.
        tokio::spawn(async move {
            let _turn = this.0.turn.lock().await;
            let asked = std::mem::take(&mut *this.waiting());
            if asked.is_empty() {
                // An earlier caller's command had this name too.
                return;
            }
            let (names, answers): (Vec<_>, Vec<_>) = asked.into_iter().unzip();
            let end = remove(names).await;
            for answer in answers {
                // Whoever gave up waits for none.
                let _ = answer.send(end);
            }
        });
        // Dropped without an answer only where the runtime ends.
        answered.await.unwrap_or(CommandEnd::Failed)
    }

    fn waiting(&self) -> MutexGuard<'_, Vec<(ContainerName, oneshot::Sender<CommandEnd>)>> {
        // The list is whole at every point where a holder could panic.
        self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::identity::SessionId;
    use std::time::Duration;
    use tokio::sync::mpsc;

    fn name(nth: u8) -> ContainerName {
        SessionId::from_random([nth; 10]).container_name()
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_asks_while_a_command_runs_goes_into_the_next_together() {
        let confirmations = Confirmations::default();
        let (ran, mut commands) = mpsc::unbounded_channel();
        let mut asking = tokio::task::JoinSet::new();
        for nth in 0..20 {
            let (confirmations, ran) = (confirmations.clone(), ran.clone());
            asking.spawn(async move {
                tokio::time::sleep(Duration::from_millis(u64::from(nth))).await;
                let remove = |names: Vec<ContainerName>| async move {
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    let _ = ran.send(names);
                    CommandEnd::Succeeded
                };
                confirmations.ask(name(nth), remove).await
            });
        }
        assert!(
            asking
                .join_all()
                .await
                .into_iter()
                .all(|end| end == CommandEnd::Succeeded)
        );
        drop(ran);
        assert_eq!(commands.recv().await.unwrap(), [name(0)]);
        assert_eq!(commands.recv().await.unwrap(), (1..20).map(name).collect::<Vec<_>>());
        assert_eq!(commands.recv().await, None, "two commands for all of them");
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_gives_up_leaves_the_others_their_answer() {
        let confirmations = Confirmations::default();
        let slowly = |_| async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            CommandEnd::Failed
        };
        let first = tokio::time::timeout(Duration::from_millis(10), confirmations.ask(name(1), slowly));
        let (first, second) = tokio::join!(first, confirmations.ask(name(2), slowly));
        assert!(first.is_err());
        assert_eq!(second, CommandEnd::Failed);
    }
}
