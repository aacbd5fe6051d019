//! rmcp's handler: says who we are, lists the tools, dispatches calls. No engine is touched before a call is.

use crate::mcp::agent::Agent;
use crate::mcp::asking::Asker;
use crate::mcp::http::caller::identity_of;
use crate::mcp::progress::Notifier;
use crate::mcp::prompts::PromptName;
use crate::mcp::resources::subscriptions::{self, Subscribed};
use crate::mcp::tools::{CallContext, ToolName};
use crate::mcp::turns::Turns;
use crate::mcp::{completion, resources, result};
use crate::session::asked::Asked;
use rmcp::model::{
    CallToolRequestParams, CallToolResponse, CompleteRequestParams, CompleteResult, CustomRequest, CustomResult,
    GetPromptRequestParams, GetPromptResponse, Implementation, ListPromptsResult, ListResourceTemplatesResult,
    ListResourcesResult, ListToolsResult, PaginatedRequestParams, ReadResourceRequestParams, ReadResourceResponse,
    ServerCapabilities, ServerConfig, SubscribeRequestParams, SubscriptionFilter, Tool, UnsubscribeRequestParams,
};
use rmcp::service::{RequestContext, SubscriptionContext};
use rmcp::{ErrorData, RoleServer, ServerHandler};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use tokio_util::sync::CancellationToken;

/// One client's server.
pub struct Server<A> {
    turns: Turns<A>,
    subscribed: Subscribed,
}

impl<A: Agent> Server<A> {
    pub fn new(turns: Turns<A>) -> Self {
        Self {
            turns,
            subscribed: Subscribed::default(),
        }
    }

    /// Fires when this server is to end: calls then return at once.
    pub fn ending(&self) -> CancellationToken {
        self.turns.ending.clone()
    }

    /// Of whoever makes this request.
    fn turns(&self, context: &RequestContext<RoleServer>) -> Turns<A> {
        self.turns.of(identity_of(&context.extensions))
    }

    async fn call(&self, request: CallToolRequestParams, context: RequestContext<RoleServer>) -> CallToolResponse {
        let arguments = request.arguments.unwrap_or_default();
        let Some(tool) = ToolName::parse(&request.name) else {
            return result::unknown_tool(&request.name).into();
        };
        let state = request.request_state.as_deref();
        let answered = state.map(|state| self.turns.sealer.answered(state, request.input_responses.as_ref()));
        let answered = match answered.transpose() {
            Ok(answered) => answered,
            Err(not_ours) => return result::failed(not_ours.to_string()).into(),
        };
        let turns = self.turns(&context);
        let surrounding = CallContext {
            asked: asked(tool.as_str(), &arguments, &context),
            notifier: Notifier::new(context.peer.clone(), context.meta.get_progress_token()),
            asker: Asker::of(&context),
            answered,
            cancelled: context.ct,
        };
        tool.call(&turns, arguments, surrounding).await
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
        let capabilities = ServerCapabilities::builder()
            .enable_completions()
            .enable_prompts()
            .enable_resources()
            .enable_resources_subscribe()
            .enable_tools()
            .build();
        ServerConfig::new(capabilities)
            .with_server_info(
                Implementation::new("codex-mcp", env!("CARGO_PKG_VERSION")).with_title("Codex in a container"),
            )
            .with_instructions(
                "Runs OpenAI's Codex, each thread in a hardened container of its own, on a copy of a folder. `codex` \
                 starts a thread and `codex-reply` continues it by its threadId. A turn takes minutes; a call that returns \
                 before its end says so, and `codex-status` waits for the rest. `codex-apply` brings changes to the folder.",
            )
    }

    async fn list_tools(
        &self,
        _request: Option<PaginatedRequestParams>,
        _context: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        Ok(ListToolsResult::with_all_items(
            ToolName::ALL.map(ToolName::described).to_vec(),
        ))
    }

    fn get_tool(&self, name: &str) -> Option<Tool> {
        ToolName::parse(name).map(ToolName::described)
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        Ok(self.call(request, context).await)
    }

    async fn list_resources(
        &self,
        request: Option<PaginatedRequestParams>,
        context: RequestContext<RoleServer>,
    ) -> Result<ListResourcesResult, ErrorData> {
        resources::list(&self.turns(&context), request.and_then(|request| request.cursor)).await
    }

    async fn list_resource_templates(
        &self,
        _request: Option<PaginatedRequestParams>,
        _context: RequestContext<RoleServer>,
    ) -> Result<ListResourceTemplatesResult, ErrorData> {
        Ok(resources::templates())
    }

    async fn read_resource(
        &self,
        request: ReadResourceRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<ReadResourceResponse, ErrorData> {
        let asked = asked("resources/read", &Map::new(), &context);
        Ok(resources::read(&self.turns(&context), &request.uri, asked)
            .await?
            .into())
    }

    async fn subscribe(
        &self,
        request: SubscribeRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<(), ErrorData> {
        let (changes, ending) = (self.turns(&context).changes(), self.ending());
        self.subscribed.add(request.uri, context.peer, changes, ending)
    }

    async fn unsubscribe(
        &self,
        request: UnsubscribeRequestParams,
        _context: RequestContext<RoleServer>,
    ) -> Result<(), ErrorData> {
        self.subscribed.remove(&request.uri);
        Ok(())
    }

    fn accepted_subscription_filter(&self, requested: &SubscriptionFilter) -> Option<SubscriptionFilter> {
        let may = subscriptions::may_listen(requested.resource_subscriptions.as_ref());
        may.then(|| requested.supported_by(&self.get_info().capabilities))
    }

    async fn listen(&self, context: SubscriptionContext) -> Result<(), ErrorData> {
        let changes = self.turns(context.request_context()).changes();
        subscriptions::listen(&context, changes, &self.ending()).await
    }

    async fn list_prompts(
        &self,
        _request: Option<PaginatedRequestParams>,
        _context: RequestContext<RoleServer>,
    ) -> Result<ListPromptsResult, ErrorData> {
        Ok(ListPromptsResult::with_all_items(
            PromptName::ALL.map(PromptName::described).to_vec(),
        ))
    }

    async fn get_prompt(
        &self,
        request: GetPromptRequestParams,
        _context: RequestContext<RoleServer>,
    ) -> Result<GetPromptResponse, ErrorData> {
        let unknown =
            || ErrorData::invalid_params("there is no such prompt; prompts/list has those that there are", None);
        let prompt = PromptName::parse(&request.name).ok_or_else(unknown)?;
        Ok(prompt.filled(request.arguments)?.into())
    }

    async fn complete(
        &self,
        request: CompleteRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CompleteResult, ErrorData> {
        completion::complete(&self.turns(&context), request).await
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
