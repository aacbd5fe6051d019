use super::fixtures::record;
use super::record::State;
use super::*;
use std::os::unix::fs::PermissionsExt;

struct Bench {
    dir: tempfile::TempDir,
    store: Store,
}

fn bench() -> Bench {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::new(dir.path(), Owner::of_this_process().unwrap());
    Bench { dir, store }
}

#[test]
fn a_session_outlives_whoever_has_it() {
    let bench = bench();
    let record = record(7);
    let id = record.session.clone();
    let mut stored = bench.store.create(record).unwrap();
    stored.update(|record| record.turns = 5).unwrap();
    assert!(matches!(
        bench.store.open(&id),
        Err(StoreError::Held { by: Some(_), .. })
    ));
    let found = &bench.store.list().unwrap()[0];
    assert_eq!(found.record.as_ref().unwrap().turns, 5);
    assert!(matches!(found.holder, Holder::Process(Some(_))));
    let mode = fs::metadata(&found.path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
    drop(stored);
    let stored = bench.store.open(&id).unwrap();
    assert_eq!(
        (stored.record().turns, &stored.record().state),
        (5, &State::Live { turn: None })
    );
    stored.remove().unwrap();
    assert!(bench.store.list().unwrap().is_empty());
    assert!(matches!(bench.store.open(&id), Err(StoreError::Unknown(_))));
}

#[test]
fn what_this_process_has_itself_is_waited_for_and_what_another_has_is_not() {
    let bench = bench();
    let stored = bench.store.create(record(7)).unwrap();
    let id = record(7).session;
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| bench.store.open_soon(&id).map(drop));
        // It has looked by then, or looks when nobody has it: either is fine.
        std::thread::sleep(2 * BETWEEN_TRIES);
        drop(stored);
        waiting.join().unwrap().unwrap();
    });
    let other = Owner {
        pid: 1,
        ..Owner::of_this_process().unwrap()
    };
    let _theirs = Store::new(bench.dir.path(), other).open(&id).unwrap();
    let refused = bench.store.open_soon(&id);
    assert!(matches!(refused, Err(StoreError::Held { .. })), "{refused:?}");
}

#[test]
fn a_session_that_is_being_removed_is_nobody_elses() {
    let bench = bench();
    for byte in 1..=12 {
        let stored = bench.store.create(record(byte)).unwrap();
        let work = stored.directory.root().join("workspace");
        fs::create_dir(&work).unwrap();
        (0..200).for_each(|file| fs::write(work.join(file.to_string()), "x").unwrap());
        let id = record(byte).session;
        std::thread::scope(|scope| {
            let removing = scope.spawn(|| stored.remove().unwrap());
            while !removing.is_finished() {
                let taken = bench.store.open(&id);
                assert!(
                    matches!(taken, Err(StoreError::Held { .. } | StoreError::Unknown(_))),
                    "{taken:?}"
                );
            }
        });
    }
    assert_eq!(fs::read_dir(bench.store.sessions_dir()).unwrap().count(), 0);
    assert!(!bench.dir.path().join(DAMAGED).exists());
}

#[test]
fn a_removal_that_is_cut_short_leaves_no_session_with_a_thread() {
    let bench = bench();
    let mut stored = bench.store.create(record(7)).unwrap();
    stored.update(|record| record.turns = 5).unwrap();
    // Where its secrets are can't be read, so nothing is removed.
    let root = stored.directory.root().to_owned();
    fs::create_dir(root.join("secrets-staged-at")).unwrap();
    assert!(stored.remove().is_err());
    let found = &bench.store.list().unwrap()[0];
    let record = found.record.as_ref().unwrap();
    assert_eq!((&record.thread, &record.state), (&None, &State::Live { turn: None }));
}

#[test]
fn an_id_is_used_once() {
    let bench = bench();
    let _first = bench.store.create(record(7)).unwrap();
    assert!(bench.store.create(record(7)).is_err());
}

#[test]
fn sessions_are_found_by_what_is_enough_of_a_name() {
    let bench = bench();
    let (one, other) = (record(0x11), record(0x12));
    let (one_id, other_id) = (one.session.clone(), other.session.clone());
    let _held = (bench.store.create(one).unwrap(), bench.store.create(other).unwrap());
    assert_eq!(bench.store.find(one_id.as_str()).unwrap(), one_id);
    assert_eq!(bench.store.find("12").unwrap(), other_id);
    assert_eq!(bench.store.find("thread-17").unwrap(), one_id);
    let error = |wanted: &str| bench.store.find(wanted).unwrap_err().to_string();
    assert_eq!(error("1"), "1 names 2 sessions: write more of it");
    for nothing in ["", "2", "thread-19"] {
        assert!(error(nothing).contains("there is no session"), "{nothing}");
    }
    let thread = ThreadId::parse("thread-18").unwrap();
    // Of the machine's user, so no token's.
    let ci = "ci".parse().unwrap();
    assert_eq!(bench.store.of_thread_for(&thread, Some(&ci)).unwrap(), None);
    assert_eq!(
        bench.store.of_thread_for(&thread, None).unwrap(),
        Some(other_id.clone())
    );
    assert_eq!(bench.store.of_thread(&thread).unwrap(), Some(other_id));
    assert_eq!(
        bench.store.of_thread(&ThreadId::parse("thread-1").unwrap()).unwrap(),
        None
    );
}

