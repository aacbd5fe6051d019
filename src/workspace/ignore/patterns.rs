//! One `.gitignore`, read as git reads it. Pure.
//!
//! Git matches with a backtracking matcher of its own, in which a pattern can take time without end. Here every pattern is
//! translated into a regular expression over bytes, and all of a file are one automaton: the time is linear in the path,
//! and the memory bounded. No glob crate has git's meaning of braces, classes and `**` within a name.

use regex_automata::meta::Regex;
use regex_automata::util::syntax;
use regex_automata::{Anchored, Input, MatchKind, PatternSet};

/// What a file's automaton may take, in bytes.
const AUTOMATON: usize = 1 << 20;
/// What is remembered of its searches, in bytes.
const CACHE: usize = 1 << 20;

/// The patterns of one file.
#[derive(Debug)]
pub struct Patterns {
    regex: Regex,
    /// In the order of the file, which is that of the automaton's patterns.
    kinds: Vec<Kind>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Kind {
    verdict: Verdict,
    directories_only: bool,
}

/// What a file says of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Ignored,
    /// By a pattern with `!`.
    Kept,
}

/// The patterns of a file need more memory than one may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("its patterns take too much memory")]
pub struct TooMuch;

/// A line of a file, translated.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Pattern {
    kind: Kind,
    expression: String,
}

/// How many patterns a file has at most: as many as it has lines that are neither empty nor comments.
pub fn count(content: &[u8]) -> usize {
    lines(content).count()
}

impl Patterns {
    /// `None` where there is no pattern that could match anything.
    pub fn parse(content: &[u8]) -> Result<Option<Self>, TooMuch> {
        let (kinds, expressions): (Vec<Kind>, Vec<String>) = lines(content)
            .filter_map(Pattern::parse)
            .map(|pattern| (pattern.kind, pattern.expression))
            .unzip();
        if kinds.is_empty() {
            return Ok(None);
        }
        let bytes = syntax::Config::new()
            .unicode(false)
            .utf8(false)
            .dot_matches_new_line(true);
        let config = Regex::config()
            .match_kind(MatchKind::All)
            .utf8_empty(false)
            .nfa_size_limit(Some(AUTOMATON))
            .hybrid_cache_capacity(CACHE);
        let built = Regex::builder()
            .configure(config)
            .syntax(bytes)
            .build_many(&expressions);
        let regex = built.map_err(|_| TooMuch)?;
        Ok(Some(Self { regex, kinds }))
    }

    /// What the last pattern that matches says. `path` is relative to the file's directory.
    pub fn verdict(&self, path: &[u8], is_directory: bool) -> Option<Verdict> {
        let mut matching = PatternSet::new(self.kinds.len());
        let input = Input::new(path).anchored(Anchored::Yes);
        self.regex.which_overlapping_matches(&input, &mut matching);
        let mut kinds = matching.iter().filter_map(|pattern| self.kinds.get(pattern.as_usize()));
        kinds
            .rfind(|kind| is_directory || !kind.directories_only)
            .map(|kind| kind.verdict)
    }
}

/// The lines that are patterns, without what git takes off their ends.
fn lines(content: &[u8]) -> impl Iterator<Item = &[u8]> {
    let content = content.strip_prefix(b"\xef\xbb\xbf").unwrap_or(content);
    content
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.starts_with(b"#"))
        .map(|line| {
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            // To git a line is a string of C.
            let line = line.split(|byte| *byte == 0).next().unwrap_or_default();
            without_trailing_spaces(line)
        })
        .filter(|line| !line.is_empty())
}

/// A space that a backslash stands before stays.
fn without_trailing_spaces(line: &[u8]) -> &[u8] {
    let mut end = None;
    let mut bytes = line.iter().enumerate();
    while let Some((at, byte)) = bytes.next() {
        match byte {
            b' ' => {
                end.get_or_insert(at);
            }
            b'\\' => {
                if bytes.next().is_none() {
                    return line;
                }
                end = None;
            }
            _ => end = None,
        }
    }
    end.and_then(|end| line.get(..end)).unwrap_or(line)
}

