//! The state of a value that is kept fresh, and of the breaker before its calls, in facts and in sentences.

use super::facts::{BreakerFacts, UpkeepFacts};
use super::report::Condition;
use super::sentences::{Nouns, class_meaning, class_name, count, lookup_reason, refresh_reason, rejection};
use super::standing::Stand;
use super::times::Clock;
use crate::model::WallMs;
use crate::policy::contract::{
    BreakerPhase, BreakerReason, BreakerVerdict, Freshness, LookupDecision, RefreshPhase, RefreshReason, ServeVerdict,
    ValueFacts, case_name,
};

/// Tells the state of a value and of its refresh. `name` begins a sentence.
pub(super) fn tell(stand: &mut Stand, name: &str, nouns: Nouns, facts: &UpkeepFacts, clock: Clock) {
    tell_value(stand, name, nouns, facts, clock);
    tell_refresh(stand, nouns, facts, clock);
}

/// The times of a value.
struct Times {
    fetched: WallMs,
    fresh_until: WallMs,
    serve_until: WallMs,
}

impl Times {
    fn of(value: &ValueFacts, max_stale_ms: u64, clock: Clock) -> Self {
        let fresh_until = clock.after(&value.requested, value.fresh_ms);
        let stale_from = value.stale_since.as_ref().map_or(fresh_until, |since| clock.after(since, 0));
        Self { fetched: clock.after(&value.requested, 0), fresh_until, serve_until: stale_from.plus(max_stale_ms) }
    }
}

fn tell_value(stand: &mut Stand, name: &str, nouns: Nouns, facts: &UpkeepFacts, clock: Clock) {
    let Some((_, verdict)) = &facts.verdict else { return };
    let times = facts.value.as_ref().map(|value| Times::of(value, facts.max_stale_ms, clock));
    let state = &mut stand.state;
    state.freshness = Some(case_name(&verdict.state));
    state.serve = Some(verdict.serve == ServeVerdict::Serve);
    state.reason = Some(case_name(&verdict.reason));
    if let (Some(value), Some(times)) = (&facts.value, &times) {
        state.fetched_at = Some(times.fetched.to_string());
        state.fresh_until = Some(times.fresh_until.to_string());
        state.serve_until = Some(times.serve_until.to_string());
        state.generated_at = value.version.map(|version| WallMs(version).to_string());
        state.signed_expiry = value.signed_expiry_wall_ms.map(|expiry| WallMs(expiry).to_string());
    }
    stand.say(value_sentence(name, nouns, facts, verdict, times.as_ref(), clock));
    if let Some((at, reason)) = &facts.rejected {
        let because = rejection(*reason).unwrap_or("the policy refused it");
        stand.state.rejected = Some(case_name(reason));
        let at = clock.told(at.wall);
        stand.say(format!(
            "The {} that came last, at {at}, was refused, because {because}; the one before stays.",
            nouns.value
        ));
    }
    let (headline, condition) = match (verdict.serve, verdict.state) {
        (ServeVerdict::Withhold, Freshness::Empty) => ("without a ".to_owned() + nouns.value, Condition::Bad),
        (ServeVerdict::Withhold, Freshness::Expired) => ("too old to be served".to_owned(), Condition::Bad),
        (ServeVerdict::Withhold, _) => ("withheld".to_owned(), Condition::Bad),
        (ServeVerdict::Serve, Freshness::Fresh | Freshness::Soft) => ("fresh".to_owned(), Condition::Good),
        (ServeVerdict::Serve, Freshness::Stale | Freshness::StaleError) => ("stale".to_owned(), Condition::Doubtful),
        (ServeVerdict::Serve, Freshness::Frozen) => ("frozen".to_owned(), Condition::Doubtful),
        (ServeVerdict::Serve, Freshness::Empty | Freshness::Expired) => ("served".to_owned(), Condition::Doubtful),
    };
    stand.head(headline, if facts.rejected.is_some() { condition.max(Condition::Doubtful) } else { condition });
}

