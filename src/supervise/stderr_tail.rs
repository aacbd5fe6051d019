//! What a child writes to stderr: each line logged at debug, and the last of it kept for error texts.
//!
//! Bounded: a child that floods stderr costs [`CAPACITY`] bytes and no more, and is always read, so that it never
//! blocks on a full pipe. What comes through here may have been written inside a container: it is untrusted text,
//! and loses its escape sequences and control characters before anybody sees it ([`super::lines::plain`]).

use super::lines::{LineSplitter, plain};
use nix::unistd::Pid;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::io::{AsyncRead, AsyncReadExt};

/// Bytes kept.
pub const CAPACITY: usize = 16 * 1024;

#[derive(Debug, Clone, Default)]
pub struct StderrTail {
    ring: Arc<Mutex<Ring>>,
}

#[derive(Debug, Default)]
struct Ring {
    bytes: VecDeque<u8>,
    /// Something older was dropped, so the first line kept may be half a line.
    overflowed: bool,
}

impl Ring {
    fn push(&mut self, chunk: &[u8]) {
        let chunk = match chunk.len().checked_sub(CAPACITY) {
            Some(excess) if excess > 0 => {
                self.overflowed = true;
                &chunk[excess..]
            }
            _ => chunk,
        };
        let excess = (self.bytes.len() + chunk.len()).saturating_sub(CAPACITY);
        if excess > 0 {
            self.overflowed = true;
            self.bytes.drain(..excess);
        }
        self.bytes.extend(chunk);
    }

    fn text(&self) -> String {
        let bytes: Vec<u8> = self.bytes.iter().copied().collect();
        let whole = if self.overflowed {
            let first_line_end = bytes.iter().position(|b| *b == b'\n').map_or(0, |end| end + 1);
            &bytes[first_line_end..]
        } else {
            &bytes[..]
        };
        String::from_utf8_lossy(whole)
            .lines()
            .map(plain)
            .filter(|line| !line.trim().is_empty())
            .collect::<Vec<_>>()
            .join("\n")
    }
}

impl StderrTail {
    /// Whole lines, oldest first, plain, without empty ones.
    pub fn text(&self) -> String {
        self.lock().text()
    }

    /// `pid` says in the log whose lines they are.
    pub(super) async fn read_to_end(self, mut from: impl AsyncRead + Unpin, pid: Option<Pid>) {
        let pid = pid.map(Pid::as_raw);
        let mut lines = LineSplitter::default();
        let mut log = |line: &str| tracing::debug!(pid, line = plain(line), "stderr");
        let mut chunk = [0_u8; 4096];
        // A read error ends the text like an end of file does: there is nobody to tell, and the exit status decides.
        while let Ok(length @ 1..) = from.read(&mut chunk).await {
            self.lock().push(&chunk[..length]);
            lines.feed(&chunk[..length], &mut log);
        }
        lines.finish(&mut log);
    }

    fn lock(&self) -> MutexGuard<'_, Ring> {
        // The ring is valid after every statement above, so a panic elsewhere says nothing about it.
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tail_of(chunks: &[&[u8]]) -> String {
        let mut ring = Ring::default();
        chunks.iter().for_each(|chunk| ring.push(chunk));
        assert!(ring.bytes.len() <= CAPACITY);
        ring.text()
    }

    #[test]
    fn short_text_is_kept_whole() {
        assert_eq!(tail_of(&[b"one\ntw", b"o\n\n"]), "one\ntwo");
    }

    #[test]
    fn a_flood_keeps_its_last_whole_lines() {
        let flood: Vec<u8> = (0..10_000).flat_map(|n| format!("line {n}\n").into_bytes()).collect();
        for chunks in [vec![&flood[..]], flood.chunks(1000).collect()] {
            let text = tail_of(&chunks);
            assert!(text.starts_with("line "), "{}", &text[..20]);
            assert!(text.ends_with("line 9999"));
        }
    }

    #[test]
    fn escape_sequences_lose_their_teeth() {
        assert_eq!(tail_of(&[b"\x1b]0;title\x07\x1b[31mred\x1b[0m\r\n"]), "red");
    }

    #[tokio::test]
    async fn reads_until_the_end() {
        let tail = StderrTail::default();
        tail.clone().read_to_end(&b"a\nb"[..], None).await;
        assert_eq!(tail.text(), "a\nb");
    }

    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl std::io::Write for Written {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    async fn logged(level: tracing::Level, stderr: &[u8]) -> String {
        let written = Written::default();
        let to = written.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(level)
            .with_ansi(false)
            .without_time()
            .with_writer(move || to.clone())
            .finish();
        let scope = tracing::subscriber::set_default(subscriber);
        StderrTail::default().read_to_end(stderr, Some(Pid::from_raw(7))).await;
        drop(scope);
        let bytes = written.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[tokio::test]
    async fn every_line_is_logged_at_debug_and_plain() {
        let stderr = b"\x1b[31mone\x1b[0m\n\ntwo";
        let log = logged(tracing::Level::DEBUG, stderr).await;
        let lines: Vec<&str> = log.lines().collect();
        assert_eq!(lines.len(), 2, "{log}");
        assert!(
            lines[0].contains("DEBUG") && lines[0].ends_with("pid=7 line=\"one\""),
            "{log}"
        );
        assert!(lines[1].ends_with("line=\"two\""), "{log}");
        assert_eq!(logged(tracing::Level::INFO, stderr).await, "");
    }
}
