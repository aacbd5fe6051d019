//! The demo's MCP server, a child process, and the client's side of it.

#![expect(
    clippy::disallowed_methods,
    reason = "the demo stands where an MCP client stands: it starts `serve`, and asks the engine afterwards"
)]

use crate::cli::demo::outcome::Session;
use crate::cli::demo::settings::PROVIDER;
use crate::plan::identity::SessionId;
use crate::supervise::command::CommandLine;
use rmcp::model::{
    CallToolRequest, CallToolRequestParams, CallToolResult, ClientRequest, ProgressNotificationParam, ProgressToken,
    ServerResult,
};
use rmcp::service::{
    ClientInitializeError, NotificationContext, PeerRequestOptions, RoleClient, RunningService, ServiceError,
};
use rmcp::{ClientHandler, ServiceExt};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;
use tokio::process::{Child, Command};
use tokio::sync::mpsc;
use tokio::time::timeout;

/// The longest that the demo waits for one call: a first launch may stage files.
const CALL: Duration = Duration::from_secs(180);
/// The longest that the server may take to end once its client is gone.
const END: Duration = Duration::from_secs(20);
/// The longest that the engine may take to list containers.
const LIST: Duration = Duration::from_secs(20);
/// How long notifications that came with a result may trail behind it.
const TRAIL: Duration = Duration::from_millis(50);

