//! Keeping one value fresh: a subject's refresh and its cache, driven together.
//!
//! The host's side of the two state machines for one subject. It turns what happened into events, applies the decisions,
//! and tells its owner two times: when the next run is due and until when the verdict on the value holds. It waits for
//! nothing, fetches nothing and holds no value.
//!
//! # What no record tells
//!
//! Decisions are applied as they stand, or as their record says that they were corrected; but four times are put right
//! only here, after the record was written, so that no policy and no fault can end a subject's upkeep or spin its
//! owner: a due time that a policy neither begins at nor moves, and a verdict that is over when it is given, are each
//! asked about again after a second; and without any decision, not even one of the embedded default, a verdict stays as
//! it was for a second, and a subject is armed again after a plain interval. Each such case is logged as a warning with
//! its subject, and counted in [`PolicyStatus::overruled`](super::PolicyStatus::overruled). A replay shows what was
//! decided. And two things hold whatever is decided, because no policy need remember them through a swap: after the end
//! nothing is due, and a result of a run that is not under way changes nothing.

use std::sync::Arc;
use std::time::Duration;

use super::contract::*;
use super::decide::{Policy, Subject};
use super::fault::NoDecision;
use super::memo::Held;
use crate::model::{BootMs, Failure, milliseconds};

/// A subject's settings.
#[derive(Clone, Debug, PartialEq)]
pub struct UpkeepConfig {
    /// Of its refresh.
    pub refresh: RefreshConfig,
    /// Of its cache.
    pub cache: CacheConfig,
}

/// A run under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// Its id.
    pub id: u64,
    /// When it began, by the boot clock.
    pub began: BootMs,
}

/// The upkeep of one value.
#[derive(Debug)]
pub struct Upkeep {
    policy: Arc<Policy>,
    config: UpkeepConfig,
    refresh_subject: Subject,
    cache_subject: Subject,
    refresh: Held<RefreshState>,
    cache: Held<CacheState>,
    due: Option<BootMs>,
    running: Option<Run>,
    stopped: bool,
    reason: RefreshReason,
    verdict: LookupDecision,
    /// The policy's generation when it gave the verdict.
    generation: u64,
}

impl Upkeep {
    /// Starts a subject's life in this process, with the cache that was read back from disk, or with none.
    pub fn start(policy: Arc<Policy>, name: &str, config: UpkeepConfig, restored: Option<Held<CacheState>>) -> Self {
        let refresh_subject = policy.subject(format!("{name}/refresh"));
        let cache_subject = policy.subject(format!("{name}/cache"));
        let was_restored = restored.is_some();
        let mut upkeep = Self {
            policy,
            config,
            refresh_subject,
            cache_subject,
            refresh: Held::new(RefreshState::initial()),
            cache: restored.unwrap_or_else(|| Held::new(CacheState::initial())),
            due: None,
            running: None,
            stopped: false,
            reason: RefreshReason::ColdStart,
            verdict: NOTHING_YET,
            generation: 0,
        };
        if was_restored {
            let _ = upkeep.advance(CacheEvent::Restored);
        } else {
            upkeep.judge();
        }
        let start = match (upkeep.verdict.serve, upkeep.verdict.state) {
            (ServeVerdict::Withhold, _) => StartKind::Cold,
            (ServeVerdict::Serve, Freshness::Fresh | Freshness::Soft) => StartKind::Warm,
            (ServeVerdict::Serve, _) => StartKind::WarmStale,
        };
        let boot_id = upkeep.policy.edge().clock.boot_id().0;
        upkeep.event(RefreshEvent::Started(StartedEvent { start, boot_id }));
        upkeep
    }

    /// When the next run is to [`Self::begin`]; none while one is under way, if none is wanted, or after the end.
    pub fn due(&self) -> Option<BootMs> {
        // A policy that was swapped in after the end may not know of it: its family keeps another memo.
        if self.running.is_some() || self.stopped { None } else { self.due }
    }

