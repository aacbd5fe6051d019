//! Configuration: layers become one [`Config`], in which each value knows where it came from.
//!
//! Layers, weakest first: embedded defaults, system file, user file, environment, flags. Everything but [`load`] is
//! pure. This room must never read a secret's value (only where to find it), and never let a string of a file become
//! TOML: `${NAME}` is replaced inside parsed values.
//!
//! - [`quantity`], [`name`], [`url`]: sizes, shares, durations, names, addresses: parsed once.
//! - [`host`], [`authority`], [`rule`], [`breadth`], [`network`]: what a session may reach.
//! - [`audit`]: how much of the audit is kept.
//! - [`moment`]: a moment as people write it.
//! - [`workspace`]: what a session works on. [`sessions`]: how long it is kept. [`mcp`]: how the server answers. [`quota`]: what may be spent.
//! - [`http`]: where MCP is served over HTTP. [`identity`]: whose a token is.
//! - [`secret`]: files that a container sees and this machine's disk does not.
//! - [`auth`]: by a key, or by the host's ChatGPT login.
//! - [`proxy`]: the operator's own proxy. [`provider`], [`secret_source`]: a model's provider, and where its key is found.
//! - [`origin`]: where a value came from.
//! - [`key`]: the registry of keys, each with its variable and flag.
//! - [`environment`]: the registry of `CODEX_MCP_*` variables.
//! - [`interpolate`]: `${NAME}` inside one string.
//! - [`layer`]: one file as written (every field optional, unknown keys refused).
//! - [`resolve`]: layers → Config (pure).
//! - [`load`]: reads the files and the environment.
//! - [`error`]: what is wrong with a configuration, and how to mend it.

pub mod audit;
pub mod auth;
pub mod authority;
pub mod breadth;
pub mod environment;
pub mod error;
pub mod host;
pub mod http;
pub mod identity;
pub mod interpolate;
pub mod key;
pub mod layer;
pub mod load;
pub mod mcp;
pub mod moment;
pub mod name;
pub mod network;
pub mod origin;
pub mod provider;
pub mod proxy;
pub mod quantity;
pub mod quota;
pub mod resolve;
pub mod rule;
pub mod secret;
pub mod secret_source;
pub mod sessions;
pub mod target;
pub mod url;
pub mod workspace;

pub use error::ConfigError;
pub use http::HttpSettings;
pub use load::load;
pub use mcp::McpSettings;
pub use origin::{Origin, Sourced};
pub use provider::Provider;
pub use quota::{DayQuota, QuotaSettings, Spendable};
pub use resolve::ConfigFlags;
pub use secret_source::SecretSource;
pub use sessions::SessionsSettings;
pub use workspace::{ApplyWhen, History, WorkspaceMode, WorkspaceSettings};

use name::{Effort, ImageReference, LogFilter};
use quantity::{ByteSize, CpuShare, ModelId, PidsLimit, ProviderName};
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

/// The whole configuration, every value present.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Config {
    pub runtime: Sourced<RuntimeChoice>,
    /// Reference of the image that sessions run in.
    pub image: Sourced<ImageReference>,
    pub limits: Limits,
    pub codex: CodexSettings,
    pub auth: auth::AuthSettings,
    pub providers: BTreeMap<ProviderName, Provider>,
    pub workspace: WorkspaceSettings,
    pub sessions: SessionsSettings,
    pub mcp: McpSettings,
    pub network: network::NetworkSettings,
    pub http: HttpSettings,
    pub secrets: BTreeMap<secret::SecretName, secret::SecretMount>,
    /// Where secrets are staged, in memory. `None`: in the runtime directory of whoever started this process.
    pub secrets_dir: Option<Sourced<PathBuf>>,
    pub quota: QuotaSettings,
    /// Where sessions, the staged guest and caches of facts live; mode 0700.
    pub state_dir: Sourced<PathBuf>,
    /// Where fetched packages and bootstrapped bases are kept.
    pub cache_dir: Sourced<PathBuf>,
    pub audit: audit::AuditSettings,
    pub log: LogSettings,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RuntimeChoice {
    /// Podman where it works, else docker.
    Auto,
    Podman,
    Docker,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Limits {
    pub memory: Sourced<ByteSize>,
    pub cpus: Sourced<CpuShare>,
    pub pids: Sourced<PidsLimit>,
    /// Size of each of the container's scratch file systems (`/tmp` and the home directory).
    pub tmp: Sourced<ByteSize>,
    /// The most that a workspace may hold when it is copied, and together with Codex's home while the session runs.
    pub workspace: Sourced<ByteSize>,
    /// The longest that one turn may take.
    pub turn: Sourced<Duration>,
    /// How long a session may be without a turn before its container ends; the thread is kept.
    pub idle: Sourced<Duration>,
    /// The longest that a session's container may live.
    pub wall: Sourced<Duration>,
    pub enforcement: Sourced<Enforcement>,
}

/// What to do where this machine can't enforce a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Enforcement {
    /// Refuse to start.
    Required,
    /// Start, and say `unenforced` in every result. Concerns resource limits only: capabilities, seccomp, mounts
    /// and the network are never best-effort.
    BestEffort,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CodexSettings {
    pub provider: Sourced<ProviderName>,
    /// `None`: Codex's own default.
    pub model: Option<Sourced<ModelId>>,
    /// `None`: Codex's own default for the model.
    pub effort: Option<Sourced<Effort>>,
    /// What a call may choose beside `model`. Empty: any.
    pub models: Vec<Sourced<ModelId>>,
    pub web_search: Sourced<WebSearch>,
    /// Of Codex's own configuration, as written: `codex::overrides` says what may be set.
    pub config: BTreeMap<String, Sourced<serde_json::Value>>,
}

/// Whether the provider may search the web for the model. It reads any address then, on its own network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum WebSearch {
    Disabled,
    Live,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LogSettings {
    pub filter: Sourced<LogFilter>,
    pub format: Sourced<LogFormat>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    Text,
    Json,
}
