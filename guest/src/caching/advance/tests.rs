//! The rules of advance: what is accepted, what is refused, what survives.

use super::*;
use crate::caching::lookup;
use crate::environment::Recorded;
use crate::testing::{BOOT, BOOT_ID, CLASSES, Picks, WALL, cache_config, instant, later, value_facts};
use crate::types::{Freshness, ServeVerdict};
use proptest::prelude::*;

const HOUR: u64 = 3_600_000;
const MAX_STALE: u64 = 86_400_000;

/// A signed map of key `k1`, generated an hour ago and good for a day.
fn fetched(digest: &str, version: u64, at: u64) -> FetchedEvent {
    FetchedEvent {
        digest: digest.to_owned(),
        etag: Some(format!("\"{digest}\"")),
        key_id: Some("k1".to_owned()),
        version: Some(version),
        signed_expiry_wall_ms: Some(WALL + 24 * HOUR),
        ttl_ms: Some(300_000),
        scope: CacheScope::Public,
        credential: "mine".to_owned(),
        requested: instant(at),
        key_set: vec!["k1".to_owned(), "k2".to_owned()],
    }
}

fn expired(digest: &str, version: u64, at: u64) -> FetchedEvent {
    FetchedEvent { signed_expiry_wall_ms: Some(WALL - 1), ..fetched(digest, version, at) }
}

fn decide(state: CacheState, event: CacheEvent, at: u64) -> AdvanceDecision {
    advance(&mut later(at, 7), &cache_config(), state, event)
}

fn fetch(state: CacheState, event: FetchedEvent, at: u64) -> AdvanceDecision {
    decide(state, CacheEvent::Fetched(event), at)
}

fn held(decision: &AdvanceDecision) -> &ValueFacts {
    decision.state.value.as_ref().unwrap()
}

/// A state that holds version 100 of key `k1`.
fn holding() -> CacheState {
    fetch(initial_cache_state(), fetched("d100", WALL - 100, 0), 0).state
}

fn confirmation(digest: &str, at: u64) -> CacheEvent {
    CacheEvent::NotModified(NotModifiedEvent {
        digest: digest.to_owned(),
        requested: instant(at),
        ttl_ms: Some(300_000),
    })
}

fn freshness(state: &CacheState, at: u64) -> Freshness {
    lookup(&mut later(at, 0), &cache_config(), state).state
}

// ---- acceptance -----------------------------------------------------------------------------------------------------

#[test]
fn a_first_value_is_stored_with_its_facts_and_its_ratchet() {
    let began = decide(initial_cache_state(), CacheEvent::Began(9), 0);
    assert_eq!(began.state.in_flight, Some(9));
    let decision = fetch(began.state, fetched("d1", WALL - 5, 0), 0);
    assert_eq!((decision.outcome, decision.reason), (AdvanceOutcome::Stored, AdvanceReason::Newer));
    let value = held(&decision);
    assert_eq!(value.fresh_ms, 300_000);
    assert!((210_000..=240_000).contains(&value.soft_ms), "{}", value.soft_ms);
    assert_eq!(value.etag, Some(EntityTag { tag: "\"d1\"".to_owned(), digest: "d1".to_owned() }));
    let ratchet = Ratchet { key_id: "k1".to_owned(), version: WALL - 5, digest: "d1".to_owned() };
    assert_eq!((decision.state.ratchets, decision.state.in_flight), (vec![ratchet], None));
}

#[test]
fn a_newer_map_takes_effect_at_once() {
    let decision = fetch(holding(), fetched("d99", WALL - 99, 10), 10);
    assert_eq!((decision.reason, held(&decision).digest.as_str()), (AdvanceReason::Newer, "d99"));
}

