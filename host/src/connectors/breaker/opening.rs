//! What the host knows of a breaker that does not let every call pass: pure, fed with every decision.
//!
//! The policy decides whether a call passes. The host decides which events it sends to the policy and what it does beside that: whether
//! an answer of the server is worth an event, when a refused call has it look whether the server answers, and when a probe that the
//! server received before it came back is given up.

use std::time::Duration;

use crate::connectors::limits::{BREAKER_LOOK_MAX, BREAKER_LOOK_MIN, BREAKER_LOOK_PART, PROBE_ANSWER_WAIT};
use crate::model::BootMs;
use crate::policy::contract::{BreakerEvent, BreakerPhase, BreakerReason, BreakerVerdict};

/// A breaker between its opening and its closing. The default is closed.
#[derive(Debug, Default)]
pub(super) struct Opening {
    /// Whether the last decision refuses calls or lets them pass one at a time.
    is_shut: bool,
    /// Whether the server answered something since the breaker opened, before the present probe.
    is_answered: bool,
    probe: Option<Probe>,
    /// The least time between two looks, from the open time that the policy drew.
    look_pace: Duration,
    /// When the gateway last looked whether the server answers.
    looked: Option<BootMs>,
}

/// The probe under way.
#[derive(Debug)]
struct Probe {
    began: BootMs,
    /// Whether it passed after the server had answered something in the same opening.
    follows_an_answer: bool,
    /// Whether the server answered something else since it passed.
    is_answered_beside: bool,
}

impl Opening {
    /// Takes a decision, which was made in this phase.
    pub(super) fn note(
        &mut self,
        (before, event): (BreakerPhase, BreakerEvent),
        (verdict, reason): (BreakerVerdict, BreakerReason),
        now: BootMs,
    ) {
        self.is_shut = verdict != BreakerVerdict::Allow;
        match (before, event) {
            (BreakerPhase::Open(_), BreakerEvent::Succeeded(_)) => self.is_answered = true,
            (BreakerPhase::HalfOpen(_), BreakerEvent::Succeeded(_)) => {
                self.probe.iter_mut().for_each(|probe| probe.is_answered_beside = true);
            }
            (_, BreakerEvent::Asked) if matches!(verdict, BreakerVerdict::Probe(_)) => {
                self.probe = Some(Probe { began: now, follows_an_answer: self.is_answered, is_answered_beside: false });
            }
            _ => {}
        }
        match reason {
            BreakerReason::ConsecutiveFailures | BreakerReason::FailureRate | BreakerReason::ProbeFailed => {
                (self.is_answered, self.probe) = (false, None);
                if let BreakerVerdict::Reject(until) = verdict {
                    let open_time = BootMs(until).since(now);
                    self.look_pace = (open_time / BREAKER_LOOK_PART).clamp(BREAKER_LOOK_MIN, BREAKER_LOOK_MAX);
                }
            }
            BreakerReason::ProbeSucceeded => (self.is_answered, self.probe, self.looked) = (false, None, None),
            _ => {}
        }
    }

    /// Whether an answer to something other than a call is worth an event: not while every call passes, where it would hide
    /// that calls fail.
    pub(super) fn is_evidence_wanted(&self) -> bool {
        self.is_shut
    }

    /// Whether the probe under way is to be given up. A server that hung, or whose connection was lost, and that answers
    /// something else since, may never answer the probe. It is given up once: a probe that passed because of an answer
    /// keeps its whole time, so that a server which answers lists and hangs on calls costs one call its deadline.
    pub(super) fn gives_up_probe(&self, now: BootMs) -> bool {
        self.probe.as_ref().is_some_and(|probe| {
            probe.is_answered_beside && !probe.follows_an_answer && now.since(probe.began) >= PROBE_ANSWER_WAIT
        })
    }

