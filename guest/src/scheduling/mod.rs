//! When to refresh, whom to try, who goes first and how many at once.
//!
//! Four pure decisions, one file each. Only [`refresh`] starts fetches; [`breaker`] never takes a list away; [`plan`]
//! and [`concurrency`] order and bound what `refresh` started. None of them may look at another's state.

mod breaker;
mod concurrency;
mod plan;
mod refresh;

pub use breaker::{breaker, initial_breaker_state};
pub use concurrency::{concurrency, initial_concurrency_state};
pub use plan::plan;
pub use refresh::{initial_refresh_state, refresh};
