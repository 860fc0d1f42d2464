//! Each rule of the refresh schedule as a sentence, and the invariants over arbitrary inputs and histories.

mod wishes;

use super::*;
use crate::environment::Recorded;
use crate::testing::{BOOT, BOOT_ID, Picks, later};
use proptest::prelude::*;

const T: u64 = 300_000;
const FLOOR: u64 = 30_000;
/// Seeds per rule that draws: enough to see both ends of a range.
const SEEDS: std::ops::Range<u64> = 0..200;

fn map() -> RefreshConfig {
    RefreshConfig {
        kind: SubjectKind::ServiceMap,
        mode: RefreshMode::Background,
        interval_ms: T,
        floor_ms: FLOOR,
        jitter_permille: 200,
        backoff_min_ms: 1_000,
        backoff_max_ms: T,
        options: Vec::new(),
    }
}

fn connector() -> RefreshConfig {
    RefreshConfig { kind: SubjectKind::Connector, backoff_min_ms: 500, backoff_max_ms: 60_000, ..map() }
}

fn on_demand() -> RefreshConfig {
    RefreshConfig { mode: RefreshMode::OnDemand, ..map() }
}

fn decide(config: &RefreshConfig, state: RefreshState, event: RefreshEvent, at: u64, seed: u64) -> RefreshDecision {
    refresh(&mut later(at, seed), config, state, event)
}

fn started(start: StartKind) -> RefreshEvent {
    RefreshEvent::Started(StartedEvent { start, boot_id: BOOT_ID })
}

fn succeeded(run_id: u64, fresh_for_ms: Option<u64>) -> RefreshEvent {
    RefreshEvent::Succeeded(SucceededEvent { run_id, duration_ms: 50, fresh_for_ms })
}

fn failure(class: FailureClass, retry_after_ms: Option<u64>, serving: bool) -> RefreshEvent {
    RefreshEvent::Failed(FailedEvent { run_id: 1, class, retry_after_ms, duration_ms: 50, serving })
}

fn armed(delay: u64, reason: RefreshReason) -> RefreshState {
    RefreshState {
        phase: RefreshPhase::Armed(ArmedRun { run_at_boot_ms: BOOT + delay, reason }),
        boot_id: BOOT_ID,
        ..initial_refresh_state()
    }
}

fn running() -> RefreshState {
    RefreshState {
        phase: RefreshPhase::Running(ActiveRun { run_id: 1, since_boot_ms: BOOT, again: false }),
        next_run_id: 2,
        boot_id: BOOT_ID,
        ..initial_refresh_state()
    }
}

fn failing(state: RefreshState, failures: u32) -> RefreshState {
    RefreshState { failures, last_class: Some(FailureClass::Timeout), last_end_boot_ms: Some(BOOT), ..state }
}

/// The delays that a rule draws over many seeds, all of them with this reason: least and greatest.
fn delays(config: &RefreshConfig, state: &RefreshState, event: &RefreshEvent, reason: RefreshReason) -> (u64, u64) {
    let drawn: Vec<u64> = SEEDS
        .map(|seed| {
            let decision = decide(config, state.clone(), event.clone(), 0, seed);
            assert_eq!(decision.reason, reason);
            decision.run_at_boot_ms.unwrap() - BOOT
        })
        .collect();
    (*drawn.iter().min().unwrap(), *drawn.iter().max().unwrap())
}

/// Whether the drawn delays fill a range: within it, and near both ends.
fn fills(drawn: (u64, u64), least: u64, greatest: u64) -> bool {
    let slack = (greatest - least) / 20 + 1;
    drawn.0 >= least && drawn.0 <= least + slack && drawn.1 <= greatest && drawn.1 + slack >= greatest
}

// ---- start ----------------------------------------------------------------------------------------------------------

#[test]
fn a_cold_start_fetches_at_once_in_both_modes() {
    for config in [map(), connector(), on_demand()] {
        let decision = decide(&config, initial_refresh_state(), started(StartKind::Cold), 0, 1);
        assert_eq!((decision.run_at_boot_ms, decision.reason), (Some(BOOT), RefreshReason::ColdStart));
    }
}