    /// Whether a call that is refused has the gateway look whether the server answers: at a pace, and until something was
    /// answered in this opening. What is answered after that decides nothing before the open time or the probe ends.
    pub(super) fn looks(&mut self, now: BootMs) -> bool {
        let is_known = self.is_answered || self.probe.as_ref().is_some_and(|probe| probe.is_answered_beside);
        let may = !is_known && self.looked.is_none_or(|at| now.since(at) >= self.look_pace);
        if may {
            self.looked = Some(now);
        }
        may
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::contract::{HalfOpenBreaker, OpenBreaker};

    const OPEN: BreakerPhase = BreakerPhase::Open(OpenBreaker { until_boot_ms: 9_000 });
    const HALF_OPEN: BreakerPhase = BreakerPhase::HalfOpen(HalfOpenBreaker { probe_id: 1, deadline_boot_ms: 60_000 });
    const REFUSED: BreakerVerdict = BreakerVerdict::Reject(9_000);

    fn opened() -> Opening {
        let mut opening = Opening::default();
        let failed = (BreakerPhase::Closed, BreakerEvent::Failed(None));
        opening.note(failed, (REFUSED, BreakerReason::ConsecutiveFailures), BootMs(0));
        opening
    }

    fn answered(opening: &mut Opening, phase: BreakerPhase) {
        opening.note((phase, BreakerEvent::Succeeded(None)), (REFUSED, BreakerReason::Late), BootMs(0));
    }

    fn probes(opening: &mut Opening, at: u64) {
        opening.note((OPEN, BreakerEvent::Asked), (BreakerVerdict::Probe(1), BreakerReason::Probing), BootMs(at));
    }

    #[test]
    fn answers_are_worth_an_event_only_while_calls_do_not_all_pass() {
        let mut opening = opened();
        assert!(!Opening::default().is_evidence_wanted() && opening.is_evidence_wanted());
        probes(&mut opening, 0);
        assert!(opening.is_evidence_wanted());
        let succeeded = (HALF_OPEN, BreakerEvent::Succeeded(Some(1)));
        opening.note(succeeded, (BreakerVerdict::Allow, BreakerReason::ProbeSucceeded), BootMs(0));
        assert!(!opening.is_evidence_wanted());
    }

    #[test]
    fn a_probe_of_before_the_first_answer_is_given_up_a_second_after_it_began_and_no_other() {
        let late = BootMs(1_000);
        for (before, beside, gives_up) in
            [(false, true, true), (false, false, false), (true, true, false), (true, false, false)]
        {
            let mut opening = opened();
            if before {
                answered(&mut opening, OPEN);
            }
            probes(&mut opening, 0);
            if beside {
                answered(&mut opening, HALF_OPEN);
            }
            assert_eq!(opening.gives_up_probe(late), gives_up, "answered before {before}, beside {beside}");
            assert!(!opening.gives_up_probe(BootMs(999)));
            // The next opening begins without any of it.
            let failed = (HALF_OPEN, BreakerEvent::Failed(Some(1)));
            opening.note(failed, (REFUSED, BreakerReason::ProbeFailed), late);
            assert!(!opening.gives_up_probe(BootMs(u64::MAX)));
        }
    }

    /// How often calls that are refused once a second have the gateway look, within an opening of so many seconds.
    fn looks_within(opening: &mut Opening, began: u64, open_time: u64) -> usize {
        let failed = (HALF_OPEN, BreakerEvent::Failed(Some(1)));
        let until = BreakerVerdict::Reject((began + open_time) * 1_000);
        opening.note(failed, (until, BreakerReason::ProbeFailed), BootMs(began * 1_000));
        (began..began + open_time).filter(|second| opening.looks(BootMs(second * 1_000))).count()
    }

    #[test]
    fn refused_calls_look_at_a_tenth_of_the_open_time_within_bounds() {
        for (open_time, looks) in [(1, 1), (4, 4), (10, 10), (30, 10), (60, 12)] {
            assert_eq!(looks_within(&mut opened(), 0, open_time), looks, "{open_time} s");
        }
        let mut opening = opened();
        assert!(
            opening.looks(BootMs(100)) && !opening.looks(BootMs(999)),
            "one opening after the other is no reason for more"
        );
    }

    #[test]
    fn nothing_looks_once_something_was_answered_in_this_opening() {
        let mut opening = opened();
        answered(&mut opening, OPEN);
        assert!(!opening.looks(BootMs(5_000)));
        assert_eq!(looks_within(&mut opening, 10, 1), 1, "the next opening begins without it");
        let mut opening = opened();
        probes(&mut opening, 0);
        assert!(opening.looks(BootMs(5_000)));
        answered(&mut opening, HALF_OPEN);
        assert!(!opening.looks(BootMs(10_000)));
    }
}
