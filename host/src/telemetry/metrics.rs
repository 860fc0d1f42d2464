//! The metrics of one gateway, in Prometheus text. Durations are in seconds.
//!
//! A gateway has a recorder of its own (nothing global), so that several live in one process. Gauges that tell what is
//! observed now (sessions, ages) are not kept here: whoever answers `/metrics` renders them from the live state, so that
//! a vanished connector's series vanishes with it.

use std::time::Duration;

use metrics::{Counter, Histogram, Key, KeyName, Label, Level, Metadata, Recorder, SharedString, Unit};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle, PrometheusRecorder};

use crate::model::FailureGroup;

/// Boundaries for what goes over the network (OpenTelemetry's advice for MCP, with finer ones below 10 ms).
const NETWORK_SECONDS: &[f64] =
    &[0.001, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0];

/// Boundaries for what stays in the process.
const PROCESS_SECONDS: &[f64] = &[
    0.000_001, 0.000_002, 0.000_005, 0.000_01, 0.000_02, 0.000_05, 0.000_1, 0.000_2, 0.000_5, 0.001, 0.002, 0.005,
    0.01, 0.05, 0.1, 0.5, 1.0,
];

const DECISION: &str = "mcp_policy_decision_duration_seconds";
const SYNC: &str = "mcp_connector_sync_duration_seconds";
const CALL: &str = "mcp_tool_call_duration_seconds";
const OVERHEAD: &str = "mcp_gateway_overhead_seconds";
const STATE_FLUSH: &str = "mcp_state_flush_duration_seconds";
const REGISTRY_FLUSH: &str = "mcp_registry_flush_duration_seconds";
const SERVER_OPERATION: &str = "mcp_server_operation_duration_seconds";
const CLIENT_OPERATION: &str = "mcp_client_operation_duration_seconds";
const REFRESHES: &str = "mcp_refreshes_total";
const FAULTS: &str = "mcp_policy_faults_total";
const DRIFT: &str = "mcp_tool_drift_total";
const REJECTED_MAPS: &str = "mcp_service_map_rejected_total";
const UNREACHABLE_MAPS: &str = "mcp_service_map_unreachable_total";
const FROZEN_MAPS: &str = "mcp_service_map_frozen_total";
const REFUSED_CALLS: &str = "mcp_calls_refused_total";
const REFUSED_REQUESTS: &str = "mcp_requests_refused_total";

/// How a refresh ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefreshOutcome {
    /// It brought a value or confirmed one.
    Succeeded,
    /// It failed.
    Failed,
}

/// How a call ended, as metrics tell it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallOutcome {
    /// With a result.
    Result,
    /// With a result that says `isError`.
    ToolError,
    /// With a JSON-RPC error or a failure of the transport.
    Failed,
}

impl CallOutcome {
    fn error_type(self) -> &'static str {
        match self {
            Self::Result => "",
            Self::ToolError => "tool_error",
            Self::Failed => "failed",
        }
    }
}

/// The metrics of one gateway.
pub struct Metrics {
    recorder: PrometheusRecorder,
    handle: PrometheusHandle,
}

