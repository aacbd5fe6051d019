//! JSON as the app-server of Codex 0.169 writes and reads it: only what we need.
//!
//! Private to the room: nothing outside sees these types. Unknown fields are ignored, because Codex adds some with every
//! release; a known field of the wrong type is an error, because then we would misread what happened.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// One line from the app-server.
#[derive(Debug)]
pub(super) enum Incoming {
    Response {
        id: u64,
        outcome: Result<Box<RawValue>, RpcError>,
    },
    Request(ServerRequest),
    Notification(Notification),
}

#[derive(Debug)]
pub(super) struct ServerRequest {
    pub id: RequestId,
    pub method: String,
    pub params: Box<RawValue>,
}

#[derive(Debug)]
pub(super) struct Notification {
    pub method: String,
    pub params: Box<RawValue>,
}

/// The app-server's own ids, which we only give back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub(super) enum RequestId {
    Number(i64),
    Text(String),
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(super) struct RpcError {
    pub code: i64,
    pub message: String,
}

#[derive(Deserialize)]
struct Envelope {
    id: Option<RequestId>,
    method: Option<String>,
    params: Option<Box<RawValue>>,
    result: Option<Box<RawValue>>,
    error: Option<RpcError>,
}

impl Incoming {
    /// Reads one line, without its newline.
    ///
    /// # Errors
    /// Not JSON, not an object of JSON-RPC, or the answer to a call that can't be ours (our ids are numbers).
    pub fn parse(line: &[u8]) -> Result<Self, serde_json::Error> {
        use serde::de::Error;
        let envelope: Envelope = serde_json::from_slice(line)?;
        let null = || RawValue::NULL.to_owned();
        match (envelope.method, envelope.id) {
            (Some(method), Some(id)) => Ok(Self::Request(ServerRequest {
                id,
                method,
                params: envelope.params.unwrap_or_else(null),
            })),
            (Some(method), None) => Ok(Self::Notification(Notification {
                method,
                params: envelope.params.unwrap_or_else(null),
            })),
            (None, Some(RequestId::Number(id))) => Ok(Self::Response {
                id: u64::try_from(id).map_err(|_| Error::custom("a negative id is none of ours"))?,
                outcome: match envelope.error {
                    Some(error) => Err(error),
                    None => Ok(envelope.result.unwrap_or_else(null)),
                },
            }),
            (None, _) => Err(Error::custom(
                "neither a call, a notification nor an answer to one of our calls",
            )),
        }
    }
}

/// What we send. Codex's own lines carry no `jsonrpc` member, and it asks for none.
#[derive(Serialize)]
pub(super) struct Call<'a, P> {
    pub method: &'static str,
    pub id: u64,
    pub params: &'a P,
}

#[derive(Serialize)]
pub(super) struct Notice {
    pub method: &'static str,
}

#[derive(Serialize)]
pub(super) struct Reply<'a, R> {
    pub id: &'a RequestId,
    pub result: R,
}

#[derive(Serialize)]
pub(super) struct Refusal<'a> {
    pub id: &'a RequestId,
    pub error: RefusalError,
}

#[derive(Serialize)]
pub(super) struct RefusalError {
    pub code: i64,
    pub message: &'static str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct InitializeParams {
    pub client_info: ClientInfo,
    pub capabilities: ClientCapabilities,
}

