//! `codex-interrupt`: stops what a thread is doing; the thread stays.

use crate::codex::event::ThreadId;
use crate::mcp::agent::Agent;
use crate::mcp::arguments::{ArgumentError, Arguments};
use crate::mcp::result;
use crate::mcp::schema::{self, Effects};
use crate::mcp::turns::Turns;
use rmcp::model::{CallToolResult, Tool};
use serde_json::{Map, Value, json};
use std::time::Duration;

pub const NAME: &str = "codex-interrupt";
const PARAMETERS: [&str; 1] = ["threadId"];
/// How long the end of an interrupted turn is waited for; Codex takes well under a second.
const PATIENCE: Duration = Duration::from_secs(10);

pub fn tool() -> Tool {
    let output = json!({
        "type": "object",
        "required": ["threadId", "interrupted"],
        "properties": {
            "threadId": {"type": "string"},
            "interrupted": {"type": "integer", "minimum": 0, "description": "How many turns were."}
        }
    });
    schema::tool(
        NAME,
        "Codex Interrupt",
        "Stop the turns of a thread, with what they left running. The thread and its changes stay.",
        Effects::Ends,
        schema::input(&["threadId"], &json!({"threadId": schema::thread_id()})),
        output,
    )
}

pub fn parse(arguments: Map<String, Value>) -> Result<ThreadId, ArgumentError> {
    Arguments::checked(arguments, &PARAMETERS)?.needed_thread()
}

pub async fn call<A: Agent>(turns: &Turns<A>, thread: ThreadId) -> Result<CallToolResult, ArgumentError> {
    let interrupted = turns.interrupt(&thread);
    if interrupted == 0
        && let Err(error) = turns.agent.look(&thread, turns.identity()).await
    {
        return Ok(result::of_thread(&thread, &error));
    }
    tokio::select! {
        () = turns.ending.cancelled() => {}
        _ = tokio::time::timeout(PATIENCE, turns.until_idle(&thread)) => {}
    }
    let text = match (interrupted, turns.is_busy(&thread)) {
        (0, _) => format!("No turn of thread {thread} was under way in this server."),
        (_, false) => format!("Thread {thread} was interrupted. codex-reply continues it."),
        (_, true) => format!("Thread {thread} is being interrupted; codex-status tells when it has ended."),
    };
    let structured = json!({"threadId": thread, "interrupted": interrupted});
    Ok(result::answer(vec![text], &structured))
}
