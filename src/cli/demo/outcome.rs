//! A tool result as the demo reads it: as any MCP client could. Pure.

use rmcp::model::CallToolResult;
use serde::Deserialize;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    pub thread: String,
    pub content: String,
    pub session: Session,
    /// Names of the limits that are not in force.
    pub unenforced: Vec<String>,
    /// The text block about changes, where there is one.
    pub patch: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Session {
    pub id: String,
    pub engine: String,
    pub image: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Structured {
    thread_id: String,
    content: String,
    session: Session,
    #[serde(default)]
    unenforced: Vec<Limit>,
}

#[derive(Deserialize)]
struct Limit {
    limit: String,
}

/// # Errors
///
/// What the result lacks.
pub fn read(result: &CallToolResult) -> Result<Outcome, &'static str> {
    let structured = result.structured_content.clone().ok_or("structured content")?;
    let structured: Structured = serde_json::from_value(structured).map_err(|_| "a field that it promises")?;
    Ok(Outcome {
        thread: structured.thread_id,
        content: structured.content,
        session: structured.session,
        unenforced: structured.unenforced.into_iter().map(|limit| limit.limit).collect(),
        patch: texts(result).get(1).map(|text| (*text).to_owned()),
    })
}

pub fn texts(result: &CallToolResult) -> Vec<&str> {
    result
        .content
        .iter()
        .filter_map(|block| block.as_text().map(|text| text.text.as_str()))
        .collect()
}
