//! Legacy MCP sessions: whose each is, how many there may be, and when one is over. (Requests of 2026-07-28 have none.)
//!
//! rmcp keeps them and knows neither owners nor a bound, and would end one after five minutes without a message, in the
//! middle of a long call. So it is told to end none by itself, and this does: one that nobody has used for long, and the
//! longest unused one of an identity that begins one too many. It must never let on that somebody else's session is there.

use crate::mcp::http::caller::Caller;
use crate::mcp::http::refusal::Refusal;
use crate::mcp::http::reply;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, Method};
use axum::middleware::Next;
use axum::response::Response;
use futures_util::Stream;
use rmcp::model::{ClientJsonRpcMessage, ServerJsonRpcMessage};
use rmcp::transport::streamable_http_server::session::local::LocalSessionManager;
use rmcp::transport::streamable_http_server::session::{ServerSseMessage, SessionId, SessionManager};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The header that names one.
const SESSION: &str = "mcp-session-id";

#[derive(Debug, Clone, Copy)]
pub struct SeatBounds {
    /// Of one identity, at once.
    pub most: usize,
    /// Without a request under way; then it is over, and its client initialises anew.
    pub unused: Duration,
}

/// One session, as its owner uses it.
#[derive(Debug)]
struct Seat {
    owner: Caller,
    /// Calls under way.
    calls: u32,
    /// Open ears (GET).
    ears: u32,
    last: Instant,
}

/// What a visit does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Use {
    Call,
    Ear,
}

impl Seat {
    fn count(&mut self, what: Use) -> &mut u32 {
        match what {
            Use::Call => &mut self.calls,
            Use::Ear => &mut self.ears,
        }
    }
}

/// rmcp's sessions with their owners.
pub struct Seats {
    inner: LocalSessionManager,
    bounds: SeatBounds,
    taken: Mutex<HashMap<SessionId, Seat>>,
}

impl Seats {
    pub fn new(bounds: SeatBounds) -> Self {
        let mut inner = LocalSessionManager::default();
        inner.session_config.keep_alive = None;
        Self {
            inner,
            bounds,
            taken: Mutex::default(),
        }
    }

    pub fn count(&self) -> usize {
        self.lock().len()
    }

    /// `None`: there is no such session, or it is somebody else's, which is the same.
    fn visit(self: &Arc<Self>, id: &str, caller: &Caller, what: Use) -> Option<Visit> {
        let mut taken = self.lock();
        let (id, _) = taken.get_key_value(id).map(|(id, seat)| (Arc::clone(id), seat))?;
        let seat = taken.get_mut(&id).filter(|seat| seat.owner == *caller)?;
        *seat.count(what) += 1;
        Some(Visit {
            seats: Arc::clone(self),
            id,
            what,
        })
    }

    /// A session that was just begun is this caller's; it may cost another one of its, which is returned. `None`: all of
    /// them have calls under way.
    fn take(&self, id: SessionId, owner: Caller, now: Instant) -> Option<Option<SessionId>> {
        let mut taken = self.lock();
        let mine = || taken.iter().filter(|(_, seat)| seat.owner == owner);
        let displaced = match mine().count() >= self.bounds.most {
            false => None,
            true => Some(
                mine()
                    .filter(|(_, seat)| seat.calls == 0)
                    // One that somebody listens to goes last.
                    .min_by_key(|(_, seat)| (seat.ears > 0, seat.last))
                    .map(|(id, _)| Arc::clone(id))?,
            ),
        };
        if let Some(displaced) = &displaced {
            taken.remove(displaced);
        }
        let seat = Seat {
            owner,
            calls: 0,
            ears: 0,
            last: now,
        };
        taken.insert(id, seat);
        Some(displaced)
    }

    /// Ends what nobody has used for long.
    pub async fn sweep(&self, now: Instant) {
        let is_over = |seat: &Seat| {
            seat.calls == 0 && seat.ears == 0 && now.saturating_duration_since(seat.last) >= self.bounds.unused
        };
        let over: Vec<SessionId> = {
            let taken = self.lock();
            let over = taken.iter().filter(|(_, seat)| is_over(seat));
            over.map(|(id, _)| Arc::clone(id)).collect()
        };
        for id in over {
            self.end(&id).await;
        }
    }

