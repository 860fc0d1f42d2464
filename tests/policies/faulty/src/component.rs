//! The component: the default's decisions, and a fault before one of them.
//!
//! The selection is read on every call with a volatile read, so that the compiler cannot fold it into the code.
#![allow(
    missing_docs,
    unreachable_pub,
    unused_qualifications,
    clippy::all,
    reason = "most of this module is generated"
)]

use cortex_policy_default as default;

wit_bindgen::generate!({ path: "../../../wit", world: "policy" });

use cortex::policy::{clock, random, types as wire};
use exports::cortex::policy::{caching, registry, scheduling};

default::policy_conversions!(wire, clock, random);

/// How to fault, and in which function: tests overwrite this text in the compiled component.
#[used]
static MARKER: [u8; 64] = *b"FAULTY-DOES:none:none                                           ";

/// Where the way to fault begins.
const PREFIX: &[u8] = b"FAULTY-DOES:";

/// More than a memo may hold.
const LARGE_MEMO: usize = 5_000;

/// More than a call may hand over.
const GIANT_MEMO: usize = 20 << 20;

/// How often a policy that draws does so.
const DRAWS: u32 = 10_000;

/// What a policy that faults the second time keeps for itself.
const REMEMBERED: &[u8] = b"once";

/// The memo that a decision is to carry, if it is to be too large, to be remembered, or to tell what was found out; it
/// does not return where the fault is a trap. `given` is the memo of the state.
fn fault(function: &str, given: &[u8]) -> Option<Vec<u8>> {
    // SAFETY: a reference to a static of plain bytes is valid, aligned and initialised.
    let marker = unsafe { core::ptr::read_volatile(&raw const MARKER) };
    let chosen = marker.get(PREFIX.len()..)?.trim_ascii();
    let colon = chosen.iter().position(|byte| *byte == b':')?;
    let (way, place) = (chosen.get(..colon)?, chosen.get(colon + 1..)?);
    if place != function.as_bytes() && place != b"any" {
        return None;
    }
    match way {
        b"panic" => panic!("as told"),
        b"spin" => loop {
            core::hint::black_box(());
        },
        b"recurse" => {
            core::hint::black_box(deeper(1));
            None
        }
        b"allocate" => {
            let mut taken: Vec<Vec<u8>> = Vec::new();
            loop {
                taken.push(core::hint::black_box(Vec::with_capacity(1 << 20)));
            }
        }
        b"grow" => {
            // Taken while there is some: what the memory grows by belongs to nobody.
            let mut pages = String::with_capacity(16);
            while core::arch::wasm32::memory_grow::<0>(1) != usize::MAX {}
            core::fmt::Write::write_fmt(&mut pages, format_args!("{}", core::arch::wasm32::memory_size::<0>())).ok()?;
            Some(pages.into_bytes())
        }
        b"draw" => {
            let folded = (0..DRAWS).fold(0u32, |folded, _| folded.rotate_left(5) ^ random::next());
            Some(folded.to_le_bytes().to_vec())
        }
        b"giant" => {
            let mut giant = Vec::with_capacity(GIANT_MEMO);
            // SAFETY: memory that nobody has written to holds zeroes. To write them would take more fuel than there is.
            unsafe { giant.set_len(GIANT_MEMO) };
            Some(giant)
        }
        b"memo" => Some(vec![7; LARGE_MEMO]),
        b"remember" if given == REMEMBERED => panic!("as told, and as remembered"),
        b"remember" => Some(REMEMBERED.to_vec()),
        _ => None,
    }
}

#[inline(never)]
fn deeper(depth: u64) -> u64 {
    let room = core::hint::black_box([depth; 64]);
    if room[0] == 0 { 0 } else { deeper(core::hint::black_box(depth + 1)) + room[1] }
}

struct Component;

impl scheduling::Guest for Component {
    fn refresh(
        config: wire::RefreshConfig,
        state: wire::RefreshState,
        event: wire::RefreshEvent,
    ) -> wire::RefreshDecision {
        let memo = fault("refresh", &state.memo);
        let mut decision = default::scheduling::refresh(&mut Imports, &config.lift(), state.lift(), event.lift());
        decision.state.memo = memo.unwrap_or(decision.state.memo);
        decision.lower()
    }

    fn breaker(
        config: wire::BreakerConfig,
        state: wire::BreakerState,
        event: wire::BreakerEvent,
    ) -> wire::BreakerDecision {
        fault("breaker", &[]);
        default::scheduling::breaker(&mut Imports, &config.lift(), state.lift(), event.lift()).lower()
    }

    fn plan(config: wire::PlanConfig, candidates: Vec<wire::Candidate>) -> wire::PlanDecision {
        fault("plan", &[]);
        default::scheduling::plan(&config.lift(), &candidates.lift()).lower()
    }

    fn concurrency(
        config: wire::ConcurrencyConfig,
        state: wire::ConcurrencyState,
        event: wire::ConcurrencyEvent,
    ) -> wire::ConcurrencyDecision {
        fault("concurrency", &[]);
        default::scheduling::concurrency(&config.lift(), state.lift(), event.lift()).lower()
    }
}

impl caching::Guest for Component {
    fn lookup(config: wire::CacheConfig, state: wire::CacheState) -> wire::LookupDecision {
        fault("lookup", &[]);
        default::caching::lookup(&mut Imports, &config.lift(), &state.lift()).lower()
    }

    fn advance(config: wire::CacheConfig, state: wire::CacheState, event: wire::CacheEvent) -> wire::AdvanceDecision {
        fault("advance", &[]);
        default::caching::advance(&mut Imports, &config.lift(), state.lift(), event.lift()).lower()
    }
}

impl registry::Guest for Component {
    fn stamp(clock: wire::ClockState) -> wire::StampDecision {
        fault("stamp", &[]);
        default::registry::stamp(&mut Imports, clock.lift()).lower()
    }

    fn adopt(
        clock: wire::ClockState,
        writer: String,
        base: Vec<wire::Entry>,
        found: Vec<wire::FoundEntry>,
    ) -> wire::AdoptDecision {
        fault("adopt", &[]);
        default::registry::adopt(&mut Imports, clock.lift(), &writer, &base.lift(), &found.lift()).lower()
    }

    fn merge(ours: Vec<wire::Entry>, theirs: Vec<wire::Entry>) -> wire::MergeDecision {
        fault("merge", &[]);
        default::registry::merge(&ours.lift(), &theirs.lift()).lower()
    }

    fn flush_after(pending: wire::Pending) -> u64 {
        fault("flush-after", &[]);
        default::registry::flush_after(&pending.lift())
    }
}

export!(Component);
