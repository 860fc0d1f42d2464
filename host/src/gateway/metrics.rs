//! The metrics of the server side, and which of its refusals are logged.

use std::sync::Arc;
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Unit;

use crate::edge::state::Written;
use crate::mcp::ErrorType;
use crate::mcp::envelope::{EnvelopeError, InvalidReason};
use crate::mcp::protocol::{
    COMPLETION_COMPLETE, INITIALIZE, LOGGING_SET_LEVEL, PING, PROMPTS_GET, RESOURCES_READ, RESOURCES_SUBSCRIBE,
    RESOURCES_UNSUBSCRIBE, SERVER_DISCOVER, SUBSCRIPTIONS_LISTEN, TOOLS_CALL,
};
use crate::model::ListKind;
use crate::telemetry::{
    ClosedFamily, Label as _, LogLimit, LogLine, MetricRegistry, labels, limits, network_seconds, observe,
};

labels! {
    /// Why a client was refused: a request, a session, a connection, or the rest of its messages. A new reason is a line here.
    pub(super) enum RequestRefusal as "reason" {
        RepeatedHeader = "repeated-header",
        Host = "host",
        Origin = "origin",
        Token = "token",
        Admin = "admin",
        Part = "part",
        NotLocal = "not-local",
        Proxied = "proxied",
        Page = "page",
        Rate = "rate",
        BodySize = "body-size",
        BodyBroken = "body-broken",
        BodyTimeout = "body-timeout",
        BodyBudget = "body-budget",
        Connections = "connections",
        PendingConnections = "pending-connections",
        PendingTimeout = "pending-timeout",
        IdleConnections = "idle-connections",
        UnreadAnswers = "unread-answers",
        Sessions = "sessions",
        AmbiguousMembers = "ambiguous-members",
        SlowClient = "slow-client",
    }
}

labels! {
    /// A method that is served; metrics name no others.
    pub(super) enum ServedMethod as "mcp_method_name" {
        Initialize = INITIALIZE,
        Discover = SERVER_DISCOVER,
        Ping = PING,
        ToolsList = ListKind::Tools.method(),
        PromptsList = ListKind::Prompts.method(),
        ResourcesList = ListKind::Resources.method(),
        TemplatesList = ListKind::Templates.method(),
        ToolsCall = TOOLS_CALL,
        PromptsGet = PROMPTS_GET,
        ResourcesRead = RESOURCES_READ,
        Complete = COMPLETION_COMPLETE,
        Subscribe = RESOURCES_SUBSCRIBE,
        Unsubscribe = RESOURCES_UNSUBSCRIBE,
        SetLevel = LOGGING_SET_LEVEL,
        Listen = SUBSCRIPTIONS_LISTEN,
        Other = "other",
    }
}

impl ServedMethod {
    /// Returns a method as metrics name it.
    pub(super) fn of(method: &str) -> Self {
        Self::ALL.iter().copied().find(|known| known.value() == method).unwrap_or(Self::Other)
    }
}

/// Counts what is refused and measures what is served. Clones share the series.
#[derive(Clone, Debug)]
pub(super) struct ServerMetrics {
    refused: ClosedFamily<RequestRefusal, Counter>,
    lines: Arc<LogLimit<RequestRefusal>>,
    served: ClosedFamily<(ServedMethod, ErrorType), Histogram>,
}

impl ServerMetrics {
    /// Registers them.
    pub(super) fn new(registry: &mut MetricRegistry) -> Self {
        let metrics = Self {
            refused: ClosedFamily::complete(Counter::default),
            lines: Arc::new(LogLimit::new(limits::REFUSAL_LINES)),
            served: ClosedFamily::on_demand(network_seconds),
        };
        registry.register("mcp_requests_refused", "Requests refused at the door, by reason", metrics.refused.clone());
        let help = "Time of an MCP request answered by this gateway";
        registry.register_with_unit("mcp_server_operation_duration", help, Unit::Seconds, metrics.served.clone());
        metrics
    }

