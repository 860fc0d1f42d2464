//! The driver: plays a trace to the host's own `Upkeep` as its owners do, and compares what it says with the references
//! after every step.
//!
//! A violation is a value, so that a test can show that one is found. The first one ends a trace.

use std::sync::Arc;

use cortex_mcp::edge::Edge;
use cortex_mcp::edge::entropy::VirtualEntropy;
use cortex_mcp::edge::virtual_network::VirtualNetwork;
use cortex_mcp::model::{BootMs, Failure};
use cortex_mcp::policy::contract::{
    AdvanceOutcome, AdvanceReason, CacheState, FailureClass, LookupDecision, NotModifiedEvent, ServeVerdict, Urgency,
    Wanted,
};
use cortex_mcp::policy::{DiscardRecords, Held, Policy, PolicyComponent, PolicyMetrics, Run, Subject, Upkeep};

use crate::cache::{Arrival, Cache};
use crate::clock::{ModelClock, Stamp};
use crate::origin::{Origin, config, fetched, instant};
use crate::schedule::{Armed, Schedule};
use crate::trace::{Document, Event, Outcome, Setting, TEN_YEARS, Trace};

/// How often an owner may be woken while time passes. More is a loop.
const WAKES: usize = 64;

/// A rule that did not hold.
#[derive(Clone, Debug)]
pub(crate) struct Violation {
    /// The position of the event in its trace.
    pub(crate) at: usize,
    pub(crate) what: String,
}

/// What came of a trace.
#[derive(Debug, Default)]
pub(crate) struct Played {
    /// Events that fitted.
    pub(crate) events: u64,
    pub(crate) begins: u64,
    pub(crate) violation: Option<Violation>,
}

/// The policies of a trace: the deployed one, and one that is to decide the same.
#[derive(Clone)]
pub(crate) struct Policies {
    pub(crate) deployed: Arc<PolicyComponent>,
    pub(crate) other: Arc<PolicyComponent>,
    /// Whether the boot clock is to step with the wall clock.
    pub(crate) broken_clock: bool,
}

/// Plays a trace.
pub(crate) fn play(trace: &Trace, policies: &Policies) -> Played {
    let mut played = Played::default();
    let mut driver = match Driver::start(trace, policies) {
        Ok(driver) => driver,
        Err(what) => return Played { violation: Some(Violation { at: 0, what }), ..played },
    };
    for (at, event) in trace.events.iter().enumerate() {
        match driver.apply(*event) {
            Ok(fits) => played.events += u64::from(fits),
            Err(what) => {
                played.violation = Some(Violation { at, what });
                break;
            }
        }
    }
    played.begins = driver.begins;
    played
}

type Checked<T = ()> = Result<T, String>;

struct Driver {
    setting: Setting,
    clock: Arc<ModelClock>,
    policy: Arc<Policy>,
    policies: Policies,
    swapped: bool,
    probe: Subject,
    upkeep: Upkeep,
    schedule: Schedule,
    cache: Cache,
    run: Option<(Run, Stamp)>,
    former: Option<Run>,
    begins: u64,
    /// The wall clock was stepped since the last verdict: a verdict on a value of another boot may be out of date.
    stepped: bool,
    origin: Origin,
}

impl Driver {
    fn start(trace: &Trace, policies: &Policies) -> Checked<Self> {
        let clock = Arc::new(ModelClock::new());
        if policies.broken_clock {
            clock.break_boot_clock();
        }
        let setting = trace.setting;
        let entropy = Arc::new(VirtualEntropy::from_number(trace.seed));
        let edge = Edge { clock: clock.clone(), entropy, http: Arc::new(VirtualNetwork::new()) };
        let (deployed, default) = (policies.deployed.clone(), policies.other.clone());
        let policy = Arc::new(Policy::new(deployed, default, edge, Arc::new(DiscardRecords), PolicyMetrics::default()));
        let cache = Cache::new(setting.max_stale);
        let upkeep = Upkeep::start(policy.clone(), "model", config(setting, &cache, clock.stamp()), None);
        let origin = Origin::new(setting, &clock);
        let mut driver = Self {
            setting,
            clock,
            policy,
            policies: policies.clone(),
            swapped: false,
            probe: Subject::new("probe"),
            upkeep,
            schedule: Schedule::new(setting),
            cache,
            run: None,
            former: None,
            begins: 0,
            stepped: false,
            origin,
        };
        let armed = driver.schedule.started(false, driver.now().boot);
        driver.check(armed)?;
        Ok(driver)
    }

    fn now(&self) -> Stamp {
        self.clock.stamp()
    }

    // ---- events -----------------------------------------------------------------------------------------------------