    async fn end(&self, id: &SessionId) {
        if let Err(error) = self.close_session(id).await {
            tracing::debug!(%error, "an MCP session that was over could not be closed");
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<SessionId, Seat>> {
        // The map is whole at every point where a holder could panic.
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A request under way. Ends when its answer is written, or its client gone.
struct Visit {
    seats: Arc<Seats>,
    id: SessionId,
    what: Use,
}

impl Drop for Visit {
    fn drop(&mut self) {
        if let Some(seat) = self.seats.lock().get_mut(&self.id) {
            *seat.count(self.what) -= 1;
            seat.last = Instant::now();
        }
    }
}

/// As rmcp reads it.
fn named(headers: &HeaderMap) -> Option<&str> {
    headers.get(SESSION)?.to_str().ok()
}

pub async fn layer(State(seats): State<Arc<Seats>>, request: Request, next: Next) -> Response {
    let caller = request.extensions().get::<Caller>().cloned();
    // The door has put it there.
    let Some(caller) = caller else {
        return Refusal::NoSession.response();
    };
    if let Some(id) = named(request.headers()) {
        let what = match *request.method() {
            Method::GET => Use::Ear,
            _ => Use::Call,
        };
        return match seats.visit(id, &caller, what) {
            Some(visit) => reply::with(next.run(request).await, visit),
            None => Refusal::NoSession.response(),
        };
    }
    let response = next.run(request).await;
    let Some(id) = named(response.headers()).map(SessionId::from) else {
        return response;
    };
    match seats.take(Arc::clone(&id), caller, Instant::now()) {
        Some(displaced) => {
            if let Some(displaced) = displaced {
                seats.end(&displaced).await;
            }
            response
        }
        None => {
            seats.end(&id).await;
            Refusal::TooManySessions.response()
        }
    }
}

/// rmcp's own, but that an end is an end here too.
impl SessionManager for Seats {
    type Error = <LocalSessionManager as SessionManager>::Error;
    type Transport = <LocalSessionManager as SessionManager>::Transport;

    async fn create_session(&self) -> Result<(SessionId, Self::Transport), Self::Error> {
        self.inner.create_session().await
    }

    async fn initialize_session(
        &self,
        id: &SessionId,
        message: ClientJsonRpcMessage,
    ) -> Result<ServerJsonRpcMessage, Self::Error> {
        self.inner.initialize_session(id, message).await
    }

    async fn has_session(&self, id: &SessionId) -> Result<bool, Self::Error> {
        self.inner.has_session(id).await
    }

    async fn close_session(&self, id: &SessionId) -> Result<(), Self::Error> {
        self.lock().remove(id);
        self.inner.close_session(id).await
    }

    async fn create_stream(
        &self,
        id: &SessionId,
        message: ClientJsonRpcMessage,
    ) -> Result<impl Stream<Item = ServerSseMessage> + Send + Sync + 'static, Self::Error> {
        self.inner.create_stream(id, message).await
    }

    async fn accept_message(&self, id: &SessionId, message: ClientJsonRpcMessage) -> Result<(), Self::Error> {
        self.inner.accept_message(id, message).await
    }

    async fn create_standalone_stream(
        &self,
        id: &SessionId,
    ) -> Result<impl Stream<Item = ServerSseMessage> + Send + Sync + 'static, Self::Error> {
        self.inner.create_standalone_stream(id).await
    }

    async fn resume(
        &self,
        id: &SessionId,
        last_event_id: String,
    ) -> Result<impl Stream<Item = ServerSseMessage> + Send + Sync + 'static, Self::Error> {
        self.inner.resume(id, last_event_id).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seats(most: usize) -> Arc<Seats> {
        Arc::new(Seats::new(SeatBounds {
            most,
            unused: Duration::from_secs(10),
        }))
    }

    fn known(name: &str) -> Caller {
        Caller::Known(name.parse().unwrap())
    }

    #[tokio::test]
    async fn a_session_is_there_for_its_owner_alone() {
        let seats = seats(9);
        let now = Instant::now();
        assert_eq!(seats.take("a".into(), known("ci"), now), Some(None));
        assert!(seats.visit("a", &known("ci"), Use::Call).is_some());
        assert!(seats.visit("a", &known("other"), Use::Call).is_none());
        assert!(seats.visit("a", &Caller::Anonymous, Use::Call).is_none());
        assert!(seats.visit("b", &known("ci"), Use::Call).is_none());
        seats.close_session(&"a".into()).await.unwrap();
        assert!(seats.visit("a", &known("ci"), Use::Call).is_none());
    }

    #[test]
    fn one_too_many_costs_the_longest_unused_of_the_same_identity() {
        let seats = seats(2);
        let at = |seconds| Instant::now() + Duration::from_secs(seconds);
        seats.take("old".into(), known("other"), at(0)).unwrap();
        seats.take("a".into(), known("ci"), at(1)).unwrap();
        seats.take("b".into(), known("ci"), at(2)).unwrap();
        let ear = seats.visit("a", &known("ci"), Use::Ear);
        assert_eq!(seats.take("c".into(), known("ci"), at(3)), Some(Some("b".into())));
        let call = seats.visit("c", &known("ci"), Use::Call);
        assert_eq!(seats.take("d".into(), known("ci"), at(4)), Some(Some("a".into())));
        drop(ear);
        let second = seats.visit("d", &known("ci"), Use::Call);
        assert_eq!(seats.take("e".into(), known("ci"), at(5)), None);
        drop((call, second));
        assert_eq!(seats.count(), 3);
    }

    #[tokio::test]
    async fn what_nobody_uses_is_over() {
        let seats = seats(9);
        let now = Instant::now();
        for id in ["unused", "called", "heard"] {
            seats.take(id.into(), Caller::Anonymous, now).unwrap();
        }
        let _call = seats.visit("called", &Caller::Anonymous, Use::Call);
        let _ear = seats.visit("heard", &Caller::Anonymous, Use::Ear);
        seats.sweep(now + Duration::from_secs(9)).await;
        assert_eq!(seats.count(), 3);
        seats.sweep(now + Duration::from_secs(10)).await;
        assert_eq!(seats.count(), 2);
        assert!(seats.visit("unused", &Caller::Anonymous, Use::Call).is_none());
    }
}
