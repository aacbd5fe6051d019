//! What the tokens of well-known services look like. Pure.
//!
//! A shape is how a token begins and what may follow. It must have a digit in it, as all of these have, so that `sk-` of a
//! style sheet is left alone; and it must not begin inside a word, so that `task-…` is.

use std::ops::Range;

/// How one kind of token looks.
#[derive(Debug, Clone, Copy)]
pub struct Shape {
    pub begins: &'static str,
    rest: Rest,
}

#[derive(Debug, Clone, Copy)]
enum Rest {
    /// At least so many characters of a token; the beginning goes with them.
    Token { least: usize },
    /// Exactly so many capitals and digits.
    Capitals { exactly: usize },
    /// Three parts with dots between, as a JWT has.
    Parts { least: usize },
    /// A credential of at least so many characters; the beginning is left to tell what was there.
    Credential { least: usize },
    /// All that follows up to this line, or to the end.
    Until(&'static str),
}

const fn token(begins: &'static str, least: usize) -> Shape {
    Shape {
        begins,
        rest: Rest::Token { least },
    }
}

/// The lengths are a little below what each service gives out.
pub const SHAPES: &[Shape] = &[
    // OpenAI, OpenRouter, Anthropic and those that followed them.
    token("sk-", 20),
    // Our own, of the HTTP transport.
    token("codexmcp_", 60),
    // GitHub.
    token("ghp_", 30),
    token("gho_", 30),
    token("ghu_", 30),
    token("ghs_", 30),
    token("ghr_", 30),
    token("github_pat_", 40),
    token("glpat-", 18),
    // Slack.
    token("xoxb-", 20),
    token("xoxp-", 20),
    token("xoxa-", 20),
    token("xoxs-", 20),
    // Google.
    token("AIza", 33),
    token("npm_", 34),
    token("pypi-", 40),
    token("hf_", 30),
    // AWS.
    Shape {
        begins: "AKIA",
        rest: Rest::Capitals { exactly: 16 },
    },
    Shape {
        begins: "ASIA",
        rest: Rest::Capitals { exactly: 16 },
    },
    Shape {
        begins: "eyJ",
        rest: Rest::Parts { least: 40 },
    },
    Shape {
        begins: "Bearer ",
        rest: Rest::Credential { least: 16 },
    },
    Shape {
        begins: "-----BEGIN PRIVATE KEY-----",
        rest: Rest::Until("-----END PRIVATE KEY-----"),
    },
    Shape {
        begins: "-----BEGIN RSA PRIVATE KEY-----",
        rest: Rest::Until("-----END RSA PRIVATE KEY-----"),
    },
    Shape {
        begins: "-----BEGIN EC PRIVATE KEY-----",
        rest: Rest::Until("-----END EC PRIVATE KEY-----"),
    },
    Shape {
        begins: "-----BEGIN OPENSSH PRIVATE KEY-----",
        rest: Rest::Until("-----END OPENSSH PRIVATE KEY-----"),
    },
];

/// A text that is looked through from its beginning to its end.
///
/// It remembers how far it has seen: `sk-sk-sk-…` is a beginning at every third byte, and looking from each of them to the end of
/// the word would take the square of its length.
#[derive(Debug)]
pub struct Scan<'t> {
    text: &'t [u8],
    token_ends: Ahead,
    parts_end: Ahead,
    digit: Ahead,
    dot: Ahead,
    second_dot: Ahead,
}

/// The first byte of a kind at or after some place.
#[derive(Debug)]
struct Ahead {
    is_it: fn(u8) -> bool,
    /// What is known: from here on
    asked: usize,
    /// the first one is here, or the text's end.
    found: usize,
}

impl Ahead {
    const fn of(is_it: fn(u8) -> bool) -> Self {
        Self {
            is_it,
            asked: 1,
            found: 0,
        }
    }

    fn from(&mut self, text: &[u8], from: usize) -> usize {
        if !(self.asked..=self.found).contains(&from) {
            let rest = text.get(from..).unwrap_or_default();
            let ahead = rest.iter().position(|byte| (self.is_it)(*byte));
            (self.asked, self.found) = (from, ahead.map_or(text.len(), |ahead| from + ahead));
        }
        self.found
    }
}

impl<'t> Scan<'t> {
    pub fn new(text: &'t [u8]) -> Self {
        Self {
            text,
            token_ends: Ahead::of(|byte| !is_token(byte)),
            parts_end: Ahead::of(|byte| !is_token(byte) && byte != b'.'),
            digit: Ahead::of(|byte| byte.is_ascii_digit()),
            dot: Ahead::of(|byte| byte == b'.'),
            second_dot: Ahead::of(|byte| byte == b'.'),
        }
    }

