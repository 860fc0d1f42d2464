//! The policy of a gateway: typed decisions, the record of each, the fallback when a deployed policy faults, and its swap.
//!
//! Decisions are synchronous and take microseconds; they are made on the thread that needs them. One owner serialises the
//! decisions of a subject. Nothing here knows what a decision is used for.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant as Stopwatch;

use arc_swap::ArcSwap;
use serde::Serialize;
use tokio::sync::watch;

use super::component::PolicyComponent;
use super::contract::*;
use super::fault::{Fault, NoDecision};
use super::function::Function;
use super::limits;
use super::memo::{Held, Memos};
use super::metrics::PolicyMetrics;
use super::record::{DecidedBy, DecisionRecord, FaultedAttempt, Input, Output};
use super::remake::{Remade, correct};
use super::sink::{DecisionSink, Swap};
use crate::edge::Edge;
use crate::model::{BootMs, Digest, Moment};

/// What decisions are made about: its name and how many were made.
#[derive(Debug)]
pub struct Subject {
    name: String,
    sequence: Arc<AtomicU64>,
}

impl Subject {
    /// A subject about which nothing was decided yet. Names are paths: `connector/<id>/cache`, `service-map/refresh`. One
    /// that comes and goes is to be had of [`Policy::subject`], so that its decisions are numbered on.
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), sequence: Arc::default() }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }
}

/// The policy of a gateway.
pub struct Policy {
    active: ArcSwap<Active>,
    swapping: Mutex<()>,
    default: Arc<PolicyComponent>,
    edge: Edge,
    generation: watch::Sender<u64>,
    sequences: Mutex<HashMap<String, Arc<AtomicU64>>>,
    sequence: AtomicU64,
    overruled: AtomicU64,
    sink: Arc<dyn DecisionSink>,
    metrics: PolicyMetrics,
}

/// A deployed component and how it has behaved.
struct Active {
    component: Arc<PolicyComponent>,
    faults: AtomicU64,
    faults_in_a_row: AtomicU32,
    suspended: AtomicBool,
    last_fault: Mutex<Option<Fault>>,
}

impl Active {
    fn new(component: Arc<PolicyComponent>) -> Self {
        Self {
            component,
            faults: AtomicU64::new(0),
            faults_in_a_row: AtomicU32::new(0),
            suspended: AtomicBool::new(false),
            last_fault: Mutex::new(None),
        }
    }
}

/// What `status` tells about the policy.
#[derive(Clone, Debug, Serialize)]
pub struct PolicyStatus {
    /// The deployed component.
    pub digest: Digest,
    /// The family of its memos.
    pub family: String,
    /// The embedded default.
    pub default_digest: Digest,
    /// How often the deployed component faulted.
    pub faults: u64,
    /// Whether it faulted too often in a row, so that the default decides until the next swap.
    pub suspended: bool,
    /// Its last fault.
    pub last_fault: Option<String>,
    /// How many decisions were made.
    pub decisions: u64,
    /// How often the host put a time of its own in the place of a decided one, after the decision was recorded: see
    /// [`Upkeep`](super::Upkeep).
    pub overruled: u64,
}

impl Policy {
    /// A gateway's policy: `deployed`, backed by `default`.
    pub fn new(
        deployed: Arc<PolicyComponent>,
        default: Arc<PolicyComponent>,
        edge: Edge,
        sink: Arc<dyn DecisionSink>,
        metrics: PolicyMetrics,
    ) -> Self {
        Self {
            active: ArcSwap::from_pointee(Active::new(deployed)),
            swapping: Mutex::new(()),
            default,
            edge,
            generation: watch::Sender::new(0),
            sequences: Mutex::default(),
            sequence: AtomicU64::new(0),
            overruled: AtomicU64::new(0),
            sink,
            metrics,
        }
    }

    /// Puts another component in the place of the deployed one, atomically: a decision under way ends with the old one,
    /// the next is made by the new one. Returns the old one's digest.
    ///
    /// What was decided before stays in force until it is decided anew; [`Self::generation`] tells that it is due.
    pub fn swap(&self, component: Arc<PolicyComponent>) -> Digest {
        let _one_at_a_time = self.swapping.lock().unwrap_or_else(PoisonError::into_inner);
        let before = self.deployed();
        let digest = before.digest();
        let sequence = self.sequence.load(Ordering::Relaxed);
        // Before the swap: who reads the record knows the new one when its first decision comes.
        self.sink.swapped(&Swap { before, after: component.clone(), sequence, moment: self.edge.clock.now() });
        self.active.store(Arc::new(Active::new(component)));
        // After the swap: a decision that the old one makes in between is taken for older than it is, never for newer.
        self.generation.send_modify(|generation| *generation += 1);
        digest
    }

