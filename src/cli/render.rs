//! What `run` shows a person: events, the diff and the end, as lines. Pure.

use crate::cli::style::{ADDED, COMMAND, DIM, ERROR, GOOD, HEADING, HUNK, Line, PLAIN, REMOVED, WARNING};
use crate::codex::error::TurnError;
use crate::codex::event::{Decision, ItemStatus, TurnEvent, TurnOutcome, Usage};
use crate::config::WorkspaceMode;
use crate::egress::DeniedEgress;
use crate::plan::identity::SessionId;
use crate::plan::launch::Unenforced;
use crate::session::handle::LaunchReport;
use crate::session::turn::TurnReport;
use crate::wire::untrusted::Untrusted;
use crate::workspace::apply::Applied;
use crate::workspace::changes::Changes;

/// The longest line of commentary, in characters.
const WIDTH: usize = 200;
/// How many of the last lines of a command's output are shown.
const OUTPUT_LINES: usize = 8;
/// How many paths of a patch are named.
const PATHS: usize = 5;

/// What a launch came to.
pub fn launched(report: &LaunchReport) -> Vec<Line> {
    let workspace = report.workspace.path().display();
    let mut lines = vec![
        Line::new(
            DIM,
            format!(
                "session {} on {}{}, image {}, model {}",
                report.session,
                report.engine,
                if report.rootless { " (rootless)" } else { "" },
                report.image,
                report.model
            ),
        ),
        Line::new(
            DIM,
            match report.mode {
                WorkspaceMode::Snapshot => format!("workspace {workspace} (Codex works on a copy of it)"),
                WorkspaceMode::Bind => format!("workspace {workspace} (Codex works in it)"),
                WorkspaceMode::Scratch => "workspace: an empty folder".to_owned(),
            },
        ),
    ];
    lines.extend(report.notes.iter().map(|note| Line::new(WARNING, note.clone())));
    lines.extend(report.unenforced.iter().map(unenforced));
    let warnings = report.warnings.iter();
    lines.extend(warnings.map(|warning| Line::labelled(WARNING, "Codex warned", warning.clone())));
    lines
}

pub fn unenforced(missing: &Unenforced) -> Line {
    let Unenforced { limit, reason, remedy } = missing;
    Line::labelled(WARNING, "unenforced", format!("{}: {reason}. {remedy}", limit.as_str()))
}

/// Turns events into commentary. The model's last message is the result and goes elsewhere, and no event says that
/// it is the last one: so each is held back until something follows it.
#[derive(Debug, Default)]
pub struct Commentary {
    held: Option<Untrusted>,
}

impl Commentary {
    pub fn event(&mut self, event: &TurnEvent) -> Vec<Line> {
        let lines = match event {
            // Whole messages follow; a person who pipes stdout elsewhere would read half-sentences here.
            TurnEvent::Started | TurnEvent::AnswerDelta { .. } | TurnEvent::Usage(_) => return Vec::new(),
            TurnEvent::Answer { text } => {
                let earlier = self.held.replace(text.clone());
                return earlier.map(|text| message(&text)).unwrap_or_default();
            }
            TurnEvent::Reasoning { text } => vec![Line::new(DIM, text.one_line(WIDTH))],
            TurnEvent::CommandStarted { command } => {
                vec![Line::new(COMMAND, format!("$ {}", command.one_line(WIDTH)))]
            }
            TurnEvent::CommandCompleted {
                status,
                exit_code,
                output,
                ..
            } => command_completed(*status, *exit_code, output),
            TurnEvent::PatchCompleted { paths, status } => vec![patch_completed(paths, *status)],
            TurnEvent::Other { kind } => vec![Line::new(DIM, format!("({})", kind.one_line(WIDTH)))],
            TurnEvent::Retrying { message } => {
                vec![Line::labelled(WARNING, "Codex tries again", message.one_line(WIDTH))]
            }
            TurnEvent::ApprovalAnswered { subject, decision } => {
                let (style, word) = match decision {
                    Decision::Accepted => (GOOD, "approved"),
                    Decision::Declined => (WARNING, "declined"),
                };
                vec![Line::labelled(style, word, subject.one_line(WIDTH))]
            }
            TurnEvent::Warning { message } => vec![Line::labelled(WARNING, "warning", message.one_line(WIDTH))],
        };
        let mut all = self.held.take().map(|text| message(&text)).unwrap_or_default();
        all.extend(lines);
        all
    }

