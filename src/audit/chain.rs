//! A chain of lines: linking, hashing, and finding what was done to it. Pure.
//!
//! A line's `prev` is the SHA-256 of the line before it without its line end, so that any tool can check a chain:
//! `head -n 1 FILE | tr -d '\n' | sha256sum` is the second line's `prev`. The first line's is all zeros. Times are data:
//! clocks are set back.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use std::fmt;
use std::str::FromStr;

/// The longest line, in bytes, its end included: more than the journal ever writes is not one of its lines.
pub const MAX_LINE: usize = 128 << 10;

/// A SHA-256; written as 64 lower-case hex digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest([u8; 32]);

impl Digest {
    /// What stands before the first line.
    pub const NOTHING: Self = Self([0; 32]);

    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// Of several parts, each followed by a NUL, which none of them can hold.
    pub fn of_parts<'p>(parts: impl IntoIterator<Item = &'p [u8]>) -> Self {
        let mut hasher = Sha256::new();
        for part in parts {
            hasher.update(part);
            hasher.update([0]);
        }
        Self(hasher.finalize().into())
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Digest {
    type Err = NotADigest;

    fn from_str(text: &str) -> Result<Self, NotADigest> {
        let bytes = text.as_bytes();
        let fits = |byte: &u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(byte);
        if bytes.len() != 64 || !bytes.iter().all(fits) {
            return Err(NotADigest);
        }
        let mut digest = [0; 32];
        for (byte, pair) in digest.iter_mut().zip(text.as_bytes().chunks(2)) {
            let pair = std::str::from_utf8(pair).map_err(|_| NotADigest)?;
            *byte = u8::from_str_radix(pair, 16).map_err(|_| NotADigest)?;
        }
        Ok(Self(digest))
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a SHA-256 is 64 lower-case hex digits")]
pub struct NotADigest;

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

/// Names a chain: when its server started, and random digits. Part of a path, so nothing else fits.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct ChainId(String);

impl ChainId {
    /// `time` is RFC 3339 in whole seconds, UTC.
    pub fn new(time: &str, random: [u8; 6]) -> Self {
        let start: String = time.chars().filter(|c| !matches!(c, '-' | ':')).collect();
        let random: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
        Self(format!("{start}-{random}"))
    }

    /// From a directory's name.
    pub fn parse(text: &str) -> Option<Self> {
        let (start, random) = text.split_once('-')?;
        let start_fits = start.bytes().enumerate().all(|(at, byte)| match at {
            8 => byte == b'T',
            15 => byte == b'Z',
            _ => byte.is_ascii_digit(),
        });
        let random_fits = random
            .bytes()
            .all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
        (start.len() == 16 && random.len() == 12 && start_fits && random_fits).then(|| Self(text.to_owned()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ChainId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A record by its number and its hash. Whoever keeps one elsewhere can tell later whether all up to it is still there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tip {
    pub sequence: u64,
    pub hash: Digest,
}

/// A chain's tip, as it is printed: `CHAIN:SEQUENCE:HASH`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Anchor {
    pub chain: ChainId,
    pub tip: Tip,
}

impl fmt::Display for Anchor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.chain, self.tip.sequence, self.tip.hash)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an anchor is CHAIN:SEQUENCE:HASH, as `audit verify` prints it")]
pub struct NotAnAnchor;

impl FromStr for Anchor {
    type Err = NotAnAnchor;

    fn from_str(text: &str) -> Result<Self, NotAnAnchor> {
        let mut parts = text.split(':');
        let (Some(chain), Some(sequence), Some(hash), None) = (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(NotAnAnchor);
        };
        Ok(Self {
            chain: ChainId::parse(chain).ok_or(NotAnAnchor)?,
            tip: Tip {
                sequence: sequence.parse().map_err(|_| NotAnAnchor)?,
                hash: hash.parse().map_err(|_| NotAnAnchor)?,
            },
        })
    }
}

/// The end of a chain that is being written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chain {
    tip: Tip,
}

impl Chain {
    /// Nothing is written yet.
    pub const EMPTY: Self = Self {
        tip: Tip {
            sequence: 0,
            hash: Digest::NOTHING,
        },
    };

    pub fn tip(self) -> Tip {
        self.tip
    }

    /// The next line, its end included, and the chain with it. `entry` is an object.
    ///
    /// # Errors
    ///
    /// Where it is no object.
    pub fn link(self, time: &str, entry: &Value) -> Result<(Vec<u8>, Self), serde_json::Error> {
        #[derive(Serialize)]
        struct Linked<'e> {
            sequence: u64,
            time: &'e str,
            prev: Digest,
            #[serde(flatten)]
            entry: &'e Value,
        }
        let sequence = self.tip.sequence.saturating_add(1);
        let mut line = serde_json::to_vec(&Linked {
            sequence,
            time,
            prev: self.tip.hash,
            entry,
        })?;
        let hash = Digest::of(&line);
        line.push(b'\n');
        let tip = Tip { sequence, hash };
        Ok((line, Self { tip }))
    }
}

/// What of a line holds it in its chain.
#[derive(Deserialize)]
struct Link {
    sequence: u64,
    prev: Digest,
    what: String,
    file: Option<u64>,
}

/// Where a line stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Place {
    pub file: u64,
    pub line: u64,
}

/// The first thing that is wrong with a chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broken {
    pub at: Place,
    pub why: Why,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Why {
    #[error("it is no audit record")]
    NoRecord,
    #[error("record {expected} should stand there, and record {found} does: {}", displaced(*expected, *found))]
    OutOfOrder { expected: u64, found: u64 },
    #[error("record {0} was changed after it was written")]
    Changed(u64),
    /// The two contradict one another, and nothing after them tells which is true.
    #[error("record {0} was changed after it was written, or the `prev` of the record after it was")]
    ChangedOrNext(u64),
    #[error("it does not begin as a server's first record does: what came before it is gone")]
    NoBeginning,
    #[error("it does not begin as file {0} of its chain does: what came before it is gone")]
    NotContinued(u64),
    #[error("it follows the record with which its server ended the chain")]
    AfterEnd,
    #[error("the chain ends before record {0}, which an anchor has: its end is gone")]
    CutOff(u64),
    #[error("record {0}, which an anchor has, was removed with the beginning of its chain")]
    Removed(u64),
    #[error("the file ends in the middle of a line, and another file follows")]
    TornInside,
}

fn displaced(expected: u64, found: u64) -> &'static str {
    if found > expected {
        "what was between is gone"
    } else {
        "it is a copy, or in another's place"
    }
}

/// Checks a chain line by line.
#[derive(Debug, Default)]
pub struct Verifier {
    anchors: Vec<Tip>,
    records: u64,
    first: Option<u64>,
    begin: Option<Place>,
    last: Option<Seen>,
    /// The record before the last one does not fit the last one's `prev`; whoever comes next tells which of them is true.
    doubted: Option<Seen>,
    ended: bool,
}

#[derive(Debug, Clone, Copy)]
struct Seen {
    at: Place,
    tip: Tip,
}

/// A chain in which every record fits the one before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Intact {
    pub records: u64,
    /// The first record's number: more than 1 where the beginning was pruned.
    pub first: u64,
    pub tip: Tip,
    /// Its server ended it.
    pub ended: bool,
}

