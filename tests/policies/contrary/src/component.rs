//! The component: the default's decisions, with one function turned around.
//!
//! The selection is read on every call with a volatile read, so that the compiler cannot fold it into the code.
#![allow(
    missing_docs,
    unreachable_pub,
    unused_qualifications,
    clippy::all,
    reason = "most of this module is generated"
)]

use cortex_policy_default as default;
use cortex_policy_default::environment::Environment;
use cortex_policy_default::types as plain;

wit_bindgen::generate!({ path: "../../../wit", world: "policy" });

use cortex::policy::{clock, random, types as wire};
use exports::cortex::policy::{caching, registry, scheduling};

default::policy_conversions!(wire, clock, random);

/// Which function is decided otherwise: tests overwrite this text in the compiled component.
#[used]
static MARKER: [u8; 64] = *b"CONTRARY-SELECTS:none                                           ";

/// Where the name of the function begins.
const PREFIX: &[u8] = b"CONTRARY-SELECTS:";

/// How long the contrary breaker rejects, in milliseconds.
const REJECT_MS: u64 = 60_000;

/// How long the contrary flush waits, in milliseconds: an hour.
const FLUSH_MS: u64 = 3_600_000;

/// Whether this function is the one that is decided otherwise.
fn contrary(function: &str) -> bool {
    // SAFETY: a reference to a static of plain bytes is valid, aligned and initialised.
    let marker = unsafe { core::ptr::read_volatile(&raw const MARKER) };
    marker.get(PREFIX.len()..).is_some_and(|name| name.trim_ascii() == function.as_bytes())
}

struct Component;

impl scheduling::Guest for Component {
    fn refresh(
        config: wire::RefreshConfig,
        state: wire::RefreshState,
        event: wire::RefreshEvent,
    ) -> wire::RefreshDecision {
        if contrary("refresh") {
            let state = wire::RefreshState { phase: wire::RefreshPhase::Idle, ..state };
            let reason = wire::RefreshReason::OnDemand;
            return wire::RefreshDecision { state, run_at_boot_ms: None, reason };
        }
        if contrary("beginning") && matches!(event, wire::RefreshEvent::Began) {
            if let wire::RefreshPhase::Armed(run) = &state.phase {
                let run_at_boot_ms = Some(run.run_at_boot_ms);
                return wire::RefreshDecision { state, run_at_boot_ms, reason: wire::RefreshReason::AlreadyArmed };
            }
        }
        default::scheduling::refresh(&mut Imports, &config.lift(), state.lift(), event.lift()).lower()
    }

    fn breaker(
        config: wire::BreakerConfig,
        state: wire::BreakerState,
        event: wire::BreakerEvent,
    ) -> wire::BreakerDecision {
        if contrary("breaker") && matches!(event, wire::BreakerEvent::Asked) {
            let until = Imports.boot_ms().saturating_add(REJECT_MS);
            let verdict = wire::BreakerVerdict::Reject(until);
            return wire::BreakerDecision { state, verdict, reason: wire::BreakerReason::Open };
        }
        default::scheduling::breaker(&mut Imports, &config.lift(), state.lift(), event.lift()).lower()
    }

    fn plan(config: wire::PlanConfig, candidates: Vec<wire::Candidate>) -> wire::PlanDecision {
        let mut decision = default::scheduling::plan(&config.lift(), &candidates.lift());
        if contrary("plan") {
            decision.order.reverse();
        }
        decision.lower()
    }

    fn concurrency(
        config: wire::ConcurrencyConfig,
        state: wire::ConcurrencyState,
        event: wire::ConcurrencyEvent,
    ) -> wire::ConcurrencyDecision {
        let mut decision = default::scheduling::concurrency(&config.lift(), state.lift(), event.lift());
        if contrary("concurrency") {
            decision.limit = 1;
        }
        decision.lower()
    }
}

impl caching::Guest for Component {
    fn lookup(config: wire::CacheConfig, state: wire::CacheState) -> wire::LookupDecision {
        if contrary("lookup") {
            return wire::LookupDecision {
                state: wire::Freshness::Expired,
                serve: wire::ServeVerdict::Withhold,
                wanted: wire::Wanted::None,
                until_boot_ms: None,
                reason: wire::LookupReason::PastMaxStale,
            };
        }
        let mut decision = default::caching::lookup(&mut Imports, &config.lift(), &state.lift());
        if contrary("ending") {
            decision.until_boot_ms = Some(Imports.boot_ms());
        }
        decision.lower()
    }

    fn advance(config: wire::CacheConfig, state: wire::CacheState, event: wire::CacheEvent) -> wire::AdvanceDecision {
        if contrary("advance") && matches!(event, wire::CacheEvent::Fetched(_)) {
            let outcome = wire::AdvanceOutcome::Rejected;
            return wire::AdvanceDecision { state, outcome, reason: wire::AdvanceReason::Rollback };
        }
        if contrary("keeping") && state.value.is_some() && matches!(event, wire::CacheEvent::Fetched(_)) {
            let state = wire::CacheState { in_flight: None, ..state };
            let outcome = wire::AdvanceOutcome::Kept;
            return wire::AdvanceDecision { state, outcome, reason: wire::AdvanceReason::ConfirmedOther };
        }
        default::caching::advance(&mut Imports, &config.lift(), state.lift(), event.lift()).lower()
    }
}

impl registry::Guest for Component {
    fn stamp(clock: wire::ClockState) -> wire::StampDecision {
        if contrary("stamp") {
            let stamp = wire::Hlc { wall_ms: 7, counter: 7 };
            return wire::StampDecision { state: clock, stamp };
        }
        default::registry::stamp(&mut Imports, clock.lift()).lower()
    }

    fn adopt(
        clock: wire::ClockState,
        writer: String,
        base: Vec<wire::Entry>,
        found: Vec<wire::FoundEntry>,
    ) -> wire::AdoptDecision {
        if contrary("adopt") {
            return wire::AdoptDecision { state: clock, entries: Vec::new(), from_the_future: Vec::new() };
        }
        default::registry::adopt(&mut Imports, clock.lift(), &writer, &base.lift(), &found.lift()).lower()
    }

    fn merge(ours: Vec<wire::Entry>, theirs: Vec<wire::Entry>) -> wire::MergeDecision {
        if contrary("merge") {
            return wire::MergeDecision { entries: Vec::new(), superseded: Vec::new() };
        }
        default::registry::merge(&ours.lift(), &theirs.lift()).lower()
    }

    fn flush_after(pending: wire::Pending) -> u64 {
        if contrary("flush-after") {
            return FLUSH_MS;
        }
        let pending: plain::Pending = pending.lift();
        default::registry::flush_after(&pending)
    }
}

export!(Component);
