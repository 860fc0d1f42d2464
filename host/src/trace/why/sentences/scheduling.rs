//! Decisions about calls, turns and places.

use super::{Quiet, Told, View, class_name, count, listed};
use crate::model::Moment;
use crate::policy::contract::{
    BreakerConfig, BreakerDecision, BreakerEvent, BreakerPhase, BreakerReason, BreakerVerdict, Candidate,
    ConcurrencyDecision, ConcurrencyEvent, ConcurrencyReason, PlanDecision, RunOutcome, case_name,
};
use crate::trace::why::times::{at_boot, span};

/// What a success without an ID is at a breaker that does not let every call pass.
const OTHER_ANSWER: &str = "the server answered (a list, a session, a ping or an earlier call)";

/// Tells a decision of a breaker.
pub(super) fn breaker(
    config: &BreakerConfig,
    (before, event): (&BreakerPhase, &BreakerEvent),
    decision: Option<&BreakerDecision>,
    moment: Moment,
) -> Told {
    let (event_name, happened) = match event {
        BreakerEvent::Asked => ("asked", "a call asked to pass"),
        BreakerEvent::Succeeded(None) if *before != BreakerPhase::Closed => ("succeeded", OTHER_ANSWER),
        BreakerEvent::Succeeded(None) => ("succeeded", "a call was answered"),
        BreakerEvent::Succeeded(Some(_)) => ("succeeded", "the probe was answered"),
        BreakerEvent::Failed(None) => ("failed", "a call failed"),
        BreakerEvent::Failed(Some(_)) => ("failed", "the probe failed"),
        BreakerEvent::Cancelled(None) => ("cancelled", "a call was given up"),
        BreakerEvent::Cancelled(Some(_)) => ("cancelled", "the probe was given up"),
    };
    let Some(decision) = decision else {
        return Told { event: Some(event_name), sentence: happened.to_owned(), ..Told::default() };
    };
    let asked = matches!(event, BreakerEvent::Asked);
    let (outcome, means) = match (decision.verdict, asked) {
        (BreakerVerdict::Allow, true) => ("allow", "it passed".to_owned()),
        (BreakerVerdict::Allow, false) => ("allow", "calls pass".to_owned()),
        (BreakerVerdict::Probe(_), true) => ("probe", "it passed as the one probe".to_owned()),
        (BreakerVerdict::Probe(_), false) => ("probe", "the next call is the probe".to_owned()),
        (BreakerVerdict::Reject(until), true) => {
            ("reject", format!("it was refused; calls may pass again {}", at_boot(until, moment)))
        }
        (BreakerVerdict::Reject(until), false) => {
            ("reject", format!("calls are refused; they may pass again {}", at_boot(until, moment)))
        }
    };
    let because = because(config, decision, event);
    let quiet = match (event, decision.reason, decision.verdict) {
        (BreakerEvent::Asked, BreakerReason::Closed, BreakerVerdict::Allow) => Some(Quiet::Passed),
        (BreakerEvent::Succeeded(None), BreakerReason::Closed, BreakerVerdict::Allow) => Some(Quiet::Answered),
        (BreakerEvent::Cancelled(None), BreakerReason::Closed, BreakerVerdict::Allow) => Some(Quiet::GivenUp),
        (BreakerEvent::Asked, _, BreakerVerdict::Reject(_)) => {
            Some(Quiet::Same(format!("a call asked to pass: it was refused, because {because}")))
        }
        _ => None,
    };
    Told {
        event: Some(event_name),
        outcome: Some(outcome.to_owned()),
        reason: Some(case_name(&decision.reason)),
        sentence: format!("{happened}: {means}, because {because}"),
        quiet,
    }
}

fn because(config: &BreakerConfig, decision: &BreakerDecision, event: &BreakerEvent) -> String {
    let state = &decision.state;
    match decision.reason {
        BreakerReason::Closed => match (event, state.consecutive) {
            (BreakerEvent::Failed(_), failures @ 1..) => {
                format!(
                    "the breaker is closed: it opens at {} in a row, and this was {failures}",
                    config.failure_threshold
                )
            }
            _ => "the breaker is closed".to_owned(),
        },
        BreakerReason::ConsecutiveFailures => {
            format!("the breaker opens after {} failures in a row", state.consecutive)
        }
        BreakerReason::FailureRate => {
            let (failed, of) = (state.recent.count_ones(), state.recent_count);
            format!("the breaker opens: {failed} of the last {of} calls failed")
        }
        BreakerReason::Open => "the breaker is open".to_owned(),
        BreakerReason::Probing if matches!(event, BreakerEvent::Succeeded(_)) => {
            "that ends the breaker's open time".to_owned()
        }
        BreakerReason::Probing => "the breaker's open time is over".to_owned(),
        BreakerReason::ProbeInFlight => "a probe is under way".to_owned(),
        BreakerReason::ProbeSucceeded => "the probe did well: the breaker closes".to_owned(),
        BreakerReason::ProbeFailed => "the probe failed: the breaker opens again, for longer".to_owned(),
        BreakerReason::ProbeLost => "the probe was given up or lost: another may pass".to_owned(),
        BreakerReason::Late if matches!(event, BreakerEvent::Succeeded(None)) => match state.phase {
            BreakerPhase::HalfOpen(_) => "a probe is under way, and only its outcome counts".to_owned(),
            BreakerPhase::Open(_) => "the breaker is open, and only its open time counts".to_owned(),
            BreakerPhase::Closed => "the breaker is closed".to_owned(),
        },
        BreakerReason::Late => "that call belongs to no probe under way, so that nothing is learnt of it".to_owned(),
    }
}

