//! What `auth status` shows: how the provider is shown whose requests these are, and what it says to that.
//!
//! The same settings, files and connections that a session would use, without a session. Nothing here is a secret: what leaves
//! `auth` are names, moments and reasons. A login is refreshed only where its access token has expired already.

use crate::auth::chatgpt::{ChatGptLogin, LoginStatus, RefreshToken};
use crate::auth::credential::Credential;
use crate::auth::models;
use crate::auth::secret::SecretReader;
use crate::auth::upstream::Upstream;
use crate::codex::client::SUPPORTED_CODEX;
use crate::config::auth::AuthMode;
use crate::config::quantity::{BaseUrl, ModelId, ProviderName};
use crate::config::{Config, Origin, Provider, SecretSource, Sourced, moment};
use crate::session::ground;
use crate::session::surroundings::Surroundings;
use hyper::header::HeaderMap;
use serde::Serialize;
use std::path::PathBuf;
use std::sync::Arc;

#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SignIn {
    pub mode: Sourced<AuthMode>,
    pub provider: Sourced<ProviderName>,
    /// Where requests go.
    pub base_url: Sourced<BaseUrl>,
    pub credential: SignInCredential,
    pub models: Outcome<Vec<ModelId>>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", tag = "kind")]
pub enum SignInCredential {
    None,
    Key {
        source: Sourced<SecretSource>,
        readable: Outcome<()>,
    },
    #[serde(rename = "login", rename_all = "camelCase")]
    Login {
        file: PathBuf,
        file_from: Origin,
        login: Outcome<Login>,
    },
}

#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Login {
    pub account: String,
    pub plan: Option<String>,
    pub email: Option<String>,
    /// RFC 3339; `None`: the access token does not say.
    pub expires: Option<String>,
    pub expired: Expired,
    pub refresh_token: RefreshTokenState,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Expired {
    No,
    /// It had, and was refreshed for this.
    Refreshed,
    Yes,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum RefreshTokenState {
    Ready,
    Spent,
    Missing,
}

/// What was found, or why it was not.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Outcome<T> {
    Found(T),
    Failed(String),
}

impl SignIn {
    /// Whether a session could ask its provider.
    pub fn works(&self) -> bool {
        matches!(self.models, Outcome::Found(_))
    }
}

/// Looks, and asks the provider for its models.
pub async fn look(config: &Config, surroundings: Arc<Surroundings>) -> SignIn {
    let dialer = ground::dialer(&config.network, &surroundings);
    let upstream = ground::upstream(config, dialer);
    let provider = &config.codex.provider;
    let login = ground::login(config, upstream.clone());
    let (base_url, credential, models) = match (config.auth.mode.value, &config.auth.file, login) {
        (AuthMode::ChatGpt, Some(file), Some(login)) => {
            let base_url = config.auth.chatgpt_base_url.clone();
            let (login, models) = by_login(&login, &upstream, &base_url.value).await;
            let credential = SignInCredential::Login {
                file: file.value.clone(),
                file_from: file.origin.clone(),
                login,
            };
            (base_url, credential, models)
        }
        _ => {
            let settings = config.providers.get(&provider.value);
            // Resolving the configuration made sure of it.
            let Some(settings) = settings else {
                return unknown(config);
            };
            let secrets = ground::secrets(&surroundings);
            let (credential, models) = by_key(settings, &secrets, &upstream).await;
            (settings.base_url.clone(), credential, models)
        }
    };
    SignIn {
        mode: config.auth.mode.clone(),
        provider: provider.clone(),
        base_url,
        credential,
        models,
    }
}

fn unknown(config: &Config) -> SignIn {
    SignIn {
        mode: config.auth.mode.clone(),
        provider: config.codex.provider.clone(),
        base_url: config.auth.chatgpt_base_url.clone(),
        credential: SignInCredential::None,
        models: Outcome::Failed("there is no such provider".to_owned()),
    }
}

async fn by_key(
    provider: &Provider,
    secrets: &SecretReader,
    upstream: &Upstream,
) -> (SignInCredential, Outcome<Vec<ModelId>>) {
    let grant = Credential::of(provider).grant(secrets).await;
    let shown = |readable| match &provider.key {
        None => SignInCredential::None,
        Some(source) => SignInCredential::Key {
            source: source.clone(),
            readable,
        },
    };
    let grant = match grant {
        Ok(grant) => grant,
        Err(error) => {
            let unread = Outcome::Failed("the key can't be read".to_owned());
            return (shown(Outcome::Failed(error.to_string())), unread);
        }
    };
    let mut headers = HeaderMap::new();
    for header in &provider.headers {
        headers.insert(header.value.name.clone(), header.value.value.clone());
    }
    grant.add_to(&mut headers);
    let models = models::list(upstream, &provider.base_url.value, "", headers).await;
    (shown(Outcome::Found(())), outcome(models))
}

async fn by_login(
    login: &ChatGptLogin,
    upstream: &Upstream,
    base_url: &BaseUrl,
) -> (Outcome<Login>, Outcome<Vec<ModelId>>) {
    let no_login = || Outcome::Failed("there is no login that could ask".to_owned());
    let before = match login.status().await {
        Ok(status) => status,
        Err(error) => return (Outcome::Failed(error.to_string()), no_login()),
    };
    let access = match before.expired {
        true => login.current().await,
        false => login.stored().await,
    };
    let access = match access {
        Ok(access) => access,
        Err(error) => {
            let expired = Outcome::Found(shown(before, Expired::Yes));
            return (expired, Outcome::Failed(error.to_string()));
        }
    };
    let expired = match before.expired {
        true => Expired::Refreshed,
        false => Expired::No,
    };
    let after = login.status().await.unwrap_or(before);
    let mut headers = HeaderMap::new();
    access.add_to(&mut headers);
    // The backend gives the models that this version of Codex knows what to do with.
    let query = format!("?client_version={SUPPORTED_CODEX}.0");
    let models = models::list(upstream, base_url, &query, headers).await;
    (Outcome::Found(shown(after, expired)), outcome(models))
}

fn shown(status: LoginStatus, expired: Expired) -> Login {
    Login {
        account: status.account.to_string(),
        plan: status.plan,
        email: status.email,
        expires: status.expires.map(|expires| moment::rfc3339(expires.0)),
        expired,
        refresh_token: match status.refresh_token {
            RefreshToken::Ready => RefreshTokenState::Ready,
            RefreshToken::Spent => RefreshTokenState::Spent,
            RefreshToken::Missing => RefreshTokenState::Missing,
        },
    }
}

fn outcome(models: Result<Vec<ModelId>, models::ModelsError>) -> Outcome<Vec<ModelId>> {
    match models {
        Ok(models) => Outcome::Found(models),
        Err(error) => Outcome::Failed(error.to_string()),
    }
}
