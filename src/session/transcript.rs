//! What happened in a session, as this host saw it: one JSON object a line, below the session's directory.
//!
//! Never read from the container: its own record of a thread is its own. Every text in here is the container's or the
//! caller's, cut to a bound, and passes the redactor. A session that says more than fits loses its oldest lines.
#![expect(clippy::disallowed_methods, reason = "writes and reads the log of a session")]

use crate::codex::event::TurnEvent;
use crate::config::moment::rfc3339_millis;
use crate::durable::regular;
use crate::redact::Redactor;
use serde::Serialize;
use serde_json::Value;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

const FILE: &str = "transcript.jsonl";
const OLDER: &str = "transcript.older.jsonl";
/// A file's size at which it becomes the older one, in bytes; there are two at the most.
const MOST_BYTES: u64 = 8 << 20;
/// The longest text of one line, in bytes.
const MOST_TEXT: usize = 64 << 10;
/// Lines that wait for the disk. What comes while so many wait is left out, and counted.
const QUEUE: usize = 1024;

/// Something that is written down.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Line {
    /// A container came up.
    Launched {
        engine: String,
        image: String,
    },
    Prompt {
        text: String,
    },
    TurnEnded {
        status: &'static str,
        #[serde(skip_serializing_if = "Option::is_none")]
        error: Option<String>,
    },
    /// The container is gone.
    Ended {
        why: String,
    },
    #[serde(untagged)]
    Event(TurnEvent),
}

/// Writes one session's log. Nothing waits for the disk but a task of its own.
#[derive(Debug)]
pub struct Transcript {
    lines: mpsc::Sender<Value>,
    left_out: u64,
    writing: JoinHandle<()>,
}

impl Transcript {
    /// Needs a running runtime.
    pub fn append_to(session_dir: &Path, redactor: Redactor) -> Self {
        let (lines, queue) = mpsc::channel(QUEUE);
        let mut file = LogFile::new(session_dir);
        let writing = tokio::task::spawn_blocking(move || write_all(&mut file, queue, &redactor));
        Self {
            lines,
            left_out: 0,
            writing,
        }
    }

    /// `turn`: counted from 1.
    pub fn note(&mut self, turn: Option<u64>, line: &Line) {
        // Pieces of what comes whole later.
        if matches!(line, Line::Event(TurnEvent::AnswerDelta { .. } | TurnEvent::Usage(_))) {
            return;
        }
        let Ok(mut value) = serde_json::to_value(line) else {
            return;
        };
        bound(&mut value);
        let at = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        if let Some(fields) = value.as_object_mut() {
            fields.insert("at".to_owned(), rfc3339_millis(at).into());
            turn.map(|turn| fields.insert("turn".to_owned(), turn.into()));
            if self.left_out > 0 {
                fields.insert("leftOutBefore".to_owned(), self.left_out.into());
            }
        }
        match self.lines.try_send(value) {
            Ok(()) => self.left_out = 0,
            Err(_) => self.left_out += 1,
        }
    }

    /// Waits until all is written.
    pub async fn close(self) {
        drop(self.lines);
        // A writer that panicked has said so.
        let _ = self.writing.await;
    }
}

fn bound(value: &mut Value) {
    match value {
        Value::String(text) if text.len() > MOST_TEXT => {
            let end = text.floor_char_boundary(MOST_TEXT);
            text.truncate(end);
            text.push('…');
        }
        Value::Array(items) => items.iter_mut().for_each(bound),
        Value::Object(fields) => fields.values_mut().for_each(bound),
        _ => {}
    }
}

fn write_all(file: &mut LogFile, mut queue: mpsc::Receiver<Value>, redactor: &Redactor) {
    let mut failed = false;
    while let Some(mut value) = queue.blocking_recv() {
        redactor.json(&mut value);
        match file.write(&value) {
            Ok(()) => failed = false,
            // What happened has happened; the audit is what nothing happens without.
            Err(error) if !failed => {
                failed = true;
                tracing::warn!(path = %file.path.display(), %error, "the log of a session can't be written");
            }
            Err(_) => {}
        }
    }
}

struct LogFile {
    path: PathBuf,
    older: PathBuf,
    open: Option<(File, u64)>,
}

impl LogFile {
    fn new(session_dir: &Path) -> Self {
        Self {
            path: session_dir.join(FILE),
            older: session_dir.join(OLDER),
            open: None,
        }
    }

