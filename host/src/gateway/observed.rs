//! What is observed when metrics are asked for: the gauges of connectors that exist now, and counts that others keep.
//!
//! A registry is filled for each scrape and dropped after it, so that a vanished connector's series vanish with it.

use std::fmt;
use std::sync::Arc;

use prometheus_client::encoding::{EncodeGaugeValue, EncodeMetric, MetricEncoder};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Unit;

use super::embed::Gateway;
use crate::connectors::{ConnectorStatus, Contact};
use crate::model::{ConnectorId, ListState, WallMs};
use crate::registry::RegistryStatus;
use crate::telemetry::{Label, MetricRegistry, MetricsFormat, encode};
use crate::trace::{Shadow, ShadowStatus, TraceStatus, TraceWriter};

impl Gateway {
    /// Returns the metrics, in the Prometheus text format.
    pub fn metrics(&self) -> String {
        self.metrics_as(MetricsFormat::Prometheus)
    }

    /// Returns the metrics in a format.
    pub fn metrics_as(&self, format: MetricsFormat) -> String {
        encode(format, [&self.inner.parts.registered, &self.observed()])
    }

    fn observed(&self) -> MetricRegistry {
        let parts = &self.inner.parts;
        let mut registry = MetricRegistry::default();
        connectors(&mut registry, &parts.fleet.statuses(), &parts.applied.borrow().disabled, parts.edge.clock.wall());
        gauge(&mut registry, "mcp_catalog_tools", "Tools that are served", count(self.snapshot().tool_count()));
        registry_of_servers(&mut registry, &parts.registry.borrow().status);
        records(
            &mut registry,
            parts.trace.as_ref().map(TraceWriter::status),
            parts.shadow.as_ref().map(Shadow::status),
        );
        let (sessions, listens) = self.inner.northbound.open();
        gauge(&mut registry, "mcp_sessions", "Legacy sessions of clients that are open", count(sessions));
        let help = "Streams of subscriptions/listen that are open";
        gauge(&mut registry, "mcp_subscription_streams", help, count(listens));
        registry
    }
}

/// The gauges of connectors.
fn connectors(registry: &mut MetricRegistry, statuses: &[Arc<ConnectorStatus>], disabled: &[ConnectorId], now: WallMs) {
    let connector = |id: &ConnectorId| [("connector", id.to_string())];
    let up = statuses.iter().map(|status| (connector(&status.id), u64::from(status.contact == Contact::Up)));
    let down = disabled.iter().map(|id| (connector(id), 0));
    let help = "Whether the connector answered last (1) or not (0)";
    registry.register("brainwav_mcp_connector_proxy_up", help, Gauges(up.chain(down).collect()));
    let left_out = statuses.iter().map(|status| (connector(&status.id), count(status.definitions.left_out.count())));
    let help = "Definitions that are not served because they came through this gateway or too many others";
    registry.register("mcp_definitions_left_out", help, Gauges(left_out.collect()));
    let ages = statuses.iter().filter_map(|status| {
        let age_ms = now.0.saturating_sub(status.fetched_wall?.0);
        Some((connector(&status.id), age_ms as f64 / 1_000.0))
    });
    let help = "Age of the connector's list";
    registry.register_with_unit("mcp_catalog_age", help, Unit::Seconds, Gauges(ages.collect()));
    // All states of each: a change of state moves the 1, and begins no series.
    let states = statuses.iter().flat_map(|status| {
        ListState::ALL.iter().map(move |state| {
            let labels = [("connector", status.id.to_string()), (ListState::NAME, state.value().to_owned())];
            (labels, u64::from(*state == status.state))
        })
    });
    registry.register(
        "mcp_catalog_state",
        "The state of the connector's list: 1 for that, else 0",
        Gauges(states.collect()),
    );
}

impl Label for ListState {
    const NAME: &'static str = "state";
    const ALL: &'static [Self] =
        &[Self::Empty, Self::Fresh, Self::Soft, Self::Stale, Self::StaleError, Self::Expired, Self::Frozen];

    fn value(self) -> &'static str {
        match self {
            Self::Empty => "empty",
            Self::Fresh => "fresh",
            Self::Soft => "soft",
            Self::Stale => "stale",
            Self::StaleError => "stale-error",
            Self::Expired => "expired",
            Self::Frozen => "frozen",
        }
    }

    fn index(self) -> usize {
        self as usize
    }
}

/// The gauges and counters of the registry.
fn registry_of_servers(registry: &mut MetricRegistry, status: &RegistryStatus) {
    let counts = &status.counts;
    let help = "Whether the registry's file can be written (1) or not (0)";
    gauge(registry, "mcp_registry_writable", help, u64::from(status.standing.is_writable()));
    gauge(registry, "mcp_registry_entries", "Servers in the registry", count(status.entries));
    let help = "Changes that are durable in the journal and not yet in the file";
    gauge(registry, "mcp_registry_waiting_changes", help, counts.waiting.into());
    counter(registry, "mcp_registry_documents", "Times that the file was written", counts.documents);
    counter(registry, "mcp_registry_changes", "Changes that were acknowledged", counts.changes);
    let help = "Edits of the file by programs that take no lock";
    counter(registry, "mcp_registry_foreign_edits", help, counts.foreign_edits);
}

/// The counters of trace and shadow policy.
fn records(registry: &mut MetricRegistry, trace: Option<TraceStatus>, shadow: Option<ShadowStatus>) {
    if let Some(trace) = trace {
        counter(registry, "mcp_trace_records", "Decisions written to the trace", trace.written);
        counter(registry, "mcp_trace_dropped", "Decisions that could not be written to the trace", trace.dropped);
        let help = "Notes beside decisions that could not be written";
        counter(registry, "mcp_trace_notes_dropped", help, trace.notes_dropped);
        registry.register_with_unit(
            "mcp_trace",
            "Bytes written to the trace",
            Unit::Bytes,
            ConstCounter::new(trace.bytes),
        );
    }
    if let Some(shadow) = shadow {
        counter(registry, "mcp_policy_shadow_decisions", "Decisions of the shadow policy", shadow.decisions);
        counter(registry, "mcp_policy_shadow_different", "Those that differ from what was decided", shadow.different);
        counter(registry, "mcp_policy_shadow_faults", "Those in which the shadow policy faulted", shadow.faults);
        counter(registry, "mcp_policy_shadow_skipped", "Decisions that the shadow had no time for", shadow.skipped);
    }
}

fn gauge(registry: &mut MetricRegistry, name: &str, help: &str, value: u64) {
    registry.register(name, help, ConstGauge::new(value));
}

fn counter(registry: &mut MetricRegistry, name: &str, help: &str, value: u64) {
    registry.register(name, help, ConstCounter::new(value));
}

fn count(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}

/// The series of a gauge, with their labels, in order.
#[derive(Debug)]
struct Gauges<V, const N: usize>(Vec<([(&'static str, String); N], V)>);

impl<V: EncodeGaugeValue, const N: usize> EncodeMetric for Gauges<V, N> {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|(labels, value)| encoder.encode_family(labels)?.encode_gauge(value))
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Gauge
    }

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_have_the_names_that_status_tells() {
        for (index, state) in ListState::ALL.iter().enumerate() {
            assert_eq!(state.index(), index);
            assert_eq!(serde_json::to_value(state).unwrap(), state.value());
        }
    }
}