    /// The deployed component.
    pub fn deployed(&self) -> Arc<PolicyComponent> {
        self.active.load().component.clone()
    }

    /// The embedded default, or what was given in its place: it decides where the deployed component fails to.
    pub fn default_component(&self) -> &Arc<PolicyComponent> {
        &self.default
    }

    /// How it stands.
    pub fn status(&self) -> PolicyStatus {
        let active = self.active.load();
        let last_fault = active.last_fault.lock().unwrap_or_else(PoisonError::into_inner);
        PolicyStatus {
            digest: active.component.digest(),
            family: active.component.family().to_owned(),
            default_digest: self.default.digest(),
            faults: active.faults.load(Ordering::Relaxed),
            suspended: active.suspended.load(Ordering::Relaxed),
            last_fault: last_fault.as_ref().map(Fault::to_string),
            decisions: self.sequence.load(Ordering::Relaxed),
            overruled: self.overruled.load(Ordering::Relaxed),
        }
    }

    /// How often it was swapped. Whoever keeps a decision for a while can tell by it that another policy is in force.
    pub fn generation(&self) -> u64 {
        *self.generation.borrow()
    }

    /// Tells of every later swap.
    pub fn swaps(&self) -> watch::Receiver<u64> {
        self.generation.subscribe()
    }

    /// The subject of that name. Its decisions are numbered on if it was there before: a connector that was rebuilt.
    pub fn subject(&self, name: String) -> Subject {
        let mut sequences = self.sequences.lock().unwrap_or_else(PoisonError::into_inner);
        let sequence = sequences.entry(name.clone()).or_default().clone();
        Subject { name, sequence }
    }

    /// Counts and logs that the host did otherwise than was decided about `subject`, where no record can tell.
    pub(super) fn note_overruled(&self, subject: &Subject, what: &'static str) {
        let overruled = self.overruled.fetch_add(1, Ordering::Relaxed) + 1;
        tracing::warn!(subject = subject.name(), overruled, "decision overruled by the host: {what}");
    }

    /// The outside world that its decisions read.
    pub fn edge(&self) -> &Edge {
        &self.edge
    }

    /// `scheduling.refresh`, applied to `held`. Returns when the next run is due, and why.
    ///
    /// # Errors
    /// [`NoDecision`]; `held` is then as it was. So it is for every function here.
    pub fn refresh(
        &self,
        subject: &Subject,
        config: &RefreshConfig,
        held: &mut Held<RefreshState>,
        event: RefreshEvent,
    ) -> Result<(Option<BootMs>, RefreshReason), NoDecision> {
        let input = Input::Refresh { config: config.clone(), state: held.state.clone(), event };
        let Output::Refresh(decision) = self.decide(subject, input, &mut held.memos)? else {
            return Err(mismatched(subject));
        };
        held.state = decision.state;
        Ok((decision.run_at_boot_ms.map(BootMs), decision.reason))
    }

    /// `scheduling.breaker`, applied to `held`.
    ///
    /// # Errors
    /// [`NoDecision`].
    pub fn breaker(
        &self,
        subject: &Subject,
        config: &BreakerConfig,
        held: &mut Held<BreakerState>,
        event: BreakerEvent,
    ) -> Result<(BreakerVerdict, BreakerReason), NoDecision> {
        let input = Input::Breaker { config: config.clone(), state: held.state.clone(), event };
        let Output::Breaker(decision) = self.decide(subject, input, &mut held.memos)? else {
            return Err(mismatched(subject));
        };
        held.state = decision.state;
        Ok((decision.verdict, decision.reason))
    }

    /// `scheduling.plan`. The order names every candidate once.
    ///
    /// # Errors
    /// [`NoDecision`].
    pub fn plan(
        &self,
        subject: &Subject,
        config: &PlanConfig,
        candidates: Vec<Candidate>,
    ) -> Result<PlanDecision, NoDecision> {
        let input = Input::Plan { config: config.clone(), candidates };
        match self.decide(subject, input, &mut Memos::default())? {
            Output::Plan(decision) => Ok(decision),
            _ => Err(mismatched(subject)),
        }
    }

