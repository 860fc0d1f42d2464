//! Breakers and limits: random histories of calls and runs, played to the policy, and compared with the rules.
//!
//! A breaker opens at five failures in a row or at half of the last twenty, rejects for an exponential, jittered time or until
//! something else is answered, and then lets exactly one probe through. A limit stays within its bounds, falls by a quarter at most once for a limit's
//! worth of outcomes, and only on signs of overload.

use std::sync::Arc;

use cortex_mcp::edge::Edge;
use cortex_mcp::edge::entropy::VirtualEntropy;
use cortex_mcp::edge::virtual_network::VirtualNetwork;
use cortex_mcp::policy::contract::{
    BreakerConfig, BreakerEvent, BreakerState, BreakerVerdict, ConcurrencyConfig, ConcurrencyEvent, ConcurrencyState,
    FailureClass, FinishedEvent, RunOutcome,
};
use cortex_mcp::policy::{DiscardRecords, Held, Policy, PolicyComponent, PolicyMetrics, Subject};

use crate::clock::ModelClock;
use crate::trace::{Dice, MINUTE, SECOND};

const THRESHOLD: u32 = 5;
const WINDOW: usize = 20;
const OPEN: (u64, u64) = (SECOND, MINUTE);
const PROBE_DEADLINE: u64 = MINUTE;
const GREATEST: u32 = 32;

fn policy(component: &Arc<PolicyComponent>, clock: &Arc<ModelClock>, seed: u64) -> Policy {
    let entropy = Arc::new(VirtualEntropy::from_number(seed));
    let edge = Edge { clock: clock.clone(), entropy, http: Arc::new(VirtualNetwork::new()) };
    Policy::new(component.clone(), component.clone(), edge, Arc::new(DiscardRecords), PolicyMetrics::default())
}

/// Where a breaker must be.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Phase {
    Closed,
    /// Until when, at the soonest and at the latest.
    Open(u64, u64),
    /// The probe under way, and when it counts as lost.
    Probing(u64, u64),
}

/// Plays a history to a breaker: what is wrong with it, if anything is.
pub(crate) fn breaker(component: &Arc<PolicyComponent>, seed: u64, events: usize) -> Option<String> {
    let clock = Arc::new(ModelClock::new());
    let policy = policy(component, &clock, seed);
    let subject = Subject::new("breaker");
    let config = BreakerConfig {
        failure_threshold: THRESHOLD,
        window: WINDOW as u32,
        rate_permille: 500,
        open_min_ms: OPEN.0,
        open_max_ms: OPEN.1,
        probe_deadline_ms: PROBE_DEADLINE,
        options: Vec::new(),
    };
    let mut held = Held::new(BreakerState::initial());
    let mut dice = Dice::new(seed);
    let (mut phase, mut openings) = (Phase::Closed, 0_u32);
    // Whether something other than the probe was answered since it opened, and before that in the opening before.
    let (mut answered, mut doubted) = (false, false);
    // Outcomes since it last closed, and calls that passed and have none yet.
    let (mut outcomes, mut under_way): (Vec<bool>, Vec<Option<u64>>) = (Vec::new(), Vec::new());
    let failing = 1 + dice.below(3);
    for _ in 0..events {
        let now = clock.stamp().boot;
        match dice.below(10) {
            0 => clock.step_wall(if dice.one_in(2) { 315_360_000_000 } else { -315_360_000_000 }),
            1..=2 => clock.pass(dice.below(2 * SECOND)),
            3 if dice.one_in(4) => clock.pass(dice.below(2 * MINUTE)),
            3..=5 => {
                let (verdict, _) = policy.breaker(&subject, &config, &mut held, BreakerEvent::Asked).ok()?;
                let may = match (phase, &verdict) {
                    (Phase::Closed, BreakerVerdict::Allow) => true,
                    (Phase::Open(least, greatest), BreakerVerdict::Reject(until)) => {
                        (least.max(now + 1)..=greatest).contains(until)
                    }
                    (Phase::Open(least, _), BreakerVerdict::Probe(_)) => now >= least,
                    (Phase::Probing(_, lost), BreakerVerdict::Reject(until)) => now < lost && *until == lost,
                    (Phase::Probing(id, lost), BreakerVerdict::Probe(next)) => now >= lost && *next != id,
                    _ => false,
                };
                if !may {
                    return Some(format!("{phase:?} at {now}: {verdict:?}"));
                }
                match verdict {
                    BreakerVerdict::Allow => under_way.push(None),
                    BreakerVerdict::Probe(id) => {
                        under_way.push(Some(id));
                        phase = Phase::Probing(id, now + PROBE_DEADLINE);
                    }
                    BreakerVerdict::Reject(until) => {
                        if let Phase::Open(..) = phase {
                            phase = Phase::Open(until, until);
                        }
                    }
                }
            }
            _ if under_way.is_empty() => {}
            _ => {
                let probe = under_way.remove(dice.below(under_way.len() as u64) as usize);
                let failed = dice.one_in(failing);
                let event = match failed {
                    _ if dice.one_in(6) => BreakerEvent::Cancelled(probe),
                    true => BreakerEvent::Failed(probe),
                    false => BreakerEvent::Succeeded(probe),
                };
                let (verdict, _) = policy.breaker(&subject, &config, &mut held, event).ok()?;
                let is_probe = matches!(phase, Phase::Probing(id, _) if Some(id) == probe);
                let counts = is_probe || (probe.is_none() && phase == Phase::Closed);
                let opens = match event {
                    BreakerEvent::Failed(_) if counts && is_probe => true,
                    BreakerEvent::Failed(_) if counts => {
                        outcomes.push(true);
                        let last = outcomes.iter().rev();
                        let row = last.clone().take_while(|failed| **failed).count();
                        let full = outcomes.len() >= WINDOW;
                        let share = last.take(WINDOW).filter(|failed| **failed).count();
                        row >= THRESHOLD as usize || (full && share * 2 >= WINDOW)
                    }
                    BreakerEvent::Succeeded(_) if is_probe => {
                        (phase, openings, answered) = (Phase::Closed, 0, false);
                        outcomes.clear();
                        false
                    }
                    BreakerEvent::Succeeded(_) if counts => {
                        outcomes.push(false);
                        false
                    }
                    BreakerEvent::Succeeded(_) => {
                        if let Phase::Open(least, greatest) = phase {
                            answered = true;
                            if probe.is_some() || !doubted {
                                phase = Phase::Open(least.min(now), greatest.min(now));
                            }
                        }
                        false
                    }
                    BreakerEvent::Cancelled(_) if is_probe => {
                        phase = Phase::Open(now, now);
                        false
                    }
                    _ => false,
                };
                if opens {
                    openings += 1;
                    (doubted, answered) = (answered, false);
                    let ceiling = (OPEN.0 << (openings - 1).min(20)).min(OPEN.1);
                    phase = Phase::Open(now + ceiling / 2, now + ceiling);
                }
                // To an outcome it tells what the next call would be told.
                let told = match (phase, verdict) {
                    (Phase::Closed, BreakerVerdict::Allow) => true,
                    (Phase::Open(least, greatest), BreakerVerdict::Reject(until)) => {
                        (least..=greatest).contains(&until) && until > now
                    }
                    (Phase::Open(least, _), BreakerVerdict::Probe(_)) => now >= least,
                    (Phase::Probing(_, lost), BreakerVerdict::Reject(until)) => until == lost && now < lost,
                    (Phase::Probing(_, lost), BreakerVerdict::Probe(_)) => now >= lost,
                    _ => false,
                };
                if !told {
                    return Some(format!("{phase:?} at {now} after {event:?}: {verdict:?}"));
                }
            }
        }
    }
    None
}

