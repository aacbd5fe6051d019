//! What `run --json` prints: one object a line, of a shape that docs/api-reference.md promises. Pure.
//!
//! The shapes are spelled out here and not derived from our inner types, so that a change inside can't change what
//! scripts read. The container's text is passed on whole, as data; what could move a terminal's cursor or reorder its
//! text is escaped, because somebody will look at these lines on one.

use crate::cli::exit::{Exit, Failure};
use crate::cli::render;
use crate::codex::event::{Decision, ItemStatus, ThreadId, TurnEvent, TurnOutcome, Usage};
use crate::egress::DeniedEgress;
use crate::plan::launch::Unenforced;
use crate::session::error::SessionError;
use crate::session::handle::LaunchReport;
use crate::session::turn::TurnReport;
use crate::wire::untrusted::Untrusted;
use crate::workspace::changes::{ChangeKind, Changes};
use serde_json::{Value, json};

/// The first line: what was launched.
pub fn session(thread: &ThreadId, report: &LaunchReport) -> String {
    line(&json!({
        "type": "session",
        "threadId": thread.as_str(),
        "session": report.session.as_str(),
        "engine": report.engine,
        "image": report.image,
        "workspace": report.workspace.path().to_string_lossy(),
        "unenforced": report.unenforced.iter().map(unenforced).collect::<Vec<_>>(),
    }))
}

fn unenforced(missing: &Unenforced) -> Value {
    json!({ "limit": missing.limit.as_str(), "reason": missing.reason, "remedy": missing.remedy })
}

/// One line an event.
pub fn event(event: &TurnEvent) -> String {
    let text = |text: &Untrusted| text.as_str().to_owned();
    line(&match event {
        TurnEvent::Started => json!({ "type": "started" }),
        TurnEvent::AnswerDelta { text: delta } => json!({ "type": "answerDelta", "text": text(delta) }),
        TurnEvent::Answer { text: answer } => json!({ "type": "answer", "text": text(answer) }),
        TurnEvent::Reasoning { text: reasoning } => json!({ "type": "reasoning", "text": text(reasoning) }),
        TurnEvent::CommandStarted { command } => json!({ "type": "commandStarted", "command": text(command) }),
        TurnEvent::CommandCompleted {
            command,
            status,
            exit_code,
            output,
        } => json!({
            "type": "commandCompleted",
            "command": text(command),
            "status": status_word(*status),
            "exitCode": exit_code,
            "output": text(output),
        }),
        TurnEvent::PatchCompleted { paths, status } => json!({
            "type": "patchCompleted",
            "paths": paths.iter().map(text).collect::<Vec<_>>(),
            "status": status_word(*status),
        }),
        TurnEvent::Other { kind } => json!({ "type": "other", "kind": text(kind) }),
        TurnEvent::Retrying { message } => json!({ "type": "retrying", "message": text(message) }),
        TurnEvent::ApprovalAnswered { subject, decision } => json!({
            "type": "approvalAnswered",
            "subject": text(subject),
            "decision": match decision {
                Decision::Accepted => "accepted",
                Decision::Declined => "declined",
            },
        }),
        TurnEvent::Usage(tokens) => json!({ "type": "usage", "usage": usage(*tokens) }),
        TurnEvent::Warning { message } => json!({ "type": "warning", "message": text(message) }),
    })
}

fn status_word(status: ItemStatus) -> &'static str {
    match status {
        ItemStatus::Completed => "completed",
        ItemStatus::Failed => "failed",
        ItemStatus::Declined => "declined",
    }
}

fn usage(usage: Usage) -> Value {
    json!({
        "inputTokens": usage.input_tokens,
        "cachedInputTokens": usage.cached_input_tokens,
        "outputTokens": usage.output_tokens,
        "reasoningOutputTokens": usage.reasoning_output_tokens,
        "totalTokens": usage.total_tokens,
    })
}

