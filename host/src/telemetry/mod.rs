//! Logs and metrics. Keys, tokens, headers, arguments and bodies never reach this room.

mod logs;
mod metrics;

pub use logs::{LogFormat, LogLevel, init_logs};
pub use metrics::{CallOutcome, Metrics, RefreshOutcome};
