//! The thread that counts days: whatever is spent comes to it, and it alone reads and writes the [`Book`].
//!
//! Files block and locks of other servers keep one waiting; no async thread may. What comes at once is written at once, so that a
//! hundred settled requests are one write. What could not be written is kept and written with the next.

use crate::config::quantity::ByteSize;
use crate::config::{DayQuota, Sourced};
use crate::egress::allowance::UsedUp;
use crate::session::quota::book::{Book, Page, Uncounted};
use crate::session::quota::bound::{Ask, DayBounds, DayLeft, Renewal, Spent};
use crate::session::quota::count::{Counts, DayCounts};
use crate::session::quota::{QuotaError, Unstarted};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::oneshot;

/// The least bytes that are written before their time has come.
const LEAST_BATCH: u64 = 1 << 20;
/// Of what is left of a day, the part that is written before its time has come: the nearer the end, the more often, because other
/// servers spend of the same.
const BATCHES: u64 = 64;
/// How long bytes may wait, and how often a day that is spent is looked at again.
const EGRESS_WAIT: Duration = Duration::from_secs(1);

type Verdict = Result<(), QuotaError>;

enum Message {
    Admit {
        ask: Ask,
        reply: oneshot::Sender<Verdict>,
    },
    Add(DayCounts),
    TakeBack(DayCounts),
    /// Bytes wait in [`Bytes`].
    Bytes,
    Look(oneshot::Sender<Option<DayLeft>>),
    /// All that came before is written when this is answered.
    Flush(oneshot::Sender<()>),
    End,
}

