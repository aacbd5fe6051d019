//! A call's arguments → a typed call, or an error that names the argument and says what it takes.
//!
//! Pure. Nothing here is a protocol error: a model that wrote a wrong argument can only mend what it is shown, and
//! clients hide protocol errors from it.

use crate::codex::client::{Approvals, ThreadSettings};
use crate::codex::event::ThreadId;
use crate::codex::overrides::{OverrideError, Overrides, parse_overrides};
use crate::codex::prompt::{MAX_PROMPT_CHARS, Prompt, PromptError};
use crate::config::quantity::ModelId;
use crate::config::{Origin, Sourced};
use crate::mcp::network_argument::{NetworkArgumentError, parse_network};
use crate::mcp::schema::{APPROVAL_POLICIES, CODEX_PARAMETERS, CODEX_REPLY_PARAMETERS, SANDBOX_MODES};
use crate::plan::request::WorkspaceAccess;
use crate::session::registry::StartSession;
use crate::wire::untrusted::Untrusted;
use serde_json::{Map, Value};
use std::fmt;
use std::path::PathBuf;

/// A `codex` call.
#[derive(Debug, Clone)]
pub struct CodexCall {
    pub start: StartSession,
    pub prompt: Prompt,
    pub notes: Vec<Note>,
}

/// A `codex-reply` call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplyCall {
    pub thread: ThreadId,
    pub prompt: Prompt,
    pub notes: Vec<Note>,
}

/// What a parameter came to, where that is not what its name says. Handed back with the result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Note {
    ReadOnlySandbox,
    WritableSandbox { asked: &'static str },
    ApprovalsUntrusted { asked: &'static str },
    NetworkNarrowed,
    ConversationIdIsDeprecated,
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ReadOnlySandbox => f.write_str(
                "sandbox `read-only`: the workspace is mounted read-only; scratch space inside the container is writable",
            ),
            Self::WritableSandbox { asked } => write!(
                f,
                "sandbox `{asked}`: Codex may do anything inside its container, to a copy of the workspace; the \
                 container is the boundary and has no network but what the operator allowed"
            ),
            Self::ApprovalsUntrusted { asked } => write!(
                f,
                "approval-policy `{asked}` became `untrusted`: inside a container Codex knows only that and `never`"
            ),
            Self::NetworkNarrowed => f.write_str(
                "network: this thread reaches only what both `network.allow` of the call and the operator allow",
            ),
            Self::ConversationIdIsDeprecated => f.write_str("conversationId is deprecated: use threadId"),
        }
    }
}

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

/// Parses the arguments of `codex`.
pub fn parse_codex(arguments: Map<String, Value>) -> Result<CodexCall, ArgumentError> {
    let mut arguments = Arguments::checked(arguments, &CODEX_PARAMETERS)?;
    let mut notes = Vec::new();
    let prompt = arguments.prompt("say what Codex is to do")?;

    let approvals = match arguments.one_of("approval-policy", &APPROVAL_POLICIES)? {
        None | Some("never") => Approvals::Never,
        Some(asked) => {
            if asked != "untrusted" {
                notes.push(Note::ApprovalsUntrusted { asked });
            }
            Approvals::Untrusted
        }
    };
    let access = match arguments.one_of("sandbox", &SANDBOX_MODES)? {
        Some("read-only") => {
            notes.push(Note::ReadOnlySandbox);
            WorkspaceAccess::ReadOnly
        }
        Some(asked) => {
            notes.push(Note::WritableSandbox { asked });
            WorkspaceAccess::ReadWrite
        }
        None => WorkspaceAccess::ReadWrite,
    };
    if let Some(value) = arguments.string("profile")? {
        return Err(ArgumentError::NoProfiles { value: shown(&value) });
    }
    let model = arguments.model()?;
    let overrides = match arguments.object("config")? {
        None => Overrides::default(),
        Some(config) => parse_overrides(&config)?,
    };
    let network = arguments.object("network")?.map(parse_network).transpose()?;
    if network.is_some() {
        notes.push(Note::NetworkNarrowed);
    }
    Ok(CodexCall {
        start: StartSession {
            workspace: arguments.path("cwd")?,
            mode: None,
            access,
            model,
            network,
            thread: ThreadSettings {
                approvals,
                base_instructions: arguments.text("base-instructions")?,
                developer_instructions: arguments.text("developer-instructions")?,
                compact_prompt: arguments.text("compact-prompt")?,
                overrides,
            },
        },
        prompt,
        notes,
    })
}

