//! The metrics of decisions.

use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Unit;

use super::function::Function;
use crate::telemetry::{ClosedFamily, Label, MetricRegistry, observe, process_seconds};

/// Measures decisions and counts faults, by function of the contract. Clones share the series.
#[derive(Clone, Debug)]
pub struct PolicyMetrics {
    decisions: ClosedFamily<Function, Histogram>,
    faults: ClosedFamily<Function, Counter>,
}

impl PolicyMetrics {
    /// Registers them.
    pub fn new(registry: &mut MetricRegistry) -> Self {
        let metrics = Self {
            decisions: ClosedFamily::complete(process_seconds),
            faults: ClosedFamily::complete(Counter::default),
        };
        let help = "Time of a policy decision";
        registry.register_with_unit("mcp_policy_decision_duration", help, Unit::Seconds, metrics.decisions.clone());
        let help = "Faults of the deployed policy; the default decided";
        registry.register("mcp_policy_faults", help, metrics.faults.clone());
        metrics
    }

    /// Records how long a decision took.
    pub(super) fn decided(&self, function: Function, took: Duration) {
        observe(self.decisions.get(function), took);
    }

    /// Counts a fault of the deployed policy.
    pub(super) fn faulted(&self, function: Function) {
        self.faults.get(function).inc();
    }
}

impl Default for PolicyMetrics {
    fn default() -> Self {
        Self::new(&mut MetricRegistry::default())
    }
}

impl Label for Function {
    const NAME: &'static str = "function";
    const ALL: &'static [Self] = &Self::ALL;

    fn value(self) -> &'static str {
        self.name()
    }

    fn index(self) -> usize {
        self as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recording_decisions_and_faults_allocates_nothing() {
        let metrics = PolicyMetrics::default();
        let counted = allocation_counter::measure(|| {
            for _ in 0..10_000 {
                for function in Function::ALL {
                    metrics.decided(function, Duration::from_micros(3));
                    metrics.faulted(function);
                }
            }
        });
        assert_eq!(counted.count_total, 0);
    }

    #[test]
    fn functions_stand_at_their_index() {
        assert!(Function::ALL.iter().enumerate().all(|(index, function)| Label::index(*function) == index));
    }
}
