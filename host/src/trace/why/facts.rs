//! The facts that the newest decisions leave: where a subject stands when the trace ends.

use crate::model::{Digest, Moment};
use crate::policy::contract::*;
use crate::policy::{DecidedBy, DecisionRecord, Input, Output};

/// What is known of one run of a gateway.
#[derive(Debug, Default)]
pub(super) struct RunFacts {
    /// When its first segment in the trace was begun.
    pub(super) started: Moment,
    pub(super) deployed: Option<(Digest, String)>,
    /// Whether its last decision was made while the deployed policy was suspended.
    pub(super) suspended: bool,
    /// The connector or the map that is asked about.
    pub(super) upkeep: UpkeepFacts,
    pub(super) breaker: Option<BreakerFacts>,
    /// The service map, where it is not what is asked about.
    pub(super) map: UpkeepFacts,
    pub(super) standing: Option<(Standing, Moment)>,
    pub(super) tools: Option<ToolsFacts>,
    /// With which HTTP status the server of the connector refuses its credential, and since when.
    pub(super) refused_credential: Option<(u16, Moment)>,
    pub(super) entry: Option<EntryFacts>,
    pub(super) registry: Option<RegistryFacts>,
    /// The last decision on the subject, told.
    pub(super) last: Option<(Moment, String)>,
    /// Faults of the deployed policy in decisions on it, and the last one.
    pub(super) faults: u64,
    pub(super) last_fault: Option<(Moment, String)>,
}

/// How a connector is described.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    Enabled,
    Disabled,
    Absent,
}

/// The tools of a connector.
#[derive(Debug)]
pub(super) struct ToolsFacts {
    pub(super) at: Moment,
    pub(super) names: Vec<String>,
}

/// What is known of a refresh and its cache.
#[derive(Debug, Default)]
pub(super) struct UpkeepFacts {
    pub(super) refresh: Option<(Moment, RefreshDecision)>,
    pub(super) last_failed: Option<Moment>,
    pub(super) verdict: Option<(Moment, LookupDecision)>,
    pub(super) value: Option<ValueFacts>,
    pub(super) max_stale_ms: u64,
    pub(super) rejected: Option<(Moment, AdvanceReason)>,
}

impl UpkeepFacts {
    /// Takes a decision on it.
    pub(super) fn take(&mut self, record: &DecisionRecord) {
        match (&record.input, &record.output) {
            (Input::Refresh { event, .. }, Some(Output::Refresh(decision))) => {
                match event {
                    RefreshEvent::Started(_) => (self.last_failed, self.rejected) = (None, None),
                    RefreshEvent::Failed(_) => self.last_failed = Some(record.moment),
                    _ => {}
                }
                self.refresh = Some((record.moment, decision.clone()));
            }
            (Input::Lookup { config, state }, Some(Output::Lookup(decision))) => {
                self.verdict = Some((record.moment, *decision));
                self.value.clone_from(&state.value);
                self.max_stale_ms = config.max_stale_ms;
            }
            (Input::Advance { event, .. }, Some(Output::Advance(decision))) => {
                self.value.clone_from(&decision.state.value);
                match (decision.outcome, event) {
                    (AdvanceOutcome::Rejected, _) => self.rejected = Some((record.moment, decision.reason)),
                    (_, CacheEvent::Fetched(_) | CacheEvent::NotModified(_)) => self.rejected = None,
                    _ => {}
                }
            }
            _ => {}
        }
    }

    /// Whether the value may be served; none if that was never decided.
    pub(super) fn serves(&self) -> Option<bool> {
        self.verdict.as_ref().map(|(_, verdict)| verdict.serve == ServeVerdict::Serve)
    }
}

/// What is known of a breaker.
#[derive(Debug)]
pub(super) struct BreakerFacts {
    pub(super) at: Moment,
    pub(super) decision: BreakerDecision,
    /// When it opened, why, and with which state.
    pub(super) opened: Option<(Moment, BreakerReason, BreakerState)>,
    /// When the server answered something other than a probe, which ended the open time.
    pub(super) answered: Option<Moment>,
}

