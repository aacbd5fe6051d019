//! `/readyz` and `/metrics`. Their answers are kept for some seconds, so that asking costs the host nothing.

use crate::mcp::http::seats::Seats;
use crate::obs::metrics::{Gauge, Metrics};
use crate::session::readiness::Readiness;
use crate::session::registry::Sessions;
use crate::session::upkeep::Standing;
use axum::body::Body;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderValue, StatusCode};
use axum::response::Response;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::Mutex;

/// How long an answer is kept.
const KEPT: Duration = Duration::from_secs(5);

/// What can be told of the sessions' health, by the real ones or a double.
pub trait Vital: Clone + Send + Sync + 'static {
    fn readiness(&self) -> impl Future<Output = Readiness> + Send;

    fn standings(&self) -> impl Future<Output = BTreeMap<Standing, u64>> + Send;
}

impl Vital for Sessions {
    async fn readiness(&self) -> Readiness {
        Sessions::readiness(self).await
    }

    async fn standings(&self) -> BTreeMap<Standing, u64> {
        Sessions::standings(self).await
    }
}

/// An answer, and since when it stands. Whoever asks while it is sought waits for the same one.
struct Kept<T>(Mutex<Option<(Instant, T)>>);

impl<T: Clone> Kept<T> {
    fn new() -> Self {
        Self(Mutex::new(None))
    }

    async fn or<F: Future<Output = T>>(&self, seek: impl FnOnce() -> F) -> T {
        let mut kept = self.0.lock().await;
        if let Some((since, answer)) = &*kept
            && since.elapsed() < KEPT
        {
            return answer.clone();
        }
        let answer = seek().await;
        *kept = Some((Instant::now(), answer.clone()));
        answer
    }
}

pub struct Health<V> {
    of: V,
    seats: Arc<Seats>,
    ready: Kept<Readiness>,
    standings: Kept<BTreeMap<Standing, u64>>,
}

impl<V: Vital> Health<V> {
    pub fn new(of: V, seats: Arc<Seats>) -> Self {
        Self {
            of,
            seats,
            ready: Kept::new(),
            standings: Kept::new(),
        }
    }

    pub async fn ready(&self) -> Response {
        let found = self.ready.or(|| self.of.readiness()).await;
        let checks: Map<String, Value> = found
            .checks()
            .into_iter()
            .map(|(name, found)| {
                let told = match found {
                    Ok(()) => json!({"ok": true}),
                    Err(why) => json!({"ok": false, "why": why}),
                };
                (name.to_owned(), told)
            })
            .collect();
        let status = match found.is_ready() {
            true => StatusCode::OK,
            false => StatusCode::SERVICE_UNAVAILABLE,
        };
        let body = json!({"ready": found.is_ready(), "checks": checks});
        response(status, "application/json", format!("{body}\n"))
    }

    pub async fn metrics(&self) -> Response {
        let standings = self.standings.or(|| self.of.standings()).await;
        let gauges = [
            Gauge {
                name: "codex_mcp_sessions",
                help: "Sessions below the state directory, by state.",
                values: standings
                    .into_iter()
                    .map(|(standing, count)| (Some(("state", standing.word())), count))
                    .collect(),
            },
            Gauge {
                name: "codex_mcp_http_sessions",
                help: "MCP sessions of clients before 2026-07-28.",
                values: vec![(None, self.seats.count() as u64)],
            },
        ];
        let text = Metrics::of_process().text(&gauges);
        response(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", text)
    }
}

fn response(status: StatusCode, kind: &'static str, text: String) -> Response {
    let mut response = Response::new(Body::from(text));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};

    #[tokio::test(start_paused = true)]
    async fn whoever_asks_at_once_or_soon_gets_the_same_answer() {
        let (kept, sought) = (Kept::new(), AtomicU32::new(0));
        let ask = || {
            kept.or(|| async {
                tokio::time::sleep(Duration::from_millis(10)).await;
                sought.fetch_add(1, Ordering::SeqCst)
            })
        };
        let (one, two, three) = tokio::join!(ask(), ask(), ask());
        assert_eq!((one, two, three), (0, 0, 0));
        assert_eq!(ask().await, 0);
    }
}
