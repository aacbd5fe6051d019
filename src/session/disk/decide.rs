//! When a session's folders are counted, and when what was found ends it. Pure: time, file system and counts come as
//! arguments.
//!
//! Looking at a file system costs nothing, counting what lies in a folder does. So a count waits until the file system has
//! lost as much as the session may still write: before that it can't be over its limit, whoever wrote. Where others free
//! space meanwhile nothing of that is seen, so there is a count every [`FLOOR`] in any case.
//!
//! What this bounds, for a session that writes at most `v` bytes a second and whose folders take at most `d` to count:
//! once over its limit it is told so within [`SLOWEST_LOOK`] + 12 `d`, so it is over by no more than `v` times that; where
//! others free space as fast as it writes, within [`FLOOR`] + [`SLOWEST_LOOK`] + 12 `d`. The same goes for files. Counting
//! takes no more than a tenth of the time, and half of it while the host is short of space.
//!
//! What no count shows is space that the session holds in deleted files, or has moved from where the count had not been
//! to where it had. It is bounded by the host's free space alone, see [`Finding::Unexplained`].

use std::path::PathBuf;
use std::time::Duration;

/// Between two looks at the file system, depending on how much is left.
pub const FASTEST_LOOK: Duration = Duration::from_millis(250);
pub const SLOWEST_LOOK: Duration = Duration::from_secs(1);
/// The longest time without a count.
pub const FLOOR: Duration = Duration::from_secs(60);
/// What is left is looked at again before a writer as fast as these could have used it up, per second.
const FAST_BYTES: u64 = 4 << 30;
const FAST_ENTRIES: u64 = 400_000;
/// After a count, this many times its duration passes without one.
const REST: u32 = 10;
/// A session that has grown by less is not what uses up a disk: Codex's own databases come to this.
const NOTICEABLE: u64 = 16 << 20;

/// What lies in the session's folders, or what was added to those of which only growth counts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Bytes that are allocated (`st_blocks`), a file of several names once.
    pub bytes: u64,
    /// Names of files, directories and everything else.
    pub entries: u64,
}

/// What a count found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tally {
    pub usage: Usage,
    /// A directory that could not be entered, so that there may be more than `usage`.
    pub hidden: Option<PathBuf>,
}

/// What is free where the folders lie.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Room {
    /// Bytes, all those file systems together.
    pub free: u64,
    /// Inodes, all that count them together.
    pub inodes: u64,
    /// Bytes of the one that has fewest.
    pub least: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    pub bytes: u64,
    pub entries: u64,
    /// Bytes that must stay free on every file system.
    pub reserve: u64,
}

/// What ends a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finding {
    Bytes {
        found: u64,
        hidden: Option<PathBuf>,
    },
    Entries {
        hidden: Option<PathBuf>,
    },
    /// The host is short of space, and this session has grown.
    Short {
        free: u64,
        grown: u64,
    },
    /// The host has less than half of what must stay free and has lost it while this session ran, though its folders don't
    /// show by what. It may hold deleted files open, which nothing but this would stop. An innocent session is stopped as
    /// well; it could not have written for much longer.
    Unexplained {
        free: u64,
        lost: u64,
    },
}

#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub enum Next {
    /// Look at the file system after this time.
    Look(Duration),
    Count,
    Stop(Finding),
}

/// A count: what it found, and the file system from before it began.
#[derive(Debug, Clone)]
struct Point {
    usage: Usage,
    room: Room,
}

#[derive(Debug)]
pub struct Decision {
    bounds: Bounds,
    first: Point,
    last: Point,
    /// The last count that nothing was hidden from.
    whole: Point,
    hidden: Option<PathBuf>,
    ended: Duration,
    took: Duration,
}

impl Decision {
    /// With the first count, which ended at `now`, on any clock that goes on. `room` is from before it.
    pub fn new(bounds: Bounds, now: Duration, took: Duration, room: Room, tally: Tally) -> (Self, Next) {
        let first = Point {
            usage: tally.usage,
            room,
        };
        let decision = Self {
            bounds,
            last: first.clone(),
            whole: first.clone(),
            first,
            hidden: tally.hidden,
            ended: now,
            took,
        };
        let next = decision.judge(room).map_or_else(|| decision.pause(room), Next::Stop);
        (decision, next)
    }

