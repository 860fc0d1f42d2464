//! What is fresh, stale or forbidden.
//!
//! [`lookup`] judges a value, [`advance`] decides what an event means for it; `age` is the one place that compares
//! times. The rules are R1 to R10 of reliability.md 5.3, read as design.md 3, item 2 reads them. Last known good is the
//! *newest verified* value: no failure may take it away, and no older value may take its place.

mod advance;
mod age;
mod lookup;
mod verdicts;

pub use advance::{advance, initial_cache_state};
pub use lookup::lookup;
