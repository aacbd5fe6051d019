//! The registry of keys: what each is called in a file, and by which variable and flag it is set as well.
//!
//! One table for the check of unknown keys, for resolution and for the test that keeps docs/configuration.md whole.

use crate::config::environment;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Key {
    /// Dotted; `*` stands for a name that the operator chooses.
    pub name: &'static str,
    pub variable: Option<&'static str>,
    pub flag: Option<&'static str>,
}

impl Key {
    const fn new(name: &'static str) -> Self {
        Self {
            name,
            variable: None,
            flag: None,
        }
    }

    const fn variable(self, variable: &'static str) -> Self {
        Self {
            variable: Some(variable),
            ..self
        }
    }

    const fn flag(self, flag: &'static str) -> Self {
        Self {
            flag: Some(flag),
            ..self
        }
    }
}

pub const RUNTIME: Key = Key::new("runtime").variable(environment::RUNTIME).flag("--runtime");
pub const IMAGE: Key = Key::new("image").variable(environment::IMAGE).flag("--image");
pub const STATE_DIR: Key = Key::new("state_dir").variable(environment::STATE_DIR);
pub const CACHE_DIR: Key = Key::new("cache_dir").variable(environment::CACHE_DIR);
pub const SECRETS_DIR: Key = Key::new("secrets_dir").variable(environment::SECRETS_DIR);
pub const MEMORY: Key = Key::new("limits.memory").variable(environment::MEMORY).flag("--memory");
pub const CPUS: Key = Key::new("limits.cpus").variable(environment::CPUS).flag("--cpus");
pub const PIDS: Key = Key::new("limits.pids").variable(environment::PIDS).flag("--pids");
pub const TMP: Key = Key::new("limits.tmp").variable(environment::TMP).flag("--tmp");
pub const WORKSPACE: Key = Key::new("limits.workspace");
pub const TURN: Key = Key::new("limits.turn").variable(environment::TURN).flag("--turn");
pub const IDLE: Key = Key::new("limits.idle").variable(environment::IDLE);
pub const WALL: Key = Key::new("limits.wall").variable(environment::WALL).flag("--wall");
pub const ENFORCEMENT: Key = Key::new("limits.enforcement")
    .variable(environment::ENFORCEMENT)
    .flag("--enforcement");
pub const PROVIDER: Key = Key::new("codex.provider")
    .variable(environment::PROVIDER)
    .flag("--provider");
pub const MODEL: Key = Key::new("codex.model").variable(environment::MODEL).flag("--model");
pub const EFFORT: Key = Key::new("codex.effort").variable(environment::EFFORT).flag("--effort");
pub const MODELS: Key = Key::new("codex.models");
pub const WEB_SEARCH: Key = Key::new("codex.web_search");
pub const CODEX_CONFIG: Key = Key::new("codex.config.*");
pub const AUTH_MODE: Key = Key::new("auth.mode");
pub const AUTH_FILE: Key = Key::new("auth.file");
pub const AUTH_CHATGPT_BASE_URL: Key = Key::new("auth.chatgpt_base_url");
pub const AUTH_TOKEN_URL: Key = Key::new("auth.token_url");
pub const BASE_URL: Key = Key::new("providers.*.base_url");
pub const KEY_ENV: Key = Key::new("providers.*.key.env");
pub const KEY_FILE: Key = Key::new("providers.*.key.file");
pub const KEY_COMMAND: Key = Key::new("providers.*.key.command");
pub const KEY_HEADER: Key = Key::new("providers.*.key_header");
pub const HEADERS: Key = Key::new("providers.*.headers.*");
pub const ROOTS: Key = Key::new("workspace.roots").flag("--workspace");
pub const MAX_FILES: Key = Key::new("workspace.max_files");
pub const WORKSPACE_MODE: Key = Key::new("workspace.mode").variable(environment::WORKSPACE_MODE);
pub const HISTORY: Key = Key::new("workspace.history");
pub const APPLY: Key = Key::new("workspace.apply").flag("--apply");
pub const FREE: Key = Key::new("workspace.free");
pub const MCP_BLOCK: Key = Key::new("mcp.block").variable(environment::MCP_BLOCK);
pub const MCP_APPROVALS: Key = Key::new("mcp.approvals");
pub const MCP_ASK: Key = Key::new("mcp.ask");
pub const SESSIONS_KEEP: Key = Key::new("sessions.keep");
pub const SESSIONS_KEEP_SIZE: Key = Key::new("sessions.keep_size");
pub const SESSIONS_RESTARTS: Key = Key::new("sessions.restarts");
pub const NETWORK_ALLOW: Key = Key::new("network.allow")
    .variable(environment::NETWORK)
    .flag("--network");
