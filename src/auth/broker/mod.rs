//! Serves the guest's model connections: an HTTP server towards the container, a client towards the provider.
//!
//! The container sends requests without a credential. Each is read whole, looked through, written anew and sent to the provider that
//! the operator configured, with the credential, which is added here on the host. Answers stream: an event reaches Codex when
//! the provider sends it, and passes as it is: a provider that repeats the key in one gives it away. This room must never log a header
//! or a body, nor say anything of its own, or of a provider's error, that holds a key.
//!
//! - [`passage`]: which paths and headers pass, in both directions (pure).
//! - [`document`], [`screen`]: what a request's body may say (pure).
//! - [`usage`]: what an answer says that it cost (pure). [`budget`]: what a session spends; [`purse`]: what all spend together.
//! - [`retry`]: what is sent again (pure).
//! - [`refusal`]: what is answered by this end, so that Codex stops and says why (pure).
//! - [`witness`]: who is told before a credential is used.
//! - [`timely`]: a body that must come in time.
//! - [`route`]: the way of one request.
//! - [`answer`]: the body of an answer on its way to the guest.

pub mod answer;
pub mod budget;
pub mod document;
pub mod passage;
pub mod purse;
pub mod refusal;
pub mod retry;
mod route;
pub mod screen;
pub mod timely;
pub mod usage;
pub mod witness;

use crate::auth::destination::Destination;
use crate::auth::secret::SecretReader;
use crate::auth::upstream::Upstream;
use crate::config::quantity::ProviderName;
use crate::config::{Config, Spendable, WebSearch};
use crate::redact::Redactor;
use crate::wire::patient::Patient;
use budget::{Account, ModelUsage, Spending};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use purse::Purse;
use refusal::Refusal;
use route::Route;
use screen::Terms;
use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Semaphore;
use witness::Witness;

/// Requests of one session that are with the provider at once; more wait. Codex runs a turn with one, and sub-agents and
/// compaction with a few.
const CONCURRENT: usize = 8;
/// Bodies of one session that are held at once, in KiB: a body is kept until its answer begins, because it may have to be sent
/// again.
const HELD_KIB: usize = 48 << 10;
/// The largest head of a request, in bytes. Codex sends about 2 KiB.
const MAX_HEAD: usize = 64 << 10;
/// The longest that a connection may wait for a request's head, idle between two requests included. Above the 90 s after
/// which Codex's client drops an idle connection by itself: were this end first, a request could cross the close.
const HEAD_TIMEOUT: Duration = Duration::from_secs(120);
/// How long an answer may wait for a reader. Codex reads what comes; whoever does not holds one of the few connections.
const READ_TIMEOUT: Duration = Duration::from_secs(60);

/// All providers of the process.
#[derive(Debug)]
pub struct Broker {
    destinations: BTreeMap<ProviderName, Arc<Destination>>,
    secrets: SecretReader,
    upstream: Upstream,
    redactor: Redactor,
}

/// What one session may ask for.
#[derive(Debug, Clone)]
pub struct SessionTerms {
    pub provider: ProviderName,
    pub web_search: WebSearch,
    pub quota: Spendable,
    /// What the session has used in containers before this one.
    pub before: ModelUsage,
    /// `None`: nobody counts over sessions.
    pub purse: Option<Arc<dyn Purse>>,
    pub witness: Arc<dyn Witness>,
}

impl SessionTerms {
    /// Of a session that has used nothing, and is bounded by itself alone.
    pub fn of(config: &Config, witness: Arc<dyn Witness>) -> Self {
        Self {
            provider: config.codex.provider.value.clone(),
            web_search: config.codex.web_search.value,
            quota: config.quota.session.clone(),
            before: ModelUsage::default(),
            purse: None,
            witness,
        }
    }
}

/// Why a session can't use a provider.
#[derive(Debug, thiserror::Error)]
pub enum BrokerError {
    #[error(
        "codex.provider names `{name}`, but there is no [providers.{name}]; configured: {}",
        list(configured)
    )]
    UnknownProvider {
        name: ProviderName,
        configured: Vec<ProviderName>,
    },
    #[error("{0}")]
    Key(Refusal),
}

fn list(names: &[ProviderName]) -> String {
    if names.is_empty() {
        return "none".to_owned();
    }
    names.iter().map(ProviderName::as_str).collect::<Vec<_>>().join(", ")
}

impl Broker {
    /// `redactor` knows what `secrets` reads.
    pub fn new(
        destinations: BTreeMap<ProviderName, Destination>,
        secrets: SecretReader,
        upstream: Upstream,
        redactor: Redactor,
    ) -> Self {
        let shared = |(name, destination)| (name, Arc::new(destination));
        Self {
            destinations: destinations.into_iter().map(shared).collect(),
            secrets,
            upstream,
            redactor,
        }
    }

    /// The end that serves one session's connections. Reads the key once, so that a missing one refuses the launch
    /// instead of the first turn.
    pub async fn for_session(self: &Arc<Self>, terms: SessionTerms) -> Result<SessionBroker, BrokerError> {
        let name = terms.provider;
        let destination = self
            .destinations
            .get(&name)
            .ok_or_else(|| BrokerError::UnknownProvider {
                name: name.clone(),
                configured: self.destinations.keys().cloned().collect(),
            })?;
        let session = SessionBroker {
            route: Arc::new(Route {
                broker: Arc::clone(self),
                name,
                destination: Arc::clone(destination),
                web_search: terms.web_search,
                witness: terms.witness,
                terms: OnceLock::new(),
                account: Account::new(terms.quota, terms.before, terms.purse),
                slots: Arc::new(Semaphore::new(CONCURRENT)),
                held: Arc::new(Semaphore::new(HELD_KIB)),
            }),
        };
        session.route.grant().await.map_err(BrokerError::Key)?;
        Ok(session)
    }
}

/// Serves the model connections of one session. Clones share its bounds.
#[derive(Debug, Clone)]
pub struct SessionBroker {
    route: Arc<Route>,
}

impl SessionBroker {
    /// Says which models the session's thread may ask, once: until then nothing is sent, and afterwards the list stays.
    pub fn begin(&self, models: BTreeSet<String>) {
        let terms = Terms {
            models,
            web_search: self.route.web_search,
        };
        // A second word changes nothing: the thread is held to what it began with.
        let _ = self.route.terms.set(terms);
    }

    /// What the session has asked for so far, and what it may yet.
    pub fn spending(&self) -> Spending {
        self.route.account.spending()
    }

    /// Serves one connection of the guest, request after request, until it closes. Dropping the future aborts what is
    /// under way.
    pub async fn serve(&self, stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static) {
        let service = service_fn(|request| async {
            let answer = self.route.answer(request).await;
            Ok::<_, Infallible>(answer.unwrap_or_else(|refusal| self.route.refuse(&refusal)))
        });
        let connection = hyper::server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIMEOUT)
            .max_buf_size(MAX_HEAD)
            .serve_connection(TokioIo::new(Patient::new(stream, READ_TIMEOUT)), service)
            .await;
        if let Err(error) = connection {
            // Mostly Codex hanging up on an answer that it no longer wants.
            tracing::debug!(%error, "model connection ended");
        }
    }
}

#[cfg(test)]
mod tests;
