//! Lines with a style, for a terminal or not.

use anstyle::{AnsiColor, Style};
use std::fmt;

pub const PLAIN: Style = Style::new();
pub const HEADING: Style = Style::new().bold();
pub const DIM: Style = Style::new().dimmed();
pub const COMMAND: Style = AnsiColor::Cyan.on_default();
pub const GOOD: Style = AnsiColor::Green.on_default();
pub const WARNING: Style = AnsiColor::Yellow.on_default();
pub const ERROR: Style = AnsiColor::Red.on_default().bold();
pub const ADDED: Style = AnsiColor::Green.on_default();
pub const REMOVED: Style = AnsiColor::Red.on_default();
pub const HUNK: Style = AnsiColor::Cyan.on_default();

/// One line without its end. The text holds no escape sequence: what came from the container went through
/// [`crate::wire::untrusted::Untrusted`]'s `Display` or `one_line`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    label: Option<(Style, &'static str)>,
    style: Style,
    text: String,
}

impl Line {
    pub fn new(style: Style, text: impl Into<String>) -> Self {
        Self {
            label: None,
            style,
            text: text.into(),
        }
    }

    /// `label: text`, with only the label in the style.
    pub fn labelled(style: Style, label: &'static str, text: impl Into<String>) -> Self {
        Self {
            label: Some((style, label)),
            style: PLAIN,
            text: text.into(),
        }
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some((style, label)) = self.label {
            write!(f, "{style}{label}:{style:#} ")?;
        }
        let style = self.style;
        write!(f, "{style}{}{style:#}", self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_style_ends_with_its_line() {
        assert_eq!(Line::new(ADDED, "+a").to_string(), "\u{1b}[32m+a\u{1b}[0m");
        assert_eq!(Line::new(PLAIN, "a").to_string(), "a");
        assert_eq!(
            Line::labelled(WARNING, "warning", "b").to_string(),
            "\u{1b}[33mwarning:\u{1b}[0m b"
        );
    }
}