impl Verifier {
    /// `anchors` are tips that the chain is known to have had.
    pub fn new(anchors: Vec<Tip>) -> Self {
        Self {
            anchors,
            ..Self::default()
        }
    }

    /// The next line, without its end.
    ///
    /// # Errors
    ///
    /// The first thing that is wrong; the rest of the chain says nothing then.
    pub fn line(&mut self, at: Place, line: &[u8]) -> Result<(), Broken> {
        let link: Option<Link> = serde_json::from_slice(line).ok();
        let link = link.filter(|_| line.len() < MAX_LINE);
        let Some(link) = link else {
            return Err(self.doubt_or(Broken { at, why: Why::NoRecord }));
        };
        if self.ended {
            return Err(self.doubt_or(Broken { at, why: Why::AfterEnd }));
        }
        match self.last {
            None => begins(at, &link)?,
            Some(last) => self.follows(last, at, &link)?,
        }
        let tip = Tip {
            sequence: link.sequence,
            hash: Digest::of(line),
        };
        self.ended = link.what == "server_ended";
        self.first = self.first.or(Some(link.sequence));
        self.begin = self.begin.or(Some(at));
        self.last = Some(Seen { at, tip });
        self.records += 1;
        // One that contradicts counts before one that agrees.
        let same = || self.anchors.iter().filter(|anchor| anchor.sequence == tip.sequence);
        let anchored = same().find(|anchor| **anchor != tip).or_else(|| same().next());
        match anchored {
            // A later record of the doubted pair, vouched for: the earlier one is wrong, or this one is.
            Some(anchor) if *anchor == tip => match self.doubted {
                Some(doubted) => Err(doubted.changed()),
                None => Ok(()),
            },
            Some(_) => Err(Broken {
                at,
                why: Why::Changed(tip.sequence),
            }),
            None => Ok(()),
        }
    }

