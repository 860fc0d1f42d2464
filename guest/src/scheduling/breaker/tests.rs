//! The rules of the breaker, and the invariant of the one probe.

use super::*;
use crate::testing::{BOOT, Picks, later};
use proptest::prelude::*;

const OPEN_MIN: u64 = 1_000;
const OPEN_MAX: u64 = 60_000;
const DEADLINE: u64 = 10_000;

fn config() -> BreakerConfig {
    BreakerConfig {
        failure_threshold: 5,
        window: 20,
        rate_permille: 500,
        open_min_ms: OPEN_MIN,
        open_max_ms: OPEN_MAX,
        probe_deadline_ms: DEADLINE,
        options: Vec::new(),
    }
}

fn decide(state: BreakerState, event: BreakerEvent, at: u64) -> BreakerDecision {
    breaker(&mut later(at, 3), &config(), state, event)
}

fn after_failures(count: u32) -> BreakerDecision {
    let mut decision = decide(initial_breaker_state(), BreakerEvent::Failed(None), 0);
    for _ in 1..count {
        decision = decide(decision.state, BreakerEvent::Failed(None), 0);
    }
    decision
}

fn half_open() -> BreakerState {
    decide(after_failures(5).state, BreakerEvent::Asked, OPEN_MAX).state
}

fn open_until(state: &BreakerState) -> u64 {
    match &state.phase {
        BreakerPhase::Open(open) => open.until_boot_ms,
        phase => panic!("not open: {phase:?}"),
    }
}

#[test]
fn it_opens_at_the_fifth_failure_in_a_row_and_says_until_when() {
    let fourth = after_failures(4);
    assert_eq!((fourth.verdict, fourth.reason), (BreakerVerdict::Allow, BreakerReason::Closed));
    let fifth = after_failures(5);
    let until = open_until(&fifth.state);
    assert_eq!((fifth.verdict, fifth.reason), (BreakerVerdict::Reject(until), BreakerReason::ConsecutiveFailures));
    assert!((BOOT + OPEN_MIN / 2..=BOOT + OPEN_MIN).contains(&until));
    let asked = decide(fifth.state.clone(), BreakerEvent::Asked, 0);
    assert_eq!(
        (asked.verdict, asked.reason, asked.state),
        (BreakerVerdict::Reject(until), BreakerReason::Open, fifth.state)
    );
}

#[test]
fn a_success_in_between_breaks_the_row() {
    let state = decide(after_failures(4).state, BreakerEvent::Succeeded(None), 0).state;
    assert_eq!(state.consecutive, 0);
    assert_eq!(decide(state, BreakerEvent::Failed(None), 0).reason, BreakerReason::Closed);
}

#[test]
fn it_opens_at_half_of_a_full_window() {
    let mut state = initial_breaker_state();
    for outcome in 0..19 {
        let event = if outcome % 2 == 0 { BreakerEvent::Failed(None) } else { BreakerEvent::Succeeded(None) };
        state = decide(state, event, 0).state;
        assert_eq!(state.phase, BreakerPhase::Closed);
    }
    let twentieth = decide(state, BreakerEvent::Failed(None), 0);
    assert_eq!(twentieth.reason, BreakerReason::FailureRate);
    assert!(matches!(twentieth.state.phase, BreakerPhase::Open(_)));
}

#[test]
fn when_its_time_is_over_one_call_probes_and_the_others_wait() {
    let probing = decide(after_failures(5).state, BreakerEvent::Asked, OPEN_MAX);
    assert_eq!((probing.verdict, probing.reason), (BreakerVerdict::Probe(1), BreakerReason::Probing));
    let other = decide(probing.state.clone(), BreakerEvent::Asked, OPEN_MAX + 1);
    assert_eq!(other.verdict, BreakerVerdict::Reject(BOOT + OPEN_MAX + DEADLINE));
    assert_eq!((other.reason, other.state), (BreakerReason::ProbeInFlight, probing.state));
}

#[test]
fn a_probe_that_does_well_closes_it_and_clears_its_memory() {
    let decision = decide(half_open(), BreakerEvent::Succeeded(Some(1)), OPEN_MAX);
    assert_eq!((decision.verdict, decision.reason), (BreakerVerdict::Allow, BreakerReason::ProbeSucceeded));
    assert_eq!(decision.state, BreakerState { next_probe_id: 2, ..initial_breaker_state() });
}

