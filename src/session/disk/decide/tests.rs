//! Rules one by one, then a simulated writer of any speed against what the module promises.

use super::*;
use proptest::prelude::*;

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
const BOUNDS: Bounds = Bounds {
    bytes: 10 * GIB,
    entries: 1_000_000,
    reserve: GIB,
};
const TOOK: Duration = Duration::from_millis(100);

fn free(bytes: u64) -> Room {
    Room {
        free: bytes,
        inodes: 10_000_000,
        least: bytes,
    }
}

fn holds(bytes: u64) -> Tally {
    Tally {
        usage: Usage { bytes, entries: 1 },
        hidden: None,
    }
}

fn hidden(bytes: u64) -> Tally {
    Tally {
        hidden: Some("closed".into()),
        ..holds(bytes)
    }
}

fn seconds(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds)
}

/// After a first count at 0 s that found `held` with 100 GiB free.
fn after_first(held: u64) -> Decision {
    let (decision, next) = Decision::new(BOUNDS, Duration::ZERO, TOOK, free(100 * GIB), holds(held));
    assert!(matches!(next, Next::Look(_)), "{next:?}");
    decision
}

#[test]
fn a_count_waits_until_all_that_is_left_could_be_gone() {
    let decision = after_first(4 * GIB);
    assert!(matches!(
        decision.looked(seconds(2.0), free(94 * GIB + 1)),
        Next::Look(_)
    ));
    assert_eq!(decision.looked(seconds(2.0), free(94 * GIB)), Next::Count);
    let mut inodes = free(100 * GIB);
    inodes.inodes -= 999_998;
    assert!(matches!(decision.looked(seconds(2.0), inodes), Next::Look(_)));
    inodes.inodes -= 1;
    assert_eq!(decision.looked(seconds(2.0), inodes), Next::Count);
}

#[test]
fn a_count_rests_for_ten_times_its_duration_and_comes_once_a_minute() {
    let decision = after_first(4 * GIB);
    assert_eq!(decision.looked(seconds(0.99), free(50 * GIB)), Next::Look(FASTEST_LOOK));
    assert_eq!(decision.looked(seconds(1.0), free(50 * GIB)), Next::Count);
    assert!(matches!(decision.looked(seconds(59.9), free(100 * GIB)), Next::Look(_)));
    assert_eq!(decision.looked(seconds(60.0), free(100 * GIB)), Next::Count);
}

#[test]
fn the_less_is_left_the_sooner_is_the_next_look() {
    let decision = after_first(4 * GIB);
    for (left, pause) in [(100, 1000), (98, 1000), (96, 500), (95, 250)] {
        let next = decision.looked(seconds(1.0), free(left * GIB));
        assert_eq!(next, Next::Look(Duration::from_millis(pause)), "{left}");
    }
}

#[test]
fn over_a_limit_is_the_end() {
    let mut decision = after_first(4 * GIB);
    let exactly = decision.counted(seconds(2.0), TOOK, free(90 * GIB), holds(10 * GIB));
    assert!(matches!(exactly, Next::Look(_)), "{exactly:?}");
    let found = 10 * GIB + 1;
    let hidden = None;
    assert_eq!(
        decision.counted(seconds(4.0), TOOK, free(90 * GIB), holds(found)),
        Next::Stop(Finding::Bytes { found, hidden })
    );
    let mut many = holds(1);
    many.usage.entries = 1_000_001;
    assert_eq!(
        decision.counted(seconds(6.0), TOOK, free(90 * GIB), many.clone()),
        Next::Stop(Finding::Entries { hidden: None })
    );
    // One that was over it before it began.
    let (_, next) = Decision::new(BOUNDS, Duration::ZERO, TOOK, free(90 * GIB), many);
    assert_eq!(next, Next::Stop(Finding::Entries { hidden: None }));
}