    /// What was held back and is not the result after all.
    pub fn finish(self, answer: &Untrusted) -> Vec<Line> {
        let unsaid = self.held.filter(|held| held != answer);
        unsaid.map(|text| message(&text)).unwrap_or_default()
    }
}

fn message(text: &Untrusted) -> Vec<Line> {
    text.to_string().lines().map(|line| Line::new(PLAIN, line)).collect()
}

fn command_completed(status: ItemStatus, exit_code: Option<i64>, output: &Untrusted) -> Vec<Line> {
    let output = output.to_string();
    let all: Vec<&str> = output.lines().collect();
    let skipped = all.len().saturating_sub(OUTPUT_LINES);
    let mut lines = Vec::new();
    if skipped > 0 {
        lines.push(Line::new(DIM, format!("  … {skipped} more lines")));
    }
    let shown = all
        .iter()
        .skip(skipped)
        .map(|line| Untrusted::new(*line).one_line(WIDTH));
    lines.extend(shown.map(|line| Line::new(DIM, format!("  {line}"))));
    lines.push(match (status, exit_code) {
        (ItemStatus::Completed, Some(0)) => Line::new(GOOD, "  done"),
        (ItemStatus::Declined, _) => Line::new(WARNING, "  declined"),
        (_, Some(code)) => Line::new(ERROR, format!("  exit code {code}")),
        (ItemStatus::Completed, None) => Line::new(DIM, "  ended without an exit code"),
        (ItemStatus::Failed, None) => Line::new(ERROR, "  failed"),
    });
    lines
}

fn patch_completed(paths: &[Untrusted], status: ItemStatus) -> Line {
    let mut names: Vec<String> = paths.iter().take(PATHS).map(|path| path.one_line(WIDTH)).collect();
    if paths.len() > PATHS {
        names.push(format!("and {} more", paths.len() - PATHS));
    }
    let names = names.join(", ");
    match status {
        ItemStatus::Completed => Line::labelled(GOOD, "patched", names),
        ItemStatus::Failed => Line::labelled(ERROR, "patch failed", names),
        ItemStatus::Declined => Line::labelled(WARNING, "patch declined", names),
    }
}

/// Turns before this one that never came to an end, and what was killed in this one.
pub fn notes(turn: &TurnReport) -> Vec<Line> {
    let before = turn.interrupted_before.iter().map(ToString::to_string);
    let line = |text: String| Line::labelled(WARNING, "note", Untrusted::new(text).one_line(4 * WIDTH));
    before.chain(turn.memory_ended.clone()).map(line).collect()
}

/// How the turn ended, where that is worth a word, and what it used.
pub fn ended(outcome: &TurnOutcome, usage: Usage) -> Vec<Line> {
    let mut lines = match outcome {
        TurnOutcome::Completed => Vec::new(),
        TurnOutcome::Interrupted => vec![Line::new(WARNING, "interrupted")],
        TurnOutcome::Failed(error) => vec![Line::labelled(ERROR, "the turn failed", failure(error))],
    };
    if usage != Usage::default() {
        let Usage {
            input_tokens,
            cached_input_tokens,
            output_tokens,
            ..
        } = usage;
        let text = format!("tokens: {input_tokens} in ({cached_input_tokens} cached), {output_tokens} out");
        lines.push(Line::new(DIM, text));
    }
    lines
}

/// Connections that were refused, and what would allow them.
pub fn denied(denied: &[DeniedEgress]) -> Vec<Line> {
    denied
        .iter()
        .flat_map(|denied| {
            let times = match denied.count {
                1 => String::new(),
                many => format!(" ({many} times)"),
            };
            let (rule, remedy) = (Untrusted::new(&denied.rule), Untrusted::new(&denied.how_to_allow));
            [
                Line::labelled(
                    WARNING,
                    "refused",
                    format!("{}{times}: {}", denied.destination(), rule.one_line(2 * WIDTH)),
                ),
                Line::new(DIM, format!("  {}", remedy.one_line(2 * WIDTH))),
            ]
        })
        .collect()
}

/// Why a turn failed and what mends it, for a person.
pub fn failure(error: &TurnError) -> String {
    let message = error.message.one_line(4 * WIDTH);
    match error.remedy() {
        Some(remedy) => format!("{message} ({remedy})"),
        None => message,
    }
}

