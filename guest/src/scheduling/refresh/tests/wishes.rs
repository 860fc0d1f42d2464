//! Wishes, forces, announcements and wake-ups: what others ask for between two runs.

use super::*;

#[test]
fn a_reader_that_was_served_brings_a_run_into_the_first_tenth_of_the_interval() {
    let state = armed(T, RefreshReason::Steady);
    let wish = RefreshEvent::Wanted(Urgency::Background);
    let drawn = delays(&map(), &state, &wish, RefreshReason::WantedBackground);
    assert!(fills(drawn, 0, T / 10), "{drawn:?}");
}

#[test]
fn repeated_wishes_neither_creep_forward_nor_push_back() {
    let wish = RefreshEvent::Wanted(Urgency::Background);
    let first = decide(&map(), armed(T, RefreshReason::Steady), wish.clone(), 0, 1);
    for seed in SEEDS {
        let again = decide(&map(), first.state.clone(), wish.clone(), 0, seed);
        assert_eq!((again.reason, again.state), (RefreshReason::AlreadyArmed, first.state.clone()));
    }
}

#[test]
fn a_background_wish_keeps_the_floor_since_the_last_run() {
    let state = RefreshState { last_end_boot_ms: Some(BOOT), ..armed(T, RefreshReason::Steady) };
    let wish = RefreshEvent::Wanted(Urgency::Background);
    let drawn = delays(&map(), &state, &wish, RefreshReason::WantedBackground);
    assert!(drawn.0 >= FLOOR, "{drawn:?}");
}

#[test]
fn a_reader_that_has_nothing_is_served_at_once() {
    let wish = RefreshEvent::Wanted(Urgency::Blocking);
    let decision = decide(&map(), armed(T, RefreshReason::Steady), wish, 0, 1);
    assert_eq!((decision.run_at_boot_ms, decision.reason), (Some(BOOT), RefreshReason::WantedBlocking));
}

#[test]
fn no_wish_and_no_announcement_shortens_the_pace_of_a_failure() {
    let event = failure(FailureClass::Refused, Some(90_000), false);
    let paced = decide(&connector(), failing(running(), 9), event, 0, 1).state;
    for event in [
        RefreshEvent::Wanted(Urgency::Background),
        RefreshEvent::Wanted(Urgency::Blocking),
        RefreshEvent::Changed,
        RefreshEvent::Resumed,
    ] {
        let decision = decide(&connector(), paced.clone(), event, 0, 1);
        assert_eq!((decision.reason, decision.state), (RefreshReason::AlreadyArmed, paced.clone()));
    }
}

#[test]
fn in_the_background_mode_readers_of_something_that_fails_change_nothing_about_its_retries() {
    for config in [map(), connector()] {
        for (number, class) in (0..).zip(crate::testing::CLASSES) {
            for (retry_after, serving) in [(None, true), (None, false), (Some(90_000), true), (Some(90_000), false)] {
                let failed = FailedEvent { run_id: 1, class, retry_after_ms: retry_after, duration_ms: 50, serving };
                let paced = decide(&config, running(), RefreshEvent::Failed(failed), 0, number).state;
                for urgency in [Urgency::Background, Urgency::Blocking] {
                    for at in [0, 60_000, 20 * T] {
                        let decision = decide(&config, paced.clone(), RefreshEvent::Wanted(urgency), at, number);
                        assert_eq!((decision.reason, decision.state), (RefreshReason::AlreadyArmed, paced.clone()));
                    }
                }
            }
        }
    }
}

#[test]
fn a_wish_during_a_run_waits_for_it() {
    for urgency in [Urgency::Background, Urgency::Blocking] {
        let decision = decide(&map(), running(), RefreshEvent::Wanted(urgency), 0, 1);
        assert_eq!((decision.reason, decision.state), (RefreshReason::AlreadyRunning, running()));
    }
}

#[test]
fn a_force_arms_at_once_even_against_a_backoff() {
    for state in [initial_refresh_state(), failing(armed(T, RefreshReason::Backoff), 4)] {
        let decision = decide(&map(), state, RefreshEvent::Forced, FORCE_LEAST_MS, 1);
        assert_eq!((decision.run_at_boot_ms, decision.reason), (Some(BOOT + FORCE_LEAST_MS), RefreshReason::Forced));
    }
}

