//! The host's own Codex login, for `auth.mode = "chatgpt"`: an access token for each request, refreshed by one.
//!
//! A refresh token is good for one use, and a second use may end the login. So it is sent at most once, whatever happens: one
//! task of one process at a time refreshes, a mark that outlives the process is written before the token is sent, and what
//! another program (Codex itself) wrote meanwhile stands. A container gets none of this. No error, Debug or log line of this
//! room shows a token.
//!
//! - [`token`]: what a token says of itself (pure).
//! - [`auth_file`]: the text of `auth.json` (pure).
//! - [`decide`]: use, refresh, or tell a person (pure).
//! - [`store`]: the files and locks.
//! - [`refresh_request`]: the exchange with the provider.
//! - [`refresher`]: carries it out.

pub mod auth_file;
pub mod decide;
pub mod refresh_request;
pub mod refresher;
pub mod store;
pub mod token;

pub use refresher::ChatGptLogin;

use crate::auth::secret::Secret;
use auth_file::{AuthFile, Fingerprint};
use decide::Why;
use hyper::header::{AUTHORIZATION, HeaderMap, HeaderValue};
use std::path::PathBuf;
use std::sync::Arc;
use store::FileError;
use token::{AccountId, Moment};

/// What goes with a request to the ChatGPT backend.
#[derive(Debug, Clone)]
pub struct Access {
    bearer: Arc<Secret>,
    account: AccountId,
    fingerprint: Fingerprint,
}

impl Access {
    fn of(file: &AuthFile) -> Self {
        Self {
            bearer: Arc::clone(&file.access.secret),
            account: file.account.clone(),
            fingerprint: file.access.fingerprint,
        }
    }

    /// For `Authorization: Bearer`.
    pub fn bearer(&self) -> &Arc<Secret> {
        &self.bearer
    }

    /// For the header [`ACCOUNT_HEADER`].
    pub fn account(&self) -> &AccountId {
        &self.account
    }

    /// Puts both into a request's headers.
    pub fn add_to(&self, headers: &mut HeaderMap) {
        // Both were parsed for what a header takes; without them, the provider refuses.
        if let Ok(mut value) = HeaderValue::from_bytes(&[b"Bearer ", self.bearer.expose()].concat()) {
            value.set_sensitive(true);
            headers.insert(AUTHORIZATION, value);
        }
        if let Ok(value) = HeaderValue::from_str(self.account.as_str()) {
            headers.insert(ACCOUNT_HEADER, value);
        }
    }
}

/// Says whose request it is.
pub const ACCOUNT_HEADER: &str = "chatgpt-account-id";

/// Why there is no access token. The texts say what to run.
#[derive(Debug, thiserror::Error)]
pub enum LoginError {
    #[error(transparent)]
    File(#[from] FileError),
    /// Trying again changes nothing.
    #[error("the ChatGPT login in {} can't be used any more: {why}. Log in again on this host: codex login", file.display())]
    LogIn { file: PathBuf, why: Why },
    #[error(
        "can't reach {url} to refresh the ChatGPT login: {reason}; check this machine's network and auth.token_url"
    )]
    Unreachable { url: String, reason: String },
    #[error(
        "{url} did not say what became of a refresh of the ChatGPT login ({reason}), and a refresh token is never sent twice. Log \
         in again on this host: codex login"
    )]
    Unanswered { url: String, reason: String },
    #[error("the program is ending")]
    Ending,
}

/// The kinds that a caller tells apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LoginErrorKind {
    /// A person has to log in.
    LogIn,
    /// A file, a lock, a permission: a person has to mend this machine.
    Machine,
    /// May pass by itself.
    Unreachable,
}

impl LoginError {
    pub fn kind(&self) -> LoginErrorKind {
        match self {
            Self::LogIn { .. } | Self::Unanswered { .. } => LoginErrorKind::LogIn,
            Self::File(FileError::Missing(_) | FileError::Flawed { .. }) => LoginErrorKind::LogIn,
            Self::File(_) => LoginErrorKind::Machine,
            Self::Unreachable { .. } | Self::Ending => LoginErrorKind::Unreachable,
        }
    }
}

/// What `auth status` shows of a login; no token among it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoginStatus {
    pub account: AccountId,
    pub plan: Option<String>,
    pub email: Option<String>,
    /// Of the access token, where it says so.
    pub expires: Option<Moment>,
    pub expired: bool,
    pub refresh_token: RefreshToken,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefreshToken {
    Ready,
    /// Sent once, and never again.
    Spent,
    Missing,
}
