//! Tracing to stderr. stdout belongs to the protocol or the result, so nothing here may ever write to it.

use crate::config::name::LogFilter;
use crate::config::{LogFormat, LogSettings};
use tracing::level_filters::LevelFilter;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::util::SubscriberInitExt;

/// Starts logging for this process, once: the first call decides, a later one changes nothing.
pub fn init(settings: &LogSettings) {
    let stderr = std::io::stderr;
    let filter = filter(&settings.filter.value);
    // The loser of a race for the global subscriber would only log the same to the same place.
    let _ = match settings.format.value {
        LogFormat::Text => tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_ansi(anstream::AutoStream::choice(&stderr()) != anstream::ColorChoice::Never)
            .with_writer(stderr)
            .finish()
            .try_init(),
        LogFormat::Json => tracing_subscriber::fmt()
            .json()
            .with_env_filter(filter)
            .with_writer(stderr)
            .finish()
            .try_init(),
    };
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

    #[test]
    fn the_filter_is_the_configured_one() {
        let debug: LogFilter = "warn,codex_mcp::session=debug".parse().unwrap();
        assert_eq!(filter(&debug).to_string(), "codex_mcp::session=debug,rmcp=warn,warn");
        assert_eq!(filter(&"off".parse().unwrap()).max_level_hint(), Some(LevelFilter::OFF));
    }
}