pub const NETWORK_DENY: Key = Key::new("network.deny");
pub const NETWORK_FROM: Key = Key::new("network.from");
pub const NETWORK_PRIVATE: Key = Key::new("network.private");
pub const NETWORK_UNRESTRICTED: Key = Key::new("network.unrestricted");
pub const NETWORK_NAMESERVERS: Key = Key::new("network.nameservers");
pub const NETWORK_PROXY: Key = Key::new("network.proxy");
pub const NETWORK_PROXY_CREDENTIALS_ENV: Key = Key::new("network.proxy_credentials.env");
pub const NETWORK_PROXY_CREDENTIALS_FILE: Key = Key::new("network.proxy_credentials.file");
pub const NETWORK_PROXY_CREDENTIALS_COMMAND: Key = Key::new("network.proxy_credentials.command");
pub const NETWORK_NO_PROXY: Key = Key::new("network.no_proxy");
pub const NETWORK_PROXY_RESOLVES: Key = Key::new("network.proxy_resolves");
pub const NETWORK_CA_BUNDLE: Key = Key::new("network.ca_bundle");
pub const NETWORK_CONNECTIONS: Key = Key::new("network.connections");
pub const NETWORK_CONNECTIONS_PER_SECOND: Key = Key::new("network.connections_per_second");
pub const NETWORK_BYTES: Key = Key::new("network.bytes");
pub const NETWORK_BYTES_PER_SECOND: Key = Key::new("network.bytes_per_second");
pub const NETWORK_CONNECT: Key = Key::new("network.connect");
pub const NETWORK_IDLE: Key = Key::new("network.idle");
pub const NETWORK_TOTAL: Key = Key::new("network.total");
pub const HTTP_LISTEN: Key = Key::new("http.listen")
    .variable(environment::HTTP_LISTEN)
    .flag("--listen");
pub const HTTP_BEHIND_PROXY: Key = Key::new("http.behind_proxy");
pub const HTTP_ALLOWED_HOSTS: Key = Key::new("http.allowed_hosts");
pub const HTTP_ALLOWED_ORIGINS: Key = Key::new("http.allowed_origins");
pub const HTTP_MAX_BODY: Key = Key::new("http.max_body");
pub const HTTP_CONNECTIONS: Key = Key::new("http.connections");
pub const HTTP_REQUESTS_PER_SECOND: Key = Key::new("http.requests_per_second");
pub const HTTP_TOKENS: Key = Key::new("http.tokens");
pub const SECRET_ENV: Key = Key::new("secrets.*.from.env");
pub const SECRET_FILE: Key = Key::new("secrets.*.from.file");
pub const SECRET_COMMAND: Key = Key::new("secrets.*.from.command");
pub const SECRET_PATH: Key = Key::new("secrets.*.path");
pub const QUOTA_SESSIONS: Key = Key::new("quota.sessions");
pub const QUOTA_SESSION_TURNS: Key = Key::new("quota.session.turns");
pub const QUOTA_SESSION_TOKENS: Key = Key::new("quota.session.tokens");
pub const QUOTA_SESSION_REQUESTS: Key = Key::new("quota.session.requests");
pub const QUOTA_SESSION_WALL: Key = Key::new("quota.session.wall");
pub const QUOTA_SESSION_EGRESS: Key = Key::new("quota.session.egress");
pub const QUOTA_DAY_SESSIONS: Key = Key::new("quota.day.sessions");
pub const QUOTA_DAY_TURNS: Key = Key::new("quota.day.turns");
pub const QUOTA_DAY_TOKENS: Key = Key::new("quota.day.tokens");
pub const QUOTA_DAY_REQUESTS: Key = Key::new("quota.day.requests");
pub const QUOTA_DAY_WALL: Key = Key::new("quota.day.wall");
pub const QUOTA_DAY_EGRESS: Key = Key::new("quota.day.egress");
pub const AUDIT_FILE_SIZE: Key = Key::new("audit.file_size");
pub const AUDIT_KEEP: Key = Key::new("audit.keep");
pub const LOG_FILTER: Key = Key::new("log.filter").variable(environment::LOG).flag("--log");
pub const LOG_FORMAT: Key = Key::new("log.format").variable(environment::LOG_FORMAT);

