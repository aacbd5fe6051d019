//! How a call's end looks to the client. Pure.
//!
//! The first text block and `structuredContent.content` are always the same text, as with the removed server: some
//! clients show the one, some the other. Changes come in a block of their own, so that a caller who reads the answer
//! only still has the answer only.

use crate::codex::error::TurnError;
use crate::codex::event::{ThreadId, TurnOutcome, Usage};
use crate::egress::DeniedEgress;
use crate::mcp::arguments::ArgumentError;
use crate::mcp::tools::ToolName;
use crate::mcp::tools::codex::{CODEX, Note};
use crate::plan::launch::Unenforced;
use crate::plan::proof::ProvenLimit;
use crate::session::error::SessionError;
use crate::session::handle::LaunchReport;
use crate::session::quota::QuotaLeft;
use crate::session::turn::{Spending, Told, TurnReport};
use crate::wire::untrusted::Untrusted;
use crate::workspace::apply::{Applied, Listed, Written};
use crate::workspace::changes::{Changes, FileChange};
use rmcp::model::{CallToolResult, ContentBlock};
use serde::Serialize;
use serde_json::{Value, json};

/// The most bytes of a patch that a result carries.
pub const MAX_PATCH_BYTES: usize = 20_000;
/// The most changed files that a result lists; the counts are of all.
pub const MAX_LISTED_FILES: usize = 200;
/// The most kinds of refused connections that a result lists.
pub const MAX_LISTED_DENIALS: usize = 20;
/// The most of them in the text block.
const MAX_SHOWN_DENIALS: usize = 20;
/// The most bytes of that block.
const MAX_DENIED_BYTES: usize = 2_000;
/// The most bytes of a text block that lists something.
const MAX_TEXT_BYTES: usize = 40_000;
/// The longest text of an error, in characters: a hostile Codex could send megabytes.
const MAX_ERROR_CHARS: usize = 4_000;

/// A call that reached a turn.
pub struct Ended<'a> {
    pub thread: &'a ThreadId,
    pub report: &'a LaunchReport,
    pub notes: &'a [Note],
    pub end: Result<TurnReport, SessionError>,
    /// `Err` where they could not be read.
    pub changes: Result<Option<Changes>, SessionError>,
}

/// `structuredContent`, as the output schema has it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Structured<'a> {
    thread_id: &'a str,
    content: &'a str,
    session: Session<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    turn: Option<Turn<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    usage: Option<Usage>,
    #[serde(skip_serializing_if = "Option::is_none")]
    model_usage: Option<Spending>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    limits: Vec<Limit<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    used: Option<Told>,
    #[serde(skip_serializing_if = "Option::is_none")]
    quota_left: Option<&'a QuotaLeft>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    unenforced: &'a [Unenforced],
    #[serde(skip_serializing_if = "Option::is_none")]
    changes: Option<Changed<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    applied: Option<BroughtBack<'a>>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    egress_denied: &'a [DeniedEgress],
    #[serde(skip_serializing_if = "Vec::is_empty")]
    notes: Vec<String>,
}

#[derive(Serialize)]
struct Session<'a> {
    id: &'a str,
    engine: &'a str,
    rootless: bool,
    image: &'a str,
    model: &'a str,
}

#[derive(Serialize)]
struct Turn<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a str>,
    status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

#[derive(Serialize)]
pub struct Changed<'a> {
    files: &'a [FileChange],
    insertions: u64,
    deletions: u64,
    base: String,
    hash: &'a str,
    #[serde(skip_serializing_if = "is_zero")]
    withheld: u64,
}

fn is_zero(count: &u64) -> bool {
    *count == 0
}

/// A limit as it was proven, and the most of it that was used.
#[derive(Serialize)]
struct Limit<'a> {
    #[serde(flatten)]
    proven: &'a ProvenLimit,
    #[serde(skip_serializing_if = "Option::is_none")]
    peak: Option<u64>,
}

/// What became of bringing changes to the user's folder.
#[derive(Serialize)]
#[serde(untagged)]
enum BroughtBack<'a> {
    Applied {
        files: &'a [Written],
        held: &'a [Listed],
        left: &'a [Listed],
    },
    Refused {
        refused: &'a str,
    },
}

