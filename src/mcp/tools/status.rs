//! `codex-status`: what a thread is doing, what happened since a cursor, and how its last turn ended; waits for the turn's end.

use crate::codex::event::ThreadId;
use crate::mcp::agent::Agent;
use crate::mcp::arguments::{ArgumentError, Arguments};
use crate::mcp::asking::NotOurs;
use crate::mcp::result;
use crate::mcp::schema::{self, Effects};
use crate::mcp::tools::CallContext;
use crate::mcp::turns::follow::{Cancelling, Followed, Following, Patience, follow};
use crate::mcp::turns::log::Cursor;
use crate::mcp::turns::{Seen, Turns};
use crate::session::by_thread::Summary;
use crate::session::upkeep::Standing;
use rmcp::model::{CallToolResponse, CallToolResult, Tool};
use serde::Serialize;
use serde_json::{Map, Value, json};
use std::time::{Duration, Instant};

pub const NAME: &str = "codex-status";
const PARAMETERS: [&str; 3] = ["cursor", "threadId", "waitSeconds"];
/// Below what any client waits for a call.
const DEFAULT_WAIT: u64 = 45;
/// Under the 240 s of Claude Desktop and the 300 s of Codex.
const LONGEST_WAIT: u64 = 200;

#[derive(Debug)]
pub struct StatusCall {
    thread: ThreadId,
    cursor: Option<Cursor>,
    wait: Duration,
}

/// What the thread is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Activity {
    /// A turn of it is under way here.
    Running,
    /// It has a container here and nothing to do.
    Idle,
    #[serde(untagged)]
    At(Standing),
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Structured<'a> {
    thread_id: &'a ThreadId,
    state: Activity,
    /// Turns that have not ended.
    turns_under_way: usize,
    turns: u64,
    events: &'a [String],
    #[serde(skip_serializing_if = "is_zero")]
    events_lost: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    cursor: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ended: Option<&'a str>,
    /// What the call of the last turn that ended answers, where none is under way.
    #[serde(skip_serializing_if = "Option::is_none")]
    last_turn: Option<&'a Value>,
}

fn is_zero(count: &u64) -> bool {
    *count == 0
}

pub fn tool() -> Tool {
    let properties = json!({
        "cursor": {
            "type": "string",
            "description": "The `cursor` of the result before: only what came since."
        },
        "threadId": schema::thread_id(),
        "waitSeconds": {
            "type": "integer",
            "minimum": 0,
            "maximum": LONGEST_WAIT,
            "description": "How long to wait for the turn to end; default 45."
        }
    });
    let text = json!({"type": "string"});
    let count = json!({"type": "integer", "minimum": 0});
    let output = json!({
        "type": "object",
        "required": ["threadId", "state", "turnsUnderWay", "turns", "events"],
        "properties": {
            "threadId": text,
            "state": {
                "type": "string",
                "description": "running, idle: here; live: another server has it; parked: the next codex-reply starts its container; \
                                failed, orphaned, damaged, newer, unreadable."
            },
            "turnsUnderWay": count,
            "turns": count,
            "events": {"type": "array", "items": text},
            "eventsLost": count,
            "cursor": text,
            "ended": {"type": "string", "description": "Why it has no container."},
            "lastTurn": {"type": "object", "description": "The structured result of the turn that ended last."}
        }
    });
    schema::tool(
        NAME,
        "Codex Status",
        "What a thread is doing and what happened; waits for its turn to end and then has its answer. Call it again while it runs.",
        Effects::ReadOnly,
        schema::input(&["threadId"], &properties),
        output,
    )
}

pub fn parse(arguments: Map<String, Value>) -> Result<StatusCall, ArgumentError> {
    let mut arguments = Arguments::checked(arguments, &PARAMETERS)?;
    let wait = arguments.number("waitSeconds", 0..=LONGEST_WAIT)?;
    Ok(StatusCall {
        cursor: arguments.cursor()?,
        wait: Duration::from_secs(wait.unwrap_or(DEFAULT_WAIT)),
        thread: arguments.needed_thread()?,
    })
}

