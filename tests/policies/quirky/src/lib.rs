//! A policy that decides as the default does, and adds what depends on floats, on the order of hash maps and on recursion.
//!
//! It exists so that tests can show that even such a policy is replayed bit for bit where every decision has a fresh
//! instance, and that it is not where instances are used again: the order of a hash map depends on what ran before. Each
//! memo begins with [`QUIRKS_LENGTH`] bytes: the bits of NaNs, a chain of roots and sines, a fold over maps in the order
//! that they happen to have, and a fold over a recursion. Decisions without a memo have times that depend on the same. It
//! must never be shipped, and holds no code outside WebAssembly builds.
#![cfg_attr(not(target_family = "wasm"), forbid(unsafe_code))]

/// Bytes of quirks at the beginning of each memo.
pub const QUIRKS_LENGTH: usize = 32;

#[cfg(target_family = "wasm")]
mod component;
#[cfg(target_family = "wasm")]
mod quirks;
