//! The catalog: every connector's tools under names that never clash, published as one immutable snapshot.
//!
//! Definitions pass through losslessly: raw JSON in, raw JSON out, with the name patched and one `_meta` key of stable
//! facts added. The bytes of the `tools` array depend on the lists and descriptions alone, never on time. What moves
//! (state, age, reason) stands beside it, once per connector. Nothing here fetches, waits or decides.

mod definition;
mod names;
mod snapshot;

pub use names::NameRule;
pub use snapshot::{Catalog, CatalogSnapshot, Collision, OwnTool, Part, Route};