#[test]
fn a_probe_that_fails_opens_it_for_longer_up_to_the_cap() {
    let mut state = half_open();
    let mut at = OPEN_MAX;
    for ceiling in [2_000, 4_000, 8_000, 16_000, 32_000, OPEN_MAX, OPEN_MAX] {
        let probe = state.next_probe_id - 1;
        let failed = decide(state, BreakerEvent::Failed(Some(probe)), at);
        assert_eq!(failed.reason, BreakerReason::ProbeFailed);
        let open_time = open_until(&failed.state) - BOOT - at;
        assert!((ceiling / 2..=ceiling).contains(&open_time), "{open_time} for {ceiling}");
        at += ceiling;
        state = decide(failed.state, BreakerEvent::Asked, at).state;
    }
}

#[test]
fn a_lost_probe_makes_room_for_another_and_its_late_answer_counts_no_more() {
    let state = half_open();
    let lost = decide(state, BreakerEvent::Asked, OPEN_MAX + DEADLINE);
    assert_eq!((lost.verdict, lost.reason), (BreakerVerdict::Probe(2), BreakerReason::ProbeLost));
    let late = decide(lost.state.clone(), BreakerEvent::Succeeded(Some(1)), OPEN_MAX + DEADLINE + 1);
    assert_eq!((late.reason, late.state), (BreakerReason::Late, lost.state));
}

#[test]
fn a_probe_that_is_given_up_lets_the_next_call_probe_at_once() {
    let given_up = decide(half_open(), BreakerEvent::Cancelled(Some(1)), OPEN_MAX);
    assert_eq!((given_up.verdict, given_up.reason), (BreakerVerdict::Probe(2), BreakerReason::ProbeLost));
    assert_eq!(decide(given_up.state, BreakerEvent::Asked, OPEN_MAX).verdict, BreakerVerdict::Probe(2));
}

/// Whatever the server answers that is not the probe: a list, a session, a ping, an earlier call, a lost probe.
const EVIDENCE: [BreakerEvent; 2] = [BreakerEvent::Succeeded(None), BreakerEvent::Succeeded(Some(77))];

#[test]
fn failures_from_before_it_opened_neither_close_nor_prolong_it() {
    for state in [after_failures(5).state, half_open()] {
        for event in [
            BreakerEvent::Failed(None),
            BreakerEvent::Cancelled(None),
            BreakerEvent::Failed(Some(77)),
            BreakerEvent::Cancelled(Some(77)),
        ] {
            let decision = decide(state.clone(), event, OPEN_MAX);
            assert_eq!((decision.reason, decision.state), (BreakerReason::Late, state.clone()));
        }
    }
}

#[test]
fn evidence_makes_the_next_call_the_probe_at_once_and_closes_nothing() {
    for evidence in EVIDENCE {
        let answered = decide(after_failures(5).state, evidence, 10);
        assert_eq!((answered.verdict, answered.reason), (BreakerVerdict::Probe(1), BreakerReason::Probing));
        assert_eq!(open_until(&answered.state), BOOT + 10);
        let asked = decide(answered.state, BreakerEvent::Asked, 10);
        assert_eq!((asked.verdict, asked.reason), (BreakerVerdict::Probe(1), BreakerReason::Probing));
        let closed = decide(asked.state, BreakerEvent::Succeeded(Some(1)), 20).state;
        assert_eq!(closed, BreakerState { next_probe_id: 2, ..initial_breaker_state() });
    }
}

#[test]
fn evidence_changes_nothing_while_a_probe_is_under_way_or_the_open_time_is_over() {
    for evidence in EVIDENCE {
        let half_open = half_open();
        let decision = decide(half_open.clone(), evidence.clone(), OPEN_MAX);
        assert_eq!((decision.reason, decision.state), (BreakerReason::Late, half_open));
        let open = after_failures(5).state;
        let over = decide(open.clone(), evidence, OPEN_MAX);
        assert_eq!((over.verdict, over.reason), (BreakerVerdict::Probe(1), BreakerReason::Late));
        assert_eq!(over.state.phase, open.phase);
    }
}

/// An opening whose probe fails at `at`, after something was answered or after nothing was.
fn after_failed_probe(answered: bool, at: u64) -> BreakerState {
    let mut state = after_failures(5).state;
    if answered {
        state = decide(state, BreakerEvent::Succeeded(None), 10).state;
    }
    let probing = decide(state, BreakerEvent::Asked, at).state;
    decide(probing, BreakerEvent::Failed(Some(1)), at).state
}

#[test]
fn after_an_outage_the_first_answer_counts_however_many_probes_failed() {
    let mut state = after_failed_probe(false, OPEN_MAX);
    for failed in 2..9 {
        let at = failed * OPEN_MAX;
        let probing = decide(state, BreakerEvent::Asked, at).state;
        state = decide(probing, BreakerEvent::Failed(Some(failed)), at).state;
    }
    let answered = decide(state, BreakerEvent::Succeeded(None), 8 * OPEN_MAX + 1);
    assert_eq!((answered.verdict, answered.reason), (BreakerVerdict::Probe(9), BreakerReason::Probing));
}

