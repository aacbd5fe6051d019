use super::*;
use crate::config::{DayQuota, Origin, Sourced, Spendable};
use serde_json::json;
use std::sync::atomic::{AtomicU64, Ordering};
use tempfile::TempDir;

/// 2026-11-28T12:00:00Z.
const NOON: u64 = 1_795_867_200;

fn bound<T>(value: T) -> Option<Sourced<T>> {
    Some(Sourced::new(value, Origin::Default))
}

fn settings(session: Spendable, day: DayQuota) -> QuotaSettings {
    QuotaSettings {
        sessions: Sourced::new(32, Origin::Default),
        session,
        day,
    }
}

struct Bench {
    dir: TempDir,
    clock: Arc<AtomicU64>,
    settings: QuotaSettings,
}

impl Bench {
    fn new(spendable: Spendable) -> Self {
        let day = DayQuota {
            sessions: None,
            spendable,
        };
        Self {
            dir: tempfile::tempdir().unwrap(),
            clock: Arc::new(AtomicU64::new(NOON)),
            settings: settings(Spendable::default(), day),
        }
    }

    /// One server of the state directory.
    fn server(&self) -> Quota {
        let clock = Arc::clone(&self.clock);
        let clock = move || Duration::from_secs(clock.load(Ordering::Relaxed));
        Quota::with_clock(self.dir.path(), &self.settings, clock).unwrap()
    }

    fn turn_the_clock(&self, seconds: u64) {
        self.clock.store(seconds, Ordering::Relaxed);
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::create_dir_all(self.dir.path().join("quota")).unwrap();
        #[expect(clippy::disallowed_methods, reason = "a test writes a file")]
        std::fs::write(self.dir.path().join("quota").join(name), text).unwrap();
    }
}

const NOTHING: SessionSpent = SessionSpent {
    turns: 0,
    wall_millis: 0,
    egress_bytes: 0,
    model: crate::auth::broker::budget::ModelUsage {
        requests: 0,
        refused: 0,
        request_bytes: 0,
        response_bytes: 0,
        tokens: Tokens { input: 0, output: 0 },
    },
};