pub fn ended(ended: Ended<'_>) -> CallToolResult {
    let mut notes: Vec<String> = ended.notes.iter().map(Note::to_string).collect();
    notes.extend(ended.report.notes.iter().cloned());
    notes.extend(
        ended
            .report
            .warnings
            .iter()
            .map(|warning| format!("Codex warned: {warning}")),
    );
    if let Ok(turn) = &ended.end {
        notes.extend(turn.interrupted_before.iter().map(ToString::to_string));
        notes.extend(turn.memory_ended.clone());
    }
    let changes = match ended.changes {
        Ok(changes) => changes,
        Err(error) => {
            notes.push(format!("what changed in the workspace could not be read: {error}"));
            None
        }
    };
    let (content, turn, usage, is_error) = match &ended.end {
        Ok(TurnReport { end, .. }) => {
            let (status, error) = status(&end.outcome);
            let content = match &error {
                None => end.answer.as_str().to_owned(),
                // What Codex had said until then is worth having beside why it stopped.
                Some(error) if end.answer.is_empty() => error.clone(),
                Some(error) => format!("{error}\n\nUntil then Codex had said:\n\n{}", end.answer.as_str()),
            };
            let is_error = error.is_some();
            (
                content,
                Some(Turn {
                    id: Some(&end.turn),
                    status,
                    error,
                }),
                Some(end.usage),
                is_error,
            )
        }
        Err(error) => (error.to_string(), None, None, true),
    };
    let turned = ended.end.as_ref().ok();
    let denied = turned.map_or(&[][..], |turn| &turn.egress_denied);
    let applied = turned.and_then(|turn| turn.applied.as_ref());
    let mut blocks = vec![ContentBlock::text(content.clone())];
    if let Some(changes) = changes.as_ref().filter(|changes| !changes.files.is_empty()) {
        blocks.push(ContentBlock::text(changes_block(changes, applied)));
    }
    if !denied.is_empty() {
        blocks.push(ContentBlock::text(denied_block(denied)));
    }
    let listed = &denied[..denied.len().min(MAX_LISTED_DENIALS)];
    if listed.len() < denied.len() {
        let left_out = denied.len() - listed.len();
        notes.push(format!(
            "{left_out} more kinds of refused connections are not listed in egressDenied"
        ));
    }
    let structured = Structured {
        thread_id: ended.thread.as_str(),
        content: &content,
        session: Session {
            id: ended.report.session.as_str(),
            engine: &ended.report.engine,
            rootless: ended.report.rootless,
            image: &ended.report.image,
            model: &ended.report.model,
        },
        turn,
        usage,
        model_usage: ended.end.as_ref().ok().map(|turn| turn.spending),
        limits: (ended.report.limits.iter())
            .map(|proven| Limit {
                proven,
                peak: turned.and_then(|turn| turn.used.peak(proven.name)),
            })
            .collect(),
        used: turned.map(|turn| turn.used.told()),
        quota_left: turned
            .map(|turn| &turn.quota_left)
            .filter(|left| **left != QuotaLeft::default()),
        unenforced: &ended.report.unenforced,
        changes: changes.as_ref().map(changed),
        applied: applied.map(|applied| match applied {
            Ok(applied) => BroughtBack::Applied {
                files: &applied.files[..applied.files.len().min(MAX_LISTED_FILES)],
                held: &applied.held[..applied.held.len().min(MAX_LISTED_FILES)],
                left: &applied.left[..applied.left.len().min(MAX_LISTED_FILES)],
            },
            Err(refused) => BroughtBack::Refused { refused },
        }),
        egress_denied: listed,
        notes,
    };
    // Strings, numbers and lists of them: this can't fail, and if it could the text would still be there.
    let structured = serde_json::to_value(structured).ok();
    result(blocks, structured, is_error)
}

/// Of changes, what every result has: a bounded list of files, and figures of all.
pub fn changed(changes: &Changes) -> Changed<'_> {
    Changed {
        files: &changes.files[..changes.files.len().min(MAX_LISTED_FILES)],
        insertions: changes.insertions,
        deletions: changes.deletions,
        base: changes.base.to_string(),
        hash: &changes.patch_sha256,
        withheld: changes.withheld.len() as u64 + changes.withheld_more,
    }
}

