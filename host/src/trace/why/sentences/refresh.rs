//! Decisions about refreshing.

use super::{Nouns, Quiet, Told, class_name, joined};
use crate::model::Moment;
use crate::policy::contract::{
    RefreshConfig, RefreshDecision, RefreshEvent, RefreshPhase, RefreshReason, StartKind, Urgency, case_name,
};
use crate::trace::why::times::{at_boot, span};

/// Tells one.
pub(super) fn tell(
    config: &RefreshConfig,
    event: &RefreshEvent,
    decision: Option<&RefreshDecision>,
    moment: Moment,
) -> Told {
    let nouns = Nouns::of(config.kind);
    let own = own_reason(event);
    let (event_name, happened) = happened(event, nouns);
    let Some(decision) = decision else {
        return Told { event: Some(event_name), sentence: happened, ..Told::default() };
    };
    let (outcome, comes) = outcome(decision, moment);
    let because = reason(decision.reason, nouns);
    let told_already = own == Some(decision.reason);
    let sentence = format!("{happened}: {}", joined(&[&comes, if told_already { "" } else { because }], ", because "));
    let quiet = match decision.reason {
        RefreshReason::Began => Some(Quiet::Step),
        reason if is_no_news(reason) => Some(Quiet::Same(format!("{happened}, but {because}"))),
        _ => None,
    };
    Told {
        event: Some(event_name),
        outcome: Some(outcome.to_owned()),
        reason: Some(case_name(&decision.reason)),
        sentence,
        quiet,
    }
}

/// The event's name, and what happened.
fn happened(event: &RefreshEvent, nouns: Nouns) -> (&'static str, String) {
    let Nouns { value, origin } = nouns;
    match event {
        RefreshEvent::Started(started) => {
            let with = match started.start {
                StartKind::Cold => format!("with no {value} to serve"),
                StartKind::Warm => format!("with a saved {value}, still fresh"),
                StartKind::WarmStale => format!("with a saved {value}, already stale"),
            };
            ("started", format!("it started {with}"))
        }
        RefreshEvent::Began => ("began", "a run was due".to_owned()),
        RefreshEvent::Succeeded(ended) => {
            let fresh = ended.fresh_for_ms.map(|fresh| format!(" and brought a {value} fresh for {}", span(fresh)));
            let took = span(ended.duration_ms);
            ("succeeded", format!("a run succeeded after {took}{}", fresh.unwrap_or_default()))
        }
        RefreshEvent::Failed(ended) => {
            let meanwhile = match ended.serving {
                true => format!("while the old {value} was served"),
                false => "with nothing to serve".to_owned(),
            };
            let asked = ended.retry_after_ms.map(|after| format!("; the {origin} asks to wait {}", span(after)));
            let class = class_name(ended.class);
            let took = span(ended.duration_ms);
            ("failed", format!("a run failed ({class}) after {took} {meanwhile}{}", asked.unwrap_or_default()))
        }
        RefreshEvent::Cancelled(_) => ("cancelled", "a run was given up".to_owned()),
        RefreshEvent::Wanted(urgency) => {
            let who = match urgency {
                Urgency::Background => "a reader was served and suggested a refresh",
                Urgency::Blocking => "a reader waits for a refresh",
            };
            ("wanted", who.to_owned())
        }
        RefreshEvent::Forced => ("forced", "a refresh was insisted on".to_owned()),
        RefreshEvent::Changed => ("changed", format!("the {origin} announced a change, or may have")),
        RefreshEvent::Resumed => ("resumed", "the machine woke up".to_owned()),
        RefreshEvent::Stopped => ("stopped", "it was stopped".to_owned()),
        RefreshEvent::ConfigChanged => ("config-changed", "its configuration changed".to_owned()),
        RefreshEvent::CredentialsChanged => ("credentials-changed", "its credentials changed".to_owned()),
    }
}

