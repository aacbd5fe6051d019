//! The body of an answer on its way to the guest: counted, timed, and holding its request's place until it ends.

use crate::auth::broker::budget::Admitted;
use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use std::error::Error;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, Sleep};

pub type AnswerBody = UnsyncBoxBody<Bytes, Box<dyn Error + Send + Sync>>;

/// The provider said nothing for this long. As long as Codex itself waits (`stream_idle_timeout_ms`), so that it is Codex that
/// gives up where it does.
pub const SILENCE: Duration = Duration::from_secs(310);

#[derive(Debug, thiserror::Error)]
#[error("the provider sent nothing for {0:?}")]
struct Silent(Duration);

/// A provider's answer as it passes. What it cost is counted when it ends or is dropped.
pub struct Counted {
    body: Incoming,
    silence: Pin<Box<Sleep>>,
    admitted: Admitted,
    _place: OwnedSemaphorePermit,
}

impl Counted {
    pub fn new(body: Incoming, admitted: Admitted, place: OwnedSemaphorePermit) -> Self {
        Self {
            body,
            silence: Box::pin(tokio::time::sleep(SILENCE)),
            admitted,
            _place: place,
        }
    }
}

impl Body for Counted {
    type Data = Bytes;
    type Error = Box<dyn Error + Send + Sync>;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let this = &mut *self;
        let Poll::Ready(frame) = Pin::new(&mut this.body).poll_frame(cx) else {
            return match this.silence.as_mut().poll(cx) {
                Poll::Ready(()) => {
                    this.admitted.settle();
                    Poll::Ready(Some(Err(Silent(SILENCE).into())))
                }
                Poll::Pending => Poll::Pending,
            };
        };
        this.silence.as_mut().reset(Instant::now() + SILENCE);
        match &frame {
            Some(Ok(frame)) => {
                if let Some(data) = frame.data_ref() {
                    this.admitted.feed(data);
                }
            }
            Some(Err(_)) | None => this.admitted.settle(),
        }
        // Before the last byte is handed on, so that whoever has the whole answer finds it counted.
        if this.body.is_end_stream() {
            this.admitted.settle();
        }
        Poll::Ready(frame.map(|frame| frame.map_err(Into::into)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// An answer of this end.
pub fn whole(text: String) -> AnswerBody {
    Full::new(Bytes::from(text))
        .map_err(|never| match never {})
        .boxed_unsync()
}
