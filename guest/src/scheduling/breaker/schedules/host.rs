//! The host of the schedules: what it asks the policy, and what it does by itself while calls are refused.

use super::*;
use crate::scheduling::refresh;
use crate::testing::later;

impl World {
    pub(super) fn ends(&mut self, kind: Kind, answered: bool) -> Result<(), String> {
        // A call whose client went away has no outcome.
        let is_cancelled = matches!(kind, Kind::Call { .. }) && self.picks.below(20) == 0;
        match (answered, self.answered_since) {
            _ if is_cancelled => {}
            (true, None) => self.answered_since = Some(self.now),
            (true, Some(_)) => {}
            (false, _) => self.answered_since = None,
        }
        match kind {
            Kind::Call { probe } => {
                let event = match answered {
                    _ if is_cancelled => BreakerEvent::Cancelled(probe),
                    true => BreakerEvent::Succeeded(probe),
                    false => BreakerEvent::Failed(probe),
                };
                self.decide(event)?;
                for arrived in self.waiting.clone() {
                    self.at(self.now, Event::Asks { arrived });
                }
                return Ok(());
            }
            Kind::List { run } if answered => self.refreshed(RefreshEvent::Succeeded(SucceededEvent {
                run_id: run,
                duration_ms: 1,
                fresh_for_ms: None,
            })),
            Kind::List { run } => self.refreshed(RefreshEvent::Failed(FailedEvent {
                run_id: run,
                class: FailureClass::Timeout,
                retry_after_ms: None,
                duration_ms: 1,
                serving: true,
            })),
            Kind::Session | Kind::Ping | Kind::Look => {}
        }
        if answered && self.state.phase != BreakerPhase::Closed {
            self.decide(BreakerEvent::Succeeded(None))?;
        }
        Ok(())
    }

    /// A call asks to pass.
    pub(super) fn asks(&mut self, arrived: u64) -> Result<(), String> {
        let calls = self.under_way.values().filter(|kind| matches!(kind, Kind::Call { .. })).count();
        if calls >= CALLS_MAX {
            return Ok(());
        }
        if let BreakerPhase::HalfOpen(half) = &self.state.phase
            && self.host.is_answered_since_the_probe
            && !self.host.probe_follows_an_answer
            && self.now >= self.host.probe_began + SECOND
        {
            let probe = half.probe_id;
            self.opening.given_up += 1;
            self.seen.given_up += 1;
            self.decide(BreakerEvent::Cancelled(Some(probe)))?;
            self.decide(BreakerEvent::Succeeded(None))?;
        }
        match self.decide(BreakerEvent::Asked)? {
            BreakerVerdict::Allow => self.send(Kind::Call { probe: None }),
            BreakerVerdict::Probe(id) => self.send(Kind::Call { probe: Some(id) }),
            BreakerVerdict::Reject(_) => {
                self.look();
                let waits_for_probe = matches!(self.state.phase, BreakerPhase::HalfOpen(_))
                    && self.answered_since.is_some()
                    && self.now < arrived + PROBE_WAIT;
                if waits_for_probe {
                    self.waiting.push(arrived);
                    let again = (self.now + SECOND).min(arrived + PROBE_WAIT);
                    self.at(again, Event::Asks { arrived });
                } else {
                    self.is_refused()?;
                }
            }
        }
        Ok(())
    }

    /// A refused call looks whether the server answers, at the host's pace and until something was answered: it has the
    /// connector listed, or pings it where a failure paces its list.
    fn look(&mut self) {
        let is_known = self.host.is_answered || self.host.is_answered_since_the_probe;
        let is_due = self.host.looked_at.is_none_or(|looked| self.now >= looked + self.host.look_pace);
        if is_known || !is_due {
            return;
        }
        self.host.looked_at = Some(self.now);
        self.refreshed(RefreshEvent::Wanted(Urgency::Blocking));
        let is_looking = self.under_way.values().any(|kind| *kind == Kind::Look);
        if self.due != Some(self.now) && !is_looking {
            self.seen.looks += 1;
            self.send(Kind::Look);
        }
    }

    pub(super) fn refreshed(&mut self, event: RefreshEvent) {
        let config = RefreshConfig {
            kind: SubjectKind::Connector,
            mode: RefreshMode::Background,
            interval_ms: 60_000,
            floor_ms: 30_000,
            jitter_permille: 200,
            backoff_min_ms: 500,
            backoff_max_ms: 60_000,
            options: Vec::new(),
        };
        let mut environment = later(self.now, self.picks.below(u64::MAX));
        let decision = refresh(&mut environment, &config, self.refresh.clone(), event);
        self.refresh = decision.state;
        let due = decision.run_at_boot_ms.map(|due| (due - BOOT).max(self.now));
        if due != self.due {
            self.due = due;
            if let Some(due) = due {
                self.at(due, Event::RunIsDue);
            }
        }
    }

    fn decide(&mut self, event: BreakerEvent) -> Result<BreakerVerdict, String> {
        let config = BreakerConfig {
            failure_threshold: 5,
            window: 20,
            rate_permille: 500,
            open_min_ms: 1_000,
            open_max_ms: 60_000,
            probe_deadline_ms: CALL,
            options: Vec::new(),
        };
        let before = self.state.phase.clone();
        let is_of_the_probe =
            |id: &Option<u64>| matches!(&before, BreakerPhase::HalfOpen(half) if Some(half.probe_id) == *id);
        let is_evidence =
            matches!(&event, BreakerEvent::Succeeded(id) if before != BreakerPhase::Closed && !is_of_the_probe(id));
        let is_of_a_call = matches!(&event, BreakerEvent::Succeeded(Some(_)));
        if is_evidence && self.mutant == Mutant::IgnoresEvidence {
            return Ok(BreakerVerdict::Allow);
        }
        let mut state = self.state.clone();
        if self.mutant == Mutant::DoubtsNothing {
            state.memo.clear();
        }
        let is_asked = event == BreakerEvent::Asked;
        let mut environment = later(self.now, self.picks.below(u64::MAX));
        let decision = breaker(&mut environment, &config, state, event);
        self.state = decision.state;
        if self.mutant == Mutant::DoubtsAfterAnyFailure && decision.reason == BreakerReason::ProbeFailed {
            self.state.memo = b"doubted".to_vec();
        }
        if is_evidence {
            self.is_answered(&before, is_of_a_call);
        }
        match (&self.state.phase, decision.reason) {
            (
                BreakerPhase::Open(open),
                BreakerReason::ConsecutiveFailures | BreakerReason::FailureRate | BreakerReason::ProbeFailed,
            ) => self.opens(open.until_boot_ms - BOOT),
            (_, BreakerReason::ProbeSucceeded) => {
                self.seen.closed += 1;
                self.opening = Opening::default();
            }
            (_, BreakerReason::ProbeLost) if !is_asked => self.opening.given_up += 1,
            _ => {}
        }
        if let (true, BreakerVerdict::Probe(_)) = (is_asked, &decision.verdict) {
            self.passes_as_the_probe()?;
        }
        Ok(decision.verdict)
    }

    fn is_answered(&mut self, before: &BreakerPhase, is_of_a_call: bool) {
        self.host.is_answered_since_the_probe = true;
        if let BreakerPhase::Open(_) = before {
            self.host.is_answered = true;
            self.opening.answered = true;
            // A call that was answered is no list.
            self.opening.is_doubted &= !is_of_a_call;
        }
    }
}
