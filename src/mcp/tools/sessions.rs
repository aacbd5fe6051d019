//! `codex-sessions`: the threads that there are.

use crate::mcp::agent::Agent;
use crate::mcp::arguments::{ArgumentError, Arguments};
use crate::mcp::result;
use crate::mcp::schema::{self, Effects};
use crate::mcp::turns::Turns;
use crate::session::by_thread::Summary;
use crate::session::upkeep::Standing;
use rmcp::model::{CallToolResult, Tool};
use serde::Serialize;
use serde_json::{Map, Value, json};

pub const NAME: &str = "codex-sessions";
const PARAMETERS: [&str; 2] = ["cursor", "state"];
const STATES: [&str; 3] = ["live", "parked", "failed"];
/// Threads a page.
const PAGE: usize = 25;

#[derive(Debug)]
pub struct SessionsCall {
    state: Option<&'static str>,
    /// How many come before the page.
    skip: usize,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Structured<'a> {
    sessions: &'a [&'a Summary],
    total: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_cursor: Option<String>,
}

pub fn tool() -> Tool {
    let properties = json!({
        "cursor": {"type": "string", "description": "The `nextCursor` of the page before."},
        "state": {"type": "string", "enum": STATES}
    });
    let output = json!({
        "type": "object",
        "required": ["sessions", "total"],
        "properties": {
            "sessions": {
                "type": "array",
                "items": {
                    "type": "object",
                    "required": ["threadId", "session", "state", "folder", "turns", "created", "changed"]
                }
            },
            "total": {"type": "integer", "minimum": 0},
            "nextCursor": {"type": "string"}
        }
    });
    schema::tool(
        NAME,
        "Codex Sessions",
        "The threads that are kept, the latest first, with state, folder and turns.",
        Effects::ReadOnly,
        schema::input(&[], &properties),
        output,
    )
}

pub fn parse(arguments: Map<String, Value>) -> Result<SessionsCall, ArgumentError> {
    let mut arguments = Arguments::checked(arguments, &PARAMETERS)?;
    let skip = match arguments.string("cursor")? {
        None => 0,
        Some(text) => text.parse().map_err(|_| ArgumentError::NotACursor)?,
    };
    Ok(SessionsCall {
        state: arguments.one_of("state", &STATES)?,
        skip,
    })
}

pub async fn call<A: Agent>(turns: &Turns<A>, call: SessionsCall) -> Result<CallToolResult, ArgumentError> {
    let all = match turns.agent.list(turns.identity()).await {
        Ok(all) => all,
        Err(error) => return Ok(result::failed(error.to_string())),
    };
    let wanted = |summary: &&Summary| call.state.is_none_or(|state| summary.state.word() == state);
    let matching: Vec<&Summary> = all.iter().filter(wanted).collect();
    let page: Vec<&Summary> = matching.iter().skip(call.skip).take(PAGE).copied().collect();
    let next = call.skip.saturating_add(page.len());
    let structured = Structured {
        sessions: &page,
        total: matching.len(),
        next_cursor: (next < matching.len()).then(|| next.to_string()),
    };
    let mut text = match matching.len() {
        0 => "There are no such threads.".to_owned(),
        many => format!("{} of {many} threads:", page.len()),
    };
    for summary in &page {
        text.push_str(&line(summary));
    }
    Ok(result::answer(vec![text], &structured))
}

fn line(summary: &Summary) -> String {
    let Summary {
        thread_id,
        state,
        turns,
        folder,
        changed,
        ..
    } = summary;
    let why = match (state, &summary.ended) {
        (Standing::Live, _) | (_, None) => String::new(),
        (_, Some(why)) => format!(" ({why})"),
    };
    format!(
        "\n- {thread_id}: {}{why}, {turns} turns, {folder}, {changed}",
        state.word()
    )
}
