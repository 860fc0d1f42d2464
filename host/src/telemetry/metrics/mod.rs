//! What the metrics of every part have in common: closed sets of labels, histogram buckets, and the exposition formats.
//!
//! A gateway has a [`MetricRegistry`] of its own (nothing global), so that several live in one process. Each part of the
//! gateway registers its metrics there once and keeps the handles: recording builds no label, allocates nothing, and needs
//! nobody to scrape.

mod closed_family;
mod exposition;
mod label;
mod process;
mod refresh;

use std::time::Duration;

use prometheus_client::metrics::histogram::Histogram;
pub use prometheus_client::registry::Registry as MetricRegistry;

pub use closed_family::ClosedFamily;
pub use exposition::MetricsFormat;
pub(crate) use exposition::encode;
pub(crate) use label::labels;
pub use label::{Label, LabelSet};
pub(crate) use process::register as register_process;
pub use refresh::{RefreshMetrics, RefreshOutcome, RefreshSubject, SyncPhase};

/// Boundaries for what goes over the network (OpenTelemetry's advice for MCP, with finer ones below 10 ms).
const NETWORK_SECONDS: [f64; 16] =
    [0.001, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0];

/// Boundaries for what stays in the process.
const PROCESS_SECONDS: [f64; 17] = [
    0.000_001, 0.000_002, 0.000_005, 0.000_01, 0.000_02, 0.000_05, 0.000_1, 0.000_2, 0.000_5, 0.001, 0.002, 0.005,
    0.01, 0.05, 0.1, 0.5, 1.0,
];

/// Returns an empty histogram of seconds for what goes over the network, or to a disk.
pub(crate) fn network_seconds() -> Histogram {
    Histogram::new(NETWORK_SECONDS)
}

/// Returns an empty histogram of seconds for what stays in the process.
pub(crate) fn process_seconds() -> Histogram {
    Histogram::new(PROCESS_SECONDS)
}

/// Records a duration, in seconds.
pub(crate) fn observe(histogram: &Histogram, took: Duration) {
    histogram.observe(took.as_secs_f64());
}
