//! How long ago something happened.
//!
//! Under one boot id the boot clock tells it, which counts suspended time and never steps: a wall clock set ten years
//! forward or back changes nothing (R1). Across boots only the wall clock is left, and a wall clock that stands before
//! the event by more than the clocks may differ tells nothing (R2). This file must never let a wall clock extend a life
//! that a boot clock can measure.

use crate::environment::Environment;
use crate::types::Instant;

/// The moment of a decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Now {
    /// By the wall clock.
    pub(super) wall_ms: u64,
    /// By the boot clock.
    pub(super) boot_ms: u64,
    /// The id of this boot.
    pub(super) boot_id: u64,
}

impl Now {
    /// Reads both clocks, which stand still for the length of a decision.
    pub(super) fn read(environment: &mut dyn Environment, boot_id: u64) -> Self {
        Self { wall_ms: environment.wall_ms(), boot_ms: environment.boot_ms(), boot_id }
    }

    /// This moment, to be stored.
    pub(super) fn instant(&self) -> Instant {
        Instant { wall_ms: self.wall_ms, boot_ms: self.boot_ms, boot_id: self.boot_id }
    }

    /// How long ago `since` was, in milliseconds; none if the wall clock, the only witness, stands before it by more
    /// than `skew_ms`.
    pub(super) fn since(&self, since: &Instant, skew_ms: u64) -> Option<u64> {
        if since.boot_id == self.boot_id {
            return Some(self.boot_ms.saturating_sub(since.boot_ms));
        }
        if self.wall_ms.saturating_add(skew_ms) < since.wall_ms {
            return None;
        }
        Some(self.wall_ms.saturating_sub(since.wall_ms))
    }

    /// For how many milliseconds from now an age stands still at zero: the wall clock, the only witness, is a little
    /// behind, and catches up first.
    pub(super) fn standstill(&self, since: &Instant) -> u64 {
        if since.boot_id == self.boot_id { 0 } else { since.wall_ms.saturating_sub(self.wall_ms) }
    }

    /// In how many milliseconds the wall clock, if it does not step, becomes a witness of `since` again.
    pub(super) fn until_witness(&self, since: &Instant, skew_ms: u64) -> u64 {
        since.wall_ms.saturating_sub(skew_ms).saturating_sub(self.wall_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SKEW: u64 = 300_000;

    fn at(wall_ms: u64, boot_ms: u64, boot_id: u64) -> Instant {
        Instant { wall_ms, boot_ms, boot_id }
    }

    #[test]
    fn across_boots_the_wall_clock_tells_the_age() {
        let now = Now { wall_ms: 1_000_000, boot_ms: 5, boot_id: 2 };
        assert_eq!(now.since(&at(900_000, 77_777, 1), SKEW), Some(100_000));
    }

    #[test]
    fn a_wall_clock_a_little_behind_counts_as_no_time_and_one_far_behind_as_unknown() {
        let now = Now { wall_ms: 1_000_000, boot_ms: 5, boot_id: 2 };
        assert_eq!(now.since(&at(1_300_000, 0, 1), SKEW), Some(0));
        assert_eq!(now.since(&at(1_300_001, 0, 1), SKEW), None);
        assert_eq!(now.until_witness(&at(1_300_001, 0, 1), SKEW), 1);
        assert_eq!(now.standstill(&at(1_300_000, 0, 1)), 300_000);
        assert_eq!((now.standstill(&at(900_000, 0, 1)), now.standstill(&at(1_300_000, 0, 2))), (0, 0));
    }

    proptest! {
        #[test]
        fn within_a_boot_the_wall_clock_has_no_say(wall: u64, other: u64, boot: u64, since_boot: u64, skew: u64) {
            let since = at(wall, since_boot, 7);
            let now = Now { wall_ms: wall, boot_ms: boot, boot_id: 7 };
            let stepped = Now { wall_ms: other, ..now };
            prop_assert_eq!(now.since(&since, skew), stepped.since(&since, skew));
            prop_assert_eq!(now.since(&since, skew), Some(boot.saturating_sub(since_boot)));
        }
    }
}
