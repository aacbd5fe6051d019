use super::*;
use crate::egress::decision::Malformed;
use crate::egress::fixtures::{limits, size};

fn ledger() -> Ledger {
    Ledger::new(limits(), Instant::now())
}

fn target(text: &str) -> Target {
    Target::from_authority(text, None).unwrap()
}

fn denial(text: &str) -> Denial {
    let reason = Reason::TooFast {
        limit: limits().connections_per_second,
    };
    Denial::of(&target(text), reason)
}

#[test]
fn equal_refusals_are_one_entry_until_they_are_taken() {
    let ledger = ledger();
    assert_eq!(ledger.denied(&denial("a.test:1")), Novelty::First);
    assert_eq!(ledger.denied(&denial("a.test:1")), Novelty::Again);
    assert_eq!(ledger.denied(&denial("a.test:2")), Novelty::First);
    assert_eq!(ledger.denied(&Denial::malformed(Malformed::Framing)), Novelty::First);
    let taken = ledger.take_denied();
    let taken: Vec<_> = taken.iter().map(|d| (d.host.as_str(), d.port, d.count)).collect();
    assert_eq!(taken, [("", 0, 1), ("a.test", 1, 2), ("a.test", 2, 1)]);
    assert_eq!(ledger.take_denied(), []);
    assert_eq!(ledger.denied(&denial("a.test:1")), Novelty::First);
}

#[test]
fn different_refusals_beyond_the_bound_are_only_counted() {
    let ledger = ledger();
    for port in 1..=1000 {
        ledger.denied(&denial(&format!("a.test:{port}")));
    }
    // A known one is counted as itself, however many others there are.
    assert_eq!(ledger.denied(&denial("a.test:1")), Novelty::Again);
    assert_eq!(ledger.denied(&denial("a.test:1001")), Novelty::Again);
    let taken = ledger.take_denied();
    assert_eq!(taken.len(), MAX_DENIED + 1);
    assert_eq!(taken[0].count, 2);
    assert_eq!(taken.iter().map(|denied| denied.count).sum::<u64>(), 1002);
    insta::assert_snapshot!(taken[MAX_DENIED].rule, @"further refusals: only 256 different ones are listed");
}

#[test]
fn a_slot_is_given_back_when_it_is_dropped() {
    let mut limits = limits();
    limits.connections.value = 2;
    let ledger = Ledger::new(limits, Instant::now());
    let admit = || ledger.admit(&target("a.test:1"), Instant::now());
    let (first, _second) = (admit().unwrap(), admit().unwrap());
    assert!(matches!(
        *admit().unwrap_err().reason,
        Reason::TooManyConnections { .. }
    ));
    drop(first);
    assert!(admit().is_ok());
}

#[test]
fn a_session_that_moved_all_it_may_opens_nothing_more() {
    let mut limits = limits();
    limits.bytes = size("1k");
    let ledger = Ledger::new(limits, Instant::now());
    let admit = || ledger.admit(&target("a.test:1"), Instant::now());
    ledger.moved(1023);
    assert!(admit().is_ok());
    // Exactly all: what is open may still end in order.
    ledger.moved(1);
    assert!(matches!(*admit().unwrap_err().reason, Reason::BytesUsedUp { .. }));
    assert!(!ledger.is_used_up());
    ledger.moved(1);
    assert!(ledger.is_used_up());
}

/// A day's allowance that the test fills.
#[derive(Debug)]
struct Day(AtomicU64);

impl Allowance for Day {
    fn moved(&self, bytes: u64) -> Result<(), UsedUp> {
        let before = self.0.fetch_add(bytes, Ordering::Relaxed);
        if before + bytes > 1000 { Err(used_up()) } else { Ok(()) }
    }

    fn check(&self) -> Result<(), UsedUp> {
        if self.0.load(Ordering::Relaxed) >= 1000 {
            Err(used_up())
        } else {
            Ok(())
        }
    }
}

fn used_up() -> UsedUp {
    UsedUp {
        limit: size("1000"),
        renews: "2026-11-29T00:00:00Z".to_owned(),
    }
}

#[test]
fn a_day_that_is_used_up_cuts_what_is_open_and_renews() {
    let day = Arc::new(Day(AtomicU64::new(0)));
    let bounds = SessionBounds {
        day: Some(Arc::clone(&day) as Arc<dyn Allowance>),
        ..limits().into()
    };
    let ledger = Ledger::new(bounds, Instant::now());
    let admit = || ledger.admit(&target("a.test:1"), Instant::now());
    let open = ledger.today();
    ledger.moved(1000);
    assert!(!open.is_cancelled(), "exactly all: what is open may still end in order");
    let denial = admit().unwrap_err();
    let of_the_day = Reason::BytesUsedUp {
        bound: ByteBound::Day {
            renews: "2026-11-29T00:00:00Z".to_owned(),
        },
        limit: size("1000"),
    };
    assert_eq!(*denial.reason, of_the_day);
    ledger.moved(1);
    assert!(open.is_cancelled());
    assert_eq!(*ledger.bytes_used_up(&target("a.test:1")).reason, of_the_day);
    // At midnight.
    day.0.store(0, Ordering::Relaxed);
    assert!(admit().is_ok() && !ledger.today().is_cancelled() && !ledger.is_used_up());
}

#[test]
fn a_session_goes_on_with_what_it_moved_before_and_meets_its_lower_bound() {
    let bounds = |quota: &str, before| SessionBounds {
        quota: Some(size(quota)),
        before,
        ..limits().into()
    };
    let ledger = Ledger::new(bounds("1k", 1000), Instant::now());
    assert_eq!(ledger.bytes_moved(), 1000);
    ledger.moved(24);
    let denial = ledger.admit(&target("a.test:1"), Instant::now()).unwrap_err();
    assert!(
        denial.rule().starts_with("quota.session.egress = 1KiB ("),
        "{}",
        denial.rule()
    );
    let ledger = Ledger::new(bounds("1t", u64::MAX), Instant::now());
    let denial = ledger.admit(&target("a.test:1"), Instant::now()).unwrap_err();
    assert!(denial.rule().starts_with("network.bytes = "), "{}", denial.rule());
}
