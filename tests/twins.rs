//! Twins: the native library, a fresh instance and a used instance of the default policy decide alike, whatever they
//! are asked; and what a gateway recorded is decided alike once more.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests may")]

mod support;
#[path = "../guest/src/testing.rs"]
#[allow(dead_code, unreachable_pub, reason = "the guest's own tests use the rest")]
mod testing;

use std::sync::LazyLock;

// `testing` finds the guest's modules under the names that they have at home.
use cortex_mcp::gateway::SyncKind;
use cortex_mcp::model::{BootId, BootMs, Moment, WallMs};
use cortex_mcp::policy::contract::{AdoptDecision, AdvanceDecision, BreakerDecision};
use cortex_mcp::policy::{EMBEDDED_COMPONENT, EMBEDDED_FAMILY, Function, Input, InstanceUse, Output, PolicyComponent};
use cortex_policy_default::environment::Recorded;
use cortex_policy_default::{caching, environment, registry, scheduling, types};
use proptest::prelude::*;
use serde::Serialize;
use serde::de::DeserializeOwned;
use support::{Rig, seconds};
use testing::Picks;

static USED: LazyLock<PolicyComponent> = LazyLock::new(|| PolicyComponent::embedded().unwrap());
static FRESH: LazyLock<PolicyComponent> =
    LazyLock::new(|| PolicyComponent::load(EMBEDDED_COMPONENT, EMBEDDED_FAMILY, InstanceUse::Fresh).unwrap());

/// The same value in the other side's type: both are mirrors of one WIT, field by field and case by case.
fn same<A: Serialize, B: DeserializeOwned>(value: &A) -> B {
    let json = serde_json::to_value(value).unwrap();
    serde_json::from_value(json.clone()).unwrap_or_else(|error| panic!("{error}: {json}"))
}

/// The decision as the native library makes it.
fn native(input: &Input, moment: Moment, seed: u64) -> Output {
    let mut environment = Recorded::new(moment.wall.0, moment.boot.0, seed);
    match input {
        Input::Refresh { config, state, event } => {
            Output::Refresh(same(&scheduling::refresh(&mut environment, &same(config), same(state), same(event))))
        }
        Input::Breaker { config, state, event } => {
            let made = scheduling::breaker(&mut environment, &same(config), same(state), same(event));
            Output::Breaker(same::<_, BreakerDecision>(&made))
        }
        Input::Plan { config, candidates } => {
            Output::Plan(same(&scheduling::plan(&same(config), &same::<_, Vec<_>>(candidates))))
        }
        Input::Concurrency { config, state, event } => {
            Output::Concurrency(same(&scheduling::concurrency(&same(config), same(state), same(event))))
        }
        Input::Lookup { config, state } => {
            Output::Lookup(same(&caching::lookup(&mut environment, &same(config), &same(state))))
        }
        Input::Advance { config, state, event } => {
            let made = caching::advance(&mut environment, &same(config), same(state), same(event));
            Output::Advance(same::<_, AdvanceDecision>(&made))
        }
        Input::Stamp { clock } => Output::Stamp(same(&registry::stamp(&mut environment, same(clock)))),
        Input::Adopt { clock, writer, base, found } => {
            let (base, found): (Vec<_>, Vec<_>) = (same(base), same(found));
            let made = registry::adopt(&mut environment, same(clock), writer, &base, &found);
            Output::Adopt(same::<_, AdoptDecision>(&made))
        }
        Input::Merge { ours, theirs } => {
            Output::Merge(same(&registry::merge(&same::<_, Vec<_>>(ours), &same::<_, Vec<_>>(theirs))))
        }
        Input::FlushAfter { pending } => Output::FlushAfter(registry::flush_after(&same(pending))),
    }
}

