//! The URIs of resources. Pure.

use crate::codex::event::ThreadId;
use std::fmt;

const SCHEME: &str = "codex://";
/// Longer than any address, in bytes.
const LONGEST: usize = 200;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    Sessions,
    Policy,
    Thread {
        thread: ThreadId,
        part: Part,
        /// The first item of the page.
        from: usize,
    },
}

/// What of a thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    State,
    Transcript,
    Diff,
}

impl Part {
    const ALL: [Self; 3] = [Self::State, Self::Transcript, Self::Diff];

    fn suffix(self) -> &'static str {
        match self {
            Self::State => "",
            Self::Transcript => "/transcript",
            Self::Diff => "/diff",
        }
    }
}

/// As RFC 6570 writes it.
pub fn template(part: Part) -> String {
    let paging = if part == Part::Transcript { "{?from}" } else { "" };
    format!("{SCHEME}threads/{{threadId}}{}{paging}", part.suffix())
}

impl Address {
    pub fn thread(thread: &ThreadId, part: Part) -> Self {
        Self::page(thread, part, 0)
    }

    pub fn page(thread: &ThreadId, part: Part, from: usize) -> Self {
        Self::Thread {
            thread: thread.clone(),
            part,
            from,
        }
    }

    /// Only as it is written here: so none is long, and two that are the same are one.
    pub fn parse(uri: &str) -> Option<Self> {
        let address = Self::read(uri).filter(|_| uri.len() <= LONGEST)?;
        (address.to_string() == uri).then_some(address)
    }

    fn read(uri: &str) -> Option<Self> {
        let path = uri.strip_prefix(SCHEME)?;
        match path {
            "sessions" => return Some(Self::Sessions),
            "policy" => return Some(Self::Policy),
            _ => {}
        }
        let rest = path.strip_prefix("threads/")?;
        let (rest, from) = match rest.split_once("?from=") {
            Some((rest, from)) => (rest, from.parse().ok()?),
            None => (rest, 0),
        };
        let (thread, suffix) = match rest.find('/') {
            Some(at) => rest.split_at(at),
            None => (rest, ""),
        };
        let part = Part::ALL.into_iter().find(|part| part.suffix() == suffix)?;
        if from > 0 && part != Part::Transcript {
            return None;
        }
        Some(Self::Thread {
            thread: ThreadId::parse(thread)?,
            part,
            from,
        })
    }

    /// Whether what a thread does changes what is read here.
    pub fn follows(&self, changed: &ThreadId) -> bool {
        match self {
            Self::Sessions => true,
            Self::Policy => false,
            Self::Thread { thread, .. } => thread == changed,
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(SCHEME)?;
        match self {
            Self::Sessions => f.write_str("sessions"),
            Self::Policy => f.write_str("policy"),
            Self::Thread { thread, part, from } => {
                write!(f, "threads/{thread}{}", part.suffix())?;
                match from {
                    0 => Ok(()),
                    from => write!(f, "?from={from}"),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_no_address_of_ours_is_none() {
        for uri in [
            "",
            "codex://",
            "codex://sessions/",
            "codex://threads/",
            "codex://threads/a/b",
            "codex://threads/../etc/transcript",
            "codex://threads/a/diff?from=3",
            "codex://threads/a/transcript?from=x",
            "codex://threads/a/transcript?from=0",
            "codex://threads/a/transcript?from=007",
            "codex://threads/a/transcript?from=+7",
            "file:///etc/passwd",
        ] {
            assert_eq!(Address::parse(uri), None, "{uri}");
        }
    }

    proptest! {
        #[test]
        fn an_address_is_read_as_it_was_written(thread in "[A-Za-z0-9_-]{1,64}", from in 0usize..5000) {
            let thread = ThreadId::parse(&thread).expect("an id");
            for address in [
                Address::thread(&thread, Part::State),
                Address::thread(&thread, Part::Diff),
                Address::page(&thread, Part::Transcript, from),
            ] {
                prop_assert_eq!(Address::parse(&address.to_string()), Some(address));
            }
        }
    }
}