#[test]
fn what_is_hidden_is_taken_for_all_that_the_disk_lost() {
    let mut decision = after_first(4 * GIB);
    let next = decision.counted(seconds(2.0), TOOK, free(95 * GIB), hidden(0));
    assert!(matches!(next, Next::Look(_)), "{next:?}");
    assert_eq!(decision.usage().bytes, 9 * GIB);
    let over = decision.counted(seconds(4.0), TOOK, free(93 * GIB), hidden(0));
    assert!(
        matches!(&over, Next::Stop(Finding::Bytes { found, hidden: Some(_) }) if *found == 11 * GIB),
        "{over:?}"
    );
    // Whoever took it: once all can be seen again, it is known.
    let next = decision.counted(seconds(6.0), TOOK, free(93 * GIB), holds(4 * GIB));
    assert!(matches!(next, Next::Look(_)), "{next:?}");
    let next = decision.counted(seconds(8.0), TOOK, free(92 * GIB), hidden(0));
    assert!(matches!(next, Next::Look(_)), "{next:?}");
    assert_eq!(decision.usage().bytes, 5 * GIB);
}

#[test]
fn a_short_host_ends_who_has_grown() {
    let mut decision = after_first(4 * GIB);
    // First of all a count, without the rest.
    assert_eq!(decision.looked(seconds(0.1), free(GIB - 1)), Next::Count);
    let grown = NOTICEABLE;
    let short = decision.counted(seconds(0.3), TOOK, free(GIB - 1), holds(4 * GIB + grown));
    let free_now = GIB - 1;
    assert_eq!(short, Next::Stop(Finding::Short { free: free_now, grown }));
    // Who has grown before is known at once.
    let mut decision = after_first(4 * GIB);
    let fine = decision.counted(seconds(2.0), TOOK, free(GIB), holds(5 * GIB));
    assert!(matches!(fine, Next::Look(_)), "{fine:?}");
    assert_eq!(
        decision.looked(seconds(2.1), free(free_now)),
        Next::Stop(Finding::Short {
            free: free_now,
            grown: GIB
        })
    );
}

#[test]
fn a_short_host_spares_who_has_not_grown_until_half_of_the_reserve() {
    let mut decision = after_first(4 * GIB);
    let spared = decision.counted(seconds(1.0), TOOK, free(GIB / 2), holds(4 * GIB + NOTICEABLE - 1));
    assert!(matches!(spared, Next::Look(_)), "{spared:?}");
    // No further fall, no further count.
    assert!(matches!(decision.looked(seconds(3.0), free(GIB / 2)), Next::Look(_)));
    assert_eq!(decision.looked(seconds(3.0), free(GIB / 2 - 1)), Next::Count);
    let free_now = GIB / 2 - 1;
    let lost = 100 * GIB - free_now;
    assert_eq!(
        decision.counted(seconds(3.2), TOOK, free(free_now), holds(4 * GIB)),
        Next::Stop(Finding::Unexplained { free: free_now, lost })
    );
}

#[test]
fn a_disk_that_was_as_full_before_is_no_reason() {
    let tight = free(GIB / 4);
    let (decision, next) = Decision::new(BOUNDS, Duration::ZERO, TOOK, tight, holds(4 * GIB));
    assert!(matches!(next, Next::Look(_)), "{next:?}");
    assert!(matches!(decision.looked(seconds(5.0), tight), Next::Look(_)));
}

/// One stretch of time in the life of a session and its host.
#[derive(Debug, Clone)]
struct Stretch {
    length: Duration,
    /// MiB a second that the session writes.
    writes: u64,
    /// MiB a second that others on the host write.
    others_write: u64,
    /// MiB a second that others on the host free.
    others_free: u64,
    /// How long a count takes.
    count: Duration,
}

fn stretch(most_freed: u64) -> impl Strategy<Value = Stretch> {
    let speed = prop_oneof![Just(0), 0..50u64, 0..5000u64];
    (1..40_000u64, speed, 0..300u64, 0..=most_freed, 1..2000u64).prop_map(
        |(millis, writes, others_write, others_free, count)| Stretch {
            length: Duration::from_millis(millis),
            writes,
            others_write,
            others_free,
            count: Duration::from_millis(count),
        },
    )
}

/// What is under way: until when, and for a count how long it takes and what it will have seen.
struct UnderWay {
    until: Duration,
    count: Option<(Duration, u64, Room)>,
}

struct Outcome {
    stop: Option<Finding>,
    /// What it had written at the end, in bytes.
    written: u64,
    elapsed: Duration,
    counting: Duration,
}

