//! A connector's breaker: the policy decides, this keeps its state and turns outcomes into events.
//!
//! Every call that passed reports exactly one outcome, also when its caller goes away: [`Passage`] sees to that. While not
//! every call passes, what the server answers otherwise (lists, sessions, pings) is reported too: see [`Breaker::answered`].

mod opening;
mod pass;

use std::mem::{Discriminant, discriminant};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use self::opening::Opening;
use super::limits;
use crate::model::{BootMs, ConnectorId, milliseconds};
use crate::policy::contract::{BreakerConfig, BreakerEvent, BreakerPhase, BreakerState, BreakerVerdict};
use crate::policy::{Held, Policy, Subject};

/// The breaker of one connector.
pub(super) struct Breaker {
    policy: Arc<Policy>,
    subject: Subject,
    config: ArcSwap<BreakerConfig>,
    inner: Mutex<Inner>,
    /// Touched when a call has an outcome, for calls that wait for the probe's.
    outcomes: watch::Sender<()>,
    /// Changes when it opens, half opens or closes: `status` shows that.
    phases: watch::Sender<Discriminant<BreakerPhase>>,
    /// For calls that wait beside the probe.
    waiting: Arc<Semaphore>,
}

struct Inner {
    held: Held<BreakerState>,
    opening: Opening,
}

/// Why a call does not pass now.
pub(super) struct Refused {
    /// The time before which nothing passes.
    until: BootMs,
    /// Whether that is because a probe is under way.
    is_beside_probe: bool,
    /// Whether this call has the gateway look whether the server answers.
    looks: bool,
}

impl Breaker {
    /// A closed one.
    pub(super) fn new(
        policy: Arc<Policy>,
        id: &ConnectorId,
        call_timeout: Duration,
        options: Vec<(String, String)>,
    ) -> Self {
        let config = Self::config(call_timeout, options);
        let subject = policy.subject(format!("connector/{id}/breaker"));
        let inner = Inner { held: Held::new(BreakerState::initial()), opening: Opening::default() };
        Self {
            policy,
            subject,
            config: ArcSwap::from_pointee(config),
            inner: Mutex::new(inner),
            outcomes: watch::Sender::new(()),
            phases: watch::Sender::new(discriminant(&BreakerPhase::Closed)),
            waiting: Arc::new(Semaphore::new(limits::PROBE_WAITING_MAX)),
        }
    }

    /// Other settings are in force from now on.
    pub(super) fn reconfigure(&self, call_timeout: Duration, options: Vec<(String, String)>) {
        self.config.store(Arc::new(Self::config(call_timeout, options)));
    }

    fn config(call_timeout: Duration, options: Vec<(String, String)>) -> BreakerConfig {
        BreakerConfig {
            failure_threshold: limits::BREAKER_THRESHOLD,
            window: limits::BREAKER_WINDOW,
            rate_permille: limits::BREAKER_RATE_PERMILLE,
            open_min_ms: milliseconds(limits::BREAKER_OPEN_MIN),
            open_max_ms: milliseconds(limits::BREAKER_OPEN_MAX),
            probe_deadline_ms: milliseconds(call_timeout + limits::PROBE_MARGIN),
            options,
        }
    }

    /// Asks to pass.
    fn ask(self: &Arc<Self>) -> Result<Passage, Refused> {
        let mut inner = self.lock();
        let now = self.now();
        if let BreakerPhase::HalfOpen(half) = inner.held.state.phase
            && inner.opening.gives_up_probe(now)
        {
            self.decide(&mut inner, BreakerEvent::Cancelled(Some(half.probe_id)));
            // The answer that the probe was given up for.
            self.decide(&mut inner, BreakerEvent::Succeeded(None));
        }
        let probe = match self.decide(&mut inner, BreakerEvent::Asked) {
            BreakerVerdict::Allow => None,
            BreakerVerdict::Probe(id) => Some(id),
            BreakerVerdict::Reject(until) => {
                let until = BootMs(until);
                let is_beside_probe = matches!(inner.held.state.phase, BreakerPhase::HalfOpen(_));
                return Err(Refused { until, is_beside_probe, looks: inner.opening.looks(now) });
            }
        };
        Ok(Passage { breaker: self.clone(), probe, reported: false })
    }

    /// The server answered something other than a call: a list, the opening of a session, a ping. The policy gets an event while
    /// not every call passes. While every call passes it gets none: a server that answers lists and fails calls must open its
    /// breaker.
    pub(super) fn answered(&self) {
        let mut inner = self.lock();
        if inner.opening.is_evidence_wanted() {
            self.decide(&mut inner, BreakerEvent::Succeeded(None));
        }
    }

    /// Closed, open or half open, for `status`.
    pub(super) fn phase(&self) -> BreakerPhase {
        self.lock().held.state.phase
    }

    /// Changes when it opens, half opens or closes.
    pub(super) fn phases(&self) -> watch::Receiver<Discriminant<BreakerPhase>> {
        self.phases.subscribe()
    }

    /// Changes when a call has an outcome.
    fn outcomes(&self) -> watch::Receiver<()> {
        self.outcomes.subscribe()
    }

    /// Leave to wait beside the probe, if not too many calls do.
    fn wait_permit(&self) -> Option<OwnedSemaphorePermit> {
        self.waiting.clone().try_acquire_owned().ok()
    }

    fn report(&self, outcome: BreakerEvent) {
        self.decide(&mut self.lock(), outcome);
        self.outcomes.send_replace(());
    }

    fn decide(&self, inner: &mut Inner, event: BreakerEvent) -> BreakerVerdict {
        let before = inner.held.state.phase;
        match self.policy.breaker(&self.subject, &self.config.load(), &mut inner.held, event) {
            Ok(decision) => {
                inner.opening.note((before, event), decision, self.now());
                let phase = discriminant(&inner.held.state.phase);
                self.phases.send_if_modified(|shown| std::mem::replace(shown, phase) != phase);
                decision.0
            }
            Err(error) => {
                tracing::error!(%error, "calls pass");
                BreakerVerdict::Allow
            }
        }
    }

    fn now(&self) -> BootMs {
        self.policy.edge().clock.boot()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A call that passed. Dropped without an outcome, it counts as cancelled.
pub(super) struct Passage {
    breaker: Arc<Breaker>,
    probe: Option<u64>,
    reported: bool,
}

impl Passage {
    /// Whether its outcome decides about the breaker.
    pub(super) fn is_probe(&self) -> bool {
        self.probe.is_some()
    }

    /// The server answered, be it with an error of its own.
    pub(super) fn succeeded(mut self) {
        self.reported = true;
        self.breaker.report(BreakerEvent::Succeeded(self.probe));
    }

    /// The server did not answer.
    pub(super) fn failed(mut self) {
        self.reported = true;
        self.breaker.report(BreakerEvent::Failed(self.probe));
    }
}

impl Drop for Passage {
    fn drop(&mut self) {
        if !self.reported {
            self.breaker.report(BreakerEvent::Cancelled(self.probe));
        }
    }
}
