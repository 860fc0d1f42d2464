//! The rules of lookup, named after what readers may rely on.

use super::*;
use crate::caching::initial_cache_state;
use crate::environment::Recorded;
use crate::testing::{BOOT, Picks, WALL, cache_config, instant, later, value_facts};
use crate::types::ExpiryStanding;
use proptest::prelude::*;

const TEN_YEARS: u64 = 315_360_000_000;
const FRESH: u64 = 300_000;
const MAX_STALE: u64 = 86_400_000;

fn holding(value: ValueFacts) -> CacheState {
    CacheState { value: Some(value), ..initial_cache_state() }
}

fn failing(class: FailureClass) -> Option<Failing> {
    Some(Failing { count: 1, class, at: instant(0), until_boot_ms: BOOT + 5_000 })
}

fn judge(state: &CacheState, at: u64) -> LookupDecision {
    lookup(&mut later(at, 0), &cache_config(), state)
}

fn is(decision: &LookupDecision, state: Freshness, wanted: Wanted, reason: LookupReason) -> bool {
    (decision.state, decision.wanted, decision.reason) == (state, wanted, reason)
}

#[test]
fn an_empty_cache_withholds_and_lets_the_reader_wait() {
    let decision = judge(&initial_cache_state(), 0);
    assert!(is(&decision, Freshness::Empty, Wanted::Blocking, LookupReason::NoValue));
    assert_eq!((decision.serve, decision.until_boot_ms), (ServeVerdict::Withhold, None));
}

#[test]
fn a_value_is_served_fresh_then_soft_then_stale_then_not_at_all() {
    let state = holding(value_facts("a"));
    let table = [
        (0, Freshness::Fresh, Wanted::None, LookupReason::WithinTtl, Some(240_000)),
        (240_000, Freshness::Soft, Wanted::Background, LookupReason::PastSoftPoint, Some(FRESH)),
        (FRESH, Freshness::Stale, Wanted::Background, LookupReason::PastTtl, Some(FRESH + MAX_STALE)),
        (FRESH + MAX_STALE - 1, Freshness::Stale, Wanted::Background, LookupReason::PastTtl, Some(FRESH + MAX_STALE)),
    ];
    for (at, freshness, wanted, reason, until) in table {
        let decision = judge(&state, at);
        assert!(is(&decision, freshness, wanted, reason), "{at}: {decision:?}");
        assert_eq!((decision.serve, decision.until_boot_ms), (ServeVerdict::Serve, until.map(|until| BOOT + until)));
    }
    let over = judge(&state, FRESH + MAX_STALE);
    assert!(is(&over, Freshness::Expired, Wanted::Blocking, LookupReason::PastMaxStale));
    assert_eq!(over.serve, ServeVerdict::Withhold);
}

#[test]
fn a_stale_value_is_a_reason_to_refetch_and_not_a_hit() {
    assert_eq!(judge(&holding(value_facts("a")), FRESH + 1).wanted, Wanted::Background);
}

/// A value, and a failure whose pace ends at that time.
fn failing_until(class: FailureClass, end: u64) -> CacheState {
    let failing = failing(class).map(|failing| Failing { until_boot_ms: BOOT + end, ..failing });
    CacheState { failing, ..holding(value_facts("a")) }
}

#[test]
fn a_reader_of_something_that_fails_asks_again_once_the_pace_of_the_failure_is_over() {
    for class in [FailureClass::Timeout, FailureClass::Auth, FailureClass::Rollback] {
        let state = failing_until(class, FRESH + 5_000);
        let paced = judge(&state, FRESH + 4_999);
        assert!(is(&paced, Freshness::StaleError, Wanted::None, LookupReason::RefreshFailing), "{paced:?}");
        assert_eq!((paced.serve, paced.until_boot_ms), (ServeVerdict::Serve, Some(BOOT + FRESH + 5_000)));
        let over = judge(&state, FRESH + 5_000);
        assert!(is(&over, Freshness::StaleError, Wanted::Background, LookupReason::RefreshFailing), "{over:?}");
        assert_eq!((over.serve, over.until_boot_ms), (ServeVerdict::Serve, Some(BOOT + FRESH + MAX_STALE)));
    }
}