/// Plays the stretches. A count sees what was there when it began, which is the least that it can have seen.
fn play(bounds: Bounds, stretches: &[Stretch]) -> Outcome {
    const STEP: Duration = Duration::from_millis(10);
    /// More than all of them can write, so that the disk itself is no bound here.
    const DISK: u64 = 1 << 50;
    let (mut written, mut others) = (0u64, 0i64);
    let room = |written: u64, others: i64| free((DISK - written).saturating_add_signed(-others));
    let (mut decision, mut next) = Decision::new(bounds, Duration::ZERO, Duration::ZERO, room(0, 0), holds(0));
    let (mut now, mut counting) = (Duration::ZERO, Duration::ZERO);
    let mut under_way = None;
    for stretch in stretches {
        let end = now + stretch.length;
        while now < end {
            let effect = under_way.get_or_insert_with(|| match &next {
                Next::Look(after) => UnderWay {
                    until: now + *after,
                    count: None,
                },
                Next::Count => UnderWay {
                    until: now + stretch.count,
                    count: Some((stretch.count, written, room(written, others))),
                },
                Next::Stop(_) => UnderWay {
                    until: now,
                    count: None,
                },
            });
            if now >= effect.until {
                next = match effect.count {
                    None => decision.looked(now, room(written, others)),
                    Some((took, seen, before)) => {
                        counting += took;
                        decision.counted(now, took, before, holds(seen))
                    }
                };
                under_way = None;
                if let Next::Stop(finding) = next {
                    return Outcome {
                        stop: Some(finding),
                        written,
                        elapsed: now,
                        counting,
                    };
                }
                // What a decision asks for begins at once.
                continue;
            }
            now += STEP;
            let millis = STEP.as_millis() as u64;
            written += stretch.writes * MIB / 1000 * millis;
            others += ((stretch.others_write as i64) - (stretch.others_free as i64)) * (MIB / 1000 * millis) as i64;
        }
    }
    Outcome {
        stop: None,
        written,
        elapsed: now,
        counting,
    }
}

/// The promise of the module's head, and a few steps of the simulation's own clock.
fn most_over(stretches: &[Stretch], floor: Duration) -> u64 {
    let fastest = stretches.iter().map(|stretch| stretch.writes).max().unwrap_or(0);
    let count = stretches.iter().map(|stretch| stretch.count).max().unwrap_or_default();
    let late = floor + SLOWEST_LOOK + count * 12 + Duration::from_millis(50);
    (fastest as f64 * MIB as f64 * late.as_secs_f64()) as u64
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn a_writer_of_any_speed_is_stopped_in_time(stretches in prop::collection::vec(stretch(0), 1..12)) {
        let outcome = play(BOUNDS, &stretches);
        prop_assert!(outcome.written <= BOUNDS.bytes + most_over(&stretches, Duration::ZERO));
        match outcome.stop {
            Some(Finding::Bytes { found, .. }) => prop_assert!(found > BOUNDS.bytes && found <= outcome.written),
            Some(other) => prop_assert!(false, "{other:?}"),
            None => {}
        }
    }

    #[test]
    fn one_that_others_hide_by_freeing_space_is_found_all_the_same(
        stretches in prop::collection::vec(stretch(6000), 1..12)
    ) {
        let outcome = play(BOUNDS, &stretches);
        prop_assert!(outcome.written <= BOUNDS.bytes + most_over(&stretches, FLOOR));
    }

    #[test]
    fn counting_takes_a_tenth_of_the_time_at_most(stretches in prop::collection::vec(stretch(100), 1..12)) {
        let outcome = play(Bounds { bytes: u64::MAX >> 1, ..BOUNDS }, &stretches);
        prop_assert_eq!(&outcome.stop, &None);
        let near = play(Bounds { bytes: outcome.written.max(1), ..BOUNDS }, &stretches);
        prop_assert_eq!(near.stop, None, "at its limit is not over it");
        let one = stretches.iter().map(|stretch| stretch.count).max().unwrap_or_default();
        prop_assert!(near.counting <= near.elapsed / 10 + one, "{:?} of {:?}", near.counting, near.elapsed);
    }
}
