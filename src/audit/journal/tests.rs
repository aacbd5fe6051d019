use super::*;
use crate::audit::record::Verdict;
use crate::audit::verify::{Found, verify};
use std::fs;
use std::os::unix::fs::PermissionsExt;

const PLENTY: Sizes = Sizes {
    file: 1 << 20,
    keep: 1 << 30,
};

fn begin(state: &Path, sizes: Sizes) -> Journal {
    Journal::begin(state, sizes, Redactor::default()).unwrap()
}

fn egress(target: &str) -> Entry {
    Entry::of_server(What::Egress {
        verdict: Verdict::Denied,
        target: Some(target.to_owned()),
        rule: "none".to_owned(),
    })
}

fn files_of(journal: &Journal) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(&journal.0.directory)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[track_caller]
fn intact(state: &Path) -> Vec<(u64, u64, bool)> {
    let report = verify(state, &[]).unwrap();
    report
        .chains
        .into_iter()
        .map(|checked| match checked.found {
            Found::Intact { intact, torn: None } => (intact.first, intact.records, intact.ended),
            other => panic!("{other:?}"),
        })
        .collect()
}

/// A device that is always full, in the place of the journal's file.
fn break_disk(journal: &Journal) {
    let full = OpenOptions::new().append(true).open("/dev/full").unwrap();
    if let State::Open(writer) = &mut *journal.lock() {
        writer.file = Arc::new(full);
    }
}

#[test]
fn a_chain_is_private_numbered_and_ended() {
    let state = tempfile::tempdir().unwrap();
    let journal = begin(state.path(), PLENTY);
    assert_eq!(journal.record(&egress("a.test:1")), Ok(2));
    assert_eq!(journal.record_for_good(&egress("a.test:2")), Ok(3));
    let directory = journal.0.directory.clone();
    for (path, mode) in [
        (state.path().join("audit"), 0o700),
        (directory.clone(), 0o700),
        (directory.join("000001.jsonl"), 0o600),
    ] {
        let found = fs::metadata(&path).unwrap().permissions().mode() & 0o777;
        assert_eq!(found, mode, "{}", path.display());
    }
    journal.end();
    journal.end();
    assert_eq!(journal.record(&egress("a.test:3")), Err(NotRecorded::Ended));
    assert_eq!(intact(state.path()), [(1, 4, true)]);
}

#[test]
fn a_chain_goes_on_in_new_files_and_the_oldest_of_them_go() {
    let state = tempfile::tempdir().unwrap();
    let journal = begin(state.path(), Sizes { file: 2000, keep: 3000 });
    for nth in 0..60 {
        journal.record(&egress(&format!("a-{nth}.test:443"))).unwrap();
    }
    journal.end();
    let files = files_of(&journal);
    assert!((2..5).contains(&files.len()), "{files:?}");
    assert!(!files.contains(&files::name(1)), "{files:?}");
    let chains = intact(state.path());
    let [(first, records, true)] = chains[..] else {
        panic!("{chains:?}")
    };
    assert!(first > 1 && records > 5, "{chains:?}");
    let stored = fs::read_to_string(journal.0.directory.join(files.last().unwrap())).unwrap();
    assert!(stored.contains(r#""what":"pruned""#), "{stored}");
}

#[test]
fn old_chains_go_and_live_ones_stay() {
    let state = tempfile::tempdir().unwrap();
    let old = begin(state.path(), PLENTY);
    old.end();
    let dead = old.0.directory.clone();
    let _live = begin(state.path(), PLENTY);
    drop(old);
    let third = begin(state.path(), Sizes { keep: 1, ..PLENTY });
    assert!(!dead.exists());
    assert_eq!(verify(state.path(), &[]).unwrap().chains.len(), 2);
    let told = fs::read_to_string(third.0.directory.join("000001.jsonl")).unwrap();
    assert!(told.contains(dead.file_name().unwrap().to_str().unwrap()), "{told}");
}

#[test]
fn a_secret_is_no_part_of_a_record() {
    let state = tempfile::tempdir().unwrap();
    let redactor = Redactor::default();
    redactor.learn(b"s3cret-value");
    let journal = Journal::begin(state.path(), PLENTY, redactor).unwrap();
    journal.record(&egress("s3cret-value.test:443")).unwrap();
    journal.end();
    let stored = fs::read_to_string(journal.0.directory.join("000001.jsonl")).unwrap();
    assert!(!stored.contains("s3cret"), "{stored}");
    assert!(stored.contains("[redacted].test:443"), "{stored}");
    assert_eq!(intact(state.path()), [(1, 3, true)]);
}

#[tokio::test]
async fn a_failed_write_is_the_end_of_it() {
    let state = tempfile::tempdir().unwrap();
    let journal = begin(state.path(), PLENTY);
    break_disk(&journal);
    let Err(NotRecorded::Failed(failure)) = journal.record(&egress("a.test:1")) else {
        panic!("/dev/full took it")
    };
    let text = failure.to_string();
    for words in ["No space left", "000001.jsonl", "audit.keep", "start codex-mcp anew"] {
        assert!(text.contains(words), "{text}");
    }
    assert_eq!(journal.failed().await, failure);
    assert_eq!(journal.record_for_good(&egress("a.test:2")), Err(failure.into()));
    journal.end();
    assert_eq!(
        intact(state.path()),
        [(1, 1, false)],
        "what was written before is whole"
    );
}

#[test]
fn a_directory_that_can_not_be_made_is_named_with_what_mends_it() {
    let state = tempfile::tempdir().unwrap();
    fs::write(state.path().join("audit"), "").unwrap();
    let error = Journal::begin(state.path(), PLENTY, Redactor::default()).unwrap_err();
    let text = error.to_string();
    assert!(text.contains("/audit/") && text.contains("state_dir"), "{text}");
}

#[test]
fn many_writers_make_one_chain() {
    let state = tempfile::tempdir().unwrap();
    let journal = begin(state.path(), Sizes { file: 4000, ..PLENTY });
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let journal = &journal;
            scope.spawn(move || {
                for nth in 0..40 {
                    let entry = egress(&format!("{thread}-{nth}.test:1"));
                    match nth % 10 {
                        0 => journal.record_for_good(&entry),
                        _ => journal.record(&entry),
                    }
                    .unwrap();
                }
            });
        }
    });
    journal.end();
    let further = files_of(&journal).len() as u64 - 1;
    assert!(further > 3);
    assert_eq!(intact(state.path()), [(1, 162 + further, true)]);
}

/// A signal that follows the end of input asks a second time, while the first still waits for the disk.
#[test]
fn an_end_that_is_asked_for_by_many_is_one() {
    let state = tempfile::tempdir().unwrap();
    let journal = begin(state.path(), PLENTY);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| journal.end());
            scope.spawn(|| drop(journal.record(&egress("a.test:1"))));
        }
    });
    let [(1, _, true)] = intact(state.path())[..] else {
        panic!("{:?}", verify(state.path(), &[]).unwrap())
    };
    assert_eq!(journal.record(&egress("a.test:2")), Err(NotRecorded::Ended));
}

#[test]
fn what_goes_to_a_file_that_somebody_removed_is_on_no_record() {
    let state = tempfile::tempdir().unwrap();
    let journal = begin(state.path(), PLENTY);
    fs::remove_file(journal.0.directory.join("000001.jsonl")).unwrap();
    let error = journal.record_for_good(&egress("a.test:1")).unwrap_err();
    assert!(error.to_string().contains("somebody removed it"), "{error}");
    assert!(matches!(
        journal.record(&egress("a.test:2")),
        Err(NotRecorded::Failed(_))
    ));
}
