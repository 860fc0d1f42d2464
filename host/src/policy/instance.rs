//! One instance of a policy, and one call into it.
//!
//! During a call both clocks stand still and the draws come from the recorded seed; outside a call every import traps.
//! An instance that trapped is dropped with its store: nothing it did survives.

use wasmtime::Store;

use super::confinement::Confinement;
use super::contract::{PolicyPre, PolicyWorld, clock, random, types};
use super::fault::{Fault, ImportOutsideDecision};
use super::limits;
use super::record::{Input, Output};
use crate::edge::entropy::Draws;
use crate::model::Moment;

/// What the host holds for an instance.
pub(super) struct HostState {
    confinement: Confinement,
    decision: Option<Frozen>,
}

/// The world during one decision.
struct Frozen {
    moment: Moment,
    draws: Draws,
}

impl HostState {
    fn frozen(&mut self) -> wasmtime::Result<&mut Frozen> {
        self.decision.as_mut().ok_or_else(|| wasmtime::Error::new(ImportOutsideDecision))
    }
}

impl clock::Host for HostState {
    fn wall_ms(&mut self) -> wasmtime::Result<u64> {
        Ok(self.frozen()?.moment.wall.0)
    }

    fn boot_ms(&mut self) -> wasmtime::Result<u64> {
        Ok(self.frozen()?.moment.boot.0)
    }
}

impl random::Host for HostState {
    fn next(&mut self) -> wasmtime::Result<u32> {
        Ok(self.frozen()?.draws.next_u32())
    }
}

impl types::Host for HostState {}

/// A result, and the fuel it took.
pub(super) struct Called {
    pub(super) output: Output,
    pub(super) fuel: u64,
}

/// An instance that has not trapped.
pub(super) struct Instance {
    store: Store<HostState>,
    world: PolicyWorld,
}

impl Instance {
    /// Makes one, under the instantiation's fuel.
    pub(super) fn new(pre: &PolicyPre<HostState>) -> Result<Self, Fault> {
        let mut store = Store::new(pre.engine(), HostState { confinement: Confinement::default(), decision: None });
        store.limiter(|state| &mut state.confinement);
        store.set_hostcall_fuel(limits::RESULT_BYTES_MAX);
        let made = store.set_fuel(limits::INSTANTIATION_FUEL).and_then(|()| pre.instantiate(&mut store));
        match made {
            Ok(world) => Ok(Self { store, world }),
            Err(error) => Err(Fault::of_instantiation(&error, store.data().confinement.has_refused())),
        }
    }

    /// Makes one decision.
    pub(super) fn call(&mut self, input: &Input, moment: Moment, seed: u64, fuel: u64) -> Result<Called, Fault> {
        let called = self.under_fuel(input, moment, seed, fuel);
        called.map_err(|error| Fault::of_call(&error, self.store.data().confinement.has_refused()))
    }

    fn under_fuel(&mut self, input: &Input, moment: Moment, seed: u64, fuel: u64) -> wasmtime::Result<Called> {
        self.store.set_fuel(fuel)?;
        self.store.data_mut().decision = Some(Frozen { moment, draws: Draws::from_seed(seed) });
        let output = self.dispatch(input);
        self.store.data_mut().decision = None;
        Ok(Called { output: output?, fuel: fuel.saturating_sub(self.store.get_fuel()?) })
    }

    fn dispatch(&mut self, input: &Input) -> wasmtime::Result<Output> {
        let store = &mut self.store;
        let scheduling = self.world.cortex_policy_scheduling();
        let caching = self.world.cortex_policy_caching();
        let registry = self.world.cortex_policy_registry();
        Ok(match input {
            Input::Refresh { config, state, event } => {
                Output::Refresh(scheduling.call_refresh(store, config, state, *event)?)
            }
            Input::Breaker { config, state, event } => {
                Output::Breaker(scheduling.call_breaker(store, config, state, *event)?)
            }
            Input::Plan { config, candidates } => Output::Plan(scheduling.call_plan(store, config, candidates)?),
            Input::Concurrency { config, state, event } => {
                Output::Concurrency(scheduling.call_concurrency(store, config, state, *event)?)
            }
            Input::Lookup { config, state } => Output::Lookup(caching.call_lookup(store, config, state)?),
            Input::Advance { config, state, event } => {
                Output::Advance(caching.call_advance(store, config, state, event)?)
            }
            Input::Stamp { clock } => Output::Stamp(registry.call_stamp(store, clock)?),
            Input::Adopt { clock, writer, base, found } => {
                Output::Adopt(registry.call_adopt(store, clock, writer, base, found)?)
            }
            Input::Merge { ours, theirs } => Output::Merge(registry.call_merge(store, ours, theirs)?),
            Input::FlushAfter { pending } => Output::FlushAfter(registry.call_flush_after(store, *pending)?),
        })
    }
}
