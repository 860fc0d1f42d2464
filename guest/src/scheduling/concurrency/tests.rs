//! The rules of the concurrency limit.

use super::*;
use crate::testing::Picks;
use proptest::prelude::*;

fn config() -> ConcurrencyConfig {
    ConcurrencyConfig { minimum: 2, maximum: 32, fixed: None, options: Vec::new() }
}

fn done(duration_ms: u64) -> ConcurrencyEvent {
    ConcurrencyEvent::Finished(FinishedEvent { duration_ms, outcome: RunOutcome::Succeeded })
}

fn failed(class: FailureClass) -> ConcurrencyEvent {
    ConcurrencyEvent::Finished(FinishedEvent { duration_ms: 1, outcome: RunOutcome::Failed(class) })
}

fn decide(state: ConcurrencyState, event: ConcurrencyEvent) -> ConcurrencyDecision {
    concurrency(&config(), state, event)
}

fn at(places: u64) -> ConcurrencyState {
    ConcurrencyState { limit_milli: places * PLACE_MILLI, since_decrease: 1_000, ..initial_concurrency_state() }
}

#[test]
fn it_starts_at_the_maximum() {
    let decision = decide(initial_concurrency_state(), ConcurrencyEvent::Began);
    assert_eq!((decision.limit, decision.reason), (32, ConcurrencyReason::Initial));
    assert_eq!(decision.state.in_flight, 1);
}

#[test]
fn a_limits_worth_of_good_runs_adds_one_place() {
    let mut state = at(8);
    for _ in 0..9 {
        let decision = decide(state, done(100));
        assert_eq!(decision.reason, ConcurrencyReason::Increased);
        state = decision.state;
    }
    assert_eq!(places(state.limit_milli), 9);
}

#[test]
fn overload_takes_a_quarter_at_most_once_per_limits_worth_of_outcomes() {
    let first = decide(initial_concurrency_state(), failed(FailureClass::Timeout));
    assert_eq!((first.limit, first.reason), (24, ConcurrencyReason::Decreased));
    let mut state = first.state;
    for _ in 0..23 {
        let decision = decide(state, failed(FailureClass::Server));
        assert_eq!((decision.limit, decision.reason), (24, ConcurrencyReason::Unchanged));
        state = decision.state;
    }
    let second = decide(state, failed(FailureClass::Throttled));
    assert_eq!((second.limit, second.reason), (18, ConcurrencyReason::Decreased));
}

#[test]
fn a_run_of_three_times_the_best_duration_is_overload_unless_both_are_tiny() {
    let slow = ConcurrencyState { baseline_ms: Some(100), ..at(8) };
    assert_eq!(decide(slow.clone(), done(301)).reason, ConcurrencyReason::Decreased);
    assert_eq!(decide(slow, done(300)).reason, ConcurrencyReason::Increased);
    let tiny = ConcurrencyState { baseline_ms: Some(1), ..at(8) };
    assert_eq!(decide(tiny, done(40)).reason, ConcurrencyReason::Increased);
}

#[test]
fn failures_that_say_nothing_about_load_change_nothing() {
    for class in [FailureClass::Dns, FailureClass::Refused, FailureClass::Auth, FailureClass::Signature] {
        let decision = decide(at(8), failed(class));
        assert_eq!((decision.limit, decision.reason), (8, ConcurrencyReason::Unchanged));
    }
}

#[test]
fn the_baseline_ages_so_that_an_origin_that_became_slower_is_measured_anew() {
    let mut state = ConcurrencyState { baseline_ms: Some(100), ..at(8) };
    for _ in 0..200 {
        state = decide(state, done(400)).state;
    }
    assert_eq!(state.baseline_ms, Some(400));
    assert_eq!(decide(state, done(50)).state.baseline_ms, Some(50));
}

#[test]
fn a_number_that_the_operator_fixed_is_the_limit() {
    let config = ConcurrencyConfig { fixed: Some(4), ..config() };
    for event in [ConcurrencyEvent::Began, done(1), failed(FailureClass::Timeout)] {
        let decision = concurrency(&config, at(32), event);
        assert_eq!((decision.limit, decision.reason), (4, ConcurrencyReason::Fixed));
    }
    let zero = ConcurrencyConfig { fixed: Some(0), ..config };
    assert_eq!(concurrency(&zero, at(32), ConcurrencyEvent::Began).limit, 1);
}

proptest! {
    #[test]
    fn the_limit_stays_within_its_bounds_for_every_input(seed: u64) {
        let mut picks = Picks::new(seed);
        let config = ConcurrencyConfig {
            minimum: picks.small(),
            maximum: picks.small(),
            fixed: None,
            options: Vec::new(),
        };
        let mut state = ConcurrencyState {
            limit_milli: picks.number(),
            in_flight: picks.small(),
            baseline_ms: picks.option(|picks| picks.number()),
            since_decrease: picks.small(),
            memo: vec![9],
        };
        for _ in 0..30 {
            let event = match picks.below(4) {
                0 => ConcurrencyEvent::Began,
                1 => done(picks.number()),
                2 => failed(picks.class()),
                _ => ConcurrencyEvent::Finished(FinishedEvent { duration_ms: 0, outcome: RunOutcome::Cancelled }),
            };
            let decision = concurrency(&config, state, event);
            prop_assert!(decision.limit >= config.minimum.max(1));
            prop_assert!(decision.limit <= config.maximum.max(config.minimum).max(1));
            state = decision.state;
        }
        prop_assert_eq!(state.memo, [9]);
    }
}
