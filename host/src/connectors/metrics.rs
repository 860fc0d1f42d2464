//! The metrics of connectors: a set of handles for each, made once and held by whoever counts.
//!
//! A connector's series exist as long as its handles do. A connector that comes back while its former self still drains
//! shares the series with it, so that counters go on and the end of the former one takes nothing away.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _, MetricEncoder};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Unit;

use super::call::CallError;
use super::connector_headers::CredentialState;
use super::definitions::DefinitionKind;
use crate::mcp::protocol::{COMPLETION_COMPLETE, PROMPTS_GET, RESOURCES_READ, TOOLS_CALL};
use crate::mcp::{ErrorType, Inbound};
use crate::model::ConnectorId;
use crate::telemetry::{
    ClosedFamily, Label, MetricRegistry, RefreshMetrics, labels, network_seconds, observe, process_seconds,
};

labels! {
    /// Why the gateway refused a call.
    pub(super) enum CallRefusal as "reason" {
        BreakerOpen = "breaker-open",
        Quota = "quota",
        Busy = "busy",
        Throttled = "throttled",
    }
}

labels! {
    /// A method that connectors are called with.
    enum CalledMethod as "mcp_method_name" {
        ToolsCall = TOOLS_CALL,
        PromptsGet = PROMPTS_GET,
        ResourcesRead = RESOURCES_READ,
        Complete = COMPLETION_COMPLETE,
        Other = "other",
    }
}

/// The metrics of all connectors of a gateway. Clones share the series.
#[derive(Clone, Debug)]
pub struct ConnectorsMetrics {
    /// Of refreshes in general.
    pub(super) refreshes: RefreshMetrics,
    overhead: Histogram,
    connectors: Arc<Connectors>,
}

impl ConnectorsMetrics {
    /// Registers them, except those of refreshes.
    pub fn new(registry: &mut MetricRegistry, refreshes: RefreshMetrics) -> Self {
        let metrics = Self { refreshes, overhead: process_seconds(), connectors: Arc::default() };
        let help = "Time of a call spent in the gateway, upstream not counted";
        registry.register_with_unit("mcp_gateway_overhead", help, Unit::Seconds, metrics.overhead.clone());
        registry.register_collector(Box::new(metrics.connectors.clone()));
        metrics
    }

    /// Returns the handles of a connector: those that exist, else new ones.
    pub(super) fn connector(&self, id: &ConnectorId) -> Arc<ConnectorMetrics> {
        let mut connectors = self.connectors.lock();
        if let Some(existing) = connectors.get(id).and_then(Weak::upgrade) {
            return existing;
        }
        let metrics = Arc::new(ConnectorMetrics {
            id: id.clone(),
            calls: network_seconds(),
            operations: ClosedFamily::on_demand(network_seconds),
            refused: ClosedFamily::complete(Counter::default),
            definitions: ClosedFamily::complete(Counter::default),
            inbound: Arc::new(Inbound::new(id.clone())),
            refused_credentials: ClosedFamily::complete(Counter::default),
            connectors: self.connectors.clone(),
        });
        connectors.insert(id.clone(), Arc::downgrade(&metrics));
        metrics
    }

    /// Records the gateway's own share of a call.
    pub(super) fn overhead(&self, took: Duration) {
        observe(&self.overhead, took);
    }
}

impl Default for ConnectorsMetrics {
    fn default() -> Self {
        Self::new(&mut MetricRegistry::default(), RefreshMetrics::default())
    }
}

/// The handles of one connector. Its series vanish with the last of them.
#[derive(Debug)]
pub(super) struct ConnectorMetrics {
    id: ConnectorId,
    calls: Histogram,
    /// On demand: of some 170 combinations, a connector uses a few.
    operations: ClosedFamily<(CalledMethod, ErrorType), Histogram>,
    refused: ClosedFamily<CallRefusal, Counter>,
    definitions: ClosedFamily<DefinitionKind, Counter>,
    /// What applies to its server's messages, with the counts of those that break a rule.
    pub(super) inbound: Arc<Inbound>,
    refused_credentials: ClosedFamily<CredentialState, Counter>,
    connectors: Arc<Connectors>,
}

