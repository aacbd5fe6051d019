//! What is written down of a session, and how it is read back. Pure.
//!
//! A record outlives its container, its server and the version that wrote it. It is ours and no container sees it; it is
//! parsed strictly all the same, because a half-written or edited one must never become a session with other bounds than
//! it was started with.

use crate::codex::client::{Approvals, ThreadSettings};
use crate::codex::event::{ThreadId, Usage};
use crate::codex::overrides::parse_overrides;
use crate::config::identity::IdentityName;
use crate::config::moment::rfc3339;
use crate::config::quantity::ModelId;
use crate::config::rule::Rule;
use crate::config::{Origin, Sourced, WorkspaceMode};
use crate::plan::identity::SessionId;
use crate::plan::request::WorkspaceAccess;
use crate::session::handle::LaunchReport;
use crate::session::quota::SessionSpent;
use crate::session::registry::StartSession;
use crate::session::store::path_text::PathText;
use crate::session::turn::Used;
use crate::workspace::bind::placeholder::PlaceholderRecord;
use crate::workspace::shadow::Baseline;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::fmt;
use std::path::Path;
use std::time::Duration;

/// Of the shape below, and of all that is written in it ([`LaunchReport`], [`crate::plan::proven::ProvenLimit`] and the like). What
/// an older version could not read needs a new one: it would take a field or a word that it does not know for damage, where it is
/// to leave the session alone. So does a changed meaning. Until one is released, there is no older version, and this one grows.
pub const VERSION: u32 = 1;
/// The largest record that is read, in bytes: two instructions of a million characters each, and the rest.
pub const MAX_BYTES: u64 = 16 << 20;

/// A moment, in whole seconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Moment(pub u64);

impl Moment {
    /// How long ago it was; none where the clock was set back since.
    pub fn age(self, now: Moment) -> Duration {
        Duration::from_secs(now.0.saturating_sub(self.0))
    }
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&rfc3339(self.0))
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    pub session: SessionId,
    pub created: Moment,
    /// When anything last happened.
    pub changed: Moment,
    /// Who asked for it, by its own word.
    pub asked_by: String,
    /// Whose it is, where it was begun with a token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<IdentityName>,
    /// What the first call set; each launch of the session is held to it.
    pub start: RecordedStart,
    /// What it works on; `None` until that is there.
    #[serde(default)]
    pub workspace: Option<RecordedWorkspace>,
    /// What is made in the user's folder while a container has it, and removed after it.
    #[serde(default)]
    pub placeholders: Option<PlaceholderRecord>,
    /// `None` until Codex has named its thread: what there is then holds nobody's work.
    pub thread: Option<RecordedThread>,
    pub state: State,
    /// Turns that began.
    pub turns: u64,
    /// Losses of container or Codex since a turn last ended well.
    pub losses: u32,
    /// Turns that never came to an end, oldest first, until an answer has told of them.
    #[serde(default)]
    pub interrupted: Vec<Interrupted>,
    /// As Codex counts it.
    pub usage: Usage,
    /// As this host counts it, over all of its containers.
    #[serde(default)]
    pub spent: SessionSpent,
    /// The last launch that came up.
    pub launch: Option<LaunchReport>,
    /// By its container, as far as it was measured.
    #[serde(default)]
    pub used: Option<RecordedUse>,
}

/// What a container used. `None` where nobody counts it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct RecordedUse {
    /// In bytes.
    pub memory_peak: Option<u64>,
    pub cpu_micros: Option<u64>,
    /// Processes and threads.
    pub pids_peak: Option<u64>,
    pub disk_bytes: Option<u64>,
    pub disk_files: Option<u64>,
    pub memory_kills: u64,
}

impl From<Used> for RecordedUse {
    fn from(used: Used) -> Self {
        Self {
            memory_peak: used.figures.memory_peak,
            cpu_micros: used.figures.cpu_micros,
            pids_peak: used.figures.pids_peak,
            disk_bytes: used.disk.map(|disk| disk.bytes),
            disk_files: used.disk.map(|disk| disk.entries),
            memory_kills: used.memory_kills,
        }
    }
}

/// What a session's workspace is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "mode", rename_all = "snake_case", deny_unknown_fields)]
pub enum RecordedWorkspace {
    /// A copy of the folder.
    Snapshot {
        baseline: Baseline,
        /// What a person should know of the copy.
        notes: Vec<String>,
    },
    /// The folder itself.
    Bind {},
    /// Empty in the beginning.
    Scratch { baseline: Baseline },
}

/// The thread, as the client knows it and as Codex does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecordedThread {
    /// What clients pass; the first one that Codex named.
    pub id: ThreadId,
    /// Codex keeps no thread without a turn: a resumed session that had none gets another one from Codex.
    pub in_codex: ThreadId,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "snake_case", deny_unknown_fields)]
pub enum State {
    /// A server has it, or had it when it died.
    Live {
        /// The turn that runs, counted from 1.
        turn: Option<u64>,
    },
    /// It has no container. The next reply starts one.
    Parked { end: End },
    /// It was lost too often and is not started again by itself; its workspace is still there.
    Failed { end: End },
}

