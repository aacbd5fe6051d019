//! The app-server's calls, typed: what may be asked of Codex, and never with other settings than these.

use crate::codex::approver::Approver;
use crate::codex::connection::Connection;
use crate::codex::error::ClientError;
use crate::codex::event::{EndedTurn, ThreadEvent, ThreadId, TurnId};
use crate::codex::interpret::{UNREAD, ended, thread_id, turn_id};
use crate::codex::overrides::Overrides;
use crate::codex::prompt::Prompt;
use crate::codex::settings::PROVIDER;
use crate::codex::wire_types as wire;
use crate::config::quantity::ModelId;
use crate::wire::untrusted::Untrusted;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};

/// How a thread behaves, beyond what the locked configuration says. All of it comes from a tool call or a flag and was
/// checked against what a call may set.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ThreadSettings {
    pub approvals: Approvals,
    pub base_instructions: Option<String>,
    pub developer_instructions: Option<String>,
    /// Replaces the prompt that Codex compacts a long thread with.
    pub compact_prompt: Option<String>,
    /// Allowlisted overrides of Codex's configuration.
    pub overrides: Overrides,
}

/// What the model and its commands are told of the network. It opens and closes nothing: the container has none, and what
/// the host lets through is the host's decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NetworkAccess {
    /// Nothing is allowed: the model need not try, and `CODEX_SANDBOX_NETWORK_DISABLED` tells test suites.
    None,
    /// Some hosts are allowed.
    Some,
}

/// When Codex asks before it acts. Inside the container this is review, not a boundary.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Approvals {
    #[default]
    Never,
    /// With an external sandbox `on-request` never asks, so every asking policy becomes this one.
    Untrusted,
}

impl Approvals {
    fn as_str(self) -> &'static str {
        match self {
            Self::Never => "never",
            Self::Untrusted => "untrusted",
        }
    }
}

/// The release line of Codex that this client was written against; its protocol is marked experimental.
pub const SUPPORTED_CODEX: &str = "0.169";

/// In Codex's refusal to resume a thread that it has no record of (`no rollout found for thread id …`, code -32600, which it
/// uses for everything).
const NOT_KEPT: &str = "no rollout found";
/// In its refusal to resume a thread whose record has nothing that it can read: Codex, or the machine, went down between making the
/// file and writing to it. Zeroes, a line cut short and other text are `… is empty` to it as well (tried with 0.169.0).
const KEPT_UNREADABLY: [&str; 2] = ["failed to read session metadata", " is empty"];

/// A Codex that is cold on disk was seen to take 7.5 s to its first answer.
const START_LIMIT: Duration = Duration::from_secs(60);
const TURN_START_LIMIT: Duration = Duration::from_secs(30);
/// For calls that Codex answers from memory, within milliseconds.
const CONTROL_LIMIT: Duration = Duration::from_secs(5);

/// A handle for calls; cheap to clone. The stream is closed when the last handle and the [`Events`] are dropped.
#[derive(Clone)]
pub struct Client {
    connection: Arc<Connection>,
}

/// What happens in the threads of a connection, in order. Exactly one consumer.
pub struct Events {
    connection: Arc<Connection>,
}

/// The app-server's answer to the handshake.
#[derive(Debug, Clone, PartialEq)]
pub struct ServerInfo {
    /// Codex's version, such as `0.169.0`.
    pub version: Untrusted,
}

#[derive(Debug, Clone, PartialEq)]
pub struct StartedThread {
    pub thread: ThreadId,
    /// The model that Codex took.
    pub model: Untrusted,
    /// What Codex had to say about its configuration so far.
    pub warnings: Vec<Untrusted>,
}

/// What reading a turn back says about it.
#[derive(Debug, Clone, PartialEq)]
pub enum TurnReading {
    Ended(EndedTurn),
    StillRunning,
    /// Codex does not know the turn.
    Unknown,
}

impl Client {
    /// Starts to read and write; needs a running runtime. Nothing is sent before [`Client::initialize`].
    pub fn connect(
        stream: impl AsyncRead + AsyncWrite + Send + 'static,
        approver: Arc<dyn Approver>,
    ) -> (Self, Events) {
        let connection = Arc::new(Connection::open(stream, approver));
        let events = Events {
            connection: Arc::clone(&connection),
        };
        (Self { connection }, events)
    }

