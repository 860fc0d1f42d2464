//! The recording hook: who is handed each decision, and told of each swap. It is called once per decision on the deciding
//! thread, must not block and must not fail.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use super::component::PolicyComponent;
use super::record::DecisionRecord;
use crate::model::Moment;

/// Takes records. Called on the deciding thread: it must neither block nor fail.
pub trait DecisionSink: Send + Sync + 'static {
    /// Whether records are wanted at all; if not, none is made.
    fn wants_records(&self) -> bool {
        true
    }

    /// Takes one. It is shared, so that several may look at it.
    fn record(&self, record: Arc<DecisionRecord>);

    /// Is told of a swap, right before it: no decision of the new component comes earlier, some of the old one may come
    /// later. It must not swap anything itself.
    fn swapped(&self, _swap: &Swap) {}
}

/// Another component took the place of the deployed one.
#[derive(Clone, Debug)]
pub struct Swap {
    /// The one that decided before.
    pub before: Arc<PolicyComponent>,
    /// The one that decides from now on.
    pub after: Arc<PolicyComponent>,
    /// How many decisions had been made. One that was under way may be numbered later and still be the old one's: its
    /// record says so.
    pub sequence: u64,
    /// When.
    pub moment: Moment,
}

/// Wants no records.
#[derive(Clone, Copy, Debug, Default)]
pub struct DiscardRecords;

impl DecisionSink for DiscardRecords {
    fn wants_records(&self) -> bool {
        false
    }

    fn record(&self, _record: Arc<DecisionRecord>) {}
}

/// Keeps the newest records in memory, for tests and for embedders that look at decisions themselves.
#[derive(Debug)]
pub struct KeepRecords {
    capacity: usize,
    records: Mutex<VecDeque<Arc<DecisionRecord>>>,
}

impl KeepRecords {
    /// Keeps at most `capacity`.
    pub fn new(capacity: usize) -> Self {
        Self { capacity, records: Mutex::default() }
    }

    /// A copy of what is kept, oldest first.
    pub fn records(&self) -> Vec<DecisionRecord> {
        self.shared().iter().map(|record| DecisionRecord::clone(record)).collect()
    }

    /// What is kept, oldest first, without copying the records.
    pub fn shared(&self) -> Vec<Arc<DecisionRecord>> {
        self.records.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }
}

impl DecisionSink for KeepRecords {
    fn record(&self, record: Arc<DecisionRecord>) {
        let mut records = self.records.lock().unwrap_or_else(PoisonError::into_inner);
        if records.len() == self.capacity {
            records.pop_front();
        }
        records.push_back(record);
    }
}
