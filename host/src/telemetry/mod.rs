//! Logs and metrics. Keys, tokens, headers, arguments and bodies never reach this room.

pub mod limits;
mod log_limit;
#[expect(clippy::disallowed_methods, reason = "what is written there is escaped")]
mod logs;
mod metrics;

pub use log_limit::{LastLogged, LogLimit, LogLine};
pub use logs::{init_logs, set_log_level};
pub use metrics::{
    ClosedFamily, Label, LabelSet, MetricRegistry, MetricsFormat, RefreshMetrics, RefreshOutcome, RefreshSubject,
    SyncPhase,
};
pub(crate) use metrics::{encode, labels, network_seconds, observe, process_seconds, register_process};

pub use crate::model::{LogFormat, LogLevel};