impl BreakerFacts {
    /// Takes a decision of it.
    pub(super) fn take(held: &mut Option<Self>, record: &DecisionRecord) {
        let Some(Output::Breaker(decision)) = &record.output else { return };
        let before = held.take();
        let mut answered = before.as_ref().and_then(|before| before.answered);
        let mut opened = before.and_then(|before| before.opened);
        match decision.reason {
            BreakerReason::ConsecutiveFailures | BreakerReason::FailureRate | BreakerReason::ProbeFailed => {
                (opened, answered) = (Some((record.moment, decision.reason, decision.state.clone())), None);
            }
            BreakerReason::Closed | BreakerReason::ProbeSucceeded => (opened, answered) = (None, None),
            BreakerReason::Probing if matches!(decision.state.phase, BreakerPhase::Open(_)) => {
                answered = Some(record.moment);
            }
            BreakerReason::Open
            | BreakerReason::Probing
            | BreakerReason::ProbeInFlight
            | BreakerReason::ProbeLost
            | BreakerReason::Late => {}
        }
        *held = Some(Self { at: record.moment, decision: decision.clone(), opened, answered });
    }
}

/// What is known of an entry of the registry.
#[derive(Debug)]
pub(super) struct EntryFacts {
    /// It, and whether it stands in the newest join.
    pub(super) entry: Entry,
    pub(super) from_the_future: bool,
    /// The change that lost to it last.
    pub(super) superseded: Option<(Moment, Entry)>,
}

impl EntryFacts {
    /// Takes a decision on the registry.
    pub(super) fn take(held: &mut Option<Self>, name: &str, record: &DecisionRecord) {
        let of = |entries: &[Entry]| entries.iter().find(|entry| entry.name == name).cloned();
        match &record.output {
            Some(Output::Adopt(decision)) => {
                let Some(entry) = of(&decision.entries) else { return };
                let from_the_future = decision.from_the_future.iter().any(|one| one == name);
                let superseded = held.take().and_then(|before| before.superseded);
                *held = Some(Self { entry, from_the_future, superseded });
            }
            Some(Output::Merge(decision)) => {
                let Some(entry) = of(&decision.entries) else { return };
                let lost = of(&decision.superseded).map(|entry| (record.moment, entry));
                let before = held.take();
                let from_the_future = before.as_ref().is_some_and(|before| before.from_the_future);
                *held =
                    Some(Self { entry, from_the_future, superseded: lost.or(before.and_then(|one| one.superseded)) });
            }
            _ => {}
        }
    }
}

/// What is known of the registry.
#[derive(Debug)]
pub(super) struct RegistryFacts {
    pub(super) at: Moment,
    pub(super) in_force: usize,
    pub(super) removed: usize,
    pub(super) from_the_future: Vec<String>,
}

impl RegistryFacts {
    /// Takes a decision on it.
    pub(super) fn take(held: &mut Option<Self>, record: &DecisionRecord) {
        let from_the_future = match &record.output {
            Some(Output::Adopt(decision)) => decision.from_the_future.clone(),
            _ => held.take().map(|before| before.from_the_future).unwrap_or_default(),
        };
        let entries = match &record.output {
            Some(Output::Adopt(decision)) => &decision.entries,
            Some(Output::Merge(decision)) => &decision.entries,
            _ => return,
        };
        let removed = entries.iter().filter(|entry| entry.deleted).count();
        *held = Some(Self { at: record.moment, in_force: entries.len() - removed, removed, from_the_future });
    }
}

impl RunFacts {
    /// Notes who decided about the subject.
    pub(super) fn note_decider(&mut self, record: &DecisionRecord, concerns: bool) {
        self.suspended = matches!(record.decided_by, DecidedBy::DefaultWhileSuspended(_));
        if let (true, Some(attempt)) = (concerns, &record.faulted) {
            self.faults += 1;
            self.last_fault = Some((record.moment, super::sentences::plain(&attempt.fault.to_string())));
        }
    }
}
