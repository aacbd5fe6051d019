//! `codex` and `codex-reply`: the drop-in for the removed `codex mcp-server`.
//!
//! The contract is the removed server's: names, types and `required` of its parameters, the union of what its last two shapes took
//! (0.130.0 and 0.153.4), and its result. What is ours is optional.

use crate::codex::client::{Approvals, ThreadSettings};
use crate::codex::overrides::parse_overrides;
use crate::config::WorkspaceMode;
use crate::mcp::agent::Agent;
use crate::mcp::arguments::{ArgumentError, Arguments, shown};
use crate::mcp::asking::NotOurs;
use crate::mcp::network_argument::{MAX_RULES, parse_network};
use crate::mcp::result;
use crate::mcp::schema::{self, Effects};
use crate::mcp::tools::CallContext;
use crate::mcp::turns::Turns;
use crate::mcp::turns::follow::{Cancelling, Followed, Following, Patience, follow};
use crate::mcp::turns::work::{Asking, On};
use crate::plan::request::WorkspaceAccess;
use crate::session::registry::StartSession;
use rmcp::model::{CallToolResponse, CallToolResult, Tool};
use serde_json::{Map, Value, json};
use std::fmt;
use std::time::Instant;

pub const CODEX: &str = "codex";
pub const CODEX_REPLY: &str = "codex-reply";

const CODEX_PARAMETERS: [&str; 14] = [
    "approval-policy",
    "base-instructions",
    "compact-prompt",
    "config",
    "cwd",
    "developer-instructions",
    "effort",
    "model",
    "network",
    "profile",
    "prompt",
    "sandbox",
    "wait",
    "workspace",
];
const CODEX_REPLY_PARAMETERS: [&str; 4] = ["conversationId", "prompt", "threadId", "wait"];

const APPROVAL_POLICIES: [&str; 4] = ["untrusted", "on-failure", "on-request", "never"];
const SANDBOX_MODES: [&str; 3] = ["read-only", "workspace-write", "danger-full-access"];
const WORKSPACE_MODES: [&str; 3] = ["snapshot", "bind", "scratch"];

/// What `effort` sets.
const EFFORT_SETTING: &str = "model_reasoning_effort";

