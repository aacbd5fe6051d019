//! What is in a record. Pure.
//!
//! Names, sizes, digests and decisions: never a prompt, a file's content or a credential. Strings that came from
//! elsewhere are bounded here; the journal has each of them redacted before it is hashed.

use crate::audit::chain::Digest;
use crate::config::identity::IdentityName;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// The longest string of a record, in characters. Digests say the rest.
pub const MAX_TEXT: usize = 1000;

/// What is written, before it has its place in the chain.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Entry {
    #[serde(flatten)]
    pub ids: Ids,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub actor: Option<Actor>,
    #[serde(flatten)]
    pub what: What,
}

impl Entry {
    /// Of the server itself.
    pub fn of_server(what: What) -> Self {
        Self {
            ids: Ids::default(),
            actor: None,
            what,
        }
    }

    /// As a JSON object with every string bounded.
    ///
    /// # Errors
    ///
    /// Never for the types above; serde's interface knows no such promise.
    pub fn bounded(&self) -> Result<Value, serde_json::Error> {
        let mut value = serde_json::to_value(self)?;
        bound(&mut value);
        Ok(value)
    }
}

fn bound(value: &mut Value) {
    match value {
        Value::String(text) => {
            if let Some((end, _)) = text.char_indices().nth(MAX_TEXT) {
                text.truncate(end);
                text.push('…');
            }
        }
        Value::Array(items) => items.iter_mut().for_each(bound),
        Value::Object(fields) => fields.values_mut().for_each(bound),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// What a record belongs to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Ids {
    /// Of the MCP request, as the client chose it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session: Option<String>,
    /// Codex's name for the session, chosen inside.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub thread: Option<String>,
    /// Counted by this server within the session, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub turn: Option<u64>,
}

/// Who asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Actor {
    /// `codex-mcp run`, by whoever runs this process.
    Cli,
    /// An MCP client, by its own word.
    McpClient {
        name: String,
        version: String,
        /// The name of the token that it came with: that much is not its own word.
        #[serde(skip_serializing_if = "Option::is_none")]
        identity: Option<IdentityName>,
    },
}

/// What was asked for, by its shape.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Call {
    pub tool: String,
    /// Each parameter's size in bytes.
    pub parameters: BTreeMap<String, u64>,
}

