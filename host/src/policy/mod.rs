//! The policy: a WebAssembly component that makes every decision of a gateway, in a sandbox worth trusting.
//!
//! A decision is a pure function of its record: the host freezes both clocks for its length, feeds `random` from a
//! recorded seed, and gives it a fixed amount of fuel. A deployed component gets a fresh instance for each call; the
//! embedded default, built for it, reuses its instances. A component's fault costs one decision, which the embedded
//! default then makes. This room knows nothing of connectors, maps or files.

mod component;
pub mod contract;
mod decide;
mod engine;
mod fault;
mod instance;
pub mod limits;
mod memo;
mod record;
mod upkeep;

pub use component::{EMBEDDED_COMPONENT, EMBEDDED_FAMILY, Inspection, InstanceUse, PolicyComponent};
pub use decide::{Policy, PolicyStatus, Subject};
pub use fault::{Fault, NoDecision, PolicyError};
pub use memo::{Held, Memos};
pub use record::{
    Correction, DecidedBy, DecisionRecord, DecisionSink, DiscardRecords, FaultedAttempt, Function, Input, KeepRecords,
    Output,
};
pub use upkeep::{Run, Upkeep, UpkeepConfig};
