//! A policy that decides as the default does, but faults first where it is told to.
//!
//! It exists so that tests can show what a gateway does about a policy that panics, never ends, recurses without end,
//! takes all memory, hands back too much, or stumbles over its own memo; and about one that draws random numbers
//! without measure, or takes all memory that it can have and says how much that was, both of which it may. The compiled component holds 64 bytes of text,
//! `FAULTY-DOES:`, a way to fault, `:` and the name of a function or `any`, padded with spaces; tests overwrite them.
//! It must never be shipped, and holds no code outside WebAssembly builds.
#![cfg_attr(not(target_family = "wasm"), forbid(unsafe_code))]

#[cfg(target_family = "wasm")]
mod component;
