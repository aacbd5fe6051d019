//! Whether and when a request that got no answer is sent again. Pure: chance is passed in.
//!
//! Only where no byte of an answer came: whatever comes after that is Codex's to repeat.

use std::time::Duration;

/// How often a request is sent, the first time included.
const TIMES: u32 = 3;
const FIRST_WAIT: Duration = Duration::from_millis(200);

/// How long to wait before the attempt after `attempt` (the first is 1); `None` where there is none. `chance` spreads sessions
/// that failed together: of each wait a half to the whole is taken.
pub fn wait_after(attempt: u32, chance: u32) -> Option<Duration> {
    if attempt >= TIMES {
        return None;
    }
    let wait = FIRST_WAIT * 3_u32.pow(attempt.saturating_sub(1));
    let half = wait / 2;
    Some(half + half.mul_f64(f64::from(chance) / f64::from(u32::MAX)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_request_is_sent_three_times() {
        assert!(wait_after(1, 0).is_some());
        assert!(wait_after(2, 0).is_some());
        assert_eq!(wait_after(3, 0), None);
    }

    proptest! {
        #[test]
        fn waits_grow_and_are_spread(chance: u32) {
            let first = wait_after(1, chance).unwrap();
            let second = wait_after(2, chance).unwrap();
            prop_assert!((100..=200).contains(&first.as_millis()), "{first:?}");
            prop_assert!((300..=600).contains(&second.as_millis()), "{second:?}");
        }
    }
}
