//! Hostile guests: policies that are built to do harm. What can be told before one runs is refused when it is loaded; of
//! the rest, each costs its own decisions and nothing else, within the bounds of the sandbox, and is counted, logged and
//! shown.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests may")]

mod support;

#[path = "hostile/attack.rs"]
mod attack;
#[path = "hostile/refused.rs"]
mod refused;
#[path = "hostile/running.rs"]
mod running;
