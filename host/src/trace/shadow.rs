//! The shadow policy: a candidate that decides beside the active one, on the same state, times and seed, and is never
//! obeyed.
//!
//! It works on a thread of its own at the lowest priority, from a bounded queue: whoever decides hands the record over and
//! goes on. What the shadow has no time for is skipped and counted. Each decision of its is one step from the recorded
//! state; what it would have done after its own decisions is what a replay or a swap is for.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use serde::Serialize;

use super::format::ShadowNote;
use super::limits;
use super::replay::judge_candidate;
use super::worker::{Load, Work, Worker};
use super::writer::TraceWriter;
use crate::model::Digest;
use crate::policy::{DecisionRecord, DecisionSink, Function, PolicyComponent, Swap, lower_thread};

/// How a shadow policy stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ShadowStatus {
    /// The candidate.
    pub digest: Digest,
    /// The family of its memos.
    pub family: String,
    /// Decisions that it made, faults included.
    pub decisions: u64,
    /// Those that differ from what was decided.
    pub different: u64,
    /// Those in which it faulted.
    pub faults: u64,
    /// Decisions that it had no time for.
    pub skipped: u64,
    /// Differences by function.
    pub by_function: BTreeMap<&'static str, u64>,
}

/// Runs a candidate beside the active policy.
#[derive(Clone)]
pub struct Shadow {
    worker: Arc<Worker<Arc<DecisionRecord>>>,
    shared: Arc<Shared>,
}

struct Shared {
    candidate: Arc<PolicyComponent>,
    /// The components of the candidate's family: it understands their memos. The newest is the last.
    relatives: Mutex<VecDeque<Digest>>,
    decisions: AtomicU64,
    faults: AtomicU64,
    skipped: AtomicU64,
    different: Mutex<BTreeMap<Function, u64>>,
}

impl Shared {
    fn relatives(&self) -> MutexGuard<'_, VecDeque<Digest>> {
        self.relatives.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn different(&self) -> MutexGuard<'_, BTreeMap<Function, u64>> {
        self.different.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A component decides from now on.
    fn meet(&self, digest: Digest, family: &str) {
        let mut relatives = self.relatives();
        relatives.retain(|known| *known != digest);
        if family == self.candidate.family() {
            relatives.push_back(digest);
        }
        if relatives.len() > limits::SHADOW_RELATIVES_MAX {
            relatives.pop_front();
        }
    }

    /// Makes one decision, and notes how it differs.
    fn judge(&self, record: &DecisionRecord, trace: Option<&TraceWriter>) {
        let is_relative = self.relatives().contains(&record.decided_by.digest());
        let judged = judge_candidate(&self.candidate, record, is_relative);
        self.decisions.fetch_add(1, Ordering::Relaxed);
        let Err(difference) = judged else { return };
        if difference.is_fault() {
            self.faults.fetch_add(1, Ordering::Relaxed);
        }
        let function = record.input.function();
        let noted: u64 = {
            let mut different = self.different();
            *different.entry(function).or_default() += 1;
            different.values().sum()
        };
        if let Some(trace) = trace
            && noted <= limits::SHADOW_NOTES_MAX
        {
            trace.shadow(ShadowNote {
                shadow: self.candidate.digest(),
                sequence: record.sequence,
                subject: record.subject.clone(),
                function,
                difference,
            });
        }
    }
}

impl Shadow {
    /// Starts `candidate` beside the `active` components. Differences are noted in `trace`, if there is one.
    ///
    /// # Errors
    /// If no thread can be started.
    pub fn start(
        candidate: Arc<PolicyComponent>,
        active: &[Arc<PolicyComponent>],
        trace: Option<TraceWriter>,
    ) -> std::io::Result<Self> {
        let shared = Arc::new(Shared {
            candidate,
            relatives: Mutex::default(),
            decisions: AtomicU64::new(0),
            faults: AtomicU64::new(0),
            skipped: AtomicU64::new(0),
            different: Mutex::default(),
        });
        active.iter().for_each(|component| shared.meet(component.digest(), component.family()));
        let bounds = Load {
            records: limits::SHADOW_QUEUE_RECORDS,
            items: limits::SHADOW_QUEUE_ITEMS,
            bytes: limits::SHADOW_QUEUE_BYTES,
        };
        let work = Judging { shared: shared.clone(), trace, last_moment: None };
        let worker = Worker::start("shadow-policy", bounds, work)?;
        Ok(Self { worker: Arc::new(worker), shared })
    }