#[test]
fn an_older_map_never_replaces_a_newer_one_even_after_the_newer_was_dropped() {
    for state in [holding(), decide(holding(), CacheEvent::Revoked, 0).state] {
        let before = state.value.clone();
        let decision = fetch(state, fetched("d101", WALL - 101, 0), 0);
        assert_eq!((decision.outcome, decision.reason), (AdvanceOutcome::Rejected, AdvanceReason::Rollback));
        assert_eq!(decision.state.value, before);
        assert_eq!(decision.state.failing.unwrap().class, FailureClass::Rollback);
    }
}

#[test]
fn the_same_version_with_other_content_is_equivocation() {
    let decision = fetch(holding(), fetched("other", WALL - 100, 0), 0);
    assert_eq!((decision.outcome, decision.reason), (AdvanceOutcome::Rejected, AdvanceReason::Equivocation));
}

#[test]
fn a_version_further_ahead_than_clocks_may_differ_is_refused() {
    let skew = cache_config().skew_ms;
    let decision = fetch(holding(), fetched("f", WALL + skew + 1, 0), 0);
    assert_eq!(decision.reason, AdvanceReason::FromTheFuture);
    assert_eq!(fetch(holding(), fetched("f", WALL + skew, 0), 0).reason, AdvanceReason::Newer);
}

#[test]
fn another_key_may_not_roll_back_the_map_in_force_unless_its_key_has_left() {
    let other = FetchedEvent { key_id: Some("k2".to_owned()), ..fetched("k2-old", WALL - 500, 0) };
    assert_eq!(fetch(holding(), other.clone(), 0).reason, AdvanceReason::Rollback);
    let rotated = FetchedEvent { key_set: vec!["k2".to_owned()], ..other };
    let decision = fetch(holding(), rotated, 0);
    assert_eq!((decision.outcome, decision.reason), (AdvanceOutcome::Stored, AdvanceReason::Newer));
}

#[test]
fn during_a_rotation_the_same_version_under_another_key_is_no_equivocation() {
    let other = FetchedEvent { key_id: Some("k2".to_owned()), ..fetched("k2-same", WALL - 100, 0) };
    assert_eq!(fetch(holding(), other, 0).reason, AdvanceReason::Newer);
}

#[test]
fn unversioned_lists_have_no_order() {
    let list = |digest: &str| FetchedEvent {
        key_id: None,
        version: None,
        signed_expiry_wall_ms: None,
        ..fetched(digest, 0, 0)
    };
    let first = fetch(initial_cache_state(), list("b"), 0);
    let second = fetch(first.state, list("a"), 0);
    assert_eq!((second.reason, second.state.ratchets.len()), (AdvanceReason::Newer, 0));
}

#[test]
fn the_same_bytes_again_are_fresh_once_more() {
    let decision = fetch(holding(), fetched("d100", WALL - 100, 400_000), 400_000);
    assert_eq!((decision.outcome, decision.reason), (AdvanceOutcome::Kept, AdvanceReason::SameAgain));
    assert_eq!(freshness(&decision.state, 400_000), Freshness::Fresh);
}

#[test]
fn at_most_sixteen_ratchets_are_kept_and_the_oldest_version_goes_first() {
    let mut state = initial_cache_state();
    for key in 0..20_u64 {
        let event = FetchedEvent { key_id: Some(format!("key{key}")), ..fetched("d", WALL - 1_000 + key, 0) };
        let event = FetchedEvent { digest: format!("d{key}"), ..event };
        state = fetch(state, event, 0).state;
    }
    let least = state.ratchets.iter().map(|ratchet| ratchet.version).min();
    assert_eq!((state.ratchets.len(), least), (RATCHETS_GREATEST, Some(WALL - 1_000 + 4)));
}

// ---- freshness ------------------------------------------------------------------------------------------------------

#[test]
fn times_to_live_are_clamped_but_zero_stays_zero() {
    let no_expiry = |ttl_ms| FetchedEvent { ttl_ms, signed_expiry_wall_ms: None, ..fetched("d", WALL - 1, 0) };
    for (ttl, fresh) in
        [(Some(0), 0), (Some(1), 30_000), (Some(60_000), 60_000), (Some(u64::MAX), 86_400_000), (None, 300_000)]
    {
        let decision = fetch(initial_cache_state(), no_expiry(ttl), 0);
        assert_eq!(held(&decision).fresh_ms, fresh, "{ttl:?}");
    }
    let never_fresh = fetch(holding(), no_expiry(Some(0)), 0).state;
    assert_eq!(freshness(&never_fresh, 0), Freshness::Stale);
}

