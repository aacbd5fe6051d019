//! Serves the guest's proxy connections: HTTP is parsed here, on the host, and answered with a connection or a reason.
//!
//! [`Session`] has the steps, each of which can only refuse; [`requests`] and `forward` take them in this order: name and
//! port → bounds → one lookup → every address → connection.

use crate::config::network::{EgressLimits, Resolution};
use crate::config::target::Target;
use crate::dial::{DialError, Dialer, own_addresses};
use crate::egress::allowance::SessionBounds;
use crate::egress::client::Client;
use crate::egress::decision::{Denial, DeniedEgress};
use crate::egress::head_screen::Screened;
use crate::egress::ledger::{Ledger, Novelty, Slot};
use crate::egress::metered::{Cut, Metered};
use crate::egress::policy::{Passage, Policy};
use crate::egress::refusal::{Failure, Refusal};
use crate::egress::requests::{self, Side};
use crate::egress::tunnel;
use crate::egress::witness::Witness;
use crate::wire::patient::Patient;
use bytes::BytesMut;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// How long a client that has ended its own sending may wait for something to be sent to it (and no longer than
/// `network.idle`): see [`client`](crate::egress::client).
const HALF_CLOSED: Duration = Duration::from_secs(30);

/// What all sessions of the process share.
#[derive(Debug)]
pub struct Egress {
    dialer: Dialer,
}

impl Egress {
    pub fn new(dialer: Dialer) -> Self {
        Self { dialer }
    }

    /// The end that serves one session's connections, with bounds of its own. `witness` is told of each decision.
    pub fn for_session(
        self: &Arc<Self>,
        policy: Policy,
        bounds: impl Into<SessionBounds>,
        witness: Arc<dyn Witness>,
    ) -> SessionEgress {
        SessionEgress(Arc::new(Session {
            egress: Arc::clone(self),
            policy,
            witness,
            ledger: Arc::new(Ledger::new(bounds, Instant::now().into_std())),
            warned: AtomicBool::new(false),
        }))
    }
}

/// Serves the proxy connections of one session; clones share its bounds.
#[derive(Debug, Clone)]
pub struct SessionEgress(Arc<Session>);

impl SessionEgress {
    /// Serves one connection of the guest until it closes. `ended` is cancelled when the guest's end has arrived. Dropping the
    /// future ends what is under way.
    pub async fn serve(&self, stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static, ended: CancellationToken) {
        let session = &self.0;
        let idle = session.limits().idle.value;
        let (client, silence) = Client::new(Patient::new(stream, idle), ended);
        let screened = Screened::new(client, BytesMut::new());
        let served = async {
            if let Some((tunnel, client, first)) = requests::serve(session, screened, Side::Proxy).await {
                tunnel::run(session, tunnel, client, first).await;
            }
        };
        tokio::select! {
            () = served => {}
            () = silence.lasts(HALF_CLOSED.min(idle)) => tracing::debug!("egress ended: the client has probably gone"),
        }
    }

    /// The refusals since this was last asked, equal ones counted.
    pub fn take_denied(&self) -> Vec<DeniedEgress> {
        self.0.ledger.take_denied()
    }

    /// Bytes that the session has moved so far over its life, in both directions.
    pub fn bytes_moved(&self) -> u64 {
        self.0.ledger.bytes_moved()
    }
}

/// The rules and bounds of one session, and the way out.
#[derive(Debug)]
pub struct Session {
    egress: Arc<Egress>,
    policy: Policy,
    witness: Arc<dyn Witness>,
    ledger: Arc<Ledger>,
    /// Whether the operator was told that the outgoing proxy fails.
    warned: AtomicBool,
}

impl Session {
    pub fn limits(&self) -> &EgressLimits {
        self.ledger.limits()
    }

    /// Asks for room for one more connection.
    pub fn admit(&self, target: &Target) -> Result<Slot, Refusal> {
        let admitted = self.ledger.admit(target, Instant::now().into_std());
        admitted.map_err(|denial| self.deny(denial))
    }

    /// Waits until one more refusal may be answered. Refusing costs little, but a guest can ask for it without end.
    pub async fn pace_refusal(&self) {
        while let Some(wait) = self.ledger.refusal_waits(Instant::now().into_std()) {
            tokio::time::sleep(wait).await;
        }
    }

