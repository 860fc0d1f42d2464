//! The gateway: one MCP endpoint over the catalog and the connectors, its admin routes, and [`Gateway`] for embedders.
//!
//! This room wires the others together and owns their tasks. Lists are answered from the published snapshot; calls pass
//! through losslessly. Nothing here decides what is fresh, who is refreshed or what is retried.

mod admin;
mod assembly;
mod builder;
mod door;
mod embed;
mod endpoint;
pub mod limits;
mod listener;
mod northbound;
mod publish;
mod state_writer;
mod status;
mod swap;

pub use builder::{GatewayBuilder, StartError};
pub use embed::{Gateway, SyncKind};
pub use state_writer::StateRole;
pub use status::{Conflict, GatewayStatus};
pub use swap::{ReloadReport, SwapError, SwapReport};
