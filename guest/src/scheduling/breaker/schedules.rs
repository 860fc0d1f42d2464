//! Ten thousand schedules of servers that die, hang, slow down, forget sessions and come back, in virtual time.
//!
//! A small model of the host drives the breaker and the refresh of one connector: calls ask, refused calls have the
//! connector listed, and what a list, a session, a ping or a late call brings is evidence. Two things hold in every
//! schedule. No call is refused when the newest known outcome has been an answer for more than a second, unless such
//! answers are doubted or a call that passed because of them is still under way. And between two openings at most one call
//! passes, no sooner than the open time or the evidence allows.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use super::*;
use crate::scheduling::{initial_refresh_state, refresh};
use crate::testing::{BOOT, Picks, later};
use crate::types::*;

mod server;
use server::Mode;

const SEEDS: u64 = 10_000;
/// How long a schedule lasts.
const END: u64 = 120_000;
/// The deadlines of a call, of a list and of a ping.
const CALL: u64 = 8_000;
const LIST: u64 = 5_000;
/// What the host waits: for a probe under way, between two looks, and before it gives up a probe of before an answer.
const PROBE_WAIT: u64 = 5_000;
const SECOND: u64 = 1_000;
/// Calls of one connector at once.
const CALLS_MAX: usize = 10;

/// What is wrong with the breaker, to show that the property notices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mutant {
    None,
    /// It learns nothing but from its probe.
    IgnoresEvidence,
    /// It believes every list.
    DoubtsNothing,
    /// It believes no list after any failed probe, also if the server answered nothing at all.
    DoubtsAfterAnyFailure,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Call { probe: Option<u64> },
    List { run: u64 },
    Session,
    Ping,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Mode,
    Arrives,
    Asks { arrived: u64 },
    Ends { request: u64, answered: bool },
    RunIsDue,
    Pings,
}

struct World {
    picks: Picks,
    mutant: Mutant,
    now: u64,
    queue: BinaryHeap<Reverse<(u64, u64, Event)>>,
    sequence: u64,
    mode: Mode,
    needs_session: bool,
    under_way: BTreeMap<u64, Kind>,
    waiting: Vec<u64>,
    gap_max: u64,
    state: BreakerState,
    refresh: RefreshState,
    due: Option<u64>,
    host: Host,
    /// Since when the newest outcome has been an answer.
    answered_since: Option<u64>,
    opening: Opening,
    seen: Seen,
}

/// What the host remembers of the present opening.
#[derive(Default)]
struct Host {
    is_answered: bool,
    probe_began: u64,
    probe_follows_an_answer: bool,
    is_answered_since_the_probe: bool,
    looked_until: u64,
    looked_at: Option<u64>,
}

/// What the property knows of the present opening.
#[derive(Default)]
struct Opening {
    drawn_until: u64,
    answered: bool,
    is_doubted: bool,
    passed: u32,
    given_up: u32,
}

/// Counted, so that the schedules are known to hold what they are for.
#[derive(Debug, Default)]
struct Seen {
    refused: u64,
    ended_by_evidence: u64,
    doubted_openings: u64,
    refused_in_doubt: u64,
    refused_beside_a_probe: u64,
    given_up: u64,
    closed: u64,
}

impl World {
    fn new(seed: u64, mutant: Mutant) -> Self {
        let mut picks = Picks::new(seed);
        let gap_max = picks.pick(&[100, 400, 3_000, 15_000]);
        let mut world = Self {
            picks,
            mutant,
            now: 0,
            queue: BinaryHeap::new(),
            sequence: 0,
            mode: Mode::Well,
            needs_session: true,
            under_way: BTreeMap::new(),
            waiting: Vec::new(),
            gap_max,
            state: initial_breaker_state(),
            refresh: initial_refresh_state(),
            due: None,
            host: Host::default(),
            answered_since: None,
            opening: Opening::default(),
            seen: Seen::default(),
        };
        for (at, event) in [(0, Event::Arrives), (5_000, Event::Mode), (20_000, Event::Pings)] {
            world.at(at, event);
        }
        world.refreshed(RefreshEvent::Started(StartedEvent { start: StartKind::Cold, boot_id: 1 }));
        world
    }

    fn run(mut self) -> Result<Seen, String> {
        while let Some(Reverse((at, _, event))) = self.queue.pop() {
            if at > END {
                break;
            }
            self.now = at;
            self.happens(event).map_err(|broken| format!("at {at} ms, server {:?}: {broken}", self.mode))?;
        }
        Ok(self.seen)
    }

    fn at(&mut self, at: u64, event: Event) {
        self.sequence += 1;
        self.queue.push(Reverse((at, self.sequence, event)));
    }