/// The reason that only repeats the event.
fn own_reason(event: &RefreshEvent) -> Option<RefreshReason> {
    match event {
        RefreshEvent::Started(_) | RefreshEvent::Succeeded(_) | RefreshEvent::Failed(_) => None,
        RefreshEvent::Began => Some(RefreshReason::Began),
        RefreshEvent::Cancelled(_) => Some(RefreshReason::Cancelled),
        RefreshEvent::Wanted(Urgency::Background) => Some(RefreshReason::WantedBackground),
        RefreshEvent::Wanted(Urgency::Blocking) => Some(RefreshReason::WantedBlocking),
        RefreshEvent::Forced => Some(RefreshReason::Forced),
        RefreshEvent::Changed => Some(RefreshReason::Changed),
        RefreshEvent::Resumed => Some(RefreshReason::Resumed),
        RefreshEvent::Stopped => Some(RefreshReason::Stopped),
        RefreshEvent::ConfigChanged => Some(RefreshReason::ConfigChanged),
        RefreshEvent::CredentialsChanged => Some(RefreshReason::CredentialsChanged),
    }
}

/// What is to come of it.
fn outcome(decision: &RefreshDecision, moment: Moment) -> (&'static str, String) {
    match (&decision.state.phase, decision.run_at_boot_ms) {
        (RefreshPhase::Running(run), _) if run.again => {
            ("running", "a run is under way, and one more follows".to_owned())
        }
        (RefreshPhase::Running(_), _) => ("running", "a run is under way".to_owned()),
        (RefreshPhase::Armed(_) | RefreshPhase::Idle, Some(at)) => {
            ("armed", format!("the next run is {}", at_boot(at, moment)))
        }
        (RefreshPhase::Armed(_) | RefreshPhase::Idle, None) => ("idle", "no run is armed".to_owned()),
    }
}

/// Why the next run is when it is, or why nothing changed, after "because".
pub(in crate::trace::why) fn reason(reason: RefreshReason, nouns: Nouns) -> &'static str {
    let is_map = nouns.value == "map";
    match reason {
        RefreshReason::ColdStart => "there is nothing to serve yet",
        RefreshReason::WarmStart => "something can be served already, so that runs are spread over the interval",
        RefreshReason::Steady => "that is its steady interval, with jitter",
        RefreshReason::Freshness if is_map => "the map's freshness ends before the steady interval does",
        RefreshReason::Freshness => "the list's freshness ends before the steady interval does",
        RefreshReason::Backoff => "it backs off after failures, longer after each",
        RefreshReason::BackoffServing => "it is the first failure while something is served: anywhere in the interval",
        RefreshReason::BackoffServingAgain => {
            "it failed again while something is served: in the later half of the interval"
        }
        RefreshReason::RetryAfter if is_map => "the origin said when to come back",
        RefreshReason::RetryAfter => "the server said when to come back",
        RefreshReason::AuthWait => "the credentials are refused, and only other ones would help",
        RefreshReason::Forced => "a refresh was insisted on",
        RefreshReason::Joined => "the run under way serves whoever insisted, too",
        RefreshReason::WantedBackground => "a reader suggested it",
        RefreshReason::WantedBlocking => "a reader waits for it",
        RefreshReason::Changed if is_map => "the origin announced a change, or may have",
        RefreshReason::Changed => "the server announced a change, or may have",
        RefreshReason::Resumed => "the machine woke up",
        RefreshReason::Stopped => "it has ended",
        RefreshReason::ConfigChanged => "the configuration changed",
        RefreshReason::CredentialsChanged => "the credentials changed",
        RefreshReason::Began => "its time had come",
        RefreshReason::Cancelled => "the run before was given up",
        RefreshReason::AlreadyArmed => "a run is armed already, for no later than this wish",
        RefreshReason::AlreadyRunning => "a run is under way already",
        RefreshReason::OnDemand => "nothing is refreshed in the background: runs are for readers and forces alone",
        RefreshReason::Late => "the event belongs to no run under way",
    }
}