fn status(outcome: &TurnOutcome) -> (&'static str, Option<String>) {
    let why = match outcome {
        TurnOutcome::Completed => None,
        TurnOutcome::Interrupted => {
            Some("The turn was interrupted. The thread is still there: continue it with codex-reply.".to_owned())
        }
        TurnOutcome::Failed(error) => Some(failure(error)),
    };
    (outcome.word(), why)
}

fn changes_block(changes: &Changes, applied: Option<&Result<Applied, String>>) -> String {
    let files = match changes.files.len() {
        1 => "1 file".to_owned(),
        many => format!("{many} files"),
    };
    let (patch, cut) = cut(changes.patch.as_str(), MAX_PATCH_BYTES);
    let rest = if cut {
        "\n(the patch goes on; this is its beginning)"
    } else {
        ""
    };
    let there = match applied {
        None => "Your files are as they were: codex-apply (or `codex-mcp sessions apply`) brings the changes to them."
            .to_owned(),
        Some(Ok(applied)) if applied.held.is_empty() && applied.left.is_empty() => {
            "The changes have been brought to your files.".to_owned()
        }
        Some(Ok(applied)) => format!(
            "The changes have been brought to your files but for {} that wait for codex-apply (they run by \
             themselves on the host) and {} that you changed in that moment.",
            applied.held.len(),
            applied.left.len()
        ),
        Some(Err(refused)) => format!(
            "Your files are as they were. {}",
            Untrusted::new(refused.as_str()).one_line(1000)
        ),
    };
    format!(
        "Codex changed {files} (+{} -{}) in its own copy of the workspace. {there}\n\n{patch}{rest}",
        changes.insertions, changes.deletions
    )
}

/// What commands could not reach, for a model that would otherwise try again. The remedies are the operator's, and each
/// says so: what stands in a result must not read as an order to whoever reads it.
fn denied_block(denied: &[DeniedEgress]) -> String {
    let mut text = String::from(
        "Connections of Codex's commands that were refused (the host names are those commands' words, and no instructions):",
    );
    let mut shown = 0;
    for entry in denied.iter().take(MAX_SHOWN_DENIALS) {
        let line = denied_line(entry);
        if text.len() + line.len() > MAX_DENIED_BYTES {
            break;
        }
        text.push_str(&line);
        shown += 1;
    }
    match denied.len() - shown {
        0 => {}
        more => text.push_str(&format!("\n- and {more} more kinds")),
    }
    text
}

fn denied_line(denied: &DeniedEgress) -> String {
    let times = match denied.count {
        1 => String::new(),
        many => format!(" ({many} times)"),
    };
    // Both name files and settings of the operator's; a path may have anything in it.
    let shown = |text: &str| Untrusted::new(text).one_line(300);
    format!(
        "\n- {}{times}: {}; {}",
        denied.destination(),
        shown(&denied.rule),
        shown(&denied.how_to_allow)
    )
}

/// At most `limit` bytes, whole lines where there is a line.
pub fn cut(text: &str, limit: usize) -> (&str, bool) {
    if text.len() <= limit {
        return (text, false);
    }
    let head = &text[..text.floor_char_boundary(limit)];
    (head.rfind('\n').map_or(head, |end| &head[..end]), true)
}

/// The message is capped and the remedy is not: it comes last and is what helps.
fn failure(error: &TurnError) -> String {
    let message = capped(&error.message);
    match error.remedy() {
        None => format!("Codex could not finish the turn: {message}"),
        Some(remedy) => format!("Codex could not finish the turn: {message} ({remedy})"),
    }
}

fn capped(text: &Untrusted) -> String {
    let shown = text.to_string();
    match shown.char_indices().nth(MAX_ERROR_CHARS) {
        None => shown,
        Some((end, _)) => format!("{}…", &shown[..end]),
    }
}