pub async fn call<A: Agent>(
    turns: &Turns<A>,
    call: StatusCall,
    context: CallContext,
) -> Result<CallToolResponse, ArgumentError> {
    let StatusCall { thread, cursor, wait } = call;
    let CallContext {
        cancelled,
        notifier,
        asker,
        answered,
        ..
    } = context;
    if let Some(answered) = &answered {
        if answered.thread != thread {
            return Ok(result::failed(NotOurs.to_string()).into());
        }
        turns.answer(answered);
    }
    let deadline = Instant::now() + wait;
    while let Some(begun) = turns.attend(&thread) {
        let following = Following {
            patience: Patience::Until(deadline),
            cancelling: Cancelling::Leaves,
            cancelled: &cancelled,
            asker: &asker,
            // Whoever only looks answers nothing for whoever asked for the turn.
            unasked: None,
            ending: &turns.ending,
            notifier: &notifier,
        };
        match follow(begun, following).await {
            // The next one of the thread, if there is one.
            Followed::Ended(_) => {}
            Followed::GoesOn(_) => break,
            Followed::Asks(thread, question) => return Ok(turns.question(&thread, &question)),
            Followed::ServerEnding(_) => return Ok(result::server_ending(None).into()),
        }
    }
    let summary = turns.agent.look(&thread, turns.identity()).await;
    let seen = turns.look(&thread, cursor);
    Ok(match summary {
        Ok(summary) => told(&summary, seen.as_ref()).into(),
        Err(error) => result::of_thread(&thread, &error).into(),
    })
}

fn told(summary: &Summary, seen: Option<&Seen>) -> CallToolResult {
    let under_way = seen.map_or(0, |seen| seen.under_way);
    let state = match summary.state {
        Standing::Live if under_way > 0 => Activity::Running,
        Standing::Live if seen.is_some() => Activity::Idle,
        standing => Activity::At(standing),
    };
    let last = seen.filter(|_| under_way == 0).and_then(|seen| seen.last.as_deref());
    let structured = Structured {
        thread_id: &summary.thread_id,
        state,
        turns_under_way: under_way,
        turns: summary.turns,
        events: seen.map_or(&[], |seen| &seen.lines),
        events_lost: seen.map_or(0, |seen| seen.lost),
        cursor: seen.map(|seen| seen.cursor.to_string()),
        ended: summary.ended.as_deref().filter(|_| summary.state != Standing::Live),
        last_turn: last.and_then(|last| last.structured_content.as_ref()),
    };
    let heading = match (state, last) {
        (Activity::Running, _) => format!("Thread {} is at work.", summary.thread_id),
        (_, Some(_)) => format!("The last turn of thread {} has ended. It answered:", summary.thread_id),
        (Activity::Idle, None) => format!("Thread {} waits for its next prompt.", summary.thread_id),
        (Activity::At(standing), None) => format!("Thread {} is {}.", summary.thread_id, standing.word()),
    };
    let mut text = heading;
    if under_way > 0 {
        for line in structured.events {
            text.push_str("\n- ");
            text.push_str(line);
        }
    }
    let mut blocks = vec![text];
    blocks.extend(last.into_iter().flat_map(result::texts));
    result::answer(blocks, &structured)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_waits_for_a_while_and_never_too_long() {
        let parsed = |value: Value| match value {
            Value::Object(map) => parse(map),
            other => panic!("{other} is not an object"),
        };
        let thread = "0199-a";
        let wait = |call: Result<StatusCall, ArgumentError>| call.expect("parses").wait.as_secs();
        assert_eq!(wait(parsed(json!({ "threadId": thread }))), 45);
        assert_eq!(wait(parsed(json!({"threadId": thread, "waitSeconds": 0}))), 0);
        let error = parsed(json!({"threadId": thread, "waitSeconds": 201})).expect_err("too long");
        assert_eq!(error.to_string(), "`waitSeconds` must be a whole number from 0 to 200");
        let error = parsed(json!({})).expect_err("no thread").to_string();
        assert!(error.starts_with("`threadId` is missing"), "{error}");
    }
}
