use super::*;
use proptest::prelude::*;
use serde_json::json;

/// A whole chain in one file: a beginning, `more` records, no end.
fn chain(more: usize) -> Vec<Vec<u8>> {
    let mut chain = Chain::EMPTY;
    let mut lines = Vec::new();
    for nth in 0..=more {
        let entry = match nth {
            0 => json!({"what": "server_started", "pid": 1}),
            nth => json!({"what": "egress", "target": format!("host-{nth}.test:443"), "verdict": "denied"}),
        };
        let (mut line, next) = chain.link("2026-11-22T13:50:05.000Z", &entry).unwrap();
        assert_eq!(line.pop(), Some(b'\n'));
        lines.push(line);
        chain = next;
    }
    lines
}

fn tip(lines: &[Vec<u8>]) -> Tip {
    Tip {
        sequence: lines.len() as u64,
        hash: Digest::of(lines.last().unwrap()),
    }
}

fn verify(lines: &[Vec<u8>], anchors: Vec<Tip>) -> Result<Option<Intact>, Broken> {
    verify_from(1, lines, anchors)
}

fn verify_from(file: u64, lines: &[Vec<u8>], anchors: Vec<Tip>) -> Result<Option<Intact>, Broken> {
    let mut verifier = Verifier::new(anchors);
    for (at, line) in (1..).zip(lines) {
        verifier.line(Place { file, line: at }, line)?;
    }
    verifier.finish()
}

#[track_caller]
fn broken(lines: &[Vec<u8>], anchors: Vec<Tip>) -> (u64, Why) {
    let broken = verify(lines, anchors).unwrap_err();
    (broken.at.line, broken.why)
}

fn replaced(line: &[u8], from: &str, to: &str) -> Vec<u8> {
    let text = String::from_utf8(line.to_vec()).unwrap();
    assert!(text.contains(from), "{text}");
    text.replace(from, to).into_bytes()
}

#[test]
fn a_line_says_its_number_its_time_and_the_hash_of_the_one_before() {
    let lines = chain(1);
    let first = String::from_utf8(lines[0].clone()).unwrap();
    assert_eq!(
        first,
        format!(
            r#"{{"sequence":1,"time":"2026-11-22T13:50:05.000Z","prev":"{}","pid":1,"what":"server_started"}}"#,
            "0".repeat(64)
        )
    );
    let second: Value = serde_json::from_slice(&lines[1]).unwrap();
    assert_eq!(second["prev"], Digest::of(first.as_bytes()).to_string());
}

#[test]
fn an_untouched_chain_is_intact_and_names_its_tip() {
    let lines = chain(4);
    let intact = verify(&lines, vec![tip(&lines), tip(&lines[..2])]).unwrap().unwrap();
    assert_eq!(
        intact,
        Intact {
            records: 5,
            first: 1,
            tip: tip(&lines),
            ended: false
        }
    );
    assert_eq!(verify(&[], vec![]).unwrap(), None);
}

#[test]
fn an_edited_record_is_named_and_not_the_one_after_it() {
    let mut lines = chain(4);
    lines[2] = replaced(&lines[2], "host-2", "host-9");
    assert_eq!(broken(&lines, vec![]), (3, Why::Changed(3)));
    // Of the last two nobody knows, but whoever has an anchor does.
    let whole = chain(4);
    let mut lines = whole.clone();
    lines[3] = replaced(&lines[3], "host-3", "host-9");
    assert_eq!(broken(&lines, vec![]), (4, Why::ChangedOrNext(4)));
    assert_eq!(broken(&lines, vec![tip(&whole)]), (4, Why::Changed(4)));
}

#[test]
fn an_edited_link_is_named_where_it_stands() {
    let whole = chain(4);
    for at in [2, 4] {
        let mut lines = whole.clone();
        let prev = Digest::of(&whole[at - 1]).to_string();
        lines[at] = replaced(&lines[at], &prev, &"0".repeat(64));
        let line = at as u64 + 1;
        assert_eq!(broken(&lines, vec![tip(&whole)]), (line, Why::Changed(line)));
    }
}

#[test]
fn a_tail_that_is_gone_is_found_by_an_anchor() {
    let whole = chain(4);
    assert!(
        verify(&whole[..3], vec![]).is_ok(),
        "without one there is nothing to see"
    );
    assert_eq!(broken(&whole[..3], vec![tip(&whole)]), (3, Why::CutOff(5)));
    assert_eq!(broken(&[], vec![tip(&whole)]), (1, Why::CutOff(5)));
    // Everything from the fourth on written anew, with links that fit.
    let mut forged = chain(4);
    forged.truncate(3);
    let mut end = Chain { tip: tip(&forged) };
    for _ in 0..2 {
        let (mut line, next) = end.link("", &json!({"what": "egress"})).unwrap();
        line.pop();
        forged.push(line);
        end = next;
    }
    assert!(verify(&forged, vec![]).is_ok());
    assert_eq!(broken(&forged, vec![tip(&whole)]), (5, Why::Changed(5)));
}

