//! One sink that hands every decision to several.

use std::sync::Arc;

use crate::policy::{DecisionRecord, DecisionSink, Swap};

/// Hands every decision to each of its sinks, in their order.
pub struct FanOut(Vec<Arc<dyn DecisionSink>>);

impl FanOut {
    /// Hands them to these.
    pub fn new(sinks: Vec<Arc<dyn DecisionSink>>) -> Self {
        Self(sinks)
    }
}

impl DecisionSink for FanOut {
    fn wants_records(&self) -> bool {
        self.0.iter().any(|sink| sink.wants_records())
    }

    fn record(&self, record: Arc<DecisionRecord>) {
        for sink in &self.0 {
            if sink.wants_records() {
                sink.record(record.clone());
            }
        }
    }

    fn swapped(&self, swap: &Swap) {
        for sink in &self.0 {
            sink.swapped(swap);
        }
    }
}
