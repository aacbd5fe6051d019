//! What a child says, cut into lines and made plain. Pure.
//!
//! It may have been written inside a container, so it is untrusted: no line is longer than [`MAX_LINE`], and
//! [`plain`] leaves nothing in it that a terminal would obey.

/// Longer lines are handed on in pieces of this many bytes.
pub const MAX_LINE: usize = 4 << 10;

/// Bytes → lines, without the empty ones. A carriage return ends a line too: progress bars rewrite theirs.
#[derive(Debug, Default)]
pub(super) struct LineSplitter {
    held: Vec<u8>,
}

impl LineSplitter {
    pub(super) fn feed(&mut self, bytes: &[u8], say: &mut dyn FnMut(&str)) {
        for &byte in bytes {
            if byte == b'\n' || byte == b'\r' {
                self.finish(say);
            } else {
                self.held.push(byte);
                if self.held.len() == MAX_LINE {
                    self.finish(say);
                }
            }
        }
    }

    /// The last line, where no line end came after it.
    pub(super) fn finish(&mut self, say: &mut dyn FnMut(&str)) {
        if !self.held.is_empty() {
            say(&String::from_utf8_lossy(&self.held));
            self.held.clear();
        }
    }
}

/// One line without escape sequences (ECMA-48: colours, cursor, titles), control characters, and the marks that
/// would show it in another order than it is written in.
pub fn plain(line: &str) -> String {
    let mut kept = String::with_capacity(line.len());
    let mut rest = line;
    while let Some(character) = rest.chars().next() {
        rest = &rest[character.len_utf8()..];
        match character {
            '\u{1b}' => rest = after_escape(rest),
            '\u{9b}' => rest = after_control_sequence(rest),
            '\u{90}' | '\u{98}' | '\u{9d}'..='\u{9f}' => rest = after_string(rest),
            '\t' => kept.push(' '),
            '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {}
            character if character.is_control() => {}
            character => kept.push(character),
        }
    }
    kept
}

/// What follows ESC's sequence.
fn after_escape(rest: &str) -> &str {
    match rest.chars().next() {
        Some('[') => after_control_sequence(&rest[1..]),
        Some(']' | 'P' | 'X' | '^' | '_') => after_string(&rest[1..]),
        // Intermediate characters and a final one, such as `ESC ( B`.
        _ => {
            let rest = rest.trim_start_matches(|c| matches!(c, ' '..='/'));
            rest.strip_prefix(|c| matches!(c, '0'..='~')).unwrap_or(rest)
        }
    }
}

/// Parameters, intermediate characters, a final one. One that is cut short loses only what belongs to it.
fn after_control_sequence(rest: &str) -> &str {
    let rest = rest
        .trim_start_matches(|c| matches!(c, '0'..='?'))
        .trim_start_matches(|c| matches!(c, ' '..='/'));
    rest.strip_prefix(|c| matches!(c, '@'..='~')).unwrap_or(rest)
}

/// A title or other text for the terminal, up to its end mark. Without one the text stays: a log must not be made
/// silent by whoever writes half a sequence.
fn after_string(rest: &str) -> &str {
    let ends = ["\u{7}", "\u{1b}\\", "\u{9c}"];
    let first = ends
        .iter()
        .filter_map(|end| rest.find(end).map(|at| at + end.len()))
        .min();
    first.and_then(|end| rest.get(end..)).unwrap_or(rest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn overlong_lines_come_in_pieces() {
        let mut splitter = LineSplitter::default();
        let mut lengths = Vec::new();
        splitter.feed(&vec![b'x'; MAX_LINE * 2 + 1], &mut |line| lengths.push(line.len()));
        splitter.finish(&mut |line| lengths.push(line.len()));
        assert_eq!(lengths, [MAX_LINE, MAX_LINE, 1]);
    }

    #[test]
    fn sequences_go_and_words_stay() {
        for (line, expected) in [
            (
                "\u{1b}[2m2026\u{1b}[0m \u{1b}[31mERROR\u{1b}[0m codex: no",
                "2026 ERROR codex: no",
            ),
            ("\u{1b}[38;5;196mred\u{9b}0m", "red"),
            ("\u{1b}]0;title\u{7}a\u{1b}]8;;http://x\u{1b}\\b\u{9d}0;t\u{9c}c", "abc"),
            ("\u{1b}(Ba\u{1b}7b\u{1b}", "ab"),
            ("\u{1b}]0;half", "0;half"),
            ("\u{1b}[3", ""),
            ("a\u{0}\u{8}\tb\u{202e}c é", "a bc é"),
        ] {
            assert_eq!(plain(line), expected, "{line:?}");
        }
    }

    proptest! {
        #[test]
        fn nothing_that_a_terminal_obeys_is_left(line in "([ -~]|\\PC|[\u{0}-\u{1f}\u{7f}-\u{9f}]|\u{1b}\\[|\u{1b}\\]){0,60}") {
            let plain = plain(&line);
            prop_assert!(!plain.chars().any(char::is_control), "{plain:?}");
            prop_assert_eq!(super::plain(&plain), plain);
        }
    }
}