    /// Applies an event; false if it does not fit.
    fn apply(&mut self, event: Event) -> Checked<bool> {
        let decisions = self.policy.status().decisions;
        let asks = match event {
            Event::Pass(milliseconds) => return self.pass(milliseconds),
            Event::ToDue(short) => return self.pass_to(self.upkeep.due(), short),
            Event::ToEnd(short) => return self.pass_to(self.upkeep.verdict_until(), short),
            Event::Suspend(milliseconds) => {
                self.clock.pass(milliseconds);
                // What became due meanwhile is obeyed when the sleeper wakes; then it hears that it has slept.
                self.obey()?;
                self.upkeep.resumed();
                self.stepped = false;
                let armed = self.schedule.resumed(self.now().boot);
                self.check(armed)?;
                true
            }
            Event::Step(milliseconds) => {
                self.clock.step_wall(milliseconds);
                // Never further off than that: nobody's clock stands before the epoch.
                let wrong = self.clock.wrong_by();
                self.clock.step_wall(wrong.clamp(-TEN_YEARS, TEN_YEARS) - wrong);
                self.stepped = true;
                self.check(Armed::AsBefore)?;
                false
            }
            Event::Mend => {
                self.clock.step_wall(-self.clock.wrong_by());
                self.stepped = true;
                self.check(Armed::AsBefore)?;
                false
            }
            Event::Result(duration, outcome) => {
                if self.run.is_none() {
                    return Ok(false);
                }
                self.pass(duration)?;
                self.result(outcome)?;
                true
            }
            Event::Late(outcome) => {
                let Some(former) = self.former else { return Ok(false) };
                self.late(former, outcome)?;
                true
            }
            Event::Found(document) => {
                if self.schedule.stopped {
                    return Ok(false);
                }
                self.found(document)?;
                true
            }
            Event::Wanted => {
                let urgency = match self.upkeep.verdict().wanted {
                    Wanted::None => return Ok(false),
                    Wanted::Background => Urgency::Background,
                    Wanted::Blocking => Urgency::Blocking,
                };
                self.upkeep.wanted();
                let armed = self.schedule.wanted(urgency, self.now().boot);
                self.check(armed)?;
                true
            }
            Event::Forced => {
                self.upkeep.forced();
                let armed = self.schedule.forced(self.now().boot);
                self.check(armed)?;
                true
            }
            Event::Changed => {
                self.upkeep.changed();
                self.stepped = false;
                self.cache.end_freshness(self.now());
                let armed = self.schedule.changed(self.now().boot);
                self.check(armed)?;
                true
            }
            Event::MayHaveChanged => {
                self.upkeep.may_have_changed();
                let armed = self.schedule.changed(self.now().boot);
                self.check(armed)?;
                true
            }
            Event::Restart(off, credential) => {
                self.restart(off, credential)?;
                true
            }
            Event::Swap => {
                self.swap()?;
                true
            }
            Event::Reconfigured => {
                let mut config = self.upkeep.config().clone();
                let options = &mut config.refresh.options;
                if options.pop().is_none() {
                    options.push(("means".to_owned(), "nothing".to_owned()));
                }
                self.upkeep.reconfigure(config);
                self.stepped = false;
                let armed = self.schedule.reconfigured(self.now().boot);
                self.check(armed)?;
                true
            }
            Event::Rotate => {
                self.origin.rotate();
                false
            }
            Event::Stop => {
                if let Some((run, _)) = self.run.take() {
                    self.upkeep.cancelled(run);
                    self.stepped = false;
                }
                self.upkeep.stopped();
                let armed = self.schedule.stopped();
                self.check(armed)?;
                true
            }
        };
        if asks && self.policy.status().decisions == decisions {
            return Err(format!("nothing was decided about {event:?}"));
        }
        Ok(true)
    }

    /// Time passes until a moment, or until just short of it.
    fn pass_to(&mut self, moment: Option<BootMs>, short: u64) -> Checked<bool> {
        let Some(moment) = moment else { return Ok(false) };
        let left = moment.0.saturating_sub(self.now().boot).saturating_sub(short);
        // No machine runs that long.
        if left > 1 << 40 { Ok(false) } else { self.pass(left) }
    }

    /// Time passes, and the owner is woken at the times that it was told.
    fn pass(&mut self, milliseconds: u64) -> Checked<bool> {
        let end = self.now().boot + milliseconds;
        for _ in 0..WAKES {
            self.obey()?;
            let now = self.now().boot;
            let due = self.upkeep.due().map(|due| due.0);
            let until = self.upkeep.verdict_until().map(|until| until.0);
            let next = due.into_iter().chain(until).min().unwrap_or(u64::MAX).max(now).min(end);
            if next == now {
                return Ok(true);
            }
            self.clock.pass(next - now);
        }
        Err("D6: the owner is woken without end".to_owned())
    }

