use super::*;
use crate::session::quota::count::Counts;
use proptest::prelude::*;
use std::io::Write;
use tempfile::TempDir;

/// 2026-11-28T12:00:00Z.
const NOON: Duration = Duration::from_secs(1_795_867_200);
const ONE_DAY: Duration = Duration::from_secs(86_400);

fn turns(turns: u64) -> DayCounts {
    DayCounts {
        sessions: 0,
        counts: Counts {
            turns,
            ..Counts::default()
        },
    }
}

fn add(book: &Book, now: Duration, more: u64) -> Page {
    book.update(now, |page| page.counts = page.counts.plus(turns(more)))
        .unwrap()
}

fn look(book: &Book, now: Duration) -> Page {
    book.update(now, |_| {}).unwrap()
}

fn book() -> (TempDir, Book) {
    let dir = tempfile::tempdir().unwrap();
    let book = Book::new(dir.path());
    (dir, book)
}

fn file(dir: &TempDir, name: &str) -> PathBuf {
    dir.path().join("quota").join(name)
}

#[test]
fn a_count_is_there_for_whoever_opens_the_book_next() {
    let (dir, first) = book();
    add(&first, NOON, 3);
    let second = Book::new(dir.path());
    assert_eq!(add(&second, NOON, 4).counts, turns(7));
    let text = fs::read_to_string(file(&dir, "2026-11-28.json")).unwrap();
    insta::assert_snapshot!(text, @r#"{"version":1,"sessions":0,"turns":7,"tokens":0,"requests":0,"wallMillis":0,"egressBytes":0}"#);
}

#[test]
fn a_day_begins_at_midnight_and_the_one_before_stays() {
    let (dir, book) = book();
    add(&book, NOON, 3);
    let next = look(&book, NOON + ONE_DAY / 2);
    assert_eq!((next.day.to_string().as_str(), next.counts), ("2026-11-29", turns(0)));
    assert!(!file(&dir, "2026-11-29.json").exists(), "looking writes nothing");
    add(&book, NOON + ONE_DAY, 1);
    assert!(file(&dir, "2026-11-28.json").exists());
}

#[test]
fn a_clock_that_is_set_back_makes_no_spent_day_new() {
    let (dir, book) = book();
    add(&book, NOON, 3);
    for back in [1, 40] {
        let page = add(&book, NOON - back * ONE_DAY, 1);
        assert_eq!(page.day.to_string(), "2026-11-28");
        assert_eq!(page.ahead, Some(file(&dir, "2026-11-28.json")));
    }
    let page = look(&book, NOON);
    assert_eq!((page.counts, page.ahead), (turns(5), None));
}

#[test]
fn what_cant_be_read_is_set_aside_and_said_for_as_long_as_it_lies_there() {
    let (dir, book) = book();
    add(&book, NOON, 3);
    let path = file(&dir, "2026-11-28.json");
    for (name, text) in [("damaged", "{\"version\":1,\"tur"), ("damaged-2", "")] {
        fs::write(&path, text).unwrap();
        let aside = file(&dir, &format!("2026-11-28.json.{name}"));
        let page = add(&book, NOON, 2);
        assert_eq!((page.counts, page.damaged.as_ref()), (turns(2), Some(&aside)));
        assert_eq!(fs::read_to_string(&aside).unwrap(), text);
    }
    assert!(look(&book, NOON).damaged.is_some());
    assert_eq!(look(&book, NOON + ONE_DAY).damaged, None);
    fs::rename(file(&dir, "2026-11-28.json.damaged"), dir.path().join("a")).unwrap();
    fs::rename(file(&dir, "2026-11-28.json.damaged-2"), dir.path().join("b")).unwrap();
    assert_eq!((look(&book, NOON).damaged, look(&book, NOON).counts), (None, turns(2)));
}

#[test]
fn what_a_newer_version_wrote_is_left_alone() {
    let (dir, book) = book();
    look(&book, NOON);
    let path = file(&dir, "2026-11-28.json");
    let newer = "{\"version\":2,\"spent\":{}}";
    fs::write(&path, newer).unwrap();
    let refused = book.update(NOON, |page| page.counts = turns(9)).unwrap_err();
    assert!(matches!(refused, Uncounted::Newer { version: 2, .. }), "{refused}");
    assert_eq!(fs::read_to_string(&path).unwrap(), newer);
}

#[test]
fn what_a_server_left_that_was_killed_while_it_wrote_changes_nothing() {
    let (dir, book) = book();
    add(&book, NOON, 3);
    fs::write(
        file(&dir, "writing"),
        "{\"version\":1,\"turns\":100,\"a\":\"longer than what comes next",
    )
    .unwrap();
    assert_eq!(add(&book, NOON, 1).counts, turns(4));
    assert_eq!(look(&book, NOON).counts, turns(4));
}

#[test]
fn days_long_past_are_removed_when_another_begins() {
    let (dir, book) = book();
    for n in 0..35 {
        add(&book, NOON + n * ONE_DAY, 1);
    }
    let kept = fs::read_dir(dir.path().join("quota")).unwrap().count();
    assert_eq!(kept, KEPT_DAYS + 1, "and the lock");
    assert!(!file(&dir, "2026-12-01.json").exists());
    assert!(file(&dir, "2026-12-02.json").exists());
}

#[test]
fn whoever_holds_the_lock_for_too_long_is_named() {
    let (dir, mut book) = book();
    book.patience = Duration::from_millis(20);
    look(&book, NOON);
    let held = lock::exclusive(&file(&dir, "lock"), Duration::ZERO).unwrap().unwrap();
    let refused = book.update(NOON, |_| {}).unwrap_err();
    assert!(matches!(refused, Uncounted::Locked { .. }), "{refused}");
    drop(held);
    look(&book, NOON);
}

#[test]
fn two_that_add_at_once_lose_nothing() {
    let dir = tempfile::tempdir().unwrap();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let book = Book::new(dir.path());
                for _ in 0..50 {
                    add(&book, NOON, 1);
                }
            });
        }
    });
    assert_eq!(look(&Book::new(dir.path()), NOON).counts, turns(200));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn a_days_count_is_the_sum_of_what_was_added_in_it(adds in prop::collection::vec((0_u32..3, 0_u64..1000), 0..30)) {
        let (_dir, book) = book();
        let mut sums = [0_u64; 3];
        // Days only go forward: what is added after a clock was set back is the later day's.
        let mut latest = 0;
        for (day, more) in adds {
            add(&book, NOON + day * ONE_DAY, more);
            let counted = latest.max(day);
            sums[counted as usize] += more;
            // A day without a count has no file, and is none that a clock could be behind.
            if more > 0 {
                latest = counted;
            }
        }
        prop_assert_eq!(look(&book, NOON + latest * ONE_DAY).counts, turns(sums[latest as usize]));
    }
}

