//! Whether calls pass to a connector.
//!
//! Closed, open, half open: it opens at failures in a row or at a share of the last outcomes, stays open for an
//! exponential, jittered time, then lets exactly one probe through. It guards calls alone: it must never take away a list,
//! and an outcome that does not carry the ID of the probe under way must never close it.
//!
//! # Evidence
//!
//! While it is open, anything that the server answers is evidence: a list, a session, a ping, a call that passed earlier.
//! Evidence ends the open time, so that the next call is the probe; only the probe's own success closes the breaker.
//!
//! A server may answer lists and fail calls. So a probe that fails although something was answered since the breaker
//! opened makes such answers doubtful: they count no more until the open time that is drawn then has ended. Answers since
//! then decide in the same way about the next opening. A probe that fails while nothing was answered (the server was
//! down) casts no doubt: the first answer after an outage counts, however often probes failed during the outage.

use crate::environment::{Environment, after, equal_jitter, exponential};
use crate::limits::{ALL_PERMILLE, BREAKER_TIME_LEAST_MS, BREAKER_WINDOW_GREATEST};
use crate::types::{
    BreakerConfig, BreakerDecision, BreakerEvent, BreakerPhase, BreakerReason, BreakerState, BreakerVerdict,
    HalfOpenBreaker, OpenBreaker,
};

mod memo;
#[cfg(test)]
mod schedules;
#[cfg(test)]
mod tests;

/// The state of a breaker before its first event: closed, nothing known.
#[must_use]
pub fn initial_breaker_state() -> BreakerState {
    BreakerState {
        phase: BreakerPhase::Closed,
        consecutive: 0,
        recent: 0,
        recent_count: 0,
        opened: 0,
        next_probe_id: 1,
        memo: Vec::new(),
    }
}

/// Decides what an event means for a breaker. To an event other than `asked` the verdict tells what the next call would
/// be told; it issues no probe.
pub fn breaker(
    environment: &mut dyn Environment,
    config: &BreakerConfig,
    state: BreakerState,
    event: BreakerEvent,
) -> BreakerDecision {
    let now = environment.boot_ms();
    let mut breaker = Breaker { environment, settings: Settings::of(config), now, state };
    breaker.bound_times();
    let (verdict, reason) = match event {
        BreakerEvent::Asked => breaker.asked(),
        BreakerEvent::Succeeded(probe) => {
            let reason = breaker.succeeded(probe);
            (breaker.outlook(), reason)
        }
        BreakerEvent::Failed(probe) => {
            let reason = breaker.failed(probe);
            (breaker.outlook(), reason)
        }
        BreakerEvent::Cancelled(probe) => {
            let reason = breaker.cancelled(probe);
            (breaker.outlook(), reason)
        }
    };
    BreakerDecision { state: breaker.state, verdict, reason }
}

/// The configuration, clamped to what the rules can bear.
struct Settings {
    failure_threshold: u32,
    window: u32,
    rate_permille: u64,
    open_min: u64,
    open_max: u64,
    probe_deadline: u64,
}

impl Settings {
    fn of(config: &BreakerConfig) -> Self {
        let open_min = config.open_min_ms.max(BREAKER_TIME_LEAST_MS);
        Self {
            failure_threshold: config.failure_threshold.max(1),
            window: config.window.clamp(1, BREAKER_WINDOW_GREATEST),
            rate_permille: u64::from(config.rate_permille).clamp(1, ALL_PERMILLE),
            open_min,
            open_max: config.open_max_ms.max(open_min),
            probe_deadline: config.probe_deadline_ms.max(BREAKER_TIME_LEAST_MS),
        }
    }
}

/// One decision in the making.
struct Breaker<'a> {
    environment: &'a mut dyn Environment,
    settings: Settings,
    now: u64,
    state: BreakerState,
}