    /// The handshake; first of all calls, once.
    ///
    /// # Errors
    /// Besides what every call can meet: a Codex of another release line than [`SUPPORTED_CODEX`].
    pub async fn initialize(&self) -> Result<ServerInfo, ClientError> {
        let params = wire::InitializeParams {
            client_info: wire::ClientInfo {
                name: "codex_mcp",
                title: "codex-mcp",
                version: env!("CARGO_PKG_VERSION"),
            },
            capabilities: wire::ClientCapabilities {
                // For `thread/backgroundTerminals/clean`, without which commands survive an interrupt.
                experimental_api: true,
                opt_out_notification_methods: UNREAD,
            },
        };
        let answer: wire::InitializeResponse = self.connection.call("initialize", &params, START_LIMIT).await?;
        let version = supported_version(&answer.user_agent)?;
        self.connection.notify("initialized").await?;
        Ok(ServerInfo { version })
    }

    /// Starts a thread in `cwd`, a path as Codex sees it.
    ///
    /// # Errors
    /// Besides what every call can meet: Codex refused its configuration or one of the overrides, or took other settings
    /// than it was told to (a `requirements.toml` in the image can do that).
    pub async fn start_thread(
        &self,
        cwd: &str,
        settings: &ThreadSettings,
        model: Option<&ModelId>,
    ) -> Result<StartedThread, ClientError> {
        let params = wire::ThreadStartParams {
            settings: thread_settings(cwd, settings, model),
        };
        let answer: Result<wire::ThreadStartResponse, _> =
            self.connection.call("thread/start", &params, START_LIMIT).await;
        self.started(answer, settings)
    }

    /// Takes up a thread that another app-server kept in this Codex home. `None`: Codex kept nothing of it, as of every
    /// thread that had no turn, or was killed in the first moment of that.
    ///
    /// # Errors
    /// As [`Self::start_thread`].
    pub async fn resume_thread(
        &self,
        thread: &ThreadId,
        cwd: &str,
        settings: &ThreadSettings,
        model: Option<&ModelId>,
    ) -> Result<Option<StartedThread>, ClientError> {
        let params = wire::ThreadResumeParams {
            thread_id: thread.as_str(),
            // Our own log has them.
            exclude_turns: true,
            settings: thread_settings(cwd, settings, model),
        };
        let answer: Result<wire::ThreadStartResponse, _> =
            self.connection.call("thread/resume", &params, START_LIMIT).await;
        let has_nothing =
            |error: &ClientError| error.says(NOT_KEPT) || KEPT_UNREADABLY.iter().all(|words| error.says(words));
        if answer.as_ref().is_err_and(has_nothing) {
            return Ok(None);
        }
        let started = self.started(answer, settings)?;
        as_asked_for(thread, &started.thread)?;
        Ok(Some(started))
    }

    fn started(
        &self,
        answer: Result<wire::ThreadStartResponse, ClientError>,
        settings: &ThreadSettings,
    ) -> Result<StartedThread, ClientError> {
        // A refused configuration explains a refused thread better than the refusal does, and forbids a started one.
        let warnings = self.connection.take_notices()?;
        let started = answer?;
        as_asked("the sandbox", "readOnly", &started.sandbox.kind)?;
        as_asked("the model provider", PROVIDER, &started.model_provider)?;
        let policy = started.approval_policy.as_str().unwrap_or("something else");
        as_asked("the approval policy", settings.approvals.as_str(), policy)?;
        Ok(StartedThread {
            thread: thread_id(&started.thread.id)?,
            model: started.model.into(),
            warnings,
        })
    }

    /// Starts a turn. Turns of one thread must not overlap: a second one would steer the first.
    pub async fn start_turn(
        &self,
        thread: &ThreadId,
        prompt: &Prompt,
        network: NetworkAccess,
    ) -> Result<TurnId, ClientError> {
        let params = wire::TurnStartParams {
            thread_id: thread.as_str(),
            input: [wire::TextInput {
                kind: "text",
                text: prompt.as_str(),
            }],
            // The container is the sandbox: Codex starts none of its own (bubblewrap fails in docker).
            sandbox_policy: wire::SandboxPolicy {
                kind: "externalSandbox",
                network_access: match network {
                    NetworkAccess::None => "restricted",
                    NetworkAccess::Some => "enabled",
                },
            },
        };
        let answer: wire::TurnStartResponse = self.connection.call("turn/start", &params, TURN_START_LIMIT).await?;
        turn_id(&answer.turn.id)
    }

    /// Stops a turn; its end comes as an event. Commands that it started live on until [`Client::clean_background`].
    ///
    /// # Errors
    /// Codex rejects it where no turn runs, also for a moment after [`Client::start_turn`]: until it has reported the
    /// start of the turn.
    pub async fn interrupt(&self, thread: &ThreadId, turn: &TurnId) -> Result<(), ClientError> {
        let params = wire::TurnInterruptParams {
            thread_id: thread.as_str(),
            turn_id: turn.as_str(),
        };
        let _: wire::Empty = self.connection.call("turn/interrupt", &params, CONTROL_LIMIT).await?;
        Ok(())
    }

