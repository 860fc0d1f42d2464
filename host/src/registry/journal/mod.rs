//! The journal: what makes an acknowledged change durable before it stands in the document.
//!
//! Each process that keeps the registry has its own, in segments that are written with zeros in advance, so that a commit
//! costs one write and one `fdatasync`. Records are absolute values with their stamps, so replaying them twice, or in
//! another order, comes to the same. A record carries up to where everything was durable when it was written; by that a
//! torn tail is told from damage (reliability.md 3.3). A segment whose sync failed is never written or synced again (3.4).

pub(super) mod change;
pub(super) mod format;
pub(super) mod scan;
pub(super) mod segment;
pub(super) mod writer;
