//! `codex-apply`: brings what a thread changed to the user's folder. The call is the consent.

use crate::codex::event::ThreadId;
use crate::mcp::agent::Agent;
use crate::mcp::arguments::{ArgumentError, Arguments};
use crate::mcp::result;
use crate::mcp::schema::{self, Effects};
use crate::mcp::tools::CallContext;
use crate::mcp::turns::Turns;
use crate::session::bring_back::BroughtBack;
use crate::session::upkeep::Doing;
use crate::wire::untrusted::Untrusted;
use crate::workspace::apply::{Listed, Written};
use rmcp::model::{CallToolResult, Tool};
use serde_json::{Map, Value, json};

pub const NAME: &str = "codex-apply";
const PARAMETERS: [&str; 3] = ["dryRun", "expectHash", "threadId"];
/// The most files that the text names, of each kind.
const MOST_NAMED: usize = 50;
/// The longest that one name or reason is there, in characters.
const SHOWN: usize = 200;

#[derive(Debug)]
pub struct ApplyCall {
    thread: ThreadId,
    doing: Doing,
    expect_hash: Option<String>,
}

pub fn tool() -> Tool {
    let properties = json!({
        "dryRun": {"type": "boolean", "description": "Only say what would be written."},
        "expectHash": {"type": "string", "description": "`changes.hash` of a result: refuse if the patch is another now."},
        "threadId": schema::thread_id()
    });
    let output = json!({
        "type": "object",
        "required": ["threadId"],
        "properties": {
            "threadId": {"type": "string"},
            "applied": {"type": "object", "description": "What was written."},
            "preview": {"type": "object", "description": "What would be, and what stands against it."}
        }
    });
    schema::tool(
        NAME,
        "Codex Apply",
        "Bring a thread's changes to the user's folder, merged with what changed there: all of them, or none and why.",
        Effects::Destructive,
        schema::input(&["threadId"], &properties),
        output,
    )
}

pub fn parse(arguments: Map<String, Value>) -> Result<ApplyCall, ArgumentError> {
    let mut arguments = Arguments::checked(arguments, &PARAMETERS)?;
    let doing = match arguments.boolean("dryRun")? {
        Some(true) => Doing::Preview,
        Some(false) | None => Doing::Really,
    };
    let expect_hash = arguments.string("expectHash")?;
    let is_hash = |text: &String| text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    if expect_hash.as_ref().is_some_and(|text| !is_hash(text)) {
        return Err(ArgumentError::NotAHash);
    }
    Ok(ApplyCall {
        doing,
        expect_hash,
        thread: arguments.needed_thread()?,
    })
}

pub async fn call<A: Agent>(
    turns: &Turns<A>,
    call: ApplyCall,
    context: CallContext,
) -> Result<CallToolResult, ArgumentError> {
    let ApplyCall {
        thread,
        doing,
        expect_hash,
    } = call;
    if turns.is_busy(&thread) {
        return Ok(result::failed(format!(
            "A turn of thread {thread} is under way: wait for its end with codex-status, or stop it with codex-interrupt, and apply \
             then."
        )));
    }
    let brought = turns.agent.apply(&thread, doing, expect_hash, context.asked).await;
    Ok(match brought {
        Ok(brought) => told(&thread, &brought),
        Err(error) => result::of_thread(&thread, &error),
    })
}

fn told(thread: &ThreadId, brought: &BroughtBack) -> CallToolResult {
    let written = |what: &str, files: &[Written]| {
        let line = |file: &Written| format!("- {what}: {}", file.path.one_line(SHOWN));
        some(files, line)
    };
    let listed = |what: &str, files: &[Listed]| {
        let line = |file: &Listed| {
            format!(
                "- {what}: {} ({})",
                file.path.one_line(SHOWN),
                Untrusted::new(file.reason.as_str()).one_line(SHOWN)
            )
        };
        some(files, line)
    };
    let (lines, key, value) = match brought {
        BroughtBack::Preview(preview) => {
            let mut lines = vec![format!("{} files would be written.", preview.would_write.len())];
            lines.extend(written("would be written", &preview.would_write));
            lines.extend(listed("conflict", &preview.conflicts));
            lines.extend(listed("never comes back", &preview.refused));
            lines.extend(listed("runs by itself on the host", &preview.runs_by_itself));
            let value = json!({
                "files": preview.would_write.len(),
                "wouldWrite": first(&preview.would_write),
                "conflicts": first(&preview.conflicts),
                "refused": first(&preview.refused),
                "runsByItself": first(&preview.runs_by_itself),
                "hash": preview.patch_sha256,
            });
            (lines, "preview", value)
        }
        BroughtBack::Applied(applied) => {
            let mut lines = vec![format!("{} files were written.", applied.files.len())];
            lines.extend(written("written", &applied.files));
            lines.extend(listed("left as it is on the host", &applied.left));
            lines.extend(listed("runs by itself on the host", &applied.runs_by_itself));
            let value = json!({
                "files": applied.files.len(),
                "written": first(&applied.files),
                "left": first(&applied.left),
                "runsByItself": first(&applied.runs_by_itself),
                "hash": applied.patch_sha256,
            });
            (lines, "applied", value)
        }
    };
    let mut structured = json!({ "threadId": thread });
    structured[key] = value;
    result::answer(vec![result::bounded(lines.join("\n"))], &structured)
}

fn first<T>(files: &[T]) -> &[T] {
    &files[..files.len().min(result::MAX_LISTED_FILES)]
}

/// A line each, of the first of them.
fn some<T>(files: &[T], line: impl Fn(&T) -> String) -> Vec<String> {
    let mut lines: Vec<String> = files.iter().take(MOST_NAMED).map(line).collect();
    if files.len() > MOST_NAMED {
        lines.push(format!("- and {} more", files.len() - MOST_NAMED));
    }
    lines
}