    fn happens(&mut self, event: Event) -> Result<(), String> {
        match event {
            Event::Mode => {
                self.change();
                let lasts = self.picks.pick(&[500, 4_000, 20_000, 60_000]);
                let lasts = 500 + self.picks.below(lasts);
                self.at(self.now + lasts, Event::Mode);
                Ok(())
            }
            Event::Arrives => {
                let gap = self.picks.below(self.gap_max);
                self.at(self.now + 1 + gap, Event::Arrives);
                self.asks(self.now)
            }
            Event::Asks { arrived } => match self.waiting.iter().position(|waits| *waits == arrived) {
                Some(waits) => {
                    self.waiting.remove(waits);
                    self.asks(arrived)
                }
                None => Ok(()),
            },
            Event::Ends { request, answered } => match self.under_way.remove(&request) {
                Some(kind) => self.ends(kind, answered),
                None => Ok(()),
            },
            Event::RunIsDue => {
                if self.due == Some(self.now) {
                    self.refreshed(RefreshEvent::Began);
                    if let RefreshPhase::Running(run) = &self.refresh.phase {
                        let run = run.run_id;
                        if std::mem::take(&mut self.needs_session) && self.answers(Kind::Session) {
                            self.send(Kind::Session);
                        }
                        self.send(Kind::List { run });
                    }
                }
                Ok(())
            }
            Event::Pings => {
                self.send(Kind::Ping);
                let gap = 5_000 + self.picks.below(60_000);
                self.at(self.now + gap, Event::Pings);
                Ok(())
            }
        }
    }

    // ---- the host ---------------------------------------------------------------------------------------------------

    fn ends(&mut self, kind: Kind, answered: bool) -> Result<(), String> {
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
            Kind::Session | Kind::Ping => {}
        }
        if answered && self.state.phase != BreakerPhase::Closed {
            self.decide(BreakerEvent::Succeeded(None))?;
        }
        Ok(())
    }

    /// A call asks to pass.
    fn asks(&mut self, arrived: u64) -> Result<(), String> {
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
            BreakerVerdict::Reject(until) => {
                self.look(until);
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

    /// A refused call has the connector listed: once for each time that calls are refused until, and once a second.
    fn look(&mut self, until: u64) {
        let is_due = self.host.looked_at.is_none_or(|looked| self.now >= looked + SECOND);
        if until != self.host.looked_until && is_due {
            (self.host.looked_until, self.host.looked_at) = (until, Some(self.now));
            self.refreshed(RefreshEvent::Wanted(Urgency::Blocking));
        }
    }

    fn refreshed(&mut self, event: RefreshEvent) {
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

    // ---- the property -----------------------------------------------------------------------------------------------

    fn opens(&mut self, drawn_until: u64) {
        let is_doubted = self.opening.answered;
        self.seen.doubted_openings += u64::from(is_doubted);
        self.opening = Opening { drawn_until, is_doubted, ..Opening::default() };
        self.host.is_answered = false;
    }

    fn passes_as_the_probe(&mut self) -> Result<(), String> {
        self.host.probe_follows_an_answer = self.host.is_answered;
        self.host.is_answered_since_the_probe = false;
        self.host.probe_began = self.now;
        self.opening.passed += 1;
        if self.opening.passed > 1 + self.opening.given_up {
            return Err(format!("{} calls passed in one opening", self.opening.passed));
        }
        if self.now < self.opening.drawn_until {
            if self.opening.is_doubted || !self.opening.answered {
                return Err("a call passed before the open time was over, without evidence".to_owned());
            }
            self.seen.ended_by_evidence += 1;
        }
        Ok(())
    }

    fn is_refused(&mut self) -> Result<(), String> {
        self.seen.refused += 1;
        let Some(since) = self.answered_since.filter(|since| *since + SECOND < self.now) else { return Ok(()) };
        match &self.state.phase {
            BreakerPhase::Open(_) if self.opening.is_doubted && self.now < self.opening.drawn_until => {
                self.seen.refused_in_doubt += 1;
                Ok(())
            }
            BreakerPhase::HalfOpen(_) if self.host.probe_follows_an_answer => {
                self.seen.refused_beside_a_probe += 1;
                Ok(())
            }
            phase => Err(format!("refused ({phase:?}) though everything was answered since {since}")),
        }
    }
}

impl Seen {
    fn add(&mut self, more: &Self) {
        self.refused += more.refused;
        self.ended_by_evidence += more.ended_by_evidence;
        self.doubted_openings += more.doubted_openings;
        self.refused_in_doubt += more.refused_in_doubt;
        self.refused_beside_a_probe += more.refused_beside_a_probe;
        self.given_up += more.given_up;
        self.closed += more.closed;
    }
}

#[test]
fn no_call_is_refused_for_longer_than_a_second_after_the_server_answered() {
    let play = |seeds: std::ops::Range<u64>| {
        let mut all = Seen::default();
        for seed in seeds {
            match World::new(seed, Mutant::None).run() {
                Ok(seen) => all.add(&seen),
                Err(broken) => panic!("seed {seed}: {broken}"),
            }
        }
        all
    };
    let mut all = Seen::default();
    std::thread::scope(|scope| {
        let other = scope.spawn(|| play(SEEDS / 2..SEEDS));
        all.add(&play(0..SEEDS / 2));
        all.add(&other.join().unwrap());
    });
    println!("{SEEDS} schedules: {all:?}");
    let kinds = [all.ended_by_evidence, all.doubted_openings, all.given_up, all.closed, all.refused_in_doubt];
    assert!(kinds.iter().all(|seen| *seen > SEEDS / 20), "{all:?}");
}

#[test]
fn the_property_notices_a_breaker_that_ignores_evidence_or_doubts_too_little_or_too_much() {
    for mutant in [Mutant::IgnoresEvidence, Mutant::DoubtsNothing, Mutant::DoubtsAfterAnyFailure] {
        let broken = (0..200).filter(|seed| World::new(*seed, mutant).run().is_err()).count();
        println!("{mutant:?}: {broken} of 200 schedules broken");
        assert!(broken > 0, "{mutant:?} goes unnoticed");
    }
}
