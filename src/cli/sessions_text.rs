//! What `sessions` prints. Pure.
//!
//! Names and texts in records and logs are clients', models' and commands' words: shown as one line each, without what could move a
//! cursor.

use crate::cli::table::columns;
use crate::config::quantity::Rounded;
use crate::plan::identity::SessionId;
use crate::session::store::Found;
use crate::session::store::record::Record;
use crate::session::upkeep::{Dry, Removed, Standing};
use crate::wire::untrusted::Untrusted;
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

fn details(record: &Record) -> Vec<String> {
    let thread = record.thread.as_ref().map_or("-", |thread| thread.id.as_str());
    let mut lines = vec![
        format!("thread     {thread}"),
        format!(
            "folder     {}",
            shown(&record.start.folder.path().to_string_lossy(), LINE)
        ),
        format!("asked by   {}", shown(&record.asked_by, CELL)),
        format!("created    {}", record.created),
        format!("changed    {}", record.changed),
        format!("turns      {}", record.turns),
        format!(
            "tokens     {} in, {} out",
            record.usage.input_tokens, record.usage.output_tokens
        ),
    ];
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

pub fn pruned(removed: &[Removed], dry: Dry, as_json: bool) -> String {
    if as_json {
        let sessions: Vec<Value> = removed
            .iter()
            .map(|one| json!({ "session": one.session.as_str(), "bytes": one.bytes, "why": one.why }))
            .collect();
        return format!("{:#}", json!({ "removed": sessions, "dryRun": dry == Dry::Run }));
    }
    if removed.is_empty() {
        return "nothing to remove".to_owned();
    }
    let word = match dry {
        Dry::Run => "would remove",
        Dry::DoIt => "removed",
    };
    let line = |one: &Removed| format!("{word} {} ({}; {})", one.session, Rounded(one.bytes), one.why.setting());
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
