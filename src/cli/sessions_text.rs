//! What `sessions` prints. Pure.
//!
//! Names and texts in records and logs are clients', models' and commands' words: shown as one line each, without what could move a
//! cursor.

use crate::cli::table::columns;
use crate::config::quantity::Rounded;
use crate::plan::identity::SessionId;
use crate::session::bring_back::BroughtBack;
use crate::session::store::Found;
use crate::session::store::record::{Record, RecordedUse};
use crate::session::upkeep::{Doing, Removed, Standing};
use crate::wire::untrusted::Untrusted;
use crate::workspace::apply::{Effect, Listed, Written};
use crate::workspace::changes::{ChangeKind, Changes};
use serde_json::{Value, json};

/// The longest that one cell of text is.
const CELL: usize = 60;
/// The longest line of a log for people.
const LINE: usize = 400;

fn shown(text: &str, limit: usize) -> String {
    Untrusted::new(text).one_line(limit)
}

pub fn table(found: &[Found]) -> String {
    if found.is_empty() {
        return "no sessions".to_owned();
    }
    let heading = ["SESSION", "STATE", "TURNS", "CHANGED", "FOLDER", "THREAD"].map(str::to_owned);
    let rows: Vec<_> = std::iter::once(heading).chain(found.iter().map(row)).collect();
    columns(&rows)
}

fn row(found: &Found) -> [String; 6] {
    let standing = Standing::of(found).word().to_owned();
    let session = found.session.to_string();
    match &found.record {
        Ok(record) => [
            session,
            standing,
            record.turns.to_string(),
            record.changed.to_string(),
            shown(&record.start.folder.path().to_string_lossy(), CELL),
            record
                .thread
                .as_ref()
                .map_or("-".to_owned(), |thread| thread.id.to_string()),
        ],
        Err(flaw) => [
            session,
            standing,
            "-".to_owned(),
            "-".to_owned(),
            shown(&flaw.to_string(), CELL),
            "-".to_owned(),
        ],
    }
}

pub fn list_json(found: &[Found]) -> String {
    let sessions: Vec<Value> = found.iter().map(value).collect();
    format!("{:#}", json!(sessions))
}

pub fn show_json(found: &Found) -> String {
    format!("{:#}", value(found))
}

/// The shape is spelled out here, so that a change of what is stored can't change what scripts read.
fn value(found: &Found) -> Value {
    let standing = Standing::of(found).word();
    let record = match &found.record {
        Ok(record) => record,
        Err(flaw) => {
            return json!({ "session": found.session.as_str(), "state": standing, "error": flaw.to_string() });
        }
    };
    json!({
        "session": found.session.as_str(),
        "thread": record.thread.as_ref().map(|thread| thread.id.as_str()),
        "state": standing,
        "folder": record.start.folder.path().to_string_lossy(),
        "access": record.start.access,
        "askedBy": record.asked_by,
        "owner": record.owner,
        "created": record.created.to_string(),
        "changed": record.changed.to_string(),
        "turns": record.turns,
        "losses": record.losses,
        "usage": record.usage,
        "end": record.end().map(|end| json!({
            "at": end.at.to_string(),
            "cause": end.cause,
            "why": end.why,
            "interruptedTurn": end.turn,
        })),
        "used": record.used,
        "launch": record.launch.as_ref().map(|launch| json!({
            "engine": launch.engine,
            "rootless": launch.rootless,
            "image": launch.image,
            "model": launch.model,
            "limits": launch.limits,
            "unenforced": launch.unenforced,
        })),
    })
}

pub fn show(found: &Found) -> String {
    let mut lines = vec![
        format!("session    {}", found.session),
        format!("state      {}", Standing::of(found).word()),
    ];
    match &found.record {
        Ok(record) => lines.extend(details(record)),
        Err(flaw) => lines.push(format!("error      {flaw}")),
    }
    lines.push(format!("files      {}", found.path.display()));
    lines.join("\n")
}

/// `None` where nobody measured anything.
fn used(used: &RecordedUse) -> Option<String> {
    let parts = [
        used.memory_peak
            .map(|bytes| format!("{} of memory at most", Rounded(bytes))),
        used.pids_peak.map(|most| format!("{most} processes at most")),
        used.cpu_micros
            .map(|micros| format!("{:.1} s of processor time", micros as f64 / 1e6)),
        used.disk_bytes.map(|bytes| format!("{} on disk", Rounded(bytes))),
        (used.memory_kills > 0).then(|| format!("{} killed for memory", used.memory_kills)),
    ];
    let parts: Vec<String> = parts.into_iter().flatten().collect();
    (!parts.is_empty()).then(|| format!("used       {}", parts.join(", ")))
}