/// The last line of a turn that came to an end, whichever. Where the changes can't be read they are null, and `error`
/// says why.
pub fn result(
    thread: &ThreadId,
    report: &LaunchReport,
    turn: &TurnReport,
    changes: Result<Option<&Changes>, &SessionError>,
    exit: Exit,
) -> String {
    let TurnReport {
        end,
        interrupted_before,
        memory_ended,
        egress_denied,
        spending,
        quota_left,
        used,
        brought: _,
        applied,
    } = turn;
    let failure = match &end.outcome {
        TurnOutcome::Completed | TurnOutcome::Interrupted => None,
        TurnOutcome::Failed(error) => Some(render::failure(error)),
    };
    line(&json!({
        "type": "result",
        "threadId": thread.as_str(),
        "outcome": end.outcome.word(),
        "answer": end.answer.as_str(),
        "error": failure.or_else(|| changes.err().map(ToString::to_string)),
        "interruptedBefore": interrupted_before.iter().map(|one| json!({"turn": one.turn, "why": one.why})).collect::<Vec<_>>(),
        "memoryEnded": memory_ended,
        "usage": usage(end.usage),
        "modelUsage": spending,
        "quotaLeft": quota_left,
        "used": used.told(),
        "limits": report.limits.iter().map(|limit| json!({
            "name": limit.name,
            "limit": limit.limit,
            "peak": used.peak(limit.name),
            "enforced": limit.enforced,
            "by": limit.by,
        })).collect::<Vec<_>>(),
        "applied": applied.as_ref().map(|applied| match applied {
            Ok(applied) => json!(applied),
            Err(refused) => json!({ "refused": refused }),
        }),
        "unenforced": report.unenforced.iter().map(unenforced).collect::<Vec<_>>(),
        "changes": changes.ok().flatten().map(changes_value),
        "egressDenied": egress_denied.iter().map(denied).collect::<Vec<_>>(),
        "exitCode": exit.code(),
    }))
}

fn denied(denied: &DeniedEgress) -> Value {
    let DeniedEgress {
        host,
        port,
        count,
        rule,
        how_to_allow,
    } = denied;
    json!({ "host": host, "port": port, "count": count, "rule": rule, "howToAllow": how_to_allow })
}

fn changes_value(changes: &Changes) -> Value {
    let files: Vec<_> = (changes.files.iter())
        .map(|file| {
            let kind = match file.kind {
                ChangeKind::Added => "added",
                ChangeKind::Modified => "modified",
                ChangeKind::Deleted => "deleted",
                ChangeKind::Renamed => "renamed",
            };
            json!({ "path": file.path.as_str(), "kind": kind })
        })
        .collect();
    json!({
        "files": files,
        "insertions": changes.insertions,
        "deletions": changes.deletions,
        "patch": changes.patch.as_str(),
    })
}

/// The last line where there is no result.
pub fn error(failure: &Failure) -> String {
    line(&json!({ "type": "error", "message": failure.message, "exitCode": failure.exit.code() }))
}

