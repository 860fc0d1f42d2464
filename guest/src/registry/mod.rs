//! Who wins when several writers change the same things, and when changes are written.
//!
//! A last-writer-wins map over hybrid logical clocks (reliability.md 4.1, items 4 to 6): [`stamp`] gives stamps,
//! [`adopt`] turns a foreign edit into stamped entries, [`merge`] joins, [`flush_after`] paces the disk. Contents stay in
//! the host and are known by their digests. No stamp may ever be given twice or run backwards.

mod adopt;
mod flush;
mod merge;
mod stamp;

pub use adopt::adopt;
pub use flush::flush_after;
pub use merge::merge;
pub use stamp::{initial_clock_state, stamp};