impl Metrics {
    /// Nothing counted yet.
    pub fn new() -> Self {
        let mut builder = PrometheusBuilder::new();
        for (name, boundaries) in [
            (DECISION, PROCESS_SECONDS),
            (OVERHEAD, PROCESS_SECONDS),
            (SYNC, NETWORK_SECONDS),
            (CALL, NETWORK_SECONDS),
            (STATE_FLUSH, NETWORK_SECONDS),
            (REGISTRY_FLUSH, NETWORK_SECONDS),
            (SERVER_OPERATION, NETWORK_SECONDS),
            (CLIENT_OPERATION, NETWORK_SECONDS),
        ] {
            // The builder refuses only an empty list of boundaries.
            builder = match builder.set_buckets_for_metric(Matcher::Full(name.to_owned()), boundaries) {
                Ok(builder) => builder,
                Err(_) => PrometheusBuilder::new(),
            };
        }
        let recorder = builder.build_recorder();
        let handle = recorder.handle();
        for (name, text) in [
            (DECISION, "Time of a policy decision"),
            (OVERHEAD, "Time of a call spent in the gateway, upstream not counted"),
            (SYNC, "Time of the phases of a sync: fetch, connect, list, sync"),
            (CALL, "Time of a tool call, upstream included"),
            (STATE_FLUSH, "Time of a write of last known good state"),
            (REGISTRY_FLUSH, "Time of a write of the registry's document"),
            (SERVER_OPERATION, "Time of an MCP request answered by this gateway"),
            (CLIENT_OPERATION, "Time of an MCP request sent by this gateway"),
        ] {
            recorder.describe_histogram(KeyName::from_const_str(name), Some(Unit::Seconds), text.into());
        }
        for (name, text) in [
            (REFRESHES, "Refreshes by kind of subject and outcome"),
            (FAULTS, "Faults of the deployed policy; the default decided"),
            (DRIFT, "Tool definitions that changed upstream"),
            (REJECTED_MAPS, "Service maps that were refused, by class: decode, signature, schema, expiry, rollback"),
            (UNREACHABLE_MAPS, "Fetches that brought no service map, by class: config, transport, http"),
            (FROZEN_MAPS, "Answers that confirmed the service map and made it no fresher, by reason"),
            (REFUSED_CALLS, "Calls refused by the gateway, by connector and reason"),
            (REFUSED_REQUESTS, "Requests refused at the door, by reason"),
        ] {
            recorder.describe_counter(KeyName::from_const_str(name), None, text.into());
        }
        Self { recorder, handle }
    }

    /// A policy decided.
    pub fn decision(&self, function: &'static str, took: Duration) {
        self.histogram(DECISION, [("function", function.into())]).record(took);
    }

    /// The deployed policy faulted.
    pub fn policy_fault(&self, function: &'static str) {
        self.counter(FAULTS, [("function", function.into())]).increment(1);
    }

    /// A phase of a sync ended: `fetch`, `connect`, `list`, or `sync` for the whole.
    pub fn sync_phase(&self, phase: &'static str, took: Duration) {
        self.histogram(SYNC, [("phase", phase.into())]).record(took);
    }

    /// A refresh ended; `subject` is its kind.
    pub fn refresh(&self, subject: &'static str, outcome: RefreshOutcome) {
        let outcome = match outcome {
            RefreshOutcome::Succeeded => "succeeded",
            RefreshOutcome::Failed => "failed",
        };
        self.counter(REFRESHES, [("subject", subject.into()), ("outcome", outcome.into())]).increment(1);
    }

    /// A call through a connector ended.
    pub fn call(&self, connector: &str, took: Duration, outcome: CallOutcome) {
        self.histogram(CALL, [("connector", connector.to_owned().into())]).record(took);
        let labels = [
            ("mcp_method_name", "tools/call".into()),
            ("error_type", outcome.error_type().into()),
            ("connector", connector.to_owned().into()),
        ];
        self.histogram(CLIENT_OPERATION, labels).record(took);
    }

    /// The gateway's own share of a call.
    pub fn overhead(&self, took: Duration) {
        self.histogram(OVERHEAD, []).record(took);
    }

    /// The gateway answered a request; `method` is one it knows, or `other`.
    pub fn served(&self, method: &'static str, took: Duration, outcome: CallOutcome) {
        let labels = [("mcp_method_name", method.into()), ("error_type", outcome.error_type().into())];
        self.histogram(SERVER_OPERATION, labels).record(took);
    }

    /// Last known good state was written.
    pub fn state_flush(&self, took: Duration) {
        self.histogram(STATE_FLUSH, []).record(took);
    }

    /// The registry's document was written.
    pub fn registry_flush(&self, took: Duration) {
        self.histogram(REGISTRY_FLUSH, []).record(took);
    }

