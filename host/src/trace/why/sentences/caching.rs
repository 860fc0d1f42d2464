//! Decisions about what is fresh, stale or forbidden.

use super::{Nouns, Quiet, Told, class_name, joined, plain};
use crate::model::{Moment, WallMs};
use crate::policy::contract::{
    AdvanceDecision, AdvanceOutcome, AdvanceReason, CacheConfig, CacheEvent, CacheState, Freshness, LookupDecision,
    LookupReason, ServeVerdict, Wanted, case_name,
};
use crate::trace::why::times::at_boot;

/// Tells a verdict.
pub(super) fn lookup(config: &CacheConfig, decision: Option<&LookupDecision>, moment: Moment) -> Told {
    let nouns = Nouns::of(config.kind);
    let Some(decision) = decision else {
        return Told { sentence: format!("the {} was judged", nouns.value), ..Told::default() };
    };
    let because = lookup_reason(decision.reason, nouns);
    let served = match decision.serve {
        ServeVerdict::Serve => "served",
        ServeVerdict::Withhold => "not served",
    };
    let wanted = match decision.wanted {
        Wanted::None => "",
        Wanted::Background => "; a refresh is wanted",
        Wanted::Blocking => "; readers wait for a refresh",
    };
    let freshness = freshness(decision.state);
    let verdict = format!("the {} is {freshness} and {served}, because {because}", nouns.value);
    let until = decision.until_boot_ms.map(|until| format!("; judged again {}", at_boot(until, moment)));
    Told {
        event: None,
        outcome: Some(case_name(&decision.state)),
        reason: Some(case_name(&decision.reason)),
        sentence: format!("{verdict}{wanted}{}", until.unwrap_or_default()),
        quiet: Some(Quiet::Same(verdict)),
    }
}

/// A freshness as an adjective.
fn freshness(freshness: Freshness) -> &'static str {
    match freshness {
        Freshness::Empty => "missing",
        Freshness::Fresh => "fresh",
        Freshness::Soft => "fresh but due for a refresh",
        Freshness::Stale => "stale",
        Freshness::StaleError => "stale",
        Freshness::Expired => "too old",
        Freshness::Frozen => "frozen",
    }
}

/// Why a value is judged so, after "because".
pub(in crate::trace::why) fn lookup_reason(reason: LookupReason, nouns: Nouns) -> &'static str {
    let is_map = nouns.value == "map";
    match reason {
        LookupReason::NoValue => "none was ever stored, or it was dropped",
        LookupReason::WithinTtl => "it is within its fresh time",
        LookupReason::PastSoftPoint => "most of its fresh time is over",
        LookupReason::PastTtl => "its fresh time is over",
        LookupReason::Invalidated if is_map => "its origin announced a change",
        LookupReason::Invalidated => "its server announced a change",
        LookupReason::ClockBehind => "the wall clock is before its request, so that its age can not be known",
        LookupReason::RefreshFailing => "refreshing it fails",
        LookupReason::PastMaxStale => "it is past the greatest staleness",
        LookupReason::ArrivedExpired => "it was expired when it arrived, and nothing newer is held",
        LookupReason::Frozen => "its origin confirms only what is past its signed expiry",
        LookupReason::OtherCredential => "it was fetched with another credential and is private",
    }
}

/// Tells what an event meant for a value.
pub(super) fn advance(
    config: &CacheConfig,
    before: &CacheState,
    event: &CacheEvent,
    decision: Option<&AdvanceDecision>,
) -> Told {
    let nouns = Nouns::of(config.kind);
    let (event, happened) = happened(event, nouns);
    let Some(decision) = decision else {
        return Told { event: Some(event), sentence: happened, ..Told::default() };
    };
    let held = before.value.is_some();
    let done = match decision.outcome {
        AdvanceOutcome::Stored if held => "it took the place of what was held",
        AdvanceOutcome::Stored => "it was stored",
        AdvanceOutcome::Kept => "what is held stays",
        AdvanceOutcome::Rejected => "it was refused",
        AdvanceOutcome::Dropped => "what was held is gone",
    };
    let because = advance_reason(decision.reason, held);
    let sentence = joined(&[&format!("{happened}: {done}"), because], ", because ");
    let quiet = is_no_news(decision.reason).then_some(Quiet::Step);
    Told {
        event: Some(event),
        outcome: Some(case_name(&decision.outcome)),
        reason: Some(case_name(&decision.reason)),
        sentence,
        quiet,
    }
}