#[derive(Serialize)]
pub(super) struct ClientInfo {
    pub name: &'static str,
    pub title: &'static str,
    pub version: &'static str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ClientCapabilities {
    pub experimental_api: bool,
    pub opt_out_notification_methods: &'static [&'static str],
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct InitializeResponse {
    pub user_agent: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ThreadStartParams<'a> {
    #[serde(flatten)]
    pub settings: ThreadSettings<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ThreadResumeParams<'a> {
    pub thread_id: &'a str,
    pub exclude_turns: bool,
    #[serde(flatten)]
    pub settings: ThreadSettings<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ThreadSettings<'a> {
    pub cwd: &'a str,
    pub sandbox: &'static str,
    pub approval_policy: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub base_instructions: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub developer_instructions: Option<&'a str>,
    #[serde(skip_serializing_if = "serde_json::Map::is_empty")]
    pub config: serde_json::Map<String, serde_json::Value>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ThreadStartResponse {
    pub thread: Thread,
    pub model: String,
    pub model_provider: String,
    pub approval_policy: serde_json::Value,
    pub sandbox: Tagged,
}

#[derive(Deserialize)]
pub(super) struct Thread {
    pub id: String,
}

/// An object of which only its `type` matters.
#[derive(Deserialize)]
pub(super) struct Tagged {
    #[serde(rename = "type")]
    pub kind: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct TurnStartParams<'a> {
    pub thread_id: &'a str,
    pub input: [TextInput<'a>; 1],
    pub sandbox_policy: SandboxPolicy,
}

#[derive(Serialize)]
pub(super) struct TextInput<'a> {
    #[serde(rename = "type")]
    pub kind: &'static str,
    pub text: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct SandboxPolicy {
    #[serde(rename = "type")]
    pub kind: &'static str,
    pub network_access: &'static str,
}

#[derive(Deserialize)]
pub(super) struct TurnStartResponse {
    pub turn: TurnName,
}

#[derive(Deserialize)]
pub(super) struct TurnName {
    pub id: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct TurnInterruptParams<'a> {
    pub thread_id: &'a str,
    pub turn_id: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ThreadParams<'a> {
    pub thread_id: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct TurnsListParams<'a> {
    pub thread_id: &'a str,
    pub limit: u32,
    pub sort_direction: &'static str,
    pub items_view: &'static str,
}

#[derive(Deserialize)]
pub(super) struct TurnsListResponse {
    pub data: Vec<Turn>,
}

/// An answer whose content says nothing.
#[derive(Deserialize)]
pub(super) struct Empty {}

#[derive(Deserialize)]
pub(super) struct Turn {
    pub id: String,
    pub status: TurnStatus,
    #[serde(default)]
    pub items: Vec<Box<RawValue>>,
    pub error: Option<ErrorBody>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum TurnStatus {
    Completed,
    Interrupted,
    Failed,
    InProgress,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ErrorBody {
    pub message: String,
    /// A word, or an object with one key; any other word or object is a kind that we don't know.
    pub codex_error_info: Option<serde_json::Value>,
    pub additional_details: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct TurnNotice {
    pub thread_id: String,
    pub turn: Turn,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ItemNotice {
    pub thread_id: String,
    pub turn_id: String,
    pub item: Box<RawValue>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct DeltaNotice {
    pub thread_id: String,
    pub turn_id: String,
    pub delta: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct UsageNotice {
    pub thread_id: String,
    pub turn_id: String,
    pub token_usage: TokenUsage,
}

#[derive(Deserialize)]
pub(super) struct TokenUsage {
    pub total: TokenCounts,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct TokenCounts {
    pub total_tokens: u64,
    pub input_tokens: u64,
    pub cached_input_tokens: u64,
    pub output_tokens: u64,
    pub reasoning_output_tokens: u64,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct StatusNotice {
    pub thread_id: String,
    pub status: Tagged,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ErrorNotice {
    pub thread_id: String,
    pub turn_id: String,
    pub will_retry: bool,
    pub error: ErrorBody,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct WarningNotice {
    pub thread_id: Option<String>,
    pub message: String,
}

#[derive(Deserialize)]
pub(super) struct ConfigWarningNotice {
    pub summary: String,
    pub details: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ModelReroutedNotice {
    pub thread_id: String,
    pub turn_id: String,
    pub from_model: String,
    pub to_model: String,
}

#[derive(Deserialize)]
pub(super) struct AgentMessage {
    pub text: String,
}

#[derive(Deserialize)]
pub(super) struct Reasoning {
    #[serde(default)]
    pub summary: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct CommandExecution {
    pub command: String,
    pub status: WorkStatus,
    pub aggregated_output: Option<String>,
    pub exit_code: Option<i64>,
}

#[derive(Deserialize)]
pub(super) struct FileChange {
    pub id: String,
    pub status: WorkStatus,
    pub changes: Vec<FileUpdate>,
}

#[derive(Deserialize)]
pub(super) struct FileUpdate {
    pub path: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum WorkStatus {
    InProgress,
    Completed,
    Failed,
    Declined,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ApprovalParams {
    pub thread_id: String,
    pub turn_id: String,
    pub item_id: String,
    pub command: Option<String>,
    pub reason: Option<String>,
}

#[derive(Serialize)]
pub(super) struct DecisionReply {
    pub decision: &'static str,
}

/// "No answer" to questions that Codex puts to the user.
#[derive(Default, Serialize)]
pub(super) struct NoAnswers {
    pub answers: serde_json::Map<String, serde_json::Value>,
}

#[derive(Serialize)]
pub(super) struct ElicitationReply {
    pub action: &'static str,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_told_apart_by_method_and_id() {
        let parse = |line: &str| Incoming::parse(line.as_bytes());
        assert!(matches!(
            parse(r#"{"id":3,"result":{}}"#).unwrap(),
            Incoming::Response { id: 3, outcome: Ok(_) }
        ));
        assert!(matches!(
            parse(r#"{"error":{"code":-32600,"message":"no","data":1},"id":3}"#).unwrap(),
            Incoming::Response {
                id: 3,
                outcome: Err(RpcError { code: -32600, .. })
            }
        ));
        assert!(matches!(
            parse(r#"{"method":"m","id":"x","params":{}}"#).unwrap(),
            Incoming::Request(ServerRequest {
                id: RequestId::Text(_),
                ..
            })
        ));
        assert!(matches!(
            parse(r#"{"method":"m","emittedAtMs":1}"#).unwrap(),
            Incoming::Notification(_)
        ));
    }

    #[test]
    fn what_is_no_message_is_refused() {
        for line in [
            "",
            "[]",
            "{}",
            "null",
            "x",
            r#"{"id":"x","result":1}"#,
            r#"{"id":-1}"#,
            r#"{"method":7}"#,
        ] {
            assert!(Incoming::parse(line.as_bytes()).is_err(), "{line}");
        }
    }
}
