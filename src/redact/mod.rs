//! The last thing that any text passes before it leaves this process: log lines, audit records, errors, results.
//!
//! Nothing should have a secret in it by then. This layer is for what was overlooked: values that this process has read as
//! secrets are replaced wherever they stand, also as JSON, base64, a URL or a header spells them, and so is what has the
//! shape of somebody's token. It must never print, compare or hand out what it was taught.
//!
//! - [`Redactor`]: what is known, and the replacing.
//! - [`shape`]: what tokens look like (pure).
//! - [`lines`]: a stream of JSON lines that passes it.

pub mod lines;
pub mod shape;

use aho_corasick::{AhoCorasick, AhoCorasickKind, MatchKind};
use base64::Engine;
use base64::engine::general_purpose::{GeneralPurpose, STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use serde_json::Value;
use shape::{SHAPES, Scan};
use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Arc, LazyLock, PoisonError, RwLock};

/// What stands in a secret's place.
pub const REDACTED: &str = "[redacted]";

/// The shortest value that is looked for, in bytes. A shorter one is in too many words that are no secret.
pub const SHORTEST: usize = 6;
/// How many bytes of known values are looked for with a table of all bytes for each of theirs, which is the fastest and a
/// kilobyte a byte.
const TABLED: usize = 8 << 10;
/// The shortest line of a value of several lines that is looked for by itself.
const SHORTEST_LINE: usize = 16;

/// What this process must never print. Clones share what they know.
#[derive(Clone)]
pub struct Redactor(Arc<RwLock<Known>>);

struct Known {
    values: BTreeSet<Vec<u8>>,
    finder: Arc<Finder>,
}

impl fmt::Debug for Redactor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Redactor")
    }
}

impl Default for Redactor {
    fn default() -> Self {
        let values = BTreeSet::new();
        let finder = Arc::new(Finder::new(&values));
        Self(Arc::new(RwLock::new(Known { values, finder })))
    }
}

impl Redactor {
    /// The one of this process, which the log and the command line's own output pass.
    pub fn of_process() -> Self {
        static OF_PROCESS: LazyLock<Redactor> = LazyLock::new(Redactor::default);
        OF_PROCESS.clone()
    }

    /// Remembers a value for as long as the process lives: it may be in a text long after it was last used.
    pub fn learn(&self, secret: &[u8]) {
        let spellings = spellings(secret);
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let before = known.values.len();
        known.values.extend(spellings);
        if known.values.len() > before {
            known.finder = Arc::new(Finder::new(&known.values));
        }
    }

    /// `text` with every secret in it replaced by [`REDACTED`].
    pub fn text<'t>(&self, text: &'t str) -> Cow<'t, str> {
        match self.finder().replace(text.as_bytes()) {
            // Only whole characters are cut out, but a value that was taught need not be whole ones.
            Some(replaced) => Cow::Owned(String::from_utf8_lossy(&replaced).into_owned()),
            None => Cow::Borrowed(text),
        }
    }

    /// Every string of `value`, in place. Names of fields are the format's own and stay, or a secret that is called `result` would
    /// make an answer into none.
    pub fn json(&self, value: &mut Value) {
        match value {
            Value::String(text) => {
                if let Cow::Owned(replaced) = self.text(text) {
                    *text = replaced;
                }
            }
            Value::Array(items) => items.iter_mut().for_each(|item| self.json(item)),
            Value::Object(fields) => fields.values_mut().for_each(|value| self.json(value)),
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }

    /// A line of JSON, string by string: what stands between quotes has escapes, so that a token at the beginning of a line looks like
    /// the end of a word there. A line that is no JSON is replaced as text, up to its end.
    pub fn json_line<'l>(&self, line: &'l [u8]) -> Cow<'l, [u8]> {
        let finder = self.finder();
        let end: &[u8] = if line.ends_with(b"\n") { b"\n" } else { b"" };
        // Known values are known as JSON spells them, and no beginning of a shape has anything to escape.
        if !finder.suspects(line) {
            return Cow::Borrowed(line);
        }
        let Ok(mut value) = serde_json::from_slice::<Value>(line) else {
            let replaced = finder.replace(line.strip_suffix(end).unwrap_or(line));
            return replaced.map_or(Cow::Borrowed(line), |text| Cow::Owned([&text, end].concat()));
        };
        let before = value.clone();
        self.json(&mut value);
        // The name that whoever asked gave to the question is theirs, and without it there is no answer.
        if let (Some(id), Some(kept)) = (value.get_mut("id"), before.get("id")) {
            id.clone_from(kept);
        }
        if value == before {
            return Cow::Borrowed(line);
        }
        Cow::Owned([value.to_string().as_bytes(), end].concat())
    }

    fn finder(&self) -> Arc<Finder> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner).finder)
    }
}