/// JSON on one line. serde_json escapes control characters below U+0020 and no others.
fn line(value: &Value) -> String {
    let mut line = String::new();
    for c in value.to_string().chars() {
        // Outside strings JSON is plain ASCII, so what is not displayable is inside one and may be escaped.
        let displayable = matches!(c, ' '..='~') || !Untrusted::new(c).to_string().is_empty();
        if !displayable {
            let mut units = [0; 2];
            line.extend(c.encode_utf16(&mut units).iter().map(|unit| format!("\\u{unit:04x}")));
        } else {
            line.push(c);
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codex::error::{TurnError, TurnErrorKind};
    use crate::codex::event::TurnEnd;
    use crate::config::WorkspaceMode;
    use crate::plan::identity::SessionId;
    use crate::plan::launch::LimitName;
    use crate::session::quota::QuotaLeft;
    use crate::session::store::path_text::PathText;
    use crate::session::turn::{Spending, Used};
    use crate::workspace::changes::FileChange;
    use std::path::Path;

    fn untrusted(text: &str) -> Untrusted {
        Untrusted::new(text)
    }

    #[test]
    fn the_lines_are_what_the_document_promises() {
        let thread = ThreadId::parse("019a").unwrap();
        let report = LaunchReport {
            session: SessionId::from_random([1; 10]),
            engine: "podman 5.4.0".into(),
            rootless: true,
            image: "localhost/codex-mcp:0.169.0".into(),
            model: "gpt-5.5".into(),
            limits: Vec::new(),
            warnings: Vec::new(),
            notes: Vec::new(),
            workspace: PathText::of(Path::new("/w")),
            mode: WorkspaceMode::Snapshot,
            unenforced: vec![Unenforced {
                limit: LimitName::Pids,
                reason: "r".into(),
                remedy: "m".into(),
            }],
        };
        let end = TurnEnd {
            turn: "t".to_owned(),
            answer: untrusted("Done."),
            usage: Usage {
                input_tokens: 5,
                ..Usage::default()
            },
            outcome: TurnOutcome::Completed,
        };
        let completed_turn = TurnReport {
            end: end.clone(),
            interrupted_before: Vec::new(),
            memory_ended: None,
            egress_denied: Vec::new(),
            spending: Spending::default(),
            quota_left: QuotaLeft::default(),
            used: Used::default(),
            brought: None,
            applied: None,
        };
        let end = TurnEnd {
            outcome: TurnOutcome::Failed(TurnError {
                kind: TurnErrorKind::Other,
                message: untrusted("no\nmodel"),
            }),
            ..end
        };
        let failed_turn = TurnReport {
            end,
            interrupted_before: Vec::new(),
            memory_ended: None,
            egress_denied: vec![DeniedEgress {
                host: "a.example".into(),
                port: 443,
                count: 2,
                rule: "r".into(),
                how_to_allow: "h".into(),
            }],
            spending: Spending::default(),
            quota_left: QuotaLeft::default(),
            used: Used::default(),
            brought: None,
            applied: None,
        };
        let changes = Changes {
            files: vec![FileChange::of("a", ChangeKind::Added)],
            insertions: 1,
            patch: untrusted("+x\n"),
            ..Changes::none()
        };
        let completed = TurnEvent::CommandCompleted {
            command: untrusted("ls"),
            status: ItemStatus::Failed,
            exit_code: Some(2),
            output: untrusted("no\n"),
        };
        let lines = [
            session(&thread, &report),
            event(&TurnEvent::Started),
            event(&TurnEvent::AnswerDelta { text: untrusted("D") }),
            event(&TurnEvent::Answer {
                text: untrusted("Done."),
            }),
            event(&TurnEvent::Reasoning { text: untrusted("hm") }),
            event(&TurnEvent::CommandStarted {
                command: untrusted("ls"),
            }),
            event(&completed),
            event(&TurnEvent::PatchCompleted {
                paths: vec![untrusted("a")],
                status: ItemStatus::Completed,
            }),
            event(&TurnEvent::Other {
                kind: untrusted("plan"),
            }),
            event(&TurnEvent::Retrying {
                message: untrusted("m"),
            }),
            event(&TurnEvent::ApprovalAnswered {
                subject: untrusted("s"),
                decision: Decision::Declined,
            }),
            event(&TurnEvent::Usage(Usage::default())),
            event(&TurnEvent::Warning {
                message: untrusted("w"),
            }),
            result(&thread, &report, &completed_turn, Ok(Some(&changes)), Exit::Success),
            result(
                &thread,
                &report,
                &failed_turn,
                Err(&SessionError::ShuttingDown),
                Exit::TurnFailed,
            ),
            error(&Failure::new(Exit::Engine, "no engine")),
        ];
        insta::assert_snapshot!(lines.join("\n"));
        let document = include_str!("../../docs/api-reference.md");
        for line in lines {
            let value: Value = serde_json::from_str(&line).unwrap();
            let kind = value["type"].as_str().unwrap();
            let row = document.lines().find(|row| row.starts_with(&format!("| `{kind}` |")));
            let row = row.unwrap_or_else(|| panic!("no row for {kind}"));
            for field in value.as_object().unwrap().keys().filter(|field| *field != "type") {
                assert!(row.contains(&format!("`{field}`")), "{kind}: {field}");
            }
        }
    }

    #[test]
    fn text_is_whole_on_one_line_and_harmless_on_a_terminal() {
        let hostile = "a\nb\u{1b}[2J\u{9b}1m\u{202e}c\u{e0041}\u{7f}é";
        let line = event(&TurnEvent::Answer {
            text: untrusted(hostile),
        });
        assert!(
            line.chars()
                .all(|c| !c.is_control() && c != '\u{202e}' && c != '\u{e0041}'),
            "{line:?}"
        );
        let value: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(value["text"], hostile);
        assert!(line.contains('é'));
    }
}