/// Whether it only says that all stays as it is.
fn is_no_news(reason: RefreshReason) -> bool {
    match reason {
        RefreshReason::AlreadyArmed | RefreshReason::AlreadyRunning => true,
        RefreshReason::ColdStart
        | RefreshReason::WarmStart
        | RefreshReason::Steady
        | RefreshReason::Freshness
        | RefreshReason::Backoff
        | RefreshReason::BackoffServing
        | RefreshReason::BackoffServingAgain
        | RefreshReason::RetryAfter
        | RefreshReason::AuthWait
        | RefreshReason::Forced
        | RefreshReason::Joined
        | RefreshReason::WantedBackground
        | RefreshReason::WantedBlocking
        | RefreshReason::Changed
        | RefreshReason::Resumed
        | RefreshReason::Stopped
        | RefreshReason::ConfigChanged
        | RefreshReason::CredentialsChanged
        | RefreshReason::Began
        | RefreshReason::Cancelled
        | RefreshReason::OnDemand
        | RefreshReason::Late => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{BootId, BootMs, WallMs};
    use crate::policy::contract::{
        ArmedRun, FailedEvent, FailureClass, RefreshMode, RefreshState, SubjectKind, SucceededEvent,
    };

    const MOMENT: Moment = Moment { wall: WallMs(1_767_225_600_000), boot: BootMs(5_000), boot_id: BootId(1) };

    fn config(kind: SubjectKind) -> RefreshConfig {
        RefreshConfig {
            kind,
            mode: RefreshMode::Background,
            interval_ms: 300_000,
            floor_ms: 30_000,
            jitter_permille: 200,
            backoff_min_ms: 500,
            backoff_max_ms: 60_000,
            options: vec![("secret".into(), "canary".into())],
        }
    }

    fn armed(at: u64, reason: RefreshReason) -> RefreshDecision {
        let phase = RefreshPhase::Armed(ArmedRun { run_at_boot_ms: at, reason });
        let state = RefreshState { phase, ..RefreshState::initial() };
        RefreshDecision { state, run_at_boot_ms: Some(at), reason }
    }

    #[test]
    fn a_failure_is_told_with_its_class_what_is_served_meanwhile_and_when_it_goes_on() {
        let failed = FailedEvent {
            run_id: 3,
            class: FailureClass::Timeout,
            retry_after_ms: None,
            duration_ms: 5_000,
            serving: true,
        };
        let decision = armed(166_000, RefreshReason::BackoffServing);
        let told = tell(&config(SubjectKind::ServiceMap), &RefreshEvent::Failed(failed), Some(&decision), MOMENT);
        assert_eq!(
            told.sentence,
            "a run failed (timeout) after 5 s while the old map was served: the next run is at 00:02:41.000 (in 2 min 41 s), \
             because it is the first failure while something is served: anywhere in the interval"
        );
        assert_eq!(
            (told.event, told.outcome.as_deref(), told.reason.as_deref()),
            (Some("failed"), Some("armed"), Some("backoff-serving"))
        );
        assert!(!told.sentence.contains("canary"));
    }

    #[test]
    fn a_success_is_told_with_the_freshness_it_brought() {
        let succeeded = SucceededEvent { run_id: 1, duration_ms: 80, fresh_for_ms: Some(60_000) };
        let decision = armed(53_000, RefreshReason::Freshness);
        let told = tell(&config(SubjectKind::Connector), &RefreshEvent::Succeeded(succeeded), Some(&decision), MOMENT);
        assert!(
            told.sentence.starts_with("a run succeeded after 80 ms and brought a list fresh for 60 s: "),
            "{told:?}"
        );
        assert!(told.sentence.ends_with("the list's freshness ends before the steady interval does"), "{told:?}");
    }

    #[test]
    fn a_wish_that_changes_nothing_is_no_news() {
        let decision = armed(6_000, RefreshReason::AlreadyArmed);
        let wish = RefreshEvent::Wanted(Urgency::Background);
        let told = tell(&config(SubjectKind::Connector), &wish, Some(&decision), MOMENT);
        assert!(matches!(told.quiet, Some(Quiet::Same(_))), "{told:?}");
    }
}