/// How a value may be spelled in a text.
fn spellings(secret: &[u8]) -> Vec<Vec<u8>> {
    let text = String::from_utf8_lossy(secret);
    let trimmed = text.trim();
    let mut spellings = vec![
        secret.to_vec(),
        trimmed.as_bytes().to_vec(),
        percent_encoded(secret).into_bytes(),
        json_spelled(trimmed).into_bytes(),
    ];
    // A line with words in it may be anybody's: `<?xml version=…` of a settings file with a password is no secret.
    let is_secret = |line: &&str| line.len() >= SHORTEST_LINE && !line.contains(char::is_whitespace);
    let lines = trimmed.lines().map(str::trim).filter(is_secret);
    spellings.extend(lines.map(|line| line.as_bytes().to_vec()));
    spellings.extend(
        (0..3).flat_map(|phase| [&STANDARD_NO_PAD, &URL_SAFE_NO_PAD].map(|way| within_base64(way, secret, phase))),
    );
    spellings.retain(|spelling| spelling.len() >= SHORTEST);
    spellings
}

/// As base64 spells it within something longer that has `phase` bytes (modulo three) before it: without the characters at its edges
/// that also tell of its neighbours.
fn within_base64(way: &GeneralPurpose, secret: &[u8], phase: usize) -> Vec<u8> {
    let before = vec![0; phase];
    let encoded = way.encode([&before, secret].concat());
    let from = [0, 2, 3].get(phase).copied().unwrap_or_default();
    let shared_end = usize::from(!(phase + secret.len()).is_multiple_of(3));
    let to = encoded.len().saturating_sub(shared_end);
    encoded.as_bytes().get(from..to).unwrap_or_default().to_vec()
}

/// As it stands between the quotes of a JSON string.
fn json_spelled(text: &str) -> String {
    let quoted = Value::from(text).to_string();
    let inner = quoted.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    inner.unwrap_or_default().to_owned()
}

fn percent_encoded(bytes: &[u8]) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    bytes.iter().fold(String::new(), |mut text, &byte| {
        match plain(byte) {
            true => text.push(byte.into()),
            false => text.push_str(&format!("%{byte:02X}")),
        }
        text
    })
}

/// Looks for all known values and for the beginnings of all shapes in one pass.
struct Finder {
    automaton: Option<AhoCorasick>,
    /// Patterns below this are known values, from here on those of [`SHAPES`].
    values: usize,
}

impl Finder {
    fn new(values: &BTreeSet<Vec<u8>>) -> Self {
        let shapes = SHAPES.iter().map(|shape| shape.begins.as_bytes());
        let patterns = values.iter().map(Vec::as_slice).chain(shapes);
        let size: usize = values.iter().map(Vec::len).sum();
        // Of two values one of which begins the other, the longer is the one to cut out.
        let automaton = AhoCorasick::builder()
            .match_kind(MatchKind::LeftmostLongest)
            .kind((size > TABLED).then_some(AhoCorasickKind::ContiguousNFA))
            .build(patterns);
        Self {
            // It only fails for patterns of some GiB, which no source gives.
            automaton: automaton.ok(),
            values: values.len(),
        }
    }

    /// Whether there is anything to look at: a known value, or the beginning of a shape, whatever comes before and after it.
    fn suspects(&self, text: &[u8]) -> bool {
        self.automaton.as_ref().is_none_or(|automaton| automaton.is_match(text))
    }

