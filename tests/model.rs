//! Model-based runs: random traces of events, played to the host's own upkeep of a value over the real policy, and
//! compared after every step with simple references that were written from the rules.
//!
//! Time passes from milliseconds to days, wall clocks step by up to ten years in both directions, machines sleep, stop
//! and start anew, policies are swapped, and origins serve whatever they like. Two numbers in the environment direct it:
//! `CORTEX_MODEL_EVENTS` is how many events are played (a million takes a minute or two), `CORTEX_MODEL_SEED` the number
//! that the first trace follows from. Both are printed; with them a violation comes again, and it is printed shrunk.
//!
//! References: [`cache`] says what may be served, [`schedule`] when a run may begin, [`calls`] what breakers and limits
//! may do. Tests at the end show that policies which decide otherwise are found out.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods, reason = "tests may")]

mod support;

#[path = "model/cache.rs"]
mod cache;
#[path = "model/calls.rs"]
mod calls;
#[path = "model/clock.rs"]
mod clock;
#[path = "model/driver.rs"]
mod driver;
#[path = "model/origin.rs"]
mod origin;
#[path = "model/schedule.rs"]
mod schedule;
#[path = "model/trace.rs"]
mod trace;

use std::io::Write;
use std::sync::{Arc, LazyLock};

use cortex_mcp::policy::{InstanceUse, PolicyComponent};
use driver::{Played, Policies, Violation, play};
use support::policies::contrary_bytes;
use trace::{Trace, next_seed};

/// Events of a run without the option.
const EVENTS: u64 = 400_000;

/// The number of a run without the option.
const SEED: u64 = 20_260_101;

/// Events of a trace.
const LENGTH: usize = 300;

/// A component that decides as the default does, but for one function; its instances are used again, which is faster.
fn contrary(function: &str) -> Arc<PolicyComponent> {
    let component = PolicyComponent::load(&contrary_bytes(function), "contrary", InstanceUse::Reused);
    Arc::new(component.unwrap_or_else(|error| panic!("{error}")))
}

static DEFAULT: LazyLock<Arc<PolicyComponent>> = LazyLock::new(|| Arc::new(PolicyComponent::embedded().unwrap()));

/// The default, and another component that decides the same.
fn right() -> Policies {
    Policies { deployed: DEFAULT.clone(), other: contrary("nothing"), broken_clock: false }
}

fn option(name: &str, default: u64) -> u64 {
    std::env::var(name)
        .map_or(default, |value| value.parse().unwrap_or_else(|_| panic!("{name} is no number: {value}")))
}

/// Says the numbers of a run, also where the output of tests that pass is not shown.
fn say(line: &str) {
    let _ = writeln!(std::io::stdout(), "{line}");
}

/// What came of a run of traces.
#[derive(Default)]
struct Ran {
    events: u64,
    traces: u64,
    begins: u64,
    violation: Option<(Trace, Violation)>,
}

/// Plays traces until so many events were played, or a rule did not hold.
fn run(policies: &Policies, events: u64, mut seed: u64) -> Ran {
    let mut ran = Ran::default();
    while ran.events < events {
        let trace = Trace::of(seed, LENGTH);
        let played: Played = play(&trace, policies);
        ran.traces += 1;
        ran.events += played.events;
        ran.begins += played.begins;
        if let Some(violation) = played.violation {
            ran.violation = Some((trace, violation));
            break;
        }
        seed = next_seed(seed);
    }
    ran
}

/// The same trace without whatever is not needed to break a rule.
fn shrunk(trace: &Trace, violation: &Violation, policies: &Policies) -> (Trace, Violation) {
    let mut trace = trace.clone();
    let mut violation = violation.clone();
    trace.events.truncate(violation.at + 1);
    let mut size = trace.events.len() / 2;
    while size > 0 {
        let mut at = 0;
        while at < trace.events.len() {
            let mut smaller = trace.clone();
            smaller.events.drain(at..(at + size).min(trace.events.len()));
            match play(&smaller, policies).violation {
                Some(found) => {
                    smaller.events.truncate(found.at + 1);
                    (trace, violation) = (smaller, found);
                }
                None => at += size,
            }
        }
        size /= 2;
    }
    (trace, violation)
}

