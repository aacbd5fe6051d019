//! What shows a provider whose request it is: nothing, a key, or the host's ChatGPT login.
//!
//! The one place that turns a credential into headers. It must never log one, nor hand one to anything but a request.

use crate::auth::chatgpt::{Access, ChatGptLogin, LoginError};
use crate::auth::secret::{Secret, SecretError, SecretReader};
use crate::config::provider::KeyHeader;
use crate::config::{Origin, Provider, SecretSource};
use hyper::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};
use std::sync::Arc;

/// How a provider is shown whose request it is.
#[derive(Debug)]
pub enum Credential {
    /// A server that wants none.
    None,
    Key {
        source: SecretSource,
        header: KeyHeader,
        /// Where the source is named.
        origin: Origin,
    },
    ChatGpt(ChatGptLogin),
}

/// What goes with one request. Its headers are marked sensitive.
#[derive(Debug, Clone)]
pub enum Grant {
    Nothing,
    Key {
        name: HeaderName,
        value: HeaderValue,
        secret: Arc<Secret>,
    },
    ChatGpt(Arc<Access>),
}

#[derive(Debug, thiserror::Error)]
pub enum CredentialError {
    #[error("from {origin}: {error}")]
    Secret { origin: Origin, error: SecretError },
    #[error("from {origin}: it can't stand in a header")]
    NotAHeader { origin: Origin },
    #[error(transparent)]
    Login(#[from] LoginError),
}

impl Credential {
    pub fn of(provider: &Provider) -> Self {
        match &provider.key {
            None => Self::None,
            Some(source) => Self::Key {
                source: source.value.clone(),
                header: provider.key_header.value.clone(),
                origin: source.origin.clone(),
            },
        }
    }

    /// What to send now.
    pub async fn grant(&self, secrets: &SecretReader) -> Result<Grant, CredentialError> {
        match self {
            Self::None => Ok(Grant::Nothing),
            Self::Key { source, header, origin } => {
                let secret = secrets.read(source).await.map_err(|error| CredentialError::Secret {
                    origin: origin.clone(),
                    error,
                })?;
                key(secret, header).ok_or_else(|| CredentialError::NotAHeader { origin: origin.clone() })
            }
            Self::ChatGpt(login) => Ok(Grant::ChatGpt(login.current().await?)),
        }
    }

    /// What to send after the provider refused `refused`; `None` where there is nothing else. A command may print short-lived
    /// keys, and what it printed once is kept: it is run again. A login is refreshed, or read again.
    pub async fn another(&self, secrets: &SecretReader, refused: &Grant) -> Result<Option<Grant>, CredentialError> {
        match (self, refused) {
            (
                Self::Key { source, header, .. },
                Grant::Key {
                    secret: refused_secret, ..
                },
            ) => {
                // A command that fails now leaves what was refused, and that is what has to be told.
                let Ok(fresh) = secrets.read_again(source, refused_secret).await else {
                    return Ok(None);
                };
                let differs = fresh.expose() != refused_secret.expose();
                Ok(differs.then(|| key(fresh, header)).flatten())
            }
            (Self::ChatGpt(login), Grant::ChatGpt(access)) => {
                Ok(Some(Grant::ChatGpt(login.after_refusal(access).await?)))
            }
            _ => Ok(None),
        }
    }
}

fn key(secret: Arc<Secret>, header: &KeyHeader) -> Option<Grant> {
    let (name, value) = match header {
        KeyHeader::Bearer => (AUTHORIZATION, [b"Bearer ", secret.expose()].concat()),
        KeyHeader::Named(name) => (name.clone(), secret.expose().to_vec()),
    };
    let mut value = HeaderValue::from_bytes(&value).ok()?;
    value.set_sensitive(true);
    Some(Grant::Key { name, value, secret })
}

impl Grant {
    pub fn add_to(&self, headers: &mut HeaderMap) {
        match self {
            Self::Nothing => {}
            Self::Key { name, value, .. } => drop(headers.insert(name.clone(), value.clone())),
            Self::ChatGpt(access) => access.add_to(headers),
        }
    }
}
