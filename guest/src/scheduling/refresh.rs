//! When a subject is fetched again: one run at a time, spread over the fleet, paced by failures.
//!
//! The rules are those of design.md 3, item 1, on the ground of reliability.md 6. Three invariants hold for every input:
//! at most one run is armed or under way; nothing but an event of the run under way, named by its id, ends it; and no
//! wish brings a run forward that a failure has paced. This file must never start a second chain of runs, and must never
//! push an armed run to a later time because somebody wished one.
//!
//! # Pace after a failure
//!
//! While the last run failed and what is armed was armed by that failure, background and blocking wishes, announced
//! changes and (for refused credentials and `Retry-After`) wake-ups leave it alone. A force and new credentials do not;
//! but a force, too, keeps a second between a run and the next (R5), and wishes do not shorten that either.
//!
//! # On demand
//!
//! In this mode nothing is armed but by reads and forces (and a cold start, which has a reader by nature). After a
//! failure the phase is idle; a later wish is armed no earlier than the end of the failed run plus its backoff (or, for
//! refused credentials, plus their long wait, and not before what a `Retry-After` asked for), and from then on it is a
//! paced run like any other.
//!
//! # After the end
//!
//! `stopped` leaves a mark in the memo; until the next `started`, every event is answered with `stopped` and changes
//! nothing, so that a late result or wish cannot revive a subject that ended.

use crate::environment::{Environment, after, equal_jitter, exponential, jitter, share, uniform, uniform_between};
use crate::limits::{
    AUTH_WAIT_INTERVALS, BACKOFF_LEAST_MS, CHANGED_WINDOW_MS, FORCE_LEAST_MS, FRESHNESS_SHARE_PERMILLE,
    INTERVAL_GREATEST_MS, INTERVAL_LEAST_MS, NEAR_WINDOW_PERMILLE, RETRY_AFTER_GREATEST_MS,
    RETRY_AFTER_JITTER_PERMILLE,
};
use crate::types::{
    ActiveRun, ArmedRun, FailedEvent, FailureClass, RefreshConfig, RefreshDecision, RefreshEvent, RefreshMode,
    RefreshPhase, RefreshReason, RefreshState, StartKind, StartedEvent, SubjectKind, SucceededEvent, Urgency,
};

mod memo;
#[cfg(test)]
mod tests;

/// The state of a subject before its first event.
#[must_use]
pub fn initial_refresh_state() -> RefreshState {
    RefreshState {
        phase: RefreshPhase::Idle,
        failures: 0,
        last_class: None,
        interval_ms: 0,
        next_run_id: 1,
        last_end_boot_ms: None,
        boot_id: 0,
        memo: Vec::new(),
    }
}

/// Decides what an event means for a subject's refresh.
pub fn refresh(
    environment: &mut dyn Environment,
    config: &RefreshConfig,
    state: RefreshState,
    event: RefreshEvent,
) -> RefreshDecision {
    let now = environment.boot_ms();
    let mut subject = Subject { environment, settings: Settings::of(config), now, state };
    let reason = subject.handle(event);
    let run_at_boot_ms = match &subject.state.phase {
        RefreshPhase::Armed(run) => Some(run.run_at_boot_ms),
        RefreshPhase::Idle | RefreshPhase::Running(_) => None,
    };
    RefreshDecision { state: subject.state, run_at_boot_ms, reason }
}

/// The configuration, clamped to what the rules can bear.
struct Settings {
    kind: SubjectKind,
    background: bool,
    /// T.
    interval: u64,
    floor: u64,
    jitter_permille: u32,
    backoff_min: u64,
    backoff_max: u64,
}

impl Settings {
    fn of(config: &RefreshConfig) -> Self {
        let interval = config.interval_ms.clamp(INTERVAL_LEAST_MS, INTERVAL_GREATEST_MS);
        let backoff_min = config.backoff_min_ms.clamp(BACKOFF_LEAST_MS, INTERVAL_GREATEST_MS);
        let longest = match config.kind {
            // A fleet shares the map's origin: a cap below T would multiply the load of an outage (reliability 6.1).
            SubjectKind::ServiceMap => interval,
            SubjectKind::Connector => config.backoff_max_ms.min(INTERVAL_GREATEST_MS),
        };
        Self {
            kind: config.kind,
            background: config.mode == RefreshMode::Background,
            interval,
            floor: config.floor_ms.min(interval),
            jitter_permille: config.jitter_permille.min(1_000),
            backoff_min,
            backoff_max: longest.max(backoff_min),
        }
    }

    /// The part of the interval in which wishes and wake-ups are spread.
    fn near_window(&self) -> u64 {
        share(self.interval, NEAR_WINDOW_PERMILLE)
    }