    /// What an owner does when it is woken: it begins what is due, and judges anew what has ended.
    fn obey(&mut self) -> Checked {
        let now = self.now();
        if self.upkeep.verdict_until().is_some_and(|until| until.0 <= now.boot) {
            self.upkeep.judge();
            self.stepped = false;
            self.check(Armed::AsBefore)?;
        }
        if self.upkeep.due().is_some_and(|due| due.0 <= now.boot) {
            self.begin()?;
        }
        Ok(())
    }

    fn begin(&mut self) -> Checked {
        let now = self.now();
        let Some(run) = self.upkeep.begin() else {
            return Err("a run that was due did not begin".to_owned());
        };
        if self.former.is_some_and(|former| former.id >= run.id) {
            return Err(format!("run {} has the id of an earlier one", run.id));
        }
        self.begins += 1;
        self.run = Some((run, now));
        self.stepped = false;
        self.schedule.began(now.boot).map_or(Ok(()), Err)?;
        self.check(Armed::Nothing)
    }

    fn restart(&mut self, off: Option<u64>, credential: u8) -> Checked {
        let saved = serde_json::to_string(self.upkeep.cache()).unwrap();
        let restored: Held<CacheState> = serde_json::from_str(&saved).unwrap();
        if restored != *self.upkeep.cache() {
            return Err("what was read back is not what was saved".to_owned());
        }
        if let Some(off) = off {
            self.clock.reboot(off);
        }
        self.cache.credential = format!("credential-{credential}");
        (self.run, self.former, self.stepped) = (None, None, false);
        self.schedule = Schedule::new(self.setting);
        let now = self.now();
        let config = config(self.setting, &self.cache, now);
        self.upkeep = Upkeep::start(self.policy.clone(), "model", config, Some(restored));
        let armed = self.schedule.started(self.cache.serves(now), now.boot);
        self.check(armed)
    }

    fn swap(&mut self) -> Checked {
        self.swapped = !self.swapped;
        let next = if self.swapped { &self.policies.other } else { &self.policies.deployed };
        self.policy.swap(next.clone());
        self.schedule.swapped();
        let before = *self.upkeep.verdict();
        self.upkeep.judge_if_swapped();
        if !self.stepped && (before.serve, before.state) != (self.upkeep.verdict().serve, self.upkeep.verdict().state) {
            return Err(format!("a swap changed the verdict from {before:?} to {:?}", self.upkeep.verdict()));
        }
        self.stepped = false;
        self.check(Armed::AsBefore)
    }

    // ---- results ----------------------------------------------------------------------------------------------------

    fn result(&mut self, outcome: Outcome) -> Checked {
        let Some((run, requested)) = self.run.take() else { return Ok(()) };
        self.former = Some(run);
        self.stepped = false;
        let now = self.now();
        match outcome {
            Outcome::Document(document) => {
                let arrival = self.arrival(document, requested);
                let decided = self.upkeep.fetched(run, fetched(&arrival, document.tagged, self.origin.ring()));
                let hinted = arrival.ttl.is_some() || arrival.expiry.is_some();
                let ring = self.origin.ring();
                let expected = self.cache.arrived(arrival, now, &ring);
                if decided.as_ref().ok() != Some(&expected) {
                    return Err(format!("R3: {document:?} was {decided:?}, and must be {expected:?}"));
                }
                let armed = match expected {
                    (AdvanceOutcome::Rejected, reason) => {
                        let class = match reason {
                            AdvanceReason::RefusedExpired => FailureClass::Expiry,
                            _ => FailureClass::Rollback,
                        };
                        self.schedule.failed(class, None, self.cache.serves(now), now.boot)
                    }
                    _ => self.succeeded(hinted, now),
                };
                self.check(armed)
            }
            Outcome::NotModified { other, ttl } => {
                let tag = self.upkeep.value().and_then(|value| value.etag.as_ref()).map(|tag| tag.digest.clone());
                let digest = if other { "other".to_owned() } else { tag.unwrap_or_default() };
                let event = NotModifiedEvent { digest: digest.clone(), requested: instant(requested), ttl_ms: ttl };
                let decided = self.upkeep.not_modified(run, event);
                let expected = self.cache.confirmed(&digest, ttl, requested, now);
                if decided.as_ref().ok() != Some(&expected) {
                    return Err(format!("R4: {outcome:?} was {decided:?}, and must be {expected:?}"));
                }
                let armed = self.succeeded(true, now);
                self.check(armed)
            }
            Outcome::Failed { class, retry_after } => {
                let retry_after = retry_after.map(std::time::Duration::from_millis);
                self.upkeep.failed(run, &Failure { retry_after, ..Failure::new(class, "no") });
                let class = FailureClass::from(class);
                self.cache.failed(class, now);
                let retry_after = retry_after.map(|wait| wait.as_millis() as u64);
                let armed = self.schedule.failed(class, retry_after, self.cache.serves(now), now.boot);
                self.check(armed)
            }
            Outcome::Cancelled => {
                self.upkeep.cancelled(run);
                let armed = self.schedule.cancelled(now.boot);
                self.check(armed)
            }
        }
    }