    /// Tool definitions of a connector changed.
    pub fn drift(&self, connector: &str, changes: usize) {
        let changes = u64::try_from(changes).unwrap_or(u64::MAX);
        self.counter(DRIFT, [("connector", connector.to_owned().into())]).increment(changes);
    }

    /// A service map was not brought, or was refused.
    pub fn map_failed(&self, group: FailureGroup) {
        let name = match group {
            FailureGroup::Config | FailureGroup::Transport | FailureGroup::Http => UNREACHABLE_MAPS,
            FailureGroup::Decode
            | FailureGroup::Signature
            | FailureGroup::Schema
            | FailureGroup::Expiry
            | FailureGroup::Rollback => REJECTED_MAPS,
        };
        self.counter(name, [("class", group.as_str().into())]).increment(1);
    }

    /// The origin of the service map confirmed a map past its expiry, or another one than is held.
    pub fn map_frozen(&self, reason: String) {
        self.counter(FROZEN_MAPS, [("reason", reason.into())]).increment(1);
    }

    /// A call was refused before it reached its connector.
    pub fn call_refused(&self, connector: &str, reason: &'static str) {
        let labels = [("connector", connector.to_owned().into()), ("reason", reason.into())];
        self.counter(REFUSED_CALLS, labels).increment(1);
    }

    /// A request was refused at the door.
    pub fn request_refused(&self, reason: &'static str) {
        self.counter(REFUSED_REQUESTS, [("reason", reason.into())]).increment(1);
    }

    /// Everything, in Prometheus text.
    pub fn render(&self) -> String {
        self.handle.run_upkeep();
        self.handle.render()
    }

    fn histogram<const N: usize>(&self, name: &'static str, labels: [(&'static str, SharedString); N]) -> Histogram {
        self.recorder.register_histogram(&key(name, labels), &METADATA)
    }

    fn counter<const N: usize>(&self, name: &'static str, labels: [(&'static str, SharedString); N]) -> Counter {
        self.recorder.register_counter(&key(name, labels), &METADATA)
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl std::fmt::Debug for Metrics {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Metrics")
    }
}

const METADATA: Metadata<'static> = Metadata::new(module_path!(), Level::INFO, None);

fn key<const N: usize>(name: &'static str, labels: [(&'static str, SharedString); N]) -> Key {
    let labels: Vec<Label> = labels.into_iter().map(|(name, value)| Label::new(name, value)).collect();
    Key::from_parts(name, labels)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn histograms_are_in_seconds_with_buckets_and_labels() {
        let metrics = Metrics::new();
        metrics.decision("refresh", Duration::from_micros(3));
        metrics.call("demo", Duration::from_millis(30), CallOutcome::ToolError);
        let text = metrics.render();
        assert!(
            text.contains("mcp_policy_decision_duration_seconds_bucket{function=\"refresh\",le=\"0.000005\"} 1"),
            "{text}"
        );
        assert!(text.contains("mcp_tool_call_duration_seconds_count{connector=\"demo\"} 1"), "{text}");
        assert!(text.contains("error_type=\"tool_error\""), "{text}");
    }

    #[test]
    fn two_gateways_count_apart() {
        let (one, two) = (Metrics::new(), Metrics::new());
        one.map_failed(FailureGroup::Rollback);
        assert!(one.render().contains("mcp_service_map_rejected_total{class=\"rollback\"} 1"));
        assert!(!two.render().contains("rollback"));
    }

    #[test]
    fn maps_that_were_refused_and_maps_that_were_not_reached_are_counted_apart() {
        let metrics = Metrics::new();
        for group in [FailureGroup::Transport, FailureGroup::Http, FailureGroup::Decode, FailureGroup::Signature] {
            metrics.map_failed(group);
        }
        let text = metrics.render();
        let counted = |name: &str| text.lines().filter(|line| line.starts_with(&format!("{name}{{"))).count();
        assert_eq!((counted(REJECTED_MAPS), counted(UNREACHABLE_MAPS)), (2, 2), "{text}");
    }
}