#[test]
fn nothing_is_fresh_past_its_signed_expiry() {
    let soon = FetchedEvent { signed_expiry_wall_ms: Some(WALL + 45_000), ..fetched("d", WALL - 1, 0) };
    let decision = fetch(initial_cache_state(), soon, 0);
    assert_eq!(held(&decision).fresh_ms, 45_000);
    let confirmed = decide(decision.state, confirmation("d", 40_000), 40_000);
    assert_eq!((confirmed.reason, held(&confirmed).fresh_ms), (AdvanceReason::Confirmed, 5_000));
}

#[test]
fn a_confirmation_makes_the_bytes_it_belongs_to_fresh_again() {
    let decision = decide(holding(), confirmation("d100", 500_000), 500_000);
    assert_eq!((decision.outcome, decision.reason), (AdvanceOutcome::Kept, AdvanceReason::Confirmed));
    assert_eq!(freshness(&decision.state, 500_000), Freshness::Fresh);
}

#[test]
fn a_confirmation_of_other_bytes_extends_nothing_and_drops_the_tag() {
    let decision = decide(holding(), confirmation("else", 500_000), 500_000);
    assert_eq!(decision.reason, AdvanceReason::ConfirmedOther);
    assert_eq!((held(&decision).requested, &held(&decision).etag), (instant(0), &None));
    assert_eq!(decide(initial_cache_state(), confirmation("d", 0), 0).reason, AdvanceReason::ConfirmedOther);
}

#[test]
fn a_confirmation_past_the_signed_expiry_freezes() {
    let state = decide(holding(), confirmation("d100", 24 * HOUR - 1), 24 * HOUR - 1).state;
    let at = 24 * HOUR + 5;
    for event in [confirmation("d100", at), CacheEvent::Fetched(fetched("d100", WALL - 100, at))] {
        let decision = decide(state.clone(), event, at);
        assert_eq!((decision.outcome, decision.reason), (AdvanceOutcome::Kept, AdvanceReason::Frozen));
        assert_eq!((held(&decision).standing, &held(&decision).etag), (ExpiryStanding::Frozen, &None));
        assert_eq!(freshness(&decision.state, at), Freshness::Frozen);
        assert_eq!(freshness(&decision.state, 24 * HOUR + MAX_STALE), Freshness::Expired);
        let later = decide(decision.state, confirmation("d100", at + HOUR), at + HOUR).state;
        assert_eq!(freshness(&later, 24 * HOUR + MAX_STALE), Freshness::Expired, "freezing again extends nothing");
    }
}

#[test]
fn an_announced_change_or_an_invalidation_counts_staleness_from_that_moment() {
    for event in [CacheEvent::Changed, CacheEvent::Invalidated] {
        let decision = decide(holding(), event, 1_000);
        assert_eq!((decision.outcome, held(&decision).fresh_ms), (AdvanceOutcome::Kept, 1_000));
        assert_eq!(freshness(&decision.state, 1_000), Freshness::Stale);
        assert_eq!(freshness(&decision.state, 1_000 + MAX_STALE), Freshness::Expired);
        let confirmed = decide(decision.state, confirmation("d100", 2_000), 2_000);
        assert_eq!(freshness(&confirmed.state, 2_000), Freshness::Fresh);
    }
}

// ---- expired on arrival ---------------------------------------------------------------------------------------------