    /// `scheduling.concurrency`, applied to `held`. Returns the limit, at least 1.
    ///
    /// # Errors
    /// [`NoDecision`].
    pub fn concurrency(
        &self,
        subject: &Subject,
        config: &ConcurrencyConfig,
        held: &mut Held<ConcurrencyState>,
        event: ConcurrencyEvent,
    ) -> Result<(u32, ConcurrencyReason), NoDecision> {
        let input = Input::Concurrency { config: config.clone(), state: held.state.clone(), event };
        let Output::Concurrency(decision) = self.decide(subject, input, &mut held.memos)? else {
            return Err(mismatched(subject));
        };
        held.state = decision.state;
        Ok((decision.limit, decision.reason))
    }

    /// `caching.lookup`.
    ///
    /// # Errors
    /// [`NoDecision`].
    pub fn lookup(
        &self,
        subject: &Subject,
        config: &CacheConfig,
        held: &Held<CacheState>,
    ) -> Result<LookupDecision, NoDecision> {
        let input = Input::Lookup { config: config.clone(), state: held.state.clone() };
        // A lookup has no state of its own to write a memo to.
        match self.decide(subject, input, &mut held.memos.clone())? {
            Output::Lookup(decision) => Ok(decision),
            _ => Err(mismatched(subject)),
        }
    }

    /// `caching.advance`, applied to `held`.
    ///
    /// # Errors
    /// [`NoDecision`].
    pub fn advance(
        &self,
        subject: &Subject,
        config: &CacheConfig,
        held: &mut Held<CacheState>,
        event: CacheEvent,
    ) -> Result<(AdvanceOutcome, AdvanceReason), NoDecision> {
        let input = Input::Advance { config: config.clone(), state: held.state.clone(), event };
        let Output::Advance(decision) = self.decide(subject, input, &mut held.memos)? else {
            return Err(mismatched(subject));
        };
        held.state = decision.state;
        Ok((decision.outcome, decision.reason))
    }

    /// `registry.stamp`, applied to `held`.
    ///
    /// # Errors
    /// [`NoDecision`].
    pub fn stamp(&self, subject: &Subject, held: &mut Held<ClockState>) -> Result<Hlc, NoDecision> {
        let input = Input::Stamp { clock: held.state.clone() };
        let Output::Stamp(decision) = self.decide(subject, input, &mut held.memos)? else {
            return Err(mismatched(subject));
        };
        held.state = decision.state;
        Ok(decision.stamp)
    }

    /// `registry.adopt`, applied to `held`. Returns the entries and the names stamped in the future.
    ///
    /// # Errors
    /// [`NoDecision`].
    pub fn adopt(
        &self,
        subject: &Subject,
        held: &mut Held<ClockState>,
        writer: &str,
        base: &[Entry],
        found: Vec<FoundEntry>,
    ) -> Result<(Vec<Entry>, Vec<String>), NoDecision> {
        let (clock, writer) = (held.state.clone(), writer.to_owned());
        let input = Input::Adopt { clock, writer, base: base.to_vec(), found };
        let Output::Adopt(decision) = self.decide(subject, input, &mut held.memos)? else {
            return Err(mismatched(subject));
        };
        held.state = decision.state;
        Ok((decision.entries, decision.from_the_future))
    }

    /// `registry.merge`.
    ///
    /// # Errors
    /// [`NoDecision`].
    pub fn merge(&self, subject: &Subject, ours: Vec<Entry>, theirs: Vec<Entry>) -> Result<MergeDecision, NoDecision> {
        match self.decide(subject, Input::Merge { ours, theirs }, &mut Memos::default())? {
            Output::Merge(decision) => Ok(decision),
            _ => Err(mismatched(subject)),
        }
    }

    /// `registry.flush-after`, in milliseconds.
    ///
    /// # Errors
    /// [`NoDecision`].
    pub fn flush_after(&self, subject: &Subject, pending: Pending) -> Result<u64, NoDecision> {
        match self.decide(subject, Input::FlushAfter { pending }, &mut Memos::default())? {
            Output::FlushAfter(milliseconds) => Ok(milliseconds),
            _ => Err(mismatched(subject)),
        }
    }