impl ConnectorMetrics {
    /// Records a call that ended.
    pub(super) fn called(&self, method: &str, took: Duration, error: ErrorType) {
        let known = CalledMethod::ALL.iter().find(|known| known.value() == method);
        let method = known.copied().unwrap_or(CalledMethod::Other);
        if method == CalledMethod::ToolsCall {
            observe(&self.calls, took);
        }
        observe(self.operations.get((method, error)), took);
    }

    /// Counts a call that was refused before it reached the connector; any other error counts nothing.
    pub(super) fn refused(&self, error: &CallError) {
        if let Some(reason) = refusal(error) {
            self.refused.get(reason).inc();
        }
    }

    /// Counts a request whose credential the server refused.
    pub(super) fn credential_refused(&self, state: CredentialState) {
        self.refused_credentials.get(state).inc();
    }

    /// Counts definitions that changed.
    pub(super) fn definitions_changed(&self, kind: DefinitionKind, changes: usize) {
        self.definitions.get(kind).inc_by(u64::try_from(changes).unwrap_or(u64::MAX));
    }
}

impl Drop for ConnectorMetrics {
    fn drop(&mut self) {
        let mut connectors = self.connectors.lock();
        // Between the end of the last handle and this, others may have been made under the same name.
        if connectors.get(&self.id).is_some_and(|known| std::ptr::eq(known.as_ptr(), self)) {
            connectors.remove(&self.id);
        }
    }
}

/// The connectors that have handles.
#[derive(Default)]
struct Connectors(Mutex<BTreeMap<ConnectorId, Weak<ConnectorMetrics>>>);

impl Connectors {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<ConnectorId, Weak<ConnectorMetrics>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The handles of all of them. They are dropped without the lock: the last one takes it.
    fn all(&self) -> Vec<Arc<ConnectorMetrics>> {
        self.lock().values().filter_map(Weak::upgrade).collect()
    }
}

impl fmt::Debug for Connectors {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Connectors").finish_non_exhaustive()
    }
}

impl Collector for Connectors {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let all = self.all();
        if all.is_empty() {
            return Ok(());
        }
        let help = "Time of a tool call, upstream included.";
        let unit = Some(&Unit::Seconds);
        let mut family = encoder.encode_descriptor("mcp_tool_call_duration", help, unit, MetricType::Histogram)?;
        each(&all, &mut family, |of, labels, family| of.calls.encode(family.encode_family(labels)?))?;
        if all.iter().any(|connector| !connector.operations.is_empty()) {
            let (name, help) = ("mcp_client_operation_duration", "Time of an MCP request sent by this gateway.");
            let mut family = encoder.encode_descriptor(name, help, unit, MetricType::Histogram)?;
            each(&all, &mut family, |of, labels, family| of.operations.encode_with(labels, family))?;
        }
        let help = "Calls refused by the gateway, by connector and reason.";
        let mut family = encoder.encode_descriptor("mcp_calls_refused", help, None, MetricType::Counter)?;
        each(&all, &mut family, |of, labels, family| of.refused.encode_with(labels, family))?;
        let help = "Definitions that became other ones than were approved, by connector and list.";
        let mut family = encoder.encode_descriptor("mcp_tool_definition_changes", help, None, MetricType::Counter)?;
        each(&all, &mut family, |of, labels, family| of.definitions.encode_with(labels, family))?;
        let help = "Messages of servers that break a rule of the protocol, by connector and reason.";
        let mut family = encoder.encode_descriptor("mcp_upstream_irregularities", help, None, MetricType::Counter)?;
        each(&all, &mut family, |of, labels, family| of.inbound.irregularities.counts().encode_with(labels, family))?;
        let help = "Requests whose credential the server refused, by connector and HTTP status.";
        let mut family = encoder.encode_descriptor("mcp_credential_refusals", help, None, MetricType::Counter)?;
        each(&all, &mut family, |of, labels, family| of.refused_credentials.encode_with(labels, family))
    }
}