fn details(record: &Record) -> Vec<String> {
    let thread = record.thread.as_ref().map_or("-", |thread| thread.id.as_str());
    let mut lines = vec![
        format!("thread     {thread}"),
        format!(
            "folder     {}",
            shown(&record.start.folder.path().to_string_lossy(), LINE)
        ),
        match &record.owner {
            None => format!("asked by   {}", shown(&record.asked_by, CELL)),
            Some(owner) => format!("asked by   {} with the token {owner}", shown(&record.asked_by, CELL)),
        },
        format!("created    {}", record.created),
        format!("changed    {}", record.changed),
        format!("turns      {}", record.turns),
        format!(
            "tokens     {} in, {} out",
            record.usage.input_tokens, record.usage.output_tokens
        ),
    ];
    lines.extend(record.used.as_ref().and_then(used));
    if let Some(end) = record.end() {
        lines.push(format!("ended      {}: {}", end.at, shown(&end.why, LINE)));
        lines.extend(end.turn.map(|turn| format!("           turn {turn} was interrupted")));
    }
    if record.losses > 0 {
        lines.push(format!("losses     {} in a row", record.losses));
    }
    if let Some(launch) = &record.launch {
        lines.push(format!("engine     {}", shown(&launch.engine, CELL)));
        lines.push(format!("image      {}", shown(&launch.image, LINE)));
        lines.push(format!("model      {}", shown(&launch.model, CELL)));
        lines.extend(
            launch
                .unenforced
                .iter()
                .map(|limit| format!("unenforced {}: {}", limit.limit, limit.reason)),
        );
    }
    lines
}

/// `12:00:03 turn 1 command_completed: …`
pub fn log_line(line: &Value) -> String {
    let text = |key: &str| line[key].as_str().unwrap_or_default();
    let turn = line["turn"]
        .as_u64()
        .map_or(String::new(), |turn| format!(" turn {turn}"));
    let details: Vec<String> = line
        .as_object()
        .into_iter()
        .flatten()
        .filter(|(key, value)| !matches!(key.as_str(), "at" | "turn" | "type") && !value.is_null())
        .map(|(key, value)| match value {
            Value::String(text) => format!("{key}={text}"),
            other => format!("{key}={other}"),
        })
        .collect();
    shown(
        &format!("{}{turn} {}: {}", text("at"), text("type"), details.join(" ")),
        LINE,
    )
}

/// One changed file a line, as `git diff --stat` counts them.
pub fn stat(changes: &Changes) -> String {
    let lines = |count: Option<u64>| count.map_or("-".to_owned(), |count| count.to_string());
    let rows: Vec<[String; 4]> = changes
        .files
        .iter()
        .map(|file| {
            let kind = match file.kind {
                ChangeKind::Added => "added",
                ChangeKind::Modified => "modified",
                ChangeKind::Deleted => "deleted",
                ChangeKind::Renamed => "renamed",
            };
            let from = file.renamed_from.as_ref();
            let from = from.map_or(String::new(), |from| format!(" (was {})", from.one_line(LINE)));
            [
                kind.to_owned(),
                format!("+{}", lines(file.insertions)),
                format!("-{}", lines(file.deletions)),
                format!("{}{from}", file.path.one_line(LINE)),
            ]
        })
        .collect();
    let mut text = match rows.is_empty() {
        true => "no files changed".to_owned(),
        false => columns(&rows),
    };
    for file in &changes.withheld {
        text.push_str(&format!(
            "\nnot brought back: {}: {}",
            file.path.one_line(LINE),
            file.reason
        ));
    }
    if changes.ignored > 0 {
        let ignored = changes.ignored;
        text.push_str(&format!(
            "\nnot part of the changes: {ignored} that its own .gitignore files ignore"
        ));
    }
    if changes.withheld_more > 0 {
        text.push_str(&format!("\nnot brought back: {} more", changes.withheld_more));
    }
    text
}

pub fn changes_json(changes: &Changes) -> String {
    format!("{:#}", json!(changes))
}

