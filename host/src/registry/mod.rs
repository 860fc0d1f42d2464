//! The local registry, `servers.json`: where it is, what it says, and which connectors its entries become.
//!
//! Acknowledged means durable, and shared means merged: a change is in this process's journal or in the document before
//! anyone is told so, and what others write is joined and never overwritten. One damaged entry never hides the others, and
//! a damaged document is an error that says what to do: it is never taken for an empty one (defect R4). Header and
//! environment values are secrets; nothing here prints one.

mod absorb;
mod bases;
mod change;
mod commit;
mod connector;
mod doctor;
mod document;
mod entry;
mod file;
pub mod formats;
mod inspect;
mod journal;
mod judge;
mod keep;
mod left_behind;
pub mod limits;
mod lock;
mod metrics;
mod names;
mod observe;
mod orphans;
mod place;
mod render;
mod repair;
mod round;
mod settle;
mod snapshot;
mod snapshot_file;
mod standing;
mod state;
mod store;
mod superseded;
mod tails;
mod targets;
mod tend;
#[cfg(test)]
mod tests;

pub use change::{Acknowledged, Change, Outcome};
pub use connector::{connector, connector_id};
pub use doctor::{Examination, Finding, Severity, examine};
pub use document::{EntryProblem, FoundServer, Place, RegistryDocument, RegistryError, Tombstone, read};
pub use entry::{EntryRule, RegistryEntry, Rev, Transport, is_name};
pub use inspect::{RecordReport, SegmentReport, journals};
pub use keep::{RegistryStatus, RegistryView, keep};
pub use limits::{MAX_REGISTRY_BYTES, MAX_SERVERS};
pub use lock::{LegacyLock, LockError};
pub use metrics::RegistryMetrics;
pub use names::{FileKind, FileNames};
pub use place::RegistryPlace;
pub use repair::{Mending, MendingAction, MendingState, mend, plan};
pub use snapshot::RegistrySnapshot;
pub use standing::{ReadOnlyReason, Standing, StoreError};
pub use store::{Acknowledge, Store, StoreCounts, StoreOptions, StoreParts};
pub use superseded::{FormerValue, former_values};
pub use targets::{OwnAddresses, TargetFault, TargetRules};