/// How fresh it is, since when, until when, and why.
fn value_sentence(
    name: &str,
    nouns: Nouns,
    facts: &UpkeepFacts,
    verdict: &LookupDecision,
    times: Option<&Times>,
    clock: Clock,
) -> String {
    let because = lookup_reason(verdict.reason, nouns);
    let is_map = nouns.value == "map";
    let Some(times) = times else {
        return match is_map {
            true => format!("There is no service map to serve, because {because}."),
            false => format!("{name} has no list to serve, because {because}."),
        };
    };
    let fetched = clock.told(times.fetched);
    let version = facts.value.as_ref().and_then(|value| value.version).map(|version| {
        let expiry = facts
            .value
            .as_ref()
            .and_then(|value| value.signed_expiry_wall_ms)
            .map(|expiry| format!(", signed until {}", clock.told(WallMs(expiry))));
        format!(" (generated at {}{})", WallMs(version), expiry.unwrap_or_default())
    });
    let value = format!("{}{}", if is_map { "it" } else { "its list" }, version.unwrap_or_default());
    let arrived = format!("{value} was fetched or last confirmed at {fetched}");
    let may = |verb: &str| {
        let until = clock.told(times.serve_until);
        match clock.is_past(times.serve_until) {
            true => format!("it could be {verb} until {until}"),
            false => format!("it may be {verb} until {until}"),
        }
    };
    match (verdict.serve, verdict.state) {
        (ServeVerdict::Serve, Freshness::Fresh) => {
            format!("{name} is fresh: {arrived}, and is fresh until {}.", clock.told(times.fresh_until))
        }
        (ServeVerdict::Serve, Freshness::Soft) => {
            let until = clock.told(times.fresh_until);
            format!("{name} is fresh, and due for a refresh: {arrived}, and is fresh until {until}.")
        }
        (ServeVerdict::Serve, Freshness::Stale) => {
            let may = may("served");
            format!("{name} is stale, because {because}: {arrived}, and is served while it is refreshed; {may}.")
        }
        (ServeVerdict::Serve, Freshness::StaleError) => {
            let may = may("served");
            format!("{name} is stale, because {because}: {arrived}, and is served all the same; {may}.")
        }
        (ServeVerdict::Serve, Freshness::Frozen) => {
            let may = may("served");
            format!("{name} is frozen, because {because}: {arrived}, and is served all the same; {may}.")
        }
        (ServeVerdict::Serve, Freshness::Expired | Freshness::Empty) => {
            format!(
                "{name} is served, though the policy calls it {}, because {because}: {arrived}.",
                case_name(&verdict.state)
            )
        }
        (ServeVerdict::Withhold, Freshness::Expired) => {
            let may = may("served");
            format!("{name} is too old and not served, because {because}: {arrived}; {may}.")
        }
        (
            ServeVerdict::Withhold,
            Freshness::Empty
            | Freshness::Fresh
            | Freshness::Soft
            | Freshness::Stale
            | Freshness::StaleError
            | Freshness::Frozen,
        ) => format!("{name} is not served, because {because}: {arrived}."),
    }
}

fn tell_refresh(stand: &mut Stand, nouns: Nouns, facts: &UpkeepFacts, clock: Clock) {
    let Some((moment, decision)) = &facts.refresh else { return };
    let refresh = &decision.state;
    stand.state.failures = Some(refresh.failures);
    stand.state.last_class = refresh.last_class.map(class_name);
    if refresh.failures > 0 {
        let at = facts.last_failed.map(|at| format!(" at {}", clock.told(at.wall))).unwrap_or_default();
        let class = refresh.last_class.map(|class| format!(": {} ({})", class_name(class), class_meaning(class)));
        let class = class.unwrap_or_default();
        stand.say(match refresh.failures {
            1 => format!("Its last attempt failed{at}{class}."),
            failures => format!("Its last {failures} attempts failed, the last of them{at}{class}."),
        });
        if stand.condition == Condition::Good {
            stand.condition = Condition::Doubtful;
        }
    }
    stand.state.running = Some(matches!(refresh.phase, RefreshPhase::Running(_)));
    let planned = match &refresh.phase {
        RefreshPhase::Running(run) => {
            format!("An attempt is under way since {}.", clock.told(clock.wall(run.since_boot_ms, *moment)))
        }
        RefreshPhase::Armed(run) => {
            let due = clock.wall(run.run_at_boot_ms, *moment);
            stand.state.next_run_at = Some(due.to_string());
            stand.state.next_run_reason = Some(case_name(&run.reason));
            let verb = if clock.is_past(due) { "was" } else { "is" };
            let because = refresh_reason(run.reason, nouns);
            format!("The next attempt {verb} due at {}, because {because}.", clock.told(due))
        }
        RefreshPhase::Idle if decision.reason == RefreshReason::Stopped => {
            let at = clock.told(moment.wall);
            stand.state.next_run_reason = Some(case_name(&decision.reason));
            format!("Its upkeep was stopped at {at}: the gateway ended, or the connector was rebuilt or taken away.")
                .replace("the connector", if nouns.value == "map" { "it" } else { "the connector" })
        }
        RefreshPhase::Idle => {
            stand.state.next_run_reason = Some(case_name(&decision.reason));
            format!("No attempt is planned, because {}.", refresh_reason(decision.reason, nouns))
        }
    };
    stand.say(planned);
}