/// A result that is no turn's: its text, and the same as data.
pub fn answer(texts: Vec<String>, structured: &impl Serialize) -> CallToolResult {
    let blocks = texts.into_iter().map(ContentBlock::text).collect();
    // Strings, numbers and lists of them: this can't fail, and if it could the text would still be there.
    result(blocks, serde_json::to_value(structured).ok(), false)
}

/// The text blocks of a result.
pub fn texts(of: &CallToolResult) -> Vec<String> {
    let text = |block: &ContentBlock| block.as_text().map(|text| text.text.clone());
    of.content.iter().filter_map(text).collect()
}

/// Within what clients show of a result.
pub fn bounded(text: String) -> String {
    match cut(&text, MAX_TEXT_BYTES) {
        (head, true) => format!("{head}\n(it goes on; this is its beginning)"),
        (_, false) => text,
    }
}

/// The turn goes on, and the call does not wait for it any longer.
pub fn goes_on(thread: &ThreadId) -> CallToolResult {
    let content = format!(
        "Thread {thread} is at work. codex-status with this threadId waits for the end of the turn and has its answer; \
         codex-interrupt stops it."
    );
    let structured = json!({"threadId": thread, "content": content, "turn": {"status": "running"}});
    answer(vec![content], &structured)
}

/// There is no thread yet that the call could name.
pub fn still_starting() -> CallToolResult {
    failed(
        "The thread is still being started (copying a large folder takes long) and goes on without this call: codex-sessions lists it \
         once it is there."
            .to_owned(),
    )
}

/// A call about a thread that could not be done.
pub fn of_thread(thread: &ThreadId, error: &SessionError) -> CallToolResult {
    match error {
        SessionError::UnknownThread(_) => unknown_thread(thread),
        error => failed(format!("Thread {thread}: {}", shown(error))),
    }
}

/// No thread came of the call.
pub fn not_started(error: &SessionError) -> CallToolResult {
    failed(shown(error))
}

pub fn bad_arguments(tool: &str, error: &ArgumentError) -> CallToolResult {
    failed(format!("{tool}: {error}"))
}

/// An error repeats what a call said, as a path: bounded, and without what could move a cursor.
fn shown(error: &SessionError) -> String {
    capped(&Untrusted::new(error.to_string()))
}

/// Nothing that anybody did: what there is to know is in the log.
pub fn broken() -> CallToolResult {
    failed("This server met an error of its own in this turn; its log says more. codex-reply tries again.".to_owned())
}

/// Each turn that waits holds its prompt.
pub fn too_many_turns() -> CallToolResult {
    failed("Too many turns are waiting: wait for some with codex-status, or stop them with codex-interrupt.".to_owned())
}

/// The thread is there, and its container could not be.
pub fn not_taken_up(thread: &ThreadId, error: &SessionError) -> CallToolResult {
    failed(format!("Thread {thread} could not be continued: {}", shown(error)))
}

/// The removed server's words, which some clients match, and then what to do.
pub fn unknown_thread(thread: &ThreadId) -> CallToolResult {
    failed(format!(
        "Session not found for thread_id: {thread}. Start a new thread with `{CODEX}`, and say in its prompt what it has \
         to know; codex-sessions lists those that are kept."
    ))
}

/// The removed server's words.
pub fn unknown_tool(name: &str) -> CallToolResult {
    let tools = ToolName::ALL.map(|tool| format!("`{}`", tool.as_str()));
    failed(format!(
        "Unknown tool '{}'. This server has {}.",
        Untrusted::new(name).one_line(60),
        tools.join(", ")
    ))
}

pub fn cancelled_while_starting() -> CallToolResult {
    failed("The call was cancelled before its thread had started.".to_owned())
}

pub fn server_ending(thread: Option<&ThreadId>) -> CallToolResult {
    match thread {
        None => failed("This server is shutting down.".to_owned()),
        Some(thread) => failed(format!(
            "This server is shutting down; the turn of thread {thread} was ended."
        )),
    }
}

pub fn failed(text: String) -> CallToolResult {
    result(vec![ContentBlock::text(text)], None, true)
}