#[test]
fn a_force_keeps_a_second_between_the_end_of_a_run_and_the_next() {
    let ended = decide(&map(), running(), succeeded(1, None), 0, 1).state;
    let failed = decide(&map(), running(), failure(FailureClass::Refused, None, false), 0, 1).state;
    let idle = decide(&on_demand(), running(), succeeded(1, None), 0, 1).state;
    for state in [ended, RefreshState { phase: armed(T, RefreshReason::Backoff).phase, ..failed }, idle] {
        for (at, due) in [(0, FORCE_LEAST_MS), (400, FORCE_LEAST_MS), (FORCE_LEAST_MS, FORCE_LEAST_MS), (5_000, 5_000)]
        {
            let decision = decide(&map(), state.clone(), RefreshEvent::Forced, at, 1);
            assert_eq!((decision.run_at_boot_ms, decision.reason), (Some(BOOT + due), RefreshReason::Forced));
            // Forcing again changes nothing.
            let again = decide(&map(), decision.state.clone(), RefreshEvent::Forced, at, 2);
            assert_eq!((again.run_at_boot_ms, again.state), (Some(BOOT + due), decision.state));
        }
    }
    // A run that is due sooner is not put off.
    let soon = RefreshState { last_end_boot_ms: Some(BOOT), ..armed(300, RefreshReason::Changed) };
    assert_eq!(decide(&map(), soon, RefreshEvent::Forced, 0, 1).run_at_boot_ms, Some(BOOT + 300));
}

#[test]
fn a_reader_does_not_turn_the_force_after_a_failure_into_a_run_at_once() {
    let forced = decide(&map(), failing(armed(T, RefreshReason::Backoff), 4), RefreshEvent::Forced, 0, 1).state;
    let wish = RefreshEvent::Wanted(Urgency::Blocking);
    assert_eq!(decide(&map(), forced, wish, 10, 1).run_at_boot_ms, Some(BOOT + FORCE_LEAST_MS));
}

#[test]
fn an_end_of_a_run_that_lies_in_the_future_delays_a_force_by_a_second_at_most() {
    let state = RefreshState { last_end_boot_ms: Some(u64::MAX), ..armed(T, RefreshReason::Steady) };
    assert_eq!(decide(&map(), state, RefreshEvent::Forced, 0, 1).run_at_boot_ms, Some(BOOT + FORCE_LEAST_MS));
}

#[test]
fn a_force_joins_the_run_under_way_and_adds_no_chain() {
    let mut state = running();
    for _ in 0..5 {
        let decision = decide(&map(), state, RefreshEvent::Forced, 0, 1);
        assert_eq!((decision.reason, decision.run_at_boot_ms), (RefreshReason::Joined, None));
        state = decision.state;
    }
    assert_eq!(state, running());
    assert_eq!(decide(&map(), state, succeeded(1, None), 0, 1).reason, RefreshReason::Steady);
}

#[test]
fn an_announced_change_is_followed_within_a_window_that_fits_the_subject() {
    let state = armed(T, RefreshReason::Steady);
    let drawn = delays(&connector(), &state, &RefreshEvent::Changed, RefreshReason::Changed);
    assert!(fills(drawn, 0, CHANGED_WINDOW_MS), "{drawn:?}");
    let drawn = delays(&map(), &state, &RefreshEvent::Changed, RefreshReason::Changed);
    assert!(fills(drawn, 0, T / 10), "{drawn:?}");
}

#[test]
fn a_machine_that_wakes_up_refreshes_soon_and_leaves_overdue_runs_alone() {
    let drawn = delays(&map(), &armed(T, RefreshReason::Steady), &RefreshEvent::Resumed, RefreshReason::Resumed);
    assert!(fills(drawn, 0, T / 10), "{drawn:?}");
    let overdue = decide(&map(), armed(5, RefreshReason::Steady), RefreshEvent::Resumed, 9_000_000, 1);
    assert_eq!(overdue.run_at_boot_ms, Some(BOOT + 5));
}

#[test]
fn a_short_sleep_breaks_neither_the_floor_nor_the_word_of_the_origin() {
    let served = RefreshState { last_end_boot_ms: Some(BOOT), ..armed(T, RefreshReason::Steady) };
    for config in [map(), connector()] {
        let drawn = delays(&config, &served, &RefreshEvent::Resumed, RefreshReason::Resumed);
        assert!(drawn.0 >= FLOOR && drawn.1 <= FLOOR.max(T / 10), "{drawn:?}");
    }
    // A connector that is down is not kept apart by the floor.
    let down = failing(armed(T, RefreshReason::Backoff), 3);
    let drawn = delays(&connector(), &down, &RefreshEvent::Resumed, RefreshReason::Resumed);
    assert!(fills(drawn, 0, T / 10), "{drawn:?}");
    // The own pace was longer than what the origin asked for; a sleep shortens the one and not the other.
    let hour = RefreshConfig { interval_ms: 3_600_000, ..map() };
    let event = failure(FailureClass::Server, Some(1_000_000), true);
    let paced = SEEDS
        .map(|seed| decide(&hour, failing(running(), 1), event.clone(), 0, seed))
        .find(|decision| decision.reason == RefreshReason::BackoffServingAgain);
    let resumed = decide(&hour, paced.unwrap().state, RefreshEvent::Resumed, 11_000, 1);
    assert!(resumed.run_at_boot_ms.unwrap() >= BOOT + 1_000_000);
}
