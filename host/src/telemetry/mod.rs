//! Logs and metrics. Keys, tokens, headers, arguments and bodies never reach this room.

mod logs;
mod metrics;

pub use logs::{init_logs, set_log_level};
pub use metrics::{CallOutcome, Metrics, RefreshOutcome};

pub use crate::model::{LogFormat, LogLevel};
