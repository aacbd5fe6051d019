//! What a client offers its user while an argument is typed: ids of threads, models.

use crate::mcp::agent::Agent;
use crate::mcp::prompts::PromptName;
use crate::mcp::turns::Turns;
use rmcp::ErrorData;
use rmcp::model::{CompleteRequestParams, CompleteResult, CompletionInfo, Reference};

/// As many as the protocol allows.
const MOST: usize = CompletionInfo::MAX_VALUES;

pub async fn complete<A: Agent>(turns: &Turns<A>, request: CompleteRequestParams) -> Result<CompleteResult, ErrorData> {
    let argument = &request.argument;
    let candidates = match (&request.r#ref, argument.name.as_str()) {
        (Reference::Resource(_), "threadId") => {
            // What can't be listed can't be completed either; the client's user then types the id.
            let summaries = turns.agent.list(turns.identity()).await.unwrap_or_default();
            summaries.iter().map(|summary| summary.thread_id.to_string()).collect()
        }
        (Reference::Prompt(prompt), "model") if PromptName::parse(&prompt.name).is_some() => turns.agent.models(),
        _ => Vec::new(),
    };
    let begins: Vec<String> = candidates
        .into_iter()
        .filter(|candidate| candidate.starts_with(&argument.value))
        .collect();
    let (total, shown) = (begins.len(), begins.into_iter().take(MOST).collect());
    let info = CompletionInfo::with_pagination(shown, u32::try_from(total).ok(), total > MOST);
    info.map(CompleteResult::new)
        .map_err(|why| ErrorData::internal_error(why, None))
}
