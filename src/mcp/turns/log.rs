//! What happened in a thread, line by line, and how a client asks for what came since. Pure.

use std::collections::VecDeque;
use std::fmt;

/// The most lines that are kept; each is at most 200 characters (see [`crate::mcp::progress`]).
const MOST_LINES: usize = 500;
/// The most that one look hands out: the oldest go first, and the next look goes on from there.
pub const MOST_AT_ONCE: usize = 100;

/// A place in a log. It means nothing in the log of another server: that one begins anew, which the epoch tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cursor {
    epoch: u32,
    next: u64,
}

impl Cursor {
    /// `None`: it was not made by [`fmt::Display`].
    pub fn parse(text: &str) -> Option<Self> {
        let (epoch, next) = text.split_once('.')?;
        Some(Self {
            epoch: u32::from_str_radix(epoch, 16).ok()?,
            next: next.parse().ok()?,
        })
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}.{}", self.epoch, self.next)
    }
}

#[derive(Debug)]
pub struct Log {
    epoch: u32,
    lines: VecDeque<String>,
    /// How many lines there were before the first that is kept.
    gone: u64,
}

/// What a look at a log finds.
#[derive(Debug, PartialEq, Eq)]
pub struct Since {
    pub lines: Vec<String>,
    /// Lines before them that nobody has any more.
    pub lost: u64,
    pub cursor: Cursor,
}

impl Log {
    pub fn new(epoch: u32) -> Self {
        Self {
            epoch,
            lines: VecDeque::new(),
            gone: 0,
        }
    }

    pub fn push(&mut self, line: String) {
        if self.lines.len() == MOST_LINES {
            self.lines.pop_front();
            self.gone += 1;
        }
        self.lines.push_back(line);
    }

    /// What came since; from the beginning where nothing is named, or a place in another log.
    pub fn since(&self, since: Option<Cursor>) -> Since {
        let end = self.gone + self.lines.len() as u64;
        let wanted = since.filter(|cursor| cursor.epoch == self.epoch && cursor.next <= end);
        let wanted = wanted.map_or(0, |cursor| cursor.next);
        let from = wanted.max(self.gone);
        let skipped = usize::try_from(from - self.gone).unwrap_or(usize::MAX);
        let lines: Vec<String> = self.lines.iter().skip(skipped).take(MOST_AT_ONCE).cloned().collect();
        Since {
            lost: from - wanted,
            cursor: Cursor {
                epoch: self.epoch,
                next: from + lines.len() as u64,
            },
            lines,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn log_of(lines: usize) -> Log {
        let mut log = Log::new(7);
        (0..lines).for_each(|number| log.push(number.to_string()));
        log
    }

    #[test]
    fn each_line_is_handed_out_once() {
        let log = log_of(MOST_AT_ONCE + 5);
        let first = log.since(None);
        assert_eq!((first.lines.len(), first.lost), (MOST_AT_ONCE, 0));
        let second = log.since(Some(first.cursor));
        assert_eq!(second.lines, ["100", "101", "102", "103", "104"]);
        assert_eq!(log.since(Some(second.cursor)).lines, [""; 0]);
    }

    #[test]
    fn what_is_no_longer_kept_is_counted() {
        let log = log_of(MOST_LINES + 3);
        assert_eq!(log.since(None).lost, 3);
        assert_eq!(log.since(None).lines[0], "3");
    }

    #[test]
    fn a_place_in_another_log_is_the_beginning() {
        let log = log_of(2);
        for (epoch, next) in [(8, 1), (7, 3)] {
            assert_eq!(log.since(Some(Cursor { epoch, next })).lines.len(), 2);
        }
    }

    proptest! {
        #[test]
        fn a_cursor_is_read_as_it_was_written(epoch: u32, next: u64) {
            let cursor = Cursor { epoch, next };
            prop_assert_eq!(Cursor::parse(&cursor.to_string()), Some(cursor));
        }

        #[test]
        fn anything_else_is_no_cursor(text in "[^.]*|.*\\.[^0-9]*") {
            prop_assert_eq!(Cursor::parse(&text), None);
        }
    }
}