/// Parses the arguments of `codex-reply`.
pub fn parse_reply(arguments: Map<String, Value>) -> Result<ReplyCall, ArgumentError> {
    let mut arguments = Arguments::checked(arguments, &CODEX_REPLY_PARAMETERS)?;
    let prompt = arguments.prompt("say how Codex is to go on")?;
    let mut notes = Vec::new();
    let thread = match (arguments.thread("threadId")?, arguments.thread("conversationId")?) {
        (Some(thread), None) => thread,
        (Some(thread), Some(same)) if thread == same => thread,
        (Some(_), Some(_)) => return Err(ArgumentError::TwoThreads),
        (None, Some(thread)) => {
            notes.push(Note::ConversationIdIsDeprecated);
            thread
        }
        (None, None) => {
            return Err(ArgumentError::Missing {
                name: "threadId",
                needed: "pass the `threadId` of the `codex` result that this continues",
            });
        }
    };
    Ok(ReplyCall { thread, prompt, notes })
}

/// Arguments whose names are all known. `null` is the same as leaving the argument out: the removed server took it
/// so, and models write it.
struct Arguments(Map<String, Value>);

impl Arguments {
    /// Names come before values: with `promt` in a call, "`prompt` is missing" would be the worse answer.
    fn checked(arguments: Map<String, Value>, known: &[&'static str]) -> Result<Self, ArgumentError> {
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

    fn string(&mut self, name: &'static str) -> Result<Option<String>, ArgumentError> {
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

    fn object(&mut self, name: &'static str) -> Result<Option<Map<String, Value>>, ArgumentError> {
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

    fn prompt(&mut self, needed: &'static str) -> Result<Prompt, ArgumentError> {
        let name = "prompt";
        let text = self.string(name)?.ok_or(ArgumentError::Missing { name, needed })?;
        Ok(Prompt::parse(text)?)
    }

    /// Instructions: bounded as the prompt is, since they travel the same way.
    fn text(&mut self, name: &'static str) -> Result<Option<String>, ArgumentError> {
        let text = self.string(name)?;
        match &text {
            Some(long) if long.len() > MAX_PROMPT_CHARS && long.chars().count() > MAX_PROMPT_CHARS => {
                Err(ArgumentError::TooLong { name })
            }
            _ => Ok(text),
        }
    }

    /// The known word itself, so that what a note repeats is ours and not the caller's.
    fn one_of(&mut self, name: &'static str, known: &[&'static str]) -> Result<Option<&'static str>, ArgumentError> {
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

    fn model(&mut self) -> Result<Option<Sourced<ModelId>>, ArgumentError> {
        let Some(text) = self.string("model")? else {
            return Ok(None);
        };
        let id = text.parse::<ModelId>().map_err(|error| ArgumentError::Model {
            reason: error.to_string(),
        })?;
        Ok(Some(Sourced::new(id, Origin::Call { parameter: "model" })))
    }

    /// Which folders may be a workspace is for the session to say; here only what can't be a path is refused.
    fn path(&mut self, name: &'static str) -> Result<Option<PathBuf>, ArgumentError> {
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

    fn thread(&mut self, name: &'static str) -> Result<Option<ThreadId>, ArgumentError> {
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
fn shown(text: &str) -> String {
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
    use proptest::prelude::*;
    use serde_json::json;

    fn map(value: Value) -> Map<String, Value> {
        match value {
            Value::Object(map) => map,
            other => panic!("{other} is not an object"),
        }
    }

    fn codex(value: Value) -> Result<CodexCall, String> {
        parse_codex(map(value)).map_err(|error| error.to_string())
    }

    fn codex_error(value: Value) -> String {
        codex(value).expect_err("refused")
    }

    fn reply(value: Value) -> Result<ReplyCall, String> {
        parse_reply(map(value)).map_err(|error| error.to_string())
    }

    #[test]
    fn every_parameter_lands_where_it_belongs() {
        let call = codex(json!({
            "prompt": "do it", "approval-policy": "on-request", "base-instructions": "base", "compact-prompt": "short",
            "cwd": "sub/folder", "developer-instructions": "dev", "model": "gpt-5.5", "network": {"allow": ["a.example"]},
            "sandbox": "read-only",
        }))
        .expect("parses");
        assert_eq!(call.prompt.as_str(), "do it");
        assert_eq!(call.start.workspace, Some(PathBuf::from("sub/folder")));
        assert_eq!(call.start.access, WorkspaceAccess::ReadOnly);
        let model = call.start.model.expect("a model");
        assert_eq!(
            (model.value.as_str(), model.origin),
            ("gpt-5.5", Origin::Call { parameter: "model" })
        );
        assert_eq!(
            call.start.thread,
            ThreadSettings {
                approvals: Approvals::Untrusted,
                base_instructions: Some("base".into()),
                developer_instructions: Some("dev".into()),
                compact_prompt: Some("short".into()),
                overrides: Overrides::default(),
            }
        );
        assert_eq!(
            call.notes,
            [
                Note::ApprovalsUntrusted { asked: "on-request" },
                Note::ReadOnlySandbox,
                Note::NetworkNarrowed
            ]
        );
        assert_eq!(call.start.network, Some(vec!["a.example:443".parse().expect("a rule")]));
    }

    #[test]
    fn a_prompt_alone_is_enough_and_null_means_left_out() {
        for arguments in [
            json!({"prompt": "x"}),
            json!({"prompt": "x", "cwd": null, "model": null, "config": null, "profile": null, "sandbox": null,
                "network": null}),
        ] {
            let call = codex(arguments).expect("parses");
            assert_eq!(call.start.access, WorkspaceAccess::ReadWrite);
            assert_eq!(call.start.thread, ThreadSettings::default());
            assert!(call.start.workspace.is_none() && call.start.model.is_none() && call.notes.is_empty());
            assert_eq!(call.start.network, None);
        }
    }

    #[test]
    fn approvals_are_never_or_untrusted() {
        for (policy, approvals, notes) in [
            ("never", Approvals::Never, 0),
            ("untrusted", Approvals::Untrusted, 0),
            ("on-failure", Approvals::Untrusted, 1),
            ("on-request", Approvals::Untrusted, 1),
        ] {
            let call = codex(json!({"prompt": "x", "approval-policy": policy})).expect("parses");
            assert_eq!(
                (call.start.thread.approvals, call.notes.len()),
                (approvals, notes),
                "{policy}"
            );
        }
    }

    #[test]
    fn no_sandbox_mode_widens_anything() {
        for mode in ["workspace-write", "danger-full-access"] {
            let call = codex(json!({"prompt": "x", "sandbox": mode})).expect("parses");
            assert_eq!(call.start.access, WorkspaceAccess::ReadWrite);
            assert_eq!(call.notes, [Note::WritableSandbox { asked: mode }]);
        }
    }

    #[test]
    fn each_error_names_the_argument() {
        insta::assert_snapshot!(codex_error(json!({})), @"`prompt` is missing: say what Codex is to do");
        insta::assert_snapshot!(codex_error(json!({"prompt": " "})), @"`prompt`: the prompt is empty: say what Codex is to do");
        insta::assert_snapshot!(codex_error(json!({"prompt": 7})), @"`prompt` must be a string, not a number");
        insta::assert_snapshot!(codex_error(json!({"prompt": "x", "cwd": ["a"]})), @"`cwd` must be a string, not an array");
        insta::assert_snapshot!(codex_error(json!({"prompt": "x", "config": "a=b"})), @"`config` must be an object, not a string");
        insta::assert_snapshot!(codex_error(json!({"prompt": "x", "cwd": ""})), @"`cwd` is not a path: it is empty; leave it out for the folder that the server was started in");
        insta::assert_snapshot!(codex_error(json!({"prompt": "x", "profile": "fast"})), @r#"`profile` is "fast", but this server has no profiles: leave it out"#);
        insta::assert_snapshot!(codex_error(json!({"prompt": "x", "sandbox": "none"})), @r#"`sandbox` can't be "none": it takes one of `read-only`, `workspace-write`, `danger-full-access`"#);
        insta::assert_snapshot!(codex_error(json!({"prompt": "x", "approvalPolicy": "never"})), @"there is no argument `approvalPolicy`; did you mean `approval-policy`?; this tool takes `approval-policy`, `base-instructions`, `compact-prompt`, `config`, `cwd`, `developer-instructions`, `model`, `network`, `profile`, `prompt`, `sandbox`");
        insta::assert_snapshot!(codex_error(json!({"prompt": "x", "network": ["a.example"]})), @"`network` must be an object, not an array");
        insta::assert_snapshot!(codex_error(json!({"prompt": "x", "network": {"allow": ["a b"]}})), @r#"`network.allow[0]` is "a b": a name has letters, digits, `-` and `_` between its dots, and no control byte"#);
        insta::assert_snapshot!(codex_error(json!({"promt": "x"})).split_once("; this").expect("list").0, @"there is no argument `promt`; did you mean `prompt`?");
        insta::assert_snapshot!(codex_error(json!({"prompt": "x", "temperature": 1})).split_once("; this").expect("list").0, @"there is no argument `temperature`");
        insta::assert_snapshot!(codex_error(json!({"prompt": "x", "config": {"sandbox_mode": "danger-full-access"}})), @"`config.sandbox_mode` can't be set by a call: the container is the sandbox, and the operator's configuration shapes it");
        assert!(codex_error(json!({"prompt": "x", "model": "no spaces allowed"})).starts_with("`model`: "));
        assert!(codex_error(json!({"prompt": "x".repeat(MAX_PROMPT_CHARS + 1)})).starts_with("`prompt`: "));
        assert!(
            codex_error(json!({"prompt": "x", "base-instructions": "x".repeat(MAX_PROMPT_CHARS + 1)}))
                .starts_with("`base-instructions` has more than")
        );
    }

    #[test]
    fn a_reply_takes_the_thread_by_either_name_but_not_two_threads() {
        let id = ThreadId::parse("0199-a").expect("an id");
        let by_new = reply(json!({"prompt": "x", "threadId": "0199-a"})).expect("parses");
        assert_eq!((by_new.thread, by_new.notes.len()), (id.clone(), 0));
        let by_old = reply(json!({"prompt": "x", "conversationId": "0199-a"})).expect("parses");
        assert_eq!(
            (by_old.thread, by_old.notes),
            (id.clone(), vec![Note::ConversationIdIsDeprecated])
        );
        let both = reply(json!({"prompt": "x", "threadId": "0199-a", "conversationId": "0199-a"})).expect("parses");
        assert_eq!(both.thread, id);
        let two = reply(json!({"prompt": "x", "threadId": "a", "conversationId": "b"})).expect_err("two threads");
        assert!(two.contains("different threads"), "{two}");
        let none = reply(json!({"prompt": "x"})).expect_err("no thread");
        assert!(none.starts_with("`threadId` is missing"), "{none}");
        let odd = reply(json!({"prompt": "x", "conversationId": "../../etc"})).expect_err("not an id");
        assert!(odd.starts_with("`conversationId` is not a thread id"), "{odd}");
    }

    #[test]
    fn what_the_caller_wrote_is_repeated_short_and_without_control_characters() {
        let hostile = format!("\u{1b}[2J{}", "a".repeat(5000));
        let text = codex_error(json!({"prompt": "x", hostile: 1}));
        assert!(!text.contains('\u{1b}') && text.len() < 400, "{text}");
    }

    proptest! {
        #[test]
        fn an_error_never_lacks_the_name_and_nothing_panics(
            name in "[a-zA-Z-]{1,20}",
            value in prop_oneof![Just(json!(1)), Just(json!(true)), Just(json!([])), ".*".prop_map(Value::from)],
        ) {
            let mut arguments = map(json!({"prompt": "x"}));
            arguments.insert(name.clone(), value);
            if let Err(error) = parse_codex(arguments) {
                prop_assert!(error.to_string().contains(&format!("`{name}`")), "{error}");
            }
        }
    }
}
