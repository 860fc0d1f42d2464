//! The local registry, `servers.json`: where it is, what it says, and which connectors its entries become.
//!
//! Reading only. One damaged entry never hides the others, and a damaged document is an error that says what to do: it
//! is never taken for an empty one (defect R4). Header values are secrets; nothing here prints one.

mod connector;
mod document;
mod entry;
mod follow;

pub use connector::{connector, connector_id};
pub use document::{
    EntryProblem, MAX_REGISTRY_BYTES, MAX_SERVERS, Place, RegistryDocument, RegistryError, Tombstone, read,
};
pub use entry::{EntryRule, RegistryEntry, Rev, Transport, UnsupportedTransport};
pub use follow::{RegistryStatus, RegistryView, follow};
