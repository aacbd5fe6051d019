//! The tools: one file each, with what `tools/list` says of it, how its arguments are read, and what a call does.
//!
//! A tool asks [`Turns`] for turns and their agent for everything else. It must never fail as a protocol error where its caller can
//! mend something: clients hide those from the model.

pub mod apply;
pub mod close;
pub mod codex;
pub mod diff;
pub mod interrupt;
pub mod sessions;
pub mod status;

use crate::mcp::agent::Agent;
use crate::mcp::arguments::ArgumentError;
use crate::mcp::asking::{Answered, Asker};
use crate::mcp::progress::Notifier;
use crate::mcp::result;
use crate::mcp::turns::Turns;
use crate::session::asked::Asked;
use rmcp::model::{CallToolResponse, CallToolResult, Tool};
use serde_json::{Map, Value};
use tokio_util::sync::CancellationToken;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ToolName {
    Codex,
    CodexReply,
    Status,
    Interrupt,
    Close,
    Sessions,
    Diff,
    Apply,
}

/// What surrounds one call.
pub struct CallContext {
    /// Who asked, and in which shape.
    pub asked: Asked,
    /// The client cancelled this call.
    pub cancelled: CancellationToken,
    pub notifier: Notifier,
    /// How its client can ask its user.
    pub asker: Asker,
    /// What its user answered to a call before this one.
    pub answered: Option<Answered>,
}

impl ToolName {
    /// In the order of `tools/list`, which is always the same: clients cache it.
    pub const ALL: [Self; 8] = [
        Self::Codex,
        Self::CodexReply,
        Self::Status,
        Self::Interrupt,
        Self::Close,
        Self::Sessions,
        Self::Diff,
        Self::Apply,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Codex => codex::CODEX,
            Self::CodexReply => codex::CODEX_REPLY,
            Self::Status => status::NAME,
            Self::Interrupt => interrupt::NAME,
            Self::Close => close::NAME,
            Self::Sessions => sessions::NAME,
            Self::Diff => diff::NAME,
            Self::Apply => apply::NAME,
        }
    }

    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|tool| tool.as_str() == name)
    }

    pub fn described(self) -> Tool {
        match self {
            Self::Codex => codex::codex(),
            Self::CodexReply => codex::codex_reply(),
            Self::Status => status::tool(),
            Self::Interrupt => interrupt::tool(),
            Self::Close => close::tool(),
            Self::Sessions => sessions::tool(),
            Self::Diff => diff::tool(),
            Self::Apply => apply::tool(),
        }
    }

    pub async fn call<A: Agent>(
        self,
        turns: &Turns<A>,
        arguments: Map<String, Value>,
        context: CallContext,
    ) -> CallToolResponse {
        let ending = turns.ending.clone();
        let done = async {
            match self {
                Self::Codex => codex::begin(turns, codex::parse_codex(arguments)?, context).await,
                Self::CodexReply => codex::begin(turns, codex::parse_reply(arguments)?, context).await,
                Self::Status => status::call(turns, status::parse(arguments)?, context).await,
                Self::Interrupt => interrupt::call(turns, interrupt::parse(arguments)?)
                    .await
                    .map(Into::into),
                Self::Close => unless_ending(&ending, close::call(turns, close::parse(arguments)?)).await,
                Self::Sessions => sessions::call(turns, sessions::parse(arguments)?).await.map(Into::into),
                Self::Diff => unless_ending(&ending, diff::call(turns, diff::parse(arguments)?, context)).await,
                Self::Apply => unless_ending(&ending, apply::call(turns, apply::parse(arguments)?, context)).await,
            }
        };
        let done: Result<CallToolResponse, ArgumentError> = done.await;
        done.unwrap_or_else(|error| result::bad_arguments(self.as_str(), &error).into())
    }
}

/// The server's end waits for no call: what one has begun by then is finished by the session, or was not begun.
async fn unless_ending(
    ending: &CancellationToken,
    call: impl Future<Output = Result<CallToolResult, ArgumentError>>,
) -> Result<CallToolResponse, ArgumentError> {
    tokio::select! {
        biased;
        () = ending.cancelled() => Ok(result::server_ending(None).into()),
        done = call => done.map(Into::into),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// Every argument that a schema names is read by the tool's parser, and no other is.
    #[test]
    fn the_parsers_names_are_the_schemas() {
        for tool in ToolName::ALL {
            let described = tool.described();
            assert_eq!(described.name, tool.as_str());
            assert_eq!(ToolName::parse(&described.name), Some(tool));
            let properties = described.input_schema["properties"].as_object().expect("properties");
            let names: Vec<&str> = properties.keys().map(String::as_str).collect();
            let mut unknown = Map::new();
            unknown.insert("no-such-argument".to_owned(), json!(1));
            let error = tool.parse_error(unknown).expect("refused").to_string();
            let takes = error.split_once("this tool takes ").expect("a list").1;
            let listed: Vec<&str> = takes.split(", ").map(|name| name.trim_matches('`')).collect();
            assert_eq!(listed, names, "{}", tool.as_str());
        }
    }

    #[test]
    fn every_tool_says_what_it_does_and_answers_with_an_object() {
        for tool in ToolName::ALL {
            let described = tool.described();
            assert!(described.title.is_some() && described.description.is_some());
            let annotations = described.annotations.expect("annotations");
            assert!(annotations.read_only_hint.is_some() && annotations.open_world_hint.is_some());
            assert_eq!(described.input_schema["additionalProperties"], json!(false));
            assert_eq!(described.output_schema.expect("an output schema")["type"], "object");
        }
    }

    /// The list is in every conversation of every client. 3,500 tokens are promised, which are some 14,600 bytes of it
    /// (`scripts/bench tools` counts them).
    #[test]
    fn the_list_stays_short() {
        let tools = ToolName::ALL.map(ToolName::described);
        let length = serde_json::to_string(&tools).expect("serialises").len();
        assert!(length < 14_600, "{length} bytes");
    }

    #[test]
    fn no_schema_has_a_format_keyword() {
        let tools = ToolName::ALL.map(ToolName::described);
        let text = serde_json::to_string(&tools).expect("serialises");
        assert!(!text.contains("\"format\":\""), "{text}");
    }

    impl ToolName {
        fn parse_error(self, arguments: Map<String, Value>) -> Option<ArgumentError> {
            match self {
                Self::Codex => codex::parse_codex(arguments).err(),
                Self::CodexReply => codex::parse_reply(arguments).err(),
                Self::Status => status::parse(arguments).err(),
                Self::Interrupt => interrupt::parse(arguments).err(),
                Self::Close => close::parse(arguments).err(),
                Self::Sessions => sessions::parse(arguments).err(),
                Self::Diff => diff::parse(arguments).err(),
                Self::Apply => apply::parse(arguments).err(),
            }
        }
    }
}
