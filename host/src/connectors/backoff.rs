//! How long to wait before something that failed is tried again: equal jitter, exponential, between two bounds. Whoever
//! waits says what it waits for and between which bounds.

use std::time::Duration;

use crate::edge::entropy::{Draws, Entropy};
use crate::model::milliseconds;

/// The bounds of a wait.
#[derive(Clone, Copy, Debug)]
pub(super) struct Backoff {
    /// The longest wait after the first failure.
    pub(super) min: Duration,
    /// The longest wait of all.
    pub(super) max: Duration,
}

impl Backoff {
    /// How long to wait after so many failures in a row.
    pub(super) fn wait(self, failures: u32, entropy: &dyn Entropy) -> Duration {
        self.wait_drawn(failures, Draws::from_seed(entropy.seed()).next_u32())
    }

    /// The same, where `draw` is the random part.
    fn wait_drawn(self, failures: u32, draw: u32) -> Duration {
        let ceiling = self.min * 2u32.pow(failures.saturating_sub(1).min(16));
        let half = milliseconds(ceiling.min(self.max)) / 2;
        Duration::from_millis(half + ((u64::from(draw) * half) >> 32))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connectors::limits;

    #[test]
    fn each_failure_in_a_row_waits_longer_up_to_the_cap() {
        let backoff = Backoff { min: limits::BACKOFF_MIN, max: limits::BACKOFF_MAX };
        for (failures, least, most) in
            [(1, 250, 500), (2, 500, 1_000), (4, 2_000, 4_000), (8, 30_000, 60_000), (99, 30_000, 60_000)]
        {
            assert_eq!(backoff.wait_drawn(failures, 0), Duration::from_millis(least));
            let longest = backoff.wait_drawn(failures, u32::MAX);
            assert!(longest < Duration::from_millis(most) && longest >= Duration::from_millis(most - 1), "{failures}");
        }
    }
}
