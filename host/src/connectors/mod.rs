//! Connectors: one supervised session for each, synced in parallel, isolated from one another.
//!
//! The policy says when a run is due, in which order waiting runs go, how many at once, and whether calls pass. This room
//! obeys: it opens sessions, lists tools, publishes each result the moment it is there, and passes calls through under
//! quotas and deadlines. A connector that is dead, hung or slow costs itself and nobody else. It never looks at what a
//! tool's arguments or results say.

mod admission;
mod asking;
mod backoff;
mod breaker;
mod call;
mod caller;
mod collect;
mod connector_headers;
mod credentials;
mod deadlines;
mod deaths;
mod definitions;
mod events;
mod fleet;
mod gate;
mod handle;
pub mod limits;
mod log_wishes;
mod look;
mod metrics;
mod origins;
mod own_slot;
mod own_stream;
mod pass;
mod patience;
mod publish;
mod quota;
mod report;
mod run;
mod saved;
mod session_slot;
mod settings;
mod starts;
mod status;
mod supervisor;
mod suspicion;
mod watch;
mod wishes;

pub use crate::model::Contact;
pub use admission::Admission;
pub use call::{CallError, LostRequest};
pub use caller::{Caller, OwnSessions};
pub use connector_headers::{CredentialState, RefusedCredential};
pub use credentials::{CredentialError, Credentials};
pub(crate) use definitions::RECORD_PREFIX as DEFINITIONS_PREFIX;
pub use definitions::{
    ApprovalError, ChangeKind, ChangedDefinition, DefinitionKind, DefinitionsStatus, LeftOutDefinitions, Selection,
};
pub use events::ServerEvent;
pub use fleet::{Fleet, KeptState};
pub use metrics::ConnectorsMetrics;
pub use pass::PassKind;
pub use publish::{Published, Publisher};
pub use report::{SyncReport, Synced};
pub use settings::FleetSettings;
pub use status::{ConnectorStatus, LastFailure};
pub use wishes::{LogWish, ResourceWish};

#[cfg(test)]
mod tests;
