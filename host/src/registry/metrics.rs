//! The metrics of a registry that is written.

use std::time::Duration;

use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Unit;

use crate::telemetry::{MetricRegistry, network_seconds, observe};

/// Measures writes of the registry's document. Clones share the series.
#[derive(Clone, Debug)]
pub struct RegistryMetrics {
    flushes: Histogram,
}

impl RegistryMetrics {
    /// Registers them.
    pub fn new(registry: &mut MetricRegistry) -> Self {
        let metrics = Self { flushes: network_seconds() };
        let help = "Time of a write of the registry's document";
        registry.register_with_unit("mcp_registry_flush_duration", help, Unit::Seconds, metrics.flushes.clone());
        metrics
    }

    /// Records how long a write took.
    pub(super) fn flushed(&self, took: Duration) {
        observe(&self.flushes, took);
    }
}

impl Default for RegistryMetrics {
    fn default() -> Self {
        Self::new(&mut MetricRegistry::default())
    }
}