/// The event's name, and what happened.
fn happened(event: &CacheEvent, nouns: Nouns) -> (&'static str, String) {
    let Nouns { value, origin } = nouns;
    match event {
        CacheEvent::Began(_) => ("began", "a fetch began".to_owned()),
        CacheEvent::Fetched(fetched) => {
            let version = fetched.version.map(|version| format!(" of {}", WallMs(version)));
            let key = fetched.key_id.as_deref().filter(|key| !key.is_empty());
            let key = key.map(|key| format!(", verified by the key {}", plain(key)));
            let (version, key) = (version.unwrap_or_default(), key.unwrap_or_default());
            ("fetched", format!("a {value}{version} arrived{key}"))
        }
        CacheEvent::NotModified(_) => ("not-modified", format!("the {origin} says that the {value} still stands")),
        CacheEvent::Failed(class) => ("failed", format!("a fetch failed ({})", class_name(*class))),
        CacheEvent::Cancelled => ("cancelled", "a fetch was given up".to_owned()),
        CacheEvent::Changed => ("changed", format!("the {origin} announced a change")),
        CacheEvent::Invalidated => ("invalidated", format!("a reader found the {value} wrong")),
        CacheEvent::Restored => ("restored", format!("the {value} was read back from disk")),
        CacheEvent::Revoked => ("revoked", format!("the {value} was revoked")),
        CacheEvent::CredentialsChanged => ("credentials-changed", "the credentials changed".to_owned()),
    }
}

/// Why, after "because"; empty where the event says it already.
fn advance_reason(reason: AdvanceReason, held: bool) -> &'static str {
    match reason {
        AdvanceReason::Newer if held => "it is newer",
        AdvanceReason::Newer => "there was none before",
        AdvanceReason::SameAgain => "it is the same again: fresh once more",
        AdvanceReason::Confirmed => "it is confirmed: fresh once more",
        AdvanceReason::ConfirmedOther => "other bytes were confirmed than those held",
        AdvanceReason::Frozen => "it is confirmed past its signed expiry: frozen",
        AdvanceReason::Began
        | AdvanceReason::Failed
        | AdvanceReason::Cancelled
        | AdvanceReason::Restored
        | AdvanceReason::Revoked => "",
        AdvanceReason::ArrivedExpired => "nothing newer is held, though it was expired on arrival: served as stale",
        AdvanceReason::Gone => "the other side says that it is gone for good",
        AdvanceReason::Changed | AdvanceReason::Invalidated => "it is only stale from now on",
        AdvanceReason::CredentialsChanged => "only what is private to another credential has to go",
        AdvanceReason::RefusedExpired
        | AdvanceReason::Rollback
        | AdvanceReason::Equivocation
        | AdvanceReason::FromTheFuture => rejection(reason).unwrap_or_default(),
    }
}

/// Why a value was refused, after "because"; none for reasons that refuse nothing.
pub(in crate::trace::why) fn rejection(reason: AdvanceReason) -> Option<&'static str> {
    match reason {
        AdvanceReason::RefusedExpired => Some("it was expired on arrival, and something as new is held"),
        AdvanceReason::Rollback => Some("it is older than one that was accepted before"),
        AdvanceReason::Equivocation => {
            Some("it has the version of an accepted one and another content: generatedAt must grow with every change")
        }
        AdvanceReason::FromTheFuture => Some("its version lies in the future by more than clocks may differ"),
        AdvanceReason::Newer
        | AdvanceReason::SameAgain
        | AdvanceReason::Confirmed
        | AdvanceReason::ConfirmedOther
        | AdvanceReason::Frozen
        | AdvanceReason::ArrivedExpired
        | AdvanceReason::Began
        | AdvanceReason::Failed
        | AdvanceReason::Gone
        | AdvanceReason::Cancelled
        | AdvanceReason::Changed
        | AdvanceReason::Invalidated
        | AdvanceReason::Restored
        | AdvanceReason::Revoked
        | AdvanceReason::CredentialsChanged => None,
    }
}

