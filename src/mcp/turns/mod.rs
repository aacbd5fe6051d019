//! Turns that were asked for: each runs as a task of its own, whoever waits for it.
//!
//! A call that gives up waiting (it was told not to, its time is over, its client went away for good) leaves the turn at work;
//! what it says meanwhile and how it ends are kept here, bounded, until they are asked for. It must never hold a container or a
//! file: those are the session's, and a thread that is not known here may well be on record.
//!
//! - [`follow`]: waits for one on behalf of a call, and tells its client of it meanwhile.
//! - [`log`]: what happened in a thread since a cursor; pure.
//! - [`questions`]: what Codex asks meanwhile, until somebody answers.
//! - [`work`]: one turn, from the first look for its container to its result.

pub mod follow;
pub mod log;
pub mod questions;
pub mod work;

use crate::codex::event::{Decision, ThreadId};
use crate::config::McpSettings;
use crate::config::identity::IdentityName;
use crate::config::mcp::Unasked;
use crate::mcp::agent::Agent;
use crate::mcp::asking::{Answered, Sealer};
use crate::mcp::result;
use crate::mcp::turns::log::Log;
use crate::mcp::turns::questions::Current;
use crate::mcp::turns::work::{Asking, Begun, Work};
use crate::session::asked::Asked;
use rmcp::model::{CallToolResponse, CallToolResult};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{broadcast, watch};
use tokio_util::sync::CancellationToken;

/// The most threads whose log and last result are kept. Of those at work none is ever forgotten.
const MOST_THREADS: usize = 256;

/// The most turns of one thread that have not ended, and of one identity's together.
const MOST_OF_A_THREAD: usize = 16;
const MOST_TURNS: usize = 256;

/// Changes that wait for a slow listener; what it misses it finds by looking.
const CHANGES: usize = 256;

/// The turns of one server, for all of its clients.
pub struct Turns<A> {
    pub agent: A,
    /// The server ends.
    pub ending: CancellationToken,
    pub settings: Settings,
    pub sealer: Arc<Sealer>,
    /// Whose these are; `None`: the user's of this machine.
    identity: Option<IdentityName>,
    board: Arc<Board>,
    /// One for each identity that came: what is on one, no other ever sees.
    boards: Arc<Mutex<HashMap<Option<IdentityName>, Arc<Board>>>>,
    epoch: u32,
}

/// What the operator set (`[mcp]`).
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// The longest that a call waits for its turn.
    pub block: Duration,
    /// How long an answer to what Codex asks is waited for.
    pub ask: Duration,
    /// The answer where no user can be asked, or none answers.
    pub unasked: Decision,
}

impl From<&McpSettings> for Settings {
    fn from(settings: &McpSettings) -> Self {
        Self {
            block: settings.block.value,
            ask: settings.ask.value,
            unasked: match settings.approvals.value {
                Unasked::Decline => Decision::Declined,
                Unasked::Accept => Decision::Accepted,
            },
        }
    }
}

impl<A: Clone> Clone for Turns<A> {
    fn clone(&self) -> Self {
        Self {
            agent: self.agent.clone(),
            ending: self.ending.clone(),
            settings: self.settings,
            sealer: Arc::clone(&self.sealer),
            identity: self.identity.clone(),
            boards: Arc::clone(&self.boards),
            epoch: self.epoch,
            board: Arc::clone(&self.board),
        }
    }
}

/// What is known of each thread.
#[derive(Debug)]
pub(super) struct Board {
    threads: Mutex<Threads>,
    /// Changes with everything that happens in a thread: whoever waits looks again.
    changed: watch::Sender<()>,
    /// Says which thread it was, for whoever reads of it.
    which: broadcast::Sender<ThreadId>,
}

#[derive(Debug)]
struct Threads {
    /// Of this server's logs.
    epoch: u32,
    known: HashMap<ThreadId, Known>,
    /// Counts up with each change; orders threads by their last one.
    clock: u64,
}

#[derive(Debug)]
struct Known {
    log: Log,
    /// Turns that have not ended, in the order in which they were asked for.
    under_way: Vec<Work>,
    last: Option<Arc<CallToolResult>>,
    changed_at: u64,
}

/// A thread as it is known here now.
#[derive(Debug, Clone)]
pub struct Seen {
    /// What happened since the cursor, oldest first.
    pub lines: Vec<String>,
    /// How many lines before them are no longer kept.
    pub lost: u64,
    /// From where the next look goes on.
    pub cursor: log::Cursor,
    /// Turns that have not ended; the first is the one that runs.
    pub under_way: usize,
    /// How the last turn that ended did.
    pub last: Option<Arc<CallToolResult>>,
}