#[test]
fn a_warm_start_is_spread_over_the_whole_interval() {
    for config in [map(), connector()] {
        for start in [StartKind::Warm, StartKind::WarmStale] {
            let drawn = delays(&config, &initial_refresh_state(), &started(start), RefreshReason::WarmStart);
            assert!(fills(drawn, 0, T), "{drawn:?}");
        }
    }
}

#[test]
fn a_warm_start_on_demand_arms_nothing() {
    let decision = decide(&on_demand(), initial_refresh_state(), started(StartKind::WarmStale), 0, 1);
    assert_eq!((decision.run_at_boot_ms, decision.reason), (None, RefreshReason::OnDemand));
}

#[test]
fn a_start_forgets_the_run_of_a_former_process_and_keeps_its_failures() {
    let decision = decide(&map(), failing(running(), 3), started(StartKind::Warm), 0, 1);
    assert!(matches!(decision.state.phase, RefreshPhase::Armed(_)));
    assert_eq!(decision.state.failures, 3);
    let late = decide(&map(), decision.state.clone(), succeeded(1, None), 10, 1);
    assert_eq!((late.reason, late.state), (RefreshReason::Late, decision.state));
}

#[test]
fn times_of_another_boot_are_forgotten_at_the_start() {
    let old = RefreshState { boot_id: 99, ..failing(initial_refresh_state(), 1) };
    let decision = decide(&map(), old, started(StartKind::Warm), 0, 1);
    assert_eq!((decision.state.boot_id, decision.state.last_end_boot_ms), (BOOT_ID, None));
}

// ---- runs -----------------------------------------------------------------------------------------------------------

#[test]
fn a_run_gets_an_id_of_its_own_when_it_begins() {
    let decision = decide(&map(), armed(0, RefreshReason::Steady), RefreshEvent::Began, 0, 1);
    assert_eq!(decision.state.phase, running().phase);
    assert_eq!((decision.state.next_run_id, decision.run_at_boot_ms), (2, None));
    let again = decide(&map(), decision.state.clone(), RefreshEvent::Began, 1, 1);
    assert_eq!((again.reason, again.state), (RefreshReason::AlreadyRunning, decision.state));
}

#[test]
fn a_run_that_nobody_armed_does_not_begin() {
    let decision = decide(&map(), initial_refresh_state(), RefreshEvent::Began, 0, 1);
    assert_eq!((decision.reason, decision.state), (RefreshReason::Late, initial_refresh_state()));
}

#[test]
fn results_of_other_runs_change_nothing() {
    for state in [running(), armed(500, RefreshReason::Steady), initial_refresh_state()] {
        for event in [
            succeeded(7, None),
            RefreshEvent::Cancelled(7),
            RefreshEvent::Failed(FailedEvent {
                run_id: 7,
                class: FailureClass::Auth,
                retry_after_ms: None,
                duration_ms: 1,
                serving: false,
            }),
        ] {
            let decision = decide(&map(), state.clone(), event, 0, 1);
            assert_eq!((decision.reason, decision.state), (RefreshReason::Late, state.clone()));
        }
    }
}

#[test]
fn steady_runs_follow_the_interval_with_jitter_drawn_per_run() {
    let drawn = delays(&map(), &failing(running(), 2), &succeeded(1, None), RefreshReason::Steady);
    assert!(fills(drawn, T * 8 / 10, T * 12 / 10), "{drawn:?}");
    let decision = decide(&map(), failing(running(), 2), succeeded(1, None), 0, 1);
    assert_eq!((decision.state.failures, decision.state.last_class), (0, None));
    assert_eq!(decision.run_at_boot_ms, Some(BOOT + decision.state.interval_ms));
}

