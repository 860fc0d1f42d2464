//! A dry run: every function of a candidate asked once, before it may decide anything.
//!
//! It finds the policy that traps at its first decision, and no more than that; decisions of the past are what tells how a
//! candidate decides: see [`Replay::through`](super::Replay::through).

use serde::Serialize;

use crate::model::{BootId, BootMs, Moment, WallMs};
use crate::policy::contract::*;
use crate::policy::{Fault, Function, Input, PolicyComponent, limits};

/// How a dry run went.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DryRun {
    /// Functions asked.
    pub functions: usize,
    /// Those that faulted, and how.
    pub faults: Vec<FunctionFault>,
    /// The greatest fuel that one took, in permille of its budget: how close it comes to being cut off.
    pub fuel_permille_max: u64,
}

/// A function that faulted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FunctionFault {
    /// The function.
    pub function: Function,
    /// How.
    pub fault: Fault,
}

/// Asks every function once, from the state of a subject about which nothing happened yet.
pub fn dry_run(candidate: &PolicyComponent) -> DryRun {
    let mut faults = Vec::new();
    let mut fuel_permille_max = 0;
    for input in first_questions() {
        let function = input.function();
        let budget = limits::call_fuel(function, input.items());
        match candidate.remake(&input, MOMENT, SEED, budget) {
            Ok(made) => fuel_permille_max = fuel_permille_max.max(made.fuel.saturating_mul(1000) / budget.max(1)),
            Err(fault) => faults.push(FunctionFault { function, fault }),
        }
    }
    DryRun { functions: Function::ALL.len(), faults, fuel_permille_max }
}

/// A moment like any other: 2026-01-01, an hour after the machine started.
const MOMENT: Moment = Moment { wall: WallMs(1_767_225_600_000), boot: BootMs(3_600_000), boot_id: BootId(1) };

const SEED: u64 = 7;

/// One question for each function.
fn first_questions() -> [Input; 10] {
    let options = Vec::new;
    let refresh = RefreshConfig {
        kind: SubjectKind::Connector,
        mode: RefreshMode::Background,
        interval_ms: 300_000,
        floor_ms: 30_000,
        jitter_permille: 200,
        backoff_min_ms: 500,
        backoff_max_ms: 60_000,
        options: options(),
    };
    let breaker = BreakerConfig {
        failure_threshold: 5,
        window: 20,
        rate_permille: 500,
        open_min_ms: 1_000,
        open_max_ms: 60_000,
        probe_deadline_ms: 60_000,
        options: options(),
    };
    let cache = CacheConfig {
        kind: SubjectKind::Connector,
        boot_id: MOMENT.boot_id.0,
        ttl_min_ms: 30_000,
        ttl_max_ms: 86_400_000,
        ttl_default_ms: 300_000,
        soft_permille: 800,
        soft_jitter_permille: 100,
        max_stale_ms: 86_400_000,
        skew_ms: 300_000,
        negative_min_ms: 5_000,
        negative_max_ms: 60_000,
        credential: String::new(),
        options: options(),
    };
    let started = StartedEvent { start: StartKind::Cold, boot_id: MOMENT.boot_id.0 };
    let entry = Entry {
        name: "one".into(),
        stamp: Hlc { wall_ms: MOMENT.wall.0, counter: 1 },
        writer: "writer".into(),
        deleted: false,
        digest: "digest".into(),
    };
    [
        Input::Refresh { config: refresh, state: RefreshState::initial(), event: RefreshEvent::Started(started) },
        Input::Breaker { config: breaker, state: BreakerState::initial(), event: BreakerEvent::Asked },
        Input::Plan { config: PlanConfig { slow_after_ms: 1_000, options: options() }, candidates: Vec::new() },
        Input::Concurrency {
            config: ConcurrencyConfig { minimum: 1, maximum: 32, fixed: None, options: options() },
            state: ConcurrencyState::initial(),
            event: ConcurrencyEvent::Began,
        },
        Input::Lookup { config: cache.clone(), state: CacheState::initial() },
        Input::Advance {
            config: cache,
            state: CacheState::initial(),
            event: CacheEvent::Failed(FailureClass::Timeout),
        },
        Input::Stamp { clock: ClockState::initial() },
        Input::Adopt {
            clock: ClockState::initial(),
            writer: "writer".into(),
            base: vec![entry.clone()],
            found: Vec::new(),
        },
        Input::Merge { ours: vec![entry.clone()], theirs: vec![entry] },
        Input::FlushAfter {
            pending: Pending {
                changes: 1,
                bytes: 100,
                oldest_ms: 0,
                batch_ms: 5_000,
                closing: false,
                write_through: false,
            },
        },
    ]
}
