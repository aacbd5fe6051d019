//! A call's arguments, taken one by one: each becomes a typed value, or an error that names the argument and says what it takes.
//!
//! Pure. Nothing here is a protocol error: a model that wrote a wrong argument can only mend what it is shown, and
//! clients hide protocol errors from it.

use crate::codex::event::ThreadId;
use crate::codex::overrides::OverrideError;
use crate::codex::prompt::{MAX_PROMPT_CHARS, Prompt, PromptError};
use crate::config::quantity::ModelId;
use crate::config::{Origin, Sourced};
use crate::mcp::network_argument::NetworkArgumentError;
use crate::mcp::turns::log::Cursor;
use crate::wire::untrusted::Untrusted;
use serde_json::{Map, Value};
use std::ops::RangeInclusive;
use std::path::PathBuf;

/// What is wrong with a call's arguments.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ArgumentError {
    #[error("there is no argument `{name}`{}; this tool takes {takes}", did_you_mean(*nearest))]
    Unknown {
        name: String,
        nearest: Option<&'static str>,
        takes: String,
    },
    #[error("`{name}` is missing: {needed}")]
    Missing { name: &'static str, needed: &'static str },
    #[error("`{name}` must be {expected}, not {actual}")]
    WrongType {
        name: &'static str,
        expected: &'static str,
        actual: &'static str,
    },
    #[error("`{name}` can't be {value:?}: it takes one of {takes}")]
    NotOneOf {
        name: &'static str,
        value: String,
        takes: String,
    },
    #[error("`prompt`: {0}")]
    Prompt(#[from] PromptError),
    #[error("`{name}` has more than {MAX_PROMPT_CHARS} characters: put long material into a file in the workspace")]
    TooLong { name: &'static str },
    #[error("`model`: {reason}")]
    Model { reason: String },
    #[error(transparent)]
    Overrides(#[from] OverrideError),
    #[error(transparent)]
    Network(#[from] NetworkArgumentError),
    #[error("`effort` and `config.model_reasoning_effort` are the same: pass one of them")]
    TwoEfforts,
    #[error("`{name}` must be a whole number from {least} to {most}")]
    OutOfRange { name: &'static str, least: u64, most: u64 },
    #[error("`cursor` is not one: pass the `cursor` of an earlier result as it is, or leave it out")]
    NotACursor,
    #[error("`expectHash` is not a hash: pass `changes.hash` of a result, 64 hexadecimal digits")]
    NotAHash,
    #[error("`profile` is {value:?}, but this server has no profiles: leave it out")]
    NoProfiles { value: String },
    #[error("`cwd` is not a path: {reason}")]
    Path { reason: &'static str },
    #[error("`{name}` is not a thread id: pass the `threadId` of an earlier `codex` result as it is")]
    NotAThreadId { name: &'static str },
    #[error(
        "`threadId` and `conversationId` name different threads: conversationId is deprecated, pass threadId alone"
    )]
    TwoThreads,
}

fn did_you_mean(nearest: Option<&'static str>) -> String {
    nearest
        .map(|name| format!("; did you mean `{name}`?"))
        .unwrap_or_default()
}

/// Arguments whose names are all known. `null` is the same as leaving the argument out: the removed server took it
/// so, and models write it.
pub struct Arguments(Map<String, Value>);

impl Arguments {
    /// Names come before values: with `promt` in a call, "`prompt` is missing" would be the worse answer.
    pub fn checked(arguments: Map<String, Value>, known: &[&'static str]) -> Result<Self, ArgumentError> {
        match arguments.keys().find(|name| !known.contains(&name.as_str())) {
            None => Ok(Self(arguments)),
            Some(unknown) => Err(ArgumentError::Unknown {
                nearest: nearest(unknown, known),
                name: shown(unknown),
                takes: listed(known),
            }),
        }
    }

    fn take(&mut self, name: &'static str) -> Option<Value> {
        self.0.remove(name).filter(|value| !value.is_null())
    }

    pub fn string(&mut self, name: &'static str) -> Result<Option<String>, ArgumentError> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(other) => Err(ArgumentError::WrongType {
                name,
                expected: "a string",
                actual: kind_of(&other),
            }),
        }
    }

    pub fn boolean(&mut self, name: &'static str) -> Result<Option<bool>, ArgumentError> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::Bool(value)) => Ok(Some(value)),
            Some(other) => Err(ArgumentError::WrongType {
                name,
                expected: "true or false",
                actual: kind_of(&other),
            }),
        }
    }

    pub fn number(&mut self, name: &'static str, range: RangeInclusive<u64>) -> Result<Option<u64>, ArgumentError> {
        let Some(value) = self.take(name) else {
            return Ok(None);
        };
        if !value.is_number() {
            return Err(ArgumentError::WrongType {
                name,
                expected: "a number",
                actual: kind_of(&value),
            });
        }
        // Some clients write every number with a fraction.
        let whole = value.as_u64().or_else(|| {
            value
                .as_f64()
                .filter(|number| number.fract() == 0.0 && *number >= 0.0)
                .map(|number| number as u64)
        });
        match whole.filter(|number| range.contains(number)) {
            Some(number) => Ok(Some(number)),
            None => Err(ArgumentError::OutOfRange {
                name,
                least: *range.start(),
                most: *range.end(),
            }),
        }
    }

    pub fn cursor(&mut self) -> Result<Option<Cursor>, ArgumentError> {
        match self.string("cursor")? {
            None => Ok(None),
            Some(text) => Cursor::parse(&text).map(Some).ok_or(ArgumentError::NotACursor),
        }
    }

    /// The thread that a tool is about.
    pub fn needed_thread(&mut self) -> Result<ThreadId, ArgumentError> {
        self.thread("threadId")?.ok_or(ArgumentError::Missing {
            name: "threadId",
            needed: "pass the `threadId` of a `codex` result; `codex-sessions` lists those that there are",
        })
    }

    pub fn object(&mut self, name: &'static str) -> Result<Option<Map<String, Value>>, ArgumentError> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::Object(map)) => Ok(Some(map)),
            Some(other) => Err(ArgumentError::WrongType {
                name,
                expected: "an object",
                actual: kind_of(&other),
            }),
        }
    }

    pub fn prompt(&mut self, needed: &'static str) -> Result<Prompt, ArgumentError> {
        let name = "prompt";
        let text = self.string(name)?.ok_or(ArgumentError::Missing { name, needed })?;
        Ok(Prompt::parse(text)?)
    }

    /// Instructions: bounded as the prompt is, since they travel the same way.
    pub fn text(&mut self, name: &'static str) -> Result<Option<String>, ArgumentError> {
        let text = self.string(name)?;
        match &text {
            Some(long) if long.len() > MAX_PROMPT_CHARS && long.chars().count() > MAX_PROMPT_CHARS => {
                Err(ArgumentError::TooLong { name })
            }
            _ => Ok(text),
        }
    }

    /// The known word itself, so that what a note repeats is ours and not the caller's.
    pub fn one_of(
        &mut self,
        name: &'static str,
        known: &[&'static str],
    ) -> Result<Option<&'static str>, ArgumentError> {
        let Some(text) = self.string(name)? else {
            return Ok(None);
        };
        match known.iter().find(|word| **word == text) {
            Some(word) => Ok(Some(word)),
            None => Err(ArgumentError::NotOneOf {
                name,
                value: shown(&text),
                takes: listed(known),
            }),
        }
    }

    pub fn model(&mut self) -> Result<Option<Sourced<ModelId>>, ArgumentError> {
        let Some(text) = self.string("model")? else {
            return Ok(None);
        };
        let id = text.parse::<ModelId>().map_err(|error| ArgumentError::Model {
            reason: error.to_string(),
        })?;
        Ok(Some(Sourced::new(id, Origin::Call { parameter: "model" })))
    }

    /// Which folders may be a workspace is for the session to say; here only what can't be a path is refused.
    pub fn path(&mut self, name: &'static str) -> Result<Option<PathBuf>, ArgumentError> {
        match self.string(name)? {
            None => Ok(None),
            Some(text) if text.is_empty() => Err(ArgumentError::Path {
                reason: "it is empty; leave it out for the folder that the server was started in",
            }),
            Some(text) if text.contains('\0') => Err(ArgumentError::Path {
                reason: "it has a zero byte",
            }),
            Some(text) => Ok(Some(PathBuf::from(text))),
        }
    }

    pub fn thread(&mut self, name: &'static str) -> Result<Option<ThreadId>, ArgumentError> {
        match self.string(name)? {
            None => Ok(None),
            Some(text) => match ThreadId::parse(&text) {
                Some(thread) => Ok(Some(thread)),
                None => Err(ArgumentError::NotAThreadId { name }),
            },
        }
    }
}