impl Breaker<'_> {
    /// Times that no rule can have set (another boot, a shortened configuration) are brought back into reach, so that
    /// a breaker cannot stay shut for ever.
    fn bound_times(&mut self) {
        let open_end = after(self.now, self.settings.open_max);
        let probe_end = after(self.now, self.settings.probe_deadline);
        match &mut self.state.phase {
            BreakerPhase::Closed => {}
            BreakerPhase::Open(open) => open.until_boot_ms = open.until_boot_ms.min(open_end),
            BreakerPhase::HalfOpen(half) => half.deadline_boot_ms = half.deadline_boot_ms.min(probe_end),
        }
    }

    fn asked(&mut self) -> (BreakerVerdict, BreakerReason) {
        match &self.state.phase {
            BreakerPhase::Closed => (BreakerVerdict::Allow, BreakerReason::Closed),
            BreakerPhase::Open(open) if self.now < open.until_boot_ms => {
                (BreakerVerdict::Reject(open.until_boot_ms), BreakerReason::Open)
            }
            BreakerPhase::Open(_) => (self.probe(), BreakerReason::Probing),
            BreakerPhase::HalfOpen(half) if self.now < half.deadline_boot_ms => {
                (BreakerVerdict::Reject(half.deadline_boot_ms), BreakerReason::ProbeInFlight)
            }
            BreakerPhase::HalfOpen(_) => (self.probe(), BreakerReason::ProbeLost),
        }
    }

    /// What the next call would be told.
    fn outlook(&self) -> BreakerVerdict {
        match &self.state.phase {
            BreakerPhase::Closed => BreakerVerdict::Allow,
            BreakerPhase::Open(open) if self.now < open.until_boot_ms => BreakerVerdict::Reject(open.until_boot_ms),
            BreakerPhase::HalfOpen(half) if self.now < half.deadline_boot_ms => {
                BreakerVerdict::Reject(half.deadline_boot_ms)
            }
            BreakerPhase::Open(_) | BreakerPhase::HalfOpen(_) => BreakerVerdict::Probe(self.state.next_probe_id),
        }
    }

    /// Lets one probe through.
    fn probe(&mut self) -> BreakerVerdict {
        let probe_id = self.state.next_probe_id;
        // Wraps rather than stays: two probes in a row must differ in their ids, whatever the state held.
        self.state.next_probe_id = probe_id.wrapping_add(1);
        let deadline_boot_ms = after(self.now, self.settings.probe_deadline);
        self.state.phase = BreakerPhase::HalfOpen(HalfOpenBreaker { probe_id, deadline_boot_ms });
        BreakerVerdict::Probe(probe_id)
    }

    /// Whether this is the probe under way. A probe past its deadline counts as long as no other took its place.
    fn is_probe(&self, probe: Option<u64>) -> bool {
        matches!(&self.state.phase, BreakerPhase::HalfOpen(half) if Some(half.probe_id) == probe)
    }

    fn is_plain(&self, probe: Option<u64>) -> bool {
        probe.is_none() && self.state.phase == BreakerPhase::Closed
    }

    fn succeeded(&mut self, probe: Option<u64>) -> BreakerReason {
        if self.is_probe(probe) {
            self.state.phase = BreakerPhase::Closed;
            self.state.consecutive = 0;
            self.state.recent = 0;
            self.state.recent_count = 0;
            self.state.opened = 0;
            memo::clear(&mut self.state);
            return BreakerReason::ProbeSucceeded;
        }
        if !self.is_plain(probe) {
            return self.answered(probe);
        }
        self.state.consecutive = 0;
        self.note(false);
        BreakerReason::Closed
    }

    /// The server answered something other than the probe.
    fn answered(&mut self, probe: Option<u64>) -> BreakerReason {
        // A probe that counted as lost was a call: its answer is never doubted.
        let counts = probe.is_some() || !memo::is_doubted(&self.state);
        let BreakerPhase::Open(open) = &mut self.state.phase else {
            return BreakerReason::Late;
        };
        let ends_it = counts && self.now < open.until_boot_ms;
        if ends_it {
            open.until_boot_ms = self.now;
        }
        memo::note_answered(&mut self.state);
        if ends_it { BreakerReason::Probing } else { BreakerReason::Late }
    }

    fn failed(&mut self, probe: Option<u64>) -> BreakerReason {
        if self.is_probe(probe) {
            self.open();
            return BreakerReason::ProbeFailed;
        }
        if !self.is_plain(probe) {
            return BreakerReason::Late;
        }
        self.state.consecutive = self.state.consecutive.saturating_add(1);
        self.note(true);
        if self.state.consecutive >= self.settings.failure_threshold {
            self.open();
            return BreakerReason::ConsecutiveFailures;
        }
        let failed = u64::from(self.state.recent.count_ones());
        let whole = self.state.recent_count >= self.settings.window;
        if whole && failed * ALL_PERMILLE >= self.settings.rate_permille * u64::from(self.settings.window) {
            self.open();
            return BreakerReason::FailureRate;
        }
        BreakerReason::Closed
    }

    fn cancelled(&mut self, probe: Option<u64>) -> BreakerReason {
        if self.is_probe(probe) {
            // Nothing was learnt: the next call may probe at once.
            self.state.phase = BreakerPhase::Open(OpenBreaker { until_boot_ms: self.now });
            return BreakerReason::ProbeLost;
        }
        if self.is_plain(probe) { BreakerReason::Closed } else { BreakerReason::Late }
    }

    /// Remembers an outcome, within the window.
    fn note(&mut self, failure: bool) {
        let window = self.settings.window;
        let mask = u32::MAX >> (BREAKER_WINDOW_GREATEST - window);
        self.state.recent = ((self.state.recent << 1) | u32::from(failure)) & mask;
        self.state.recent_count = self.state.recent_count.saturating_add(1).min(window);
    }

    /// Opens, for longer each time until a probe does well.
    fn open(&mut self) {
        self.state.opened = self.state.opened.saturating_add(1);
        memo::note_opened(&mut self.state);
        let ceiling = exponential(self.settings.open_min, self.settings.open_max, self.state.opened);
        let open_time = equal_jitter(self.environment, ceiling);
        self.state.phase = BreakerPhase::Open(OpenBreaker { until_boot_ms: after(self.now, open_time) });
    }
}
