//! `codex-close`: ends a thread's container, and removes what is kept of it where that is asked for.

use crate::codex::event::ThreadId;
use crate::mcp::agent::Agent;
use crate::mcp::arguments::{ArgumentError, Arguments};
use crate::mcp::result;
use crate::mcp::schema::{self, Effects};
use crate::mcp::turns::Turns;
use crate::session::by_thread::Keeping;
use rmcp::model::{CallToolResult, Tool};
use serde_json::{Map, Value, json};
use std::time::Duration;

pub const NAME: &str = "codex-close";
const PARAMETERS: [&str; 2] = ["keep", "threadId"];
/// How long the end of interrupted turns is waited for.
const PATIENCE: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub struct CloseCall {
    thread: ThreadId,
    keeping: Keeping,
}

pub fn tool() -> Tool {
    let properties = json!({
        "keep": {
            "type": "boolean",
            "description": "Default true. false removes the thread and its changes for good."
        },
        "threadId": schema::thread_id()
    });
    let output = json!({
        "type": "object",
        "required": ["threadId", "hadContainer", "kept"],
        "properties": {
            "threadId": {"type": "string"},
            "hadContainer": {"type": "boolean"},
            "kept": {"type": "boolean"}
        }
    });
    schema::tool(
        NAME,
        "Codex Close",
        "End a thread's container. Unless keep is false, codex-reply starts it again.",
        Effects::Destructive,
        schema::input(&["threadId"], &properties),
        output,
    )
}

pub fn parse(arguments: Map<String, Value>) -> Result<CloseCall, ArgumentError> {
    let mut arguments = Arguments::checked(arguments, &PARAMETERS)?;
    let keeping = match arguments.boolean("keep")? {
        Some(false) => Keeping::Nothing,
        Some(true) | None => Keeping::Thread,
    };
    Ok(CloseCall {
        keeping,
        thread: arguments.needed_thread()?,
    })
}

pub async fn call<A: Agent>(turns: &Turns<A>, call: CloseCall) -> Result<CallToolResult, ArgumentError> {
    let CloseCall { thread, keeping } = call;
    // A turn that waits would start another container. Those of somebody else's thread are not on this board.
    turns.interrupt(&thread);
    let _ = tokio::time::timeout(PATIENCE, turns.until_idle(&thread)).await;
    let had_one = match turns.agent.close(&thread, keeping, turns.identity()).await {
        Ok(had_one) => had_one,
        Err(error) => return Ok(result::of_thread(&thread, &error)),
    };
    let text = match keeping {
        Keeping::Thread if had_one => {
            format!("The container of thread {thread} has ended; codex-reply starts another.")
        }
        Keeping::Thread => format!("Thread {thread} had no container; codex-reply starts one."),
        Keeping::Nothing => {
            turns.forget(&thread);
            format!("Thread {thread} was removed, with its copy of the folder.")
        }
    };
    let structured = json!({"threadId": thread, "hadContainer": had_one, "kept": keeping == Keeping::Thread});
    Ok(result::answer(vec![text], &structured))
}