    fn write(&mut self, value: &Value) -> io::Result<()> {
        let line = format!("{value}\n");
        let (mut file, written) = match self.open.take() {
            Some(open) => open,
            None => {
                let mut file = regular::open(&self.path, OpenOptions::new().read(true).append(true).create(true))?;
                let mut length = file.metadata()?.len();
                if is_torn(&file, length)? {
                    // What a crash cut short stays a line of its own, and takes none along that comes after it.
                    file.write_all(b"\n")?;
                    length += 1;
                }
                (file, length)
            }
        };
        file.write_all(line.as_bytes())?;
        let written = written + line.len() as u64;
        if written < MOST_BYTES {
            self.open = Some((file, written));
            return Ok(());
        }
        fs::rename(&self.path, &self.older)
    }
}

/// Whether the last line has no end.
fn is_torn(file: &File, length: u64) -> io::Result<bool> {
    let Some(last) = length.checked_sub(1) else {
        return Ok(false);
    };
    let mut byte = [0];
    file.read_exact_at(&mut byte, last)?;
    Ok(byte != *b"\n")
}

/// The lines of a session's log, oldest first. A line that a crash cut short is left out.
pub fn read(session_dir: &Path) -> io::Result<Vec<Value>> {
    let mut lines = Vec::new();
    for name in [OLDER, FILE] {
        let file = match regular::read(&session_dir.join(name)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            opened => opened?,
        };
        for line in BufReader::new(file).split(b'\n') {
            lines.extend(serde_json::from_slice::<Value>(&line?).ok());
        }
    }
    Ok(lines)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::untrusted::Untrusted;
    use serde_json::json;

    fn prompt(text: impl Into<String>) -> Line {
        Line::Prompt { text: text.into() }
    }

    async fn written(lines: &[Line]) -> Vec<Value> {
        let dir = tempfile::tempdir().unwrap();
        let redactor = Redactor::default();
        redactor.learn(b"hunter22");
        let mut transcript = Transcript::append_to(dir.path(), redactor);
        lines.iter().for_each(|line| transcript.note(Some(1), line));
        transcript.close().await;
        read(dir.path()).unwrap()
    }

    #[tokio::test]
    async fn what_happened_is_read_back_in_order_and_redacted() {
        let event = Line::Event(TurnEvent::CommandStarted {
            command: Untrusted::new("echo hunter22"),
        });
        let delta = Line::Event(TurnEvent::AnswerDelta {
            text: Untrusted::new("a"),
        });
        let lines = written(&[prompt("do it"), delta, event]).await;
        let kinds: Vec<_> = lines.iter().map(|line| line["type"].as_str().unwrap()).collect();
        assert_eq!(kinds, ["prompt", "command_started"]);
        assert_eq!(lines[1]["command"], "echo [redacted]");
        assert_eq!(lines[0]["turn"], json!(1));
    }

    #[tokio::test]
    async fn a_long_text_is_cut_and_a_full_file_becomes_the_older_one() {
        let lines = written(&[prompt("ü".repeat(MOST_TEXT))]).await;
        assert!(lines[0]["text"].as_str().unwrap().len() <= MOST_TEXT + '…'.len_utf8());
        let dir = tempfile::tempdir().unwrap();
        let mut file = LogFile::new(dir.path());
        let long = "x".repeat(MOST_TEXT);
        for number in 0..400 {
            file.write(&json!({"n": number, "text": long})).unwrap();
        }
        let total: u64 = fs::read_dir(dir.path())
            .unwrap()
            .map(|entry| entry.unwrap().metadata().unwrap().len())
            .sum();
        assert!(total <= 2 * MOST_BYTES + MOST_TEXT as u64 + 100, "{total}");
        let lines = read(dir.path()).unwrap();
        assert_eq!(lines.last().unwrap()["n"], 399);
        assert!(lines.len() > 100 && lines.len() < 300);
    }

    #[tokio::test]
    async fn a_line_that_was_cut_short_is_left_out() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(FILE), "{\"type\":\"prompt\"}\n{\"type\":\"pro").unwrap();
        assert_eq!(read(dir.path()).unwrap().len(), 1);
    }

    #[tokio::test]
    async fn a_line_that_was_cut_short_takes_none_along_that_follows() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(FILE), "{\"n\":1}\n{\"n\":").unwrap();
        // A server, and the one after it.
        for number in [2, 3] {
            LogFile::new(dir.path()).write(&json!({"n": number})).unwrap();
        }
        let numbers: Vec<Value> = read(dir.path()).unwrap().iter().map(|line| line["n"].clone()).collect();
        assert_eq!(numbers, [1, 2, 3]);
        let text = fs::read_to_string(dir.path().join(FILE)).unwrap();
        assert_eq!(text, "{\"n\":1}\n{\"n\":\n{\"n\":2}\n{\"n\":3}\n");
    }
}