    /// The part of the interval in which an announced change is followed.
    fn changed_window(&self) -> u64 {
        match self.kind {
            SubjectKind::ServiceMap => self.near_window(),
            SubjectKind::Connector => CHANGED_WINDOW_MS.min(self.interval),
        }
    }
}

/// One decision in the making.
struct Subject<'a> {
    environment: &'a mut dyn Environment,
    settings: Settings,
    now: u64,
    state: RefreshState,
}

impl Subject<'_> {
    fn handle(&mut self, event: RefreshEvent) -> RefreshReason {
        if memo::is_stopped(&self.state) && !matches!(event, RefreshEvent::Started(_)) {
            self.state.phase = RefreshPhase::Idle;
            return RefreshReason::Stopped;
        }
        match event {
            RefreshEvent::Started(event) => self.started(&event),
            RefreshEvent::Began => self.began(),
            RefreshEvent::Succeeded(event) => self.succeeded(&event),
            RefreshEvent::Failed(event) => self.failed(&event),
            RefreshEvent::Cancelled(run_id) => self.cancelled(run_id),
            RefreshEvent::Wanted(urgency) => self.wanted(urgency),
            RefreshEvent::Forced => self.forced(),
            RefreshEvent::Changed => self.changed(),
            RefreshEvent::Resumed => self.resumed(),
            RefreshEvent::Stopped => self.stopped(),
            RefreshEvent::ConfigChanged => self.config_changed(),
            RefreshEvent::CredentialsChanged => self.credentials_changed(),
        }
    }

    // ---- life and end -----------------------------------------------------------------------------------------------

    fn started(&mut self, event: &StartedEvent) -> RefreshReason {
        memo::clear(&mut self.state);
        if self.state.boot_id != event.boot_id {
            // Times of another boot mean nothing here.
            self.state.last_end_boot_ms = None;
            self.state.boot_id = event.boot_id;
        }
        // A run of a former process is gone with it.
        self.state.phase = RefreshPhase::Idle;
        match event.start {
            StartKind::Cold => self.arm_after(0, RefreshReason::ColdStart),
            StartKind::Warm | StartKind::WarmStale if !self.settings.background => RefreshReason::OnDemand,
            StartKind::Warm | StartKind::WarmStale => {
                let delay = uniform(self.environment, self.settings.interval);
                self.arm_after(delay, RefreshReason::WarmStart)
            }
        }
    }

    fn stopped(&mut self) -> RefreshReason {
        self.state.phase = RefreshPhase::Idle;
        memo::note_stopped(&mut self.state);
        RefreshReason::Stopped
    }

    fn config_changed(&mut self) -> RefreshReason {
        match &self.state.phase {
            RefreshPhase::Running(_) => RefreshReason::ConfigChanged,
            RefreshPhase::Idle if !self.settings.background => RefreshReason::OnDemand,
            RefreshPhase::Idle => {
                // The mode was switched to background: join the fleet at a random phase.
                let delay = uniform(self.environment, self.settings.interval);
                let at = after(self.now, delay).max(memo::not_before(&self.state));
                self.arm_at(at, RefreshReason::ConfigChanged)
            }
            RefreshPhase::Armed(run) if !self.settings.background && !is_asked_for(run.reason) => {
                self.state.phase = RefreshPhase::Idle;
                RefreshReason::OnDemand
            }
            RefreshPhase::Armed(run) => {
                // The run keeps its reason, and with it its pace; only a time that the new interval cannot explain moves.
                let run = ArmedRun {
                    run_at_boot_ms: run.run_at_boot_ms.min(after(self.now, self.longest_wait(run.reason))),
                    reason: run.reason,
                };
                self.state.phase = RefreshPhase::Armed(run);
                RefreshReason::ConfigChanged
            }
        }
    }

    /// The longest time that a run may have been armed for under the settings of now.
    fn longest_wait(&self, reason: RefreshReason) -> u64 {
        let interval = self.settings.interval;
        let steady = interval.saturating_add(share(interval, u64::from(self.settings.jitter_permille)));
        match reason {
            RefreshReason::AuthWait => interval.saturating_mul(AUTH_WAIT_INTERVALS + 1),
            RefreshReason::RetryAfter => {
                steady.max(RETRY_AFTER_GREATEST_MS + share(RETRY_AFTER_GREATEST_MS, RETRY_AFTER_JITTER_PERMILLE))
            }
            _ => steady.max(self.settings.floor),
        }
    }

    // ---- runs -------------------------------------------------------------------------------------------------------

    fn began(&mut self) -> RefreshReason {
        match self.state.phase {
            RefreshPhase::Armed(_) => {
                memo::clear(&mut self.state);
                let run_id = self.state.next_run_id;
                // Wraps rather than stays: two runs in a row must differ in their ids, whatever the state held.
                self.state.next_run_id = run_id.wrapping_add(1);
                self.state.phase = RefreshPhase::Running(ActiveRun { run_id, since_boot_ms: self.now, again: false });
                RefreshReason::Began
            }
            RefreshPhase::Running(_) => RefreshReason::AlreadyRunning,
            RefreshPhase::Idle => RefreshReason::Late,
        }
    }

    /// Ends the run under way if it is this one, and tells whether it is to be repeated.
    fn end(&mut self, run_id: u64) -> Option<bool> {
        match &self.state.phase {
            RefreshPhase::Running(run) if run.run_id == run_id => {
                let again = run.again;
                self.state.phase = RefreshPhase::Idle;
                self.state.last_end_boot_ms = Some(self.now);
                memo::clear(&mut self.state);
                Some(again)
            }
            _ => None,
        }
    }

    fn succeeded(&mut self, event: &SucceededEvent) -> RefreshReason {
        let Some(again) = self.end(event.run_id) else {
            return RefreshReason::Late;
        };
        self.state.failures = 0;
        self.state.last_class = None;
        if again {
            return self.arm_after(0, RefreshReason::Changed);
        }
        if !self.settings.background {
            return RefreshReason::OnDemand;
        }
        let (interval, reason) = match event.fresh_for_ms.map(|fresh| share(fresh, FRESHNESS_SHARE_PERMILLE)) {
            // Zero is a value that is never fresh (no time to live, or expired already): no pace keeps it fresh, and
            // a fleet that polled at the floor would be a storm.
            Some(soon) if soon > 0 && soon < self.settings.interval => (soon, RefreshReason::Freshness),
            _ => (self.settings.interval, RefreshReason::Steady),
        };
        let least = self.settings.floor.max(INTERVAL_LEAST_MS);
        let interval = jitter(self.environment, interval.max(least), self.settings.jitter_permille).max(least);
        self.state.interval_ms = interval;
        self.arm_after(interval, reason)
    }

    fn failed(&mut self, event: &FailedEvent) -> RefreshReason {
        let new_credentials = memo::has_new_credentials(&self.state, event.run_id);
        if self.end(event.run_id).is_none() {
            return RefreshReason::Late;
        }
        self.state.failures = self.state.failures.saturating_add(1);
        self.state.last_class = Some(event.class);
        if new_credentials && event.class == FailureClass::Auth {
            // They changed while the run was under way: try them before the long wait.
            return self.arm_after(0, RefreshReason::CredentialsChanged);
        }
        let asked = event.retry_after_ms.map(|asked| self.retry_after(asked)).filter(|asked| *asked > 0);
        if let Some(asked) = asked {
            memo::note_not_before(&mut self.state, after(self.now, asked));
        }
        if !self.settings.background {
            return RefreshReason::OnDemand;
        }
        let (delay, reason) = self.pace(event.serving);
        match asked {
            Some(asked) if asked > delay => self.arm_after(asked, RefreshReason::RetryAfter),
            _ => self.arm_after(delay, reason),
        }
    }

    fn cancelled(&mut self, run_id: u64) -> RefreshReason {
        if self.end(run_id).is_none() {
            return RefreshReason::Late;
        }
        if self.settings.background {
            let delay = self.backoff();
            self.arm_after(delay, RefreshReason::Cancelled);
        }
        RefreshReason::Cancelled
    }

    // ---- pace -------------------------------------------------------------------------------------------------------

    /// How long to wait after the failure that was just counted.
    fn pace(&mut self, serving: bool) -> (u64, RefreshReason) {
        let interval = self.settings.interval;
        if self.state.last_class == Some(FailureClass::Auth) {
            let wait = interval.saturating_mul(AUTH_WAIT_INTERVALS);
            return (wait.saturating_add(uniform(self.environment, interval)), RefreshReason::AuthWait);
        }
        match self.settings.kind {
            // A connector that is down must rejoin within its cap, whether an old list is served meanwhile or not.
            SubjectKind::Connector => (self.backoff(), RefreshReason::Backoff),
            SubjectKind::ServiceMap if !serving => (self.backoff(), RefreshReason::Backoff),
            SubjectKind::ServiceMap if self.state.failures <= 1 => {
                let delay = uniform_between(self.environment, self.settings.floor, interval);
                (delay, RefreshReason::BackoffServing)
            }
            SubjectKind::ServiceMap => {
                let delay = uniform_between(self.environment, self.settings.floor.max(interval / 2), interval);
                (delay, RefreshReason::BackoffServingAgain)
            }
        }
    }

    /// Exponential backoff with equal jitter, by the failures counted so far.
    fn backoff(&mut self) -> u64 {
        let ceiling = exponential(self.settings.backoff_min, self.settings.backoff_max, self.state.failures);
        equal_jitter(self.environment, ceiling)
    }

    /// What the origin asked for, clamped, plus jitter. A floor: the own pace holds if it is longer.
    fn retry_after(&mut self, asked: u64) -> u64 {
        if asked == 0 {
            return 0;
        }
        let asked = asked.min(RETRY_AFTER_GREATEST_MS);
        let spread = share(asked, RETRY_AFTER_JITTER_PERMILLE).max(self.settings.backoff_min.min(asked));
        asked.saturating_add(uniform(self.environment, spread))
    }

    /// Whether a failure paces this armed run, so that wishes leave it alone. So it is with a force after a failure: it
    /// is due within its second, and a wish on its own would have had to wait for longer.
    fn is_paced(&self, reason: RefreshReason) -> bool {
        self.state.failures > 0
            && matches!(
                reason,
                RefreshReason::Backoff
                    | RefreshReason::BackoffServing
                    | RefreshReason::BackoffServingAgain
                    | RefreshReason::RetryAfter
                    | RefreshReason::AuthWait
                    | RefreshReason::Cancelled
                    | RefreshReason::Forced
            )
    }

    // ---- wishes -----------------------------------------------------------------------------------------------------

    fn wanted(&mut self, urgency: Urgency) -> RefreshReason {
        let reason = match urgency {
            Urgency::Background => RefreshReason::WantedBackground,
            Urgency::Blocking => RefreshReason::WantedBlocking,
        };
        let armed = match &self.state.phase {
            RefreshPhase::Running(_) => return RefreshReason::AlreadyRunning,
            RefreshPhase::Armed(run) => Some(run.clone()),
            RefreshPhase::Idle => None,
        };
        let Some(armed) = armed else {
            let (at, reason) = self.wish_from_idle(urgency, reason);
            return self.arm_at(at, reason);
        };
        if self.is_paced(armed.reason) {
            return RefreshReason::AlreadyArmed;
        }
        match urgency {
            Urgency::Blocking => self.bring_forward(&armed, self.now, reason),
            // Within the window nothing is drawn again: repeated wishes must not creep towards now.
            Urgency::Background if armed.run_at_boot_ms <= after(self.now, self.settings.near_window()) => {
                RefreshReason::AlreadyArmed
            }
            Urgency::Background => {
                let at = after(self.now, uniform(self.environment, self.settings.near_window())).max(self.floor_end());
                self.bring_forward(&armed, at, reason)
            }
        }
    }

    /// When a wish is followed while nothing is armed, and why then: on demand, or by a subject that was never started.
    /// A run that a failure delays says so by its reason; else the next wish would bring it forward.
    fn wish_from_idle(&mut self, urgency: Urgency, reason: RefreshReason) -> (u64, RefreshReason) {
        let mut at = self.now;
        if urgency == Urgency::Background {
            at = at.max(self.floor_end());
        }
        if self.state.failures > 0
            && let Some(end) = self.state.last_end_boot_ms
        {
            let (wait, pace) = match self.state.last_class {
                Some(FailureClass::Auth) => {
                    (self.settings.interval.saturating_mul(AUTH_WAIT_INTERVALS), RefreshReason::AuthWait)
                }
                _ => (self.backoff(), RefreshReason::Backoff),
            };
            let asked = memo::not_before(&self.state);
            let (paced, pace) = match after(end, wait) {
                own if own < asked => (asked, RefreshReason::RetryAfter),
                own => (own, pace),
            };
            if paced > self.now {
                return (at.max(paced), pace);
            }
        }
        (at, reason)
    }

    /// The first moment at which something that is served may be fetched again unforced.
    fn floor_end(&self) -> u64 {
        self.state.last_end_boot_ms.map_or(0, |end| after(end, self.settings.floor))
    }

    fn forced(&mut self) -> RefreshReason {
        // The end of a run lies in the past; whatever the state holds, a force waits for no longer than its rate.
        let earliest = self.state.last_end_boot_ms.map_or(self.now, |end| after(end.min(self.now), FORCE_LEAST_MS));
        let at = earliest.max(self.now);
        match &self.state.phase {
            RefreshPhase::Running(_) => RefreshReason::Joined,
            RefreshPhase::Armed(run) => {
                let at = run.run_at_boot_ms.min(at);
                self.arm_at(at, RefreshReason::Forced)
            }
            RefreshPhase::Idle => self.arm_at(at, RefreshReason::Forced),
        }
    }

    fn changed(&mut self) -> RefreshReason {
        let window = self.settings.changed_window();
        match &mut self.state.phase {
            RefreshPhase::Running(run) => {
                run.again = true;
                RefreshReason::Changed
            }
            RefreshPhase::Armed(run) => {
                let armed = run.clone();
                if self.is_paced(armed.reason) {
                    return RefreshReason::AlreadyArmed;
                }
                self.draw_forward(&armed, window, 0, RefreshReason::Changed)
            }
            RefreshPhase::Idle => self.arm_from_idle(window, RefreshReason::Changed),
        }
    }

    fn resumed(&mut self) -> RefreshReason {
        let window = self.settings.near_window();
        match &self.state.phase {
            RefreshPhase::Running(_) => RefreshReason::AlreadyRunning,
            RefreshPhase::Armed(run)
                if self.is_paced(run.reason)
                    && matches!(run.reason, RefreshReason::RetryAfter | RefreshReason::AuthWait) =>
            {
                // What the origin said does not change because this machine slept.
                RefreshReason::AlreadyArmed
            }
            RefreshPhase::Armed(run) => {
                let armed = run.clone();
                // A short sleep must not break the floor. What backs off with nothing to serve, or a connector that is
                // down, is not kept apart by it.
                let failing = self.state.failures > 0;
                let apart = match self.settings.kind {
                    SubjectKind::ServiceMap => !failing || armed.reason != RefreshReason::Backoff,
                    SubjectKind::Connector => !failing,
                };
                let floor_end = if apart { self.floor_end() } else { 0 };
                // What the origin asked for holds where the own pace was longer, too.
                let least = floor_end.max(memo::not_before(&self.state));
                self.draw_forward(&armed, window, least, RefreshReason::Resumed)
            }
            RefreshPhase::Idle => self.arm_from_idle(window, RefreshReason::Resumed),
        }
    }

    fn credentials_changed(&mut self) -> RefreshReason {
        self.state.failures = 0;
        self.state.last_class = None;
        match &mut self.state.phase {
            RefreshPhase::Running(run) => {
                // The run under way uses the old ones.
                run.again = true;
                let run_id = run.run_id;
                memo::note_new_credentials(&mut self.state, run_id);
                RefreshReason::CredentialsChanged
            }
            RefreshPhase::Armed(run) => {
                let at = run.run_at_boot_ms.min(self.now);
                self.arm_at(at, RefreshReason::CredentialsChanged)
            }
            RefreshPhase::Idle => self.arm_from_idle(0, RefreshReason::CredentialsChanged),
        }
    }

    // ---- arming -----------------------------------------------------------------------------------------------------

    fn arm_at(&mut self, run_at_boot_ms: u64, reason: RefreshReason) -> RefreshReason {
        self.state.phase = RefreshPhase::Armed(ArmedRun { run_at_boot_ms, reason });
        reason
    }

    fn arm_after(&mut self, delay: u64, reason: RefreshReason) -> RefreshReason {
        self.arm_at(after(self.now, delay), reason)
    }

    /// Arms somewhere in the window, unless only reads and forces may arm.
    fn arm_from_idle(&mut self, window: u64, reason: RefreshReason) -> RefreshReason {
        if !self.settings.background {
            return RefreshReason::OnDemand;
        }
        let delay = uniform(self.environment, window);
        self.arm_after(delay, reason)
    }

    /// Moves an armed run into the window from now on, but not before `least`, if it is not due within it already.
    fn draw_forward(&mut self, armed: &ArmedRun, window: u64, least: u64, reason: RefreshReason) -> RefreshReason {
        if armed.run_at_boot_ms <= after(self.now, window) {
            return RefreshReason::AlreadyArmed;
        }
        let at = after(self.now, uniform(self.environment, window)).max(least);
        self.bring_forward(armed, at, reason)
    }

    /// Moves an armed run to an earlier time, never to a later one.
    fn bring_forward(&mut self, armed: &ArmedRun, at: u64, reason: RefreshReason) -> RefreshReason {
        if armed.run_at_boot_ms <= at {
            return RefreshReason::AlreadyArmed;
        }
        self.arm_at(at, reason)
    }
}

/// Whether a reader or an operator asked for this run, so that it stands in the on-demand mode too.
fn is_asked_for(reason: RefreshReason) -> bool {
    matches!(
        reason,
        RefreshReason::ColdStart
            | RefreshReason::Forced
            | RefreshReason::WantedBackground
            | RefreshReason::WantedBlocking
    )
}