    /// The verdict on the value. It holds until the time it names, or the next event.
    pub fn verdict(&self) -> &LookupDecision {
        &self.verdict
    }

    /// Until when the verdict holds.
    pub fn verdict_until(&self) -> Option<BootMs> {
        self.verdict.until_boot_ms.map(BootMs)
    }

    /// Why the next run is due when it is.
    pub fn reason(&self) -> RefreshReason {
        self.reason
    }

    /// The state of the cache, as it is to be persisted.
    pub fn cache(&self) -> &Held<CacheState> {
        &self.cache
    }

    /// The facts of the value.
    pub fn value(&self) -> Option<&ValueFacts> {
        self.cache.state.value.as_ref()
    }

    /// Failures in a row, and the class of the last.
    pub fn failures(&self) -> (u32, Option<FailureClass>) {
        (self.refresh.state.failures, self.refresh.state.last_class)
    }

    /// Whether a run is under way.
    pub fn is_running(&self) -> bool {
        self.running.is_some()
    }

    /// The settings.
    pub fn config(&self) -> &UpkeepConfig {
        &self.config
    }

    /// Other settings are in force from now on: what is armed and what is judged follows them.
    pub fn reconfigure(&mut self, config: UpkeepConfig) {
        if self.config != config {
            self.config = config;
            self.event(RefreshEvent::ConfigChanged);
            self.judge();
        }
    }

    /// Begins the run that is due. None if the policy thinks better of it; [`Self::due`] then names another time.
    pub fn begin(&mut self) -> Option<Run> {
        if self.running.is_some() || self.stopped {
            return None;
        }
        let due_before = self.due;
        self.event(RefreshEvent::Began);
        let RefreshPhase::Running(active) = self.refresh.state.phase else {
            if self.due.is_some() && self.due <= due_before {
                // A policy that neither begins nor moves the time would be asked without end.
                self.due = Some(self.now().plus(SHORTEST_WAIT));
                self.policy.note_overruled(&self.refresh_subject, "a due run was not begun: asked again in a second");
            }
            return None;
        };
        let run = Run { id: active.run_id, began: self.now() };
        self.running = Some(run);
        let _ = self.advance(CacheEvent::Began(run.id));
        Some(run)
    }

    /// A run brought a verified value. `Stored` and `Kept` end it well; the owner persists, and only then publishes.
    ///
    /// A result of a run that is not under way is refused by its id, here as in every function that ends one: the
    /// policy is told that it is late, and the cache never hears of it.
    ///
    /// # Errors
    /// [`NoDecision`]; the run then ended as failed.
    pub fn fetched(&mut self, run: Run, event: FetchedEvent) -> Result<(AdvanceOutcome, AdvanceReason), NoDecision> {
        if !self.is_under_way(run) {
            return Ok(self.late(run));
        }
        let hinted = event.ttl_ms.is_some() || event.signed_expiry_wall_ms.is_some();
        let decided = self.advance(CacheEvent::Fetched(event));
        self.end(run, decided, hinted)
    }

    /// A run brought the word that the value still stands.
    ///
    /// # Errors
    /// [`NoDecision`]; the run then ended as failed.
    pub fn not_modified(
        &mut self,
        run: Run,
        event: NotModifiedEvent,
    ) -> Result<(AdvanceOutcome, AdvanceReason), NoDecision> {
        if !self.is_under_way(run) {
            return Ok(self.late(run));
        }
        let decided = self.advance(CacheEvent::NotModified(event));
        self.end(run, decided, true)
    }

    /// A verified value was found outside a run: another process had fetched it.
    ///
    /// # Errors
    /// [`NoDecision`].
    pub fn found(&mut self, event: FetchedEvent) -> Result<(AdvanceOutcome, AdvanceReason), NoDecision> {
        let decided = self.advance(CacheEvent::Fetched(event));
        if let Some(run) = self.running {
            // To the policy a value ends the fetch under way; this one came from elsewhere.
            let _ = self.advance(CacheEvent::Began(run.id));
        }
        decided
    }

