//! A sliding window: how much may pass in a period. In no stretch of a period's length does more than the limit pass. (A leaky
//! bucket of the same rate and burst lets up to twice as much through.)
//!
//! It counts in slots of a sixtieth of the period, so that its memory is bounded whatever the limit is.

use std::collections::VecDeque;
use std::time::Duration;

use super::BootMs;

/// Slots of a window. More are finer, and cost memory.
const SLOTS: u64 = 60;

/// What passed within one period.
#[derive(Clone, Debug)]
pub struct SlidingWindow {
    limit: u64,
    slot_ms: u64,
    /// Slots in which something passed, oldest first, with how much.
    slots: VecDeque<(u64, u64)>,
}

impl SlidingWindow {
    /// A window through which `limit` may pass in each `period`, of at least 60 ms.
    pub fn new(limit: u32, period: Duration) -> Self {
        let slot_ms = (super::milliseconds(period) / SLOTS).max(1);
        Self { limit: limit.into(), slot_ms, slots: VecDeque::new() }
    }

    /// How much may pass in a period.
    pub fn limit(&self) -> u64 {
        self.limit
    }

    /// How long until one more may pass; none: now.
    pub fn wait(&mut self, now: BootMs) -> Option<Duration> {
        let slot = now.0 / self.slot_ms;
        // A slot counts until the whole of it is a period ago.
        while self.slots.front().is_some_and(|(oldest, _)| oldest + SLOTS < slot) {
            self.slots.pop_front();
        }
        let passed: u64 = self.slots.iter().map(|(_, count)| count).sum();
        if passed < self.limit {
            return None;
        }
        let oldest = self.slots.front().map_or(slot, |(oldest, _)| *oldest);
        let free_at = (oldest + SLOTS + 1) * self.slot_ms;
        Some(Duration::from_millis(free_at.saturating_sub(now.0).max(1)))
    }

    /// One more passes.
    pub fn count(&mut self, now: BootMs) {
        let slot = now.0 / self.slot_ms;
        match self.slots.back_mut() {
            Some((newest, count)) if *newest == slot => *count += 1,
            _ => self.slots.push_back((slot, 1)),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn who_waits_as_long_as_told_passes() {
        let mut window = SlidingWindow::new(2, Duration::from_secs(60));
        for now in [BootMs(500), BootMs(700)] {
            assert_eq!(window.wait(now), None);
            window.count(now);
        }
        let wait = window.wait(BootMs(900)).unwrap();
        assert_eq!(window.wait(BootMs(900).plus(wait)), None);
    }

    proptest! {
        #[test]
        fn in_no_stretch_of_a_period_does_more_than_the_limit_pass(
            limit in 1u32..9, steps in proptest::collection::vec(0u64..4_000, 1..200)
        ) {
            let mut window = SlidingWindow::new(limit, Duration::from_secs(60));
            let (mut now, mut passed) = (0, Vec::new());
            for step in steps {
                now += step;
                if window.wait(BootMs(now)).is_none() {
                    window.count(BootMs(now));
                    passed.push(now);
                }
            }
            for (position, first) in passed.iter().enumerate() {
                let within = passed[position..].iter().take_while(|time| **time < first + 60_000).count();
                prop_assert!(within <= limit as usize, "{} from {} ms on", within, first);
            }
        }
    }
}
