//! rmcp's handler: says who we are, lists the tools, dispatches calls. No engine is touched before a call is.

use crate::mcp::agent::Agent;
use crate::mcp::calls::{self, CallContext};
use crate::mcp::http::caller::identity_of;
use crate::mcp::progress::Notifier;
use crate::mcp::{arguments, result, schema};
use crate::session::asked::Asked;
use rmcp::model::{
    CallToolRequestParams, CallToolResponse, CallToolResult, CustomRequest, CustomResult, Implementation,
    ListToolsResult, PaginatedRequestParams, ServerCapabilities, ServerConfig, Tool,
};
use rmcp::service::RequestContext;
use rmcp::{ErrorData, RoleServer, ServerHandler};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use tokio_util::sync::CancellationToken;

/// One client's server.
pub struct Server<A> {
    agent: A,
    ending: CancellationToken,
}

impl<A: Agent> Server<A> {
    /// `ending` fires when this server is to end: calls then return at once.
    pub fn new(agent: A, ending: CancellationToken) -> Self {
        Self { agent, ending }
    }

    pub fn ending(&self) -> CancellationToken {
        self.ending.clone()
    }

    async fn call(&self, request: CallToolRequestParams, context: RequestContext<RoleServer>) -> CallToolResult {
        let arguments = request.arguments.unwrap_or_default();
        let tool = match request.name.as_ref() {
            schema::CODEX => schema::CODEX,
            schema::CODEX_REPLY => schema::CODEX_REPLY,
            unknown => return result::unknown_tool(unknown),
        };
        let surrounding = CallContext {
            asked: asked(tool, &arguments, &context),
            notifier: Notifier::new(context.peer.clone(), context.meta.get_progress_token()),
            cancelled: context.ct,
            ending: self.ending.clone(),
        };
        if tool == schema::CODEX {
            match arguments::parse_codex(arguments) {
                Ok(call) => calls::codex(&self.agent, call, surrounding).await,
                Err(error) => result::bad_arguments(tool, &error),
            }
        } else {
            match arguments::parse_reply(arguments) {
                Ok(call) => calls::reply(&self.agent, call, surrounding).await,
                Err(error) => result::bad_arguments(tool, &error),
            }
        }
    }
}

/// What the audit has of a call: who, and the names and sizes of what was passed.
fn asked(tool: &'static str, arguments: &Map<String, Value>, context: &RequestContext<RoleServer>) -> Asked {
    let handshake = context.peer.peer_info();
    // Since 2026 each request may say it anew.
    let of_request = context.meta.client_info();
    let client = of_request
        .as_ref()
        .or(handshake.as_deref().map(|info| &info.client_info))
        .map(|client| (client.name.as_str(), client.version.as_str()));
    let size = |value: &Value| match value {
        Value::String(text) => text.len() as u64,
        other => other.to_string().len() as u64,
    };
    let parameters: BTreeMap<String, u64> = arguments
        .iter()
        .map(|(name, value)| (name.clone(), size(value)))
        .collect();
    Asked::by_mcp_client(client, &context.id.to_string(), tool, parameters)
        .with_identity(identity_of(&context.extensions).cloned())
}

impl<A: Agent> ServerHandler for Server<A> {
    fn get_info(&self) -> ServerConfig {
        ServerConfig::new(ServerCapabilities::builder().enable_tools().build())
            .with_server_info(
                Implementation::new("codex-mcp", env!("CARGO_PKG_VERSION")).with_title("Codex in a container"),
            )
            .with_instructions(
                "Runs OpenAI's Codex, each thread in a hardened container of its own, on a copy of a folder. `codex` \
                 starts a thread and `codex-reply` continues it by its threadId. A call takes as long as the turn \
                 does: minutes are usual.",
            )
    }

    async fn list_tools(
        &self,
        _request: Option<PaginatedRequestParams>,
        _context: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        Ok(ListToolsResult::with_all_items(schema::tools()))
    }

    fn get_tool(&self, name: &str) -> Option<Tool> {
        schema::tools().into_iter().find(|tool| tool.name == name)
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        Ok(self.call(request, context).await.into())
    }

    /// rmcp hands on here whatever does not fit its types, a `tools/call` whose arguments are no object among them.
    async fn on_custom_request(
        &self,
        request: CustomRequest,
        _context: RequestContext<RoleServer>,
    ) -> Result<CustomResult, ErrorData> {
        if request.method != "tools/call" {
            return Err(ErrorData::new(
                rmcp::model::ErrorCode::METHOD_NOT_FOUND,
                request.method,
                None,
            ));
        }
        let name = request.params.as_ref().and_then(|params| params["name"].as_str());
        let Some(name) = name else {
            return Err(ErrorData::invalid_params("tools/call needs `name`, a string", None));
        };
        let refusal = result::failed(format!("{name}: `arguments` must be an object"));
        let value = serde_json::to_value(refusal).unwrap_or(Value::Null);
        Ok(CustomResult::new(value))
    }
}