    fn follows(&mut self, last: Seen, at: Place, link: &Link) -> Result<(), Broken> {
        let expected = last.tip.sequence.saturating_add(1);
        if link.sequence != expected {
            let found = link.sequence;
            return Err(self.doubt_or(Broken {
                at,
                why: Why::OutOfOrder { expected, found },
            }));
        }
        match (link.prev == last.tip.hash, self.doubted) {
            (true, None) => Ok(()),
            // The last one is as it was written, so what it says of the one before is true.
            (true, Some(doubted)) => Err(doubted.changed()),
            (false, Some(_)) => Err(last.changed()),
            (false, None) => {
                self.doubted = Some(last);
                Ok(())
            }
        }
    }

    fn doubt_or(&self, otherwise: Broken) -> Broken {
        match self.doubted {
            Some(doubted) => doubted.changed_or_next(),
            None => otherwise,
        }
    }

    /// The end of the chain. `None` where it has no line.
    ///
    /// # Errors
    ///
    /// Where the last two records contradict one another, or an anchor is of a record that is not there.
    pub fn finish(self) -> Result<Option<Intact>, Broken> {
        if let Some(doubted) = self.doubted {
            return Err(doubted.changed_or_next());
        }
        let last = self.last;
        let beyond = |anchor: &&Tip| last.is_none_or(|last| last.tip.sequence < anchor.sequence);
        if let Some(anchor) = self.anchors.iter().find(beyond) {
            return Err(Broken {
                at: last.map_or(Place { file: 1, line: 1 }, |last| last.at),
                why: Why::CutOff(anchor.sequence),
            });
        }
        let before = |anchor: &&Tip| self.first.is_some_and(|first| anchor.sequence < first);
        if let (Some(anchor), Some(begin)) = (self.anchors.iter().find(before), self.begin) {
            // Whether `audit.keep` or somebody else removed it, nothing here can vouch for it.
            return Err(Broken {
                at: begin,
                why: Why::Removed(anchor.sequence),
            });
        }
        Ok(last.zip(self.first).map(|(last, first)| Intact {
            records: self.records,
            first,
            tip: last.tip,
            ended: self.ended,
        }))
    }

    /// Whether the server has ended the chain: what follows is none of its.
    pub fn has_ended(&self) -> bool {
        self.ended
    }
}

impl Seen {
    fn changed(self) -> Broken {
        Broken {
            at: self.at,
            why: Why::Changed(self.tip.sequence),
        }
    }

    fn changed_or_next(self) -> Broken {
        Broken {
            at: self.at,
            why: Why::ChangedOrNext(self.tip.sequence),
        }
    }
}

/// The first line of all that is left. Each further file of a chain says so, and which it is: a line that was taken off
/// the front of one is not taken for pruning.
fn begins(at: Place, link: &Link) -> Result<(), Broken> {
    let is_begin = match at.file {
        1 => link.sequence == 1 && link.prev == Digest::NOTHING && link.what == "server_started",
        file => link.what == "continued" && link.file == Some(file),
    };
    let why = match at.file {
        1 => Why::NoBeginning,
        file => Why::NotContinued(file),
    };
    is_begin.then_some(()).ok_or(Broken { at, why })
}

#[cfg(test)]
mod tests;
