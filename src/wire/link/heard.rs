//! What the guest said on the control stream, kept for whoever waits for it: ends of processes, and figures.
//!
//! Bounded by what the host asked: a guest that says more of it makes nothing grow.

use crate::wire::contract::{Figures, ProcessEnd, ProcessNumber};
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::{oneshot, watch};

/// Who waits for the end of which process.
#[derive(Debug, Default)]
pub struct Processes(Mutex<HashMap<ProcessNumber, oneshot::Sender<ProcessEnd>>>);

impl Processes {
    /// `None` where the number is in use.
    pub fn register(&self, process: ProcessNumber) -> Option<oneshot::Receiver<ProcessEnd>> {
        let (sender, receiver) = oneshot::channel();
        let mut running = self.lock();
        if running.contains_key(&process) {
            return None;
        }
        running.insert(process, sender);
        Some(receiver)
    }

    pub fn forget(&self, process: ProcessNumber) -> Option<oneshot::Sender<ProcessEnd>> {
        self.lock().remove(&process)
    }

    pub fn clear(&self) {
        self.lock().clear();
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<ProcessNumber, oneshot::Sender<ProcessEnd>>> {
        // The map is whole at every point where a holder could panic.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where the guest's figures go.
pub struct Told {
    pub figures: watch::Sender<Figures>,
    pub answers: watch::Sender<u64>,
    pub asked: Arc<AtomicU64>,
}

impl Told {
    /// `false` where it answers what was never asked. However often the guest says something, the last is all that is
    /// kept, and whoever waits is woken only by news.
    pub fn take(&self, figures: Figures, answers: u64) -> bool {
        if answers > self.asked.load(Ordering::Relaxed) {
            return false;
        }
        self.figures.send_if_modified(|known| {
            let now = known.and(figures);
            std::mem::replace(known, now) != now
        });
        // After the figures: whoever asked reads them once this has come.
        self.answers
            .send_if_modified(|last| std::mem::replace(last, answers.max(*last)) < answers);
        true
    }
}