/// Writes the series of each connector in a family.
fn each(
    all: &[Arc<ConnectorMetrics>],
    family: &mut MetricEncoder<'_>,
    write: impl Fn(&ConnectorMetrics, &[(&'static str, &str); 1], &mut MetricEncoder<'_>) -> fmt::Result,
) -> fmt::Result {
    all.iter().try_for_each(|connector| write(connector, &[("connector", connector.id.as_str())], family))
}

impl Label for CredentialState {
    const NAME: &'static str = "status";
    const ALL: &'static [Self] = &[Self::Unauthorized, Self::Forbidden];

    fn value(self) -> &'static str {
        match self {
            Self::Unauthorized => "401",
            Self::Forbidden => "403",
        }
    }

    fn index(self) -> usize {
        self as usize
    }
}

impl Label for DefinitionKind {
    const NAME: &'static str = "kind";
    const ALL: &'static [Self] = &Self::ALL;

    fn value(self) -> &'static str {
        self.as_str()
    }

    fn index(self) -> usize {
        self as usize
    }
}

fn refusal(error: &CallError) -> Option<CallRefusal> {
    match error {
        CallError::BreakerOpen { .. } => Some(CallRefusal::BreakerOpen),
        CallError::Quota { .. } => Some(CallRefusal::Quota),
        CallError::Busy { .. } => Some(CallRefusal::Busy),
        CallError::Throttled { .. } => Some(CallRefusal::Throttled),
        CallError::NoTool(_)
        | CallError::NoConnector(_)
        | CallError::NoList { .. }
        | CallError::Disconnected { .. }
        | CallError::Failed { .. }
        | CallError::AnswerLost { .. } => None,
    }
}

