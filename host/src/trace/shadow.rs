//! The shadow policy: a candidate that decides beside the active one, on the same state, times and seed, and is never
//! obeyed.
//!
//! It works on a thread of its own at the lowest priority, from a bounded queue: whoever decides hands the record over and
//! goes on. What the shadow has no time for is skipped and counted. Each decision of its is one step from the recorded
//! state; what it would have done after its own decisions is what a replay or a swap is for.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TryRecvError, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::format::ShadowNote;
use super::limits;
use super::replay::judge_candidate;
use super::writer::TraceWriter;
use crate::model::Digest;
use crate::policy::{DecisionRecord, DecisionSink, Function, PolicyComponent, Swap};

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
    sender: SyncSender<Arc<DecisionRecord>>,
    shared: Arc<Shared>,
    thread: Arc<Mutex<Option<JoinHandle<()>>>>,
}

struct Shared {
    candidate: Arc<PolicyComponent>,
    closing: AtomicBool,
    families: Mutex<HashMap<Digest, String>>,
    decisions: AtomicU64,
    faults: AtomicU64,
    skipped: AtomicU64,
    different: Mutex<BTreeMap<Function, u64>>,
}

impl Shared {
    fn families(&self) -> MutexGuard<'_, HashMap<Digest, String>> {
        self.families.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn different(&self) -> MutexGuard<'_, BTreeMap<Function, u64>> {
        self.different.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes one decision, and notes how it differs.
    fn judge(&self, record: &DecisionRecord, trace: Option<&TraceWriter>) {
        let families = self.families().clone();
        let judged = judge_candidate(&self.candidate, record, |digest| families.get(&digest).map(String::as_str));
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
        let families = active.iter().map(|component| (component.digest(), component.family().to_owned()));
        let shared = Arc::new(Shared {
            candidate,
            closing: AtomicBool::new(false),
            families: Mutex::new(families.collect()),
            decisions: AtomicU64::new(0),
            faults: AtomicU64::new(0),
            skipped: AtomicU64::new(0),
            different: Mutex::default(),
        });
        let (sender, receiver) = sync_channel(limits::SHADOW_QUEUE_RECORDS);
        let thread = std::thread::Builder::new().name("shadow-policy".into()).spawn({
            let shared = shared.clone();
            move || {
                // On Linux this is about the calling thread alone. Without the right to it, it runs as others do.
                let _ = rustix::process::nice(NICENESS);
                run(&receiver, &shared, trace.as_ref());
            }
        })?;
        Ok(Self { sender, shared, thread: Arc::new(Mutex::new(Some(thread))) })
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
        self.shared.closing.store(true, Ordering::Release);
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(thread) = thread else { return };
        thread.thread().unpark();
        let joined = tokio::task::spawn_blocking(move || thread.join());
        if tokio::time::timeout(limits::CLOSE_TIMEOUT, joined).await.is_err() {
            tracing::warn!("the shadow policy did not end in time");
        }
    }
}

impl DecisionSink for Shadow {
    fn record(&self, record: Arc<DecisionRecord>) {
        if self.shared.closing.load(Ordering::Relaxed) || self.sender.try_send(record).is_err() {
            self.shared.skipped.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn swapped(&self, swap: &Swap) {
        self.shared.families().insert(swap.after.digest(), swap.after.family().to_owned());
    }
}

impl std::fmt::Debug for Shadow {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Shadow").field("status", &self.status()).finish_non_exhaustive()
    }
}

/// The lowest priority.
const NICENESS: i32 = 19;

fn run(receiver: &Receiver<Arc<DecisionRecord>>, shared: &Shared, trace: Option<&TraceWriter>) {
    let mut idle = Duration::ZERO;
    let mut last_moment = None;
    loop {
        // Read first: what was handed over before closing is in the queue by then.
        let closing = shared.closing.load(Ordering::Acquire);
        if closing {
            last_moment = last_moment.or_else(|| Instant::now().checked_add(limits::SHADOW_CLOSE_TIME));
        }
        match receiver.try_recv() {
            Ok(_) if last_moment.is_some_and(|last| Instant::now() >= last) => {
                shared.skipped.fetch_add(1, Ordering::Relaxed);
            }
            Ok(record) => {
                idle = Duration::ZERO;
                shared.judge(&record, trace);
            }
            Err(TryRecvError::Disconnected) => return,
            Err(TryRecvError::Empty) if closing => return,
            Err(TryRecvError::Empty) if idle < limits::WRITER_IDLE => {
                std::thread::park_timeout(limits::WRITER_REST);
                idle += limits::WRITER_REST;
            }
            Err(TryRecvError::Empty) => match receiver.recv_timeout(limits::WRITER_IDLE) {
                Ok(record) => {
                    idle = Duration::ZERO;
                    shared.judge(&record, trace);
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            },
        }
    }
}