#[test]
fn no_rule_is_broken_by_any_trace_of_events() {
    let (events, seed) = (option("CORTEX_MODEL_EVENTS", EVENTS), option("CORTEX_MODEL_SEED", SEED));
    let policies = right();
    let ran = run(&policies, events, seed);
    say(&format!("model: {} events in {} traces with {} runs, seed {seed}", ran.events, ran.traces, ran.begins));
    if let Some((trace, violation)) = ran.violation {
        let (small, same) = shrunk(&trace, &violation, &policies);
        let events: Vec<String> = small.events.iter().map(|event| format!("  {event:?}")).collect();
        panic!(
            "{}\nagain: CORTEX_MODEL_SEED={} CORTEX_MODEL_EVENTS=1\nshrunk: {:?}\n{}\n{}",
            violation.what,
            trace.seed,
            trace.setting,
            events.join("\n"),
            same.what
        );
    }
}

#[test]
fn no_rule_of_breakers_and_limits_is_broken_by_any_history_of_calls() {
    let (events, mut seed) = (option("CORTEX_MODEL_EVENTS", EVENTS) / 4, option("CORTEX_MODEL_SEED", SEED));
    let policy = &*DEFAULT;
    for _ in 0..events.div_ceil(LENGTH as u64) {
        let breaker = calls::breaker(policy, seed, LENGTH);
        assert_eq!(breaker, None, "again: CORTEX_MODEL_SEED={seed} CORTEX_MODEL_EVENTS=1");
        let concurrency = calls::concurrency(policy, seed, LENGTH);
        assert_eq!(concurrency, None, "again: CORTEX_MODEL_SEED={seed} CORTEX_MODEL_EVENTS=1");
        seed = next_seed(seed);
    }
    say(&format!("model: {events} events each of breakers and limits"));
}

// ---- teeth ----------------------------------------------------------------------------------------------------------

/// What the model says of a policy, or of a clock, that is wrong; shrunk, so that shrinking is tried too.
fn found(policies: &Policies) -> String {
    let ran = run(policies, 20_000, SEED);
    let (trace, violation) = ran.violation.expect("something is wrong, and the model has not found it");
    let (small, same) = shrunk(&trace, &violation, policies);
    assert!(small.events.len() <= violation.at + 1);
    same.what
}

#[test]
fn a_policy_that_decides_otherwise_is_found_out() {
    for (function, sign) in [
        ("lookup", "D6"),
        ("advance", "R3"),
        ("keeping", "R3"),
        ("refresh", "due at None"),
        ("beginning", "did not begin"),
        ("ending", "overrule"),
    ] {
        let wrong = contrary(function);
        let what = found(&Policies { deployed: wrong.clone(), other: wrong, broken_clock: false });
        assert!(what.contains(sign), "{function}: {what}");
    }
}

#[test]
fn a_policy_that_is_swapped_for_one_that_decides_otherwise_is_found_out() {
    let what = found(&Policies { other: contrary("lookup"), ..right() });
    assert!(what.contains("swap"), "{what}");
}

#[test]
fn a_boot_clock_that_steps_with_the_wall_clock_is_found_out() {
    let broken = Policies { broken_clock: true, ..right() };
    let ran = run(&broken, 20_000, SEED);
    assert!(ran.violation.is_some());
}

#[test]
fn a_breaker_and_a_limit_that_decide_otherwise_are_found_out() {
    assert!(calls::breaker(&contrary("breaker"), SEED, LENGTH).is_some());
    assert!(calls::concurrency(&contrary("concurrency"), SEED, LENGTH).is_some());
}