#[test]
fn a_value_that_is_fresh_for_less_than_the_interval_is_refreshed_at_four_fifths_of_that() {
    let drawn = delays(&map(), &running(), &succeeded(1, Some(120_000)), RefreshReason::Freshness);
    assert!(fills(drawn, 96_000 * 8 / 10, 96_000 * 12 / 10), "{drawn:?}");
    assert!(drawn.1 < 120_000);
    let drawn = delays(&map(), &running(), &succeeded(1, Some(3_600_000)), RefreshReason::Steady);
    assert!(fills(drawn, T * 8 / 10, T * 12 / 10), "{drawn:?}");
}

#[test]
fn unforced_fetches_keep_the_floor_between_them() {
    let drawn = delays(&map(), &running(), &succeeded(1, Some(2_000)), RefreshReason::Freshness);
    assert!(drawn.0 >= FLOOR, "{drawn:?}");
}

#[test]
fn a_value_that_is_never_fresh_is_fetched_at_the_steady_pace_and_not_at_the_floor() {
    let drawn = delays(&map(), &running(), &succeeded(1, Some(0)), RefreshReason::Steady);
    assert!(drawn.0 >= T * 8 / 10, "{drawn:?}");
}

#[test]
fn a_success_on_demand_arms_nothing() {
    let decision = decide(&on_demand(), running(), succeeded(1, Some(5_000)), 0, 1);
    assert_eq!((decision.state.phase, decision.reason), (RefreshPhase::Idle, RefreshReason::OnDemand));
}

#[test]
fn a_run_that_may_have_missed_a_change_is_followed_by_another_at_once() {
    let decision = decide(&map(), running(), RefreshEvent::Changed, 0, 1);
    assert_eq!((decision.reason, decision.run_at_boot_ms), (RefreshReason::Changed, None));
    let decision = decide(&map(), decision.state, succeeded(1, None), 0, 1);
    assert_eq!((decision.reason, decision.run_at_boot_ms), (RefreshReason::Changed, Some(BOOT)));
}

#[test]
fn a_cancelled_run_counts_no_failure_and_is_repeated_soon() {
    let drawn = delays(&map(), &running(), &RefreshEvent::Cancelled(1), RefreshReason::Cancelled);
    assert!(fills(drawn, 500, 1_000), "{drawn:?}");
    assert_eq!(decide(&map(), running(), RefreshEvent::Cancelled(1), 0, 1).state.failures, 0);
}

// ---- failures -------------------------------------------------------------------------------------------------------

#[test]
fn a_map_that_serves_nothing_backs_off_exponentially_up_to_the_interval() {
    for (failures, ceiling) in [(0, 1_000), (1, 2_000), (4, 16_000), (30, T)] {
        let event = failure(FailureClass::Refused, None, false);
        let drawn = delays(&map(), &failing(running(), failures), &event, RefreshReason::Backoff);
        assert!(fills(drawn, ceiling / 2, ceiling), "{failures}: {drawn:?}");
    }
}

#[test]
fn a_map_that_is_served_is_retried_anywhere_in_the_interval_then_in_its_later_half() {
    let event = failure(FailureClass::Server, None, true);
    let first = delays(&map(), &running(), &event, RefreshReason::BackoffServing);
    assert!(fills(first, FLOOR, T), "{first:?}");
    let further = delays(&map(), &failing(running(), 1), &event, RefreshReason::BackoffServingAgain);
    assert!(fills(further, T / 2, T), "{further:?}");
}

#[test]
fn a_connector_rejoins_within_its_cap_whether_it_is_served_or_not() {
    for serving in [true, false] {
        for (failures, ceiling) in [(0, 500), (1, 1_000), (30, 60_000)] {
            let event = failure(FailureClass::Timeout, None, serving);
            let drawn = delays(&connector(), &failing(running(), failures), &event, RefreshReason::Backoff);
            assert!(fills(drawn, ceiling / 2, ceiling), "{failures}: {drawn:?}");
        }
    }
}