impl From<&CallError> for ErrorType {
    fn from(error: &CallError) -> Self {
        match error {
            CallError::NoTool(_) | CallError::NoConnector(_) | CallError::NoList { .. } => Self::Other,
            CallError::Disconnected { .. } => Self::Cancelled,
            CallError::BreakerOpen { .. } => Self::BreakerOpen,
            CallError::Quota { .. } => Self::Quota,
            CallError::Busy { .. } => Self::Busy,
            CallError::Throttled { .. } => Self::Throttled,
            CallError::Failed { failure, .. } | CallError::AnswerLost { failure, .. } => failure.class.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::{MetricsFormat, encode};

    struct Scraped {
        registry: MetricRegistry,
        metrics: ConnectorsMetrics,
    }

    impl Scraped {
        fn new() -> Self {
            let mut registry = MetricRegistry::default();
            let metrics = ConnectorsMetrics::new(&mut registry, RefreshMetrics::default());
            Self { registry, metrics }
        }

        fn lines(&self, part: &str) -> Vec<String> {
            let text = encode(MetricsFormat::Prometheus, [&self.registry, &MetricRegistry::default()]);
            text.lines().filter(|line| line.contains(part)).map(str::to_owned).collect()
        }
    }

    fn id(id: &str) -> ConnectorId {
        id.parse().unwrap()
    }

    fn busy() -> CallError {
        CallError::Busy { connector: id("live"), retry_after: Duration::ZERO }
    }

    mod series {
        use super::*;

        #[test]
        fn begin_at_zero_and_vanish_with_their_connector() {
            let scraped = Scraped::new();
            assert_eq!(scraped.lines("connector").len(), 0);
            let handles = scraped.metrics.connector(&id("live"));
            assert_eq!(
                scraped.lines("mcp_calls_refused_total{"),
                ["breaker-open", "quota", "busy", "throttled"]
                    .map(|reason| format!("mcp_calls_refused_total{{connector=\"live\",reason=\"{reason}\"}} 0"))
            );
            assert_eq!(scraped.lines("mcp_tool_definition_changes_total{").len(), DefinitionKind::ALL.len());
            drop(handles);
            assert_eq!(scraped.lines("connector=\"live\"").len(), 0);
            assert!(scraped.metrics.connectors.lock().is_empty());
        }

        #[test]
        fn of_a_connector_that_came_back_outlive_its_former_self() {
            let scraped = Scraped::new();
            let draining = scraped.metrics.connector(&id("live"));
            draining.refused(&busy());
            let again = scraped.metrics.connector(&id("live"));
            again.refused(&busy());
            drop(draining);
            let counted = "mcp_calls_refused_total{connector=\"live\",reason=\"busy\"} 2";
            assert_eq!(scraped.lines("reason=\"busy\""), [counted]);
        }

        #[test]
        fn of_one_that_comes_back_while_the_last_handle_is_dropped_are_kept() {
            let scraped = Scraped::new();
            // What the drop of the last handle sees if another connector took its place before it had the lock.
            let former = scraped.metrics.connector(&id("live"));
            scraped.metrics.connectors.lock().clear();
            let again = scraped.metrics.connector(&id("live"));
            drop(former);
            assert_eq!(scraped.lines("mcp_tool_definition_changes_total{").len(), DefinitionKind::ALL.len());
            drop(again);
            assert_eq!(scraped.lines("mcp_tool_definition_changes_total{").len(), 0);
        }

        #[test]
        fn are_no_more_after_a_hundred_thousand_calls_than_after_one_of_each() {
            let scraped = Scraped::new();
            let handles = scraped.metrics.connector(&id("live"));
            let methods = [TOOLS_CALL, PROMPTS_GET, "made/up", "also/made/up"];
            let each = || {
                for (method, error) in methods.iter().flat_map(|method| ErrorType::ALL.iter().map(move |e| (method, e)))
                {
                    handles.called(method, Duration::from_millis(3), *error);
                }
            };
            each();
            let before = scraped.lines("connector=\"live\"").len();
            (0..1_000).for_each(|_| each());
            assert_eq!(scraped.lines("connector=\"live\"").len(), before);
        }
    }

    #[test]
    fn calls_are_named_by_method_and_error() {
        let scraped = Scraped::new();
        let handles = scraped.metrics.connector(&id("live"));
        handles.called(TOOLS_CALL, Duration::from_millis(30), ErrorType::ToolError);
        handles.called(PROMPTS_GET, Duration::from_millis(30), ErrorType::InvalidParams);
        for series in [
            "mcp_tool_call_duration_seconds_count{connector=\"live\"} 1",
            "mcp_tool_call_duration_seconds_bucket{connector=\"live\",le=\"0.05\"} 1",
            "mcp_client_operation_duration_seconds_count{connector=\"live\",mcp_method_name=\"tools/call\",error_type=\"tool_error\"} 1",
            "mcp_client_operation_duration_seconds_count{connector=\"live\",mcp_method_name=\"prompts/get\",error_type=\"-32602\"} 1",
        ] {
            assert_eq!(scraped.lines(series).len(), 1, "{series} in {:#?}", scraped.lines(""));
        }
    }

    #[test]
    fn recording_calls_allocates_nothing() {
        let scraped = Scraped::new();
        let handles = scraped.metrics.connector(&id("live"));
        handles.called(TOOLS_CALL, Duration::from_millis(3), ErrorType::None);
        let refused = busy();
        let counted = allocation_counter::measure(|| {
            for _ in 0..10_000 {
                handles.called(TOOLS_CALL, Duration::from_millis(3), ErrorType::None);
                handles.refused(&refused);
                scraped.metrics.overhead(Duration::from_micros(5));
            }
        });
        assert_eq!(counted.count_total, 0);
    }
}
