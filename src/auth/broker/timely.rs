//! A request's body for which the provider waits only so long.
//!
//! Only the time in which the guest has nothing to give counts, all of it together: a slow way to the provider is not the
//! guest's doing, and a byte now and then buys it nothing.

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use std::error::Error;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::{Instant, Sleep};

/// The guest let the provider wait for longer than this.
#[derive(Debug, thiserror::Error)]
#[error("the rest of the request did not come within {0:?}")]
pub struct Late(Duration);

/// See the module.
pub struct Timely<B> {
    body: B,
    limit: Duration,
    waited: Duration,
    waiting: Option<(Instant, Pin<Box<Sleep>>)>,
}

impl<B> Timely<B> {
    /// `limit` begins when the body is first waited for.
    pub fn new(body: B, limit: Duration) -> Self {
        Self {
            body,
            limit,
            waited: Duration::ZERO,
            waiting: None,
        }
    }
}

impl<B> Body for Timely<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    type Data = Bytes;
    type Error = Box<dyn Error + Send + Sync>;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let this = &mut *self;
        if let Poll::Ready(frame) = Pin::new(&mut this.body).poll_frame(cx) {
            if let Some((since, _)) = this.waiting.take() {
                this.waited += since.elapsed();
            }
            return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
        }
        let left = this.limit.saturating_sub(this.waited);
        let (_, sleep) = this
            .waiting
            .get_or_insert_with(|| (Instant::now(), Box::pin(tokio::time::sleep(left))));
        sleep.as_mut().poll(cx).map(|()| Some(Err(Late(this.limit).into())))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::stream;
    use http_body_util::{BodyExt, StreamBody};
    use std::io;

    const LIMIT: Duration = Duration::from_secs(20);

    fn byte() -> Option<(io::Result<Frame<Bytes>>, ())> {
        Some((Ok(Frame::data(Bytes::from_static(b"x"))), ()))
    }

    #[tokio::test(start_paused = true)]
    async fn a_guest_that_dawdles_is_late_however_it_spreads_it() {
        let dribbling = stream::unfold((), |()| async {
            tokio::time::sleep(LIMIT / 3 + Duration::from_secs(1)).await;
            byte()
        });
        let mut body = Timely::new(StreamBody::new(Box::pin(dribbling)), LIMIT);
        let begun = Instant::now();
        let mut frames = 0;
        let late = loop {
            match body.frame().await.unwrap() {
                Ok(_) => frames += 1,
                Err(error) => break error,
            }
        };
        assert_eq!(late.to_string(), "the rest of the request did not come within 20s");
        assert_eq!((frames, begun.elapsed().as_secs()), (2, LIMIT.as_secs()));
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_there_is_not_late_however_slowly_it_is_taken() {
        let there = stream::iter((0..8).filter_map(|_| byte()).map(|(frame, ())| frame));
        let mut body = Timely::new(StreamBody::new(there), LIMIT);
        let mut taken = 0;
        while let Some(frame) = body.frame().await {
            taken += frame.unwrap().into_data().unwrap().len();
            tokio::time::sleep(LIMIT).await;
        }
        assert_eq!(taken, 8);
    }
}
