//! `codex-diff`: what a thread changed in its copy of the folder.

use crate::codex::event::ThreadId;
use crate::mcp::agent::Agent;
use crate::mcp::arguments::{ArgumentError, Arguments};
use crate::mcp::result;
use crate::mcp::schema::{self, Effects};
use crate::mcp::tools::CallContext;
use crate::mcp::turns::Turns;
use crate::workspace::changes::{ChangeKind, Changes, FileChange};
use rmcp::model::{CallToolResult, Tool};
use serde_json::{Map, Value, json};

pub const NAME: &str = "codex-diff";
const PARAMETERS: [&str; 2] = ["format", "threadId"];
const FORMATS: [&str; 3] = ["patch", "stat", "files"];
/// The most bytes of a patch that one result has: clients cut results at 25,000 tokens, and some show both forms of it.
const MOST_OF_A_PATCH: usize = 40_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Patch,
    Stat,
    Files,
}

#[derive(Debug)]
pub struct DiffCall {
    thread: ThreadId,
    form: Form,
}

pub fn tool() -> Tool {
    let properties = json!({
        "format": {"type": "string", "enum": FORMATS, "description": "Default: patch."},
        "threadId": schema::thread_id()
    });
    let output = json!({
        "type": "object",
        "required": ["threadId", "changes"],
        "properties": {
            "threadId": {"type": "string"},
            "changes": schema::changes(),
            "truncated": {"type": "boolean", "description": "The patch goes on."}
        }
    });
    schema::tool(
        NAME,
        "Codex Diff",
        "What a thread changed in its copy of the folder, as a git patch, counts a file, or names.",
        Effects::ReadOnly,
        schema::input(&["threadId"], &properties),
        output,
    )
}

pub fn parse(arguments: Map<String, Value>) -> Result<DiffCall, ArgumentError> {
    let mut arguments = Arguments::checked(arguments, &PARAMETERS)?;
    let form = match arguments.one_of("format", &FORMATS)? {
        Some("stat") => Form::Stat,
        Some("files") => Form::Files,
        Some(_) | None => Form::Patch,
    };
    Ok(DiffCall {
        form,
        thread: arguments.needed_thread()?,
    })
}

pub async fn call<A: Agent>(
    turns: &Turns<A>,
    call: DiffCall,
    context: CallContext,
) -> Result<CallToolResult, ArgumentError> {
    let DiffCall { thread, form } = call;
    let changes = tokio::select! {
        changes = turns.agent.changes(&thread, context.asked) => changes,
        () = context.cancelled.cancelled() => return Ok(result::failed("The call was cancelled.".to_owned())),
    };
    Ok(match changes {
        Ok(Some(changes)) => told(&thread, &changes, form),
        Ok(None) => result::failed(format!(
            "Thread {thread} works on the folder itself (bind): its changes are there, and nothing is compared."
        )),
        Err(error) => result::of_thread(&thread, &error),
    })
}

fn told(thread: &ThreadId, changes: &Changes, form: Form) -> CallToolResult {
    let (patch, truncated) = match form {
        Form::Patch => result::cut(changes.patch.as_str(), MOST_OF_A_PATCH),
        Form::Stat | Form::Files => ("", false),
    };
    let text = match form {
        _ if changes.files.is_empty() => "Nothing was changed.".to_owned(),
        Form::Patch if truncated => format!("{patch}\n(the patch goes on; this is its beginning)"),
        Form::Patch => patch.to_owned(),
        Form::Stat => changes.files.iter().map(stat).collect::<Vec<_>>().join("\n"),
        Form::Files => {
            let names = changes.files.iter().map(|file| file.path.one_line(300));
            names.collect::<Vec<_>>().join("\n")
        }
    };
    let mut structured = json!({"threadId": thread, "changes": result::changed(changes)});
    if truncated {
        structured["truncated"] = true.into();
    }
    result::answer(vec![result::bounded(text)], &structured)
}

fn stat(file: &FileChange) -> String {
    let lines = match (file.insertions, file.deletions) {
        (Some(added), Some(removed)) => format!("+{added} -{removed}"),
        _ => "binary".to_owned(),
    };
    let kind = match file.kind {
        ChangeKind::Added => "added",
        ChangeKind::Modified => "modified",
        ChangeKind::Deleted => "deleted",
        ChangeKind::Renamed => "renamed",
    };
    format!("{kind} {lines} {}", file.path.one_line(300))
}
