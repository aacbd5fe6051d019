//! `[workspace]`: what a session works on, what of its history comes along, and when its changes come back.

use crate::config::error::BadValue;
use crate::config::origin::Sourced;
use crate::config::quantity::ByteSize;
use serde::{Deserialize, Serialize, Serializer};
use std::fmt;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::str::FromStr;

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct WorkspaceSettings {
    /// Folders below which a session's workspace may lie. Empty: the folder the program was started in.
    pub roots: Sourced<Vec<PathBuf>>,
    /// The most files that a workspace may hold when it is copied.
    pub max_files: Sourced<u64>,
    pub mode: Sourced<WorkspaceMode>,
    pub history: Sourced<History>,
    pub apply: Sourced<ApplyWhen>,
    /// What must stay free on the file system of the state directory.
    pub free: Sourced<ByteSize>,
}

/// What a session's container works on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WorkspaceMode {
    /// A copy of the folder as it is on the host now, the session's own.
    Snapshot,
    /// The host folder itself.
    Bind,
    /// An empty folder.
    Scratch,
}

/// How many commits of a repository a snapshot has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum History {
    /// All that HEAD reaches.
    Head,
    /// None: the files alone.
    None,
    /// The latest ones of what HEAD reaches.
    Commits(NonZeroU32),
}

/// When the changes of a snapshot are brought to the host folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ApplyWhen {
    /// Where somebody asks for it.
    Never,
    /// After each completed turn as well.
    Turn,
}

impl FromStr for History {
    type Err = BadValue;

    fn from_str(text: &str) -> Result<Self, BadValue> {
        match text {
            "head" => Ok(Self::Head),
            "none" => Ok(Self::None),
            number => number.parse().map(Self::Commits).map_err(|_| BadValue::History),
        }
    }
}

impl fmt::Display for History {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Head => f.write_str("head"),
            Self::None => f.write_str("none"),
            Self::Commits(number) => number.fmt(f),
        }
    }
}

/// As it is written in a file: a word, or a number.
impl Serialize for History {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Commits(number) => serializer.serialize_u32(number.get()),
            Self::Head | Self::None => serializer.collect_str(self),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn history_is_a_word_or_a_number_of_commits() {
        for (text, json) in [("head", "\"head\""), ("none", "\"none\""), ("1", "1"), ("50", "50")] {
            let history: History = text.parse().unwrap();
            assert_eq!(history.to_string(), text);
            assert_eq!(serde_json::to_string(&history).unwrap(), json);
        }
        for text in ["", "0", "-1", "all", "1.5", "4294967296", "HEAD"] {
            assert_eq!(text.parse::<History>(), Err(BadValue::History), "{text:?}");
        }
    }
}
