//! Which containers of dead owners to remove. Pure.
//!
//! A server that was killed can leave containers: running for the moment until their PID 1 sees the end of its
//! pipe, and above all *created* ones, killed between create and start, which nothing but this ever removes.

use super::owner::Owner;
use std::time::{Duration, SystemTime};

/// A container that carries our session label, or a half-made one of our name, as an engine lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sighting {
    pub name: String,
    /// `None` where one of the owner's labels is missing or does not parse.
    pub owner: Option<Owner>,
    pub state: ContainerState,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ContainerState {
    /// Its file system was made, and its client killed before labels and all else were written down.
    HalfMade {
        since: SystemTime,
    },
    /// Created, never started.
    Created,
    /// Running, paused, stopping: there are processes in it.
    Running,
    Ended,
}

/// No launch takes this long between its first and its second step: what is half-made for longer stays so.
const HALF_MADE: Duration = Duration::from_secs(600);

/// The containers to remove by force.
///
/// - Without a whole owner: left. All labels are set by the one call that creates a container, so ours are never
///   incomplete; a name or one label alone could be anybody's.
/// - Half-made: nobody's by its labels, so only once it is too old to be a launch under way.
/// - Of this process: left, whatever its state: its session sees to it.
/// - Of another boot (or PID namespace): removed unless it runs. A boot of this machine ended all that ran, so
///   what runs belongs to another machine that shares the engine, and whose processes can't be seen from here.
/// - Of this boot: removed if its owner is dead.
pub fn to_remove<'s>(
    sightings: &'s [Sighting],
    me: &Owner,
    now: SystemTime,
    is_alive: impl Fn(&Owner) -> bool,
) -> Vec<&'s Sighting> {
    sightings
        .iter()
        .filter(|sighting| is_left_over(sighting, me, now, &is_alive))
        .collect()
}

fn is_left_over(sighting: &Sighting, me: &Owner, now: SystemTime, is_alive: impl Fn(&Owner) -> bool) -> bool {
    if let ContainerState::HalfMade { since } = sighting.state {
        // A time in the future is a clock that was set back, not an age.
        return now.duration_since(since).is_ok_and(|age| age > HALF_MADE);
    }
    match &sighting.owner {
        None => false,
        Some(owner) if owner == me => false,
        Some(owner) if owner.boot_id != me.boot_id => sighting.state != ContainerState::Running,
        Some(owner) => !is_alive(owner),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owner(pid: u32, boot: &str) -> Owner {
        Owner {
            pid,
            start_ticks: 1,
            boot_id: boot.to_owned(),
        }
    }

    fn removed(owner: Option<Owner>, state: ContainerState) -> bool {
        let sightings = [Sighting {
            name: "codex-mcp-00112233445566778899".to_owned(),
            owner,
            state,
        }];
        let me = super::tests::owner(1, "now");
        !to_remove(&sightings, &me, now(), |owner| owner.pid == 2).is_empty()
    }

    fn now() -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000)
    }

    use ContainerState::{Created, Ended, Running};

    #[test]
    fn a_half_made_one_goes_once_no_launch_can_be_under_way() {
        let ago = |seconds| ContainerState::HalfMade {
            since: now() - Duration::from_secs(seconds),
        };
        assert!(!removed(None, ago(0)));
        assert!(!removed(None, ago(600)));
        assert!(removed(None, ago(601)));
        let later = ContainerState::HalfMade {
            since: now() + Duration::from_secs(3600),
        };
        assert!(!removed(None, later));
    }

    #[test]
    fn a_dead_owners_containers_go_in_every_state() {
        for state in [Created, Running, Ended] {
            assert!(removed(Some(owner(3, "now")), state), "{state:?}");
        }
    }

    #[test]
    fn a_live_owners_and_our_own_stay() {
        for state in [Created, Running, Ended] {
            assert!(!removed(Some(owner(2, "now")), state), "{state:?}");
            assert!(!removed(Some(owner(1, "now")), state), "{state:?}");
        }
    }

    #[test]
    fn what_runs_for_another_boot_is_another_machines() {
        // Pid 2 is alive here, which says nothing about pid 2 there.
        assert!(!removed(Some(owner(2, "before")), Running));
        assert!(removed(Some(owner(2, "before")), Created));
        assert!(removed(Some(owner(2, "before")), Ended));
    }

    #[test]
    fn what_is_not_provably_ours_stays() {
        assert!(!removed(None, Created));
        assert!(!removed(None, Ended));
    }

    #[test]
    fn of_many_only_the_left_over_ones_are_named() {
        let sighting = |name: &str, pid| Sighting {
            name: name.to_owned(),
            owner: Some(owner(pid, "now")),
            state: Created,
        };
        let sightings = [sighting("a", 2), sighting("b", 3), sighting("c", 1), sighting("d", 4)];
        let names: Vec<_> = to_remove(&sightings, &owner(1, "now"), now(), |owner| owner.pid == 2)
            .iter()
            .map(|s| s.name.as_str())
            .collect();
        assert_eq!(names, ["b", "d"]);
    }
}