    /// Makes a decision, records it, and keeps its memo.
    fn decide(&self, subject: &Subject, mut input: Input, memos: &mut Memos) -> Result<Output, NoDecision> {
        let stopwatch = Stopwatch::now();
        let moment = self.edge.clock.now();
        let seed = self.edge.entropy.seed();
        let function = input.function();
        let fuel_budget = limits::call_fuel(function, input.items());
        let active = self.active.load_full();

        let mut faulted = None;
        let mut made = None;
        if !active.suspended.load(Ordering::Relaxed) {
            match make(&active.component, &mut input, memos, moment, seed, fuel_budget) {
                Ok(decision) => {
                    active.faults_in_a_row.store(0, Ordering::Relaxed);
                    made = Some((decision, DecidedBy::Deployed(active.component.digest())));
                }
                Err(fault) => {
                    self.note_fault(&active, function, subject, &fault);
                    // Its memo: the default's takes its place below.
                    let memo = input.memo_mut().map(std::mem::take).unwrap_or_default();
                    faulted = Some(FaultedAttempt { digest: active.component.digest(), memo, fault });
                }
            }
        }
        let by_default = match faulted {
            Some(_) => DecidedBy::DefaultAfterFault(self.default.digest()),
            None => DecidedBy::DefaultWhileSuspended(self.default.digest()),
        };
        let (made, decided_by) = match made {
            Some((decision, by)) => (Ok(decision), by),
            None => (make(&self.default, &mut input, memos, moment, seed, fuel_budget), by_default),
        };
        self.metrics.decided(function, stopwatch.elapsed());

        let (outcome, fuel, reused_instance, corrections) = match made {
            Ok(Remade { mut output, fuel, reused_instance }) => {
                let corrections = correct(&input, &mut output);
                (Ok(output), fuel, reused_instance, corrections)
            }
            Err(fault) => (Err(fault), 0, false, Vec::new()),
        };
        let sequence = self.sequence.fetch_add(1, Ordering::Relaxed);
        let subject_sequence = subject.sequence.fetch_add(1, Ordering::Relaxed);
        if self.sink.wants_records() {
            self.sink.record(Arc::new(DecisionRecord {
                sequence,
                subject: subject.name.clone(),
                subject_sequence,
                input,
                moment,
                seed,
                output: outcome.as_ref().ok().cloned(),
                fuel_budget,
                fuel,
                decided_by,
                reused_instance,
                faulted,
                default_fault: outcome.as_ref().err().cloned(),
                corrections,
            }));
        }
        let mut output = outcome.map_err(|fault| NoDecision { subject: subject.name.clone(), fault })?;
        if let Some(memo) = output.memo_mut() {
            let family = match decided_by {
                DecidedBy::Deployed(_) => active.component.family(),
                DecidedBy::DefaultAfterFault(_) | DecidedBy::DefaultWhileSuspended(_) => self.default.family(),
            };
            memos.keep(family, std::mem::take(memo));
        }
        Ok(output)
    }

    fn note_fault(&self, active: &Active, function: Function, subject: &Subject, fault: &Fault) {
        active.faults.fetch_add(1, Ordering::Relaxed);
        self.metrics.faulted(function);
        let in_a_row = active.faults_in_a_row.fetch_add(1, Ordering::Relaxed) + 1;
        let subject = subject.name();
        let digest = active.component.digest();
        tracing::warn!(function = function.name(), subject, %digest, %fault, "policy fault; the default decided");
        if in_a_row >= limits::FAULTS_IN_A_ROW_MAX && !active.suspended.swap(true, Ordering::Relaxed) {
            tracing::error!(%digest, in_a_row, "policy suspended after faults in a row; the default decides until a swap");
        }
        *active.last_fault.lock().unwrap_or_else(PoisonError::into_inner) = Some(fault.clone());
    }
}

impl std::fmt::Debug for Policy {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Policy").field("active", &self.active.load().component).finish_non_exhaustive()
    }
}

/// Lets a component decide, with the memo of its own family.
fn make(
    component: &PolicyComponent,
    input: &mut Input,
    memos: &Memos,
    moment: Moment,
    seed: u64,
    fuel: u64,
) -> Result<Remade, Fault> {
    if let Some(memo) = input.memo_mut() {
        *memo = memos.of(component.family());
    }
    component.remake(input, moment, seed, fuel)
}

/// Instances answer with the output of the function they were called with; this is unreachable, and no reason to panic.
fn mismatched(subject: &Subject) -> NoDecision {
    let fault = Fault::BadResult("the result of another function".into());
    NoDecision { subject: subject.name().to_owned(), fault }
}
