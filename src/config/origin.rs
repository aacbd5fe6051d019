//! Where a value came from, so that an error or `plan` can name the file and line, the variable or the flag.

use serde::Serialize;
use std::fmt;
use std::path::PathBuf;

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    Default,
    File {
        path: PathBuf,
        line: usize,
    },
    Environment {
        name: &'static str,
    },
    Flag {
        name: &'static str,
    },
    /// Another program's settings, of which we take this one value (Codex's own `model`).
    Foreign {
        path: PathBuf,
    },
    /// What a package client of this host is configured for (`network.from`).
    Client {
        name: &'static str,
    },
    /// A parameter of a tool call.
    Call {
        parameter: &'static str,
    },
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { path, line } => write!(f, "{}:{line}", path.display()),
            Self::Environment { name } => write!(f, "environment {name}"),
            Self::Flag { name } => write!(f, "flag {name}"),
            Self::Foreign { path } => write!(f, "{}", path.display()),
            Self::Client { name } => write!(f, "network.from, as {name} is configured here"),
            Self::Call { parameter } => write!(f, "parameter `{parameter}`"),
        }
    }
}

/// A value and where it came from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Sourced<T> {
    pub value: T,
    pub origin: Origin,
}

impl<T> Sourced<T> {
    pub fn new(value: T, origin: Origin) -> Self {
        Self { value, origin }
    }
}