#[test]
fn a_probe_that_fails_after_an_answer_makes_answers_count_no_more_until_the_open_time_is_over() {
    let doubted = after_failed_probe(true, 20);
    let until = open_until(&doubted);
    let listed = decide(doubted.clone(), BreakerEvent::Succeeded(None), 30);
    assert_eq!((listed.verdict, listed.reason), (BreakerVerdict::Reject(until), BreakerReason::Late));
    assert_eq!(listed.state.phase, doubted.phase);
    // A call is no list: one that was answered after it counted as lost is believed.
    let called = decide(doubted, BreakerEvent::Succeeded(Some(77)), 30);
    assert_eq!(called.verdict, BreakerVerdict::Probe(2));
    // The list that was answered meanwhile casts its doubt on the next opening; without one, there is none.
    for (state, counts) in [(listed.state, false), (after_failed_probe(true, 20), true)] {
        let probing = decide(state, BreakerEvent::Asked, OPEN_MAX).state;
        let again = decide(probing, BreakerEvent::Failed(Some(2)), OPEN_MAX).state;
        let listed = decide(again, BreakerEvent::Succeeded(None), OPEN_MAX + 1);
        assert_eq!(listed.reason == BreakerReason::Probing, counts);
    }
}

#[test]
fn a_breaker_from_another_boot_does_not_stay_shut_for_ever() {
    let phase = BreakerPhase::Open(OpenBreaker { until_boot_ms: u64::MAX });
    let state = BreakerState { phase, ..initial_breaker_state() };
    let asked = decide(state, BreakerEvent::Asked, 0);
    assert_eq!(asked.verdict, BreakerVerdict::Reject(BOOT + OPEN_MAX));
    assert_eq!(decide(asked.state, BreakerEvent::Asked, OPEN_MAX).verdict, BreakerVerdict::Probe(1));
}

fn event(picks: &mut Picks) -> BreakerEvent {
    let probe = picks.option(|picks| picks.below(6));
    match picks.below(4) {
        0 => BreakerEvent::Asked,
        1 => BreakerEvent::Succeeded(probe),
        2 => BreakerEvent::Failed(probe),
        _ => BreakerEvent::Cancelled(probe),
    }
}

proptest! {
    #[test]
    fn no_input_makes_it_panic(seed: u64) {
        let mut picks = Picks::new(seed);
        let config = BreakerConfig {
            failure_threshold: picks.small(),
            window: picks.small(),
            rate_permille: picks.small(),
            open_min_ms: picks.number(),
            open_max_ms: picks.number(),
            probe_deadline_ms: picks.number(),
            options: Vec::new(),
        };
        let phase = match picks.below(3) {
            0 => BreakerPhase::Closed,
            1 => BreakerPhase::Open(OpenBreaker { until_boot_ms: picks.number() }),
            _ => BreakerPhase::HalfOpen(HalfOpenBreaker { probe_id: picks.below(6), deadline_boot_ms: picks.number() }),
        };
        let state = BreakerState {
            phase,
            consecutive: picks.small(),
            recent: picks.small(),
            recent_count: picks.small(),
            opened: picks.small(),
            next_probe_id: picks.number(),
            memo: picks.pick(&[b"".as_slice(), b"answered", b"doubted", b"doubted answered", &[1, 2]]).to_vec(),
        };
        let decision = breaker(&mut picks.environment(), &config, state, event(&mut picks));
        prop_assert!(decision.state.memo.len() <= 16);
    }

    #[test]
    fn in_any_history_at_most_one_probe_is_under_way(seed: u64) {
        let mut picks = Picks::new(seed);
        let mut state = initial_breaker_state();
        let mut at = 0;
        let mut under_way: Option<(u64, u64)> = None;
        for _ in 0..200 {
            at += picks.below(4_000);
            let event = event(&mut picks);
            let asked = event == BreakerEvent::Asked;
            let ended = match &event {
                BreakerEvent::Asked => None,
                BreakerEvent::Succeeded(probe) | BreakerEvent::Failed(probe) | BreakerEvent::Cancelled(probe) => *probe,
            };
            let decision = decide(state, event, at);
            if ended.is_some() && ended == under_way.map(|(id, _)| id) {
                under_way = None;
            }
            if let (true, BreakerVerdict::Probe(id)) = (asked, &decision.verdict) {
                if let Some((former, deadline)) = under_way {
                    prop_assert!(at >= deadline, "probe {id} beside probe {former}");
                }
                under_way = Some((*id, at + DEADLINE));
            }
            state = decision.state;
        }
    }
}
