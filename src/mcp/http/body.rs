//! Request bodies: each bounded in length and time, and all together in memory.
//!
//! A long one waits until there is room for it, and the room is taken all at once, before anything is read: two half-read
//! ones would wait for each other. It is given back when rmcp has the body; parsing it is over before that thread does
//! anything else.

use crate::mcp::http::refusal::Refusal;
use crate::mcp::http::reply;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::Body as HttpBody;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;

/// Bodies of the longest kind that are held at once.
const LONG_ONES: u64 = 4;
/// What one permit stands for.
const GRAIN: u64 = 1024;

#[derive(Debug)]
pub struct Bodies {
    /// In bytes.
    most: u64,
    /// For waiting and reading, each.
    patience: Duration,
    room: Arc<Semaphore>,
}

impl Bodies {
    pub fn new(most: u64, patience: Duration) -> Self {
        let room = usize::try_from((most * LONG_ONES).div_ceil(GRAIN)).unwrap_or(Semaphore::MAX_PERMITS);
        Self {
            most,
            patience,
            room: Arc::new(Semaphore::new(room.min(Semaphore::MAX_PERMITS))),
        }
    }

    /// The request with its whole body, which has its room.
    async fn read(&self, request: Request) -> Result<Request, Refusal> {
        let (parts, body) = request.into_parts();
        // What it says that it has; where it does not say, it may have all.
        let length = body.size_hint().exact().unwrap_or(self.most);
        if length > self.most {
            return Err(Refusal::TooLong { most: self.most });
        }
        let grains = u32::try_from(length.div_ceil(GRAIN)).unwrap_or(u32::MAX);
        let room = tokio::time::timeout(self.patience, Arc::clone(&self.room).acquire_many_owned(grains));
        let room = room.await.ok().and_then(Result::ok).ok_or(Refusal::Crowded)?;
        let limited = Limited::new(body, usize::try_from(self.most).unwrap_or(usize::MAX));
        let whole = match tokio::time::timeout(self.patience, limited.collect()).await {
            Ok(Ok(whole)) => whole.to_bytes(),
            Ok(Err(error)) if error.is::<LengthLimitError>() => return Err(Refusal::TooLong { most: self.most }),
            Ok(Err(_)) => return Err(Refusal::Broken),
            Err(_) => return Err(Refusal::TooSlow),
        };
        Ok(Request::from_parts(parts, reply::guarded(Body::from(whole), room)))
    }
}

pub async fn layer(State(bodies): State<Arc<Bodies>>, request: Request, next: Next) -> Response {
    match bodies.read(request).await {
        Ok(request) => next.run(request).await,
        Err(refusal) => refusal.response(),
    }
}