    /// Decides by name and port, before anything is resolved.
    pub fn decide(&self, target: &Target) -> Result<Passage, Refusal> {
        let passage = self.policy.decide(target).map_err(|denial| self.deny(denial))?;
        self.allowed(target, &passage)?;
        Ok(passage)
    }

    /// Resolves a target that was allowed, once; checks all that it came to; connects to nothing else.
    pub async fn reach(&self, target: &Target, slot: Slot) -> Result<Metered<TcpStream>, Refusal> {
        let failed = |failure| Refusal::failed(target, failure);
        let limit = self.limits().connect.value;
        let until = Instant::now() + limit;
        let dialer = &self.egress.dialer;
        let stream = match dialer.resolution(&target.host) {
            Resolution::ByProxy => dialer.connect_by_proxy(&target.host, target.port, limit).await,
            Resolution::Here => {
                let addresses = tokio::time::timeout_at(until, dialer.lookup(&target.host)).await;
                let addresses = addresses
                    .map_err(|_elapsed| failed(Failure::LookupTimedOut(limit)))?
                    .map_err(|error| failed(error.into()))?;
                self.check(target, &addresses)?;
                let left = until.saturating_duration_since(Instant::now());
                dialer.connect(&target.host, &addresses, target.port, left).await
            }
        };
        let stream = stream.map_err(|error| match error {
            // What was left of the limit is no number that anyone has set.
            DialError::TimedOut(_) => failed(DialError::TimedOut(limit).into()),
            error => {
                self.failed_to_dial(target, &error);
                failed(error.into())
            }
        })?;
        Ok(Metered::new(stream, Arc::clone(&self.ledger), slot))
    }

    /// The proxy is the operator's to mend. Once is enough: the guest decides how often this happens.
    fn failed_to_dial(&self, destination: &Target, error: &DialError) {
        let first = matches!(error, DialError::Proxy { .. }) && !self.warned.swap(true, Ordering::Relaxed);
        match first {
            true => tracing::warn!(%destination, %error, "egress failed"),
            false => tracing::debug!(%destination, %error, "egress failed"),
        }
    }

    fn check(&self, target: &Target, addresses: &[IpAddr]) -> Result<(), Refusal> {
        let own =
            own_addresses::read().map_err(|error| Refusal::failed(target, Failure::OwnAddresses(error.kind())))?;
        self.policy
            .check_addresses(target, addresses, &own)
            .map_err(|denial| self.deny(denial))
    }

    /// A connection was cut; where a bound of the whole session did it, that is a decision.
    pub fn cut(&self, target: &Target, cut: Cut) {
        match cut {
            Cut::BytesUsedUp => drop(self.deny(self.ledger.bytes_used_up(target))),
            Cut::Idle(_) | Cut::Total(_) => tracing::debug!(destination = %target, ?cut, "egress cut"),
        }
    }

    /// What to answer to the request that a connection was cut under; [`Self::cut`] has counted it.
    pub fn bytes_used_up(&self, target: &Target) -> Refusal {
        self.ledger.bytes_used_up(target).into()
    }

    pub fn deny(&self, denial: Denial) -> Refusal {
        self.denied(&denial);
        denial.into()
    }

    /// Every decision passes here or [`Self::denied`], and nothing else does. "Allowed" is said of name and port; a bound, an
    /// address or the first bytes may still be refused after it. A plain request within a tunnel is covered by
    /// the tunnel's; only its refusal is one of its own.
    fn allowed(&self, target: &Target, passage: &Passage) -> Result<(), Refusal> {
        tracing::debug!(destination = %target, rule = %passage.rule.value, "egress allowed");
        let witnessed = self.witness.allowed(target, &passage.rule);
        witnessed.map_err(|unwitnessed| Refusal::failed(target, unwitnessed))
    }

    fn denied(&self, denial: &Denial) {
        self.witness.denied(denial);
        let destination = denial.target.as_ref().map(tracing::field::display);
        let rule = denial.rule();
        // A guest can be refused a thousand times a second: repetitions are for whoever asks for them, and the
        // turn's result has their count.
        match self.ledger.denied(denial) {
            Novelty::First => tracing::info!(destination, rule, "egress denied"),
            Novelty::Again => tracing::debug!(destination, rule, "egress denied"),
        }
    }
}

#[cfg(test)]
mod tests;