#[test]
fn a_verdict_during_a_pace_ends_with_it_or_at_the_next_boundary_whichever_comes_first() {
    let soft = judge(&failing_until(FailureClass::Dns, FRESH + 9), 250_000);
    assert_eq!((soft.state, soft.wanted, soft.until_boot_ms), (Freshness::Soft, Wanted::None, Some(BOOT + FRESH)));
    let soft = judge(&failing_until(FailureClass::Dns, 260_000), 250_000);
    assert_eq!((soft.state, soft.wanted, soft.until_boot_ms), (Freshness::Soft, Wanted::None, Some(BOOT + 260_000)));
    // What is fresh asks for nothing, whether anything failed or not.
    let fresh = judge(&failing_until(FailureClass::Dns, 5_000), 0);
    assert_eq!((fresh.wanted, fresh.until_boot_ms), (Wanted::None, Some(BOOT + 240_000)));
    let running = CacheState { in_flight: Some(4), ..failing_until(FailureClass::Dns, FRESH + 5_000) };
    assert_eq!(judge(&running, FRESH).until_boot_ms, Some(BOOT + FRESH + MAX_STALE));
}

#[test]
fn a_pace_of_another_boot_is_over() {
    for class in [FailureClass::Timeout, FailureClass::Auth] {
        let mut state = failing_until(class, TEN_YEARS);
        state.failing.as_mut().unwrap().at.boot_id = 99;
        assert_eq!(judge(&state, FRESH).wanted, Wanted::Background);
    }
}

#[test]
fn nothing_is_asked_for_while_a_run_is_under_way() {
    for state in [initial_cache_state(), holding(value_facts("a"))] {
        let state = CacheState { in_flight: Some(4), ..state };
        assert_eq!(judge(&state, FRESH + MAX_STALE).wanted, Wanted::None);
        assert_eq!(judge(&state, FRESH).wanted, Wanted::None);
    }
}

#[test]
fn a_reader_that_gets_nothing_keeps_to_the_negative_pace() {
    let state = CacheState { failing: failing(FailureClass::NotFound), ..initial_cache_state() };
    let paced = judge(&state, 4_999);
    assert_eq!((paced.wanted, paced.until_boot_ms), (Wanted::None, Some(BOOT + 5_000)));
    assert_eq!(judge(&state, 5_000).wanted, Wanted::Blocking);
    let rebooted = lookup(&mut later(0, 0), &CacheConfig { boot_id: 9, ..cache_config() }, &state);
    assert_eq!(rebooted.wanted, Wanted::Blocking);
}

#[test]
fn no_reader_waits_for_credentials_that_are_refused_but_they_are_not_forgotten_for_ever() {
    let state = CacheState { failing: failing(FailureClass::Auth), ..initial_cache_state() };
    let paced = judge(&state, 4_999);
    assert_eq!((paced.wanted, paced.until_boot_ms), (Wanted::None, Some(BOOT + 5_000)));
    let over = judge(&state, 5_000);
    assert_eq!((over.serve, over.wanted, over.until_boot_ms), (ServeVerdict::Withhold, Wanted::Background, None));
}

#[test]
fn an_announced_change_makes_a_value_stale_at_once() {
    let state = holding(ValueFacts { invalidated: true, ..value_facts("a") });
    assert!(is(&judge(&state, 0), Freshness::Stale, Wanted::Background, LookupReason::Invalidated));
}

#[test]
fn standings_towards_the_signed_expiry_show() {
    let frozen = holding(ValueFacts { standing: ExpiryStanding::Frozen, ..value_facts("a") });
    assert!(is(&judge(&frozen, 0), Freshness::Frozen, Wanted::Background, LookupReason::Frozen));
    assert_eq!(judge(&frozen, FRESH + MAX_STALE).serve, ServeVerdict::Withhold);
    let arrived = ValueFacts {
        standing: ExpiryStanding::ArrivedExpired,
        stale_since: Some(instant(0)),
        fresh_ms: 0,
        soft_ms: 0,
        ..value_facts("a")
    };
    let arrived = holding(arrived);
    assert!(is(&judge(&arrived, 0), Freshness::Stale, Wanted::Background, LookupReason::ArrivedExpired));
    assert_eq!(judge(&arrived, MAX_STALE).serve, ServeVerdict::Withhold);
}