    /// What the token covers that begins at `start`, where `shape.begins` stands; `None` where it is none.
    pub fn covers(&mut self, shape: &Shape, start: usize) -> Option<Range<usize>> {
        let text = self.text;
        let before = start.checked_sub(1).and_then(|at| text.get(at));
        if before.is_some_and(|byte| byte.is_ascii_alphanumeric() || *byte == b'_') {
            return None;
        }
        let after = start + shape.begins.len();
        let rest = text.get(after..)?;
        let run = |fits: fn(u8) -> bool| rest.iter().take_while(|byte| fits(**byte)).count();
        match shape.rest {
            Rest::Token { least } => {
                let end = self.token_ends.from(text, after);
                (end - after >= least && self.digit.from(text, after) < end).then_some(start..end)
            }
            Rest::Parts { least } => {
                let end = self.parts_end.from(text, after);
                let dot = self.dot.from(text, after);
                let dots = dot < end && self.second_dot.from(text, dot + 1) < end;
                (end - after >= least && dots).then_some(start..end)
            }
            // These end before the next beginning that is not inside a word.
            Rest::Capitals { exactly } => {
                let length = run(|byte| byte.is_ascii_alphanumeric());
                let capitals = run(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit());
                (length == exactly && capitals == exactly).then_some(start..after + length)
            }
            Rest::Credential { least } => {
                let length = run(|byte| is_token(byte) || b".~+/=".contains(&byte));
                (length >= least).then_some(after..after + length)
            }
            Rest::Until(end) => {
                let end = end.as_bytes();
                let ends = rest.windows(end.len()).position(|window| window == end);
                let length = ends.map_or(rest.len(), |at| at + end.len());
                Some(start..after + length)
            }
        }
    }
}

fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_'
}

#[cfg(test)]
mod tests {
    use crate::redact::Redactor;

    #[track_caller]
    fn redacted(text: &str, expected: &str) {
        assert_eq!(Redactor::default().text(text), expected);
    }

    #[test]
    fn tokens_of_well_known_services_are_found() {
        let long = "0123456789abcdefABCDEF0123456789abcdefABCDEF";
        for begins in [
            "sk-",
            "sk-proj-",
            "ghp_",
            "github_pat_",
            "glpat-",
            "xoxb-",
            "AIza",
            "npm_",
            "pypi-",
            "hf_",
        ] {
            redacted(&format!("a={begins}{long}, b"), "a=[redacted], b");
        }
        redacted("AKIAIOSFODNN7EXAMPLE", "[redacted]");
        redacted(
            "\"eyJhbGciOiJub25lIn0.eyJzdWIiOiIxMjM0NTY3ODkwIn0.sig-nature\"",
            "\"[redacted]\"",
        );
        redacted(
            "Authorization: Bearer abcdefghijklmnop",
            "Authorization: Bearer [redacted]",
        );
        redacted(
            "x\n-----BEGIN PRIVATE KEY-----\nMII\n-----END PRIVATE KEY-----\ny",
            "x\n[redacted]\ny",
        );
        redacted("-----BEGIN EC PRIVATE KEY-----\nMII", "[redacted]");
    }

    #[test]
    fn words_that_only_begin_like_one_are_left_alone() {
        for text in [
            "task-0123456789abcdef0123456789",
            "sk-loading-indicator-of-some-style-sheet",
            "sk-1",
            "npm_config_registry",
            "AKIAIOSFODNN7EXAMPLEandmore",
            "eyJ is how base64 of {\" begins",
            "Bearer of good news, 16 of them",
            "-----BEGIN CERTIFICATE-----\nMII",
        ] {
            redacted(text, text);
        }
    }

    /// Each beginning looked from there to the end of the word: 20 s for a quarter of this.
    #[test]
    fn a_word_of_nothing_but_beginnings_is_looked_through_once() {
        for text in [
            "sk-".repeat(1 << 19),
            "eyJ-".repeat(1 << 19),
            format!("{}.", "eyJ-".repeat(1 << 19)),
        ] {
            redacted(&text, &text);
        }
        let ends = format!("{}0", "sk-".repeat(1 << 19));
        redacted(&ends, "[redacted]");
    }

    #[test]
    fn a_beginning_at_the_very_end_is_nothing() {
        for text in ["sk-", "eyJ", "Bearer ", "AKIA"] {
            redacted(text, text);
        }
    }
}