/// The diff, what it comes to, and what is not in it.
pub fn changes(changes: &Changes, applied: Option<&Result<Applied, String>>, session: &SessionId) -> Vec<Line> {
    let mut withheld: Vec<Line> = changes
        .withheld
        .iter()
        .take(MOST_WITHHELD)
        .map(|file| {
            let path = file.path.one_line(200);
            Line::new(WARNING, format!("not brought back: {path}: {}", file.reason))
        })
        .collect();
    let more = changes.withheld.len().saturating_sub(MOST_WITHHELD) as u64 + changes.withheld_more;
    if more > 0 {
        withheld.push(Line::new(WARNING, format!("not brought back: {more} more")));
    }
    if changes.files.is_empty() {
        withheld.push(Line::new(DIM, "no files changed"));
        return withheld;
    }
    let patch = changes.patch.to_string();
    let mut lines: Vec<Line> = patch.lines().map(|line| Line::new(diff_style(line), line)).collect();
    let files = changes.files.len();
    let plural = if files == 1 { "file" } else { "files" };
    let (insertions, deletions) = (changes.insertions, changes.deletions);
    lines.push(Line::new(
        HEADING,
        format!("{files} {plural} changed, {insertions} insertions(+), {deletions} deletions(-)"),
    ));
    lines.extend(withheld);
    let by_hand = format!("codex-mcp sessions apply {session}");
    lines.push(match applied {
        None => Line::new(
            DIM,
            format!("The changes are in the session's copy. To bring them to your folder: {by_hand}"),
        ),
        Some(Ok(applied)) if applied.held.is_empty() => Line::new(GOOD, "brought to your folder"),
        Some(Ok(applied)) => Line::new(
            WARNING,
            format!(
                "brought to your folder, but for {} that run by themselves there: {by_hand}",
                applied.held.len()
            ),
        ),
        Some(Err(refused)) => Line::labelled(WARNING, "not brought to your folder", refused.as_str()),
    });
    lines
}

/// The most files that are not brought back and named.
const MOST_WITHHELD: usize = 10;

