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

impl Shape {
    /// What of `text` the token covers that begins at `start`, where [`Self::begins`] stands; `None` where it is none.
    pub fn covers(&self, text: &[u8], start: usize) -> Option<Range<usize>> {
        let before = start.checked_sub(1).and_then(|at| text.get(at));
        if before.is_some_and(|byte| byte.is_ascii_alphanumeric() || *byte == b'_') {
            return None;
        }
        let after = start + self.begins.len();
        let rest = text.get(after..)?;
        let run = |fits: fn(u8) -> bool| rest.iter().take_while(|byte| fits(**byte)).count();
        let has_digit = |length: usize| rest.iter().take(length).any(u8::is_ascii_digit);
        match self.rest {
            Rest::Token { least } => {
                let length = run(is_token);
                (length >= least && has_digit(length)).then_some(start..after + length)
            }
            Rest::Capitals { exactly } => {
                let length = run(|byte| byte.is_ascii_alphanumeric());
                let capitals = run(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit());
                (length == exactly && capitals == exactly).then_some(start..after + length)
            }
            Rest::Parts { least } => {
                let length = run(|byte| is_token(byte) || byte == b'.');
                let dots = rest.iter().take(length).filter(|byte| **byte == b'.').count();
                (length >= least && dots >= 2).then_some(start..after + length)
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

    #[test]
    fn a_beginning_at_the_very_end_is_nothing() {
        for text in ["sk-", "eyJ", "Bearer ", "AKIA"] {
            redacted(text, text);
        }
    }
}