    /// How it stands.
    pub fn status(&self) -> ShadowStatus {
        let different = self.shared.different().clone();
        ShadowStatus {
            digest: self.shared.candidate.digest(),
            family: self.shared.candidate.family().to_owned(),
            decisions: self.shared.decisions.load(Ordering::Relaxed),
            different: different.values().sum(),
            faults: self.shared.faults.load(Ordering::Relaxed),
            skipped: self.shared.skipped.load(Ordering::Relaxed),
            by_function: different.into_iter().map(|(function, count)| (function.name(), count)).collect(),
        }
    }

    /// Ends it; what waits in its queue is still decided, but not for longer than [`limits::SHADOW_CLOSE_TIME`]: then it is
    /// skipped and counted.
    pub async fn close(&self) {
        if !self.worker.close(limits::CLOSE_TIMEOUT).await {
            tracing::warn!("the shadow policy did not end in time");
        }
    }
}

impl DecisionSink for Shadow {
    fn record(&self, record: Arc<DecisionRecord>) {
        let load = Load::of(&record);
        if self.worker.offer(record, load).is_err() {
            self.shared.skipped.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn swapped(&self, swap: &Swap) {
        self.shared.meet(swap.after.digest(), swap.after.family());
    }
}

impl std::fmt::Debug for Shadow {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Shadow").field("status", &self.status()).finish_non_exhaustive()
    }
}

/// What the shadow's thread does.
struct Judging {
    shared: Arc<Shared>,
    trace: Option<TraceWriter>,
    /// When it stops to decide, once it is to end.
    last_moment: Option<Instant>,
}

impl Work for Judging {
    type Message = Arc<DecisionRecord>;
    /// A decision may take long: between two of them it is seen that it is to end.
    const BATCH: usize = 1;

    fn begin(&mut self) {
        lower_thread(limits::SHADOW_NICENESS);
    }

    fn take(&mut self, record: Arc<DecisionRecord>) {
        if self.last_moment.is_some_and(|last| Instant::now() >= last) {
            self.shared.skipped.fetch_add(1, Ordering::Relaxed);
        } else {
            self.shared.judge(&record, self.trace.as_ref());
        }
    }

    fn closing(&mut self) {
        self.last_moment = Instant::now().checked_add(limits::SHADOW_CLOSE_TIME);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::contract::{Candidate, PlanConfig};
    use crate::policy::{DecidedBy, Input};

    fn candidate() -> Arc<PolicyComponent> {
        Arc::new(PolicyComponent::embedded().unwrap())
    }

    fn plan(candidates: usize) -> Arc<DecisionRecord> {
        let one = Candidate {
            id: "id".into(),
            failures: 0,
            last_class: None,
            last_duration_ms: None,
            serving: false,
            wanted: false,
        };
        let config = PlanConfig { slow_after_ms: 1_000, options: Vec::new() };
        Arc::new(DecisionRecord {
            sequence: 0,
            subject: "plan".into(),
            subject_sequence: 0,
            input: Input::Plan { config, candidates: vec![one; candidates] },
            moment: crate::model::Moment::default(),
            seed: 1,
            output: None,
            fuel_budget: 0,
            fuel: 0,
            decided_by: DecidedBy::Deployed(Digest::of(b"other")),
            reused_instance: false,
            faulted: None,
            default_fault: None,
            corrections: Vec::new(),
        })
    }

    #[test]
    fn relatives_are_known_by_their_family_and_bounded() {
        let shadow = Shadow::start(candidate(), &[candidate()], None).unwrap();
        let family = crate::policy::EMBEDDED_FAMILY;
        let digest = |number: usize| Digest::of(&number.to_le_bytes());
        for number in 0..3 * limits::SHADOW_RELATIVES_MAX {
            shadow.shared.meet(digest(number), if number % 2 == 0 { family } else { "another" });
        }
        let newest = digest(3 * limits::SHADOW_RELATIVES_MAX - 2);
        assert_eq!(shadow.shared.relatives().len(), limits::SHADOW_RELATIVES_MAX);
        assert_eq!(shadow.shared.relatives().back(), Some(&newest));
        assert!(shadow.shared.relatives().iter().all(|known| *known != digest(1)));
        // Deployed again as of another family, it is no relative any more.
        shadow.shared.meet(newest, "another");
        assert!(!shadow.shared.relatives().contains(&newest));
    }

    #[test]
    fn large_decisions_that_wait_are_bounded_by_their_items() {
        let shadow = Shadow::start(candidate(), &[], None).unwrap();
        let held = shadow.shared.relatives();
        let large = plan(limits::SHADOW_QUEUE_ITEMS / 4);
        for _ in 0..10 {
            shadow.record(large.clone());
        }
        // Four fill it, one exceeds it: the thread has one of them in hand and can not go on.
        assert_eq!(shadow.status().skipped, 5);
        drop(held);
    }
}