impl Pattern {
    /// `None` for what can match nothing.
    fn parse(line: &[u8]) -> Option<Self> {
        let (verdict, text) = match line.strip_prefix(b"!") {
            Some(rest) => (Verdict::Kept, rest),
            None => (Verdict::Ignored, line),
        };
        let (directories_only, text) = match text.strip_suffix(b"/") {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let mut expression = String::new();
        let (matched, text) = if text.contains(&b'/') {
            (Matched::Path, text.strip_prefix(b"/").unwrap_or(text))
        } else {
            // At any depth.
            expression.push_str("(?:.*/)?");
            (Matched::Name, text)
        };
        if text.is_empty() {
            return None;
        }
        // What has no wildcard is compared first, and what follows is matched as if it were a whole pattern.
        let plain = text.iter().position(|byte| b"*?[\\".contains(byte));
        let (plain, wild) = text.split_at(plain.unwrap_or(text.len()));
        for byte in plain {
            literal(&mut expression, *byte);
        }
        Wildcards {
            text: wild,
            at: 0,
            matched,
            out: &mut expression,
        }
        .translate()?;
        expression.push_str("\\z");
        Some(Self {
            kind: Kind {
                verdict,
                directories_only,
            },
            expression,
        })
    }
}

fn literal(out: &mut String, byte: u8) {
    if byte.is_ascii_alphanumeric() {
        out.push(char::from(byte));
    } else {
        out.push_str(&format!("\\x{byte:02X}"));
    }
}

/// What a pattern is held against.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Matched {
    /// The last name alone, which no star leaves.
    Name,
    Path,
}

/// Translates what git's `wildmatch` reads.
struct Wildcards<'p> {
    text: &'p [u8],
    at: usize,
    matched: Matched,
    out: &'p mut String,
}

impl Wildcards<'_> {
    fn peek(&self, ahead: usize) -> Option<u8> {
        self.text.get(self.at + ahead).copied()
    }

    fn take(&mut self) -> Option<u8> {
        let byte = self.peek(0)?;
        self.at += 1;
        Some(byte)
    }

    fn translate(mut self) -> Option<()> {
        while let Some(byte) = self.take() {
            match byte {
                b'\\' => {
                    // One at the end matches nothing.
                    let byte = self.take()?;
                    literal(self.out, byte);
                }
                b'?' => self.out.push_str("[^/]"),
                b'*' => self.stars(),
                b'[' => self.class()?,
                byte => literal(self.out, byte),
            }
        }
        Some(())
    }

    /// Behind the first star.
    fn stars(&mut self) {
        let starts_name = self.at < 2 || self.text.get(self.at - 2) == Some(&b'/');
        let mut stars = 1;
        while self.peek(0) == Some(b'*') {
            self.at += 1;
            stars += 1;
        }
        let ends_name = match self.peek(0) {
            None | Some(b'/') => true,
            Some(b'\\') => self.peek(1) == Some(b'/'),
            Some(_) => false,
        };
        if self.matched == Matched::Name || stars == 1 || !starts_name || !ends_name {
            self.out.push_str("[^/]*");
        } else if self.peek(0) == Some(b'/') {
            // Any number of directories, or none.
            self.at += 1;
            self.out.push_str("(?:.*/)?");
        } else {
            self.out.push_str(".*");
        }
    }

    /// Behind the bracket. `None` where it is not closed or names a class that there is not: that matches nothing.
    fn class(&mut self) -> Option<()> {
        let negated = matches!(self.peek(0), Some(b'!' | b'^'));
        if negated {
            self.at += 1;
        }
        let mut set = [false; 256];
        let mut add = |from: u8, to: u8| {
            for byte in from..=to {
                if let Some(member) = set.get_mut(usize::from(byte)) {
                    *member = true;
                }
            }
        };
        let mut before = None;
        // A bracket in the first place does not close it.
        let mut first = true;
        loop {
            let byte = self.take()?;
            if byte == b']' && !first {
                break;
            }
            first = false;
            match byte {
                b'\\' => {
                    let byte = self.take()?;
                    add(byte, byte);
                    before = Some(byte);
                }
                b'-' if before.is_some() && !matches!(self.peek(0), None | Some(b']')) => {
                    let mut end = self.take()?;
                    if end == b'\\' {
                        end = self.take()?;
                    }
                    if let Some(start) = before.take() {
                        add(start, end);
                    }
                }
                b'[' if self.peek(0) == Some(b':') => {
                    let rest = self.text.get(self.at + 1..)?;
                    let end = rest.iter().position(|byte| *byte == b']')?;
                    match rest.get(..end).and_then(|name| name.strip_suffix(b":")) {
                        Some(name) => {
                            let is_member = named(name)?;
                            (0..=u8::MAX).filter(is_member).for_each(|byte| add(byte, byte));
                            self.at += end + 2;
                            before = None;
                        }
                        None => {
                            add(b'[', b'[');
                            before = Some(b'[');
                        }
                    }
                }
                byte => {
                    add(byte, byte);
                    before = Some(byte);
                }
            }
        }
        let is_member =
            |byte: &u8| *byte != b'/' && set.get(usize::from(*byte)).is_some_and(|member| *member != negated);
        let ranges = ranges(is_member);
        if ranges.is_empty() {
            return None;
        }
        self.out.push_str(&format!("[{ranges}]"));
        Some(())
    }
}

