//! The component: the default's decisions, and quirks on top.
#![allow(
    missing_docs,
    unreachable_pub,
    unused_qualifications,
    clippy::all,
    reason = "most of this module is generated"
)]

use cortex_policy_default as default;

use super::quirks::{Quirks, forget};

wit_bindgen::generate!({ path: "../../../wit", world: "policy" });

use cortex::policy::{clock, random, types as wire};
use exports::cortex::policy::{caching, registry, scheduling};

default::policy_conversions!(wire, clock, random);

/// The quirks of the decision that is being made. The default draws after them.
fn quirks() -> Quirks {
    Quirks::of(clock::boot_ms(), random::next())
}

struct Component;

impl scheduling::Guest for Component {
    fn refresh(
        config: wire::RefreshConfig,
        mut state: wire::RefreshState,
        event: wire::RefreshEvent,
    ) -> wire::RefreshDecision {
        let quirks = quirks();
        state.memo = forget(state.memo);
        let mut decision =
            default::scheduling::refresh(&mut Imports, &config.lift(), state.lift(), event.lift()).lower();
        decision.state.memo = quirks.remember(&decision.state.memo);
        decision.run_at_boot_ms = decision.run_at_boot_ms.map(|at| at + quirks.shift());
        decision
    }

    fn breaker(
        config: wire::BreakerConfig,
        mut state: wire::BreakerState,
        event: wire::BreakerEvent,
    ) -> wire::BreakerDecision {
        let quirks = quirks();
        state.memo = forget(state.memo);
        let mut decision =
            default::scheduling::breaker(&mut Imports, &config.lift(), state.lift(), event.lift()).lower();
        decision.state.memo = quirks.remember(&decision.state.memo);
        decision
    }

    fn plan(config: wire::PlanConfig, candidates: Vec<wire::Candidate>) -> wire::PlanDecision {
        let mut decision = default::scheduling::plan(&config.lift(), &candidates.lift()).lower();
        decision.slow_after_ms += quirks().shift();
        decision
    }

    fn concurrency(
        config: wire::ConcurrencyConfig,
        mut state: wire::ConcurrencyState,
        event: wire::ConcurrencyEvent,
    ) -> wire::ConcurrencyDecision {
        let quirks = quirks();
        state.memo = forget(state.memo);
        let mut decision = default::scheduling::concurrency(&config.lift(), state.lift(), event.lift()).lower();
        decision.state.memo = quirks.remember(&decision.state.memo);
        decision
    }
}

impl caching::Guest for Component {
    fn lookup(config: wire::CacheConfig, mut state: wire::CacheState) -> wire::LookupDecision {
        state.memo = forget(state.memo);
        let mut decision = default::caching::lookup(&mut Imports, &config.lift(), &state.lift()).lower();
        let shift = quirks().shift();
        decision.until_boot_ms = decision.until_boot_ms.map(|until| until + shift);
        decision
    }

    fn advance(
        config: wire::CacheConfig,
        mut state: wire::CacheState,
        event: wire::CacheEvent,
    ) -> wire::AdvanceDecision {
        let quirks = quirks();
        state.memo = forget(state.memo);
        let mut decision = default::caching::advance(&mut Imports, &config.lift(), state.lift(), event.lift()).lower();
        decision.state.memo = quirks.remember(&decision.state.memo);
        decision
    }
}

impl registry::Guest for Component {
    fn stamp(mut clock: wire::ClockState) -> wire::StampDecision {
        let quirks = quirks();
        clock.memo = forget(clock.memo);
        let mut decision = default::registry::stamp(&mut Imports, clock.lift()).lower();
        decision.state.memo = quirks.remember(&decision.state.memo);
        decision
    }

    fn adopt(
        mut clock: wire::ClockState,
        writer: String,
        base: Vec<wire::Entry>,
        found: Vec<wire::FoundEntry>,
    ) -> wire::AdoptDecision {
        let quirks = quirks();
        clock.memo = forget(clock.memo);
        let lifted = (clock.lift(), base.lift(), found.lift());
        let mut decision = default::registry::adopt(&mut Imports, lifted.0, &writer, &lifted.1, &lifted.2).lower();
        decision.state.memo = quirks.remember(&decision.state.memo);
        decision
    }

    fn merge(ours: Vec<wire::Entry>, theirs: Vec<wire::Entry>) -> wire::MergeDecision {
        default::registry::merge(&ours.lift(), &theirs.lift()).lower()
    }

    fn flush_after(pending: wire::Pending) -> u64 {
        default::registry::flush_after(&pending.lift()) + quirks().shift()
    }
}

export!(Component);
