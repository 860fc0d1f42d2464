//! The order in which connectors that wait are connected.
//!
//! Known-bad last, so that connectors which will probably hang never hold the places of those that will not (the seeds'
//! defect M11). Within the good: who is waited for, then who serves nothing yet, then the quick. Within the bad: who is
//! waited for, then who failed least. Ties go by id, then by position: the order is a function of the candidates, and
//! must contain each position exactly once.

use crate::types::{Candidate, PlanConfig, PlanDecision};

/// Decides who goes first. A duration that nobody knows counts as `slow-after-ms`: neither quick nor given up.
#[must_use]
pub fn plan(config: &PlanConfig, candidates: &[Candidate]) -> PlanDecision {
    let slow_after_ms = config.slow_after_ms.max(1);
    let mut order: Vec<(u32, &Candidate)> = (0_u32..).zip(candidates).collect();
    order.sort_by_key(|(position, candidate)| {
        (
            candidate.failures > 0,
            !candidate.wanted,
            candidate.failures,
            candidate.serving,
            candidate.last_duration_ms.unwrap_or(slow_after_ms),
            candidate.id.as_str(),
            *position,
        )
    });
    PlanDecision { order: order.into_iter().map(|(position, _)| position).collect(), slow_after_ms }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Picks;
    use proptest::prelude::*;

    fn candidate(id: &str) -> Candidate {
        Candidate {
            id: id.to_owned(),
            failures: 0,
            last_class: None,
            last_duration_ms: Some(100),
            serving: true,
            wanted: false,
        }
    }

    fn order(candidates: &[Candidate]) -> Vec<&str> {
        let decision = plan(&PlanConfig { slow_after_ms: 1_000, options: Vec::new() }, candidates);
        decision.order.into_iter().map(|position| candidates[position as usize].id.as_str()).collect()
    }

    #[test]
    fn known_bad_connectors_go_last_even_if_somebody_waits_for_them() {
        let candidates = [
            Candidate { failures: 3, wanted: true, ..candidate("bad-wanted") },
            Candidate { failures: 1, ..candidate("bad-once") },
            Candidate { failures: 9, ..candidate("bad-often") },
            Candidate { last_duration_ms: Some(9_000), ..candidate("slow") },
        ];
        assert_eq!(order(&candidates), ["slow", "bad-wanted", "bad-once", "bad-often"]);
    }

    #[test]
    fn who_is_waited_for_goes_before_who_serves_nothing_and_then_the_quick() {
        let candidates = [
            candidate("b-served"),
            candidate("a-served"),
            Candidate { last_duration_ms: Some(7), ..candidate("z-quick") },
            Candidate { last_duration_ms: None, ..candidate("unknown") },
            Candidate { serving: false, ..candidate("empty") },
            Candidate { wanted: true, ..candidate("wanted") },
        ];
        assert_eq!(order(&candidates), ["wanted", "empty", "z-quick", "a-served", "b-served", "unknown"]);
    }

    #[test]
    fn a_slow_lane_time_of_zero_becomes_one() {
        assert_eq!(plan(&PlanConfig { slow_after_ms: 0, options: Vec::new() }, &[]).slow_after_ms, 1);
    }

    proptest! {
        #[test]
        fn every_position_comes_exactly_once_and_the_order_is_repeatable(seed: u64) {
            let mut picks = Picks::new(seed);
            let candidates: Vec<Candidate> = (0..picks.below(40)).map(|_| picks.candidate()).collect();
            let config = PlanConfig { slow_after_ms: picks.number(), options: Vec::new() };
            let decision = plan(&config, &candidates);
            let mut sorted = decision.order.clone();
            sorted.sort_unstable();
            prop_assert_eq!(sorted, (0..candidates.len() as u32).collect::<Vec<_>>());
            prop_assert_eq!(plan(&config, &candidates), decision);
        }

        #[test]
        fn no_known_bad_connector_goes_before_a_good_one(seed: u64) {
            let mut picks = Picks::new(seed);
            let candidates: Vec<Candidate> = (0..picks.below(40)).map(|_| picks.candidate()).collect();
            let decision = plan(&PlanConfig { slow_after_ms: 1_000, options: Vec::new() }, &candidates);
            let bad: Vec<bool> = decision.order.iter().map(|at| candidates[*at as usize].failures > 0).collect();
            prop_assert!(bad.is_sorted());
        }
    }
}