/// A call that asks for a turn.
#[derive(Debug)]
pub struct TurnCall {
    pub asking: Asking,
    pub waits: Waits,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Waits {
    UntilBegun,
    /// Or as long as a call waits at most.
    UntilEnded,
}

impl Waits {
    fn asked(wait: Option<bool>) -> Self {
        match wait {
            Some(false) => Self::UntilBegun,
            Some(true) | None => Self::UntilEnded,
        }
    }
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

pub fn codex() -> Tool {
    let properties = json!({
        "approval-policy": {
            "type": "string",
            "enum": APPROVAL_POLICIES,
            "description": "When Codex asks before a command. `never` asks nothing; the other three are the same."
        },
        "base-instructions": {
            "type": "string",
            "description": "Instructions in place of Codex's own."
        },
        "compact-prompt": {
            "type": "string",
            "description": "Prompt for compacting the conversation."
        },
        "config": {
            "type": "object",
            "additionalProperties": true,
            "description": "Codex settings that can't weaken the isolation."
        },
        "cwd": {
            "type": "string",
            "description": "The folder to work on; default: the server's own. Codex gets a copy."
        },
        "developer-instructions": {
            "type": "string",
            "description": "Added as a developer message."
        },
        "effort": {
            "type": "string",
            "description": "Reasoning effort: minimal, low, medium, high."
        },
        "model": {
            "type": "string",
            "description": "The model, where not the default."
        },
        "network": {
            "type": "object",
            "additionalProperties": false,
            "required": ["allow"],
            "description": "Narrows what commands may reach.",
            "properties": {
                "allow": {
                    "type": "array",
                    "maxItems": MAX_RULES,
                    "items": {"type": "string"},
                    "description": "Rules such as `api.example.com`, `*.example.com:8443`; `[]`: nothing."
                }
            }
        },
        "profile": {
            "type": "string",
            "description": "A profile that the operator configured."
        },
        "prompt": {
            "type": "string",
            "description": "What Codex is to do."
        },
        "sandbox": {
            "type": "string",
            "enum": SANDBOX_MODES,
            "description": "`read-only`: the workspace can't be written. The others: Codex writes to its copy."
        },
        "wait": {
            "type": "boolean",
            "description": "false: return once the thread has started; codex-status has the rest."
        },
        "workspace": {
            "type": "object",
            "additionalProperties": false,
            "description": "`snapshot`: a copy; `bind`: the folder itself, where the operator allows it; `scratch`: empty.",
            "properties": {"mode": {"type": "string", "enum": WORKSPACE_MODES}}
        }
    });
    schema::tool(
        CODEX,
        "Codex",
        "Have Codex, an autonomous coding agent, do a task in a container of its own, on a copy of a folder. Answers with its last \
         message, what it changed, and a threadId for codex-reply; codex-apply brings the changes to the folder. Turns take minutes: \
         where this returns before the end, codex-status waits for it. Example: {\"prompt\": \"Fix the failing test\", \"cwd\": \"/src/app\"}",
        Effects::Contained,
        schema::input(&["prompt"], &properties),
        schema::turn_output(),
    )
}

pub fn codex_reply() -> Tool {
    let properties = json!({
        "conversationId": {
            "type": "string",
            "description": "DEPRECATED: use threadId."
        },
        "prompt": {
            "type": "string",
            "description": "The next prompt."
        },
        "threadId": {
            "type": "string",
            "description": "The thread (required unless conversationId is passed)."
        },
        "wait": {
            "type": "boolean",
            "description": "As in codex."
        }
    });
    schema::tool(
        CODEX_REPLY,
        "Codex Reply",
        "Continue a Codex thread, also one whose container or server is gone.",
        Effects::Contained,
        schema::input(&["prompt"], &properties),
        schema::reply_output(),
    )
}

/// Parses the arguments of `codex`.
pub fn parse_codex(arguments: Map<String, Value>) -> Result<TurnCall, ArgumentError> {
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
    let mut config = arguments.object("config")?.unwrap_or_default();
    if let Some(effort) = arguments.string("effort")?
        && config.insert(EFFORT_SETTING.to_owned(), effort.into()).is_some()
    {
        return Err(ArgumentError::TwoEfforts);
    }
    let overrides = parse_overrides(&config)?;
    let network = arguments.object("network")?.map(parse_network).transpose()?;
    if network.is_some() {
        notes.push(Note::NetworkNarrowed);
    }
    let waits = Waits::asked(arguments.boolean("wait")?);
    let start = StartSession {
        workspace: arguments.path("cwd")?,
        mode: workspace_mode(&mut arguments)?,
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
    };
    Ok(TurnCall {
        asking: Asking {
            on: On::NewThread(Box::new(start)),
            prompt,
            notes,
        },
        waits,
    })
}

/// `{"mode": …}`.
fn workspace_mode(arguments: &mut Arguments) -> Result<Option<WorkspaceMode>, ArgumentError> {
    let Some(workspace) = arguments.object("workspace")? else {
        return Ok(None);
    };
    let mut workspace = Arguments::checked(workspace, &["mode"])?;
    Ok(match workspace.one_of("mode", &WORKSPACE_MODES)? {
        Some("snapshot") => Some(WorkspaceMode::Snapshot),
        Some("bind") => Some(WorkspaceMode::Bind),
        Some("scratch") => Some(WorkspaceMode::Scratch),
        Some(_) | None => None,
    })
}

/// Parses the arguments of `codex-reply`.
pub fn parse_reply(arguments: Map<String, Value>) -> Result<TurnCall, ArgumentError> {
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
    Ok(TurnCall {
        waits: Waits::asked(arguments.boolean("wait")?),
        asking: Asking {
            on: On::Thread(thread),
            prompt,
            notes,
        },
    })
}

/// Begins the turn, or goes on with the one that asked something, and waits for it as long as the call does.
pub async fn begin<A: Agent>(
    turns: &Turns<A>,
    call: TurnCall,
    context: CallContext,
) -> Result<CallToolResponse, ArgumentError> {
    let CallContext {
        asked,
        cancelled,
        notifier,
        asker,
        answered,
    } = context;
    let thread = match &call.asking.on {
        On::NewThread(_) => None,
        On::Thread(thread) => Some(thread.clone()),
    };
    if answered.is_none() {
        if let Some(thread) = &thread
            && let Err(error) = turns.agent.look(thread, turns.identity()).await
        {
            return Ok(result::of_thread(thread, &error).into());
        }
        if !turns.has_room(thread.as_ref()) {
            return Ok(result::too_many_turns().into());
        }
    }
    let begun = match &answered {
        None => turns.begin(call.asking, asked),
        Some(answered) if thread.is_some_and(|thread| thread != answered.thread) => {
            return Ok(result::failed(NotOurs.to_string()).into());
        }
        Some(answered) => match turns.answer(answered) {
            Some(begun) => begun,
            None => return Ok(turns.last_of(&answered.thread).into()),
        },
    };
    let following = Following {
        patience: match call.waits {
            Waits::UntilBegun => Patience::Begun,
            Waits::UntilEnded => Patience::Until(Instant::now() + turns.settings.block),
        },
        cancelling: Cancelling::Interrupts,
        cancelled: &cancelled,
        asker: &asker,
        unasked: Some(turns.settings.unasked),
        ending: &turns.ending,
        notifier: &notifier,
    };
    let followed = follow(begun, following).await;
    tokio::select! {
        // Then nobody may be reading any more.
        () = turns.ending.cancelled() => {}
        // Progress goes out before the result.
        () = notifier.finish() => {}
    }
    Ok(match followed {
        Followed::Ended(result) => CallToolResult::clone(&result).into(),
        Followed::GoesOn(Some(thread)) => result::goes_on(&thread).into(),
        Followed::GoesOn(None) => result::still_starting().into(),
        Followed::Asks(thread, question) => turns.question(&thread, &question),
        Followed::ServerEnding(thread) => result::server_ending(thread.as_ref()).into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codex::event::ThreadId;
    use crate::codex::overrides::Overrides;
    use crate::codex::prompt::{MAX_PROMPT_CHARS, Prompt};
    use crate::config::Origin;
    use proptest::prelude::*;
    use serde_json::json;
    use std::path::PathBuf;

    fn map(value: Value) -> Map<String, Value> {
        match value {
            Value::Object(map) => map,
            other => panic!("{other} is not an object"),
        }
    }

    #[derive(Debug)]
    struct Codex {
        start: StartSession,
        prompt: Prompt,
        notes: Vec<Note>,
        waits: Waits,
    }

    fn codex(value: Value) -> Result<Codex, String> {
        let TurnCall { asking, waits } = parse_codex(map(value)).map_err(|error| error.to_string())?;
        let On::NewThread(start) = asking.on else {
            panic!("a new thread")
        };
        Ok(Codex {
            start: *start,
            prompt: asking.prompt,
            notes: asking.notes,
            waits,
        })
    }

    fn codex_error(value: Value) -> String {
        codex(value).expect_err("refused")
    }

    #[derive(Debug)]
    struct Reply {
        thread: ThreadId,
        notes: Vec<Note>,
    }

    fn reply(value: Value) -> Result<Reply, String> {
        let TurnCall { asking, .. } = parse_reply(map(value)).map_err(|error| error.to_string())?;
        let On::Thread(thread) = asking.on else {
            panic!("a thread")
        };
        Ok(Reply {
            thread,
            notes: asking.notes,
        })
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
        insta::assert_snapshot!(codex_error(json!({"prompt": "x", "approvalPolicy": "never"})), @"there is no argument `approvalPolicy`; did you mean `approval-policy`?; this tool takes `approval-policy`, `base-instructions`, `compact-prompt`, `config`, `cwd`, `developer-instructions`, `effort`, `model`, `network`, `profile`, `prompt`, `sandbox`, `wait`, `workspace`");
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

    #[test]
    fn ours_are_optional_and_narrow() {
        let call = codex(json!({"prompt": "x", "wait": false, "workspace": {"mode": "scratch"}, "effort": "high"}))
            .expect("parses");
        assert_eq!(call.waits, Waits::UntilBegun);
        assert_eq!(call.start.mode, Some(WorkspaceMode::Scratch));
        assert_eq!(call.start.thread.overrides.as_map()["model_reasoning_effort"], "high");
        assert_eq!(codex(json!({"prompt": "x"})).expect("parses").waits, Waits::UntilEnded);
        let two = json!({"prompt": "x", "effort": "high", "config": {"model_reasoning_effort": "low"}});
        assert!(codex_error(two).contains("are the same"));
    }

    /// The removed server's `tools/list`, as recorded from it: (parameter, type), by version and tool.
    const OLD_CODEX: [(&str, &str); 10] = [
        ("approval-policy", "string"),
        ("base-instructions", "string"),
        ("compact-prompt", "string"),
        ("config", "object"),
        ("cwd", "string"),
        ("developer-instructions", "string"),
        ("model", "string"),
        ("profile", "string"),
        ("prompt", "string"),
        ("sandbox", "string"),
    ];
    const OLD_CODEX_REPLY: [(&str, &str); 3] = [
        ("conversationId", "string"),
        ("prompt", "string"),
        ("threadId", "string"),
    ];

    const OURS: [&str; 4] = ["effort", "network", "wait", "workspace"];

    fn parameters(tool: &Tool) -> Vec<(&str, &str)> {
        let properties = tool.input_schema["properties"].as_object().expect("properties");
        let mut all: Vec<_> = properties
            .iter()
            .map(|(name, schema)| (name.as_str(), schema["type"].as_str().expect("a type")))
            .collect();
        all.sort_unstable();
        all
    }

    #[test]
    fn every_parameter_of_the_removed_server_is_there_with_its_type() {
        let (codex, reply) = (super::codex(), codex_reply());
        assert_eq!((codex.name.as_ref(), reply.name.as_ref()), ("codex", "codex-reply"));
        assert_eq!(
            (codex.title.as_deref(), reply.title.as_deref()),
            (Some("Codex"), Some("Codex Reply"))
        );
        let (ours, old): (Vec<_>, Vec<_>) = parameters(&codex)
            .into_iter()
            .partition(|(name, _)| OURS.contains(name));
        assert_eq!(old, OLD_CODEX);
        assert_eq!(ours.len(), OURS.len(), "what is ours is optional");
        let (_, old): (Vec<_>, Vec<_>) = parameters(&reply)
            .into_iter()
            .partition(|(name, _)| OURS.contains(name));
        assert_eq!(old, OLD_CODEX_REPLY);
        for tool in [&codex, &reply] {
            assert_eq!(tool.input_schema["required"], json!(["prompt"]));
            assert_eq!(tool.input_schema["additionalProperties"], json!(false));
            assert_eq!(tool.input_schema["type"], json!("object"));
        }
        let enums = |name: &str| codex.input_schema["properties"][name]["enum"].clone();
        assert_eq!(
            enums("approval-policy"),
            json!(["untrusted", "on-failure", "on-request", "never"])
        );
        assert_eq!(
            enums("sandbox"),
            json!(["read-only", "workspace-write", "danger-full-access"])
        );
        assert_eq!(
            codex.input_schema["properties"]["config"]["additionalProperties"],
            json!(true)
        );
    }

    #[test]
    fn the_removed_servers_result_is_required_and_ours_is_optional() {
        for tool in [super::codex(), codex_reply()] {
            let output = tool.output_schema.expect("an output schema");
            assert_eq!(output["required"], json!(["threadId", "content"]));
            assert_eq!(output["properties"]["threadId"], json!({"type": "string"}));
            assert_eq!(output["properties"]["content"], json!({"type": "string"}));
        }
    }
}
