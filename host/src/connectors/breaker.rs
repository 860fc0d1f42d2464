//! A connector's breaker: the policy decides, this keeps its state and turns outcomes into events.
//!
//! Every call that passed reports exactly one outcome, also when its caller goes away: [`Passage`] sees to that.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;

use super::limits;
use crate::model::{BootMs, ConnectorId, milliseconds};
use crate::policy::contract::{BreakerConfig, BreakerEvent, BreakerPhase, BreakerState, BreakerVerdict};
use crate::policy::{Held, Policy, Subject};

/// The breaker of one connector.
pub(super) struct Breaker {
    policy: Arc<Policy>,
    subject: Subject,
    config: ArcSwap<BreakerConfig>,
    held: Mutex<Held<BreakerState>>,
}

impl Breaker {
    /// A closed one.
    pub(super) fn new(
        policy: Arc<Policy>,
        id: &ConnectorId,
        probe_deadline: Duration,
        options: Vec<(String, String)>,
    ) -> Self {
        let config = Self::config(probe_deadline, options);
        let subject = policy.subject(format!("connector/{id}/breaker"));
        Self {
            policy,
            subject,
            config: ArcSwap::from_pointee(config),
            held: Mutex::new(Held::new(BreakerState::initial())),
        }
    }

    /// Other settings are in force from now on.
    pub(super) fn reconfigure(&self, probe_deadline: Duration, options: Vec<(String, String)>) {
        self.config.store(Arc::new(Self::config(probe_deadline, options)));
    }

    fn config(probe_deadline: Duration, options: Vec<(String, String)>) -> BreakerConfig {
        BreakerConfig {
            failure_threshold: limits::BREAKER_THRESHOLD,
            window: limits::BREAKER_WINDOW,
            rate_permille: limits::BREAKER_RATE_PERMILLE,
            open_min_ms: milliseconds(limits::BREAKER_OPEN_MIN),
            open_max_ms: milliseconds(limits::BREAKER_OPEN_MAX),
            probe_deadline_ms: milliseconds(probe_deadline),
            options,
        }
    }

    /// Asks to pass. Err: the time before which nothing passes.
    pub(super) fn ask(self: &Arc<Self>) -> Result<Passage, BootMs> {
        match self.event(BreakerEvent::Asked) {
            BreakerVerdict::Allow => Ok(Passage { breaker: self.clone(), probe: None, reported: false }),
            BreakerVerdict::Probe(id) => Ok(Passage { breaker: self.clone(), probe: Some(id), reported: false }),
            BreakerVerdict::Reject(until) => Err(BootMs(until)),
        }
    }

    /// Closed, open or half open, for `status`.
    pub(super) fn phase(&self) -> BreakerPhase {
        self.held.lock().unwrap_or_else(PoisonError::into_inner).state.phase
    }

    fn event(&self, event: BreakerEvent) -> BreakerVerdict {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        match self.policy.breaker(&self.subject, &self.config.load(), &mut held, event) {
            Ok((verdict, _)) => verdict,
            Err(error) => {
                tracing::error!(%error, "calls pass");
                BreakerVerdict::Allow
            }
        }
    }
}

/// A call that passed. Dropped without an outcome, it counts as cancelled.
pub(super) struct Passage {
    breaker: Arc<Breaker>,
    probe: Option<u64>,
    reported: bool,
}

impl Passage {
    /// The server answered, be it with an error of its own.
    pub(super) fn succeeded(mut self) {
        self.reported = true;
        self.breaker.event(BreakerEvent::Succeeded(self.probe));
    }

    /// The server did not answer.
    pub(super) fn failed(mut self) {
        self.reported = true;
        self.breaker.event(BreakerEvent::Failed(self.probe));
    }
}

impl Drop for Passage {
    fn drop(&mut self) {
        if !self.reported {
            self.breaker.event(BreakerEvent::Cancelled(self.probe));
        }
    }
}