/// How a session's container came to its end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct End {
    pub at: Moment,
    pub cause: EndCause,
    /// For people.
    pub why: String,
    /// The turn that it interrupted, counted from 1.
    pub turn: Option<u64>,
}

/// A turn that never came to an end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Interrupted {
    /// Counted from 1.
    pub turn: u64,
    /// For people.
    pub why: String,
}

impl fmt::Display for Interrupted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { turn, why } = self;
        write!(
            f,
            "turn {turn} of this thread was interrupted: {why}. What it had changed by then is in the workspace"
        )
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EndCause {
    /// Its server ended in order.
    ServerEnded,
    /// Somebody stopped it.
    Stopped,
    /// It had no turn for `limits.idle`.
    Idle,
    /// Its container had lived for `limits.wall`.
    WallClock,
    /// It wrote more than it may.
    DiskLimit,
    /// Its container, its Codex or its server died.
    Lost,
    /// What it does could not be recorded any more.
    Unaudited,
}

/// [`StartSession`] in words that outlive this version's types. What is read back passes the parsers that a call passes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecordedStart {
    /// Canonical, on the host.
    pub folder: PathText,
    pub mode: WorkspaceMode,
    pub access: WorkspaceAccess,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub model: Option<String>,
    /// Rules that the call narrowed the network to; absent: those of the operator alone.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub network: Option<Vec<String>>,
    pub approvals: Approvals,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub base_instructions: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub developer_instructions: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub compact_prompt: Option<String>,
    #[serde(skip_serializing_if = "Map::is_empty", default)]
    pub overrides: Map<String, Value>,
}

impl RecordedStart {
    /// `folder` and `mode` as they were decided on.
    pub fn of(start: &StartSession, folder: &Path, mode: WorkspaceMode) -> Self {
        let thread = &start.thread;
        Self {
            folder: PathText::of(folder),
            mode,
            access: start.access,
            model: start.model.as_ref().map(|model| model.value.to_string()),
            network: start
                .network
                .as_ref()
                .map(|rules| rules.iter().map(Rule::to_string).collect()),
            approvals: thread.approvals,
            base_instructions: thread.base_instructions.clone(),
            developer_instructions: thread.developer_instructions.clone(),
            compact_prompt: thread.compact_prompt.clone(),
            overrides: thread.overrides.as_map().clone(),
        }
    }

    /// What the session was started with. `None` where this version can't take a value of it.
    pub fn read(&self) -> Option<StartSession> {
        let origin = |parameter| Origin::Call { parameter };
        let model = match &self.model {
            None => None,
            Some(text) => Some(Sourced::new(text.parse::<ModelId>().ok()?, origin("model"))),
        };
        let network = match &self.network {
            None => None,
            Some(rules) => Some(rules.iter().map(|rule| rule.parse().ok()).collect::<Option<_>>()?),
        };
        Some(StartSession {
            workspace: Some(self.folder.path().to_owned()),
            mode: Some(self.mode),
            access: self.access,
            model,
            network,
            thread: ThreadSettings {
                approvals: self.approvals,
                base_instructions: self.base_instructions.clone(),
                developer_instructions: self.developer_instructions.clone(),
                compact_prompt: self.compact_prompt.clone(),
                overrides: parse_overrides(&self.overrides).ok()?,
            },
        })
    }
}

impl Record {
    /// Of a session that is about to be made.
    pub fn begin(session: SessionId, asked_by: String, start: RecordedStart, now: Moment) -> Self {
        Self {
            session,
            created: now,
            changed: now,
            asked_by,
            owner: None,
            start,
            workspace: None,
            placeholders: None,
            thread: None,
            state: State::Live { turn: None },
            turns: 0,
            losses: 0,
            interrupted: Vec::new(),
            usage: Usage::default(),
            spent: SessionSpent::default(),
            launch: None,
            used: None,
        }
    }

    /// The end that it came to; `None` while a server has it, or where its server died.
    pub fn end(&self) -> Option<&End> {
        match &self.state {
            State::Live { .. } => None,
            State::Parked { end } | State::Failed { end } => Some(end),
        }
    }
}

/// Why a record can't be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecordFlaw {
    /// Left as it is.
    #[error(
        "its record was written by a newer codex-mcp (format {found}; this one knows {VERSION}): use that version, or remove the \
         session with it"
    )]
    Newer { found: u32 },
    #[error("its record can't be read: {0}")]
    Damaged(String),
    #[error("it has no record")]
    Missing,
    /// Nothing is known of it, and nothing is done to it.
    #[error(
        "it can't be looked at: {0}; give it back to the user that codex-mcp runs as, or remove it as the one it belongs to"
    )]
    Unreadable(String),
}

#[derive(Serialize)]
struct Written<'r> {
    version: u32,
    record: &'r Record,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Read {
    #[serde(rename = "version")]
    _version: u32,
    record: Record,
}

/// All that every version has.
#[derive(Deserialize)]
struct Version {
    version: u32,
}

