//! Records for tests.

use super::path_text::PathText;
use super::record::{Moment, Record, RecordedStart, RecordedThread};
use crate::codex::client::Approvals;
use crate::codex::event::ThreadId;
use crate::config::WorkspaceMode;
use crate::plan::identity::SessionId;
use crate::plan::request::WorkspaceAccess;
use serde_json::Map;
use std::path::Path;

/// A session with a thread, whose ids are made from `byte`.
pub fn record(byte: u8) -> Record {
    let start = RecordedStart {
        folder: PathText::of(Path::new("/home/me/project")),
        mode: WorkspaceMode::Snapshot,
        access: WorkspaceAccess::ReadWrite,
        model: None,
        network: None,
        approvals: Approvals::Never,
        base_instructions: None,
        developer_instructions: None,
        compact_prompt: None,
        overrides: Map::new(),
    };
    let session = SessionId::from_random([byte; 10]);
    let mut record = Record::begin(session, "test 1".to_owned(), start, Moment(1_795_355_405));
    let thread = ThreadId::parse(&format!("thread-{byte}"));
    record.thread = thread.map(|id| RecordedThread {
        in_codex: id.clone(),
        id,
    });
    record
}
