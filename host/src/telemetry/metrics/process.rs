//! What is told of the process and its build, under the names that Prometheus gives them.

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeGaugeValue, EncodeMetric as _};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::metrics::{MetricType, TypedMetric};
use prometheus_client::registry::Unit;

use super::MetricRegistry;
use crate::edge::process_usage::{self, ProcessUsage};

/// The version of the policy contract that this gateway speaks.
const CONTRACT_VERSION: &str = "0.1.0";

/// The commit that it was built from, where the build names it: set `CORTEX_COMMIT` for that.
const COMMIT: Option<&str> = option_env!("CORTEX_COMMIT");

/// Registers `cortex_build_info` and what the system tells of the process.
pub(crate) fn register(registry: &mut MetricRegistry) {
    let mut labels = vec![("version", env!("CARGO_PKG_VERSION")), ("contract", CONTRACT_VERSION)];
    labels.extend(COMMIT.map(|commit| ("commit", commit)));
    registry.register("cortex_build", "The build of the gateway", Info::new(labels));
    registry.register_collector(Box::new(ProcessCollector));
}

/// Asks the system at each scrape.
#[derive(Debug)]
struct ProcessCollector;

impl Collector for ProcessCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> std::fmt::Result {
        encode(&process_usage::read(), &mut encoder)
    }
}

fn encode(usage: &ProcessUsage, encoder: &mut DescriptorEncoder<'_>) -> std::fmt::Result {
    let help = "User and system CPU time spent in seconds.";
    let cpu = ConstCounter::new(usage.cpu.as_secs_f64());
    cpu.encode(encoder.encode_descriptor("process_cpu", help, Some(&Unit::Seconds), ConstCounter::<f64>::TYPE)?)?;
    gauge(
        encoder,
        "process_resident_memory",
        "Resident memory size in bytes.",
        Some(Unit::Bytes),
        usage.resident_bytes,
    )?;
    gauge(encoder, "process_virtual_memory", "Virtual memory size in bytes.", Some(Unit::Bytes), usage.virtual_bytes)?;
    gauge(encoder, "process_open_fds", "Number of open file descriptors.", None, usage.open_descriptors)?;
    gauge(encoder, "process_max_fds", "Maximum number of open file descriptors.", None, usage.max_descriptors)?;
    let help = "Start time of the process since unix epoch in seconds.";
    gauge(encoder, "process_start_time", help, Some(Unit::Seconds), usage.started_unix_seconds)?;
    gauge(encoder, "process_threads", "Number of OS threads in the process.", None, usage.threads)
}

/// Writes a gauge, if the system tells it.
fn gauge<V: EncodeGaugeValue>(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    unit: Option<Unit>,
    value: Option<V>,
) -> std::fmt::Result {
    match value {
        Some(value) => {
            ConstGauge::new(value).encode(encoder.encode_descriptor(name, help, unit.as_ref(), MetricType::Gauge)?)
        }
        None => Ok(()),
    }
}