/// Where the thread is told; clones are of one thread, which ends with the last of them.
#[derive(Debug, Clone)]
pub struct Keeper(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    messages: Sender<Message>,
    bytes: Arc<Mutex<Bytes>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// Bytes of connections: counted here with every buffer that moves, and written from time to time.
#[derive(Debug)]
struct Bytes {
    limit: Option<Sourced<ByteSize>>,
    /// Not written yet.
    pending: u64,
    /// Of the limit, by what was last read: without what is pending.
    left: u64,
    /// By what was last read.
    renews: String,
}

impl Bytes {
    fn spent(&self) -> Option<UsedUp> {
        let limit = self.limit.as_ref()?;
        (self.pending >= self.left).then(|| UsedUp {
            limit: limit.clone(),
            renews: self.renews.clone(),
        })
    }

    /// How many are written without waiting any longer.
    fn batch(&self) -> u64 {
        match self.limit {
            Some(_) => (self.left / BATCHES).max(LEAST_BATCH),
            // Nobody is kept from anything by a count that is a second old.
            None => u64::MAX,
        }
    }

    fn is_overspent(&self) -> bool {
        self.limit.is_some() && self.pending > self.left
    }
}

impl Keeper {
    /// Reads the day's count once before it returns, so that the first byte is measured against it. Blocks.
    ///
    /// `clock` says the time since 1970.
    pub fn start(
        book: Book,
        quota: &DayQuota,
        clock: impl Fn() -> Duration + Send + 'static,
    ) -> Result<Self, Unstarted> {
        let bytes = Arc::new(Mutex::new(Bytes {
            limit: quota.spendable.egress.clone(),
            pending: 0,
            // Until the count is known there is nothing to give away.
            left: 0,
            renews: String::new(),
        }));
        let (messages, inbox) = mpsc::channel();
        let mut desk = Desk {
            book,
            bounds: quota.into(),
            clock: Box::new(clock),
            bytes: Arc::clone(&bytes),
            unwritten: Delta::default(),
            warned: false,
        };
        desk.write(Vec::new());
        let thread = std::thread::Builder::new()
            .name("quota".to_owned())
            .spawn(move || desk.run(&inbox))
            .map_err(Unstarted)?;
        Ok(Self(Arc::new(Inner {
            messages,
            bytes,
            thread: Mutex::new(Some(thread)),
        })))
    }

    /// Counts one of what is asked for, where the day has it left.
    pub async fn admit(&self, ask: Ask) -> Verdict {
        let (reply, verdict) = oneshot::channel();
        // The thread is gone only after the end of the server was asked for.
        let ended = || QuotaError::Uncounted(Arc::new(Uncounted::Ended));
        self.send(Message::Admit { ask, reply });
        verdict.await.unwrap_or_else(|_| Err(ended()))
    }

    pub fn add(&self, counts: Counts) {
        if counts != Counts::default() {
            self.send(Message::Add(DayCounts { sessions: 0, counts }));
        }
    }

    /// What was admitted and did not happen.
    pub fn take_back(&self, ask: Ask) {
        self.send(Message::TakeBack(ask.cost()));
    }

    /// Counts bytes that moved. Err: more than there were.
    pub fn moved(&self, more: u64) -> Result<(), UsedUp> {
        let mut bytes = locked(&self.0.bytes);
        let before = bytes.pending;
        bytes.pending = before.saturating_add(more);
        // The first starts the thread's timer, the batch is written without waiting for it.
        let crosses = |mark: u64| before < mark && bytes.pending >= mark;
        let tell = crosses(1) || crosses(bytes.batch());
        let spent = bytes.is_overspent().then(|| bytes.spent()).flatten();
        drop(bytes);
        if tell {
            self.send(Message::Bytes);
        }
        spent.map_or(Ok(()), Err)
    }

    /// Whether any byte may be moved.
    pub fn may_move(&self) -> Result<(), UsedUp> {
        locked(&self.0.bytes).spent().map_or(Ok(()), Err)
    }

    /// `None`: nothing is bounded.
    pub async fn left(&self) -> Option<DayLeft> {
        let (reply, left) = oneshot::channel();
        self.send(Message::Look(reply));
        left.await.ok().flatten()
    }

    /// Returns when all that was counted before is written.
    pub async fn flush(&self) {
        let (reply, written) = oneshot::channel();
        self.send(Message::Flush(reply));
        // Only an ended thread drops it, and that has written.
        let _ = written.await;
    }

    fn send(&self, message: Message) {
        // Fails after the end alone, when nothing is counted any more.
        let _ = self.0.messages.send(message);
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        let _ = self.messages.send(Message::End);
        // What was counted is on the disk before the process may end.
        if let Some(thread) = locked(&self.thread).take() {
            let _ = thread.join();
        }
    }
}

/// Plain numbers, whole at every point where a holder could panic.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What is to be added to a day and taken from it.
#[derive(Debug, Clone, Copy, Default)]
struct Delta {
    plus: DayCounts,
    minus: DayCounts,
}

impl Delta {
    fn apply(&self, counts: DayCounts) -> DayCounts {
        counts.plus(self.plus).minus(self.minus)
    }
}

/// The thread's own.
struct Desk {
    book: Book,
    bounds: DayBounds,
    clock: Box<dyn Fn() -> Duration + Send>,
    bytes: Arc<Mutex<Bytes>>,
    unwritten: Delta,
    /// Whether the operator was told that nothing can be counted; again when it could in between.
    warned: bool,
}

/// Of what is bounded.
struct Asked {
    ask: Ask,
    reply: oneshot::Sender<Verdict>,
}

/// What came at once.
#[derive(Default)]
struct Batch {
    asked: Vec<Asked>,
    looks: Vec<oneshot::Sender<Option<DayLeft>>>,
    flushes: Vec<oneshot::Sender<()>>,
    /// Whether it is written now; a few bytes may wait.
    due: bool,
    ends: bool,
}

impl Desk {
    fn run(mut self, inbox: &Receiver<Message>) {
        loop {
            let first = self.wait(inbox);
            let batch = self.take(first, inbox);
            if batch.due {
                let page = self.write(batch.asked);
                let left = page.and_then(|page| self.bounds.left(&page.counts, page.day.next()));
                for look in batch.looks {
                    let _ = look.send(left.clone());
                }
                for flush in batch.flushes {
                    let _ = flush.send(());
                }
            }
            if batch.ends {
                return;
            }
        }
    }

    fn take(&mut self, first: Option<Message>, inbox: &Receiver<Message>) -> Batch {
        let mut batch = Batch {
            due: first.is_none(),
            ..Batch::default()
        };
        let mut next = first;
        while let Some(message) = next {
            batch.due |= !matches!(message, Message::Bytes);
            match message {
                Message::Admit { ask, reply } if ask.is_bounded(&self.bounds) => {
                    batch.asked.push(Asked { ask, reply });
                }
                // Whatever the count is and wherever it is: nobody waits for a file.
                Message::Admit { ask, reply } => {
                    if reply.send(Ok(())).is_ok() {
                        self.unwritten.plus = self.unwritten.plus.plus(ask.cost());
                    }
                }
                Message::Add(counts) => self.unwritten.plus = self.unwritten.plus.plus(counts),
                Message::TakeBack(counts) => self.unwritten.minus = self.unwritten.minus.plus(counts),
                Message::Bytes => {
                    let bytes = locked(&self.bytes);
                    batch.due |= bytes.pending >= bytes.batch();
                }
                Message::Look(reply) => batch.looks.push(reply),
                Message::Flush(reply) => batch.flushes.push(reply),
                Message::End => batch.ends = true,
            }
            next = inbox.try_recv().ok();
        }
        batch
    }

    /// `None`: bytes have waited for long enough, or it is time to see whether a spent day is over.
    fn wait(&self, inbox: &Receiver<Message>) -> Option<Message> {
        let waits = {
            let bytes = locked(&self.bytes);
            bytes.pending > 0 || bytes.spent().is_some()
        };
        if !waits {
            return Some(inbox.recv().unwrap_or(Message::End));
        }
        match inbox.recv_timeout(EGRESS_WAIT) {
            Ok(message) => Some(message),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => Some(Message::End),
        }
    }

    /// Writes what is unwritten, decides what is asked, and answers when that is written as well.
    fn write(&mut self, asked: Vec<Asked>) -> Option<Page> {
        let moved = locked(&self.bytes).pending;
        let mut delta = self.unwritten;
        delta.plus.counts.egress_bytes = delta.plus.counts.egress_bytes.saturating_add(moved);
        let mut verdicts = Vec::with_capacity(asked.len());
        let updated = self.book.update((self.clock)(), |page| {
            page.counts = delta.apply(page.counts);
            verdicts.extend(asked.iter().map(|asked| decide(asked.ask, &self.bounds, page)));
        });
        match updated {
            Ok(page) => {
                self.unwritten = Delta::default();
                self.warned = false;
                self.read(&page, moved);
                for (asked, verdict) in asked.into_iter().zip(verdicts) {
                    self.answer(asked, verdict);
                }
                Some(page)
            }
            Err(error) => {
                self.uncounted(asked, error);
                None
            }
        }
    }

    /// `moved` bytes are written now.
    fn read(&self, page: &Page, moved: u64) {
        let mut bytes = locked(&self.bytes);
        bytes.pending = bytes.pending.saturating_sub(moved);
        bytes.renews = page.day.next().begins();
        bytes.left = match &bytes.limit {
            // How much of it is spent nobody knows.
            Some(_) if page.damaged.is_some() => 0,
            Some(limit) => limit.value.bytes().saturating_sub(page.counts.counts.egress_bytes),
            None => u64::MAX,
        };
    }

    /// What nobody waits for any more did not happen.
    fn answer(&mut self, asked: Asked, verdict: Verdict) {
        let counted = verdict.is_ok();
        if asked.reply.send(verdict).is_err() && counted {
            self.unwritten.minus = self.unwritten.minus.plus(asked.ask.cost());
        }
    }

    /// Nothing was written: what is bounded is refused, and the rest is counted when it can be again.
    fn uncounted(&mut self, asked: Vec<Asked>, error: Uncounted) {
        if !self.warned {
            tracing::warn!(%error, "what is spent can't be counted");
            self.warned = true;
        }
        let error = Arc::new(error);
        for Asked { reply, .. } in asked {
            let _ = reply.send(Err(QuotaError::Uncounted(Arc::clone(&error))));
        }
    }
}

fn decide(ask: Ask, bounds: &DayBounds, page: &mut Page) -> Verdict {
    let renews = page.day.next();
    if let Some(path) = page.damaged.clone() {
        let renews = renews.begins();
        return Err(QuotaError::Uncounted(Arc::new(Uncounted::Damaged { path, renews })));
    }
    if let Some(met) = ask.meets(bounds, &page.counts) {
        let renewal = Renewal {
            day: renews,
            ahead: page.ahead.clone(),
        };
        return Err(QuotaError::Spent(Box::new(Spent::of_day(met, renewal))));
    }
    page.counts = page.counts.plus(ask.cost());
    Ok(())
}