#[test]
fn what_the_origin_asks_for_is_a_floor_with_jitter_and_ends_at_an_hour() {
    let event = failure(FailureClass::Throttled, Some(400_000), true);
    let drawn = delays(&map(), &running(), &event, RefreshReason::RetryAfter);
    assert!(fills(drawn, 400_000, 480_000), "{drawn:?}");
    let event = failure(FailureClass::Throttled, Some(u64::MAX), false);
    let drawn = delays(&connector(), &running(), &event, RefreshReason::RetryAfter);
    assert!(fills(drawn, 3_600_000, 4_320_000), "{drawn:?}");
}

#[test]
fn an_origin_that_asks_for_less_than_our_own_pace_does_not_shorten_it() {
    let event = failure(FailureClass::Throttled, Some(1), false);
    let drawn = delays(&map(), &failing(running(), 5), &event, RefreshReason::Backoff);
    assert!(drawn.0 >= 16_000, "{drawn:?}");
}

#[test]
fn refused_credentials_wait_for_ten_intervals_or_for_other_credentials() {
    let event = failure(FailureClass::Auth, None, true);
    for config in [map(), connector()] {
        let drawn = delays(&config, &running(), &event, RefreshReason::AuthWait);
        assert!(fills(drawn, 10 * T, 11 * T), "{drawn:?}");
    }
    let waiting = decide(&map(), running(), event, 0, 1).state;
    let decision = decide(&map(), waiting, RefreshEvent::CredentialsChanged, 70, 1);
    assert_eq!(decision.run_at_boot_ms, Some(BOOT + 70));
    assert_eq!((decision.state.failures, decision.reason), (0, RefreshReason::CredentialsChanged));
}

#[test]
fn credentials_that_change_during_a_run_are_tried_even_if_the_run_is_refused() {
    let state = decide(&map(), running(), RefreshEvent::CredentialsChanged, 0, 1).state;
    let decision = decide(&map(), state, failure(FailureClass::Auth, None, true), 5, 1);
    assert_eq!(decision.run_at_boot_ms, Some(BOOT + 5));
    assert_eq!(decision.reason, RefreshReason::CredentialsChanged);
}

#[test]
fn an_announced_change_does_not_shorten_the_wait_of_refused_credentials() {
    let state = decide(&map(), running(), RefreshEvent::Changed, 0, 1).state;
    let decision = decide(&map(), state, failure(FailureClass::Auth, None, true), 5, 1);
    assert_eq!(decision.reason, RefreshReason::AuthWait);
    assert!(decision.run_at_boot_ms.unwrap() >= BOOT + 10 * T);
}

#[test]
fn on_demand_reads_wait_for_what_the_origin_asked() {
    for config in [on_demand(), RefreshConfig { mode: RefreshMode::OnDemand, ..connector() }] {
        let event = failure(FailureClass::Throttled, Some(400_000), true);
        let failed = decide(&config, running(), event, 0, 1).state;
        assert_eq!(failed.phase, RefreshPhase::Idle);
        for urgency in [Urgency::Background, Urgency::Blocking] {
            let decision = decide(&config, failed.clone(), RefreshEvent::Wanted(urgency), 60_000, 1);
            assert_eq!(decision.reason, RefreshReason::RetryAfter);
            let due = decision.run_at_boot_ms.unwrap();
            assert!((BOOT + 400_000..=BOOT + 480_000).contains(&due), "{due}");
            let over = decide(&config, failed.clone(), RefreshEvent::Wanted(urgency), 500_000, 1);
            assert_eq!(over.run_at_boot_ms, Some(BOOT + 500_000));
        }
        // A force goes before it, and the run that it begins owes nothing to it any more.
        let forced = decide(&config, failed, RefreshEvent::Forced, 2_000, 1);
        assert_eq!(forced.run_at_boot_ms, Some(BOOT + 2_000));
        assert!(decide(&config, forced.state, RefreshEvent::Began, 2_000, 1).state.memo.is_empty());
    }
}

// ---- configuration, modes, end --------------------------------------------------------------------------------------

#[test]
fn a_shorter_interval_takes_effect_on_an_armed_run() {
    let state = armed(86_400_000, RefreshReason::Steady);
    let decision = decide(&map(), state, RefreshEvent::ConfigChanged, 0, 1);
    assert_eq!(decision.run_at_boot_ms, Some(BOOT + T * 12 / 10));
    let near = decide(&map(), armed(77, RefreshReason::Steady), RefreshEvent::ConfigChanged, 0, 1);
    assert_eq!(near.run_at_boot_ms, Some(BOOT + 77));
}

