//! Guests that can be loaded, and what they come to in a gateway.

use std::sync::Arc;

use cortex_mcp::edge::entropy::Draws;
use cortex_mcp::model::{BootId, BootMs, Moment, WallMs};
use cortex_mcp::policy::contract::Pending;
use cortex_mcp::policy::{Fault, Function, Input, InstanceUse, Output, PolicyComponent, limits};

use crate::attack::{Attack, CONNECTORS, loaded};
use crate::support::hostile::TextPolicy;
use crate::support::policies::faulty;

/// The bytes of a page of memory.
const PAGE: usize = 65_536;

/// The memo that a record's decision carries, for a `refresh`.
fn memo(output: &Output) -> &[u8] {
    let Output::Refresh(decision) = output else { panic!("not a refresh: {output:?}") };
    &decision.state.memo
}

/// One `flush-after` of a policy, outside of any gateway.
fn flush_after(policy: &PolicyComponent) -> Result<u64, Fault> {
    let pending = Pending { changes: 1, bytes: 1, oldest_ms: 1, batch_ms: 1, closing: false, write_through: false };
    let moment = Moment { wall: WallMs(1), boot: BootMs(1), boot_id: BootId(1) };
    match policy.decide(&Input::FlushAfter { pending }, moment, 1)? {
        Output::FlushAfter(milliseconds) => Ok(milliseconds),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn an_endless_loop_ends_when_its_fuel_does() {
    let attack = Attack::by(faulty("spin", "concurrency")).await;
    attack.faults_only(Function::Concurrency, &Fault::OutOfFuel);
    assert!(attack.faulted().iter().all(|record| record.fuel_budget == limits::CALL_FUEL_BASE));
}

#[tokio::test(start_paused = true)]
async fn recursion_ends_at_the_end_of_the_guests_own_stack() {
    Attack::by(faulty("recurse", "concurrency")).await.faults_only(Function::Concurrency, &Fault::OutOfBounds);
}

#[tokio::test(start_paused = true)]
async fn recursion_that_keeps_nothing_in_memory_ends_at_the_end_of_the_hosts() {
    let deep = TextPolicy::new().fields("(func $deep (call $deep) (call $deep))").body("(call $deep) unreachable");
    Attack::by(loaded(&deep)).await.faults_until_suspended(&Fault::StackOverflow);
}

#[tokio::test(start_paused = true)]
async fn a_guest_that_can_not_do_without_more_memory_faults_for_that_reason() {
    Attack::by(faulty("allocate", "concurrency")).await.faults_only(Function::Concurrency, &Fault::OutOfMemory);
}

#[tokio::test(start_paused = true)]
async fn a_guest_that_takes_all_memory_gets_what_the_bound_allows_and_goes_on() {
    let attack = Attack::by(faulty("grow", "refresh")).await;
    let refreshes = attack.records.iter().filter(|record| record.input.function() == Function::Refresh);
    let pages: Vec<usize> = refreshes
        .map(|record| std::str::from_utf8(memo(record.output.as_ref().unwrap())).unwrap().parse().unwrap())
        .collect();
    assert!(pages.len() >= 2 * CONNECTORS);
    assert!(pages.iter().all(|pages| pages * PAGE == limits::MEMORY_BYTES_MAX), "{pages:?}");
    // It was told no, which is not a fault.
    assert_eq!(attack.served.gateway.status().policy.faults, 0);
}

#[test]
fn the_memories_and_tables_of_a_guest_share_one_bound() {
    let grow = |what: &str, more: &str, size: &str| {
        format!("(loop $again (br_if $again (i32.ne ({what}.grow {more}) (i32.const -1)))) {size}")
    };
    let memories =
        TextPolicy::new().memory("(memory $one (export \"memory\") 16) (memory $two 0)").flush_after(&format!(
            "{} {} (i64.extend_i32_u (i32.add (memory.size $one) (memory.size $two)))",
            grow("memory", "$one (i32.const 100)", ""),
            grow("memory", "$two (i32.const 1)", ""),
        ));
    let pages = flush_after(&loaded(&memories)).unwrap();
    assert_eq!(pages as usize * PAGE, limits::MEMORY_BYTES_MAX);

    let tables = TextPolicy::new().fields("(table $one 16 funcref) (table $two 0 funcref)").flush_after(&format!(
        "{} {} (i64.extend_i32_u (i32.add (table.size $one) (table.size $two)))",
        grow("table", "$one (ref.null func) (i32.const 10000)", ""),
        grow("table", "$two (ref.null func) (i32.const 1)", ""),
    ));
    assert_eq!(flush_after(&loaded(&tables)), Ok(limits::TABLE_ELEMENTS_MAX as u64));
}

#[tokio::test(start_paused = true)]
async fn a_giant_result_is_not_taken() {
    Attack::by(faulty("giant", "refresh")).await.faults_only(Function::Refresh, &Fault::ResultTooLarge);
}

#[tokio::test(start_paused = true)]
async fn a_result_that_is_no_value_of_its_type_is_not_taken() {
    let garbage = TextPolicy::new().body("(memory.fill (i32.const 4096) (i32.const 255) (i32.const 4096)) $result");
    let attack = Attack::by(loaded(&garbage)).await;
    let faults: Vec<Fault> = attack.faulted().iter().map(|record| record.faulted.clone().unwrap().fault).collect();
    assert!(faults.iter().all(|fault| matches!(fault, Fault::BadResult(_))), "{faults:?}");
    assert!(faults.contains(&Fault::BadResult("unexpected discriminant: 255".into())), "{faults:?}");
    let status = attack.served.gateway.status().policy;
    // Any number is a result of `flush-after`: such a decision ends a row of faults.
    assert!(status.suspended && status.faults >= u64::from(limits::FAULTS_IN_A_ROW_MAX), "{status:?}");
}

#[tokio::test(start_paused = true)]
async fn a_trap_costs_the_decision_that_it_is_in() {
    Attack::by(faulty("panic", "advance")).await.faults_only(Function::Advance, &Fault::Panicked);
    let divide = TextPolicy::new().body("(drop (i32.div_u (i32.const 1) (i32.const 0))) unreachable");
    let fault = Fault::Trapped("wasm trap: integer divide by zero".into());
    Attack::by(loaded(&divide)).await.faults_until_suspended(&fault);
}

#[tokio::test(start_paused = true)]
async fn a_memo_over_its_bound_is_not_kept() {
    Attack::by(faulty("memo", "refresh")).await.faults_only(Function::Refresh, &Fault::MemoTooLarge(5_000));
}

#[tokio::test(start_paused = true)]
async fn a_guest_that_only_faults_is_suspended_and_the_gateway_works_as_without_it() {
    for (way, fault) in [("spin", Fault::OutOfFuel), ("allocate", Fault::OutOfMemory)] {
        Attack::by(faulty(way, "any")).await.faults_until_suspended(&fault);
    }
}

#[tokio::test(start_paused = true)]
async fn ten_thousand_random_draws_are_allowed_cost_fuel_and_are_made_again_from_the_record() {
    let policy = faulty("draw", "refresh");
    let plain = faulty("none", "refresh");
    let attack = Attack::by(policy.clone()).await;
    assert_eq!(attack.served.gateway.status().policy.faults, 0);
    let mut seen = std::collections::BTreeSet::new();
    for record in attack.records.iter().filter(|record| record.input.function() == Function::Refresh) {
        let mut draws = Draws::from_seed(record.seed);
        let folded = (0..10_000).fold(0u32, |folded, _| folded.rotate_left(5) ^ draws.next_u32());
        assert_eq!(memo(record.output.as_ref().unwrap()), folded.to_le_bytes());
        seen.insert(folded);
        let again = policy.remake(&record.input, record.moment, record.seed, record.fuel_budget).unwrap();
        assert_eq!((Some(&again.output), again.fuel), (record.output.as_ref(), record.fuel));
        let without = plain.remake(&record.input, record.moment, record.seed, record.fuel_budget).unwrap();
        assert!(record.fuel > without.fuel + 10_000 && record.fuel < record.fuel_budget, "{}", record.fuel);
    }
    assert!(seen.len() >= 2 * CONNECTORS, "each decision has a seed of its own");
}

#[test]
fn a_guest_that_faulted_leaves_nothing_behind_in_an_instance_that_is_used_again() {
    // It counts its calls in its memory, and traps in every second one.
    let counting = TextPolicy::new().fields("(global $calls (mut i64) (i64.const 0))").flush_after(
        "(global.set $calls (i64.add (global.get $calls) (i64.const 1)))
         (if (i64.eq (global.get $calls) (i64.const 2)) (then unreachable))
         (global.get $calls)",
    );
    let reused = Arc::new(PolicyComponent::load(&counting.bytes(), "x", InstanceUse::Reused).unwrap());
    for _ in 0..3 {
        assert_eq!(flush_after(&reused), Ok(1));
        assert_eq!(flush_after(&reused), Err(Fault::Panicked));
    }
    let fresh = loaded(&counting);
    assert!((0..6).all(|_| flush_after(&fresh) == Ok(1)));
}
