use super::*;
use crate::config::Sourced;
use crate::config::network::EgressLimits;
use crate::config::quantity::ByteSize;
use crate::config::target::Target;
use crate::egress::allowance::{Allowance, SessionBounds, UsedUp};
use crate::egress::fixtures::{limits, size};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

fn metered(bounds: impl Into<SessionBounds>) -> (Metered<DuplexStream>, DuplexStream) {
    let (near, far) = tokio::io::duplex(1 << 20);
    let ledger = Arc::new(Ledger::new(bounds, Instant::now().into_std()));
    let target = Target::from_authority("a.test:1", None).unwrap();
    let slot = ledger.admit(&target, Instant::now().into_std()).unwrap();
    (Metered::new(near, ledger, slot), far)
}

fn slowed(speed: &str) -> EgressLimits {
    let speed: Sourced<ByteSize> = size(speed);
    EgressLimits {
        bytes_per_second: Some(speed),
        ..limits()
    }
}

#[tokio::test(start_paused = true)]
async fn bytes_take_their_time_in_both_directions_together() {
    let (mut near, mut far) = metered(slowed("1k"));
    let start = Instant::now();
    far.write_all(&[0; 2048]).await.unwrap();
    near.read_exact(&mut [0; 2048]).await.unwrap();
    near.write_all(&[0; 2048]).await.unwrap();
    // What was moved is paid for before more is: the first second's bytes are there at the start, and of 4 KiB the last
    // write goes before it is paid for.
    assert_eq!(start.elapsed().as_millis(), 1000);
    near.write_all(&[0]).await.unwrap();
    assert_eq!(start.elapsed().as_millis(), 3000);
}

#[tokio::test(start_paused = true)]
async fn a_silent_connection_is_cut_and_a_busy_one_is_not() {
    let (mut near, mut far) = metered(limits());
    let meter = near.meter();
    let start = Instant::now();
    let talk = async {
        for _ in 0..10 {
            tokio::time::sleep(Duration::from_secs(299)).await;
            far.write_all(&[0]).await.unwrap();
            near.read_exact(&mut [0]).await.unwrap();
        }
        std::future::pending::<()>().await;
    };
    tokio::select! {
        () = talk => {}
        cut = meter.cut() => assert_eq!(cut, Cut::Idle(Duration::from_secs(300))),
    }
    assert_eq!(start.elapsed().as_secs(), 2990 + 300);
    assert_eq!(meter.was_cut(), Some(Cut::Idle(Duration::from_secs(300))));
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_never_ends_is_cut() {
    let (mut near, _far) = metered(limits());
    let meter = near.meter();
    let talk = async {
        loop {
            tokio::time::sleep(Duration::from_secs(200)).await;
            near.write_all(&[0]).await.unwrap();
        }
    };
    let start = Instant::now();
    tokio::select! {
        () = talk => {}
        cut = meter.cut() => assert_eq!(cut, Cut::Total(Duration::from_secs(3600))),
    }
    assert_eq!(start.elapsed().as_secs(), 3600);
}

#[tokio::test]
async fn what_one_connection_used_up_another_has_not() {
    let bounded = EgressLimits {
        bytes: size("1k"),
        ..limits()
    };
    let (mut near, mut far) = metered(bounded);
    let meter = near.meter();
    assert_eq!(meter.was_cut(), None);
    near.write_all(&[0; 1024]).await.unwrap();
    assert_eq!(meter.was_cut(), None);
    far.write_all(&[0; 16]).await.unwrap();
    near.read_exact(&mut [0; 1]).await.unwrap();
    assert_eq!(meter.cut().await, Cut::BytesUsedUp);
    assert!(near.read(&mut [0]).await.is_err());
    assert!(near.write(&[0]).await.is_err());
}

/// Of which nothing was left but the first byte.
#[derive(Debug)]
struct OneByte;

impl Allowance for OneByte {
    fn moved(&self, bytes: u64) -> Result<(), UsedUp> {
        let used_up = || UsedUp {
            limit: size("1"),
            renews: String::new(),
        };
        (bytes <= 1).then_some(()).ok_or_else(used_up)
    }

    fn check(&self) -> Result<(), UsedUp> {
        Ok(())
    }
}

#[tokio::test]
async fn a_day_without_bytes_cuts_a_connection() {
    let (mut near, _far) = metered(SessionBounds {
        day: Some(Arc::new(OneByte)),
        ..limits().into()
    });
    let meter = near.meter();
    near.write_all(&[0]).await.unwrap();
    assert_eq!(meter.was_cut(), None);
    near.write_all(&[0; 2]).await.unwrap();
    assert_eq!(meter.cut().await, Cut::BytesUsedUp);
    assert_eq!(meter.was_cut(), Some(Cut::BytesUsedUp));
    assert!(near.read(&mut [0]).await.is_err());
    assert!(near.write(&[0]).await.is_err());
}