#[test]
fn switching_the_mode_arms_and_disarms() {
    let disarmed = decide(&on_demand(), armed(T, RefreshReason::Steady), RefreshEvent::ConfigChanged, 0, 1);
    assert_eq!(disarmed.run_at_boot_ms, None);
    let kept = decide(&on_demand(), armed(9, RefreshReason::WantedBlocking), RefreshEvent::ConfigChanged, 0, 1);
    assert_eq!(kept.run_at_boot_ms, Some(BOOT + 9));
    let rearmed = decide(&map(), disarmed.state, RefreshEvent::ConfigChanged, 0, 1);
    assert!(rearmed.run_at_boot_ms.is_some());
}

#[test]
fn on_demand_a_read_arms_a_run_and_a_failure_paces_the_next() {
    let wish = RefreshEvent::Wanted(Urgency::Blocking);
    let decision = decide(&on_demand(), initial_refresh_state(), wish.clone(), 0, 1);
    assert_eq!(decision.run_at_boot_ms, Some(BOOT));
    let failed = decide(&on_demand(), failing(running(), 4), failure(FailureClass::Refused, None, false), 0, 1);
    assert_eq!((failed.run_at_boot_ms, failed.reason), (None, RefreshReason::OnDemand));
    let drawn = delays(&on_demand(), &failed.state, &wish, RefreshReason::Backoff);
    assert!(fills(drawn, 8_000, 16_000), "{drawn:?}");
    let later = decide(&on_demand(), failed.state, wish, 20_000, 1);
    assert_eq!((later.run_at_boot_ms, later.reason), (Some(BOOT + 20_000), RefreshReason::WantedBlocking));
}

#[test]
fn on_demand_further_reads_leave_the_pace_of_a_failure_alone() {
    let refused = decide(&on_demand(), running(), failure(FailureClass::Auth, None, true), 0, 1).state;
    let down = decide(&on_demand(), failing(running(), 4), failure(FailureClass::Refused, None, true), 0, 1).state;
    for (failed, reason) in [(refused, RefreshReason::AuthWait), (down, RefreshReason::Backoff)] {
        for urgency in [Urgency::Background, Urgency::Blocking] {
            let wish = RefreshEvent::Wanted(urgency);
            let first = decide(&on_demand(), failed.clone(), wish, 0, 1);
            assert_eq!(first.reason, reason);
            for event in [
                RefreshEvent::Wanted(Urgency::Background),
                RefreshEvent::Wanted(Urgency::Blocking),
                RefreshEvent::Changed,
            ] {
                let further = decide(&on_demand(), first.state.clone(), event, 5_000, 2);
                assert_eq!((further.reason, further.state), (RefreshReason::AlreadyArmed, first.state.clone()));
            }
        }
    }
}

#[test]
fn on_demand_refused_credentials_are_tried_again_after_ten_intervals() {
    let refused = decide(&on_demand(), running(), failure(FailureClass::Auth, None, true), 0, 1).state;
    let wish = RefreshEvent::Wanted(Urgency::Background);
    let waiting = decide(&on_demand(), refused, wish, 60_000, 1);
    assert_eq!((waiting.run_at_boot_ms, waiting.reason), (Some(BOOT + 10 * T), RefreshReason::AuthWait));
    let cured = decide(&on_demand(), waiting.state, RefreshEvent::CredentialsChanged, 70_000, 1);
    assert_eq!(cured.run_at_boot_ms, Some(BOOT + 70_000));
}

#[test]
fn on_demand_announcements_and_wakeups_arm_nothing() {
    for event in [RefreshEvent::Changed, RefreshEvent::Resumed, RefreshEvent::CredentialsChanged] {
        let decision = decide(&on_demand(), initial_refresh_state(), event, 0, 1);
        assert_eq!((decision.run_at_boot_ms, decision.reason), (None, RefreshReason::OnDemand));
    }
}

