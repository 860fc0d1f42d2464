//! Numbers that a policy should not depend on.

use std::collections::HashMap;
use std::hint::black_box;

use crate::QUIRKS_LENGTH;

/// What a decision is perturbed with.
pub(crate) struct Quirks {
    nan: u64,
    chain: u64,
    order: u64,
    depth: u64,
}

impl Quirks {
    /// Those of a decision that is made at this time and draws this number.
    pub(crate) fn of(time: u64, drawn: u32) -> Self {
        Self {
            nan: nan_bits(),
            chain: chain(time, drawn),
            order: order(drawn),
            // Some dozens to some hundred frames: the stack has 64 KiB.
            depth: deeper(u64::from(drawn % 200) + 20),
        }
    }

    /// As many milliseconds as a time is moved by.
    pub(crate) fn shift(&self) -> u64 {
        (self.chain ^ self.order ^ self.depth) % 97
    }

    /// A memo that begins with them.
    pub(crate) fn remember(&self, memo: &[u8]) -> Vec<u8> {
        let numbers = [self.nan, self.chain, self.order, self.depth];
        numbers.iter().flat_map(|number| number.to_be_bytes()).chain(memo.iter().copied()).collect()
    }
}

/// The memo without them.
pub(crate) fn forget(mut memo: Vec<u8>) -> Vec<u8> {
    memo.drain(..QUIRKS_LENGTH.min(memo.len()));
    memo
}

/// The bits of three NaNs, folded so that equal ones come out as they are.
fn nan_bits() -> u64 {
    let (zero, infinity) = (black_box(0.0f64), black_box(f64::INFINITY));
    let made = [zero / black_box(0.0), infinity - black_box(f64::INFINITY), black_box(-1.0f64).sqrt()];
    let made = made.map(f64::to_bits);
    made[0] & made[1] & made[2]
}

/// Roots and sines, the rounding of each of which reaches the next.
fn chain(time: u64, drawn: u32) -> u64 {
    let mut value = f64::from(drawn) + (time % 1_000_003) as f64;
    for step in 1..40 {
        value = black_box((value * 1.000_1 + f64::from(step)).abs().sqrt().sin() * 1e6 + (value % 60.0).exp2().ln_1p());
    }
    value.to_bits()
}

/// A fold over two maps, in the order that they iterate in.
fn order(drawn: u32) -> u64 {
    let mut folded = 0xcbf2_9ce4_8422_2325_u64;
    for turn in 0..2u32 {
        let map: HashMap<String, u32> = (0..50u32).map(|key| (format!("{drawn}-{turn}-{key}"), key)).collect();
        for value in map.values() {
            folded = (folded ^ u64::from(*value)).wrapping_mul(0x0100_0000_01b3);
        }
    }
    folded
}

#[inline(never)]
fn deeper(depth: u64) -> u64 {
    let room = black_box([depth; 8]);
    if depth == 0 { 1 } else { deeper(black_box(depth - 1)).rotate_left(7) ^ room[3].wrapping_mul(31) }
}
