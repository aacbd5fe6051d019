//! How the model's provider is shown whose requests these are: by a key, or by the host's own ChatGPT login.

use crate::config::origin::Sourced;
use crate::config::url::BaseUrl;
use serde::Serialize;
use std::path::PathBuf;

/// The one provider that a ChatGPT login is for.
pub const CHATGPT_PROVIDER: &str = "openai";

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct AuthSettings {
    pub mode: Sourced<AuthMode>,
    /// Codex's `auth.json` on this host. `None`: there is no home directory to look for it in, and none is needed.
    pub file: Option<Sourced<PathBuf>>,
    /// The ChatGPT backend: where requests go with a login, instead of to the provider's own `base_url`.
    pub chatgpt_base_url: Sourced<BaseUrl>,
    /// Where a login is refreshed.
    pub token_url: Sourced<BaseUrl>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum AuthMode {
    /// The key of `[providers.NAME]`.
    Key,
    /// The ChatGPT login that Codex made on this host.
    ChatGpt,
}
