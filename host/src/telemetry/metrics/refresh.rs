//! The metrics of refreshes, which connectors and the service map share.

use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Unit;

use super::{ClosedFamily, MetricRegistry, labels, network_seconds, observe};

labels! {
    /// What is refreshed.
    pub enum RefreshSubject as "subject" {
        /// The lists of a connector.
        Connector = "connector",
        /// The service map.
        ServiceMap = "service-map",
    }
}

labels! {
    /// How a refresh ended.
    pub enum RefreshOutcome as "outcome" {
        /// It brought a value or confirmed one.
        Succeeded = "succeeded",
        /// It failed.
        Failed = "failed",
    }
}

labels! {
    /// A part of a sync that is measured.
    pub enum SyncPhase as "phase" {
        /// Fetching the service map.
        Fetch = "fetch",
        /// Opening the session of a connector.
        Connect = "connect",
        /// Listing what a connector has.
        List = "list",
        /// A pass over every connector.
        Sync = "sync",
    }
}

/// Counts refreshes and measures their phases. Clones share the series.
#[derive(Clone, Debug)]
pub struct RefreshMetrics {
    refreshes: ClosedFamily<(RefreshSubject, RefreshOutcome), Counter>,
    phases: ClosedFamily<SyncPhase, Histogram>,
}

impl RefreshMetrics {
    /// Registers them.
    pub fn new(registry: &mut MetricRegistry) -> Self {
        let metrics = Self {
            refreshes: ClosedFamily::complete(Counter::default),
            phases: ClosedFamily::complete(network_seconds),
        };
        let help = "Refreshes by kind of subject and outcome";
        registry.register("mcp_refreshes", help, metrics.refreshes.clone());
        let help = "Time of the phases of a sync: fetch, connect, list, sync";
        registry.register_with_unit("mcp_connector_sync_duration", help, Unit::Seconds, metrics.phases.clone());
        metrics
    }

    /// Counts a refresh that ended.
    pub fn refreshed(&self, subject: RefreshSubject, outcome: RefreshOutcome) {
        self.refreshes.get((subject, outcome)).inc();
    }

    /// Records how long a phase took.
    pub fn phase(&self, phase: SyncPhase, took: Duration) {
        observe(self.phases.get(phase), took);
    }
}

impl Default for RefreshMetrics {
    fn default() -> Self {
        Self::new(&mut MetricRegistry::default())
    }
}
