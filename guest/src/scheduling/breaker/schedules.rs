//! Ten thousand schedules of servers that die, hang, slow down, forget sessions and come back, in virtual time.
//!
//! A small model of the host drives the breaker and the refresh of one connector: calls ask, refused calls have the
//! connector listed or pinged, and what a list, a session, a ping or a late call brings is evidence. Two things hold in every
//! schedule. No call is refused when the newest known outcome has been an answer for more than a second, unless such
//! answers are doubted or a call that passed because of them is still under way. And between two openings at most one call
//! passes, no sooner than the open time or the evidence allows.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use super::*;
use crate::scheduling::initial_refresh_state;
use crate::testing::{BOOT, Picks};
use crate::types::*;

mod host;

const SEEDS: u64 = 10_000;
/// How long a schedule lasts.
const END: u64 = 120_000;
/// The deadlines of a call, of a list and of a ping.
const CALL: u64 = 8_000;
const LIST: u64 = 5_000;
/// What the host waits: for a probe under way, before it gives up a probe of before an answer, and between two looks.
const PROBE_WAIT: u64 = 5_000;
const SECOND: u64 = 1_000;
const LOOK_MAX: u64 = 5_000;
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

/// How the server is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Well,
    Slow,
    Dead,
    Hung,
    /// Answers everything but calls, which fail at once or by their deadline.
    ListsOnly {
        hangs: bool,
    },
    /// Answers pings alone.
    PingsOnly {
        hangs: bool,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Call {
        probe: Option<u64>,
    },
    List {
        run: u64,
    },
    Session,
    Ping,
    /// A ping because calls are refused.
    Look,
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
    look_pace: u64,
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
    looks: u64,
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

    // ---- the server -------------------------------------------------------------------------------------------------

    fn change(&mut self) {
        let hangs = self.picks.chance();
        let was_hung = self.mode == Mode::Hung;
        self.mode = match self.picks.below(10) {
            0..4 => Mode::Well,
            4 => Mode::Slow,
            5..7 => Mode::Dead,
            7 => Mode::Hung,
            8 => Mode::ListsOnly { hangs },
            _ => Mode::PingsOnly { hangs },
        };
        let forgets = self.picks.chance();
        self.needs_session |= forgets || self.mode == Mode::Dead;
        // A process that goes on answers what it was sent; a connection that is gone loses it.
        let goes_on = was_hung && matches!(self.mode, Mode::Well | Mode::Slow) && self.picks.chance();
        if goes_on || self.mode == Mode::Dead {
            for request in self.under_way.keys().copied().collect::<Vec<_>>() {
                self.at(self.now + 1, Event::Ends { request, answered: goes_on });
            }
        }
    }

    fn answers(&self, kind: Kind) -> bool {
        match self.mode {
            Mode::Well | Mode::Slow => true,
            Mode::Dead | Mode::Hung => false,
            Mode::ListsOnly { .. } => !matches!(kind, Kind::Call { .. }),
            Mode::PingsOnly { .. } => matches!(kind, Kind::Ping | Kind::Look),
        }
    }

    fn send(&mut self, kind: Kind) {
        let deadline = if matches!(kind, Kind::Call { .. }) { CALL } else { LIST };
        let takes = match self.mode {
            Mode::Slow => self.picks.below(deadline * 3 / 2),
            _ => self.picks.below(400),
        };
        let (takes, answered) = match (self.mode, self.answers(kind)) {
            (_, true) => (takes, takes < deadline),
            (Mode::Hung | Mode::ListsOnly { hangs: true } | Mode::PingsOnly { hangs: true }, false) => {
                (deadline, false)
            }
            (_, false) => (takes.min(20), false),
        };
        self.sequence += 1;
        let request = self.sequence;
        self.under_way.insert(request, kind);
        // A call is over before its probe would count as lost.
        self.at(self.now + (1 + takes).min(deadline - 1), Event::Ends { request, answered });
    }

    // ---- the property -----------------------------------------------------------------------------------------------

    fn opens(&mut self, drawn_until: u64) {
        let is_doubted = self.opening.answered;
        self.seen.doubted_openings += u64::from(is_doubted);
        self.opening = Opening { drawn_until, is_doubted, ..Opening::default() };
        self.host.is_answered = false;
        self.host.is_answered_since_the_probe = false;
        self.host.look_pace = ((drawn_until - self.now) / 10).clamp(SECOND, LOOK_MAX);
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
        self.looks += more.looks;
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
    let kinds =
        [all.ended_by_evidence, all.doubted_openings, all.given_up, all.closed, all.refused_in_doubt, all.looks];
    assert!(kinds.iter().all(|seen| *seen > SEEDS / 20), "{all:?}");
}

#[test]
fn the_property_notices_a_breaker_that_ignores_evidence_or_doubts_too_little_or_too_much() {
    for mutant in [Mutant::IgnoresEvidence, Mutant::DoubtsNothing, Mutant::DoubtsAfterAnyFailure] {
        let broken = (0..200).filter(|seed| World::new(*seed, mutant).run().is_err()).count();
        assert!(broken > 0, "{mutant:?} goes unnoticed");
    }
}