/// The members as a class of a regular expression has them, without its brackets; much shorter than one by one.
fn ranges(is_member: impl Fn(&u8) -> bool) -> String {
    let mut text = String::new();
    let mut members = (0..=u8::MAX).filter(is_member).peekable();
    while let Some(start) = members.next() {
        let mut end = start;
        while let Some(next) = members.next_if(|next| end.checked_add(1) == Some(*next)) {
            end = next;
        }
        text.push_str(&format!("\\x{start:02X}-\\x{end:02X}"));
    }
    text
}

/// The members of a class, as git has them.
fn named(name: &[u8]) -> Option<fn(&u8) -> bool> {
    Some(match name {
        b"alnum" => u8::is_ascii_alphanumeric,
        b"alpha" => u8::is_ascii_alphabetic,
        b"blank" => |byte| matches!(byte, b' ' | b'\t'),
        b"cntrl" => u8::is_ascii_control,
        b"digit" => u8::is_ascii_digit,
        b"graph" => u8::is_ascii_graphic,
        b"lower" => u8::is_ascii_lowercase,
        b"print" => |byte| matches!(byte, b' '..=b'~'),
        b"punct" => u8::is_ascii_punctuation,
        b"space" => |byte| matches!(byte, b' ' | b'\t' | b'\n' | b'\r'),
        b"upper" => u8::is_ascii_uppercase,
        b"xdigit" => u8::is_ascii_hexdigit,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(content: &[u8], path: &str, is_directory: bool) -> Option<Verdict> {
        Patterns::parse(content)
            .unwrap()?
            .verdict(path.as_bytes(), is_directory)
    }

    #[test]
    fn the_last_pattern_that_matches_decides() {
        let content = b"*.o\n!keep.o\n/top\nbuild/\n";
        assert_eq!(said(content, "a/b.o", false), Some(Verdict::Ignored));
        assert_eq!(said(content, "a/keep.o", false), Some(Verdict::Kept));
        assert_eq!(said(content, "a/top", false), None);
        assert_eq!(said(content, "build", false), None);
        assert_eq!(said(content, "build", true), Some(Verdict::Ignored));
    }

    /// Else what lies in a directory that is kept after all would be left out of every comparison.
    #[test]
    fn a_pattern_for_names_says_nothing_of_what_lies_below_one() {
        for content in [&b"sub**\n!/**/"[..], b"sub***\n!*/", b"s?b**\n!**/"] {
            assert_eq!(said(content, "sub", true), Some(Verdict::Kept));
            assert_eq!(said(content, "sub/a", false), None, "{content:?}");
        }
        assert_eq!(said(b"x/sub**", "x/sub/a", false), Some(Verdict::Ignored));
    }

    #[test]
    fn lines_are_those_of_git() {
        let content = b"\xef\xbb\xbfa\n#c\n\n   \nb\r\nd  \ne\\ \nf\0g";
        let found: Vec<&[u8]> = lines(content).collect();
        assert_eq!(found, [&b"a"[..], b"b", b"d", b"e\\ ", b"f"]);
        assert_eq!(count(content), 5);
        assert!(Patterns::parse(b"/\n!\n[a\nx\\").unwrap().is_none());
    }

    #[test]
    fn what_would_take_git_for_ever_or_too_much_memory_does_neither_here() {
        let backtracking = format!("{}b", "*a".repeat(200));
        assert_eq!(said(backtracking.as_bytes(), &"a".repeat(4000), false), None);
        let many = format!("{}\\n", "*[a-y]?".repeat(100)).repeat(90);
        assert!(Patterns::parse(many.as_bytes()).is_err());
    }
}
