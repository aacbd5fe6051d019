//! What shows a provider whose request it is: nothing or a key.
//!
//! The one place that turns a secret into a header. It must never log one, nor hand one to anything but a request.

use crate::auth::secret::{Secret, SecretError, SecretReader};
use crate::config::provider::KeyHeader;
use crate::config::{Provider, SecretSource};
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
    },
}

/// What goes with one request. Its headers are marked sensitive.
#[derive(Debug, Clone)]
pub struct Grant {
    header: Option<(HeaderName, HeaderValue)>,
    secret: Option<Arc<Secret>>,
}

#[derive(Debug, thiserror::Error)]
pub enum CredentialError {
    #[error(transparent)]
    Secret(#[from] SecretError),
    #[error("it can't stand in a header")]
    NotAHeader,
}

impl Credential {
    pub fn of(provider: &Provider) -> Self {
        match &provider.key {
            None => Self::None,
            Some(source) => Self::Key {
                source: source.value.clone(),
                header: provider.key_header.value.clone(),
            },
        }
    }

    /// What to send now.
    pub async fn grant(&self, secrets: &SecretReader) -> Result<Grant, CredentialError> {
        match self {
            Self::None => Ok(Grant {
                header: None,
                secret: None,
            }),
            Self::Key { source, header } => key(secrets.read(source).await?, header),
        }
    }

    /// What to send after the provider refused `refused`; `None` where there is nothing else. A command may print short-lived
    /// keys, and what it printed once is kept: it is run again.
    pub async fn another(&self, secrets: &SecretReader, refused: &Grant) -> Option<Grant> {
        let (Self::Key { source, header }, Some(refused)) = (self, &refused.secret) else {
            return None;
        };
        let fresh = secrets.read_again(source, refused).await.ok()?;
        (fresh.expose() != refused.expose()).then(|| key(fresh, header).ok())?
    }
}

fn key(secret: Arc<Secret>, header: &KeyHeader) -> Result<Grant, CredentialError> {
    let (name, value) = match header {
        KeyHeader::Bearer => (AUTHORIZATION, [b"Bearer ", secret.expose()].concat()),
        KeyHeader::Named(name) => (name.clone(), secret.expose().to_vec()),
    };
    let mut value = HeaderValue::from_bytes(&value).map_err(|_| CredentialError::NotAHeader)?;
    value.set_sensitive(true);
    Ok(Grant {
        header: Some((name, value)),
        secret: Some(secret),
    })
}

impl Grant {
    pub fn add_to(&self, headers: &mut HeaderMap) {
        if let Some((name, value)) = &self.header {
            headers.insert(name.clone(), value.clone());
        }
    }
}