#[test]
fn what_arrives_expired_is_accepted_if_nothing_newer_is_held() {
    let decision = fetch(initial_cache_state(), expired("e", WALL - 200, 0), 0);
    assert_eq!((decision.outcome, decision.reason), (AdvanceOutcome::Stored, AdvanceReason::ArrivedExpired));
    assert_eq!(freshness(&decision.state, 0), Freshness::Stale);
    let newer = fetch(holding(), expired("e", WALL - 50, 0), 0);
    assert_eq!(newer.reason, AdvanceReason::ArrivedExpired);
}

#[test]
fn what_arrives_expired_is_refused_if_something_as_new_is_held() {
    let same_version = FetchedEvent { key_id: Some("k2".to_owned()), ..expired("e", WALL - 100, 0) };
    let decision = fetch(holding(), same_version, 0);
    assert_eq!((decision.outcome, decision.reason), (AdvanceOutcome::Rejected, AdvanceReason::RefusedExpired));
    assert_eq!(held(&decision).digest, "d100");
}

#[test]
fn the_staleness_of_expired_bytes_counts_from_their_first_arrival() {
    let first = fetch(initial_cache_state(), expired("e", WALL - 200, 0), 0).state;
    let dropped = decide(first, CacheEvent::Failed(FailureClass::Gone), HOUR).state;
    let again = fetch(dropped, expired("e", WALL - 200, 2 * HOUR), 2 * HOUR);
    assert_eq!(held(&again).stale_since, Some(instant(0)));
    assert_eq!(freshness(&again.state, MAX_STALE - 1), Freshness::Stale);
    assert_eq!(freshness(&again.state, MAX_STALE), Freshness::Expired);
}

#[test]
fn at_most_four_expired_arrivals_are_remembered() {
    let mut state = initial_cache_state();
    for version in 0..9 {
        state = fetch(state, expired(&format!("e{version}"), WALL - 100 + version, 0), 0).state;
    }
    let digests: Vec<&str> = state.expired_arrivals.iter().map(|arrival| arrival.digest.as_str()).collect();
    assert_eq!(digests, ["e5", "e6", "e7", "e8"]);
}

// ---- failures, credentials, disk ------------------------------------------------------------------------------------

#[test]
fn every_failure_but_gone_leaves_the_last_known_good_alone() {
    for class in CLASSES {
        let decision = decide(holding(), CacheEvent::Failed(class), 10);
        if class == FailureClass::Gone {
            assert_eq!((decision.outcome, decision.reason), (AdvanceOutcome::Dropped, AdvanceReason::Gone));
            assert_eq!((decision.state.value, decision.state.ratchets.len()), (None, 1));
        } else {
            assert_eq!((decision.outcome, decision.reason), (AdvanceOutcome::Kept, AdvanceReason::Failed));
            assert_eq!(decision.state.value, holding().value);
        }
    }
}

#[test]
fn the_negative_pace_doubles_up_to_its_cap_and_a_success_ends_it() {
    let mut state = initial_cache_state();
    for pace in [5_000, 10_000, 20_000, 40_000, 60_000, 60_000] {
        state = decide(state, CacheEvent::Failed(FailureClass::Dns), 0).state;
        assert_eq!(state.failing.as_ref().unwrap().until_boot_ms, BOOT + pace);
    }
    assert_eq!(fetch(state, fetched("d", WALL - 1, 0), 0).state.failing, None);
}

#[test]
fn after_an_outage_the_first_expiry_too_has_a_fallback() {
    let state = decide(holding(), CacheEvent::Failed(FailureClass::Timeout), 400_000).state;
    let verdict = lookup(&mut later(400_000, 0), &cache_config(), &state);
    assert_eq!((verdict.state, verdict.serve), (Freshness::StaleError, ServeVerdict::Serve));
}

#[test]
fn other_credentials_drop_what_was_private_and_lift_the_pace() {
    let mut state = decide(holding(), CacheEvent::Failed(FailureClass::Auth), 0).state;
    let kept = decide(state.clone(), CacheEvent::CredentialsChanged, 0);
    assert_eq!((kept.outcome, kept.state.failing), (AdvanceOutcome::Kept, None));
    let private = ValueFacts { scope: CacheScope::Private, credential: "old".to_owned(), ..value_facts("p") };
    state.value = Some(private);
    let dropped = decide(state, CacheEvent::CredentialsChanged, 0);
    assert_eq!((dropped.outcome, dropped.state.value), (AdvanceOutcome::Dropped, None));
}

