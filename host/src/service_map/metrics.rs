//! The metrics of a service map that is refreshed.

use prometheus_client::metrics::counter::Counter;

use crate::model::FailureGroup;
use crate::policy::contract::AdvanceReason;
use crate::telemetry::{ClosedFamily, MetricRegistry, RefreshMetrics, labels};

labels! {
    /// Why a fetch brought no map.
    enum Unreachable as "class" {
        Config = "config",
        Transport = "transport",
        Http = "http",
    }
}

labels! {
    /// Why a map was refused.
    enum Rejected as "class" {
        Decode = "decode",
        Signature = "signature",
        Schema = "schema",
        Expiry = "expiry",
        Rollback = "rollback",
    }
}

labels! {
    /// Why an answer that confirmed the map made it no fresher.
    enum Frozen as "reason" {
        PastExpiry = "frozen",
        OtherMap = "confirmed-other",
    }
}

/// Counts what came of fetches. Clones share the series.
#[derive(Clone, Debug)]
pub struct MapMetrics {
    /// Of refreshes in general.
    pub(super) refreshes: RefreshMetrics,
    unreachable: ClosedFamily<Unreachable, Counter>,
    rejected: ClosedFamily<Rejected, Counter>,
    frozen: ClosedFamily<Frozen, Counter>,
}

impl MapMetrics {
    /// Registers them, except those of refreshes.
    pub fn new(registry: &mut MetricRegistry, refreshes: RefreshMetrics) -> Self {
        let metrics = Self {
            refreshes,
            unreachable: ClosedFamily::complete(Counter::default),
            rejected: ClosedFamily::complete(Counter::default),
            frozen: ClosedFamily::complete(Counter::default),
        };
        let help = "Fetches that brought no service map, by class: config, transport, http";
        registry.register("mcp_service_map_unreachable", help, metrics.unreachable.clone());
        let help = "Service maps that were refused, by class: decode, signature, schema, expiry, rollback";
        registry.register("mcp_service_map_rejected", help, metrics.rejected.clone());
        let help = "Answers that confirmed the service map and made it no fresher, by reason";
        registry.register("mcp_service_map_frozen", help, metrics.frozen.clone());
        metrics
    }

    /// Counts a map that was not brought, or was refused.
    pub(super) fn failed(&self, group: FailureGroup) {
        let counter = match group {
            FailureGroup::Config => self.unreachable.get(Unreachable::Config),
            FailureGroup::Transport => self.unreachable.get(Unreachable::Transport),
            FailureGroup::Http => self.unreachable.get(Unreachable::Http),
            FailureGroup::Decode => self.rejected.get(Rejected::Decode),
            FailureGroup::Signature => self.rejected.get(Rejected::Signature),
            FailureGroup::Schema => self.rejected.get(Rejected::Schema),
            FailureGroup::Expiry => self.rejected.get(Rejected::Expiry),
            FailureGroup::Rollback => self.rejected.get(Rejected::Rollback),
        };
        counter.inc();
    }

    /// Counts an answer that confirmed the map and made it no fresher; any other reason counts nothing.
    pub(super) fn confirmed(&self, reason: AdvanceReason) {
        match reason {
            AdvanceReason::Frozen => self.frozen.get(Frozen::PastExpiry).inc(),
            AdvanceReason::ConfirmedOther => self.frozen.get(Frozen::OtherMap).inc(),
            _ => 0,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::{MetricsFormat, encode};

    #[test]
    fn maps_that_were_refused_and_maps_that_were_not_reached_are_counted_apart_and_from_zero() {
        let (mut registry, mut other) = (MetricRegistry::default(), MetricRegistry::default());
        let metrics = MapMetrics::new(&mut registry, RefreshMetrics::default());
        let _apart = MapMetrics::new(&mut other, RefreshMetrics::default());
        for group in [FailureGroup::Transport, FailureGroup::Http, FailureGroup::Decode, FailureGroup::Signature] {
            metrics.failed(group);
        }
        let counted = |registry: &MetricRegistry| {
            let text = encode(MetricsFormat::Prometheus, [registry, &MetricRegistry::default()]);
            ["rejected", "unreachable", "frozen"].map(|name| {
                let series = format!("mcp_service_map_{name}_total{{");
                let lines: Vec<&str> = text.lines().filter(|line| line.starts_with(&series)).collect();
                (lines.len(), lines.iter().filter(|line| line.ends_with(" 1")).count())
            })
        };
        assert_eq!(counted(&registry), [(5, 2), (3, 2), (2, 0)]);
        assert_eq!(counted(&other), [(5, 0), (3, 0), (2, 0)], "two gateways count apart");
    }
}
