//! The component: bindings of the WIT, conversions, and the exports that call the pure functions.
//!
//! It exists in WebAssembly builds only. Nothing may be decided here, and nothing may be imported beyond the clock and
//! the random source.
#![allow(
    missing_docs,
    unreachable_pub,
    unsafe_code,
    unused_qualifications,
    clippy::all,
    reason = "most of this module is generated"
)]

wit_bindgen::generate!({ path: "../wit", world: "policy" });

use cortex::policy::{clock, random, types as wire};
use exports::cortex::policy::{caching, registry, scheduling};

crate::policy_conversions!(wire, clock, random);

struct Component;

impl scheduling::Guest for Component {
    fn refresh(
        config: wire::RefreshConfig,
        state: wire::RefreshState,
        event: wire::RefreshEvent,
    ) -> wire::RefreshDecision {
        crate::scheduling::refresh(&mut Imports, &config.lift(), state.lift(), event.lift()).lower()
    }

    fn breaker(
        config: wire::BreakerConfig,
        state: wire::BreakerState,
        event: wire::BreakerEvent,
    ) -> wire::BreakerDecision {
        crate::scheduling::breaker(&mut Imports, &config.lift(), state.lift(), event.lift()).lower()
    }

    fn plan(config: wire::PlanConfig, candidates: Vec<wire::Candidate>) -> wire::PlanDecision {
        crate::scheduling::plan(&config.lift(), &candidates.lift()).lower()
    }

    fn concurrency(
        config: wire::ConcurrencyConfig,
        state: wire::ConcurrencyState,
        event: wire::ConcurrencyEvent,
    ) -> wire::ConcurrencyDecision {
        crate::scheduling::concurrency(&config.lift(), state.lift(), event.lift()).lower()
    }
}

impl caching::Guest for Component {
    fn lookup(config: wire::CacheConfig, state: wire::CacheState) -> wire::LookupDecision {
        crate::caching::lookup(&mut Imports, &config.lift(), &state.lift()).lower()
    }

    fn advance(config: wire::CacheConfig, state: wire::CacheState, event: wire::CacheEvent) -> wire::AdvanceDecision {
        crate::caching::advance(&mut Imports, &config.lift(), state.lift(), event.lift()).lower()
    }
}

impl registry::Guest for Component {
    fn stamp(clock: wire::ClockState) -> wire::StampDecision {
        crate::registry::stamp(&mut Imports, clock.lift()).lower()
    }

    fn adopt(
        clock: wire::ClockState,
        writer: String,
        base: Vec<wire::Entry>,
        found: Vec<wire::FoundEntry>,
    ) -> wire::AdoptDecision {
        crate::registry::adopt(&mut Imports, clock.lift(), &writer, &base.lift(), &found.lift()).lower()
    }

    fn merge(ours: Vec<wire::Entry>, theirs: Vec<wire::Entry>) -> wire::MergeDecision {
        crate::registry::merge(&ours.lift(), &theirs.lift()).lower()
    }

    fn flush_after(pending: wire::Pending) -> u64 {
        crate::registry::flush_after(&pending.lift())
    }
}

export!(Component);
