//! What `audit` prints; pure. Stored text is as hostile as any file: it is stripped before it is shown.

use crate::audit::chain::{Anchor, Intact};
use crate::audit::files::{self, Life};
use crate::audit::reader::Line as StoredLine;
use crate::audit::record::Stored;
use crate::audit::verify::{Checked, Found, Report};
use crate::cli::style::{DIM, Line};
use crate::wire::untrusted::Untrusted;
use serde_json::Value;
use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::Path;

/// The longest line for a person, in characters.
const WIDE: usize = 400;

/// Which records are asked for.
#[derive(Debug)]
pub enum Wanted {
    All,
    /// Of these sessions.
    Of(BTreeSet<String>),
}

impl Wanted {
    fn has(&self, record: &Stored) -> bool {
        match self {
            Self::All => true,
            Self::Of(sessions) => record.session.as_ref().is_some_and(|id| sessions.contains(id)),
        }
    }
}

/// The session that a record has for a thread.
pub fn session_of_thread(line: &[u8], thread: &str) -> Option<String> {
    let record: Stored = serde_json::from_slice(line).ok()?;
    (record.thread.as_deref() == Some(thread))
        .then_some(record.session)
        .flatten()
}

/// A record as it is stored, where it is wanted. What is none is nobody's record and left out: JSON lines stay JSON lines.
pub fn stored(line: &StoredLine, wanted: &Wanted) -> Option<String> {
    let StoredLine::Whole(line) = line else { return None };
    let record: Stored = serde_json::from_slice(line).ok()?;
    // Well-formed JSON is UTF-8 and has no raw control characters but white space.
    wanted
        .has(&record)
        .then(|| String::from_utf8_lossy(line).trim().to_owned())
}

/// A record in one line, where it is wanted; or that there is a damaged one.
pub fn human(line: &StoredLine, place: &str, wanted: &Wanted) -> Option<String> {
    let damaged = |what: &str| matches!(wanted, Wanted::All).then(|| format!("(damaged) {place}: {what}"));
    let line = match line {
        StoredLine::Whole(line) => line,
        StoredLine::TooLong => return damaged("longer than any record"),
        StoredLine::Torn(bytes) => return damaged(&format!("{bytes} bytes of a record that was never finished")),
    };
    let Ok(record) = serde_json::from_slice::<Stored>(line) else {
        return damaged("no audit record");
    };
    wanted.has(&record).then(|| one_line(&record))
}

fn one_line(record: &Stored) -> String {
    let mut text = format!("{} {}", record.time, record.sequence);
    let turn = record.turn.map(|turn| format!("/{turn}")).unwrap_or_default();
    // Writing to a String can't fail.
    let _ = write!(
        text,
        " {}{turn} {}",
        record.session.as_deref().unwrap_or("-"),
        record.what
    );
    for (name, value) in &record.rest {
        field(&mut text, name, value);
    }
    for (name, value) in [("thread", &record.thread), ("request", &record.request)] {
        if let Some(value) = value {
            let _ = write!(text, " {name}={value}");
        }
    }
    Untrusted::new(text).one_line(WIDE)
}

/// `name=value`, with names of inner objects before a dot.
fn field(text: &mut String, name: &str, value: &Value) {
    let _ = match value {
        Value::Null => Ok(()),
        Value::Object(fields) => {
            for (inner, value) in fields {
                field(text, &format!("{name}.{inner}"), value);
            }
            Ok(())
        }
        Value::String(word) if is_plain(word) => write!(text, " {name}={word}"),
        value => write!(text, " {name}={value}"),
    };
}

/// Reads the same without quotes.
fn is_plain(word: &str) -> bool {
    let fits = |c: char| !c.is_whitespace() && !c.is_control() && c != '"' && c != '=';
    !word.is_empty() && word.chars().all(fits)
}

pub fn nothing(session: Option<&str>, directory: &Path) -> Vec<Line> {
    let what = match session {
        Some(id) => format!(
            "no record is of a session or thread {}",
            Untrusted::new(id).one_line(80)
        ),
        None => "nothing is recorded yet".to_owned(),
    };
    vec![Line::new(DIM, format!("{what} ({})", directory.display()))]
}

/// What `audit verify` found, chain by chain.
pub fn report(report: &Report, state_dir: &Path) -> String {
    let mut text = String::new();
    for checked in &report.chains {
        let _ = writeln!(text, "{}", chain(checked));
    }
    for anchor in &report.missing {
        let _ = writeln!(
            text,
            "{}: MISSING: an anchor is of this chain, and it is not there; `audit.keep` may have had it removed, which \
             a later chain records as `pruned`",
            anchor.chain
        );
    }
    if text.is_empty() {
        let directory = files::directory(state_dir);
        let _ = writeln!(text, "nothing is recorded yet ({})", directory.display());
    }
    text.truncate(text.trim_end().len());
    text
}