#[test]
fn nothing_but_a_start_revives_a_subject_that_ended() {
    let stopped = decide(&map(), running(), RefreshEvent::Stopped, 0, 1).state;
    for event in [
        succeeded(1, None),
        RefreshEvent::Forced,
        RefreshEvent::Changed,
        RefreshEvent::Wanted(Urgency::Blocking),
        RefreshEvent::ConfigChanged,
        RefreshEvent::Began,
    ] {
        let decision = decide(&map(), stopped.clone(), event, 5, 1);
        assert_eq!((decision.reason, decision.state), (RefreshReason::Stopped, stopped.clone()));
    }
    let revived = decide(&map(), stopped, started(StartKind::Cold), 9, 1);
    assert_eq!((revived.run_at_boot_ms, revived.state.memo), (Some(BOOT + 9), Vec::new()));
}

// ---- invariants -----------------------------------------------------------------------------------------------------

fn run_id(state: &RefreshState) -> Option<u64> {
    match &state.phase {
        RefreshPhase::Running(run) => Some(run.run_id),
        RefreshPhase::Idle | RefreshPhase::Armed(_) => None,
    }
}

proptest! {
    #[test]
    fn no_input_makes_it_panic_and_the_answer_agrees_with_the_state(seed: u64) {
        let mut picks = Picks::new(seed);
        let (config, state) = (picks.refresh_config(), picks.refresh_state());
        let event = picks.refresh_event(run_id(&state).unwrap_or(0));
        let environment: Recorded = picks.environment();
        let decision = refresh(&mut environment.clone(), &config, state.clone(), event.clone());
        let armed_at = match &decision.state.phase {
            RefreshPhase::Armed(run) => Some(run.run_at_boot_ms),
            RefreshPhase::Idle | RefreshPhase::Running(_) => None,
        };
        prop_assert_eq!(decision.run_at_boot_ms, armed_at);
        prop_assert_eq!(refresh(&mut environment.clone(), &config, state, event), decision);
    }

    #[test]
    fn in_any_history_a_subject_is_always_armed_or_running_and_never_pushed_back_by_a_wish(seed: u64) {
        let mut picks = Picks::new(seed);
        let config = if picks.chance() { map() } else { connector() };
        let mut at = 0;
        let mut state = decide(&config, initial_refresh_state(), started(StartKind::Warm), at, seed).state;
        for step in 0..60 {
            at += picks.below(T);
            let event = picks.refresh_event(run_id(&state).unwrap_or(0));
            let before = state.clone();
            let decision = decide(&config, state, event.clone(), at, seed ^ step);
            state = decision.state;
            prop_assert!(state.phase != RefreshPhase::Idle, "{event:?} left nothing armed");
            let wish = matches!(event, RefreshEvent::Wanted(_) | RefreshEvent::Forced | RefreshEvent::Changed
                | RefreshEvent::Resumed | RefreshEvent::ConfigChanged | RefreshEvent::CredentialsChanged);
            if let (true, RefreshPhase::Armed(old), RefreshPhase::Armed(new)) = (wish, &before.phase, &state.phase) {
                prop_assert!(new.run_at_boot_ms <= old.run_at_boot_ms);
            }
            if decision.reason == RefreshReason::Late {
                prop_assert_eq!(&state, &before);
            }
        }
    }

    #[test]
    fn whatever_the_configuration_an_unforced_run_never_storms(seed: u64) {
        let mut picks = Picks::new(seed);
        let config = RefreshConfig { mode: RefreshMode::Background, ..picks.refresh_config() };
        let event = match picks.chance() {
            true => succeeded(1, picks.option(|picks| picks.number())),
            false => failure(picks.class(), picks.option(|picks| picks.number()), false),
        };
        let decision = decide(&config, running(), event, 0, seed);
        prop_assert!(decision.run_at_boot_ms.unwrap() >= BOOT + BACKOFF_LEAST_MS / 2);
    }
}
