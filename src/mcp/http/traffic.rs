//! Requests under way, and the end of taking more: what an orderly end waits for.

use crate::mcp::http::refusal::Refusal;
use crate::mcp::http::reply;
use axum::extract::{Request, State};
use axum::http::Method;
use axum::middleware::Next;
use axum::response::Response;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Clones count together.
#[derive(Debug, Clone)]
pub struct Traffic {
    under_way: TaskTracker,
    ending: CancellationToken,
}

impl Traffic {
    /// `ending`: from then on every request is turned away.
    pub fn new(ending: CancellationToken) -> Self {
        let under_way = TaskTracker::new();
        // So that waiting ends with the last one.
        under_way.close();
        Self { under_way, ending }
    }

    /// Waits until every answer that was owed is written. A client's open ear (GET) is owed nothing.
    pub async fn settled(&self) {
        self.under_way.wait().await;
    }

    pub fn is_ending(&self) -> bool {
        self.ending.is_cancelled()
    }
}

pub async fn layer(State(traffic): State<Traffic>, request: Request, next: Next) -> Response {
    let owed = (request.method() != Method::GET).then(|| traffic.under_way.token());
    // After the count, so that none slips between the look and the wait.
    if traffic.is_ending() {
        return Refusal::Ending.response();
    }
    reply::with(next.run(request).await, owed)
}
