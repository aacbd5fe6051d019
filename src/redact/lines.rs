//! A stream of JSON lines that passes the [`Redactor`]: what a protocol writes, whoever in it wrote it.
//!
//! A line is replaced string by string, so that it stays JSON of the same shape whatever a secret looks like. One that is
//! no JSON is replaced as text. Nothing is passed on before its line is whole.

use crate::redact::Redactor;
use std::borrow::Cow;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::AsyncWrite;

/// See the module. What is left without a line's end is passed on when the stream is shut down.
pub struct RedactedLines<W> {
    inner: W,
    redactor: Redactor,
    /// The line that is being written.
    line: Vec<u8>,
    /// What was looked through and not yet written, from `written` on.
    passed: Vec<u8>,
    written: usize,
}

impl<W> RedactedLines<W> {
    pub fn new(inner: W, redactor: Redactor) -> Self {
        Self {
            inner,
            redactor,
            line: Vec::new(),
            passed: Vec::new(),
            written: 0,
        }
    }

    fn pass_line(&mut self) {
        match self.redactor.json_line(&self.line) {
            Cow::Borrowed(line) => self.passed.extend_from_slice(line),
            Cow::Owned(line) => self.passed.extend_from_slice(&line),
        }
        self.line.clear();
    }
}

impl<W: AsyncWrite + Unpin> RedactedLines<W> {
    fn poll_pass(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some(rest) = self.passed.get(self.written..).filter(|rest| !rest.is_empty()) {
            let count = ready!(Pin::new(&mut self.inner).poll_write(cx, rest))?;
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.written += count;
        }
        self.passed.clear();
        self.written = 0;
        Poll::Ready(Ok(()))
    }
}

impl<W: AsyncWrite + Unpin> AsyncWrite for RedactedLines<W> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        // What was accepted before goes first: a reader that has stopped holds the writer up, not our memory.
        ready!(self.poll_pass(cx))?;
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            self.line.extend_from_slice(piece);
            if piece.ends_with(b"\n") {
                self.pass_line();
            }
        }
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_pass(cx))?;
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.line.is_empty() {
            self.pass_line();
        }
        ready!(self.poll_pass(cx))?;
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::{Value, json};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    async fn written(secret: &str, pieces: &[&[u8]], capacity: usize) -> String {
        let redactor = Redactor::default();
        redactor.learn(secret.as_bytes());
        let (near, mut far) = tokio::io::duplex(capacity);
        let writing = async move {
            let mut lines = RedactedLines::new(near, redactor);
            for piece in pieces {
                lines.write_all(piece).await.unwrap();
            }
            lines.flush().await.unwrap();
            lines.shutdown().await.unwrap();
        };
        let mut text = String::new();
        let (_, read) = tokio::join!(writing, far.read_to_string(&mut text));
        read.unwrap();
        text
    }

    #[tokio::test]
    async fn a_secret_across_two_writes_is_found_and_the_line_stays_json() {
        let line = format!("{}\n", json!({"id": 1, "result": "a s3cret\"key b"}));
        let (first, second) = line.as_bytes().split_at(25);
        assert_eq!(
            written("s3cret\"key", &[first, second, b"{\"plain\": 1}\nrest s3cret\"key"], 3).await,
            "{\"id\":1,\"result\":\"a [redacted] b\"}\n{\"plain\": 1}\nrest [redacted]"
        );
    }

    /// The id is what an answer is found by.
    #[tokio::test]
    async fn the_id_of_a_question_and_the_names_of_fields_stay() {
        let line = json!({"id": "A-SECRET", "A-SECRET": "A-SECRET"}).to_string();
        assert_eq!(
            written("A-SECRET", &[line.as_bytes()], 64).await,
            "{\"A-SECRET\":\"[redacted]\",\"id\":\"A-SECRET\"}"
        );
    }

    /// In the text of a line the token is behind an `n`, as if within a word.
    #[tokio::test]
    async fn a_token_at_the_beginning_of_a_line_is_found() {
        for token in [
            "sk-proj-0123456789abcdefABCDEF",
            "-----BEGIN PRIVATE KEY-----\nMII\n-----END PRIVATE KEY-----",
        ] {
            let line = json!({"text": format!("the key:\n{token}\nis it")}).to_string();
            assert_eq!(
                written("A-SECRET", &[line.as_bytes()], 64).await,
                "{\"text\":\"the key:\\n[redacted]\\nis it\"}"
            );
        }
    }

    #[tokio::test]
    async fn what_looks_like_the_protocol_can_not_break_it() {
        let line = json!({"result": ["x\",\"y", "z"]}).to_string();
        let text = written("x\",\"y\",", &[line.as_bytes()], 64).await;
        assert!(serde_json::from_str::<Value>(&text).is_ok(), "{text}");
    }

    proptest! {
        #[test]
        fn a_string_of_a_line_is_redacted_as_the_text_is(
            pieces in proptest::collection::vec("(\n|\t| |n|\"|é|sk-0123456789abcdefABCDEF|Bearer |A-SECRET|eyJ)", 0..12),
        ) {
            let redactor = Redactor::default();
            redactor.learn(b"A-SECRET");
            let text = pieces.concat();
            let line = json!([text]).to_string();
            let redacted: Value = serde_json::from_slice(&redactor.json_line(line.as_bytes())).unwrap();
            prop_assert_eq!(redacted[0].as_str().unwrap(), redactor.text(&text));
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn lines_without_a_secret_pass_byte_for_byte(
            lines in proptest::collection::vec("[a-z{}\" :,1é]{0,40}", 0..6),
            cut in 1..9usize,
            capacity in 1..64usize,
        ) {
            let text = lines.join("\n");
            let pieces: Vec<&[u8]> = text.as_bytes().chunks(cut).collect();
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            prop_assert_eq!(runtime.block_on(written("A-SECRET", &pieces, capacity)), text);
        }
    }
}
