//! Session ids and the names derived from them.

use serde::{Deserialize, Serialize};
use std::fmt;

/// Names one session: 20 lower-case hex digits. Part of paths, container names and labels, so nothing else fits.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SessionId(String);

impl SessionId {
    /// From 80 random bits.
    pub fn from_random(bytes: [u8; 10]) -> Self {
        use std::fmt::Write;
        let mut id = String::with_capacity(20);
        for byte in bytes {
            // Writing to a String can't fail.
            let _ = write!(id, "{byte:02x}");
        }
        Self(id)
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The container's `--name`: deterministic, so that it can be killed and removed by name from any state.
    pub fn container_name(&self) -> ContainerName {
        ContainerName(format!("codex-mcp-{}", self.0))
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<SessionId> for String {
    fn from(id: SessionId) -> Self {
        id.0
    }
}

impl TryFrom<String> for SessionId {
    type Error = String;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let hex = |c: u8| c.is_ascii_digit() || (b'a'..=b'f').contains(&c);
        if text.len() == 20 && text.bytes().all(hex) {
            Ok(Self(text))
        } else {
            Err(format!("{text:?} is not a session id (20 lower-case hex digits)"))
        }
    }
}

/// `codex-mcp-` and a session id; made only from one.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct ContainerName(String);

impl ContainerName {
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name of a container as an engine lists it, where it is one of ours.
    pub fn parse(text: &str) -> Option<Self> {
        let id = text.strip_prefix("codex-mcp-")?;
        SessionId::try_from(id.to_owned()).ok().map(|id| id.container_name())
    }
}

impl fmt::Display for ContainerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

pub use crate::host::container_labels as labels;