/// A caller's own words, short enough and harmless enough to repeat in an error.
pub(super) fn shown(text: &str) -> String {
    Untrusted::new(text).one_line(60)
}

fn listed(names: &[&'static str]) -> String {
    names
        .iter()
        .map(|name| format!("`{name}`"))
        .collect::<Vec<_>>()
        .join(", ")
}

/// The known name that was probably meant: the same but for case and separators (`approvalPolicy`), else at most a
/// third of it mistyped.
fn nearest(unknown: &str, known: &[&'static str]) -> Option<&'static str> {
    // Comparing is quadratic, and nobody mistypes a name this long.
    if unknown.len() > 64 {
        return None;
    }
    let plain = |name: &str| name.replace(['-', '_'], "").to_lowercase();
    let meant = plain(unknown);
    let (distance, name) = known
        .iter()
        .map(|name| (strsim::damerau_levenshtein(&meant, &plain(name)), *name))
        .min()?;
    (distance <= name.len() / 3).then_some(name)
}

pub(super) fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn arguments(value: Value) -> Arguments {
        match value {
            Value::Object(map) => Arguments(map),
            other => panic!("{other} is not an object"),
        }
    }

    #[test]
    fn a_number_is_whole_and_within_its_range() {
        for (value, number) in [(json!(45), 45), (json!(45.0), 45), (json!(0), 0), (json!(200), 200)] {
            let taken = arguments(json!({"waitSeconds": value})).number("waitSeconds", 0..=200);
            assert_eq!(taken, Ok(Some(number)));
        }
        for value in [json!(-1), json!(201), json!(1.5), json!(1e300)] {
            let taken = arguments(json!({"waitSeconds": value})).number("waitSeconds", 0..=200);
            let error = taken.expect_err("refused").to_string();
            assert_eq!(error, "`waitSeconds` must be a whole number from 0 to 200");
        }
        let error = arguments(json!({"waitSeconds": "45"})).number("waitSeconds", 0..=200);
        assert_eq!(
            error.expect_err("refused").to_string(),
            "`waitSeconds` must be a number, not a string"
        );
    }

    #[test]
    fn a_cursor_is_one_of_ours() {
        let cursor = |text: &str| arguments(json!({ "cursor": text })).cursor();
        assert!(cursor("7.12").expect("a cursor").is_some());
        assert_eq!(cursor("12"), Err(ArgumentError::NotACursor));
        assert_eq!(arguments(json!({"cursor": null})).cursor(), Ok(None));
    }
}