/// Whether the schedule's own decision says it already.
fn is_no_news(reason: AdvanceReason) -> bool {
    match reason {
        AdvanceReason::Began | AdvanceReason::Failed | AdvanceReason::Cancelled => true,
        AdvanceReason::Newer
        | AdvanceReason::SameAgain
        | AdvanceReason::Confirmed
        | AdvanceReason::ConfirmedOther
        | AdvanceReason::Frozen
        | AdvanceReason::ArrivedExpired
        | AdvanceReason::RefusedExpired
        | AdvanceReason::Rollback
        | AdvanceReason::Equivocation
        | AdvanceReason::FromTheFuture
        | AdvanceReason::Gone
        | AdvanceReason::Changed
        | AdvanceReason::Invalidated
        | AdvanceReason::Restored
        | AdvanceReason::Revoked
        | AdvanceReason::CredentialsChanged => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{BootId, BootMs};
    use crate::policy::contract::{CacheScope, FetchedEvent, SubjectKind};

    const MOMENT: Moment = Moment { wall: WallMs(1_767_225_600_000), boot: BootMs(5_000), boot_id: BootId(1) };

    fn config(kind: SubjectKind) -> CacheConfig {
        CacheConfig {
            kind,
            boot_id: 1,
            ttl_min_ms: 0,
            ttl_max_ms: 1,
            ttl_default_ms: 1,
            soft_permille: 800,
            soft_jitter_permille: 100,
            max_stale_ms: 1,
            skew_ms: 1,
            negative_min_ms: 1,
            negative_max_ms: 1,
            credential: "canary".into(),
            options: vec![("a".into(), "canary".into())],
        }
    }

    #[test]
    fn a_verdict_is_told_with_what_is_served_and_why() {
        let decision = LookupDecision {
            state: Freshness::StaleError,
            serve: ServeVerdict::Serve,
            wanted: Wanted::Background,
            until_boot_ms: Some(6_000),
            reason: LookupReason::RefreshFailing,
        };
        let told = lookup(&config(SubjectKind::Connector), Some(&decision), MOMENT);
        assert_eq!(
            told.sentence,
            "the list is stale and served, because refreshing it fails; a refresh is wanted; \
             judged again at 00:00:01.000 (in 1 s)"
        );
    }

    #[test]
    fn a_refused_map_is_told_with_its_version_and_without_its_credential() {
        let fetched = FetchedEvent {
            digest: "d".into(),
            etag: Some("canary".into()),
            key_id: Some("k1".into()),
            version: Some(1_767_225_600_000),
            signed_expiry_wall_ms: None,
            ttl_ms: None,
            scope: CacheScope::Private,
            credential: "canary".into(),
            requested: MOMENT.into(),
            key_set: Vec::new(),
        };
        let decision = AdvanceDecision {
            state: CacheState::initial(),
            outcome: AdvanceOutcome::Rejected,
            reason: AdvanceReason::Rollback,
        };
        let (config, before) = (config(SubjectKind::ServiceMap), CacheState::initial());
        let told = advance(&config, &before, &CacheEvent::Fetched(fetched), Some(&decision));
        assert_eq!(
            told.sentence,
            "a map of 2026-01-01T00:00:00Z arrived, verified by the key k1: it was refused, because it is older than one \
             that was accepted before"
        );
        assert_eq!(told.quiet, None);
    }
}