fn diff_style(line: &str) -> anstyle::Style {
    // File headers come before what looks like an added or removed line.
    match line.as_bytes() {
        [b'+', b'+', b'+', b' ', ..] | [b'-', b'-', b'-', b' ', ..] | [b'd', b'i', b'f', b'f', ..] => HEADING,
        [b'@', b'@', ..] => HUNK,
        [b'+', ..] => ADDED,
        [b'-', ..] => REMOVED,
        _ => PLAIN,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codex::error::TurnErrorKind;
    use crate::plan::identity::SessionId;
    use crate::plan::launch::LimitName;
    use crate::session::store::path_text::PathText;
    use crate::workspace::changes::{ChangeKind, FileChange};
    use std::path::Path;

    fn text(lines: &[Line]) -> String {
        let styled: String = lines.iter().map(|line| format!("{line}\n")).collect();
        anstream::adapter::strip_str(&styled).to_string()
    }

    fn untrusted(text: &str) -> Untrusted {
        Untrusted::new(text)
    }

    #[test]
    fn a_turn_as_a_person_sees_it() {
        let output: String = (1..=10).map(|n| format!("line {n}\n")).collect();
        let events = [
            TurnEvent::Started,
            TurnEvent::Reasoning {
                text: untrusted("look at\nthe test"),
            },
            TurnEvent::AnswerDelta {
                text: untrusted("I will"),
            },
            TurnEvent::Answer {
                text: untrusted("I will run the tests."),
            },
            TurnEvent::CommandStarted {
                command: untrusted("cargo test"),
            },
            TurnEvent::CommandCompleted {
                command: untrusted("cargo test"),
                status: ItemStatus::Failed,
                exit_code: Some(101),
                output: untrusted(&output),
            },
            TurnEvent::PatchCompleted {
                paths: ["a", "b", "c", "d", "e", "f", "g"].map(untrusted).into(),
                status: ItemStatus::Completed,
            },
            TurnEvent::CommandStarted {
                command: untrusted("cargo test"),
            },
            TurnEvent::CommandCompleted {
                command: untrusted("cargo test"),
                status: ItemStatus::Completed,
                exit_code: Some(0),
                output: untrusted("ok\n"),
            },
            TurnEvent::Retrying {
                message: untrusted("stream disconnected"),
            },
            TurnEvent::ApprovalAnswered {
                subject: untrusted("rm -rf /"),
                decision: Decision::Declined,
            },
            TurnEvent::Other {
                kind: untrusted("plan"),
            },
            TurnEvent::Warning {
                message: untrusted("unknown model"),
            },
            TurnEvent::Answer {
                text: untrusted("Fixed."),
            },
        ];
        let mut commentary = Commentary::default();
        let mut lines: Vec<Line> = events.iter().flat_map(|event| commentary.event(event)).collect();
        lines.extend(commentary.finish(&untrusted("Fixed.")));
        insta::assert_snapshot!(text(&lines), @r"
        look at the test
        I will run the tests.
        $ cargo test
          … 2 more lines
          line 3
          line 4
          line 5
          line 6
          line 7
          line 8
          line 9
          line 10
          exit code 101
        patched: a, b, c, d, e, and 2 more
        $ cargo test
          ok
          done
        Codex tries again: stream disconnected
        declined: rm -rf /
        (plan)
        warning: unknown model
        ");
    }

    #[test]
    fn a_failed_turn_says_what_mends_it() {
        let failed = |kind| {
            let message = untrusted("the turn took too long");
            let outcome = TurnOutcome::Failed(TurnError { kind, message });
            text(&ended(&outcome, Usage::default()))
        };
        insta::assert_snapshot!(
            failed(TurnErrorKind::TimedOut),
            @"the turn failed: the turn took too long (reply to the thread to go on, give it smaller tasks, or raise `limits.turn`)"
        );
        insta::assert_snapshot!(failed(TurnErrorKind::Other), @"the turn failed: the turn took too long");
    }

    #[test]
    fn a_message_that_is_not_the_answer_is_said_after_all() {
        let mut commentary = Commentary::default();
        assert!(
            commentary
                .event(&TurnEvent::Answer {
                    text: untrusted("half")
                })
                .is_empty()
        );
        assert_eq!(text(&commentary.finish(&Untrusted::default())), "half\n");
    }

    #[test]
    fn nothing_from_the_container_reaches_the_terminal_raw() {
        let hostile = untrusted("a\u{1b}]0;owned\u{7}b\u{202e}c\u{9b}2J");
        let events = [
            TurnEvent::Answer { text: hostile.clone() },
            TurnEvent::Reasoning { text: hostile.clone() },
            TurnEvent::CommandStarted {
                command: hostile.clone(),
            },
            TurnEvent::CommandCompleted {
                command: hostile.clone(),
                status: ItemStatus::Completed,
                exit_code: None,
                output: hostile.clone(),
            },
            TurnEvent::PatchCompleted {
                paths: vec![hostile.clone()],
                status: ItemStatus::Failed,
            },
            TurnEvent::Other { kind: hostile.clone() },
            TurnEvent::Retrying {
                message: hostile.clone(),
            },
            TurnEvent::ApprovalAnswered {
                subject: hostile.clone(),
                decision: Decision::Accepted,
            },
            TurnEvent::Warning {
                message: hostile.clone(),
            },
        ];
        let mut commentary = Commentary::default();
        let mut lines: Vec<Line> = events.iter().flat_map(|event| commentary.event(event)).collect();
        let error = TurnError {
            kind: TurnErrorKind::Other,
            message: hostile.clone(),
        };
        lines.extend(ended(&TurnOutcome::Failed(error), Usage::default()));
        let hostile_changes = Changes {
            files: vec![FileChange::of(hostile.as_str(), ChangeKind::Added)],
            patch: hostile,
            ..Changes::none()
        };
        lines.extend(changes(&hostile_changes, None, &session()));
        for line in &lines {
            let shown = text(std::slice::from_ref(line));
            let raw = line.to_string();
            assert!(!shown.contains(['\u{202e}', '\u{9b}', '\u{7}']), "{shown:?}");
            // Every escape that is left is one of our styles.
            assert!(
                raw.split('\u{1b}')
                    .skip(1)
                    .all(|part| part.starts_with('[') && part.contains('m')),
                "{raw:?}"
            );
        }
    }

    fn session() -> SessionId {
        SessionId::from_random([7; 10])
    }

    #[test]
    fn the_diff_is_coloured_and_summed_up() {
        let patch = "diff --git a/x b/x\n--- a/x\n+++ b/x\n@@ -1 +1,2 @@\n-old\n+new\n+two\n same\n";
        let changed = Changes {
            files: vec![FileChange::of("x", ChangeKind::Modified)],
            insertions: 2,
            deletions: 1,
            patch: untrusted(patch),
            ..Changes::none()
        };
        let lines = changes(&changed, None, &session());
        let styled: Vec<String> = lines.iter().map(|line| format!("{:?}", line.to_string())).collect();
        insta::assert_snapshot!(styled.join("\n"), @r#"
        "\u{1b}[1mdiff --git a/x b/x\u{1b}[0m"
        "\u{1b}[1m--- a/x\u{1b}[0m"
        "\u{1b}[1m+++ b/x\u{1b}[0m"
        "\u{1b}[36m@@ -1 +1,2 @@\u{1b}[0m"
        "\u{1b}[31m-old\u{1b}[0m"
        "\u{1b}[32m+new\u{1b}[0m"
        "\u{1b}[32m+two\u{1b}[0m"
        " same"
        "\u{1b}[1m1 file changed, 2 insertions(+), 1 deletions(-)\u{1b}[0m"
        "\u{1b}[2mThe changes are in the session's copy. To bring them to your folder: codex-mcp sessions apply 07070707070707070707\u{1b}[0m"
        "#);
        assert_eq!(text(&changes(&Changes::none(), None, &session())), "no files changed\n");
    }

    #[test]
    fn a_launch_says_what_is_not_enforced() {
        let report = LaunchReport {
            session: SessionId::from_random([0; 10]),
            engine: "podman 4.3.1".into(),
            rootless: true,
            image: "localhost/codex-mcp:0.169.0".into(),
            model: "gpt-5.5".into(),
            limits: Vec::new(),
            warnings: Vec::new(),
            notes: Vec::new(),
            workspace: PathText::of(Path::new("/home/u/project")),
            mode: WorkspaceMode::Snapshot,
            unenforced: vec![Unenforced {
                limit: LimitName::Memory,
                reason: "the memory controller is not delegated to this user".into(),
                remedy: "Delegate it, or run as root".into(),
            }],
        };
        insta::assert_snapshot!(text(&launched(&report)), @r"
        session 00000000000000000000 on podman 4.3.1 (rootless), image localhost/codex-mcp:0.169.0, model gpt-5.5
        workspace /home/u/project (Codex works on a copy of it)
        unenforced: memory: the memory controller is not delegated to this user. Delegate it, or run as root
        ");
        let said = |mode| text(&launched(&LaunchReport { mode, ..report.clone() }));
        assert!(said(WorkspaceMode::Bind).contains("workspace /home/u/project (Codex works in it)\n"));
        assert!(said(WorkspaceMode::Scratch).contains("workspace: an empty folder\n"));
    }

    #[test]
    fn refused_connections_are_shown_with_what_would_allow_them() {
        let refused = |host: &str, port, count| DeniedEgress {
            host: host.into(),
            port,
            count,
            rule: "no rule of network.allow or network.from covers that host".into(),
            how_to_allow: "the operator can add \u{1b}[2J it".into(),
        };
        let lines = denied(&[refused("a.example", 443, 1), refused("::2", 80, 7), refused("", 0, 1)]);
        insta::assert_snapshot!(text(&lines), @r"
        refused: a.example:443: no rule of network.allow or network.from covers that host
          the operator can add [2J it
        refused: [::2]:80 (7 times): no rule of network.allow or network.from covers that host
          the operator can add [2J it
        refused: no host: no rule of network.allow or network.from covers that host
          the operator can add [2J it
        ");
        assert!(denied(&[]).is_empty());
    }

    #[test]
    fn an_end_other_than_asked_is_said() {
        let usage = Usage {
            input_tokens: 1200,
            cached_input_tokens: 1000,
            output_tokens: 34,
            ..Usage::default()
        };
        assert_eq!(
            text(&ended(&TurnOutcome::Interrupted, usage)),
            "interrupted\ntokens: 1200 in (1000 cached), 34 out\n"
        );
        assert!(ended(&TurnOutcome::Completed, Usage::default()).is_empty());
    }
}