impl<A: Clone> Turns<A> {
    /// # Errors
    /// Where there are no random bytes to be had.
    pub fn new(agent: A, ending: CancellationToken, settings: Settings) -> Result<Self, getrandom::Error> {
        // Another in each server: a cursor of one means nothing in the next.
        let epoch = getrandom::u32()?;
        let board = Arc::new(Board::new(epoch));
        Ok(Self {
            agent,
            ending,
            settings,
            sealer: Arc::new(Sealer::new()?),
            identity: None,
            boards: Arc::new(Mutex::new(HashMap::from([(None, Arc::clone(&board))]))),
            board,
            epoch,
        })
    }

    /// The turns of one identity; there are no more of them than tokens.
    pub fn of(&self, identity: Option<&IdentityName>) -> Self {
        let board = {
            // The map is whole at every point where a holder could panic.
            let mut boards = self.boards.lock().unwrap_or_else(PoisonError::into_inner);
            let board = boards.entry(identity.cloned());
            Arc::clone(board.or_insert_with(|| Arc::new(Board::new(self.epoch))))
        };
        Self {
            identity: identity.cloned(),
            board,
            ..self.clone()
        }
    }

    pub fn identity(&self) -> Option<&IdentityName> {
        self.identity.as_ref()
    }
}

impl<A: Agent> Turns<A> {
    /// Begins a turn. It goes on when what is returned is dropped.
    pub fn begin(&self, asking: Asking, asked: Asked) -> Begun {
        let (begun, task) = work::prepare(
            self.agent.clone(),
            asking,
            asked,
            self.ending.clone(),
            self.settings,
            &self.board,
        );
        tokio::spawn(task);
        begun
    }
}

impl<A> Turns<A> {
    /// `None`: this server has heard nothing of it.
    pub fn look(&self, thread: &ThreadId, since: Option<log::Cursor>) -> Option<Seen> {
        self.board.look(thread, since)
    }

    /// Joins whoever waits for the turn of a thread that runs now.
    pub fn attend(&self, thread: &ThreadId) -> Option<Begun> {
        let threads = self.board.lock();
        threads.known.get(thread)?.under_way.first().map(Work::joined)
    }

    /// Hands an answer to the turn that asked. `None`: that turn is not under way any more, and no other is answered.
    pub fn answer(&self, answered: &Answered) -> Option<Begun> {
        let threads = self.board.lock();
        let mut works = threads.known.get(&answered.thread)?.under_way.iter();
        let begun = works.find(|work| work.questions().turn() == answered.turn)?.joined();
        drop(threads);
        begun.work.questions().answer(answered.number, answered.decision);
        Some(begun)
    }

    /// Whether one more turn may be asked for: each holds its prompt while it waits.
    pub fn has_room(&self, thread: Option<&ThreadId>) -> bool {
        let threads = self.board.lock();
        let waiting = |known: &Known| known.under_way.len();
        let of_thread = thread.and_then(|thread| threads.known.get(thread)).map_or(0, waiting);
        of_thread < MOST_OF_A_THREAD && threads.known.values().map(waiting).sum::<usize>() < MOST_TURNS
    }

    /// Has the client ask its user.
    pub fn question(&self, thread: &ThreadId, question: &Current) -> CallToolResponse {
        match self.sealer.question(thread, question) {
            Some(asks) => asks.into(),
            None => result::goes_on(thread).into(),
        }
    }

    /// How the last turn of a thread ended, for a call that comes too late for the turn itself.
    pub fn last_of(&self, thread: &ThreadId) -> CallToolResult {
        let last = self.board.look(thread, None).and_then(|seen| seen.last);
        last.map_or_else(|| result::unknown_thread(thread), |last| CallToolResult::clone(&last))
    }

    /// Waits until no turn of the thread is under way any more.
    pub async fn until_idle(&self, thread: &ThreadId) {
        let mut changed = self.board.changed.subscribe();
        while self.board.is_busy(thread) {
            if changed.changed().await.is_err() {
                return;
            }
        }
    }

    pub fn is_busy(&self, thread: &ThreadId) -> bool {
        self.board.is_busy(thread)
    }

    /// Interrupts every turn of the thread that has not ended; says how many those were.
    pub fn interrupt(&self, thread: &ThreadId) -> usize {
        let works = self.board.lock().known.get(thread).map(|known| known.under_way.clone());
        let works = works.unwrap_or_default();
        works.iter().for_each(Work::cancel);
        works.len()
    }

    /// Hears of every thread in which something happens.
    pub fn changes(&self) -> broadcast::Receiver<ThreadId> {
        self.board.which.subscribe()
    }

    /// Forgets a thread that is no more.
    pub fn forget(&self, thread: &ThreadId) {
        self.board.lock().known.remove(thread);
    }
}

impl Board {
    fn new(epoch: u32) -> Self {
        Self {
            threads: Mutex::new(Threads {
                epoch,
                known: HashMap::new(),
                clock: 0,
            }),
            changed: watch::Sender::new(()),
            which: broadcast::Sender::new(CHANGES),
        }
    }