/// Tells a plan; none if the connector whose view it is does not wait in it.
pub(super) fn plan(candidates: &[Candidate], decision: Option<&PlanDecision>, view: View<'_>) -> Option<Told> {
    let waiting = count(candidates.len(), "connector waits", "connectors wait");
    let sentence = match view {
        View::Entry(_) => return None,
        View::Whole => {
            let order = decision.map(|decision| decision.order.as_slice()).unwrap_or_default();
            let ids: Vec<&str> = order.iter().filter_map(|at| id_at(candidates, *at)).collect();
            match ids.as_slice() {
                [] => waiting,
                ids => format!("{waiting} for a place: first {}", listed(ids.iter().copied())),
            }
        }
        View::Connector(id) => {
            let candidate = candidates.iter().find(|candidate| candidate.id == id)?;
            let known = match (candidate.failures, candidate.last_class) {
                (0, _) => String::new(),
                (failures, None) => format!(", after {} in a row", count_u32(failures, "failure", "failures")),
                (failures, Some(class)) => {
                    let failures = count_u32(failures, "failure", "failures");
                    format!(", after {failures} in a row ({})", class_name(class))
                }
            };
            let wanted = if candidate.wanted { ", and somebody waits for it" } else { "" };
            let place =
                decision.and_then(|decision| decision.order.iter().position(|at| id_at(candidates, *at) == Some(id)));
            let turn = place.map(|place| format!(": it is number {}", place + 1)).unwrap_or_default();
            format!("{waiting} for a place{turn}{known}{wanted}")
        }
    };
    let slow =
        decision.map(|decision| format!("; whoever takes longer than {} frees it", span(decision.slow_after_ms)));
    Some(Told {
        event: None,
        outcome: decision.map(|_| "ordered".to_owned()),
        reason: None,
        sentence: format!("{sentence}{}", slow.unwrap_or_default()),
        quiet: Some(if matches!(view, View::Whole) { Quiet::Same(sentence) } else { Quiet::Step }),
    })
}

fn id_at(candidates: &[Candidate], at: u32) -> Option<&str> {
    let candidate = candidates.get(usize::try_from(at).ok()?)?;
    Some(candidate.id.as_str())
}

fn count_u32(number: u32, one: &str, many: &str) -> String {
    count(usize::try_from(number).unwrap_or(usize::MAX), one, many)
}

