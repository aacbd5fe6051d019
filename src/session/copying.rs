//! How far the copy of a folder is, for whoever waits for the session's start.

use crate::workspace::copy::Progress;
use crate::workspace::snapshot::OnProgress;
use std::ops::ControlFlow;
use tokio::sync::watch;

/// Told by the copy, which never waits for who listens.
#[derive(Debug, Clone)]
pub struct Copying(watch::Sender<Progress>);

impl Copying {
    pub fn watched() -> (Self, watch::Receiver<Progress>) {
        let (sender, receiver) = watch::channel(Progress::default());
        (Self(sender), receiver)
    }

    /// Nobody waits, or nothing is copied.
    pub fn unwatched() -> Self {
        Self::watched().0
    }

    pub(super) fn reporter(&self) -> OnProgress {
        let sender = self.0.clone();
        Box::new(move |now| {
            sender.send_replace(now);
            ControlFlow::Continue(())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn whoever_listens_hears_the_newest() {
        let (copying, mut copied) = Copying::watched();
        let mut report = copying.reporter();
        for files in 1..=3 {
            let now = Progress {
                files,
                ..Progress::default()
            };
            assert_eq!(report(now), ControlFlow::Continue(()));
        }
        copied.changed().await.unwrap();
        assert_eq!(copied.borrow_and_update().files, 3);
        drop((copying, report));
        assert!(copied.changed().await.is_err());
        // Nor does it stop where nobody does.
        assert_eq!(
            Copying::unwatched().reporter()(Progress::default()),
            ControlFlow::Continue(())
        );
    }
}