pub fn brought_back(brought: &BroughtBack, as_json: bool) -> String {
    match (brought, as_json) {
        (BroughtBack::Preview(preview), true) => format!("{:#}", json!(preview)),
        (BroughtBack::Applied(applied), true) => format!("{:#}", json!(applied)),
        (BroughtBack::Preview(preview), false) => {
            let mut lines: Vec<String> = preview
                .would_write
                .iter()
                .map(|file| written("would be", file))
                .collect();
            lines.extend(preview.conflicts.iter().map(|one| listed("conflict", one)));
            lines.extend(preview.refused.iter().map(|one| listed("never comes back", one)));
            lines.extend(
                preview
                    .runs_by_itself
                    .iter()
                    .map(|one| listed("runs by itself on the host", one)),
            );
            said(&lines, "nothing would be written")
        }
        (BroughtBack::Applied(applied), false) => {
            let mut lines: Vec<String> = applied.files.iter().map(|file| written("was", file)).collect();
            lines.extend(applied.held.iter().map(|one| listed("held back", one)));
            lines.extend(applied.left.iter().map(|one| listed("left as you have it", one)));
            lines.extend(
                applied
                    .runs_by_itself
                    .iter()
                    .map(|one| listed("runs by itself on the host", one)),
            );
            said(&lines, "nothing to write: the folder has all of it")
        }
    }
}

fn said(lines: &[String], otherwise: &str) -> String {
    match lines.is_empty() {
        true => otherwise.to_owned(),
        false => lines.join("\n"),
    }
}

fn written(tense: &str, file: &Written) -> String {
    let effect = match file.effect {
        Effect::Added => "added",
        Effect::Modified => "modified",
        Effect::Deleted => "deleted",
    };
    format!("{}: {tense} {effect}", file.path.one_line(LINE))
}

fn listed(what: &str, one: &Listed) -> String {
    format!("{}: {what}: {}", one.path.one_line(LINE), one.reason)
}

pub fn stopped(stopped: bool, as_json: bool) -> String {
    match (as_json, stopped) {
        (true, stopped) => json!({ "stopped": stopped }).to_string(),
        (false, true) => "stopped".to_owned(),
        (false, false) => "it has no container".to_owned(),
    }
}

pub fn removed(sessions: &[SessionId], as_json: bool) -> String {
    let ids: Vec<&str> = sessions.iter().map(SessionId::as_str).collect();
    match as_json {
        true => json!({ "removed": ids }).to_string(),
        false => ids
            .iter()
            .map(|id| format!("removed {id}"))
            .collect::<Vec<_>>()
            .join("\n"),
    }
}

pub fn pruned(removed: &[Removed], doing: Doing, as_json: bool) -> String {
    if as_json {
        let sessions: Vec<Value> = removed
            .iter()
            .map(|one| json!({ "session": one.session.as_str(), "bytes": one.bytes, "why": one.why }))
            .collect();
        return format!(
            "{:#}",
            json!({ "removed": sessions, "dryRun": doing == Doing::Preview })
        );
    }
    if removed.is_empty() {
        return "nothing to remove".to_owned();
    }
    let word = match doing {
        Doing::Preview => "would remove",
        Doing::Really => "removed",
    };
    let line = |one: &Removed| format!("{word} {} ({}; {})", one.session, Rounded(one.bytes), one.why.because());
    removed.iter().map(line).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::error::EndReason;
    use crate::session::parking;
    use crate::session::store::fixtures::record;
    use crate::session::store::hold::Holder;
    use crate::session::store::record::{Moment, RecordFlaw};
    use std::time::Duration;

    fn found(byte: u8, holder: Holder) -> Found {
        let mut record = record(byte);
        record.turns = 3;
        if holder == Holder::Nobody {
            let limit = Duration::from_secs(1800);
            parking::ended(&mut record, &EndReason::Idle { limit }, None, 3, Moment(1_795_360_000));
        }
        Found {
            session: record.session.clone(),
            path: "/state/sessions/x".into(),
            record: Ok(record),
            holder,
        }
    }

    #[test]
    fn people_see_a_table_and_scripts_a_list() {
        let mut damaged = found(3, Holder::Nobody);
        damaged.record = Err(RecordFlaw::Damaged("x".to_owned()));
        let all = [found(1, Holder::Process(None)), found(2, Holder::Nobody), damaged];
        insta::assert_snapshot!("table", table(&all));
        insta::assert_snapshot!("list_json", list_json(&all));
        insta::assert_snapshot!("show", show(&all[1]));
    }

    #[test]
    fn a_line_of_the_log_is_one_line_whatever_is_in_it() {
        let line = json!({"at": "T", "turn": 2, "type": "prompt", "text": "a\nb\u{1b}[2J"});
        assert_eq!(log_line(&line), "T turn 2 prompt: text=a b[2J");
    }
}
