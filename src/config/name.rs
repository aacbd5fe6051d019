//! Words with a closed or checked spelling: which engine, what to do about limits, the image, the effort, the log.

use super::auth::AuthMode;
use super::mcp::Unasked;
use super::network::PackageClient;
use super::{ApplyWhen, Enforcement, LogFormat, RuntimeChoice, WebSearch, WorkspaceMode};
use serde::Serialize;
use std::fmt;
use std::str::FromStr;

/// Why a text is none of the names below.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    #[error("expected {0}")]
    NotOneOf(&'static str),
    #[error(
        "an image is named like `localhost/codex-mcp:0.169.0`: at most 255 of `A-Z a-z 0-9 . _ - : / @`, first a letter or digit"
    )]
    NotAnImage,
    #[error(
        "a log filter is a level (error, warn, info, debug, trace) or directives such as `warn,codex_mcp::session=debug`"
    )]
    NotALogFilter,
}

/// Spelled words ⇄ the variants of a plain enum.
macro_rules! words {
    ($type:ty, $list:literal, { $($variant:ident = $word:literal),+ $(,)? }) => {
        impl $type {
            /// What is taken, for errors.
            pub const EXPECTED: &'static str = concat!("one of ", $list);

            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $word,)+
                }
            }
        }

        impl FromStr for $type {
            type Err = NameError;

            fn from_str(text: &str) -> Result<Self, NameError> {
                match text {
                    $($word => Ok(Self::$variant),)+
                    _ => Err(NameError::NotOneOf(Self::EXPECTED)),
                }
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}

words!(RuntimeChoice, "`auto`, `podman`, `docker`", { Auto = "auto", Podman = "podman", Docker = "docker" });
words!(AuthMode, "`key`, `chatgpt`", { Key = "key", ChatGpt = "chatgpt" });
words!(WebSearch, "`disabled`, `live`", { Disabled = "disabled", Live = "live" });
words!(Enforcement, "`required`, `best-effort`", { Required = "required", BestEffort = "best-effort" });
words!(WorkspaceMode, "`snapshot`, `bind`, `scratch`", { Snapshot = "snapshot", Bind = "bind", Scratch = "scratch" });
words!(Unasked, "`decline`, `accept`", { Decline = "decline", Accept = "accept" });
words!(ApplyWhen, "`never`, `turn`", { Never = "never", Turn = "turn" });
words!(PackageClient, "`cargo`, `npm`, `pip`, `go`", { Cargo = "cargo", Npm = "npm", Pip = "pip", Go = "go" });
words!(LogFormat, "`text`, `json`", { Text = "text", Json = "json" });

/// How hard a model thinks. Codex 0.169 takes any word and a model that does not know it stays silent, so the
/// words of its catalogue are checked here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Effort {
    None,
    Minimal,
    Low,
    Medium,
    High,
    Xhigh,
    Max,
    Ultra,
}

words!(Effort, "`none`, `minimal`, `low`, `medium`, `high`, `xhigh`, `max`, `ultra`", {
    None = "none", Minimal = "minimal", Low = "low", Medium = "medium", High = "high", Xhigh = "xhigh", Max = "max", Ultra = "ultra",
});

/// An image as an engine's command line takes it: a name with tag or digest, or an id. Never begins with `-`, so it
/// can't be read as an option.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct ImageReference(String);

impl ImageReference {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ImageReference {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let fits = |c: u8| c.is_ascii_alphanumeric() || b"._-:/@".contains(&c);
        let begins_well = text.starts_with(|c: char| c.is_ascii_alphanumeric());
        if begins_well && text.len() <= 255 && text.bytes().all(fits) {
            Ok(Self(text.to_owned()))
        } else {
            Err(NameError::NotAnImage)
        }
    }
}

impl fmt::Display for ImageReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A tracing-subscriber filter that is known to parse.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct LogFilter(String);

impl LogFilter {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for LogFilter {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let parses = tracing_subscriber::EnvFilter::builder().parse(text).is_ok();
        // A lone word that is no level would be taken as the name of a crate: `--log inof` would log nothing.
        let is_level = |word: &str| !word.is_empty() && word.parse::<tracing_subscriber::filter::LevelFilter>().is_ok();
        let lone_word = |part: &str| !part.contains(['=', ':', '[', '_']);
        let levels_known = text
            .split(',')
            .map(str::trim)
            .filter(|part| lone_word(part))
            .all(is_level);
        if parses && levels_known {
            Ok(Self(text.to_owned()))
        } else {
            Err(NameError::NotALogFilter)
        }
    }
}

impl fmt::Display for LogFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_read_as_they_are_written_and_serialised() {
        assert_eq!("best-effort".parse(), Ok(Enforcement::BestEffort));
        assert_eq!(Enforcement::BestEffort.to_string(), "best-effort");
        assert_eq!(serde_json::to_value(Effort::Xhigh).unwrap(), "xhigh");
        assert_eq!(
            "Podman".parse::<RuntimeChoice>().unwrap_err().to_string(),
            "expected one of `auto`, `podman`, `docker`"
        );
    }

    #[test]
    fn an_image_is_never_an_option() {
        assert!("localhost/codex-mcp:0.169.0".parse::<ImageReference>().is_ok());
        assert!("r.example:5000/a/b@sha256:0123".parse::<ImageReference>().is_ok());
        for text in ["", "-v", "--privileged", "a b", "a;b", "a\n"] {
            assert_eq!(text.parse::<ImageReference>(), Err(NameError::NotAnImage), "{text:?}");
        }
    }

    #[test]
    fn a_misspelt_level_is_no_filter() {
        for text in ["warn", "off", "info,codex_mcp=debug", "codex_mcp::session=trace"] {
            assert!(text.parse::<LogFilter>().is_ok(), "{text:?}");
        }
        for text in ["", "inof", "warn,debgu", "a=b=c"] {
            assert_eq!(text.parse::<LogFilter>(), Err(NameError::NotALogFilter), "{text:?}");
        }
    }
}