/// All of them, in the order of the documentation.
pub const REGISTRY: &[Key] = &[
    RUNTIME,
    IMAGE,
    STATE_DIR,
    CACHE_DIR,
    SECRETS_DIR,
    MEMORY,
    CPUS,
    PIDS,
    TMP,
    WORKSPACE,
    TURN,
    IDLE,
    WALL,
    ENFORCEMENT,
    PROVIDER,
    MODEL,
    EFFORT,
    MODELS,
    WEB_SEARCH,
    CODEX_CONFIG,
    AUTH_MODE,
    AUTH_FILE,
    AUTH_CHATGPT_BASE_URL,
    AUTH_TOKEN_URL,
    BASE_URL,
    KEY_ENV,
    KEY_FILE,
    KEY_COMMAND,
    KEY_HEADER,
    HEADERS,
    ROOTS,
    MAX_FILES,
    WORKSPACE_MODE,
    HISTORY,
    APPLY,
    FREE,
    MCP_BLOCK,
    MCP_APPROVALS,
    MCP_ASK,
    SESSIONS_KEEP,
    SESSIONS_KEEP_SIZE,
    SESSIONS_RESTARTS,
    NETWORK_ALLOW,
    NETWORK_DENY,
    NETWORK_FROM,
    NETWORK_PRIVATE,
    NETWORK_UNRESTRICTED,
    NETWORK_NAMESERVERS,
    NETWORK_PROXY,
    NETWORK_PROXY_CREDENTIALS_ENV,
    NETWORK_PROXY_CREDENTIALS_FILE,
    NETWORK_PROXY_CREDENTIALS_COMMAND,
    NETWORK_NO_PROXY,
    NETWORK_PROXY_RESOLVES,
    NETWORK_CA_BUNDLE,
    NETWORK_CONNECTIONS,
    NETWORK_CONNECTIONS_PER_SECOND,
    NETWORK_BYTES,
    NETWORK_BYTES_PER_SECOND,
    NETWORK_CONNECT,
    NETWORK_IDLE,
    NETWORK_TOTAL,
    HTTP_LISTEN,
    HTTP_BEHIND_PROXY,
    HTTP_ALLOWED_HOSTS,
    HTTP_ALLOWED_ORIGINS,
    HTTP_MAX_BODY,
    HTTP_CONNECTIONS,
    HTTP_REQUESTS_PER_SECOND,
    HTTP_TOKENS,
    SECRET_ENV,
    SECRET_FILE,
    SECRET_COMMAND,
    SECRET_PATH,
    QUOTA_SESSIONS,
    QUOTA_SESSION_TURNS,
    QUOTA_SESSION_TOKENS,
    QUOTA_SESSION_REQUESTS,
    QUOTA_SESSION_WALL,
    QUOTA_SESSION_EGRESS,
    QUOTA_DAY_SESSIONS,
    QUOTA_DAY_TURNS,
    QUOTA_DAY_TOKENS,
    QUOTA_DAY_REQUESTS,
    QUOTA_DAY_WALL,
    QUOTA_DAY_EGRESS,
    AUDIT_FILE_SIZE,
    AUDIT_KEEP,
    LOG_FILTER,
    LOG_FORMAT,
];

/// What a path of keys, as found in a file, is to the registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// A key that has a value.
    Value,
    /// A table that holds further keys.
    Table,
    Unknown,
}

/// Compared segment by segment, so that a quoted key with a dot in it is not taken for a path.
pub fn place(path: &[&str]) -> Place {
    let segment_fits = |(known, found): (&str, &&str)| known == "*" || known == *found;
    let mut place = Place::Unknown;
    for key in REGISTRY {
        let depth = key.name.split('.').count();
        if depth < path.len() || !key.name.split('.').zip(path).all(segment_fits) {
            continue;
        }
        if depth == path.len() {
            return Place::Value;
        }
        place = Place::Table;
    }
    place
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_placed_by_segments() {
        assert_eq!(place(&["limits", "memory"]), Place::Value);
        assert_eq!(place(&["limits"]), Place::Table);
        assert_eq!(place(&["providers", "any"]), Place::Table);
        assert_eq!(place(&["providers", "any", "key"]), Place::Table);
        assert_eq!(place(&["providers", "any", "key", "env"]), Place::Value);
        for path in [
            &["limits.memory"][..],
            &["memory"],
            &["limits", "memory", "x"],
            &["*"],
            &["net"],
        ] {
            assert_eq!(place(path), Place::Unknown, "{path:?}");
        }
    }

    #[test]
    fn every_variable_sets_a_key_but_the_one_that_names_the_file() {
        let set: Vec<_> = REGISTRY.iter().filter_map(|key| key.variable).collect();
        for name in environment::REGISTRY {
            assert_eq!(set.contains(&name), name != environment::CONFIG, "{name}");
        }
    }
}
