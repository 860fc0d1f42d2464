//! How good a cached value is right now.
//!
//! A verdict is a function of configuration, state and clocks. It draws no randomness and changes nothing, so the host
//! may reuse it until the time it names. It must never serve a value past its greatest staleness (R1), one that another
//! credential fetched, or none at all; and it must never ask for a fetch while one is under way (R5).
//!
//! # What is asked for
//!
//! Whatever is served, nothing is asked for during the pace of the last failure (R8). Once it is over, a reader of
//! something that is not fresh asks for a fetch in the background: on demand nobody else would ever arm one again, and
//! where a backoff is armed already, the schedule ignores the wish (design.md 3, item 1). While nothing can be served,
//! a reader waits for the fetch. After refused credentials it does not wait: only other credentials cure them, or an
//! operator who mends the origin, and the schedule's long wait between two tries is longer than a reader's patience.

use super::age::Now;
use super::verdicts::{Span, Staleness, staleness};
use crate::environment::{Environment, after};
use crate::types::{
    CacheConfig, CacheScope, CacheState, Failing, FailureClass, Freshness, LookupDecision, LookupReason, ServeVerdict,
    ValueFacts, Wanted,
};

#[cfg(test)]
mod tests;

/// Judges a cached value. A private value of another credential counts as none (`empty`, `other-credential`).
pub fn lookup(environment: &mut dyn Environment, config: &CacheConfig, state: &CacheState) -> LookupDecision {
    let now = Now::read(environment, config.boot_id);
    let Some(value) = &state.value else {
        return withheld(&now, state, Freshness::Empty, LookupReason::NoValue);
    };
    if value.scope == CacheScope::Private && value.credential != config.credential {
        return withheld(&now, state, Freshness::Empty, LookupReason::OtherCredential);
    }
    match staleness(&now, config, value) {
        Staleness::Fresh(span) => served(&now, state, Freshness::Fresh, LookupReason::WithinTtl, span),
        Staleness::Soft(span) => served(&now, state, Freshness::Soft, LookupReason::PastSoftPoint, span),
        Staleness::Stale(span) => {
            let (freshness, reason) = stale_reason(value, state, LookupReason::PastTtl);
            served(&now, state, freshness, reason, span)
        }
        Staleness::Unknown(span) => {
            let (freshness, _) = stale_reason(value, state, LookupReason::ClockBehind);
            served(&now, state, freshness, LookupReason::ClockBehind, span)
        }
        Staleness::Over(span) => {
            let mut verdict = withheld(&now, state, Freshness::Expired, LookupReason::PastMaxStale);
            if let Some(better) = span.map(|span| after(now.boot_ms, span.rest_ms)) {
                verdict.until_boot_ms = Some(verdict.until_boot_ms.map_or(better, |until| until.min(better)));
            }
            verdict
        }
    }
}

/// How a stale value is called, and why. What is frozen is called so even while fetches fail: it is an alarm.
fn stale_reason(value: &ValueFacts, state: &CacheState, plain: LookupReason) -> (Freshness, LookupReason) {
    use crate::types::ExpiryStanding;
    match value.standing {
        ExpiryStanding::Frozen => (Freshness::Frozen, LookupReason::Frozen),
        _ if state.failing.is_some() => (Freshness::StaleError, LookupReason::RefreshFailing),
        ExpiryStanding::ArrivedExpired => (Freshness::Stale, LookupReason::ArrivedExpired),
        ExpiryStanding::Within if value.invalidated => (Freshness::Stale, LookupReason::Invalidated),
        ExpiryStanding::Within => (Freshness::Stale, plain),
    }
}

fn served(now: &Now, state: &CacheState, freshness: Freshness, reason: LookupReason, span: Span) -> LookupDecision {
    let boundary = after(now.boot_ms, span.rest_ms);
    let (wanted, until_boot_ms) = if freshness == Freshness::Fresh || state.in_flight.is_some() {
        (Wanted::None, boundary)
    } else {
        match state.failing.as_ref().and_then(|failing| pace_end(now, failing)) {
            Some(end) => (Wanted::None, boundary.min(end)),
            None => (Wanted::Background, boundary),
        }
    };
    LookupDecision { state: freshness, serve: ServeVerdict::Serve, wanted, until_boot_ms: Some(until_boot_ms), reason }
}

fn withheld(now: &Now, state: &CacheState, freshness: Freshness, reason: LookupReason) -> LookupDecision {
    let (wanted, until_boot_ms) = match &state.failing {
        _ if state.in_flight.is_some() => (Wanted::None, None),
        Some(failing) => negative(now, failing),
        None => (Wanted::Blocking, None),
    };
    LookupDecision { state: freshness, serve: ServeVerdict::Withhold, wanted, until_boot_ms, reason }
}

/// The negative pace (R8): whether a reader that gets nothing should wait for a fetch.
fn negative(now: &Now, failing: &Failing) -> (Wanted, Option<u64>) {
    match pace_end(now, failing) {
        Some(end) => (Wanted::None, Some(end)),
        None if failing.class == FailureClass::Auth => (Wanted::Background, None),
        None => (Wanted::Blocking, None),
    }
}

/// When the pace of the last failure ends; none if it is over, as one of another boot is.
fn pace_end(now: &Now, failing: &Failing) -> Option<u64> {
    let paced = failing.at.boot_id == now.boot_id && now.boot_ms < failing.until_boot_ms;
    paced.then_some(failing.until_boot_ms)
}
