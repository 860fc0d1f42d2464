//! The policy: a WebAssembly component that makes every decision of a gateway, in a sandbox worth trusting.
//!
//! A decision is a pure function of its record: the host freezes both clocks for its length, feeds `random` from a
//! recorded seed, and gives it a fixed amount of fuel. A deployed component gets a fresh instance for each call; the
//! embedded default, built for it, reuses its instances. A component's fault costs one decision, which the embedded
//! default then makes. This room knows nothing of connectors, maps or files.
//!
//! # Embedding a policy
//!
//! A policy alone is a function: a component, arguments, both clocks and a seed give a result, the same each time.
//!
//! ```
//! use cortex_mcp::model::{BootId, BootMs, Moment, WallMs};
//! use cortex_mcp::policy::contract::{PlanConfig, Candidate};
//! use cortex_mcp::policy::{EMBEDDED_COMPONENT, Fault, Input, InstanceUse, Output, PolicyComponent, limits};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! // Load: the bytes are checked (size, form, imports by name, exports, types) before anything of them runs.
//! let policy = PolicyComponent::load(EMBEDDED_COMPONENT, "my-family", InstanceUse::Fresh)?;
//! assert!(policy.inspection().imports.iter().all(|import| import.starts_with("cortex:policy/")));
//!
//! // Call: who is to be connected to first?
//! let candidate = |id: &str, failures| Candidate {
//!     id: id.into(), failures, last_class: None, last_duration_ms: None, serving: false, wanted: false,
//! };
//! let config = PlanConfig { slow_after_ms: 1_000, options: Vec::new() };
//! let input = Input::Plan { config, candidates: vec![candidate("bad", 7), candidate("good", 0)] };
//! let moment = Moment { wall: WallMs(1_767_225_600_000), boot: BootMs(3_600_000), boot_id: BootId(1) };
//! let Output::Plan(plan) = policy.decide(&input, moment, 42)? else { panic!("another function's result") };
//! assert_eq!(plan.order, [1, 0], "known-bad last");
//!
//! // Limits: a call has so much fuel, and no more memory or time than `limits` says. Who uses it up has decided nothing.
//! let budget = limits::call_fuel(input.function(), input.items());
//! let made = policy.remake(&input, moment, 42, budget)?;
//! assert_eq!(policy.remake(&input, moment, 42, made.fuel / 2), Err(Fault::OutOfFuel));
//! # Ok(())
//! # }
//! ```
//!
//! [`Policy`] is what a gateway holds: it keeps the order of decisions, records each, falls back to a default, and swaps.

mod compile;
mod compiled_cache;
mod component;
mod confinement;
pub mod contract;
mod contract_types;
mod decide;
mod embedded;
mod engine;
mod fault;
mod function;
mod instance;
pub mod limits;
mod memo;
mod metrics;
mod priority;
mod record;
mod remake;
mod sink;
#[cfg(feature = "compose")]
pub mod stack;
mod structure;
mod upkeep;

pub use wasmtime_environ::VERSION as WASMTIME_VERSION;

pub use compiled_cache::CacheAccess;
pub use component::{Inspection, InstanceUse, PolicyComponent};
pub use decide::{Policy, PolicyStatus, Subject};
pub use embedded::{EMBEDDED_COMPONENT, EMBEDDED_FAMILY};
pub use fault::{Fault, NoDecision, PolicyError};
pub use function::Function;
pub use memo::{Held, Memos};
pub use metrics::PolicyMetrics;
pub(crate) use priority::lower_thread;
pub use record::{Correction, DecidedBy, DecisionRecord, FaultedAttempt, Input, Output};
pub use remake::{Remade, correct};
pub use sink::{DecisionSink, DiscardRecords, KeepRecords, Swap};
pub use upkeep::{Run, Upkeep, UpkeepConfig};
