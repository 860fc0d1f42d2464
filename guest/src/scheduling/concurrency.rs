//! How many runs may be under way at once.
//!
//! Additive increase, multiplicative decrease (reliability.md 6.3). It starts at the configured maximum, because most
//! origins are idle; a limit's worth of good runs adds one place; overload (a timeout, a refusal of more requests, a
//! failing server, or a run of three times the best duration) takes a quarter, at most once per limit's worth of
//! outcomes, so that one burst of bad news counts once. Names that do not resolve, refused connections and refused
//! credentials say nothing about load. It must never leave the configured bounds, nor override a fixed number.

use crate::environment::share;
use crate::limits::{BASELINE_AGEING_PERMILLE, DECREASE_PERMILLE, OVERLOAD_FACTOR, OVERLOAD_NOISE_MS, PLACE_MILLI};
use crate::types::{
    ConcurrencyConfig, ConcurrencyDecision, ConcurrencyEvent, ConcurrencyReason, ConcurrencyState, FailureClass,
    FinishedEvent, RunOutcome,
};

#[cfg(test)]
mod tests;

/// The state before the first event.
#[must_use]
pub fn initial_concurrency_state() -> ConcurrencyState {
    ConcurrencyState { limit_milli: 0, in_flight: 0, baseline_ms: None, since_decrease: 0, memo: Vec::new() }
}

/// Decides how many runs may be under way at once.
#[must_use]
pub fn concurrency(
    config: &ConcurrencyConfig,
    mut state: ConcurrencyState,
    event: ConcurrencyEvent,
) -> ConcurrencyDecision {
    let bounds = Bounds::of(config);
    let first = state.limit_milli == 0;
    if first {
        state.limit_milli = bounds.greatest_milli;
        // The limit never fell yet: the first overload counts at once.
        state.since_decrease = u32::MAX;
    }
    state.limit_milli = bounds.clamp(state.limit_milli);
    let learnt = match event {
        ConcurrencyEvent::Began => {
            state.in_flight = state.in_flight.saturating_add(1);
            ConcurrencyReason::Unchanged
        }
        ConcurrencyEvent::Finished(event) => {
            state.in_flight = state.in_flight.saturating_sub(1);
            finished(&bounds, &mut state, &event)
        }
    };
    let reason = match learnt {
        _ if config.fixed.is_some() => ConcurrencyReason::Fixed,
        ConcurrencyReason::Unchanged if first => ConcurrencyReason::Initial,
        learnt => learnt,
    };
    ConcurrencyDecision { limit: places(state.limit_milli), state, reason }
}

/// The range of the limit, in thousandths of a place. A fixed number leaves no range.
struct Bounds {
    least_milli: u64,
    greatest_milli: u64,
}

impl Bounds {
    fn of(config: &ConcurrencyConfig) -> Self {
        let (least, greatest) = match config.fixed {
            Some(fixed) => (fixed.max(1), fixed.max(1)),
            None => (config.minimum.max(1), config.maximum.max(config.minimum).max(1)),
        };
        Self { least_milli: u64::from(least) * PLACE_MILLI, greatest_milli: u64::from(greatest) * PLACE_MILLI }
    }

    fn clamp(&self, limit_milli: u64) -> u64 {
        limit_milli.clamp(self.least_milli, self.greatest_milli)
    }
}

/// Whole places, at least one.
fn places(limit_milli: u64) -> u32 {
    u32::try_from(limit_milli / PLACE_MILLI).unwrap_or(u32::MAX).max(1)
}

fn finished(bounds: &Bounds, state: &mut ConcurrencyState, event: &FinishedEvent) -> ConcurrencyReason {
    let before = state.limit_milli;
    state.since_decrease = state.since_decrease.saturating_add(1);
    let overload = is_overload(state.baseline_ms, event);
    if event.outcome == RunOutcome::Succeeded {
        state.baseline_ms = Some(aged(state.baseline_ms, event.duration_ms));
    }
    if overload {
        if state.since_decrease < places(before) {
            return ConcurrencyReason::Unchanged;
        }
        state.limit_milli = bounds.clamp(share(before, DECREASE_PERMILLE));
        if state.limit_milli == before {
            return ConcurrencyReason::Unchanged;
        }
        state.since_decrease = 0;
        return ConcurrencyReason::Decreased;
    }
    if event.outcome != RunOutcome::Succeeded {
        return ConcurrencyReason::Unchanged;
    }
    // A limit's worth of good runs adds one place.
    let gain = (PLACE_MILLI * PLACE_MILLI / before.max(1)).max(1);
    state.limit_milli = bounds.clamp(before.saturating_add(gain));
    if state.limit_milli == before { ConcurrencyReason::Unchanged } else { ConcurrencyReason::Increased }
}

fn is_overload(baseline: Option<u64>, event: &FinishedEvent) -> bool {
    match &event.outcome {
        RunOutcome::Failed(FailureClass::Timeout | FailureClass::Throttled | FailureClass::Server) => true,
        RunOutcome::Failed(_) | RunOutcome::Cancelled => false,
        RunOutcome::Succeeded => baseline.is_some_and(|baseline| {
            event.duration_ms > baseline.saturating_mul(OVERLOAD_FACTOR)
                && event.duration_ms - baseline > OVERLOAD_NOISE_MS
        }),
    }
}

/// The best duration seen, after it aged upwards by one run: an origin that became slower is measured anew.
fn aged(baseline: Option<u64>, duration_ms: u64) -> u64 {
    baseline.map_or(duration_ms, |baseline| {
        baseline.saturating_add(share(baseline, BASELINE_AGEING_PERMILLE).max(1)).min(duration_ms)
    })
}
