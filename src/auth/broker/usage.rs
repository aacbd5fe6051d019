//! What a request cost, read out of the stream of events that answers it. Pure.
//!
//! The stream is only looked at: every byte passes as it came. An answer that ends without saying what it cost (the guest hung
//! up, the provider broke off) is estimated, because otherwise whoever wants to spend without being counted would just hang up before
//! the last event. What a model thought without streaming it is not in the estimate.

use serde::{Deserialize, Serialize};
use std::borrow::Cow;

/// The longest line that is looked into, in bytes. The last event repeats the whole answer.
const MAX_LINE: usize = 4 << 20;
/// Bytes of a request that are taken for a token where nobody says. Prose has twice as many.
const BYTES_A_TOKEN: u64 = 2;

/// Tokens as the provider counts them, or an estimate of them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Tokens {
    pub input: u64,
    pub output: u64,
}

impl Tokens {
    pub fn total(self) -> u64 {
        self.input.saturating_add(self.output)
    }

    pub fn plus(self, other: Self) -> Self {
        Self {
            input: self.input.saturating_add(other.input),
            output: self.output.saturating_add(other.output),
        }
    }
}

/// Reads one answer's events as they pass.
#[derive(Debug)]
pub struct UsageReader {
    /// Of the request, in bytes.
    request: u64,
    line: Vec<u8>,
    /// The line is too long to be looked into.
    skipping: bool,
    /// Each is a token or more of output.
    events: u64,
    said: Option<Tokens>,
}

#[derive(Deserialize)]
struct Event<'e> {
    #[serde(borrow, rename = "type")]
    kind: Cow<'e, str>,
    response: Option<Ended>,
}

#[derive(Deserialize)]
struct Ended {
    usage: Option<Said>,
}

#[derive(Deserialize)]
struct Said {
    input_tokens: u64,
    output_tokens: u64,
}

impl UsageReader {
    /// `request`: the length of its body, in bytes.
    pub fn new(request: usize) -> Self {
        Self {
            request: request as u64,
            line: Vec::new(),
            skipping: false,
            events: 0,
            said: None,
        }
    }

    pub fn feed(&mut self, bytes: &[u8]) {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            if self.line.len() + piece.len() > MAX_LINE {
                self.skipping = true;
                self.line = Vec::new();
            }
            if !self.skipping {
                self.line.extend_from_slice(piece);
            }
            if piece.ends_with(b"\n") {
                self.end_line();
            }
        }
    }

    fn end_line(&mut self) {
        let skipped = std::mem::take(&mut self.skipping);
        if let Some(event) = self.line.strip_prefix(b"data:") {
            self.events += 1;
            // Most events are small and not the last: those are not parsed.
            if event.windows(8).any(|window| window == b"\"usage\":") {
                self.said = usage(event).or(self.said);
            }
        } else if skipped {
            self.events += 1;
        }
        self.line.clear();
    }

    /// What it cost, at the answer's end.
    pub fn finish(mut self) -> Tokens {
        self.end_line();
        self.said.unwrap_or(Tokens {
            input: self.request.div_ceil(BYTES_A_TOKEN),
            output: self.events,
        })
    }
}

fn usage(event: &[u8]) -> Option<Tokens> {
    let event: Event<'_> = serde_json::from_slice(event).ok()?;
    let ends = matches!(
        &*event.kind,
        "response.completed" | "response.incomplete" | "response.failed"
    );
    let said = event.response?.usage?;
    ends.then_some(Tokens {
        input: said.input_tokens,
        output: said.output_tokens,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const STREAM: &str = "event: response.created\ndata: {\"type\":\"response.created\",\"response\":{\"usage\":null}}\n\n\
        data: {\"type\":\"response.output_text.delta\",\"delta\":\"\\\"usage\\\":\"}\n\n\
        event: response.completed\ndata: {\"type\":\"response.completed\",\"response\":{\"id\":\"r\",\"usage\":{\"input_tokens\":1000,\"input_tokens_details\":{\"cached_tokens\":10},\"output_tokens\":20,\"total_tokens\":1020}}}\n\n";

    fn read(stream: &[u8], piece: usize) -> Tokens {
        let mut reader = UsageReader::new(40);
        stream.chunks(piece).for_each(|piece| reader.feed(piece));
        reader.finish()
    }

    proptest! {
        #[test]
        fn what_the_provider_says_counts_however_it_is_cut(piece in 1..400usize) {
            prop_assert_eq!(read(STREAM.as_bytes(), piece), Tokens { input: 1000, output: 20 });
            let unended = STREAM.trim_end();
            prop_assert_eq!(read(unended.as_bytes(), piece), Tokens { input: 1000, output: 20 });
            let crlf = STREAM.replace('\n', "\r\n");
            prop_assert_eq!(read(crlf.as_bytes(), piece), Tokens { input: 1000, output: 20 });
        }

        #[test]
        fn no_stream_breaks_it(stream in proptest::collection::vec(any::<u8>(), 0..200), piece in 1..50usize) {
            read(&stream, piece);
        }
    }

    #[test]
    fn an_answer_that_breaks_off_is_estimated() {
        let (begun, _) = STREAM.split_once("event: response.completed").unwrap();
        assert_eq!(read(begun.as_bytes(), 7), Tokens { input: 20, output: 2 });
        assert_eq!(read(b"", 1), Tokens { input: 20, output: 0 });
    }

    #[test]
    fn an_event_that_only_quotes_a_usage_is_not_one() {
        let quoted = "data: {\"type\":\"response.output_item.done\",\"response\":{\"usage\":{\"input_tokens\":0,\"output_tokens\":0}}}\n";
        assert_eq!(read(quoted.as_bytes(), 9), Tokens { input: 20, output: 1 });
    }

    #[test]
    fn a_line_without_end_costs_no_memory() {
        let mut reader = UsageReader::new(40);
        for _ in 0..64 {
            reader.feed(&[b'a'; 1 << 20]);
            assert!(reader.line.capacity() <= 2 * MAX_LINE);
        }
        reader.feed(b"\n");
        reader.feed(STREAM.as_bytes());
        assert_eq!(
            reader.finish(),
            Tokens {
                input: 1000,
                output: 20
            }
        );
    }
}