/// Names the state directory to the process that is killed.
const CHILD: &str = "QUOTA_BOOK_TEST_STATE";

/// Of use to the test after it alone, which starts it as a process.
#[test]
#[ignore = "adds until it is killed"]
#[expect(clippy::disallowed_methods, reason = "the test after it says where")]
fn adds_until_it_is_killed() {
    let Some(state_dir) = std::env::var_os(CHILD) else {
        return;
    };
    let book = Book::new(Path::new(&state_dir));
    let mut out = std::io::stdout();
    loop {
        add(&book, NOON, 1);
        writeln!(out, "added").unwrap();
        out.flush().unwrap();
    }
}

#[test]
#[expect(clippy::disallowed_methods, reason = "a process that is killed has to be one")]
fn processes_that_are_killed_lose_nothing_that_they_had_added() {
    use std::io::BufRead as _;
    use std::process::{Command, Stdio};

    let (dir, book) = book();
    let start = || {
        Command::new(std::env::current_exe().unwrap())
            .args([
                "--ignored",
                "--exact",
                "--nocapture",
                "session::quota::book::tests::adds_until_it_is_killed",
            ])
            .env(CHILD, dir.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap()
    };
    let mut known = 0;
    for round in 0..6 {
        let mut children = [start(), start()];
        for child in &mut children {
            let lines = std::io::BufReader::new(child.stdout.as_mut().unwrap()).lines();
            let added = lines.map(Result::unwrap).filter(|line| line.ends_with("added"));
            assert_eq!(added.take(3 + round).count(), 3 + round);
        }
        for child in &mut children {
            child.kill().unwrap();
            child.wait().unwrap();
        }
        let page = look(&book, NOON);
        known += 2 * (3 + round as u64);
        assert!(page.counts.counts.turns >= known, "{page:?}");
        assert_eq!(page.damaged, None);
        // The locks died with them.
        known = add(&book, NOON, 1).counts.counts.turns;
    }
}