    /// Kills the commands that the turns of a thread left running.
    pub async fn clean_background(&self, thread: &ThreadId) -> Result<(), ClientError> {
        let params = wire::ThreadParams {
            thread_id: thread.as_str(),
        };
        let method = "thread/backgroundTerminals/clean";
        let _: wire::Empty = self.connection.call(method, &params, CONTROL_LIMIT).await?;
        Ok(())
    }

    /// Reads a recent turn back from Codex's own record.
    pub async fn read_turn(&self, thread: &ThreadId, turn: &TurnId) -> Result<TurnReading, ClientError> {
        let params = wire::TurnsListParams {
            thread_id: thread.as_str(),
            limit: 4,
            sort_direction: "desc",
            items_view: "summary",
        };
        let answer: wire::TurnsListResponse = self
            .connection
            .call("thread/turns/list", &params, CONTROL_LIMIT)
            .await?;
        match answer.data.into_iter().find(|listed| listed.id == turn.as_str()) {
            Some(listed) => Ok(ended(listed)?.map_or(TurnReading::StillRunning, TurnReading::Ended)),
            None => Ok(TurnReading::Unknown),
        }
    }
}

impl Events {
    /// The next event; waits for one. Safe to drop while it waits.
    ///
    /// # Errors
    /// Why the connection is over, after its last event was taken.
    pub async fn next(&mut self) -> Result<ThreadEvent, ClientError> {
        self.connection.next_event().await
    }
}

/// What a thread is started and resumed with alike: what Codex kept of it is the container's to change.
fn thread_settings<'a>(
    cwd: &'a str,
    settings: &'a ThreadSettings,
    model: Option<&'a ModelId>,
) -> wire::ThreadSettings<'a> {
    let mut config = settings.overrides.as_map().clone();
    if let Some(prompt) = &settings.compact_prompt {
        config.insert("compact_prompt".to_owned(), prompt.clone().into());
    }
    wire::ThreadSettings {
        cwd,
        // With anything wider Codex marks a repository as trusted and loads its `.codex/config.toml` in this very
        // thread: another model, other instructions, MCP servers of its own. Turns lift it (see `start_turn`).
        sandbox: "read-only",
        approval_policy: settings.approvals.as_str(),
        model: model.map(ModelId::as_str),
        base_instructions: settings.base_instructions.as_deref(),
        developer_instructions: settings.developer_instructions.as_deref(),
        config,
    }
}

/// The version in `codex_mcp/0.169.0 (Debian …)`.
fn supported_version(user_agent: &str) -> Result<Untrusted, ClientError> {
    let product = user_agent.split(' ').next().unwrap_or_default();
    let version = product.rsplit('/').next().unwrap_or_default();
    let line = version.rsplit_once('.').map_or("", |(line, _)| line);
    if line == SUPPORTED_CODEX {
        Ok(Untrusted::new(version))
    } else {
        Err(ClientError::UnsupportedVersion {
            found: Untrusted::new(version.chars().take(64).collect::<String>()),
            supported: SUPPORTED_CODEX,
        })
    }
}

fn as_asked(what: &'static str, wanted: &'static str, found: &str) -> Result<(), ClientError> {
    if found == wanted {
        return Ok(());
    }
    Err(ClientError::NotAsAsked {
        what,
        wanted,
        found: Untrusted::new(found),
    })
}

fn as_asked_for(thread: &ThreadId, found: &ThreadId) -> Result<(), ClientError> {
    if thread == found {
        return Ok(());
    }
    Err(ClientError::NotAsAsked {
        what: "the thread",
        wanted: "the one that was asked for",
        found: Untrusted::new(found.as_str()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_release_line_we_know_is_spoken_with() {
        let known = supported_version("codex_mcp/0.169.3 (Debian 12.0.0; x86_64) unknown (codex_mcp; 0.1.0)");
        assert_eq!(known, Ok(Untrusted::new("0.169.3")));
        for other in [
            "codex_mcp/0.170.0 (x)",
            "codex_mcp/0.1690.0 (x)",
            "codex_mcp/1.169.0",
            "",
            "0.169",
        ] {
            assert!(
                matches!(supported_version(other), Err(ClientError::UnsupportedVersion { .. })),
                "{other}"
            );
        }
    }
}