fn spent(result: Result<TurnTicket, QuotaError>) -> Spent {
    match result {
        Err(QuotaError::Spent(spent)) => *spent,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn two_servers_share_a_day_and_it_renews_at_midnight() {
    let bench = Bench::new(Spendable {
        turns: bound(3),
        ..Spendable::default()
    });
    let (first, second) = (bench.server(), bench.server());
    for server in [&first, &second, &first] {
        server.admit_turn(&NOTHING).await.unwrap().settle();
    }
    let refused = spent(second.admit_turn(&NOTHING).await);
    assert_eq!(refused.what, bound::Bound::Day(count::Dimension::Turns));
    assert!(
        refused.to_string().contains("; it renews at 2026-11-29T00:00:00Z; "),
        "{refused}"
    );
    let left = serde_json::to_value(first.left(&NOTHING).await).unwrap();
    assert_eq!(left, json!({"day": {"turns": 0, "renews": "2026-11-29T00:00:00Z"}}));
    bench.turn_the_clock(NOON + 43_200);
    second.admit_turn(&NOTHING).await.unwrap();
    bench.turn_the_clock(NOON);
    assert!(
        first.left(&NOTHING).await.day.unwrap().left.turns == Some(2),
        "the clock was set back"
    );
}

#[tokio::test]
async fn a_turn_that_did_not_begin_or_that_nobody_waited_for_costs_none() {
    let mut bench = Bench::new(Spendable {
        turns: bound(1),
        ..Spendable::default()
    });
    bench.settings.day.sessions = bound(1);
    let quota = bench.server();
    quota.admit_turn(&NOTHING).await.unwrap().withdraw();
    quota.admit_session().await.unwrap();
    assert!(quota.admit_session().await.is_err());
    quota.withdraw_session();
    // Asked, and dropped before the answer is looked at.
    {
        let asked = quota.admit_turn(&NOTHING);
        let mut asked = std::pin::pin!(asked);
        assert!(futures_util::poll!(&mut asked).is_pending());
    }
    quota.flush().await;
    let left = quota.left(&NOTHING).await.day.unwrap();
    assert_eq!((left.left.turns, left.sessions), (Some(1), Some(1)));
}

/// It would have a container, and nothing to do in it.
#[tokio::test]
async fn no_session_is_begun_or_comes_back_for_a_turn_that_may_not_begin() {
    let mut bench = Bench::new(Spendable {
        turns: bound(1),
        ..Spendable::default()
    });
    bench.settings.session.turns = bound(3);
    bench.settings.day.sessions = bound(9);
    let quota = bench.server();
    quota.admit_session().await.unwrap();
    let spent_all = SessionSpent { turns: 3, ..NOTHING };
    let refused = quota.admit_resumption(&spent_all).await.unwrap_err().to_string();
    assert!(refused.starts_with("quota.session.turns = 3 "), "{refused}");
    quota.admit_resumption(&NOTHING).await.unwrap();
    quota.admit_turn(&NOTHING).await.unwrap().settle();
    for refused in [quota.admit_session().await, quota.admit_resumption(&NOTHING).await] {
        let refused = refused.unwrap_err().to_string();
        assert!(refused.starts_with("quota.day.turns = 1 "), "{refused}");
    }
    let left = quota.left(&NOTHING).await.day.unwrap();
    assert_eq!(left.sessions, Some(8), "what is refused or comes back is not counted");
}

/// It may have waited long for the disk that could not take its beginning.
#[tokio::test]
async fn a_turn_that_did_not_begin_is_none_and_its_time_was_time() {
    let bench = Bench::new(Spendable {
        turns: bound(9),
        wall: bound(Duration::from_secs(1000)),
        ..Spendable::default()
    });
    let quota = bench.server();
    let mut ticket = quota.admit_turn(&NOTHING).await.unwrap();
    ticket.since = ticket.since.checked_sub(Duration::from_secs(300)).unwrap();
    ticket.withdraw();
    let left = quota.left(&NOTHING).await.day.unwrap().left;
    assert_eq!(left.turns, Some(9));
    assert!(left.wall_seconds <= Some(700), "{left:?}");
}

#[tokio::test]
async fn what_a_session_spent_is_asked_before_the_day() {
    let bench = Bench::new(Spendable {
        turns: bound(9),
        ..Spendable::default()
    });
    let quota = Quota::with_clock(
        bench.dir.path(),
        &settings(
            Spendable {
                turns: bound(2),
                ..Spendable::default()
            },
            bench.settings.day.clone(),
        ),
        || Duration::from_secs(NOON),
    )
    .unwrap();
    let mut session = NOTHING;
    session.add_turn();
    drop(quota.admit_turn(&session).await.unwrap());
    session.add_turn();
    let refused = spent(quota.admit_turn(&session).await);
    assert_eq!(
        (refused.what, refused.renews),
        (bound::Bound::Session(count::Dimension::Turns), None)
    );
    let left = serde_json::to_value(quota.left(&session).await).unwrap();
    assert_eq!(
        left,
        json!({"session": {"turns": 0}, "day": {"turns": 8, "renews": "2026-11-29T00:00:00Z"}})
    );
}

#[tokio::test]
async fn the_broker_asks_and_tells_the_day() {
    let bench = Bench::new(Spendable {
        tokens: bound(100),
        requests: bound(5),
        ..Spendable::default()
    });
    let (first, second) = (bench.server(), bench.server());
    let purse = first.purse();
    purse.admit().await.unwrap();
    purse.admit().await.unwrap();
    purse.withdraw();
    purse.settle(Tokens { input: 60, output: 39 });
    first.flush().await;
    let left = second.left(&NOTHING).await.day.unwrap().left;
    assert_eq!((left.tokens, left.requests), (Some(1), Some(4)));
    second.purse().admit().await.unwrap();
    second.purse().settle(Tokens { input: 0, output: 1 });
    second.flush().await;
    let refused = purse.admit().await.unwrap_err().to_string();
    assert!(
        refused.starts_with("quota.day.tokens = 100 (from default) is used up: "),
        "{refused}"
    );
}

#[tokio::test]
async fn bytes_are_cut_where_they_end_and_are_the_days() {
    let bench = Bench::new(Spendable {
        egress: bound("1k".parse().unwrap()),
        ..Spendable::default()
    });
    let (first, second) = (bench.server(), bench.server());
    let allowance = first.allowance();
    allowance.check().unwrap();
    allowance.moved(1000).unwrap();
    allowance.moved(24).unwrap();
    let used_up = allowance.check().unwrap_err();
    assert_eq!(
        (used_up.limit.value.bytes(), used_up.renews.as_str()),
        (1024, "2026-11-29T00:00:00Z")
    );
    assert_eq!(allowance.moved(1), Err(used_up.clone()));
    first.flush().await;
    second.flush().await;
    assert_eq!(second.allowance().check(), Err(used_up));
    bench.turn_the_clock(NOON + 43_200);
    second.flush().await;
    second.allowance().check().unwrap();
}

#[tokio::test]
async fn bytes_are_written_without_anybody_asking() {
    let bench = Bench::new(Spendable {
        egress: bound("1g".parse().unwrap()),
        ..Spendable::default()
    });
    let (first, second) = (bench.server(), bench.server());
    // A few wait for their second, many do not.
    first.allowance().moved(1).unwrap();
    let all = 1_u64 << 30;
    let deadline = Instant::now() + Duration::from_secs(20);
    while second.left(&NOTHING).await.day.unwrap().left.egress_bytes != Some(all - 1) {
        assert!(Instant::now() < deadline, "never written");
    }
    first.allowance().moved(20 << 20).unwrap();
    while second.left(&NOTHING).await.day.unwrap().left.egress_bytes != Some(all - 1 - (20 << 20)) {
        assert!(Instant::now() < deadline, "never written");
    }
}

#[tokio::test]
async fn the_last_to_go_writes_what_is_left_to_write() {
    let bench = Bench::new(Spendable {
        wall: bound(Duration::from_secs(3600)),
        tokens: bound(100),
        egress: bound("1k".parse().unwrap()),
        ..Spendable::default()
    });
    let quota = bench.server();
    quota.purse().settle(Tokens { input: 7, output: 0 });
    quota.allowance().moved(24).unwrap();
    let ticket = quota.admit_turn(&NOTHING).await.unwrap();
    drop(quota);
    drop(ticket);
    let left = bench.server().left(&NOTHING).await.day.unwrap().left;
    assert_eq!((left.tokens, left.egress_bytes), (Some(93), Some(1000)));
}

#[tokio::test]
async fn the_time_of_a_turn_is_counted_when_it_is_asked_for_and_when_it_ends() {
    let bench = Bench::new(Spendable {
        wall: bound(Duration::from_secs(1000)),
        ..Spendable::default()
    });
    let quota = bench.server();
    let mut ticket = quota.admit_turn(&NOTHING).await.unwrap();
    let hour = Duration::from_secs(600);
    ticket.since = ticket.since.checked_sub(hour).unwrap();
    assert!(ticket.so_far() >= hour);
    assert!(quota.left(&NOTHING).await.day.unwrap().left.wall_seconds <= Some(400));
    quota.admit_turn(&NOTHING).await.unwrap();
    ticket.since = ticket.since.checked_sub(hour).unwrap();
    assert!(ticket.settle() >= hour);
    let refused = spent(quota.admit_turn(&NOTHING).await);
    assert_eq!(refused.what, bound::Bound::Day(count::Dimension::Wall));
}

#[tokio::test]
async fn a_damaged_count_refuses_what_it_bounds_and_nothing_else() {
    let bench = Bench::new(Spendable {
        turns: bound(9),
        egress: bound("1k".parse().unwrap()),
        ..Spendable::default()
    });
    bench.write("2026-11-28.json", "{");
    let quota = bench.server();
    let refused = quota.admit_turn(&NOTHING).await.unwrap_err().to_string();
    let aside = bench.dir.path().join("quota/2026-11-28.json.damaged");
    assert_eq!(
        refused,
        format!(
            "what is spent has to be counted where `[quota.day]` bounds it: the count of today was damaged and is set aside \
             as {}; it begins anew where that file is moved away, or at 2026-11-29T00:00:00Z",
            aside.display()
        )
    );
    assert!(quota.allowance().check().is_err());
    // A session begins with a turn.
    assert_eq!(quota.admit_session().await.unwrap_err().to_string(), refused);
    // Requests are not bounded.
    quota.purse().admit().await.unwrap();
    std::fs::rename(&aside, bench.dir.path().join("kept")).unwrap();
    quota.admit_turn(&NOTHING).await.unwrap();
    quota.allowance().check().unwrap();
}

#[tokio::test]
async fn what_cant_be_counted_now_is_counted_later() {
    let bench = Bench::new(Spendable {
        turns: bound(9),
        ..Spendable::default()
    });
    bench.write("2026-11-28.json", "{\"version\":9}");
    let quota = bench.server();
    let refused = quota.admit_turn(&NOTHING).await.unwrap_err().to_string();
    assert!(refused.contains("written by a newer codex-mcp (version 9"), "{refused}");
    quota.purse().admit().await.unwrap();
    quota.purse().settle(Tokens { input: 5, output: 0 });
    assert_eq!(quota.left(&NOTHING).await.day, None);
    bench.write("2026-11-28.json", "{\"version\":1}");
    quota.flush().await;
    let book = Book::new(bench.dir.path());
    let counts = book.update(Duration::from_secs(NOON), |_| {}).unwrap().counts.counts;
    assert_eq!((counts.requests, counts.tokens), (1, 5));
}
