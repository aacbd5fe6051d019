//! Tracing to stderr. stdout belongs to the protocol or the result, so nothing here may ever write to it, nor anything that
//! has not passed the [`Redactor`]. [`metrics`]: numbers, for whoever asks for them.

pub mod metrics;

use crate::config::name::LogFilter;
use crate::config::{LogFormat, LogSettings};
use crate::redact::Redactor;
use std::io::{self, Write};
use tracing::level_filters::LevelFilter;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::util::SubscriberInitExt;

/// Starts logging for this process, once: the first call decides, a later one changes nothing.
pub fn init(settings: &LogSettings) {
    let stderr = io::stderr;
    let writer = || Redacting {
        inner: io::stderr(),
        redactor: Redactor::of_process(),
    };
    let filter = filter(&settings.filter.value);
    // The loser of a race for the global subscriber would only log the same to the same place.
    let _ = match settings.format.value {
        LogFormat::Text => tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_ansi(anstream::AutoStream::choice(&stderr()) != anstream::ColorChoice::Never)
            .with_writer(writer)
            .finish()
            .try_init(),
        LogFormat::Json => tracing_subscriber::fmt()
            .json()
            .with_env_filter(filter)
            .with_writer(writer)
            .finish()
            .try_init(),
    };
}

/// Writes an event at a time: the subscriber formats one whole, its line end included, and then writes it.
struct Redacting<W> {
    inner: W,
    redactor: Redactor,
}

impl<W: Write> Write for Redacting<W> {
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        // An event in the other format is no JSON, and is taken as text.
        self.inner.write_all(&self.redactor.json_line(event))?;
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// A [`LogFilter`] is known to parse; `parse_lossy` spares the branch that can't happen.
fn filter(filter: &LogFilter) -> EnvFilter {
    let filter = EnvFilter::builder().parse_lossy(filter.as_str());
    // At `info` rmcp logs whole messages, prompts and answers included: whatever the operator asks for, not that.
    match "rmcp=warn".parse() {
        Ok(cap) if filter.max_level_hint() != Some(LevelFilter::OFF) => filter.add_directive(cap),
        _ => filter,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};

    #[derive(Clone, Default)]
    struct Log(Arc<Mutex<Vec<u8>>>);

    impl Write for Log {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// Whatever an event is made of, in either format.
    #[test]
    fn no_event_shows_a_secret() {
        let redactor = Redactor::default();
        redactor.learn(b"s3cret \"value\"");
        let log = Log::default();
        let writer = {
            let (log, redactor) = (log.clone(), redactor.clone());
            move || Redacting {
                inner: log.clone(),
                redactor: redactor.clone(),
            }
        };
        let error = io::Error::other("refused: s3cret \"value\"");
        let log_it = || tracing::warn!(%error, field = "s3cret \"value\"", "sent s3cret \"value\" away");
        let text = tracing_subscriber::fmt().with_ansi(false).with_writer(writer.clone());
        tracing::subscriber::with_default(text.finish(), log_it);
        let json = tracing_subscriber::fmt().json().with_writer(writer);
        tracing::subscriber::with_default(json.finish(), log_it);
        let logged = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
        assert_eq!(logged.matches("[redacted]").count(), 6, "{logged}");
        assert!(!logged.contains("s3cret"), "{logged}");
    }

    #[test]
    fn the_filter_is_the_configured_one() {
        let debug: LogFilter = "warn,codex_mcp::session=debug".parse().unwrap();
        assert_eq!(filter(&debug).to_string(), "codex_mcp::session=debug,rmcp=warn,warn");
        assert_eq!(filter(&"off".parse().unwrap()).max_level_hint(), Some(LevelFilter::OFF));
    }
}
