//! The MCP wire: JSON-RPC over raw JSON, Server-Sent Events, both protocol eras, and the client that speaks them.
//!
//! A gateway must be lossless and fast, so only the envelope is parsed and everything else stays the bytes that came.
//! Nothing here decides when to ask, how long to wait or what to keep: deadlines are the caller's, who drops a future
//! to cancel it.

pub mod client;
pub mod envelope;
mod error;
mod error_type;
pub mod hops;
pub mod inbound;
pub mod interim;
pub mod limits;
pub mod outline;
pub mod protocol;
pub mod request_members;
pub mod server;
pub mod sse;
pub mod trace_context;

pub use crate::model::raw::{self, RawError, RawObject};
pub use client::{
    Answered, Challenge, CredentialEvidence, CredentialRefusal, Declared, FixedHeaders, KnownEra, LeftOut, ListScope,
    Listed, ServerFacts, Session, Start, Upstream, UpstreamHeaders,
};
pub use envelope::{EnvelopeError, Message, Outcome, RequestId, RpcError};
pub use error::{ProtocolFault, WireError};
pub use error_type::ErrorType;
pub use inbound::{Inbound, Irregularity};
pub use interim::{Interim, Nobody, Notice, Question};
pub use protocol::Era;
pub use trace_context::{TraceContext, TraceForwarding};
