#![expect(clippy::disallowed_methods, reason = "tampers with files of the audit")]

use super::*;
use crate::audit::journal::{Journal, Sizes};
use crate::audit::record::{Entry, Verdict, What};
use crate::redact::Redactor;
use proptest::prelude::*;
use std::fs;

/// A state directory with one chain of some files, not ended.
fn state() -> (tempfile::TempDir, PathBuf) {
    let state = tempfile::tempdir().unwrap();
    let sizes = Sizes {
        file: 1500,
        keep: 1 << 30,
    };
    let journal = Journal::begin(state.path(), sizes, Redactor::default()).unwrap();
    for nth in 0..20 {
        let entry = Entry::of_server(What::Egress {
            verdict: Verdict::Allowed,
            target: Some(format!("a-{nth}.test:443")),
            rule: String::new(),
        });
        journal.record(&entry).unwrap();
    }
    drop(journal);
    let chain = files::list(&files::directory(state.path())).unwrap().remove(0);
    assert!(chain.files.len() > 2);
    (state, chain.path)
}

#[track_caller]
fn found(state: &Path, anchors: &[Anchor]) -> Found {
    let mut report = verify(state, anchors).unwrap();
    assert_eq!(report.chains.len(), 1);
    let whole = !matches!(report.chains[0].found, Found::Broken { .. });
    assert_eq!(report.is_whole(), whole);
    report.chains.remove(0).found
}

#[track_caller]
fn broken(state: &Path, anchors: &[Anchor]) -> (String, u64, Why) {
    match found(state, anchors) {
        Found::Broken { path, broken } => {
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            (name, broken.at.line, broken.why)
        }
        other => panic!("{other:?}"),
    }
}

fn anchor(state: &Path) -> Anchor {
    let report = verify(state, &[]).unwrap();
    match &report.chains[0].found {
        Found::Intact { intact, .. } => Anchor {
            chain: report.chains[0].chain.clone(),
            tip: intact.tip,
        },
        other => panic!("{other:?}"),
    }
}

#[test]
fn files_are_one_chain_and_a_missing_one_is_a_gap() {
    let (state, chain) = state();
    let whole = anchor(state.path());
    fs::remove_file(chain.join(files::name(2))).unwrap();
    let (file, line, why) = broken(state.path(), &[]);
    assert_eq!((file.as_str(), line), ("000003.jsonl", 1));
    assert!(matches!(why, Why::OutOfOrder { .. }), "{why}");
    // From the beginning on, that is pruning, and shows.
    fs::remove_file(chain.join(files::name(1))).unwrap();
    match found(state.path(), &[whole]) {
        Found::Intact { intact, torn: None } => assert!(intact.first > 1),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_torn_tail_is_no_tampering_and_a_torn_middle_is() {
    let (state, chain) = state();
    let append = |name: &str, text: &str| {
        let path = chain.join(name);
        let was = fs::read_to_string(&path).unwrap();
        fs::write(&path, was + text).unwrap();
    };
    let whole = anchor(state.path());
    let last = files::list(&files::directory(state.path())).unwrap()[0].files.len() as u64;
    append(&files::name(last), "{\"seq");
    match found(state.path(), &[whole]) {
        Found::Intact { torn, .. } => assert_eq!(torn, Some(5)),
        other => panic!("{other:?}"),
    }
    append(&files::name(1), "{\"seq");
    let (file, _, why) = broken(state.path(), &[]);
    assert_eq!((file.as_str(), why), ("000001.jsonl", Why::TornInside));
}

#[test]
fn an_anchor_finds_a_cut_tail_and_a_missing_chain() {
    let (state, chain) = state();
    let anchor = anchor(state.path());
    let last = files::list(&files::directory(state.path())).unwrap()[0].files.len() as u64;
    fs::remove_file(chain.join(files::name(last))).unwrap();
    assert!(verify(state.path(), &[]).unwrap().is_whole());
    let (file, _, why) = broken(state.path(), std::slice::from_ref(&anchor));
    assert_eq!((file, why), (files::name(last - 1), Why::CutOff(anchor.tip.sequence)));
    fs::remove_dir_all(&chain).unwrap();
    let report = verify(state.path(), std::slice::from_ref(&anchor)).unwrap();
    assert_eq!(report.missing, [anchor]);
    assert!(!report.is_whole());
}

#[test]
fn a_server_that_was_killed_at_once_left_nothing_to_check() {
    let (state, chain) = state();
    fs::remove_dir_all(&chain).unwrap();
    fs::create_dir(&chain).unwrap();
    assert_eq!(found(state.path(), &[]), Found::Empty);
    fs::write(chain.join(files::name(1)), "").unwrap();
    assert_eq!(found(state.path(), &[]), Found::Empty);
    assert!(verify(&state.path().join("none"), &[]).unwrap().chains.is_empty());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn any_files_are_checked_without_a_panic(files in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..100), 0..4)) {
        let state = tempfile::tempdir().unwrap();
        let chain = files::directory(state.path()).join("20261122T135005Z-000000000000");
        fs::create_dir_all(&chain).unwrap();
        for (number, bytes) in (1..).zip(&files) {
            fs::write(chain.join(files::name(number)), bytes).unwrap();
        }
        prop_assert_eq!(verify(state.path(), &[]).unwrap().chains.len(), 1);
    }
}
