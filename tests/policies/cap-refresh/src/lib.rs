//! A middleware: whatever the policy below it decides, at least `floor-ms` pass between two runs of a subject, an option
//! of the deployment (`options = { floor-ms = "60000" }`). What somebody insists on is not held up; without the option, or
//! with one that is no number, nothing is. Everything else is left to the policy below.
#![cfg(target_family = "wasm")]
#![allow(missing_docs, unreachable_pub, unused_qualifications, clippy::all, reason = "bindings are generated")]

use cortex::policy::{caching as below_caching, registry as below_registry, scheduling as below, types::*};
use exports::cortex::policy::{caching, registry, scheduling};

wit_bindgen::generate!({ path: "../../../wit", world: "middleware" });

struct CapRefresh;
export!(CapRefresh);

impl scheduling::Guest for CapRefresh {
    fn refresh(config: RefreshConfig, state: RefreshState, event: RefreshEvent) -> RefreshDecision {
        let mut decision = below::refresh(&config, &state, event);
        let floor = config.options.iter().find(|(name, _)| name == "floor-ms").and_then(|(_, ms)| ms.parse().ok());
        let last_end = decision.state.last_end_boot_ms;
        if let (Some(floor), Some(end), RefreshPhase::Armed(run)) = (floor, last_end, &mut decision.state.phase)
            && run.reason != RefreshReason::Forced
        {
            run.run_at_boot_ms = run.run_at_boot_ms.max(end.saturating_add(floor));
            decision.run_at_boot_ms = Some(run.run_at_boot_ms);
        }
        decision
    }

    fn breaker(config: BreakerConfig, state: BreakerState, event: BreakerEvent) -> BreakerDecision {
        below::breaker(&config, &state, event)
    }

    fn plan(config: PlanConfig, candidates: Vec<Candidate>) -> PlanDecision {
        below::plan(&config, &candidates)
    }

    fn concurrency(config: ConcurrencyConfig, state: ConcurrencyState, event: ConcurrencyEvent) -> ConcurrencyDecision {
        below::concurrency(&config, &state, event)
    }
}

impl caching::Guest for CapRefresh {
    fn lookup(config: CacheConfig, state: CacheState) -> LookupDecision {
        below_caching::lookup(&config, &state)
    }

    fn advance(config: CacheConfig, state: CacheState, event: CacheEvent) -> AdvanceDecision {
        below_caching::advance(&config, &state, &event)
    }
}

impl registry::Guest for CapRefresh {
    fn stamp(clock: ClockState) -> StampDecision {
        below_registry::stamp(&clock)
    }

    fn adopt(clock: ClockState, writer: String, base: Vec<Entry>, found: Vec<FoundEntry>) -> AdoptDecision {
        below_registry::adopt(&clock, &writer, &base, &found)
    }

    fn merge(ours: Vec<Entry>, theirs: Vec<Entry>) -> MergeDecision {
        below_registry::merge(&ours, &theirs)
    }

    fn flush_after(pending: Pending) -> u64 {
        below_registry::flush_after(pending)
    }
}