/// Plays a history to a limit: what is wrong with it, if anything is.
pub(crate) fn concurrency(component: &Arc<PolicyComponent>, seed: u64, events: usize) -> Option<String> {
    let clock = Arc::new(ModelClock::new());
    let policy = policy(component, &clock, seed);
    let subject = Subject::new("concurrency");
    let mut dice = Dice::new(seed);
    let fixed = dice.one_in(5).then(|| 1 + dice.below(40) as u32);
    let config = ConcurrencyConfig { minimum: 1, maximum: GREATEST, fixed, options: Vec::new() };
    let mut held = Held::new(ConcurrencyState::initial());
    let start = fixed.unwrap_or(GREATEST);
    let mut before = start;
    // Outcomes since it last fell, the quickest run ever, and good runs in all.
    let (mut since, mut quickest, mut good) = (u32::MAX, u64::MAX, 0_u64);
    let mut risen = 0_u64;
    let spread = dice.pick(&[20, 200, 5_000]);
    for step in 0..events {
        if dice.one_in(3) {
            let (limit, _) = policy.concurrency(&subject, &config, &mut held, ConcurrencyEvent::Began).ok()?;
            if limit != before {
                return Some(format!("step {step}: a begin changed the limit from {before} to {limit}"));
            }
            continue;
        }
        let outcome = match dice.below(8) {
            0 => RunOutcome::Failed(dice.pick(&[FailureClass::Timeout, FailureClass::Throttled, FailureClass::Server])),
            1 => RunOutcome::Failed(dice.pick(&[FailureClass::Dns, FailureClass::Refused, FailureClass::Auth])),
            2 => RunOutcome::Cancelled,
            _ => RunOutcome::Succeeded,
        };
        let duration_ms = 1 + dice.below(spread);
        let event = ConcurrencyEvent::Finished(FinishedEvent { duration_ms, outcome });
        let (limit, _) = policy.concurrency(&subject, &config, &mut held, event).ok()?;
        since = since.saturating_add(1);
        let slow = outcome == RunOutcome::Succeeded && quickest != u64::MAX && duration_ms > quickest * 3;
        let overload = slow
            || matches!(
                outcome,
                RunOutcome::Failed(FailureClass::Timeout | FailureClass::Throttled | FailureClass::Server)
            );
        let wrong = match limit.cmp(&before) {
            _ if fixed.is_some() => limit != start,
            std::cmp::Ordering::Less => !overload || since < before || limit < before * 3 / 4 || limit < 1,
            std::cmp::Ordering::Greater => outcome != RunOutcome::Succeeded || limit > before + 1 || limit > GREATEST,
            std::cmp::Ordering::Equal => false,
        };
        if wrong {
            return Some(format!("step {step}: from {before} to {limit} after {outcome:?} of {duration_ms} ms"));
        }
        if limit < before {
            since = 0;
        }
        if outcome == RunOutcome::Succeeded {
            (quickest, good) = (quickest.min(duration_ms), good + 1);
        }
        risen += u64::from(limit > before);
        if risen > good {
            return Some(format!("step {step}: the limit rose {risen} times after {good} good runs"));
        }
        before = limit;
    }
    None
}