    /// A turn has its thread.
    fn took_up(&self, thread: &ThreadId, work: &Work) {
        self.change(thread, |known| {
            if !known.under_way.iter().any(|other| other.is_same(work)) {
                known.under_way.push(work.clone());
            }
        });
    }

    fn note(&self, thread: &ThreadId, line: String) {
        self.change(thread, |known| known.log.push(line));
    }

    fn ended(&self, thread: &ThreadId, work: &Work, result: &Arc<CallToolResult>) {
        self.change(thread, |known| {
            known.under_way.retain(|other| !other.is_same(work));
            known.last = Some(Arc::clone(result));
        });
    }

    fn change(&self, thread: &ThreadId, change: impl FnOnce(&mut Known)) {
        {
            let mut threads = self.lock();
            threads.clock += 1;
            let clock = threads.clock;
            let epoch = threads.epoch;
            let known = threads.known.entry(thread.clone()).or_insert_with(|| Known {
                log: Log::new(epoch),
                under_way: Vec::new(),
                last: None,
                changed_at: clock,
            });
            known.changed_at = clock;
            change(known);
            threads.make_room();
        }
        self.changed.send_replace(());
        // Nobody may be listening.
        let _ = self.which.send(thread.clone());
    }

    fn look(&self, thread: &ThreadId, since: Option<log::Cursor>) -> Option<Seen> {
        let threads = self.lock();
        let known = threads.known.get(thread)?;
        let log::Since { lines, lost, cursor } = known.log.since(since);
        Some(Seen {
            lines,
            lost,
            cursor,
            under_way: known.under_way.len(),
            last: known.last.clone(),
        })
    }

    fn is_busy(&self, thread: &ThreadId) -> bool {
        let threads = self.lock();
        threads
            .known
            .get(thread)
            .is_some_and(|known| !known.under_way.is_empty())
    }

    fn lock(&self) -> MutexGuard<'_, Threads> {
        // The map is whole at every point where a holder could panic.
        self.threads.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Threads {
    fn make_room(&mut self) {
        while self.known.len() > MOST_THREADS {
            let idle = self.known.iter().filter(|(_, known)| known.under_way.is_empty());
            let Some(oldest) = idle
                .min_by_key(|(_, known)| known.changed_at)
                .map(|(thread, _)| thread.clone())
            else {
                return;
            };
            self.known.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn thread(number: usize) -> ThreadId {
        ThreadId::parse(&format!("thread-{number}")).expect("an id")
    }

    #[test]
    fn the_threads_that_rest_longest_are_forgotten_and_none_at_work() {
        let board = Board::new(7);
        let (busy, _) = Work::idle();
        board.took_up(&thread(0), &busy);
        for number in 1..=MOST_THREADS {
            board.note(&thread(number), "a line".to_owned());
        }
        assert!(board.is_busy(&thread(0)));
        assert!(board.look(&thread(1), None).is_none());
        assert!(board.look(&thread(2), None).is_some());
        assert!(board.look(&thread(MOST_THREADS), None).is_some());
    }

    #[test]
    fn what_is_on_ones_board_no_other_identity_sees() {
        let identities: [IdentityName; 2] = ["ci", "other"].map(|name| name.parse().expect("a name"));
        let turns = Turns::new((), CancellationToken::new(), Settings::from_seconds(1)).expect("random bytes");
        let [mine, theirs] = identities.map(|identity| turns.of(Some(&identity)));
        let (work, _) = Work::idle();
        mine.board.took_up(&thread(1), &work);
        assert!(mine.is_busy(&thread(1)));
        assert!(mine.of(mine.identity()).attend(&thread(1)).is_some());
        for other in [&theirs, &turns] {
            assert!(!other.is_busy(&thread(1)));
            assert!(other.look(&thread(1), None).is_none());
            assert_eq!(other.interrupt(&thread(1)), 0);
        }
    }

    impl Settings {
        fn from_seconds(seconds: u64) -> Self {
            Self {
                block: Duration::from_secs(seconds),
                ask: Duration::from_secs(seconds),
                unasked: Decision::Declined,
            }
        }
    }

    #[test]
    fn a_thread_is_at_work_until_its_last_turn_has_ended() {
        let board = Board::new(7);
        let works = [Work::idle().0, Work::idle().0];
        for work in &works {
            board.took_up(&thread(1), work);
            board.took_up(&thread(1), work);
        }
        let result = Arc::new(CallToolResult::default());
        board.ended(&thread(1), &works[0], &result);
        let seen = board.look(&thread(1), None).expect("known");
        assert_eq!((seen.under_way, board.is_busy(&thread(1))), (1, true));
        board.ended(&thread(1), &works[1], &result);
        assert!(!board.is_busy(&thread(1)));
        assert!(board.look(&thread(1), None).expect("known").last.is_some());
    }
}