/// Arbitrary arguments of a function.
fn arguments(function: Function, picks: &mut Picks) -> Input {
    let clock = |picks: &mut Picks| types::ClockState { last: picks.hlc(), memo: Vec::new() };
    match function {
        Function::Refresh => {
            let mut state = picks.refresh_state();
            if picks.below(6) == 0 {
                state.memo = b"stopped".to_vec();
            }
            let run_id = match &state.phase {
                types::RefreshPhase::Running(run) => run.run_id,
                _ => picks.below(9),
            };
            let event = if picks.below(20) == 0 { types::RefreshEvent::Stopped } else { picks.refresh_event(run_id) };
            Input::Refresh { config: same(&picks.refresh_config()), state: same(&state), event: same(&event) }
        }
        Function::Breaker => {
            let phase = match picks.below(3) {
                0 => types::BreakerPhase::Closed,
                1 => types::BreakerPhase::Open(types::OpenBreaker { until_boot_ms: picks.number() }),
                _ => types::BreakerPhase::HalfOpen(types::HalfOpenBreaker {
                    probe_id: picks.below(3),
                    deadline_boot_ms: picks.number(),
                }),
            };
            let state = types::BreakerState {
                phase,
                consecutive: picks.small(),
                recent: picks.small(),
                recent_count: picks.small(),
                opened: picks.small(),
                next_probe_id: picks.number(),
                memo: Vec::new(),
            };
            let config = types::BreakerConfig {
                failure_threshold: picks.small(),
                window: picks.small(),
                rate_permille: picks.small(),
                open_min_ms: picks.number(),
                open_max_ms: picks.number(),
                probe_deadline_ms: picks.number(),
                options: Vec::new(),
            };
            let probe = picks.option(|picks| picks.below(3));
            let event = match picks.below(4) {
                0 => types::BreakerEvent::Asked,
                1 => types::BreakerEvent::Succeeded(probe),
                2 => types::BreakerEvent::Failed(probe),
                _ => types::BreakerEvent::Cancelled(probe),
            };
            Input::Breaker { config: same(&config), state: same(&state), event: same(&event) }
        }
        Function::Plan => {
            let candidates: Vec<_> = (0..picks.below(40)).map(|_| picks.candidate()).collect();
            let config = types::PlanConfig { slow_after_ms: picks.number(), options: Vec::new() };
            Input::Plan { config: same(&config), candidates: same(&candidates) }
        }
        Function::Concurrency => {
            let state = types::ConcurrencyState {
                limit_milli: picks.number(),
                in_flight: picks.small(),
                baseline_ms: picks.option(|picks| picks.number()),
                since_decrease: picks.small(),
                memo: Vec::new(),
            };
            let config = types::ConcurrencyConfig {
                minimum: picks.small(),
                maximum: picks.small(),
                fixed: picks.option(|picks| picks.small()),
                options: Vec::new(),
            };
            let outcome = match picks.below(3) {
                0 => types::RunOutcome::Succeeded,
                1 => types::RunOutcome::Failed(picks.class()),
                _ => types::RunOutcome::Cancelled,
            };
            let event = match picks.chance() {
                true => types::ConcurrencyEvent::Began,
                false => {
                    types::ConcurrencyEvent::Finished(types::FinishedEvent { duration_ms: picks.number(), outcome })
                }
            };
            Input::Concurrency { config: same(&config), state: same(&state), event: same(&event) }
        }
        Function::Lookup => Input::Lookup { config: same(&picks.cache_config()), state: same(&picks.cache_state()) },
        Function::Advance => Input::Advance {
            config: same(&picks.cache_config()),
            state: same(&picks.cache_state()),
            event: same(&picks.cache_event()),
        },
        Function::Stamp => Input::Stamp { clock: same(&clock(picks)) },
        Function::Adopt => {
            let found: Vec<_> = (0..picks.below(12)).map(|_| picks.found()).collect();
            Input::Adopt {
                clock: same(&clock(picks)),
                writer: picks.name(),
                base: same(&picks.entries()),
                found: same(&found),
            }
        }
        Function::Merge => Input::Merge { ours: same(&picks.entries()), theirs: same(&picks.entries()) },
        Function::FlushAfter => Input::FlushAfter {
            pending: same(&types::Pending {
                changes: picks.small(),
                bytes: picks.number(),
                oldest_ms: picks.number(),
                batch_ms: picks.number(),
                closing: picks.chance(),
                write_through: picks.chance(),
            }),
        },
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn native_twin_fresh_instance_and_used_instance_decide_alike(seed: u64) {
        let mut picks = Picks::new(seed);
        for function in Function::ALL {
            let input = arguments(function, &mut picks);
            let moment = Moment {
                wall: WallMs(picks.number()),
                boot: BootMs(picks.number()),
                boot_id: BootId(picks.below(3)),
            };
            let draws = picks.below(1 << 53);
            let expected = native(&input, moment, draws);
            prop_assert_eq!(FRESH.decide(&input, moment, draws), Ok(expected.clone()), "fresh: {:?}", &input);
            prop_assert_eq!(USED.decide(&input, moment, draws), Ok(expected.clone()), "used: {:?}", &input);
        }
    }
}

#[test]
fn the_order_of_other_calls_changes_nothing_in_a_used_instance() {
    let mut picks = Picks::new(11);
    let inputs: Vec<_> = (0..20).flat_map(|_| Function::ALL.map(|function| arguments(function, &mut picks))).collect();
    let moment = Moment { wall: WallMs(testing::WALL), boot: BootMs(testing::BOOT), boot_id: BootId(testing::BOOT_ID) };
    let forwards: Vec<_> = inputs.iter().map(|input| USED.decide(input, moment, 5)).collect();
    let mut backwards: Vec<_> = inputs.iter().rev().map(|input| USED.decide(input, moment, 5)).collect();
    backwards.reverse();
    assert_eq!(forwards, backwards);
}

#[test]
fn a_merge_of_ten_thousand_entries_stays_within_its_fuel_and_agrees() {
    let entries = |offset: u64| -> Vec<types::Entry> {
        (0..10_000).map(|number| testing::entry(&format!("server-{number:05}"), number + offset, "w", "d")).collect()
    };
    let input = Input::Merge { ours: same(&entries(0)), theirs: same(&entries(1)) };
    let moment = Moment::default();
    assert_eq!(USED.decide(&input, moment, 1), Ok(native(&input, moment, 1)));
}

#[tokio::test(start_paused = true)]
async fn what_a_gateway_recorded_is_decided_alike_by_the_native_twin_and_by_a_fresh_instance() {
    let mut rig = Rig::new(4);
    rig.refuse(3);
    rig.write_registry(r#"{"servers":[{"name":"own","transport":"http","endpoint":"https://s2.test/mcp"}]}"#);
    let served = rig.ready().await;
    for number in 0..8 {
        if number == 2 {
            rig.server(1).fail_with(http::StatusCode::BAD_GATEWAY);
        }
        served.modern().call("s1__echo", "{}").await;
    }
    rig.publish(|map| map.connectors[1].enabled = false);
    served.gateway.sync(SyncKind::Force, |_| {}).await;
    tokio::time::sleep(seconds(900)).await;
    // An edit of what is known: merging is asked for only where something else is known of the name.
    rig.write_registry(r#"{"servers":[{"name":"own","transport":"http","endpoint":"https://s4.test/mcp"}]}"#);
    rig.revive(3);
    rig.server(1).recover();
    tokio::time::sleep(seconds(900)).await;
    served.gateway.shut_down().await;
    let again = rig.ready().await;
    tokio::time::sleep(seconds(60)).await;
    again.gateway.shut_down().await;

    let records = rig.records.records();
    assert!(records.len() > 300, "{}", records.len());
    for function in Function::ALL {
        assert!(records.iter().any(|record| record.input.function() == function), "{function:?}");
    }
    for record in &records {
        assert!(record.faulted.is_none() && record.default_fault.is_none(), "{record:?}");
        assert!(record.corrections.is_empty(), "{record:?}");
        let output = record.output.clone().unwrap();
        assert_eq!(native(&record.input, record.moment, record.seed), output, "{record:?}");
        assert_eq!(FRESH.decide(&record.input, record.moment, record.seed), Ok(output), "{record:?}");
        // A record that went through a file is the same record.
        let read: cortex_mcp::policy::DecisionRecord = same(record);
        assert_eq!(&read, record);
    }
}