    /// Counts a refusal. Returns whether it may be logged: whoever is refused decides how often, so that lines are limited.
    #[must_use]
    pub(super) fn request_refused(&self, reason: RequestRefusal) -> Option<LogLine> {
        self.refused.get(reason).inc();
        self.lines.admit(reason)
    }

    /// Counts and logs a message that two servers could read differently. The reason names the gateway's own words only.
    pub(super) fn ambiguous_members(&self, reason: &str) {
        if let Some(line) = self.request_refused(RequestRefusal::AmbiguousMembers) {
            tracing::warn!(reason, left_out = line.left_out, "request refused: ambiguous members");
        }
    }

    /// The same for a message that could not be read, if that is why.
    pub(super) fn envelope_refused(&self, error: &EnvelopeError) {
        if let EnvelopeError::Invalid { reason: InvalidReason::Misspelled(_), .. } = error {
            self.ambiguous_members(&error.to_string());
        }
    }

    /// Records a request that was answered.
    pub(super) fn served(&self, method: ServedMethod, took: Duration, error: ErrorType) {
        observe(self.served.get((method, error)), took);
    }
}

impl Default for ServerMetrics {
    fn default() -> Self {
        Self::new(&mut MetricRegistry::default())
    }
}

/// Measures writes of last known good state. Clones share the series.
#[derive(Clone, Debug)]
pub(super) struct StateMetrics {
    flushes: Histogram,
    records: Counter,
    bytes: Counter,
    compacted: Counter,
}

impl StateMetrics {
    /// Registers them.
    pub(super) fn new(registry: &mut MetricRegistry) -> Self {
        let metrics = Self {
            flushes: network_seconds(),
            records: Counter::default(),
            bytes: Counter::default(),
            compacted: Counter::default(),
        };
        let help = "Records of last known good state written or removed";
        registry.register("mcp_state_records_written", help, metrics.records.clone());
        let help = "Bytes of last known good state written for changed records";
        registry.register_with_unit("mcp_state_written", help, Unit::Bytes, metrics.bytes.clone());
        let help = "Bytes of last known good state copied by compactions";
        registry.register_with_unit("mcp_state_compacted", help, Unit::Bytes, metrics.compacted.clone());
        let help = "Time of a write of last known good state";
        registry.register_with_unit("mcp_state_flush_duration", help, Unit::Seconds, metrics.flushes.clone());
        metrics
    }

    /// Records how long a write took, and what it wrote.
    pub(super) fn flushed(&self, took: Duration, written: Written) {
        observe(&self.flushes, took);
        self.records.inc_by(written.records);
        self.bytes.inc_by(written.bytes);
    }

    /// Records what a compaction copied.
    pub(super) fn compacted(&self, bytes: u64) {
        self.compacted.inc_by(bytes);
    }
}

impl Default for StateMetrics {
    fn default() -> Self {
        Self::new(&mut MetricRegistry::default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recording_what_is_refused_and_served_allocates_nothing() {
        let metrics = ServerMetrics::default();
        metrics.served(ServedMethod::ToolsCall, Duration::from_millis(3), ErrorType::None);
        let counted = allocation_counter::measure(|| {
            for _ in 0..10_000 {
                let method = ServedMethod::of(TOOLS_CALL);
                metrics.served(method, Duration::from_millis(3), ErrorType::None);
                let _ = metrics.request_refused(RequestRefusal::Token);
            }
        });
        assert_eq!(counted.count_total, 0);
    }

    /// Measured before: 65 MB of lines a minute from one connection.
    #[tokio::test(start_paused = true)]
    async fn a_reason_writes_ten_lines_a_minute_and_counts_every_refusal() {
        let metrics = ServerMetrics::default();
        let mut written = 0;
        for _ in 0..6_000 {
            written += u64::from(metrics.request_refused(RequestRefusal::Token).is_some());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert_eq!((written, metrics.refused.get(RequestRefusal::Token).get()), (10, 6_000));
        assert!(metrics.request_refused(RequestRefusal::Host).is_some(), "another reason has its own lines");
    }
}