#[test]
fn private_values_never_cross_credentials() {
    let foreign = ValueFacts { scope: CacheScope::Private, credential: "theirs".to_owned(), ..value_facts("a") };
    let decision = judge(&holding(foreign.clone()), 0);
    assert!(is(&decision, Freshness::Empty, Wanted::Blocking, LookupReason::OtherCredential));
    assert_eq!(decision.serve, ServeVerdict::Withhold);
    let public = ValueFacts { scope: CacheScope::Public, ..foreign };
    assert_eq!(judge(&holding(public), 0).serve, ServeVerdict::Serve);
}

#[test]
fn a_wall_clock_behind_the_request_after_a_restart_means_stale_and_refetch() {
    let config = CacheConfig { boot_id: 2, ..cache_config() };
    let state = holding(value_facts("a"));
    let behind = lookup(&mut Recorded::new(WALL - 300_001, 50, 0), &config, &state);
    assert!(is(&behind, Freshness::Stale, Wanted::Background, LookupReason::ClockBehind));
    assert_eq!(behind.until_boot_ms, Some(51));
    let within_skew = lookup(&mut Recorded::new(WALL - 300_000, 50, 0), &config, &state);
    assert_eq!(within_skew.state, Freshness::Fresh);
}

#[test]
fn after_a_restart_the_age_is_counted_on_by_the_wall_clock() {
    let config = CacheConfig { boot_id: 2, ..cache_config() };
    let state = holding(value_facts("a"));
    let decision = lookup(&mut Recorded::new(WALL + 250_000, 50, 0), &config, &state);
    assert_eq!((decision.state, decision.until_boot_ms), (Freshness::Soft, Some(50 + 50_000)));
}

proptest! {
    #[test]
    fn no_input_makes_it_panic_and_it_is_a_function_of_its_input(seed: u64) {
        let mut picks = Picks::new(seed);
        let (config, state, environment) = (picks.cache_config(), picks.cache_state(), picks.environment());
        let mut used = environment;
        let decision = lookup(&mut used, &config, &state);
        prop_assert_eq!(used, environment, "lookup drew randomness");
        prop_assert_eq!(lookup(&mut used, &config, &state), decision);
    }

    #[test]
    fn steps_of_the_wall_clock_within_a_boot_change_no_verdict(seed: u64, at in 0_u64..200_000_000, forward: bool) {
        let mut picks = Picks::new(seed);
        let value = ValueFacts { requested: instant(0), stale_since: None, ..picks.value_facts() };
        let state = CacheState { failing: None, ..holding(value) };
        let stepped = if forward { WALL + TEN_YEARS } else { WALL - TEN_YEARS };
        let verdict = lookup(&mut Recorded::new(stepped, BOOT + at, 0), &cache_config(), &state);
        prop_assert_eq!(verdict, judge(&state, at));
    }

    #[test]
    fn nothing_is_served_past_its_fresh_time_and_the_greatest_staleness(seed: u64, at in 0_u64..1 << 40) {
        let mut picks = Picks::new(seed);
        let value = ValueFacts { requested: instant(0), stale_since: None, ..picks.value_facts() };
        let limit = value.fresh_ms.saturating_add(MAX_STALE);
        let decision = judge(&holding(value), at);
        prop_assert!(decision.serve == ServeVerdict::Withhold || at < limit);
    }

    #[test]
    fn a_verdict_holds_until_the_time_it_names(seed: u64, at in 0_u64..100_000_000, part in 0_u64..1_000) {
        let mut picks = Picks::new(seed);
        let value = ValueFacts {
            requested: instant(0),
            fresh_ms: picks.below(90_000_000),
            soft_ms: picks.below(90_000_000),
            credential: "mine".to_owned(),
            stale_since: None,
            ..picks.value_facts()
        };
        let end = picks.below(100_000_000);
        let failing = picks.option(|picks| Failing { until_boot_ms: BOOT + end, ..failing(picks.class()).unwrap() });
        let state = CacheState { failing, ..holding(value) };
        let decision = judge(&state, at);
        if let Some(until) = decision.until_boot_ms {
            let rest = until - BOOT - at;
            prop_assert!(rest > 0);
            let meanwhile = judge(&state, at + (rest - 1) * part / 1_000);
            prop_assert_eq!(meanwhile, decision);
        }
    }
}
