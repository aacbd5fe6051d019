//! What goes back: redacted line by line, as over stdio, and holding whatever counts the request until the last byte is
//! written or the client is gone.

use crate::obs::metrics::{Metrics, Status};
use crate::redact::Redactor;
use axum::body::Body;
use axum::extract::Request;
use axum::http::HeaderValue;
use axum::http::header::{CACHE_CONTROL, CONTENT_LENGTH, X_CONTENT_TYPE_OPTIONS};
use axum::middleware::Next;
use axum::response::Response;
use bytes::Bytes;
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

/// The response, which keeps `guard` until it is written or dropped.
pub fn with<G: Send + Unpin + 'static>(response: Response, guard: G) -> Response {
    response.map(|body| guarded(body, guard))
}

/// The body, which keeps `guard` until it is read to its end and dropped.
pub fn guarded<G: Send + Unpin + 'static>(body: Body, guard: G) -> Body {
    Body::new(Guarded { body, _guard: guard })
}

struct Guarded<G> {
    body: Body,
    _guard: G,
}

impl<G: Unpin> HttpBody for Guarded<G> {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Everything that answers a request passes the redactor: no secret should be in it by then.
pub async fn layer(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    Metrics::of_process().http.count(match response.status().as_u16() {
        ..300 => Status::Success,
        300..400 => Status::Redirect,
        400..500 => Status::Client,
        500.. => Status::Server,
    });
    let headers = response.headers_mut();
    // Answers are for whoever asked, and never a page.
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    // Of proxies that would hold events back.
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    // What is redacted has another length.
    headers.remove(CONTENT_LENGTH);
    response.map(|body| Body::new(Redacted::new(body, Redactor::of_process())))
}

/// Passes whole lines on, as soon as each is whole. An event's lines are `data: JSON`, another answer is one line of JSON.
struct Redacted {
    body: Body,
    redactor: Redactor,
    line: Vec<u8>,
}

/// What a line of an event begins with.
const DATA: &[u8] = b"data: ";

impl Redacted {
    fn new(body: Body, redactor: Redactor) -> Self {
        Self {
            body,
            redactor,
            line: Vec::new(),
        }
    }

    /// The lines that are whole with this.
    fn pass(&mut self, bytes: &[u8]) -> Bytes {
        let mut passed = Vec::with_capacity(bytes.len());
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            self.line.extend_from_slice(piece);
            if piece.ends_with(b"\n") {
                self.pass_line(&mut passed);
            }
        }
        passed.into()
    }

    fn pass_line(&mut self, passed: &mut Vec<u8>) {
        let line = std::mem::take(&mut self.line);
        let rest = match line.strip_prefix(DATA) {
            Some(rest) => {
                passed.extend_from_slice(DATA);
                rest
            }
            None => &line,
        };
        passed.extend_from_slice(&self.redactor.json_line(rest));
    }
}

impl HttpBody for Redacted {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        loop {
            let frame = match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
                Some(Ok(frame)) => frame,
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None if self.line.is_empty() => return Poll::Ready(None),
                None => {
                    let mut passed = Vec::new();
                    self.pass_line(&mut passed);
                    return Poll::Ready(Some(Ok(Frame::data(passed.into()))));
                }
            };
            let Ok(data) = frame.into_data() else {
                // Trailers, which nothing here has.
                continue;
            };
            let passed = self.pass(&data);
            if !passed.is_empty() {
                return Poll::Ready(Some(Ok(Frame::data(passed))));
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.line.is_empty() && self.body.is_end_stream()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::stream;
    use http_body_util::BodyExt;
    use std::convert::Infallible;

    #[tokio::test]
    async fn secrets_are_taken_out_of_events_wherever_frames_are_cut() {
        let redactor = Redactor::default();
        redactor.learn(b"s3cret-value");
        let text = ": ping\n\ndata: {\"a\":\"s3cret-value\\n\"}\nid: 1\n\n{\"b\":\"s3cret-value\"}";
        for cut in 1..text.len() {
            let pieces = [&text[..cut], &text[cut..]].map(|piece| Ok::<_, Infallible>(Bytes::from(piece)));
            let body = Body::from_stream(stream::iter(pieces));
            let passed = Redacted::new(body, redactor.clone())
                .collect()
                .await
                .unwrap()
                .to_bytes();
            let expected = ": ping\n\ndata: {\"a\":\"[redacted]\\n\"}\nid: 1\n\n{\"b\":\"[redacted]\"}";
            assert_eq!(String::from_utf8_lossy(&passed), expected, "{cut}");
        }
    }
}