/// Tells whether calls pass.
pub(super) fn tell_breaker(stand: &mut Stand, facts: Option<&BreakerFacts>, clock: Clock) {
    let Some(facts) = facts else {
        stand.say("The trace holds no call to it.");
        return;
    };
    let state = &facts.decision.state;
    let opened = opened(facts, clock);
    match &state.phase {
        BreakerPhase::Closed => {
            stand.state.breaker = Some("closed");
            if let BreakerVerdict::Reject(until) = facts.decision.verdict {
                // A policy of its own mind: it keeps its breaker closed and refuses.
                refused(stand, clock.wall(until, facts.at), "the policy refuses them", clock);
                return;
            }
            stand.say(match state.consecutive {
                0 => "Calls pass: its breaker is closed.".to_owned(),
                1 => "Calls pass: its breaker is closed, though the last call failed.".to_owned(),
                failures => format!("Calls pass: its breaker is closed, though the last {failures} calls failed."),
            });
            if state.consecutive > 0 && stand.condition == Condition::Good {
                stand.condition = Condition::Doubtful;
            }
        }
        BreakerPhase::Open(open) => {
            stand.state.breaker = Some("open");
            let until = clock.wall(open.until_boot_ms, facts.at);
            if clock.is_past(until) {
                stand.state.breaker_until = Some(until.to_string());
                let until = clock.told(until);
                let ended = if facts.answered.is_some() {
                    format!(
                        "an answer of the server (a list, a session, a ping or an earlier call) ended its open time at {until}"
                    )
                } else {
                    format!("its open time was over at {until}")
                };
                stand.say(format!("The next call passes as a probe: {opened}, and {ended}."));
                stand.head(format!("{}, next call probes", stand.headline), stand.condition.max(Condition::Doubtful));
                return;
            }
            refused(stand, until, &opened, clock);
        }
        BreakerPhase::HalfOpen(half) => {
            stand.state.breaker = Some("half-open");
            let until = clock.wall(half.deadline_boot_ms, facts.at);
            refused(stand, until, &format!("{opened}, and a probe is under way"), clock);
        }
    }
}

fn refused(stand: &mut Stand, until: WallMs, because: &str, clock: Clock) {
    stand.state.breaker_until = Some(until.to_string());
    stand.say(format!("Calls are refused until {}, because {because}.", clock.told(until)));
    stand.head(format!("{}, calls refused", stand.headline), Condition::Bad);
}

/// When the breaker opened, and why.
fn opened(facts: &BreakerFacts, clock: Clock) -> String {
    let Some((at, reason, state)) = &facts.opened else {
        return "its breaker is open".to_owned();
    };
    let number = |number: u32| usize::try_from(number).unwrap_or(usize::MAX);
    let why = match reason {
        BreakerReason::ConsecutiveFailures => {
            format!("after {} in a row", count(number(state.consecutive), "failure", "failures"))
        }
        BreakerReason::FailureRate => {
            format!("after {} of the last {} calls failed", state.recent.count_ones(), state.recent_count)
        }
        BreakerReason::ProbeFailed => {
            format!("once more, {} in all, after a failed probe", count(number(state.opened), "time", "times"))
        }
        BreakerReason::Closed
        | BreakerReason::Open
        | BreakerReason::Probing
        | BreakerReason::ProbeInFlight
        | BreakerReason::ProbeSucceeded
        | BreakerReason::ProbeLost
        | BreakerReason::Late => "for another reason".to_owned(),
    };
    format!("its breaker opened at {} {why}", clock.told(at.wall))
}