fn chain(checked: &Checked) -> String {
    let name = &checked.chain;
    match &checked.found {
        Found::Empty => format!("{name}: no records: its server ended before it wrote one"),
        Found::Broken { path, broken } => format!(
            "{name}: BROKEN at {}:{}: {}",
            path.display(),
            broken.at.line,
            broken.why
        ),
        Found::Intact { intact, torn } => {
            let anchor = Anchor {
                chain: name.clone(),
                tip: intact.tip,
            };
            let remarks = remarks(intact, *torn, checked.life);
            format!("{name}: {} records, intact{remarks}\n  anchor {anchor}", intact.records)
        }
    }
}

fn remarks(intact: &Intact, torn: Option<u64>, life: Life) -> String {
    let mut text = String::new();
    if intact.first > 1 {
        let _ = write!(
            text,
            "; {} before them are gone (records `pruned` of this and other chains say what audit.keep removed)",
            intact.first - 1
        );
    }
    if let Some(bytes) = torn {
        let _ = write!(text, "; a torn tail of {bytes} bytes: a record that was never finished");
    }
    text.push_str(match (life, intact.ended) {
        (Life::Live, _) => "; its server is running",
        (Life::Over, true) => "",
        (Life::Over, false) => "; its server did not end it: it was killed, or could not write any more",
    });
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::chain::{Broken, ChainId, Digest, Place, Tip, Why};

    fn line(what: &str) -> StoredLine {
        let prev = Digest::NOTHING;
        StoredLine::Whole(format!(r#"{{"sequence":7,"time":"T","prev":"{prev}",{what}}}"#).into_bytes())
    }

    #[test]
    fn a_record_is_one_line_without_what_a_terminal_would_obey() {
        let record = line(
            r#""what":"egress","session":"s1","turn":2,"thread":"t1","request":"9","verdict":"denied","target":"a.test:443","rule":"x\u001b[2J\n\u202ey","actor":{"kind":"mcp_client","name":"c d"}"#,
        );
        assert_eq!(
            human(&record, "p", &Wanted::All).unwrap(),
            r#"T 7 s1/2 egress actor.kind=mcp_client actor.name="c d" rule="x\u001b[2J\ny" target=a.test:443 verdict=denied thread=t1 request=9"#
        );
        let of = |id: &str| Wanted::Of(BTreeSet::from([id.to_owned()]));
        assert!(human(&record, "p", &of("s1")).is_some());
        assert_eq!(human(&record, "p", &of("s2")), None);
        let StoredLine::Whole(bytes) = &record else { panic!() };
        assert_eq!(session_of_thread(bytes, "t1").as_deref(), Some("s1"));
        assert_eq!(session_of_thread(bytes, "t2"), None);
    }

    #[test]
    fn what_is_damaged_is_shown_as_such() {
        for damaged in [
            StoredLine::Whole(b"\xff{".to_vec()),
            StoredLine::Whole(Vec::new()),
            StoredLine::TooLong,
            StoredLine::Torn(3),
        ] {
            let shown = human(&damaged, "C/000001.jsonl:4", &Wanted::All).unwrap();
            assert!(shown.starts_with("(damaged) C/000001.jsonl:4: "), "{shown}");
            assert_eq!(human(&damaged, "", &Wanted::Of(BTreeSet::new())), None);
            assert_eq!(stored(&damaged, &Wanted::All), None);
        }
    }

    #[test]
    fn a_report_names_what_is_wrong_and_the_anchors_of_what_is_not() {
        let chain = |byte| ChainId::new("2026-11-22T13:50:05Z", [byte; 6]);
        let tip = Tip {
            sequence: 9,
            hash: Digest::NOTHING,
        };
        let intact = |first, ended| Intact {
            records: 10 - first,
            first,
            tip,
            ended,
        };
        let of = |byte, life, found| Checked {
            chain: chain(byte),
            life,
            found,
        };
        let whole = |first, ended, torn| Found::Intact {
            intact: intact(first, ended),
            torn,
        };
        let broken = Found::Broken {
            path: "/s/audit/x/000001.jsonl".into(),
            broken: Broken {
                at: Place { file: 1, line: 3 },
                why: Why::Changed(3),
            },
        };
        let told = report(
            &Report {
                chains: vec![
                    of(1, Life::Over, whole(1, true, None)),
                    of(2, Life::Over, whole(4, false, Some(17))),
                    of(3, Life::Live, whole(1, false, None)),
                    of(4, Life::Over, Found::Empty),
                    of(5, Life::Over, broken),
                ],
                missing: vec![Anchor { chain: chain(6), tip }],
            },
            Path::new("/s"),
        );
        insta::assert_snapshot!(told);
        let none = Report {
            chains: Vec::new(),
            missing: Vec::new(),
        };
        assert_eq!(report(&none, Path::new("/s")), "nothing is recorded yet (/s/audit)");
    }
}
