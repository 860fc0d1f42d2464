//! What the rooms share: identifiers, digests, times, the description of a connector, and JSON read strictly or losslessly.
//!
//! Values only. Nothing here reads a clock, a file or the network, and nothing here decides anything.

pub mod address;
pub mod canonical;
mod child_rules;
mod connector;
mod digest;
pub mod document;
mod era;
mod failure;
pub mod glob;
pub mod headers;
mod ids;
mod instance;
mod item_list;
pub(crate) mod link_local;
mod log;
pub mod mask;
mod offer;
pub mod raw;
mod reach;
pub mod redaction;
pub mod reference;
mod severity;
pub mod style;
pub mod text;
mod time;
mod uri_scheme;
mod window;

pub use child_rules::{ChildRules, Privileges, VariableName, VariableNameFault};
pub use connector::{Auth, AuthKind, Connector, MAX_MESSAGE_BYTES, MAX_TIMEOUT, Quotas, Source, Timeouts};
pub use digest::{Digest, DigestError};
pub use era::Era;
pub use failure::{Failure, FailureClass, FailureGroup};
pub use glob::Glob;
pub use ids::{ConnectorId, ConnectorIdError};
pub use instance::{
    DefinitionPath, InstanceId, InstanceIdError, META_CONNECTOR, META_PATH, PATH_INSTANCES_MAX, PathFault,
};
pub use item_list::{Contact, ItemList, ItemListError, ListFacts, ListKind, ListState, ListedItem, Scope};
pub use log::{LogFormat, LogLevel};
pub use offer::{About, HiddenKeys, Offer, OfferError, OfferSource};
pub use reach::{CommandLine, Reach};
pub use severity::Severity;
pub use time::{BootId, BootMs, Moment, TimestampError, WallMs, milliseconds};
pub use uri_scheme::{UriScheme, UriSchemeError};
pub use window::SlidingWindow;