#[test]
fn a_beginning_that_is_gone_is_found() {
    let lines = chain(3);
    assert_eq!(broken(&lines[1..], vec![]), (1, Why::NoBeginning));
    // A further file begins by saying which it is, so that what was pruned is told from what was cut.
    let begin = Chain { tip: tip(&lines) };
    let (mut line, end) = begin.link("", &json!({"what": "continued", "file": 7})).unwrap();
    line.pop();
    let (mut next, _) = end.link("", &json!({"what": "egress"})).unwrap();
    next.pop();
    let kept = [line, next];
    assert_eq!(verify_from(7, &kept, vec![]).unwrap().unwrap().first, 5);
    let removed = verify_from(7, &kept, vec![tip(&lines)]).unwrap_err();
    assert_eq!(removed.why, Why::Removed(4));
    for (file, lines) in [(7, &kept[1..]), (8, &kept[..])] {
        let broken = verify_from(file, lines, vec![]).unwrap_err();
        assert_eq!(broken.why, Why::NotContinued(file));
    }
}

#[test]
fn an_anchor_that_contradicts_counts_beside_one_that_agrees() {
    let lines = chain(2);
    let good = tip(&lines);
    let other = Tip {
        hash: Digest::of(b"another record"),
        ..good
    };
    assert!(verify(&lines, vec![good, good]).is_ok());
    for anchors in [vec![good, other], vec![other, good]] {
        assert!(verify(&lines, anchors).is_err());
    }
}

#[test]
fn nothing_follows_the_end() {
    let mut lines = chain(1);
    let mut end = Chain { tip: tip(&lines) };
    for what in ["server_ended", "egress"] {
        let (mut line, next) = end.link("", &json!({ "what": what })).unwrap();
        line.pop();
        lines.push(line);
        end = next;
    }
    assert!(verify(&lines[..3], vec![]).unwrap().unwrap().ended);
    assert_eq!(broken(&lines, vec![]), (4, Why::AfterEnd));
}

#[test]
fn anchors_are_read_as_they_are_printed() {
    let anchor = Anchor {
        chain: ChainId::new("2026-11-22T13:50:05Z", [0xab; 6]),
        tip: Tip {
            sequence: 7,
            hash: Digest::of(b"x"),
        },
    };
    let text = anchor.to_string();
    assert!(text.starts_with("20261122T135005Z-abababababab:7:2d711642"), "{text}");
    assert_eq!(text.parse(), Ok(anchor));
    for wrong in [
        "",
        "a:1:b",
        "../x:1:b",
        &text[1..],
        &format!("{text}:"),
        &text[..text.len() - 1],
    ] {
        assert_eq!(wrong.parse::<Anchor>(), Err(NotAnAnchor), "{wrong}");
    }
}

/// What somebody may do to a chain's lines.
#[derive(Debug, Clone)]
enum Tampering {
    Edit { at: usize, byte: usize, with: u8 },
    Remove(usize),
    Copy { from: usize, to: usize },
    Swap(usize, usize),
    Insert { at: usize, line: Vec<u8> },
}

fn tampering() -> impl Strategy<Value = Tampering> {
    prop_oneof![
        (any::<usize>(), any::<usize>(), any::<u8>()).prop_map(|(at, byte, with)| Tampering::Edit { at, byte, with }),
        any::<usize>().prop_map(Tampering::Remove),
        (any::<usize>(), any::<usize>()).prop_map(|(from, to)| Tampering::Copy { from, to }),
        (any::<usize>(), any::<usize>()).prop_map(|(one, other)| Tampering::Swap(one, other)),
        (any::<usize>(), proptest::collection::vec(any::<u8>(), 0..80))
            .prop_map(|(at, line)| Tampering::Insert { at, line }),
    ]
}

/// Applies it; says the first line that is not as it was, counted from 1.
fn tamper(lines: &mut Vec<Vec<u8>>, tampering: &Tampering) -> usize {
    let count = lines.len();
    match tampering {
        Tampering::Edit { at, byte, with } => {
            let line = &mut lines[at % count];
            let byte = byte % line.len();
            line[byte] = *with;
            at % count
        }
        Tampering::Remove(at) => {
            lines.remove(at % count);
            at % count
        }
        Tampering::Copy { from, to } => {
            let line = lines[from % count].clone();
            lines.insert(to % (count + 1), line);
            to % (count + 1)
        }
        Tampering::Swap(one, other) => {
            lines.swap(one % count, other % count);
            (one % count).min(other % count)
        }
        Tampering::Insert { at, line } => {
            lines.insert(at % (count + 1), line.clone());
            at % (count + 1)
        }
    }
}

proptest! {
    #[test]
    fn whatever_is_done_to_a_line_is_found_at_that_line(more in 0..12usize, tampering in tampering()) {
        let whole = chain(more);
        let mut lines = whole.clone();
        tamper(&mut lines, &tampering);
        // Not where it said, but where it shows: a copy beside its original is the second of two.
        let first = lines.iter().zip(&whole).take_while(|(is, was)| is == was).count() as u64 + 1;
        let found = verify(&lines, vec![tip(&whole)]);
        if lines == whole {
            prop_assert!(found.is_ok());
        } else {
            let broken = found.unwrap_err();
            // A chain that is too short by its end has no line there: its last one is named.
            let expected = first.min(lines.len().max(1) as u64);
            prop_assert_eq!(broken.at.line, expected, "{:?} {:?}", tampering, broken);
        }
    }

    #[test]
    fn any_bytes_are_judged_without_a_panic(lines in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..60), 0..6)) {
        let _ = verify(&lines, vec![]);
    }

    #[test]
    fn any_text_is_no_chain_name_or_one_file_name(text in "\\PC{0,40}") {
        if let Some(chain) = ChainId::parse(&text) {
            prop_assert!(!chain.as_str().contains(['/', '.']));
        }
        let _ = text.parse::<Anchor>();
    }
}