    /// A run failed.
    pub fn failed(&mut self, run: Run, failure: &Failure) {
        if !self.is_under_way(run) {
            self.late(run);
            return;
        }
        self.running = None;
        let class = FailureClass::from(failure.class);
        let _ = self.advance(CacheEvent::Failed(class));
        self.end_failed(run, class, failure.retry_after);
    }

    /// A run was given up.
    pub fn cancelled(&mut self, run: Run) {
        if !self.is_under_way(run) {
            self.late(run);
            return;
        }
        self.running = None;
        let _ = self.advance(CacheEvent::Cancelled);
        self.event(RefreshEvent::Cancelled(run.id));
    }

    /// A reader found the verdict wanting: tells the policy what the verdict itself asks for.
    pub fn wanted(&mut self) {
        match self.verdict.wanted {
            Wanted::None => {}
            Wanted::Background => self.event(RefreshEvent::Wanted(Urgency::Background)),
            Wanted::Blocking => self.event(RefreshEvent::Wanted(Urgency::Blocking)),
        }
    }

    /// A call waits for a sign that the origin answers: a run is wanted whatever the verdict on the value is.
    pub fn awaited(&mut self) {
        self.event(RefreshEvent::Wanted(Urgency::Blocking));
    }

    /// Somebody insists on a refresh.
    pub fn forced(&mut self) {
        self.event(RefreshEvent::Forced);
    }

    /// The origin announced a change, or a reader found the value wrong.
    pub fn changed(&mut self) {
        let _ = self.advance(CacheEvent::Changed);
        self.event(RefreshEvent::Changed);
    }

    /// The origin may have announced a change while nobody listened: the value stands, and is looked at again.
    pub fn may_have_changed(&mut self) {
        self.event(RefreshEvent::Changed);
    }

    /// The machine woke up: what is armed may be long overdue, everywhere at once.
    pub fn resumed(&mut self) {
        self.event(RefreshEvent::Resumed);
        self.judge();
    }

    /// The subject ends: nothing is due any more, whatever happens.
    pub fn stopped(&mut self) {
        self.stopped = true;
        self.event(RefreshEvent::Stopped);
    }

    /// Judges the value anew if the policy was swapped since the last verdict.
    pub fn judge_if_swapped(&mut self) {
        if self.policy.generation() != self.generation {
            self.judge();
        }
    }

    /// Judges the value anew: when [`Self::verdict_until`] has come.
    pub fn judge(&mut self) {
        self.generation = self.policy.generation();
        let asked = self.now();
        match self.policy.lookup(&self.cache_subject, &self.config.cache, &self.cache) {
            Ok(verdict) => self.verdict = verdict,
            Err(error) => {
                tracing::error!(%error, "the verdict stays as it was");
                self.verdict.until_boot_ms = Some(self.now().plus(SHORTEST_WAIT).0);
                self.policy.note_overruled(&self.cache_subject, "no verdict: the last one holds for a second");
            }
        }
        if self.verdict_until().is_some_and(|until| until <= asked) {
            // A verdict that is over when it is given would be asked for without end.
            self.verdict.until_boot_ms = Some(self.now().plus(SHORTEST_WAIT).0);
            self.policy.note_overruled(&self.cache_subject, "a verdict was over when given: it holds for a second");
        }
    }

    fn is_under_way(&self, run: Run) -> bool {
        self.running.is_some_and(|running| running.id == run.id)
    }

    /// A run that is not under way ended. It is refused, and its decision is on record.
    fn late(&mut self, run: Run) -> (AdvanceOutcome, AdvanceReason) {
        self.event(RefreshEvent::Cancelled(run.id));
        (AdvanceOutcome::Rejected, AdvanceReason::Cancelled)
    }

