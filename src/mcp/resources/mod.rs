//! What a client reads of threads without calling a tool: their state, their log, their changes, and what the operator allows.
//!
//! It must never show what a tool would not: everything comes from [`Agent`], and is bounded page by page.
//!
//! - [`address`]: the URIs; pure.
//! - [`subscriptions`]: tells clients of what changes.

pub mod address;
pub mod subscriptions;

use crate::mcp::agent::Agent;
use crate::mcp::resources::address::{Address, Part};
use crate::mcp::turns::Turns;
use crate::session::asked::Asked;
use crate::session::by_thread::Summary;
use crate::session::error::SessionError;
use crate::wire::untrusted::Untrusted;
use rmcp::ErrorData;
use rmcp::model::{
    ListResourceTemplatesResult, ListResourcesResult, ReadResourceResult, Resource, ResourceContents, ResourceTemplate,
};
use serde_json::{Value, json};

/// Resources a page of the list.
const PAGE: usize = 50;
/// The most bytes of text that one read has: half of what clients show of a result.
const MOST_BYTES: usize = 40_000;
const JSON: &str = "application/json";
const PATCH: &str = "text/x-diff";

/// The fixed ones, then one a thread: its state names the rest.
pub async fn list<A: Agent>(turns: &Turns<A>, cursor: Option<String>) -> Result<ListResourcesResult, ErrorData> {
    let skip = match cursor {
        None => 0,
        Some(text) => text
            .parse::<usize>()
            .map_err(|_| ErrorData::invalid_params("the cursor is none of this server's", None))?,
    };
    let summaries = turns
        .agent
        .list(turns.identity())
        .await
        .map_err(|error| internal(&error))?;
    let fixed = [
        Resource::new(Address::Sessions.to_string(), "sessions")
            .with_title("Sessions")
            .with_description("All threads, with state, folder and turns.")
            .with_mime_type(JSON),
        Resource::new(Address::Policy.to_string(), "policy")
            .with_title("Policy")
            .with_description(
                "What the operator set: limits, network, workspace, quotas, and where each value comes from.",
            )
            .with_mime_type(JSON),
    ];
    let mut all: Vec<Resource> = fixed.into_iter().chain(summaries.iter().map(of_thread)).collect();
    let total = all.len();
    let page: Vec<Resource> = all.drain(..).skip(skip).take(PAGE).collect();
    let next = skip.saturating_add(page.len());
    let mut result = ListResourcesResult::with_all_items(page);
    result.next_cursor = (next < total).then(|| next.to_string());
    Ok(result)
}

fn of_thread(summary: &Summary) -> Resource {
    let address = Address::thread(&summary.thread_id, Part::State);
    Resource::new(address.to_string(), summary.thread_id.to_string())
        .with_title(format!("Thread {}", summary.thread_id))
        .with_description(format!(
            "{}, {} turns, {}",
            summary.state.word(),
            summary.turns,
            summary.folder
        ))
        .with_mime_type(JSON)
}

pub fn templates() -> ListResourceTemplatesResult {
    let template = |part: Part, name: &str, title: &str, description: &str, mime: &str| {
        ResourceTemplate::new(address::template(part), name)
            .with_title(title)
            .with_description(description)
            .with_mime_type(mime)
    };
    ListResourceTemplatesResult::with_all_items(vec![
        template(
            Part::State,
            "thread",
            "Thread",
            "State, folder and turns of a thread.",
            JSON,
        ),
        template(
            Part::Transcript,
            "transcript",
            "Transcript",
            "What happened in a thread, oldest first. `next` in it is the URI of the following page.",
            JSON,
        ),
        template(
            Part::Diff,
            "diff",
            "Diff",
            "What a thread changed, as a git patch; at most its first 40,000 bytes.",
            PATCH,
        ),
    ])
}

pub async fn read<A: Agent>(turns: &Turns<A>, uri: &str, asked: Asked) -> Result<ReadResourceResult, ErrorData> {
    let shown = Untrusted::new(uri).one_line(200);
    let unknown = || ErrorData::resource_not_found("there is no such resource", Some(json!({ "uri": shown })));
    let address = Address::parse(uri).ok_or_else(unknown)?;
    let failed = |error: SessionError| match error {
        SessionError::UnknownThread(_) => unknown(),
        other => internal(&other),
    };
    let (text, mime) = match &address {
        Address::Sessions => {
            let summaries = turns.agent.list(turns.identity()).await.map_err(failed)?;
            (pages(&summaries, 0, |_| None), JSON)
        }
        Address::Policy => (format!("{:#}", turns.agent.policy()), JSON),
        Address::Thread { thread, part, from } => match part {
            Part::State => {
                let summary = turns.agent.look(thread, turns.identity()).await.map_err(failed)?;
                let seen = turns.look(thread, None);
                let under_way = seen.map_or(0, |seen| seen.under_way);
                let links = [Part::Transcript, Part::Diff].map(|part| Address::thread(thread, part).to_string());
                (
                    format!(
                        "{:#}",
                        json!({"thread": summary, "turnsUnderWay": under_way, "resources": links})
                    ),
                    JSON,
                )
            }
            Part::Transcript => {
                let lines = turns.agent.log(thread, turns.identity()).await.map_err(failed)?;
                let next = |from| Some(Address::page(thread, Part::Transcript, from).to_string());
                (pages(&lines, *from, next), JSON)
            }
            Part::Diff => {
                let changes = turns.agent.changes(thread, asked).await.map_err(failed)?;
                let patch = changes.map(|changes| changes.patch.as_str().to_owned());
                (crate::mcp::result::bounded(patch.unwrap_or_default()), PATCH)
            }
        },
    };
    let contents = ResourceContents::text(text, uri).with_mime_type(mime);
    Ok(ReadResourceResult::new(vec![contents]))
}

/// As many items as fit, from one on; `next` names the page after them.
fn pages<T: serde::Serialize>(items: &[T], from: usize, next: impl Fn(usize) -> Option<String>) -> String {
    let mut page: Vec<Value> = Vec::new();
    let mut bytes = 0;
    for item in items.iter().skip(from) {
        let value = serde_json::to_value(item).unwrap_or_default();
        let length = value.to_string().len();
        // One item is shown however long it is: the next page would not be shorter.
        if !page.is_empty() && bytes + length > MOST_BYTES {
            break;
        }
        bytes += length;
        page.push(value);
    }
    let end = from.saturating_add(page.len());
    let mut whole = json!({"items": page, "from": from, "total": items.len()});
    if end < items.len() {
        whole["next"] = next(end).into();
    }
    format!("{whole:#}")
}

fn internal(error: &SessionError) -> ErrorData {
    ErrorData::internal_error(error.to_string(), None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_follow_one_another_and_leave_nothing_out() {
        let items: Vec<String> = (0..200).map(|number| format!("{number:0>1000}")).collect();
        let (mut from, mut seen) = (0, 0);
        loop {
            let text = pages(&items, from, |from| Some(from.to_string()));
            assert!(text.len() < MOST_BYTES + 8_000);
            let page: Value = serde_json::from_str(&text).expect("JSON");
            seen += page["items"].as_array().expect("items").len();
            match page["next"].as_str() {
                Some(next) => from = next.parse().expect("a number"),
                None => break,
            }
        }
        assert_eq!(seen, items.len());
    }

    #[test]
    fn one_item_that_is_too_long_holds_up_nothing() {
        let items = ["x".repeat(2 * MOST_BYTES), "y".to_owned()];
        let first: Value = serde_json::from_str(&pages(&items, 0, |from| Some(from.to_string()))).expect("JSON");
        assert_eq!(first["next"], "1");
    }
}