/// What happened, or is about to.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "what", rename_all = "snake_case")]
pub enum What {
    /// The first record of a chain.
    ServerStarted {
        version: String,
        pid: u32,
        uid: u32,
    },
    /// The first record of each further file of a chain.
    Continued {
        file: u64,
    },
    /// A file of this directory is removed, to keep within `audit.keep`.
    Pruned {
        chain: String,
        file: u64,
        bytes: u64,
    },
    /// The last record of a chain that ended in order.
    ServerEnded,
    /// A container is about to be started.
    Launch {
        call: Call,
        /// Of program and arguments, each followed by a NUL.
        argv_sha256: Digest,
        /// The id that the engine is told to run.
        image: String,
        /// Of the session's network policy as JSON.
        policy_sha256: Digest,
        /// The folder on the host that is copied.
        workspace: PathBuf,
    },
    /// What the kernel says inside, compared with the plan; nothing untrusted ran before.
    LimitsProven {
        limits: Vec<Limit>,
    },
    /// Codex has a thread.
    ThreadStarted {
        model: String,
    },
    TurnStarted {
        call: Call,
        /// Repetitions since the turn before.
        #[serde(skip_serializing_if = "Repeats::is_empty")]
        between: Repeats,
    },
    TurnEnded {
        /// Codex's own name for it, chosen inside.
        codex_turn: Option<String>,
        outcome: Outcome,
        /// Of the thread so far.
        usage: Usage,
        #[serde(flatten)]
        repeats: Repeats,
    },
    Egress {
        verdict: Verdict,
        /// `None` where none could be read, or where no further ones are told apart.
        target: Option<String>,
        rule: String,
    },
    CredentialUsed {
        provider: String,
        endpoint: String,
    },
    Approval {
        subject: Subject,
        /// What is to be approved, in the container's words and cut.
        text: String,
        /// Of the whole of it.
        sha256: Digest,
        decision: Decision,
    },
    /// A session's changes are about to be handed out of its copy.
    Changes {
        to: HandedTo,
        files: u64,
        insertions: u64,
        deletions: u64,
        /// Of the patch.
        sha256: Digest,
    },
    /// What became of changes that were to be written to the user's folder.
    ChangesWritten {
        /// Files that were written.
        files: u64,
        /// Why nothing was.
        #[serde(skip_serializing_if = "Option::is_none")]
        refused: Option<String>,
    },
    /// What became of an apply to the user's folder that a killed process left half-way; another record says what was to be
    /// written.
    ChangesRecovered {
        path: PathBuf,
        /// As of [`HandedTo::Folder`].
        base: String,
        /// Of the patch.
        sha256: String,
        end: Recovery,
        /// Files that are as the changes have them now.
        files: u64,
        /// Files that the user had changed meanwhile, and that stay so.
        left: u64,
    },
    SessionEnded {
        cause: Cause,
        why: String,
        #[serde(flatten)]
        repeats: Repeats,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Recovery {
    /// Nothing had been changed.
    RolledBack,
    Finished,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Limit {
    pub name: String,
    pub limit: u64,
    pub enforced: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    Allowed,
    Denied,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Subject {
    Command,
    Patch,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Decision {
    Accepted,
    Declined,
}

/// Where a session's changes go.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum HandedTo {
    /// Whoever asked for the turn, as the result's diff.
    Caller,
    /// Whoever asked for the whole patch, as a file.
    PatchFile,
    /// The user's folder, which they are about to be written to.
    Folder {
        path: PathBuf,
        /// The commit of the session's private git directory that they are changes to.
        base: String,
        /// As they may be shown; the first of them, where there are many.
        names: Vec<String>,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    Completed,
    Interrupted,
    Failed,
    /// It did not begin.
    Refused,
    /// Its session ended under it.
    SessionOver,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Usage {
    pub input_tokens: u64,
    pub output_tokens: u64,
    pub total_tokens: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// It never came to a thread.
    NotStarted,
    Stopped,
    Abandoned,
    /// It had no turn for `limits.idle`.
    Idle,
    /// It had lived for `limits.wall`.
    WallClock,
    /// It wrote more than it may.
    DiskLimit,
    /// Its container or Codex ended by itself.
    Lost,
}

/// What happened again and was not written again: equal ones are one record a turn.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Repeats {
    /// How often each happened in all, by the sequence of its one record; those that happened once are left out.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub times: BTreeMap<u64, u64>,
    /// Decisions that were made after too many different ones to tell apart.
    #[serde(skip_serializing_if = "is_zero")]
    pub not_told_apart: u64,
    /// Approvals that were declined without a record each.
    #[serde(skip_serializing_if = "is_zero")]
    pub approvals_declined: u64,
}

impl Repeats {
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(count: &u64) -> bool {
    *count == 0
}

/// A record as it is read back: whatever a later or earlier version wrote, with what all of them have told apart.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Stored {
    pub sequence: u64,
    pub time: String,
    pub prev: Digest,
    pub what: String,
    pub request: Option<String>,
    pub session: Option<String>,
    pub thread: Option<String>,
    pub turn: Option<u64>,
    #[serde(flatten)]
    pub rest: Map<String, Value>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn strings_are_bounded_wherever_they_stand() {
        let long = "é".repeat(MAX_TEXT + 1);
        let entry = Entry {
            ids: Ids {
                request: Some(long.clone()),
                ..Ids::default()
            },
            actor: Some(Actor::McpClient {
                name: long,
                version: "1".into(),
                identity: None,
            }),
            what: What::ServerEnded,
        };
        let value = entry.bounded().unwrap();
        for text in [&value["request"], &value["actor"]["name"]] {
            assert_eq!(text.as_str().unwrap().chars().count(), MAX_TEXT + 1);
            assert!(text.as_str().unwrap().ends_with("é…"));
        }
    }

    #[test]
    fn a_record_says_only_what_there_is_to_say() {
        let ended = Entry {
            ids: Ids {
                session: Some("s".into()),
                turn: Some(1),
                ..Ids::default()
            },
            actor: None,
            what: What::TurnEnded {
                codex_turn: None,
                outcome: Outcome::SessionOver,
                usage: Usage::default(),
                repeats: Repeats {
                    times: BTreeMap::from([(7, 3)]),
                    ..Repeats::default()
                },
            },
        };
        assert_eq!(
            ended.bounded().unwrap(),
            json!({
                "what": "turn_ended", "session": "s", "turn": 1, "codex_turn": null, "outcome": "session_over",
                "usage": {"input_tokens": 0, "output_tokens": 0, "total_tokens": 0}, "times": {"7": 3},
            })
        );
    }
}
