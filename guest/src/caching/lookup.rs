//! How good a cached value is right now.
//!
//! A verdict is a function of configuration, state and clocks. It draws no randomness and changes nothing, so the host
//! may reuse it until the time it names. It must never serve a value past its greatest staleness (R1), one that another
//! credential fetched, or none at all; and it must never ask for a fetch while one is under way (R5).
//!
//! # What is asked for
//!
//! While a value is served and the last fetch failed, nothing is asked for: the refresh backoff owns the retries. While
//! nothing can be served, a reader waits for a fetch, except during the negative pace (R8), and except after refused
//! credentials, which only other credentials cure.

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
        Staleness::Over => withheld(&now, state, Freshness::Expired, LookupReason::PastMaxStale),
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
    let wanted = if freshness == Freshness::Fresh || state.in_flight.is_some() || state.failing.is_some() {
        Wanted::None
    } else {
        Wanted::Background
    };
    LookupDecision {
        state: freshness,
        serve: ServeVerdict::Serve,
        wanted,
        until_boot_ms: Some(after(now.boot_ms, span.rest_ms)),
        reason,
    }
}

fn withheld(now: &Now, state: &CacheState, freshness: Freshness, reason: LookupReason) -> LookupDecision {
    let (wanted, until_boot_ms) = match &state.failing {
        _ if state.in_flight.is_some() => (Wanted::None, None),
        Some(failing) if failing.at.boot_id == now.boot_id => negative(now, failing),
        // A pace of another boot is over.
        Some(_) | None => (Wanted::Blocking, None),
    };
    LookupDecision { state: freshness, serve: ServeVerdict::Withhold, wanted, until_boot_ms, reason }
}

/// The negative pace (R8): whether a reader that gets nothing should wait for a fetch.
fn negative(now: &Now, failing: &Failing) -> (Wanted, Option<u64>) {
    if failing.class == FailureClass::Auth {
        return (Wanted::None, None);
    }
    if now.boot_ms < failing.until_boot_ms {
        return (Wanted::None, Some(failing.until_boot_ms));
    }
    (Wanted::Blocking, None)
}
