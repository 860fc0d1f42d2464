//! Hybrid logical stamps (Kulkarni et al. 2014): near the wall clock, and above every stamp given or seen.
//!
//! A wall clock that stands still or steps back costs order nothing: the counter goes on. A stamp must never be equal to
//! or below an earlier one; only the end of the number range, which no honest clock reaches, is an exception.

use crate::environment::Environment;
use crate::types::{ClockState, Hlc, StampDecision};

/// The state of a clock that gave and saw nothing.
#[must_use]
pub fn initial_clock_state() -> ClockState {
    ClockState { last: Hlc { wall_ms: 0, counter: 0 }, memo: Vec::new() }
}

/// Gives a stamp above every stamp given or seen.
pub fn stamp(environment: &mut dyn Environment, clock: ClockState) -> StampDecision {
    let stamp = next(environment.wall_ms(), clock.last);
    StampDecision { state: ClockState { last: stamp, ..clock }, stamp }
}

/// The stamp after `last`: the wall clock if it is ahead, else the next of the same millisecond.
pub(super) fn next(wall_ms: u64, last: Hlc) -> Hlc {
    if wall_ms > last.wall_ms {
        return Hlc { wall_ms, counter: 0 };
    }
    match last.counter.checked_add(1) {
        Some(counter) => Hlc { wall_ms: last.wall_ms, counter },
        None => match last.wall_ms.checked_add(1) {
            Some(wall_ms) => Hlc { wall_ms, counter: 0 },
            None => last,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::environment::Recorded;
    use proptest::prelude::*;

    fn give(wall_ms: u64, clock: ClockState) -> StampDecision {
        stamp(&mut Recorded::new(wall_ms, 0, 0), clock)
    }

    #[test]
    fn a_stamp_follows_the_wall_clock_and_counts_within_a_millisecond() {
        let first = give(1_000, initial_clock_state());
        assert_eq!(first.stamp, Hlc { wall_ms: 1_000, counter: 0 });
        let second = give(1_000, first.state);
        assert_eq!(second.stamp, Hlc { wall_ms: 1_000, counter: 1 });
        assert_eq!(give(1_001, second.state).stamp, Hlc { wall_ms: 1_001, counter: 0 });
    }

    #[test]
    fn a_wall_clock_that_steps_back_does_not_take_stamps_with_it() {
        let first = give(5_000, initial_clock_state());
        assert_eq!(give(10, first.state).stamp, Hlc { wall_ms: 5_000, counter: 1 });
    }

    #[test]
    fn a_counter_at_its_end_moves_to_the_next_millisecond() {
        let full = ClockState { last: Hlc { wall_ms: 9, counter: u32::MAX }, memo: vec![7] };
        let decision = give(0, full);
        assert_eq!(decision.stamp, Hlc { wall_ms: 10, counter: 0 });
        assert_eq!(decision.state.memo, [7]);
    }

    proptest! {
        #[test]
        fn stamps_only_grow(walls in proptest::collection::vec(0_u64..1 << 53, 1..40), last: u32) {
            let mut clock = ClockState { last: Hlc { wall_ms: 77, counter: last }, memo: Vec::new() };
            for wall_ms in walls {
                let before = clock.last;
                let decision = give(wall_ms, clock);
                prop_assert!(decision.stamp > before);
                prop_assert_eq!(decision.stamp, decision.state.last);
                clock = decision.state;
            }
        }

        #[test]
        fn no_clock_makes_it_panic(wall_ms: u64, last_wall: u64, counter: u32) {
            let last = Hlc { wall_ms: last_wall, counter };
            prop_assert!(next(wall_ms, last) >= last);
        }
    }
}