#[test]
fn a_confirmation_under_another_credential_does_not_extend_a_private_value() {
    let private = ValueFacts { scope: CacheScope::Private, credential: "old".to_owned(), ..value_facts("p") };
    let state = CacheState { value: Some(private), ..initial_cache_state() };
    assert_eq!(decide(state, confirmation("p", 5), 5).reason, AdvanceReason::ConfirmedOther);
}

#[test]
fn what_is_read_back_from_disk_has_no_run_under_way() {
    let state = CacheState { in_flight: Some(3), ..holding() };
    let decision = decide(state, CacheEvent::Restored, 0);
    assert_eq!((decision.reason, decision.state), (AdvanceReason::Restored, holding()));
}

#[test]
fn giving_up_a_run_changes_nothing_else() {
    let state = CacheState { in_flight: Some(3), ..holding() };
    assert_eq!(decide(state, CacheEvent::Cancelled, 0).state, holding());
}

// ---- invariants -----------------------------------------------------------------------------------------------------

proptest! {
    #[test]
    fn no_input_makes_it_panic_and_the_bounds_of_the_state_hold(seed: u64) {
        let mut picks = Picks::new(seed);
        let (config, mut state) = (picks.cache_config(), picks.cache_state());
        state.memo = vec![5];
        for _ in 0..8 {
            let event = picks.cache_event();
            let versioned = matches!(&event, CacheEvent::Fetched(event) if event.version.is_some());
            let decision = advance(&mut picks.environment(), &config, state, event);
            state = decision.state;
            if versioned && decision.outcome == AdvanceOutcome::Stored {
                prop_assert!(state.ratchets.len() <= RATCHETS_GREATEST);
            }
            let _ = lookup(&mut picks.environment(), &config, &state);
        }
        prop_assert_eq!(state.memo, [5]);
    }

    #[test]
    fn within_one_key_the_version_held_never_falls(seed: u64) {
        let mut picks = Picks::new(seed);
        let mut state = initial_cache_state();
        let mut newest = 0;
        for step in 0..40 {
            let version = WALL - 50 + picks.below(100);
            let mut event = fetched(&format!("{version}-{}", picks.below(2)), version, step);
            if picks.chance() {
                event.signed_expiry_wall_ms = Some(WALL - 1);
            }
            state = fetch(state, event, step).state;
            if picks.below(5) == 0 {
                state = decide(state, CacheEvent::Failed(picks.class()), step).state;
            }
            if let Some(value) = &state.value {
                prop_assert!(value.version >= Some(newest));
                newest = value.version.unwrap();
            }
        }
    }

    #[test]
    fn a_wall_clock_that_steps_ten_years_extends_no_life(at in 0_u64..400_000_000, forward: bool, confirmed: bool) {
        const TEN_YEARS: u64 = 315_360_000_000;
        let wall = if forward { WALL + TEN_YEARS } else { WALL - TEN_YEARS };
        let mut state = holding();
        let mut counted_from = 0;
        if confirmed {
            let at = at / 2;
            let requested = Instant { wall_ms: wall + at, boot_ms: BOOT + at, boot_id: BOOT_ID };
            let event = CacheEvent::NotModified(NotModifiedEvent { digest: "d100".to_owned(), requested, ttl_ms: None });
            state = advance(&mut Recorded::new(wall + at, BOOT + at, 1), &cache_config(), state, event).state;
            counted_from = at;
        }
        let verdict = lookup(&mut Recorded::new(wall + at, BOOT + at, 1), &cache_config(), &state);
        prop_assert!(verdict.serve == ServeVerdict::Withhold || at < counted_from + 300_000 + MAX_STALE);
    }
}