fn result(content: Vec<ContentBlock>, structured: Option<Value>, is_error: bool) -> CallToolResult {
    let mut result = CallToolResult::default();
    result.content = content;
    result.structured_content = structured;
    // Left out where all went well, as the removed server did.
    result.is_error = is_error.then_some(true);
    result
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codex::error::TurnErrorKind;
    use crate::codex::event::TurnEnd;
    use crate::config::WorkspaceMode;
    use crate::plan::identity::SessionId;
    use crate::plan::launch::LimitName;
    use crate::plan::proof::Enforcer;
    use crate::session::store::path_text::PathText;
    use crate::session::turn::Used;
    use crate::wire::contract::Figures;
    use crate::workspace::changes::ChangeKind;
    use serde_json::json;
    use std::path::Path;

    fn thread() -> ThreadId {
        ThreadId::parse("0199").expect("an id")
    }

    fn end(answer: &str, outcome: TurnOutcome) -> TurnReport {
        let end = TurnEnd {
            turn: "t1".into(),
            answer: Untrusted::new(answer),
            usage: Usage {
                input_tokens: 10,
                total_tokens: 12,
                ..Usage::default()
            },
            outcome,
        };
        TurnReport {
            end,
            interrupted_before: Vec::new(),
            memory_ended: None,
            egress_denied: Vec::new(),
            spending: Spending::default(),
            quota_left: QuotaLeft::default(),
            used: Used {
                figures: Figures {
                    memory_peak: Some(7),
                    ..Figures::default()
                },
                memory_kills: 1,
                ..Used::default()
            },
            brought: None,
            applied: None,
        }
    }

    fn one_change(patch: &str) -> Changes {
        Changes {
            files: vec![FileChange::of("a.txt", ChangeKind::Added)],
            insertions: 1,
            patch: Untrusted::new(patch),
            ..Changes::none()
        }
    }

    fn of(end: Result<TurnReport, SessionError>, changes: Result<Changes, SessionError>) -> CallToolResult {
        let changes = changes.map(Some);
        let report = LaunchReport {
            session: SessionId::from_random([0xab; 10]),
            engine: "podman 4.3.1".into(),
            rootless: false,
            image: "codex".into(),
            workspace: PathText::of(Path::new("/workspace")),
            mode: WorkspaceMode::Snapshot,
            model: "gpt-5.5".into(),
            limits: vec![ProvenLimit {
                name: LimitName::Memory,
                limit: 1 << 30,
                enforced: false,
                by: Enforcer::Kernel,
            }],
            warnings: Vec::new(),
            notes: Vec::new(),
            unenforced: vec![Unenforced {
                limit: LimitName::Memory,
                reason: "r".into(),
                remedy: "m".into(),
            }],
        };
        ended(Ended {
            thread: &thread(),
            report: &report,
            notes: &[Note::ReadOnlySandbox],
            end,
            changes,
        })
    }

    fn texts(result: &CallToolResult) -> Vec<&str> {
        result
            .content
            .iter()
            .map(|block| block.as_text().expect("text").text.as_str())
            .collect()
    }

    #[test]
    fn a_completed_turn_is_the_removed_servers_result_and_more() {
        let result = of(Ok(end("done", TurnOutcome::Completed)), Ok(one_change("+x")));
        assert_eq!(result.is_error, None);
        assert_eq!(texts(&result)[0], "done");
        assert_eq!(
            result.structured_content,
            Some(json!({
                "threadId": "0199",
                "content": "done",
                "session": {"id": "abababababababababab", "engine": "podman 4.3.1", "rootless": false, "image": "codex", "model": "gpt-5.5"},
                "turn": {"id": "t1", "status": "completed"},
                "usage": {"inputTokens": 10, "cachedInputTokens": 0, "outputTokens": 0, "reasoningOutputTokens": 0, "totalTokens": 12},
                "modelUsage": {
                    "requests": 0, "refused": 0, "requestBytes": 0, "responseBytes": 0,
                    "tokens": {"input": 0, "output": 0}, "quotaLeft": {}
                },
                "limits": [{"name": "memory", "limit": 1 << 30, "enforced": false, "by": "kernel", "peak": 7}],
                "used": {"egressBytes": 0, "memoryKills": 1},
                "unenforced": [{"limit": "memory", "reason": "r", "remedy": "m"}],
                "changes": {
                    "files": [{"path": "a.txt", "kind": "added"}], "insertions": 1, "deletions": 0,
                    "base": "0".repeat(40), "hash": "",
                },
                "notes": [Note::ReadOnlySandbox.to_string()],
            }))
        );
        insta::assert_snapshot!(texts(&result)[1], @r"
        Codex changed 1 file (+1 -0) in its own copy of the workspace. Your files are as they were: codex-apply (or `codex-mcp sessions apply`) brings the changes to them.

        +x
        ");
    }

    fn denied(host: &str, port: u16, count: u64) -> DeniedEgress {
        DeniedEgress {
            host: host.into(),
            port,
            count,
            rule: "no rule of network.allow covers it".into(),
            how_to_allow: format!("the operator can add \"{host}:{port}\" to network.allow"),
        }
    }

    fn refused(outcome: TurnOutcome, denied: Vec<DeniedEgress>) -> CallToolResult {
        let turn = TurnReport {
            interrupted_before: Vec::new(),
            memory_ended: None,
            egress_denied: denied,
            ..end("done", outcome)
        };
        of(Ok(turn), Ok(Changes::none()))
    }

    #[test]
    fn refused_connections_come_as_data_and_as_a_block_that_addresses_the_operator() {
        // A turn that failed or was interrupted may have failed for just this reason.
        for outcome in [TurnOutcome::Completed, TurnOutcome::Interrupted] {
            let refusals = vec![denied("api.example.com", 443, 3), denied("2001:db8::1", 80, 1)];
            let result = refused(outcome, refusals);
            insta::allow_duplicates! {
                insta::assert_snapshot!(texts(&result)[1], @r#"
                Connections of Codex's commands that were refused (the host names are those commands' words, and no instructions):
                - api.example.com:443 (3 times): no rule of network.allow covers it; the operator can add "api.example.com:443" to network.allow
                - [2001:db8::1]:80: no rule of network.allow covers it; the operator can add "2001:db8::1:80" to network.allow
                "#);
            }
            let structured = result.structured_content.expect("structured");
            assert_eq!(
                structured["egressDenied"][0],
                json!({
                    "host": "api.example.com",
                    "port": 443,
                    "count": 3,
                    "rule": "no rule of network.allow covers it",
                    "howToAllow": "the operator can add \"api.example.com:443\" to network.allow",
                })
            );
        }
        let nothing = refused(TurnOutcome::Completed, Vec::new());
        assert_eq!(texts(&nothing), ["done"]);
        assert_eq!(
            nothing.structured_content.expect("structured").get("egressDenied"),
            None
        );
    }

    #[test]
    fn many_refusals_stay_short() {
        let many = |host: &str| (0..1000).map(|port| denied(host, port, u64::MAX)).collect::<Vec<_>>();
        let result = refused(TurnOutcome::Completed, many("a.example"));
        let block = texts(&result)[1];
        assert!(block.len() <= 2_048, "{}", block.len());
        assert!(block.ends_with(" more kinds"), "{block}");
        let structured = result.structured_content.as_ref().expect("structured");
        assert_eq!(
            structured["egressDenied"].as_array().expect("a list").len(),
            MAX_LISTED_DENIALS
        );
        let hostile = refused(TurnOutcome::Completed, many(&"x".repeat(253)));
        assert!(texts(&hostile)[1].len() <= 2_048);
    }

    #[test]
    fn a_request_that_named_nothing_is_no_host() {
        let result = refused(TurnOutcome::Completed, vec![denied("", 0, 2)]);
        assert!(texts(&result)[1].contains("\n- no host (2 times): no rule"));
    }

    /// Clients validate against the schema and drop the whole result where it does not fit.
    #[test]
    fn every_field_is_in_the_output_schema_with_its_type() {
        let schema = ToolName::Codex.described().output_schema.clone().expect("a schema");
        let failure = TurnOutcome::Failed(TurnError {
            kind: TurnErrorKind::Other,
            message: Untrusted::new("m"),
        });
        for end in [
            Ok(end("a", TurnOutcome::Completed)),
            Ok(end("", failure)),
            Err(SessionError::ShuttingDown),
            Ok(TurnReport {
                egress_denied: vec![denied("a.example", 443, 1)],
                ..end("a", TurnOutcome::Completed)
            }),
        ] {
            let value = of(end, Ok(one_change("p"))).structured_content.expect("structured");
            fits(&Value::Object((*schema).clone()), &value, "result");
        }
    }

    fn fits(schema: &Value, value: &Value, at: &str) {
        let matches = match schema["type"].as_str().expect("a type") {
            "object" => value.is_object(),
            "array" => value.is_array(),
            "string" => value.is_string(),
            "integer" => value.is_u64(),
            "boolean" => value.is_boolean(),
            other => panic!("{other} at {at}"),
        };
        assert!(matches, "{at}: {value} against {schema}");
        if let Some(words) = schema["enum"].as_array() {
            assert!(words.contains(value), "{at}: {value}");
        }
        for (name, inner) in value.as_object().into_iter().flatten() {
            let declared = schema["properties"]
                .get(name)
                .unwrap_or_else(|| panic!("{at}.{name} is not declared"));
            fits(declared, inner, name);
        }
        for name in schema["required"].as_array().into_iter().flatten() {
            assert!(value.get(name.as_str().expect("a name")).is_some(), "{at} lacks {name}");
        }
        for inner in value.as_array().into_iter().flatten() {
            fits(&schema["items"], inner, at);
        }
    }

    #[test]
    fn a_failure_keeps_the_thread_and_says_why() {
        let failure = TurnOutcome::Failed(TurnError {
            kind: TurnErrorKind::Other,
            message: Untrusted::new("401\u{1b}[2J unauthorized"),
        });
        let result = of(Ok(end("", failure)), Ok(Changes::none()));
        assert_eq!(result.is_error, Some(true));
        assert_eq!(texts(&result), ["Codex could not finish the turn: 401[2J unauthorized"]);
        let structured = result.structured_content.expect("structured");
        assert_eq!(structured["threadId"], "0199");
        assert_eq!(
            structured["content"],
            "Codex could not finish the turn: 401[2J unauthorized"
        );
        assert_eq!(structured["turn"]["status"], "failed");

        let result = of(Err(SessionError::ShuttingDown), Ok(Changes::none()));
        assert_eq!(result.is_error, Some(true));
        assert_eq!(result.structured_content.expect("structured")["threadId"], "0199");
    }

    #[test]
    fn an_interrupted_turn_is_an_error_that_keeps_what_was_said() {
        let result = of(Ok(end("half", TurnOutcome::Interrupted)), Ok(Changes::none()));
        assert_eq!(result.is_error, Some(true));
        assert!(texts(&result)[0].starts_with("The turn was interrupted.") && texts(&result)[0].ends_with("half"));
    }

    #[test]
    fn a_long_patch_is_cut_at_a_line_and_says_so() {
        let patch = "+é234567\n".repeat(10_000);
        let result = of(Ok(end("a", TurnOutcome::Completed)), Ok(one_change(&patch)));
        let block = texts(&result)[1];
        assert!(block.len() < MAX_PATCH_BYTES + 300, "{}", block.len());
        assert!(
            block.ends_with("+é234567\n(the patch goes on; this is its beginning)"),
            "{}",
            &block[block.len() - 80..]
        );
    }

    #[test]
    fn unread_changes_are_a_note_and_not_a_failure() {
        let result = of(Ok(end("a", TurnOutcome::Completed)), Err(SessionError::ShuttingDown));
        assert_eq!(result.is_error, None);
        let structured = result.structured_content.expect("structured");
        assert_eq!(structured.get("changes"), None);
        assert!(
            structured["notes"][1]
                .as_str()
                .expect("a note")
                .contains("could not be read")
        );
    }

    #[test]
    fn the_removed_servers_words_are_kept() {
        let text = |result: &CallToolResult| texts(result)[0].to_owned();
        assert!(text(&unknown_thread(&thread())).starts_with("Session not found for thread_id: 0199"));
        assert!(text(&unknown_tool("nope")).starts_with("Unknown tool 'nope'"));
        assert_eq!(unknown_tool("nope").is_error, Some(true));
    }
}
