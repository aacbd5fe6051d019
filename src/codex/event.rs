//! What happens in a thread, in our words: what `session` hands on to `mcp` and `cli`.

use crate::codex::error::TurnError;
use crate::wire::untrusted::Untrusted;
use serde::{Deserialize, Serialize};

/// Names a Codex thread. Chosen by Codex (a UUID today): at most 64 of `A-Z a-z 0-9 - _`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ThreadId(String);

impl ThreadId {
    pub fn parse(text: &str) -> Option<Self> {
        let fits = |c: u8| c.is_ascii_alphanumeric() || c == b'-' || c == b'_';
        (!text.is_empty() && text.len() <= 64 && text.bytes().all(fits)).then(|| Self(text.to_owned()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for ThreadId {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::parse(&text).ok_or("not a thread id")
    }
}

impl From<ThreadId> for String {
    fn from(id: ThreadId) -> Self {
        id.0
    }
}

impl std::fmt::Display for ThreadId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// Names a turn within its thread; chosen by Codex, of the same shape as a [`ThreadId`].
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct TurnId(ThreadId);

impl TurnId {
    pub fn parse(text: &str) -> Option<Self> {
        ThreadId::parse(text).map(Self)
    }

    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

impl std::fmt::Display for TurnId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// One thing that happened during a turn.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum TurnEvent {
    Started,
    /// More text of the answer.
    AnswerDelta {
        text: Untrusted,
    },
    /// One whole message of the model.
    Answer {
        text: Untrusted,
    },
    Reasoning {
        text: Untrusted,
    },
    CommandStarted {
        command: Untrusted,
    },
    CommandCompleted {
        command: Untrusted,
        status: ItemStatus,
        exit_code: Option<i64>,
        output: Untrusted,
    },
    PatchCompleted {
        paths: Vec<Untrusted>,
        status: ItemStatus,
    },
    /// An item of a kind that we don't show in detail (plan, search, …).
    Other {
        kind: Untrusted,
    },
    /// Codex hit an error and tries again by itself.
    Retrying {
        message: Untrusted,
    },
    /// Codex asked for an approval, and this is what was answered.
    ApprovalAnswered {
        subject: Untrusted,
        decision: Decision,
    },
    Usage(Usage),
    Warning {
        message: Untrusted,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ItemStatus {
    Completed,
    Failed,
    Declined,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Decision {
    Accepted,
    Declined,
}

/// Tokens of the whole thread so far, as Codex counts them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Usage {
    pub input_tokens: u64,
    pub cached_input_tokens: u64,
    pub output_tokens: u64,
    pub reasoning_output_tokens: u64,
    pub total_tokens: u64,
}

/// How a turn ended.
#[derive(Debug, Clone, PartialEq)]
pub struct TurnEnd {
    pub turn: String,
    /// The last message of the model; empty where there was none.
    pub answer: Untrusted,
    pub usage: Usage,
    pub outcome: TurnOutcome,
}

#[derive(Debug, Clone, PartialEq)]
pub enum TurnOutcome {
    Completed,
    Interrupted,
    Failed(TurnError),
}

impl TurnOutcome {
    /// The word for it in results, on JSON lines and in a session's log.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Completed => "completed",
            Self::Interrupted => "interrupted",
            Self::Failed(_) => "failed",
        }
    }
}

/// Something that the app-server reported, and about which thread and turn; `None` where it named none.
#[derive(Debug, Clone, PartialEq)]
pub struct ThreadEvent {
    pub thread: Option<ThreadId>,
    pub turn: Option<TurnId>,
    pub happening: Happening,
}

/// What was reported, told apart by what a turn's state machine makes of it.
#[derive(Debug, Clone, PartialEq)]
pub enum Happening {
    TurnStarted,
    /// For whoever watches; changes nothing but the answer.
    Shown(TurnEvent),
    /// Codex hit an error and says whether it tries again by itself.
    Failing {
        error: TurnError,
        retry: Retry,
    },
    /// The thread does nothing any more: its turn is over, or should be.
    ThreadQuiet,
    ThreadBusy,
    TurnEnded(EndedTurn),
    /// This many events were left out, because nobody took them in time.
    LeftOut(u64),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retry {
    ByItself,
    None,
}

/// How Codex says a turn ended.
#[derive(Debug, Clone, PartialEq)]
pub struct EndedTurn {
    pub outcome: TurnOutcome,
    /// The last message of the model, where the report carries it.
    pub answer: Option<Untrusted>,
}
