//! Text that came out of the container.
//!
//! One type for every string the guest can choose (command lines, file names, the model's words, error texts), so
//! that none reaches a terminal, a log or a calling model raw by accident: `Display` strips control and
//! bidirectional-override characters. The model's answer itself is handed on whole through [`Untrusted::as_str`],
//! by the few callers whose job that is.

use serde::{Deserialize, Serialize};
use std::fmt;

#[derive(Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Untrusted(String);

impl Untrusted {
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The raw text, for a caller that passes it on as data (a JSON string) and not to a terminal.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// One line of at most `limit` characters for progress, errors and tables.
    pub fn one_line(&self, limit: usize) -> String {
        let mut line = String::new();
        let mut count = 0;
        let mut pending_space = false;
        for c in self.0.chars() {
            if c.is_whitespace() {
                pending_space = !line.is_empty();
                continue;
            }
            if !is_displayable(c) {
                continue;
            }
            let needed = if pending_space { 2 } else { 1 };
            if count + needed >= limit {
                line.push('…');
                return line;
            }
            if pending_space {
                line.push(' ');
                pending_space = false;
            }
            line.push(c);
            count += needed;
        }
        line
    }
}

/// False for what moves a cursor, hides text or reorders it: C0/C1 controls but newline and tab, and the Unicode
/// direction and zero-width formatting characters ("Trojan Source", CVE-2021-42574).
fn is_displayable(c: char) -> bool {
    match c {
        '\n' | '\t' => true,
        c if c.is_control() => false,
        '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}' | '\u{061c}' => false,
        '\u{e0000}'..='\u{e007f}' => false,
        _ => true,
    }
}

impl fmt::Display for Untrusted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use fmt::Write;
        self.0
            .chars()
            .filter(|c| is_displayable(*c))
            .try_for_each(|c| f.write_char(c))
    }
}

impl fmt::Debug for Untrusted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Untrusted({:?})", self.one_line(200))
    }
}

impl From<String> for Untrusted {
    fn from(text: String) -> Self {
        Self(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escape_sequences_and_direction_overrides_are_not_displayed() {
        let hostile = Untrusted::new("a\x1b[2Jb\u{202e}c\u{9b}31md\n\te");
        assert_eq!(hostile.to_string(), "a[2Jbc31md\n\te");
    }

    #[test]
    fn one_line_collapses_white_space_and_caps() {
        assert_eq!(Untrusted::new("  a\n\n b\r\nc ").one_line(80), "a b c");
        assert_eq!(Untrusted::new("abcdefgh").one_line(5), "abcd…");
    }
}