    fn succeeded(&mut self, hinted: bool, now: Stamp) -> Armed {
        let remaining = self.cache.remaining(now).filter(|_| hinted);
        let hangs_on_wall = hinted && self.cache.hangs_on_wall(now);
        self.schedule.succeeded(remaining, hangs_on_wall, now.boot)
    }

    /// A result of a run that is over must change nothing.
    fn late(&mut self, run: Run, outcome: Outcome) -> Checked {
        let before = (self.upkeep.cache().clone(), self.upkeep.is_running());
        let requested = self.now();
        match outcome {
            Outcome::Document(document) => {
                let arrival = self.arrival(document, requested);
                let _ = self.upkeep.fetched(run, fetched(&arrival, document.tagged, self.origin.ring()));
            }
            Outcome::NotModified { ttl, .. } => {
                let digest = self.upkeep.value().map(|value| value.digest.clone()).unwrap_or_default();
                let _ = self
                    .upkeep
                    .not_modified(run, NotModifiedEvent { digest, requested: instant(requested), ttl_ms: ttl });
            }
            Outcome::Failed { class, .. } => self.upkeep.failed(run, &Failure::new(class, "late")),
            Outcome::Cancelled => self.upkeep.cancelled(run),
        }
        if before != (self.upkeep.cache().clone(), self.upkeep.is_running()) {
            return Err(format!("a late {outcome:?} changed something"));
        }
        self.check(Armed::AsBefore)
    }

    fn found(&mut self, document: Document) -> Checked {
        let now = self.now();
        let arrival = self.arrival(document, now);
        let decided = self.upkeep.found(fetched(&arrival, document.tagged, self.origin.ring()));
        self.stepped = false;
        let ring = self.origin.ring();
        let expected = self.cache.arrived(arrival, now, &ring);
        if decided.as_ref().ok() != Some(&expected) {
            return Err(format!("R3: found {document:?} was {decided:?}, and must be {expected:?}"));
        }
        self.check(Armed::AsBefore)
    }

    fn arrival(&mut self, document: Document, requested: Stamp) -> Arrival {
        self.origin.publish(document, &self.cache.credential, requested, &self.clock)
    }

    // ---- checks -----------------------------------------------------------------------------------------------------

    /// Compares what the upkeep says with the references.
    fn check(&mut self, armed: Armed) -> Checked {
        let now = self.now();
        let due = self.upkeep.due().map(|due| due.0);
        if let Some(wrong) = self.schedule.wrong(armed, due) {
            return Err(wrong);
        }
        if self.upkeep.is_running() != self.run.is_some() || (self.run.is_some() && due.is_some()) {
            return Err("S1: more than one run is armed or under way".to_owned());
        }
        if self.policy.status().overruled > 0 {
            return Err("the host had to overrule the policy".to_owned());
        }
        let held = self.cache.held.as_ref().map(|held| held.arrival.digest.as_str());
        let value = self.upkeep.value().map(|value| value.digest.as_str());
        if value != held {
            return Err(format!("D1: {value:?} is held, and must be {held:?}"));
        }
        // Nobody wakes an owner because the wall clock was stepped.
        let blind = self.stepped && self.cache.hangs_on_wall(now);
        let ended = self.upkeep.verdict_until().is_some_and(|until| until.0 <= now.boot);
        if blind || ended {
            return Ok(());
        }
        if let Some(wrong) = self.cache.wrong(self.upkeep.verdict(), self.run.is_some(), now) {
            return Err(wrong);
        }
        self.check_end(now)
    }

    /// A verdict must hold until the time that it names: asked again in the middle and at the end it is the same.
    fn check_end(&self, now: Stamp) -> Checked {
        let verdict = self.upkeep.verdict();
        let Some(until) = verdict.until_boot_ms else {
            let endless = verdict.serve == ServeVerdict::Serve;
            return if endless { Err("D5: what is served is served without end".to_owned()) } else { Ok(()) };
        };
        let left = until - now.boot;
        for later in [left / 2, left - 1] {
            let again = self.clock.later(later, || self.ask());
            if again.as_ref() != Some(verdict) {
                return Err(format!("{verdict:?} did not hold: {later} ms later it is {again:?}"));
            }
        }
        Ok(())
    }

    fn ask(&self) -> Option<LookupDecision> {
        self.policy.lookup(&self.probe, &self.upkeep.config().cache, self.upkeep.cache()).ok()
    }
}