/// Tells how many runs may be under way.
pub(super) fn concurrency(event: &ConcurrencyEvent, decision: Option<&ConcurrencyDecision>) -> Told {
    let (event, happened) = match event {
        ConcurrencyEvent::Began => ("began", "a run began".to_owned()),
        ConcurrencyEvent::Finished(finished) => {
            let took = span(finished.duration_ms);
            let how = match finished.outcome {
                RunOutcome::Succeeded => format!("a run succeeded after {took}"),
                RunOutcome::Failed(class) => format!("a run failed ({}) after {took}", class_name(class)),
                RunOutcome::Cancelled => "a run was given up".to_owned(),
            };
            ("finished", how)
        }
    };
    let Some(decision) = decision else {
        return Told { event: Some(event), sentence: happened, ..Told::default() };
    };
    let (because, is_news) = match decision.reason {
        ConcurrencyReason::Fixed => ("the number is configured", false),
        ConcurrencyReason::Initial => ("that is where it starts", true),
        ConcurrencyReason::Increased => ("it went well: a little more", true),
        ConcurrencyReason::Decreased => ("that means overload: much less", true),
        ConcurrencyReason::Unchanged => ("nothing was learnt", false),
    };
    let may = format!("{} may be under way at once, because {because}", count_u32(decision.limit, "run", "runs"));
    Told {
        event: Some(event),
        outcome: Some(decision.limit.to_string()),
        reason: Some(case_name(&decision.reason)),
        sentence: format!("{happened}: {may}"),
        quiet: (!is_news).then_some(Quiet::Same(may)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{BootId, BootMs, WallMs};
    use crate::policy::contract::{BreakerState, FailureClass, HalfOpenBreaker, OpenBreaker};

    const MOMENT: Moment = Moment { wall: WallMs(1_767_225_600_000), boot: BootMs(5_000), boot_id: BootId(1) };

    fn config() -> BreakerConfig {
        BreakerConfig {
            failure_threshold: 5,
            window: 20,
            rate_permille: 500,
            open_min_ms: 1_000,
            open_max_ms: 60_000,
            probe_deadline_ms: 60_000,
            options: Vec::new(),
        }
    }

    fn decision(verdict: BreakerVerdict, reason: BreakerReason, consecutive: u32) -> BreakerDecision {
        BreakerDecision { state: BreakerState { consecutive, ..BreakerState::initial() }, verdict, reason }
    }

    #[test]
    fn an_opening_breaker_says_after_how_many_failures_and_until_when() {
        let opened = decision(BreakerVerdict::Reject(25_000), BreakerReason::ConsecutiveFailures, 5);
        let failed = (&BreakerPhase::Closed, &BreakerEvent::Failed(None));
        let told = breaker(&config(), failed, Some(&opened), MOMENT);
        assert_eq!(
            told.sentence,
            "a call failed: calls are refused; they may pass again at 00:00:20.000 (in 20 s), because the breaker opens \
             after 5 failures in a row"
        );
        assert_eq!(told.quiet, None);
    }

    #[test]
    fn calls_that_pass_a_closed_breaker_are_no_news_and_failures_are() {
        let closed = |failures| decision(BreakerVerdict::Allow, BreakerReason::Closed, failures);
        let quiet = |event, failures| {
            breaker(&config(), (&BreakerPhase::Closed, &event), Some(&closed(failures)), MOMENT).quiet
        };
        assert_eq!(quiet(BreakerEvent::Asked, 0), Some(Quiet::Passed));
        assert_eq!(quiet(BreakerEvent::Succeeded(None), 0), Some(Quiet::Answered));
        assert_eq!(quiet(BreakerEvent::Cancelled(None), 0), Some(Quiet::GivenUp));
        assert_eq!(quiet(BreakerEvent::Failed(None), 1), None);
    }

    #[test]
    fn an_answer_at_an_open_breaker_says_what_it_does_or_why_it_does_nothing() {
        let open = BreakerPhase::Open(OpenBreaker { until_boot_ms: 25_000 });
        let half_open = BreakerPhase::HalfOpen(HalfOpenBreaker { probe_id: 1, deadline_boot_ms: 25_000 });
        let (probe, refused) = (BreakerVerdict::Probe(1), BreakerVerdict::Reject(25_000));
        for (phase, verdict, reason, sentence) in [
            (
                open,
                probe,
                BreakerReason::Probing,
                "the next call is the probe, because that ends the breaker's open time",
            ),
            (
                open,
                refused,
                BreakerReason::Late,
                "calls are refused; they may pass again at 00:00:20.000 (in 20 s), because the breaker is open, and only \
                 its open time counts",
            ),
            (
                half_open,
                refused,
                BreakerReason::Late,
                "calls are refused; they may pass again at 00:00:20.000 (in 20 s), because a probe is under way, and only \
                 its outcome counts",
            ),
        ] {
            let mut decision = decision(verdict, reason, 5);
            decision.state.phase = phase;
            let told = breaker(&config(), (&phase, &BreakerEvent::Succeeded(None)), Some(&decision), MOMENT);
            assert_eq!(told.sentence, format!("{OTHER_ANSWER}: {sentence}"));
        }
    }

    #[test]
    fn a_plan_tells_a_connector_its_turn_and_others_nothing() {
        let candidate = |id: &str, failures| Candidate {
            id: id.into(),
            failures,
            last_class: (failures > 0).then_some(FailureClass::Timeout),
            last_duration_ms: None,
            serving: false,
            wanted: false,
        };
        let candidates = [candidate("bad", 3), candidate("good", 0)];
        let decision = PlanDecision { order: vec![1, 0], slow_after_ms: 1_000 };
        let told = |id| plan(&candidates, Some(&decision), View::Connector(id)).map(|told| told.sentence);
        assert_eq!(
            told("bad").as_deref(),
            Some(
                "2 connectors wait for a place: it is number 2, after 3 failures in a row (timeout); whoever takes \
                 longer than 1 s frees it"
            )
        );
        assert_eq!(told("other"), None);
    }
}