#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    #[error("the server could not be started: {0}")]
    Start(#[source] std::io::Error),
    #[error("the server did not greet its client: {0}; what it wrote above says why")]
    Greeting(#[source] Box<ClientInitializeError>),
    #[error("the server did not answer: {0}; what it wrote above says why")]
    Answer(#[source] Box<ServiceError>),
    #[error("the server answered with something that is no tool result")]
    NoToolResult,
    #[error("the server did not answer within {} s", CALL.as_secs())]
    Slow,
    #[error("the server did not end within {} s of its client's leaving", END.as_secs())]
    DoesNotEnd,
    #[error("the server ended with {0}")]
    Ended(ExitStatus),
}

impl From<ServiceError> for ServerError {
    fn from(error: ServiceError) -> Self {
        Self::Answer(Box::new(error))
    }
}

pub struct McpServer {
    command: CommandLine,
    child: Child,
    client: RunningService<RoleClient, Listener>,
    progress: mpsc::UnboundedReceiver<ProgressNotificationParam>,
}

impl McpServer {
    /// Flags say again what the file says: they win over the environment, which a file does not.
    pub async fn start(program: &Path, settings: &Path, model: &str, workspace: &Path) -> Result<Self, ServerError> {
        let command = CommandLine::new(program)
            .arg("serve")
            .arg("--config")
            .arg(settings)
            .args([
                "--provider",
                PROVIDER,
                "--model",
                model,
                "--enforcement",
                "best-effort",
                "--workspace",
            ])
            .arg(workspace);
        let mut child = Command::new(&command.program)
            .args(&command.args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(ServerError::Start)?;
        let no_pipe = || ServerError::Start(std::io::Error::other("it has no pipe"));
        let output = child.stdout.take().ok_or_else(no_pipe)?;
        let input = child.stdin.take().ok_or_else(no_pipe)?;
        let (heard, progress) = mpsc::unbounded_channel();
        let client = match (Listener { heard }).serve((output, input)).await {
            Ok(client) => client,
            Err(error) => return Err(ServerError::Greeting(Box::new(error))),
        };
        Ok(Self {
            command,
            child,
            client,
            progress,
        })
    }

    pub fn command_line(&self) -> String {
        self.command.to_string()
    }

    pub fn name(&self) -> String {
        match self.client.peer_info().and_then(|info| info.server_info.clone()) {
            Some(server) => format!("{} {}", server.name, server.version),
            None => "a server without a name".to_owned(),
        }
    }

    pub async fn tools(&self) -> Result<Vec<String>, ServerError> {
        let tools = self.client.list_all_tools().await?;
        Ok(tools.into_iter().map(|tool| tool.name.into_owned()).collect())
    }

    /// Calls a tool; `hears` gets each progress message as it comes.
    pub async fn call(
        &mut self,
        tool: &'static str,
        arguments: Value,
        mut hears: impl FnMut(&str),
    ) -> Result<CallToolResult, ServerError> {
        let mut parameters = CallToolRequestParams::new(tool);
        if let Value::Object(arguments) = arguments {
            parameters = parameters.with_arguments(arguments);
        }
        let request = ClientRequest::CallToolRequest(CallToolRequest::new(parameters));
        // rmcp adds a progress token to every request of its own accord.
        let pending = self
            .client
            .send_cancellable_request(request, PeerRequestOptions::no_options())
            .await?;
        let token = pending.progress_token.clone();
        let mut order = InOrder::new(token);
        let mut answer = std::pin::pin!(timeout(CALL, pending.await_response()));
        let answered = loop {
            tokio::select! {
                answered = &mut answer => break answered,
                Some(step) = self.progress.recv() => order.take(step).iter().for_each(|message| hears(message)),
            }
        };
        while let Ok(Some(step)) = timeout(TRAIL, self.progress.recv()).await {
            order.take(step).iter().for_each(|message| hears(message));
        }
        order.rest().for_each(|message| hears(&message));
        match answered {
            Err(_) => Err(ServerError::Slow),
            Ok(Ok(ServerResult::CallToolResult(result))) => Ok(result),
            Ok(Ok(_)) => Err(ServerError::NoToolResult),
            Ok(Err(error)) => Err(error.into()),
        }
    }

    /// Leaves, as a client does: closes the pipe and waits.
    pub async fn end(self) -> Result<(), ServerError> {
        let mut child = self.child;
        // What it has to say no longer matters, only that it ends.
        let _ = self.client.cancel().await;
        match timeout(END, child.wait()).await {
            Err(_) => Err(ServerError::DoesNotEnd),
            Ok(Err(error)) => Err(ServerError::Start(error)),
            Ok(Ok(status)) if status.success() => Ok(()),
            Ok(Ok(status)) => Err(ServerError::Ended(status)),
        }
    }
}

struct Listener {
    heard: mpsc::UnboundedSender<ProgressNotificationParam>,
}

impl ClientHandler for Listener {
    async fn on_progress(&self, step: ProgressNotificationParam, _context: NotificationContext<RoleClient>) {
        let _ = self.heard.send(step);
    }
}

/// How many later steps are held back for one that is missing.
const HELD_FOR_A_GAP: usize = 8;

/// Puts one call's progress in order: rmcp handles each notification in a task of its own, and they overtake one
/// another. The server leaves steps out when its client is slow to read, so a missing one is not waited for long.
struct InOrder {
    token: ProgressToken,
    next: u32,
    early: BTreeMap<u32, String>,
}

impl InOrder {
    fn new(token: ProgressToken) -> Self {
        Self {
            token,
            next: 1,
            early: BTreeMap::new(),
        }
    }

    /// What can be shown now. Our server counts steps from one; what comes after its place was given up is left out.
    fn take(&mut self, step: ProgressNotificationParam) -> Vec<String> {
        // Whole numbers well below 2^32, so nothing is lost.
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a small count, sent as a float"
        )]
        let number = step.progress as u32;
        if step.progress_token != self.token || number < self.next {
            return Vec::new();
        }
        self.early.insert(number, step.message.unwrap_or_default());
        let mut due = Vec::new();
        while let Some(first) = self.early.first_entry() {
            let number = *first.key();
            if number > self.next && self.early.len() <= HELD_FOR_A_GAP {
                break;
            }
            due.extend(self.early.remove(&number));
            self.next = number.saturating_add(1);
        }
        due
    }

    /// What was held back for steps that did not come.
    fn rest(self) -> impl Iterator<Item = String> {
        self.early.into_values()
    }
}

/// The containers of a session that its engine still knows, in any state.
///
/// # Errors
///
/// Why that could not be found out.
pub async fn containers_left(session: &Session) -> Result<Vec<String>, String> {
    let engine = match session.engine.split_whitespace().next() {
        Some("podman") => "podman",
        Some("docker") => "docker",
        _ => return Err(format!("{} is no engine that the demo knows", session.engine)),
    };
    let id = SessionId::try_from(session.id.clone())?;
    let name = id.container_name().to_string();
    let mut list = Command::new(engine);
    list.args(["ps", "--all", "--format", "{{.Names}}", "--filter"])
        .arg(format!("name={name}"));
    let listed = match timeout(LIST, list.kill_on_drop(true).stdin(Stdio::null()).output()).await {
        Err(_) => return Err(format!("{engine} did not answer")),
        Ok(Err(error)) => return Err(format!("{engine} could not be started: {error}")),
        Ok(Ok(listed)) if !listed.status.success() => return Err(format!("{engine} ended with {}", listed.status)),
        Ok(Ok(listed)) => listed.stdout,
    };
    let names = String::from_utf8_lossy(&listed);
    Ok(names
        .lines()
        .filter(|line| !line.is_empty())
        .map(str::to_owned)
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use rmcp::model::NumberOrString;

    fn step(token: i64, number: f64) -> ProgressNotificationParam {
        ProgressNotificationParam::new(ProgressToken(NumberOrString::Number(token)), number)
            .with_message(number.to_string())
    }

    #[test]
    fn steps_that_overtook_are_put_in_order_and_other_calls_are_left_out() {
        let mut order = InOrder::new(ProgressToken(NumberOrString::Number(7)));
        assert_eq!(order.take(step(7, 2.0)), Vec::<String>::new());
        assert_eq!(order.take(step(6, 1.0)), Vec::<String>::new());
        assert_eq!(order.take(step(7, 1.0)), ["1", "2"]);
        assert_eq!(order.take(step(7, 3.0)), ["3"]);
    }

    #[test]
    fn a_step_that_the_server_left_out_holds_back_nothing_for_good() {
        let mut order = InOrder::new(ProgressToken(NumberOrString::Number(7)));
        assert_eq!(order.take(step(7, 1.0)), ["1"]);
        let shown: Vec<String> = (3..=11)
            .flat_map(|number| order.take(step(7, f64::from(number))))
            .collect();
        assert_eq!(shown, ["3", "4", "5", "6", "7", "8", "9", "10", "11"]);
        assert_eq!(order.take(step(7, 2.0)), Vec::<String>::new(), "its place was given up");
        assert_eq!(order.take(step(7, 13.0)), Vec::<String>::new());
        assert_eq!(order.rest().collect::<Vec<_>>(), ["13"]);
    }
}
