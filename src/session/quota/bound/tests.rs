use super::*;
use serde_json::json;

fn at(line: usize) -> Origin {
    Origin::File {
        path: "/u.toml".into(),
        line,
    }
}

fn day_quota() -> DayQuota {
    DayQuota {
        sessions: Some(Sourced::new(2, at(3))),
        spendable: Spendable {
            turns: Some(Sourced::new(50, at(4))),
            wall: Some(Sourced::new(Duration::from_secs(5400), at(5))),
            egress: Some(Sourced::new("5g".parse().unwrap(), at(6))),
            ..Spendable::default()
        },
    }
}

fn renewal(ahead: Option<&str>) -> Renewal {
    Renewal {
        day: Day::parse("2026-11-29").unwrap(),
        ahead: ahead.map(PathBuf::from),
    }
}

#[test]
fn each_bound_has_the_name_that_it_has_in_a_file() {
    let dimensions = [
        Dimension::Turns,
        Dimension::Tokens,
        Dimension::Requests,
        Dimension::Wall,
        Dimension::Egress,
    ];
    let mut named: Vec<&str> = dimensions
        .into_iter()
        .flat_map(|dimension| [Bound::Session(dimension), Bound::Day(dimension)])
        .chain([Bound::AtOnce, Bound::DaySessions])
        .map(Bound::key)
        .collect();
    let mut known: Vec<&str> = key::REGISTRY.iter().map(|key| key.name).collect();
    known.retain(|name| name.starts_with("quota."));
    named.sort_unstable();
    known.sort_unstable();
    assert_eq!(named, known);
}

#[test]
fn what_is_asked_for_meets_the_bounds_that_are_about_it() {
    let bounds = DayBounds::from(&day_quota());
    let mut used = DayCounts::default();
    used.counts.egress_bytes = u64::MAX;
    for ask in [Ask::Session, Ask::Turn, Ask::Request] {
        assert_eq!(ask.meets(&bounds, &used), None);
    }
    used.sessions = 2;
    assert_eq!(Ask::Session.meets(&bounds, &used).unwrap().0, Bound::DaySessions);
    assert_eq!(Ask::Turn.meets(&bounds, &used), None);
    used.counts.turns = 49;
    used.counts.wall_millis = 5_399_999;
    assert_eq!(Ask::Turn.meets(&bounds, &used), None);
    used.counts.wall_millis = 5_400_000;
    assert_eq!(Ask::Turn.meets(&bounds, &used).unwrap().0, Bound::Day(Dimension::Wall));
    used.counts.turns = 50;
    assert_eq!(Ask::Turn.meets(&bounds, &used).unwrap().0, Bound::Day(Dimension::Turns));
    // Neither tokens nor requests are bounded.
    assert_eq!(Ask::Request.meets(&bounds, &used), None);
    assert!(Ask::Turn.is_bounded(&bounds) && Ask::Session.is_bounded(&bounds) && !Ask::Request.is_bounded(&bounds));
}

#[test]
fn a_spent_day_says_when_it_renews() {
    let bounds = DayBounds::from(&day_quota());
    let mut used = DayCounts::default();
    used.counts.turns = 50;
    let met = Ask::Turn.meets(&bounds, &used).unwrap();
    insta::assert_snapshot!(Spent::of_day(met, renewal(None)), @"quota.day.turns = 50 (from /u.toml:4) is used up: all sessions that share the state directory have spent it together; it renews at 2026-11-29T00:00:00Z; raise quota.day.turns");
    insta::assert_snapshot!(Spent::of_day(met, renewal(Some("/s/quota/2026-11-28.json"))), @"quota.day.turns = 50 (from /u.toml:4) is used up: all sessions that share the state directory have spent it together; it renews at 2026-11-29T00:00:00Z (this machine's clock says an earlier day than /s/quota/2026-11-28.json: where the clock was wrong then, move that file away); raise quota.day.turns");
}

#[test]
fn a_spent_session_does_not_renew() {
    let quota = Spendable {
        wall: Some(Sourced::new(Duration::from_secs(7200), at(9))),
        ..Spendable::default()
    };
    let used = Counts {
        wall_millis: 7_200_000,
        ..Counts::default()
    };
    let bounds = Bounds::from(&quota);
    let spent = Spent::of_session(bounds.spent(&used, FOR_A_TURN).unwrap());
    assert_eq!(spent.renews, None);
    insta::assert_snapshot!(spent, @"quota.session.wall = 2h (from /u.toml:9) is used up: this session has spent all of it, and it does not renew; go on in a new session, or raise quota.session.wall");
}

#[test]
fn one_session_too_many_is_told_who_holds_the_places() {
    let holder = |n: u32| LiveSession {
        session: format!("s{n}"),
        server: Some(4000 + n),
    };
    let limit = Sourced::new(2, Origin::Default);
    assert_eq!(check_sessions(&[], &limit), Ok(()));
    assert_eq!(check_sessions(&[holder(1)], &limit), Ok(()));
    let refused = check_sessions(&[holder(1), holder(2)], &limit).unwrap_err();
    insta::assert_snapshot!(refused, @"quota.sessions = 2 (from default) is used up: so many sessions are live, of all servers that share the state directory: s1 (process 4001), s2 (process 4002); end one of them with `codex-mcp sessions stop`, or raise quota.sessions");
    let many: Vec<LiveSession> = (0..11).map(holder).collect();
    let refused = check_sessions(&many, &limit).unwrap_err().to_string();
    assert!(refused.contains("s7 (process 4007) and 3 more; end"), "{refused}");
}

#[test]
fn what_is_left_is_said_only_of_what_is_bounded() {
    let used = DayCounts {
        sessions: 3,
        counts: Counts {
            turns: 8,
            wall_millis: 1_999,
            ..Counts::default()
        },
    };
    let day = DayBounds::from(&day_quota()).left(&used, Day::parse("2026-11-29").unwrap());
    let none = Bounds::from(&Spendable::default()).left(&used.counts);
    assert_eq!(
        serde_json::to_value(QuotaLeft::new(none, day)).unwrap(),
        json!({"day": {
            "sessions": 0, "turns": 42, "wallSeconds": 5398, "egressBytes": 5_u64 << 30,
            "renews": "2026-11-29T00:00:00Z"
        }})
    );
    let unbounded = DayBounds::from(&DayQuota::default()).left(&used, Day::parse("2026-11-29").unwrap());
    assert_eq!(unbounded, None);
    let session = Left {
        turns: Some(1),
        ..Left::default()
    };
    assert_eq!(
        serde_json::to_value(QuotaLeft::new(session, None)).unwrap(),
        json!({"session": {"turns": 1}})
    );
}
