//! Where a secret is found; never its value.

use serde::Serialize;
use std::path::PathBuf;

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SecretSource {
    Env(String),
    File(PathBuf),
    /// Program and arguments; its stdout without the trailing newline is the secret.
    Command(Vec<String>),
}
