//! Decisions on the record: written while a gateway runs, made again, compared, and told in sentences.
//!
//! A trace is a folder of segments in JSON Lines, the full ones compressed, beside the components that decided. Each
//! segment can be read alone: its first line names the format, the engine, the limits and the components. Nothing here
//! influences a decision: the [`TraceWriter`] and the [`Shadow`] take what was decided already, off the hot path, and
//! count what they could not take.

mod components;
mod compression;
mod difference;
mod dry_run;
mod error;
mod fan_out;
mod format;
pub mod limits;
mod reader;
mod references;
mod replay;
mod segment_writer;
mod segments;
mod shadow;
pub mod why;
mod worker;
mod writer;

pub use components::Components;
pub use difference::{Difference, FieldDifference};
pub use dry_run::{DryRun, FunctionFault, dry_run};
pub use error::TraceError;
pub use fan_out::FanOut;
pub use format::{
    ConnectorsNote, CredentialNote, DroppedNote, FORMAT, Header, LimitsNote, Line, PolicyNote, ShadowNote, SwapNote,
    ToolsNote,
};
pub use reader::{Entry, Place, TraceReader};
pub use references::Excess;
pub use replay::{FirstDifference, MissingComponent, Replay, ReplayReport, SummaryRow};
pub use shadow::{Shadow, ShadowStatus};
pub use writer::{TraceFacts, TraceStatus, TraceWriter};