/// # Errors
/// Never for the types above; serde's interface knows no such promise.
pub fn to_json(record: &Record) -> Result<Vec<u8>, serde_json::Error> {
    let mut text = serde_json::to_vec_pretty(&Written {
        version: VERSION,
        record,
    })?;
    text.push(b'\n');
    Ok(text)
}

pub fn from_json(text: &[u8], session: &SessionId) -> Result<Record, RecordFlaw> {
    let damaged = |error: serde_json::Error| RecordFlaw::Damaged(error.to_string());
    // The version first: another version's record need not have our shape.
    let Version { version } = serde_json::from_slice(text).map_err(damaged)?;
    if version > VERSION {
        return Err(RecordFlaw::Newer { found: version });
    }
    let Read { record, .. } = serde_json::from_slice(text).map_err(damaged)?;
    if record.session != *session {
        return Err(RecordFlaw::Damaged(format!(
            "it is of another session, {}",
            record.session
        )));
    }
    if record.start.read().is_none() {
        return Err(RecordFlaw::Damaged("a setting in it can't be had".to_owned()));
    }
    Ok(record)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::launch::{LimitName, Unenforced};
    use crate::plan::proven::{Enforcer, ProvenLimit};
    use crate::session::store::fixtures::record;
    use serde_json::json;

    #[test]
    fn what_is_written_is_read_back() {
        let mut record = record(7);
        record.start.network = Some(vec!["a.example:443".to_owned(), "*.b.example:8443/tcp".to_owned()]);
        record.start.model = Some("gpt-5.5".to_owned());
        record
            .start
            .overrides
            .insert("model_verbosity".to_owned(), "low".into());
        for state in [
            State::Live { turn: Some(3) },
            State::Parked {
                end: End {
                    at: Moment(9),
                    cause: EndCause::Idle,
                    why: "x".to_owned(),
                    turn: None,
                },
            },
        ] {
            record.state = state;
            let text = to_json(&record).unwrap();
            assert_eq!(from_json(&text, &record.session), Ok(record.clone()));
        }
        let start = record.start.read().unwrap();
        assert_eq!(
            RecordedStart::of(&start, record.start.folder.path(), record.start.mode),
            record.start
        );
    }

    /// The shape that other versions will have to read.
    #[test]
    fn the_shape_of_version_1() {
        let mut record = record(7);
        record.used = Some(RecordedUse {
            memory_peak: Some(1),
            cpu_micros: Some(2),
            pids_peak: None,
            disk_bytes: Some(3),
            disk_files: Some(4),
            memory_kills: 0,
        });
        record.interrupted = vec![Interrupted {
            turn: 3,
            why: "why".to_owned(),
        }];
        record.workspace = Some(RecordedWorkspace::Snapshot {
            baseline: serde_json::from_value(json!({"commit": "ab".repeat(20), "object_format": "sha1"})).unwrap(),
            notes: vec!["note".to_owned()],
        });
        record.launch = Some(LaunchReport {
            session: record.session.clone(),
            engine: "podman 5.4.0".to_owned(),
            rootless: true,
            image: "sha256:1".to_owned(),
            workspace: record.start.folder.clone(),
            mode: WorkspaceMode::Snapshot,
            model: "gpt-5.5".to_owned(),
            limits: vec![ProvenLimit {
                name: LimitName::Pids,
                limit: 512,
                enforced: false,
                by: Enforcer::Kernel,
            }],
            unenforced: vec![Unenforced {
                limit: LimitName::Pids,
                reason: "why".to_owned(),
                remedy: "how".to_owned(),
            }],
            warnings: vec!["warning".to_owned()],
            notes: vec!["note".to_owned()],
        });
        let text = String::from_utf8(to_json(&record).unwrap()).unwrap();
        insta::assert_snapshot!(text);
        let names = [
            LimitName::Memory,
            LimitName::Cpus,
            LimitName::Pids,
            LimitName::OpenFiles,
            LimitName::Scratch,
            LimitName::Workspace,
            LimitName::Turn,
            LimitName::Idle,
            LimitName::Wall,
        ];
        insta::assert_json_snapshot!("words_of_limits", names);
    }

    #[test]
    fn a_newer_record_is_told_from_a_damaged_one() {
        let record = record(7);
        let text = String::from_utf8(to_json(&record).unwrap()).unwrap();
        let newer = text.replace("\"version\": 1", "\"version\": 2, \"more\": []");
        let read = |text: &str| from_json(text.as_bytes(), &record.session).unwrap_err();
        assert_eq!(read(&newer), RecordFlaw::Newer { found: 2 });
        let end = text.len() / 2;
        for damaged in [
            "",
            &text[..end],
            &text.replace("\"losses\"", "\"lossses\""),
            &text.replace("\"never\"", "\"always\""),
            &text.replace(record.session.as_str(), SessionId::from_random([9; 10]).as_str()),
            // Bounds that this version can't read are not "no bounds".
            &text.replace("\"approvals\"", "\"network\": [\"http://x/\"], \"approvals\""),
        ] {
            assert!(matches!(read(damaged), RecordFlaw::Damaged(_)), "{damaged}");
        }
    }
}
