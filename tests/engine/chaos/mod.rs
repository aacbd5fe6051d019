//! Kills at random moments, of whatever has a part in a session: whatever dies, and whenever, the next start leaves nothing
//! behind and loses nothing.
//!
//! `scripts/chaos` runs [`kills`] for as long as it is told to; a dozen rounds run with every engine test. A seed makes the
//! same choices again; the moments are the machine's own.

mod dice;
mod folder;
mod round;
pub mod victims;

use crate::chaos::dice::Dice;
use crate::chaos::round::{Phase, Round, Scene, Victim};
use crate::support::lane::Lane;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Rounds of an ordinary test.
const FEW: u32 = 12;

fn seed() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let seed = std::env::var("CHAOS_SEED").ok().and_then(|text| text.parse().ok());
    seed.unwrap_or_else(|| now.unwrap_or_default().subsec_nanos().into())
}

/// `limit` ends it early, between two rounds.
fn kill_again_and_again(lane: Lane, rounds: u32, limit: Duration) {
    let seed = seed();
    eprintln!("{}: CHAOS_SEED={seed}, {rounds} kills", lane.name());
    let Some(mut scene) = Scene::new(lane) else { return };
    let mut dice = Dice::new(seed);
    let mut met: BTreeMap<(Phase, Victim), u32> = BTreeMap::new();
    let start = Instant::now();
    let mut done = 0;
    for nth in 0..rounds {
        if start.elapsed() > limit {
            eprintln!("{}: {limit:?} are over after {done} kills", lane.name());
            break;
        }
        let round = Round::thrown(&mut dice, nth);
        let begun = Instant::now();
        let hit = scene.play(&round, &mut dice);
        eprintln!(
            "{}: {nth}: {round}: {hit} ({:.1} s)",
            lane.name(),
            begun.elapsed().as_secs_f32()
        );
        *met.entry((round.phase, round.victim)).or_default() += 1;
        done += 1;
    }
    eprintln!("{}: {done} kills in {:?}: {met:?}", lane.name(), start.elapsed());
    assert!(done > 0);
}

fn a_dozen_kills_leave_nothing_and_lose_nothing(lane: Lane) {
    kill_again_and_again(lane, FEW, Duration::from_secs(60));
}

/// CHAOS_KILLS and CHAOS_SECONDS bound it.
fn kills(lane: Lane) {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse().ok());
    let rounds = number("CHAOS_KILLS").unwrap_or(100);
    let seconds = number("CHAOS_SECONDS").unwrap_or(3600);
    kill_again_and_again(lane, rounds, Duration::from_secs(u64::from(seconds)));
}

on_every_lane!(a_dozen_kills_leave_nothing_and_lose_nothing);
on_request!(kills);