    /// `None` where there is nothing to replace.
    fn replace(&self, text: &[u8]) -> Option<Vec<u8>> {
        let Some(automaton) = &self.automaton else {
            return Some(REDACTED.as_bytes().to_vec());
        };
        let mut replaced: Option<Vec<u8>> = None;
        let mut scan = Scan::new(text);
        let mut copied = 0;
        let mut at = 0;
        while let Some(found) = automaton.find(aho_corasick::Input::new(text).range(at..)) {
            let pattern = found.pattern().as_usize();
            let cut = match pattern.checked_sub(self.values).and_then(|shape| SHAPES.get(shape)) {
                None => Some(found.range()),
                Some(shape) => scan.covers(shape, found.start()),
            };
            let Some(cut) = cut else {
                at = found.start() + 1;
                continue;
            };
            let replaced = replaced.get_or_insert_default();
            replaced.extend_from_slice(text.get(copied..cut.start).unwrap_or_default());
            replaced.extend_from_slice(REDACTED.as_bytes());
            copied = cut.end;
            at = cut.end;
        }
        if let Some(replaced) = &mut replaced {
            replaced.extend_from_slice(text.get(copied..).unwrap_or_default());
        }
        replaced
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn knowing(secrets: &[&str]) -> Redactor {
        let redactor = Redactor::default();
        secrets.iter().for_each(|secret| redactor.learn(secret.as_bytes()));
        redactor
    }

    #[test]
    fn a_known_value_is_replaced_however_it_is_spelled() {
        let redactor = knowing(&["pass\"word/1+2"]);
        let base64 = STANDARD_NO_PAD.encode("pass\"word/1+2");
        for (text, expected) in [
            ("it is pass\"word/1+2.".to_owned(), "it is [redacted]."),
            (json!({"a": "pass\"word/1+2"}).to_string(), "{\"a\":\"[redacted]\"}"),
            ("?key=pass%22word%2F1%2B2&x".to_owned(), "?key=[redacted]&x"),
            (format!("Basic {base64}="), "Basic [redacted]g="),
            ("pass word".to_owned(), "pass word"),
        ] {
            assert_eq!(redactor.text(&text), expected);
        }
    }

    #[test]
    fn a_known_value_within_base64_of_something_longer_is_found() {
        let redactor = knowing(&["pass\"word/1+2"]);
        for around in ["", "u:", "me:", "you:"] {
            let encoded = STANDARD_NO_PAD.encode(format!("{around}pass\"word/1+2, and more"));
            assert!(redactor.text(&encoded).contains(REDACTED), "{around}");
        }
    }

    #[test]
    fn each_line_of_a_long_value_is_known_and_a_short_word_is_not() {
        let redactor = knowing(&[
            "-first-line-of-a-key-\nshort\n-second-line-of-a-key-\na line of many words\n",
            "abc",
        ]);
        assert_eq!(
            redactor.text("x -second-line-of-a-key- short abc; a line of many words"),
            "x [redacted] short abc; a line of many words"
        );
    }

    #[test]
    fn of_two_values_that_begin_alike_the_whole_one_goes() {
        let redactor = knowing(&["secret-value", "secret-value-and-more"]);
        assert_eq!(redactor.text("secret-value-and-more"), REDACTED);
        assert_eq!(redactor.text("secret-value-and"), "[redacted]-and");
    }

    #[test]
    fn json_keeps_its_shape() {
        let redactor = knowing(&["\"}, {\"", "content"]);
        let mut value = json!({"content": ["a\"}, {\"b", 1, null, {"k": "content"}]});
        redactor.json(&mut value);
        assert_eq!(
            value,
            json!({"content": ["a[redacted]b", 1, null, {"k": "[redacted]"}]})
        );
    }

    #[test]
    fn debug_shows_nothing() {
        assert_eq!(format!("{:?}", knowing(&["secret-value"])), "Redactor");
    }

    #[test]
    fn clones_share_what_they_learn() {
        let redactor = Redactor::default();
        let clone = redactor.clone();
        redactor.learn(b"secret-value");
        assert_eq!(clone.text("a secret-value"), "a [redacted]");
    }

    proptest! {
        #[test]
        fn no_known_value_survives(
            secrets in proptest::collection::vec("[ -~]{6,24}", 1..5),
            pieces in proptest::collection::vec((any::<prop::sample::Index>(), "[ -~é]{0,6}"), 1..12),
        ) {
            // A value that is part of the mark itself would be found in what replaced it.
            prop_assume!(!secrets.iter().any(|secret| REDACTED.contains(secret.as_str())));
            let secrets: Vec<&str> = secrets.iter().map(String::as_str).collect();
            let redactor = knowing(&secrets);
            let text: String = pieces.iter().map(|(which, between)| format!("{between}{}", which.get(&secrets))).collect();
            let replaced = redactor.text(&text).into_owned();
            // What is left between two marks can't be a whole value.
            for part in replaced.split(REDACTED) {
                for secret in &secrets {
                    prop_assert!(!part.contains(secret), "{part:?}");
                }
            }
            let mut value = json!([{ "k": text }]);
            redactor.json(&mut value);
            prop_assert_eq!(value[0]["k"].as_str().unwrap(), replaced);
        }

        #[test]
        fn what_holds_no_secret_is_left_alone(text in "[a-z éß\n{}\":,]{0,80}") {
            prop_assert!(matches!(knowing(&["A-SECRET"]).text(&text), Cow::Borrowed(_)));
        }
    }
}