    /// As of the last count.
    pub fn usage(&self) -> Usage {
        self.last.usage
    }

    /// A count ended at `now`; `room` is from before it began, so that what was written meanwhile is part of the next fall.
    pub fn counted(&mut self, now: Duration, took: Duration, room: Room, tally: Tally) -> Next {
        let usage = match tally.hidden {
            None => tally.usage,
            // What can't be seen is taken to be all that the file system has lost since everything could.
            Some(_) => Usage {
                bytes: tally.usage.bytes.max(self.whole.grown_bytes(room)),
                entries: tally.usage.entries.max(self.whole.grown_entries(room)),
            },
        };
        self.last = Point { usage, room };
        if tally.hidden.is_none() {
            self.whole = self.last.clone();
        }
        self.hidden = tally.hidden;
        (self.ended, self.took) = (now, took);
        self.judge(room).map_or_else(|| self.pause(room), Next::Stop)
    }

    /// The file system as it is `now`.
    pub fn looked(&self, now: Duration, room: Room) -> Next {
        let since = now.saturating_sub(self.ended);
        let fall = self.last.fall(room);
        if room.least < self.bounds.reserve {
            // A fresh count gives the better reason, if there is time for one.
            let fell = fall.bytes > 0 || fall.entries > 0;
            if self.grown() < NOTICEABLE && fell && since >= self.took {
                return Next::Count;
            }
            if let Some(finding) = self.judge(room) {
                return Next::Stop(finding);
            }
        }
        let left = self.left();
        let due = fall.bytes >= left.bytes.max(1) || fall.entries >= left.entries.max(1) || since >= FLOOR;
        match due && since >= self.took * REST {
            true => Next::Count,
            false => self.pause(room),
        }
    }

    fn judge(&self, room: Room) -> Option<Finding> {
        let Usage { bytes, entries } = self.last.usage;
        let (free, reserve) = (room.least, self.bounds.reserve);
        let (grown, lost) = (self.grown(), self.first.fall(room).bytes);
        if bytes > self.bounds.bytes {
            return Some(Finding::Bytes {
                found: bytes,
                hidden: self.hidden.clone(),
            });
        }
        if entries > self.bounds.entries {
            return Some(Finding::Entries {
                hidden: self.hidden.clone(),
            });
        }
        if free < reserve && grown >= NOTICEABLE {
            return Some(Finding::Short { free, grown });
        }
        (free < reserve / 2 && lost >= NOTICEABLE).then_some(Finding::Unexplained { free, lost })
    }

    /// Until the next look: before a fast writer could have used up what is left.
    fn pause(&self, room: Room) -> Next {
        let (left, fall) = (self.left(), self.last.fall(room));
        let bytes = left
            .bytes
            .saturating_sub(fall.bytes)
            .min(room.least.saturating_sub(self.bounds.reserve));
        let entries = left.entries.saturating_sub(fall.entries);
        let millis = (bytes / (FAST_BYTES / 1000)).min(entries / (FAST_ENTRIES / 1000));
        Next::Look(Duration::from_millis(millis).clamp(FASTEST_LOOK, SLOWEST_LOOK))
    }

    fn left(&self) -> Usage {
        Usage {
            bytes: self.bounds.bytes.saturating_sub(self.last.usage.bytes),
            entries: self.bounds.entries.saturating_sub(self.last.usage.entries),
        }
    }

    /// Bytes since the first count.
    fn grown(&self) -> u64 {
        self.last.usage.bytes.saturating_sub(self.first.usage.bytes)
    }
}

impl Point {
    /// What the file systems have lost since, whoever took it.
    fn fall(&self, now: Room) -> Usage {
        Usage {
            bytes: self.room.free.saturating_sub(now.free),
            entries: self.room.inodes.saturating_sub(now.inodes),
        }
    }

    fn grown_bytes(&self, now: Room) -> u64 {
        self.usage.bytes.saturating_add(self.fall(now).bytes)
    }

    fn grown_entries(&self, now: Room) -> u64 {
        self.usage.entries.saturating_add(self.fall(now).entries)
    }
}

#[cfg(test)]
mod tests;