#[test]
fn a_damaged_session_is_set_aside_whole_and_a_newer_one_left_alone() {
    let bench = bench();
    let (damaged, newer) = (record(1), record(2));
    let ids = [damaged.session.clone(), newer.session.clone()];
    drop(bench.store.create(damaged).unwrap());
    drop(bench.store.create(newer).unwrap());
    let record_of = |id: &SessionId| bench.store.directory_of(id).join(RECORD_FILE);
    fs::write(record_of(&ids[0]), "{").unwrap();
    fs::write(bench.store.directory_of(&ids[0]).join("work"), "precious").unwrap();
    let text = fs::read_to_string(record_of(&ids[1])).unwrap();
    fs::write(record_of(&ids[1]), text.replace("\"version\": 1", "\"version\": 9")).unwrap();

    let Err(StoreError::Damaged { aside, .. }) = bench.store.open(&ids[0]) else {
        panic!("opened")
    };
    assert_eq!(aside, bench.dir.path().join("damaged").join(ids[0].as_str()));
    assert_eq!(fs::read_to_string(aside.join("work")).unwrap(), "precious");
    let before = fs::read(record_of(&ids[1])).unwrap();
    let error = bench.store.open(&ids[1]).unwrap_err().to_string();
    assert!(
        error.contains("newer codex-mcp (format 9; this one knows 1)"),
        "{error}"
    );
    assert_eq!(fs::read(record_of(&ids[1])).unwrap(), before);
}

/// A reader in another process sees one whole record or another.
#[test]
fn records_are_never_torn() {
    let bench = bench();
    let record = record(7);
    let id = record.session.clone();
    let mut stored = bench.store.create(record).unwrap();
    std::thread::scope(|scope| {
        let reading = scope.spawn(|| {
            (0..100).for_each(|_| {
                let found = bench.store.list().unwrap();
                assert_eq!(found[0].record.as_ref().unwrap().session, id);
            });
        });
        let mut turns = 0;
        while !reading.is_finished() {
            turns += 1;
            stored
                .update(|record| record.asked_by = "x".repeat(turns % 4000))
                .unwrap();
        }
    });
}

/// As root nothing is closed to the test; what is no file can't be read by anybody.
#[test]
fn one_that_cant_be_read_is_no_reason_to_know_of_none() {
    let bench = bench();
    (1..=3).for_each(|byte| drop(bench.store.create(record(byte)).unwrap()));
    let directory_of = |byte| bench.store.directory_of(&record(byte).session);
    // Whoever opened it for reading would wait for a writer.
    fs::remove_file(directory_of(1).join(RECORD_FILE)).unwrap();
    nix::unistd::mkfifo(&directory_of(1).join(RECORD_FILE), nix::sys::stat::Mode::S_IRWXU).unwrap();
    let lock = directory_of(2).join(hold::LOCK_FILE);
    fs::remove_file(&lock).unwrap();
    let elsewhere = bench.dir.path().join("elsewhere");
    fs::write(&elsewhere, "theirs").unwrap();
    std::os::unix::fs::symlink(&elsewhere, &lock).unwrap();
    // Named like one, and none.
    fs::write(directory_of(4), "x").unwrap();
    let found = bench.store.list().unwrap();
    let readable: Vec<bool> = found.iter().map(|found| found.record.is_ok()).collect();
    assert_eq!(readable, [false, false, true]);
    for unreadable in &found[..2] {
        let flaw = unreadable.record.as_ref().unwrap_err();
        assert!(matches!(flaw, RecordFlaw::Unreadable(_)), "{flaw}");
        assert!(flaw.to_string().contains("give it back to the user"), "{flaw}");
        assert!(bench.store.open(&unreadable.session).is_err());
        assert!(unreadable.path.exists(), "it was set aside");
    }
    assert_eq!(fs::read(&elsewhere).unwrap(), b"theirs");
    let thread = ThreadId::parse("thread-3").unwrap();
    assert_eq!(bench.store.of_thread(&thread).unwrap(), Some(record(3).session));
    assert_eq!(bench.store.find(record(1).session.as_str()).unwrap(), record(1).session);
}