    /// Ends a run whose result the cache has judged.
    fn end(
        &mut self,
        run: Run,
        decided: Result<(AdvanceOutcome, AdvanceReason), NoDecision>,
        hinted: bool,
    ) -> Result<(AdvanceOutcome, AdvanceReason), NoDecision> {
        self.running = None;
        let class = match &decided {
            Ok((AdvanceOutcome::Rejected, reason)) => Some(rejection_class(*reason)),
            Ok(_) => None,
            Err(_) => Some(FailureClass::Server),
        };
        match class {
            None => {
                let duration_ms = self.elapsed(run);
                let fresh_for_ms = if hinted { self.fresh_for_ms() } else { None };
                self.event(RefreshEvent::Succeeded(SucceededEvent { run_id: run.id, duration_ms, fresh_for_ms }));
            }
            // The cache has noted its own rejection already.
            Some(class) => self.end_failed(run, class, None),
        }
        decided
    }

    fn end_failed(&mut self, run: Run, class: FailureClass, retry_after: Option<Duration>) {
        self.event(RefreshEvent::Failed(FailedEvent {
            run_id: run.id,
            class,
            retry_after_ms: retry_after.map(milliseconds),
            duration_ms: self.elapsed(run),
            serving: self.verdict.serve == ServeVerdict::Serve,
        }));
    }

    fn fresh_for_ms(&self) -> Option<u64> {
        let value = self.value()?;
        let now = self.policy.edge().clock.now();
        // What another process requested before this boot may still stand: then only the wall clock knows its age.
        let age = match value.requested.boot_id == now.boot_id.0 {
            true => now.boot.0.saturating_sub(value.requested.boot_ms),
            false => now.wall.0.saturating_sub(value.requested.wall_ms),
        };
        Some(value.fresh_ms.saturating_sub(age))
    }

    fn elapsed(&self, run: Run) -> u64 {
        milliseconds(self.now().since(run.began))
    }

    fn now(&self) -> BootMs {
        self.policy.edge().clock.boot()
    }

    fn event(&mut self, event: RefreshEvent) {
        let config = &self.config.refresh;
        match self.policy.refresh(&self.refresh_subject, config, &mut self.refresh, event) {
            Ok((due, reason)) => {
                self.due = due;
                self.reason = reason;
            }
            Err(error) => {
                let due = self.now().plus(Duration::from_millis(config.interval_ms));
                tracing::error!(%error, "the next refresh is in a plain interval");
                self.refresh.state.phase =
                    RefreshPhase::Armed(ArmedRun { run_at_boot_ms: due.0, reason: RefreshReason::Steady });
                self.due = Some(due);
                self.policy.note_overruled(&self.refresh_subject, "no decision: armed again in a plain interval");
            }
        }
    }

    fn advance(&mut self, event: CacheEvent) -> Result<(AdvanceOutcome, AdvanceReason), NoDecision> {
        let decided = self.policy.advance(&self.cache_subject, &self.config.cache, &mut self.cache, event);
        if let Err(error) = &decided {
            tracing::error!(%error, "the cache stays as it was");
        }
        self.judge();
        decided
    }
}

/// The least time between two questions that time alone raises.
const SHORTEST_WAIT: Duration = Duration::from_secs(1);

/// The verdict before the first.
const NOTHING_YET: LookupDecision = LookupDecision {
    state: Freshness::Empty,
    serve: ServeVerdict::Withhold,
    wanted: Wanted::Blocking,
    until_boot_ms: None,
    reason: LookupReason::NoValue,
};

/// The failure class of a value that the cache refused.
fn rejection_class(reason: AdvanceReason) -> FailureClass {
    match reason {
        AdvanceReason::RefusedExpired => FailureClass::Expiry,
        AdvanceReason::Rollback | AdvanceReason::Equivocation => FailureClass::Rollback,
        AdvanceReason::FromTheFuture => FailureClass::Schema,
        _ => FailureClass::Server,
    }
}
