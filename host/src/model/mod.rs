//! What the rooms share: identifiers, digests, times, the description of a connector, and JSON read strictly or losslessly.
//!
//! Values only. Nothing here reads a clock, a file or the network, and nothing here decides anything.

pub mod address;
pub mod canonical;
mod connector;
mod digest;
pub mod document;
mod failure;
pub mod headers;
mod ids;
mod log;
pub mod raw;
pub mod text;
mod time;
mod tool_list;

pub use connector::{Auth, AuthKind, Connector, Quotas, Source, Timeouts};
pub use digest::{Digest, DigestError};
pub use failure::{Failure, FailureClass, FailureGroup};
pub use ids::{ConnectorId, ConnectorIdError};
pub use log::{LogFormat, LogLevel};
pub use time::{BootId, BootMs, Moment, TimestampError, WallMs, milliseconds};
pub use tool_list::{ListFacts, ListState, ListedTool, Scope, ToolList, ToolListError};
